/*
 * tls: the machine on both sides, against itself over buffers: whole, cut at every octet; tickets
 * and their keys; contexts that are replaced; what a file that is no good is told of. Certificates
 * are made here, once. The files that tests/peers/test_certificates.py has are not told again.
 */
#include <errno.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

#include "mta/base/arena.h"
#include "mta/base/clock.h"
#include "mta/tls/private.h"
#include "mta/tls/tls.h"

static char folder[] = "/tmp/tram-tls-XXXXXX";
static char chain_path[64], key_path[64], other_chain[64], other_key[64];
static size_t more_names;			/* in the certificates that are made */
static bool common_name_only;

/* ---- certificates ------------------------------------------------------------------------- */

static void
write_pair(const char *host, const char *chain, const char *key_file)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = X509_new();
	X509_EXTENSION *names;
	struct buf value = { 0 };
	FILE *file;

	buf_printf(&value, "DNS:%s", host);
	for (size_t i = 0; i < more_names; i++)
		buf_printf(&value, ",DNS:host-number-%zu.example", i);
	buf_byte(&value, '\0');
	X509_set_version(x, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(x), (long)wall_ms());
	X509_gmtime_adj(X509_getm_notBefore(x), -60);
	X509_gmtime_adj(X509_getm_notAfter(x), 86400);
	X509_set_pubkey(x, key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
				   (const unsigned char *)host, -1, -1, 0);
	X509_set_issuer_name(x, X509_get_subject_name(x));
	names = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, buf_span(&value).at);
	buf_free(&value);
	if (!common_name_only)
		X509_add_ext(x, names, -1);
	assert_true(X509_sign(x, key, EVP_sha256()) > 0);
	file = fopen(chain, "w");
	assert_int_equal(PEM_write_X509(file, x), 1);
	fclose(file);
	file = fopen(key_file, "w");
	assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
	fclose(file);
	X509_EXTENSION_free(names);
	X509_free(x);
	EVP_PKEY_free(key);
}

static int
make_files(void **state)
{
	(void)state;
	if (mkdtemp(folder) == NULL)
		return -1;
	snprintf(chain_path, sizeof(chain_path), "%s/chain.pem", folder);
	snprintf(key_path, sizeof(key_path), "%s/key.pem", folder);
	snprintf(other_chain, sizeof(other_chain), "%s/other.pem", folder);
	snprintf(other_key, sizeof(other_key), "%s/other.key", folder);
	write_pair("mail.test", chain_path, key_path);
	write_pair("other.test", other_chain, other_key);
	return 0;
}

static int
remove_files(void **state)
{
	(void)state;
	unlink(chain_path);
	unlink(key_path);
	unlink(other_chain);
	unlink(other_key);
	return rmdir(folder);
}

/* ---- two ends ----------------------------------------------------------------------------- */

struct ends {
	struct span chains[1], keys[1];
	struct tls_identity identity;
	struct tls_settings settings;
	struct tls_tickets *tickets;
	struct tls_context *server_context, *client_context;
	struct tls *server, *client;
	struct buf to_server, to_client;		/* on the way */
	struct buf at_server, at_client;		/* decrypted */
};

static void
contexts_open(struct ends *e, enum tls_version version, bool tickets)
{
	char error[TLS_ERROR_MAX] = "";

	*e = (struct ends){ .settings = { .min_version = version, .tickets = tickets } };
	e->chains[0] = span_str(chain_path);
	e->keys[0] = span_str(key_path);
	e->identity = (struct tls_identity){ .name = SPAN("mail"), .chains = e->chains,
					     .keys = e->keys, .chain_count = 1, .key_count = 1 };
	assert_int_equal(tls_server_context(SPAN("smtp"), &e->settings, &e->identity, 1, 2,
					    &e->server_context, error), 0);
	assert_int_equal(tls_client_context(&e->settings, chain_path, NULL, 2, &e->client_context,
					    error), 0);
	e->tickets = tls_tickets_new(1000000);
	tls_context_use_tickets(e->server_context, e->tickets);
}

static void
ends_open(struct ends *e)
{
	struct span name = SPAN("mail.test");
	struct tls_peer peer = { .sni = name, .names = &name, .name_count = 1 };

	e->server = tls_server_new(e->server_context, 1);
	e->client = tls_client_new(e->client_context, 0, &peer);
	assert_int_equal(tls_receive(e->client, SPAN(""), &e->at_client, &e->to_server),
			 TLS_SHAKING);
}

