/* test_sasl: AUTH exchanges line by line, then both machines against each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mta/auth/sasl_client.h"
#include "mta/base/base64.h"

enum { ALL = (1 << SASL_MECHANISMS) - 1 };

static struct sasl_config config = { .offered = ALL, .max_line = 400,
				     .secret = "0123456789abcdef0123456789abcdef" };
static struct sasl_facts facts = { .tls = true,
				   .binding = { "0123456789abcdef0123456789abcdef", 32 },
				   .external = { "anna", 4 } };

/* The owner: who is who. */
static enum sasl_action
answer(struct sasl *s, enum sasl_action action)
{
	struct scram_verifier v;
	bool right;

	switch (action) {
	case SASL_VERIFY_PASSWORD:
		if (span_eq(s->user, SPAN("down")))
			return sasl_answer(s, SASL_TEMPORARY, SPAN(""), NULL);
		if (span_eq(s->password, SPAN("asks")))
			return sasl_answer_relay(s, SPAN("bW9yZQ=="));
		right = span_ieq(s->user, SPAN("anna")) && span_eq(s->password, SPAN("pw"));
		return sasl_answer(s, right ? SASL_OK : SASL_REFUSED, SPAN("anna"), NULL);
	case SASL_VERIFY_TOKEN:
		if (span_eq(s->token, SPAN("error")))
			return sasl_answer_relay(s, SPAN("eyJzdGF0dXMiOiJpbnZhbGlkIn0="));
		right = span_eq(s->token, SPAN("tok"));
		return sasl_answer(s, right ? SASL_OK : SASL_REFUSED,
				   right ? SPAN("anna") : SPAN(""), NULL);
	case SASL_ADMIT:
		right = span_eq(s->user, SPAN("anna"));
		return sasl_answer(s, right ? SASL_OK : SASL_REFUSED, SPAN(""), NULL);
	case SASL_FETCH_SCRAM:
		if (!span_ieq(s->user, SPAN("anna")))
			return sasl_answer_scram(s, NULL, SPAN(""));
		scram_verifier_make(SPAN("pw"), SPAN("0123456789abcdef"), 4096, &v);
		return sasl_answer_scram(s, &v, SPAN("anna"));
	default:
		assert_int_equal(action, SASL_RELAY);
		if (span_starts(s->message, SPAN("n,,n=down")))
			return sasl_answer_relay(s, SPAN("not base64"));
		if (span_starts(s->message, SPAN("n,,n=")))
			return sasl_answer_relay(s, SPAN("Y2hhbGxlbmdl"));
		if (span_eq(s->message, SPAN("right")))
			return sasl_answer_relay(s, SPAN("djE="));
		return sasl_answer(s, s->message.len == 0 ? SASL_OK : SASL_REFUSED, SPAN("Anna@x"),
				   NULL);
	}
}

static void
put_reply(const struct reply *reply, struct buf *out)
{
	char status[16];

	buf_printf(out, "%u %s", reply->code, status_format(reply->status, status));
}

/* "334 …|334 …|235 2.7.0 anna" */
static void
run(const char *const *lines, struct buf *out)
{
	struct sasl s;
	enum sasl_action action;

	sasl_init(&s, &config, &facts);
	action = sasl_start(&s, span_str(*lines++));
	for (;;) {
		while (action != SASL_CHALLENGE && action != SASL_SUCCESS && action != SASL_FAIL)
			action = answer(&s, action);
		if (action != SASL_CHALLENGE)
			break;
		buf_printf(out, "334 %.*s|", SPAN_FMT(buf_span(&s.challenge)));
		if (*lines == NULL)
			break;
		action = sasl_line(&s, span_str(*lines++));
	}
	if (action != SASL_CHALLENGE) {
		put_reply(&s.reply, out);
		assert_int_equal(s.password.len + s.token.len + s.message.len, 0);
		for (size_t i = 0; i < s.decoded.cap; i++)
			assert_int_equal(s.decoded.at[i], 0);
		assert_null(*lines);
	}
	if (action == SASL_SUCCESS)
		buf_printf(out, " %.*s", SPAN_FMT(s.user));
	else if (action == SASL_FAIL)
		assert_non_null(s.why);
	sasl_free(&s);
	buf_byte(out, '\0');
}

