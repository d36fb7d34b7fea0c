/*
 * private: what context.c and tls.c share. Only this folder knows OpenSSL's SSL.
 */
#ifndef TRAM_TLS_PRIVATE_H
#define TRAM_TLS_PRIVATE_H

#include <openssl/ssl.h>

#include "mta/tls/tls.h"

/* One identity on one thread. */
struct face {
	SSL_CTX *ctx;
	X509 *leaves[TLS_PAIRS_MAX];	/* the first one's names are the identity's; ctx owns them */
	const struct tls_identity *from;
	unsigned char *ocsp;
	size_t ocsp_len;
	int64_t ocsp_until_ms;
};

/* All of a context that one thread uses. */
struct faces {
	struct faces *older;		/* replaced; sessions may still use them */
	struct tls_context *owner;
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
};


/* tickets.c */
int tls_on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
		  EVP_MAC_CTX *mac, int encrypt);

/* context.c */
struct faces *tls_faces_of(const SSL *ssl);
/* What OpenSSL's error queue says first, as a phrase; empties the queue. */
const char *tls_reason(void);

#endif
