/*
 * dane: addresses first, TLSA records only below names whose zones are signed; see dane.h.
 *
 * The order is RFC 7672 §2.2.2's, for MX hosts as for others: servers that choke on TLSA queries
 * stand in unsigned zones and are never asked. A host that is an alias has two names below which
 * records may be (§2.2.3): the one it leads to, then its own.
 */
#include "policy/dane.h"

#include "mta/base/netaddr.h"

struct judging {
	const struct dane_question *question;
	const struct facts *facts;
	struct dane_verdict *verdict;
	struct span bases[2];		/* candidates, the best first */
	size_t base_count;
};

enum dane_path
dane_path_of(bool implicit, bool secure)
{
	if (implicit)
		return DANE_DIRECT;
	return secure ? DANE_BY_MX : DANE_BY_INSECURE_MX;
}

static void
conclude(struct judging *j, enum dane_outcome outcome, struct span reason)
{
	j->verdict->outcome = outcome;
	j->verdict->reason = reason;
}

static void
used(struct judging *j, const struct dns_answer *answer)
{
	if (answer->ttl < j->verdict->ttl)
		j->verdict->ttl = answer->ttl;
}

static void
lookup_failed(struct judging *j, const char *type, struct span name, const struct dns_answer *a)
{
	j->verdict->ttl = 0;
	conclude(j, DANE_SKIP,
		 arena_printf(j->facts->arena, "the look-up of %s for %.*s failed: %.*s", type,
			      SPAN_FMT(name), SPAN_FMT(a->text)));
}

static bool
is_alias(const struct judging *j, const struct dns_answer *answer)
{
	return answer->canonical.len > 0 && !span_ieq(answer->canonical, j->question->host);
}

/*
 * The host leads through an alias to a name in an unsigned zone: its own name may still be in a
 * signed one. False: nothing more is to be done now.
 */
static bool
judge_insecure_alias(struct judging *j)
{
	struct span host = j->question->host;
	const struct dns_answer *alias =
		facts_want(j->facts, host, DNS_CNAME, &j->verdict->needs);

	if (alias == NULL) {
		conclude(j, DANE_NEEDS, SPAN("is the alias secure?"));
		return false;
	}
	if (alias->outcome == DNS_TEMPORARY) {
		lookup_failed(j, "CNAME", host, alias);
		return false;
	}
	used(j, alias);
	if (alias->outcome != DNS_FOUND || !alias->authenticated) {
		conclude(j, DANE_NONE, SPAN("the host's addresses are not signed by DNSSEC"));
		return false;
	}
	j->bases[j->base_count++] = host;
	return true;
}

/* Which names may have records? False: the verdict is there, or needs are. */
static bool
find_bases(struct judging *j)
{
	struct span host = j->question->host;
	const struct dns_answer *a6, *a4, *found;

	a6 = facts_want(j->facts, host, DNS_AAAA, &j->verdict->needs);
	a4 = facts_want(j->facts, host, DNS_A, &j->verdict->needs);
	if (a6 == NULL || a4 == NULL) {
		conclude(j, DANE_NEEDS, SPAN("which addresses has the host?"));
		return false;
	}
	used(j, a6->outcome == DNS_TEMPORARY ? a4 : a6);
	used(j, a4->outcome == DNS_TEMPORARY ? a6 : a4);
	found = a4->outcome == DNS_FOUND ? a4 : a6;
	if (found->outcome != DNS_FOUND) {
		if (a4->outcome == DNS_TEMPORARY || a6->outcome == DNS_TEMPORARY)
			lookup_failed(j, "addresses", host,
				      a4->outcome == DNS_TEMPORARY ? a4 : a6);
		else
			conclude(j, DANE_NONE, SPAN("the host has no address"));
		return false;
	}
	if (!found->authenticated || (a6->outcome == DNS_FOUND && !a6->authenticated)) {
		if (is_alias(j, found))
			return judge_insecure_alias(j);
		conclude(j, DANE_NONE, SPAN("the host's addresses are not signed by DNSSEC"));
		return false;
	}
	if (is_alias(j, found))
		j->bases[j->base_count++] = found->canonical;
	j->bases[j->base_count++] = host;
	return true;
}

static void
add_name(struct dane_verdict *verdict, struct span name)
{
	if (name.len == 0)
		return;
	for (size_t i = 0; i < verdict->name_count; i++)
		if (span_ieq(verdict->names[i], name))
			return;
	verdict->names[verdict->name_count++] = name;
}

