/*
 * scan: the configuration's files → tokens, each with its place. Includes are spliced in
 * where they stand.
 *
 * Promises the later parts: every brace is closed in the file that opened it; no string runs
 * over a line's end; no control octets; every ${VARIABLE} is set or has a default. Strings come
 * out escaped as libConfuse reads them.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mta/base/address.h"
#include "mta/config/private.h"

enum { FILE_MAX = 4 << 20, INCLUDE_MAX = 10, BRACES_MAX = 8 };

struct scanner {
	struct load *load;
	struct span rest;
	struct place at;
	struct place open[BRACES_MAX];
	size_t depth;
	const struct scanner *from; /* the file that includes this one */
	size_t level;
	dev_t device; /* of the file: the same one again below itself is a loop */
	ino_t inode;
};

static bool scan(struct scanner *s);

static bool
is_word(char c)
{
	return strchr(" \t\r\n#\"'{}()+,*=;", c) == NULL;
}

static void
add_token(struct scanner *s, enum token_kind kind, struct span text)
{
	struct load *l = s->load;

	l->tokens = config_grow(l->tokens, l->token_count, &l->token_cap, sizeof(*l->tokens));
	l->tokens[l->token_count++] = (struct token){ kind, s->at, text };
}

static const struct token *
last_token(const struct scanner *s)
{
	return s->load->token_count == 0 ? NULL : &s->load->tokens[s->load->token_count - 1];
}

/* s->rest starts with "${". True: *len octets, to the brace. */
static bool
check_variable(struct scanner *s, struct span text, size_t *len)
{
	const char *end = span_find(text, '}'), *newline = span_find(text, '\n');
	struct span inner, name;

	if (end == NULL || (newline != NULL && newline < end))
		return config_fail(
		    s->load, s->at,
		    "${ has no closing } on this line; write \"${NAME}\" or \"${NAME:-default}\"");
	inner = span_of(text.at + 2, (size_t)(end - text.at) - 2);
	*len = inner.len + 3;
	name = inner;
	while (name.len > 0 && !(name.at[0] >= '0' && name.at[0] <= '9' && name.at == inner.at) &&
	       (name.at[0] == '_' ||
		(ascii_lower(name.at[0]) >= 'a' && ascii_lower(name.at[0]) <= 'z') ||
		(name.at[0] >= '0' && name.at[0] <= '9')))
		name = span_skip(name, 1);
	if (name.len == inner.len || (name.len > 0 && !span_starts(name, SPAN(":-"))) ||
	    span_find(name, '"') != NULL || span_find(name, '\\') != NULL)
		return config_fail(
		    s->load, s->at,
		    "${%.*s} is not a variable; write \"${NAME}\" or \"${NAME:-default}\"",
		    SPAN_FMT(inner));
	if (name.len == 0 && getenv(arena_str(&s->load->config->arena, inner)) == NULL)
		return config_fail(
		    s->load, s->at,
		    "the environment has no variable %.*s; set it, or write \"${%.*s:-default}\"",
		    SPAN_FMT(inner), SPAN_FMT(inner));
	return true;
}

/* s->rest stands behind the opening quote. */
static bool
scan_double(struct scanner *s)
{
	struct span text = s->rest;
	size_t i = 0, len = 0;

	for (;; i++) {
		if (i == text.len || text.at[i] == '\n')
			return config_fail(s->load, s->at,
					   "this string has no closing \" on its line; add it");
		if (text.at[i] == '"')
			break;
		if (text.at[i] == '\\') {
			i++;
			if (i == text.len || strchr("\\\"$", text.at[i]) == NULL)
				return config_fail(s->load, s->at,
						   "a backslash in a string must be written \\\\ "
						   "(and a quote \\\", a "
						   "dollar sign \\$)");
		} else if (span_starts(span_skip(text, i), SPAN("${"))) {
			if (!check_variable(s, span_skip(text, i), &len))
				return false;
			i += len - 1;
		}
	}
	add_token(s, TOKEN_STRING, span_first(text, i));
	s->rest = span_skip(text, i + 1);
	return true;
}

/* Text that means itself, escaped for libConfuse's double quotes. */
static struct span
escaped(struct scanner *s, struct span text)
{
	char *out = arena_alloc(&s->load->config->arena, 2 * text.len + 1);
	size_t len = 0;

	for (size_t i = 0; i < text.len; i++) {
		if (strchr("\\\"$", text.at[i]) != NULL)
			out[len++] = '\\';
		out[len++] = text.at[i];
	}
	return span_of(out, len);
}

static bool
scan_single(struct scanner *s)
{
	size_t i = 0;

	while (i < s->rest.len && s->rest.at[i] != '\'' && s->rest.at[i] != '\n')
		i++;
	if (i == s->rest.len || s->rest.at[i] == '\n')
		return config_fail(s->load, s->at,
				   "this string has no closing ' on its line; add it");
	add_token(s, TOKEN_STRING, escaped(s, span_first(s->rest, i)));
	s->rest = span_skip(s->rest, i + 1);
	return true;
}

