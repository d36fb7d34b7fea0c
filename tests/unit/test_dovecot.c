/*
 * test_dovecot: Dovecot's auth protocol: lines, then the connection to a backend played here, good
 * and hostile. With TRAM_DOVECOT_AUTH=PATH also to a real one (tests/peers/test_dovecot.py).
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "mta/auth/dovecot.h"
#include "mta/base/base64.h"

#define HELLO                                                                 \
	"VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tSCRAM-SHA-256\tmutual-" \
	"auth\nMECH\tNTLM\nMECH\tLOGIN\tprivate\n"                            \
	"SPID\t1\nCUID\t2\nCOOKIE\tabc\nDONE\n"

/* What was heard, in words; piece: octets given at a time. */
static void
listen_to(struct span in, size_t piece, struct buf *out)
{
	static const char *const names[] = { "more", "ready", "cont", "ok", "fail", "broken" };
	struct dovecot_codec codec = { 0 };

	while (in.len > 0) {
		enum dovecot_event event;
		size_t taken = dovecot_codec_take(&codec, span_first(in, piece), &event);

		assert_true(taken > 0 && taken <= in.len);
		in = span_skip(in, taken);
		if (event == DOVECOT_MORE)
			continue;
		buf_append(out, span_str(names[event]));
		if (event == DOVECOT_BROKEN)
			break;
		if (event == DOVECOT_CONT)
			buf_printf(out, " %u %.*s", codec.id, SPAN_FMT(codec.data));
		if (event == DOVECOT_OK || event == DOVECOT_FAIL)
			buf_printf(out, " %u user=%.*s", codec.id, SPAN_FMT(codec.user));
		if (event == DOVECOT_FAIL)
			buf_printf(out, " %d %.*s", codec.failure, SPAN_FMT(codec.reason));
		if (event == DOVECOT_READY)
			buf_printf(out, " %x", codec.mechanisms);
		buf_byte(out, ';');
	}
	buf_byte(out, '\0');
	dovecot_codec_free(&codec);
}

