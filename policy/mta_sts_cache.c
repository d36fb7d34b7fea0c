/*
 * mta_sts_cache: which policy holds, when the policy host is asked, and what is stored; see
 * mta_sts.h. RFC 8461 §3.3, §5.1, §10.2.
 *
 * An unexpired policy cannot be got rid of by hiding record or host; that is what the cache is
 * for. The host is asked at most once per back-off, after a success as well: a policy whose
 * max_age is 0 is not fetched for each delivery.
 */
#include "policy/mta_sts.h"

#include "policy/codec.h"

enum { VERSION = 1, KIND = 's', ERROR_MAX = 500, IN_USE_DAYS = 30, DOUBLINGS_MAX = 10,
       PATTERN_MAX = 2 + 255 };

static const int64_t day_ms = 24 * 60 * 60 * 1000;

int64_t
sts_entry_expires_ms(const struct sts_entry *entry, int64_t now_ms)
{
	int64_t from = entry->fetched_ms < now_ms ? entry->fetched_ms : now_ms;

	return entry->has_policy ? from + (int64_t)entry->policy.max_age * 1000 : 0;
}

static bool
holds(const struct sts_entry *entry, int64_t now_ms)
{
	return entry != NULL && sts_entry_expires_ms(entry, now_ms) > now_ms;
}

/* A time further off than any back-off comes from a clock that has stepped back. */
static bool
may_fetch(const struct sts_entry *entry, int64_t now_ms)
{
	return entry == NULL || entry->retry_ms <= now_ms ||
	       entry->retry_ms > now_ms + STS_RETRY_MOST_MS;
}

static bool
is_old(const struct sts_entry *entry, int64_t now_ms)
{
	int64_t half = (int64_t)entry->policy.max_age * 1000 / 2;
	int64_t age = now_ms - entry->fetched_ms;

	return age >= (half < STS_REFRESH_MS ? half : STS_REFRESH_MS) || age < -day_ms;
}

/* A policy is in the cache and holds. */
static void
decide_cached(const struct sts_entry *entry, const struct sts_record *record, int64_t now_ms,
	      struct sts_decision *ret)
{
	bool fresh_id = record->outcome == STS_RECORD_FOUND && !span_eq(record->id, entry->id);

	ret->use = STS_USE_POLICY;
	ret->policy = &entry->policy;
	ret->ask_record = record->outcome == STS_RECORD_UNKNOWN;
	ret->fetch = record->outcome == STS_RECORD_FOUND && may_fetch(entry, now_ms) &&
		     (fresh_id || is_old(entry, now_ms));
	ret->reason = fresh_id ? SPAN("the cached policy holds; a new one is announced") :
				 SPAN("the cached policy holds");
}

void
sts_decide(const struct sts_entry *entry, const struct sts_record *record, int64_t now_ms,
	   struct sts_decision *ret)
{
	*ret = (struct sts_decision){ .use = STS_USE_NOTHING };
	if (holds(entry, now_ms)) {
		decide_cached(entry, record, now_ms, ret);
		return;
	}
	switch (record->outcome) {
	case STS_RECORD_UNKNOWN:
		ret->use = STS_USE_AFTER_RECORD;
		ret->ask_record = true;
		ret->reason = SPAN("is there an MTA-STS record?");
		break;
	case STS_RECORD_NONE:
	case STS_RECORD_FAILED:
		ret->reason = record->why;
		break;
	case STS_RECORD_FOUND:
		if (may_fetch(entry, now_ms)) {
			ret->use = STS_USE_AFTER_FETCH;
			ret->fetch = true;
			ret->reason = SPAN("the policy is fetched");
		} else {
			ret->reason = entry->error.len > 0 ? entry->error :
							     SPAN("the policy has expired");
		}
		break;
	}
}

static bool
in_use(const struct sts_entry *entry, int64_t now_ms)
{
	return now_ms - entry->used_ms < IN_USE_DAYS * day_ms;
}

bool
sts_entry_refresh_due(const struct sts_entry *entry, int64_t now_ms)
{
	return holds(entry, now_ms) && is_old(entry, now_ms) && may_fetch(entry, now_ms) &&
	       in_use(entry, now_ms);
}