static void
ends_close(struct ends *e)
{
	tls_free(e->server);
	tls_free(e->client);
	buf_free(&e->to_server);
	buf_free(&e->to_client);
	buf_free(&e->at_server);
	buf_free(&e->at_client);
	e->server = e->client = NULL;
}

static void
contexts_close(struct ends *e)
{
	ends_close(e);
	tls_context_free(e->server_context);
	tls_context_free(e->client_context);
	tls_tickets_free(e->tickets);
}

/* What is on the way is given in pieces of so many octets. */
static void
give(struct tls *to, struct buf *on_the_way, size_t piece, struct buf *plain, struct buf *out)
{
	struct buf octets = *on_the_way;

	*on_the_way = (struct buf){ 0 };
	while (buf_len(&octets) > 0) {
		struct span one = span_first(buf_span(&octets), piece);

		tls_receive(to, one, plain, out);
		buf_consume(&octets, one.len);
	}
	buf_free(&octets);
}

static void
run(struct ends *e, size_t piece)
{
	while (buf_len(&e->to_server) > 0 || buf_len(&e->to_client) > 0) {
		give(e->server, &e->to_server, piece, &e->at_server, &e->to_client);
		give(e->client, &e->to_client, piece, &e->at_client, &e->to_server);
	}
}

static void
shake(struct ends *e, size_t piece)
{
	run(e, piece);
	assert_int_equal(tls_state(e->client), TLS_OPEN);
	assert_int_equal(tls_state(e->server), TLS_OPEN);
}

/* ---- octets ------------------------------------------------------------------------------- */

static void
both_ways_in_any_pieces(void **state)
{
	static const size_t pieces[] = { SIZE_MAX, 1, 2, 3, 5, 7, 1000, 16384, 16389 };
	struct buf large = { 0 };

	(void)state;
	for (unsigned i = 0; i < 40000; i++)
		buf_byte(&large, (char)(i * 7));
	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		for (enum tls_version version = TLS_1_2; version <= TLS_1_3; version++) {
			struct ends e;

			contexts_open(&e, version, true);
			ends_open(&e);
			shake(&e, pieces[i]);
			assert_true(tls_send(e.client, SPAN("EHLO a\r\n"), &e.to_server));
			assert_true(tls_send(e.client, buf_span(&large), &e.to_server));
			assert_true(tls_send(e.server, buf_span(&large), &e.to_client));
			run(&e, pieces[i]);
			assert_true(span_eq(span_first(buf_span(&e.at_server), 8),
					    SPAN("EHLO a\r\n")));
			assert_true(span_eq(span_skip(buf_span(&e.at_server), 8),
					    buf_span(&large)));
			assert_true(span_eq(buf_span(&e.at_client), buf_span(&large)));
			tls_close(e.client, &e.to_server);
			run(&e, pieces[i]);
			assert_int_equal(tls_state(e.server), TLS_CLOSED);
			contexts_close(&e);
		}
	}
	buf_free(&large);
}

/* Each flight of the handshake and a record behind it, in two pieces, cut at each octet. */
static void
cut_at_every_octet(void **state)
{
	struct ends e;
	size_t cut = 1, longest = 0;

	(void)state;
	contexts_open(&e, TLS_1_3, true);
	do {
		ends_open(&e);
		longest = buf_len(&e.to_server) > longest ? buf_len(&e.to_server) : longest;
		while (buf_len(&e.to_server) > 0 || buf_len(&e.to_client) > 0) {
			struct buf rest = { 0 };

			buf_append(&rest,
				   span_skip(buf_span(&e.to_server),
					     cut < buf_len(&e.to_server) ? cut
									 : buf_len(&e.to_server)));
			e.to_server.end -= buf_len(&rest);
			give(e.server, &e.to_server, SIZE_MAX, &e.at_server, &e.to_client);
			give(e.server, &rest, SIZE_MAX, &e.at_server, &e.to_client);
			longest = buf_len(&e.to_client) > longest ? buf_len(&e.to_client) : longest;
			give(e.client, &e.to_client, cut, &e.at_client, &e.to_server);
		}
		shake(&e, cut);
		ends_close(&e);
	} while (++cut < longest);
	assert_true(longest > 500);
	contexts_close(&e);
}

