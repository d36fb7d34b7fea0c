/* shape_record: counts of hours and days as they are kept on disk, policy/codec.h; see shape.h. */
#include <stdlib.h>

#include "policy/codec.h"
#include "policy/shape_private.h"

enum { VERSION = 1 };

static const char kind = 'w';

static bool
window_holds(const struct shape_window *w, size_t i, int64_t now)
{
	return w != NULL && w->total > 0 && now / shape_step_ms[i] <= w->step + SHAPE_STEPS;
}

bool
shape_counts_kept(const struct shape_counts *counts, int64_t now, int64_t *until_ms)
{
	bool kept = false;

	*until_ms = 0;
	for (size_t i = 0; i < 4; i++) {
		int64_t end;

		if (!window_holds(counts->windows[i], i, now))
			continue;
		end = (counts->windows[i]->step + SHAPE_STEPS + 1) * shape_step_ms[i];
		*until_ms = end > *until_ms ? end : *until_ms;
		kept = true;
	}
	return kept;
}

static void
window_encode(const struct shape_window *w, struct encoder *e)
{
	size_t n = 0;

	for (size_t i = 0; i <= SHAPE_STEPS; i++)
		n += w->counts[i] > 0;
	encoder_number(e, (uint64_t)w->step, 8);
	encoder_number(e, n, 1);
	for (size_t i = 0; i <= SHAPE_STEPS; i++) {
		if (w->counts[i] == 0)
			continue;
		encoder_number(e, i, 1);
		encoder_number(e, w->counts[i], 4);
	}
}

void
shape_counts_encode(const struct shape_counts *counts, int64_t now, struct buf *out)
{
	struct encoder e;
	int64_t until;

	shape_counts_kept(counts, now, &until);
	encoder_begin(&e, VERSION, kind, out);
	encoder_number(&e, (uint64_t)until, 8);
	for (size_t i = 0; i < 4; i++) {
		bool holds = window_holds(counts->windows[i], i, now);

		encoder_number(&e, holds, 1);
		if (holds)
			window_encode(counts->windows[i], &e);
	}
	encoder_end(&e);
}

static void
window_decode(struct decoder *d, struct shape_window *w)
{
	size_t n;

	w->step = (int64_t)decoder_upto(d, 8, INT64_MAX / 10000000);
	if (w->step < SHAPE_STEPS)		/* 1970 */
		d->bad = true;
	n = decoder_upto(d, 1, SHAPE_STEPS + 1);
	for (size_t i = 0; i < n && !d->bad; i++) {
		size_t at = decoder_upto(d, 1, SHAPE_STEPS);
		uint32_t count = (uint32_t)decoder_number(d, 4);

		w->total += count - (uint64_t)w->counts[at];
		w->counts[at] = count;
	}
}

bool
shape_counts_decode(struct span octets, struct shape_counts *ret)
{
	struct arena arena = { 0 };
	struct decoder d;
	struct shape_window windows[4] = { 0 };
	bool holds[4] = { false }, good;

	good = decoder_begin(&d, octets, VERSION, kind, &arena) == 0;
	if (good) {
		decoder_number(&d, 8);
		for (size_t i = 0; i < 4; i++) {
			holds[i] = decoder_upto(&d, 1, 1) != 0;
			if (holds[i])
				window_decode(&d, &windows[i]);
		}
		good = decoder_end(&d) == 0;
	}
	for (size_t i = 0; good && i < 4; i++) {
		if (!holds[i])
			continue;
		if (ret->windows[i] == NULL)
			ret->windows[i] = xcalloc(1, sizeof(**ret->windows));
		*ret->windows[i] = windows[i];
	}
	arena_free(&arena);
	return good;
}

int64_t
shape_record_until(struct span octets)
{
	struct arena arena = { 0 };
	struct decoder d;
	int64_t until = 0;

	if (decoder_begin(&d, octets, VERSION, kind, &arena) == 0) {
		until = (int64_t)decoder_upto(&d, 8, INT64_MAX);
		until = d.bad ? 0 : until;
	}
	arena_free(&arena);
	return until;
}
