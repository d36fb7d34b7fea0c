/*
 * test_client_transcripts: plays tests/transcripts/client/ to the client machine, whole, cut in
 * every way, and with the connection lost at every step. The format is told in
 * tests/transcripts/client/README.md.
 *
 * test_client_transcripts [DIRECTORY or FILE]
 */
#include <assert.h>
#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "mta/base/address.h"
#include "mta/smtp/client.h"
#include "mta/smtp/mail_wishes.h"

enum { STEPS_MAX = 300, MESSAGES_MAX = 8, RECIPIENTS_MAX = 20, FATES_MAX = 60, NONE = -1 };

enum step_kind { STEP_SERVER, STEP_CLIENT, STEP_WAIT, STEP_LOST };

struct step {
	enum step_kind kind;
	struct span bytes;
	unsigned line;
};

struct message {
	struct envelope envelope;
	struct recipient recipients[RECIPIENTS_MAX];
	struct buf body;
	bool needs_8bit, needs_smtputf8, requiretls;
	int64_t size, stops, fails, by_left_s;
};

struct fate {
	size_t message;
	struct span path, fate, stage, reply;
	unsigned line;
	enum smtp_fate seen;		/* in the play that was whole */
};

struct script {
	const char *path;
	struct smtp_client_config config;
	bool queue, quit, tls;
	struct message messages[MESSAGES_MAX];
	size_t message_count;
	struct step steps[STEPS_MAX];
	size_t step_count;
	struct fate fates[FATES_MAX];
	size_t fate_count;
	struct span failed;
	bool fails, open;
	size_t octets;			/* that the server sends, in all */
	struct arena arena;
};

/* How it is played. */
struct manner {
	int64_t cut;			/* the packet with this octet is cut behind it */
	bool each;			/* octet by octet, the body too */
	int64_t lose;			/* the connection is lost behind this octet */
	int lose_in_body;		/* … in the middle of this message */
};

struct play {
	const struct script *script;
	const struct manner *manner;
	struct smtp_client client;
	struct smtp_transaction transactions[MESSAGES_MAX];
	struct smtp_client_recipient recipients[MESSAGES_MAX][RECIPIENTS_MAX];
	size_t begun, fed;
	bool done[MESSAGES_MAX], said_all[MESSAGES_MAX];
	bool closed, lost;
	struct arena arena;
	unsigned line;
};

static const char *const fate_names[] = { "pending", "delivered", "temporary", "permanent",
					  "not-tried", "uncertain" };
static const char *const stage_names[] = { "connect", "banner", "ehlo", "tls", "mail", "rcpt",
					   "data", "body", "dot",
	"quit", "auth" };
static unsigned plays;

static void __attribute__((noreturn, format(printf, 3, 4)))
complain(const char *path, unsigned line, const char *format, ...)
{
	va_list ap;

	fprintf(stderr, "%s:%u: ", path, line);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	exit(1);
}

static void __attribute__((noreturn))
complain_play(struct play *play, const char *what, struct span detail)
{
	const struct manner *m = play->manner;

	complain(play->script->path, play->line,
		 "%s%.*s\n(cut %lld, each %d, lose %lld, lose in body %d)", what, SPAN_FMT(detail),
		 (long long)m->cut, m->each, (long long)m->lose, m->lose_in_body);
}

/*
 * ---- reading
 * -------------------------------------------------------------------------------------------
 */

static unsigned
hex(char c)
{
	return (unsigned)(c <= '9' ? c - '0' : ascii_lower(c) - 'a' + 10);
}

static void
unescape(struct span text, struct buf *out)
{
	while (text.len > 0) {
		char c = text.at[0], next = text.len > 1 ? text.at[1] : '\0';
		size_t took = 2;

		if (c == '{' && span_find(text, '}') != NULL) {
			struct span inner =
				span_of(text.at + 1, (size_t)(span_find(text, '}') - text.at) - 1);
			struct span rest = inner, unit = span_cut(&rest, '*');
			uint64_t count = 0;

			took = inner.len + 2;
			span_to_u64(rest, 1 << 20, &count);
			while (count-- > 0)
				unescape(unit, out);
		} else if (c != '\\') {
			buf_byte(out, c);
			took = 1;
		} else if (next == 'x' && text.len >= 4) {
			buf_byte(out, (char)(hex(text.at[2]) << 4 | hex(text.at[3])));
			took = 4;
		} else {
			buf_byte(out, next == 'r'   ? '\r'
				      : next == 'n' ? '\n'
				      : next == 't' ? '\t'
				      : next == '0' ? '\0'
						    : next);
		}
		text = span_skip(text, took);
	}
}

