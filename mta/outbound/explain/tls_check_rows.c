/* tls_check_rows: what a check has met, as rows. See tls_check.h. Home loop only. */
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/outbound/explain/tls_check_private.h"

enum { RECORDS_MAX = 16 };

/* The peer's octets are no JSON yet. */
json_t *
tls_check_text(struct span s)
{
	json_t *text = json_stringn(s.at, s.len);
	struct buf safe = { 0 };

	if (text != NULL)
		return text;
	for (size_t i = 0; i < s.len; i++)
		buf_byte(&safe, (unsigned char)s.at[i] < 0x80 ? s.at[i] : '?');
	text = json_stringn(buf_span(&safe).at, buf_len(&safe));
	buf_free(&safe);
	return text;
}

json_t *
tls_check_row(struct tls_check *c, enum tls_check_verdict verdict, const char *step,
	      struct span text)
{
	static const char *const words[] = { "good", "note", "bad" };
	json_t *object = json_object();

	c->bad += verdict == CHECK_BAD;
	json_object_set_new(object, "step", json_string(step));
	json_object_set_new(object, "verdict", json_string(words[verdict]));
	if (c->at_host.len > 0)
		json_object_set_new(object, "host", tls_check_text(c->at_host));
	json_object_set_new(object, "text", tls_check_text(text));
	json_array_append_new(c->rows, object);
	return object;
}

static void
put_hex(const uint8_t *octets, size_t len, struct buf *out)
{
	for (size_t i = 0; i < len; i++)
		buf_printf(out, "%02x", octets[i]);
}

/* ---- the way there ------------------------------------------------------------------------ */

void
tls_check_tell_trust(struct tls_check *c, enum resolver_trust trust)
{
	static const char *const texts[] = {
		[RESOLVER_UNTESTED] = "not known to validate DNSSEC: its test is not over, or off",
		[RESOLVER_VALIDATES] = "validates DNSSEC",
		[RESOLVER_FAILS] = "does not validate DNSSEC: DANE is not asked for",
	};

	tls_check_row(c, CHECK_NOTE, "resolver", span_str(texts[trust]));
}

static const char *const tls_words[] = {
	[ROUTE_TLS_AUTO] = "auto",	   [ROUTE_TLS_OFF] = "off",	  [ROUTE_TLS_MAY] = "may",
	[ROUTE_TLS_REQUIRED] = "required", [ROUTE_TLS_VERIFY] = "verify", [ROUTE_TLS_DANE] = "dane",
	[ROUTE_TLS_MTA_STS] = "mta-sts",
};

const char *
tls_check_route_word(enum route_tls tls)
{
	return tls_words[tls];
}

bool
tls_check_tell_route(struct tls_check *c)
{
	const struct route *route = c->route;

	if (route == NULL) {
		tls_check_row(c, CHECK_BAD, "route", SPAN("no route leads there"));
		return false;
	}
	if (route->kind == DELIVER_DISCARD || route->kind == DELIVER_REJECT) {
		tls_check_row(c, CHECK_BAD, "route",
			      arena_printf(&c->arena, "route %.*s (line %d) %s such mail",
					   SPAN_FMT(route->name), route->line,
					   route->kind == DELIVER_REJECT ? "rejects" : "discards"));
		return false;
	}
	tls_check_row(c, CHECK_NOTE, "route",
	    arena_printf(&c->arena, "route %.*s (line %d): %s, tls = %s", SPAN_FMT(route->name),
			 route->line,
			 route->kind == DELIVER_MX ? "to the domain's MX" :
			 route->host_count > 1	   ? "to the hosts it names, in their order" :
						     "to the host it names",
			 tls_words[route->tls]));
	return true;
}

