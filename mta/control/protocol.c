/*
 * protocol: see protocol.h. Two tables, and one loop in each direction over them.
 */
#include "mta/control/protocol.h"

#include <assert.h>
#include <inttypes.h>
#include <jansson.h>

#include "mta/base/id.h"
#include "mta/control/text.h"
#include "queue/record.h"

enum { DEPTH_MAX = 4 };

/* Which members a command takes. */
enum members {
	TAKES_IDS = 1,
	TAKES_FILTER = 2,
	TAKES_LIMIT = 4,
	TAKES_ALL = 8,
	TAKES_SITE = 16,
	TAKES_OFF = 32,
	TAKES_MESSAGE = 64,
	TAKES_RECIPIENT = 128,
	TAKES_DATA = 256,
	TAKES_ATTEMPT = 512,
	TAKES_CLIENT = 1024,
	TAKES_GOAL = 2048,
	TAKES_SUPPRESSED = 4096,
	TAKES_ENTRY = 8192,
	TAKES_MAIL = 16384,
	TAKES_TOP = 32768,
	TAKES_PART = 65536,
	TAKES_PRIORITY = 131072,
	TAKES_SELECTION = TAKES_IDS | TAKES_FILTER | TAKES_ALL,
};

static const struct command {
	const char *name;
	bool changes;
	unsigned takes;			/* enum members */
	bool one_id;			/* exactly one */
	bool must_select;		/* ids, a filter, or "all" */
} commands[CONTROL_COMMAND_COUNT] = {
	[CONTROL_QUEUE_LIST] = { "queue-list", false, TAKES_SELECTION | TAKES_LIMIT, false, false },
	[CONTROL_QUEUE_SHOW] = { "queue-show", false, TAKES_IDS, true, true },
	[CONTROL_QUEUE_CAT] = { "queue-cat", false, TAKES_IDS, true, true },
	[CONTROL_QUEUE_HOLD] = { "queue-hold", true, TAKES_SELECTION, false, true },
	[CONTROL_QUEUE_RELEASE] = { "queue-release", true, TAKES_SELECTION, false, true },
	[CONTROL_QUEUE_RETRY] = { "queue-retry", true, TAKES_SELECTION, false, true },
	[CONTROL_QUEUE_BOUNCE] = { "queue-bounce", true, TAKES_SELECTION, false, true },
	[CONTROL_QUEUE_REMOVE] = { "queue-remove", true, TAKES_SELECTION, false, true },
	[CONTROL_QUEUE_SET] = { "queue-set", true, TAKES_SELECTION | TAKES_PRIORITY, false, true },
	[CONTROL_QUEUE_EXPORT] = { "queue-export", true, TAKES_SELECTION, false, true },
	[CONTROL_EXPLAIN] = { "explain", false, TAKES_IDS, true, true },
	[CONTROL_SITES] = { "sites", false, TAKES_LIMIT | TAKES_SITE, false, false },
	[CONTROL_SITES_RETRY] = { "sites-retry", true, TAKES_SITE | TAKES_ALL, false, false },
	[CONTROL_SITES_MEASURES] = { "sites-measures", false, TAKES_LIMIT, false, false },
	[CONTROL_SITES_SUSPEND] = { "sites-suspend", true, TAKES_SITE | TAKES_PART | TAKES_ENTRY,
				    false, false },
	[CONTROL_SITES_RESUME] = { "sites-resume", true, TAKES_SITE | TAKES_PART, false, false },
	[CONTROL_SITES_RESET] = { "sites-reset", true, TAKES_SITE, false, false },
	[CONTROL_SESSIONS] = { "sessions", false, TAKES_LIMIT, false, false },
	[CONTROL_STATS] = { "stats", false, 0, false, false },
	[CONTROL_CERTS] = { "certs", false, 0, false, false },
	[CONTROL_SOURCES] = { "sources", false, 0, false, false },
	[CONTROL_BANS] = { "bans", false, TAKES_LIMIT, false, false },
	[CONTROL_PARDON] = { "pardon", true, TAKES_CLIENT, false, false },
	[CONTROL_TLS_CHECK] = { "tls-check", false, TAKES_GOAL, false, false },
	[CONTROL_DNS_RECORDS] = { "dns-records", false, TAKES_GOAL, false, false },
	[CONTROL_SUPPRESS_LIST] = { "suppress-list", false, TAKES_LIMIT, false, false },
	[CONTROL_SUPPRESS_ADD] = { "suppress-add", true, TAKES_SUPPRESSED | TAKES_ENTRY, false,
				   false },
	[CONTROL_SUPPRESS_REMOVE] = { "suppress-remove", true, TAKES_SUPPRESSED, false, false },
	[CONTROL_TLS_REPORTS] = { "tls-reports", false, TAKES_LIMIT, false, false },
	[CONTROL_TLS_REPORTS_SEND] = { "tls-reports-send", true, 0, false, false },
	[CONTROL_RELOAD] = { "reload", true, 0, false, false },
	[CONTROL_DRAIN] = { "drain", true, TAKES_OFF, false, false },
	[CONTROL_DRAIN_STATE] = { "drain-state", false, 0, false, false },
	[CONTROL_WHAT_IF] = { "what-if", false, TAKES_MAIL, false, false },
	[CONTROL_TOP] = { "top", false, TAKES_TOP | TAKES_LIMIT, false, false },
	[CONTROL_STOP] = { "stop", true, 0, false, false },
	[CONTROL_IMPORT_MESSAGE] = { "import-message", false, TAKES_MESSAGE, false, false },
	[CONTROL_IMPORT_RECIPIENT] = { "import-recipient", false, TAKES_RECIPIENT, false, false },
	[CONTROL_IMPORT_ATTEMPT] = { "import-attempt", false, TAKES_ATTEMPT, false, false },
	[CONTROL_IMPORT_CONTENT] = { "import-content", false, TAKES_DATA, false, false },
	[CONTROL_IMPORT_COMMIT] = { "import-commit", true, 0, false, false },
};

