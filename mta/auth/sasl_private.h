/*
 * sasl_private: the messages of the mechanisms that carry tokens, parsed. Pure.
 */
#ifndef TRAM_AUTH_SASL_PRIVATE_H
#define TRAM_AUTH_SASL_PRIVATE_H

#include "mta/auth/sasl.h"

/* "user=" … ^A "auth=Bearer " … ^A^A. Spans of the message. */
bool sasl_parse_xoauth2(struct span message, struct span *user, struct span *token);
/*
 * RFC 7628 §3.1: "n,a=user," ^A "auth=Bearer " … ^A … ^A. user is in scratch; empty: none was
 * given.
 */
bool sasl_parse_oauthbearer(struct span message, struct buf *scratch, struct span *user,
			    struct span *token);

#endif