static bool
scan_word(struct scanner *s)
{
	size_t i = 0, len = 0;

	while (i < s->rest.len && is_word(s->rest.at[i]))
		i++;
	if (i > 0 && i < s->rest.len && s->rest.at[i] == '{' && s->rest.at[i - 1] == '$') {
		if (i > 1)
			return config_fail(
			    s->load, s->at,
			    "text with a variable in it stands in quotes: \"%.*s{…}\"",
			    SPAN_FMT(span_first(s->rest, i)));
		if (!check_variable(s, s->rest, &len))
			return false;
		add_token(s, TOKEN_STRING, span_first(s->rest, len));
		s->rest = span_skip(s->rest, len);
		return true;
	}
	add_token(s, TOKEN_WORD, span_first(s->rest, i));
	s->rest = span_skip(s->rest, i);
	return true;
}

static bool
scan_brace(struct scanner *s, char c)
{
	if (c == '}') {
		if (s->depth == 0)
			return config_fail(
			    s->load, s->at,
			    "this } closes nothing; remove it, or add the { that it belongs to");
		s->depth--;
	} else {
		if (s->depth == BRACES_MAX)
			return config_fail(s->load, s->at,
					   "braces are nested too deeply; is a } missing above?");
		s->open[s->depth++] = s->at;
	}
	add_token(s, c == '{' ? TOKEN_OPEN : TOKEN_CLOSE, span_of(c == '{' ? "{" : "}", 1));
	s->rest = span_skip(s->rest, 1);
	return true;
}

static bool
skip_block_comment(struct scanner *s)
{
	struct place start = s->at;

	for (s->rest = span_skip(s->rest, 2); !span_starts(s->rest, SPAN("*/"));
	     s->rest = span_skip(s->rest, 1)) {
		if (s->rest.len == 0)
			return config_fail(s->load, start, "this comment has no end; add */");
		if (s->rest.at[0] == '\n')
			s->at.line++;
	}
	s->rest = span_skip(s->rest, 2);
	return true;
}

/* Blanks and comments. */
static bool
skip_blanks(struct scanner *s)
{
	while (s->rest.len > 0) {
		char c = s->rest.at[0];

		if (span_starts(s->rest, SPAN("/*"))) {
			if (!skip_block_comment(s))
				return false;
		} else if (c == '#' || span_starts(s->rest, SPAN("//"))) {
			const char *end = span_find(s->rest, '\n');

			s->rest =
			    span_skip(s->rest, end ? (size_t)(end - s->rest.at) : s->rest.len);
		} else if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
			s->at.line += c == '\n';
			s->rest = span_skip(s->rest, 1);
		} else {
			break;
		}
	}
	return true;
}

/* s->rest.len > 0, at a token's first octet. */
static bool
scan_token(struct scanner *s)
{
	char c = s->rest.at[0];

	switch (c) {
	case '"':
		s->rest = span_skip(s->rest, 1);
		return scan_double(s);
	case '\'':
		s->rest = span_skip(s->rest, 1);
		return scan_single(s);
	case '{':
	case '}':
		return scan_brace(s, c);
	case '=':
	case ',':
		add_token(s, c == '=' ? TOKEN_EQUAL : TOKEN_COMMA, span_first(s->rest, 1));
		s->rest = span_skip(s->rest, 1);
		return true;
	case ';':
		return config_fail(s->load, s->at, "nothing ends in a ; here; remove it");
	case '+':
		if (span_starts(s->rest, SPAN("+=")))
			return config_fail(
			    s->load, s->at,
			    "a list cannot be added to; write it whole in one place: "
			    "name = {\"a\", \"b\"}");
		return config_fail(s->load, s->at, "text with a + in it stands in double quotes");
	case '(':
	case ')':
	case '*':
		return config_fail(s->load, s->at, "text with a %c in it stands in double quotes",
				   c);
	default:
		return scan_word(s);
	}
}

/* ---- files -------------------------------------------------------------------------------- */

