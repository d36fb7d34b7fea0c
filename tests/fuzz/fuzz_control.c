/*
 * fuzz_control: what an operator's socket and an archive's reader may be given. A request that is
 * taken can be said again, and means the same; a record that is taken is encoded as it was.
 */
#include <assert.h>
#include <stdlib.h>

#include "mta/control/protocol.h"
#include "mta/control/text.h"
#include "mta/sendmail/sendmail.h"
#include "mta/ctl/archive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* mta/sendmail/options.c, in the same library, needs one. */
int
sendmail_fail(int code, const char *format, ...)
{
	(void)format;
	return code;
}

static void
request(struct span line)
{
	struct arena arena = { 0 };
	struct control_request first, second;
	struct control_error error;
	struct buf said = { 0 }, again = { 0 };

	if (control_request_parse(line, &arena, &first, &error)) {
		assert(control_request_format(&first, &said));
		assert(control_request_parse(span_first(buf_span(&said), buf_len(&said) - 1),
					     &arena, &second, &error));
		assert(control_request_format(&second, &again));
		assert(span_eq(buf_span(&said), buf_span(&again)));
	} else {
		assert(error.text.len > 0 && error.hint.len > 0);
		json_decref(json_text(error.text));
	}
	buf_free(&said);
	buf_free(&again);
	arena_free(&arena);
}

static void
record(struct span in)
{
	enum archive_type type;
	struct span payload;
	struct buf out = { 0 };
	size_t used;

	if (archive_record_decode(in, &type, &payload, &used) != ARCHIVE_OK)
		return;
	archive_record_encode(type, payload, &out);
	assert(span_eq(buf_span(&out), span_first(in, used)));
	buf_free(&out);
}

static void
address_list(struct span in)
{
	struct sendmail_addresses to = { 0 };
	struct arena arena = { 0 };
	struct span bad;

	sendmail_addresses_add(&to, in, &arena, &bad);
	for (size_t i = 0; i < to.count; i++)
		for (size_t n = 0; n < to.list[i].len; n++)
			assert(to.list[i].at[n] != '\r' && to.list[i].at[n] != '\n' &&
			       to.list[i].at[n] != '\0');
	arena_free(&arena);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = span_of(data, size);

	request(in);
	record(in);
	address_list(in);
	return 0;
}
