/*
 * test_transcripts: plays tests/transcripts/server/ to the server machine: whole, cut in two at
 * every octet, octet by octet. The format is told in tests/transcripts/README.md. An owner stands
 * by who answers as the file says, and who sees to it that drafts are begun, filled and dropped in
 * order.
 *
 * test_transcripts [DIRECTORY or FILE]
 */
#include <assert.h>
#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "mta/smtp/server.h"

enum {
	STEPS_MAX = 200,
	POLICIES_MAX = 40,
	/* of one file: a long one is cut at every n-th octet, and near its steps' ends */
	CUTS_MAX = 20000,
	CUTS_NEAR = 200,
};

enum step_kind { STEP_SEND, STEP_EXPECT, STEP_MESSAGE, STEP_TLS, STEP_CLOSE };

struct step {
	enum step_kind kind;
	struct buf text;		/* of EXPECT: lines with '\n', "*" as \001 */
	unsigned line;			/* of the file */
};

struct policy {
	char what[16];			/* mail, rcpt, data, message, content */
	struct span path;
	uint64_t octets;
	struct reply reply;
};

struct transcript {
	const char *path;
	struct smtp_server_config config;
	struct step steps[STEPS_MAX];
	size_t step_count;
	struct policy policies[POLICIES_MAX];
	size_t policy_count;
	bool early, whole_only, trusted;
	size_t octets;			/* that the client sends, in all */
	struct arena arena;
};

/* One playing of it. */
struct play {
	struct transcript *t;
	struct smtp_server server;
	struct buf got;			/* replies not yet compared */
	struct buf draft;		/* content appended */
	struct buf message;		/* the last one accepted */
	size_t accepted;		/* since the last M: */
	bool draft_open, closed, tls_asked, refused;
	size_t sent;			/* octets of the client so far */
	/* where the input is cut; 0: nowhere, SIZE_MAX: everywhere */
	size_t cut;
};

static void fail_at(const struct transcript *t, unsigned line, const char *format, ...)
	__attribute__((format(printf, 3, 4), noreturn));

static void
fail_at(const struct transcript *t, unsigned line, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	fprintf(stderr, "%s:%u: ", t->path, line);
	vfprintf(stderr, format, ap);
	fprintf(stderr, "\n");
	va_end(ap);
	exit(1);
}

/* Reading */

static void unescape(struct span text, struct buf *out);

/* "{TEXT*COUNT}" at the start of text: its octets, 0 if it is none. */
static size_t
repeat(struct span text, struct buf *out)
{
	const char *star = NULL;
	size_t end = 1;
	uint64_t count;

	while (end < text.len && text.at[end] != '}') {
		if (text.at[end] == '*')
			star = text.at + end;
		end++;
	}
	if (star == NULL || end == text.len)
		return 0;
	if (!span_to_u64(span_of(star + 1, (size_t)(text.at + end - star) - 1), 10000000, &count))
		return 0;
	for (uint64_t i = 0; i < count; i++)
		unescape(span_of(text.at + 1, (size_t)(star - text.at) - 1), out);
	return end + 1;
}

static void
unescape(struct span text, struct buf *out)
{
	static const char letters[] = "rnt0\\", values[] = "\r\n\t\0\\";

	while (text.len > 0) {
		size_t taken = text.at[0] == '{' ? repeat(text, out) : 0;
		const char *letter;

		if (taken == 0) {
			taken = 1;
			if (text.at[0] != '\\' || text.len < 2) {
				buf_byte(out, text.at[0]);
			} else if (text.at[1] == 'x' && text.len >= 4) {
				char hex[3] = { text.at[2], text.at[3], '\0' };

				buf_byte(out, (char)strtoul(hex, NULL, 16));
				taken = 4;
			} else if ((letter = memchr(letters, text.at[1], 5)) != NULL) {
				buf_byte(out, values[letter - letters]);
				taken = 2;
			} else {
				fprintf(stderr, "unknown escape: %.*s\n", SPAN_FMT(text));
				exit(1);
			}
		}
		text = span_skip(text, taken);
	}
}