static void
one_bit_ends_it(void **state)
{
	struct ends e;

	(void)state;
	contexts_open(&e, TLS_1_2, true);
	ends_open(&e);
	shake(&e, SIZE_MAX);
	tls_send(e.client, SPAN("MAIL FROM:<a@b>\r\n"), &e.to_server);
	e.to_server.at[e.to_server.end - 3] ^= 1;
	give(e.server, &e.to_server, SIZE_MAX, &e.at_server, &e.to_client);
	assert_int_equal(tls_state(e.server), TLS_FAILED);
	assert_non_null(tls_error(e.server));
	assert_int_equal(buf_len(&e.at_server), 0);
	assert_true(buf_len(&e.to_client) > 0);		/* the alert */
	assert_false(tls_send(e.server, SPAN("250\r\n"), &e.to_client));
	contexts_close(&e);
}

/* Behind close_notify nothing is read, and we may still speak. */
static void
nothing_comes_behind_the_end(void **state)
{
	struct ends e;

	(void)state;
	contexts_open(&e, TLS_1_3, false);
	ends_open(&e);
	shake(&e, SIZE_MAX);
	tls_send(e.client, SPAN("DATA\r\n"), &e.to_server);
	tls_close(e.client, &e.to_server);
	buf_append(&e.to_server, SPAN("QUIT\r\n"));
	give(e.server, &e.to_server, SIZE_MAX, &e.at_server, &e.to_client);
	assert_int_equal(tls_state(e.server), TLS_CLOSED);
	assert_true(span_eq(buf_span(&e.at_server), SPAN("DATA\r\n")));
	tls_receive(e.server, SPAN("RSET\r\n"), &e.at_server, &e.to_client);
	assert_true(span_eq(buf_span(&e.at_server), SPAN("DATA\r\n")));
	assert_true(tls_send(e.server, SPAN("221\r\n"), &e.to_client));
	give(e.client, &e.to_client, SIZE_MAX, &e.at_client, &e.to_server);
	assert_true(span_eq(buf_span(&e.at_client), SPAN("221\r\n")));
	contexts_close(&e);
}

/* It gets its no, and nothing changes; of those that ask without end tells test_stream.c. */
static void
renegotiation_is_refused(void **state)
{
	struct ends e;
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl = SSL_new(ctx);
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());

	(void)state;
	contexts_open(&e, TLS_1_2, true);
	e.server = tls_server_new(e.server_context, 0);
	SSL_set_max_proto_version(ssl, TLS1_2_VERSION);
	SSL_set_bio(ssl, in, out);
	for (int i = 0; i < 4; i++) {
		char *octets;
		long len;

		if (i == 3)
			SSL_renegotiate(ssl);
		SSL_connect(ssl);
		len = BIO_get_mem_data(out, &octets);
		buf_clear(&e.to_client);
		tls_receive(e.server, span_of(octets, (size_t)len), &e.at_server, &e.to_client);
		BIO_reset(out);
		if (buf_len(&e.to_client) > 0)
			BIO_write(in, buf_span(&e.to_client).at, (int)buf_len(&e.to_client));
	}
	assert_true(buf_len(&e.to_client) > 0 && e.to_client.at[0] == 21);	/* an alert */
	assert_int_equal(tls_state(e.server), TLS_OPEN);
	assert_int_equal(buf_len(&e.at_server), 0);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	contexts_close(&e);
}

/* ---- sessions of earlier connections ------------------------------------------------------- */

/* One connection to the end; was it resumed? */
static bool
connects(struct ends *e, struct tls_peer *peer, bool forget)
{
	struct tls_facts client, server;

	e->server = tls_server_new(e->server_context, 1);
	e->client = tls_client_new(e->client_context, 0, peer);
	tls_receive(e->client, SPAN(""), &e->at_client, &e->to_server);
	shake(e, SIZE_MAX);
	tls_facts(e->client, &client);
	tls_facts(e->server, &server);
	assert_int_equal(client.resumed, server.resumed);
	assert_int_equal(client.verified, peer->tlsa_count > 0 ? TLS_BY_DANE : TLS_BY_CA);
	assert_true(client.peer_certificate);
	if (forget)
		tls_forget(e->client);
	tls_close(e->client, &e->to_server);
	run(e, SIZE_MAX);
	ends_close(e);
	return client.resumed;
}

