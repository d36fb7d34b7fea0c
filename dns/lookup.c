/*
 * lookup: MX, or A with AAAA, through a resolver; see lookup.h. What to think of an answer is
 * decided in mx.c.
 */
#include "dns/lookup.h"

#include <assert.h>
#include <stdlib.h>


enum { ADDRESSES_MAX = 64 };

/* Two queries at most; each kind of look-up uses its part. */
struct lookup {
	struct dns_query *queries[2];
	struct arena arena;
	bool lax;				/* allow_private, for addresses */
	void *arg;

	void (*on_mx)(void *arg, const struct mx_set *set);
	struct span domain;			/* as given, for people */
	struct span *own_names;
	size_t own_name_count;

	void (*on_addresses)(void *arg, const struct host_addresses *found);
	struct span host;
	uint16_t port;
	size_t most;
	struct netaddr *own;
	size_t own_count;
	struct dns_answer answers[2];		/* AAAA, A */
	struct dns_resolver *resolver;
	struct dns_grace grace;			/* one of them came, and will do */
	bool is_literal;
	struct netaddr literal;
};

enum { QUERY_AAAA, QUERY_A, QUERY_MX = 0 };

static void
lookup_free(struct lookup *l)
{
	arena_free(&l->arena);
	free(l);
}

static struct lookup *
lookup_new(void *arg, bool lax)
{
	struct lookup *l = xcalloc(1, sizeof(*l));

	l->arg = arg;
	l->lax = lax;
	return l;
}

void
lookup_cancel(struct lookup *l)
{
	if (l == NULL)
		return;
	for (size_t i = 0; i < 2; i++)
		dns_cancel(l->queries[i]);
	dns_grace_end(&l->grace);
	lookup_free(l);
}

/* "[192.0.2.1]", "[IPv6:2001:db8::1]", and both without brackets or tag. */
static bool
parse_literal(struct span host, struct netaddr *ret)
{
	if (host.len > 2 && host.at[0] == '[' && host.at[host.len - 1] == ']')
		host = span_of(host.at + 1, host.len - 2);
	if (span_istarts(host, SPAN("IPv6:")))
		host = span_skip(host, 5);
	return netaddr_parse(host, 0, ret);
}

/*
 * A name that nobody can ask for is answered in the loop's next turn: the way to be called back
 * without a question.
 */
static struct dns_query *
ask_or_wait(struct dns_resolver *resolver, bool ask, struct span name, enum dns_type type,
	    void (*done)(void *arg, const struct dns_answer *answer), struct lookup *l)
{
	return dns_ask(resolver, ask ? name : SPAN(""), type, done, l);
}

/* MX */

static void
literal_set(struct lookup *l, struct mx_set *ret)
{
	int64_t ttl_ms = (int64_t)DNS_TTL_MAX * 1000;

	*ret = (struct mx_set){ .count = 1, .implicit = true, .ttl_ms = ttl_ms };
	ret->hosts = arena_alloc(&l->arena, sizeof(*ret->hosts));
	ret->hosts[0].name = l->domain;
}

static void
on_mx_answer(void *arg, const struct dns_answer *answer)
{
	struct lookup *l = arg;
	struct mx_set set;

	l->queries[QUERY_MX] = NULL;
	if (l->is_literal)
		literal_set(l, &set);
	else
		mx_from_answer(answer, l->domain, l->own_names, l->own_name_count, l->lax,
			       &l->arena, &set);
	l->on_mx(l->arg, &set);
	lookup_free(l);
}