static struct span
line_text(struct script *s, struct span text)
{
	bool bare = span_ends(text, SPAN("\\")) && !span_ends(text, SPAN("\\\\"));
	struct buf out = { 0 };
	struct span kept;

	unescape(bare ? span_first(text, text.len - 1) : text, &out);
	if (!bare)
		buf_append(&out, SPAN("\r\n"));
	kept = arena_copy(&s->arena, buf_span(&out));
	buf_free(&out);
	return kept;
}

static bool
word_is(struct span word, const char *prefix, struct span *ret)
{
	if (!span_starts(word, span_str(prefix)))
		return false;
	*ret = span_skip(word, strlen(prefix));
	return true;
}

static uint8_t
read_notify(struct span list)
{
	uint8_t notify = 0;

	while (list.len > 0) {
		struct span word = span_cut(&list, ',');

		notify |= (uint8_t)(span_eq(word, SPAN("never"))     ? NOTIFY_NEVER
				    : span_eq(word, SPAN("success")) ? NOTIFY_SUCCESS
				    : span_eq(word, SPAN("failure")) ? NOTIFY_FAILURE
								     : NOTIFY_DELAY);
	}
	return notify;
}

/* As a client would write it: "60;R". */
static void
read_by(struct message *m, struct span text)
{
	struct mail_wishes wishes = { 0 };

	assert(wish_read_by(text, &wishes));
	m->by_left_s = wishes.by_s;
	m->envelope.by_mode = wishes.by_mode;
	m->envelope.by_trace = wishes.by_trace;
}

static void
read_message(struct script *s, struct span words, unsigned line)
{
	struct message *m = &s->messages[s->message_count++];
	struct recipient *r = NULL;
	uint64_t n = 0;

	assert(s->message_count <= MESSAGES_MAX);
	*m = (struct message){ .size = NONE, .stops = NONE, .fails = NONE };
	m->envelope.recipients = m->recipients;
	while (words.len > 0) {
		struct span word = span_cut(&words, ' '), value;

		if (word_is(word, "from=", &value)) {
			m->envelope.reverse_path = value;
		} else if (word_is(word, "to=", &value)) {
			r = &m->recipients[m->envelope.recipient_count++];
			r->address = value;
		} else if (word_is(word, "notify=", &value) && r != NULL) {
			r->notify = read_notify(value);
		} else if (word_is(word, "orcpt=", &value) && r != NULL) {
			r->orcpt = value;
		} else if (word_is(word, "ret=", &value)) {
			m->envelope.ret = span_eq(value, SPAN("full")) ? RET_FULL : RET_HDRS;
		} else if (word_is(word, "envid=", &value)) {
			m->envelope.envid = value;
		} else if (word_is(word, "size=", &value) && span_to_u64(value, 1 << 30, &n)) {
			m->size = (int64_t)n;
		} else if (word_is(word, "by=", &value)) {
			read_by(m, value);
		} else if (word_is(word, "priority=", &value)) {
			assert(wish_read_priority(value, &m->envelope.priority));
		} else if (span_eq(word, SPAN("8bit"))) {
			m->needs_8bit = true;
		} else if (span_eq(word, SPAN("utf8"))) {
			m->needs_smtputf8 = true;
		} else if (span_eq(word, SPAN("requiretls"))) {
			m->requiretls = true;
		} else if (span_eq(word, SPAN("binary"))) {
			m->envelope.body = BODY_BINARYMIME;
		} else {
			complain(s->path, line, "unknown word: %.*s", SPAN_FMT(word));
		}
	}
}