static void
keeping_open(struct ends *e, enum tls_version version, size_t most, int64_t lifetime_ms)
{
	char error[TLS_ERROR_MAX] = "";

	contexts_open(e, version, true);
	tls_context_free(e->client_context);
	e->settings.sessions = most;
	e->settings.session_lifetime_ms = lifetime_ms;
	assert_int_equal(tls_client_context(&e->settings, chain_path, NULL, 2, &e->client_context,
					    error), 0);
}

static void
the_same_is_resumed(void **state)
{
	struct span name = SPAN("mail.test"), names[2] = { SPAN("mail.test"), SPAN("b.test") };
	struct tls_peer peer = { .sni = name, .names = &name, .name_count = 1,
				 .resume = SPAN("a:25") };

	(void)state;
	for (enum tls_version version = TLS_1_2; version <= TLS_1_3; version++) {
		struct tls_peer other = peer;
		struct ends e;

		keeping_open(&e, version, 10, 100000);
		assert_false(connects(&e, &peer, false));
		assert_true(connects(&e, &peer, false));
		assert_true(connects(&e, &peer, false));
		/* another place or policy */
		other.resume = SPAN("a:26");
		assert_false(connects(&e, &other, false));
		other = peer;
		/* other names to be shown */
		other.names = names;
		other.name_count = 2;
		assert_false(connects(&e, &other, false));
		other = peer;
		other.resume = SPAN("");
		assert_false(connects(&e, &other, false));
		assert_false(connects(&e, &other, false));
		/* it was not good enough … */
		assert_true(connects(&e, &peer, true));
		assert_false(connects(&e, &peer, false));		/* … so it starts anew */
		assert_true(connects(&e, &peer, false));
		contexts_close(&e);
	}
}

/*
 * A name that is the subject's only counts where it may, and a session by it is not resumed where
 * it may not.
 */
static void
a_name_must_stand_where_it_belongs(void **state)
{
	struct span name = SPAN("mail.test");
	struct tls_peer peer = { .sni = name, .names = &name, .name_count = 1,
				 .resume = SPAN("a:25") };
	struct tls_facts facts;
	struct ends e;

	(void)state;
	common_name_only = true;
	write_pair("mail.test", chain_path, key_path);
	keeping_open(&e, TLS_1_3, 10, 100000);
	assert_false(connects(&e, &peer, false));
	assert_true(connects(&e, &peer, false));
	peer.alt_names_only = true;
	e.server = tls_server_new(e.server_context, 1);
	e.client = tls_client_new(e.client_context, 0, &peer);
	tls_receive(e.client, SPAN(""), &e.at_client, &e.to_server);
	shake(&e, SIZE_MAX);
	tls_facts(e.client, &facts);
	assert_int_equal(facts.verified, TLS_NOT_VERIFIED);
	assert_false(facts.resumed);
	contexts_close(&e);
	common_name_only = false;
	write_pair("mail.test", chain_path, key_path);
	keeping_open(&e, TLS_1_3, 10, 100000);
	assert_false(connects(&e, &peer, false));
	contexts_close(&e);
}

static void
records_are_part_of_it(void **state)
{
	static const char digest[32] = "0123456789abcdef0123456789abcdef";
	struct tls_tlsa tlsa[2] = { { 3, 1, 1, span_of(digest, 32) } };
	struct span name = SPAN("mail.test");
	struct tls_peer peer = { .sni = name, .names = &name, .name_count = 1, .tlsa = tlsa,
				 .tlsa_count = 1, .resume = SPAN("a:25") };
	unsigned char key[32];
	unsigned char *der = NULL;
	FILE *file = fopen(chain_path, "r");
	X509 *x = PEM_read_X509(file, NULL, NULL, NULL);
	int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &der);
	struct ends e;

	(void)state;
	fclose(file);
	EVP_Digest(der, (size_t)len, key, NULL, EVP_sha256(), NULL);
	OPENSSL_free(der);
	X509_free(x);
	tlsa[0].data = span_of(key, 32);
	keeping_open(&e, TLS_1_3, 10, 100000);
	assert_false(connects(&e, &peer, false));
	/* and still verified by DANE */
	assert_true(connects(&e, &peer, false));
	tlsa[1] = (struct tls_tlsa){ 3, 1, 1, span_of(digest, 32) };
	/* one was published beside it */
	peer.tlsa_count = 2;
	assert_false(connects(&e, &peer, false));
	assert_true(connects(&e, &peer, false));
	contexts_close(&e);
}

