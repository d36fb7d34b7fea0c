/*
 * tls/context: see context.h.
 */
#include "mta/tls/context.h"

#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

#include "mta/base/arena.h"
#include "mta/base/clock.h"
#include "mta/tls/bio.h"
#include "mta/tls/private.h"

enum { OCSP_MAX = 65536 };

/* Forward secrecy only; CBC is left in for servers of ten years ago. TLS 1.3 has its own list. */
static const char default_ciphers[] = "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!aNULL:!PSK";
/* For who sets a minimum below TLS 1.2: old printers know neither ECDHE nor SHA-2. */
static const char old_ciphers[] = "ALL:!aNULL:!eNULL:!PSK:@SECLEVEL=0";
/* Plain text would be worse than what a server of long ago can do. */
static const char client_ciphers[] = "HIGH:!aNULL:!PSK:!SRP:@SECLEVEL=1";
static const char default_groups[] = "X25519:P-256:P-384:P-521";

const char *
tls_reason(void)
{
	unsigned long code = ERR_get_error();
	const char *reason = ERR_reason_error_string(code);

	ERR_clear_error();
	return reason != NULL ? reason : "unknown reason";
}

struct faces *
tls_faces_of(const SSL *ssl)
{
	return SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
}

/* ---- certificates and keys ---------------------------------------------------------------- */

struct loading {
	struct tls_context *context;
	char *error;
};

__attribute__((format(printf, 2, 3))) static int
complain(const struct loading *l, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(l->error, TLS_ERROR_MAX, format, ap);
	va_end(ap);
	ERR_clear_error();
	return -EINVAL;
}

/* Key and certificate must fit, or clients would see a handshake that fails without a reason. */
static int
load_pair(const struct loading *l, SSL_CTX *ctx, struct span chain, struct span key)
{
	struct arena arena = { 0 };
	const char *chain_path = arena_str(&arena, chain), *key_path = arena_str(&arena, key);
	int rc = 0;

	ERR_clear_error();
	if (SSL_CTX_use_certificate_chain_file(ctx, chain_path) != 1)
		rc = complain(l, "%s: not a readable chain of certificates in PEM (%s); name the "
				 "file with the server's own certificate first", chain_path,
			      tls_reason());
	else if (SSL_CTX_use_PrivateKey_file(ctx, key_path, SSL_FILETYPE_PEM) != 1)
		rc = complain(l, "%s: not a readable private key for %s, in PEM and without a "
				 "password (%s)", key_path, chain_path, tls_reason());
	else if (SSL_CTX_check_private_key(ctx) != 1)
		rc = complain(l, "%s: the key does not belong to the certificate in %s; name the "
				 "pair that was made together", key_path, chain_path);
	arena_free(&arena);
	return rc;
}

static int64_t
asn1_ms(const ASN1_TIME *time)
{
	struct tm tm;

	if (time == NULL || ASN1_TIME_to_tm(time, &tm) != 1)
		return 0;
	return (int64_t)timegm(&tm) * 1000;
}

/* Until when the response may be stapled; 0: it is no good. */
static int64_t
ocsp_until(const unsigned char *bytes, size_t len)
{
	const unsigned char *at = bytes;
	OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &at, (long)len);
	OCSP_BASICRESP *basic = response != NULL ? OCSP_response_get1_basic(response) : NULL;
	OCSP_SINGLERESP *single = basic != NULL ? OCSP_resp_get0(basic, 0) : NULL;
	ASN1_GENERALIZEDTIME *next = NULL;
	int64_t until = 0;

	if (single != NULL) {
		OCSP_single_get0_status(single, NULL, NULL, NULL, &next);
		until = next != NULL ? asn1_ms(next) : INT64_MAX;
	}
	OCSP_BASICRESP_free(basic);
	OCSP_RESPONSE_free(response);
	return until;
}

static int
load_ocsp(const struct loading *l, struct face *face)
{
	FILE *file = fopen(face->from->ocsp, "rb");

	if (file == NULL)
		return complain(l, "%s: %s; let your ACME client write the OCSP response there, or "
				   "remove `ocsp`", face->from->ocsp, strerror(errno));
	face->ocsp = xcalloc(1, OCSP_MAX);
	face->ocsp_len = fread(face->ocsp, 1, OCSP_MAX, file);
	fclose(file);
	face->ocsp_until_ms = ocsp_until(face->ocsp, face->ocsp_len);
	if (face->ocsp_until_ms == 0)
		return complain(l, "%s: not an OCSP response in DER", face->from->ocsp);
	return 0;
}

