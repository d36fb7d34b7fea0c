/*
 * fuzz_command: a command line; whatever it is, a value or a well-formed reply comes of it. The
 * first octet: limits. All of it as the value of a field MT-Priority, too.
 */
#include <assert.h>

#include "mta/smtp/command.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_printable(struct span s, bool utf8)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.at[i];

		assert(c >= ' ' && c != 127 && (utf8 || c < 127));
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct smtp_command_limits limits;
	struct smtp_command command;
	struct arena arena = { 0 };
	struct buf out = { 0 };
	struct reply error;
	int8_t priority;

	if (size == 0)
		return 0;
	if (wish_read_priority_field(span_of(data, size), &priority))
		assert(priority >= -MT_PRIORITY_MAX && priority <= MT_PRIORITY_MAX);
	limits = (struct smtp_command_limits){
		.strict_addresses = data[0] & 1, .local_submission = data[0] & 2,
		.offer_binarymime = data[0] & 4,
		.extended = data[0] & 8, .smtputf8 = data[0] & 16, .priority = data[0] & 32,
		.hold = data[0] & 32, .by = data[0] & 32,
	};
	if (smtp_command_parse(span_of(data + 1, size - 1), &limits, &arena, &command, &error)) {
		bool utf8 = command.smtputf8 || limits.smtputf8;

		assert(command.verb != VERB_UNKNOWN);
		if (command.verb == VERB_MAIL || command.verb == VERB_RCPT)
			check_printable(address_text(&command.path, &arena), utf8);
		if (command.verb == VERB_HELO || command.verb == VERB_EHLO)
			check_printable(command.argument, false);
		check_printable(command.envid, false);
		assert(command.wishes.priority >= -MT_PRIORITY_MAX &&
		       command.wishes.priority <= MT_PRIORITY_MAX);
		assert(command.wishes.hold_for_s == 0 || command.wishes.hold_until_ms == 0);
		assert(command.wishes.by_mode != BY_RETURN || command.wishes.by_s > 0);
		check_printable(command.orcpt, utf8);
		assert(command.verb != VERB_RCPT || command.path.local.len > 0);
	} else {
		assert(error.code >= 500 && error.code < 600 && error.status.klass == 5);
		reply_format(&error, &out);
		assert(span_ends(buf_span(&out), SPAN("\r\n")));
	}
	buf_free(&out);
	arena_free(&arena);
	return 0;
}
