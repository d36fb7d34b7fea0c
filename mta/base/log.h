/*
 * log: one line per event, fixed keys in fixed order, written by a thread of its own.
 *
 * A line is built on the caller's stack and copied to a bounded ring; a caller never blocks, and
 * what does not fit is counted and reported as `event=log-lost lines=N` once there is room.
 * Format: logfmt, or JSON.
 *
 *	struct log_line l;
 *	log_begin(&l, LOG_INFO, "accept");	→ time=2026-11-21T03:47:35.123Z level=info
 *						  event=accept
 *	log_id(&l, "id", id);			→ id=…
 *	log_span(&l, "from", path);		→ from=a@b    (quoted and escaped as needed)
 *	log_end(&l);
 *
 * Levels below the configured one cost a comparison. The only global state of the program. Any
 * thread.
 */
#ifndef TRAM_BASE_LOG_H
#define TRAM_BASE_LOG_H

#include "mta/base/netaddr.h"
#include "mta/base/reply.h"
#include "mta/base/span.h"

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_LOGFMT, LOG_JSON };

enum { LOG_LINE_MAX = 4096 };		/* a longer line is cut and ends in " cut=yes" */

struct log_line {
	bool on;			/* the level is enabled */
	bool cut, json;
	size_t len;
	char at[LOG_LINE_MAX];
};

struct log_config {
	enum log_level level;
	enum log_format format;
	const char *path;		/* NULL: standard error; reopened by log_reopen() */
	size_t ring_octets;		/* bound of what waits to be written; fixed at the start */
	uint32_t uid, gid;		/* whose the file becomes that root opens; 0: root's */
};

/* 0 or negative errno (path cannot be opened) */
int log_start(const struct log_config *config);
/* after a reload; path and level may change */
int log_configure(const struct log_config *config);
void log_reopen(void);					/* SIGUSR1: asks the log thread */
/* writes what waits (at most 2 s) and ends the thread */
void log_stop(void);
uint64_t log_lost(void);				/* lines lost since start */
/* Before log_start() and after log_stop() lines go straight to standard error. */

/* false: not enabled */
bool log_begin(struct log_line *line, enum log_level level, const char *event);
void log_str(struct log_line *line, const char *key, const char *value);
void log_span(struct log_line *line, const char *key, struct span value);
void log_i64(struct log_line *line, const char *key, int64_t value);
void log_u64(struct log_line *line, const char *key, uint64_t value);
void log_id(struct log_line *line, const char *key, uint64_t id);
/* with its port */
void log_addr(struct log_line *line, const char *key, const struct netaddr *addr);
void log_reply(struct log_line *line, const char *key, const struct reply *reply);
/* its name and text */
void log_errno(struct log_line *line, const char *key, int negative_errno);
void log_end(struct log_line *line);

/* event=… msg="…" for what has no keys of its own. */
void log_message(enum log_level level, const char *event, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Between log_line.c, which builds lines, and log.c, which has them written. */
void log_line_shape(enum log_level level, enum log_format format);
/* whatever the level */
void log_line_open(struct log_line *line, enum log_level level, const char *event);
void log_line_close(struct log_line *line);
bool log_hand_over(struct span line);	/* true: the log thread has it, or it is counted as lost */

#endif