/* An address or a domain: what stands behind the last @ is lowered, or all of it. */
enum member_type {
	TYPE_TEXT,
	TYPE_ADDRESS,
	TYPE_NUMBER,
	TYPE_BOOL,
	TYPE_STATE,
	TYPE_IDS,
	TYPE_DATA,
	TYPE_PRIORITY
};

#define AT(field) offsetof(struct control_request, field)
static const struct member {
	const char *name;
	enum member_type type;
	unsigned group;			/* one bit of enum members */
	size_t offset;
	uint64_t most;			/* of a number */
	bool filters;			/* TAKES_FILTER: given, it selects */
} members[] = {
	{ "ids", TYPE_IDS, TAKES_IDS, AT(ids), 0, true },
	{ "domain", TYPE_ADDRESS, TAKES_FILTER, AT(domain), 0, true },
	{ "sender", TYPE_ADDRESS, TAKES_FILTER, AT(sender), 0, true },
	{ "recipient", TYPE_ADDRESS, TAKES_FILTER, AT(recipient), 0, true },
	{ "error_text", TYPE_TEXT, TAKES_FILTER, AT(error), 0, true },
	{ "older_ms", TYPE_NUMBER, TAKES_FILTER, AT(older_ms), INT64_MAX / 2, true },
	{ "newer_ms", TYPE_NUMBER, TAKES_FILTER, AT(newer_ms), INT64_MAX / 2, true },
	{ "state", TYPE_STATE, TAKES_FILTER, AT(state), 0, true },
	{ "limit", TYPE_NUMBER, TAKES_LIMIT, AT(limit), INT64_MAX, false },
	{ "all", TYPE_BOOL, TAKES_ALL, AT(all), 0, false },
	{ "site", TYPE_TEXT, TAKES_SITE, AT(site), 0, false },
	{ "source", TYPE_TEXT, TAKES_PART, AT(source), 0, false },
	{ "tenant", TYPE_TEXT, TAKES_PART, AT(tenant), 0, false },
	{ "priority", TYPE_PRIORITY, TAKES_PRIORITY, AT(priority), 0, false },
	{ "off", TYPE_BOOL, TAKES_OFF, AT(off), 0, false },
	{ "client", TYPE_TEXT, TAKES_CLIENT, AT(client), 0, false },
	{ "domain", TYPE_ADDRESS, TAKES_GOAL, AT(domain), 0, false },
	{ "host", TYPE_TEXT, TAKES_GOAL, AT(host), 0, false },
	{ "reverse_path", TYPE_ADDRESS, TAKES_MESSAGE, AT(reverse_path), 0, false },
	{ "envid", TYPE_TEXT, TAKES_MESSAGE, AT(envid), 0, false },
	{ "client", TYPE_TEXT, TAKES_MESSAGE, AT(client), 0, false },
	{ "user", TYPE_TEXT, TAKES_MESSAGE, AT(user), 0, false },
	{ "ret", TYPE_NUMBER, TAKES_MESSAGE, AT(ret), 2, false },
	{ "body", TYPE_NUMBER, TAKES_MESSAGE, AT(body), 2, false },
	{ "flags", TYPE_NUMBER, TAKES_MESSAGE, AT(flags), UINT32_MAX, false },
	{ "arrival_ms", TYPE_NUMBER, TAKES_MESSAGE, AT(arrival_ms), INT64_MAX / 2, false },
	{ "header_size", TYPE_NUMBER, TAKES_MESSAGE, AT(header_size), CONTROL_HEADER_MAX, false },
	{ "body_size", TYPE_NUMBER, TAKES_MESSAGE, AT(body_size), INT64_MAX / 2, false },
	{ "smtputf8", TYPE_BOOL, TAKES_MESSAGE, AT(smtputf8), 0, false },
	{ "priority", TYPE_PRIORITY, TAKES_MESSAGE, AT(priority), 0, false },
	{ "release_ms", TYPE_NUMBER, TAKES_MESSAGE, AT(release_ms), INT64_MAX / 2, false },
	{ "by_ms", TYPE_NUMBER, TAKES_MESSAGE, AT(by_ms), INT64_MAX / 2, false },
	{ "by_mode", TYPE_NUMBER, TAKES_MESSAGE, AT(by_mode), BY_NOTIFY, false },
	{ "by_trace", TYPE_BOOL, TAKES_MESSAGE, AT(by_trace), 0, false },
	{ "address", TYPE_ADDRESS, TAKES_RECIPIENT, AT(address), 0, false },
	{ "tenant", TYPE_TEXT, TAKES_RECIPIENT, AT(tenant), 0, false },
	{ "pool", TYPE_TEXT, TAKES_RECIPIENT, AT(pool), 0, false },
	{ "priority", TYPE_PRIORITY, TAKES_RECIPIENT, AT(priority), 0, false },
	{ "orcpt", TYPE_TEXT, TAKES_RECIPIENT, AT(orcpt), 0, false },
	{ "notify", TYPE_NUMBER, TAKES_RECIPIENT, AT(notify), 15, false },
	{ "due_ms", TYPE_NUMBER, TAKES_RECIPIENT, AT(due_ms), INT64_MAX / 2, false },
	{ "state", TYPE_STATE, TAKES_RECIPIENT, AT(state), 0, false },
	{ "attempts", TYPE_NUMBER, TAKES_RECIPIENT, AT(attempts), CONTROL_ATTEMPTS_MAX, false },
	{ "action", TYPE_NUMBER, TAKES_RECIPIENT, AT(action), REPORT_EXPANDED, false },
	{ "uncertain", TYPE_BOOL, TAKES_RECIPIENT, AT(uncertain), 0, false },
	{ "warned", TYPE_BOOL, TAKES_RECIPIENT, AT(warned), 0, false },
	{ "at_ms", TYPE_NUMBER, TAKES_ATTEMPT, AT(at_ms), INT64_MAX / 2, false },
	{ "host", TYPE_TEXT, TAKES_ATTEMPT, AT(host), 0, false },
	{ "peer", TYPE_TEXT, TAKES_ATTEMPT, AT(peer), 0, false },
	{ "stage", TYPE_NUMBER, TAKES_ATTEMPT, AT(stage), UINT8_MAX, false },
	{ "text", TYPE_TEXT, TAKES_ATTEMPT, AT(text), 0, false },
	{ "status", TYPE_TEXT, TAKES_ATTEMPT, AT(status), 0, false },
	{ "code", TYPE_NUMBER, TAKES_ATTEMPT, AT(code), 599, false },
	{ "source", TYPE_TEXT, TAKES_ATTEMPT, AT(source), 0, false },
	{ "tls", TYPE_TEXT, TAKES_ATTEMPT, AT(tls), 0, false },
	{ "tls_policy", TYPE_TEXT, TAKES_ATTEMPT, AT(tls_policy), 0, false },
	{ "tls_resumed", TYPE_BOOL, TAKES_ATTEMPT, AT(tls_resumed), 0, false },
	{ "address", TYPE_ADDRESS, TAKES_SUPPRESSED, AT(address), 0, false },
	{ "class", TYPE_TEXT, TAKES_ENTRY, AT(class), 0, false },
	{ "reason", TYPE_TEXT, TAKES_ENTRY, AT(reason), 0, false },
	{ "for_ms", TYPE_NUMBER, TAKES_ENTRY, AT(for_ms), INT64_MAX / 4, false },
	{ "more", TYPE_BOOL, TAKES_ENTRY, AT(more), 0, false },
	{ "to", TYPE_ADDRESS, TAKES_MAIL, AT(recipient), 0, false },
	{ "from", TYPE_ADDRESS, TAKES_MAIL, AT(reverse_path), 0, false },
	{ "user", TYPE_TEXT, TAKES_MAIL, AT(user), 0, false },
	{ "client", TYPE_TEXT, TAKES_MAIL, AT(client), 0, false },
	{ "listener", TYPE_TEXT, TAKES_MAIL, AT(listener), 0, false },
	{ "header", TYPE_TEXT, TAKES_MAIL, AT(header), 0, false },
	{ "size", TYPE_NUMBER, TAKES_MAIL, AT(body_size), INT64_MAX / 2, false },
	{ "priority", TYPE_PRIORITY, TAKES_MAIL, AT(priority), 0, false },
	{ "requiretls", TYPE_BOOL, TAKES_MAIL, AT(requiretls), 0, false },
	{ "hold_ms", TYPE_NUMBER, TAKES_MAIL, AT(hold_ms), INT64_MAX / 4, false },
	{ "within_ms", TYPE_NUMBER, TAKES_MAIL, AT(within_ms), INT64_MAX / 4, false },
	{ "sort", TYPE_TEXT, TAKES_TOP, AT(sort), 0, false },
	{ "tenants", TYPE_BOOL, TAKES_TOP, AT(tenants), 0, false },
	{ "data", TYPE_DATA, TAKES_DATA, AT(data), 0, false },
};
enum { MEMBER_COUNT = sizeof(members) / sizeof(members[0]) };

