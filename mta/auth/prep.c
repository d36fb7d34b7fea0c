/* prep: see prep.h. The only file that knows GNU libidn. */
#include "mta/auth/prep.h"

#include <stdlib.h>
#include <stringprep.h>

#include "mta/base/address.h"

void
buf_wipe(struct buf *b)
{
	if (b->at != NULL)
		explicit_bzero(b->at, b->cap);
	buf_free(b);
}

static bool
plain_ascii(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.at[i] < ' ' || s.at[i] > '~')
			return false;
	return true;
}

/* Code points that Unicode 3.2 does not know are let through: people have them on keyboards. */
static bool
saslprep(struct span in, size_t max, struct buf *out)
{
	char *copy, *made = NULL;
	size_t len = 0;
	bool good;

	copy = xcalloc(1, in.len + 1);
	memcpy(copy, in.at, in.len);
	good = stringprep_profile(copy, &made, "SASLprep", 0) == STRINGPREP_OK;
	if (good) {
		len = strlen(made);
		good = len > 0 && len <= max;
	}
	if (good)
		buf_append(out, span_of(made, len));
	if (made != NULL)
		explicit_bzero(made, strlen(made));
	free(made);
	explicit_bzero(copy, in.len);
	free(copy);
	return good;
}

bool
prep_name(struct span name, struct buf *out)
{
	if (name.len == 0 || name.len > PREP_NAME_MAX)
		return false;
	if (plain_ascii(name)) {
		buf_append(out, name);
		return true;
	}
	return span_find(name, '\0') == NULL && utf8_valid(name) &&
	       saslprep(name, PREP_NAME_MAX, out);
}

bool
prep_password(struct span password, struct buf *out)
{
	if (password.len == 0 || password.len > PREP_PASSWORD_MAX ||
	    span_find(password, '\0') != NULL)
		return false;
	if (plain_ascii(password) || !utf8_valid(password) ||
	    !saslprep(password, PREP_PASSWORD_MAX, out))
		buf_append(out, password);
	return true;
}
