/*
 * auth/passwords: the password file, parsed whole into an immutable table. Pure; any thread.
 *
 *	# one entry a line: user:hash[:options]
 *	anna@example.org:$y$j9T$…
 *	anna@example.org:{SCRAM-SHA-256}10000,salt,StoredKey,ServerKey
 *	printer:$6$…:disabled
 *
 * A user may have one hash of crypt(3), one SCRAM verifier, or both (two lines). A password given
 * is checked against the crypt hash where there is one, else against the verifier. Names are
 * compared in ASCII without regard to case; the file's spelling is the user's name. Weak hashes
 * (DES, MD5, NTLM, plain text …) are refused. Only hash.c knows <crypt.h>.
 */
#ifndef TRAM_AUTH_PASSWORDS_H
#define TRAM_AUTH_PASSWORDS_H

#include "mta/auth/scram.h"
#include "mta/base/buf.h"
#include "mta/base/span.h"

enum {
	PASSWORDS_FILE_MAX = 64 << 20,		/* octets */
	PASSWORDS_LINE_MAX = 1024,
	PASSWORDS_HASH_MAX = 384,		/* crypt(3) makes at most that */
	PASSWORDS_USERS_MAX = 1000000,
};

struct passwords;

/*
 * name: the file's, for errors. 0, or -EINVAL: errors then has a line for each (at most 20):
 * "FILE:3: what is wrong; what to do".
 */
int passwords_parse(struct span name, struct span content, struct buf *errors,
		    struct passwords **ret);
void passwords_free(struct passwords *passwords);		/* NULL is fine; wipes */

struct passwords_facts {
	size_t users, with_crypt, with_scram, disabled;
	/*
	 * every user has a verifier: only then should SCRAM be offered, for a client takes the
	 * strongest that it sees
	 */
	bool all_scram;
	uint32_t iterations;		/* of most verifiers, for sasl_config.imagined_iterations */
};
struct passwords_facts passwords_facts(const struct passwords *passwords);

/* For SASL_FETCH_SCRAM. NULL: no such user, disabled, no verifier. *spelling: the file's. */
const struct scram_verifier *passwords_scram(const struct passwords *passwords, struct span user,
					     struct span *spelling);
/* Is there such a user who is not disabled? For SASL_ADMIT. */
bool passwords_find(const struct passwords *passwords, struct span user, struct span *spelling);

/* What is to be calculated for one check, by value: it needs the table no more. */
struct password_hash {
	bool known;			/* false: whatever comes out, the answer is no */
	bool is_scram;
	char crypt[PASSWORDS_HASH_MAX];	/* with its NUL */
	struct scram_verifier scram;
};
/*
 * The user's; of one that is unknown or disabled somebody else's, so that it costs the same time.
 * *spelling: the file's; of an unknown one as it came.
 */
void passwords_hash_of(const struct passwords *passwords, struct span user,
		       struct password_hash *ret, struct span *spelling);
/* Slow (it is meant to be): in the pool or in a tool, never on a loop. */
bool password_hash_check(const struct password_hash *hash, struct span password);

enum password_kind { PASSWORD_YESCRYPT = 1, PASSWORD_SCRAM = 2 };	/* bits */

/*
 * For `tramctl password`: appends a line for each kind, newline included. NULL, or what is wrong
 * with name or password, as words. Slow.
 */
const char *passwords_make_entry(struct span user, struct span password, unsigned kinds,
				 struct buf *out);

/* The form of a name (after prep_name) that a file can hold. */
bool passwords_name_valid(struct span name);
/* What crypt(3) says of a hash: NULL if it is a strong one, else what is wrong and what to do. */
const char *password_hash_weak(const char *hash);

#endif