/* RFC 7672 §3.2.2. */
static void
set_names(struct judging *j)
{
	const struct dane_question *question = j->question;

	add_name(j->verdict, j->verdict->base);
	if (question->path == DANE_BY_MX) {
		add_name(j->verdict, question->next_hop);
		add_name(j->verdict, question->next_hop_expanded);
	} else {
		add_name(j->verdict, question->host);
	}
}

static bool
same_record(const struct dns_tlsa *a, const struct dns_tlsa *b)
{
	return a->usage == b->usage && a->selector == b->selector && a->matching == b->matching &&
	       span_eq(a->data, b->data);
}

static bool
have_record(const struct dane_verdict *verdict, const struct dns_tlsa *tlsa)
{
	for (size_t i = 0; i < verdict->count; i++)
		if (same_record(&verdict->records[i], tlsa))
			return true;
	return false;
}

static void
take_records(struct judging *j, struct span base, const struct dns_answer *answer)
{
	struct dane_verdict *verdict = j->verdict;
	struct arena *arena = j->facts->arena;

	verdict->base = base;
	verdict->published = answer->count;
	verdict->records = arena_alloc(arena, answer->count * sizeof(*verdict->records));
	for (size_t i = 0; i < answer->count; i++) {
		struct dns_tlsa tlsa;

		if (dns_tlsa_read(answer->records[i].data, &tlsa) && dns_tlsa_usable(&tlsa) &&
		    !have_record(verdict, &tlsa))
			verdict->records[verdict->count++] = tlsa;
	}
	if (verdict->count == 0) {
		dane_none_fit(verdict);
		return;
	}
	set_names(j);
	conclude(j, DANE_USABLE,
		 arena_printf(arena, "%zu usable TLSA record%s of %.*s", verdict->count,
			      verdict->count == 1 ? "" : "s", SPAN_FMT(base)));
}

/* The first name with secure records wins; a failed look-up before it is nobody's consent. */
static void
find_records(struct judging *j)
{
	const struct dns_answer *answers[2];
	struct span names[2];

	for (size_t i = 0; i < j->base_count; i++) {
		names[i] = dns_tlsa_name(j->bases[i], j->question->port, j->facts->arena);
		answers[i] = names[i].len == 0
				     ? NULL
				     : facts_want(j->facts, names[i], DNS_TLSA, &j->verdict->needs);
	}
	for (size_t i = 0; i < j->base_count; i++) {
		const struct dns_answer *answer = answers[i];

		if (names[i].len == 0)
			continue;
		if (answer == NULL) {
			conclude(j, DANE_NEEDS, SPAN("has the host TLSA records?"));
			return;
		}
		if (answer->outcome == DNS_TEMPORARY) {
			lookup_failed(j, "TLSA", names[i], answer);
			return;
		}
		used(j, answer);
		if (answer->outcome == DNS_FOUND && answer->authenticated) {
			take_records(j, j->bases[i], answer);
			return;
		}
	}
	conclude(j, DANE_NONE, SPAN("the host has no TLSA records, or none signed by DNSSEC"));
}

void
dane_judge(const struct dane_question *question, const struct facts *facts,
	   struct dane_verdict *ret)
{
	struct judging j = { .question = question, .facts = facts, .verdict = ret };
	struct netaddr address;

	*ret = (struct dane_verdict){ .ttl = DNS_TTL_MAX };
	if (question->path == DANE_BY_INSECURE_MX)
		conclude(&j, DANE_NONE, SPAN("the MX records are not signed by DNSSEC"));
	else if (question->host.len == 0 || question->host.at[0] == '[' ||
		 netaddr_parse(question->host, 0, &address))
		conclude(&j, DANE_NONE, SPAN("an address has no TLSA records"));
	else if (find_bases(&j))
		find_records(&j);
	if (ret->outcome != DANE_NEEDS)
		ret->needs.count = 0;
}

void
dane_none_fit(struct dane_verdict *verdict)
{
	verdict->outcome = DANE_UNUSABLE;
	verdict->count = verdict->name_count = 0;
	verdict->reason = SPAN("none of the host's TLSA records can be used");
}

size_t
dane_policy_lines(const struct dane_verdict *verdict, struct arena *arena, struct span *ret,
		  size_t most)
{
	size_t count = verdict->count < most ? verdict->count : most;

	for (size_t i = 0; i < count; i++)
		ret[i] = dns_tlsa_text(&verdict->records[i], arena);
	return count;
}
