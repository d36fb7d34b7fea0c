/*
 * auth/dovecot_codec: lines of Dovecot's authentication protocol (1.1 to 1.3), client's side. Pure:
 * what the backend says is hostile until parsed.
 */
#ifndef TRAM_AUTH_DOVECOT_CODEC_H
#define TRAM_AUTH_DOVECOT_CODEC_H

#include <stdbool.h>
#include <stdint.h>

#include "mta/base/buf.h"
#include "mta/base/netaddr.h"
#include "mta/base/span.h"

enum { DOVECOT_LINE_MAX = 32768, DOVECOT_NAME_MAX = 255, DOVECOT_REASON_MAX = 200 };
/*
 * Of what is sent, with its newline: a longer line costs the connection, and all that was asked on
 * it.
 */
enum { DOVECOT_SENT_MAX = 16384 };

enum dovecot_event {
	DOVECOT_MORE,			/* all was taken; nothing to tell yet */
	DOVECOT_READY,			/* DONE came: requests may be sent */
	DOVECOT_CONT,			/* id, data (base64, may be empty) */
	DOVECOT_OK,			/* id, user */
	DOVECOT_FAIL,			/* id, failure, user, reason */
	DOVECOT_BROKEN,			/* why; the connection is of no use */
};

enum dovecot_failure {
	DOVECOT_REFUSED,		/* wrong password, unknown user … */
	DOVECOT_TEMPORARY,		/* temp, or code=temp_fail */
	DOVECOT_AUTHZ,			/* may not act as the other one */
	DOVECOT_DISABLED,		/* user_disabled */
	DOVECOT_EXPIRED,		/* pass_expired */
};

struct dovecot_codec {
	/* of the event; good until the next call */
	uint32_t id;
	struct span data, user, reason;	/* user: as Dovecot spells it; control octets are none */
	enum dovecot_failure failure;
	const char *why;
	/* of the handshake */
	unsigned mechanisms;		/* set (sasl.h) of what MECH named, private ones left out */
	bool ready;
	/* its own */
	bool version_seen;
	bool complete;			/* what line holds has been looked at */
	size_t lines;			/* of the handshake, bounded */
	struct buf line, unescaped;
};

/* A zeroed one is ready for use. */
void dovecot_codec_free(struct dovecot_codec *codec);
/* Takes some of in, returns how many octets. Call again until all is taken and it says MORE. */
size_t dovecot_codec_take(struct dovecot_codec *codec, struct span in, enum dovecot_event *event);

struct dovecot_facts {
	const struct netaddr *client, *local;	/* NULL: not told */
	bool tls;
	bool valid_certificate;		/* the client showed one that was verified */
	/* session id for its log: letters and digits; may be empty */
	struct span session;
};

/* VERSION, CPID */
void dovecot_put_hello(uint32_t pid, struct buf *out);
/* initial: the decoded initial response; NULL: none */
void dovecot_put_auth(uint32_t id, struct span mechanism, struct span service,
		      const struct dovecot_facts *facts, const struct span *initial,
		      struct buf *out);
void dovecot_put_cont(uint32_t id, struct span response, struct buf *out);
void dovecot_put_cancel(uint32_t id, struct buf *out);

#endif
