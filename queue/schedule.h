/*
 * schedule: when to try again (pure; now is an argument, chance too). Milliseconds of wall time.
 */
#ifndef TRAM_QUEUE_SCHEDULE_H
#define TRAM_QUEUE_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

struct schedule_config {
	int64_t retry_first_ms, retry_max_ms;		/* 5 min, 4 h */
	int64_t lifetime_ms;				/* 5 d */
	int64_t report_lifetime_ms;			/* of bounces: as lifetime unless set */
	int64_t delay_warning_ms;			/* 4 h; 0: none */
	int64_t probe_first_ms, probe_max_ms;		/* of a site: 1 min, 15 min */
};

/*
 * Due time after the attempts-th own attempt (1 = the first), ± 10 % by chance (any 32 bits); the
 * first wait + 0 to 20 %.
 */
int64_t schedule_retry(const struct schedule_config *c, uint32_t attempts, int64_t now_ms,
		       uint32_t chance);
/* Next probe of a site after failures in a row (1 = the first), ± 10 %. */
int64_t schedule_probe(const struct schedule_config *c, uint32_t failures, int64_t now_ms,
		       uint32_t chance);

#endif
