/*
 * resolver: questions, who waits for them, and how many are sent at once; see resolver.h. Runs on
 * its reactor's thread.
 *
 * A question is in exactly one list, and the list is its state: waiting → young → slow → finished
 * → delivering. What the channel calls back only notes the answer; callbacks of ours are made
 * when it has returned, so they may ask, cancel and close as they like. A question that nobody
 * waits for any more runs to its end.
 */
#include "dns/resolver.h"

#include <arpa/nameser.h>
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/random.h>

#include "dns/channel.h"
#include "dns/question.h"
#include "mta/base/clock.h"
#include "mta/base/map.h"

enum { YOUNG_MAX = 256, YOUNG_MS = 1000, IN_FLIGHT_MAX = 4096, CHANNELS_MAX = 8, IDS_AT_ONCE = 64 };

struct question {
	struct list node;
	struct map_node by_hash;
	struct dns_resolver *resolver;
	struct dns_flight flight;
	struct list waiters;
	struct span name;			/* lower case */
	enum dns_type type;
	enum dns_channel_kind kind;
	bool shared;				/* in the map: others may join */
	bool young;
	uint16_t id;
	int64_t first_ms, sent_ms;
	struct arena arena;			/* the answer's */
	struct dns_answer answer;
	char bytes[DNS_NAME_MAX];
};

struct dns_query {
	struct list node;
	struct question *question;
	void (*done)(void *arg, const struct dns_answer *answer);
	void *arg;
};

struct dns_resolver {
	struct dns_config config;
	struct dns_loop loop;
	bool trusted;
	bool closed, in_callback;
	struct list channels;
	struct list waiting, young, slow, finished, delivering;
	struct list graces;			/* the first is over first */
	size_t young_count, in_flight;
	struct map questions;
	uint64_t seed;
	int64_t timeout_at_ms; /* no query times out earlier; 0: none is under way */
	int64_t timer_at_ms;			/* what the loop was asked for; 0: nothing */
	uint16_t id_pool[IDS_AT_ONCE];
	size_t ids_left;
	uint8_t id_used[65536 / 8];
};

/* ids */

static void
random_bytes(void *at, size_t len)
{
	ssize_t n = getrandom(at, len, 0);

	/*
	 * Up to 256 octets come whole and uninterrupted (getrandom(2)); predictable ids would be
	 * worse than an end.
	 */
	assert(n == (ssize_t)len);
}

static uint16_t
take_id(struct dns_resolver *r)
{
	for (;;) {
		uint16_t id;

		if (r->ids_left == 0) {
			random_bytes(r->id_pool, sizeof(r->id_pool));
			r->ids_left = IDS_AT_ONCE;
		}
		id = r->id_pool[--r->ids_left];
		if (r->id_used[id / 8] & (1u << (id % 8)))
			continue;
		r->id_used[id / 8] |= (uint8_t)(1u << (id % 8));
		return id;
	}
}

static void
give_id_back(struct dns_resolver *r, uint16_t id)
{
	r->id_used[id / 8] &= (uint8_t)~(1u << (id % 8));
}

/* channels */

static struct dns_channel *
channel_for(struct dns_resolver *r, enum dns_channel_kind kind)
{
	struct dns_channel *fresh;

	LIST_EACH(struct dns_channel, channel, &r->channels, node)
		if (channel->kind == kind && !channel->retired)
			return channel;
	if (dns_channel_open(kind, &r->config, &r->loop, &fresh) != 0)
		return NULL;
	list_add_last(&r->channels, &fresh->node);
	return fresh;
}

/*
 * Channels that lost EDNS are retired (in a flood of FORMERR they stay, lest there be channels
 * without end).
 */
static void
sweep_channels(struct dns_resolver *r)
{
	size_t count = 0;

	LIST_EACH(struct dns_channel, each, &r->channels, node)
		count++;
	LIST_EACH(struct dns_channel, channel, &r->channels, node) {
		if (channel->suspect && !channel->retired && count < CHANNELS_MAX)
			channel->retired = dns_channel_lost_edns(channel);
		channel->suspect = false;
		if (channel->outstanding == 0 &&
		    (channel->retired || channel->kind != DNS_CHANNEL_EDNS)) {
			dns_channel_close(channel);
			count--;
		}
	}
}

