/*
 * suppression: see suppression.h. The filter is Bloom's: four bits of 2^23 for each key; with
 * 300,000 keys (more do not fit the table of notes) one address in 2,000 is looked up in vain.
 */
#include "policy/suppression.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "mta/base/address.h"
#include "mta/base/map.h"
#include "policy/codec.h"

enum { VERSION = 1, KIND = 'S', FILTER_WORDS = 1 << 17, FILTER_BITS = FILTER_WORDS * 64,
       PROBES = 4 };

struct suppression_filter {
	uint64_t seed;
	atomic_bool any;
	_Atomic uint64_t words[FILTER_WORDS];
};

/* ---- records ------------------------------------------------------------------------------ */

void
suppression_encode(const struct suppression *s, struct buf *out)
{
	struct encoder e;

	encoder_begin(&e, VERSION, KIND, out);
	encoder_span(&e, span_str(reply_class_name(s->class)));	/* by name: it outlives numbers */
	encoder_number(&e, (uint64_t)s->since_ms, 8);
	encoder_number(&e, (uint64_t)s->until_ms, 8);
	encoder_span(&e, span_first(s->reason, SUPPRESSION_REASON_MAX));
	encoder_end(&e);
}

int
suppression_decode(struct span octets, struct arena *arena, struct suppression *ret)
{
	struct decoder d;
	struct span class;
	int rc = decoder_begin(&d, octets, VERSION, KIND, arena);

	if (rc < 0)
		return rc;
	class = decoder_span(&d, 100);
	ret->since_ms = (int64_t)decoder_upto(&d, 8, INT64_MAX);
	ret->until_ms = (int64_t)decoder_upto(&d, 8, INT64_MAX);
	ret->reason = decoder_span(&d, SUPPRESSION_REASON_MAX);
	if (!reply_class_find(class, &ret->class))
		ret->class = CLASS_OTHER;
	return decoder_end(&d);
}

bool
suppression_key(struct span text, struct arena *arena, struct span *ret)
{
	struct span domain = span_starts(text, SPAN("@")) ? span_skip(text, 1) : text;
	struct address address;

	if (text.len >= SUPPRESSION_KEY_MAX)
		return false;
	if (domain_valid(domain, true) || domain_literal_valid(domain)) {
		*ret = arena_lower(arena, arena_printf(arena, "@%.*s", SPAN_FMT(domain)));
		return true;
	}
	if (address_parse(text, ADDRESS_UTF8, arena, &address) != ADDRESS_OK)
		return false;
	*ret = arena_lower(arena, address_text(&address, arena));
	return true;
}

/* ---- the filter --------------------------------------------------------------------------- */

struct suppression_filter *
suppression_filter_new(uint64_t seed)
{
	struct suppression_filter *f = xcalloc(1, sizeof(*f));

	f->seed = seed;
	return f;
}

void
suppression_filter_free(struct suppression_filter *f)
{
	free(f);
}

static uint32_t
probe(uint64_t hash, unsigned i)
{
	return ((uint32_t)hash + i * ((uint32_t)(hash >> 32) | 1)) % FILTER_BITS;
}

void
suppression_filter_add(struct suppression_filter *f, struct span key)
{
	uint64_t hash = hash_bytes(key.at, key.len, f->seed);

	for (unsigned i = 0; i < PROBES; i++) {
		uint32_t bit = probe(hash, i);

		atomic_fetch_or_explicit(&f->words[bit / 64], UINT64_C(1) << bit % 64,
					 memory_order_relaxed);
	}
	atomic_store_explicit(&f->any, true, memory_order_relaxed);
}

bool
suppression_filter_may_hold(const struct suppression_filter *f, struct span key)
{
	uint64_t hash;

	if (!atomic_load_explicit(&f->any, memory_order_relaxed))
		return false;
	hash = hash_bytes(key.at, key.len, f->seed);
	for (unsigned i = 0; i < PROBES; i++) {
		uint32_t bit = probe(hash, i);

		if ((atomic_load_explicit(&f->words[bit / 64], memory_order_relaxed) >> bit % 64 &
		     1) == 0)
			return false;
	}
	return true;
}
