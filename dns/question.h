/*
 * dns/question: a DNS query in octets (RFC 1035 §4, RFC 6891). Pure.
 *
 * RD and AD are set: AD in a query asks whether a validating resolver vouches for the answer (RFC
 * 6840 §5.7). The OPT record comes last and is bare, for c-ares 1.18 cuts the last 11 octets off
 * after a FORMERR.
 */
#ifndef TRAM_DNS_QUESTION_H
#define TRAM_DNS_QUESTION_H

#include "dns/answer.h"

enum { DNS_NAME_MAX = 253, DNS_QUESTION_MAX = 12 + 255 + 4 + 11, DNS_UDP_SIZE = 1232 };

/* Printable ASCII in labels of 1 to 63 octets, 253 in all, no final dot, no backslash. */
bool dns_name_valid(struct span name);

/* The name must be valid. Returns the length. */
size_t dns_question_build(struct span name, enum dns_type type, uint16_t id, bool edns,
			  uint8_t out[static DNS_QUESTION_MAX]);

#endif