void
tls_check_tell_sts(struct tls_check *c, const struct dns_answer *answer)
{
	struct sts_record record;
	json_t *object;

	sts_record_from_answer(answer, &c->arena, &record);
	c->sts_record = record.outcome == STS_RECORD_FOUND;
	if (c->sts_record) {
		object = tls_check_row(c, CHECK_NOTE, "mta-sts",
			     arena_printf(&c->arena, "its record is published, id %.*s",
					  SPAN_FMT(record.id)));
		json_object_set_new(object, "id", tls_check_text(record.id));
	} else {
		tls_check_row(c, record.outcome == STS_RECORD_FAILED ? CHECK_BAD : CHECK_NOTE,
			      "mta-sts",
			      record.why.len > 0 ? record.why : SPAN("no record is published"));
	}
}

void
tls_check_tell_policy(struct tls_check *c, const struct sts_policy *policy, struct span why)
{
	bool none = policy == NULL || policy->mode == STS_MODE_NONE;
	bool lost = policy == NULL && c->sts_record;	/* its host does not give it */
	json_t *object, *hosts = json_array();
	struct buf text = { 0 };

	buf_printf(&text, "%s%s%.*s",
		   policy != NULL ? "its policy's mode is " : "no policy holds: ",
		   policy != NULL ? sts_mode_text(policy->mode) : "",
		   policy != NULL ? 0 : (int)why.len, why.at);
	for (size_t i = 0; !none && i < policy->mx_count; i++) {
		buf_printf(&text, "%s%.*s",
			   i > 0 ? ", " : "; its hosts: ", SPAN_FMT(policy->mx[i]));
		json_array_append_new(hosts, tls_check_text(policy->mx[i]));
	}
	object = tls_check_row(c, lost || (none && c->route->tls == ROUTE_TLS_MTA_STS) ? CHECK_BAD :
			none ? CHECK_NOTE : CHECK_GOOD, "mta-sts-policy", buf_span(&text));
	json_object_set_new(object, "mode",
			    json_string(policy ? sts_mode_text(policy->mode) : "none"));
	json_object_set_new(object, "hosts", hosts);
	buf_free(&text);
}

void
tls_check_tell_mx(struct tls_check *c, const struct mx_set *set)
{
	struct buf text = { 0 };
	json_t *object, *hosts = json_array();

	if (set->count == 0)
		buf_append(&text, set->failure.text);
	for (size_t i = 0; i < set->count; i++) {
		buf_printf(&text, "%s%.*s (%u)", i > 0 ? ", " : "", SPAN_FMT(set->hosts[i].name),
			   (unsigned)set->hosts[i].preference);
		json_array_append_new(hosts, tls_check_text(set->hosts[i].name));
	}
	if (set->count > 0)
		buf_printf(&text, "%s; DNSSEC: %s", set->implicit ? "; there is no MX record" : "",
			   set->secure ? "secure" : "not secure");
	object = tls_check_row(c, set->count > 0 ? CHECK_GOOD : CHECK_BAD, "mx", buf_span(&text));
	json_object_set_new(object, "hosts", hosts);
	json_object_set_new(object, "secure", json_boolean(set->secure));
	buf_free(&text);
}

/* ---- a host ------------------------------------------------------------------------------- */

static void
on_host(struct tls_check *c, struct delivery *d)
{
	char text[NETADDR_TEXT_MAX];

	c->at_host = arena_copy(&c->arena, d->host_name);
	if (d->host_name.len == 0)
		c->at_host = arena_copy(&c->arena,
					span_str(netaddr_format_port(&d->to.address, text)));
}

static void
tell_dane(struct tls_check *c, const struct dane_verdict *dane)
{
	static const enum tls_check_verdict verdicts[] = {
		[DANE_NONE] = CHECK_NOTE, [DANE_USABLE] = CHECK_GOOD, [DANE_UNUSABLE] = CHECK_BAD,
		[DANE_SKIP] = CHECK_BAD,
	};
	struct span lines[RECORDS_MAX];
	json_t *object, *records = json_array();
	size_t n = dane_policy_lines(dane, &c->arena, lines, RECORDS_MAX);

	object = tls_check_row(c, verdicts[dane->outcome], "dane", dane->reason);
	for (size_t i = 0; i < n; i++)
		json_array_append_new(records, tls_check_text(lines[i]));
	json_object_set_new(object, "records", records);
	if (dane->base.len > 0)
		json_object_set_new(object, "base", tls_check_text(dane->base));
}

