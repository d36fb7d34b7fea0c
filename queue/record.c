/*
 * record: the stored form of messages, lanes, sites, histories; see record.h. Pure; any thread.
 *
 * A record is: version, kind (one octet each), fields, CRC-32C. Numbers are big-endian and of
 * fixed width, octet strings carry a length of 32 bits. Encoding goes straight into a buf.
 * Decoding checks the CRC first; then each take_…() either delivers or marks the whole record
 * bad (`bad`, looked at once at the end), so that no length is ever trusted. A later version may
 * only be read by a program that knows it: -EPROTO.
 */
#include "queue/record.h"

#include <assert.h>
#include <errno.h>

enum { VERSION = 1, FRAME = 2 + 4 };	/* version, kind, CRC */
enum kind {
	KIND_MESSAGE = 'M',
	KIND_LANE = 'L',
	KIND_SITE = 'S',
	KIND_HISTORY = 'H',
	KIND_LEFT = 'O',
	KIND_META = 'T'
};

/* ---- encoding ----------------------------------------------------------------------------- */

struct encoder {
	struct buf *out;
	size_t from;			/* where the record starts in out's unread part */
};

static void
put_number(struct encoder *e, uint64_t value, size_t octets)
{
	char *at = buf_reserve(e->out, octets);

	for (size_t i = 0; i < octets; i++)
		at[i] = (char)(value >> (8 * (octets - 1 - i)) & 255);
	buf_grew(e->out, octets);
}

static void
put_time(struct encoder *e, int64_t ms)
{
	put_number(e, (uint64_t)ms, 8);
}

static void
put_span(struct encoder *e, struct span s)
{
	assert(s.len <= UINT32_MAX);
	put_number(e, (uint32_t)s.len, 4);
	buf_append(e->out, s);
}

static struct encoder
encode_begin(struct buf *out, enum kind kind)
{
	struct encoder e = { out, buf_len(out) };

	put_number(&e, VERSION, 1);
	put_number(&e, (uint8_t)kind, 1);
	return e;
}

static void
encode_end(struct encoder *e)
{
	struct span record = span_skip(buf_span(e->out), e->from);

	put_number(e, crc32c(0, record.at, record.len), 4);
}

/* ---- decoding ----------------------------------------------------------------------------- */

struct decoder {
	struct span left;
	bool bad;
};

static uint64_t
take_number(struct decoder *d, size_t octets)
{
	uint64_t value = 0;

	if (d->left.len < octets) {
		d->bad = true;
		d->left.len = 0;
		return 0;
	}
	for (size_t i = 0; i < octets; i++)
		value = value << 8 | (unsigned char)d->left.at[i];
	d->left = span_skip(d->left, octets);
	return value;
}

static uint8_t
take_u8(struct decoder *d)
{
	return (uint8_t)take_number(d, 1);
}

static uint16_t
take_u16(struct decoder *d)
{
	return (uint16_t)take_number(d, 2);
}

static uint32_t
take_u32(struct decoder *d)
{
	return (uint32_t)take_number(d, 4);
}

static uint64_t
take_u64(struct decoder *d)
{
	return take_number(d, 8);
}

static int64_t
take_time(struct decoder *d)
{
	return (int64_t)take_number(d, 8);
}

static bool
take_bool(struct decoder *d)
{
	uint8_t v = take_u8(d);

	if (v > 1)
		d->bad = true;
	return v == 1;
}

static uint8_t
take_enum(struct decoder *d, uint8_t max)
{
	uint8_t v = take_u8(d);

	if (v > max)
		d->bad = true;
	return v <= max ? v : 0;
}

static struct span
take_span(struct decoder *d)
{
	size_t len = take_u32(d);
	struct span s = { d->left.at, len };

	if (d->left.len < len) {
		d->bad = true;
		d->left.len = 0;
		return (struct span){ "", 0 };
	}
	d->left = span_skip(d->left, len);
	return s;
}