struct lookup *
lookup_mx(struct dns_resolver *resolver, struct span domain, const struct span *own_names,
	  size_t own_count, bool lax, void (*done)(void *arg, const struct mx_set *set), void *arg)
{
	struct lookup *l = lookup_new(arg, lax);
	struct span ascii;
	bool ask;

	l->on_mx = done;
	l->own_names = arena_alloc(&l->arena, (own_count + 1) * sizeof(*own_names));
	l->own_name_count = own_count;
	for (size_t i = 0; i < own_count; i++)
		l->own_names[i] = arena_copy(&l->arena, own_names[i]);
	l->domain = arena_copy(&l->arena, domain);
	l->is_literal = span_starts(domain, SPAN("[")) && parse_literal(domain, &l->literal);
	ask = !l->is_literal && domain_to_ascii(domain, &l->arena, &ascii);
	if (ask)
		l->domain = ascii;	/* the name of an implicit MX, too */
	l->queries[QUERY_MX] = ask_or_wait(resolver, ask, l->domain, DNS_MX, on_mx_answer, l);
	return l;
}

/* addresses */

/* 0.0.0.0, ::; as a destination they lead to this host. */
static bool
is_unspecified(const struct netaddr *address)
{
	static const uint8_t zeros[16];

	return memcmp(address->ip, zeros, sizeof(zeros)) == 0;
}

static bool
is_own(const struct lookup *l, const struct netaddr *address)
{
	for (size_t i = 0; i < l->own_count; i++) {
		const struct netaddr *own = &l->own[i];
		bool everywhere = own->family == address->family && is_unspecified(own) &&
				  (netaddr_is_loopback(address) || is_unspecified(address));

		if ((own->port == 0 || own->port == l->port) &&
		    (everywhere || netaddr_same_ip(own, address)))
			return true;
	}
	return false;
}

/* An answer is good during its callback only; the other one may take long. */
static void
keep_answer(struct lookup *l, const struct dns_answer *answer, struct dns_answer *ret)
{
	*ret = *answer;
	ret->text = arena_copy(&l->arena, answer->text);
	ret->records = arena_alloc(&l->arena, (answer->count + 1) * sizeof(*ret->records));
	for (size_t i = 0; i < answer->count; i++)
		ret->records[i].address = answer->records[i].address;
}

/* True: there were such. */
static bool
drop_own(const struct lookup *l, struct dns_answer *answer)
{
	size_t kept = 0, count = answer->count;

	for (size_t i = 0; i < count; i++)
		if (!is_own(l, &answer->records[i].address))
			answer->records[kept++] = answer->records[i];
	answer->count = kept;
	return kept < count;
}

static struct reply
say_no(struct lookup *l, uint16_t code, uint16_t detail, const char *what, struct span why)
{
	struct reply reply = { code, { (uint8_t)(code / 100), 4, detail }, { 0 } };

	reply.text = arena_printf(&l->arena, "%.*s%s%.*s", SPAN_FMT(l->host), what, SPAN_FMT(why));
	return reply;
}

static struct reply
no_address(struct lookup *l, bool met_own)
{
	const struct dns_answer *failed = NULL;
	bool met_any = false;

	for (size_t i = 0; i < 2; i++) {
		if (l->answers[i].outcome == DNS_TEMPORARY)
			failed = &l->answers[i];
		met_any = met_any || l->answers[i].count > 0;
	}
	if (failed != NULL)
		return say_no(l, 451, 3, ": address look-up failed: ", failed->text);
	if (met_own)
		return say_no(l, 554, 6, " is me: mail loops back", SPAN(""));
	if (met_any)
		return say_no(l, 550, 4, " has only private addresses", SPAN(""));
	return say_no(l, 550, 4, " has no address", SPAN(""));
}

static void
finish_addresses(struct lookup *l)
{
	struct host_addresses found = { 0 };
	bool met_own = drop_own(l, &l->answers[QUERY_AAAA]);

	dns_grace_end(&l->grace);
	met_own = drop_own(l, &l->answers[QUERY_A]) || met_own;
	found.addresses = arena_alloc(&l->arena, l->most * sizeof(*found.addresses));
	found.count = mx_interleave(&l->answers[QUERY_AAAA], &l->answers[QUERY_A], l->lax,
				    found.addresses, l->most);
	for (size_t i = 0; i < found.count; i++)
		found.addresses[i].port = l->port;
	if (found.count == 0)
		found.failure = no_address(l, met_own);
	l->on_addresses(l->arg, &found);
	lookup_free(l);
}