static void
on_demand(struct tls_check *c, struct delivery *d)
{
	static const char *const uses[] = {
		[TLS_USE_NEVER] = "no TLS",
		[TLS_USE_IF_OFFERED] = "TLS if it is offered and works",
		[TLS_USE_ALWAYS] = "TLS or nothing",
	};
	static const char *const proofs[] = {
		[TLS_PROOF_NONE] = "",
		[TLS_PROOF_CA] = ", with a certificate of a known authority and the right name",
		[TLS_PROOF_TLSA] = ", with the certificate that the TLSA records name",
	};
	const struct tls_demand *demand = &d->demand;
	json_t *object;

	if (d->dane != NULL)
		tell_dane(c, d->dane);
	if (demand->go != TLS_GO)
		return;				/* its failure follows */
	object = tls_check_row(c, CHECK_NOTE, "policy",
		     arena_printf(&c->arena, "%s%s: %.*s", uses[demand->use], proofs[demand->proof],
				  SPAN_FMT(demand->reason)));
	json_object_set_new(object, "policy", json_string(tls_source_text(demand->source)));
	json_object_set_new(object, "enforced",
			    json_boolean(demand->use == TLS_USE_ALWAYS &&
					 (demand->proof == TLS_PROOF_NONE || demand->enforce)));
}

static void
on_addresses(struct tls_check *c, const struct delivery *d)
{
	struct buf text = { 0 };
	char one[NETADDR_TEXT_MAX];

	for (size_t i = 0; i < d->address_count; i++)
		buf_printf(&text, "%s%s", i > 0 ? ", " : "",
			   netaddr_format(&d->addresses[i], one));
	tls_check_row(c, CHECK_NOTE, "addresses", buf_span(&text));
	buf_free(&text);
}

/* ---- a connection ------------------------------------------------------------------------- */

static void
on_link(void *arg, const struct tls_link *link)
{
	struct tls_check *c = arg;
	bool expired = link->not_after_ms < wall_ms();
	char until[ISO_DATE_MAX];
	struct buf spki = { 0 };
	json_t *object;

	put_hex(link->spki_sha256, sizeof(link->spki_sha256), &spki);
	object = tls_check_row(c, CHECK_NOTE, "certificate",
		     arena_printf(&c->arena, "%.*s (%.*s)%s%.*s; issued by %.*s; %s %.10s",
				  SPAN_FMT(link->subject), SPAN_FMT(link->key),
				  link->names.len > 0 ? ", for " : "", SPAN_FMT(link->names),
				  SPAN_FMT(link->issuer), expired ? "expired on" : "good until",
				  clock_iso(link->not_after_ms, until)));
	json_object_set_new(object, "subject", tls_check_text(link->subject));
	json_object_set_new(object, "issuer", tls_check_text(link->issuer));
	json_object_set_new(object, "names", tls_check_text(link->names));
	json_object_set_new(object, "key", tls_check_text(link->key));
	json_object_set_new(object, "expires_ms", json_integer(link->not_after_ms));
	json_object_set_new(object, "spki_sha256", tls_check_text(buf_span(&spki)));
	buf_free(&spki);
}

static void
on_secured(struct tls_check *c, const struct delivery *d)
{
	static const char *const how[] = { [TLS_NOT_VERIFIED] = "not verified",
					   [TLS_BY_CA] = "verified by a CA",
					   [TLS_BY_DANE] = "verified by DANE" };
	static const char *const words[] = { [TLS_NOT_VERIFIED] = "unverified",
					     [TLS_BY_CA] = "verified",
					     [TLS_BY_DANE] = "dane" };
	struct tls_facts facts;
	json_t *object;

	tls_facts(d->stream.tls, &facts);
	object = tls_check_row(c, CHECK_GOOD, "tls",
		     arena_printf(&c->arena, "%s %s %s", facts.version, facts.cipher,
				  facts.group != NULL ? facts.group : "-"));
	json_object_set_new(object, "version", json_string(facts.version));
	json_object_set_new(object, "cipher", json_string(facts.cipher));
	if (facts.group != NULL)
		json_object_set_new(object, "group", json_string(facts.group));
	tls_chain(d->stream.tls, on_link, c);
	object = tls_check_row(c,
		     !d->proven ? CHECK_BAD
		     : facts.verified == TLS_NOT_VERIFIED ? CHECK_NOTE : CHECK_GOOD,
		     "verified",
		     arena_printf(&c->arena, "%s%s%s%s", how[facts.verified],
				  facts.verify_error != NULL ? ": " : "",
				  facts.verify_error != NULL ? facts.verify_error : "",
				  d->proven && facts.verified == TLS_NOT_VERIFIED ?
					  ", which nobody asks for here" : ""));
	json_object_set_new(object, "verified", json_string(words[facts.verified]));
	c->last_verified = how[facts.verified];
}

