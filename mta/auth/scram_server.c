/* scram_server: the server's side of the messages, and what both sides share. See scram.h. */
#include <assert.h>
#include <stdio.h>

#include "mta/auth/scram_private.h"
#include "mta/base/address.h"
#include "mta/base/base64.h"

bool
scram_attribute(struct span *message, char name, struct span *value)
{
	if (message->len < 2 || message->at[0] != name || message->at[1] != '=')
		return false;
	*message = span_skip(*message, 2);
	*value = span_cut(message, ',');
	return true;
}

bool
scram_nonce_valid(struct span nonce)
{
	if (nonce.len == 0 || nonce.len >= SCRAM_NONCE_MAX)
		return false;
	for (size_t i = 0; i < nonce.len; i++)
		if (nonce.at[i] <= ' ' || nonce.at[i] > '~' || nonce.at[i] == ',')
			return false;
	return true;
}

void
scram_nonce_make(char nonce[SCRAM_NONCE_MAX])
{
	uint8_t octets[24];
	struct buf text = { 0 };

	if (nonce[0] != '\0')
		return;
	scram_random(octets, sizeof(octets));
	base64_encode(span_of(octets, sizeof(octets)), &text);
	memcpy(nonce, text.at, buf_len(&text));
	nonce[buf_len(&text)] = '\0';
	buf_free(&text);
}

bool
scram_name_decode(struct span text, struct buf *out)
{
	if (text.len == 0 || text.len > 3 * SCRAM_NAME_MAX || !utf8_valid(text))
		return false;
	for (size_t i = 0; i < text.len; i++) {
		char c = text.at[i];

		if (c == '=') {
			struct span code = span_first(span_skip(text, i), 3);

			if (!span_eq(code, SPAN("=2C")) && !span_eq(code, SPAN("=3D")))
				return false;
			c = code.at[1] == '2' ? ',' : '=';
			i += 2;
		} else if (c == '\0' || c == ',') {
			return false;
		}
		buf_byte(out, c);
	}
	return true;
}

void
scram_name_encode(struct span name, struct buf *out)
{
	for (size_t i = 0; i < name.len; i++) {
		if (name.at[i] == ',')
			buf_append(out, SPAN("=2C"));
		else if (name.at[i] == '=')
			buf_append(out, SPAN("=3D"));
		else
			buf_byte(out, name.at[i]);
	}
}

void
scram_binding_put(struct span gs2, struct span binding, struct buf *out)
{
	struct buf both = { 0 };

	buf_append(&both, gs2);
	buf_append(&both, binding);
	buf_append(out, SPAN("c="));
	base64_encode(buf_span(&both), out);
	scram_wipe_buf(&both);
}

/* Is the client's view of channel binding ours? */
static enum scram_result
judge_binding_flag(struct scram_server *s, struct span flag)
{
	if (span_eq(flag, SPAN("n")) || span_eq(flag, SPAN("y"))) {
		if (s->plus)
			s->why = "-PLUS without channel binding";
		else if (flag.at[0] == 'y' && s->plus_offered)
			s->why = "downgrade: the client did not see that we offer -PLUS";
		return s->why == NULL ? SCRAM_OK : SCRAM_REFUSED;
	}
	if (!span_starts(flag, SPAN("p=")) || flag.len == 2)
		return SCRAM_MALFORMED;
	if (!s->plus)
		s->why = "channel binding with a mechanism that has none";
	else if (!span_eq(span_skip(flag, 2), SPAN("tls-exporter")))
		s->why = "channel binding of another type than tls-exporter";
	else
		assert(s->binding.len > 0);
	return s->why == NULL ? SCRAM_OK : SCRAM_REFUSED;
}

/* Into text, one behind the other, with room for both made before. */
static bool
take_name(struct scram_server *s, struct span encoded, struct span *ret)
{
	size_t before = s->names.end;

	if (!scram_name_decode(encoded, &s->names))
		return false;
	*ret = span_of(s->names.at + before, s->names.end - before);
	return ret->len <= SCRAM_NAME_MAX;
}

