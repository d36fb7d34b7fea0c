/* shape: see shape.h. Who is meant, and the counters; shape_record.c has their form on disk. */
#include "policy/shape.h"

#include <stdlib.h>

#include "policy/route.h"
#include "policy/shape_private.h"

/* ---- who is meant ------------------------------------------------------------------------- */

static const struct { const char *name; unsigned per; } per_names[] = {
	{ "site", SHAPE_SITE }, { "source", SHAPE_SOURCE }, { "tenant", SHAPE_TENANT },
	{ "domain", SHAPE_DOMAIN }, { "host", SHAPE_HOST },
};

void
shape_settle(struct shape *shape)
{
	shape->per = 0;
	for (size_t i = 0; i < shape->per_count; i++)
		for (size_t j = 0; j < sizeof(per_names) / sizeof(per_names[0]); j++)
			if (span_eq(shape->per_words[i], span_str(per_names[j].name)))
				shape->per |= per_names[j].per;
	if (shape->per_count == 0)
		shape->per = (shape->host_count > 0 ? SHAPE_HOST : SHAPE_SITE) |
			     (shape->source_count > 0 ? SHAPE_SOURCE : 0u) |
			     (shape->tenant_count > 0 ? SHAPE_TENANT : 0u) |
			     (shape->domain_count > 0 ? SHAPE_DOMAIN : 0u);
	shape->of_lanes = shape->tenant_count > 0 || shape->domain_count > 0 ||
			  (shape->per & (SHAPE_TENANT | SHAPE_DOMAIN)) != 0;
}

void
shape_times_add(struct shape_times *times, const struct shape_times *more)
{
	int64_t *to[] = { &times->idle_ms, &times->connect_ms, &times->banner_ms, &times->ehlo_ms,
			  &times->mail_ms,
			  &times->rcpt_ms, &times->data_init_ms, &times->block_ms, &times->dot_ms };
	const int64_t from[] = { more->idle_ms, more->connect_ms, more->banner_ms, more->ehlo_ms,
				 more->mail_ms,
				 more->rcpt_ms, more->data_init_ms, more->block_ms, more->dot_ms };

	for (size_t i = 0; i < sizeof(to) / sizeof(to[0]); i++)
		if (*to[i] == 0)
			*to[i] = from[i];
}

bool
shape_host_fits(struct span pattern, struct span host)
{
	return span_eq(pattern, host) || domain_pattern_matches(pattern, host);
}

bool
shape_any_fits(const struct span *patterns, size_t count, struct span name)
{
	for (size_t i = 0; i < count; i++)
		if (shape_host_fits(patterns[i], name))
			return true;
	return false;
}

const struct provider *
shape_provider(const struct shapes *shapes, struct span host)
{
	for (size_t i = 0; i < shapes->provider_count; i++)
		if (shape_any_fits(shapes->providers[i].mx, shapes->providers[i].mx_count, host))
			return &shapes->providers[i];
	return NULL;
}

static bool
is_of_site(const struct shape *shape, const struct provider *provider, struct span host)
{
	bool fits = shape->site_count == 0;

	for (size_t i = 0; i < shape->site_count && !fits; i++)
		fits = (provider != NULL && span_eq(shape->sites[i], provider->name)) ||
		       shape_host_fits(shape->sites[i], host);
	return fits &&
	       (shape->host_count == 0 || shape_any_fits(shape->hosts, shape->host_count, host));
}

static bool
has_any(const struct span *patterns, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (span_eq(patterns[i], SPAN("*")))
			return true;
	return count == 0;
}

/* Whose sites it holds for are written in it, and all that goes there is meant. */
static bool
names_sites(const struct shape *shape)
{
	return !(has_any(shape->sites, shape->site_count) &&
		 has_any(shape->hosts, shape->host_count)) &&
	       shape->domain_count == 0 && shape->tenant_count == 0 && shape->source_count == 0;
}

bool
shape_of_site(const struct shapes *shapes, const struct shape *shape,
	      const struct provider *provider, struct span host)
{
	if (!is_of_site(shape, provider, host))
		return false;
	for (size_t i = 0; shape->others && i < shapes->count; i++)
		if (!shapes->shapes[i].others && names_sites(&shapes->shapes[i]) &&
		    is_of_site(&shapes->shapes[i], provider, host))
			return false;
	return true;
}

static bool
is_one_of(const struct span *words, size_t count, struct span word)
{
	for (size_t i = 0; i < count; i++)
		if (span_eq(words[i], word))
			return true;
	return count == 0;
}

bool
shape_of_source(const struct shape *shape, struct span source)
{
	return is_one_of(shape->sources, shape->source_count, source);
}

