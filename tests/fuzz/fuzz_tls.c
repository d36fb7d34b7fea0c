/*
 * Any octets as what a client says to a TLS server: whole and octet by octet it comes to the same
 * end. It is OpenSSL's parsers that read them; ours is how they are fed, and that nothing decrypted
 * or unsent is left.
 */
#include <assert.h>
#include <openssl/x509.h>
#include <stdint.h>
#include <stdlib.h>

#include "mta/tls/private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct tls_context *
make_context(void)
{
	static const struct tls_identity nobody;
	struct tls_settings settings = { .min_version = TLS_1_2, .tickets = true };
	struct tls_context *context;
	char error[TLS_ERROR_MAX];
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = X509_new();
	SSL_CTX *ctx;

	if (tls_server_context(SPAN("smtp"), &settings, &nobody, 1, 1, &context, error) < 0)
		abort();
	ctx = context->by_thread[0]->each[0].ctx;
	X509_gmtime_adj(X509_getm_notBefore(x), -60);
	X509_gmtime_adj(X509_getm_notAfter(x), 86400);
	X509_set_pubkey(x, key);
	X509_sign(x, key, EVP_sha256());
	assert(SSL_CTX_use_certificate(ctx, x) == 1 && SSL_CTX_use_PrivateKey(ctx, key) == 1);
	/* by its name it is found: without one, every look at it would be beyond the end */
	context->by_thread[0]->each[0].pairs[0].leaf = SSL_CTX_get0_certificate(ctx);
	X509_free(x);
	EVP_PKEY_free(key);
	tls_context_use_tickets(context, tls_tickets_new(INT64_MAX / 4));
	return context;
}

static enum tls_state
run(struct tls_context *context, struct span in, size_t piece)
{
	struct tls *tls = tls_server_new(context, 0);
	struct buf plain = { 0 }, out = { 0 };
	enum tls_state state = tls_receive(tls, SPAN(""), &plain, &out);

	while (in.len > 0) {
		struct span one = span_first(in, piece);

		state = tls_receive(tls, one, &plain, &out);
		in = span_skip(in, one.len);
	}
	assert(state == TLS_SHAKING || state == TLS_FAILED);	/* nobody guesses a Finished */
	assert((state == TLS_FAILED) == (tls_error(tls) != NULL));
	assert(buf_len(&plain) == 0 && !tls_send(tls, SPAN("220\r\n"), &out));
	tls_close(tls, &out);
	tls_free(tls);
	buf_free(&plain);
	buf_free(&out);
	return state;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct tls_context *context;

	if (context == NULL)
		context = make_context();
	assert(run(context, span_of(data, size), size ? size : 1) ==
	       run(context, span_of(data, size), 1));
	return 0;
}
