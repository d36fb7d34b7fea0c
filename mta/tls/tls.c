/*
 * tls: see tls.h.
 */
#include "mta/tls/tls.h"

#include <assert.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "mta/base/arena.h"
#include "mta/base/clock.h"
#include "mta/tls/bio.h"
#include "mta/tls/private.h"

enum { PIECE = 16384 };

struct tls {
	SSL *ssl;
	struct faces *faces;
	struct tls_wire wire;
	enum tls_state state;
	const char *error;
	size_t tlsa_count;		/* records that could be read */
	/* client */
	bool keeps;			/* sessions under key */
	bool offered;			/* one that was kept */
	uint8_t key[TLS_DIGEST_LEN];
	struct tls_found found;		/* by the handshake of the session that was offered */
};

/* ---- beginning and end -------------------------------------------------------------------- */

static struct tls *
tls_new(struct tls_context *context, unsigned thread)
{
	struct tls *tls = xcalloc(1, sizeof(*tls));
	BIO *bio = BIO_new(context->bio);

	tls->faces = tls_faces_use(context, thread);
	tls->ssl = SSL_new(tls->faces->each[0].ctx);
	if (tls->ssl == NULL || bio == NULL)
		abort();		/* no memory */
	BIO_set_data(bio, &tls->wire);
	SSL_set_bio(tls->ssl, bio, bio);
	SSL_set_app_data(tls->ssl, tls);
	return tls;
}

struct tls *
tls_server_new(struct tls_context *context, unsigned thread)
{
	struct tls *tls = tls_new(context, thread);

	SSL_set_accept_state(tls->ssl);
	return tls;
}

/* Names are checked by OpenSSL, with or without DANE; what it found is asked once it is open. */
static void
expect_names(struct tls *tls, const struct tls_peer *peer)
{
	struct arena arena = { 0 };

	SSL_set_hostflags(tls->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
			  (peer->alt_names_only ? X509_CHECK_FLAG_NEVER_CHECK_SUBJECT : 0u));
	for (size_t i = 0; i < peer->name_count; i++)
		SSL_add1_host(tls->ssl, arena_str(&arena, peer->names[i]));
	if (peer->sni.len > 0)
		SSL_set_tlsext_host_name(tls->ssl, arena_str(&arena, peer->sni));
	arena_free(&arena);
}