/* questions */

static void
question_free(struct question *q)
{
	while (!list_empty(&q->waiters)) {
		struct dns_query *query = CONTAINER_OF(q->waiters.next, struct dns_query, node);

		list_remove(&query->node);
		free(query);
	}
	if (q->shared)
		map_remove(&q->resolver->questions, &q->by_hash);
	list_remove(&q->node);
	arena_free(&q->arena);
	free(q);
}

static void
free_questions(struct list *list)
{
	while (!list_empty(list))
		question_free(CONTAINER_OF(list->next, struct question, node));
}

static uint64_t
question_hash(const struct dns_resolver *r, struct span name, enum dns_type type)
{
	return hash_bytes(name.at, name.len, r->seed + type);
}

static struct question *
question_find(const struct dns_resolver *r, struct span name, enum dns_type type)
{
	struct map_node *node = map_find(&r->questions, question_hash(r, name, type));

	for (; node != NULL; node = map_next_same(node)) {
		struct question *q = CONTAINER_OF(node, struct question, by_hash);

		if (q->type == type && span_eq(q->name, name))
			return q;
	}
	return NULL;
}

static struct question *
question_new(struct dns_resolver *r, struct span name, enum dns_type type)
{
	struct question *q = xcalloc(1, sizeof(*q));

	assert(name.len <= sizeof(q->bytes));
	for (size_t i = 0; i < name.len; i++)
		q->bytes[i] = ascii_lower(name.at[i]);
	q->name = span_of(q->bytes, name.len);
	q->resolver = r;
	q->type = type;
	q->kind = DNS_CHANNEL_EDNS;
	list_init(&q->node);
	list_init(&q->waiters);
	return q;
}

/* From now on the same question is asked anew. */
static void
question_finish(struct question *q)
{
	if (q->shared)
		map_remove(&q->resolver->questions, &q->by_hash);
	q->shared = false;
	if (list_empty(&q->waiters))
		question_free(q);
	else
		list_add_last(&q->resolver->finished, &q->node);
}

static void
question_fail(struct question *q, enum dns_outcome outcome, struct span why)
{
	q->answer = (struct dns_answer){ .outcome = outcome, .text = why, .canonical = q->name,
					 .rcode = DNS_RCODE_NONE };
	question_finish(q);
}

/*
 * Is the answer worth another packet? Sets its kind then; the answer stays, for the next try may
 * bring none.
 */
static bool
question_again(struct question *q)
{
	uint16_t rcode = q->answer.rcode;

	if (q->kind != DNS_CHANNEL_EDNS)
		return false;
	if (rcode == ns_r_badvers ||
	    (!q->answer.edns && (rcode == ns_r_formerr || rcode == ns_r_notimpl)))
		q->kind = DNS_CHANNEL_PLAIN;
	else if (q->resolver->config.server_count > 1 &&
		 (rcode == ns_r_servfail || rcode == ns_r_refused || rcode == ns_r_notimpl))
		q->kind = DNS_CHANNEL_OTHERS;
	else
		return false;
	return true;
}

static struct span
timeout_text(struct question *q)
{
	int64_t waited = mono_ms() - q->first_ms;

	if (waited < 1000)
		return arena_printf(&q->arena, "timed out after %" PRId64 " ms", waited);
	return arena_printf(&q->arena, "timed out after %" PRId64 " s", (waited + 500) / 1000);
}

static void
judge_answer(struct question *q, struct dns_channel *channel, struct span message)
{
	struct dns_resolver *r = q->resolver;

	dns_answer_parse(message, q->name, q->type, &q->arena, &q->answer);
	q->answer.authenticated = q->answer.authenticated && r->trusted;
	if (!q->answer.edns && channel->kind != DNS_CHANNEL_PLAIN)
		channel->suspect = true;
	if (question_again(q))
		list_add_first(&r->waiting, &q->node);
	else
		question_finish(q);
}

