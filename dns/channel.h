/*
 * dns/channel: c-ares 1.18 behind a few functions; the only file that knows <ares.h>. One packet
 * out, one answer back.
 *
 * What 1.18 does and how we live with it: ares_send() takes our packet and our id. Without
 * NOCHECKRESP a SERVFAIL would end as "connection refused". With the EDNS flag (without it every
 * answer over 512 octets goes by TCP) a FORMERR makes it cut the OPT record off, ask again by
 * itself, and do without EDNS from then on for the whole channel: such a channel is retired and
 * drained, and a new one takes its place. A packet without OPT must never go over a channel with
 * the flag, for a FORMERR would cut off its question. A query cannot be taken back.
 */
#ifndef TRAM_DNS_CHANNEL_H
#define TRAM_DNS_CHANNEL_H

#include "dns/resolver.h"
#include "mta/base/list.h"

enum dns_channel_kind {
	DNS_CHANNEL_EDNS,   /* every question's first */
	DNS_CHANNEL_PLAIN,  /* without EDNS, after a FORMERR */
	DNS_CHANNEL_OTHERS, /* EDNS, and goes on to the next server at SERVFAIL, REFUSED, NOTIMP */
};

enum dns_landing {
	DNS_LANDED_ANSWER,	/* the octets are the message */
	DNS_LANDED_TIMEOUT,
	DNS_LANDED_NO_SERVER,	/* nobody listens; over DNS_CHANNEL_OTHERS: or nobody says better */
	DNS_LANDED_ERROR,	/* the octets say what */
	DNS_LANDED_CLOSED,	/* the channel was closed */
};

struct dns_channel {
	struct list node;			/* the resolver's */
	struct ares_channeldata *ares;
	struct dns_loop loop;
	enum dns_channel_kind kind;
	size_t outstanding;
	bool suspect;				/* the resolver's: an answer without OPT came */
	bool retired;				/* the resolver's: ends with its last question */
};

struct dns_flight {				/* embedded in who asks */
	struct dns_channel *channel;		/* NULL: not under way */
	/* Called from any function below, dns_channel_send() too; it must not call one of them. */
	void (*landed)(struct dns_flight *flight, enum dns_landing how, struct span octets);
};

/* Fills servers from the system's configuration (at most 4). 0 or -errno. */
int dns_system_servers(struct dns_config *config);

/* The configuration is complete: servers with their ports, timeout, tries. 0 or -errno. */
int dns_channel_open(enum dns_channel_kind kind, const struct dns_config *config,
		     const struct dns_loop *loop, struct dns_channel **ret);
void dns_channel_close(struct dns_channel *channel);
void dns_channel_send(struct dns_channel *channel, struct span packet, struct dns_flight *flight);
/* A descriptor that is not the channel's is ignored; -1: only what has timed out. */
void dns_channel_process(struct dns_channel *channel, int fd, bool readable, bool writable);
/* Until the next time-out; -1: none. Linear in what is under way. */
int64_t dns_channel_wait_ms(struct dns_channel *channel);
/* Has c-ares turned EDNS off? (A few allocations.) */
bool dns_channel_lost_edns(struct dns_channel *channel);

#endif
