/* dns_records: see dns_records.h. RFC 1035 §5.1, 7672 §3.1.3, 8461 §3, 8460 §3. */
#include "policy/dns_records.h"

#include <inttypes.h>
#include <stdio.h>

#include "dns/tlsa.h"
#include "dns/txt.h"
#include "mta/base/map.h"
#include "policy/tlsrpt.h"

/* Beyond ASCII or not printable: a comment must not end its line. */
static void
put_comment(struct buf *out, struct span text)
{
	for (size_t i = 0; i < text.len; i++)
		buf_byte(out, (unsigned char)text.at[i] < ' ' || text.at[i] == 127 ? '?' :
										     text.at[i]);
}

static void
put_owner(const struct dns_records_facts *facts, const char *prefix, struct span domain,
	  const char *type, struct buf *out)
{
	buf_printf(out, "%s%.*s. ", prefix, SPAN_FMT(domain));
	if (facts->ttl > 0)
		buf_printf(out, "%" PRIu32 " ", facts->ttl);
	buf_printf(out, "IN %s ", type);
}

static void
put_txt(const struct dns_records_facts *facts, const char *prefix, struct span text,
	struct buf *out)
{
	put_owner(facts, prefix, facts->domain, "TXT", out);
	dns_txt_write(text, out);
	buf_byte(out, '\n');
}

void
dns_records_mx(const struct dns_records_facts *facts, struct buf *out)
{
	buf_printf(out,
		   facts->sends ? "; what comes back to the senders of deliveries (verp) at %.*s "
				  "comes here\n"
				  "; (an SPF record is needed, too, that allows each address that "
				  "mail leaves from:\n"
				  ";  it is not made or checked here)\n"
				: "; mail for %.*s comes here\n",
		   SPAN_FMT(facts->domain));
	put_owner(facts, "", facts->domain, "MX", out);
	buf_printf(out, "%u %.*s.\n", (unsigned)facts->preference, SPAN_FMT(facts->host));
}

static struct dns_tlsa
tlsa_of(const struct dns_records_key *key)
{
	return (struct dns_tlsa){
		.usage = TLSA_DANE_EE,
		.selector = TLSA_SPKI,
		.matching = TLSA_SHA256,
		.data = span_of(key->spki_sha256, sizeof(key->spki_sha256)),
	};
}

void
dns_records_tlsa(const struct dns_records_facts *facts, struct buf *out)
{
	struct arena arena = { 0 };

	if (facts->key_count > 0)
		buf_append(out,
			   SPAN("; DANE: the keys of this server (the zone must be signed)\n"));
	for (size_t i = 0; i < facts->key_count; i++) {
		const struct dns_records_key *key = &facts->keys[i];
		struct dns_tlsa tlsa = tlsa_of(key);
		char prefix[TLSA_PREFIX_MAX + 1];

		snprintf(prefix, sizeof(prefix), "_%u._tcp.", (unsigned)facts->port);
		put_owner(facts, prefix, facts->host, "TLSA", out);
		buf_append(out, dns_tlsa_text(&tlsa, &arena));
		buf_append(out, SPAN(" ; "));
		put_comment(out, key->label);
		buf_printf(out, "%s\n", key->next ? " (the next key)" : "");
	}
	arena_free(&arena);
}

void
dns_records_policy_file(const struct dns_records_facts *facts, struct buf *out)
{
	struct sts_policy policy = *facts->sts;
	struct span host = facts->host;

	if (policy.mx_count == 0 && policy.mode != STS_MODE_NONE) {
		policy.mx = &host;
		policy.mx_count = 1;
	}
	sts_policy_write(&policy, out);
}

/* The id changes when the policy does, and only then. */
static void
write_sts_text(const struct dns_records_facts *facts, struct buf *out)
{
	struct buf policy = { 0 };

	if (facts->sts_id.len > 0) {
		buf_printf(out, "v=STSv1; id=%.*s", SPAN_FMT(facts->sts_id));
		return;
	}
	dns_records_policy_file(facts, &policy);
	buf_printf(out, "v=STSv1; id=%016" PRIx64,
		   hash_bytes(buf_span(&policy).at, buf_len(&policy), 0));
	buf_free(&policy);
}

void
dns_records_sts(const struct dns_records_facts *facts, struct buf *out)
{
	struct buf text = { 0 };

	if (facts->sts == NULL)
		return;
	write_sts_text(facts, &text);
	buf_append(out, SPAN("; MTA-STS: a new id whenever the policy file changes\n"));
	put_txt(facts, "_mta-sts.", buf_span(&text), out);
	buf_free(&text);
}

void
dns_records_tlsrpt(const struct dns_records_facts *facts, struct buf *out)
{
	struct buf text = { 0 };

	if (facts->tlsrpt.len == 0)
		return;
	buf_printf(&text, "v=TLSRPTv1; rua=%.*s", SPAN_FMT(facts->tlsrpt));
	buf_append(out, SPAN("; TLSRPT: where others report how TLS to here went\n"));
	put_txt(facts, "_smtp._tls.", buf_span(&text), out);
	buf_free(&text);
}