static void
test_codec(void **state)
{
	static const struct { const char *in, *out; } dialogues[] = {
		{ HELLO "OK\t1\tuser=anna\nCONT\t2\tYWJj\nCONT\t3\t\nFAIL\t4\tuser=bert\n",
		  "ready 12;ok 1 user=anna;cont 2 YWJj;cont 3 ;fail 4 user=bert 0 ;" },
		{ HELLO "FAIL\t1\ttemp\nFAIL\t2\tuser=x\tcode=temp_fail\treason=down\nFAIL\t3\tauthz\n"
		  "FAIL\t4\tcode=user_disabled\nFAIL\t5\tpass_expired\nFAIL\t6\n",
		  "ready 12;fail 1 user= 1 ;fail 2 user=x 1 down;fail 3 user= 2 ;fail 4 user= 3 "
		  ";fail 5 user= 4 ;"
		  "fail 6 user= 0 ;" },
		{ HELLO "OK\t1\tuser=a\1tb\n", "ready 12;broken" },
		{ HELLO "OK\t1\tuser=\n", "ready 12;broken" },
		{ HELLO "OK\t1\tuser=\xff\n", "ready 12;broken" },
		{ HELLO "OK\t4294967296\tuser=a\n", "ready 12;broken" },
		{ HELLO "OK\tx\tuser=a\n", "ready 12;broken" },
		{ HELLO "CONT\n", "ready 12;broken" },
		{ HELLO "NOVELTY\t1\t2\n\n\nOK\t7\tuser=a\tx=y\tlogin\n", "ready 12;ok 7 user=a;" },
		{ "VERSION\t2\t0\n", "broken" }, { "SPID\t1\n", "broken" },
		{ "+OK Dovecot ready.\r\n", "broken" },
		{ "\n", "broken" }, { "VERSION\t1\n DONE\nDONE\n", "ready 0;" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(dialogues) / sizeof(dialogues[0]); i++) {
		static const size_t pieces[] = { 1, 7, 100000 };

		for (size_t p = 0; p < 3; p++) {
			struct buf out = { 0 };

			listen_to(span_str(dialogues[i].in), pieces[p], &out);
			assert_string_equal(out.at, dialogues[i].out);
			buf_free(&out);
		}
	}
}

static void
test_codec_endless(void **state)
{
	struct dovecot_codec codec = { 0 };
	enum dovecot_event event = DOVECOT_MORE;
	char chunk[1000];

	(void)state;
	memset(chunk, 'x', sizeof(chunk));
	for (int i = 0; i < 1000 && event == DOVECOT_MORE; i++)
		dovecot_codec_take(&codec, span_of(chunk, sizeof(chunk)), &event);
	assert_int_equal(event, DOVECOT_BROKEN);
	assert_true(codec.line.cap <= 4 * DOVECOT_LINE_MAX);
	dovecot_codec_take(&codec, SPAN("DONE\n"), &event);
	assert_int_equal(event, DOVECOT_BROKEN);
	dovecot_codec_free(&codec);
	dovecot_codec_take(&codec, SPAN("VERSION\t1\t2\n"), &event);
	for (int i = 0; i < 2000 && event == DOVECOT_MORE; i++)
		dovecot_codec_take(&codec, SPAN("MECH\tPLAIN\n"), &event);
	assert_int_equal(event, DOVECOT_BROKEN);
	dovecot_codec_free(&codec);
}

static void
test_put(void **state)
{
	struct netaddr client, local;
	struct dovecot_facts facts = { .client = &client, .local = &local, .tls = true,
				       .valid_certificate = true, .session = SPAN("01k\tx") };
	struct span message = SPAN("\0anna\0pw");
	struct buf out = { 0 };

	(void)state;
	assert_true(netaddr_parse(SPAN("2001:db8::1"), 1234, &client) &&
		    netaddr_parse(SPAN("192.0.2.1"), 587, &local));
	dovecot_put_hello(7, &out);
	dovecot_put_auth(1, SPAN("PLAIN"), SPAN("smtp"), &facts, &message, &out);
	dovecot_put_auth(2, SPAN("LOGIN"), SPAN("a\nb"), &(struct dovecot_facts){ 0 }, NULL, &out);
	dovecot_put_cont(2, SPAN("abc"), &out);
	dovecot_put_cancel(2, &out);
	buf_byte(&out, '\0');
	assert_string_equal(out.at,
			    "VERSION\t1\t2\nCPID\t7\n"
			    "AUTH\t1\tPLAIN\tservice=smtp\tnologin\tsecured=tls\tvalid-client-"
			    "cert\trip=2001:db8::1\trport=1234"
			    "\tlip=192.0.2.1\tlport=587\tsession=01k\1tx\tresp=AGFubmEAcHc=\n"
			    "AUTH\t2\tLOGIN\tservice=a\1nb\tnologin\nCONT\t2\tYWJj\nCANCEL\t2\n");
	buf_free(&out);
}

/* A backend on the same loop. */
struct backend {
	uv_pipe_t listener;
	/* NULL: nobody; the next one may come before the last has closed */
	uv_pipe_t *peer;
	/* so that uv_run() comes back when a timer's callback was all */
	uv_timer_t tick;
	uv_loop_t loop;
	struct stream_scratch scratch;
	char path[64];
	struct buf heard;
	const char *hello;		/* said at once */
	bool silent;
	unsigned connections;
	char read[4096];
};

static void
on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret)
{
	struct backend *b = handle->data;

	(void)suggested;
	*ret = uv_buf_init(b->read, sizeof(b->read));
}

static void
say(struct backend *b, const char *text)
{
	uv_buf_t out = uv_buf_init((char *)(uintptr_t)text, (unsigned)strlen(text));

	if (b->peer != NULL)
		uv_try_write((uv_stream_t *)b->peer, &out, 1);
}

static void
on_peer_closed(uv_handle_t *peer)
{
	free(peer);
}

static void
hang_up(struct backend *b)
{
	if (b->peer != NULL)
		uv_close((uv_handle_t *)b->peer, on_peer_closed);
	b->peer = NULL;
}

/* Answers by the password; "later" gets none. */
static void
answer_line(struct backend *b, struct span line)
{
	struct span command = span_cut(&line, '\t'), id = span_cut(&line, '\t');
	char text[200];

	if (span_eq(command, SPAN("CONT"))) {
		snprintf(text, sizeof(text),
			 span_eq(line, SPAN("cmlnaHQ=")) ? "OK\t%.*s\tuser=Anna\n" : "FAIL\t%.*s\n",
			 SPAN_FMT(id));
		say(b, text);
	} else if (span_eq(command, SPAN("AUTH"))) {
		if (span_starts(line, SPAN("SCRAM")))
			snprintf(text, sizeof(text), "CONT\t%.*s\tYWJj\n", SPAN_FMT(id));
		else if (span_ends(line, SPAN("resp=AGFubmEAcHc=")))
			snprintf(text, sizeof(text), "OK\t%.*s\tuser=anna@example.org\tx\n",
				 SPAN_FMT(id));
		else if (span_ends(line, SPAN("resp=AGRvd24AcHc=")))
			snprintf(text, sizeof(text), "FAIL\t%.*s\ttemp\treason=ldap\n",
				 SPAN_FMT(id));
		else
			snprintf(text, sizeof(text), "FAIL\t%.*s\tuser=anna\n", SPAN_FMT(id));
		say(b, text);
	}
}

