/* hold_reason: see hold_reason.h. */
#include "mta/outbound/explain/hold_reason.h"

#include "mta/base/buf.h"

const char *
hold_kind_name(enum hold_kind kind)
{
	static const char *const names[HOLD_KINDS] = {
		[HOLD_STOPPING] = "stopping",
		[HOLD_DISK] = "disk",
		[HOLD_OPERATOR] = "hold",
		[HOLD_LOOKUP] = "look-up",
		[HOLD_LOOKUP_FAILED] = "look-up-failed",
		[HOLD_RESOLVER] = "resolver",
		[HOLD_SUSPENDED] = "suspended",
		[HOLD_BACKOFF] = "back-off",
		[HOLD_PROBE] = "probe",
		[HOLD_SHAPE] = "shape",
		[HOLD_SLOWED] = "slowed",
		[HOLD_WARM_UP] = "warm-up",
		[HOLD_SOURCE] = "source",
		[HOLD_CONNECTIONS] = "connections",
		[HOLD_DELIVERIES] = "deliveries",
		[HOLD_PAUSE] = "pause",
		[HOLD_CONCURRENCY] = "concurrency",
		[HOLD_TENANT] = "tenant",
	};

	return names[kind];
}

struct hold_reason *
hold_add(struct hold_reasons *why, enum hold_kind kind)
{
	struct hold_reason *r =
		why->count < HOLD_REASONS_MAX ? &why->list[why->count++] : &why->spare;

	*r = (struct hold_reason){ .kind = kind };
	return r;
}

void
hold_number(struct hold_reason *reason, const char *name, int64_t value)
{
	if (reason->number_count < HOLD_NUMBERS_MAX)
		reason->numbers[reason->number_count++] = (struct hold_number){ name, value };
}

bool
holds_have(const struct hold_reasons *why, enum hold_kind kind)
{
	for (size_t i = 0; i < why->count; i++)
		if (why->list[i].kind == kind)
			return true;
	return false;
}

const struct hold_reason *
hold_first(const struct hold_reasons *why)
{
	for (size_t i = 0; i < why->count; i++)
		if (why->list[i].kind != HOLD_SLOWED)
			return &why->list[i];
	return NULL;
}

int64_t
hold_until(const struct hold_reasons *why)
{
	int64_t until = 0, either = 0;

	for (size_t i = 0; i < why->count; i++) {
		const struct hold_reason *r = &why->list[i];

		if (r->kind == HOLD_SLOWED || r->until_ms == 0)
			continue;
		if (!r->either)
			until = r->until_ms > until ? r->until_ms : until;
		else if (either == 0 || r->until_ms < either)
			either = r->until_ms;
	}
	return until > either ? until : either;
}

/* A peer's words may be in it: what is no UTF-8, or a control octet, becomes '?'. */
static json_t *
text_of(struct span text)
{
	struct buf safe = { 0 };
	json_t *string = text.len > 0 ? json_stringn(text.at, text.len) : json_string("");

	if (string != NULL)
		return string;
	for (size_t i = 0; i < text.len; i++)
		buf_byte(&safe, (unsigned char)text.at[i] < 0x80 ? text.at[i] : '?');
	string = json_stringn(safe.at + safe.start, buf_len(&safe));
	buf_free(&safe);
	return string;
}

json_t *
hold_json(const struct hold_reason *r)
{
	json_t *object = json_object();

	json_object_set_new(object, "kind", json_string(hold_kind_name(r->kind)));
	if (r->what.len > 0)
		json_object_set_new(object, "what", text_of(r->what));
	json_object_set_new(object, "text", text_of(r->text));
	if (r->since_ms != 0)
		json_object_set_new(object, "since_ms", json_integer(r->since_ms));
	if (r->until_ms != 0)
		json_object_set_new(object, "until_ms", json_integer(r->until_ms));
	for (size_t i = 0; i < r->number_count; i++)
		json_object_set_new(object, r->numbers[i].name, json_integer(r->numbers[i].value));
	return object;
}

json_t *
holds_json(const struct hold_reasons *why)
{
	json_t *array = json_array();

	for (size_t i = 0; i < why->count; i++)
		json_array_append_new(array, hold_json(&why->list[i]));
	return array;
}
