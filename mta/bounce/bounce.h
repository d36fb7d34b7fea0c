/*
 * bounce: builds the delivery status notification (RFC 3461 §6, 6522, 3464, 6533) from what the
 * queue knows. Pure: facts in, a message out. The report has the null return path; it is never
 * made for a message that has one.
 */
#ifndef TRAM_BOUNCE_H
#define TRAM_BOUNCE_H

#include "mta/base/buf.h"
#include "queue/queue.h"

struct bounce_recipient {
	const struct recipient *recipient;
	enum report_action action;		/* REPORT_NONE in a delay warning: "delayed" */
	/* its attempts, the last one is the reason; may be NULL */
	const struct history_record *history;
	/* never tried itself: what its site's last try said; may be empty */
	struct span site_text, site_host;
};

struct bounce_facts {
	uint64_t id;				/* of the report */
	int64_t now_ms;
	struct span hostname;
	const struct queue_message *message;	/* the one reported on */
	const struct bounce_recipient *recipients;
	size_t count;
	bool delay;				/* a warning: it is still being tried */
	int64_t gives_up_ms;			/* wall time at which it expires (delay) */
	struct span content;			/* its header block, or all of it */
	/* content is the whole message: message/rfc822, else text/rfc822-headers */
	bool full;
	bool content_8bit;
};

/*
 * Appends the report's header block (with its blank line; no Received) and body. CRLF
 * throughout, no line longer than 998 octets: content that cannot be returned so (BINARYMIME,
 * longer lines) is returned as its header only, as it is when nothing has failed (RFC 3461
 * §4.3). Returns the flags of the message it has made (enum message_flags): with
 * MESSAGE_HEADER_UTF8 its envelope needs smtputf8, with MESSAGE_8BIT body=8BITMIME.
 */
uint32_t bounce_build(const struct bounce_facts *facts, struct buf *header, struct buf *body);

#endif
