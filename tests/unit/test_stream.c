/*
 * stream: a peer that speaks TLS by itself, without OpenSSL's manners: it asks for a new handshake
 * again and again and reads none of the answers. What waits for it stays bounded, and it is heard
 * again when it has read. The records of TLS 1.2 (RFC 5246 §6.2.3.3, AES-128-GCM) are made here.
 */
#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "mta/net/stream.h"
#include "mta/tls/private.h"

enum { QUEUED_MAX = 256 * 1024, HELLOS = 400000 };

static struct buf heard;

static size_t
on_read(struct stream *s, struct span bytes)
{
	(void)s;
	buf_append(&heard, bytes);
	return bytes.len;
}

static void
on_ended(struct stream *s, enum stream_end end, int error)
{
	(void)error;
	fail_msg("the stream ended: %d %s", end, tls_error(s->tls));
}

static void
on_closed(struct stream *s)
{
	(void)s;
}

static const struct stream_events events = { .read = on_read, .ended = on_ended,
					     .closed = on_closed };

/* ---- the server's side: a certificate in memory ---------------------------------------------- */

static struct tls_context *
make_context(void)
{
	static const struct tls_identity nobody;
	struct tls_settings settings = { .min_version = TLS_1_2,
					 .ciphers = SPAN("ECDHE-ECDSA-AES128-GCM-SHA256") };
	struct tls_context *context;
	char error[TLS_ERROR_MAX];
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = X509_new();
	SSL_CTX *ctx;

	assert_int_equal(tls_server_context(SPAN("smtp"), &settings, &nobody, 1, 1, &context,
					    error), 0);
	ctx = context->by_thread[0]->each[0].ctx;
	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	X509_gmtime_adj(X509_getm_notBefore(x), -60);
	X509_gmtime_adj(X509_getm_notAfter(x), 86400);
	X509_set_pubkey(x, key);
	X509_sign(x, key, EVP_sha256());
	assert_int_equal(SSL_CTX_use_certificate(ctx, x), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
	X509_free(x);
	EVP_PKEY_free(key);
	return context;
}

/* ---- the client's records ------------------------------------------------------------------- */

struct sealing {
	unsigned char key[16], iv[4];
	uint64_t number;			/* of the next record */
};

static void
learn_keys(SSL *ssl, struct sealing *ret)
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS1-PRF", NULL);
	EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
	unsigned char master[48], seed[13 + 64] = "key expansion", block[40];
	char digest[] = "SHA256";
	OSSL_PARAM params[4];

	SSL_SESSION_get_master_key(SSL_get_session(ssl), master, sizeof(master));
	SSL_get_server_random(ssl, seed + 13, 32);
	SSL_get_client_random(ssl, seed + 45, 32);
	params[0] = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0);
	params[1] =
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SECRET, master, sizeof(master));
	params[2] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SEED, seed, sizeof(seed));
	params[3] = OSSL_PARAM_construct_end();
	assert_int_equal(EVP_KDF_derive(ctx, block, sizeof(block), params), 1);
	memcpy(ret->key, block, 16);
	memcpy(ret->iv, block + 32, 4);
	ret->number = 1;			/* Finished was the first */
	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
}

static void
put_number(unsigned char *to, uint64_t n, int octets)
{
	for (int i = octets - 1; i >= 0; i--, n >>= 8)
		to[i] = (unsigned char)n;
}

static void
seal(struct sealing *s, unsigned char type, struct span plain, struct buf *out)
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	unsigned char nonce[12], aad[13], record[5 + 8 + 64 + 16];
	int n, len = (int)plain.len;

	memcpy(nonce, s->iv, 4);
	put_number(nonce + 4, s->number, 8);
	put_number(aad, s->number++, 8);
	aad[8] = record[0] = type;
	put_number(aad + 9, 0x0303, 2);
	put_number(record + 1, 0x0303, 2);
	put_number(aad + 11, plain.len, 2);
	put_number(record + 3, 8 + plain.len + 16, 2);
	memcpy(record + 5, nonce + 4, 8);
	EVP_EncryptInit_ex(ctx, EVP_aes_128_gcm(), NULL, s->key, nonce);
	EVP_EncryptUpdate(ctx, NULL, &n, aad, sizeof(aad));
	EVP_EncryptUpdate(ctx, record + 13, &n, (const unsigned char *)plain.at, len);
	EVP_EncryptFinal_ex(ctx, record + 13 + n, &n);
	EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, 16, record + 13 + len);
	EVP_CIPHER_CTX_free(ctx);
	buf_append(out, span_of(record, (size_t)(13 + len + 16)));
}

static void
shake(uv_loop_t *loop, struct stream *s, SSL *ssl, int fd)
{
	SSL_set_fd(ssl, fd);
	while (SSL_connect(ssl) != 1)
		uv_run(loop, UV_RUN_NOWAIT);
	while (tls_state(s->tls) != TLS_OPEN)
		uv_run(loop, UV_RUN_NOWAIT);
}

/* True: all has left; false: the other end does not read. */
static bool
push(uv_loop_t *loop, int fd, struct buf *out)
{
	for (int still = 0; buf_len(out) > 0 && still < 100;) {
		struct span rest = buf_span(out);
		ssize_t n = write(fd, rest.at, rest.len);

		if (n > 0)
			buf_consume(out, (size_t)n);
		still = n > 0 ? 0 : still + 1;
		uv_run(loop, UV_RUN_NOWAIT);
	}
	return buf_len(out) == 0;
}

static void
who_reads_no_answers_gets_no_more(void **state)
{
	struct tls_context *context = make_context();
	struct stream_scratch scratch = { 0 };
	struct sealing sealing;
	struct buf out = { 0 };
	struct stream stream;
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl = SSL_new(ctx);
	uv_loop_t loop;
	int fds[2], hellos = 0;
	char away[65536];

	(void)state;
	SSL_set_max_proto_version(ssl, TLS1_2_VERSION);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	fcntl(fds[1], F_SETFL, O_NONBLOCK);
	uv_loop_init(&loop);
	assert_int_equal(stream_accept(&stream, &loop, fds[0], true, &scratch, &events), 0);
	stream_start_tls(&stream, tls_server_new(context, 0));
	stream_resume(&stream);
	shake(&loop, &stream, ssl, fds[1]);
	learn_keys(ssl, &sealing);
	do
		seal(&sealing, 22, SPAN("\1\0\0\0"), &out);
	while (++hellos < HELLOS && push(&loop, fds[1], &out));
	assert_true(hellos < HELLOS);		/* its own octets wait: nobody reads them */
	assert_true(stream.queued > 0 && stream.queued < QUEUED_MAX);
	seal(&sealing, 23, SPAN("NOOP\r\n"), &out);
	while (buf_len(&heard) == 0) {		/* it reads, and is heard again */
		if (read(fds[1], away, sizeof(away)) == 0)
			fail();
		push(&loop, fds[1], &out);
		uv_run(&loop, UV_RUN_NOWAIT);
	}
	assert_true(span_eq(buf_span(&heard), SPAN("NOOP\r\n")));
	stream_close(&stream, false);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
	close(fds[1]);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	tls_context_free(context);
	stream_scratch_free(&scratch);
	buf_free(&out);
	buf_free(&heard);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(who_reads_no_answers_gets_no_more) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
