/* quota: see quota.h. */
#include "mta/auth/quota.h"

#include <stdlib.h>

#include "mta/base/arena.h"
#include "mta/base/list.h"
#include "mta/base/map.h"

enum { MAX_USERS = 100000, HOUR_MS = 3600000, DAY_MS = 24 * HOUR_MS };

struct window {
	int64_t began_ms;
	uint64_t now, before;		/* counts: since then, and in the window before it */
	bool near_told, exceeded_told;
};

struct user {
	struct map_node node;
	struct list lru;
	struct window windows[QUOTA_KINDS];
};

struct quota {
	struct map map;
	struct list lru;		/* longest untouched first */
	size_t max;
	uint64_t seed;
};

static const struct {
	const char *name;
	int64_t length_ms;
	bool recipients;
} kinds[] = {
	[QUOTA_MESSAGES_HOUR] = { "user-messages-per-hour", HOUR_MS, false },
	[QUOTA_MESSAGES_DAY] = { "user-messages-per-day", DAY_MS, false },
	[QUOTA_RECIPIENTS_HOUR] = { "user-recipients-per-hour", HOUR_MS, true },
	[QUOTA_RECIPIENTS_DAY] = { "user-recipients-per-day", DAY_MS, true },
};

const char *
quota_name(enum quota_kind kind)
{
	return kinds[kind].name;
}

bool
quota_any(const struct quota_limits *limits)
{
	for (size_t i = 0; i < QUOTA_KINDS; i++)
		if (limits->most[i] != 0)
			return true;
	return false;
}

struct quota *
quota_new(size_t max_users, uint64_t seed)
{
	struct quota *q = xcalloc(1, sizeof(*q));

	q->max = max_users != 0 ? max_users : MAX_USERS;
	q->seed = seed;
	list_init(&q->lru);
	return q;
}

static void
remove_oldest(struct quota *q)
{
	struct user *u = CONTAINER_OF(q->lru.next, struct user, lru);

	map_remove(&q->map, &u->node);
	list_remove(&u->lru);
	free(u);
}

void
quota_free(struct quota *q)
{
	if (q == NULL)
		return;
	while (!list_empty(&q->lru))
		remove_oldest(q);
	map_free(&q->map);
	free(q);
}

/* Backends take names so, and a user must not have as many quotas as spellings. */
static uint64_t
key_of(const struct quota *q, struct span name)
{
	char lower[256];
	size_t len = name.len < sizeof(lower) ? name.len : sizeof(lower);

	for (size_t i = 0; i < len; i++)
		lower[i] = ascii_lower(name.at[i]);
	return hash_bytes(lower, len, q->seed);
}

/* To the window that `now` is in. */
static void
turn(struct window *w, int64_t length_ms, int64_t now_ms)
{
	int64_t passed = (now_ms - w->began_ms) / length_ms;

	if (passed <= 0)
		return;
	*w = (struct window){ .began_ms = w->began_ms + passed * length_ms,
			      .before = passed == 1 ? w->now : 0 };
}

static struct user *
touch(struct quota *q, struct span name, int64_t now_ms)
{
	uint64_t key = key_of(q, name);
	struct user *u = (struct user *)(void *)map_find(&q->map, key);

	if (u == NULL) {
		if (q->map.count >= q->max)
			remove_oldest(q);
		u = xcalloc(1, sizeof(*u));
		list_init(&u->lru);
		map_add(&q->map, &u->node, key);
		for (size_t i = 0; i < QUOTA_KINDS; i++)
			u->windows[i].began_ms = now_ms;
	}
	list_remove(&u->lru);
	list_add_last(&q->lru, &u->lru);
	for (size_t i = 0; i < QUOTA_KINDS; i++)
		turn(&u->windows[i], kinds[i].length_ms, now_ms);
	return u;
}

static uint64_t
count_of(const struct window *w, int64_t length_ms, int64_t now_ms)
{
	int64_t left = length_ms - (now_ms - w->began_ms);

	return w->now + w->before * (uint64_t)(left < length_ms ? left : length_ms) /
				(uint64_t)length_ms;
}

/* What is left, and what is to be told of it. */
static struct quota_verdict
judge(struct user *u, const struct quota_limits *limits, int64_t now_ms)
{
	struct quota_verdict v = { .messages = UINT64_MAX, .recipients = UINT64_MAX };

	for (size_t i = 0; i < QUOTA_KINDS; i++) {
		struct window *w = &u->windows[i];
		uint64_t *least = kinds[i].recipients ? &v.recipients : &v.messages;
		uint64_t most = limits->most[i], left;

		v.count[i] = count_of(w, kinds[i].length_ms, now_ms);
		if (most == 0)
			continue;
		left = v.count[i] < most ? most - v.count[i] : 0;
		if (left < *least)
			*least = left;
		if (v.count[i] * 10 < most * 8 || w->near_told)
			continue;
		w->near_told = true;
		v.near |= 1u << i;
	}
	return v;
}

/* So many more of them were wanted than these limits leave. */
static void
tell_exceeded(struct user *u, const struct quota_limits *limits, struct quota_verdict *v,
	      bool recipients, uint64_t wanted)
{
	for (size_t i = 0; i < QUOTA_KINDS; i++) {
		struct window *w = &u->windows[i];

		if (kinds[i].recipients != recipients || limits->most[i] == 0 ||
		    v->count[i] + wanted <= limits->most[i] || w->exceeded_told)
			continue;
		w->exceeded_told = true;
		v->exceeded |= 1u << i;
	}
}

struct quota_verdict
quota_ask(struct quota *q, const struct quota_limits *limits, struct span name, int64_t now_ms)
{
	struct user *u = touch(q, name, now_ms);
	struct quota_verdict v = judge(u, limits, now_ms);

	tell_exceeded(u, limits, &v, false, 1);
	tell_exceeded(u, limits, &v, true, 1);
	return v;
}

struct quota_verdict
quota_look(struct quota *q, const struct quota_limits *limits, struct span name, int64_t now_ms)
{
	const struct user *u = (struct user *)(void *)map_find(&q->map, key_of(q, name));
	struct user copy = { 0 };
	struct quota_verdict v;

	for (size_t i = 0; i < QUOTA_KINDS; i++) {
		copy.windows[i].began_ms = now_ms;
		if (u != NULL) {
			copy.windows[i] = u->windows[i];
			turn(&copy.windows[i], kinds[i].length_ms, now_ms);
		}
	}
	v = judge(&copy, limits, now_ms);
	v.near = 0;
	return v;
}

bool
quota_charge(struct quota *q, const struct quota_limits *limits, struct span name,
	     uint64_t recipients, bool more, int64_t now_ms, struct quota_verdict *verdict)
{
	struct user *u = touch(q, name, now_ms);
	struct quota_verdict v = judge(u, limits, now_ms);
	bool good = v.messages >= 1 && v.recipients >= recipients;

	tell_exceeded(u, limits, &v, false, 1);
	tell_exceeded(u, limits, &v, true, recipients + more);
	if (good) {
		unsigned near = v.near, exceeded = v.exceeded;

		for (size_t i = 0; i < QUOTA_KINDS; i++)
			u->windows[i].now += kinds[i].recipients ? recipients : 1;
		v = judge(u, limits, now_ms);
		v.near |= near;
		v.exceeded = exceeded;
	}
	*verdict = v;
	return good;
}