/* The whole file, in the arena. The error, if any, is told at the place that named the file. */
static bool
read_file(struct scanner *s, struct place named, struct span *ret)
{
	char room[FILES_PATH_MAX];
	int fd = open(files_at(s->load->files, s->at.file, room),
		      O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	const char *why = NULL;
	struct stat st = { 0 };
	size_t len = 0;
	ssize_t n = 0;
	char *at;

	if (fd < 0 || fstat(fd, &st) < 0)
		why = strerror(errno);
	else if (!S_ISREG(st.st_mode))
		why = S_ISDIR(st.st_mode) ? "it is a directory" : "it is not a file";
	else if (st.st_size > FILE_MAX)
		why = "it is larger than 4 MB, so it is no configuration";
	if (why == NULL) {
		at = arena_alloc(&s->load->config->arena, (size_t)st.st_size + 1);
		while (len < (size_t)st.st_size &&
		       (n = read(fd, at + len, (size_t)st.st_size - len)) > 0)
			len += (size_t)n;
		if (n < 0)
			why = strerror(errno);
		*ret = span_of(at, len);
	}
	if (why != NULL && s->from == NULL && s->load->rc == 0)
		s->load->rc = fd < 0 ? -errno : -EINVAL;
	if (fd >= 0)
		close(fd);
	if (why == NULL)
		config_note_file(s->load->config, s->at.file);
	s->device = st.st_dev;
	s->inode = st.st_ino;
	return why == NULL ||
	       config_fail(s->load, named, "cannot read %s: %s; check its name and permissions",
			   s->from ? s->at.file : "it", why);
}

/* "include" has been read; its file's name is the next token. */
static bool
scan_include(struct scanner *s)
{
	struct load *l = s->load;
	struct scanner inner = { .load = l, .from = s, .level = s->level + 1, .at.line = 1 };
	struct place named = l->tokens[l->token_count - 2].at;
	struct span name = l->tokens[l->token_count - 1].text;
	const char *slash = strrchr(s->at.file, '/');
	int folder = slash == NULL || name.at[0] == '/' ? 0 : (int)(slash - s->at.file) + 1;

	l->token_count -= 2;
	if (!l->may_include)
		return config_fail(l, named,
				   "include stands in files only; write its content here");
	if (span_find(name, '$') != NULL || span_find(name, '\\') != NULL)
		return config_fail(l, named, "include takes a plain file name, without $ and \\");
	if (inner.level > INCLUDE_MAX)
		return config_fail(l, named,
				   "includes are nested more than %d deep; put them in one file",
				   INCLUDE_MAX);
	inner.at.file =
	    arena_printf(&l->config->arena, "%.*s%.*s", folder, s->at.file, SPAN_FMT(name)).at;
	if (!read_file(&inner, named, &inner.rest))
		return false;
	for (const struct scanner *up = s; up != NULL; up = up->from)
		if (up->device == inner.device && up->inode == inner.inode)
			return config_fail(l, named, "%s includes itself%s; remove one include",
					   inner.at.file, up == s ? "" : " by way of others");
	return scan(&inner);
}

/* Any octet that cannot stand in a configuration. */
static bool
check_octets(struct scanner *s)
{
	struct place at = s->at;

	for (size_t i = 0; i < s->rest.len; i++) {
		unsigned char c = (unsigned char)s->rest.at[i];

		if (c == '\n')
			at.line++;
		else if ((c < ' ' && c != '\t' && c != '\r') || c == 0x7f)
			return config_fail(
			    s->load, at,
			    "there is a control octet (0x%02x) in the file; is it a text file?", c);
	}
	return utf8_valid(s->rest) ||
	       config_fail(s->load, s->at,
			   "the file is not UTF-8; convert it, e.g. with iconv -f latin1 -t utf-8");
}

/* Is what was read last a file's name behind "include"? (`user = include` is not.) */
static bool
at_include(const struct scanner *s, size_t first)
{
	const struct token *t = s->load->tokens;
	size_t n = s->load->token_count;

	return n >= first + 2 && (t[n - 1].kind == TOKEN_STRING || t[n - 1].kind == TOKEN_WORD) &&
	       t[n - 1].text.len > 0 && t[n - 2].kind == TOKEN_WORD &&
	       span_eq(t[n - 2].text, SPAN("include")) &&
	       (n == first + 2 || t[n - 3].kind != TOKEN_EQUAL);
}

static bool
scan(struct scanner *s)
{
	size_t first = s->load->token_count;

	if (span_starts(s->rest, SPAN("\xef\xbb\xbf")))
		s->rest = span_skip(s->rest, 3);
	if (!check_octets(s))
		return false;
	while (skip_blanks(s) && s->rest.len > 0)
		if (!scan_token(s) || (at_include(s, first) && !scan_include(s)))
			return false;
	if (s->load->rc < 0)
		return false;
	if (s->depth > 0)
		return config_fail(s->load, s->open[s->depth - 1],
				   "the { in this line is never closed; add its }");
	if (s->from == NULL && last_token(s) == NULL) {
		s->at.line = 1;
		return config_fail(s->load, s->at,
				   "there is nothing in it; at least a listener, relay-from or "
				   "relay-to, and a route are needed");
	}
	if (s->from == NULL)
		add_token(s, TOKEN_END, SPAN("the end of the file"));
	return true;
}

bool
config_scan_file(struct load *load, const char *path)
{
	struct scanner s = { .load = load, .at = { path, 1 } };

	return read_file(&s, (struct place){ path, 0 }, &s.rest) && scan(&s);
}

bool
config_scan_text(struct load *load, struct span text, const char *name)
{
	struct scanner s = { .load = load, .at = { name, 1 }, .rest = text };

	return scan(&s);
}