static void
on_ready(struct tls_check *c, const struct delivery *d)
{
	struct span how = SPAN("in plain text");

	if (d->stream.tls != NULL)
		how = arena_printf(&c->arena, "with TLS, %s", c->last_verified);
	else if (d->demand.use == TLS_USE_NEVER)
		tls_check_row(c, CHECK_NOTE, "tls", SPAN("not looked at: the policy wants none"));
	else if (!d->client.features.starttls)
		tls_check_row(c, CHECK_NOTE, "tls", SPAN("STARTTLS is not offered"));
	tls_check_row(c, CHECK_GOOD, "delivery",
		      arena_printf(&c->arena, "mail would be delivered here, %.*s", SPAN_FMT(how)));
	if (c->first_good.len > 0)
		return;
	c->first_good = c->at_host;
	c->first_good_how = how;
}

static void
on_failed(struct tls_check *c, const struct delivery *d)
{
	static const char *const steps[] = {
		[STAGE_CONNECT] = "connect", [STAGE_BANNER] = "greeting", [STAGE_EHLO] = "greeting",
		[STAGE_TLS] = "tls",
	};
	const struct reply *why = &d->failure;
	struct buf text = { 0 };
	char address[NETADDR_TEXT_MAX];

	if (d->address > 0 && d->address <= d->address_count)
		buf_printf(&text, "%s: ",
			   netaddr_format_port(&d->addresses[d->address - 1], address));
	if (why->code > 0)
		buf_printf(&text, "%u ", (unsigned)why->code);
	buf_append(&text, why->text);
	tls_check_row(c, CHECK_BAD,
		      d->failure_stage <= STAGE_TLS ? steps[d->failure_stage] : "greeting",
		      buf_span(&text));
	buf_free(&text);
}

void
tls_check_tell_event(struct tls_check *c, struct delivery *d, enum delivery_event event)
{
	if (c->what_if != NULL)
		what_if_on_host(c, d, event);
	switch (event) {
	case WATCH_HOST: on_host(c, d); break;
	case WATCH_DEMAND: on_demand(c, d); break;
	case WATCH_ADDRESSES: on_addresses(c, d); break;
	case WATCH_SECURED: on_secured(c, d); break;
	case WATCH_READY: on_ready(c, d); break;
	case WATCH_FALLS_BACK:
		tls_check_row(c, CHECK_NOTE, "delivery",
			      SPAN("TLS may be left out: called again in plain text"));
		break;
	case WATCH_FAILED: on_failed(c, d); break;
	}
}

void
tls_check_conclude(struct tls_check *c)
{
	struct span host = c->first_good;

	c->at_host = (struct span){ 0 };
	if (c->aborted)
		tls_check_row(c, CHECK_BAD, "result", SPAN("cut off: the server is stopping"));
	else if (host.len > 0)
		tls_check_row(c, c->bad == 0 ? CHECK_GOOD : CHECK_NOTE, "result",
		    arena_printf(&c->arena, "mail would go to %.*s, %.*s%s", SPAN_FMT(host),
				 SPAN_FMT(c->first_good_how),
				 c->bad > 0 ? "; see what is bad above" : ""));
	else
		tls_check_row(c, CHECK_BAD, "result",
			      SPAN("no host would get mail now: it would wait, or return"));
}