struct dialogue {
	const char *lines[5];
	const char *expected;
};

static void
check_all(const struct dialogue *dialogues, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct buf out = { 0 };

		run(dialogues[i].lines, &out);
		if (strcmp(out.at, dialogues[i].expected) != 0)
			fail_msg("%s → %s", dialogues[i].lines[0], out.at);
		buf_free(&out);
	}
}

#define CHECK(dialogues) check_all(dialogues, sizeof(dialogues) / sizeof((dialogues)[0]))

static void
test_plain(void **state)
{
	static const struct dialogue dialogues[] = {
		{ { "PLAIN AGFubmEAcHc=" }, "235 2.7.0 anna" },
		/* ANNA: the backend's spelling */
		{ { "plain AEFOTkEAcHc=" }, "235 2.7.0 anna" },
		{ { "PLAIN", "AGFubmEAcHc=" }, "334 |235 2.7.0 anna" },
		{ { "PLAIN YW5uYQBhbm5hAHB3" }, "235 2.7.0 anna" },		/* as herself */
		{ { "PLAIN YmVydABhbm5hAHB3" }, "535 5.7.8" },			/* as bert */
		{ { "PLAIN AGFubmEAeA==" }, "535 5.7.8" },
		{ { "PLAIN AG5vYm9keQBwdw==" }, "535 5.7.8" },
		{ { "PLAIN AGRvd24AcHc=" }, "454 4.7.0" },
		/* the backend asks on */
		{ { "PLAIN AGFubmEAYXNrcw==" }, "454 4.7.0" },
		{ { "PLAIN AGFubmEA" }, "535 5.7.8" },				/* no password */
		{ { "PLAIN AAA=" }, "535 5.7.8" },				/* no name */
		/* a newline in the name */
		{ { "PLAIN AGEKYgBwdw==" }, "535 5.7.8" },
		/* a NUL in the password */
		{ { "PLAIN AGFubmEAcAB3" }, "535 5.7.8" },
		{ { "PLAIN AP8AcHc=" }, "535 5.7.8" },				/* no UTF-8 */
		{ { "PLAIN YW5uYQ==" }, "501 5.5.2" },				/* no NUL at all */
		{ { "PLAIN AGFubmE=" }, "501 5.5.2" },
		{ { "PLAIN =" }, "501 5.5.2" },
		{ { "PLAIN ====" }, "501 5.5.2" }, { { "PLAIN AGFubmEAcHc" }, "501 5.5.2" },
		{ { "PLAIN AGFubmEAcHd=" }, "501 5.5.2" },			/* bits left over */
		{ { "PLAIN A*==" }, "501 5.5.2" }, { { "PLAIN AGFubmEAcHc= x" }, "501 5.5.4" },
		{ { "PLAIN", "*" }, "334 |501 5.7.0" }, { { "PLAIN", "" }, "334 |501 5.5.2" },
		{ { "PLAIN", "=" }, "334 |501 5.5.2" },
		{ { "PLAIN", " AGFubmEAcHc=" }, "334 |501 5.5.2" },
		{ { "" }, "501 5.5.4" }, { { " " }, "501 5.5.4" },
		{ { "NTLM" }, "504 5.5.4" }, { { "PLAI" }, "504 5.5.4" },
		{ { "CRAM-MD5 x" }, "504 5.5.4" },
	};

	(void)state;
	CHECK(dialogues);
}

