/*
 * answer: reads a response twice, first its CNAMEs, then the records of the name they lead to;
 * see answer.h.
 *
 * Every octet is hostile. libresolv's ns_* check bounds and compression; what they take for text
 * escapes control octets, so that a name from here is safe on one line. RFC 1035, 2181 §8 (TTL),
 * 2308 (negatives), 6891 (rcode).
 */
#include "dns/answer.h"

#include <arpa/nameser.h>
#include <limits.h>
#include <resolv.h>

enum { ALIASES_KEPT_MAX = 64, SOA_RDATA_MIN = 22 };

struct alias {
	struct span owner, target;
	uint32_t ttl;
	bool used;
};

struct reading {
	ns_msg msg;
	struct arena *arena;
	struct dns_answer *answer;
	enum dns_type type;
	struct alias aliases[ALIASES_KEPT_MAX];
	size_t alias_count;
};

static void
fail(struct dns_answer *answer, struct span why)
{
	answer->outcome = DNS_TEMPORARY;
	answer->text = why;
	answer->records = NULL;
	answer->count = 0;
	answer->ttl = 0;
	answer->authenticated = false;
}

static void
lower_ttl(struct dns_answer *answer, uint32_t ttl)
{
	if (ttl > INT32_MAX)
		ttl = 0;
	if (ttl < answer->ttl)
		answer->ttl = ttl;
}

/* A name that must fill the record's data from `skip` on. */
static bool
rdata_name(struct reading *r, const ns_rr *rr, size_t skip, struct span *ret)
{
	char text[NS_MAXDNAME];
	int used;

	if (ns_rr_rdlen(*rr) <= skip)
		return false;
	used = dn_expand(ns_msg_base(r->msg), ns_msg_end(r->msg), ns_rr_rdata(*rr) + skip, text,
			 sizeof(text));
	if (used < 0 || (size_t)used != ns_rr_rdlen(*rr) - skip)
		return false;
	*ret = arena_lower(r->arena, span_str(text));
	return true;
}

static bool
question_matches(struct reading *r, struct span name)
{
	ns_rr rr;

	if (ns_msg_count(r->msg, ns_s_qd) != 1 || ns_parserr(&r->msg, ns_s_qd, 0, &rr) < 0)
		return false;
	return ns_rr_type(rr) == (unsigned)r->type && ns_rr_class(rr) == ns_c_in &&
	       span_ieq(span_str(ns_rr_name(rr)), name);
}

/* Its upper bits stand in the OPT record: without them BADVERS (16) would pass for NOERROR. */
static void
read_rcode(struct reading *r)
{
	unsigned rcode = (unsigned)ns_msg_getflag(r->msg, ns_f_rcode);

	for (int i = 0; i < ns_msg_count(r->msg, ns_s_ar); i++) {
		ns_rr rr;

		if (ns_parserr(&r->msg, ns_s_ar, i, &rr) < 0 || ns_rr_type(rr) != ns_t_opt)
			continue;
		rcode |= (unsigned)(ns_rr_ttl(rr) >> 24 & 0xff) << 4;
		r->answer->edns = true;
		break;
	}
	r->answer->rcode = (uint16_t)rcode;
}

static struct span
rcode_text(struct reading *r)
{
	switch (r->answer->rcode) {
	case ns_r_formerr: return SPAN("FORMERR");
	case ns_r_servfail: return SPAN("SERVFAIL");
	case ns_r_notimpl: return SPAN("NOTIMP");
	case ns_r_refused: return SPAN("REFUSED");
	case ns_r_badvers: return SPAN("BADVERS");
	default: return arena_printf(r->arena, "rcode %u", (unsigned)r->answer->rcode);
	}
}

/* Is this an answer to our question at all, and does it say anything? False: *answer has failed. */
static bool
read_header(struct reading *r, struct span message, struct span name)
{
	struct dns_answer *answer = r->answer;

	if (message.len > NS_MAXMSG ||
	    ns_initparse((const unsigned char *)message.at, (int)message.len, &r->msg) < 0 ||
	    ns_msg_getflag(r->msg, ns_f_qr) != 1 ||
	    ns_msg_getflag(r->msg, ns_f_opcode) != ns_o_query) {
		fail(answer, SPAN("malformed answer"));
		return false;
	}
	read_rcode(r);
	if (!question_matches(r, name)) {
		fail(answer, SPAN("answer to another question"));
		return false;
	}
	if (answer->rcode != ns_r_noerror && answer->rcode != ns_r_nxdomain) {
		fail(answer, rcode_text(r));
		return false;
	}
	if (ns_msg_getflag(r->msg, ns_f_tc)) {
		fail(answer, SPAN("truncated answer"));
		return false;
	}
	answer->authenticated = ns_msg_getflag(r->msg, ns_f_ad) == 1;
	return true;
}

static bool
read_aliases(struct reading *r)
{
	for (int i = 0; i < ns_msg_count(r->msg, ns_s_an) && r->alias_count < ALIASES_KEPT_MAX;
	     i++) {
		struct alias *alias = &r->aliases[r->alias_count];
		ns_rr rr;

		if (ns_parserr(&r->msg, ns_s_an, i, &rr) < 0)
			return false;
		if (ns_rr_class(rr) != ns_c_in || ns_rr_type(rr) != ns_t_cname)
			continue;
		if (!rdata_name(r, &rr, 0, &alias->target))
			return false;
		alias->owner = arena_lower(r->arena, span_str(ns_rr_name(rr)));
		alias->ttl = ns_rr_ttl(rr);
		r->alias_count++;
	}
	return true;
}