bool
shape_of_lane(const struct shape *shape, struct span tenant, struct span domain)
{
	return is_one_of(shape->tenants, shape->tenant_count, tenant) &&
	       (shape->domain_count == 0 ||
		shape_any_fits(shape->domains, shape->domain_count, domain));
}

bool
shape_patterns_meet(struct span a, struct span b)
{
	struct span base_a = span_starts(a, SPAN("*.")) ? span_skip(a, 1) : a;
	struct span base_b = span_starts(b, SPAN("*.")) ? span_skip(b, 1) : b;

	if (span_eq(a, b) || span_eq(a, SPAN("*")) || span_eq(b, SPAN("*")))
		return true;
	return (base_a.at != a.at && span_ends(base_b, base_a)) ||
	       (base_b.at != b.at && span_ends(base_a, base_b));
}

/* ---- buckets ------------------------------------------------------------------------------ */

/*
 * The level is counted in parts of a token, `period` of them to one, and grows by `gain` each
 * millisecond: whole numbers, so that nothing is lost however often one looks.
 */
struct rate { uint64_t period, gain, full; };

static const uint64_t periods[3] = { 60000, 1000, 60000 };
static const enum shape_limit bucket_limits[3] = { SHAPE_NEW_CONNECTIONS, SHAPE_MESSAGES_SECOND,
						   SHAPE_MESSAGES_MINUTE };

uint64_t
shape_limit_now(const struct shape *shape, const struct shape_counts *counts,
		enum shape_limit limit, int64_t now)
{
	uint64_t set = shape->limits[limit];

	if (set == 0 || counts->slow.factor == 0 || limit == SHAPE_CONNECTIONS ||
	    limit == SHAPE_MESSAGES_DAY || limit == SHAPE_RECIPIENTS_DAY)
		return set;
	return slowdown_divided(&counts->slow, set, now);
}

/* What is waited for may come earlier when the slow-down lets go: then one has to ask again. */
static int64_t
or_slow_ends(const struct shape_counts *counts, int64_t now, int64_t at)
{
	int64_t next = counts->slow.factor == 0 ? INT64_MAX : slowdown_next_ms(&counts->slow, now);

	return at != INT64_MAX && next < at ? next : at;
}

static struct shape_hold
hold_of(const struct shape *shape, const struct shape_counts *counts, enum shape_limit limit,
	int64_t now, int64_t at)
{
	uint64_t most = shape_limit_now(shape, counts, limit, now);

	return (struct shape_hold){ .limit = limit,
				    .used = shape_used(shape, counts, limit, now),
				    .most = most,
				    .undivided =
					    most < shape->limits[limit] ? shape->limits[limit] : 0,
				    .until_ms = or_slow_ends(counts, now, at) };
}

static uint64_t
burst_of(const struct shape *shape, size_t i, uint64_t limit)
{
	uint64_t usual = limit * 20 / periods[i];

	if (shape->burst > 0 && bucket_limits[i] != SHAPE_NEW_CONNECTIONS)
		return shape->burst < limit ? shape->burst : limit;
	return usual > 1 ? usual : 1;
}

static struct rate
rate_of(const struct shape *shape, const struct shape_counts *counts, size_t i, int64_t now)
{
	uint64_t limit = shape_limit_now(shape, counts, bucket_limits[i], now),
		 burst = burst_of(shape, i, limit);

	return (struct rate){ periods[i], limit - burst + 1, burst * periods[i] };
}

static uint64_t
level_now(const struct shape_bucket *b, const struct rate *r, int64_t now)
{
	uint64_t gone = now > b->at_ms ? (uint64_t)(now - b->at_ms) : 0;

	/* the clock was set back by more than what counts here */
	if (b->at_ms > now + (int64_t)r->period)
		return r->full;
	if (b->at_ms == 0 || gone >= r->full / r->gain + 1 || b->level + gone * r->gain >= r->full)
		return r->full;
	return b->level + gone * r->gain;
}

/* When there are so many tokens; at once, if there are. */
static int64_t
bucket_when(const struct shape_bucket *b, const struct rate *r, int64_t now, uint64_t tokens)
{
	uint64_t level = level_now(b, r, now), need = tokens * r->period;

	if (level >= need)
		return now;
	return now + (int64_t)((need - level + r->gain - 1) / r->gain);
}

static void
bucket_take(struct shape_bucket *b, const struct rate *r, int64_t now)
{
	uint64_t level = level_now(b, r, now);

	b->level = level > r->period ? level - r->period : 0;
	b->at_ms = now;
}

