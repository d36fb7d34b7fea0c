/* throttle: see throttle.h. Three bounded tables of the same shape. */
#include "mta/auth/throttle.h"

#include <stdlib.h>

#include "mta/base/arena.h"
#include "mta/base/list.h"
#include "mta/base/map.h"

enum { UNIT = 1000, GUESSES = 8, SCORE_MAX = 1000 * UNIT };
/* Guesses at a friend's own password from where it logs in, × ban_after, until it is none there. */
enum { FRIEND_PATIENCE = 5 };

struct entry {
	struct map_node node;
	struct list lru;
	int64_t at_ms;			/* of the scores */
	uint32_t guesses;		/* × UNIT: lead to a ban */
	uint32_t failures;		/* × UNIT: of any kind, lead to delays */
	int64_t until_ms;		/* an address: of its ban; a friend: of that */
	unsigned bans;			/* in a row */
	unsigned next_guess;
	uint64_t guess[GUESSES];	/* the last that were counted */
	struct netaddr address;
};

struct table {
	struct map map;
	struct list lru;		/* longest untouched first */
	size_t max;
};

struct throttle {
	struct throttle_config config;
	uint64_t seed;
	struct table addresses, users, friends;
};

static void
default_to(int64_t *value, int64_t otherwise)
{
	if (*value <= 0)
		*value = otherwise;
}

static void
remove_entry(struct table *t, struct entry *e)
{
	map_remove(&t->map, &e->node);
	list_remove(&e->lru);
	free(e);
}

static void
shrink(struct table *t, size_t max)
{
	t->max = max;
	while (t->map.count > max)
		remove_entry(t, CONTAINER_OF(t->lru.next, struct entry, lru));
}

void
throttle_configure(struct throttle *t, const struct throttle_config *config)
{
	struct throttle_config *c = &t->config;

	*c = *config;
	c->free_failures = c->free_failures != 0 ? c->free_failures : 3;
	c->ban_after = c->ban_after != 0 ? c->ban_after : 20;
	default_to(&c->first_delay_ms, 1000);
	default_to(&c->max_delay_ms, 15000);
	default_to(&c->ban_ms, 3600000);
	default_to(&c->ban_max_ms, 24 * 3600000);
	default_to(&c->half_life_ms, 900000);
	default_to(&c->friend_ms, 30LL * 24 * 3600000);
	shrink(&t->addresses, c->max_addresses != 0 ? c->max_addresses : 20000);
	shrink(&t->users, c->max_users != 0 ? c->max_users : 20000);
	shrink(&t->friends, c->max_friends != 0 ? c->max_friends : 50000);
}

struct throttle *
throttle_new(const struct throttle_config *config, uint64_t seed)
{
	struct throttle *t = xcalloc(1, sizeof(*t));

	t->seed = seed;
	list_init(&t->addresses.lru);
	list_init(&t->users.lru);
	list_init(&t->friends.lru);
	throttle_configure(t, config);
	return t;
}

static void
empty_table(struct table *t)
{
	shrink(t, 0);
	map_free(&t->map);
}

void
throttle_free(struct throttle *t)
{
	if (t == NULL)
		return;
	empty_table(&t->addresses);
	empty_table(&t->users);
	empty_table(&t->friends);
	free(t);
}

static struct entry *
find(const struct table *t, uint64_t key)
{
	return (struct entry *)(void *)map_find(&t->map, key);
}

/* The entry, made if it is not there, as the one touched last. */
static struct entry *
touch(struct table *t, uint64_t key)
{
	struct entry *e = find(t, key);

	if (e == NULL) {
		if (t->map.count >= t->max)
			remove_entry(t, CONTAINER_OF(t->lru.next, struct entry, lru));
		e = xcalloc(1, sizeof(*e));
		list_init(&e->lru);
		map_add(&t->map, &e->node, key);
	}
	list_remove(&e->lru);
	list_add_last(&t->lru, &e->lru);
	return e;
}