static const char *const states[] = { "any", "waiting", "held", "owed", "in-flight" };
enum { STATE_COUNT = sizeof(states) / sizeof(states[0]) };

const char *
control_command_name(enum control_command command)
{
	return commands[command].name;
}

bool
control_command_changes(enum control_command command)
{
	return commands[command].changes;
}

const char *
control_state_name(uint64_t state)
{
	return state < STATE_COUNT ? states[state] : "?";
}

bool
control_state_parse(struct span name, uint64_t *ret)
{
	for (size_t i = 0; i < STATE_COUNT; i++)
		if (span_eq(name, span_str(states[i]))) {
			*ret = i;
			return true;
		}
	return false;
}

/* ---- reading ------------------------------------------------------------------------------ */

static bool
fail(struct control_error *error, struct span text, struct span hint)
{
	error->text = text;
	error->hint = hint;
	return false;
}

/*
 * How deep the brackets go, outside strings: the JSON reader is recursive, so this is known
 * before it begins.
 */
static bool
too_deep(struct span line)
{
	bool in_string = false;
	int depth = 0;

	for (size_t i = 0; i < line.len; i++) {
		char c = line.at[i];

		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
		} else if (c == '"') {
			in_string = true;
		} else if ((c == '{' || c == '[') && ++depth > DEPTH_MAX) {
			return true;
		} else if (c == '}' || c == ']') {
			depth--;
		}
	}
	return false;
}

