/*
 * delivery_tls: what a delivery asks of TLS (policy/tls_policy.h), and what it makes of what it
 * finds (RFC 3207, 7435, 7672).
 *
 * For each host: what the DNS says of DANE is fetched, then the demand is made, before a connection
 * is. Where plain text may be, a host whose TLS does not work is tried once more without it, on a
 * new connection, and for a while after that at once. Where TLS is asked for there is no way back:
 * the host has failed, and the next one is tried. Its reactor only.
 */
#include "mta/base/clock.h"
#include "mta/base/log.h"
#include "mta/delivery/delivery_private.h"
#include "mta/tls/distrust.h"

static const struct netaddr *
address_now(const struct delivery *d)
{
	return &d->addresses[d->address - 1];
}

/* ---- before the connection ---------------------------------------------------------------- */

static const enum tls_wish wishes[] = {
	[ROUTE_TLS_AUTO] = TLS_WISH_STRONGEST,	[ROUTE_TLS_OFF] = TLS_WISH_OFF,
	[ROUTE_TLS_MAY] = TLS_WISH_MAY,		[ROUTE_TLS_REQUIRED] = TLS_WISH_REQUIRED,
	[ROUTE_TLS_VERIFY] = TLS_WISH_VERIFY,	[ROUTE_TLS_DANE] = TLS_WISH_DANE,
	[ROUTE_TLS_MTA_STS] = TLS_WISH_MTA_STS,
};

static struct tls_question
question_of(const struct delivery *d)
{
	return (struct tls_question){
		.wish = wishes[d->to.tls.tls],
		.host = d->host_name,
		.next_hop = d->to.next_hop,
		.by_configuration = d->to.is_static,
		.verify_names = d->to.tls.names,
		.verify_name_count = d->to.tls.name_count,
		.credentials = d->to.tls.login,
		.credentials_unverified_ok = d->route != NULL && d->route->auth_unverified,
		.by_dnssec = !d->to.is_static && (d->to.tls.mx == SITE_MX_IMPLICIT ||
						  (d->to.tls.mx == SITE_MX_SECURE &&
						   d->trust == RESOLVER_VALIDATES)),
		.requiretls = d->to.tls.wish == WISH_REQUIRETLS,
		.tls_required_no = d->to.tls.wish == WISH_TLS_OPTIONAL,
		.resolver = d->trust,
		.sts = d->sts,
	};
}

static enum dane_path
path_of(const struct delivery *d)
{
	if (d->to.is_static || d->to.tls.mx == SITE_MX_IMPLICIT)
		return DANE_DIRECT;
	return d->to.tls.mx == SITE_MX_SECURE ? DANE_BY_MX : DANE_BY_INSECURE_MX;
}

/* An MTA-STS policy that is only tested would have stopped this. */
static void
log_tested(struct delivery *d, struct span why)
{
	struct log_line l;

	if (d->watch != NULL || d->demand.source != TLS_SOURCE_MTA_STS || d->demand.enforce ||
	    !log_begin(&l, LOG_INFO, "sts-testing"))
		return;
	log_span(&l, "site", d->site_key);
	log_span(&l, "host", d->host_name);
	log_span(&l, "why", why);
	log_end(&l);
}

static void judge(struct delivery *d);

static void
on_facts(void *arg)
{
	struct delivery *d = arg;

	d->fetch = NULL;
	judge(d);
}

/* False: more must be known; on_facts comes back. */
static bool
judge_dane(struct delivery *d, struct dane_verdict *verdict)
{
	struct dane_question question = {
		.path = path_of(d), .host = d->host_name, .port = d->to.port,
		/* of a relay; domains that share a site are not told apart here */
		.next_hop = d->to.next_hop,
	};

	d->facts.arena = &d->arena;
	dane_judge(&question, &d->facts, verdict);
	if (verdict->outcome != DANE_NEEDS)
		return true;
	d->fetch = facts_fetch(d->reactor->resolver, &d->facts, &verdict->needs, on_facts, d);
	return false;
}