static void
read_client(struct script *s, struct span text, unsigned line)
{
	struct span value = text, name = span_trim(span_cut(&value, '='));
	uint64_t n = 0;
	bool yes;

	value = span_trim(value);
	yes = span_eq(value, SPAN("yes"));
	if (span_eq(name, SPAN("pipelining")))
		s->config.pipelining = yes;
	else if (span_eq(name, SPAN("chunking")))
		s->config.chunking = yes;
	else if (span_eq(name, SPAN("convert-8bit")))
		s->config.convert_8bit = yes;
	else if (span_eq(name, SPAN("tls")))
		s->tls = yes;
	else if (span_eq(name, SPAN("queue")))
		s->queue = yes;
	else if (span_eq(name, SPAN("quit")))
		s->quit = yes;
	else if (span_eq(name, SPAN("max-reply")) && span_to_u64(value, 1 << 30, &n))
		s->config.max_reply = n;
	else
		complain(s->path, line, "unknown setting: %.*s", SPAN_FMT(name));
}

static void
read_fate(struct script *s, struct span text, unsigned line)
{
	struct fate *fate = &s->fates[s->fate_count++];
	uint64_t n = 0;

	assert(s->fate_count <= FATES_MAX);
	if (!span_to_u64(span_cut(&text, ' '), s->message_count, &n) || n == 0)
		complain(s->path, line, "no such message");
	fate->message = n - 1;
	fate->path = span_cut(&text, ' ');
	fate->fate = span_cut(&text, ' ');
	fate->stage = span_cut(&text, ' ');
	fate->reply = line_text(s, text);
	fate->reply.len -= 2;		/* its CRLF */
	fate->line = line;
}

static void
add_step(struct script *s, enum step_kind kind, struct span bytes, unsigned line)
{
	assert(s->step_count < STEPS_MAX);
	s->steps[s->step_count++] = (struct step){ kind, bytes, line };
	if (kind == STEP_SERVER)
		s->octets += bytes.len;
}

static void
read_line(struct script *s, struct span text, unsigned line)
{
	struct message *last = s->message_count > 0 ? &s->messages[s->message_count - 1] : NULL;
	struct span rest = text, word = span_cut(&rest, ' ');
	uint64_t n = 0;

	if (text.len == 0 || text.at[0] == '#')
		return;
	if (span_eq(word, SPAN("client")))
		read_client(s, rest, line);
	else if (span_eq(word, SPAN("message")))
		read_message(s, rest, line);
	else if (span_eq(word, SPAN("body")) && last != NULL)
		buf_append(&last->body, line_text(s, rest));
	else if (span_eq(word, SPAN("body-stops")) && last != NULL &&
		 span_to_u64(rest, 1 << 20, &n))
		last->stops = (int64_t)n;
	else if (span_eq(word, SPAN("body-fails")) && last != NULL &&
		 span_to_u64(rest, 1 << 20, &n))
		last->fails = (int64_t)n;
	else if (span_eq(word, SPAN("S:")))
		add_step(s, STEP_SERVER, line_text(s, rest), line);
	else if (span_eq(word, SPAN("C:")))
		add_step(s, STEP_CLIENT, line_text(s, rest), line);
	else if (span_eq(word, SPAN("wait")))
		add_step(s, STEP_WAIT, SPAN(""), line);
	else if (span_eq(word, SPAN("lost")))
		add_step(s, STEP_LOST, rest, line);
	else if (span_eq(word, SPAN("fate")))
		read_fate(s, rest, line);
	else if (span_eq(word, SPAN("open")))
		s->open = true;
	else if (span_eq(word, SPAN("failed")))
		s->fails = true, s->failed = rest;
	else
		complain(s->path, line, "cannot read this line");
}

static void
read_script(struct script *s, const char *path)
{
	static char bytes[1 << 20];
	struct span text;
	FILE *f = fopen(path, "rb");
	unsigned line = 0;

	if (f == NULL)
		complain(path, 0, "cannot be opened");
	*s = (struct script){ .path = path, .queue = true, .quit = true };
	s->config = (struct smtp_client_config){
		.ehlo_name = SPAN("tram.example.org"), .pipelining = true, .chunking = true,
		.max_reply = 8192,
	};
	text = arena_copy(&s->arena, span_of(bytes, fread(bytes, 1, sizeof(bytes), f)));
	fclose(f);
	while (text.len > 0)
		read_line(s, span_cut(&text, '\n'), ++line);
}

static void
free_script(struct script *s)
{
	for (size_t i = 0; i < s->message_count; i++)
		buf_free(&s->messages[i].body);
	arena_free(&s->arena);
}

