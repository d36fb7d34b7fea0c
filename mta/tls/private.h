/*
 * private: what context.c, pair.c and tls.c share. Only this folder knows OpenSSL's SSL.
 */
#ifndef TRAM_TLS_PRIVATE_H
#define TRAM_TLS_PRIVATE_H

#include <openssl/ssl.h>

#include "mta/tls/tls.h"

struct pair {
	X509 *leaf;			/* ctx owns it */
	unsigned char *ocsp;		/* a response about it; NULL: none */
	size_t ocsp_len;
	int64_t ocsp_until_ms;
};

/* One identity on one thread. */
struct face {
	SSL_CTX *ctx;
	struct pair pairs[TLS_PAIRS_MAX];	/* the first one's names are the identity's */
	size_t pair_count;
	struct next_key {
		uint8_t spki_sha256[TLS_DIGEST_LEN];
		char kind[32];		/* "EC 256" */
	} next[TLS_PAIRS_MAX];
	size_t next_count;
	const struct tls_identity *from;
};

/* All of a context that one thread uses. */
struct faces {
	struct faces *older;		/* replaced; sessions still use them */
	struct tls_context *owner;
	unsigned thread;
	struct tls_sessions *sessions;	/* client; NULL: none are kept */
	size_t users;			/* sessions */
	size_t count;
	struct face each[];
};

struct tls_context {
	struct span name;		/* of the listener */
	bool server;
	unsigned threads;
	struct tls_settings settings;
	const char *ca;			/* client */
	const struct tls_identity *identities;
	size_t identity_count;
	struct tls_tickets *tickets;
	BIO_METHOD *bio;
	struct faces **by_thread;
	uint8_t digest[TLS_DIGEST_LEN];	/* of the files, when they were loaded */
};

struct tls_loading {
	struct tls_context *context;
	char *error;
};

/* sessions.c */
struct tls_sessions;
struct tls_found {			/* by a full handshake, for those that resume it */
	enum tls_verified verified;
	const char *verify_error;
	enum tls_unverified unverified;
	int64_t until_ms;		/* monotonic */
};
struct tls_sessions *tls_sessions_new(size_t most, int64_t lifetime_ms);
void tls_sessions_free(struct tls_sessions *sessions);	/* NULL is fine */
int64_t tls_sessions_lifetime(const struct tls_sessions *sessions);
void tls_sessions_add(struct tls_sessions *sessions, const uint8_t key[TLS_DIGEST_LEN],
		      SSL_SESSION *session, const struct tls_found *found, int64_t now_ms);
/* A copy; NULL: there is none. */
SSL_SESSION *tls_sessions_take(struct tls_sessions *sessions, const uint8_t key[TLS_DIGEST_LEN],
			       int64_t now_ms, struct tls_found *ret);
void tls_sessions_forget(struct tls_sessions *sessions, const uint8_t key[TLS_DIGEST_LEN]);

/* tls.c */
SSL *tls_ssl(const struct tls *tls);
int tls_on_session(SSL *ssl, SSL_SESSION *session);

/* tickets.c */
int tls_on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
		  EVP_MAC_CTX *mac, int encrypt);

/* context.c */
struct faces *tls_faces_of(const SSL *ssl);
struct faces *tls_faces_use(struct tls_context *context, unsigned thread);
void tls_faces_leave(struct faces *faces);

/* pair.c. All return 0 or -EINVAL, with a sentence in l->error. */
int tls_load_pair(const struct tls_loading *l, struct face *face, struct span chain,
		  struct span key);
int tls_load_next_key(const struct tls_loading *l, struct face *face, struct span path);
int tls_load_ocsp(const struct tls_loading *l, struct face *face, struct span path);
int tls_complain(const struct tls_loading *l, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
int64_t tls_asn1_ms(const ASN1_TIME *time);
void tls_certificate_names(X509 *x, struct buf *out);
void tls_certificate_key(X509 *x, struct buf *out);
void tls_spki_sha256(X509 *x, uint8_t ret[TLS_DIGEST_LEN]);
void tls_tell_pair(const struct face *face, size_t i,
		   void (*each)(void *arg, const struct tls_certificate_facts *facts), void *arg);
/* What OpenSSL's error queue says first, as a phrase; empties the queue. */
const char *tls_reason(void);

#endif
