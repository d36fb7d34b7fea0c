/* tls/chain: what the peer has shown, for people. See tls.h. */
#include <openssl/x509v3.h>

#include "mta/base/arena.h"
#include "mta/tls/private.h"

static void
put_name(const X509_NAME *name, struct buf *out)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *at;
	long len;

	if (bio == NULL)
		abort();		/* no memory */
	X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB);
	len = BIO_get_mem_data(bio, &at);
	buf_append(out, span_of(at, len > 0 ? (size_t)len : 0));
	BIO_free(bio);
}

static void
tell(X509 *x, void (*each)(void *arg, const struct tls_link *link), void *arg)
{
	struct buf subject = { 0 }, issuer = { 0 }, names = { 0 }, key = { 0 };
	struct tls_link link = { .not_after_ms = tls_asn1_ms(X509_get0_notAfter(x)) };

	put_name(X509_get_subject_name(x), &subject);
	put_name(X509_get_issuer_name(x), &issuer);
	tls_certificate_names(x, &names);
	tls_certificate_key(x, &key);
	tls_spki_sha256(x, link.spki_sha256);
	link.subject = buf_span(&subject);
	link.issuer = buf_span(&issuer);
	link.names = buf_span(&names);
	link.key = buf_span(&key);
	each(arg, &link);
	buf_free(&subject);
	buf_free(&issuer);
	buf_free(&names);
	buf_free(&key);
}

void
tls_chain(const struct tls *tls, void (*each)(void *arg, const struct tls_link *link), void *arg)
{
	STACK_OF(X509) *chain = SSL_get_peer_cert_chain(tls_ssl(tls));

	for (int i = 0; chain != NULL && i < sk_X509_num(chain) && i < TLS_LINKS_MAX; i++)
		tell(sk_X509_value(chain, i), each, arg);
}