static void
test_login(void **state)
{
	static const struct dialogue dialogues[] = {
		{ { "LOGIN", "YW5uYQ==", "cHc=" },
		  "334 VXNlcm5hbWU6|334 UGFzc3dvcmQ6|235 2.7.0 anna" },
		{ { "LOGIN YW5uYQ==", "cHc=" }, "334 UGFzc3dvcmQ6|235 2.7.0 anna" },
		{ { "LOGIN YW5uYQ==", "eA==" }, "334 UGFzc3dvcmQ6|535 5.7.8" },
		{ { "LOGIN YW5uYQ==", "" }, "334 UGFzc3dvcmQ6|535 5.7.8" },
		{ { "LOGIN =", "cHc=" }, "334 UGFzc3dvcmQ6|535 5.7.8" },
		{ { "LOGIN AA==", "cHc=" }, "334 UGFzc3dvcmQ6|535 5.7.8" },
		{ { "LOGIN", "*" }, "334 VXNlcm5hbWU6|501 5.7.0" },
		{ { "LOGIN YW5uYQ==", "*" }, "334 UGFzc3dvcmQ6|501 5.7.0" },
		{ { "LOGIN", "anna@example.org" }, "334 VXNlcm5hbWU6|501 5.5.2" },
	};

	(void)state;
	CHECK(dialogues);
}

static void
test_token(void **state)
{
	static const struct dialogue dialogues[] = {
		{ { "XOAUTH2 dXNlcj1hbm5hAWF1dGg9QmVhcmVyIHRvawEB" }, "235 2.7.0 anna" },
		{ { "XOAUTH2", "dXNlcj1hbm5hAWF1dGg9QmVhcmVyIHRvawEB" }, "334 |235 2.7.0 anna" },
		{ { "XOAUTH2 dXNlcj1hbm5hAWF1dGg9QmVhcmVyIHgBAQ==", "" },
		  "334 eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiYmVhcmVyIn0=|535 5.7.8" },
		/* the backend's JSON */
		{ { "XOAUTH2 dXNlcj1hbm5hAWF1dGg9QmVhcmVyIGVycm9yAQE=", "" },
		  "334 eyJzdGF0dXMiOiJpbnZhbGlkIn0=|535 5.7.8" },
		{ { "XOAUTH2 dXNlcj1hbm5hAWF1dGg9QmVhcmVyIGVycm9yAQE=", "*" },
		  "334 eyJzdGF0dXMiOiJpbnZhbGlkIn0=|535 5.7.8" },
		{ { "XOAUTH2 dXNlcj1hbm5hAWF1dGg9QmVhcmVyIHRvawE=" }, "501 5.5.2" },
		/* no token */
		{ { "XOAUTH2 dXNlcj1hbm5hAWF1dGg9QmVhcmVyIAEB" }, "501 5.5.2" },
		/* no user */
		{ { "XOAUTH2 dXNlcj0BYXV0aD1CZWFyZXIgdG9rAQE=" }, "501 5.5.2" },
		{ { "OAUTHBEARER bixhPWFubmEsAWF1dGg9QmVhcmVyIHRvawEB" }, "235 2.7.0 anna" },
		/* n,,^Ahost=h^Aport=25^Aauth=Bearer tok^A^A */
		{ { "OAUTHBEARER biwsAWhvc3Q9aAFwb3J0PTI1AWF1dGg9QmVhcmVyIHRvawEB" },
		  "235 2.7.0 anna" },
		{ { "OAUTHBEARER bixhPWFubmEsAWF1dGg9QmVhcmVyIHgBAQ==", "AQ==" },
		  "334 eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiYmVhcmVyIn0=|535 5.7.8" },
		/* p=x,… */
		{ { "OAUTHBEARER cD14LGE9YW5uYSwBYXV0aD1CZWFyZXIgdG9rAQE=" }, "501 5.5.2" },
		{ { "OAUTHBEARER =" }, "501 5.5.2" },
	};

	(void)state;
	CHECK(dialogues);
}

