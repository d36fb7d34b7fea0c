/*
 * auth/sasl_client: the client's side of one AUTH exchange, for smarthosts, as a pure machine.
 *
 *	set = sasl_set_of(the words behind AUTH in the EHLO answer);
 *	if (!sasl_client_choose(&config, set, &mechanism)) … the server offers nothing that we may use
 *	sasl_client_init(&c, &config, mechanism);
 *	action = sasl_client_start(&c);			c.out = "AUTH SCRAM-SHA-256 biws…" with CRLF
 *	SASL_CLIENT_SEND → send c.out, then action = sasl_client_reply(&c, &reply) with what comes
 *	SASL_CLIENT_DONE, SASL_CLIENT_FAILED → sasl_client_free()
 *
 * With SCRAM the server must prove that it knows the password, too, or DONE does not come. Whether
 * the connection is good enough for a password is the owner's to decide (allowed).
 */
#ifndef TRAM_AUTH_SASL_CLIENT_H
#define TRAM_AUTH_SASL_CLIENT_H

#include "mta/auth/sasl.h"

struct sasl_client_config {
	struct span user;
	struct span authzid;		/* mostly empty */
	struct span password;		/* empty: none: no PLAIN, LOGIN, SCRAM */
	struct span token;		/* empty: none: no XOAUTH2, OAUTHBEARER */
	struct span binding;		/* tls-exporter; empty: none */
	bool certificate;		/* we showed one: EXTERNAL is possible */
	unsigned allowed;		/* set of mechanisms */
	struct span host;		/* OAUTHBEARER's host=; may be empty */
	uint16_t port;			/* and port=; 0: not told */
	struct span nonce;		/* tests: SCRAM's */
};

enum sasl_client_action {
	SASL_CLIENT_SEND,		/* out, with its CRLF; then wait for the reply */
	SASL_CLIENT_DONE,
	/*
	 * reply tells: the server's own, or one of ours (454 4.7.0: it said what it should not have,
	 * or did not prove itself)
	 */
	SASL_CLIENT_FAILED,
};

struct sasl_client {
	const struct sasl_client_config *config;
	enum sasl_mechanism mechanism;
	struct buf out;
	struct reply reply;		/* its text lives until sasl_client_free() */
	/* FAILED: the server refused the credentials (535 and its like): do not try them again soon */
	bool refused;
	/* FAILED: a token may be old: get a fresh one, then try once more */
	bool token_refused;
	const char *why;		/* of our own failures */
	unsigned state;
	struct buf text, secret;
	struct scram_client scram;
};

/* The strongest that is offered, allowed and possible. */
bool sasl_client_choose(const struct sasl_client_config *config, unsigned offered,
			enum sasl_mechanism *ret);
void sasl_client_init(struct sasl_client *c, const struct sasl_client_config *config,
		      enum sasl_mechanism mechanism);
enum sasl_client_action sasl_client_start(struct sasl_client *c);
/* Any reply to what was sent. */
enum sasl_client_action sasl_client_reply(struct sasl_client *c, const struct reply *reply);
void sasl_client_free(struct sasl_client *c);		/* wipes */

#endif
