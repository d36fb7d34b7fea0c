/*
 * pools: from which pool of addresses a message will leave, once all of it is there: its lanes get
 * the pool's name. The header field that may name one (pool-header) goes no further than here,
 * whoever wrote it.
 */
#ifndef TRAM_INBOUND_POOLS_H
#define TRAM_INBOUND_POOLS_H

#include "mta/inbound/receiver.h"

void pools_choose(struct session *s);	/* behind routes and tenants: they count */
/* The pool that a header names, if it may; empty: none. */
struct span pools_named(const struct config *config, const struct access_client *client,
			struct span header);
void pools_strip(struct session *s);

#endif
