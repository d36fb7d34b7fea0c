/*
 * received: the trace field of RFC 5321 §4.4, exactly one per message. Pure.
 */
#ifndef TRAM_RECEIVED_H
#define TRAM_RECEIVED_H

#include "mta/base/arena.h"
#include "mta/base/buf.h"
#include "mta/base/netaddr.h"

struct received_facts {
	const struct netaddr *client;
	struct span helo;		/* as given; may be empty */
	struct span hostname;
	/* empty: none, or several (which are nobody else's business) */
	struct span recipient;
	uint64_t id;
	int64_t now_ms;
	bool esmtp, utf8, tls, auth;
	/* behind the protocol's name in the line: version and cipher; empty: none */
	struct span tls_text;
	int8_t priority;		/* RFC 6710; 0 is not told */
	bool hidden;			/* the line does not tell who the client is */
	bool local;			/* a local program */
	uint32_t uid;
};

/* Appends "Received: from helo ([192.0.2.1]) by host with ESMTP id …; date" with CRLF, folded. */
void received_line(const struct received_facts *facts, struct buf *out);
/*
 * The facts kept with the message for the operator: "client=[192.0.2.1]:4711 helo=name
 * with=ESMTP".
 */
struct span received_client(const struct received_facts *facts, struct arena *arena);

#endif