/*
 * ---- playing
 * -------------------------------------------------------------------------------------------
 */

static void pump(struct play *play, struct span in);

static void
lose(struct play *play)
{
	play->lost = true;
	smtp_client_lost(&play->client, SPAN("lost by the test"));
	pump(play, SPAN(""));
	if (!play->closed)
		complain_play(play, "the connection was lost, and the client goes on", SPAN(""));
}

static void
begin_message(struct play *play)
{
	size_t n = play->begun++;
	const struct message *m = &play->script->messages[n];
	struct smtp_transaction *t = &play->transactions[n];

	*t = (struct smtp_transaction){
		.arena = &play->arena, .envelope = &m->envelope, .recipients = play->recipients[n],
		.recipient_count = m->envelope.recipient_count, .needs_8bit = m->needs_8bit,
		.needs_smtputf8 = m->needs_smtputf8,
		.requiretls = m->requiretls,
		.by_left_s = m->by_left_s,
		.size = m->size != NONE ? (uint64_t)m->size : buf_len(&m->body),
	};
	for (size_t i = 0; i < t->recipient_count; i++)
		t->recipients[i].recipient = &m->recipients[i];
	smtp_client_send(&play->client, t);
}

static void
send_body(struct play *play)
{
	size_t n = (size_t)(play->client.current - play->transactions);
	const struct message *m = &play->script->messages[n];
	struct span body = buf_span(&m->body);

	if (play->manner->lose_in_body == (int)n)
		body = span_first(body, body.len / 2);
	if (m->stops != NONE)
		body = span_first(body, (size_t)m->stops);
	if (m->fails != NONE)
		body = span_first(body, (size_t)m->fails);
	for (size_t i = 0; play->manner->each && i < body.len; i++)
		smtp_client_body(&play->client, span_of(body.at + i, 1));
	if (!play->manner->each)
		smtp_client_body(&play->client, body);
	if (play->manner->lose_in_body == (int)n) {
		lose(play);
	} else if (m->fails != NONE) {
		smtp_client_body_failed(&play->client);
	} else if (m->stops == NONE) {
		smtp_client_body_end(&play->client);
		play->said_all[n] = true;
		if (play->script->queue && play->begun < play->script->message_count &&
		    smtp_client_can_queue(&play->client))
			begin_message(play);
	}
}

/* The owner: as `delivery` does it. */
static void
pump(struct play *play, struct span in)
{
	enum smtp_client_event event;
	struct smtp_transaction *done;

	do {
		in = span_skip(in, smtp_client_take(&play->client, in, &event, &done));
		if (event == CLIENT_BODY) {
			send_body(play);
		} else if (event == CLIENT_DONE) {
			assert(!play->done[done - play->transactions]);
			play->done[done - play->transactions] = true;
		} else if (event == CLIENT_READY) {
			if (play->begun < play->script->message_count)
				begin_message(play);
			else if (play->script->quit)
				smtp_client_quit(&play->client);
		}
	} while (event != CLIENT_WAIT && event != CLIENT_CLOSED && !play->closed);
	if (event == CLIENT_WAIT && in.len > 0)
		complain_play(play, "octets were left over: ", in);
	play->closed = play->closed || event == CLIENT_CLOSED;
}

static void
feed(struct play *play, struct span packet)
{
	while (packet.len > 0 && !play->closed) {
		const struct manner *m = play->manner;
		size_t at = play->fed, piece = m->each ? 1 : packet.len;

		if (m->cut >= (int64_t)at && m->cut < (int64_t)(at + piece))
			piece = (size_t)m->cut - at + 1;
		if (m->lose >= (int64_t)at && m->lose < (int64_t)(at + piece))
			piece = (size_t)m->lose - at + 1;
		play->fed += piece;
		pump(play, span_first(packet, piece));
		packet = span_skip(packet, piece);
		if (m->lose == (int64_t)play->fed - 1 && !play->closed) {
			lose(play);
			return;
		}
	}
}

/* All that the steps of this kind say, in a row. */
static size_t
gather(const struct script *s, size_t at, enum step_kind kind, struct buf *out)
{
	buf_clear(out);
	for (; at < s->step_count && s->steps[at].kind == kind; at++)
		buf_append(out, s->steps[at].bytes);
	return at;
}