static struct step *
step_of(struct transcript *t, enum step_kind kind, unsigned line)
{
	struct step *last = t->step_count > 0 ? &t->steps[t->step_count - 1] : NULL;

	if (last != NULL && last->kind == kind && kind <= STEP_MESSAGE)
		return last;
	if (t->step_count == STEPS_MAX)
		fail_at(t, line, "more than %d steps", STEPS_MAX);
	t->steps[t->step_count] = (struct step){ .kind = kind, .line = line };
	return &t->steps[t->step_count++];
}

static void
read_line_of(struct transcript *t, enum step_kind kind, struct span text, unsigned line)
{
	struct step *step = step_of(t, kind, line);
	bool crlf = text.len == 0 || text.at[text.len - 1] != '\\' || span_ends(text, SPAN("\\\\"));

	if (!crlf)
		text.len--;
	if (kind == STEP_EXPECT && span_ends(text, SPAN("*"))) {
		text.len--;
		unescape(text, &step->text);
		buf_append(&step->text, SPAN("\001\n"));
		return;
	}
	unescape(text, &step->text);
	if (kind == STEP_EXPECT)
		buf_byte(&step->text, '\n');
	else if (crlf)
		buf_append(&step->text, SPAN("\r\n"));
}

/*
 * The client says EHLO, and the reply lists as many extensions as it must; which is not looked at.
 */
static void
read_ehlo(struct transcript *t, unsigned line)
{
	bool tls = false;
	int lines = 9;

	for (size_t i = 0; i < t->step_count; i++)
		tls = tls || t->steps[i].kind == STEP_TLS;
	read_line_of(t, STEP_SEND, SPAN("EHLO client.example.org"), line);
	if (t->trusted)
		lines += t->config.offer_priority + (t->config.hold_max_ms > 0) +
			 (t->config.by_min_ms > 0);
	for (int more = lines + t->config.offer_binarymime + (t->config.offer_starttls || tls);
	     more > 0; more--)
		read_line_of(t, STEP_EXPECT, SPAN("250-*"), line);
	read_line_of(t, STEP_EXPECT, SPAN("250 *"), line);
}

static void
read_policy(struct transcript *t, struct span text, unsigned line)
{
	struct policy *policy = &t->policies[t->policy_count++];
	struct span what = span_cut(&text, ' '), subject = span_cut(&text, '>');
	uint64_t code;
	size_t len;

	assert(t->policy_count < POLICIES_MAX);
	if (span_starts(subject, SPAN("<"))) {
		subject = SPAN("<>");
		span_cut(&text, '>');
	}
	/* what stands before the arrow, whose '-' was left behind */
	if (span_ends(subject, SPAN("-")))
		subject.len--;
	subject = span_trim(subject);
	text = span_trim(text);
	snprintf(policy->what, sizeof(policy->what), "%.*s", SPAN_FMT(what));
	policy->path = arena_copy(&t->arena, span_eq(subject, SPAN("<>")) ? SPAN("") : subject);
	if (span_eq(what, SPAN("content")) && !span_to_u64(subject, UINT64_MAX, &policy->octets))
		fail_at(t, line, "policy content needs a number");
	if (!span_to_u64(span_cut(&text, ' '), 599, &code))
		fail_at(t, line, "no reply in policy");
	policy->reply.code = (uint16_t)code;
	if (status_parse(text, &policy->reply.status, &len))
		text = span_trim(span_skip(text, len));
	policy->reply.text = arena_copy(&t->arena, text);
}

