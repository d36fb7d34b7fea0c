/*
 * tls_policy: one rule after the other, the first that applies decides; see tls_policy.h.
 * INTEROP between the rules is RFC 8461 §2 (DANE before MTA-STS) and RFC 8689 §4.2.1, §5.
 *
 * Words: Status 4.7.5 and 5.7.5 a proof that failed, x.7.4 TLS not to be had, x.7.10 the same
 * where the sender required it, 5.7.30 no REQUIRETLS.
 */
#include "policy/tls_policy.h"

#include <assert.h>

#include "mta/base/netaddr.h"

struct deciding {
	const struct tls_question *question;
	struct arena *arena;
	struct tls_demand *demand;
};

static const struct {
	const char *word;
	enum tls_wish wish;
} wishes[] = {
	{ "off", TLS_WISH_OFF },       { "may", TLS_WISH_MAY },   { "required", TLS_WISH_REQUIRED },
	{ "verify", TLS_WISH_VERIFY }, { "dane", TLS_WISH_DANE }, { "mta-sts", TLS_WISH_MTA_STS },
};

bool
tls_wish_parse(struct span word, enum tls_wish *ret)
{
	for (size_t i = 0; i < sizeof(wishes) / sizeof(*wishes); i++)
		if (span_eq(word, span_str(wishes[i].word))) {
			*ret = wishes[i].wish;
			return true;
		}
	return false;
}

const char *
tls_wish_text(enum tls_wish wish)
{
	for (size_t i = 0; i < sizeof(wishes) / sizeof(*wishes); i++)
		if (wishes[i].wish == wish)
			return wishes[i].word;
	return "strongest";
}

const char *
tls_source_text(enum tls_source source)
{
	static const char *const names[] = {
		[TLS_SOURCE_DEFAULT] = "default", [TLS_SOURCE_ROUTE] = "route",
		[TLS_SOURCE_DANE] = "dane",	  [TLS_SOURCE_MTA_STS] = "mta-sts",
		[TLS_SOURCE_SENDER] = "sender",
	};

	return names[source];
}

/* ---- which facts --------------------------------------------------------------------------- */

/*
 * "TLS-Required: No" does not count where REQUIRETLS was given (RFC 8689 §3), nor against what the
 * operator has written into the route.
 */
static bool
sender_waives(const struct tls_question *q)
{
	return q->tls_required_no && !q->requiretls && q->wish != TLS_WISH_DANE &&
	       q->wish != TLS_WISH_MTA_STS;
}

/* Does what the other side publishes count at all? */
static bool
listens(const struct tls_question *q, enum tls_wish alone)
{
	if (sender_waives(q) || q->wish == TLS_WISH_OFF)
		return false;
	return q->requiretls || q->wish == TLS_WISH_STRONGEST || q->wish == alone;
}

bool
tls_policy_asks_dane(const struct tls_question *q)
{
	return q->resolver == RESOLVER_VALIDATES && listens(q, TLS_WISH_DANE);
}

bool
tls_policy_asks_sts(const struct tls_question *q)
{
	return !q->by_configuration && listens(q, TLS_WISH_MTA_STS);
}

/* ---- the demand ---------------------------------------------------------------------------- */

static void
add_name(struct tls_demand *demand, struct span name)
{
	if (name.len == 0)
		return;
	for (size_t i = 0; i < demand->name_count; i++)
		if (span_ieq(demand->names[i], name))
			return;
	if (demand->name_count < sizeof(demand->names) / sizeof(*demand->names))
		demand->names[demand->name_count++] = name;
}

/* RFC 6066 §3: no addresses. */
static struct span
sni_of(struct span host)
{
	struct netaddr address;

	return host.len == 0 || host.at[0] == '[' || netaddr_parse(host, 0, &address) ? SPAN("") :
											host;
}

static void
demand_tls(struct deciding *d, enum tls_use use, enum tls_source source, struct span reason)
{
	d->demand->use = use;
	d->demand->source = source;
	d->demand->reason = reason;
	d->demand->sni = use == TLS_USE_NEVER ? SPAN("") : sni_of(d->question->host);
}

static void
demand_ca(struct deciding *d, enum tls_source source, bool enforce, struct span reason)
{
	demand_tls(d, enforce ? TLS_USE_ALWAYS : TLS_USE_IF_OFFERED, source, reason);
	d->demand->proof = TLS_PROOF_CA;
	d->demand->enforce = enforce;
	add_name(d->demand, d->question->host);
}

