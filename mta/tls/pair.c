/*
 * pair: a chain of certificates with its key, and the OCSP response about it: read, and checked
 * against each other, so that a mistake shows at `tramd -n` and not as handshakes that fail; and
 * what people are told of them. Blocks (reads files). RFC 5280, 6960.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/base/arena.h"
#include "mta/base/clock.h"
#include "mta/tls/private.h"

enum { OCSP_MAX = 65536 };

const char *
tls_reason(void)
{
	unsigned long code = ERR_get_error();
	const char *reason = ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) :
						      ERR_reason_error_string(code);

	ERR_clear_error();
	return reason != NULL ? reason : "unknown reason";
}

int
tls_complain(const struct tls_loading *l, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(l->error, TLS_ERROR_MAX, format, ap);
	va_end(ap);
	ERR_clear_error();
	return -EINVAL;
}

/* ---- chain and key ------------------------------------------------------------------------ */

/* Else OpenSSL would ask for it on the terminal, and wait. */
static int
no_password(char *to, int max, int writes, void *arg)
{
	(void)to;
	(void)max;
	(void)writes;
	(void)arg;
	return -1;
}

static int
load_chain(const struct tls_loading *l, SSL_CTX *ctx, const char *chain)
{
	char room[FILES_PATH_MAX];
	int reason;

	ERR_clear_error();
	if (SSL_CTX_use_certificate_chain_file(
		    ctx, files_at(l->context->settings.files, chain, room)) == 1)
		return 0;
	reason = ERR_GET_REASON(ERR_peek_error());
	if (ERR_GET_LIB(ERR_peek_error()) == ERR_LIB_SSL &&
	    (reason == SSL_R_EE_KEY_TOO_SMALL || reason == SSL_R_CA_KEY_TOO_SMALL ||
	     reason == SSL_R_CA_MD_TOO_WEAK))
		return tls_complain(l,
				    "%s: this certificate is too weak for clients of today (%s); "
				    "get one with ECDSA P-256, or RSA 2048 or more, and SHA-256",
				    chain, tls_reason());
	return tls_complain(l,
			    "%s: not a readable chain of certificates in PEM (%s); name the file "
			    "with the server's own certificate first",
			    chain, tls_reason());
}

static bool
is_mismatch(unsigned long error)
{
	int reason = ERR_GET_REASON(error);

	if (ERR_GET_LIB(error) == ERR_LIB_X509)
		return reason == X509_R_KEY_VALUES_MISMATCH || reason == X509_R_KEY_TYPE_MISMATCH;
	return ERR_GET_LIB(error) == ERR_LIB_SSL && reason == SSL_R_NO_CERTIFICATE_ASSIGNED;
}

/* Key and certificate must fit, or clients would see a handshake that fails without a reason. */
static int
load_key(const struct tls_loading *l, SSL_CTX *ctx, const char *chain, const char *key)
{
	char room[FILES_PATH_MAX];
	const char *at = files_at(l->context->settings.files, key, room);

	if (SSL_CTX_use_PrivateKey_file(ctx, at, SSL_FILETYPE_PEM) == 1 &&
	    SSL_CTX_check_private_key(ctx) == 1)
		return 0;
	if (is_mismatch(ERR_peek_last_error()))
		return tls_complain(l,
				    "%s: the key does not belong to the first certificate in %s; "
				    "name the pair that was made together",
				    key, chain);
	return tls_complain(l, "%s: not a readable private key (%s); name the one for %s, in PEM "
			       "and without a password", key, tls_reason(), chain);
}

static int
key_type(const X509 *leaf)
{
	return EVP_PKEY_get_base_id(X509_get0_pubkey(leaf));
}