static void
sessions_end(void **state)
{
	struct span name = SPAN("mail.test");
	struct tls_peer peer = { .sni = name, .names = &name, .name_count = 1,
				 .resume = SPAN("a:25") };
	struct tls_peer other = peer;
	struct tls_context *fresh;
	char error[TLS_ERROR_MAX];
	int64_t before;
	struct ends e;

	(void)state;
	/* with their time, which no resumption prolongs */
	keeping_open(&e, TLS_1_3, 10, 20);
	before = mono_ms();
	assert_false(connects(&e, &peer, false));
	while (connects(&e, &peer, false))
		assert_true(mono_ms() < before + 60000);
	assert_true(mono_ms() >= before + 20);
	contexts_close(&e);
	/* for another one, if there is no room */
	keeping_open(&e, TLS_1_3, 1, 100000);
	other.resume = SPAN("b:25");
	assert_false(connects(&e, &peer, false));
	assert_false(connects(&e, &other, false));
	assert_false(connects(&e, &peer, false));
	assert_true(connects(&e, &peer, false));
	assert_int_equal(tls_context_again(e.client_context, NULL, &fresh, error), 0);
	/* with the files they were judged by */
	tls_context_adopt(e.client_context, fresh, 0);
	tls_context_free(fresh);
	assert_false(connects(&e, &peer, false));
	contexts_close(&e);
	keeping_open(&e, TLS_1_3, 0, 100000);
	assert_false(connects(&e, &peer, false));
	assert_false(connects(&e, &peer, false));
	contexts_close(&e);
}

/* Cut off in the middle of a resumed handshake: the next one is a full one. */
static void
a_session_that_fails_is_not_offered_again(void **state)
{
	struct span name = SPAN("mail.test");
	struct tls_peer peer = { .sni = name, .names = &name, .name_count = 1,
				 .resume = SPAN("a:25") };
	struct ends e;

	(void)state;
	keeping_open(&e, TLS_1_2, 10, 100000);
	assert_false(connects(&e, &peer, false));
	e.client = tls_client_new(e.client_context, 0, &peer);
	assert_true(tls_offers_session(e.client));
	tls_receive(e.client, SPAN(""), &e.at_client, &e.to_server);
	ends_close(&e);
	assert_false(connects(&e, &peer, false));
	contexts_close(&e);
}

/* A session that was not verified is none that is when it is resumed, and says why as before. */
static void
what_was_found_goes_with_it(void **state)
{
	struct span name = SPAN("mail.test"), other = SPAN("another.test");
	struct tls_peer peer = { .sni = name, .names = &other, .name_count = 1,
				 .resume = SPAN("a:25") };
	struct tls_facts facts;
	struct ends e;

	(void)state;
	keeping_open(&e, TLS_1_3, 10, 100000);
	for (int resumed = 0; resumed < 2; resumed++) {
		e.server = tls_server_new(e.server_context, 1);
		e.client = tls_client_new(e.client_context, 0, &peer);
		tls_receive(e.client, SPAN(""), &e.at_client, &e.to_server);
		shake(&e, SIZE_MAX);
		tls_facts(e.client, &facts);
		assert_int_equal(facts.resumed, resumed);
		assert_int_equal(facts.verified, TLS_NOT_VERIFIED);
		assert_int_equal(facts.unverified, TLS_UNVERIFIED_NAME);
		assert_non_null(facts.verify_error);
		tls_close(e.client, &e.to_server);
		run(&e, SIZE_MAX);
		ends_close(&e);
	}
	contexts_close(&e);
}

