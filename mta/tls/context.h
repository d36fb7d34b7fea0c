/*
 * tls/context: settings, certificates and keys → what sessions are made from. Blocks (reads files):
 * at start, at a reload and when a file has changed, never for a session.
 *
 * A server context has one identity for each `certificate` of the configuration, each with one or
 * two pairs of chain and key (RSA and ECDSA): the client's SNI picks the first whose certificate
 * names that host, else the first of all. A context has one OpenSSL context per identity and
 * reactor, because they would wait for each other's locks. RFC 8446, 5246, 6066, 8461 §4.
 */
#ifndef TRAM_TLS_CONTEXT_H
#define TRAM_TLS_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mta/base/buf.h"
#include "mta/base/files.h"
#include "mta/base/span.h"

enum tls_version { TLS_1_0, TLS_1_1, TLS_1_2, TLS_1_3 };
enum tls_client_certificates { TLS_CLIENT_CERT_OFF, TLS_CLIENT_CERT_OPTIONAL,
			       TLS_CLIENT_CERT_REQUIRED };

enum { TLS_ERROR_MAX = 512, TLS_PAIRS_MAX = 4, TLS_DIGEST_LEN = 32 };

struct tls_identity {			/* a `certificate` section */
	struct span name;		/* its title */
	struct span *chains, *keys;	/* paths; as many of each: leaf first, PEM */
	size_t chain_count, key_count;
	/* paths of responses to staple (DER), each about one pair */
	struct span *ocsps;
	size_t ocsp_count;
	struct span *next_keys;		/* paths: of certificates to come; to be published before */
	size_t next_key_count;
	const char *file;		/* where it is configured, for messages */
	int line;
};

struct tls_settings {
	enum tls_version min_version;
	struct span ciphers;		/* of TLS 1.2 and below, OpenSSL's notation; empty: ours */
	struct span ciphersuites;	/* of TLS 1.3 */
	struct span groups;
	bool tickets;			/* session tickets */
	enum tls_client_certificates client_certificates;
	const char *client_ca;		/* PEM: who signs clients' certificates */
	/* where files are while they are read; NULL: where they say */
	const struct files *files;
	/* of connections that we make, to be resumed: how many for a thread, how long */
	size_t sessions;		/* 0: none */
	int64_t session_lifetime_ms;
};

/* Keys of session tickets, shared by all contexts of the process; thread-safe. RFC 5077 §5.5. */
struct tls_tickets;
struct tls_tickets *tls_tickets_new(int64_t rotate_ms);
void tls_tickets_free(struct tls_tickets *tickets);

struct tls_context;

/*
 * For the listener `name`. Everything it points to must live as long as the context. -EINVAL (with
 * a sentence that names the file and says what to do) or -errno.
 */
int tls_server_context(struct span name, const struct tls_settings *settings,
		       const struct tls_identity *identities, size_t identity_count,
		       unsigned threads, struct tls_context **ret, char error[TLS_ERROR_MAX]);
/*
 * For connections that we make. ca: a file or directory (PEM); NULL: the system's. identity: what
 * we show a server that asks; NULL: nothing.
 */
int tls_client_context(const struct tls_settings *settings, const char *ca,
		       const struct tls_identity *identity, unsigned threads,
		       struct tls_context **ret, char error[TLS_ERROR_MAX]);
/* Until then no tickets are given. */
void tls_context_use_tickets(struct tls_context *context, struct tls_tickets *tickets);
void tls_context_free(struct tls_context *context);	/* NULL is fine; after its sessions */

/*
 * The files have changed: reads them anew into a context like this one, whose insides are taken
 * over reactor by reactor, each on its own thread; sessions keep what they began with.
 */
int tls_context_again(const struct tls_context *context, const struct files *files,
		      struct tls_context **ret, char error[TLS_ERROR_MAX]);
void tls_context_adopt(struct tls_context *context, struct tls_context *fresh, unsigned thread);
/* Are the files others than those of `known`, which is then theirs? Any thread. */
bool tls_context_changed(const struct tls_context *context, const struct files *files,
			 uint8_t known[TLS_DIGEST_LEN]);
/* Of what this context itself was made from. */
void tls_context_digest(const struct tls_context *context, uint8_t ret[TLS_DIGEST_LEN]);

enum tls_ocsp {
	TLS_OCSP_NONE,			/* none is configured */
	TLS_OCSP_STAPLED,
	TLS_OCSP_EXPIRED,
	TLS_OCSP_FOREIGN,		/* what there is, is about another certificate */
};

/* For `tramctl certs` and the warning before expiry. */
struct tls_certificate_facts {
	struct span identity;		/* its title */
	struct span names;		/* "mail.example.org, *.example.org" */
	struct span key;		/* "ECDSA 256", "RSA 2048" */
	struct span file;
	int64_t not_after_ms;		/* wall clock */
	uint8_t spki_sha256[TLS_DIGEST_LEN];	/* of its key */
	enum tls_ocsp ocsp;
	bool next;			/* a key without a certificate yet: no names, no expiry */
};
/* Calls `each` once per pair. The facts are good during the call. The first thread only. */
void tls_context_certificates(const struct tls_context *context,
			      void (*each)(void *arg, const struct tls_certificate_facts *facts),
			      void *arg);
/* The same for those that a client gets to see who asks for this host, then its next keys. */
void tls_context_shown(const struct tls_context *context, struct span host,
		       void (*each)(void *arg, const struct tls_certificate_facts *facts),
		       void *arg);

#endif
