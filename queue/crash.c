/*
 * crash: named points at which a test lets the process die; in other builds this file is empty.
 * See writer.h.
 */
#include "queue/writer.h"

#ifdef TRAM_FAULTS
#include <signal.h>
#include <stdlib.h>

void
queue_crash_point(const char *name)
{
	/* the writer's thread only, or the one that opens */
	static unsigned passed;
	const char *wanted = getenv("TRAM_CRASH_AT");
	struct span point, text = span_str(wanted);
	uint64_t times = 1;

	if (wanted == NULL)
		return;
	point = span_cut(&text, ':');
	if (!span_eq(point, span_str(name)))
		return;
	if (text.len > 0 && !span_to_u64(text, UINT32_MAX, &times))
		return;
	if (++passed == times)
		raise(SIGKILL);
}
#endif
