/* scram: keys and proofs. See scram.h. The messages are in scram_server.c and scram_client.c. */
#include "mta/auth/scram.h"

#include <assert.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include "mta/auth/scram_private.h"
#include "mta/base/base64.h"

void
scram_random(void *to, size_t len)
{
	int rc = RAND_bytes(to, (int)len);

	assert(rc == 1);		/* nothing secret may be made from less */
}

bool
scram_equal(const void *a, const void *b, size_t len)
{
	return CRYPTO_memcmp(a, b, len) == 0;
}

void
scram_hmac(struct span key, struct span data, uint8_t ret[SCRAM_KEY])
{
	unsigned len = SCRAM_KEY;
	const void *done = HMAC(EVP_sha256(), key.at ? key.at : "", (int)key.len,
				(const unsigned char *)data.at, data.len, ret, &len);

	assert(done != NULL && len == SCRAM_KEY);
}

void
scram_hash(const uint8_t in[SCRAM_KEY], uint8_t ret[SCRAM_KEY])
{
	int rc = EVP_Digest(in, SCRAM_KEY, ret, NULL, EVP_sha256(), NULL);

	assert(rc == 1);
}

/* Hi() of RFC 5802 §2.2 */
static void
salt_password(struct span password, const void *salt, size_t salt_len, uint32_t iterations,
	      uint8_t ret[SCRAM_KEY])
{
	int rc;

	assert(password.len <= INT_MAX && iterations > 0 && iterations <= SCRAM_ITERATIONS_MAX);
	rc = PKCS5_PBKDF2_HMAC(password.at ? password.at : "", (int)password.len, salt,
			       (int)salt_len, (int)iterations, EVP_sha256(), SCRAM_KEY, ret);
	assert(rc == 1);
}

void
scram_keys(struct span password, const void *salt, size_t salt_len, uint32_t iterations,
	   uint8_t client_key[SCRAM_KEY], uint8_t server_key[SCRAM_KEY])
{
	uint8_t salted[SCRAM_KEY];

	salt_password(password, salt, salt_len, iterations, salted);
	scram_hmac(span_of(salted, SCRAM_KEY), SPAN("Client Key"), client_key);
	scram_hmac(span_of(salted, SCRAM_KEY), SPAN("Server Key"), server_key);
	OPENSSL_cleanse(salted, sizeof(salted));
}

void
scram_wipe(void *at, size_t len)
{
	OPENSSL_cleanse(at, len);
}

void
scram_wipe_buf(struct buf *b)
{
	if (b->at != NULL)
		OPENSSL_cleanse(b->at, b->cap);
	buf_free(b);
}

void
scram_verifier_make(struct span password, struct span salt, uint32_t iterations,
		    struct scram_verifier *ret)
{
	uint8_t client_key[SCRAM_KEY];

	assert(salt.len > 0 && salt.len <= SCRAM_SALT_MAX);
	*ret = (struct scram_verifier){ .iterations = iterations, .salt_len = (uint8_t)salt.len };
	memcpy(ret->salt, salt.at, salt.len);
	scram_keys(password, salt.at, salt.len, iterations, client_key, ret->server_key);
	scram_hash(client_key, ret->stored_key);
	OPENSSL_cleanse(client_key, sizeof(client_key));
}

bool
scram_verifier_check(const struct scram_verifier *v, struct span password)
{
	struct scram_verifier made;
	bool right;

	scram_verifier_make(password, span_of(v->salt, v->salt_len), v->iterations, &made);
	right = scram_equal(made.stored_key, v->stored_key, SCRAM_KEY);
	OPENSSL_cleanse(&made, sizeof(made));
	return right;
}

static const struct span prefix = { "{SCRAM-SHA-256}", 15 };

void
scram_verifier_format(const struct scram_verifier *v, struct buf *out)
{
	buf_append(out, prefix);
	buf_printf(out, "%u,", v->iterations);
	base64_encode(span_of(v->salt, v->salt_len), out);
	buf_byte(out, ',');
	base64_encode(span_of(v->stored_key, SCRAM_KEY), out);
	buf_byte(out, ',');
	base64_encode(span_of(v->server_key, SCRAM_KEY), out);
}

/* Between min and max octets of base64 into to, which has room for max. */
static bool
parse_octets(struct span text, size_t min, size_t max, uint8_t *to, size_t *len)
{
	char octets[SCRAM_SALT_MAX + 3];

	assert(max <= SCRAM_SALT_MAX);
	if (text.len > (max + 2) / 3 * 4 || !base64_decode_to(text, octets, len) || *len < min ||
	    *len > max)
		return false;
	memcpy(to, octets, *len);
	return true;
}

const char *
scram_verifier_parse(struct span text, struct scram_verifier *ret)
{
	struct scram_verifier v = { 0 };
	struct span iterations, salt, stored, server;
	uint64_t count;
	size_t len;

	if (!span_istarts(text, prefix))
		return "it does not begin with {SCRAM-SHA-256}";
	text = span_skip(text, prefix.len);
	iterations = span_cut(&text, ',');
	salt = span_cut(&text, ',');
	stored = span_cut(&text, ',');
	server = text;
	if (!span_to_u64(iterations, SCRAM_ITERATIONS_MAX, &count) || count < SCRAM_ITERATIONS_MIN)
		return "the iterations are not a number from 4096 to 10000000";
	if (!parse_octets(salt, 8, SCRAM_SALT_MAX, v.salt, &len))
		return "the salt is not base64 of 8 to 64 octets";
	v.salt_len = (uint8_t)len;
	if (!parse_octets(stored, SCRAM_KEY, SCRAM_KEY, v.stored_key, &len))
		return "StoredKey is not base64 of 32 octets";
	if (!parse_octets(server, SCRAM_KEY, SCRAM_KEY, v.server_key, &len))
		return "ServerKey is not base64 of 32 octets";
	v.iterations = (uint32_t)count;
	*ret = v;
	return NULL;
}

void
scram_verifier_imagine(struct span secret, struct span user, uint32_t iterations,
		       struct scram_verifier *ret)
{
	uint8_t digest[SCRAM_KEY];
	struct buf name = { 0 };

	/* names are looked up without regard to case: so must these salts be made */
	for (size_t i = 0; i < user.len; i++)
		buf_byte(&name, ascii_lower(user.at[i]));
	scram_hmac(secret, buf_span(&name), digest);
	buf_free(&name);
	*ret = (struct scram_verifier){ .iterations = iterations, .salt_len = SCRAM_SALT };
	memcpy(ret->salt, digest, SCRAM_SALT);
	scram_random(ret->stored_key, SCRAM_KEY);
	scram_random(ret->server_key, SCRAM_KEY);
}
