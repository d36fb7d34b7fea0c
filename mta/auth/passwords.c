/* passwords: the table. See passwords.h; hashes are calculated in hash.c. */
#include "mta/auth/passwords.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "mta/base/lines.h"
#include "mta/auth/prep.h"
#include "mta/base/arena.h"
#include "mta/base/map.h"

struct entry {
	struct map_node node;		/* by the name in lower case */
	struct span name;
	char *crypt;			/* or NULL */
	struct scram_verifier *scram;	/* or NULL */
	bool disabled;
};

/* How often which cost was seen, to find the usual one; the last place counts the rest. */
enum { COSTS = 16 };
struct cost {
	struct span setting;		/* "$y$j9T", "$2b$12", "{SCRAM}10000" */
	const struct entry *example;
	uint32_t iterations;
	size_t count;
};

struct passwords {
	struct arena arena;
	struct map users;
	uint64_t seed;
	struct passwords_facts facts;
	struct password_hash unknown;	/* what is calculated for a name that nobody has */
};

struct parser {
	struct passwords *passwords;
	struct lines lines;
	struct buf name;
	struct cost checked[COSTS], verifiers[COSTS];
};

bool
passwords_name_valid(struct span name)
{
	return name.len > 0 && name.at[0] != '#' && span_find(name, ':') == NULL &&
	       span_eq(span_trim(name), name);
}

static uint64_t
key_of(const struct passwords *p, struct span name)
{
	char lower[PREP_NAME_MAX];

	assert(name.len <= sizeof(lower));
	for (size_t i = 0; i < name.len; i++)
		lower[i] = ascii_lower(name.at[i]);
	return hash_bytes(lower, name.len, p->seed);
}

static struct entry *
find(const struct passwords *p, struct span name)
{
	struct map_node *node;

	if (name.len == 0 || name.len > PREP_NAME_MAX)
		return NULL;
	for (node = map_find(&p->users, key_of(p, name)); node != NULL;
	     node = map_next_same(node)) {
		struct entry *e = (struct entry *)(void *)node;

		if (span_ieq(e->name, name))
			return e;
	}
	return NULL;
}

static struct entry *
find_or_add(struct parser *parser, struct span name)
{
	struct passwords *p = parser->passwords;
	struct entry *e = find(p, name);

	if (e != NULL)
		return e;
	e = arena_alloc(&p->arena, sizeof(*e));
	e->name = arena_copy(&p->arena, name);
	map_add(&p->users, &e->node, key_of(p, name));
	return e;
}

/* Dovecot's names for what crypt(3) does; what follows them tells more. */
static struct span
strip_scheme(struct span hash)
{
	static const char *const schemes[] = { "{CRYPT}", "{BLF-CRYPT}", "{SHA512-CRYPT}",
					       "{SHA256-CRYPT}" };

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
		if (span_istarts(hash, span_str(schemes[i])))
			return span_skip(hash, strlen(schemes[i]));
	return hash;
}

static const char *
take_scram(struct parser *parser, struct entry *e, struct span text)
{
	struct scram_verifier *verifier;
	const char *fault;

	if (e->scram != NULL)
		return "a second SCRAM verifier of this user; remove one of them";
	verifier = arena_alloc(&parser->passwords->arena, sizeof(*verifier));
	fault = scram_verifier_parse(text, verifier);
	if (fault == NULL)
		e->scram = verifier;
	return fault;
}

static const char *
take_crypt(struct parser *parser, struct entry *e, struct span text)
{
	const char *fault;
	char *hash;

	text = strip_scheme(text);
	if (text.len > 0 && text.at[0] == '{')
		return "a scheme that is not known here; make a hash with tramctl password";
	if (text.len == 0)
		return "no hash; the line's form is user:hash[:options], and tramctl password "
		       "makes it";
	if (text.len >= PASSWORDS_HASH_MAX)
		return "the hash is too long";
	if (e->crypt != NULL)
		return "a second hash of this user; remove one of them";
	hash = arena_str(&parser->passwords->arena, text);
	fault = password_hash_weak(hash);
	if (fault == NULL)
		e->crypt = hash;
	return fault;
}

static const char *
take_options(struct entry *e, struct span options)
{
	while (options.len > 0) {
		struct span option = span_trim(span_cut(&options, ','));

		if (span_eq(option, SPAN("disabled")))
			e->disabled = true;
		else if (option.len > 0)
			return "an option that is not known; there is: disabled";
	}
	return NULL;
}

static void
take_line(struct parser *parser, struct span line)
{
	struct span options = line, raw = span_cut(&options, ':'), hash = span_cut(&options, ':');
	struct span name;
	struct entry *e;
	const char *fault;

	buf_clear(&parser->name);
	if (!prep_name(span_trim(raw), &parser->name) ||
	    !passwords_name_valid(buf_span(&parser->name))) {
		lines_fault(&parser->lines, SPAN(""),
			    "no user's name before the first ':'; the line's form is "
			    "user:hash[:options]");
		return;
	}
	name = buf_span(&parser->name);
	hash = span_trim(hash);
	if (parser->passwords->users.count >= PASSWORDS_USERS_MAX) {
		lines_fault(&parser->lines, name, "more users than a file may have (1,000,000)");
		parser->lines.rest = SPAN("");
		return;
	}
	e = find_or_add(parser, name);
	fault = span_istarts(hash, SPAN("{SCRAM-SHA-256}")) ? take_scram(parser, e, hash) :
							     take_crypt(parser, e, hash);
	if (fault == NULL)
		fault = take_options(e, options);
	if (fault != NULL)
		lines_fault(&parser->lines, name, fault);
}

