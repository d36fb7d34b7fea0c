/*
 * auth/sasl_client: the client's side of one AUTH exchange, for smarthosts, as a pure machine.
 *
 *	set = sasl_set_of(the words behind AUTH in the answer to EHLO);
 *	if (!sasl_client_choose(&config, set, &mechanism)) … nothing that we may use
 *	sasl_client_init(&c, &config, mechanism);
 *	action = sasl_client_start(&c);			c.out: "AUTH SCRAM-SHA-256 biws…"
 *	SASL_CLIENT_SEND: send c.out; action = sasl_client_reply(&c, &reply) with what comes
 *	SASL_CLIENT_WORK: sasl_client_work(&c) in the pool; action = sasl_client_worked(&c)
 *	SASL_CLIENT_DONE, SASL_CLIENT_FAILED: sasl_client_free(&c)
 *
 * With SCRAM the server must prove that it knows the password, too, or DONE does not come. Whether
 * the connection is good enough for a password is the owner's to decide (config.allowed).
 */
#ifndef TRAM_AUTH_SASL_CLIENT_H
#define TRAM_AUTH_SASL_CLIENT_H

#include "mta/auth/sasl.h"

struct sasl_client_config {
	struct span user;
	struct span authzid;		/* mostly empty */
	struct span password;		/* empty: none: no PLAIN, LOGIN, SCRAM */
	struct span token;		/* empty: none: no XOAUTH2, OAUTHBEARER */
	struct span binding;		/* tls-exporter; empty: none: no -PLUS */
	bool certificate;		/* we showed one: EXTERNAL is possible */
	unsigned allowed;		/* set of mechanisms */
	struct span host;		/* OAUTHBEARER's host=; may be empty */
	uint16_t port;			/* and port=; 0: not told */
	struct span nonce;		/* tests: SCRAM's */
};

enum sasl_client_action {
	SASL_CLIENT_SEND,		/* out, with its CRLF; then wait for the reply */
	/* much to calculate: sasl_client_work() off the loop, then sasl_client_worked() on it */
	SASL_CLIENT_WORK,
	SASL_CLIENT_DONE,
	/* reply: the server's; or ours, 454 4.7.0: it said what it must not, or why tells */
	SASL_CLIENT_FAILED,
};

struct sasl_client {
	const struct sasl_client_config *config;
	enum sasl_mechanism mechanism;
	struct buf out;
	struct reply reply;		/* its text lives until sasl_client_free() */
	/* FAILED: these credentials are not taken: they will not be better in a minute */
	bool refused;
	/* FAILED with a token: it may be old: get a fresh one, try once more */
	bool token_refused;
	const char *why;		/* NULL if reply is the server's; else what it did wrong */
	/* the server's error (JSON) about a token, on one line, for the log; may be empty */
	struct buf server_error;
	unsigned state;
	struct buf text, user, authzid, password;
	struct scram_client scram;
};

/* The strongest that is offered, allowed and possible. */
bool sasl_client_choose(const struct sasl_client_config *config, unsigned offered,
			enum sasl_mechanism *ret);
/* config must outlive it. */
void sasl_client_init(struct sasl_client *c, const struct sasl_client_config *config,
		      enum sasl_mechanism mechanism);
enum sasl_client_action sasl_client_start(struct sasl_client *c);
enum sasl_client_action sasl_client_reply(struct sasl_client *c, const struct reply *reply);
/* May run on another thread while nobody else touches c. */
void sasl_client_work(struct sasl_client *c);
enum sasl_client_action sasl_client_worked(struct sasl_client *c);
void sasl_client_free(struct sasl_client *c);		/* wipes */

#endif
