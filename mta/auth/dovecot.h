/*
 * auth/dovecot: asks Dovecot's auth socket, so that users come from where the mailboxes are. One
 * per loop: one connection, many requests at a time, each with a deadline.
 *
 * It connects at once, and again (with back-off) when the connection is lost; then all that was
 * asked fails as temporary. While it connects requests wait (to their deadline); while it backs
 * off they fail at once.
 *
 * Callbacks come from the loop, never from inside a call made here, and only as the answer to a
 * start or a continue: one callback for each. Behind `done` the request's memory may go.
 */
#ifndef TRAM_AUTH_DOVECOT_H
#define TRAM_AUTH_DOVECOT_H

#include <uv.h>

#include "mta/auth/dovecot_codec.h"
#include "mta/auth/sasl.h"
#include "mta/base/list.h"
#include "mta/base/map.h"
#include "mta/net/stream.h"

struct dovecot;

struct dovecot_config {
	struct span path;		/* of the socket */
	struct span service;		/* empty: "smtp" */
	int64_t timeout_ms;		/* of a request, challenge to challenge; 0: 30 s */
	size_t max_pending;		/* requests at a time; 0: 1,000 */
	int64_t retry_ms, retry_max_ms;	/* back-off; 0: 1 s, doubling to 30 s */
};

/* scratch: the loop's. config is copied. */
struct dovecot *dovecot_new(uv_loop_t *loop, struct stream_scratch *scratch,
			    const struct dovecot_config *config);
/*
 * Requests that are open are cancelled. It goes when its handles are closed: run the loop. NULL is
 * fine.
 */
void dovecot_close(struct dovecot *dovecot);

/*
 * The same, gently, where another takes its place: what is open is told as temporary, no request
 * may be started any more, and it closes by itself behind the last one.
 */
void dovecot_retire(struct dovecot *dovecot);

/* What its MECH lines say; 0 until it has been connected once, then the last it said. */
unsigned dovecot_mechanisms(const struct dovecot *dovecot);
bool dovecot_connected(const struct dovecot *dovecot);
/* Why it is not connected: "connect: No such file or directory" …; "" if it is. */
const char *dovecot_trouble(const struct dovecot *dovecot);

struct dovecot_result {
	enum sasl_verdict verdict;
	struct span user;		/* as Dovecot spells it; of a failure perhaps empty */
	const char *why;		/* for the log; NULL with SASL_OK */
	struct span reason;		/* Dovecot's own words, for the log; may be empty */
};

/* Embedded in whoever asks; zeroed at first. */
struct dovecot_request {
	/* base64, for sasl_answer_relay(); go on by dovecot_continue() */
	void (*challenge)(struct dovecot_request *request, struct span data);
	void (*done)(struct dovecot_request *request, const struct dovecot_result *result);
	/* its own */
	struct dovecot *dovecot;	/* NULL: nothing is open */
	struct map_node by_id;
	struct list node;
	unsigned state;
	enum sasl_mechanism mechanism;
	int64_t deadline_ms;
	const char *failure;
	struct buf unsent;
};

/* message: decoded initial response, NULL: none. */
void dovecot_start(struct dovecot *dovecot, struct dovecot_request *request,
		   enum sasl_mechanism mechanism, const struct dovecot_facts *facts,
		   const struct span *message);
/* The same by PLAIN, for SASL_VERIFY_PASSWORD (whatever the client used). */
void dovecot_start_password(struct dovecot *dovecot, struct dovecot_request *request,
			    const struct dovecot_facts *facts, struct span authzid,
			    struct span user, struct span password);
void dovecot_continue(struct dovecot_request *request, struct span response);
void dovecot_cancel(struct dovecot_request *request);	/* no harm if none is open */

#endif