static void
judge(struct delivery *d)
{
	struct tls_question question = question_of(d);

	d->dane = NULL;
	if (d->host_name.len > 0 && tls_policy_asks_dane(&question)) {
		struct dane_verdict *verdict = arena_alloc(&d->arena, sizeof(*verdict));

		if (!judge_dane(d, verdict))
			return;
		question.dane = d->dane = verdict;
	}
	tls_policy_decide(&question, &d->arena, &d->demand);
	d->question = question;
	delivery_report_begin(d);
	delivery_tell(d, WATCH_DEMAND);
	if (d->demand.go == TLS_GO) {
		if (d->demand.proof == TLS_PROOF_NONE)
			log_tested(d, d->demand.reason);
		delivery_look_up_host(d);
		return;
	}
	delivery_report_tls(d, TLS_END_NOT_TRIED, TLS_TROUBLE_HANDSHAKE, TLSRPT_SUCCESS,
			    d->demand.reason);
	delivery_report_failed(d);
	if (d->demand.go == TLS_GO_LATER)
		d->host = d->to.host_count;	/* no other host would be better */
	delivery_host_failed(d, STAGE_TLS, d->demand.reply);
	delivery_log_trouble(d, "host-failed");
	delivery_next_host(d);
}

void
delivery_judge_tls(struct delivery *d)
{
	judge(d);
}

enum smtp_client_tls
delivery_wants_tls(const struct delivery *d)
{
	if (d->demand.use == TLS_USE_NEVER)
		return CLIENT_TLS_NEVER;
	if (d->demand.use == TLS_USE_ALWAYS || d->to.tls_on_connect)
		return CLIENT_TLS_MUST;
	if (d->plain ||
	    (d->watch == NULL && distrust_has(d->reactor->distrust, address_now(d), mono_ms())))
		return CLIENT_TLS_NEVER;
	return CLIENT_TLS_MAY;
}

/* By what it offers it will never do; nor will it tomorrow. */
bool
delivery_refuses_host(struct delivery *d, struct reply *ret)
{
	const struct reply *why = &d->client.failure;

	return d->demand.final && d->client.failure_stage == STAGE_TLS && why->code == 0 &&
	       why->status.klass == 4 &&	/* the machine's own words: it is not offered */
	       !tls_policy_trouble(&d->demand, TLS_TROUBLE_NOT_OFFERED, d->host_name, SPAN(""),
				   &d->arena, ret);
}

bool
delivery_falls_back(struct delivery *d)
{
	if (d->plain || d->finished || d->to.tls_on_connect ||
	    d->demand.use != TLS_USE_IF_OFFERED || d->client.failure_stage != STAGE_TLS)
		return false;
	if (d->watch == NULL)			/* what is only looked at changes nothing */
		distrust_add(d->reactor->distrust, address_now(d),
			     mono_ms() + d->config->limits.tls_fallback_ms);
	return true;
}

bool
delivery_tries_afresh(struct delivery *d)
{
	return d->offered_session && !d->afresh && !d->finished &&
	       d->client.failure_stage == STAGE_TLS;
}

/* ---- the handshake ------------------------------------------------------------------------ */

/* Who is called, and by what policy: a session is resumed only if all of it is the same. */
static struct span
resume_key(struct delivery *d)
{
	char text[NETADDR_TEXT_MAX];
	struct span who = d->host_name, policy = tls_policy_key(&d->demand, &d->arena);

	if (d->afresh || d->watch != NULL)
		return (struct span){ 0 };
	if (who.len == 0)
		who = span_str(netaddr_format(address_now(d), text));
	/* nor do we show that two of our sources are one: the mark is of addresses and name */
	return arena_printf(&d->arena, "%.*s:%u %s %d%d %llx %.*s", SPAN_FMT(who),
			    (unsigned)address_now(d)->port, tls_source_text(d->demand.source),
			    d->to.tls_on_connect, d->to.tls.login,
			    (unsigned long long)(d->source != NULL ? d->source->mark : 0),
			    SPAN_FMT(policy));
}

void
delivery_start_tls(struct delivery *d)
{
	const struct tls_demand *demand = &d->demand;
	struct tls_peer peer = {
		.sni = demand->sni,
		.names = demand->more_count > 0 ? demand->more_names : d->demand.names,
		.name_count = demand->more_count > 0 ? demand->more_count : demand->name_count,
		.alt_names_only = demand->source == TLS_SOURCE_MTA_STS,
		.tlsa_count = demand->proof == TLS_PROOF_TLSA ? demand->tlsa_count : 0,
	};
	struct tls *tls;

	/* for the log: is it who it says? */
	if (peer.name_count == 0 && d->host_name.len > 0) {
		peer.names = &d->host_name;
		peer.name_count = 1;
	}
	peer.tlsa = arena_alloc(&d->arena, (peer.tlsa_count + 1) * sizeof(*peer.tlsa));
	for (size_t i = 0; i < peer.tlsa_count; i++)
		peer.tlsa[i] = (struct tls_tlsa){ demand->tlsa[i].usage, demand->tlsa[i].selector,
						  demand->tlsa[i].matching, demand->tlsa[i].data };
	peer.resume = resume_key(d);
	tls = tls_client_new(d->config->client_tls, d->reactor->index, &peer);
	d->offered_session = tls_offers_session(tls);
	if (peer.tlsa_count > 0 && tls_tlsa_count(tls) == 0 && !d->to.tls.login &&
	    !demand->requiretls)
		/* RFC 7672 §2.2: all of them are unusable */
		d->demand.proof = TLS_PROOF_NONE;
	stream_deadline(&d->stream, delivery_wait_ms(d, d->config->limits.tls_timeout_ms));
	stream_start_tls(&d->stream, tls);
}

