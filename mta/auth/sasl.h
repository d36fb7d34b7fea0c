/*
 * auth/sasl: the server's side of one AUTH exchange (RFC 4954, 4422) as a pure machine: lines in,
 * actions out. No I/O, no clock; random only in SCRAM's nonce.
 *
 *	sasl_init(&sasl, &config, &facts);
 *	action = sasl_start(&sasl, argument);		"AUTH" and behind it: "PLAIN AGFubmEAcHc="
 *	for (;;) switch (action) {
 *	case SASL_CHALLENGE:		send "334 " + sasl.challenge; action = sasl_line(next line);
 *	case SASL_VERIFY_PASSWORD:	… action = sasl_answer(&verdict);
 *	…
 *	case SASL_SUCCESS, SASL_FAIL:	send sasl.reply; sasl_free();
 *	}
 *
 * Mechanisms: PLAIN (RFC 4616), LOGIN, SCRAM-SHA-256 and -PLUS (RFC 5802, 7677, 9266), OAUTHBEARER
 * (RFC 7628), XOAUTH2, EXTERNAL (RFC 4422). Who a user is and whether a password is right is the
 * owner's to find out, at its leisure: while an action asks, no line may be given. Additional data
 * with success goes in a challenge of its own (RFC 4954 §4), so a success is the reply alone.
 *
 * Secrets are wiped as soon as they have been answered, and by sasl_free(). The owner wipes the
 * line buffers that it got them in.
 */
#ifndef TRAM_AUTH_SASL_H
#define TRAM_AUTH_SASL_H

#include "mta/auth/scram.h"
#include "mta/base/buf.h"
#include "mta/base/reply.h"
#include "mta/base/span.h"

enum sasl_mechanism {			/* weakest first */
	SASL_LOGIN,
	SASL_PLAIN,
	SASL_XOAUTH2,
	SASL_OAUTHBEARER,
	SASL_SCRAM_SHA_256,
	SASL_SCRAM_SHA_256_PLUS,
	SASL_EXTERNAL,
	SASL_MECHANISMS
};

/* Sets of mechanisms are bits: 1u << SASL_PLAIN | … */
enum {
	/* send the password, or a token, to whoever is at the other end */
	SASL_PLAINTEXT = 1 << SASL_LOGIN | 1 << SASL_PLAIN | 1 << SASL_XOAUTH2 |
			 1 << SASL_OAUTHBEARER,
};

enum { SASL_LINE_MAX = 16384, SASL_NAME_MAX = 255 };

/* Fixed for a listener. */
struct sasl_config {
	unsigned offered;		/* set of mechanisms that EHLO shows, but see facts */
	/* of these: judged by the backend itself, message by message (SASL_RELAY): SCRAM only */
	unsigned relayed;
	size_t max_line;		/* octets of a line without CRLF; 0: SASL_LINE_MAX */
	/* the backend judges "act as"; else an authorization identity must be the user's name */
	bool authzid_allowed;
	/* for names that nobody has: random, the same as long as the process lives */
	uint8_t secret[SCRAM_KEY];
	uint32_t imagined_iterations;	/* as real users have; 0: SCRAM_ITERATIONS */
};

/* Of this session. */
struct sasl_facts {
	bool tls;
	struct span binding;		/* 32 octets of the exporter; empty: none: no -PLUS */
	struct span external;		/* identity proved by a certificate; empty: no EXTERNAL */
	struct span nonce;		/* tests: SCRAM's, instead of a random one */
};

enum sasl_action {
	/* send "334 " and sasl.challenge (may be empty); then sasl_line() with what comes */
	SASL_CHALLENGE,
	/* user, authzid, password: then sasl_answer() */
	SASL_VERIFY_PASSWORD,
	/* user, token (and message, as it came, for a backend): then sasl_answer() */
	SASL_VERIFY_TOKEN,
	/* user: then sasl_answer_scram() */
	SASL_FETCH_SCRAM,
	/* user, proved by a certificate (EXTERNAL): is it one of ours? then sasl_answer() */
	SASL_ADMIT,
	/* message to the backend; then sasl_answer_relay() or sasl_answer() */
	SASL_RELAY,
	SASL_SUCCESS,			/* user; reply is the 235 */
	SASL_FAIL,			/* reply, why */
};

enum sasl_verdict {
	SASL_OK,
	/* unknown, wrong, disabled, expired: the client hears the same */
	SASL_REFUSED,
	SASL_TEMPORARY,			/* nobody could tell: 454 4.7.0 */
};

/* Of a failure: what it says of the client. */
enum sasl_failure {
	SASL_NO_FAILURE,
	SASL_BAD_CREDENTIALS,		/* a guess: count it (throttle.h) */
	SASL_BAD_SYNTAX,		/* an error as in any other command */
	SASL_CANCELLED,
	SASL_BACKEND_FAILED,
};

struct sasl {
	const struct sasl_config *config;
	struct sasl_facts facts;
	enum sasl_mechanism mechanism;
	/* of the client, then the backend's own spelling; good until sasl_free() */
	struct span user;
	struct span authzid;		/* empty: none was given */
	struct span password, token;	/* wiped by the answer */
	struct span message;		/* the client's, decoded; wiped by the answer */
	struct buf challenge;		/* base64 */
	struct reply reply;
	enum sasl_failure failure;
	const char *why;		/* for the log: "wrong proof", "the nonce differs" … */
	/* the rest is sasl.c's */
	unsigned state;
	bool asked;			/* an action of the owner's is open */
	enum sasl_action question;
	struct buf decoded, names;
	struct scram_server scram;
};

/* What this session offers, and may use, of config->offered: -PLUS only with a binding … */
unsigned sasl_offered(const struct sasl_config *config, const struct sasl_facts *facts);
/* "PLAIN LOGIN SCRAM-SHA-256", strongest first, for EHLO; nothing for an empty set. */
void sasl_names(unsigned set, struct buf *out);
struct span sasl_name(enum sasl_mechanism mechanism);
bool sasl_find(struct span name, enum sasl_mechanism *ret);	/* any case */
/* The set of what an EHLO line's argument names ("PLAIN LOGIN X-OTHER"); unknown ones are fine. */
unsigned sasl_set_of(struct span names);

/* facts' spans must live as long as the exchange. */
void sasl_init(struct sasl *s, const struct sasl_config *config, const struct sasl_facts *facts);
void sasl_free(struct sasl *s);			/* wipes; a zeroed one is no harm */
/* What stood behind AUTH: mechanism, and perhaps a blank and the initial response. */
enum sasl_action sasl_start(struct sasl *s, struct span argument);
/* The client's answer to a challenge, without CRLF; one that is too long is refused. */
enum sasl_action sasl_line(struct sasl *s, struct span line);
/*
 * For VERIFY_PASSWORD, VERIFY_TOKEN, ADMIT, RELAY. user: the backend's spelling of the name; empty:
 * as the client gave it. why: for the log; may be NULL.
 */
enum sasl_action sasl_answer(struct sasl *s, enum sasl_verdict verdict, struct span user,
			     const char *why);
/* NULL: there is none; a made-up one takes its place, and the proof fails. */
enum sasl_action sasl_answer_scram(struct sasl *s, const struct scram_verifier *verifier,
				   struct span user);
/*
 * The backend goes on: its challenge, base64 as it came; what is not base64 fails with 454. For
 * VERIFY_TOKEN it is what is wrong with the token, in JSON, and the backend is not asked again: the
 * login has failed, whatever the client says to it (RFC 7628 §3.2.3). For another question: 454.
 */
enum sasl_action sasl_answer_relay(struct sasl *s, struct span challenge);

#endif
