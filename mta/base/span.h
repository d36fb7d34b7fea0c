/*
 * span: a piece of somebody else's bytes, passed by value.
 *
 * Bytes from the wire are never C strings: they may hold any octet and need not end in NUL. A
 * span owns nothing; whoever holds the bytes (an arena, a buf, the receive buffer) decides how
 * long it is good. Any thread.
 */
#ifndef TRAM_BASE_SPAN_H
#define TRAM_BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
	const char *at;
	size_t len;
};

#define SPAN(literal) ((struct span){ "" literal, sizeof(literal) - 1 })
#define SPAN_FMT(s) (int)(s).len, (s).at		/* for "%.*s"; s is evaluated twice */

static inline struct span
span_of(const void *at, size_t len)
{
	return (struct span){ at, len };
}

static inline struct span
span_str(const char *s)
{
	return (struct span){ s, s ? strlen(s) : 0 };
}

static inline struct span
span_skip(struct span s, size_t n)
{
	if (s.len == 0)
		return s;		/* NULL may not be added to */
	return n >= s.len ? (struct span){ s.at + s.len, 0 } : (struct span){ s.at + n, s.len - n };
}

static inline struct span
span_first(struct span s, size_t n)
{
	return (struct span){ s.at, n < s.len ? n : s.len };
}

static inline bool
span_eq(struct span a, struct span b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

static inline char
ascii_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

bool span_ieq(struct span a, struct span b);			/* ASCII letters alike */
bool span_starts(struct span s, struct span prefix);
bool span_istarts(struct span s, struct span prefix);
bool span_ends(struct span s, struct span suffix);
bool span_is_ascii(struct span s);				/* no octet above 127 */
struct span span_trim(struct span s);				/* blanks and tabs at both ends */

/* The first c, or NULL. */
const char *span_find(struct span s, char c);

/*
 * Cuts *s at the first c: returns what stood before it and leaves what follows. Without a c the
 * whole is returned and *s is empty.
 */
struct span span_cut(struct span *s, char c);

/* Decimal digits only, at least one, no sign; false (and *ret untouched) if not, or above max. */
bool span_to_u64(struct span s, uint64_t max, uint64_t *ret);

#endif