enum scram_result
scram_server_first(struct scram_server *s, struct span message)
{
	struct span rest = message, flag, authzid, name, nonce;

	s->why = NULL;
	flag = span_cut(&rest, ',');
	authzid = span_cut(&rest, ',');
	s->gs2_len = message.len - rest.len;
	buf_reserve(&s->names, message.len + 1);
	/* "m=" would be an extension that must be known: nobody has any */
	if (!scram_attribute(&rest, 'n', &name) || !scram_attribute(&rest, 'r', &nonce) ||
	    !scram_nonce_valid(nonce) || !take_name(s, name, &s->user))
		return SCRAM_MALFORMED;
	if (authzid.len > 0 &&
	    (!span_starts(authzid, SPAN("a=")) ||
	     !take_name(s, span_skip(authzid, 2), &s->authzid)))
		return SCRAM_MALFORMED;
	buf_append(&s->text, message);
	s->client_nonce = span_of(s->names.at + s->names.end, nonce.len);
	buf_append(&s->names, nonce);
	return judge_binding_flag(s, flag);
}

void
scram_server_challenge(struct scram_server *s, const struct scram_verifier *verifier,
		       struct buf *out)
{
	struct buf first = { 0 };

	s->verifier = *verifier;
	scram_nonce_make(s->nonce);
	buf_append(&first, SPAN("r="));
	buf_append(&first, s->client_nonce);
	buf_append(&first, span_str(s->nonce));
	buf_append(&first, SPAN(",s="));
	base64_encode(span_of(verifier->salt, verifier->salt_len), &first);
	buf_printf(&first, ",i=%u", verifier->iterations);
	buf_byte(&s->text, ',');
	buf_append(&s->text, buf_span(&first));
	buf_append(out, buf_span(&first));
	buf_free(&first);
}

static bool
nonce_matches(const struct scram_server *s, struct span nonce)
{
	struct span ours = span_str(s->nonce);

	return nonce.len == s->client_nonce.len + ours.len &&
	       span_starts(nonce, s->client_nonce) && span_ends(nonce, ours);
}

static bool
binding_matches(const struct scram_server *s, struct span message)
{
	struct buf expected = { 0 };
	bool matches;

	scram_binding_put(span_first(buf_span(&s->text), s->gs2_len),
			  s->plus ? s->binding : SPAN(""), &expected);
	matches = span_eq(span_cut(&message, ','), buf_span(&expected));
	scram_wipe_buf(&expected);
	return matches;
}

static bool
proof_fits(struct scram_server *s, const char proof[SCRAM_KEY])
{
	struct span auth_message = span_skip(buf_span(&s->text), s->gs2_len);
	uint8_t signature[SCRAM_KEY], key[SCRAM_KEY], stored[SCRAM_KEY];
	bool fits;

	scram_hmac(span_of(s->verifier.stored_key, SCRAM_KEY), auth_message, signature);
	for (size_t i = 0; i < SCRAM_KEY; i++)
		key[i] = (uint8_t)(signature[i] ^ (uint8_t)proof[i]);
	scram_hash(key, stored);
	fits = scram_equal(stored, s->verifier.stored_key, SCRAM_KEY);
	scram_wipe(key, sizeof(key));
	return fits;
}

enum scram_result
scram_server_final(struct scram_server *s, struct span message, struct buf *out)
{
	struct span rest = message, binding, nonce, without_proof, last = message;
	char proof[SCRAM_KEY + 3];
	uint8_t signature[SCRAM_KEY];
	size_t len;

	s->why = NULL;
	while (span_find(last, ',') != NULL)
		span_cut(&last, ',');
	if (!scram_attribute(&rest, 'c', &binding) || !scram_attribute(&rest, 'r', &nonce) ||
	    last.at <= nonce.at || !span_starts(last, SPAN("p=")))
		return SCRAM_MALFORMED;
	without_proof = span_first(message, (size_t)(last.at - message.at) - 1);
	last = span_skip(last, 2);
	if (last.len != (SCRAM_KEY + 2) / 3 * 4 || !base64_decode_to(last, proof, &len) ||
	    len != SCRAM_KEY)
		return SCRAM_MALFORMED;
	if (!nonce_matches(s, nonce))
		s->why = "the nonce differs";
	else if (!binding_matches(s, message))
		s->why = "channel binding differs";
	if (s->why != NULL)
		return SCRAM_REFUSED;
	buf_byte(&s->text, ',');
	buf_append(&s->text, without_proof);
	if (!proof_fits(s, proof)) {
		s->why = "wrong proof";
		return SCRAM_REFUSED;
	}
	scram_hmac(span_of(s->verifier.server_key, SCRAM_KEY),
		   span_skip(buf_span(&s->text), s->gs2_len), signature);
	buf_append(out, SPAN("v="));
	base64_encode(span_of(signature, SCRAM_KEY), out);
	return SCRAM_OK;
}

void
scram_server_free(struct scram_server *s)
{
	scram_wipe_buf(&s->text);
	scram_wipe_buf(&s->names);
	scram_wipe(s, sizeof(*s));
}