int
tls_load_pair(const struct tls_loading *l, struct face *face, struct span chain, struct span key)
{
	struct arena arena = { 0 };
	const char *chain_path = arena_str(&arena, chain);
	struct pair *pair = &face->pairs[face->pair_count];
	int rc, types[TLS_PAIRS_MAX] = { 0 };

	/* one of the same kind would take the place of the other, and free it */
	for (size_t i = 0; i < face->pair_count; i++)
		types[i] = key_type(face->pairs[i].leaf);
	SSL_CTX_set_default_passwd_cb(face->ctx, no_password);
	rc = load_chain(l, face->ctx, chain_path);
	if (rc == 0)
		pair->leaf = SSL_CTX_get0_certificate(face->ctx);
	for (size_t i = 0; rc == 0 && i < face->pair_count; i++)
		if (types[i] == key_type(pair->leaf))
			rc = tls_complain(l,
					  "%s: certificate %.*s has two %s certificates, of which "
					  "only one could be shown; remove one, or make it a "
					  "certificate of its own",
					  chain_path, SPAN_FMT(face->from->name),
					  EVP_PKEY_get0_type_name(X509_get0_pubkey(pair->leaf)));
	if (rc == 0)
		rc = load_key(l, face->ctx, chain_path, arena_str(&arena, key));
	if (rc == 0)
		face->pair_count++;
	arena_free(&arena);
	return rc;
}

int64_t
tls_asn1_ms(const ASN1_TIME *time)
{
	struct tm tm;

	if (time == NULL || ASN1_TIME_to_tm(time, &tm) != 1)
		return 0;
	return (int64_t)timegm(&tm) * 1000;
}

/* A private key, or (if that is kept elsewhere) its public part. */
static EVP_PKEY *
read_key(const char *path)
{
	BIO *file = BIO_new_file(path, "r");
	EVP_PKEY *key = NULL;

	if (file == NULL)
		return NULL;
	key = PEM_read_bio_PrivateKey(file, NULL, no_password, NULL);
	if (key == NULL && BIO_reset(file) == 0)
		key = PEM_read_bio_PUBKEY(file, NULL, NULL, NULL);
	BIO_free(file);
	return key;
}

int
tls_load_next_key(const struct tls_loading *l, struct face *face, struct span path)
{
	struct next_key *next = &face->next[face->next_count];
	struct arena arena = { 0 };
	const char *name = arena_str(&arena, path);
	char room[FILES_PATH_MAX];
	EVP_PKEY *key = read_key(files_at(l->context->settings.files, name, room));
	unsigned char *der = NULL;
	int rc = 0, len;

	if (key == NULL) {
		rc = tls_complain(l, "%s: not a readable key (%s); name the one that the next "
				     "certificate will be for, in PEM and without a password, or "
				     "remove it from next-key", name, tls_reason());
	} else {
		len = i2d_PUBKEY(key, &der);
		if (len < 0 || EVP_Digest(der, (size_t)len, next->spki_sha256, NULL, EVP_sha256(),
					  NULL) != 1)
			abort();	/* no memory */
		snprintf(next->kind, sizeof(next->kind), "%s %d", EVP_PKEY_get0_type_name(key),
			 EVP_PKEY_get_bits(key));
		OPENSSL_free(der);
		face->next_count++;
	}
	ERR_clear_error();
	EVP_PKEY_free(key);
	arena_free(&arena);
	return rc;
}

/* ---- OCSP --------------------------------------------------------------------------------- */

/* What it says of this certificate; 0: nothing. Else until when it may be shown. */
static int64_t
ocsp_until(OCSP_BASICRESP *basic, const X509 *leaf)
{
	const ASN1_INTEGER *serial = X509_get0_serialNumber(leaf);

	for (int i = 0; i < OCSP_resp_count(basic); i++) {
		OCSP_SINGLERESP *single = OCSP_resp_get0(basic, i);
		ASN1_GENERALIZEDTIME *next = NULL;
		ASN1_INTEGER *its = NULL;

		OCSP_id_get0_info(NULL, NULL, NULL, &its,
				  (OCSP_CERTID *)(uintptr_t)OCSP_SINGLERESP_get0_id(single));
		if (its == NULL || ASN1_INTEGER_cmp(its, serial) != 0)
			continue;
		OCSP_single_get0_status(single, NULL, NULL, NULL, &next);
		return next != NULL ? tls_asn1_ms(next) : INT64_MAX;
	}
	return 0;
}

