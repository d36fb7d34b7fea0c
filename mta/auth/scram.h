/*
 * auth/scram: SCRAM-SHA-256 and -PLUS (RFC 5802, 7677; channel binding tls-exporter, RFC 9266):
 * keys and proofs by OpenSSL, and the messages of both sides. Pure but for randomness.
 *
 * Only scram* know OpenSSL's digests; what else of this room needs a hash, a comparison in constant
 * time or random octets takes them from here.
 */
#ifndef TRAM_AUTH_SCRAM_H
#define TRAM_AUTH_SCRAM_H

#include <stdbool.h>
#include <stdint.h>

#include "mta/base/buf.h"
#include "mta/base/span.h"

enum {
	SCRAM_KEY = 32,			/* octets of SHA-256 */
	SCRAM_SALT = 16,		/* of the salts that we make */
	SCRAM_SALT_MAX = 64,
	SCRAM_NONCE_MAX = 256,
	SCRAM_NAME_MAX = 255,
	SCRAM_ITERATIONS = 10000,	/* of the verifiers that we make */
	SCRAM_ITERATIONS_MIN = 4096,	/* RFC 7677 */
	SCRAM_ITERATIONS_MAX = 10000000,
};

/* What a server keeps instead of the password. */
struct scram_verifier {
	uint32_t iterations;
	uint8_t salt_len;
	uint8_t salt[SCRAM_SALT_MAX];
	uint8_t stored_key[SCRAM_KEY], server_key[SCRAM_KEY];
};

void scram_random(void *to, size_t len);
bool scram_equal(const void *a, const void *b, size_t len);	/* in constant time */
/* HMAC-SHA-256 */
void scram_hmac(struct span key, struct span data, uint8_t ret[SCRAM_KEY]);

/* The password is taken as it is: prepare it before (prep.h). Slow: not on a loop. */
void scram_verifier_make(struct span password, struct span salt, uint32_t iterations,
			 struct scram_verifier *ret);
/* Is this the password? Slow: not on a loop. */
bool scram_verifier_check(const struct scram_verifier *verifier, struct span password);
/*
 * "{SCRAM-SHA-256}10000,salt,StoredKey,ServerKey", base64: as Dovecot writes it. Parsing gives NULL
 * or what is wrong, as words.
 */
void scram_verifier_format(const struct scram_verifier *verifier, struct buf *out);
const char *scram_verifier_parse(struct span text, struct scram_verifier *ret);
/*
 * For a name that nobody has: the same salt each time while the secret lives, and keys that no
 * proof fits.
 */
void scram_verifier_imagine(struct span secret, struct span user, uint32_t iterations,
			    struct scram_verifier *ret);

/* The server's side. */
enum scram_result {
	SCRAM_OK,
	SCRAM_MALFORMED,		/* not a message of SCRAM: 501 5.5.2 */
	SCRAM_REFUSED,			/* why tells; 535 5.7.8 */
};

struct scram_server {
	struct span binding;		/* tls-exporter octets; empty: none. Must outlive this */
	bool plus;			/* the mechanism chosen is -PLUS */
	bool plus_offered;		/* -PLUS was in the list that the client saw */
	struct span user, authzid;	/* from the first message */
	const char *why;		/* of SCRAM_REFUSED, for the log */
	struct buf text;		/* the messages: gs2 header, then what is signed */
	size_t gs2_len;			/* octets of the gs2 header */
	struct buf names;		/* user, authzid and the client's nonce */
	struct span client_nonce;
	char nonce[SCRAM_NONCE_MAX];	/* ours; empty: a random one is made */
	struct scram_verifier verifier;
};

/* A zeroed one with binding, plus, plus_offered set. */
enum scram_result scram_server_first(struct scram_server *s, struct span message);
/* After it: the verifier, and out gets the server's first message. */
void scram_server_challenge(struct scram_server *s, const struct scram_verifier *verifier,
			    struct buf *out);
/* SCRAM_OK: out gets the server's final message. */
enum scram_result scram_server_final(struct scram_server *s, struct span message, struct buf *out);
void scram_server_free(struct scram_server *s);		/* wipes */

/* The client's side: first, read, calculate, final, verify. */
struct scram_client {
	struct span user, authzid, password;	/* prepared; must outlive this */
	struct span binding;		/* empty: no channel binding on our side */
	bool plus;			/* use it: the mechanism chosen is -PLUS */
	/* most iterations that we calculate; 0: SCRAM_ITERATIONS_MAX */
	uint32_t max_iterations;
	const char *why;		/* what was wrong with the server, for the log */
	struct buf text;		/* the messages: gs2 header, then what is signed */
	size_t gs2_len;
	struct span joined;		/* both nonces */
	char nonce[SCRAM_NONCE_MAX];	/* ours; empty: a random one is made */
	uint32_t iterations;
	uint8_t salt_len;
	uint8_t salt[SCRAM_SALT_MAX];
	uint8_t client_key[SCRAM_KEY], server_key[SCRAM_KEY], server_signature[SCRAM_KEY];
};

void scram_client_first(struct scram_client *c, struct buf *out);
/* False: the server's message is wrong; why tells. Sets iterations. */
bool scram_client_read(struct scram_client *c, struct span server_first);
void scram_client_calculate(struct scram_client *c);	/* slow with many iterations */
void scram_client_final(struct scram_client *c, struct buf *out);
/* The server has proved that it knows the verifier; or why tells. */
bool scram_client_verify(struct scram_client *c, struct span server_final);
void scram_client_free(struct scram_client *c);		/* wipes */

#endif