/* ---- one OpenSSL context ------------------------------------------------------------------ */

static int
on_server_name(SSL *ssl, int *alert, void *arg)
{
	struct faces *faces = arg;
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

	(void)alert;
	for (size_t i = 0; name != NULL && i < faces->count; i++) {
		struct face *face = &faces->each[i];

		if (X509_check_host(face->leaves[0], name, 0, 0, NULL) != 1)
			continue;
		SSL_set_SSL_CTX(ssl, face->ctx);
		return SSL_TLSEXT_ERR_OK;
	}
	return SSL_TLSEXT_ERR_OK;	/* mail servers ask for all kinds of names: the first will do */
}

static int
on_status(SSL *ssl, void *arg)
{
	const struct faces *faces = arg;
	const SSL_CTX *ctx = SSL_get_SSL_CTX(ssl);

	for (size_t i = 0; i < faces->count; i++) {
		const struct face *face = &faces->each[i];
		unsigned char *copy;

		if (face->ctx != ctx || face->ocsp == NULL || wall_ms() >= face->ocsp_until_ms)
			continue;
		copy = OPENSSL_memdup(face->ocsp, face->ocsp_len);
		if (copy == NULL)
			break;
		SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)face->ocsp_len);
		return SSL_TLSEXT_ERR_OK;
	}
	return SSL_TLSEXT_ERR_NOACK;
}

static int
set_protocol(const struct loading *l, SSL_CTX *ctx)
{
	static const int versions[] = { TLS1_VERSION, TLS1_1_VERSION, TLS1_2_VERSION, TLS1_3_VERSION };
	const struct tls_settings *s = &l->context->settings;
	struct arena arena = { 0 };
	const char *ciphers = s->ciphers.len > 0 ? arena_str(&arena, s->ciphers) :
			      s->min_version < TLS_1_2 ? old_ciphers :
			      l->context->server ? default_ciphers : client_ciphers;
	const char *groups = s->groups.len > 0 ? arena_str(&arena, s->groups) : default_groups;
	int rc = 0;

	SSL_CTX_set_min_proto_version(ctx, versions[s->min_version]);
	if (s->min_version < TLS_1_2)
		SSL_CTX_set_security_level(ctx, 0);
	if (SSL_CTX_set_cipher_list(ctx, ciphers) != 1)
		rc = complain(l, "tls-ciphers: OpenSSL knows none of \"%s\" (see: openssl ciphers)",
			      ciphers);
	else if (s->ciphersuites.len > 0 &&
		 SSL_CTX_set_ciphersuites(ctx, arena_str(&arena, s->ciphersuites)) != 1)
		rc = complain(l, "tls-ciphersuites: OpenSSL knows none of \"%.*s\" (see: openssl "
				 "ciphers -tls1_3)", SPAN_FMT(s->ciphersuites));
	else if (SSL_CTX_set1_groups_list(ctx, groups) != 1)
		rc = complain(l, "tls-groups: OpenSSL does not know all of \"%s\"; say, "
				 "\"X25519:P-256\"", groups);
	arena_free(&arena);
	return rc;
}

/* A ticket of one listener must not get past another one's demand for a certificate. */
static void
set_tickets(const struct tls_context *context, SSL_CTX *ctx)
{
	unsigned char id[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	EVP_Digest(context->name.at, context->name.len, id, &len, EVP_sha256(), NULL);
	SSL_CTX_set_session_id_context(ctx, id, len < SSL_MAX_SID_CTX_LENGTH ? len : SSL_MAX_SID_CTX_LENGTH);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(ctx, context->settings.tickets ? 1 : 0);
	if (context->settings.tickets)
		SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, tls_on_ticket);
	else
		SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
}