static const struct member *
find_member(const char *name, unsigned takes)
{
	for (size_t i = 0; i < MEMBER_COUNT; i++)
		if ((members[i].group & takes) != 0 && strcmp(members[i].name, name) == 0)
			return &members[i];
	return NULL;
}

static bool
text_ok(struct span text)
{
	for (size_t i = 0; i < text.len; i++)
		if ((unsigned char)text.at[i] < 0x20 || text.at[i] == 0x7f)
			return false;
	return text.len <= CONTROL_TEXT_MAX;
}

static bool
has_id(const struct control_request *r, uint64_t id)
{
	for (size_t i = 0; i < r->id_count; i++)
		if (r->ids[i] == id)
			return true;
	return false;
}

static bool
read_ids(const json_t *value, struct arena *arena, struct control_request *ret)
{
	size_t count = json_array_size(value);

	if (!json_is_array(value) || count == 0 || count > CONTROL_IDS_MAX)
		return false;
	ret->ids = arena_alloc(arena, count * sizeof(*ret->ids));
	ret->id_count = 0;
	for (size_t i = 0; i < count; i++) {
		const json_t *id = json_array_get(value, i);
		uint64_t n;

		if (!json_is_string(id) ||
		    !id_parse(span_of(json_string_value(id), json_string_length(id)), &n))
			return false;
		if (!has_id(ret, n))		/* named twice, it is meant once */
			ret->ids[ret->id_count++] = n;
	}
	return true;
}