static void
expect_dane(struct tls *tls, const struct tls_peer *peer)
{
	struct arena arena = { 0 };
	struct span base = peer->name_count > 0 ? peer->names[0] : peer->sni;

	SSL_dane_enable(tls->ssl, arena_str(&arena, base));
	SSL_dane_set_flags(tls->ssl, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
	for (size_t i = 0; i < peer->tlsa_count; i++) {
		const struct tls_tlsa *r = &peer->tlsa[i];

		if (SSL_dane_tlsa_add(tls->ssl, r->usage, r->selector, r->matching,
				      (const unsigned char *)r->data.at, r->data.len) > 0)
			tls->tlsa_count++;
	}
	ERR_clear_error();
	arena_free(&arena);
}

/* ---- sessions of earlier connections ------------------------------------------------------- */

static void
digest_span(EVP_MD_CTX *digest, struct span s)
{
	EVP_DigestUpdate(digest, &s.len, sizeof(s.len));
	EVP_DigestUpdate(digest, s.at, s.len);
}

/* Of all that decides what a full handshake would find. */
static void
session_key(const struct tls_peer *peer, uint8_t ret[TLS_DIGEST_LEN])
{
	EVP_MD_CTX *digest = EVP_MD_CTX_new();

	EVP_DigestInit_ex(digest, EVP_sha256(), NULL);
	digest_span(digest, peer->resume);
	digest_span(digest, peer->sni);
	EVP_DigestUpdate(digest, &peer->alt_names_only, sizeof(peer->alt_names_only));
	EVP_DigestUpdate(digest, &peer->name_count, sizeof(peer->name_count));
	for (size_t i = 0; i < peer->name_count; i++)
		digest_span(digest, peer->names[i]);
	for (size_t i = 0; i < peer->tlsa_count; i++) {
		const struct tls_tlsa *r = &peer->tlsa[i];
		const uint8_t kind[] = { r->usage, r->selector, r->matching };

		EVP_DigestUpdate(digest, kind, sizeof(kind));
		digest_span(digest, r->data);
	}
	EVP_DigestFinal_ex(digest, ret, NULL);
	EVP_MD_CTX_free(digest);
}

static void
offer_session(struct tls *tls, const struct tls_peer *peer)
{
	SSL_SESSION *session;

	if (tls->faces->sessions == NULL || peer->resume.len == 0)
		return;
	tls->keeps = true;
	session_key(peer, tls->key);
	session = tls_sessions_take(tls->faces->sessions, tls->key, mono_ms(), &tls->found);
	if (session == NULL)
		return;
	tls->offered = SSL_set_session(tls->ssl, session) == 1;
	SSL_SESSION_free(session);
	ERR_clear_error();
}

/* No later than any certificate of the chain ends (monotonic). */
static int64_t
good_until(SSL *ssl, int64_t lifetime_ms)
{
	STACK_OF(X509) *chain = SSL_get0_verified_chain(ssl);
	int64_t left_ms;
	int days, rest;

	if (chain == NULL)
		chain = SSL_get_peer_cert_chain(ssl);
	if (SSL_get_verify_result(ssl) != X509_V_OK)
		chain = NULL;		/* it is not believed anyway */
	for (int i = 0; chain != NULL && i < sk_X509_num(chain); i++) {
		if (ASN1_TIME_diff(&days, &rest, NULL,
				   X509_get0_notAfter(sk_X509_value(chain, i))) != 1)
			continue;
		left_ms = ((int64_t)days * 86400 + rest) * 1000;
		if (left_ms < lifetime_ms)
			lifetime_ms = left_ms;
	}
	return mono_ms() + lifetime_ms;
}

static void verified(const struct tls *tls, struct tls_facts *ret);

/* With TLS 1.3 they come when the handshake is long done. */
int
tls_on_session(SSL *ssl, SSL_SESSION *session)
{
	struct tls *tls = SSL_get_app_data(ssl);
	struct tls_sessions *sessions = tls->faces->sessions;
	struct tls_found found = tls->found;
	struct tls_facts facts = { 0 };

	if (!tls->keeps)
		return 0;
	if (!tls->offered || SSL_session_reused(ssl) != 1) {
		verified(tls, &facts);
		found.verified = facts.verified;
		found.verify_error = facts.verify_error;
		found.unverified = facts.unverified;
		found.until_ms = good_until(ssl, tls_sessions_lifetime(sessions));
	}
	tls_sessions_add(sessions, tls->key, session, &found, mono_ms());
	return 0;			/* a copy is kept: the reference stays OpenSSL's */
}

void
tls_forget(struct tls *tls)
{
	if (tls->keeps)
		tls_sessions_forget(tls->faces->sessions, tls->key);
	tls->keeps = false;
}

bool
tls_offers_session(const struct tls *tls)
{
	return tls->offered;
}

struct tls *
tls_client_new(struct tls_context *context, unsigned thread, const struct tls_peer *peer)
{
	struct tls *tls = tls_new(context, thread);

	if (peer->tlsa_count > 0)
		expect_dane(tls, peer);
	expect_names(tls, peer);
	SSL_set_connect_state(tls->ssl);
	offer_session(tls, peer);
	return tls;
}

size_t
tls_tlsa_count(const struct tls *tls)
{
	return tls->tlsa_count;
}

void
tls_free(struct tls *tls)
{
	if (tls == NULL)
		return;
	tls->wire.out = NULL;
	if ((SSL_get_shutdown(tls->ssl) & SSL_SENT_SHUTDOWN) == 0)
		tls_forget(tls);	/* cut off: it may be the session's fault */
	tls->keeps = false;
	SSL_free(tls->ssl);
	tls_faces_leave(tls->faces);
	free(tls);
}

/* ---- octets ------------------------------------------------------------------------------- */

static const char *
what_failed(const SSL *ssl)
{
	if (ERR_GET_LIB(ERR_peek_error()) == ERR_LIB_SSL &&
	    ERR_GET_REASON(ERR_peek_error()) == SSL_R_CERTIFICATE_VERIFY_FAILED)
		return X509_verify_cert_error_string(SSL_get_verify_result(ssl));
	return tls_reason();
}

/* What a call of OpenSSL that did not go well means. */
static void
judge(struct tls *tls, int rc)
{
	switch (SSL_get_error(tls->ssl, rc)) {
	case SSL_ERROR_WANT_READ:
		break;
	case SSL_ERROR_ZERO_RETURN:
		tls->state = TLS_CLOSED;
		break;
	default:
		tls->state = TLS_FAILED;
		tls->error = what_failed(tls->ssl);
		break;
	}
	ERR_clear_error();
}

static void
shake(struct tls *tls)
{
	int rc = SSL_do_handshake(tls->ssl);

	if (rc == 1)
		tls->state = TLS_OPEN;
	else
		judge(tls, rc);
}

enum tls_state
tls_receive(struct tls *tls, struct span in, struct buf *plain, struct buf *out)
{
	tls->wire.in = in;
	tls->wire.out = out;
	ERR_clear_error();
	if (tls->state == TLS_SHAKING)
		shake(tls);
	while (tls->state == TLS_OPEN) {
		size_t n = 0;
		int rc = SSL_read_ex(tls->ssl, buf_reserve(plain, PIECE), PIECE, &n);

		if (rc == 1) {
			buf_grew(plain, n);
			continue;
		}
		judge(tls, rc);
		break;
	}
	/* OpenSSL takes all there is, unless it has failed or was told of the end */
	assert(tls->wire.in.len == 0 || tls->state == TLS_FAILED || tls->state == TLS_CLOSED);
	tls->wire.in.len = 0;
	tls->wire.out = NULL;
	return tls->state;
}

bool
tls_send(struct tls *tls, struct span plain, struct buf *out)
{
	size_t n = 0;

	if (tls->state != TLS_OPEN && tls->state != TLS_CLOSED)
		return false;
	tls->wire.out = out;
	ERR_clear_error();
	if (plain.len > 0 && SSL_write_ex(tls->ssl, plain.at, plain.len, &n) != 1) {
		tls->state = TLS_FAILED;
		tls->error = tls_reason();
	}
	tls->wire.out = NULL;
	return tls->state != TLS_FAILED;
}

void
tls_close(struct tls *tls, struct buf *out)
{
	if (tls->state != TLS_OPEN && tls->state != TLS_CLOSED)
		return;
	tls->wire.out = out;
	SSL_shutdown(tls->ssl);
	ERR_clear_error();
	tls->wire.out = NULL;
}

/* ---- what is known ------------------------------------------------------------------------ */

SSL *
tls_ssl(const struct tls *tls)
{
	return tls->ssl;
}

enum tls_state
tls_state(const struct tls *tls)
{
	return tls->state;
}

const char *
tls_error(const struct tls *tls)
{
	return tls->error;
}

static enum tls_unverified
unverified(long result)
{
	switch (result) {
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		return TLS_UNVERIFIED_NAME;
	case X509_V_ERR_CERT_HAS_EXPIRED:
	case X509_V_ERR_CERT_NOT_YET_VALID:
		return TLS_UNVERIFIED_EXPIRED;
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_CERT_UNTRUSTED:
	case X509_V_ERR_CERT_REJECTED:
	case X509_V_ERR_CERT_REVOKED:
	case X509_V_ERR_INVALID_CA:
		return TLS_UNVERIFIED_ISSUER;
	case X509_V_ERR_DANE_NO_MATCH:
		return TLS_UNVERIFIED_TLSA;
	default:
		return TLS_UNVERIFIED_OTHER;
	}
}

static void
verified(const struct tls *tls, struct tls_facts *ret)
{
	SSL *ssl = tls->ssl;
	long result = SSL_get_verify_result(ssl);

	ret->peer_certificate = SSL_get0_peer_certificate(ssl) != NULL;
	if (!ret->peer_certificate) {
		ret->verify_error = "no certificate";
	} else if (tls->offered && SSL_session_reused(ssl) == 1) {
		ret->verified = tls->found.verified;
		ret->verify_error = tls->found.verify_error;
		ret->unverified = tls->found.unverified;
	} else if (result != X509_V_OK) {
		ret->verify_error = X509_verify_cert_error_string(result);
		ret->unverified = unverified(result);
	} else {
		ret->verified = SSL_get0_dane_authority(ssl, NULL, NULL) >= 0 ? TLS_BY_DANE :
									      TLS_BY_CA;
	}
}

void
tls_facts(const struct tls *tls, struct tls_facts *ret)
{
	SSL *ssl = tls->ssl;
	int group = (int)SSL_get_negotiated_group(ssl);

	*ret = (struct tls_facts){
		.version = SSL_get_version(ssl),
		.cipher = SSL_get_cipher_name(ssl),
		.group = group != 0 ? SSL_group_to_name(ssl, group) : NULL,
		.bits = SSL_get_cipher_bits(ssl, NULL),
		.resumed = SSL_session_reused(ssl) == 1,
		.sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name),
	};
	verified(tls, ret);
}

