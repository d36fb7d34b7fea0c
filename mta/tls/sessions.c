/*
 * tls/sessions: what servers gave us to come back with (RFC 8446 §2.2, 5077), for one reactor and
 * one state of the configuration's files: it goes with both. A session is found by the digest of
 * the place and of all that its first handshake had to find, so that one with other demands never
 * has it; it keeps what that handshake found, and ends at the latest when the certificate does. One
 * thread.
 *
 * The newest session of a key serves all connections until the next one comes (RFC 8446 §C.4 would
 * have one for each, so that people cannot be followed; a mail server's address says who it is
 * anyway). Beyond `most` the oldest make room. Each is kept encoded: without the chain of
 * certificates that OpenSSL's object holds on to, and bounded, for ticket and certificate are as
 * long as the server likes.
 */
#include <openssl/err.h>
#include <stdlib.h>

#include "mta/base/arena.h"
#include "mta/base/list.h"
#include "mta/base/map.h"
#include "mta/tls/private.h"

enum { SESSION_OCTETS_MAX = 16384 };	/* an honest one has 1 to 3 thousand */

struct kept {
	struct map_node node;		/* by the first octets of its key */
	struct list age;
	uint8_t key[TLS_DIGEST_LEN];
	struct tls_found found;
	size_t len;
	unsigned char encoded[];
};

struct tls_sessions {
	struct map map;
	struct list age;		/* the oldest first */
	size_t most;
	int64_t lifetime_ms;
};

struct tls_sessions *
tls_sessions_new(size_t most, int64_t lifetime_ms)
{
	struct tls_sessions *s = xcalloc(1, sizeof(*s));

	s->most = most;
	s->lifetime_ms = lifetime_ms;
	list_init(&s->age);
	return s;
}

static void
drop(struct tls_sessions *s, struct kept *kept)
{
	map_remove(&s->map, &kept->node);
	list_remove(&kept->age);
	OPENSSL_cleanse(kept->encoded, kept->len);
	free(kept);
}

void
tls_sessions_free(struct tls_sessions *s)
{
	if (s == NULL)
		return;
	LIST_EACH(struct kept, kept, &s->age, age)
		drop(s, kept);
	map_free(&s->map);
	free(s);
}

static uint64_t
short_key(const uint8_t key[TLS_DIGEST_LEN])
{
	uint64_t ret;

	memcpy(&ret, key, sizeof(ret));
	return ret;
}

static struct kept *
find(const struct tls_sessions *s, const uint8_t key[TLS_DIGEST_LEN])
{
	struct map_node *at = map_find(&s->map, short_key(key));

	while (at != NULL &&
	       memcmp(CONTAINER_OF(at, struct kept, node)->key, key, TLS_DIGEST_LEN) != 0)
		at = map_next_same(at);
	return at == NULL ? NULL : CONTAINER_OF(at, struct kept, node);
}

void
tls_sessions_add(struct tls_sessions *s, const uint8_t key[TLS_DIGEST_LEN], SSL_SESSION *session,
		 const struct tls_found *found, int64_t now_ms)
{
	int64_t most_ms = (int64_t)SSL_SESSION_get_timeout(session) * 1000;
	int len = i2d_SSL_SESSION(session, NULL);
	struct kept *kept;
	unsigned char *at;

	if (SSL_SESSION_is_resumable(session) != 1 || found->until_ms <= now_ms || most_ms <= 0 ||
	    len <= 0 || len > SESSION_OCTETS_MAX)
		return;
	tls_sessions_forget(s, key);
	if (s->map.count >= s->most)
		drop(s, CONTAINER_OF(s->age.next, struct kept, age));
	kept = xcalloc(1, sizeof(*kept) + (size_t)len);
	kept->len = (size_t)len;
	at = kept->encoded;
	i2d_SSL_SESSION(session, &at);
	kept->found = *found;
	if (kept->found.until_ms > now_ms + most_ms)
		kept->found.until_ms = now_ms + most_ms;
	memcpy(kept->key, key, TLS_DIGEST_LEN);
	map_add(&s->map, &kept->node, short_key(key));
	list_add_last(&s->age, &kept->age);
}

SSL_SESSION *
tls_sessions_take(struct tls_sessions *s, const uint8_t key[TLS_DIGEST_LEN], int64_t now_ms,
		  struct tls_found *ret)
{
	struct kept *kept = find(s, key);
	const unsigned char *at;
	SSL_SESSION *session;

	if (kept == NULL)
		return NULL;
	at = kept->encoded;
	session =
		kept->found.until_ms > now_ms ? d2i_SSL_SESSION(NULL, &at, (long)kept->len) : NULL;
	ERR_clear_error();
	if (session == NULL) {
		drop(s, kept);
		return NULL;
	}
	*ret = kept->found;
	return session;
}

void
tls_sessions_forget(struct tls_sessions *s, const uint8_t key[TLS_DIGEST_LEN])
{
	struct kept *kept = find(s, key);

	if (kept != NULL)
		drop(s, kept);
}

int64_t
tls_sessions_lifetime(const struct tls_sessions *s)
{
	return s->lifetime_ms;
}