static bool
has_names(const struct delivery *d)
{
	return d->to.tls.name_count > 0 || d->host_name.len > 0;
}

static struct span
describe(struct delivery *d, const struct tls_facts *facts)
{
	static const char *const how[] = { [TLS_NOT_VERIFIED] = "unverified",
					   [TLS_BY_CA] = "verified",
					   [TLS_BY_DANE] = "dane" };
	const char *word = how[facts->verified];

	if (facts->verified == TLS_BY_CA && !has_names(d))
		word = "trusted";		/* a CA says who it is, but not who it should be */
	return arena_printf(&d->arena, "%s %s %s %s", facts->version, facts->cipher,
			    facts->group ? facts->group : "-", word);
}

static bool
has_shown(const struct delivery *d, const struct tls_facts *facts)
{
	if (d->demand.proof == TLS_PROOF_TLSA)
		return facts->verified == TLS_BY_DANE;
	return d->demand.proof == TLS_PROOF_NONE || facts->verified != TLS_NOT_VERIFIED;
}

/* What was asked for must have been shown. */
static bool
is_proven(const struct delivery *d, const struct tls_facts *facts)
{
	return !d->demand.enforce || has_shown(d, facts);
}

/* A proof that is only tried (a policy in testing) is counted as well. */
static void
report_secured(struct delivery *d, const struct tls_facts *facts)
{
	static const enum tlsrpt_result failures[] = {
		[TLS_UNVERIFIED_OTHER] = TLSRPT_VALIDATION_FAILURE,
		[TLS_UNVERIFIED_NAME] = TLSRPT_CERTIFICATE_HOST_MISMATCH,
		[TLS_UNVERIFIED_EXPIRED] = TLSRPT_CERTIFICATE_EXPIRED,
		[TLS_UNVERIFIED_ISSUER] = TLSRPT_CERTIFICATE_NOT_TRUSTED,
		[TLS_UNVERIFIED_TLSA] = TLSRPT_TLSA_INVALID,
	};

	if (has_shown(d, facts))
		delivery_report_tls(d, TLS_END_OPEN, TLS_TROUBLE_HANDSHAKE, TLSRPT_SUCCESS,
				    SPAN(""));
	else
		delivery_report_tls(d, TLS_END_TROUBLE, TLS_TROUBLE_NOT_VERIFIED,
				    failures[facts->unverified],
				    span_str(facts->verify_error != NULL ? facts->verify_error
									 : "no proof"));
}

void
delivery_is_plain(struct delivery *d)
{
	log_tested(d, d->client.features.starttls ? SPAN("TLS failed") :
						    SPAN("STARTTLS is not offered"));
}

struct reply
delivery_tls_failure(struct delivery *d)
{
	struct reply reply = d->client.failure;

	if (d->client.failure_stage == STAGE_TLS && d->demand.use == TLS_USE_ALWAYS)
		reply.text = arena_printf(&d->arena, "%.*s (%.*s)", SPAN_FMT(reply.text),
					  SPAN_FMT(d->demand.reason));
	return reply;
}

void
delivery_on_secured(struct stream *stream)
{
	struct delivery *d = CONTAINER_OF(stream, struct delivery, stream);
	struct span none = { 0 };
	struct tls_facts facts;

	tls_facts(stream->tls, &facts);
	report_secured(d, &facts);
	d->proven = is_proven(d, &facts);
	delivery_tell(d, WATCH_SECURED);
	if (!d->proven) {
		tls_forget(stream->tls);
		delivery_lose(d,
			      arena_printf(&d->arena, "its certificate is not good: %s",
					   facts.verify_error ? facts.verify_error : "no proof"));
		return;
	}
	if (d->demand.proof == TLS_PROOF_CA && facts.verified == TLS_NOT_VERIFIED)
		log_tested(d, span_str(facts.verify_error));
	distrust_remove(d->reactor->distrust, address_now(d));
	d->tls_text = describe(d, &facts);
	d->tls_resumed = facts.resumed;
	d->deadline_set = false;
	smtp_client_tls_done(&d->client);
	delivery_pump(d, &none);
}