static struct alias *
alias_of(struct reading *r, struct span owner)
{
	for (size_t i = 0; i < r->alias_count; i++)
		if (span_eq(r->aliases[i].owner, owner))
			return &r->aliases[i];
	return NULL;
}

/* Goes from answer->canonical to the end of its chain. */
static bool
follow_aliases(struct reading *r)
{
	struct dns_answer *answer = r->answer;
	struct alias *alias;
	size_t steps = 0;

	while ((alias = alias_of(r, answer->canonical)) != NULL) {
		if (alias->used) {
			fail(answer, SPAN("CNAME loop"));
			return false;
		}
		if (++steps > DNS_CNAMES_MAX) {
			fail(answer, SPAN("too many CNAMEs"));
			return false;
		}
		alias->used = true;
		lower_ttl(answer, alias->ttl);
		answer->canonical = alias->target;
	}
	return true;
}

static bool
read_record(struct reading *r, const ns_rr *rr, struct dns_record *ret)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };

	switch (r->type) {
	case DNS_A:
		if (ns_rr_rdlen(*rr) != NS_INADDRSZ)
			return false;
		ret->address.family = AF_INET;
		memcpy(ret->address.ip, ns_rr_rdata(*rr), NS_INADDRSZ);
		return true;
	case DNS_AAAA:
		if (ns_rr_rdlen(*rr) != NS_IN6ADDRSZ)
			return false;
		memcpy(&in6.sin6_addr, ns_rr_rdata(*rr), NS_IN6ADDRSZ);
		return netaddr_from_sockaddr((const struct sockaddr *)&in6, &ret->address);
	case DNS_MX:
		if (ns_rr_rdlen(*rr) < 3)
			return false;
		ret->preference = (uint16_t)ns_get16(ns_rr_rdata(*rr));
		return rdata_name(r, rr, 2, &ret->name);
	case DNS_CNAME:
		return rdata_name(r, rr, 0, &ret->name);
	case DNS_TXT:
	case DNS_TLSA:
		ret->data = arena_copy(r->arena, span_of(ns_rr_rdata(*rr), ns_rr_rdlen(*rr)));
		return true;
	}
	return false;
}

static bool
read_records(struct reading *r)
{
	struct dns_answer *answer = r->answer;

	for (int i = 0; i < ns_msg_count(r->msg, ns_s_an) && answer->count < DNS_RECORDS_MAX; i++) {
		ns_rr rr;

		if (ns_parserr(&r->msg, ns_s_an, i, &rr) < 0)
			return false;
		if (ns_rr_class(rr) != ns_c_in || ns_rr_type(rr) != (unsigned)r->type ||
		    !span_ieq(span_str(ns_rr_name(rr)), answer->canonical))
			continue;
		if (answer->records == NULL)
			answer->records =
				arena_alloc(r->arena, DNS_RECORDS_MAX * sizeof(*answer->records));
		if (!read_record(r, &rr, &answer->records[answer->count]))
			return false;
		answer->count++;
		lower_ttl(answer, ns_rr_ttl(rr));
	}
	return true;
}

/*
 * How long a negative answer is good: RFC 2308 §5. Without an SOA it must not be kept, and where
 * the server neither recurses nor has authority it is a referral: it says nothing about the name.
 */
static void
judge_negative(struct reading *r)
{
	struct dns_answer *answer = r->answer;

	for (int i = 0; i < ns_msg_count(r->msg, ns_s_ns); i++) {
		ns_rr rr;

		if (ns_parserr(&r->msg, ns_s_ns, i, &rr) < 0 || ns_rr_type(rr) != ns_t_soa ||
		    ns_rr_rdlen(rr) < SOA_RDATA_MIN)
			continue;
		lower_ttl(answer, ns_rr_ttl(rr));
		lower_ttl(answer, (uint32_t)ns_get32(ns_rr_rdata(rr) + ns_rr_rdlen(rr) - 4));
		lower_ttl(answer, DNS_TTL_NEGATIVE_MAX);
		return;
	}
	answer->ttl = 0;
	if (answer->outcome == DNS_NODATA && !ns_msg_getflag(r->msg, ns_f_ra) &&
	    !ns_msg_getflag(r->msg, ns_f_aa))
		fail(answer, SPAN("referral from a server that does not recurse"));
}

void
dns_answer_parse(struct span message, struct span name, enum dns_type type, struct arena *arena,
		 struct dns_answer *ret)
{
	struct reading r = { .arena = arena, .answer = ret, .type = type };

	*ret = (struct dns_answer){ .ttl = DNS_TTL_MAX, .rcode = DNS_RCODE_NONE };
	ret->canonical = arena_lower(arena, name);
	if (!read_header(&r, message, name))
		return;
	if (!read_aliases(&r)) {
		fail(ret, SPAN("malformed answer"));
		return;
	}
	if (type != DNS_CNAME && !follow_aliases(&r))
		return;
	if (ret->rcode == ns_r_noerror && !read_records(&r)) {
		fail(ret, SPAN("malformed answer"));
		return;
	}
	if (ret->count > 0) {
		ret->outcome = DNS_FOUND;
		ret->text = SPAN("found");
		return;
	}
	ret->outcome = ret->rcode == ns_r_nxdomain ? DNS_NXDOMAIN : DNS_NODATA;
	ret->text = ret->outcome == DNS_NXDOMAIN ? SPAN("NXDOMAIN") : SPAN("no such record");
	judge_negative(&r);
}
