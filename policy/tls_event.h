/*
 * tls_event: how TLS went at one host → the event that TLSRPT counts (RFC 8460 §4.3). Pure.
 */
#ifndef TRAM_POLICY_TLS_EVENT_H
#define TRAM_POLICY_TLS_EVENT_H

#include "policy/tls_policy.h"
#include "policy/tlsrpt.h"

enum tls_end {				/* how it went */
	TLS_END_OPEN,			/* TLS, and (where it was tried) the proof */
	TLS_END_TROUBLE,		/* one of enum tls_trouble, tolerated or not */
	TLS_END_NOT_TRIED,		/* demand.go was not GO: the host was passed over */
};

/*
 * False: nothing to report (the operator decides about TLS on this route, or the sender did; or it
 * is about REQUIRETLS). failure: what the TLS library found, for NOT_VERIFIED: host mismatch, not
 * trusted, expired or VALIDATION_FAILURE. The caller adds addresses, hosts and detail. Lists are
 * in the arena, or the policy's.
 */
bool tls_event(const struct tls_question *question, const struct tls_demand *demand,
	       enum tls_end end, enum tls_trouble trouble, enum tlsrpt_result failure,
	       struct arena *arena, struct tlsrpt_event *ret);

/* A policy that could not be had: FETCH_ERROR, INVALID or WEBPKI_INVALID. */
void tls_event_no_policy(enum tlsrpt_result failure, struct tlsrpt_event *ret);

#endif