static void
test_external(void **state)
{
	static const struct dialogue dialogues[] = {
		{ { "EXTERNAL =" }, "235 2.7.0 anna" },
		{ { "EXTERNAL YW5uYQ==" }, "235 2.7.0 anna" },
		{ { "EXTERNAL", "" }, "334 |235 2.7.0 anna" },
		{ { "EXTERNAL YmVydA==" }, "535 5.7.8" }, { { "EXTERNAL AA==" }, "535 5.7.8" },
	};
	static const struct dialogue none[] = {
		{ { "EXTERNAL =" }, "504 5.5.4" },
		{ { "SCRAM-SHA-256-PLUS biwsbj11c2VyLHI9YWJj" }, "504 5.5.4" },
	};
	struct sasl_facts before = facts;
	struct buf out = { 0 };

	(void)state;
	CHECK(dialogues);
	facts.external = SPAN("bert");
	run((const char *const[]){ "EXTERNAL =", NULL }, &out);
	assert_string_equal(out.at, "535 5.7.8");
	buf_free(&out);
	facts.external = facts.binding = SPAN("");
	CHECK(none);
	facts = before;
}

static void
test_relay(void **state)
{
	static const struct dialogue dialogues[] = {
		{ { "SCRAM-SHA-256 biwsbj1hbm5hLHI9YWJj", "cmlnaHQ=", "" },
		  "334 Y2hhbGxlbmdl|334 djE=|235 2.7.0 Anna@x" },
		{ { "SCRAM-SHA-256 biwsbj1hbm5hLHI9YWJj", "d3Jvbmc=" },
		  "334 Y2hhbGxlbmdl|535 5.7.8" },
		{ { "SCRAM-SHA-256 biwsbj1kb3duLHI9YWJj" }, "454 4.7.0" },
		{ { "SCRAM-SHA-256 biwsbj1hbm5hLHI9YWJj", "*" }, "334 Y2hhbGxlbmdl|501 5.7.0" },
		{ { "SCRAM-SHA-256-PLUS biwsbj1hbm5hLHI9YWJj" }, "504 5.5.4" },
	};

	(void)state;
	config.relayed = 1u << SASL_SCRAM_SHA_256;
	CHECK(dialogues);
	config.relayed = 0;
}

static void
test_long_lines(void **state)
{
	struct buf line = { 0 }, out = { 0 };
	const char *lines[3] = { "PLAIN", NULL, NULL };

	(void)state;
	for (int i = 0; i < 401; i++)
		buf_byte(&line, 'A');
	buf_byte(&line, '\0');
	lines[1] = line.at;
	run(lines, &out);
	assert_string_equal(out.at, "334 |500 5.5.6");
	buf_clear(&out);
	line.at[400] = '\0';
	run(lines, &out);
	assert_string_equal(out.at, "334 |535 5.7.8");		/* 300 NULs: a name of nothing */
	buf_clear(&out);
	memcpy(line.at, "PLAIN ", 6);
	line.at[400] = 'A';
	lines[0] = line.at;
	lines[1] = NULL;
	run(lines, &out);
	assert_string_equal(out.at, "500 5.5.6");
	buf_free(&line);
	buf_free(&out);
}

/* A name that nobody has looks like one that somebody has, until the proof. */
static void
test_scram_unknown(void **state)
{
	const char *lines[] = { "SCRAM-SHA-256 biwsbj1ub2JvZHkscj1hYmM=", NULL };
	struct buf first = { 0 }, second = { 0 };
	struct sasl_facts before = facts;

	(void)state;
	facts.nonce = SPAN("xyz");
	run(lines, &first);
	lines[0] = "SCRAM-SHA-256 biwsbj1OT0JPRFkscj1hYmM=";	/* NOBODY */
	run(lines, &second);
	assert_string_equal(first.at, second.at);
	assert_true(span_starts(buf_span(&first), SPAN("334 cj1hYmN4eXoscz")));
	facts = before;
	buf_free(&first);
	buf_free(&second);
}

static void
test_names(void **state)
{
	struct buf out = { 0 };

	(void)state;
	sasl_names(ALL, &out);
	buf_byte(&out, '\0');
	assert_string_equal(out.at, "EXTERNAL SCRAM-SHA-256-PLUS SCRAM-SHA-256 OAUTHBEARER XOAUTH2 "
				    "PLAIN LOGIN");
	assert_int_equal(sasl_set_of(SPAN("plain X-OTHER  LOGIN GSSAPI")),
			 1 << SASL_PLAIN | 1 << SASL_LOGIN);
	assert_int_equal(sasl_set_of(SPAN("")), 0);
	buf_free(&out);
}

