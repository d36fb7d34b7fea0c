/*
 * key: the keys of the tables. Numbers are big-endian, so that octets sort like numbers; times
 * before 1970 count as 1970. Names that a peer can choose are at most 511 octets with what
 * follows them, or are cut and hashed.
 */
#ifndef TRAM_QUEUE_KEY_H
#define TRAM_QUEUE_KEY_H

#include <assert.h>

#include "queue/record.h"

enum { KEY_MAX = 511, KEY_NAME_MAX = 300 };

struct key {
	size_t len;
	unsigned char at[KEY_MAX];
};

static inline struct span
key_span(const struct key *k)
{
	return span_of(k->at, k->len);
}

static inline void
key_u64(struct key *k, uint64_t v)
{
	assert(k->len + 8 <= KEY_MAX);
	for (int i = 0; i < 8; i++)
		k->at[k->len++] = (unsigned char)(v >> (56 - 8 * i) & 255);
}

static inline void
key_u32(struct key *k, uint32_t v)
{
	assert(k->len + 4 <= KEY_MAX);
	for (int i = 0; i < 4; i++)
		k->at[k->len++] = (unsigned char)(v >> (24 - 8 * i) & 255);
}

static inline void
key_u8(struct key *k, uint8_t v)
{
	assert(k->len < KEY_MAX);
	k->at[k->len++] = v;
}

static inline void
key_time(struct key *k, int64_t ms)
{
	key_u64(k, ms < 0 ? 0 : (uint64_t)ms);
}

static inline void
key_octets(struct key *k, struct span s)
{
	assert(k->len + s.len <= KEY_MAX);
	if (s.len > 0)
		memcpy(k->at + k->len, s.at, s.len);
	k->len += s.len;
}

static inline uint64_t
key_number(struct span key, size_t from, size_t octets)
{
	uint64_t v = 0;

	assert(from + octets <= key.len);
	for (size_t i = 0; i < octets; i++)
		v = v << 8 | (unsigned char)key.at[from + i];
	return v;
}

static inline uint64_t
key_get_u64(struct span key, size_t from)
{
	return key_number(key, from, 8);
}

static inline bool
key_starts(struct span key, const struct key *prefix)
{
	return span_starts(key, key_span(prefix));
}

/* message, left: id. */
static inline struct key
key_id(uint64_t id)
{
	struct key k;

	k.len = 0;
	key_u64(&k, id);
	return k;
}

/* body: id of the body, number of the record. Draft: id. Lane, site: number. Taken: batch. */
static inline struct key
key_body(uint64_t body, uint64_t n)
{
	struct key k = key_id(body);

	key_u32(&k, (uint32_t)n);
	return k;
}

/* history: id, recipient. */
static inline struct key
key_history(uint64_t id, uint32_t recipient)
{
	struct key k = key_id(id);

	key_u32(&k, recipient);
	return k;
}

/* entry: lane, due, id, recipient. */
enum { ENTRY_KEY_LEN = 28 };
static inline struct key
key_entry(uint64_t lane, int64_t due_ms, uint64_t id, uint32_t recipient)
{
	struct key k = key_id(lane);

	key_time(&k, due_ms);
	key_u64(&k, id);
	key_u32(&k, recipient);
	return k;
}

/*
 * asleep: site, tenant_mark(), due, lane. The mark of those without a tenant is left out: a due
 * time never has the highest bit, which each mark has.
 */
enum { ASLEEP_KEY_LEN = 24, ASLEEP_TENANT_KEY_LEN = 32 };
static inline struct key
key_asleep(uint64_t site, uint64_t tenant, int64_t due_ms, uint64_t lane)
{
	struct key k = key_id(site);

	if (tenant != 0)
		key_u64(&k, tenant);
	key_time(&k, due_ms);
	key_u64(&k, lane);
	return k;
}

/* Where the rows of that tenant, or of the next one there is, begin. */
static inline struct key
key_asleep_tenant(uint64_t site, uint64_t tenant)
{
	struct key k = key_id(site);

	key_u64(&k, tenant | UINT64_C(1) << 63);
	return k;
}

/* wake: time, site. */
enum { WAKE_KEY_LEN = 16 };
static inline struct key
key_wake(int64_t at_ms, uint64_t site)
{
	struct key k;

	k.len = 0;
	key_time(&k, at_ms);
	key_u64(&k, site);
	return k;
}

/* timer: time, kind, id. */
enum timer_kind { TIMER_REPORT = 1 };
enum { TIMER_KEY_LEN = 17 };
static inline struct key
key_timer(int64_t at_ms, enum timer_kind kind, uint64_t id)
{
	struct key k;

	k.len = 0;
	key_time(&k, at_ms);
	key_u8(&k, (uint8_t)kind);
	key_u64(&k, id);
	return k;
}

/*
 * In the same table, behind all of these: kind, time, id; for messages that ask for a time. They
 * stay as long as the message.
 */
enum moment_kind { MOMENT_RELEASE = 0xf1, MOMENT_BY = 0xf2 };
static inline struct key
key_moment(enum moment_kind kind, int64_t at_ms, uint64_t id)
{
	struct key k;

	k.len = 0;
	key_u8(&k, (uint8_t)kind);
	key_time(&k, at_ms);
	key_u64(&k, id);
	return k;
}

/* note: kind, the owner's key. */
static inline struct key
key_note(uint8_t kind, struct span octets)
{
	struct key k;

	k.len = 0;
	key_u8(&k, kind);
	key_octets(&k, octets);
	return k;
}

/* lane_hash, site_key: hash, number (so that two names of one hash stand side by side). */
enum { HASH_LEN = 16, HASH_KEY_LEN = 24 };
static inline struct key
key_hash(const uint8_t hash[HASH_LEN], uint64_t number)
{
	struct key k;

	k.len = 0;
	key_octets(&k, span_of(hash, HASH_LEN));
	key_u64(&k, number);
	return k;
}

/*
 * What domain keys start with: the reversed domain ("org.example."), and a 0 octet unless all
 * below it is meant too.
 */
struct key key_domain(struct span domain, bool sub);
/* lane_domain: reversed domain, 0, lane. */
struct key key_lane_domain(struct span domain, uint64_t lane);
/*
 * sender: reversed domain, 0, id, local part. By id before local part, so that pages of either
 * kind go on after an id.
 */
struct key key_sender(struct span reverse_path, uint64_t id);

#endif