static void
read_setting(struct transcript *t, struct span text, unsigned line)
{
	struct span name = span_trim(span_cut(&text, '=')), value = span_trim(text);
	struct smtp_server_config *c = &t->config;
	struct {
		const char *name;
		size_t *number;
		bool *flag;
	} settings[] = {
		{ "limits recipients", &c->max_recipients, NULL },
		{ "limits line-length", &c->max_line, NULL },
		{ "limits command-length", &c->max_command, NULL },
		{ "limits messages-per-session", &c->max_messages, NULL },
		{ "limits errors-per-session", &c->max_errors, NULL },
		{ "limits junk-commands", &c->max_junk, NULL },
		{ "listener strict-addresses", NULL, &c->strict_addresses },
		{ "listener normalise-newlines", NULL, &c->normalise_newlines },
		{ "listener binarymime", NULL, &c->offer_binarymime },
		{ "listener starttls", NULL, &c->offer_starttls },
		{ "listener local", NULL, &c->local_submission },
		{ "cut", NULL, &t->whole_only },
		{ "client trusted", NULL, &t->trusted },
		{ "listener mt-priority", NULL, &c->offer_priority },
	};
	uint64_t number = 0;

	if (span_eq(name, SPAN("play")))
		return;
	span_to_u64(value, UINT32_MAX, &number);
	if (span_eq(name, SPAN("listener priority-max")) ||
	    span_eq(name, SPAN("listener future-release")) ||
	    span_eq(name, SPAN("listener deliver-by"))) {
		c->max_priority = span_ends(name, SPAN("max")) ? number : c->max_priority;
		c->hold_max_ms =
			span_ends(name, SPAN("release")) ? (int64_t)number * 1000 : c->hold_max_ms;
		c->by_min_ms = span_ends(name, SPAN("by")) ? (int64_t)number * 1000 : c->by_min_ms;
		return;
	}
	if (span_eq(name, SPAN("limits message-size"))) {
		c->max_message_size = number;
		return;
	}
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		if (!span_eq(name, span_str(settings[i].name)))
			continue;
		if (settings[i].number != NULL)
			*settings[i].number = (size_t)number;
		else
			*settings[i].flag = true;
		return;
	}
	fail_at(t, line, "unknown directive %.*s", SPAN_FMT(name));
}

static void
read_line(struct transcript *t, struct span line, unsigned number)
{
	struct span rest = span_skip(line, line.len > 2 && line.at[2] == ' ' ? 3 : 2);

	if (line.len == 0 || line.at[0] == '#')
		return;
	if (span_starts(line, SPAN("C:")))
		read_line_of(t, STEP_SEND, rest, number);
	else if (span_starts(line, SPAN("S:")))
		read_line_of(t, STEP_EXPECT, rest, number);
	else if (span_starts(line, SPAN("M:")))
		read_line_of(t, STEP_MESSAGE, rest, number);
	else if (span_eq(line, SPAN("M.")))
		step_of(t, STEP_MESSAGE, number);
	else if (span_eq(line, SPAN("ehlo")))
		read_ehlo(t, number);
	else if (span_eq(line, SPAN("tls")))
		step_of(t, STEP_TLS, number);
	else if (span_eq(line, SPAN("close")))
		step_of(t, STEP_CLOSE, number);
	else if (span_eq(line, SPAN("early")))
		t->early = true;
	else if (span_starts(line, SPAN("policy ")))
		read_policy(t, span_skip(line, 7), number);
	else
		read_setting(t, line, number);
}

static void
read_transcript(struct transcript *t, const char *path)
{
	struct buf file = { 0 };
	struct span rest;
	FILE *f = fopen(path, "rb");
	unsigned number = 1;
	size_t n;

	*t = (struct transcript){
		.path = path,
		.config = {
			.hostname = SPAN("mx.example.net"), .banner = SPAN("ESMTP tram"),
			.max_message_size = 100000, .max_recipients = 100, .max_line = 65536,
			.max_command = 4096,
			.max_messages = 1000, .max_errors = 20, .max_junk = 100,
		},
	};
	if (f == NULL) {
		perror(path);
		exit(1);
	}
	while ((n = fread(buf_reserve(&file, 4096), 1, 4096, f)) > 0)
		buf_grew(&file, n);
	fclose(f);
	for (rest = buf_span(&file); rest.len > 0; number++)
		read_line(t, span_cut(&rest, '\n'), number);
	buf_free(&file);
	for (size_t i = 0; i < t->step_count; i++)
		if (t->steps[i].kind == STEP_SEND)
			t->octets += buf_len(&t->steps[i].text);
}