static bool
read_text(struct span text, bool lower_domain, struct arena *arena, struct span *to)
{
	size_t domain = 0;
	char *copy;

	if (!text_ok(text))
		return false;
	copy = arena_str(arena, text);
	for (size_t i = 0; i < text.len; i++)
		domain = text.at[i] == '@' ? i : domain;
	for (size_t i = domain; lower_domain && i < text.len; i++)
		copy[i] = ascii_lower(copy[i]);
	*to = span_of(copy, text.len);
	return true;
}

static bool
read_priority(const json_t *value, struct control_priority *ret)
{
	json_int_t mt = json_integer_value(value);

	if (!json_is_integer(value) || mt < -PRIORITY_MT_MAX || mt > PRIORITY_MT_MAX)
		return false;
	*ret = (struct control_priority){ .given = true, .mt = (int8_t)mt };
	return true;
}

static bool
read_member(const struct member *m, const json_t *value, struct arena *arena,
	    struct control_request *ret)
{
	void *to = (char *)ret + m->offset;
	struct span text = json_is_string(value)
				   ? span_of(json_string_value(value), json_string_length(value))
				   : SPAN("");

	switch (m->type) {
	case TYPE_TEXT:
	case TYPE_ADDRESS:
		return json_is_string(value) && read_text(text, m->type == TYPE_ADDRESS, arena, to);
	case TYPE_NUMBER:
		if (!json_is_integer(value) || json_integer_value(value) < 0 ||
		    (uint64_t)json_integer_value(value) > m->most)
			return false;
		*(uint64_t *)to = (uint64_t)json_integer_value(value);
		return true;
	case TYPE_BOOL:
		*(bool *)to = json_is_true(value);
		return json_is_boolean(value);
	case TYPE_STATE:
		return json_is_string(value) && control_state_parse(text, to);
	case TYPE_IDS:
		return read_ids(value, arena, ret);
	case TYPE_DATA:
		return json_is_string(value) && base64_decode(text, arena, to) &&
		       ((struct span *)to)->len <= CONTROL_PIECE;
	case TYPE_PRIORITY:
		return read_priority(value, to);
	}
	return false;
}

