/*
 * tls/context: see context.h.
 */
#include "mta/tls/context.h"

#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/base/arena.h"
#include "mta/base/clock.h"
#include "mta/tls/bio.h"
#include "mta/tls/private.h"

/* Forward secrecy only; CBC is left in for servers of ten years ago. TLS 1.3 has its own list. */
static const char default_ciphers[] = "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!aNULL:!PSK";
/* For who sets a minimum below TLS 1.2: old printers know neither ECDHE nor SHA-2. */
static const char old_ciphers[] = "ALL:!aNULL:!eNULL:!PSK:@SECLEVEL=0";
/* Plain text would be worse than what a server of long ago can do. */
static const char client_ciphers[] = "HIGH:!aNULL:!PSK:!SRP:@SECLEVEL=1";
static const char default_groups[] = "X25519:P-256:P-384:P-521";
/* Who asks us for it has got its longer hello through to us. OpenSSL has it from 3.5 on. */
static const char hybrid_groups[] = "X25519MLKEM768:X25519:P-256:P-384:P-521";

struct faces *
tls_faces_of(const SSL *ssl)
{
	return SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
}

/* ---- one OpenSSL context ------------------------------------------------------------------ */

/* NULL: none has it. */
static const struct face *
face_of(const struct faces *faces, const char *name)
{
	for (size_t i = 0; i < faces->count; i++)
		if (X509_check_host(faces->each[i].pairs[0].leaf, name, 0, 0, NULL) == 1)
			return &faces->each[i];
	return NULL;
}

static int
on_server_name(SSL *ssl, int *alert, void *arg)
{
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	const struct face *face = name != NULL ? face_of(arg, name) : NULL;

	(void)alert;
	if (face != NULL)
		SSL_set_SSL_CTX(ssl, face->ctx);
	/* mail servers ask for all kinds of names: the first will do */
	return SSL_TLSEXT_ERR_OK;
}

/* Of the pair that has been chosen for this client. */
static int
on_status(SSL *ssl, void *arg)
{
	const struct faces *faces = arg;
	const X509 *shown = SSL_get_certificate(ssl);

	for (size_t i = 0; i < faces->count * TLS_PAIRS_MAX; i++) {
		const struct pair *pair = &faces->each[i / TLS_PAIRS_MAX].pairs[i % TLS_PAIRS_MAX];
		unsigned char *copy;

		if (pair->leaf != shown || pair->ocsp == NULL || wall_ms() >= pair->ocsp_until_ms)
			continue;
		copy = OPENSSL_memdup(pair->ocsp, pair->ocsp_len);
		if (copy == NULL)
			break;
		SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)pair->ocsp_len);
		return SSL_TLSEXT_ERR_OK;
	}
	return SSL_TLSEXT_ERR_NOACK;
}

static bool
set_groups(const struct tls_context *context, SSL_CTX *ctx, const char *groups)
{
	if (context->settings.groups.len == 0 && context->server &&
	    SSL_CTX_set1_groups_list(ctx, hybrid_groups) == 1)
		return true;
	return SSL_CTX_set1_groups_list(ctx, groups) == 1;
}

static int
set_protocol(const struct tls_loading *l, SSL_CTX *ctx)
{
	static const int versions[] = { TLS1_VERSION, TLS1_1_VERSION, TLS1_2_VERSION,
					TLS1_3_VERSION };
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
		rc = tls_complain(
			l, "tls-ciphers: OpenSSL knows none of \"%s\" (see: openssl ciphers)",
			ciphers);
	else if (s->ciphersuites.len > 0 &&
		 SSL_CTX_set_ciphersuites(ctx, arena_str(&arena, s->ciphersuites)) != 1)
		rc = tls_complain(l,
				  "tls-ciphersuites: OpenSSL knows none of \"%.*s\" (see: openssl "
				  "ciphers -tls1_3)",
				  SPAN_FMT(s->ciphersuites));
	else if (!set_groups(l->context, ctx, groups))
		rc = tls_complain(l, "tls-groups: OpenSSL does not know all of \"%s\"; say, "
				 "\"X25519:P-256\"", groups);
	ERR_clear_error();
	arena_free(&arena);
	return rc;
}