bool
tls_channel_binding(const struct tls *tls, uint8_t ret[32])
{
	static const char label[] = "EXPORTER-Channel-Binding";

	/* RFC 9266 §4.2: before TLS 1.3 only with the extended master secret */
	if (SSL_version(tls->ssl) < TLS1_3_VERSION && SSL_get_extms_support(tls->ssl) != 1)
		return false;
	return SSL_export_keying_material(tls->ssl, ret, 32, label, sizeof(label) - 1, NULL, 0,
					  1) == 1;
}

static bool
first_email(X509 *certificate, struct buf *ret)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
	bool found = false;

	for (int i = 0; names != NULL && !found && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

		if (name->type != GEN_EMAIL)
			continue;
		buf_append(ret, span_of(ASN1_STRING_get0_data(name->d.rfc822Name),
					(size_t)ASN1_STRING_length(name->d.rfc822Name)));
		found = true;
	}
	GENERAL_NAMES_free(names);
	return found;
}

bool
tls_client_identity(const struct tls *tls, struct buf *ret)
{
	X509 *certificate = SSL_get0_peer_certificate(tls->ssl);
	const X509_NAME *subject;
	const ASN1_STRING *text;
	int at;

	if (certificate == NULL || SSL_get_verify_result(tls->ssl) != X509_V_OK)
		return false;
	if (first_email(certificate, ret))
		return true;
	subject = X509_get_subject_name(certificate);
	at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	if (at < 0)
		return false;
	text = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
	buf_append(ret, span_of(ASN1_STRING_get0_data(text), (size_t)ASN1_STRING_length(text)));
	return true;
}