/* The client's machine against the server's. *code: the server's last reply. */
static enum sasl_client_action
talk(const struct sasl_client_config *client, enum sasl_mechanism mechanism, struct sasl_client *c,
     unsigned *code)
{
	enum sasl_client_action action;
	enum sasl_action server = SASL_CHALLENGE;
	struct sasl s;
	bool begun = false;

	sasl_init(&s, &config, &facts);
	sasl_client_init(c, client, mechanism);
	action = sasl_client_start(c);
	while (action == SASL_CLIENT_SEND || action == SASL_CLIENT_WORK) {
		struct span line = buf_span(&c->out);
		struct reply reply;

		if (action == SASL_CLIENT_WORK) {
			sasl_client_work(c);
			action = sasl_client_worked(c);
			continue;
		}
		assert_true(span_ends(line, SPAN("\r\n")));
		line.len -= 2;
		if (!begun)
			assert_true(line.len <= 510 && span_starts(line, SPAN("AUTH ")));
		server = begun ? sasl_line(&s, line) : sasl_start(&s, span_skip(line, 5));
		begun = true;
		while (server != SASL_CHALLENGE && server != SASL_SUCCESS && server != SASL_FAIL)
			server = answer(&s, server);
		reply = server == SASL_CHALLENGE ? REPLY(334, 0, 0, 0, "") : s.reply;
		if (server == SASL_CHALLENGE)
			reply.text = buf_span(&s.challenge);
		*code = reply.code;
		action = sasl_client_reply(c, &reply);
	}
	assert_int_equal(action == SASL_CLIENT_DONE, server == SASL_SUCCESS);
	sasl_free(&s);
	return action;
}

static void
test_both(void **state)
{
	struct sasl_client_config right = {
		.user = SPAN("anna"), .password = SPAN("pw"), .token = SPAN("tok"),
		.certificate = true,
		.binding = facts.binding, .host = SPAN("relay.example.net"), .port = 587,
		.allowed = ALL,
	};
	struct sasl_client_config wrong = right;
	struct sasl_client c;
	unsigned code = 0;

	(void)state;
	wrong.user = SPAN("b=e,rt");
	wrong.password = wrong.token = SPAN("wrong");
	for (unsigned i = 0; i < SASL_MECHANISMS; i++) {
		/* a client that can bind, and does not, says so: then the list was tampered with */
		right.binding = wrong.binding = i == SASL_SCRAM_SHA_256 ? SPAN("") : facts.binding;
		assert_int_equal(talk(&right, (enum sasl_mechanism)i, &c, &code), SASL_CLIENT_DONE);
		assert_int_equal(code, 235);
		sasl_client_free(&c);
		if (i == SASL_EXTERNAL)
			continue;
		assert_int_equal(talk(&wrong, (enum sasl_mechanism)i, &c, &code),
				 SASL_CLIENT_FAILED);
		assert_int_equal(code, 535);
		assert_int_equal(c.reply.code, 535);
		assert_true(c.refused);
		assert_int_equal(c.token_refused, i == SASL_XOAUTH2 || i == SASL_OAUTHBEARER);
		sasl_client_free(&c);
	}
	/* another channel: somebody sits between */
	wrong = right;
	wrong.binding = SPAN("another channel's exporter octets");
	assert_int_equal(talk(&wrong, SASL_SCRAM_SHA_256_PLUS, &c, &code), SASL_CLIENT_FAILED);
	sasl_client_free(&c);
	/* or takes -PLUS out of the list: the client says so in the protected message */
	assert_int_equal(talk(&right, SASL_SCRAM_SHA_256, &c, &code), SASL_CLIENT_FAILED);
	sasl_client_free(&c);
}

