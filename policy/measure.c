/* measure: see measure.h. */
#include "policy/measure.h"

#include "policy/codec.h"

enum { VERSION = 1, STEPS_OF_TIME = 10, PARTS = 4 };

static int64_t
part_ms(int64_t for_ms)
{
	return for_ms / PARTS > 0 ? for_ms / PARTS : 1;
}

uint32_t
slowdown_factor(const struct slowdown *s, int64_t now)
{
	uint32_t factor = s->factor * MEASURE_UNIT;
	int64_t steps;

	if (now < s->until_ms)
		return factor > MEASURE_UNIT ? factor : MEASURE_UNIT;
	steps = 1 + (now - s->until_ms) / part_ms(s->for_ms);
	factor = steps < 16 ? factor >> steps : 0;
	return factor > MEASURE_UNIT ? factor : MEASURE_UNIT;
}

int64_t
slowdown_next_ms(const struct slowdown *s, int64_t now)
{
	if (slowdown_factor(s, now) == MEASURE_UNIT)
		return INT64_MAX;
	if (now < s->until_ms)
		return s->until_ms;
	return now + part_ms(s->for_ms) - (now - s->until_ms) % part_ms(s->for_ms);
}

uint64_t
slowdown_divided(const struct slowdown *s, uint64_t number, int64_t now)
{
	uint64_t left = number * MEASURE_UNIT / slowdown_factor(s, now);

	return left > 0 ? left : 1;
}

uint32_t
measure_factor(const struct measure *m, int64_t now)
{
	const struct slowdown s = { m->factor, m->until_ms, m->for_ms };

	return m->kind == MEASURE_SLOW ? slowdown_factor(&s, now) : MEASURE_UNIT;
}

int64_t
measure_over_ms(const struct measure *m)
{
	int64_t at = m->until_ms;

	if (m->kind == MEASURE_SLOW)
		for (uint32_t factor = m->factor / 2; factor > 1; factor /= 2)
			at += part_ms(m->for_ms);
	return at;
}

bool
measure_set_back(struct measure *m, int64_t now)
{
	int64_t ahead = (m->step_ms > m->since_ms ? m->step_ms : m->since_ms) - now;

	if (ahead <= 0)
		return false;
	m->since_ms = m->since_ms < now ? m->since_ms : now;
	if (m->until_ms < MEASURE_FOR_GOOD_MS)
		m->until_ms -= ahead;
	if (m->step_ms > 0)
		m->step_ms -= ahead;
	return true;
}

void
measure_again(struct measure *m, uint32_t factor, int64_t for_ms, int64_t now)
{
	if (now < m->until_ms && now - m->step_ms >= m->for_ms / STEPS_OF_TIME) {
		m->factor = m->factor * factor < RESPONSE_FACTOR_MAX ? m->factor * factor
								     : RESPONSE_FACTOR_MAX;
		m->step_ms = now;
	} else if (now >= m->until_ms || m->factor < factor) {
		m->factor = factor;
		m->step_ms = now;
	}
	m->for_ms = for_ms;
	m->until_ms = now + for_ms > m->until_ms ? now + for_ms : m->until_ms;
	m->count++;
}

uint64_t
measure_divided(const struct measure *m, uint64_t number, int64_t now)
{
	uint64_t left = number * MEASURE_UNIT / measure_factor(m, now);

	return left > 0 ? left : 1;
}

void
measure_encode(const struct measure *m, struct buf *out)
{
	struct encoder e;

	encoder_begin(&e, VERSION, 'm', out);
	encoder_number(&e, m->kind, 1);
	encoder_number(&e, m->scope, 1);
	encoder_span(&e, m->place);
	encoder_span(&e, m->name);
	encoder_span(&e, m->rule);
	encoder_span(&e, m->reason);
	encoder_number(&e, (uint64_t)m->since_ms, 8);
	encoder_number(&e, (uint64_t)m->until_ms, 8);
	encoder_number(&e, m->count, 8);
	encoder_number(&e, m->factor, 4);
	encoder_number(&e, (uint64_t)m->for_ms, 8);
	encoder_number(&e, (uint64_t)m->step_ms, 8);
	encoder_number(&e, m->connections, 4);
	encoder_number(&e, m->per_minute, 4);
	encoder_end(&e);
}

int
measure_decode(struct span octets, struct arena *arena, struct measure *ret)
{
	struct measure m = { 0 };
	struct decoder d;
	int rc = decoder_begin(&d, octets, VERSION, 'm', arena);

	if (rc < 0)
		return rc;
	m.kind = (enum measure_kind)decoder_upto(&d, 1, MEASURE_SUSPEND);
	m.scope = (enum response_scope)decoder_upto(&d, 1, SCOPE_DOMAIN);
	m.place = decoder_span(&d, MEASURE_PLACE_MAX);
	m.name = decoder_span(&d, MEASURE_PLACE_MAX);
	m.rule = decoder_span(&d, MEASURE_PLACE_MAX);
	m.reason = decoder_span(&d, MEASURE_PLACE_MAX);
	m.since_ms = (int64_t)decoder_upto(&d, 8, MEASURE_FOR_GOOD_MS);
	m.until_ms = (int64_t)decoder_upto(&d, 8, MEASURE_FOR_GOOD_MS);
	m.count = decoder_number(&d, 8);
	m.factor = (uint32_t)decoder_upto(&d, 4, RESPONSE_FACTOR_MAX);
	m.for_ms = (int64_t)decoder_upto(&d, 8, MEASURE_FOR_GOOD_MS);
	m.step_ms = (int64_t)decoder_upto(&d, 8, MEASURE_FOR_GOOD_MS);
	m.connections = decoder_number(&d, 4);
	m.per_minute = decoder_number(&d, 4);
	if (m.scope == SCOPE_NONE || (m.kind == MEASURE_SLOW && m.factor < 2))
		d.bad = true;
	rc = decoder_end(&d);
	if (rc == 0)
		*ret = m;
	return rc;
}

struct span
measure_text(const struct measure *m, int64_t now, struct arena *arena)
{
	struct span rule = m->rule.len > 0 ? m->rule : SPAN("by hand");
	uint32_t factor = measure_factor(m, now);

	if (m->kind == MEASURE_SLOW)
		return arena_printf(arena, "%.*s: slower by %u.%u: %.*s", SPAN_FMT(rule),
				    factor / MEASURE_UNIT,
				    factor % MEASURE_UNIT * 10 / MEASURE_UNIT, SPAN_FMT(m->reason));
	return arena_printf(arena, "%.*s: %s%s%.*s is suspended: %.*s", SPAN_FMT(rule),
			    response_scope_name(m->scope), m->name.len > 0 ? " " : "",
			    SPAN_FMT(m->name), SPAN_FMT(m->reason));
}
