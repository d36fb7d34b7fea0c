/*
 * test_returned: messages that came back, as servers write them (fuzz/corpus/returned), → what they
 * say; with both line ends, and cut anywhere.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "mta/base/buf.h"
#include "mta/base/id.h"
#include "mta/bounce/mime.h"
#include "mta/bounce/returned.h"

static const struct { const char *file, *expected;
} samples[] = {
	{ "postfix",
	  "bounce dsn envid=shop-4711+2B 0dn4q7k2c0001; failed gone@example.com 550 5.1.1"
	  " '<gone@example.com> User doesn't exist: gone@example.com' at imap.example.com" },
	{ "postfix-delay",
	  "bounce dsn 0dn4q7k2c0001; delayed slow@example.com 4.4.1 'connect to"
	  " example.com[203.0.113.9]:25: Connection timed out'" },
	{ "exchange-online",
	  "bounce dsn 0dn4q7k2c0001; failed ann@corp.example 550 5.1.10"
	  " 'RESOLVER.ADR.RecipientNotFound; Recipient ann@corp.example n'" },
	{ "exim",
	  "bounce dsn 0dn4q7k2c0001; failed full@example.com 552 5.2.2 'The email account that you"
	  " tried to reach is over quota. 552' at mx.example.com" },
	{ "gmail",
	  "bounce dsn 0dn4q7k2c0001; failed nobody@gmail.example 550 5.1.1 'The email account that"
	  " you tried to reach does not exist. Pl' at gmail-smtp-in.l.google.com." },
	{ "two-without-a-blank-line",
	  "bounce dsn 0dn4q7k2c0001; failed one@two.example 5.2.1; delayed two@two.example 4.4.7"
	  " 'no type at all'" },
	{ "relayed",
	  "bounce dsn 0dn4q7k2c0001; relayed deep@far.example 2.1.5" },
	{ "utf8",
	  "bounce dsn 0dn4q7k2c0001; failed jörg@far.example 5.1.1" },
	{ "base64",
	  "bounce dsn 0dn4q7k2c0001; failed x@odd.example 554 5.7.1 'message refused as spam'" },
	{ "nested",
	  "bounce dsn 0dn4q7k2c0001; failed n@in.example 5.1.2" },
	{ "unclosed",
	  "bounce dsn envid=shop-4711+2B; failed gone@example.com 550 5.1.1 '<gone@example.com>"
	  " User doesn't exist: gone@example.com' at imap.example.com" },
	{ "forwarded-is-none",
	  "other none" },
	{ "qmail",
	  "bounce qmail 0dn4q7k2c0001; failed gone@q.example 5.1.1 'Sorry, no mailbox here by that"
	  " name. (#5.1.1)'; failed far@r.example 550 5.7.1 'relaying denied Giving up on"
	  " 198.51.100.7.'" },
	{ "exim-text",
	  "bounce exim 0dn4q7k2c0001; failed who@e.example 550 5.1.1 '<who@e.example>: Recipient"
	  " address rejected: User unknown'" },
	{ "exim-delay",
	  "bounce words; delayed who@e.example 451 4.7.1 'Greylisted'" },
	{ "sendmail",
	  "bounce words 0dn4q7k2c0001; failed lost@s.example 550 5.1.1 '<lost@s.example>... User"
	  " unknown)'" },
	{ "exchange-5.5",
	  "bounce words; failed old@x.example 5.1.1 'MSEXCH:IMS:X:SITE:HOST 0 (000C05A6) Unknown"
	  " Recipient #5.1.1'" },
	{ "html",
	  "bounce words; failed kim@h.example 552 5.2.2 'mailbox full'" },
	{ "prose",
	  "bounce words; failed zoe@p.example 554 5.7.1 'your message looks like spam'" },
	{ "vacation",
	  "autoreply none" },
	{ "vacation-from-postmaster",
	  "autoreply none" },
	{ "mdn",
	  "autoreply none" },
	{ "person",
	  "other none" },
	{ "arf",
	  "complaint arf (abuse) from=b-x@bounces.example.org 0dn4q7k2c0001; failed ann@isp.example" },
	{ "arf-redacted",
	  "complaint arf (abuse) from=b-x@bounces.example.org 0dn4q7k2c0001" },
	{ "arf-not-spam",
	  "complaint arf (not-spam: none) from=b-x@bounces.example.org 0dn4q7k2c0001; failed"
	  " ann@isp.example" },
	{ "arf-message-id",
	  "complaint arf (opt-out) from=b-x@bounces.example.org 0dn4q7k2c0001; failed"
	  " ann@isp.example" },
	{ "jmrp",
	  "complaint jmrp (abuse) 0dn4q7k2c0001; failed kim@hotmail.example" },
	{ "empty",
	  "other none" },
	{ "deep",
	  "bounce words; failed a@d.example 550 5.1.1 'deep'" },
	{ "many-parts",
	  "other none" },
	{ "many-recipients",
	  "bounce dsn 0dn4q7k2c0001; failed r0@d.example 5.1.1; failed r1@d.example 5.1.1; failed"
	  " r2@d.example 5.1.1; 100 in all" },
	{ NULL, NULL },
};

static struct span
sample(const char *name, struct arena *arena)
{
	char path[1000], *content = arena_alloc(arena, 200000);
	size_t len;
	FILE *f;

	snprintf(path, sizeof(path), "%.*s/../fuzz/corpus/returned/%s",
		 (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__, name);
	f = fopen(path, "rb");
	assert_non_null(f);
	len = fread(content, 1, 200000, f);
	fclose(f);
	return span_of(content, len);
}

static struct span
with_crlf(struct span text, struct arena *arena)
{
	char *out = arena_alloc(arena, 2 * text.len + 1);
	size_t len = 0;

	for (size_t i = 0; i < text.len; i++) {
		if (text.at[i] == '\n')
			out[len++] = '\r';
		out[len++] = text.at[i];
	}
	return span_of(out, len);
}

static void
show(const struct returned *r, struct buf *out)
{
	char status[16], text[ID_TEXT_LEN + 1];
	uint64_t id;

	buf_printf(out, "%s %s", returned_kind_name(r->kind), returned_form_name(r->form));
	if (r->feedback_type.len > 0)
		buf_printf(out, " (%.*s%s)", SPAN_FMT(r->feedback_type),
			   returned_is_complaint(r) ? "" : ": none");
	if (r->original_from.len > 0)
		buf_printf(out, " from=%.*s", SPAN_FMT(r->original_from));
	if (r->envelope_id.len > 0)
		buf_printf(out, " envid=%.*s", SPAN_FMT(r->envelope_id));
	if (returned_queue_id(r, SPAN("Relay.example.org"), &id))
		buf_printf(out, " %s", id_format(id, text));
	for (size_t i = 0; i < r->count && i < 3; i++) {
		const struct returned_recipient *one = &r->recipients[i];

		buf_printf(out, "; %s %.*s", returned_action_name(one->action),
			   SPAN_FMT(one->address));
		if (one->original.len > 0 && !span_eq(one->original, one->address))
			buf_printf(out, " was %.*s", SPAN_FMT(one->original));
		if (one->code != 0)
			buf_printf(out, " %u", one->code);
		if (one->status.klass != 0)
			buf_printf(out, " %s", status_format(one->status, status));
		if (one->diagnostic.len > 0)
			buf_printf(out, " '%.*s'", SPAN_FMT(span_first(one->diagnostic, 60)));
		if (one->host.len > 0)
			buf_printf(out, " at %.*s", SPAN_FMT(one->host));
	}
	if (r->count > 3)
		buf_printf(out, "; %zu in all", r->count);
	buf_byte(out, 0);
}

static void
parse(struct span text, struct arena *arena, struct buf *out)
{
	struct span body, header = mime_header_of(text, &body);
	struct returned r;

	returned_parse(header, body, arena, &r);
	show(&r, out);
}

static void
test_samples(void **state)
{
	size_t wrong = 0;

	(void)state;
	for (size_t i = 0; samples[i].file != NULL; i++) {
		struct arena arena = { 0 };
		struct span text = sample(samples[i].file, &arena);
		struct buf unix_ends = { 0 }, crlf = { 0 };

		parse(text, &arena, &unix_ends);
		parse(with_crlf(text, &arena), &arena, &crlf);
		if (strcmp(unix_ends.at, samples[i].expected) != 0) {
			print_message("	{ \"%s\", \"%s\" },\n", samples[i].file, unix_ends.at);
			wrong++;
		}
		assert_string_equal(unix_ends.at, crlf.at);
		buf_free(&unix_ends);
		buf_free(&crlf);
		arena_free(&arena);
	}
	assert_int_equal(wrong, 0);
}

static void
test_cut_anywhere(void **state)
{
	static const char *const files[] = { "postfix", "nested", "arf", "qmail", "html",
					     "base64" };

	(void)state;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		struct arena whole = { 0 };
		struct span text = sample(files[i], &whole);

		for (size_t len = 0; len < text.len; len++) {
			struct arena arena = { 0 };
			char *exact = malloc(len + 1);	/* so that a sanitizer sees the end */
			struct buf out = { 0 };

			memcpy(exact, text.at, len);
			parse(span_of(exact, len), &arena, &out);
			assert_true(buf_len(&out) > 0);
			buf_free(&out);
			arena_free(&arena);
			free(exact);
		}
		arena_free(&whole);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_samples),
		cmocka_unit_test(test_cut_anywhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
