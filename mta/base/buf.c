/* buf: see buf.h. */
#include "mta/base/buf.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "mta/base/arena.h"

char *
buf_reserve(struct buf *b, size_t room)
{
	if (b->at != NULL && b->cap - b->end >= room)
		return b->at + b->end;
	if (b->at != NULL && b->start > 0) {
		memmove(b->at, b->at + b->start, b->end - b->start);
		b->end -= b->start;
		b->start = 0;
	}
	if (b->cap - b->end < room) {
		size_t cap = b->cap ? b->cap : 256;

		while (cap - b->end < room)
			cap *= 2;
		b->at = xrealloc(b->at, cap);
		b->cap = cap;
	}
	return b->at + b->end;
}

void
buf_grew(struct buf *b, size_t n)
{
	assert(n <= b->cap - b->end);
	b->end += n;
}

void
buf_append(struct buf *b, struct span s)
{
	if (s.len == 0)
		return;
	memcpy(buf_reserve(b, s.len), s.at, s.len);
	b->end += s.len;
}

void
buf_byte(struct buf *b, char c)
{
	*buf_reserve(b, 1) = c;
	b->end++;
}

void
buf_vprintf(struct buf *b, const char *format, va_list ap)
{
	char room[256];			/* most fits: it is formatted once only */
	va_list again;
	int len;

	va_copy(again, ap);
	len = vsnprintf(room, sizeof(room), format, again);
	va_end(again);
	if (len < 0)
		abort();
	if ((size_t)len < sizeof(room)) {
		buf_append(b, span_of(room, (size_t)len));
		return;
	}
	vsnprintf(buf_reserve(b, (size_t)len + 1), (size_t)len + 1, format, ap);
	b->end += (size_t)len;
}

void
buf_printf(struct buf *b, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	buf_vprintf(b, format, ap);
	va_end(ap);
}

void
buf_consume(struct buf *b, size_t n)
{
	assert(n <= b->end - b->start);
	b->start += n;
	if (b->start == b->end)
		b->start = b->end = 0;
}

void
buf_clear(struct buf *b)
{
	b->start = b->end = 0;
}

void
buf_free(struct buf *b)
{
	free(b->at);
	*b = (struct buf){ 0 };
}
