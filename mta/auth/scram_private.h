/*
 * scram_private: what both sides of SCRAM share: keys, and the attributes of messages (RFC 5802
 * §5.1).
 */
#ifndef TRAM_AUTH_SCRAM_PRIVATE_H
#define TRAM_AUTH_SCRAM_PRIVATE_H

#include "mta/auth/scram.h"

void scram_hash(const uint8_t in[SCRAM_KEY], uint8_t ret[SCRAM_KEY]);
/* ClientKey and ServerKey from the password */
void scram_keys(struct span password, const void *salt, size_t salt_len, uint32_t iterations,
		uint8_t client_key[SCRAM_KEY], uint8_t server_key[SCRAM_KEY]);
void scram_wipe(void *at, size_t len);
void scram_wipe_buf(struct buf *b);

/* Cuts "x=value" off the front of *message, with the comma behind it; false if it is not there. */
bool scram_attribute(struct span *message, char name, struct span *value);
/* Printable ASCII without a comma, not empty, not too long. */
bool scram_nonce_valid(struct span nonce);
/* A nonce of ours as text, unless one is there. */
void scram_nonce_make(char nonce[SCRAM_NONCE_MAX]);
/* "=2C" and "=3D" to and from what they stand for. Decoding appends; false: not a saslname. */
bool scram_name_decode(struct span text, struct buf *out);
void scram_name_encode(struct span name, struct buf *out);
/* "c=": the gs2 header and the binding, base64 */
void scram_binding_put(struct span gs2, struct span binding, struct buf *out);

#endif