static void
on_backend_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *got)
{
	struct backend *b = stream->data;
	struct span in = span_of(got->base, n > 0 ? (size_t)n : 0);

	if (n < 0) {
		hang_up(b);
		return;
	}
	buf_append(&b->heard, in);
	while (!b->silent && span_find(in, '\n') != NULL)
		answer_line(b, span_cut(&in, '\n'));
}

static void
on_connection(uv_stream_t *listener, int status)
{
	struct backend *b = listener->data;

	assert_int_equal(status, 0);
	assert_null(b->peer);
	b->peer = calloc(1, sizeof(*b->peer));
	assert_int_equal(uv_pipe_init(&b->loop, b->peer, 0), 0);
	b->peer->data = b;
	assert_int_equal(uv_accept(listener, (uv_stream_t *)b->peer), 0);
	b->connections++;
	uv_read_start((uv_stream_t *)b->peer, on_alloc, on_backend_read);
	say(b, b->hello);
}

static void
listen_on(struct backend *b)
{
	unlink(b->path);
	assert_int_equal(uv_pipe_init(&b->loop, &b->listener, 0), 0);
	b->listener.data = b;
	assert_int_equal(uv_pipe_bind(&b->listener, b->path), 0);
	assert_int_equal(uv_listen((uv_stream_t *)&b->listener, 5, on_connection), 0);
}

static void
on_tick(uv_timer_t *timer)
{
	(void)timer;
}

static void
backend_init(struct backend *b, const char *hello, bool listens)
{
	*b = (struct backend){ .hello = hello };
	snprintf(b->path, sizeof(b->path), "/tmp/test_dovecot.%ld", (long)getpid());
	assert_int_equal(uv_loop_init(&b->loop), 0);
	uv_timer_init(&b->loop, &b->tick);
	uv_timer_start(&b->tick, on_tick, 5, 5);
	if (listens)
		listen_on(b);
}