/* Nothing of a caller's runs in here. */
static void
on_landed(struct dns_flight *flight, enum dns_landing how, struct span octets)
{
	struct question *q = CONTAINER_OF(flight, struct question, flight);
	struct dns_resolver *r = q->resolver;
	struct dns_channel *channel = flight->channel;

	flight->channel = NULL;
	give_id_back(r, q->id);
	r->in_flight--;
	r->young_count -= q->young;
	q->young = false;
	list_remove(&q->node);
	switch (how) {
	case DNS_LANDED_ANSWER:
		judge_answer(q, channel, octets);
		break;
	case DNS_LANDED_TIMEOUT:
		question_fail(q, DNS_TEMPORARY, timeout_text(q));
		break;
	case DNS_LANDED_NO_SERVER:
		if (channel->kind == DNS_CHANNEL_OTHERS)
			question_finish(q);	/* what the first one said stands */
		else
			question_fail(q, DNS_TEMPORARY, SPAN("no name server can be reached"));
		break;
	case DNS_LANDED_ERROR:
		question_fail(q, DNS_TEMPORARY, octets);
		break;
	case DNS_LANDED_CLOSED:
		question_free(q);
		break;
	}
}

static void
question_send(struct question *q, int64_t now)
{
	struct dns_resolver *r = q->resolver;
	struct dns_channel *channel = channel_for(r, q->kind);
	uint8_t packet[DNS_QUESTION_MAX];
	size_t len;

	if (channel == NULL) {
		question_fail(q, DNS_TEMPORARY, SPAN("no way to the name servers could be opened"));
		return;
	}
	q->id = take_id(r);
	q->sent_ms = now;
	if (q->first_ms == 0)
		q->first_ms = now;
	q->young = true;
	list_add_last(&r->young, &q->node);
	r->young_count++;
	r->in_flight++;
	if (r->timeout_at_ms == 0)
		r->timeout_at_ms = now + r->config.timeout_ms;
	len = dns_question_build(q->name, q->type, q->id, q->kind != DNS_CHANNEL_PLAIN, packet);
	q->flight.landed = on_landed;
	dns_channel_send(channel, span_of(packet, len), &q->flight);
}

/* Sends what may be sent now. */
static void
pump(struct dns_resolver *r)
{
	int64_t now = mono_ms();

	while (!list_empty(&r->young)) {
		struct question *oldest = CONTAINER_OF(r->young.next, struct question, node);

		if (oldest->sent_ms + YOUNG_MS > now)
			break;
		oldest->young = false;
		r->young_count--;
		list_remove(&oldest->node);
		list_add_last(&r->slow, &oldest->node);
	}
	while (!list_empty(&r->waiting) && r->young_count < YOUNG_MAX &&
	       r->in_flight < IN_FLIGHT_MAX) {
		struct question *q = CONTAINER_OF(r->waiting.next, struct question, node);

		list_remove(&q->node);
		question_send(q, now);
	}
}

/* the timer */

/* Linear in what is under way, so only when the last known time has come. */
static void
find_timeout(struct dns_resolver *r, int64_t now)
{
	r->timeout_at_ms = 0;
	LIST_EACH(struct dns_channel, channel, &r->channels, node) {
		int64_t wait = dns_channel_wait_ms(channel);

		if (wait >= 0 && (r->timeout_at_ms == 0 || now + wait < r->timeout_at_ms))
			r->timeout_at_ms = now + wait;
	}
}