static void
on_grace_over(struct dns_grace *grace)
{
	struct lookup *l = CONTAINER_OF(grace, struct lookup, grace);

	for (size_t i = 0; i < 2; i++) {
		if (l->queries[i] == NULL)
			continue;
		dns_cancel(l->queries[i]);
		l->queries[i] = NULL;
		l->answers[i] = (struct dns_answer){ .outcome = DNS_TEMPORARY,
						     .text = SPAN("no answer yet") };
	}
	finish_addresses(l);
}

/* An address that can be tried. If it is our own the other answer decides, too. */
static bool
will_do(const struct lookup *l, const struct dns_answer *answer)
{
	bool own = false, usable = false;

	for (size_t i = 0; i < answer->count; i++) {
		const struct netaddr *address = &answer->records[i].address;

		own = own || is_own(l, address);
		usable = usable || l->lax || !netaddr_is_private(address);
	}
	return usable && !own;
}

static void
on_address_answer(struct lookup *l, size_t which, const struct dns_answer *answer)
{
	l->queries[which] = NULL;
	keep_answer(l, answer, &l->answers[which]);
	if (l->queries[QUERY_AAAA] == NULL && l->queries[QUERY_A] == NULL)
		finish_addresses(l);
	else if (will_do(l, &l->answers[which]))
		dns_grace_begin(l->resolver, &l->grace, on_grace_over);
}

static void
on_aaaa(void *arg, const struct dns_answer *answer)
{
	on_address_answer(arg, QUERY_AAAA, answer);
}

static void
on_a(void *arg, const struct dns_answer *answer)
{
	on_address_answer(arg, QUERY_A, answer);
}

static void
on_literal(void *arg, const struct dns_answer *answer)
{
	struct lookup *l = arg;
	struct dns_record record = { .address = l->literal };
	struct dns_answer found = { .outcome = DNS_FOUND, .records = &record, .count = 1 };
	struct dns_answer none = { .outcome = DNS_NODATA };
	bool six = l->literal.family == AF_INET6;

	(void)answer;
	l->queries[0] = NULL;
	l->answers[QUERY_AAAA] = six ? found : none;
	l->answers[QUERY_A] = six ? none : found;
	finish_addresses(l);
}

struct lookup *
lookup_addresses(struct dns_resolver *resolver, struct span host, uint16_t port, bool allow_private,
		 size_t most, void (*done)(void *arg, const struct host_addresses *found),
		 void *arg)
{
	struct lookup *l = lookup_new(arg, allow_private);
	struct span ascii;
	bool ask;

	assert(most > 0);
	l->on_addresses = done;
	l->resolver = resolver;
	l->host = arena_copy(&l->arena, host);
	l->port = port;
	l->most = most < ADDRESSES_MAX ? most : ADDRESSES_MAX;
	l->is_literal = parse_literal(host, &l->literal);
	if (l->is_literal) {
		l->queries[0] = ask_or_wait(resolver, false, host, DNS_A, on_literal, l);
		return l;
	}
	ask = domain_to_ascii(host, &l->arena, &ascii);
	l->queries[QUERY_AAAA] =
		ask_or_wait(resolver, ask, ask ? ascii : host, DNS_AAAA, on_aaaa, l);
	l->queries[QUERY_A] = ask_or_wait(resolver, ask, ask ? ascii : host, DNS_A, on_a, l);
	return l;
}

void
lookup_drop_own(struct lookup *l, const struct netaddr *own, size_t count)
{
	l->own = arena_alloc(&l->arena, (count + 1) * sizeof(*own));
	if (count > 0)
		memcpy(l->own, own, count * sizeof(*own));
	l->own_count = count;
}
