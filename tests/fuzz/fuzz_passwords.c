/*
 * fuzz_passwords: any octets as a password file: it is a table in which each user is found again,
 * or errors that are whole lines.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "mta/auth/passwords.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_errors(struct span errors)
{
	size_t lines = 0;

	assert(span_starts(errors, SPAN("file:")) && span_ends(errors, SPAN("\n")));
	for (size_t i = 0; i < errors.len; i++) {
		assert((unsigned char)errors.at[i] >= ' ' || errors.at[i] == '\n');
		lines += errors.at[i] == '\n';
	}
	assert(lines <= 20);
}

static void
check_users(const struct passwords *p, struct span content)
{
	struct passwords_facts facts = passwords_facts(p);
	assert(facts.with_crypt <= facts.users && facts.with_scram <= facts.users);
	assert(facts.with_crypt + facts.with_scram >= facts.users && facts.iterations > 0);
	while (content.len > 0) {
		struct span line = span_cut(&content, '\n'), user = span_trim(span_cut(&line, ':'));
		struct password_hash hash;
		struct span spelling;

		passwords_hash_of(p, user, &hash, &spelling);
		assert(hash.is_scram ? hash.scram.iterations > 0 : strlen(hash.crypt) > 20);
		assert(hash.known == passwords_find(p, user, &spelling));
		if (passwords_scram(p, user, &spelling) != NULL)
			assert(span_ieq(spelling, user));
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct passwords *p = NULL;
	struct buf errors = { 0 };
	int rc = passwords_parse(SPAN("file"), span_of(data, size), &errors, &p);

	assert((rc == 0) == (p != NULL) && (rc == 0 || rc == -EINVAL));
	if (rc == 0)
		check_users(p, span_of(data, size));
	else
		check_errors(buf_span(&errors));
	assert(rc != 0 || buf_len(&errors) == 0);
	passwords_free(p);
	buf_free(&errors);
	return 0;
}
