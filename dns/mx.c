/* mx: from an MX answer to the hosts worth trying; see mx.h. */
#include "dns/mx.h"

#include <stdlib.h>

static int
compare_names(struct span a, struct span b)
{
	size_t shorter = a.len < b.len ? a.len : b.len;
	int order = shorter > 0 ? memcmp(a.at, b.at, shorter) : 0;

	if (order != 0)
		return order;
	return (a.len > b.len) - (a.len < b.len);
}

static int
compare_hosts(const void *left, const void *right)
{
	const struct mx_host *a = left, *b = right;

	if (a->preference != b->preference)
		return a->preference < b->preference ? -1 : 1;
	return compare_names(a->name, b->name);
}

static bool
is_localhost(struct span name)
{
	return span_ieq(name, SPAN("localhost")) || span_ieq(name, SPAN("localhost.localdomain")) ||
	       (name.len > 10 && span_ieq(span_skip(name, name.len - 10), SPAN(".localhost")));
}

/* Letters, digits, hyphens, dots; the underscore is against RFC 952 but alive. */
static bool
is_host_name(struct span name)
{
	for (size_t i = 0; i < name.len; i++) {
		char c = ascii_lower(name.at[i]);

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
		      c == '_'))
			return false;
	}
	return name.len > 0;
}

static bool
is_usable(struct span name, bool lax)
{
	struct netaddr literal;

	if (netaddr_parse(name, 0, &literal))
		return lax;
	return is_host_name(name) && (lax || !is_localhost(name));
}

static bool
is_own(struct span name, const struct span *own_names, size_t own_count)
{
	for (size_t i = 0; i < own_count; i++)
		if (span_ieq(name, own_names[i]))
			return true;
	return false;
}

static struct reply
failure(uint16_t code, uint8_t klass, uint16_t subject, uint16_t detail, struct span text)
{
	return (struct reply){ code, { klass, subject, detail }, text };
}

/*
 * Null MX, RFC 7505; beside real hosts the root is only a mistake and is dropped with the
 * unusable ones.
 */
static bool
is_null_mx(const struct dns_answer *answer)
{
	for (size_t i = 0; i < answer->count; i++)
		if (answer->records[i].name.len > 0)
			return false;
	return answer->count > 0;
}

/* The same host twice counts at its best preference, which comes first. */
static bool
has_host(const struct mx_set *set, struct span name)
{
	for (size_t i = 0; i < set->count; i++)
		if (span_eq(set->hosts[i].name, name))
			return true;
	return false;
}

/* From the hosts in order of preference takes those that may be tried. True: we met ourselves. */
static bool
choose_hosts(const struct mx_host *all, size_t count, const struct span *own_names,
	     size_t own_count, bool lax, struct mx_set *ret)
{
	for (size_t i = 0; i < count; i++) {
		if (is_own(all[i].name, own_names, own_count)) {
			/* RFC 5321 §5.1: ourselves and all of equal preference, too. */
			while (ret->count > 0 &&
			       ret->hosts[ret->count - 1].preference == all[i].preference)
				ret->count--;
			return true;
		}
		if (ret->count < MX_HOSTS_MAX && is_usable(all[i].name, lax) &&
		    !has_host(ret, all[i].name))
			ret->hosts[ret->count++] = all[i];
	}
	return false;
}

static size_t
list_hosts(const struct dns_answer *answer, struct span domain, struct arena *arena,
	   struct mx_host **ret)
{
	struct mx_host *all;

	if (answer->outcome == DNS_NODATA) {
		all = arena_alloc(arena, sizeof(*all));
		all[0].name = arena_copy(arena, domain);
		*ret = all;
		return 1;
	}
	all = arena_alloc(arena, answer->count * sizeof(*all));
	for (size_t i = 0; i < answer->count; i++) {
		all[i].name = arena_copy(arena, answer->records[i].name);
		all[i].preference = answer->records[i].preference;
	}
	qsort(all, answer->count, sizeof(*all), compare_hosts);
	*ret = all;
	return answer->count;
}

static void
set_from_hosts(const struct dns_answer *answer, struct span domain, const struct span *own_names,
	       size_t own_count, bool lax, struct arena *arena, struct mx_set *ret)
{
	struct mx_host *all;
	size_t count = list_hosts(answer, domain, arena, &all);
	bool loop;

	ret->implicit = answer->outcome == DNS_NODATA;
	ret->hosts = arena_alloc(arena, MX_HOSTS_MAX * sizeof(*ret->hosts));
	loop = choose_hosts(all, count, own_names, own_count, lax, ret);
	if (ret->count > 0)
		return;
	if (loop)
		ret->failure = failure(
			554, 5, 4, 6,
			arena_printf(arena, "mail for %.*s loops back to me", SPAN_FMT(domain)));
	else
		ret->failure = failure(
			550, 5, 4, 4,
			arena_printf(arena, "%.*s has no usable MX host", SPAN_FMT(domain)));
}