static void
backend_free(struct backend *b, bool listens)
{
	hang_up(b);
	uv_close((uv_handle_t *)&b->tick, NULL);
	if (listens)
		uv_close((uv_handle_t *)&b->listener, NULL);
	assert_int_equal(uv_run(&b->loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(uv_loop_close(&b->loop), 0);
	stream_scratch_free(&b->scratch);
	buf_free(&b->heard);
	unlink(b->path);
}

struct asker {
	struct dovecot_request request;
	bool done;
	unsigned challenges;
	struct dovecot_result result;
	char user[64];
	const char *response;		/* to a challenge; NULL: none yet */
	struct scram_client *scram;	/* the real thing */
	struct dovecot *closes;
};

/* The server's first message, then its signature. */
static void
answer_scram(struct asker *a, struct span data)
{
	struct buf out = { 0 };
	struct arena arena = { 0 };
	struct span message;

	assert_true(base64_decode(data, &arena, &message));
	if (a->challenges == 1) {
		assert_true(scram_client_read(a->scram, message));
		scram_client_calculate(a->scram);
		scram_client_final(a->scram, &out);
	} else {
		assert_true(scram_client_verify(a->scram, message));
	}
	dovecot_continue(&a->request, buf_span(&out));
	arena_free(&arena);
	buf_free(&out);
}

static void
on_challenge(struct dovecot_request *request, struct span data)
{
	struct asker *a = (struct asker *)(void *)request;

	a->challenges++;
	if (a->scram != NULL) {
		answer_scram(a, data);
		return;
	}
	assert_true(span_eq(data, SPAN("YWJj")));
	if (a->response != NULL)
		dovecot_continue(request, span_str(a->response));
}

static void
on_done(struct dovecot_request *request, const struct dovecot_result *result)
{
	struct asker *a = (struct asker *)(void *)request;

	assert_false(a->done);
	assert_null(request->dovecot);
	assert_int_equal(result->why == NULL, result->verdict == SASL_OK);
	a->done = true;
	a->result = *result;
	snprintf(a->user, sizeof(a->user), "%.*s", SPAN_FMT(result->user));
	if (a->closes != NULL)
		dovecot_close(a->closes);
}

static struct asker
new_asker(void)
{
	return (struct asker){ .request = { .challenge = on_challenge, .done = on_done } };
}

static void
ask(struct dovecot *d, struct asker *a, const char *user, const char *password)
{
	static const struct dovecot_facts facts = { .tls = true };

	*a = new_asker();
	dovecot_start_password(d, &a->request, &facts, SPAN(""), span_str(user),
			       span_str(password));
	assert_false(a->done);
}

static struct dovecot *
connect_to(struct backend *b, int64_t timeout_ms)
{
	struct dovecot_config config = { .path = span_str(b->path), .timeout_ms = timeout_ms,
					 .retry_ms = 1, .retry_max_ms = 2, .max_pending = 3 };

	return dovecot_new(&b->loop, &b->scratch, &config);
}

static void
run_until(struct backend *b, const bool *done)
{
	while (!*done)
		assert_int_not_equal(uv_run(&b->loop, UV_RUN_ONCE), 0);
}

static void
run_until_connected(struct backend *b, const struct dovecot *d)
{
	while (!dovecot_connected(d))
		assert_int_not_equal(uv_run(&b->loop, UV_RUN_ONCE), 0);
}

static void
test_connection(void **state)
{
	struct backend b;
	struct dovecot *d;
	struct asker right, wrong, down, full, scram = new_asker(), external = new_asker();
	struct span first = SPAN("n,,n=anna,r=abc");

	(void)state;
	backend_init(&b, HELLO, true);
	d = connect_to(&b, 60000);
	assert_false(dovecot_connected(d));
	ask(d, &right, "anna", "pw");			/* before the handshake */
	ask(d, &wrong, "anna", "no");
	ask(d, &down, "down", "pw");
	ask(d, &full, "anna", "pw");			/* more than may wait */
	run_until(&b, &full.done);
	run_until(&b, &down.done);
	assert_true(right.done && wrong.done);
	assert_int_equal(right.result.verdict, SASL_OK);
	assert_string_equal(right.user, "anna@example.org");
	assert_int_equal(wrong.result.verdict, SASL_REFUSED);
	assert_int_equal(down.result.verdict, SASL_TEMPORARY);
	assert_int_equal(full.result.verdict, SASL_TEMPORARY);
	assert_int_equal(dovecot_mechanisms(d), 1 << SASL_PLAIN | 1 << SASL_SCRAM_SHA_256);
	assert_string_equal(dovecot_trouble(d), "");
	scram.response = "right";
	dovecot_start(d, &scram.request, SASL_SCRAM_SHA_256, &(struct dovecot_facts){ 0 }, &first);
	run_until(&b, &scram.done);
	assert_string_equal(scram.user, "Anna");
	assert_int_equal(scram.challenges, 1);
	dovecot_start(d, &external.request, SASL_EXTERNAL, &(struct dovecot_facts){ 0 }, NULL);
	run_until(&b, &external.done);
	assert_int_equal(external.result.verdict, SASL_TEMPORARY);
	assert_int_equal(b.connections, 1);
	dovecot_close(d);
	backend_free(&b, true);
}

static bool
heard(struct backend *b, const char *what)
{
	buf_byte(&b->heard, '\0');
	b->heard.end--;
	return strstr(b->heard.at + b->heard.start, what) != NULL;
}

static void
test_never_answers(void **state)
{
	struct backend b;
	struct dovecot *d;
	struct asker a, cancelled, resting = new_asker();
	struct span first = SPAN("n,,n=anna,r=abc");

	(void)state;
	backend_init(&b, HELLO, true);
	d = connect_to(&b, 30);
	run_until_connected(&b, d);
	b.silent = true;
	ask(d, &cancelled, "anna", "pw");
	dovecot_cancel(&cancelled.request);
	dovecot_cancel(&cancelled.request);
	ask(d, &a, "anna", "pw");
	run_until(&b, &a.done);
	assert_int_equal(a.result.verdict, SASL_TEMPORARY);
	while (!heard(&b, "CANCEL\t2\n"))
		uv_run(&b.loop, UV_RUN_ONCE);
	assert_true(heard(&b, "CANCEL\t1\n"));
	assert_false(cancelled.done);
	assert_true(dovecot_connected(d));
	/* the client may think as long as it likes; then the backend has its time again */
	b.silent = false;
	dovecot_start(d, &resting.request, SASL_SCRAM_SHA_256, &(struct dovecot_facts){ 0 },
		      &first);
	while (resting.challenges == 0)
		uv_run(&b.loop, UV_RUN_ONCE);
	b.silent = true;
	dovecot_continue(&resting.request, SPAN("right"));
	run_until(&b, &resting.done);
	assert_int_equal(resting.result.verdict, SASL_TEMPORARY);
	dovecot_close(d);
	backend_free(&b, true);
}

static void
test_no_handshake(void **state)
{
	static const char *const hellos[] = { "", "VERSION\t1\t2\nMECH\tPLAIN\n",
					      "HTTP/1.1 400\r\n\r\n", "VERSION\t9\t0\n" };

	(void)state;
	for (size_t i = 0; i < sizeof(hellos) / sizeof(hellos[0]); i++) {
		struct backend b;
		struct dovecot *d;
		struct asker a;

		backend_init(&b, hellos[i], true);
		d = connect_to(&b, 20);
		ask(d, &a, "anna", "pw");
		run_until(&b, &a.done);
		assert_int_equal(a.result.verdict, SASL_TEMPORARY);
		/* it goes on trying, and finds it when it is well again */
		b.hello = HELLO;
		run_until_connected(&b, d);
		ask(d, &a, "anna", "pw");
		run_until(&b, &a.done);
		assert_int_equal(a.result.verdict, SASL_OK);
		dovecot_close(d);
		backend_free(&b, true);
	}
}

static void
test_lost(void **state)
{
	struct backend b;
	struct dovecot *d;
	struct asker a, other, resting = new_asker();
	struct span first = SPAN("n,,n=anna,r=abc");

	(void)state;
	backend_init(&b, HELLO, false);
	d = connect_to(&b, 60000);			/* nobody is there */
	ask(d, &a, "anna", "pw");
	run_until(&b, &a.done);
	assert_int_equal(a.result.verdict, SASL_TEMPORARY);
	assert_string_equal(dovecot_trouble(d), "connect: No such file or directory");
	ask(d, &a, "anna", "pw");			/* between two tries, or in one */
	run_until(&b, &a.done);
	listen_on(&b);
	run_until_connected(&b, d);
	dovecot_start(d, &resting.request, SASL_SCRAM_SHA_256, &(struct dovecot_facts){ 0 },
		      &first);
	while (resting.challenges == 0)
		uv_run(&b.loop, UV_RUN_ONCE);
	b.silent = true;
	ask(d, &a, "anna", "pw");
	ask(d, &other, "anna", "pw");
	while (!heard(&b, "AUTH\t5"))
		uv_run(&b.loop, UV_RUN_ONCE);
	hang_up(&b);
	run_until(&b, &other.done);
	assert_true(a.done && a.result.verdict == SASL_TEMPORARY &&
		    other.result.verdict == SASL_TEMPORARY);
	assert_false(resting.done);
	dovecot_continue(&resting.request, SPAN("right"));
	assert_false(resting.done);
	run_until(&b, &resting.done);
	assert_int_equal(resting.result.verdict, SASL_TEMPORARY);
	b.silent = false;
	run_until_connected(&b, d);
	ask(d, &a, "anna", "pw");
	run_until(&b, &a.done);
	assert_int_equal(a.result.verdict, SASL_OK);
	dovecot_close(d);
	backend_free(&b, true);
}

static void
test_close(void **state)
{
	struct backend b;
	struct dovecot *d;
	struct asker a, other;

	(void)state;
	backend_init(&b, HELLO, true);
	d = connect_to(&b, 60000);
	ask(d, &a, "anna", "pw");
	dovecot_close(d);				/* while connecting */
	assert_null(a.request.dovecot);
	while (b.connections == 0 || b.peer != NULL)
		uv_run(&b.loop, UV_RUN_ONCE);
	d = connect_to(&b, 60000);
	ask(d, &a, "anna", "pw");
	ask(d, &other, "anna", "pw");
	a.closes = d;					/* from inside a callback */
	run_until(&b, &a.done);
	assert_false(other.done);
	assert_null(other.request.dovecot);
	d = dovecot_new(
		&b.loop, &b.scratch,
		&(struct dovecot_config){
			.path = SPAN("/a/path/that/is/longer/than/a/socket/may/have/it/because/the/"
				     "kernel/has/room/for/108/octets/and/not/for/more"
				     "/of/them") });
	ask(d, &a, "anna", "pw");
	run_until(&b, &a.done);
	assert_string_equal(dovecot_trouble(d), "connect: File name too long");
	dovecot_close(d);
	backend_free(&b, true);
}

/* Another takes its place: nobody is left waiting, and it goes by itself. */
static void
test_retire(void **state)
{
	struct asker asked, resting = new_asker(), cancelled = new_asker();
	struct span first = SPAN("n,,n=anna,r=abc");
	struct backend b;
	struct dovecot *d;

	(void)state;
	backend_init(&b, HELLO, true);
	d = connect_to(&b, 60000);
	run_until_connected(&b, d);
	dovecot_start(d, &resting.request, SASL_SCRAM_SHA_256, &(struct dovecot_facts){ 0 },
		      &first);
	dovecot_start(d, &cancelled.request, SASL_SCRAM_SHA_256, &(struct dovecot_facts){ 0 },
		      &first);
	while (resting.challenges == 0 || cancelled.challenges == 0)
		uv_run(&b.loop, UV_RUN_ONCE);
	b.silent = true;
	ask(d, &asked, "anna", "pw");
	dovecot_retire(d);
	assert_false(asked.done);
	run_until(&b, &asked.done);
	assert_int_equal(asked.result.verdict, SASL_TEMPORARY);
	dovecot_continue(&resting.request, SPAN("right"));
	run_until(&b, &resting.done);
	assert_int_equal(resting.result.verdict, SASL_TEMPORARY);
	dovecot_cancel(&cancelled.request);
	/* and one that nobody asks anything */
	d = connect_to(&b, 60000);
	dovecot_retire(d);
	backend_free(&b, true);
}

/* Users: any, password "pw" (tests/peers/dovecot.py). */
static void
ask_real(struct backend *b, struct dovecot *d, const char *authzid, const char *password,
	 enum sasl_verdict expected)
{
	struct netaddr client;
	struct dovecot_facts facts = { .client = &client, .local = &client, .tls = true,
				       .session = SPAN("s1") };
	struct asker a = new_asker();

	assert_true(netaddr_parse(SPAN("192.0.2.7"), 4711, &client));
	dovecot_start_password(d, &a.request, &facts, span_str(authzid), SPAN("anna"),
			       span_str(password));
	run_until(b, &a.done);
	assert_int_equal(a.result.verdict, expected);
	if (expected == SASL_OK)
		assert_string_equal(a.user, "anna");
}

static void
ask_real_scram(struct backend *b, struct dovecot *d, const char *password,
	       enum sasl_verdict expected)
{
	struct scram_client client = { .user = SPAN("anna"), .password = span_str(password) };
	struct asker a = new_asker();
	struct buf first = { 0 };
	struct span message;

	scram_client_first(&client, &first);
	message = buf_span(&first);
	a.scram = &client;
	dovecot_start(d, &a.request, SASL_SCRAM_SHA_256, &(struct dovecot_facts){ 0 }, &message);
	run_until(b, &a.done);
	assert_int_equal(a.result.verdict, expected);
	scram_client_free(&client);
	buf_free(&first);
}

static void
test_real(void **state)
{
	const char *path = getenv("TRAM_DOVECOT_AUTH");
	struct dovecot_config config = { .path = span_str(path) };
	struct dovecot *first, *second;
	struct backend b;

	(void)state;
	if (path == NULL)
		skip();
	backend_init(&b, HELLO, false);
	first = dovecot_new(&b.loop, &b.scratch, &config);
	/* as another reactor of this process */
	second = dovecot_new(&b.loop, &b.scratch, &config);
	run_until_connected(&b, first);
	run_until_connected(&b, second);
	assert_int_equal(dovecot_mechanisms(first),
			 1 << SASL_PLAIN | 1 << SASL_LOGIN | 1 << SASL_SCRAM_SHA_256);
	ask_real(&b, first, "", "pw", SASL_OK);
	ask_real(&b, second, "", "no", SASL_REFUSED);
	ask_real(&b, second, "bert", "pw", SASL_REFUSED);
	ask_real_scram(&b, first, "pw", SASL_OK);
	ask_real_scram(&b, second, "no", SASL_REFUSED);
	dovecot_close(first);
	dovecot_close(second);
	backend_free(&b, false);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_codec), cmocka_unit_test(test_codec_endless),
		cmocka_unit_test(test_put),
		cmocka_unit_test(test_connection), cmocka_unit_test(test_never_answers),
		cmocka_unit_test(test_no_handshake), cmocka_unit_test(test_lost),
		cmocka_unit_test(test_close), cmocka_unit_test(test_retire),
		cmocka_unit_test(test_real),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