static void
bucket_give_back(struct shape_bucket *b, const struct rate *r, int64_t now)
{
	b->level = level_now(b, r, now) + r->period;
	if (b->level > r->full)
		b->level = r->full;
	b->at_ms = now;
}

/* ---- windows ------------------------------------------------------------------------------ */

const int64_t shape_step_ms[4] = { 60000, 24 * 60000, 60000, 24 * 60000 };
static const enum shape_limit window_limits[4] = { SHAPE_MESSAGES_HOUR, SHAPE_MESSAGES_DAY,
						   SHAPE_RECIPIENTS_HOUR, SHAPE_RECIPIENTS_DAY };

static void
window_move(struct shape_window *w, int64_t step)
{
	int64_t n = step - w->step;

	if (n > SHAPE_STEPS) {
		*w = (struct shape_window){ .step = step };
		return;
	}
	if (n < 0) {				/* the clock was set back: the counts go with it */
		struct shape_window old = *w;

		for (int64_t i = 0; i <= SHAPE_STEPS; i++)
			w->counts[(step - i + SHAPE_STEPS + 1) % (SHAPE_STEPS + 1)] =
				old.counts[(old.step - i + SHAPE_STEPS + 1) % (SHAPE_STEPS + 1)];
	}
	for (; n > 0; n--) {
		uint32_t *oldest = &w->counts[(step - n + 1) % (SHAPE_STEPS + 1)];

		w->total -= *oldest;
		*oldest = 0;
	}
	w->step = step;
}

/* What its steps from `first` on have counted. */
static uint64_t
window_from(const struct shape_window *w, int64_t first)
{
	uint64_t total = 0;
	int64_t oldest = w->step - SHAPE_STEPS;

	if (first <= oldest)
		return w->total;
	for (int64_t step = first; step <= w->step; step++)
		total += w->counts[step % (SHAPE_STEPS + 1)];
	return total;
}

static uint64_t
window_used(struct shape_window *w, size_t i, int64_t now)
{
	int64_t step = now / shape_step_ms[i];

	if (w == NULL)
		return 0;
	/* or it would not grow old until the clock has come that far again */
	if (step < w->step)
		window_move(w, step);
	return window_from(w, step - SHAPE_STEPS);
}

/* When so many more are within the limit. */
static int64_t
window_when(struct shape_window *w, size_t i, uint64_t limit, int64_t now, uint64_t more)
{
	int64_t step_ms = shape_step_ms[i], first = now / step_ms - SHAPE_STEPS;
	uint64_t used = window_used(w, i, now);

	if (used + more <= limit || w == NULL)
		return now;
	for (; first <= w->step && used + more > limit; first++)
		if (first >= w->step - SHAPE_STEPS)
			used -= w->counts[first % (SHAPE_STEPS + 1)];
	return (first + SHAPE_STEPS) * step_ms;
}

static void
window_add(struct shape_window **w, size_t i, int64_t now, uint64_t n)
{
	uint32_t *count;

	if (*w == NULL)
		*w = xcalloc(1, sizeof(**w));
	window_move(*w, now / shape_step_ms[i]);
	count = &(*w)->counts[(*w)->step % (SHAPE_STEPS + 1)];
	if (n > UINT32_MAX - *count)
		n = UINT32_MAX - *count;
	*count += (uint32_t)n;
	(*w)->total += n;
}

static void
window_take_back(struct shape_window *w, size_t i, int64_t at_ms, uint64_t n)
{
	int64_t step = at_ms / shape_step_ms[i];
	uint32_t *count;

	if (w == NULL || step > w->step || step < w->step - SHAPE_STEPS)
		return;
	count = &w->counts[step % (SHAPE_STEPS + 1)];
	if (n > *count)
		n = *count;
	*count -= (uint32_t)n;
	w->total -= n;
}

/* ---- limits ------------------------------------------------------------------------------- */

static bool
at_once(const struct shape *shape, const struct shape_counts *counts, struct shape_hold *ret)
{
	uint64_t most = shape->limits[SHAPE_CONNECTIONS];

	if (most == 0 || counts->open < most)
		return true;
	*ret = (struct shape_hold){ .limit = SHAPE_CONNECTIONS, .used = counts->open, .most = most,
				    .until_ms = INT64_MAX };
	return false;
}

static bool
bucket_allows(const struct shape *shape, const struct shape_counts *counts, size_t i, int64_t now,
	      struct shape_hold *ret)
{
	struct rate r;