bool
sts_entry_useless(const struct sts_entry *entry, int64_t now_ms)
{
	return !holds(entry, now_ms) && may_fetch(entry, now_ms);
}

bool
sts_must_check_again(const struct sts_entry *entry, const struct sts_record *record,
		     int64_t now_ms)
{
	return record->outcome == STS_RECORD_FOUND && may_fetch(entry, now_ms) &&
	       (!holds(entry, now_ms) || !span_eq(record->id, entry->id));
}

void
sts_fetched(const struct sts_entry *entry, const struct sts_policy *policy, struct span id,
	    int64_t now_ms, struct sts_entry *ret)
{
	int64_t used_ms = entry != NULL ? entry->used_ms : now_ms;

	*ret = (struct sts_entry){
		.has_policy = true,
		.id = id,
		.policy = *policy,
		.fetched_ms = now_ms,
		.used_ms = used_ms,
		.retry_ms = now_ms + STS_RETRY_FIRST_MS,
	};
}

void
sts_fetch_failed(const struct sts_entry *entry, struct span why, int64_t now_ms,
		 struct sts_entry *ret)
{
	struct sts_entry next = entry != NULL ? *entry : (struct sts_entry){ .used_ms = now_ms };
	uint32_t doublings = next.failures < DOUBLINGS_MAX ? next.failures : DOUBLINGS_MAX;
	int64_t wait_ms = (int64_t)STS_RETRY_FIRST_MS << doublings;

	if (wait_ms > STS_RETRY_MOST_MS)
		wait_ms = STS_RETRY_MOST_MS;
	if (next.failures < UINT32_MAX)
		next.failures++;
	next.retry_ms = now_ms + wait_ms;
	next.error = span_first(why, ERROR_MAX);
	*ret = next;
}

void
sts_entry_encode(const struct sts_entry *entry, struct buf *out)
{
	const struct sts_policy *policy = &entry->policy;
	struct encoder e;

	encoder_begin(&e, VERSION, KIND, out);
	encoder_number(&e, entry->has_policy, 1);
	encoder_span(&e, entry->id);
	encoder_number(&e, policy->mode, 1);
	encoder_number(&e, policy->max_age, 4);
	encoder_number(&e, policy->mx_count, 2);
	for (size_t i = 0; i < policy->mx_count; i++)
		encoder_span(&e, policy->mx[i]);
	encoder_number(&e, (uint64_t)entry->fetched_ms, 8);
	encoder_number(&e, (uint64_t)entry->used_ms, 8);
	encoder_number(&e, entry->failures, 4);
	encoder_number(&e, (uint64_t)entry->retry_ms, 8);
	encoder_span(&e, span_first(entry->error, ERROR_MAX));
	encoder_end(&e);
}

static int64_t
take_time(struct decoder *d)
{
	return (int64_t)decoder_upto(d, 8, INT64_MAX / 2);
}

int
sts_entry_decode(struct span octets, struct arena *arena, struct sts_entry *ret)
{
	struct sts_entry entry = { 0 };
	struct decoder d;
	int r = decoder_begin(&d, octets, VERSION, KIND, arena);

	if (r < 0)
		return r;
	entry.has_policy = decoder_upto(&d, 1, 1) == 1;
	entry.id = decoder_span(&d, STS_ID_MAX);
	entry.policy.mode = (enum sts_mode)decoder_upto(&d, 1, STS_MODE_ENFORCE);
	entry.policy.max_age = (uint32_t)decoder_upto(&d, 4, STS_MAX_AGE_MAX);
	entry.policy.mx_count = (size_t)decoder_upto(&d, 2, STS_MX_MAX);
	entry.policy.mx = arena_alloc(arena, (entry.policy.mx_count + 1) * sizeof(struct span));
	for (size_t i = 0; i < entry.policy.mx_count; i++)
		entry.policy.mx[i] = decoder_span(&d, PATTERN_MAX);
	entry.fetched_ms = take_time(&d);
	entry.used_ms = take_time(&d);
	entry.failures = (uint32_t)decoder_number(&d, 4);
	entry.retry_ms = take_time(&d);
	entry.error = decoder_span(&d, ERROR_MAX);
	r = decoder_end(&d);
	if (r == 0)
		*ret = entry;
	return r;
}