static void
test_long_token(void **state)
{
	struct sasl_client_config client = { .user = SPAN("anna"), .allowed = ALL };
	struct buf token = { 0 };
	struct sasl_client c;
	unsigned code = 0;

	(void)state;
	for (int i = 0; i < 12000; i++)
		buf_byte(&token, 'x');
	client.token = buf_span(&token);
	config.max_line = 0;
	for (unsigned i = SASL_XOAUTH2; i <= SASL_OAUTHBEARER; i++) {
		assert_int_equal(talk(&client, (enum sasl_mechanism)i, &c, &code),
				 SASL_CLIENT_FAILED);
		assert_int_equal(code, 535);		/* it was read, and judged */
		sasl_client_free(&c);
	}
	config.max_line = 400;
	buf_free(&token);
}

static void
test_choose(void **state)
{
	struct sasl_client_config c = { .user = SPAN("anna"), .password = SPAN("pw"),
					.allowed = ALL };
	enum sasl_mechanism m;

	(void)state;
	assert_true(sasl_client_choose(&c, ALL, &m));
	assert_int_equal(m, SASL_SCRAM_SHA_256);
	c.binding = facts.binding;
	assert_true(sasl_client_choose(&c, ALL, &m));
	assert_int_equal(m, SASL_SCRAM_SHA_256_PLUS);
	assert_true(sasl_client_choose(&c, 1 << SASL_LOGIN | 1 << SASL_PLAIN, &m));
	assert_int_equal(m, SASL_PLAIN);
	assert_true(sasl_client_choose(&c, 1 << SASL_LOGIN | 1 << SASL_XOAUTH2, &m));
	assert_int_equal(m, SASL_LOGIN);
	c.allowed &= ~(unsigned)SASL_PLAINTEXT;
	assert_false(sasl_client_choose(&c, SASL_PLAINTEXT, &m));
	c.allowed = ALL;
	c.password = SPAN("");
	c.token = SPAN("tok");
	assert_true(sasl_client_choose(&c, ALL, &m));
	assert_int_equal(m, SASL_OAUTHBEARER);
	c.certificate = true;
	assert_true(sasl_client_choose(&c, ALL, &m));
	assert_int_equal(m, SASL_EXTERNAL);
}

/* What a server may say to our client, reply by reply; what we said to the last one. */
static enum sasl_client_action
play(enum sasl_mechanism mechanism, const struct reply *replies, size_t count,
     struct sasl_client *c)
{
	static const struct sasl_client_config client = {
		.user = { "user", 4 }, .password = { "pencil", 6 }, .token = { "tok", 3 },
		.allowed = ALL, .nonce = { "rOprNGfwEbeRWgbNEkqO", 20 },
	};
	enum sasl_client_action action;

	sasl_client_init(c, &client, mechanism);
	action = sasl_client_start(c);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(action, SASL_CLIENT_SEND);
		action = sasl_client_reply(c, &replies[i]);
	}
	return action;
}

#define PLAY(mechanism, c, ...) \
	play(mechanism, (const struct reply[]){ __VA_ARGS__ }, \
	     sizeof((const struct reply[]){ __VA_ARGS__ }) / sizeof(struct reply), c)
#define R(code, text) REPLY_INIT(code, 0, 0, 0, text)
/* RFC 7677's, as base64 */
#define SCRAM_ONE                                                                                  \
	"cj1yT3ByTkdmd0ViZVJXZ2JORWtxTyVodllEcFdVYTJSYVRDQWZ1eEZJbGopaE5sRiRrMCxzPVcyMlphSjBTTlk3" \
	"c29Fc1VFamI2Z1E9PSxpPTQwOTY="
#define SCRAM_TWO "dj02cnJpVFJCaTIzV3BSUi93dHVwK21NaFVaVW4vZEI1bkxUSlJzamw5NUc0PQ=="
#define SCRAM_WRONG "dj1BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBPQ=="