static bool
read_command(const json_t *object, struct arena *arena, enum control_command *ret,
	     struct control_error *error)
{
	struct span name = json_span(object, "command");

	for (unsigned i = 0; i < CONTROL_COMMAND_COUNT; i++)
		if (name.len > 0 && span_eq(name, span_str(commands[i].name))) {
			*ret = (enum control_command)i;
			return true;
		}
	if (name.len == 0)
		return fail(error, SPAN("The request names no command."),
			    SPAN("Send an object with a member \"command\"."));
	return fail(error, arena_printf(arena, "There is no command \"%.64s\".", name.at),
		    SPAN("Is tramctl of the same version as tramd?"));
}

static bool
check_whole(const struct control_request *r, struct control_error *error)
{
	const struct command *c = &commands[r->command];

	if (c->one_id && r->id_count != 1)
		return fail(error, SPAN("This command is for one message."), SPAN("Name one id."));
	if (c->must_select && !r->all && !control_selects(r))
		return fail(
			error, SPAN("Nothing was selected."),
			SPAN("Name ids or a filter, or say --all if you mean the whole queue."));
	if (r->all && control_selects(r))
		return fail(error, SPAN("\"all\" and a selection contradict each other."),
			    SPAN("Leave one of them out."));
	if (r->command == CONTROL_QUEUE_SET && !r->priority.given)
		return fail(error, SPAN("What is to be set?"),
			    SPAN("Name a priority: --priority 5."));
	if (r->command == CONTROL_SITES_RETRY && r->all == (r->site.len > 0))
		return fail(error, SPAN("Which site is to be tried?"),
			    SPAN("Name one site by its key (see: tramctl sites), or say --all."));
	if (r->command >= CONTROL_SITES_SUSPEND && r->command <= CONTROL_SITES_RESET &&
	    r->site.len == 0)
		return fail(
			error, SPAN("Which site?"),
			SPAN("Name its key (see: tramctl sites), a provider, or @ and a domain."));
	if (r->command == CONTROL_WHAT_IF && r->recipient.len == 0)
		return fail(error, SPAN("To whom would it go?"),
			    SPAN("Name a recipient: --to ADDRESS."));
	if (r->command == CONTROL_IMPORT_RECIPIENT && r->address.len == 0)
		return fail(error, SPAN("The recipient has no address."),
			    SPAN("The archive is damaged."));
	return true;
}

static bool
read_object(const json_t *object, struct arena *arena, struct control_request *r,
	    struct control_error *error)
{
	const char *key;
	json_t *value;

	if (!json_is_object(object))
		return fail(error, SPAN("The request is not an object."),
			    SPAN("Send one JSON object a line."));
	if (!read_command(object, arena, &r->command, error))
		return false;
	json_object_foreach((json_t *)object, key, value) {
		const struct member *m = find_member(key, commands[r->command].takes);

		if (strcmp(key, "command") == 0)
			continue;
		if (m == NULL)
			return fail(error, arena_printf(arena, "\"%s\" takes no member \"%.64s\".",
							commands[r->command].name, key),
				    SPAN("Is tramctl of the same version as tramd?"));
		if (!read_member(m, value, arena, r))
			return fail(error,
				    arena_printf(arena, "The value of \"%s\" is not valid.", key),
				    m->type == TYPE_IDS
					    ? SPAN("Ids have 13 letters and digits; at most 500 at "
						   "once.")
					    : SPAN("See tramctl(8) for what it may be."));
	}
	return check_whole(r, error);
}

bool
control_request_parse(struct span line, struct arena *arena, struct control_request *ret,
		      struct control_error *error)
{
	struct control_request r = { 0 };
	json_error_t why;
	json_t *object;
	bool ok;

