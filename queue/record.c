/*
 * record: the stored form of messages, histories and the state of the store; see record.h, and
 * record_codec.h for the form of a record. Pure; any thread.
 */
#include "queue/record_codec.h"

/* ---- message ------------------------------------------------------------------------------ */

/* What those who settle need stands first; the rest follows. */
void
message_record_encode(const struct message_record *r, const struct envelope *envelope,
		      const uint64_t *lanes, struct buf *out)
{
	bool wishes = envelope->priority != 0 || envelope->by_mode != BY_NONE;
	uint8_t version = wishes ? MESSAGE_VERSION : r->user.len > 0 ? 2 : 1;
	struct encoder e = encode_begin_as(out, KIND_MESSAGE, version);

	assert(envelope->recipient_count <= UINT32_MAX && r->crc_count <= UINT32_MAX);
	put_number(&e, r->id, 8);
	put_number(&e, r->body, 8);
	put_time(&e, r->arrival_ms);
	put_time(&e, r->due_ms);
	put_number(&e, r->flags, 4);
	put_number(&e, r->header_size, 8);
	put_number(&e, r->body_size, 8);
	put_span(&e, r->client);
	if (wishes) {
		put_time(&e, envelope->by_ms);
		put_number(&e, envelope->by_mode, 1);
	}
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
	if (version >= 2)
		put_span(&e, r->user);
	if (wishes) {
		put_number(&e, envelope->by_trace, 1);
		put_number(&e, (uint8_t)envelope->priority, 1);
	}
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
	if (d->version >= 3) {
		r->by_ms = take_time(d);
		r->by_mode = take_enum(d, BY_NOTIFY);
	}
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
	if (d.version >= 2)
		message.user = take_span(&d);
	if (d.version == 2 && message.user.len == 0)
		d.bad = true;
	if (d.version >= 3) {
		envelope.by_ms = message.by_ms;
		envelope.by_mode = message.by_mode;
		envelope.by_trace = take_bool(&d);
		envelope.priority = (int8_t)take_u8(&d);
	}
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

/* ---- history ------------------------------------------------------------------------------ */

static void
put_attempt(struct encoder *e, const struct attempt *a, uint8_t version)
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
	put_span(e, a->tls);
	put_span(e, a->tls_policy);
	put_number(e, a->tls_resumed, 1);
	if (version >= 3)
		put_span(e, a->source);
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
	a->tls = a->tls_policy = a->source = (struct span){ 0 };
	a->tls_resumed = false;
	if (d->version < 2)
		return;
	a->tls = take_span(d);
	a->tls_policy = take_span(d);
	a->tls_resumed = take_bool(d);
	if (d->version >= 3)
		a->source = take_span(d);
}

static bool
any_source(const struct history_record *r)
{
	for (size_t i = 0; i < r->kept; i++)
		if (r->attempts[i].source.len > 0)
			return true;
	return false;
}

void
history_record_encode(const struct history_record *r, struct buf *out)
{
	uint8_t version = any_source(r) ? HISTORY_VERSION : HISTORY_VERSION - 1;
	struct encoder e = encode_begin_as(out, KIND_HISTORY, version);

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
		put_attempt(&e, &r->attempts[i], version);
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

bool
left_valid(struct span octets)
{
	struct decoder d;

	return decode_begin(octets, KIND_LEFT, &d) == 0;
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

void
note_record_encode(struct span value, struct buf *out)
{
	struct encoder e = encode_begin(out, KIND_NOTE);

	put_span(&e, value);
	encode_end(&e);
}

int
note_record_decode(struct span octets, struct span *ret_value)
{
	struct span value;
	struct decoder d;
	int r = decode_begin(octets, KIND_NOTE, &d);

	if (r < 0)
		return r;
	value = take_span(&d);
	r = decode_end(&d);
	if (r == 0)
		*ret_value = value;
	return r;
}
