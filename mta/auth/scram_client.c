/* scram_client: the client's side of the messages. See scram.h. */
#include <assert.h>
#include <stdio.h>

#include "mta/auth/scram_private.h"
#include "mta/base/base64.h"

void
scram_client_first(struct scram_client *c, struct buf *out)
{
	assert(!c->plus || c->binding.len > 0);
	/* "y": we could, but the server does not offer it: it fails if that is not true */
	buf_append(&c->text, c->plus ? SPAN("p=tls-exporter") :
			     c->binding.len > 0 ? SPAN("y") : SPAN("n"));
	buf_byte(&c->text, ',');
	if (c->authzid.len > 0) {
		buf_append(&c->text, SPAN("a="));
		scram_name_encode(c->authzid, &c->text);
	}
	buf_byte(&c->text, ',');
	c->gs2_len = buf_len(&c->text);
	scram_nonce_make(c->nonce);
	buf_append(&c->text, SPAN("n="));
	scram_name_encode(c->user, &c->text);
	buf_append(&c->text, SPAN(",r="));
	buf_append(&c->text, span_str(c->nonce));
	buf_append(out, buf_span(&c->text));
}

bool
scram_client_read(struct scram_client *c, struct span server_first)
{
	struct span rest = server_first, nonce, salt, iterations, ours = span_str(c->nonce);
	uint32_t max = c->max_iterations != 0 ? c->max_iterations : SCRAM_ITERATIONS_MAX;
	char octets[SCRAM_SALT_MAX + 3];
	uint64_t count;
	size_t len;

	c->why = NULL;
	if (!scram_attribute(&rest, 'r', &nonce) || !scram_attribute(&rest, 's', &salt) ||
	    !scram_attribute(&rest, 'i', &iterations) || !scram_nonce_valid(nonce))
		c->why = "not a SCRAM message";
	else if (!span_starts(nonce, ours) || nonce.len == ours.len)
		c->why = "the server's nonce does not continue ours";
	else if (salt.len > sizeof(octets) / 3 * 4 || !base64_decode_to(salt, octets, &len) ||
		 len == 0 || len > SCRAM_SALT_MAX)
		c->why = "the server's salt is not base64 of 1 to 64 octets";
	else if (!span_to_u64(iterations, max, &count) || count < SCRAM_ITERATIONS_MIN)
		c->why = "the server wants too few or too many iterations";
	if (c->why != NULL)
		return false;
	c->iterations = (uint32_t)count;
	c->salt_len = (uint8_t)len;
	memcpy(c->salt, octets, len);
	buf_byte(&c->text, ',');
	buf_append(&c->text, server_first);
	buf_byte(&c->text, ',');
	c->joined = nonce;
	c->joined.at = c->text.at + c->text.end - 1 - server_first.len + 2;
	return true;
}

void
scram_client_calculate(struct scram_client *c)
{
	scram_keys(c->password, c->salt, c->salt_len, c->iterations, c->client_key, c->server_key);
}

void
scram_client_final(struct scram_client *c, struct buf *out)
{
	struct span binding = c->plus ? c->binding : SPAN(""), auth_message;
	uint8_t stored[SCRAM_KEY], signature[SCRAM_KEY];
	struct buf final = { 0 };

	scram_binding_put(span_first(buf_span(&c->text), c->gs2_len), binding, &final);
	buf_append(&final, SPAN(",r="));
	buf_append(&final, c->joined);
	buf_append(&c->text, buf_span(&final));
	auth_message = span_skip(buf_span(&c->text), c->gs2_len);
	scram_hash(c->client_key, stored);
	scram_hmac(span_of(stored, SCRAM_KEY), auth_message, signature);
	for (size_t i = 0; i < SCRAM_KEY; i++)
		signature[i] ^= c->client_key[i];
	buf_append(&final, SPAN(",p="));
	base64_encode(span_of(signature, SCRAM_KEY), &final);
	scram_hmac(span_of(c->server_key, SCRAM_KEY), auth_message, c->server_signature);
	buf_append(out, buf_span(&final));
	buf_free(&final);
	scram_wipe(c->client_key, SCRAM_KEY);
	scram_wipe(c->server_key, SCRAM_KEY);
}

bool
scram_client_verify(struct scram_client *c, struct span server_final)
{
	char octets[SCRAM_KEY + 3];
	struct span value;
	size_t len;

	c->why = NULL;
	if (scram_attribute(&server_final, 'e', &value))
		c->why = "the server reports a SCRAM error";
	else if (!scram_attribute(&server_final, 'v', &value) ||
		 value.len != (SCRAM_KEY + 2) / 3 * 4 || !base64_decode_to(value, octets, &len) ||
		 len != SCRAM_KEY)
		c->why = "not a SCRAM message";
	else if (!scram_equal(octets, c->server_signature, SCRAM_KEY))
		c->why = "the server does not know the password: its signature is wrong";
	return c->why == NULL;
}

void
scram_client_free(struct scram_client *c)
{
	scram_wipe_buf(&c->text);
	scram_wipe(c, sizeof(*c));
}
