/*
 * protocol: what is said over the control socket, as values. Pure; any thread.
 *
 * A request is one line: a JSON object whose member "command" names what is wanted, at most
 * CONTROL_LINE_MAX octets long, flat but for arrays of ids. The answer is any number of lines,
 * each a JSON object, and a last one that has "end": true, or "error" (a sentence) with "hint"
 * (what to do). One request at a time is worked on per connection.
 *
 * To add a command: a row in commands[]; to add a member: a field below and a row in members[].
 * Both ends of the socket and the fuzzer go through the same tables.
 */
#ifndef TRAM_CONTROL_PROTOCOL_H
#define TRAM_CONTROL_PROTOCOL_H

#include "mta/base/arena.h"
#include "mta/base/buf.h"

enum {
	CONTROL_LINE_MAX = 65536,		/* of a request, with its newline */
	CONTROL_IDS_MAX = 500,			/* in one request */
	CONTROL_TEXT_MAX = 2000,		/* octets of a text member */
	CONTROL_PIECE = 36864,			/* octets of content in one line, before base64 */
	CONTROL_HEADER_MAX = 4 << 20,		/* of an imported message's header block */
	CONTROL_ATTEMPTS_MAX = 1000,		/* of an imported recipient, in all */
};

enum control_command {
	CONTROL_QUEUE_LIST,
	CONTROL_QUEUE_SHOW,
	CONTROL_QUEUE_CAT,
	CONTROL_QUEUE_HOLD,
	CONTROL_QUEUE_RELEASE,
	CONTROL_QUEUE_RETRY,
	CONTROL_QUEUE_BOUNCE,
	CONTROL_QUEUE_REMOVE,
	CONTROL_QUEUE_SET,	/* priority */
	CONTROL_QUEUE_EXPORT,
	CONTROL_EXPLAIN,
	CONTROL_SITES,
	CONTROL_SITES_RETRY,
	CONTROL_SITES_MEASURES,
	CONTROL_SITES_SUSPEND,	/* site, or source or tenant there, or "@" and a domain */
	CONTROL_SITES_RESUME,
	CONTROL_SITES_RESET,
	CONTROL_SESSIONS,
	CONTROL_STATS,
	CONTROL_CERTS,
	CONTROL_SOURCES,
	CONTROL_BANS,
	CONTROL_PARDON,
	CONTROL_SUPPRESS_LIST,
	CONTROL_SUPPRESS_ADD,
	CONTROL_SUPPRESS_REMOVE,
	CONTROL_TLS_CHECK,	/* domain, or host */
	CONTROL_DNS_RECORDS,	/* domain */
	CONTROL_TLS_REPORTS,
	CONTROL_TLS_REPORTS_SEND,
	CONTROL_RELOAD,
	CONTROL_DRAIN,
	CONTROL_DRAIN_STATE,	/* is there anything that still goes? If not: what is left */
	CONTROL_WHAT_IF,
	CONTROL_TOP,
	CONTROL_STOP,
	CONTROL_IMPORT_MESSAGE,	  /* begins one: what its envelope says */
	CONTROL_IMPORT_RECIPIENT, /* then each recipient that is still open … */
	CONTROL_IMPORT_ATTEMPT,	  /* … and behind it each attempt that is known of it */
	/* then the content, header block first, piece by piece */
	CONTROL_IMPORT_CONTENT,
	CONTROL_IMPORT_COMMIT, /* then this; the answer has the new id */
	CONTROL_COMMAND_COUNT
};

enum control_state {
	CONTROL_STATE_ANY,
	CONTROL_WAITING,
	CONTROL_HELD,
	CONTROL_OWED,
	CONTROL_IN_FLIGHT
};

/* RFC 6710; 0 is one, too. */
struct control_priority {
	bool given;
	int8_t mt;
};

struct control_request {
	enum control_command command;
	/* a selection: what is not given does not count */
	uint64_t *ids;
	size_t id_count;
	struct span domain;			/* of the recipient, and all below it; lower case */
	struct span sender;			/* address or domain; "<>": the null path */
	struct span recipient;			/* one address */
	struct span error;			/* is found in the last error, ASCII case alike */
	uint64_t older_ms, newer_ms;		/* age, at least and at most */
	uint64_t state;				/* enum control_state */
	uint64_t limit;				/* rows; 0: all */
	bool all;				/* no selection was meant */
	/* others */
	struct span site;			/* key of a site */
	bool off;				/* drain: end it */
	/* import: as export gave them */
	struct span reverse_path, envid, user, client;	/* pardon: client alone */
	uint64_t ret, body, flags, arrival_ms, header_size, body_size;
	bool smtputf8;
	struct control_priority priority;	/* of a recipient: what it has in the queue */
	uint64_t release_ms, by_ms, by_mode;	/* enum by_mode */
	bool by_trace;
	struct span address, orcpt, pool;	/* and tenant (below) */
	uint64_t notify, due_ms;
	uint64_t attempts, action;		/* in all; enum report_action, of what is owed */
	bool uncertain, warned;
	/* one attempt */
	struct span host, peer, text, status, source, tls, tls_policy;
	bool tls_resumed;
	uint64_t at_ms, stage, code;
	struct span data;			/* content, decoded */
	/* suppress: address (above), and */
	struct span class, reason;
	uint64_t for_ms;			/* 0: for good */
	bool more;				/* nobody waits for the commit */
	/* sites suspend: or source; with site, reason, for_ms (above) */
	struct span tenant;
	/* what-if: recipient, reverse_path, user, client, body_size (above), and */
	struct span listener, header;		/* one field */
	bool requiretls;			/* and priority (above), */
	uint64_t hold_ms, within_ms;		/* HOLDFOR; BY, with a return */
	/* top: limit (above), and */
	struct span sort;
	bool tenants;
};

struct control_error {
	struct span text, hint;			/* in the arena */
};

/*
 * line without its newline. False: *error says what is wrong with it. All spans are copied into
 * the arena.
 */
bool control_request_parse(struct span line, struct arena *arena, struct control_request *ret,
			   struct control_error *error);
/*
 * The line, newline included. False: it would not be accepted (too long, or text that is no
 * UTF-8).
 */
bool control_request_format(const struct control_request *request, struct buf *out);

const char *control_command_name(enum control_command command);
/* it is logged with who asked for it */
bool control_command_changes(enum control_command command);
/* ids or any filter is given */
bool control_selects(const struct control_request *request);
const char *control_state_name(uint64_t state);
bool control_state_parse(struct span name, uint64_t *ret);

#endif
