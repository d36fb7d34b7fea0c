/*
 * service: what tramd says to whoever started it (systemd's notify protocol), and what it owes as
 * process 1 of a container. Home loop.
 */
#ifndef TRAM_SERVICE_H
#define TRAM_SERVICE_H

#include <stdbool.h>

#include <uv.h>

#include "mta/keeper/link.h"

/*
 * Before the first thread: a signal that comes during the start waits until service_hear_signals(),
 * when somebody listens (process 1 would never get it), and only the main thread is interrupted.
 */
void service_hold_signals(void);
void service_hear_signals(void);

/* Two processes: what is told goes by the keeper. link lives on. */
void service_tell_by(const struct keeper_link *link);
void service_notify(const char *state);		/* "READY=1"; nothing if nobody wants to know */

/* Tells that this loop turns, as often as the service manager wants (WatchdogSec=). */
void service_watch(uv_timer_t *timer, uv_loop_t *loop);

#endif
