/*
 * traffic: how much mail goes out of something (a site, a tenant): counters since it is known, and
 * a rate over the last seconds and the last minute. The rate is that of this window and of the part
 * of the one before that is not yet passed, as if that had been even: nothing is stored for each
 * message. Pure; times are monotonic.
 */
#ifndef TRAM_TRAFFIC_H
#define TRAM_TRAFFIC_H

#include <stdint.h>

enum { TRAFFIC_SHORT_MS = 10000, TRAFFIC_LONG_MS = 60000 };

struct flow { int64_t began_ms; uint32_t now, before; };

enum traffic_end { TRAFFIC_DELIVERED, TRAFFIC_DEFERRED, TRAFFIC_FAILED, TRAFFIC_ENDS };

struct traffic {			/* zeroed: nothing yet */
	uint64_t count[TRAFFIC_ENDS];	/* recipients */
	struct flow recent, minute;	/* of what was delivered */
};

void traffic_note(struct traffic *traffic, enum traffic_end end, int64_t now_ms);
/* Recipients delivered in the last TRAFFIC_SHORT_MS, and in the last minute: about. */
uint64_t traffic_recent(const struct traffic *traffic, int64_t now_ms);
uint64_t traffic_minute(const struct traffic *traffic, int64_t now_ms);

#endif