/* A count of things of at least so many octets each: more than can be there is bad. */
static size_t
take_count(struct decoder *d, size_t octets_each)
{
	size_t count = take_u32(d);

	if (count > d->left.len / octets_each) {
		d->bad = true;
		return 0;
	}
	return count;
}

static int
decode_begin(struct span octets, enum kind kind, struct decoder *d)
{
	const unsigned char *crc;

	if (octets.len < FRAME)
		return -EBADMSG;
	crc = (const unsigned char *)octets.at + octets.len - 4;
	if (crc32c(0, octets.at, octets.len - 4) !=
	    ((uint32_t)crc[0] << 24 | (uint32_t)crc[1] << 16 | (uint32_t)crc[2] << 8 |
	     (uint32_t)crc[3]))
		return -EBADMSG;
	if ((unsigned char)octets.at[0] > VERSION)
		return -EPROTO;
	if (octets.at[0] == 0 || octets.at[1] != (char)kind)
		return -EBADMSG;
	*d = (struct decoder){ span_of(octets.at + 2, octets.len - FRAME), false };
	return 0;
}

static int
decode_end(const struct decoder *d)
{
	return d->bad || d->left.len > 0 ? -EBADMSG : 0;
}

/* ---- message ------------------------------------------------------------------------------ */

/* What those who settle need stands first; the rest follows. */
void
message_record_encode(const struct message_record *r, const struct envelope *envelope,
		      const uint64_t *lanes, struct buf *out)
{
	struct encoder e = encode_begin(out, KIND_MESSAGE);

	assert(envelope->recipient_count <= UINT32_MAX && r->crc_count <= UINT32_MAX);
	put_number(&e, r->id, 8);
	put_number(&e, r->body, 8);
	put_time(&e, r->arrival_ms);
	put_time(&e, r->due_ms);
	put_number(&e, r->flags, 4);
	put_number(&e, r->header_size, 8);
	put_number(&e, r->body_size, 8);
	put_span(&e, r->client);
	put_span(&e, envelope->reverse_path);
	put_number(&e, (uint32_t)envelope->recipient_count, 4);
	for (size_t i = 0; i < envelope->recipient_count; i++) {
		put_span(&e, envelope->recipients[i].address);
		put_span(&e, envelope->recipients[i].orcpt);
		put_number(&e, envelope->recipients[i].notify, 1);
		put_number(&e, lanes[i], 8);
	}
	put_span(&e, envelope->envid);
	put_number(&e, envelope->ret, 1);
	put_number(&e, envelope->body, 1);
	put_number(&e, envelope->smtputf8, 1);
	put_number(&e, (uint32_t)r->crc_count, 4);
	for (size_t i = 0; i < r->crc_count; i++)
		put_number(&e, r->crcs[i], 4);
	encode_end(&e);
}

/* Up to the number of recipients, which is left to be taken. */
static void
take_message_head(struct decoder *d, struct message_record *r, struct span *reverse_path)
{
	*r = (struct message_record){ 0 };
	r->id = take_u64(d);
	r->body = take_u64(d);
	r->arrival_ms = take_time(d);
	r->due_ms = take_time(d);
	r->flags = take_u32(d);
	r->header_size = take_u64(d);
	r->body_size = take_u64(d);
	r->client = take_span(d);
	*reverse_path = take_span(d);
}

int
message_record_peek(struct span octets, struct message_record *ret, struct span *ret_reverse_path,
		    uint32_t *ret_recipients)
{
	struct decoder d;
	int r = decode_begin(octets, KIND_MESSAGE, &d);

	if (r < 0)
		return r;
	take_message_head(&d, ret, ret_reverse_path);
	*ret_recipients = (uint32_t)take_count(&d, 4 + 4 + 1 + 8);
	return d.bad ? -EBADMSG : 0;
}

