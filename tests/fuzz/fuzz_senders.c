/*
 * fuzz_senders: any octets as a list of senders, and as a From: field: what is given is an address,
 * and the same one when it is read again.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "mta/auth/senders.h"
#include "mta/base/address.h"
#include "mta/base/arena.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool
check_address(void *arg, struct span text)
{
	struct arena arena = { 0 };
	struct address address;

	(void)arg;
	for (size_t i = 0; i < text.len; i++)
		assert((unsigned char)text.at[i] >= ' ' && text.at[i] != 127);
	assert(address_parse(text, ADDRESS_UTF8, &arena, &address) == ADDRESS_OK);
	assert(address.domain.len > 0 && span_eq(address_text(&address, &arena), text));
	assert(senders_allow(NULL, text, text));
	assert(!senders_allow(NULL, SPAN("somebody"), text));
	arena_free(&arena);
	return true;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct senders *s = NULL;
	struct buf errors = { 0 };
	struct span in = span_of(data, size);
	int rc = senders_parse(SPAN("file"), in, &errors, &s);
	int given = senders_header_addresses(in, check_address, NULL);

	assert((rc == 0) == (s != NULL) && (rc == 0) == (buf_len(&errors) == 0));
	assert(given == -EINVAL || (given >= 0 && given <= SENDERS_HEADER_ADDRESSES));
	buf_clear(&errors);
	if (given >= 0)
		assert(senders_allow_field(s, SPAN("nobody"), in, &errors) ==
		       (buf_len(&errors) == 0));
	if (rc == 0)
		(void)senders_allow(s, span_first(in, 5), span_skip(in, 5));
	senders_free(s);
	buf_free(&errors);
	return 0;
}
