/*
 * address: lists of addresses as people and programs write them (RFC 5322 §3.4), in one pass.
 * Pure.
 *
 * What is taken is the octets of each address, without names, comments and blanks; whether it is
 * a good address is the daemon's to say. Nothing here recurses: comments are counted, not
 * descended into.
 */
#include "mta/base/address.h"
#include "mta/sendmail/sendmail.h"

struct scan {
	struct buf plain;		/* what stands outside of angle brackets */
	struct buf angle;
	bool saw_angle, in_angle;
	/* a blank came: "jo @ example.org" is an address, "jo doe" is none */
	bool gap;
};

static void
scan_clear(struct scan *s)
{
	buf_clear(&s->plain);
	buf_clear(&s->angle);
	s->saw_angle = s->in_angle = s->gap = false;
}

/* Length of a quoted string or comment at the start of list, brackets included. */
static size_t
skip_quoted(struct span list)
{
	size_t i = 1;

	while (i < list.len && list.at[i] != '"')
		i += list.at[i] == '\\' ? 2 : 1;
	return i < list.len ? i + 1 : list.len;
}

static size_t
skip_comment(struct span list)
{
	size_t depth = 0, i = 0;

	while (i < list.len) {
		if (list.at[i] == '\\')
			i++;
		else if (list.at[i] == '(')
			depth++;
		else if (list.at[i] == ')' && --depth == 0)
			return i + 1;
		i++;
	}
	return list.len;
}

/* "@a,@b:jo@example.org" is a route: what counts stands behind the colon. */
static struct span
without_route(struct span address)
{
	const char *colon =
		address.len > 0 && address.at[0] == '@' ? span_find(address, ':') : NULL;

	return colon == NULL ? address : span_skip(address, (size_t)(colon - address.at) + 1);
}

static bool
clean(struct span address)
{
	bool quoted = false, escaped = false;

	for (size_t i = 0; i < address.len; i++) {
		unsigned char c = (unsigned char)address.at[i];

		if (c < ' ' || c == 0x7f || (!quoted && (c == ' ' || c == '<' || c == '>')))
			return false;
		if (c == '"' && !escaped)
			quoted = !quoted;
		escaped = quoted && c == '\\' && !escaped;
	}
	return address.len <= ADDRESS_PATH_MAX;
}

static void
grow(struct sendmail_addresses *to, struct arena *arena)
{
	struct span *wider;

	if (to->count < to->cap)
		return;
	to->cap = to->cap == 0 ? 16 : to->cap * 2;
	wider = arena_alloc(arena, to->cap * sizeof(*wider));
	if (to->count > 0)
		memcpy(wider, to->list, to->count * sizeof(*wider));
	to->list = wider;
}

/* One item of the list has ended. */
static bool
take(struct sendmail_addresses *to, struct scan *s, struct arena *arena, struct span *bad)
{
	struct span address = without_route(buf_span(s->saw_angle ? &s->angle : &s->plain));

	*bad = arena_copy(arena, address);
	if (s->in_angle || !clean(address) || to->count == SENDMAIL_ADDRESSES_MAX)
		return false;
	if (address.len > 0) {
		grow(to, arena);
		to->list[to->count++] = *bad;
	}
	scan_clear(s);
	return true;
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void
put(struct scan *s, char c)
{
	struct span before = buf_span(&s->plain);

	if (!s->in_angle && s->gap && before.len > 0 && memchr(".@", c, 2) == NULL &&
	    memchr(".@", before.at[before.len - 1], 2) == NULL)
		buf_byte(&s->plain, ' ');
	s->gap = false;
	buf_byte(s->in_angle ? &s->angle : &s->plain, c);
}

/*
 * One octet, or one quoted string or comment: how many octets; 0 if an item has ended and is no
 * address.
 */
static size_t
step(struct scan *s, struct span list, struct sendmail_addresses *to, struct arena *arena,
     struct span *bad)
{
	struct buf *into = s->in_angle ? &s->angle : &s->plain;
	char c = list.at[0];
	size_t n = 1;

	if (c == '(') {
		n = skip_comment(list);
	} else if (c == '"') {
		n = skip_quoted(list);
		buf_append(into, span_first(list, n));
	} else if (c == '<' && !s->in_angle) {
		s->saw_angle = s->in_angle = true;
		buf_clear(&s->angle);
	} else if (c == '>' && s->in_angle) {
		s->in_angle = false;
	} else if (is_blank(c)) {
		s->gap = !s->in_angle;
	} else if (c == ':' && !s->in_angle && span_find(buf_span(&s->plain), '[') == NULL) {
		buf_clear(&s->plain);			/* a group's name */
	} else if ((c == ',' && !s->in_angle) || c == ';') {
		n = take(to, s, arena, bad) ? 1 : 0;
	} else {
		put(s, c);
	}
	return n;
}

bool
sendmail_addresses_add(struct sendmail_addresses *to, struct span list, struct arena *arena,
		       struct span *bad)
{
	struct scan s = { 0 };
	bool ok = true;

	while (list.len > 0 && ok) {
		size_t n = step(&s, list, to, arena, bad);

		ok = n > 0;
		list = span_skip(list, n);
	}
	ok = ok && take(to, &s, arena, bad);
	buf_free(&s.plain);
	buf_free(&s.angle);
	return ok;
}
