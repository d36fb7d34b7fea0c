/*
 * fuzz_dns: octets → answer → set of MX hosts, site's key and addresses. The first octet chooses
 * the type and the name asked for (a fixed one, or the one in the message's own question); the
 * rest is the message, and then a site's key and a domain as well.
 */
#include <arpa/nameser.h>
#include <assert.h>
#include <resolv.h>
#include <stdint.h>
#include <stdlib.h>

#include "dns/lookup.h"
#include "dns/question.h"
#include "dns/tlsa.h"
#include "dns/txt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_answer(const struct dns_answer *answer)
{
	assert(answer->outcome <= DNS_TEMPORARY);
	assert((answer->outcome == DNS_FOUND) == (answer->count > 0));
	assert(answer->count <= DNS_RECORDS_MAX);
	assert(answer->ttl <= (answer->outcome == DNS_FOUND ? DNS_TTL_MAX : DNS_TTL_NEGATIVE_MAX));
	assert(answer->text.len > 0);
}

static void
check_data(const struct dns_answer *answer, struct arena *arena)
{
	for (size_t i = 0; i < answer->count; i++) {
		struct span rdata = answer->records[i].data, text;
		struct dns_tlsa tlsa;

		if (dns_tlsa_read(rdata, &tlsa))
			assert(dns_tlsa_text(&tlsa, arena).len == 6 + 2 * tlsa.data.len ||
			       tlsa.usage > 9 || tlsa.selector > 9 || tlsa.matching > 9);
		if (dns_txt_read(rdata, arena, &text))
			assert(text.len < rdata.len);
	}
}

static void
check_set(const struct mx_set *set, struct arena *arena)
{
	struct mx_set back;
	uint16_t port;

	assert(set->count <= MX_HOSTS_MAX);
	if (set->count == 0) {
		assert(set->failure.code / 100 == set->failure.status.klass);
		return;
	}
	for (size_t i = 1; i < set->count; i++)
		assert(set->hosts[i - 1].preference <= set->hosts[i].preference);
	assert(mx_parse_site_key(mx_site_key(set, 25, arena), arena, &back, &port));
	assert(back.count == set->count && port == 25);
}

/* Whatever a key says, writing what was read gives a key that reads the same. */
static void
check_key(struct span key, struct arena *arena)
{
	struct mx_set set, again;
	uint16_t port, port_again;
	struct span written;

	if (!mx_parse_site_key(key, arena, &set, &port))
		return;
	written = mx_site_key(&set, port, arena);
	assert(mx_parse_site_key(written, arena, &again, &port_again));
	assert(port == port_again && set.count == again.count);
	assert(span_eq(written, mx_site_key(&again, port, arena)));
}

static void
check_domain(struct span domain, struct arena *arena)
{
	struct span ascii, again;

	if (!domain_to_ascii(domain, arena, &ascii))
		return;
	assert(dns_name_valid(ascii));
	assert(domain_to_ascii(ascii, arena, &again) && span_eq(ascii, again));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum dns_type types[] = { DNS_A, DNS_MX, DNS_AAAA },
				   more[] = { DNS_TXT, DNS_TLSA, DNS_CNAME };
	const struct span own = SPAN("mx2.example.org");
	struct arena arena = { 0 };
	struct span message, name = SPAN("example.org");
	char text[NS_MAXDNAME];
	struct dns_answer answer;
	struct netaddr addresses[8];
	struct mx_set set;
	enum dns_type type;

	if (size < 1)
		return 0;
	type = (data[0] & 0x20 ? more : types)[data[0] % 3];
	message = span_of(data + 1, size - 1);
	if ((data[0] & 0x80) && message.len > 12 &&
	    dn_expand(data + 1, data + size, data + 13, text, sizeof(text)) > 0)
		name = span_str(text);
	dns_answer_parse(message, name, type, &arena, &answer);
	check_answer(&answer);
	if (type == DNS_MX) {
		mx_from_answer(&answer, name, &own, 1, (data[0] & 0x40) != 0, &arena, &set);
		check_set(&set, &arena);
	} else if (type == DNS_TXT || type == DNS_TLSA) {
		check_data(&answer, &arena);
	} else {
		assert(mx_interleave(&answer, &answer, (data[0] & 0x40) != 0, addresses, 8) <= 8);
	}
	check_key(message, &arena);
	check_domain(message, &arena);
	arena_free(&arena);
	return 0;
}
