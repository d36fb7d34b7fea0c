/*
 * tickets: the keys that session tickets are sealed with (RFC 5077 §5.5). Two are kept: the one
 * before still opens what it sealed, and what it opened is sealed anew. They live in memory only:
 * after a restart every client makes a whole handshake again.
 */
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "mta/base/arena.h"
#include "mta/base/clock.h"
#include "mta/tls/private.h"

enum { NAME_LEN = 16, KEY_LEN = 32 };

struct ticket_key {
	unsigned char name[NAME_LEN], cipher[KEY_LEN], mac[KEY_LEN];
	int64_t made_ms;		/* monotonic; 0: none */
};

struct tls_tickets {
	pthread_mutex_t lock;
	int64_t rotate_ms;
	struct ticket_key now, before;
};

struct tls_tickets *
tls_tickets_new(int64_t rotate_ms)
{
	struct tls_tickets *tickets = xcalloc(1, sizeof(*tickets));

	pthread_mutex_init(&tickets->lock, NULL);
	tickets->rotate_ms = rotate_ms;
	return tickets;
}

void
tls_tickets_free(struct tls_tickets *tickets)
{
	if (tickets == NULL)
		return;
	pthread_mutex_destroy(&tickets->lock);
	OPENSSL_cleanse(tickets, sizeof(*tickets));
	free(tickets);
}

static bool
make_key(struct ticket_key *key)
{
	key->made_ms = mono_ms() + 1;
	return RAND_bytes(key->name, NAME_LEN) == 1 && RAND_bytes(key->cipher, KEY_LEN) == 1 &&
	       RAND_bytes(key->mac, KEY_LEN) == 1;
}

/* The key to seal with; false: there is none (no random octets). */
static bool
key_now(struct tls_tickets *tickets, struct ticket_key *ret)
{
	struct ticket_key fresh;
	bool good = true;

	pthread_mutex_lock(&tickets->lock);
	if (tickets->now.made_ms == 0 || mono_ms() >= tickets->now.made_ms + tickets->rotate_ms) {
		good = make_key(&fresh);
		if (good) {
			tickets->before = tickets->now;
			tickets->now = fresh;
		}
		OPENSSL_cleanse(&fresh, sizeof(fresh));
	}
	*ret = tickets->now;
	pthread_mutex_unlock(&tickets->lock);
	return good;
}

/* Sets *old if what it sealed should be sealed anew. */
static bool
key_named(struct tls_tickets *tickets, const unsigned char *name, struct ticket_key *ret, bool *old)
{
	bool found = false;
	int64_t now = mono_ms();

	pthread_mutex_lock(&tickets->lock);
	for (int i = 0; i < 2 && !found; i++) {
		const struct ticket_key *key = i == 0 ? &tickets->now : &tickets->before;

		if (key->made_ms == 0 || now >= key->made_ms + 2 * tickets->rotate_ms ||
		    CRYPTO_memcmp(key->name, name, NAME_LEN) != 0)
			continue;
		*ret = *key;
		*old = i == 1 || now >= key->made_ms + tickets->rotate_ms;
		found = true;
	}
	pthread_mutex_unlock(&tickets->lock);
	return found;
}

static bool
mac_set(EVP_MAC_CTX *mac, const struct ticket_key *key)
{
	char digest[] = "SHA256";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)(uintptr_t)key->mac,
						  KEY_LEN),
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_end(),
	};

	return EVP_MAC_CTX_set_params(mac, params) == 1;
}

/* SSL_CTX_set_tlsext_ticket_key_evp_cb(3): 1 good, 0 no ticket, 2 good but renew, -1 failure. */
int
tls_on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
	      EVP_MAC_CTX *mac, int encrypt)
{
	struct tls_tickets *tickets = tls_faces_of(ssl)->owner->tickets;
	struct ticket_key key;
	bool old = false, good;

	if (tickets == NULL)
		return 0;
	if (encrypt) {
		if (!key_now(tickets, &key) || RAND_bytes(iv, EVP_MAX_IV_LENGTH) != 1)
			return -1;
		memcpy(name, key.name, NAME_LEN);
		good = EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.cipher, iv) == 1;
	} else {
		if (!key_named(tickets, name, &key, &old))
			return 0;
		good = EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.cipher, iv) == 1;
		/* who uses a ticket once only (RFC 8446 §C.4) needs one for the next time */
		old = old || SSL_version(ssl) >= TLS1_3_VERSION;
	}
	good = good && mac_set(mac, &key);
	OPENSSL_cleanse(&key, sizeof(key));
	return !good ? -1 : old ? 2 : 1;
}