/* When the next tick is needed; 0: not at all. */
static int64_t
next_tick(struct dns_resolver *r, int64_t now)
{
	int64_t at;

	if (!list_empty(&r->finished))
		return now;
	if (r->in_flight == 0)
		r->timeout_at_ms = 0;
	else if (r->timeout_at_ms <= now)
		find_timeout(r, now);
	at = r->timeout_at_ms;
	if (!list_empty(&r->graces)) {
		struct dns_grace *first = CONTAINER_OF(r->graces.next, struct dns_grace, node);

		if (at == 0 || first->over_at_ms < at)
			at = first->over_at_ms;
	}
	if (!list_empty(&r->waiting) && !list_empty(&r->young)) {
		struct question *oldest = CONTAINER_OF(r->young.next, struct question, node);

		if (at == 0 || oldest->sent_ms + YOUNG_MS < at)
			at = oldest->sent_ms + YOUNG_MS;
	}
	return at;
}

static void
set_timer(struct dns_resolver *r)
{
	int64_t now = mono_ms(), at = next_tick(r, now);

	if (at == r->timer_at_ms)
		return;
	if (at != 0 && r->timer_at_ms > now && r->timer_at_ms < at)
		return; /* a tick too early costs less than setting a timer for each question */
	r->timer_at_ms = at;
	r->loop.timer(r->loop.arg, at == 0 ? -1 : at > now ? at - now : 0);
}

/* answers to callers */

static void
resolver_free(struct dns_resolver *r)
{
	map_free(&r->questions);
	free(r);
}

/* One waiter, or the question when nobody is left. */
static void
deliver_one(struct question *q)
{
	struct dns_query *query = CONTAINER_OF(q->waiters.next, struct dns_query, node);
	void (*done)(void *arg, const struct dns_answer *answer);
	void *arg;

	if (list_empty(&q->waiters)) {
		question_free(q);
		return;
	}
	done = query->done;
	arg = query->arg;
	list_remove(&query->node);
	free(query);
	done(arg, &q->answer);
}

static void
end_graces(struct dns_resolver *r)
{
	int64_t now = mono_ms();

	while (!r->closed && !list_empty(&r->graces)) {
		struct dns_grace *first = CONTAINER_OF(r->graces.next, struct dns_grace, node);

		if (first->over_at_ms > now)
			break;
		list_remove(&first->node);
		first->over(first);
	}
}

/* False: a callback closed the resolver, and it is gone. */
static bool
deliver(struct dns_resolver *r)
{
	/*
	 * What finishes meanwhile waits for the next turn, lest a caller that asks again at once
	 * keeps us here.
	 */
	while (!list_empty(&r->finished)) {
		struct list *node = r->finished.next;

		list_remove(node);
		list_add_last(&r->delivering, node);
	}
	r->in_callback = true;
	while (!r->closed && !list_empty(&r->delivering))
		deliver_one(CONTAINER_OF(r->delivering.next, struct question, node));
	/* behind the answers: one of them may be what is waited for */
	end_graces(r);
	r->in_callback = false;
	if (!r->closed)
		return true;
	free_questions(&r->delivering);
	resolver_free(r);
	return false;
}

/* What every call from the loop ends with. */
static void
settle(struct dns_resolver *r)
{
	sweep_channels(r);
	pump(r);
	if (deliver(r))
		set_timer(r);
}

/* called from outside */

static void
set_defaults(struct dns_resolver *r)
{
	struct dns_config *config = &r->config;

	if (config->timeout_ms <= 0)
		config->timeout_ms = 5000;
	if (config->tries <= 0)
		config->tries = 3;
	if (config->grace_ms <= 0)
		config->grace_ms = 500;
	r->trusted = true;
	for (size_t i = 0; i < config->server_count; i++) {
		if (config->servers[i].port == 0)
			config->servers[i].port = 53;
		if (!config->trusted && !netaddr_is_loopback(&config->servers[i]))
			r->trusted = false;
	}
}

bool
dns_resolver_trusted(const struct dns_resolver *r)
{
	return r->trusted;
}

int
dns_resolver_open(const struct dns_config *config, const struct dns_loop *loop,
		  struct dns_resolver **ret)
{
	struct dns_resolver *r = xcalloc(1, sizeof(*r));
	struct list *lists[] = { &r->channels, &r->waiting,  &r->young,
				 &r->slow,     &r->finished, &r->delivering, &r->graces };
	struct dns_channel *channel;
	int err = 0;