static void
expect_output(struct play *play, struct span want)
{
	struct span out = buf_span(&play->client.out);

	if (!span_eq(out, want)) {
		struct buf text = { 0 };

		buf_printf(&text, "\n%.*s\ncame, wanted was\n%.*s", SPAN_FMT(out), SPAN_FMT(want));
		complain_play(play, "other commands:", buf_span(&text));
	}
	for (size_t i = 0;
	     i < out.len && play->script->messages[0].envelope.body != BODY_BINARYMIME; i++)
		if (out.at[i] == '\n')
			assert(i > 0 && out.at[i - 1] == '\r');
	buf_clear(&play->client.out);
}

static void
play_steps(struct play *play)
{
	const struct script *s = play->script;
	struct buf packet = { 0 }, want = { 0 };
	size_t at = 0;

	pump(play, SPAN(""));
	while (at < s->step_count && !play->lost) {
		const struct step *step = &s->steps[at];

		play->line = step->line;
		if (step->kind == STEP_SERVER) {
			if (play->closed)
				complain_play(play, "closed before the dialogue ends", SPAN(""));
			at = gather(s, at, STEP_SERVER, &packet);
			feed(play, buf_span(&packet));
		} else if (step->kind == STEP_LOST) {
			smtp_client_lost(&play->client, step->bytes);
			pump(play, SPAN(""));
			at++;
		} else if (step->kind == STEP_WAIT) {
			at++;
		}
		at = gather(s, at, STEP_CLIENT, &want);
		if (!play->lost)
			expect_output(play, buf_span(&want));
	}
	buf_free(&packet);
	buf_free(&want);
}

/*
 * ---- judging
 * -------------------------------------------------------------------------------------------
 */

static bool
reply_matches(const struct reply *reply, struct span want)
{
	struct buf line = { 0 };
	bool same;

	reply_to_line(reply, &line);
	if (span_ends(want, SPAN("*")))
		same = span_starts(buf_span(&line), span_first(want, want.len - 1));
	else
		same = span_eq(buf_span(&line), want);
	if (!same)
		fprintf(stderr, "reply: %.*s\n", SPAN_FMT(buf_span(&line)));
	buf_free(&line);
	return same;
}

static struct smtp_client_recipient *
recipient_of(struct play *play, const struct fate *fate)
{
	for (size_t i = 0; i < play->transactions[fate->message].recipient_count; i++)
		if (span_eq(play->recipients[fate->message][i].recipient->address, fate->path))
			return &play->recipients[fate->message][i];
	complain(play->script->path, fate->line, "the message has no such recipient");
}

static void
judge_whole(struct play *play, struct script *s)
{
	size_t judged = 0, recipients = 0;

	for (size_t i = 0; i < s->fate_count; i++) {
		struct fate *fate = &s->fates[i];
		struct smtp_client_recipient *r;

		play->line = fate->line;
		if (fate->message >= play->begun || !play->done[fate->message])
			complain_play(play, "this message has not ended", SPAN(""));
		r = recipient_of(play, fate);
		if (!span_eq(fate->fate, span_str(fate_names[r->fate])) ||
		    !span_eq(fate->stage, span_str(stage_names[r->stage])) ||
		    !reply_matches(&r->reply, fate->reply)) {
			fprintf(stderr, "%s %s\n", fate_names[r->fate], stage_names[r->stage]);
			complain_play(play, "another fate", SPAN(""));
		}
		fate->seen = r->fate;
		judged++;
	}
	for (size_t n = 0; n < play->begun; n++)
		recipients += play->done[n] ? play->transactions[n].recipient_count : 0;
	if (judged != recipients)
		complain_play(play, "each recipient of a message that ended needs a fate",
			      SPAN(""));
	if (play->closed == s->open)
		complain_play(play, s->open ? "it is closed" : "it is still open", SPAN(""));
	if (play->closed && !s->fails &&
	    (play->client.failure.code != 0 || play->client.failure.text.len != 0))
		complain_play(play, "it failed: ", play->client.failure.text);
	if (s->fails) {
		struct span want = s->failed, stage = span_cut(&want, ' ');

		if (!span_eq(stage, span_str(stage_names[play->client.failure_stage])) ||
		    !reply_matches(&play->client.failure, want))
			complain_play(play, "another failure, at ",
				      span_str(stage_names[play->client.failure_stage]));
	}
}