static void
refuse(struct deciding *d, enum tls_go go, enum tls_source source, struct reply reply)
{
	*d->demand = (struct tls_demand){
		.go = go,
		.reply = reply,
		.source = source,
		.reason = reply.text,
	};
}

static struct reply
reply_from(struct arena *arena, uint16_t code, struct status status, const char *what,
	   struct span host, struct span detail)
{
	struct reply reply = { .code = code, .status = status };

	reply.text = arena_printf(arena, "%.*s%s%s%s%.*s", SPAN_FMT(host), host.len > 0 ? ": " : "",
				  what, detail.len > 0 ? ": " : "", SPAN_FMT(detail));
	return reply;
}

/* ---- what is published --------------------------------------------------------------------- */

static const struct dane_verdict *
dane_of(const struct deciding *d)
{
	return tls_policy_asks_dane(d->question) ? d->question->dane : NULL;
}

static const struct sts_policy *
sts_of(const struct deciding *d)
{
	const struct sts_policy *sts = tls_policy_asks_sts(d->question) ? d->question->sts : NULL;

	return sts != NULL && sts->mode != STS_MODE_NONE ? sts : NULL;
}

static void
demand_tlsa(struct deciding *d, const struct dane_verdict *dane)
{
	demand_tls(d, TLS_USE_ALWAYS, TLS_SOURCE_DANE, dane->reason);
	d->demand->proof = TLS_PROOF_TLSA;
	d->demand->enforce = true;
	d->demand->sni = dane->base;
	d->demand->tlsa = dane->records;
	d->demand->tlsa_count = dane->count;
	for (size_t i = 0; i < dane->name_count; i++)
		add_name(d->demand, dane->names[i]);
}

/* True: DANE has spoken. */
static bool
decide_dane(struct deciding *d)
{
	const struct dane_verdict *dane = dane_of(d);

	if (dane == NULL || dane->outcome == DANE_NONE)
		return false;
	assert(dane->outcome != DANE_NEEDS);
	if (dane->outcome == DANE_USABLE) {
		demand_tlsa(d, dane);
		return true;
	}
	if (dane->outcome == DANE_UNUSABLE) {
		demand_tls(d, TLS_USE_ALWAYS, TLS_SOURCE_DANE, dane->reason);
		d->demand->sni = dane->base;
		return true;
	}
	refuse(d, TLS_GO_NEXT_HOST, TLS_SOURCE_DANE,
	       reply_from(d->arena, 451, (struct status){ 4, 7, 5 }, "DANE", d->question->host,
			  dane->reason));
	return true;
}

/* A policy that is only tested binds those who ask for more than it does. */
static bool
must_enforce(const struct deciding *d, const struct sts_policy *sts)
{
	return sts->mode == STS_MODE_ENFORCE || d->question->requiretls ||
	       d->question->wish == TLS_WISH_MTA_STS;
}

/* True: MTA-STS has spoken. A policy that is only tested is tried and reported, no more. */
static bool
decide_sts(struct deciding *d)
{
	const struct sts_policy *sts = sts_of(d);
	bool enforce;

	if (sts == NULL)
		return false;
	enforce = must_enforce(d, sts);
	if (!sts_policy_lists(sts, d->question->host)) {
		struct span why = SPAN("the MTA-STS policy does not list this host");

		if (enforce)
			refuse(d, TLS_GO_NEXT_HOST, TLS_SOURCE_MTA_STS,
			       reply_from(d->arena, 451, (struct status){ 4, 7, 5 }, why.at,
					  d->question->host, SPAN("")));
		else
			demand_tls(d, TLS_USE_IF_OFFERED, TLS_SOURCE_MTA_STS, why);
		return true;
	}
	demand_ca(d, TLS_SOURCE_MTA_STS, enforce,
		  enforce ? SPAN("MTA-STS policy, mode enforce") :
			    SPAN("MTA-STS policy, mode testing"));
	return true;
}

/* TLSA records that nobody can use ask for TLS only; an MTA-STS policy may ask for more. */
static bool
decide_published(struct deciding *d)
{
	if (!decide_dane(d))
		return decide_sts(d);
	if (d->demand->go == TLS_GO && d->demand->proof == TLS_PROOF_NONE && sts_of(d) != NULL &&
	    must_enforce(d, sts_of(d)))
		return decide_sts(d);
	return true;
}

/* ---- the route's wish ---------------------------------------------------------------------- */

/*
 * The route's own names, else those that nobody could have forged; but unless a password is at
 * stake, a host name from an unsigned MX record will do, for few hosts have a certificate for each
 * domain they serve.
 */