/* Certificate and ticket are as long as the server likes: what takes much room is not kept. */
static void
large_sessions_are_not_kept(void **state)
{
	struct span name = SPAN("mail.test");
	struct tls_peer peer = { .sni = name, .names = &name, .name_count = 1,
				 .resume = SPAN("a:25") };
	struct ends e;

	(void)state;
	for (more_names = 0; more_names <= 1000; more_names += 1000) {
		write_pair("mail.test", chain_path, key_path);
		keeping_open(&e, TLS_1_3, 10, 100000);
		assert_false(connects(&e, &peer, false));
		assert_int_equal(connects(&e, &peer, false), more_names == 0);
		contexts_close(&e);
	}
	more_names = 0;
	write_pair("mail.test", chain_path, key_path);
}

/* ---- what is known ------------------------------------------------------------------------ */

static void
both_know_the_same(void **state)
{
	struct ends e;
	struct tls_facts server, client;
	uint8_t one[32], two[32];
	struct buf identity = { 0 };

	(void)state;
	contexts_open(&e, TLS_1_3, true);
	ends_open(&e);
	shake(&e, SIZE_MAX);
	tls_facts(e.server, &server);
	tls_facts(e.client, &client);
	assert_string_equal(server.version, "TLSv1.3");
	assert_string_equal(server.cipher, client.cipher);
	assert_string_equal(server.sni, "mail.test");
	assert_true(client.verified == TLS_BY_CA && client.peer_certificate);
	assert_true(server.verified == TLS_NOT_VERIFIED && !server.peer_certificate);
	assert_true(tls_channel_binding(e.server, one) && tls_channel_binding(e.client, two));
	assert_memory_equal(one, two, sizeof(one));
	assert_false(tls_client_identity(e.server, &identity));
	contexts_close(&e);
}

/* ---- tickets ------------------------------------------------------------------------------ */

struct sealed {
	unsigned char name[16], iv[EVP_MAX_IV_LENGTH];
};

static int
ticket(struct ends *e, struct sealed *sealed, int encrypt)
{
	SSL *ssl = SSL_new(e->server_context->by_thread[0]->each[0].ctx);
	EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
	EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	EVP_MAC_CTX *mac = EVP_MAC_CTX_new(hmac);
	int rc = tls_on_ticket(ssl, sealed->name, sealed->iv, cipher, mac, encrypt);

	EVP_MAC_CTX_free(mac);
	EVP_MAC_free(hmac);
	EVP_CIPHER_CTX_free(cipher);
	SSL_free(ssl);
	return rc;
}

static void
wait_ms(int64_t ms)
{
	int64_t until = mono_ms() + ms;

	while (mono_ms() < until)
		usleep(1000);
}

/*
 * The one before still opens what it sealed, and asks for a new ticket (as TLS 1.3 does each time);
 * two turns later it is gone.
 */
static void
ticket_keys_rotate(void **state)
{
	enum { ROTATE_MS = 200 };
	struct ends e;
	struct sealed first, second, third;

	(void)state;
	contexts_open(&e, TLS_1_3, true);
	assert_int_equal(ticket(&e, &first, 1), 1);
	assert_int_equal(ticket(&e, &second, 1), 1);
	assert_memory_equal(first.name, second.name, sizeof(first.name));
	assert_memory_not_equal(first.iv, second.iv, sizeof(first.iv));
	assert_int_equal(ticket(&e, &first, 0), 2);
	tls_context_use_tickets(e.server_context, NULL);
	assert_int_equal(ticket(&e, &third, 1), 0);
	assert_int_equal(ticket(&e, &first, 0), 0);
	tls_tickets_free(e.tickets);
	e.tickets = tls_tickets_new(ROTATE_MS);
	tls_context_use_tickets(e.server_context, e.tickets);
	assert_int_equal(ticket(&e, &first, 0), 0);		/* of another process */
	assert_int_equal(ticket(&e, &first, 1), 1);
	wait_ms(ROTATE_MS + 10);
	assert_int_equal(ticket(&e, &second, 1), 1);
	assert_memory_not_equal(first.name, second.name, sizeof(first.name));
	assert_int_equal(ticket(&e, &first, 0), 2);
	wait_ms(ROTATE_MS);
	assert_int_equal(ticket(&e, &first, 0), 0);		/* too old, whoever asks */
	contexts_close(&e);
}

/* ---- contexts ----------------------------------------------------------------------------- */

static void
find_name(void *arg, const struct tls_certificate_facts *facts)
{
	snprintf(arg, 64, "%.*s|%.*s|%.*s", SPAN_FMT(facts->identity), SPAN_FMT(facts->names),
		 SPAN_FMT(facts->key));
}