	if (shape->limits[bucket_limits[i]] == 0)
		return true;
	r = rate_of(shape, counts, i, now);
	if (level_now(&counts->buckets[i], &r, now) >= r.period)
		return true;
	*ret = hold_of(shape, counts, bucket_limits[i], now,
		       bucket_when(&counts->buckets[i], &r, now, 1));
	return false;
}

bool
shape_may_connect(const struct shape *shape, const struct shape_counts *counts, int64_t now,
		  struct shape_hold *ret)
{
	return at_once(shape, counts, ret) && bucket_allows(shape, counts, 0, now, ret);
}

void
shape_connect(const struct shape *shape, struct shape_counts *counts, int64_t now)
{
	if (shape->limits[SHAPE_NEW_CONNECTIONS] > 0) {
		struct rate r = rate_of(shape, counts, 0, now);

		bucket_take(&counts->buckets[0], &r, now);
	}
}

/* Of several that hold, the one that does so longest. */
bool
shape_may_send(const struct shape *shape, const struct shape_counts *counts, int64_t now,
	       struct shape_hold *ret)
{
	struct shape_hold hold;
	bool may = true;

	ret->until_ms = 0;
	if (shape->of_lanes && !at_once(shape, counts, ret))
		return false;
	for (size_t i = 1; i < 3; i++)
		if (!bucket_allows(shape, counts, i, now, &hold)) {
			may = false;
			if (hold.until_ms > ret->until_ms)
				*ret = hold;
		}
	for (size_t i = 0; i < 4; i++) {
		uint64_t limit = shape_limit_now(shape, counts, window_limits[i], now);

		if (limit == 0 || window_used(counts->windows[i], i, now) < limit)
			continue;
		may = false;
		hold = hold_of(shape, counts, window_limits[i], now,
			       window_when(counts->windows[i], i, limit, now, 1));
		if (hold.until_ms > ret->until_ms)
			*ret = hold;
	}
	return may;
}

size_t
shape_recipients(const struct shape *shape, const struct shape_counts *counts, int64_t now)
{
	uint64_t most = shape->recipients_per_transaction > 0 ? shape->recipients_per_transaction
							      : SIZE_MAX;

	for (size_t i = 2; i < 4; i++) {
		uint64_t limit = shape_limit_now(shape, counts, window_limits[i], now);
		uint64_t used = window_used(counts->windows[i], i, now);

		if (limit > 0 && (used < limit ? limit - used : 0) < most)
			most = used < limit ? limit - used : 0;
	}
	return most;
}

void
shape_send(const struct shape *shape, struct shape_counts *counts, int64_t now, size_t recipients)
{
	for (size_t i = 1; i < 3; i++)
		if (shape->limits[bucket_limits[i]] > 0) {
			struct rate r = rate_of(shape, counts, i, now);

			bucket_take(&counts->buckets[i], &r, now);
		}
	for (size_t i = 0; i < 4; i++)
		if (shape->limits[window_limits[i]] > 0)
			window_add(&counts->windows[i], i, now, i < 2 ? 1 : recipients);
}

void
shape_unsend(const struct shape *shape, struct shape_counts *counts, int64_t at_ms, int64_t now,
	     size_t recipients)
{
	for (size_t i = 1; i < 3; i++)
		if (shape->limits[bucket_limits[i]] > 0) {
			struct rate r = rate_of(shape, counts, i, now);

			bucket_give_back(&counts->buckets[i], &r, now);
		}
	for (size_t i = 0; i < 4; i++)
		if (shape->limits[window_limits[i]] > 0)
			window_take_back(counts->windows[i], i, at_ms, i < 2 ? 1 : recipients);
}

size_t
shape_sends(const struct shape *shape, const struct shape_counts *counts, int64_t now)
{
	uint64_t most = SIZE_MAX;

	for (size_t i = 1; i < 3; i++)
		if (shape->limits[bucket_limits[i]] > 0) {
			struct rate r = rate_of(shape, counts, i, now);
			uint64_t tokens = level_now(&counts->buckets[i], &r, now) / r.period;

			most = tokens < most ? tokens : most;
		}
	for (size_t i = 0; i < 4; i++) {
		uint64_t limit = shape_limit_now(shape, counts, window_limits[i], now);
		uint64_t used = window_used(counts->windows[i], i, now);

		if (limit > 0 && (used < limit ? limit - used : 0) < most)
			most = used < limit ? limit - used : 0;
	}
	if (shape->of_lanes && shape->limits[SHAPE_CONNECTIONS] > 0) {
		uint64_t limit = shape->limits[SHAPE_CONNECTIONS];
		uint64_t left = counts->open < limit ? limit - counts->open : 0;

		most = left < most ? left : most;
	}
	return most;
}