static void
digest_file(EVP_MD_CTX *digest, const struct files *files, const char *path)
{
	char room[FILES_PATH_MAX];
	FILE *file = fopen(files_at(files, path, room), "rb");
	char piece[4096];
	size_t n;

	EVP_DigestUpdate(digest, path, strlen(path) + 1);
	while (file != NULL && (n = fread(piece, 1, sizeof(piece), file)) > 0)
		EVP_DigestUpdate(digest, piece, n);
	OPENSSL_cleanse(piece, sizeof(piece));
	if (file != NULL)
		fclose(file);
}

/*
 * A ticket of one listener must not get past another one's demand for a certificate, nor past what
 * this one has demanded since a reload.
 */
static void
set_tickets(const struct tls_context *context, SSL_CTX *ctx)
{
	const struct tls_settings *s = &context->settings;
	EVP_MD_CTX *digest = EVP_MD_CTX_new();
	unsigned char id[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	EVP_DigestInit_ex(digest, EVP_sha256(), NULL);
	EVP_DigestUpdate(digest, &s->client_certificates, sizeof(s->client_certificates));
	if (s->client_ca != NULL)
		digest_file(digest, s->files, s->client_ca);
	EVP_DigestUpdate(digest, context->name.at, context->name.len);
	EVP_DigestFinal_ex(digest, id, &len);
	EVP_MD_CTX_free(digest);
	SSL_CTX_set_session_id_context(ctx, id,
				       len < SSL_MAX_SID_CTX_LENGTH ? len : SSL_MAX_SID_CTX_LENGTH);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(ctx, s->tickets ? 1 : 0);
	if (s->tickets)
		SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, tls_on_ticket);
	else
		SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
}

/* A client with a certificate that we do not know is one without: other mail servers have those. */
static int
take_any(int good, X509_STORE_CTX *store)
{
	(void)good;
	(void)store;
	return 1;
}

static int
set_client_ca(const struct tls_loading *l, SSL_CTX *ctx)
{
	const struct tls_settings *s = &l->context->settings;
	bool required = s->client_certificates == TLS_CLIENT_CERT_REQUIRED;
	char room[FILES_PATH_MAX];
	const char *ca = s->client_ca == NULL ? NULL : files_at(s->files, s->client_ca, room);
	STACK_OF(X509_NAME) *names;

	if (s->client_certificates == TLS_CLIENT_CERT_OFF)
		return 0;
	if (ca == NULL || SSL_CTX_load_verify_file(ctx, ca) != 1)
		return tls_complain(l,
				    "%s: no certificates that clients' ones could be checked with "
				    "(%s); set client-ca",
				    s->client_ca ? s->client_ca : "client-ca",
				    s->client_ca ? tls_reason() : "not set");
	names = SSL_load_client_CA_file(ca);
	if (names != NULL)
		SSL_CTX_set_client_CA_list(ctx, names);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | (required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
			   required ? NULL : take_any);
	return 0;
}