static void
demand_route_ca(struct deciding *d, struct span reason)
{
	const struct tls_question *q = d->question;

	demand_ca(d, TLS_SOURCE_ROUTE, true, reason);
	if (q->credentials && !q->by_configuration)
		d->demand->name_count = 0;
	add_name(d->demand, q->next_hop);
	if (q->verify_name_count > 0) {
		d->demand->name_count = 0;
		d->demand->more_names = q->verify_names;
		d->demand->more_count = q->verify_name_count;
	}
}

static void
decide_wish(struct deciding *d)
{
	const struct tls_question *q = d->question;

	switch (q->wish) {
	case TLS_WISH_OFF:
		demand_tls(d, TLS_USE_NEVER, TLS_SOURCE_ROUTE, SPAN("the route says tls = off"));
		return;
	case TLS_WISH_MAY:
		demand_tls(d, TLS_USE_IF_OFFERED, TLS_SOURCE_ROUTE,
			   SPAN("the route says tls = may"));
		return;
	case TLS_WISH_REQUIRED:
		demand_tls(d, TLS_USE_ALWAYS, TLS_SOURCE_ROUTE,
			   SPAN("the route says tls = required"));
		return;
	case TLS_WISH_VERIFY: demand_route_ca(d, SPAN("the route says tls = verify")); return;
	case TLS_WISH_DANE:
		if (q->resolver != RESOLVER_VALIDATES) {
			refuse(d, TLS_GO_LATER, TLS_SOURCE_ROUTE,
			       REPLY(451, 4, 7, 5,
				     "the route says tls = dane, but the resolver is not known to "
				     "validate DNSSEC"));
			return;
		}
		break;
	case TLS_WISH_STRONGEST:
	case TLS_WISH_MTA_STS: break;
	}
	if (decide_published(d))
		return;
	if (q->wish == TLS_WISH_MTA_STS && !sender_waives(q)) {
		refuse(d, TLS_GO_LATER, TLS_SOURCE_ROUTE,
		       REPLY(451, 4, 7, 5,
			     "the route says tls = mta-sts, but no MTA-STS policy could be had"));
		return;
	}
	demand_tls(d, TLS_USE_IF_OFFERED, sender_waives(q) ? TLS_SOURCE_SENDER : TLS_SOURCE_DEFAULT,
		   sender_waives(q) ? SPAN("the message says TLS-Required: No") :
				      SPAN("no policy is published"));
}

/* ---- who else has a say -------------------------------------------------------------------- */

static bool
proven(const struct tls_demand *demand)
{
	return demand->use == TLS_USE_ALWAYS && demand->proof != TLS_PROOF_NONE && demand->enforce;
}

/*
 * REQUIRETLS: who the host is must be known from DANE, MTA-STS, a signed MX record or the
 * configuration, and it must prove it (RFC 8689 §4.2.1). A CA is not enough where the host's name
 * came from an unsigned record.
 */
static void
find_proof(struct deciding *d)
{
	const struct tls_question *q = d->question;

	if (q->by_configuration && proven(d->demand))
		return;
	*d->demand = (struct tls_demand){ 0 };
	if (!decide_published(d) && (q->by_configuration || q->by_dnssec))
		demand_route_ca(d, SPAN("REQUIRETLS: the host is verified"));
}

/* A certificate that names nobody we know of says nothing about who this is. */
static bool
has_proof_of_name(const struct tls_demand *demand)
{
	return proven(demand) && (demand->proof == TLS_PROOF_TLSA ||
				  demand->name_count + demand->more_count > 0);
}

static void
decide_requiretls(struct deciding *d)
{
	const struct tls_question *q = d->question;
	struct tls_demand *demand = d->demand;

	if (demand->go != TLS_GO)
		return;
	if (q->wish == TLS_WISH_OFF) {
		refuse(d, TLS_GO_NEVER, TLS_SOURCE_SENDER,
		       REPLY(550, 5, 7, 30, "REQUIRETLS: the route says tls = off"));
		return;
	}
	find_proof(d);
	if (demand->go != TLS_GO)
		return;
	if (has_proof_of_name(demand))
		demand->requiretls = demand->final = true;
	else if (q->resolver != RESOLVER_VALIDATES && !q->by_configuration)
		refuse(d, TLS_GO_LATER, TLS_SOURCE_SENDER,
		       REPLY(451, 4, 7, 5,
			     "REQUIRETLS: the resolver is not known to validate DNSSEC, and the "
			     "domain has no MTA-STS policy"));
	else
		refuse(d, TLS_GO_NEVER, TLS_SOURCE_SENDER,
		       REPLY(550, 5, 7, 30,
			     "REQUIRETLS: the next hop cannot be verified by DANE or MTA-STS"));
}