/*
 * Where it belongs. One for none of them is no reason to stand still: it is there for a moment
 * whenever a certificate has been renewed.
 */
static void
hand_out(struct face *face, OCSP_BASICRESP *basic, struct span bytes)
{
	for (size_t i = 0; i < face->pair_count; i++) {
		struct pair *pair = &face->pairs[i];
		int64_t until = ocsp_until(basic, pair->leaf);

		if (until <= pair->ocsp_until_ms)
			continue;
		free(pair->ocsp);
		pair->ocsp = xcalloc(1, bytes.len);
		memcpy(pair->ocsp, bytes.at, bytes.len);
		pair->ocsp_len = bytes.len;
		pair->ocsp_until_ms = until;
	}
}

int
tls_load_ocsp(const struct tls_loading *l, struct face *face, struct span path)
{
	struct arena arena = { 0 };
	const char *name = arena_str(&arena, path);
	unsigned char *bytes = xcalloc(1, OCSP_MAX);
	const unsigned char *at = bytes;
	char room[FILES_PATH_MAX];
	FILE *file = fopen(files_at(l->context->settings.files, name, room), "rb");
	size_t len = file != NULL ? fread(bytes, 1, OCSP_MAX, file) : 0;
	OCSP_RESPONSE *response = NULL;
	OCSP_BASICRESP *basic = NULL;
	int rc = 0;

	if (file == NULL || ferror(file)) {
		rc = tls_complain(l, "%s: %s; let your ACME client write the OCSP response there, "
				     "or remove `ocsp`", name, strerror(errno));
	} else {
		response = d2i_OCSP_RESPONSE(NULL, &at, (long)len);
		basic = response != NULL ? OCSP_response_get1_basic(response) : NULL;
		if (basic == NULL)
			rc = tls_complain(l,
					  "%s: not an OCSP response in DER; let your ACME client "
					  "write it, or remove `ocsp`",
					  name);
		else
			hand_out(face, basic, span_of(bytes, len));
	}
	OCSP_BASICRESP_free(basic);
	OCSP_RESPONSE_free(response);
	if (file != NULL)
		fclose(file);
	free(bytes);
	arena_free(&arena);
	return rc;
}

/* ---- what is there, for people ------------------------------------------------------------ */

void
tls_certificate_names(X509 *leaf, struct buf *out)
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

void
tls_certificate_key(X509 *x, struct buf *out)
{
	EVP_PKEY *key = X509_get0_pubkey(x);

	buf_printf(out, "%s %d", key != NULL ? EVP_PKEY_get0_type_name(key) : "unknown",
		   key != NULL ? EVP_PKEY_get_bits(key) : 0);
}

void
tls_spki_sha256(X509 *x, uint8_t ret[TLS_DIGEST_LEN])
{
	unsigned char *der = NULL;
	int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &der);

	if (len < 0 || EVP_Digest(der, (size_t)len, ret, NULL, EVP_sha256(), NULL) != 1)
		abort();		/* no memory */
	OPENSSL_free(der);
}

void
tls_tell_pair(const struct face *face, size_t i,
	      void (*each)(void *arg, const struct tls_certificate_facts *facts), void *arg)
{
	const struct pair *pair = &face->pairs[i];
	struct buf names = { 0 }, kind = { 0 };
	struct tls_certificate_facts facts = {
		.identity = face->from->name,
		.file = face->from->chains[i],
		.not_after_ms = tls_asn1_ms(X509_get0_notAfter(pair->leaf)),
		.ocsp = face->from->ocsp_count == 0	   ? TLS_OCSP_NONE :
			pair->ocsp == NULL		   ? TLS_OCSP_FOREIGN :
			pair->ocsp_until_ms <= wall_ms()   ? TLS_OCSP_EXPIRED :
							     TLS_OCSP_STAPLED,
	};

	tls_certificate_names(pair->leaf, &names);
	tls_certificate_key(pair->leaf, &kind);
	tls_spki_sha256(pair->leaf, facts.spki_sha256);
	facts.names = buf_span(&names);
	facts.key = buf_span(&kind);
	each(arg, &facts);
	buf_free(&names);
	buf_free(&kind);
}
