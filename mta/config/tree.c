/*
 * tree: tokens → sections and settings, each with its place, and the text that libConfuse
 * reads.
 *
 * Every name in that text is known and stands where it may, none twice in one section; every
 * setting has the number of values that its type takes. A section's title is handed on as an
 * option of its own, for libConfuse compares titles one by one, and replaces a section by a
 * second one of the same title.
 */
#include <stdlib.h>

#include "mta/config/private.h"

struct tree {
	struct load *load;
	const struct token *at; /* the next one; never moves beyond TOKEN_END */
	size_t section;		/* the current one's index */
};

const struct section_type section_types[SECTION_KINDS] = {
	[SECTION_TOP] = { "", NULL },
	[SECTION_QUEUE] = { "queue", NULL },
	[SECTION_LIMITS] = { "limits", NULL },
	[SECTION_CERTIFICATE] = { "certificate", "mail" },
	[SECTION_LISTENER] = { "listener", "smtp" },
	[SECTION_ROUTE] = { "route", "\"example.org\"" },
	[SECTION_TENANT] = { "tenant", "\"news\"" },
	[SECTION_SOURCE] = { "source", "\"a\"" },
	[SECTION_POOL] = { "pool", "\"news\"" },
	[SECTION_LOG] = { "log", NULL },
	[SECTION_PROVIDER] = { "provider", "\"google\"" },
	[SECTION_SHAPE] = { "shape", "\"google\"" },
	[SECTION_VERP] = { "verp", "\"bounces.example.org\"" },
	[SECTION_BOUNCES] = { "bounces", NULL },
};

void *
config_grow(void *array, size_t count, size_t *cap, size_t size)
{
	if (count < *cap)
		return array;
	*cap = *cap ? *cap * 2 : 64;
	return xrealloc(array, *cap * size);
}

static const struct token *
next(struct tree *t)
{
	return t->at->kind == TOKEN_END ? t->at : t->at++;
}

static bool
is_text(const struct token *token)
{
	return token->kind == TOKEN_WORD || token->kind == TOKEN_STRING;
}

static enum section_kind
current(const struct tree *t)
{
	return t->load->sections[t->section].kind;
}

static const struct directive *
find_directive(enum section_kind section, struct span name)
{
	for (size_t i = 0; i < directive_count; i++)
		if (directives[i].section == section && span_eq(span_str(directives[i].name), name))
			return &directives[i];
	return NULL;
}

static enum section_kind
find_section(struct span name)
{
	for (enum section_kind kind = SECTION_TOP + 1; kind < SECTION_KINDS; kind++)
		if (span_eq(span_str(section_types[kind].name), name))
			return kind;
	return SECTION_TOP;
}

/* ---- words that are not known ------------------------------------------------------------- */

struct guess {
	struct span word;
	const char *best;
	size_t distance;
};

static void
consider(struct guess *guess, const char *name)
{
	size_t distance = edit_distance(guess->word, span_str(name));

	if (distance < guess->distance) {
		guess->distance = distance;
		guess->best = name;
	}
}

/*
 * The likeliest word that was meant in this section, or NULL: a third of its letters may be
 * wrong.
 */
static const char *
guess_word(enum section_kind section, struct span word)
{
	struct guess guess = { .word = word, .distance = word.len / 3 + 1 };

	for (size_t i = 0; i < directive_count; i++)
		if (directives[i].section == section)
			consider(&guess, directives[i].name);
	if (section == SECTION_TOP)
		for (enum section_kind kind = SECTION_TOP + 1; kind < SECTION_KINDS; kind++)
			consider(&guess, section_types[kind].name);
	return guess.best;
}