/* A name's key: without regard to case, for so most backends take it. */
static uint64_t
user_key(uint64_t seed, struct span user)
{
	char lower[256];
	size_t len = user.len < sizeof(lower) ? user.len : sizeof(lower);

	for (size_t i = 0; i < len; i++)
		lower[i] = ascii_lower(user.at[i]);
	return hash_bytes(lower, len, seed);
}

static uint64_t
friend_key(const struct throttle *t, const struct netaddr *address, struct span user)
{
	uint64_t both[2] = { user_key(t->seed, user), netaddr_limit_key(address) };

	return hash_bytes(both, sizeof(both), t->seed);
}

uint64_t
throttle_guess(uint64_t seed, struct span user, struct span password)
{
	uint64_t both[2] = { user_key(seed, user), hash_bytes(password.at, password.len, ~seed) };

	return hash_bytes(both, sizeof(both), seed) | 1;
}

/* Half for each half-life gone, linear between. */
static uint32_t
decayed(uint32_t score, int64_t passed_ms, int64_t half_life_ms)
{
	if (passed_ms <= 0)
		return score;
	if (passed_ms / half_life_ms >= 31)
		return 0;
	score >>= passed_ms / half_life_ms;
	return score - (uint32_t)(score / 2 * (uint64_t)(passed_ms % half_life_ms) /
				  (uint64_t)half_life_ms);
}

static void
age(const struct throttle *t, struct entry *e, int64_t now_ms)
{
	e->guesses = decayed(e->guesses, now_ms - e->at_ms, t->config.half_life_ms);
	e->failures = decayed(e->failures, now_ms - e->at_ms, t->config.half_life_ms);
	e->at_ms = now_ms;
}

static unsigned
failures_at(const struct throttle *t, const struct entry *e, int64_t now_ms)
{
	if (e == NULL)
		return 0;
	return (decayed(e->failures, now_ms - e->at_ms, t->config.half_life_ms) + UNIT / 2) / UNIT;
}

static int64_t
delay_for(const struct throttle_config *c, unsigned failures)
{
	int64_t delay = c->first_delay_ms;

	if (failures <= c->free_failures)
		return 0;
	for (unsigned i = c->free_failures + 1; i < failures && delay < c->max_delay_ms; i++)
		delay *= 2;
	return delay < c->max_delay_ms ? delay : c->max_delay_ms;
}

static bool
is_friend(const struct throttle *t, const struct netaddr *address, struct span user, int64_t now_ms)
{
	const struct entry *e;

	if (user.len == 0)
		return false;
	e = find(&t->friends, friend_key(t, address, user));
	return e != NULL && e->until_ms > now_ms &&
	       decayed(e->guesses, now_ms - e->at_ms, t->config.half_life_ms) <
		       (uint64_t)t->config.ban_after * FRIEND_PATIENCE * UNIT;
}

bool
throttle_turns_away(const struct throttle *t, const struct netaddr *address, int64_t now_ms)
{
	const struct entry *e = find(&t->addresses, netaddr_limit_key(address));
	const struct entry *anybody = find(&t->friends, friend_key(t, address, SPAN("")));

	return e != NULL && e->until_ms > now_ms && !t->config.never_ban &&
	       (anybody == NULL || anybody->until_ms <= now_ms);
}

struct throttle_verdict
throttle_ask(const struct throttle *t, const struct netaddr *address, struct span user,
	     int64_t now_ms)
{
	const struct entry *by_address = find(&t->addresses, netaddr_limit_key(address));
	const struct entry *by_user =
		user.len > 0 ? find(&t->users, user_key(t->seed, user)) : NULL;
	bool friendly = is_friend(t, address, user, now_ms);
	struct throttle_verdict v = {
		.address_failures = failures_at(t, by_address, now_ms),
		.user_failures = failures_at(t, by_user, now_ms),
		.friendly = friendly,
	};
	int64_t for_user = friendly ? 0 : delay_for(&t->config, v.user_failures);

	v.suspect = v.address_failures > t->config.free_failures;
	v.delay_ms = delay_for(&t->config, v.address_failures);
	if (for_user > v.delay_ms)
		v.delay_ms = for_user;
	if (by_address != NULL && by_address->until_ms > now_ms && !friendly &&
	    !t->config.never_ban)
		v.banned_until_ms = by_address->until_ms;
	return v;
}