static void
free_transcript(struct transcript *t)
{
	for (size_t i = 0; i < t->step_count; i++)
		buf_free(&t->steps[i].text);
	arena_free(&t->arena);
}

/* Playing */

static const struct reply *
find_policy(const struct transcript *t, const char *what, struct span path)
{
	for (size_t i = 0; i < t->policy_count; i++) {
		const struct policy *policy = &t->policies[i];

		if (strcmp(policy->what, what) == 0 &&
		    (span_eq(policy->path, path) || span_eq(policy->path, SPAN("*"))))
			return &policy->reply;
	}
	return NULL;
}

static void
answer(struct play *p, enum smtp_question question)
{
	static const struct reply fine = { .code = 250 }, go = { .code = 354 };
	const struct reply *reply = NULL;

	switch (question) {
	case SMTP_QUESTION_MAIL:
		reply = find_policy(p->t, "mail", p->server.envelope.reverse_path);
		break;
	case SMTP_QUESTION_RCPT:
		reply = find_policy(p->t, "rcpt", p->server.asked.address);
		break;
	case SMTP_QUESTION_DATA:
		reply = find_policy(p->t, "data", SPAN(""));
		assert(!p->draft_open && p->server.envelope.recipient_count > 0);
		p->draft_open = reply == NULL;
		p->refused = false;
		buf_clear(&p->draft);
		if (reply == NULL)
			reply = &go;
		break;
	default:
		assert(p->draft_open && !p->refused &&
		       p->server.content_octets == buf_len(&p->draft));
		reply = find_policy(p->t, "message", SPAN(""));
		p->draft_open = false;
		if (reply == NULL || reply_class(reply) == 2) {
			buf_clear(&p->message);
			buf_append(&p->message, buf_span(&p->draft));
			p->accepted++;
		}
	}
	smtp_server_answer(&p->server, reply ? reply : &fine);
}

static void
append(struct play *p, struct span bytes)
{
	assert(p->draft_open && !p->refused && bytes.len > 0);
	buf_append(&p->draft, bytes);
	for (size_t i = 0; i < p->t->policy_count; i++) {
		const struct policy *policy = &p->t->policies[i];

		if (strcmp(policy->what, "content") == 0 && buf_len(&p->draft) >= policy->octets &&
		    !p->refused) {
			p->refused = true;
			p->draft_open = false;
			smtp_server_refuse_message(&p->server, &policy->reply);
		}
	}
}

/* Gives one piece of input, and does what comes back until nothing does. */
static void
feed(struct play *p, struct span in)
{
	struct smtp_server_step step;

	for (;;) {
		size_t taken = smtp_server_take(&p->server, in, &step);

		assert(taken <= in.len);
		in = span_skip(in, taken);
		switch (step.action) {
		case SMTP_WAIT:
			assert(in.len == 0);
			buf_append(&p->got, buf_span(&p->server.out));
			buf_clear(&p->server.out);
			return;
		case SMTP_APPEND:
			append(p, step.bytes);
			break;
		case SMTP_ASK: {
			struct smtp_server_step again;

			/* while it is open nothing is taken */
			assert(step.question != SMTP_QUESTION_NONE);
			assert(smtp_server_take(&p->server, in, &again) == 0 &&
			       again.action == SMTP_WAIT);
			answer(p, step.question);
			break;
		}
		case SMTP_ABORT:
			assert(p->draft_open);
			p->draft_open = false;
			break;
		case SMTP_START_TLS:
		case SMTP_CLOSE:
			assert(!p->draft_open || p->refused);
			buf_append(&p->got, buf_span(&p->server.out));
			buf_clear(&p->server.out);
			p->closed = step.action == SMTP_CLOSE;
			p->tls_asked = step.action == SMTP_START_TLS;
			return;
		}
	}
}