/* What may be said of a recipient when the connection was lost somewhere. */
static void
judge_lost_recipient(struct play *play, size_t n, const struct smtp_client_recipient *r)
{
	const struct script *s = play->script;
	enum smtp_fate whole = FATE_PENDING;

	for (size_t i = 0; i < s->fate_count; i++)
		if (s->fates[i].message == n && span_eq(s->fates[i].path, r->recipient->address))
			whole = s->fates[i].seen;
	if (r->fate == FATE_PENDING)
		complain_play(play, "no fate: ", r->recipient->address);
	if (r->fate == whole)
		return;
	if (r->fate == FATE_UNCERTAIN && !play->said_all[n])
		complain_play(play, "uncertain before the end: ", r->recipient->address);
	if (r->fate == FATE_TEMPORARY && play->said_all[n] && r->reply.code == 0 &&
	    play->transactions[n].started)
		complain_play(play, "not uncertain behind the end: ", r->recipient->address);
	if (r->fate != FATE_UNCERTAIN && (r->fate != FATE_TEMPORARY || r->reply.code != 0) &&
	    !(r->fate == FATE_NOT_TRIED && !play->transactions[n].started))
		complain_play(play, "a fate that nobody spoke: ", r->recipient->address);
}

static void
judge_lost(struct play *play)
{
	for (size_t n = 0; n < play->begun; n++) {
		if (!play->done[n])
			complain_play(play, "a message was forgotten", SPAN(""));
		for (size_t i = 0; i < play->transactions[n].recipient_count; i++)
			judge_lost_recipient(play, n, &play->recipients[n][i]);
	}
}

static void
play_once(struct script *s, struct manner manner)
{
	static struct play play;

	play = (struct play){ .script = s, .manner = &manner };
	smtp_client_init(&play.client, &s->config);
	if (s->tls)
		smtp_client_tls_done(&play.client);
	play_steps(&play);
	if (play.lost)
		judge_lost(&play);
	else if (manner.lose == NONE && manner.lose_in_body == NONE)
		judge_whole(&play, s);
	smtp_client_free(&play.client);
	arena_free(&play.arena);
	plays++;
}

static void
play_file(const char *path)
{
	static struct script s;
	const struct manner whole = { .cut = NONE, .lose = NONE, .lose_in_body = NONE };
	struct manner manner = whole;

	read_script(&s, path);
	play_once(&s, whole);
	manner.each = true;
	play_once(&s, manner);
	manner = whole;
	for (size_t i = 0; i < s.octets; i++) {
		manner.cut = (int64_t)i;
		play_once(&s, manner);
	}
	manner = whole;
	for (size_t i = 0; i < s.octets; i++) {
		manner.lose = (int64_t)i;
		play_once(&s, manner);
	}
	manner = whole;
	for (size_t n = 0; n < s.message_count; n++) {
		manner.lose_in_body = (int)n;
		play_once(&s, manner);
	}
	free_script(&s);
}

static unsigned
play_directory(const char *path)
{
	struct dirent **names;
	int count = scandir(path, &names, NULL, alphasort);
	unsigned files = 0;

	if (count < 0)
		complain(path, 0, "cannot be opened");
	for (int i = 0; i < count; i++) {
		char *file = NULL;

		assert(asprintf(&file, "%s/%s", path, names[i]->d_name) > 0);
		if (span_ends(span_str(file), SPAN(".txt"))) {
			play_file(file);
			files++;
		}
		free(file);
		free(names[i]);
	}
	free(names);
	return files;
}

int
main(int argc, char **argv)
{
	char path[4096];
	struct stat st;
	unsigned files = 1;

	snprintf(path, sizeof(path), "%.*s/../transcripts/client",
		 (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__);
	if (argc > 1)
		snprintf(path, sizeof(path), "%s", argv[1]);
	if (stat(path, &st) < 0)
		complain(path, 0, "is not there: run me in the build directory");
	if (S_ISDIR(st.st_mode))
		files = play_directory(path);
	else
		play_file(path);
	printf("%u transcripts in %u plays\n", files, plays);
	return files == 0;
}