static void
add(uint32_t *score)
{
	*score = *score + UNIT < SCORE_MAX ? *score + UNIT : SCORE_MAX;
}

/* False if it was tried from here lately. */
static bool
is_new_guess(struct entry *e, uint64_t guess)
{
	if (guess == 0)
		return true;
	for (size_t i = 0; i < GUESSES; i++)
		if (e->guess[i] == guess)
			return false;
	e->guess[e->next_guess++ % GUESSES] = guess;
	return true;
}

/* True if it begins now. */
static bool
ban(const struct throttle_config *c, struct entry *e, int64_t now_ms)
{
	int64_t length = c->ban_ms;

	if (c->never_ban || e->until_ms > now_ms || e->guesses < c->ban_after * UNIT)
		return false;
	if (e->until_ms != 0 && now_ms - e->until_ms > c->ban_max_ms)
		e->bans = 0;		/* it behaved well for long */
	for (unsigned i = 0; i < e->bans && length < c->ban_max_ms; i++)
		length *= 2;
	e->until_ms = now_ms + (length < c->ban_max_ms ? length : c->ban_max_ms);
	e->bans++;
	e->guesses = 0;
	return true;
}

struct throttle_verdict
throttle_failed(struct throttle *t, const struct netaddr *address, struct span user, uint64_t guess,
		int64_t now_ms)
{
	struct entry *e = touch(&t->addresses, netaddr_limit_key(address));
	struct throttle_verdict v;
	bool banned;

	age(t, e, now_ms);
	e->address = *address;
	e->address.port = 0;
	add(&e->failures);
	if (is_new_guess(e, guess))
		add(&e->guesses);
	banned = ban(&t->config, e, now_ms);
	/* what a friend mistypes does not count against the user for others */
	if (user.len > 0 && is_friend(t, address, user, now_ms)) {
		e = find(&t->friends, friend_key(t, address, user));
		age(t, e, now_ms);
		if (is_new_guess(e, guess))
			add(&e->guesses);
	} else if (user.len > 0) {
		e = touch(&t->users, user_key(t->seed, user));
		age(t, e, now_ms);
		add(&e->failures);
	}
	v = throttle_ask(t, address, user, now_ms);
	v.ban_begins = banned;
	return v;
}

void
throttle_succeeded(struct throttle *t, const struct netaddr *address, struct span user,
		   int64_t now_ms)
{
	int64_t until_ms = now_ms + t->config.friend_ms;

	if (user.len == 0)
		return;
	touch(&t->friends, friend_key(t, address, user))->until_ms = until_ms;
	touch(&t->friends, friend_key(t, address, SPAN("")))->until_ms = until_ms;
}

bool
throttle_pardon(struct throttle *t, const struct netaddr *address)
{
	struct entry *e = find(&t->addresses, netaddr_limit_key(address));

	if (e == NULL)
		return false;
	remove_entry(&t->addresses, e);
	return true;
}

void
throttle_banned(const struct throttle *t, int64_t now_ms,
		void (*each)(void *arg, const struct netaddr *address, int64_t until_ms), void *arg)
{
	const struct list *head = &t->addresses.lru;

	for (const struct list *at = head->next; at != head; at = at->next) {
		const struct entry *e = CONTAINER_OF(at, struct entry, lru);

		if (e->until_ms > now_ms)
			each(arg, &e->address, e->until_ms);
	}
}

size_t
throttle_memory(const struct throttle *t)
{
	const struct table *tables[] = { &t->addresses, &t->users, &t->friends };
	size_t octets = sizeof(*t);

	for (size_t i = 0; i < 3; i++)
		octets += tables[i]->map.count * sizeof(struct entry) +
			  tables[i]->map.size * sizeof(void *);
	return octets;
}