void
dns_records_all(const struct dns_records_facts *facts, struct buf *out)
{
	struct buf policy = { 0 };

	dns_records_mx(facts, out);
	dns_records_tlsa(facts, out);
	dns_records_sts(facts, out);
	dns_records_tlsrpt(facts, out);
	if (facts->sts == NULL)
		return;
	buf_printf(out,
		   "; the policy file, to be had at https://mta-sts.%.*s" STS_POLICY_PATH "\n"
		   "; (a web server with a certificate of its name; CRLF at the end of each "
		   "line):\n",
		   SPAN_FMT(facts->domain));
	dns_records_policy_file(facts, &policy);
	for (struct span rest = buf_span(&policy); rest.len > 0;) {
		struct span line = span_cut(&rest, '\n');

		buf_printf(out, ";\t%.*s\n", (int)line.len - 1, line.at);
	}
	buf_free(&policy);
}

/* ---- what is published -------------------------------------------------------------------- */

const char *
dns_record_state_text(enum dns_record_state state)
{
	switch (state) {
	case DNS_RECORD_THERE: return "there";
	case DNS_RECORD_MISSING: return "missing";
	case DNS_RECORD_DIFFERENT: return "different";
	case DNS_RECORD_INSECURE: return "there, but the zone is not signed";
	case DNS_RECORD_UNKNOWN: return "unknown: the look-up failed";
	}
	return "?";
}

void
dns_records_needs(const struct dns_records_facts *facts, struct arena *arena,
		  struct facts_needs *ret)
{
	const struct facts_need all[] = {
		{ facts->domain, DNS_MX },
		{ dns_tlsa_name(facts->host, facts->port, arena), DNS_TLSA },
		{ sts_record_name(facts->domain, arena), DNS_TXT },
		{ tlsrpt_record_name(facts->domain, arena), DNS_TXT },
	};

	*ret = (struct facts_needs){ 0 };
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		if (all[i].name.len > 0)
			ret->need[ret->count++] = all[i];
}

/* True: there are records to look at; else *ret says why not. */
static bool
has_records(const struct dns_answer *answer, enum dns_record_state *ret)
{
	*ret = answer->outcome == DNS_TEMPORARY ? DNS_RECORD_UNKNOWN : DNS_RECORD_MISSING;
	return answer->outcome == DNS_FOUND;
}

enum dns_record_state
dns_records_check_mx(const struct dns_records_facts *facts, const struct dns_answer *answer)
{
	enum dns_record_state state;

	if (!has_records(answer, &state))
		return state;
	for (size_t i = 0; i < answer->count; i++)
		if (span_ieq(answer->records[i].name, facts->host))
			return DNS_RECORD_THERE;
	return DNS_RECORD_DIFFERENT;
}

enum dns_record_state
dns_records_check_tlsa(const struct dns_records_facts *facts, size_t key,
		       const struct dns_answer *answer)
{
	struct dns_tlsa want = tlsa_of(&facts->keys[key]), have;
	enum dns_record_state state;

	if (!has_records(answer, &state))
		return state;
	for (size_t i = 0; i < answer->count; i++)
		if (dns_tlsa_read(answer->records[i].data, &have) && have.usage == want.usage &&
		    have.selector == want.selector && have.matching == want.matching &&
		    span_eq(have.data, want.data))
			return answer->authenticated ? DNS_RECORD_THERE : DNS_RECORD_INSECURE;
	return DNS_RECORD_DIFFERENT;
}

enum dns_record_state
dns_records_check_sts(const struct dns_records_facts *facts, const struct dns_answer *answer)
{
	struct sts_record published;
	struct arena arena = { 0 };
	enum dns_record_state state;

	if (!has_records(answer, &state))
		return state;
	sts_record_from_answer(answer, &arena, &published);
	state = DNS_RECORD_DIFFERENT;
	if (published.outcome == STS_RECORD_FOUND &&
	    (facts->sts_id.len == 0 || span_eq(facts->sts_id, published.id)))
		state = DNS_RECORD_THERE;
	arena_free(&arena);
	return state;
}

enum dns_record_state
dns_records_check_tlsrpt(const struct dns_records_facts *facts, const struct dns_answer *answer)
{
	struct tlsrpt_record published, wanted;
	struct arena arena = { 0 };
	enum dns_record_state state;
	struct span text;

	if (!has_records(answer, &state))
		return state;
	state = DNS_RECORD_DIFFERENT;
	text = arena_printf(&arena, "v=TLSRPTv1; rua=%.*s", SPAN_FMT(facts->tlsrpt));
	if (tlsrpt_record_parse(text, &arena, &wanted) &&
	    tlsrpt_record_from_answer(answer, &arena, &published))
		for (size_t i = 0; i < published.count; i++)
			if (span_eq(published.uris[i].text, wanted.uris[0].text))
				state = DNS_RECORD_THERE;
	arena_free(&arena);
	return state;
}