static void
send_bytes(struct play *p, struct span bytes)
{
	while (bytes.len > 0 && !p->closed && !p->tls_asked) {
		size_t len = bytes.len;
		char *exact;

		if (p->cut == SIZE_MAX)
			len = 1;
		else if (p->cut > p->sent && p->cut - p->sent < len)
			len = p->cut - p->sent;
		/*
		 * a piece of its own, so that a sanitizer sees its ends, and nobody keeps a pointer
		 * into it
		 */
		exact = malloc(len);
		memcpy(exact, bytes.at, len);
		feed(p, span_of(exact, len));
		free(exact);
		p->sent += len;
		bytes = span_skip(bytes, len);
	}
	p->sent += bytes.len;
}

/* What came back must be these lines. */
static void
expect(struct play *p, const struct step *step)
{
	struct span want = buf_span(&step->text), got = buf_span(&p->got);

	while (want.len > 0) {
		struct span line = span_cut(&want, '\n'), came = span_cut(&got, '\n');
		bool any = line.len > 0 && line.at[line.len - 1] == '\001';

		if (came.len > 0 && came.at[came.len - 1] == '\r')
			came.len--;
		else
			fail_at(p->t, step->line, "cut %zu: no reply where there should be: %.*s",
				p->cut, SPAN_FMT(line));
		if (any)
			line.len--;
		if (any ? !span_starts(came, line) : !span_eq(came, line))
			fail_at(p->t, step->line, "cut %zu: expected: %.*s\ngot: %.*s", p->cut,
				SPAN_FMT(line), SPAN_FMT(came));
	}
	if (got.len > 0)
		fail_at(p->t, step->line, "cut %zu: more than expected: %.*s", p->cut,
			SPAN_FMT(got));
	buf_clear(&p->got);
}

static void
play_step(struct play *p, const struct step *step)
{
	if (p->closed && step->kind == STEP_SEND)
		fail_at(p->t, step->line, "cut %zu: the connection is closed", p->cut);
	if (buf_len(&p->got) > 0 && step->kind != STEP_EXPECT)
		fail_at(p->t, step->line, "cut %zu: unexpected: %.*s", p->cut,
			SPAN_FMT(buf_span(&p->got)));
	switch (step->kind) {
	case STEP_SEND:
		send_bytes(p, buf_span(&step->text));
		break;
	case STEP_EXPECT:
		expect(p, step);
		break;
	case STEP_MESSAGE:
		if (p->accepted != 1)
			fail_at(p->t, step->line, "cut %zu: %zu messages accepted, not one", p->cut,
				p->accepted);
		if (!span_eq(buf_span(&p->message), buf_span(&step->text)))
			fail_at(p->t, step->line, "cut %zu: another message: %.*s", p->cut,
				SPAN_FMT(buf_span(&p->message)));
		p->accepted = 0;
		break;
	case STEP_TLS:
		if (!p->tls_asked)
			fail_at(p->t, step->line, "cut %zu: no TLS", p->cut);
		p->tls_asked = false;
		smtp_server_tls_done(&p->server);
		break;
	case STEP_CLOSE:
		if (!p->closed)
			fail_at(p->t, step->line, "cut %zu: not closed", p->cut);
		break;
	}
}

