/*
 * private: what the parts of the configuration reader share. Not for others: they include
 * mta/config/config.h.
 *
 *	scan.c		files → tokens with their places; includes put in; braces and strings
 *			checked
 *	tree.c		tokens → sections and settings, and text for libConfuse; unknown,
 *			misplaced and repeated words found
 *	config.c	libConfuse → values → fields, by the table; defaults
 *	table.c		the table of directives
 *	types.c		one reader for each type of value; units.c the pure ones
 *	check.c		contradictions and risks of the whole; of one kind of block: auth.c,
 *			tls.c, sources.c, tenants.c, shape.c, bounces.c, suppress.c
 *	files.c		which files it consists of and names: rules, passwords; read here, but
 *			for certificates
 *
 * libConfuse is given text whose shape has been checked already, because of what it lets pass: a
 * repeated option, a missing last brace, a repeated section (it replaces the first), '*' and
 * other characters outside quotes (dropped), an unset variable, and errors without a file's
 * name. One thread at a time (its lexer is global).
 */
#ifndef TRAM_CONFIG_PRIVATE_H
#define TRAM_CONFIG_PRIVATE_H

#include <sys/stat.h>

#include "mta/config/config.h"

struct place {
	const char *file;
	int line;
};

enum token_kind {
	TOKEN_WORD, TOKEN_STRING, TOKEN_OPEN, TOKEN_CLOSE, TOKEN_COMMA, TOKEN_EQUAL, TOKEN_END
};

struct token {
	enum token_kind kind;
	struct place at;
	struct span text;		/* STRING: escaped as between double quotes */
};

enum section_kind {
	SECTION_TOP, SECTION_QUEUE, SECTION_LIMITS, SECTION_CERTIFICATE, SECTION_LISTENER,
	SECTION_ROUTE, SECTION_TENANT, SECTION_LOG, SECTION_PROVIDER, SECTION_SHAPE, SECTION_SOURCE,
	SECTION_POOL, SECTION_VERP, SECTION_BOUNCES,
	SECTION_KINDS
};

struct section_type {
	const char *name;
	const char *titled;		/* NULL: stands there once. Else a title, as an example */
};

extern const struct section_type section_types[SECTION_KINDS];

struct directive;
struct load;

/* One value, or list, on its way into a field. */
struct reading {
	struct load *load;
	const struct directive *directive;
	struct place at;
	const struct span *values;
	size_t count;
	char *base;			/* of the struct that holds the field */
};

struct value_type {
	const char *name;		/* in the manual */
	bool list;			/* several values, in braces */
	bool (*read)(const struct reading *reading);
};

struct directive {
	enum section_kind section;
	const char *name;
	const struct value_type *type;
	const char *fallback;		/* as written in a file; NULL: see note */
	int64_t min, max;		/* of numbers: milliseconds, octets, or a plain count */
	size_t offset, width;		/* the field in struct config, listener or route */
	size_t count_offset;		/* of lists */
	const char *const *words;	/* of a choice: by the value of the enum; NULL ends */
	const char *note;		/* what stands in for a default that is not a value */
	bool restart;
	bool file;			/* names one (or several) to be read */
};

extern const struct directive directives[];
extern const size_t directive_count;

extern const struct value_type type_text, type_words, type_path, type_paths, type_command,
	type_user, type_domain, type_domains, type_patterns, type_hosts, type_networks,
	type_addresses, type_ips, type_date, type_servers, type_mailbox, type_senders, type_deliver,
	type_time, type_size, type_number, type_boolean, type_mode, type_choice;

struct section {
	enum section_kind kind;
	struct place at;
	size_t index;			/* among those of its kind */
	struct span name;		/* its title, once expanded; lower case for routes */
};

struct setting {
	const struct directive *directive;
	struct place at;
	size_t section;			/* index in load->sections */
	size_t count;			/* values written */
};

struct load {
	struct config *config;
	char *error;			/* CONFIG_ERROR_MAX octets */
	int rc;				/* 0 until the first failure */
	struct buf *warnings;
	bool may_include;
	/* that are read elsewhere than by their names; NULL: none */
	const struct files *files;
	struct token *tokens;		/* malloc */
	size_t token_count, token_cap;
	struct section *sections;	/* malloc; the first is the top */
	size_t section_count, section_cap;
	struct setting *settings;	/* malloc */
	size_t setting_count, setting_cap;
	struct buf text;		/* for libConfuse */
};

/* The first failure counts. Always false, so that a caller can return it. */
bool config_fail(struct load *load, struct place at, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void config_warn(struct load *load, struct place at, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* One of those that the configuration consists of. */
void config_note_file(struct config *config, const char *path);
bool config_scan_file(struct load *load, const char *path);
bool config_scan_text(struct load *load, struct span text, const char *name);
bool config_tree(struct load *load);
bool config_check(struct load *load);
bool config_check_tls(struct load *load);
bool config_check_auth(struct load *load);		/* behind config_check_tls() */
bool config_check_suppress(struct load *load);
bool config_check_tenants(struct load *load);
bool config_field_is_mails(struct span name);	/* no field to be taken out of a header */
bool config_name_tenant(struct load *load, struct section *section, struct span title);
/* shape.c: their titles, and the whole of them */
bool config_name_provider(struct load *load, struct section *section, struct span title);
bool config_name_shape(struct load *load, struct section *section, struct span title);
bool config_check_shapes(struct load *load);
bool config_check_sources(struct load *load);
bool config_name_verp(struct load *load, struct section *section, struct span title);
bool config_check_bounces(struct load *load);		/* set_rest() has been there */
int config_open_tls(struct config *config, char error[CONFIG_ERROR_MAX], struct buf *warnings);
int config_open_auth(struct config *config, char error[CONFIG_ERROR_MAX], struct buf *warnings);

int config_open_rules(struct config *config, char error[CONFIG_ERROR_MAX]);
int config_open_verp(struct config *config, char error[CONFIG_ERROR_MAX], struct buf *warnings);
/*
 * 0, and the content is the caller's to free; or -EINVAL and error. Only of a file: what may wait
 * (a pipe) would stop the loop that reloads.
 */
int config_read_file(const struct config *config, const char *path, size_t most, struct buf *ret,
		     struct stat *there, char error[CONFIG_ERROR_MAX]);
/* Returns rc. The parsers list up to twenty faults; the error holds the first ones. */
int config_faults(const struct buf *list, int rc, char error[CONFIG_ERROR_MAX]);

/*
 * The place of the last of these settings that is written in a file (NULL ends the list); false:
 * none is.
 */
bool config_place(const struct load *load, const char *const *names, enum section_kind kind,
		  size_t index, struct place *ret);
const struct section *config_section(const struct load *load, enum section_kind kind, size_t index);

/* A copy of the array with room for one more, where count has met its capacity. */
void *config_grow(void *array, size_t count, size_t *cap, size_t size);

/* config_units: pure. False: *error says what would be right. */
bool units_time(struct span text, int64_t *ret, const char **error);
bool units_size(struct span text, int64_t *ret, const char **error);
bool units_number(struct span text, int64_t *ret, const char **error);
/* For messages: "5d", "25MB". */
struct span units_time_text(int64_t ms, struct arena *arena);
struct span units_size_text(int64_t octets, struct arena *arena);

/* Letters to insert, drop, change or swap to get from a to b; pure. */
size_t edit_distance(struct span a, struct span b);

#endif