static void
take_recipients(struct decoder *d, struct arena *arena, struct envelope *envelope,
		uint64_t **ret_lanes)
{
	size_t count = take_count(d, 4 + 4 + 1 + 8);

	envelope->recipients = arena_alloc(arena, count * sizeof(*envelope->recipients));
	envelope->recipient_count = count;
	*ret_lanes = arena_alloc(arena, count * sizeof(**ret_lanes));
	for (size_t i = 0; i < count && !d->bad; i++) {
		envelope->recipients[i].address = take_span(d);
		envelope->recipients[i].orcpt = take_span(d);
		envelope->recipients[i].notify = take_u8(d);
		(*ret_lanes)[i] = take_u64(d);
	}
}

int
message_record_decode(struct span octets, struct arena *arena, struct message_record *ret,
		      struct envelope *ret_envelope, uint64_t **ret_lanes)
{
	struct message_record message;
	struct envelope envelope = { 0 };
	struct decoder d;
	uint64_t *lanes;
	int r = decode_begin(octets, KIND_MESSAGE, &d);

	if (r < 0)
		return r;
	d.left = arena_copy(arena, d.left);
	take_message_head(&d, &message, &envelope.reverse_path);
	take_recipients(&d, arena, &envelope, &lanes);
	envelope.envid = take_span(&d);
	envelope.ret = take_enum(&d, RET_HDRS);
	envelope.body = take_enum(&d, BODY_BINARYMIME);
	envelope.smtputf8 = take_bool(&d);
	message.crc_count = take_count(&d, 4);
	message.crcs = arena_alloc(arena, message.crc_count * sizeof(*message.crcs));
	for (size_t i = 0; i < message.crc_count; i++)
		message.crcs[i] = take_u32(&d);
	if (message.crc_count != body_record_count(message.header_size, message.body_size))
		d.bad = true;
	r = decode_end(&d);
	if (r < 0)
		return r;
	*ret = message;
	*ret_envelope = envelope;
	*ret_lanes = lanes;
	return 0;
}

uint64_t
body_record_count(uint64_t header_size, uint64_t body_size)
{
	if (header_size <= QUEUE_CHUNK && body_size <= QUEUE_CHUNK - header_size)
		return 1;
	return 1 + body_size / QUEUE_CHUNK + (body_size % QUEUE_CHUNK != 0);
}

/* ---- lane and site ------------------------------------------------------------------------ */

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

/* ---- history ------------------------------------------------------------------------------ */

static void
put_attempt(struct encoder *e, const struct attempt *a)
{
	put_time(e, a->at_ms);
	put_span(e, a->host);
	put_span(e, a->address);
	put_number(e, a->stage, 1);
	put_number(e, a->code, 2);
	put_number(e, a->status.klass, 1);
	put_number(e, a->status.subject, 2);
	put_number(e, a->status.detail, 2);
	put_span(e, span_first(a->text, 1000));
}

static void
take_attempt(struct decoder *d, struct attempt *a)
{
	a->at_ms = take_time(d);
	a->host = take_span(d);
	a->address = take_span(d);
	a->stage = take_u8(d);
	a->code = take_u16(d);
	a->status.klass = take_u8(d);
	a->status.subject = take_u16(d);
	a->status.detail = take_u16(d);
	a->text = take_span(d);
}

void
history_record_encode(const struct history_record *r, struct buf *out)
{
	struct encoder e = encode_begin(out, KIND_HISTORY);

	assert(r->kept <= HISTORY_FIRST + HISTORY_LAST);
	put_number(&e, r->state, 1);
	put_number(&e, r->uncertain, 1);
	put_number(&e, r->warned, 1);
	put_number(&e, r->lane, 8);
	put_time(&e, r->due_ms);
	put_time(&e, r->owed_since_ms);
	put_number(&e, r->action, 1);
	put_number(&e, r->attempt_count, 4);
	put_number(&e, (uint32_t)r->kept, 4);
	for (size_t i = 0; i < r->kept; i++)
		put_attempt(&e, &r->attempts[i]);
	encode_end(&e);
}