int64_t
shape_next_send(const struct shape *shape, const struct shape_counts *counts, int64_t now,
		size_t more)
{
	struct shape_hold hold;
	int64_t at = now;

	if (shape->of_lanes && !at_once(shape, counts, &hold))
		return INT64_MAX;
	for (size_t i = 1; i < 3; i++)
		if (shape->limits[bucket_limits[i]] > 0) {
			struct rate r = rate_of(shape, counts, i, now);
			int64_t when = bucket_when(&counts->buckets[i], &r, now, more + 1);

			at = when > at ? when : at;
		}
	for (size_t i = 0; i < 4; i++)
		if (shape->limits[window_limits[i]] > 0) {
			uint64_t limit = shape_limit_now(shape, counts, window_limits[i], now);
			uint64_t n = more + 1 < limit ? more + 1 : limit;
			int64_t when = window_when(counts->windows[i], i, limit, now, n);

			at = when > at ? when : at;
		}
	return or_slow_ends(counts, now, at);
}

int64_t
shape_next_connect(const struct shape *shape, const struct shape_counts *counts, int64_t now,
		   size_t more)
{
	struct shape_hold hold;
	struct rate r;

	if (!at_once(shape, counts, &hold))
		return INT64_MAX;
	if (shape->limits[SHAPE_NEW_CONNECTIONS] == 0)
		return now;
	r = rate_of(shape, counts, 0, now);
	return or_slow_ends(counts, now, bucket_when(&counts->buckets[0], &r, now, more + 1));
}

/* ---- words -------------------------------------------------------------------------------- */

static const struct { const char *name, *noun, *time; } limit_names[SHAPE_LIMITS] = {
	[SHAPE_CONNECTIONS] = { "connections", "connections", "at once" },
	[SHAPE_NEW_CONNECTIONS] = { "connections-per-minute", "new connections", "in a minute" },
	[SHAPE_MESSAGES_SECOND] = { "messages-per-second", "messages", "in a second" },
	[SHAPE_MESSAGES_MINUTE] = { "messages-per-minute", "messages", "in a minute" },
	[SHAPE_MESSAGES_HOUR] = { "messages-per-hour", "messages", "in the last hour" },
	[SHAPE_MESSAGES_DAY] = { "messages-per-day", "messages", "in the last day" },
	[SHAPE_RECIPIENTS_HOUR] = { "recipients-per-hour", "recipients", "in the last hour" },
	[SHAPE_RECIPIENTS_DAY] = { "recipients-per-day", "recipients", "in the last day" },
};

const char *
shape_limit_name(enum shape_limit limit)
{
	return limit_names[limit].name;
}

/* Of a bucket: what has not been filled up again, as a share of the whole. */
uint64_t
shape_used(const struct shape *shape, const struct shape_counts *counts, enum shape_limit limit,
	   int64_t now)
{
	for (size_t i = 0; i < 3; i++)
		if (bucket_limits[i] == limit && shape->limits[limit] > 0) {
			struct rate r = rate_of(shape, counts, i, now);

			return (r.full - level_now(&counts->buckets[i], &r, now) + r.period - 1) /
			       r.period;
		}
	for (size_t i = 0; i < 4; i++)
		if (window_limits[i] == limit)
			return window_used(counts->windows[i], i, now);
	return limit == SHAPE_CONNECTIONS ? counts->open : 0;
}

struct span
shape_hold_text(const struct shape_hold *hold, bool of_lanes, struct arena *arena)
{
	const char *noun = of_lanes && hold->limit == SHAPE_CONNECTIONS
				   ? "messages"
				   : limit_names[hold->limit].noun;
	struct span slowed = SPAN("");

	if (hold->undivided > 0)
		slowed = arena_printf(arena, " (%llu, if it were not slowed down)",
				      (unsigned long long)hold->undivided);
	if (hold->limit == SHAPE_NEW_CONNECTIONS || hold->limit == SHAPE_MESSAGES_SECOND ||
	    hold->limit == SHAPE_MESSAGES_MINUTE)
		return arena_printf(arena, "no more than %llu %s %s%.*s",
				    (unsigned long long)hold->most, noun,
				    limit_names[hold->limit].time, SPAN_FMT(slowed));
	return arena_printf(arena, "%llu of %llu %s %s%.*s", (unsigned long long)hold->used,
			    (unsigned long long)hold->most, noun, limit_names[hold->limit].time,
			    SPAN_FMT(slowed));
}

void
shape_counts_free(struct shape_counts *counts)
{
	for (size_t i = 0; i < 4; i++)
		free(counts->windows[i]);
	*counts = (struct shape_counts){ 0 };
}