	assert(config->server_count <= 4);
	r->config = *config;
	r->loop = *loop;
	for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++)
		list_init(lists[i]);
	random_bytes(&r->seed, sizeof(r->seed));
	if (config->server_count == 0)
		err = dns_system_servers(&r->config);
	set_defaults(r);
	if (err == 0)
		err = dns_channel_open(DNS_CHANNEL_EDNS, &r->config, &r->loop, &channel);
	if (err != 0) {
		free(r);
		return err;
	}
	list_add_last(&r->channels, &channel->node);
	*ret = r;
	return 0;
}

void
dns_resolver_close(struct dns_resolver *r)
{
	if (r == NULL)
		return;
	assert(!r->closed);
	r->closed = true;
	while (!list_empty(&r->channels))
		dns_channel_close(CONTAINER_OF(r->channels.next, struct dns_channel, node));
	assert(r->in_flight == 0);
	free_questions(&r->waiting);
	free_questions(&r->finished);
	while (!list_empty(&r->graces))
		list_remove(r->graces.next);
	r->loop.timer(r->loop.arg, -1);
	if (!r->in_callback)		/* else deliver() frees what it stands on */
		resolver_free(r);
}

void
dns_resolver_ready(struct dns_resolver *r, int fd, bool readable, bool writable)
{
	LIST_EACH(struct dns_channel, channel, &r->channels, node)
		dns_channel_process(channel, fd, readable, writable);
	settle(r);
}

void
dns_resolver_tick(struct dns_resolver *r)
{
	r->timer_at_ms = 0;
	LIST_EACH(struct dns_channel, channel, &r->channels, node)
		dns_channel_process(channel, -1, false, false);
	settle(r);
}

/* The same question on its way, or a new one. The name is valid. */
static struct question *
question_for(struct dns_resolver *r, struct span name, enum dns_type type)
{
	struct question *fresh = question_new(r, name, type);
	struct question *same = question_find(r, fresh->name, type);

	if (same != NULL) {
		question_free(fresh);
		return same;
	}
	map_add(&r->questions, &fresh->by_hash, question_hash(r, fresh->name, type));
	fresh->shared = true;
	list_add_last(&r->waiting, &fresh->node);
	return fresh;
}

struct dns_query *
dns_ask(struct dns_resolver *r, struct span name, enum dns_type type,
	void (*done)(void *arg, const struct dns_answer *answer), void *arg)
{
	struct dns_query *query = xcalloc(1, sizeof(*query));
	struct question *q;
	bool valid;

	assert(!r->closed);
	if (name.len > 1 && name.at[name.len - 1] == '.')
		name.len--;
	valid = dns_name_valid(name);
	q = valid ? question_for(r, name, type) : question_new(r, SPAN(""), type);
	*query = (struct dns_query){ .question = q, .done = done, .arg = arg };
	list_add_last(&q->waiters, &query->node);
	if (!valid)
		question_fail(q, DNS_BAD_NAME, SPAN("not a name that DNS can hold"));
	pump(r);
	set_timer(r);
	return query;
}

void
dns_cancel(struct dns_query *query)
{
	struct question *q;

	if (query == NULL)
		return;
	q = query->question;
	list_remove(&query->node);
	free(query);
	/* One that is still to be sent need not be; what is under way or done is freed there. */
	if (list_empty(&q->waiters) && q->shared && q->flight.channel == NULL)
		question_free(q);
}

void
dns_grace_begin(struct dns_resolver *r, struct dns_grace *grace,
		void (*over)(struct dns_grace *grace))
{
	assert(!r->closed && !list_linked(&grace->node));
	grace->over = over;
	grace->over_at_ms = mono_ms() + r->config.grace_ms;
	list_add_last(&r->graces, &grace->node);
	if (!r->in_callback)		/* else it is set behind the callbacks */
		set_timer(r);
}

void
dns_grace_end(struct dns_grace *grace)
{
	if (list_linked(&grace->node))
		list_remove(&grace->node);
}
