/*
 * dns_check: the records to publish for this server, and which of them the resolver finds (`tramctl
 * dns-records`). They are made by policy/dns_records.h, from the certificate that a sender would be
 * shown and from the configuration. It is a tls_check whose rows are: record, text (lines of a zone
 * file), state. Home loop only.
 */
#include <stdlib.h>

#include "mta/outbound/dispatcher_private.h"
#include "mta/outbound/explain/tls_check_private.h"
#include "policy/dns_records.h"
#include "policy/tlsrpt.h"

enum { KEYS_MAX = 2 * TLS_PAIRS_MAX, PREFERENCE = 10, SMTP_PORT = 25 };

struct publishing {			/* in the check's arena */
	struct dns_records_facts facts;
	struct dns_records_key keys[KEYS_MAX];
	struct sts_policy sts;
	struct arena *arena;
	struct facts_needs needs;
};

/* ---- what there is to be published -------------------------------------------------------- */

static void
on_certificate(void *arg, const struct tls_certificate_facts *certificate)
{
	struct publishing *p = arg;
	struct dns_records_key *key = &p->keys[p->facts.key_count];

	if (p->facts.key_count == KEYS_MAX)
		return;
	memcpy(key->spki_sha256, certificate->spki_sha256, sizeof(key->spki_sha256));
	key->label = arena_printf(p->arena, "%.*s, %.*s", SPAN_FMT(certificate->key),
				  SPAN_FMT(certificate->file));
	key->next = certificate->next;
	p->facts.key_count++;
}

static bool
has_port(const struct listener *listener, uint16_t port)
{
	for (size_t i = 0; i < listener->address_count; i++)
		if (listener->addresses[i].port == port)
			return true;
	return false;
}

/* The one that other servers meet; else the first with TLS. NULL: there is none. */
static const struct listener *
mail_listener(const struct config *config)
{
	const struct listener *found = NULL;

	for (size_t i = 0; i < config->listener_count; i++) {
		const struct listener *l = &config->listeners[i];

		if (l->tls_context == NULL)
			continue;
		if (has_port(l, SMTP_PORT))
			return l;
		if (found == NULL)
			found = l;
	}
	return found;
}

static struct publishing *
gather(struct tls_check *c)
{
	static const enum sts_mode modes[] = {
		[PUBLISHED_STS_OFF] = STS_MODE_NONE,
		[PUBLISHED_STS_NONE] = STS_MODE_NONE,
		[PUBLISHED_STS_TESTING] = STS_MODE_TESTING,
		[PUBLISHED_STS_ENFORCE] = STS_MODE_ENFORCE,
	};
	struct publishing *p = arena_alloc(&c->arena, sizeof(*p));
	const struct config *config = c->config;
	const struct listener *listener = mail_listener(config);

	*p = (struct publishing){ .arena = &c->arena };
	p->facts = (struct dns_records_facts){
		.domain = c->domain,
		.host = config->hostname,
		.preference = PREFERENCE,
		.port = SMTP_PORT,
		.keys = p->keys,
		.tlsrpt = config->published_tlsrpt,
		.sends = verp_has_domain(&config->verp, c->domain),
	};
	if (listener != NULL)
		tls_context_shown(listener->tls_context, config->hostname, on_certificate, p);
	p->sts.mode = modes[config->published_sts];
	p->sts.max_age = (uint32_t)(config->published_sts_max_age_ms / 1000);
	if (config->published_sts != PUBLISHED_STS_OFF)
		p->facts.sts = &p->sts;
	return p;
}

/* ---- and what is -------------------------------------------------------------------------- */

static json_t *
row(struct tls_check *c, const char *record, struct buf *text)
{
	json_t *object;

	if (buf_len(text) == 0)
		return NULL;
	object = json_object();
	json_object_set_new(object, "record", json_string(record));
	json_object_set_new(object, "text", json_stringn(buf_span(text).at, buf_len(text)));
	json_array_append_new(c->rows, object);
	buf_clear(text);
	return object;
}

static void
row_checked(struct tls_check *c, const char *record, struct buf *text, enum dns_record_state state)
{
	json_t *object = row(c, record, text);

	if (object == NULL)
		return;
	json_object_set_new(object, "state", json_string(dns_record_state_text(state)));
	c->bad += state != DNS_RECORD_THERE;
}

static void
tell_tlsa(struct tls_check *c, const struct publishing *p, const struct dns_answer *answer,
	  struct buf *text)
{
	struct dns_records_facts one = p->facts;

	one.key_count = 1;
	for (size_t i = 0; i < p->facts.key_count; i++) {
		one.keys = &p->keys[i];
		dns_records_tlsa(&one, text);
		row_checked(c, "tlsa", text, dns_records_check_tlsa(&p->facts, i, answer));
	}
	if (p->facts.key_count == 0) {
		buf_append(text, SPAN("; no TLSA record: no listener has TLS\n"));
		row(c, "tlsa", text);
	}
}

static const struct dns_answer *
answer_of(const struct tls_check *c, struct span name, enum dns_type type)
{
	static const struct dns_answer none = { .outcome = DNS_TEMPORARY };
	const struct dns_answer *answer = facts_find(&c->facts, name, type);

	return answer != NULL ? answer : &none;
}

static void
on_answers(void *arg)
{
	struct tls_check *c = arg;
	const struct publishing *p = c->publishing;
	const struct dns_records_facts *f = &p->facts;
	struct span sts = sts_record_name(f->domain, &c->arena);
	struct span tlsrpt = tlsrpt_record_name(f->domain, &c->arena);
	struct buf text = { 0 };

	c->fetch = NULL;
	dns_records_mx(f, &text);
	row_checked(c, "mx", &text, dns_records_check_mx(f, answer_of(c, f->domain, DNS_MX)));
	tell_tlsa(c, p, answer_of(c, dns_tlsa_name(f->host, f->port, &c->arena), DNS_TLSA), &text);
	dns_records_sts(f, &text);
	if (buf_len(&text) > 0)
		row_checked(c, "mta-sts", &text,
			    dns_records_check_sts(f, answer_of(c, sts, DNS_TXT)));
	dns_records_tlsrpt(f, &text);
	if (buf_len(&text) > 0)
		row_checked(c, "tlsrpt", &text,
			    dns_records_check_tlsrpt(f, answer_of(c, tlsrpt, DNS_TXT)));
	if (f->sts != NULL)
		dns_records_policy_file(f, &text);
	row(c, "policy-file", &text);
	buf_free(&text);
	tls_check_finish(c);
}

struct tls_check *
dns_check_start(struct dispatcher *d, struct span domain, void (*more)(void *arg), void *arg,
		const char **error)
{
	struct tls_check *c = tls_check_new(d, domain, (struct span){ 0 }, error);

	if (c == NULL)
		return NULL;
	if (c->domain.at[0] == '[') {
		*error = "That is not a domain.";
		tls_check_release(c);
		return NULL;
	}
	c->publishing = gather(c);
	dns_records_needs(&c->publishing->facts, &c->arena, &c->publishing->needs);
	c->fetch = facts_fetch(d->home->resolver, &c->facts, &c->publishing->needs, on_answers, c);
	c->more = more;
	c->arg = arg;
	return c;
}