	if (line.len >= CONTROL_LINE_MAX)
		return fail(error, SPAN("The request is too long."),
			    SPAN("Name fewer ids at once."));
	if (too_deep(line))
		return fail(error, SPAN("The request is nested too deeply."),
			    SPAN("Send one flat JSON object a line."));
	object = json_loadb(line.at, line.len, JSON_REJECT_DUPLICATES, &why);
	if (object == NULL)
		return fail(error, arena_printf(arena, "The request is not JSON: %.*s.",
						(int)strnlen(why.text, sizeof(why.text)), why.text),
			    SPAN("Send one JSON object a line."));
	ok = read_object(object, arena, &r, error);
	json_decref(object);
	if (ok)
		*ret = r;
	return ok;
}

/* ---- writing ------------------------------------------------------------------------------ */

static bool
is_given(const struct member *m, const struct control_request *r)
{
	const void *at = (const char *)r + m->offset;

	switch (m->type) {
	case TYPE_TEXT:
	case TYPE_ADDRESS:
	case TYPE_DATA:
		return ((const struct span *)at)->len > 0;
	case TYPE_NUMBER:
	case TYPE_STATE:
		return *(const uint64_t *)at != 0;
	case TYPE_BOOL:
		return *(const bool *)at;
	case TYPE_IDS:
		return r->id_count > 0;
	case TYPE_PRIORITY:
		return ((const struct control_priority *)at)->given;
	}
	return false;
}

bool
control_selects(const struct control_request *r)
{
	for (size_t i = 0; i < MEMBER_COUNT; i++)
		if (members[i].filters && is_given(&members[i], r))
			return true;
	return false;
}

static json_t *
ids_value(const struct control_request *r)
{
	json_t *array = json_array();
	char text[ID_TEXT_LEN + 1];

	for (size_t i = 0; i < r->id_count; i++)
		json_array_append_new(array, json_string(id_format(r->ids[i], text)));
	return array;
}

static json_t *
data_value(struct span octets)
{
	struct buf text = { 0 };
	json_t *value;

	base64_encode(octets, &text);
	value = json_stringn(text.at, buf_len(&text));
	buf_free(&text);
	return value;
}

static json_t *
member_value(const struct member *m, const struct control_request *r)
{
	const void *at = (const char *)r + m->offset;
	const struct span *text = at;

	switch (m->type) {
	case TYPE_TEXT:
	case TYPE_ADDRESS:
		return text_ok(*text) ? json_stringn(text->at, text->len) : NULL;
	case TYPE_NUMBER:
		return *(const uint64_t *)at <= m->most
			       ? json_integer((json_int_t) * (const uint64_t *)at)
			       : NULL;
	case TYPE_BOOL:
		return json_true();
	case TYPE_STATE:
		return json_string(control_state_name(*(const uint64_t *)at));
	case TYPE_IDS:
		return r->id_count <= CONTROL_IDS_MAX ? ids_value(r) : NULL;
	case TYPE_DATA:
		return text->len <= CONTROL_PIECE ? data_value(*text) : NULL;
	case TYPE_PRIORITY:
		return json_integer(((const struct control_priority *)at)->mt);
	}
	return NULL;
}

bool
control_request_format(const struct control_request *r, struct buf *out)
{
	const struct command *c = &commands[r->command];
	json_t *object = json_object();
	size_t before = buf_len(out);

	json_object_set_new(object, "command", json_string(c->name));
	for (size_t i = 0; i < MEMBER_COUNT; i++) {
		const struct member *m = &members[i];
		json_t *value;

		if ((m->group & c->takes) == 0 || !is_given(m, r))
			continue;
		value = member_value(m, r);
		if (value == NULL) {
			json_decref(object);
			return false;
		}
		json_object_set_new(object, m->name, value);
	}
	json_line(object, out);
	return buf_len(out) - before <= CONTROL_LINE_MAX;
}