/* A password goes only to who has proved to be the host that it is meant for. */
static void
decide_credentials(struct deciding *d)
{
	const struct tls_question *q = d->question;

	if (d->demand->go != TLS_GO || q->credentials_unverified_ok || proven(d->demand))
		return;
	if (q->wish == TLS_WISH_OFF) {
		refuse(d, TLS_GO_LATER, TLS_SOURCE_ROUTE,
		       REPLY(451, 4, 7, 5, "the route has a password, but says tls = off"));
		return;
	}
	*d->demand = (struct tls_demand){ 0 };
	demand_route_ca(d, SPAN("the route has a password: the host is verified"));
}

void
tls_policy_decide(const struct tls_question *question, struct arena *arena, struct tls_demand *ret)
{
	struct deciding d = { question, arena, ret };

	*ret = (struct tls_demand){ 0 };
	decide_wish(&d);
	if (question->requiretls)
		decide_requiretls(&d);
	if (question->credentials)
		decide_credentials(&d);
}

/* ---- trouble ------------------------------------------------------------------------------- */

static const char *
trouble_text(enum tls_trouble trouble)
{
	switch (trouble) {
	case TLS_TROUBLE_NOT_OFFERED: return "TLS is required, but is not offered";
	case TLS_TROUBLE_REFUSED: return "TLS is required, but STARTTLS was refused";
	case TLS_TROUBLE_HANDSHAKE: return "TLS is required, but the handshake failed";
	case TLS_TROUBLE_NOT_VERIFIED: return "the host could not be verified";
	case TLS_TROUBLE_NO_REQUIRETLS: return "REQUIRETLS is needed, but is not offered";
	}
	return "?";
}

static bool
tolerated(const struct tls_demand *demand, enum tls_trouble trouble)
{
	switch (trouble) {
	case TLS_TROUBLE_NOT_OFFERED:
	case TLS_TROUBLE_REFUSED:
	case TLS_TROUBLE_HANDSHAKE: return demand->use != TLS_USE_ALWAYS;
	case TLS_TROUBLE_NOT_VERIFIED: return !demand->enforce;
	case TLS_TROUBLE_NO_REQUIRETLS: return !demand->requiretls;
	}
	return false;
}

/* What a host offers, it offers tomorrow as well; a refused or broken handshake may pass. */
static struct reply
trouble_reply(const struct tls_demand *demand, enum tls_trouble trouble, struct span host,
	      struct span detail, struct arena *arena)
{
	uint8_t klass = 4;
	uint16_t code = 451, number = trouble == TLS_TROUBLE_NOT_VERIFIED ? 5 : 4;

	if (demand->final) {
		if (trouble == TLS_TROUBLE_NO_REQUIRETLS) {
			klass = 5;
			number = 30;
		} else if (trouble == TLS_TROUBLE_NOT_OFFERED) {
			klass = 5;
			number = 10;
		}
	}
	if (klass == 5)
		code = 550;
	return reply_from(arena, code, (struct status){ klass, 7, number }, trouble_text(trouble),
			  host, detail);
}

bool
tls_policy_trouble(const struct tls_demand *demand, enum tls_trouble trouble, struct span host,
		   struct span detail, struct arena *arena, struct reply *ret)
{
	if (tolerated(demand, trouble))
		return true;
	*ret = trouble_reply(demand, trouble, host, detail, arena);
	return false;
}

/* ---- sharing connections ------------------------------------------------------------------- */

static void
put_span(struct buf *out, struct span s)
{
	buf_printf(out, "%zu:%.*s,", s.len, SPAN_FMT(s));
}

struct span
tls_policy_key(const struct tls_demand *demand, struct arena *arena)
{
	struct buf out = { 0 };
	struct span ret;

	buf_printf(&out, "%d%d%d%d,", (int)demand->use, (int)demand->proof, demand->enforce,
		   demand->requiretls);
	put_span(&out, demand->sni);
	if (demand->proof != TLS_PROOF_NONE) {
		for (size_t i = 0; i < demand->name_count; i++)
			put_span(&out, demand->names[i]);
		for (size_t i = 0; i < demand->more_count; i++)
			put_span(&out, demand->more_names[i]);
	}
	if (demand->proof == TLS_PROOF_TLSA)
		for (size_t i = 0; i < demand->tlsa_count; i++)
			put_span(&out, dns_tlsa_text(&demand->tlsa[i], arena));
	ret = arena_copy(arena, buf_span(&out));
	buf_free(&out);
	return ret;
}
