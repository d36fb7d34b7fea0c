/*
 * tls/distrust: hosts whose TLS did not work, so that mail which may travel in plain text is not
 * held up by another failed handshake at each attempt. Bounded: when it is full, who is in it the
 * longest makes room. One thread.
 */
#ifndef TRAM_TLS_DISTRUST_H
#define TRAM_TLS_DISTRUST_H

#include "mta/base/netaddr.h"

struct distrust;

struct distrust *distrust_new(void);
void distrust_free(struct distrust *distrust);
void distrust_add(struct distrust *distrust, const struct netaddr *address, int64_t until_ms);
bool distrust_has(const struct distrust *distrust, const struct netaddr *address, int64_t now_ms);
/* Its TLS works after all. */
void distrust_remove(struct distrust *distrust, const struct netaddr *address);

#endif