static bool
unknown_word(struct tree *t, const struct token *word)
{
	enum section_kind here = current(t);
	const char *guess = guess_word(here, word->text);

	if (find_section(word->text) != SECTION_TOP)
		return config_fail(t->load, word->at,
				   "%.*s cannot stand inside %s { }; is a } missing above?",
				   SPAN_FMT(word->text), section_types[here].name);
	for (size_t i = 0; i < directive_count; i++) {
		if (!span_eq(span_str(directives[i].name), word->text))
			continue;
		if (directives[i].section == SECTION_TOP)
			return config_fail(
			    t->load, word->at,
			    "%.*s does not belong in %s { }; it stands outside of all sections",
			    SPAN_FMT(word->text), section_types[here].name);
		return config_fail(t->load, word->at,
				   "%.*s does not belong here; it stands in %s { }",
				   SPAN_FMT(word->text), section_types[directives[i].section].name);
	}
	if (guess != NULL)
		return config_fail(t->load, word->at, "unknown word %.*s; did you mean %s?",
				   SPAN_FMT(word->text), guess);
	return config_fail(t->load, word->at, "unknown word %.*s%s%s; see tram.conf(5)",
			   SPAN_FMT(word->text), here == SECTION_TOP ? "" : " in ",
			   section_types[here].name);
}

/* ---- settings ----------------------------------------------------------------------------- */

static void
write_value(struct tree *t, const struct token *value)
{
	buf_byte(&t->load->text, '"');
	for (size_t i = 0; i < value->text.len; i++) {
		char c = value->text.at[i];

		if (value->kind == TOKEN_WORD && (c == '\\' || c == '$'))
			buf_byte(&t->load->text, '\\');
		buf_byte(&t->load->text, c);
	}
	buf_byte(&t->load->text, '"');
}

static bool
read_list(struct tree *t, struct setting *setting)
{
	const struct token *token;

	while ((token = next(t))->kind != TOKEN_CLOSE) {
		if (!is_text(token))
			return config_fail(t->load, token->at,
					   "a list of %s is expected, not %.*s: {\"a\", \"b\"}",
					   setting->directive->type->name, SPAN_FMT(token->text));
		if (setting->count++ > 0)
			buf_byte(&t->load->text, ',');
		write_value(t, token);
		if (t->at->kind == TOKEN_COMMA)
			next(t);
		else if (t->at->kind != TOKEN_CLOSE)
			return config_fail(t->load, t->at->at,
					   "a comma or } is expected before %.*s",
					   SPAN_FMT(t->at->text));
	}
	return true;
}

static bool
read_value(struct tree *t, struct setting *setting)
{
	const struct directive *d = setting->directive;
	const struct token *value = next(t);

	if (value->kind == TOKEN_OPEN) {
		if (!d->type->list)
			return config_fail(t->load, value->at, "%s takes one value, not a list",
					   d->name);
		return read_list(t, setting);
	}
	if (!is_text(value))
		return config_fail(t->load, setting->at,
				   "%s = must be followed by its value, not by %.*s", d->name,
				   SPAN_FMT(value->text));
	setting->count = 1;
	write_value(t, value);
	if (t->at->kind == TOKEN_COMMA && d->type->list)
		return config_fail(t->load, t->at->at,
				   "a list stands in braces: %s = {\"a\", \"b\"}", d->name);
	if (t->at->kind == TOKEN_COMMA)
		return config_fail(t->load, t->at->at, "%s takes one value; remove the comma",
				   d->name);
	return true;
}

static bool
read_setting(struct tree *t, const struct token *name, const struct directive *directive)
{
	struct load *l = t->load;
	struct setting setting = { .directive = directive, .at = name->at, .section = t->section };

	for (size_t i = l->setting_count; i > 0 && l->settings[i - 1].section == t->section; i--)
		if (l->settings[i - 1].directive == directive)
			return config_fail(l, name->at,
					   "%s is set a second time (first in %s:%d); remove one",
					   directive->name, l->settings[i - 1].at.file,
					   l->settings[i - 1].at.line);
	for (size_t i = 0; t->section == 0 && i < l->setting_count; i++)
		if (l->settings[i].directive == directive)
			return config_fail(
			    l, name->at, "%s is set a second time (first in %s:%d); remove one",
			    directive->name, l->settings[i].at.file, l->settings[i].at.line);
	if (t->at->kind != TOKEN_EQUAL)
		return config_fail(l, name->at, "a = is missing behind %s", directive->name);
	next(t);
	buf_printf(&l->text, "%s={", directive->name);
	if (!read_value(t, &setting))
		return false;
	buf_append(&l->text, SPAN("}\n"));
	l->settings =
	    config_grow(l->settings, l->setting_count, &l->setting_cap, sizeof(*l->settings));
	l->settings[l->setting_count++] = setting;
	return true;
}