static int
set_client_ca(const struct loading *l, SSL_CTX *ctx)
{
	const struct tls_settings *s = &l->context->settings;
	STACK_OF(X509_NAME) *names;
	int mode = SSL_VERIFY_PEER;

	if (s->client_certificates == TLS_CLIENT_CERT_OFF)
		return 0;
	if (s->client_ca == NULL || SSL_CTX_load_verify_file(ctx, s->client_ca) != 1)
		return complain(l, "%s: no certificates that clients' ones could be checked with "
				   "(%s); set client-ca", s->client_ca ? s->client_ca : "client-ca",
				s->client_ca ? tls_reason() : "not set");
	names = SSL_load_client_CA_file(s->client_ca);
	if (names != NULL)
		SSL_CTX_set_client_CA_list(ctx, names);
	if (s->client_certificates == TLS_CLIENT_CERT_REQUIRED)
		mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
	SSL_CTX_set_verify(ctx, mode, NULL);
	return 0;
}

static SSL_CTX *
new_ctx(struct faces *faces)
{
	SSL_CTX *ctx = SSL_CTX_new(faces->owner->server ? TLS_server_method() : TLS_client_method());

	if (ctx == NULL)
		abort();		/* no memory */
	SSL_CTX_set_app_data(ctx, faces);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
				 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
	return ctx;
}

static int
load_face(const struct loading *l, struct faces *faces, struct face *face)
{
	const struct tls_identity *from = face->from;
	int rc = set_protocol(l, face->ctx);

	for (size_t i = 0; rc == 0 && i < from->chain_count; i++) {
		rc = load_pair(l, face->ctx, from->chains[i], from->keys[i]);
		face->leaves[i] = SSL_CTX_get0_certificate(face->ctx);
	}
	if (rc == 0 && from->ocsp != NULL)
		rc = load_ocsp(l, face);
	if (rc < 0 || !faces->owner->server)
		return rc;
	set_tickets(faces->owner, face->ctx);
	SSL_CTX_set_tlsext_servername_callback(face->ctx, on_server_name);
	SSL_CTX_set_tlsext_servername_arg(face->ctx, faces);
	SSL_CTX_set_tlsext_status_cb(face->ctx, on_status);
	SSL_CTX_set_tlsext_status_arg(face->ctx, faces);
	return set_client_ca(l, face->ctx);
}

/* ---- contexts ----------------------------------------------------------------------------- */

static void
faces_free(struct faces *faces)
{
	while (faces != NULL) {
		struct faces *older = faces->older;

		for (size_t i = 0; i < faces->count; i++) {
			SSL_CTX_free(faces->each[i].ctx);
			free(faces->each[i].ocsp);
		}
		free(faces);
		faces = older;
	}
}

static int
faces_new(const struct loading *l, struct faces **ret)
{
	struct tls_context *context = l->context;
	size_t count = context->server ? context->identity_count : 1;
	struct faces *faces = xcalloc(1, sizeof(*faces) + count * sizeof(faces->each[0]));
	static const struct tls_identity nobody;
	int rc = 0;

	*ret = faces;
	faces->owner = context;
	for (size_t i = 0; rc == 0 && i < count; i++) {
		struct face *face = &faces->each[faces->count++];

		face->ctx = new_ctx(faces);
		face->from = context->identity_count > 0 ? &context->identities[i] : &nobody;
		rc = load_face(l, faces, face);
	}
	return rc;
}

static int
load_cas(const struct loading *l, SSL_CTX *ctx)
{
	const char *ca = l->context->ca;

	if (ca == NULL) {
		SSL_CTX_set_default_verify_paths(ctx);
		return 0;
	}
	if (SSL_CTX_load_verify_file(ctx, ca) == 1 || SSL_CTX_load_verify_dir(ctx, ca) == 1)
		return 0;
	return complain(l, "%s: neither a file of certificates in PEM nor a directory of them (%s)",
			ca, tls_reason());
}

static int
context_load(struct tls_context *context, char error[TLS_ERROR_MAX])
{
	struct loading l = { .context = context, .error = error };
	int rc = 0;

	context->bio = tls_bio_method();
	context->by_thread = xcalloc(context->threads, sizeof(*context->by_thread));
	for (unsigned i = 0; rc == 0 && i < context->threads; i++) {
		rc = faces_new(&l, &context->by_thread[i]);
		if (rc == 0 && !context->server)
			rc = load_cas(&l, context->by_thread[i]->each[0].ctx);
	}
	if (rc == 0 && !context->server) {
		for (unsigned i = 0; i < context->threads; i++)
			SSL_CTX_dane_enable(context->by_thread[i]->each[0].ctx);
	}
	return rc;
}

