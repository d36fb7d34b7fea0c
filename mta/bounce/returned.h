/*
 * returned: what a message that came back says: a report of failure or delay (RFC 3464, or the
 * words of servers that write it their own way), a complaint (RFC 5965), the answer of a machine
 * (RFC 3834), or anything else. Pure; any thread. Octets in, values out; nothing here is believed:
 * anybody can write such a message.
 *
 * What a report says of the message it is about is only a hint to find it by (its envelope id, the
 * address it was sent under, its header).
 */
#ifndef TRAM_BOUNCE_RETURNED_H
#define TRAM_BOUNCE_RETURNED_H

#include "mta/base/arena.h"
#include "mta/base/reply.h"
#include "mta/base/span.h"

enum {
	RETURNED_BODY_MAX = 256 << 10,	/* octets of a body that are worth looking at */
	RETURNED_RECIPIENTS_MAX = 100,
	RETURNED_TEXT_MAX = 500,	/* of a diagnostic */
	RETURNED_HEADER_MAX = 64 << 10,	/* of the returned message's header */
};

enum returned_kind {
	RETURNED_OTHER,			/* mail like any other */
	RETURNED_AUTOREPLY,		/* of a machine, but it says nothing of a delivery */
	RETURNED_BOUNCE,
	RETURNED_COMPLAINT,
};

/* How it was written. */
enum returned_form { FORM_NONE, FORM_DSN, FORM_QMAIL, FORM_EXIM, FORM_WORDS, FORM_ARF, FORM_JMRP };

enum returned_action {			/* RFC 3464 §2.3.3 */
	ACTION_FAILED, ACTION_DELAYED, ACTION_DELIVERED, ACTION_RELAYED, ACTION_EXPANDED,
};

struct returned_recipient {
	enum returned_action action;
	/*
	 * as the reporter names it, and as the sender did; without angle brackets; either may be
	 * empty
	 */
	struct span address, original;
	struct status status;		/* klass 0: none was given */
	uint16_t code;			/* of the reply it was refused with; 0: none is known */
	struct span diagnostic;		/* one line, without the codes; may be empty */
	struct span host;		/* who said so; may be empty */
};

struct returned {
	enum returned_kind kind;
	enum returned_form form;
	struct returned_recipient *recipients;
	size_t count;
	struct span envelope_id;	/* as it came: xtext; may be empty */
	struct span header;		/* of the message it is about; may be empty */
	/* complaints: */
	struct span feedback_type;	/* in lower case */
	struct span original_from;	/* the reverse-path; may be empty */
};

const char *returned_kind_name(enum returned_kind kind);
const char *returned_form_name(enum returned_form form);
const char *returned_action_name(enum returned_action action);

/*
 * header: its header block; body: what follows, or the first RETURNED_BODY_MAX octets of it. The
 * result points into both and into the arena.
 */
void returned_parse(struct span header, struct span body, struct arena *arena,
		    struct returned *ret);

/* A complaint that asks for no more mail; "not-spam" and the like are none (RFC 6430, 6591). */
bool returned_is_complaint(const struct returned *returned);

/*
 * The id that the server of this name has given the returned message, by its Received line or its
 * Message-ID. False: it has not.
 */
bool returned_queue_id(const struct returned *returned, struct span hostname, uint64_t *ret);

#endif
