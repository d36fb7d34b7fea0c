/* name: domains and lanes as keys; see record.h. Pure; any thread. */
#include "mta/base/address.h"
#include "queue/key.h"

/* A literal ("[192.0.2.1]") is one label. */
void
domain_reversed(struct span domain, struct buf *out)
{
	size_t end = domain.len;

	if (domain.len > 0 && domain.at[0] == '[') {
		buf_append(out, domain);
		buf_byte(out, '.');
		return;
	}
	while (end > 0) {
		size_t start = end;

		while (start > 0 && domain.at[start - 1] != '.')
			start--;
		for (size_t i = start; i < end; i++)
			buf_byte(out, ascii_lower(domain.at[i]));
		if (end > start)
			buf_byte(out, '.');
		end = start > 0 ? start - 1 : 0;
	}
}

/* FNV-1a of 128 bits, each part after its length: stored, so it never changes. */
static void
hash_octets(unsigned __int128 *hash, const void *at, size_t len)
{
	const unsigned __int128 prime = (unsigned __int128)1 << 88 | 0x13b;
	const unsigned char *p = at;

	for (size_t i = 0; i < len; i++)
		*hash = (*hash ^ p[i]) * prime;
}

static void
hash_span(unsigned __int128 *hash, struct span s)
{
	const unsigned char len[2] = { (unsigned char)(s.len >> 8 & 255),
				       (unsigned char)(s.len & 255) };

	hash_octets(hash, len, sizeof(len));
	hash_octets(hash, s.at, s.len);
}

static void
hash_finish(unsigned __int128 hash, uint8_t ret[16])
{
	for (int i = 0; i < 16; i++)
		ret[i] = (uint8_t)(hash >> (120 - 8 * i) & 255);
}

static unsigned __int128
hash_begin(void)
{
	return (unsigned __int128)UINT64_C(0x6c62272e07bb0142) << 64 | UINT64_C(0x62b821756295c58d);
}

/*
 * Not against collisions made on purpose: whoever finds a lane or a site by it compares the
 * names too.
 */
void
lane_name_hash(const struct lane_name *name, uint8_t ret[16])
{
	unsigned __int128 hash = hash_begin();

	hash_span(&hash, name->tenant);
	hash_span(&hash, name->domain);
	hash_span(&hash, name->route);
	hash_span(&hash, name->pool);
	hash_octets(&hash, &name->priority, 1);
	hash_finish(hash, ret);
}

void
site_key_hash(struct span key, uint8_t ret[16])
{
	unsigned __int128 hash = hash_begin();

	hash_span(&hash, key);
	hash_finish(hash, ret);
}

/* With the highest bit, and without the lowest: there is always a number behind it. */
uint64_t
tenant_mark(struct span tenant)
{
	uint8_t hash[16];
	uint64_t mark = 0;

	if (tenant.len == 0)
		return 0;
	site_key_hash(tenant, hash);
	for (int i = 0; i < 8; i++)
		mark = mark << 8 | hash[i];
	return (mark | UINT64_C(1) << 63) & ~UINT64_C(1);
}

bool
lane_name_eq(const struct lane_name *a, const struct lane_name *b)
{
	return span_eq(a->domain, b->domain) && span_eq(a->route, b->route) &&
	       span_eq(a->tenant, b->tenant) && span_eq(a->pool, b->pool) &&
	       a->priority == b->priority;
}

/* ---- keys that start with a domain -------------------------------------------------------- */

struct key
key_domain(struct span domain, bool sub)
{
	struct key k = { 0 };
	struct buf reversed = { 0 };
	struct span s;

	domain_reversed(domain, &reversed);
	s = buf_span(&reversed);
	if (s.len > KEY_NAME_MAX) {
		uint8_t hash[HASH_LEN];

		site_key_hash(s, hash);
		key_octets(&k, span_first(s, KEY_NAME_MAX - HASH_LEN));
		key_octets(&k, span_of(hash, HASH_LEN));
	} else {
		key_octets(&k, s);
	}
	if (!sub)
		key_u8(&k, 0);
	buf_free(&reversed);
	return k;
}

struct key
key_lane_domain(struct span domain, uint64_t lane)
{
	struct key k = key_domain(domain, false);

	key_u64(&k, lane);
	return k;
}

struct key
key_sender(struct span reverse_path, uint64_t id)
{
	struct key k = key_domain(address_domain_of(reverse_path), false);

	key_u64(&k, id);
	key_octets(&k, span_first(address_local_of(reverse_path), KEY_MAX - k.len));
	return k;
}