static int
context_new(const struct tls_context *like, struct tls_context **ret, char error[TLS_ERROR_MAX])
{
	struct tls_context *context = xcalloc(1, sizeof(*context));
	int rc;

	*context = *like;
	rc = context_load(context, error);
	if (rc < 0) {
		tls_context_free(context);
		context = NULL;
	}
	*ret = context;
	return rc;
}

int
tls_server_context(struct span name, const struct tls_settings *settings,
		   const struct tls_identity *identities, size_t identity_count, unsigned threads,
		   struct tls_context **ret, char error[TLS_ERROR_MAX])
{
	struct tls_context like = {
		.name = name,
		.server = true,
		.threads = threads,
		.settings = *settings,
		.identities = identities,
		.identity_count = identity_count,
	};

	return context_new(&like, ret, error);
}

int
tls_client_context(const struct tls_settings *settings, const char *ca,
		   const struct tls_identity *identity, unsigned threads, struct tls_context **ret,
		   char error[TLS_ERROR_MAX])
{
	struct tls_context like = {
		.name = SPAN("client"),
		.threads = threads,
		.settings = *settings,
		.ca = ca,
		.identities = identity,
		.identity_count = identity != NULL ? 1 : 0,
	};

	return context_new(&like, ret, error);
}

void
tls_context_use_tickets(struct tls_context *context, struct tls_tickets *tickets)
{
	context->tickets = tickets;
}

void
tls_context_free(struct tls_context *context)
{
	if (context == NULL)
		return;
	for (unsigned i = 0; context->by_thread != NULL && i < context->threads; i++)
		faces_free(context->by_thread[i]);
	free(context->by_thread);
	BIO_meth_free(context->bio);
	free(context);
}

int
tls_context_again(const struct tls_context *context, struct tls_context **ret,
		  char error[TLS_ERROR_MAX])
{
	struct tls_context like = *context;

	like.by_thread = NULL;
	like.bio = NULL;
	return context_new(&like, ret, error);
}

void
tls_context_adopt(struct tls_context *context, struct tls_context *fresh, unsigned thread)
{
	struct faces *faces = fresh->by_thread[thread];

	assert(faces != NULL && faces->older == NULL);
	fresh->by_thread[thread] = NULL;
	faces->owner = context;
	faces->older = context->by_thread[thread];
	context->by_thread[thread] = faces;
}

/* ---- what is there, for people ------------------------------------------------------------ */

static void
certificate_names(X509 *leaf, struct buf *out)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);

	for (int i = 0; names != NULL && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (name->type != GEN_DNS)
			continue;
		if (buf_len(out) > 0)
			buf_append(out, SPAN(", "));
		buf_append(out, span_of(ASN1_STRING_get0_data(name->d.dNSName),
					(size_t)ASN1_STRING_length(name->d.dNSName)));
	}
	GENERAL_NAMES_free(names);
}

static void
tell_pair(X509 *leaf, struct tls_certificate_facts *facts,
	  void (*each)(void *arg, const struct tls_certificate_facts *facts), void *arg)
{
	EVP_PKEY *key = X509_get0_pubkey(leaf);
	struct buf names = { 0 }, kind = { 0 };

	if (key == NULL)
		return;
	certificate_names(leaf, &names);
	buf_printf(&kind, "%s %d", EVP_PKEY_get0_type_name(key), EVP_PKEY_get_bits(key));
	facts->names = buf_span(&names);
	facts->key = buf_span(&kind);
	facts->not_after_ms = asn1_ms(X509_get0_notAfter(leaf));
	each(arg, facts);
	buf_free(&names);
	buf_free(&kind);
}

void
tls_context_certificates(const struct tls_context *context,
			 void (*each)(void *arg, const struct tls_certificate_facts *facts),
			 void *arg)
{
	const struct faces *faces = context->by_thread[0];

	for (size_t i = 0; i < faces->count; i++) {
		const struct face *face = &faces->each[i];
		struct tls_certificate_facts facts = { .identity = face->from->name };

		for (size_t j = 0; j < face->from->chain_count; j++) {
			facts.file = face->from->chains[j];
			tell_pair(face->leaves[j], &facts, each, arg);
		}
	}
}