int
history_record_decode(struct span octets, struct arena *arena, struct history_record *ret)
{
	struct history_record history = { 0 };
	struct decoder d;
	int r = decode_begin(octets, KIND_HISTORY, &d);

	if (r < 0)
		return r;
	d.left = arena_copy(arena, d.left);
	history.state = take_enum(&d, HISTORY_OWED);
	history.uncertain = take_bool(&d);
	history.warned = take_bool(&d);
	history.lane = take_u64(&d);
	history.due_ms = take_time(&d);
	history.owed_since_ms = take_time(&d);
	history.action = take_enum(&d, REPORT_EXPANDED);
	history.attempt_count = take_u32(&d);
	history.kept = take_count(&d, 8 + 4 + 4 + 1 + 2 + 5 + 4);
	if (history.kept > HISTORY_FIRST + HISTORY_LAST)
		return -EBADMSG;
	history.attempts = arena_alloc(arena, history.kept * sizeof(*history.attempts));
	for (size_t i = 0; i < history.kept; i++)
		take_attempt(&d, &history.attempts[i]);
	r = decode_end(&d);
	if (r == 0)
		*ret = history;
	return r;
}

void
history_add_attempt(struct history_record *r, const struct attempt *attempt, struct arena *arena)
{
	struct attempt *all = arena_alloc(arena, (r->kept + 1) * sizeof(*all));

	for (size_t i = 0; i < r->kept; i++)
		all[i] = r->attempts[i];
	if (r->kept == HISTORY_FIRST + HISTORY_LAST) {
		for (size_t i = HISTORY_FIRST; i + 1 < r->kept; i++)
			all[i] = all[i + 1];
		r->kept--;
	}
	all[r->kept++] = *attempt;
	r->attempts = all;
	r->attempt_count++;
}

/* ---- the small ones ----------------------------------------------------------------------- */

void
left_encode(const bool *open, size_t count, struct buf *out)
{
	struct encoder e = encode_begin(out, KIND_LEFT);

	for (size_t i = 0; i < count; i += 8) {
		uint8_t bits = 0;

		for (size_t k = i; k < count && k < i + 8; k++)
			bits |= (uint8_t)(open[k] << (k - i));
		put_number(&e, bits, 1);
	}
	encode_end(&e);
}

int
left_decode(struct span octets, size_t count, bool *open)
{
	struct decoder d;
	int r = decode_begin(octets, KIND_LEFT, &d);

	if (r < 0)
		return r;
	if (d.left.len != count / 8 + (count % 8 != 0))
		return -EBADMSG;
	for (size_t i = 0; i < count; i++)
		open[i] = (unsigned char)d.left.at[i / 8] >> (i % 8) & 1;
	return 0;
}

void
meta_record_encode(const struct meta_record *r, struct buf *out)
{
	struct encoder e = encode_begin(out, KIND_META);

	put_number(&e, r->last_id, 8);
	put_number(&e, r->messages, 8);
	put_number(&e, r->live_bytes, 8);
	put_number(&e, r->next_lane, 8);
	put_number(&e, r->next_site, 8);
	put_number(&e, r->next_batch, 8);
	put_number(&e, r->expiry_id, 8);
	put_number(&e, r->delay_id, 8);
	put_time(&e, r->last_commit_ms);
	put_number(&e, r->clean, 1);
	encode_end(&e);
}

int
meta_record_decode(struct span octets, struct meta_record *ret)
{
	struct meta_record meta = { 0 };
	struct decoder d;
	int r = decode_begin(octets, KIND_META, &d);

	if (r < 0)
		return r;
	meta.last_id = take_u64(&d);
	meta.messages = take_u64(&d);
	meta.live_bytes = take_u64(&d);
	meta.next_lane = take_u64(&d);
	meta.next_site = take_u64(&d);
	meta.next_batch = take_u64(&d);
	meta.expiry_id = take_u64(&d);
	meta.delay_id = take_u64(&d);
	meta.last_commit_ms = take_time(&d);
	meta.clean = take_bool(&d);
	r = decode_end(&d);
	if (r == 0)
		*ret = meta;
	return r;
}