/* What stands before the salt. */
static struct span
setting_of(const char *crypt)
{
	struct span hash = span_str(crypt), digest = hash;
	size_t len = hash.len;

	if (strncmp(crypt, "$2", 2) == 0)
		return span_first(hash, 6);
	while (span_find(digest, '$') != NULL)
		span_cut(&digest, '$');
	len -= digest.len + 1;
	while (len > 0 && crypt[len - 1] != '$')
		len--;
	return span_first(hash, len);
}

static void
count_cost(struct cost costs[COSTS], const struct entry *e, struct span setting,
	   uint32_t iterations)
{
	size_t i = 0;

	while (i < COSTS - 1 && costs[i].count > 0 &&
	       (costs[i].iterations != iterations || !span_eq(costs[i].setting, setting)))
		i++;
	if (costs[i].count++ == 0) {
		costs[i].setting = setting;
		costs[i].iterations = iterations;
		costs[i].example = e;
	}
}

static const struct cost *
usual_cost(const struct cost costs[COSTS])
{
	const struct cost *most = costs;

	for (size_t i = 1; i < COSTS; i++)
		if (costs[i].count > most->count)
			most = &costs[i];
	return most;
}

static void
set_hash(struct password_hash *ret, const struct entry *e, bool known)
{
	*ret = (struct password_hash){ .known = known, .is_scram = e->crypt == NULL };
	if (e->crypt != NULL)
		memcpy(ret->crypt, e->crypt, strlen(e->crypt));
	else
		ret->scram = *e->scram;
}

static void
count_users(struct parser *parser)
{
	struct passwords *p = parser->passwords;
	struct passwords_facts *facts = &p->facts;
	const struct cost *usual;

	for (size_t i = 0; i < p->users.size; i++)
		for (struct map_node *n = p->users.buckets[i]; n != NULL; n = n->next) {
			const struct entry *e = (const struct entry *)(void *)n;

			assert(e->crypt != NULL || e->scram != NULL);
			facts->users++;
			facts->with_crypt += e->crypt != NULL;
			facts->with_scram += e->scram != NULL;
			facts->disabled += e->disabled;
			if (e->crypt != NULL)
				count_cost(parser->checked, e, setting_of(e->crypt), 0);
			else
				count_cost(parser->checked, e, SPAN(""), e->scram->iterations);
			if (e->scram != NULL)
				count_cost(parser->verifiers, e, SPAN(""), e->scram->iterations);
		}
	facts->all_scram = facts->users > 0 && facts->with_scram == facts->users;
	usual = usual_cost(parser->verifiers);
	facts->iterations = usual->count > 0 ? usual->iterations : SCRAM_ITERATIONS;
	usual = usual_cost(parser->checked);
	if (usual->count > 0)
		set_hash(&p->unknown, usual->example, false);
	else
		scram_verifier_imagine(SPAN(""), SPAN(""), SCRAM_ITERATIONS, &p->unknown.scram);
	p->unknown.is_scram = usual->count == 0 || p->unknown.is_scram;
}

int
passwords_parse(struct span name, struct span content, struct buf *errors, struct passwords **ret)
{
	struct parser parser = {
		.lines = { .name = name,
			   .rest = content,
			   .max_line = PASSWORDS_LINE_MAX,
			   .errors = errors },
	};
	struct span line;

	if (content.len > PASSWORDS_FILE_MAX) {
		buf_printf(errors, "%.*s: larger than 64 MB, which a password file is not\n",
			   SPAN_FMT(name));
		return -EINVAL;
	}
	parser.passwords = xcalloc(1, sizeof(*parser.passwords));
	scram_random(&parser.passwords->seed, sizeof(parser.passwords->seed));
	while (lines_next(&parser.lines, &line))
		take_line(&parser, line);
	buf_free(&parser.name);
	if (parser.lines.faults > 0) {
		passwords_free(parser.passwords);
		return -EINVAL;
	}
	count_users(&parser);
	*ret = parser.passwords;
	return 0;
}

void
passwords_free(struct passwords *p)
{
	struct map_node *node;

	if (p == NULL)
		return;
	while ((node = map_any(&p->users)) != NULL) {
		struct entry *e = (struct entry *)(void *)node;

		map_remove(&p->users, node);
		if (e->crypt != NULL)
			explicit_bzero(e->crypt, strlen(e->crypt));
		if (e->scram != NULL)
			explicit_bzero(e->scram, sizeof(*e->scram));
	}
	map_free(&p->users);
	arena_free(&p->arena);
	explicit_bzero(&p->unknown, sizeof(p->unknown));
	free(p);
}

struct passwords_facts
passwords_facts(const struct passwords *p)
{
	return p->facts;
}

const struct scram_verifier *
passwords_scram(const struct passwords *p, struct span user, struct span *spelling)
{
	const struct entry *e = find(p, user);

	if (e == NULL || e->disabled || e->scram == NULL)
		return NULL;
	*spelling = e->name;
	return e->scram;
}

bool
passwords_find(const struct passwords *p, struct span user, struct span *spelling)
{
	const struct entry *e = find(p, user);

	if (e == NULL || e->disabled)
		return false;
	*spelling = e->name;
	return true;
}

void
passwords_hash_of(const struct passwords *p, struct span user, struct password_hash *ret,
		  struct span *spelling)
{
	const struct entry *e = find(p, user);

	*spelling = user;
	if (e == NULL) {
		*ret = p->unknown;
		return;
	}
	*spelling = e->name;
	set_hash(ret, e, !e->disabled);
}