/* ---- sections ----------------------------------------------------------------------------- */

static bool
add_section(struct tree *t, enum section_kind kind, struct place at)
{
	struct load *l = t->load;
	struct section section = { .kind = kind, .at = at };

	for (size_t i = 0; i < l->section_count; i++) {
		if (l->sections[i].kind != kind)
			continue;
		if (section_types[kind].titled == NULL)
			return config_fail(
			    l, at, "there is a second %s { } (the first in %s:%d); put all in one",
			    section_types[kind].name, l->sections[i].at.file,
			    l->sections[i].at.line);
		section.index = l->sections[i].index + 1;
	}
	l->sections =
	    config_grow(l->sections, l->section_count, &l->section_cap, sizeof(*l->sections));
	t->section = l->section_count;
	l->sections[l->section_count++] = section;
	return true;
}

static bool
read_section(struct tree *t, const struct token *name, enum section_kind kind)
{
	const struct section_type *type = &section_types[kind];
	const struct token *title = is_text(t->at) ? next(t) : NULL;

	if (type->titled != NULL && title == NULL)
		return config_fail(t->load, name->at, "%s needs a name: %s %s { … }", type->name,
				   type->name, type->titled);
	if (type->titled == NULL && title != NULL)
		return config_fail(t->load, title->at, "%s takes no name; write %s { … }",
				   type->name, type->name);
	if (t->at->kind != TOKEN_OPEN)
		return config_fail(t->load, name->at, "a { is missing behind %s%s%.*s", type->name,
				   title ? " " : "", title ? (int)title->text.len : 0,
				   title ? title->text.at : "");
	next(t);
	if (!add_section(t, kind, name->at))
		return false;
	buf_printf(&t->load->text, "%s {\n", type->name);
	if (title != NULL) {
		buf_append(&t->load->text, SPAN("title={"));
		write_value(t, title);
		buf_append(&t->load->text, SPAN("}\n"));
	}
	return true;
}

static bool
read_item(struct tree *t)
{
	const struct token *token = next(t);
	const struct directive *directive;
	enum section_kind kind;

	if (token->kind == TOKEN_CLOSE && t->section != 0) {
		buf_append(&t->load->text, SPAN("}\n"));
		t->section = 0;
		return true;
	}
	if (token->kind != TOKEN_WORD)
		return config_fail(t->load, token->at, "a directive is expected here, not %s%.*s%s",
				   token->kind == TOKEN_STRING ? "\"" : "", SPAN_FMT(token->text),
				   token->kind == TOKEN_STRING ? "\"" : "");
	directive = find_directive(current(t), token->text);
	if (directive != NULL)
		return read_setting(t, token, directive);
	kind = find_section(token->text);
	if (kind != SECTION_TOP && current(t) == SECTION_TOP)
		return read_section(t, token, kind);
	return unknown_word(t, token);
}

bool
config_tree(struct load *load)
{
	struct tree t = { .load = load, .at = load->tokens };

	if (!add_section(&t, SECTION_TOP, t.at->at))
		return false;
	while (t.at->kind != TOKEN_END)
		if (!read_item(&t))
			return false;
	return true;
}

/* ---- for what reads the result ------------------------------------------------------------ */

const struct section *
config_section(const struct load *load, enum section_kind kind, size_t index)
{
	for (size_t i = 0; i < load->section_count; i++)
		if (load->sections[i].kind == kind && load->sections[i].index == index)
			return &load->sections[i];
	return NULL;
}

bool
config_place(const struct load *load, const char *const *names, enum section_kind kind,
	     size_t index, struct place *ret)
{
	bool found = false;

	for (size_t i = 0; i < load->setting_count; i++) {
		const struct setting *setting = &load->settings[i];
		const struct section *section = &load->sections[setting->section];

		if (section->kind != kind || section->index != index)
			continue;
		for (const char *const *name = names; *name != NULL; name++) {
			if (!span_eq(span_str(*name), span_str(setting->directive->name)))
				continue;
			*ret = setting->at;
			found = true;
		}
	}
	return found;
}
