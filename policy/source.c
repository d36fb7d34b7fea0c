/* source: see source.h. */
#include "policy/source.h"

#include <math.h>

#include "mta/base/map.h"
#include "policy/codec.h"
#include "policy/route.h"

/* ---- which pool --------------------------------------------------------------------------- */

const struct pool *
pool_find(const struct sources *sources, struct span name)
{
	for (size_t i = 0; i < sources->pool_count; i++)
		if (span_eq(sources->pools[i].name, name))
			return &sources->pools[i];
	return NULL;
}

const struct source *
source_find(const struct sources *sources, struct span name)
{
	for (size_t i = 0; i < sources->source_count; i++)
		if (span_eq(sources->sources[i].name, name))
			return &sources->sources[i];
	return NULL;
}

static const struct pool *
by_sender(const struct sources *sources, struct span sender)
{
	const struct pool *found = NULL;
	int best = 0;

	for (size_t i = 0; i < sources->pool_count; i++)
		for (size_t j = 0; j < sources->pools[i].sender_count; j++) {
			int rank = sender_pattern_rank(sources->pools[i].senders[j], sender);

			if (rank > best) {
				best = rank;
				found = &sources->pools[i];
			}
		}
	return found;
}

static const struct pool *
by_tenant(const struct sources *sources, struct span tenant)
{
	for (size_t i = 0; i < sources->pool_count && tenant.len > 0; i++)
		for (size_t j = 0; j < sources->pools[i].tenant_count; j++)
			if (span_ieq(sources->pools[i].tenants[j], tenant))
				return &sources->pools[i];
	return NULL;
}

const struct pool *
pool_choose(const struct sources *sources, const struct pool_facts *facts)
{
	const struct pool *pool = facts->header.len > 0 ? pool_find(sources, facts->header) : NULL;

	if (pool == NULL && facts->route.len > 0)
		pool = pool_find(sources, facts->route);
	if (pool == NULL)
		pool = by_sender(sources, facts->sender);
	return pool != NULL ? pool : by_tenant(sources, facts->tenant);
}

struct span
pool_chosen(const struct sources *sources, const struct pool_facts *facts)
{
	const struct pool *pool = pool_choose(sources, facts);

	return pool != NULL ? pool->name : (struct span){ 0 };
}

/* ---- which source ------------------------------------------------------------------------- */

void
source_set_mark(struct source *source)
{
	uint64_t mark = hash_bytes(source->name.at, source->name.len, 1);

	for (size_t i = 0; i < source->address_count; i++) {
		mark = hash_bytes(&source->addresses[i].family, 1, mark);
		mark = hash_bytes(source->addresses[i].ip, sizeof(source->addresses[i].ip), mark);
	}
	mark = hash_bytes(source->ehlo_name.at, source->ehlo_name.len, mark);
	source->mark = mark != 0 ? mark : 1;
}

/*
 * The share of each member is its weight's: the least of -log(chance) / weight is at the i-th with
 * a probability of weight / sum of weights, for chances that are equally distributed.
 */
static double
score(const struct source *source, uint64_t weight, uint64_t key)
{
	uint64_t h = hash_bytes(source->name.at, source->name.len, key);
	double chance = ((double)(h >> 11) + 0.5) / (double)(UINT64_C(1) << 53);

	return -log(chance) / (double)weight;
}

uint64_t
pool_key(struct span recipient)
{
	return hash_bytes(recipient.at, recipient.len, UINT64_C(0x736f75726365));
}

void
pool_order(const struct sources *sources, const struct pool *pool, uint64_t key,
	   size_t ret[POOL_SOURCES_MAX])
{
	double scores[POOL_SOURCES_MAX];

	for (size_t i = 0; i < pool->member_count; i++) {
		const struct pool_member *m = &pool->members[i];
		double mine = score(&sources->sources[m->source], m->weight, key);
		size_t at = i;

		for (; at > 0 && scores[at - 1] > mine; at--) {
			scores[at] = scores[at - 1];
			ret[at] = ret[at - 1];
		}
		scores[at] = mine;
		ret[at] = i;
	}
}

const struct netaddr *
source_address(const struct source *source, uint8_t family)
{
	for (size_t i = 0; i < source->address_count; i++)
		if (source->addresses[i].family == family)
			return &source->addresses[i];
	return NULL;
}

/* ---- warm-up ------------------------------------------------------------------------------ */

bool
source_is_warming(const struct source *source, int64_t day)
{
	return day < source->start_day + (int64_t)source->plan_count && source->plan_count > 0;
}

int64_t
source_ceiling(const struct source *source, int64_t day)
{
	if (!source_is_warming(source, day))
		return SOURCE_NO_CEILING;
	return day < source->start_day ? 0 : (int64_t)source->plan[day - source->start_day];
}

enum { DAY_VERSION = 1, DAY_KIND = 'D' };

void
source_day_encode(int64_t day, uint64_t sent, struct buf *out)
{
	struct encoder e;

	encoder_begin(&e, DAY_VERSION, DAY_KIND, out);
	encoder_number(&e, (uint64_t)day, 8);
	encoder_number(&e, sent, 8);
	encoder_end(&e);
}

int
source_day_decode(struct span octets, int64_t *ret_day, uint64_t *ret_sent)
{
	struct decoder d;
	int rc = decoder_begin(&d, octets, DAY_VERSION, DAY_KIND, NULL);

	if (rc < 0)
		return rc;
	*ret_day = (int64_t)decoder_upto(&d, 8, INT64_MAX / SOURCE_DAY_MS);
	*ret_sent = decoder_upto(&d, 8, INT64_MAX);
	return decoder_end(&d);
}

/* ---- as people write it ------------------------------------------------------------------- */

bool
pool_word_read(struct span word, struct span *ret_name, uint64_t *ret_weight, const char **error)
{
	bool weighted = span_find(word, '=') != NULL;

	*ret_name = span_cut(&word, '=');
	*ret_weight = 1;
	*error = "write the name of a source, or with its weight \"b=3\"";
	if (ret_name->len == 0)
		return false;
	*error = "a weight is a whole number from 1 to 1000; a source that shall send nothing is "
		 "left out";
	return !weighted || (span_to_u64(word, POOL_WEIGHT_MAX, ret_weight) && *ret_weight > 0);
}

/* Of the Gregorian calendar; years begin in March, so that the leap day is the last. */
static int64_t
days_of(int64_t year, int64_t month, int64_t day)
{
	int64_t y = month <= 2 ? year - 1 : year, era = y / 400, of_era = y - era * 400;
	int64_t of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

	return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

bool
source_day_read(struct span text, int64_t *ret)
{
	static const int64_t lengths[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	uint64_t year, month, day;
	bool leap;

	if (text.len != 10 || text.at[4] != '-' || text.at[7] != '-' ||
	    !span_to_u64(span_first(text, 4), 9999, &year) ||
	    !span_to_u64(span_first(span_skip(text, 5), 2), 12, &month) ||
	    !span_to_u64(span_skip(text, 8), 31, &day) || year < 1970 || month < 1 || day < 1)
		return false;
	leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
	if ((int64_t)day > lengths[month - 1] + (month == 2 && leap))
		return false;
	*ret = days_of((int64_t)year, (int64_t)month, (int64_t)day);
	return true;
}
