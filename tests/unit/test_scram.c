/*
 * test_scram: RFC 7677's example and others made with Python's hashlib, both sides; what is wrong
 * in a message; names and passwords prepared.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mta/auth/prep.h"
#include "mta/auth/scram.h"

struct vector {
	const char *user, *authzid, *password, *client_nonce, *server_nonce, *verifier;
	bool binding, plus, plus_offered;
	const char *message[4];
};

static const char octets[] =
	"\0\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17\20\21\22\23\24\25\26\27\30\31\32\33\34\35\36\37";

#define RFC_NONCES "rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define RFC_VERIFIER                                    \
	"{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==," \
	"WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=," \
	"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
#define RFC_FIRST \
	"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"

static const struct vector vectors[] = {
	{ "user", "", "pencil", RFC_NONCES, RFC_VERIFIER, false, false, false, {
		"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", RFC_FIRST,
		"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
		"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" } },
	{ "user", "", "pencil", RFC_NONCES, RFC_VERIFIER, true, false, false, {
		"y,,n=user,r=rOprNGfwEbeRWgbNEkqO", RFC_FIRST,
		"c=eSws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=FoqiHTtQEDE8lz1CdaEe3tK4mS+iMDTl77SPyDS53DY=",
		"v=dI4KpiQJwBr1+V+K6U1dA6l6I4I9DUNXWND4pcpRU3U=" } },
	{ "an,na=x", "an,na=x", "p\xc3\xa4ssword", "clientNONCE", "serverNONCE",
	  "{SCRAM-SHA-256}5000,MDEyMzQ1Njc4OWFiY2RlZg==,FH6LizmuqGxZa3oE+ooO3kpTq1sNYS5vWPQpWC20P7o=,"
	  "k2fRG94DlLLtLANwymabYHLLSBUdwfCQjIw+wXitGBg=", true, true, true, {
		"p=tls-exporter,a=an=2Cna=3Dx,n=an=2Cna=3Dx,r=clientNONCE",
		"r=clientNONCEserverNONCE,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=5000",
		"c=cD10bHMtZXhwb3J0ZXIsYT1hbj0yQ25hPTNEeCwAAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHw==,"
		"r=clientNONCEserverNONCE,p=0t/INvxFJ6IrmSqZMbBlQM/qlRBuly56NQK9UR3Z9Ww=",
		"v=mkCfAkAzLuU8TEBFEyp6lp66lHah4kDDYAn8UqiHwrU=" } },
};
enum { VECTORS = sizeof(vectors) / sizeof(vectors[0]) };

static void
assert_text(struct buf *got, const char *expected)
{
	buf_byte(got, '\0');
	assert_string_equal(got->at + got->start, expected);
	buf_clear(got);
}

static struct scram_server
server_of(const struct vector *v)
{
	struct scram_server s = { .plus = v->plus, .plus_offered = v->plus_offered };

	if (v->binding)
		s.binding = span_of(octets, 32);
	memcpy(s.nonce, v->server_nonce, strlen(v->server_nonce));
	return s;
}

static void
test_server(void **state)
{
	(void)state;
	for (size_t i = 0; i < VECTORS; i++) {
		const struct vector *v = &vectors[i];
		struct scram_server s = server_of(v);
		struct scram_verifier verifier;
		struct buf out = { 0 };

		assert_null(scram_verifier_parse(span_str(v->verifier), &verifier));
		assert_int_equal(scram_server_first(&s, span_str(v->message[0])), SCRAM_OK);
		assert_true(span_eq(s.user, span_str(v->user)));
		assert_true(span_eq(s.authzid, span_str(v->authzid)));
		scram_server_challenge(&s, &verifier, &out);
		assert_text(&out, v->message[1]);
		assert_int_equal(scram_server_final(&s, span_str(v->message[2]), &out), SCRAM_OK);
		assert_text(&out, v->message[3]);
		scram_server_free(&s);
		buf_free(&out);
	}
}

static struct scram_client
client_of(const struct vector *v)
{
	struct scram_client c = {
		.user = span_str(v->user), .authzid = span_str(v->authzid),
		.password = span_str(v->password), .plus = v->plus,
	};

	if (v->binding)
		c.binding = span_of(octets, 32);
	memcpy(c.nonce, v->client_nonce, strlen(v->client_nonce));
	return c;
}

static void
test_client(void **state)
{
	(void)state;
	for (size_t i = 0; i < VECTORS; i++) {
		const struct vector *v = &vectors[i];
		struct scram_client c = client_of(v);
		struct buf out = { 0 };

		scram_client_first(&c, &out);
		assert_text(&out, v->message[0]);
		assert_true(scram_client_read(&c, span_str(v->message[1])));
		scram_client_calculate(&c);
		scram_client_final(&c, &out);
		assert_text(&out, v->message[2]);
		assert_true(scram_client_verify(&c, span_str(v->message[3])));
		assert_false(scram_client_verify(
			&c, SPAN("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95GA=")));
		assert_false(scram_client_verify(&c, SPAN("v=")));
		assert_false(scram_client_verify(&c, SPAN("e=other-error")));
		scram_client_free(&c);
		buf_free(&out);
	}
}

static void
test_client_refuses(void **state)
{
	static const char *const bad[] = {
		/* nothing of its own */
		"", "r=", "r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
		"r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
		"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4095",
		"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=100000000",
		"r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==",
		"r=rOprNGfwEbeRWgbNEkqOx,s=,i=4096", "r=rOprNGfwEbeRWgbNEkqOx,s=%%%%,i=4096",
		"m=x,r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
		"s=W22ZaJ0SNY7soEsUEjb6gQ==,r=rOprNGfwEbeRWgbNEkqOx,i=4096", "e=no", "=,=,=",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct scram_client c = client_of(&vectors[0]);
		struct buf out = { 0 };

		scram_client_first(&c, &out);
		assert_false(scram_client_read(&c, span_str(bad[i])));
		assert_non_null(c.why);
		scram_client_free(&c);
		buf_free(&out);
	}
}

