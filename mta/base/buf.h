/*
 * buf: octets that grow at the end and are consumed at the front.
 *
 * A zeroed buf is a valid empty one. Consuming moves a mark; the room is used again once all is
 * consumed. Aborts when memory is gone (the caller has met the limit before). One thread at a
 * time.
 */
#ifndef TRAM_BASE_BUF_H
#define TRAM_BASE_BUF_H

#include <stdarg.h>

#include "mta/base/span.h"

struct buf {
	char *at;		/* the allocation */
	size_t start, end;	/* what is unread: at[start .. end) */
	size_t cap;
};

static inline struct span
buf_span(const struct buf *b)
{
	return (struct span){ b->at ? b->at + b->start : "", b->end - b->start };
}

static inline size_t
buf_len(const struct buf *b)
{
	return b->end - b->start;
}

void buf_append(struct buf *b, struct span s);
void buf_byte(struct buf *b, char c);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *format, va_list ap)
	__attribute__((format(printf, 2, 0)));
/* at least room octets behind the end; then buf_grew() */
char *buf_reserve(struct buf *b, size_t room);
void buf_grew(struct buf *b, size_t n);
void buf_consume(struct buf *b, size_t n);
void buf_clear(struct buf *b);				/* empty, keeps the room */
void buf_free(struct buf *b);				/* empty, gives the room back */

#endif
