/* record_lane: the stored form of lanes and sites; see record.h. Pure; any thread. */
#include "queue/record_codec.h"

static void
put_backoff(struct encoder *e, const struct backoff *b)
{
	put_time(e, b->next_ms);
	put_number(e, b->failures, 4);
	put_span(e, b->text);
}

static void
take_backoff(struct decoder *d, struct backoff *b)
{
	b->next_ms = take_time(d);
	b->failures = take_u32(d);
	b->text = take_span(d);
}

void
lane_record_encode(const struct lane_record *r, struct buf *out)
{
	struct encoder e = encode_begin(out, KIND_LANE);

	put_span(&e, r->name.tenant);
	put_span(&e, r->name.domain);
	put_span(&e, r->name.route);
	put_span(&e, r->name.pool);
	put_number(&e, r->name.priority, 1);
	put_number(&e, r->count, 8);
	put_number(&e, r->site, 8);
	put_time(&e, r->site_until_ms);
	put_time(&e, r->asleep_ms);
	put_backoff(&e, &r->backoff);
	put_number(&e, r->hold, 1);
	encode_end(&e);
}

int
lane_record_decode(struct span octets, struct arena *arena, struct lane_record *ret)
{
	struct lane_record lane = { 0 };
	struct decoder d;
	int r = decode_begin(octets, KIND_LANE, &d);

	if (r < 0)
		return r;
	if (arena != NULL)
		d.left = arena_copy(arena, d.left);
	lane.name.tenant = take_span(&d);
	lane.name.domain = take_span(&d);
	lane.name.route = take_span(&d);
	lane.name.pool = take_span(&d);
	lane.name.priority = take_u8(&d);
	lane.count = take_u64(&d);
	lane.site = take_u64(&d);
	lane.site_until_ms = take_time(&d);
	lane.asleep_ms = take_time(&d);
	take_backoff(&d, &lane.backoff);
	lane.hold = take_bool(&d);
	r = decode_end(&d);
	if (r == 0)
		*ret = lane;
	return r;
}

void
site_record_encode(const struct site_record *r, struct buf *out)
{
	struct encoder e = encode_begin(out, KIND_SITE);

	put_span(&e, r->key);
	put_number(&e, r->lanes, 8);
	put_time(&e, r->wake_ms);
	put_backoff(&e, &r->state.backoff);
	put_time(&e, r->state.last.at_ms);
	put_span(&e, r->state.last.host);
	put_span(&e, r->state.last.text);
	put_number(&e, r->state.suspended, 1);
	put_number(&e, r->state.concurrency, 4);
	encode_end(&e);
}

int
site_record_decode(struct span octets, struct arena *arena, struct site_record *ret)
{
	struct site_record site = { 0 };
	struct decoder d;
	int r = decode_begin(octets, KIND_SITE, &d);

	if (r < 0)
		return r;
	if (arena != NULL)
		d.left = arena_copy(arena, d.left);
	site.key = take_span(&d);
	site.lanes = take_u64(&d);
	site.wake_ms = take_time(&d);
	take_backoff(&d, &site.state.backoff);
	site.state.last.at_ms = take_time(&d);
	site.state.last.host = take_span(&d);
	site.state.last.text = take_span(&d);
	site.state.suspended = take_bool(&d);
	site.state.concurrency = take_u32(&d);
	r = decode_end(&d);
	if (r == 0)
		*ret = site;
	return r;
}
