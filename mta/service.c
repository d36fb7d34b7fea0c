/* service: see service.h. The only file with <systemd/sd-daemon.h>. */
#include "mta/service.h"

#include <signal.h>
#include <stdint.h>
#include <unistd.h>
#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

static sigset_t
our_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	return set;
}

/* How often systemd wants a sign of life of this process, not of one that it forks later. */
static uint64_t watchdog_us;
static const struct keeper_link *teller;	/* of two processes, the one that systemd knows */

void
service_hold_signals(void)
{
	sigset_t set = our_signals();

	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	/* Orphans of the container become children of process 1; the kernel buries them then. */
	signal(SIGCHLD, getpid() == 1 ? SIG_IGN : SIG_DFL);
#ifdef HAVE_SYSTEMD
	if (sd_watchdog_enabled(0, &watchdog_us) <= 0)
		watchdog_us = 0;
#endif
}

void
service_tell_by(const struct keeper_link *link)
{
	teller = link;
}

void
service_hear_signals(void)
{
	sigset_t set = our_signals();

	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

void
service_notify(const char *state)
{
	if (teller != NULL) {
		keeper_link_tell(teller, KEEPER_NOTIFY, state);
		return;
	}
#ifdef HAVE_SYSTEMD
	sd_notify(0, state);
#else
	(void)state;
#endif
}

static void
on_watch(uv_timer_t *timer)
{
	(void)timer;
	service_notify("WATCHDOG=1");
}

void
service_watch(uv_timer_t *timer, uv_loop_t *loop)
{
	uv_timer_init(loop, timer);
	if (watchdog_us > 0)
		uv_timer_start(timer, on_watch, 0, watchdog_us / 3000 + 1);
}