static void
copy_file(const char *from, const char *to)
{
	FILE *in = fopen(from, "r"), *out = fopen(to, "w");
	char all[8192];

	fwrite(all, 1, fread(all, 1, sizeof(all), in), out);
	fclose(in);
	fclose(out);
}

/* New files: the sessions that are there keep the old ones, which go with the last of them. */
static void
a_context_is_replaced(void **state)
{
	struct ends e;
	struct tls_context *fresh;
	struct tls *late;
	uint8_t known[TLS_DIGEST_LEN];
	char error[TLS_ERROR_MAX] = "", names[64] = "";

	(void)state;
	contexts_open(&e, TLS_1_3, true);
	ends_open(&e);
	tls_context_digest(e.server_context, known);
	assert_false(tls_context_changed(e.server_context, NULL, known));
	copy_file(other_chain, chain_path);
	assert_true(tls_context_changed(e.server_context, NULL, known));
	assert_false(tls_context_changed(e.server_context, NULL, known));
	assert_int_equal(tls_context_again(e.server_context, NULL, &fresh, error), -EINVAL);
	assert_non_null(strstr(error, "does not belong"));
	copy_file(other_key, key_path);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(tls_context_again(e.server_context, NULL, &fresh, error), 0);
		tls_context_adopt(e.server_context, fresh, 0);
		tls_context_adopt(e.server_context, fresh, 1);
		tls_context_free(fresh);
	}
	assert_true(e.server_context->by_thread[0]->older == NULL);	/* nobody used it */
	assert_true(e.server_context->by_thread[1]->older != NULL &&
		    e.server_context->by_thread[1]->older->older == NULL);
	tls_context_certificates(e.server_context, find_name, names);
	assert_string_equal(names, "mail|other.test|EC 256");
	/* began before, is verified by the old certificate */
	shake(&e, SIZE_MAX);
	late = tls_server_new(e.server_context, 1);
	tls_free(e.server);
	e.server = NULL;
	assert_true(e.server_context->by_thread[1]->older == NULL);
	tls_free(late);
	contexts_close(&e);
	write_pair("mail.test", chain_path, key_path);
}

static void
settings_that_openssl_does_not_know(void **state)
{
	struct { const char *ciphers, *suites, *groups, *word; } bad[] = {
		{ "NONSENSE", "", "", "tls-ciphers" },
		{ "", "NONSENSE", "", "tls-ciphersuites" },
		{ "", "", "X25519:NONSENSE", "tls-groups" },
	};
	struct ends e;

	(void)state;
	contexts_open(&e, TLS_1_2, true);
	for (size_t i = 0; i < 3; i++) {
		struct tls_settings s = { .min_version = TLS_1_2,
					  .ciphers = span_str(bad[i].ciphers),
					  .ciphersuites = span_str(bad[i].suites),
					  .groups = span_str(bad[i].groups) };
		char error[TLS_ERROR_MAX] = "";
		struct tls_context *context;

		assert_int_equal(tls_server_context(SPAN("smtp"), &s, &e.identity, 1, 1, &context,
						    error),
				 -EINVAL);
		assert_non_null(strstr(error, bad[i].word));
		assert_null(context);
	}
	contexts_close(&e);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_same_is_resumed),
		cmocka_unit_test(a_name_must_stand_where_it_belongs),
		cmocka_unit_test(records_are_part_of_it),
		cmocka_unit_test(sessions_end), cmocka_unit_test(large_sessions_are_not_kept),
		cmocka_unit_test(what_was_found_goes_with_it),
		cmocka_unit_test(a_session_that_fails_is_not_offered_again),
		cmocka_unit_test(both_ways_in_any_pieces), cmocka_unit_test(cut_at_every_octet),
		cmocka_unit_test(one_bit_ends_it), cmocka_unit_test(nothing_comes_behind_the_end),
		cmocka_unit_test(renegotiation_is_refused), cmocka_unit_test(both_know_the_same),
		cmocka_unit_test(ticket_keys_rotate), cmocka_unit_test(a_context_is_replaced),
		cmocka_unit_test(settings_that_openssl_does_not_know),
	};

	return cmocka_run_group_tests(tests, make_files, remove_files);
}
