/*
 * hash: one password against one hash, and new hashes: the only file that knows crypt(3). See
 * passwords.h. Slow by design: for the pool, and for tools.
 */
#include <assert.h>
#include <crypt.h>
#include <stdlib.h>

#include "mta/auth/passwords.h"
#include "mta/auth/prep.h"
#include "mta/base/arena.h"

static_assert((int)PASSWORDS_HASH_MAX >= (int)CRYPT_OUTPUT_SIZE, "a hash fits");

struct method {
	const char *prefix;
	size_t digest;			/* characters behind the last '$' */
};

/* bcrypt's salt of 22 stands before its digest of 31. */
static const struct method methods[] = {
	{ "$y$", 43 },	{ "$gy$", 43 }, { "$7$", 43 }, { "$2b$", 53 },
	{ "$2y$", 53 }, { "$2a$", 53 }, { "$6$", 86 }, { "$5$", 43 },
};

static bool
is_digest(const char *at, size_t len)
{
	if (strlen(at) != len)
		return false;
	for (; *at != '\0'; at++) {
		char c = ascii_lower(*at);

		if (!(c >= 'a' && c <= 'z') && !(c >= '.' && c <= '9'))	/* '.', '/', digits */
			return false;
	}
	return true;
}

/* One so dear that a single login would stand before all others for seconds. */
static bool
too_dear(const char *hash)
{
	const char *rounds = strstr(hash, "$rounds=");

	if (rounds != NULL)
		return strtoul(rounds + 8, NULL, 10) > 5000000;
	return strncmp(hash, "$2", 2) == 0 && strtoul(hash + 4, NULL, 10) > 15;
}

const char *
password_hash_weak(const char *hash)
{
	const struct method *method = NULL;

	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		if (strncmp(hash, methods[i].prefix, strlen(methods[i].prefix)) == 0)
			method = &methods[i];
	if (strncmp(hash, "$1$", 3) == 0 || strncmp(hash, "$md5", 4) == 0)
		return "MD5 is too weak; make a new hash with tramctl password";
	if (method == NULL && hash[0] != '$' && is_digest(hash, 13))
		return "DES is too weak; make a new hash with tramctl password";
	if (hash[0] == '*' || hash[0] == '!')
		return "a locked account has no hash; remove the line, or give it :disabled";
	if (method == NULL)
		return "not a strong hash of crypt(3) ($y$, $2b$, $6$, $5$ …); make one with "
		       "tramctl password";
	if (!is_digest(strrchr(hash, '$') + 1, method->digest))
		return "the hash is not complete; copy it whole, or make one with tramctl password";
	if (crypt_checksalt(hash) == CRYPT_SALT_INVALID ||
	    crypt_checksalt(hash) == CRYPT_SALT_METHOD_DISABLED)
		return "crypt(3) here does not know this hash; make one with tramctl password";
	if (too_dear(hash))
		return "one check of it would take seconds; make one with tramctl password";
	return NULL;
}

/* With the password as it is. */
static bool
check_crypt(const char *hash, struct span password)
{
	struct crypt_data *data = xcalloc(1, sizeof(*data));
	char *phrase = xcalloc(1, password.len + 1);
	const char *made;
	bool right = false;

	if (password.len > 0)
		memcpy(phrase, password.at, password.len);
	made = crypt_rn(phrase, hash, data, sizeof(*data));
	if (made != NULL && made[0] != '*' && strlen(made) == strlen(hash))
		right = scram_equal(made, hash, strlen(hash));
	explicit_bzero(phrase, password.len);
	explicit_bzero(data, sizeof(*data));
	free(phrase);
	free(data);
	return right;
}

static bool
check_once(const struct password_hash *hash, struct span password)
{
	return hash->is_scram ? scram_verifier_check(&hash->scram, password) :
				check_crypt(hash->crypt, password);
}

bool
password_hash_check(const struct password_hash *hash, struct span password)
{
	struct buf prepared = { 0 };
	bool right;

	buf_reserve(&prepared, PREP_PASSWORD_MAX + 1);
	if (!prep_password(password, &prepared)) {
		buf_free(&prepared);
		return false;
	}
	right = check_once(hash, buf_span(&prepared));
	/* who made the hash may have taken the password as it came from the keyboard */
	if (!right && !span_eq(buf_span(&prepared), password))
		right = check_once(hash, password);
	buf_wipe(&prepared);
	return right && hash->known;
}

static void
put_crypt(struct span password, struct buf *out)
{
	char setting[CRYPT_GENSALT_OUTPUT_SIZE];
	struct crypt_data *data = xcalloc(1, sizeof(*data));
	char *phrase = xcalloc(1, password.len + 1);
	const char *made;

	memcpy(phrase, password.at, password.len);
	made = crypt_gensalt_rn("$y$", 0, NULL, 0, setting, sizeof(setting));
	assert(made != NULL);
	made = crypt_rn(phrase, setting, data, sizeof(*data));
	assert(made != NULL && made[0] != '*');
	buf_append(out, span_str(made));
	explicit_bzero(phrase, password.len);
	explicit_bzero(data, sizeof(*data));
	free(phrase);
	free(data);
}

static void
put_scram(struct span password, struct buf *out)
{
	struct scram_verifier verifier;
	uint8_t salt[SCRAM_SALT];

	scram_random(salt, sizeof(salt));
	scram_verifier_make(password, span_of(salt, sizeof(salt)), SCRAM_ITERATIONS, &verifier);
	scram_verifier_format(&verifier, out);
}

const char *
passwords_make_entry(struct span user, struct span password, unsigned kinds, struct buf *out)
{
	struct buf name = { 0 }, prepared = { 0 };
	const char *fault = NULL;

	buf_reserve(&prepared, PREP_PASSWORD_MAX + 1);
	if (!prep_name(user, &name) || !passwords_name_valid(buf_span(&name)))
		fault = "a user's name has no ':', no control characters, no blanks at its ends, "
			"and does not begin with '#'";
	else if (!prep_password(password, &prepared))
		fault = "a password has 1 to 1024 octets, and no NUL";
	else if ((kinds & PASSWORD_YESCRYPT) != 0 &&
		 buf_len(&prepared) > CRYPT_MAX_PASSPHRASE_SIZE - 1)
		fault = "a password for crypt(3) has 511 octets at most";
	for (unsigned kind = PASSWORD_YESCRYPT; fault == NULL && kind <= PASSWORD_SCRAM;
	     kind <<= 1) {
		if ((kinds & kind) == 0)
			continue;
		buf_append(out, buf_span(&name));
		buf_byte(out, ':');
		(kind == PASSWORD_SCRAM ? put_scram : put_crypt)(buf_span(&prepared), out);
		buf_byte(out, '\n');
	}
	buf_free(&name);
	buf_wipe(&prepared);
	return fault;
}