static SSL_CTX *
new_ctx(struct faces *faces)
{
	SSL_CTX *ctx =
		SSL_CTX_new(faces->owner->server ? TLS_server_method() : TLS_client_method());

	if (ctx == NULL)
		abort();		/* no memory */
	SSL_CTX_set_app_data(ctx, faces);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
				 SSL_OP_CLEANSE_PLAINTEXT |
				 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
	if (!faces->owner->server) {
		SSL_CTX_set_session_cache_mode(ctx, faces->sessions == NULL ? SSL_SESS_CACHE_OFF :
					       SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
		SSL_CTX_sess_set_new_cb(ctx, tls_on_session);
	}
	return ctx;
}

static int
load_face(const struct tls_loading *l, struct faces *faces, struct face *face)
{
	const struct tls_identity *from = face->from;
	int rc = set_protocol(l, face->ctx);

	for (size_t i = 0; rc == 0 && i < from->chain_count; i++)
		rc = tls_load_pair(l, face, from->chains[i], from->keys[i]);
	for (size_t i = 0; rc == 0 && i < from->ocsp_count; i++)
		rc = tls_load_ocsp(l, face, from->ocsps[i]);
	if (rc < 0 || !faces->owner->server)
		return rc;
	for (size_t i = 0; rc == 0 && i < from->next_key_count; i++)
		rc = tls_load_next_key(l, face, from->next_keys[i]);
	if (rc < 0)
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
faces_free_one(struct faces *faces)
{
	tls_sessions_free(faces->sessions);
	for (size_t i = 0; i < faces->count; i++) {
		SSL_CTX_free(faces->each[i].ctx);
		for (size_t j = 0; j < TLS_PAIRS_MAX; j++)
			free(faces->each[i].pairs[j].ocsp);
	}
	free(faces);
}

static void
faces_free(struct faces *faces)
{
	while (faces != NULL) {
		struct faces *older = faces->older;

		faces_free_one(faces);
		faces = older;
	}
}

struct faces *
tls_faces_use(struct tls_context *context, unsigned thread)
{
	struct faces *faces = context->by_thread[thread];

	faces->users++;
	return faces;
}

/* What was replaced goes with its last session, or a year of OCSP responses would stay. */
static void
drop_unused(struct tls_context *context, unsigned thread)
{
	struct faces **at = &context->by_thread[thread]->older;

	while (*at != NULL) {
		struct faces *old = *at;

		if (old->users > 0) {
			at = &old->older;
			continue;
		}
		*at = old->older;
		faces_free_one(old);
	}
}

void
tls_faces_leave(struct faces *faces)
{
	struct tls_context *context = faces->owner;

	assert(faces->users > 0);
	faces->users--;
	if (faces->users == 0 && faces != context->by_thread[faces->thread])
		drop_unused(context, faces->thread);
}

static int
faces_new(const struct tls_loading *l, unsigned thread, struct faces **ret)
{
	struct tls_context *context = l->context;
	size_t count = context->server ? context->identity_count : 1;
	struct faces *faces = xcalloc(1, sizeof(*faces) + count * sizeof(faces->each[0]));
	static const struct tls_identity nobody;
	int rc = 0;

	*ret = faces;
	faces->owner = context;
	faces->thread = thread;
	if (!context->server && context->settings.sessions > 0)
		faces->sessions = tls_sessions_new(context->settings.sessions,
						   context->settings.session_lifetime_ms);
	for (size_t i = 0; rc == 0 && i < count; i++) {
		struct face *face = &faces->each[faces->count++];

		face->ctx = new_ctx(faces);
		face->from = context->identity_count > 0 ? &context->identities[i] : &nobody;
		rc = load_face(l, faces, face);
	}
	return rc;
}

static int
load_cas(const struct tls_loading *l, SSL_CTX *ctx)
{
	const char *ca = l->context->ca, *at;
	char room[FILES_PATH_MAX];

	if (ca == NULL) {
		SSL_CTX_set_default_verify_paths(ctx);
		return 0;
	}
	at = files_at(l->context->settings.files, ca, room);
	if (SSL_CTX_load_verify_file(ctx, at) == 1 || SSL_CTX_load_verify_dir(ctx, at) == 1)
		return 0;
	return tls_complain(
		l, "%s: neither a file of certificates in PEM nor a directory of them (%s)", ca,
		tls_reason());
}

/* Of all files that it was made from, as they are now. */
static void
files_digest(const struct tls_context *context, const struct files *files,
	     uint8_t ret[TLS_DIGEST_LEN])
{
	EVP_MD_CTX *digest = EVP_MD_CTX_new();
	struct arena arena = { 0 };

	EVP_DigestInit_ex(digest, EVP_sha256(), NULL);
	for (size_t i = 0; i < context->identity_count; i++) {
		const struct tls_identity *from = &context->identities[i];

		for (size_t j = 0; j < from->chain_count; j++)
			digest_file(digest, files, arena_str(&arena, from->chains[j]));
		for (size_t j = 0; j < from->key_count; j++)
			digest_file(digest, files, arena_str(&arena, from->keys[j]));
		for (size_t j = 0; j < from->ocsp_count; j++)
			digest_file(digest, files, arena_str(&arena, from->ocsps[j]));
		for (size_t j = 0; j < from->next_key_count; j++)
			digest_file(digest, files, arena_str(&arena, from->next_keys[j]));
	}
	if (context->settings.client_ca != NULL)
		digest_file(digest, files, context->settings.client_ca);
	if (context->ca != NULL)
		digest_file(digest, files, context->ca);
	EVP_DigestFinal_ex(digest, ret, NULL);
	EVP_MD_CTX_free(digest);
	arena_free(&arena);
}

bool
tls_context_changed(const struct tls_context *context, const struct files *files,
		    uint8_t known[TLS_DIGEST_LEN])
{
	uint8_t now[TLS_DIGEST_LEN];

	files_digest(context, files, now);
	if (memcmp(now, known, TLS_DIGEST_LEN) == 0)
		return false;
	memcpy(known, now, TLS_DIGEST_LEN);
	return true;
}

void
tls_context_digest(const struct tls_context *context, uint8_t ret[TLS_DIGEST_LEN])
{
	memcpy(ret, context->digest, TLS_DIGEST_LEN);
}

static int
context_load(struct tls_context *context, char error[TLS_ERROR_MAX])
{
	struct tls_loading l = { .context = context, .error = error };
	int rc = 0;

	/* before they are read: see tls_context_changed() */
	files_digest(context, context->settings.files, context->digest);
	context->bio = tls_bio_method();
	context->by_thread = xcalloc(context->threads, sizeof(*context->by_thread));
	for (unsigned i = 0; rc == 0 && i < context->threads; i++) {
		rc = faces_new(&l, i, &context->by_thread[i]);
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
	context->settings.files = NULL;
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
tls_context_again(const struct tls_context *context, const struct files *files,
		  struct tls_context **ret, char error[TLS_ERROR_MAX])
{
	struct tls_context like = *context;

	like.settings.files = files;
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
	drop_unused(context, thread);
}

void
tls_context_certificates(const struct tls_context *context,
			 void (*each)(void *arg, const struct tls_certificate_facts *facts),
			 void *arg)
{
	const struct faces *faces = context->by_thread[0];

	for (size_t i = 0; i < faces->count; i++)
		for (size_t j = 0; j < faces->each[i].pair_count; j++)
			tls_tell_pair(&faces->each[i], j, each, arg);
}

void
tls_context_shown(const struct tls_context *context, struct span host,
		  void (*each)(void *arg, const struct tls_certificate_facts *facts), void *arg)
{
	const struct faces *faces = context->by_thread[0];
	struct arena arena = { 0 };
	const struct face *face = face_of(faces, arena_str(&arena, host));

	if (face == NULL)
		face = &faces->each[0];
	for (size_t i = 0; i < face->pair_count; i++)
		tls_tell_pair(face, i, each, arg);
	for (size_t i = 0; i < face->next_count; i++) {
		struct tls_certificate_facts facts = {
			.identity = face->from->name,
			.key = span_str(face->next[i].kind),
			.file = face->from->next_keys[i],
			.next = true,
		};

		memcpy(facts.spki_sha256, face->next[i].spki_sha256, TLS_DIGEST_LEN);
		each(arg, &facts);
	}
	arena_free(&arena);
}