void
mx_from_answer(const struct dns_answer *answer, struct span domain, const struct span *own_names,
	       size_t own_count, bool lax, struct arena *arena, struct mx_set *ret)
{
	*ret = (struct mx_set){
		.ttl_ms = (int64_t)answer->ttl * 1000,
		.secure = answer->authenticated,
		.canonical = answer->canonical,
	};
	if (ret->ttl_ms < MX_TTL_MIN_MS)
		ret->ttl_ms = MX_TTL_MIN_MS;
	switch (answer->outcome) {
	case DNS_FOUND:
		if (is_null_mx(answer)) {
			ret->failure = failure(556, 5, 1, 10,
					       arena_printf(arena, "%.*s takes no mail (null MX)",
							    SPAN_FMT(domain)));
			return;
		}
		set_from_hosts(answer, domain, own_names, own_count, lax, arena, ret);
		return;
	case DNS_NODATA:
		set_from_hosts(answer, domain, own_names, own_count, lax, arena, ret);
		return;
	case DNS_NXDOMAIN:
		ret->failure = failure(
			550, 5, 1, 2,
			arena_printf(arena, "the domain %.*s does not exist", SPAN_FMT(domain)));
		return;
	case DNS_BAD_NAME:
		ret->failure = failure(550, 5, 1, 2,
				       arena_printf(arena, "%.*s is no domain that DNS can hold",
						    SPAN_FMT(domain)));
		return;
	case DNS_TEMPORARY:
		break;
	}
	ret->ttl_ms = 0;
	ret->failure = failure(451, 4, 4, 3,
			       arena_printf(arena, "MX look-up of %.*s failed: %.*s",
					    SPAN_FMT(domain), SPAN_FMT(answer->text)));
}

struct span
mx_site_key(const struct mx_set *set, uint16_t port, struct arena *arena)
{
	struct mx_host *hosts = arena_alloc(arena, (set->count + 1) * sizeof(*hosts));
	struct buf key = { 0 };
	struct span ret;

	/* The set may have been shuffled for an attempt. */
	if (set->count > 0)
		memcpy(hosts, set->hosts, set->count * sizeof(*hosts));
	qsort(hosts, set->count, sizeof(*hosts), compare_hosts);
	buf_append(&key, SPAN("mx:"));
	for (size_t i = 0; i < set->count; i++) {
		if (i > 0)
			buf_byte(&key, hosts[i].preference == hosts[i - 1].preference ? ',' : '>');
		buf_append(&key, hosts[i].name);
	}
	buf_printf(&key, ":%u", (unsigned)port);
	ret = arena_copy(arena, buf_span(&key));
	buf_free(&key);
	return ret;
}

/* What follows the last colon; an address literal has colons of its own. */
static bool
cut_port(struct span *key, uint16_t *ret)
{
	size_t at = key->len;
	uint64_t port;

	while (at > 0 && key->at[at - 1] != ':')
		at--;
	if (at == 0 || !span_to_u64(span_skip(*key, at), UINT16_MAX, &port) || port == 0)
		return false;
	key->len = at - 1;
	*ret = (uint16_t)port;
	return true;
}

bool
mx_parse_site_key(struct span key, struct arena *arena, struct mx_set *ret, uint16_t *port)
{
	struct mx_set set = { 0 };
	uint16_t at_port, rank = 0;

	if (!span_starts(key, SPAN("mx:")))
		return false;
	key = span_skip(key, 3);
	if (!cut_port(&key, &at_port))
		return false;
	set.hosts = arena_alloc(arena, MX_HOSTS_MAX * sizeof(*set.hosts));
	while (set.count < MX_HOSTS_MAX) {
		size_t len = 0;

		while (len < key.len && key.at[len] != ',' && key.at[len] != '>')
			len++;
		if (len == 0)
			return false;
		set.hosts[set.count++] =
			(struct mx_host){ arena_copy(arena, span_first(key, len)), rank };
		if (len == key.len) {
			*ret = set;
			*port = at_port;
			return true;
		}
		rank = (uint16_t)(rank + (key.at[len] == '>'));
		key = span_skip(key, len + 1);
	}
	return false;
}

/* splitmix64: even enough to share load; nothing secret hangs on it. */
static uint64_t
next_chance(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

void
mx_shuffle(struct mx_host *hosts, size_t count, uint64_t chance)
{
	for (size_t start = 0, end; start < count; start = end) {
		for (end = start + 1;
		     end < count && hosts[end].preference == hosts[start].preference;)
			end++;
		for (size_t left = end - start; left > 1; left--) {
			size_t other = start + (size_t)(next_chance(&chance) % left);
			struct mx_host swap = hosts[start + left - 1];

			hosts[start + left - 1] = hosts[other];
			hosts[other] = swap;
		}
	}
}

/* The next address of an answer that may be used, or NULL at its end. */
static const struct netaddr *
next_address(const struct dns_answer *answer, size_t *at, bool allow_private,
	     const struct netaddr *taken, size_t count)
{
	if (answer == NULL || answer->outcome != DNS_FOUND)
		return NULL;
	while (*at < answer->count) {
		const struct netaddr *address = &answer->records[(*at)++].address;
		bool again = false;

		for (size_t i = 0; i < count && !again; i++)
			again = netaddr_same_ip(&taken[i], address);
		if (!again && (allow_private || !netaddr_is_private(address)))
			return address;
	}
	return NULL;
}

size_t
mx_interleave(const struct dns_answer *a6, const struct dns_answer *a4, bool allow_private,
	      struct netaddr *ret, size_t most)
{
	size_t at6 = 0, at4 = 0, count = 0;
	bool more = true;

	while (more && count < most) {
		const struct netaddr *address = next_address(a6, &at6, allow_private, ret, count);

		more = address != NULL;
		if (address != NULL)
			ret[count++] = *address;
		if (count == most)
			break;
		address = next_address(a4, &at4, allow_private, ret, count);
		more = more || address != NULL;
		if (address != NULL)
			ret[count++] = *address;
	}
	return count;
}