struct first {
	const char *message;
	bool plus, plus_offered;
	enum scram_result result;
};

static void
test_server_first(void **state)
{
	static const struct first firsts[] = {
		{ "n,,n=user,r=abc", false, false, SCRAM_OK },
		/* a client that cannot bind */
		{ "n,,n=user,r=abc", false, true, SCRAM_OK },
		{ "y,,n=user,r=abc", false, false, SCRAM_OK },
		{ "n,a=user,n=user,r=abc,x=extension", false, false, SCRAM_OK },
		/* somebody took -PLUS out of the list */
		{ "y,,n=user,r=abc", false, true, SCRAM_REFUSED },
		{ "p=tls-exporter,,n=user,r=abc", true, true, SCRAM_OK },
		{ "p=tls-exporter,,n=user,r=abc", false, true, SCRAM_REFUSED },
		{ "p=tls-unique,,n=user,r=abc", true, true, SCRAM_REFUSED },
		{ "n,,n=user,r=abc", true, true, SCRAM_REFUSED },
		{ "y,,n=user,r=abc", true, true, SCRAM_REFUSED },
		{ "", false, false, SCRAM_MALFORMED },
		{ ",,,,", false, false, SCRAM_MALFORMED },
		{ "n,", false, false, SCRAM_MALFORMED },
		{ "n,,n=,r=abc", false, false, SCRAM_MALFORMED },
		{ "n,,n=user,r=", false, false, SCRAM_MALFORMED },
		{ "n,,n=user", false, false, SCRAM_MALFORMED },
		{ "n,,r=abc,n=user", false, false, SCRAM_MALFORMED },
		{ "n,,m=x,n=user,r=abc", false, false, SCRAM_MALFORMED },
		{ "n,,n=us=er,r=abc", false, false, SCRAM_MALFORMED },
		{ "n,,n=us=2c,r=abc", false, false, SCRAM_MALFORMED },
		{ "n,,n=\xff,r=abc", false, false, SCRAM_MALFORMED },
		{ "n,user,n=user,r=abc", false, false, SCRAM_MALFORMED },
		{ "n,a=,n=user,r=abc", false, false, SCRAM_MALFORMED },
		{ "n,,n=user,r=a bc", false, false, SCRAM_MALFORMED },
		{ "q,,n=user,r=abc", false, false, SCRAM_MALFORMED },
		{ "p=,,n=user,r=abc", true, true, SCRAM_MALFORMED },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(firsts) / sizeof(firsts[0]); i++) {
		struct scram_server s = { .plus = firsts[i].plus,
					  .plus_offered = firsts[i].plus_offered,
					  .binding = span_of(octets, firsts[i].plus ? 32 : 0) };

		if (scram_server_first(&s, span_str(firsts[i].message)) != firsts[i].result)
			fail_msg("%s", firsts[i].message);
		scram_server_free(&s);
	}
}

static void
test_server_final(void **state)
{
	static const struct { const char *message; enum scram_result result; } finals[] = {
		{ "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
		  /* the proof */
		  "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVA=", SCRAM_REFUSED },
		{ "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k1,"
		  /* the nonce */
		  "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", SCRAM_REFUSED },
		{ "c=eSws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
		  /* the gs2 header */
		  "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", SCRAM_REFUSED },
		{ "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzb",
		  SCRAM_MALFORMED },
		{ "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", SCRAM_MALFORMED },
		{ "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,c=biws,"
		  "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", SCRAM_MALFORMED },
		{ "", SCRAM_MALFORMED }, { "p=", SCRAM_MALFORMED }, { "c=,r=,p=", SCRAM_MALFORMED },
		{ "c=biws,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", SCRAM_MALFORMED },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(finals) / sizeof(finals[0]); i++) {
		struct scram_server s = server_of(&vectors[0]);
		struct scram_verifier verifier;
		struct buf out = { 0 };

		assert_null(scram_verifier_parse(SPAN(RFC_VERIFIER), &verifier));
		assert_int_equal(scram_server_first(&s, span_str(vectors[0].message[0])), SCRAM_OK);
		scram_server_challenge(&s, &verifier, &out);
		buf_clear(&out);
		if (scram_server_final(&s, span_str(finals[i].message), &out) != finals[i].result)
			fail_msg("%s", finals[i].message);
		assert_int_equal(buf_len(&out), 0);
		scram_server_free(&s);
		buf_free(&out);
	}
}