static void
test_client_server_lies(void **state)
{
	struct sasl_client c;

	(void)state;
	assert_int_equal(PLAY(SASL_SCRAM_SHA_256, &c, R(334, SCRAM_ONE), R(334, SCRAM_TWO),
			      R(235, "ok")),
			 SASL_CLIENT_DONE);
	sasl_client_free(&c);
	/* yes without proof: at once, after the first message, after a wrong signature */
	assert_int_equal(PLAY(SASL_SCRAM_SHA_256, &c, R(235, "ok")), SASL_CLIENT_FAILED);
	assert_int_equal(c.reply.code, 454);
	assert_non_null(c.why);
	assert_false(c.refused);
	sasl_client_free(&c);
	assert_int_equal(PLAY(SASL_SCRAM_SHA_256, &c, R(334, SCRAM_ONE), R(235, "ok")),
			 SASL_CLIENT_FAILED);
	sasl_client_free(&c);
	assert_int_equal(PLAY(SASL_SCRAM_SHA_256, &c, R(334, SCRAM_ONE), R(334, SCRAM_WRONG)),
			 SASL_CLIENT_SEND);
	assert_true(span_eq(buf_span(&c.out), SPAN("*\r\n")));
	assert_int_equal(sasl_client_reply(&c, &REPLY(235, 2, 7, 0, "ok")), SASL_CLIENT_FAILED);
	sasl_client_free(&c);
	/* nonsense for base64, questions without end */
	assert_int_equal(PLAY(SASL_SCRAM_SHA_256, &c, R(334, "???"), R(334, "???")),
			 SASL_CLIENT_FAILED);
	sasl_client_free(&c);
	assert_int_equal(PLAY(SASL_PLAIN, &c, R(334, ""), R(501, "cancelled")), SASL_CLIENT_FAILED);
	assert_int_equal(c.reply.code, 454);
	sasl_client_free(&c);
	assert_int_equal(PLAY(SASL_LOGIN, &c, R(334, "Username:"), R(334, "Password:"),
			      R(235, "ok")),
			 SASL_CLIENT_DONE);
	sasl_client_free(&c);
	assert_int_equal(PLAY(SASL_LOGIN, &c, R(235, "ok")), SASL_CLIENT_FAILED);
	sasl_client_free(&c);
	assert_int_equal(PLAY(SASL_PLAIN, &c, R(454, "later")), SASL_CLIENT_FAILED);
	assert_int_equal(c.reply.code, 454);
	assert_false(c.refused);
	sasl_client_free(&c);
	assert_int_equal(PLAY(SASL_XOAUTH2, &c, R(334, "eyJzdGF0dXMiOiI0MDAifQ=="), R(535, "no")),
			 SASL_CLIENT_FAILED);
	assert_true(c.refused && c.token_refused);
	assert_null(c.why);			/* the server's own words count */
	assert_true(span_eq(buf_span(&c.server_error), SPAN("{\"status\":\"400\"}")));
	sasl_client_free(&c);
}

/* More iterations than a loop has time for are calculated elsewhere. */
static void
test_client_work(void **state)
{
	struct sasl_client c;

	(void)state;
	/* r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=30000 */
	assert_int_equal(PLAY(SASL_SCRAM_SHA_256, &c,
			      R(334, "cj1yT3ByTkdmd0ViZVJXZ2JORWtxT3gscz1XMjJaYUowU05ZN3NvRXNVRWpiN"
				     "mdRPT0saT0zMDAwMA==")),
			 SASL_CLIENT_WORK);
	sasl_client_work(&c);
	assert_int_equal(sasl_client_worked(&c), SASL_CLIENT_SEND);
	assert_true(buf_len(&c.out) > 100);
	sasl_client_free(&c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain), cmocka_unit_test(test_login),
		cmocka_unit_test(test_token),
		cmocka_unit_test(test_external), cmocka_unit_test(test_relay),
		cmocka_unit_test(test_long_lines),
		cmocka_unit_test(test_scram_unknown), cmocka_unit_test(test_names),
		cmocka_unit_test(test_both),
		cmocka_unit_test(test_long_token), cmocka_unit_test(test_choose),
		cmocka_unit_test(test_client_server_lies), cmocka_unit_test(test_client_work),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
