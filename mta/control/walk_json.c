/* walk_json: what a walk meets, as objects. Pure; any thread. */
#include "mta/base/id.h"
#include "mta/control/text.h"
#include "mta/control/walk.h"

static void
set_text(json_t *object, const char *key, struct span text)
{
	if (text.len > 0)
		json_object_set_new(object, key, json_text(text));
}

static void
set_number(json_t *object, const char *key, uint64_t n)
{
	json_object_set_new(object, key, json_integer((json_int_t)n));
}

json_t *
walk_attempt_json(const struct attempt *a)
{
	json_t *object = json_object();
	char status[16];

	json_object_set_new(object, "at_ms", json_integer(a->at_ms));
	set_text(object, "host", a->host);
	set_text(object, "address", a->address);
	set_number(object, "stage", a->stage);
	if (a->code > 0)
		set_number(object, "code", a->code);
	if (a->status.klass > 0)
		json_object_set_new(object, "status",
				    json_string(status_format(a->status, status)));
	set_text(object, "text", a->text);
	set_text(object, "source", a->source);
	set_text(object, "tls", a->tls);
	set_text(object, "tls_policy", a->tls_policy);
	if (a->tls_resumed)
		json_object_set_new(object, "tls_resumed", json_true());
	return object;
}

json_t *
walk_attempts_json(const struct history_record *h)
{
	json_t *array = json_array();

	for (size_t i = 0; i < h->kept; i++)
		json_array_append_new(array, walk_attempt_json(&h->attempts[i]));
	return array;
}

static void
set_id(json_t *object, uint64_t id)
{
	char text[ID_TEXT_LEN + 1];

	json_object_set_new(object, "id", json_string(id_format(id, text)));
}

json_t *
walk_message_json(uint64_t id, const struct queue_message *m)
{
	json_t *object = json_object();
	size_t open = 0;

	for (size_t i = 0; i < m->envelope.recipient_count; i++)
		open += m->open[i];
	set_id(object, id);
	json_object_set_new(object, "reverse_path", json_text(m->envelope.reverse_path));
	json_object_set_new(object, "arrival_ms", json_integer(m->record.arrival_ms));
	set_number(object, "header_size", m->record.header_size);
	set_number(object, "body_size", m->record.body_size);
	set_number(object, "flags", m->record.flags);
	set_text(object, "client", m->record.client);
	set_text(object, "user", m->record.user);
	if ((m->record.flags & MESSAGE_REQUIRETLS) != 0)
		json_object_set_new(object, "requiretls", json_true());
	if ((m->record.flags & MESSAGE_TLS_OPTIONAL) != 0)
		json_object_set_new(object, "tls_required", json_string("no"));
	if (m->envelope.priority != 0)
		json_object_set_new(object, "priority", json_integer(m->envelope.priority));
	if ((m->record.flags & MESSAGE_RELEASED) != 0)
		json_object_set_new(object, "release_ms", json_integer(m->record.due_ms));
	if (m->envelope.by_mode != BY_NONE) {
		json_object_set_new(object, "by_ms", json_integer(m->envelope.by_ms));
		json_object_set_new(object, "by_mode",
				    json_string(m->envelope.by_mode == BY_RETURN ? "return"
										 : "notify"));
		if (m->envelope.by_trace)
			json_object_set_new(object, "by_trace", json_true());
	}
	set_text(object, "envid", m->envelope.envid);
	set_number(object, "ret", m->envelope.ret);
	set_number(object, "body", m->envelope.body);
	json_object_set_new(object, "smtputf8", json_boolean(m->envelope.smtputf8));
	set_number(object, "recipients", m->envelope.recipient_count);
	set_number(object, "open", open);
	return object;
}

json_t *
walk_row_json(const struct walk_row *row)
{
	const struct queue_message *m = row->message;
	const struct recipient *r = &m->envelope.recipients[row->recipient];
	json_t *object = json_object();

	set_id(object, row->id);
	json_object_set_new(object, "sender", json_text(m->envelope.reverse_path));
	set_number(object, "size", m->record.header_size + m->record.body_size);
	json_object_set_new(object, "arrival_ms", json_integer(m->record.arrival_ms));
	json_object_set_new(object, "recipient", json_text(r->address));
	set_number(object, "number", row->recipient);
	json_object_set_new(object, "state", json_string(control_state_name(row->state)));
	if (row->state == CONTROL_WAITING || row->state == CONTROL_IN_FLIGHT)
		json_object_set_new(object, "due_ms", json_integer(row->history.due_ms));
	if (row->state == CONTROL_WAITING)
		json_object_set_new(object, "next_ms", json_integer(row->next_ms));
	set_number(object, "attempts", row->history.attempt_count);
	set_text(object, "error", row->error);
	if (row->in_flight != NULL)
		json_object_set_new(object, "in_flight", json_text(span_str(row->in_flight)));
	if (row->history.uncertain)
		json_object_set_new(object, "uncertain", json_true());
	return object;
}

json_t *
walk_recipient_json(const struct recipient *r, const struct history_record *h,
		    const struct lane_name *lane)
{
	json_t *object = json_object(), *outer = json_object();
	uint64_t state = h->state == HISTORY_HELD   ? CONTROL_HELD
			 : h->state == HISTORY_OWED ? CONTROL_OWED
						    : CONTROL_WAITING;

	json_object_set_new(object, "address", json_text(r->address));
	set_text(object, "orcpt", r->orcpt);
	set_number(object, "notify", r->notify);
	json_object_set_new(object, "state", json_string(control_state_name(state)));
	if (state == CONTROL_WAITING && h->due_ms > 0)
		json_object_set_new(object, "due_ms", json_integer(h->due_ms));
	if (state == CONTROL_OWED)
		set_number(object, "action", h->action);
	if (lane != NULL) {
		set_text(object, "tenant", lane->tenant);
		set_text(object, "pool", lane->pool);
		json_object_set_new(object, "priority", json_integer(priority_mt(lane->priority)));
	}
	if (h->uncertain)
		json_object_set_new(object, "uncertain", json_true());
	if (h->warned)
		json_object_set_new(object, "warned", json_true());
	if (h->attempt_count > 0)
		set_number(object, "attempts", h->attempt_count);
	if (h->kept > 0)
		json_object_set_new(object, "tries", walk_attempts_json(h));
	json_object_set_new(outer, "recipient", object);
	return outer;
}

json_t *
walk_exported_json(const struct walk *walk, const struct walk_row *row)
{
	struct arena scratch = { 0 };
	struct lane_record lane;
	int rc = queue_read_lane(walk->source.port, row->history.lane, &scratch, &lane);
	json_t *object = walk_recipient_json(&row->message->envelope.recipients[row->recipient],
					     &row->history, rc == 0 ? &lane.name : NULL);

	arena_free(&scratch);
	return object;
}