static void
test_verifier(void **state)
{
	static const char *const bad[] = {
		"",
		"{SCRAM-SHA-256}",
		"{SCRAM-SHA-1}4096,W22Z,WG5d,wfPL",
		"{SCRAM-SHA-256}4096",
		"{SCRAM-SHA-256}4095,W22ZaJ0SNY7soEsUEjb6gQ==,"
		"WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,"
		"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
		"{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,"
		"WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=",
		"{SCRAM-SHA-256}4096,W22ZaA==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,"
		"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
		"{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,W22ZaJ0SNY7soEsUEjb6gQ==,"
		"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
		RFC_VERIFIER ",x",
	};
	struct scram_verifier v, again;
	struct buf text = { 0 };

	(void)state;
	scram_verifier_make(SPAN("pencil"),
			    SPAN("\x5b\x6d\x99\x68\x9d\x12\x35\x8e\xec\xa0\x4b\x14\x12\x36\xfa\x81"),
			    4096, &v);
	scram_verifier_format(&v, &text);
	assert_text(&text, RFC_VERIFIER);
	assert_null(scram_verifier_parse(SPAN(RFC_VERIFIER), &again));
	assert_memory_equal(&v, &again, sizeof(v));
	assert_true(scram_verifier_check(&v, SPAN("pencil")));
	assert_false(scram_verifier_check(&v, SPAN("pencils")));
	assert_false(scram_verifier_check(&v, SPAN("")));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_non_null(scram_verifier_parse(span_str(bad[i]), &again));
	buf_free(&text);
}

static void
test_imagined(void **state)
{
	struct scram_verifier a, b, c, d;

	(void)state;
	scram_verifier_imagine(SPAN("secret"), SPAN("anna"), 10000, &a);
	scram_verifier_imagine(SPAN("secret"), SPAN("ANNA"), 10000, &b);
	scram_verifier_imagine(SPAN("secret"), SPAN("bert"), 10000, &c);
	scram_verifier_imagine(SPAN("other"), SPAN("anna"), 10000, &d);
	assert_int_equal(a.salt_len, SCRAM_SALT);
	assert_memory_equal(a.salt, b.salt, SCRAM_SALT);
	assert_memory_not_equal(a.salt, c.salt, SCRAM_SALT);
	assert_memory_not_equal(a.salt, d.salt, SCRAM_SALT);
	assert_memory_not_equal(a.stored_key, b.stored_key, SCRAM_KEY);
}

static void
test_prep(void **state)
{
	static const struct { const char *in, *out; } names[] = {
		/* RFC 4013 §3 */
		{ "anna@example.org", "anna@example.org" }, { "I\xc2\xadX", "IX" },
		{ "user", "user" }, { "USER", "USER" }, { "\xc2\xaa", "a" },
		{ "\xe2\x85\xa8", "IX" },
		{ "a\xe3\x80\x80" "b", "a b" }, { "u\xcc\x88", "\xc3\xbc" }, { "\x07", NULL },
		{ "\xd8\xa7\x31", NULL }, { "a\nb", NULL }, { "a\x7f", NULL }, { "", NULL },
		{ "\xff", NULL },
		{ "\xc2\xad", NULL }, { "a\xe2\x80\xa8" "b", NULL }, { "\xc2\x85", NULL },
	};
	static const struct { const char *in, *out; } passwords[] = {
		{ "p\xc3\xa4ss", "p\xc3\xa4ss" }, { "pa\xcc\x88ss", "p\xc3\xa4ss" },
		{ "a\tb", "a\tb" },
		{ "\xff\xfe", "\xff\xfe" }, { "\xf0\x9f\x94\x91", "\xf0\x9f\x94\x91" },
		{ "", NULL },
	};
	struct buf out = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		assert_int_equal(prep_name(span_str(names[i].in), &out), names[i].out != NULL);
		assert_text(&out, names[i].out != NULL ? names[i].out : "");
	}
	assert_false(prep_name(SPAN("a\0b"), &out));
	for (size_t i = 0; i < sizeof(passwords) / sizeof(passwords[0]); i++) {
		assert_int_equal(prep_password(span_str(passwords[i].in), &out),
				 passwords[i].out != NULL);
		assert_text(&out, passwords[i].out != NULL ? passwords[i].out : "");
	}
	assert_false(prep_password(SPAN("a\0b"), &out));
	buf_wipe(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_server), cmocka_unit_test(test_client),
		cmocka_unit_test(test_client_refuses),
		cmocka_unit_test(test_server_first), cmocka_unit_test(test_server_final),
		cmocka_unit_test(test_verifier), cmocka_unit_test(test_imagined),
		cmocka_unit_test(test_prep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