static void
play(struct transcript *t, size_t cut, bool messages)
{
	struct play p = { .t = t, .cut = cut };
	unsigned last = t->step_count > 0 ? t->steps[t->step_count - 1].line : 0;
	bool close_told = t->step_count > 0 && t->steps[t->step_count - 1].kind == STEP_CLOSE;

	smtp_server_init(&p.server, &t->config);
	p.server.privileged = t->trusted;
	p.server.now_ms = INT64_C(1795219200000);		/* 2026-11-21 */
	if (!t->early) {
		smtp_server_greet(&p.server, NULL);
		feed(&p, SPAN(""));
	}
	for (size_t i = 0; i < t->step_count; i++)
		play_step(&p, &t->steps[i]);
	if (buf_len(&p.got) > 0)
		fail_at(t, last, "cut %zu: unexpected: %.*s", cut, SPAN_FMT(buf_span(&p.got)));
	if (p.closed != close_told)
		fail_at(t, last, "cut %zu: %s", cut, p.closed ? "closed" : "not closed");
	if (messages && p.accepted > 0)
		fail_at(t, last, "cut %zu: a message without M: was accepted", cut);
	smtp_server_free(&p.server);
	buf_free(&p.got);
	buf_free(&p.draft);
	buf_free(&p.message);
}

/*
 * Long transcripts are cut everywhere near the ends of their steps, and here and there in between.
 */
static bool
cut_here(const struct transcript *t, size_t cut)
{
	size_t at = 0;

	if (t->octets <= CUTS_MAX || cut % (t->octets / CUTS_MAX * 20 + 1) == 0)
		return true;
	for (size_t i = 0; i < t->step_count; i++) {
		size_t len = t->steps[i].kind == STEP_SEND ? buf_len(&t->steps[i].text) : 0;

		if (cut >= at && cut < at + len)
			return cut - at < CUTS_NEAR || at + len - cut < CUTS_NEAR;
		at += len;
	}
	return false;
}

static void
play_file(const char *path)
{
	struct transcript *t = xcalloc(1, sizeof(*t));
	bool messages = false;

	read_transcript(t, path);
	for (size_t i = 0; i < t->step_count; i++)
		messages = messages || t->steps[i].kind == STEP_MESSAGE;
	play(t, 0, messages);
	if (!t->whole_only) {
		for (size_t cut = 1; cut < t->octets; cut++)
			if (cut_here(t, cut))
				play(t, cut, messages);
		play(t, SIZE_MAX, messages);
	}
	free_transcript(t);
	free(t);
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static unsigned
play_directory(const char *path)
{
	unsigned files = 0;
	char **names = NULL;
	DIR *dir = opendir(path);
	struct dirent *entry;

	if (dir == NULL) {
		perror(path);
		exit(1);
	}
	while ((entry = readdir(dir)) != NULL) {
		size_t len = strlen(entry->d_name);
		struct buf name = { 0 };

		if (len < 5 || strcmp(entry->d_name + len - 4, ".txt") != 0)
			continue;
		buf_printf(&name, "%s/%s", path, entry->d_name);
		buf_byte(&name, '\0');
		names = xrealloc(names, (files + 1) * sizeof(*names));
		names[files++] = name.at;
	}
	closedir(dir);
	if (files > 0)
		qsort(names, files, sizeof(*names), by_name);
	for (unsigned i = 0; i < files; i++) {
		play_file(names[i]);
		free(names[i]);
	}
	free(names);
	return files;
}

int
main(int argc, char **argv)
{
	struct buf path = { 0 };
	struct stat st;
	unsigned files = 1;

	/*
	 * where the sources are is known from where this one is: the compiler ran in the build
	 * directory, as we do
	 */
	if (argc > 1)
		buf_printf(&path, "%s", argv[1]);
	else
		buf_printf(&path, "%.*s/../transcripts/server",
			   (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__);
	buf_byte(&path, '\0');
	if (stat(path.at, &st) == 0 && S_ISREG(st.st_mode))
		play_file(path.at);
	else
		files = play_directory(path.at);
	printf("played %u transcripts\n", files);
	buf_free(&path);
	return files == 0;
}
