/*
 * id: the name of a message in the queue; the same in the reply to the final dot, the Received
 * line, the log.
 *
 * 64 bits: milliseconds since 1970 (48) and a running number (16), so that ids grow with time.
 * Printed as 13 letters and digits of Crockford's base 32 in lower case, which sort like the ids. 0
 * is no id.
 */
#ifndef TRAM_BASE_ID_H
#define TRAM_BASE_ID_H

#include "mta/base/span.h"

enum { ID_TEXT_LEN = 13 };

char *id_format(uint64_t id, char out[ID_TEXT_LEN + 1]);	/* returns out */
bool id_parse(struct span text, uint64_t *ret);			/* exactly 13, either case */

static inline uint64_t
id_at(int64_t wall_ms)						/* the smallest id of that moment */
{
	return wall_ms < 0 ? 0 : (uint64_t)wall_ms << 16;
}

static inline int64_t
id_time_ms(uint64_t id)
{
	return (int64_t)(id >> 16);
}

#endif
