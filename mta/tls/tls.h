/*
 * tls: one connection's TLS, either side: octets in, octets out, no I/O. RFC 8446, 5246.
 *
 * The owner (net/stream) feeds what it read and sends what gathers in `out`. Nothing is read into
 * or kept in the middle: what has been fed is decrypted at once. A failure is for good; `out` may
 * then hold an alert that should still be sent. One thread at a time, the one whose number was
 * given.
 */
#ifndef TRAM_TLS_TLS_H
#define TRAM_TLS_TLS_H

#include "mta/tls/context.h"

struct tls;

enum tls_state {
	TLS_SHAKING,			/* the handshake goes on */
	TLS_OPEN,
	TLS_CLOSED,			/* the peer said close_notify: nothing more comes from it */
	TLS_FAILED,			/* tls_error() says why */
};

/* What a connection that we make must find. */
struct tls_peer {
	struct span sni;		/* host name; empty: none is sent */
	/* any of these in the certificate, if CA or DANE-TA decide */
	struct span *names;
	size_t name_count;
	/*
	 * Names stand in subjectAltName only (RFC 8461 §4.2). Else a certificate that has no host
	 * name there may have it as the subject's common name, as RFC 7672 §3.2.3 has it.
	 */
	bool alt_names_only;
	struct tls_tlsa *tlsa;		/* DANE (RFC 7672): usable records; none: the CAs decide */
	size_t tlsa_count;
	/*
	 * Who is called, and what is asked of him: a session of an earlier connection is resumed
	 * only if this, and all above, is as it was. Empty: a full handshake, and nothing is kept.
	 */
	struct span resume;
};

struct tls_tlsa {
	uint8_t usage, selector, matching;
	struct span data;
};

enum tls_verified {
	TLS_NOT_VERIFIED,		/* verify_error says why, or nobody asked */
	TLS_BY_CA,			/* chain and name (a client's: chain) */
	TLS_BY_DANE,
};

enum tls_unverified {			/* why not */
	TLS_UNVERIFIED_OTHER,
	TLS_UNVERIFIED_NAME,		/* it has another name */
	TLS_UNVERIFIED_EXPIRED,		/* it, or one above it; or not valid yet */
	TLS_UNVERIFIED_ISSUER,		/* nobody we trust vouches for it */
	TLS_UNVERIFIED_TLSA,		/* no TLSA record names it */
};

struct tls_facts {
	const char *version;		/* "TLSv1.3" */
	const char *cipher;		/* "TLS_AES_256_GCM_SHA384" */
	const char *group;		/* "X25519"; NULL: none */
	int bits;
	bool resumed;			/* verified is what the first handshake found */
	const char *sni;		/* as the client asked; NULL */
	bool peer_certificate;
	enum tls_verified verified;
	const char *verify_error;	/* NULL if verified */
	enum tls_unverified unverified;
};

/* A certificate that the peer has shown. */
struct tls_link {
	struct span subject, issuer;	/* "CN=mx.example.org" */
	struct span names;		/* "mx.example.org, *.example.org" */
	struct span key;		/* "RSA 2048" */
	int64_t not_after_ms;		/* wall clock */
	uint8_t spki_sha256[TLS_DIGEST_LEN];	/* of its key: what "3 1 1" has */
};

struct tls *tls_server_new(struct tls_context *context, unsigned thread);
/* peer is copied. */
struct tls *tls_client_new(struct tls_context *context, unsigned thread,
			   const struct tls_peer *peer);
/* How many of peer's TLSA records the library can read; none: whoever it is, no record names it. */
size_t tls_tlsa_count(const struct tls *tls);
/* What it found is not good enough: it, and those like it, will not be resumed. */
void tls_forget(struct tls *tls);
bool tls_offers_session(const struct tls *tls);			/* an earlier one */
void tls_free(struct tls *tls);					/* NULL is fine */

/* A client begins: its hello. A server's first call may have no octets. */
enum tls_state tls_receive(struct tls *tls, struct span in, struct buf *plain, struct buf *out);
/* Once open. False: it has failed. */
bool tls_send(struct tls *tls, struct span plain, struct buf *out);
/* Our close_notify. */
void tls_close(struct tls *tls, struct buf *out);

enum tls_state tls_state(const struct tls *tls);
const char *tls_error(const struct tls *tls);			/* "certificate has expired" … */
/* Once open; what it points to lives as long as tls. */
void tls_facts(const struct tls *tls, struct tls_facts *ret);
/* Of a client: as they were shown, the server's own first. The link is good during the call. */
enum { TLS_LINKS_MAX = 10 };
void tls_chain(const struct tls *tls, void (*each)(void *arg, const struct tls_link *link),
	       void *arg);
/* Channel binding tls-exporter (RFC 9266): 32 octets; false: not with this connection. */
bool tls_channel_binding(const struct tls *tls, uint8_t ret[32]);
/*
 * Who a verified client certificate says it is, for EXTERNAL: its first e-mail address, else its
 * common name. False: no certificate, not verified, or neither in it.
 */
bool tls_client_identity(const struct tls *tls, struct buf *ret);

#endif
