/*
 * delivery_tls: what a delivery asks of TLS, and what it makes of what it finds (RFC 3207, 7435).
 *
 * Where plain text may be, a host whose TLS does not work is tried once more without it, on a new
 * connection, and for a while after that at once. Where TLS is asked for there is no way back: the
 * host has failed, and the next one is tried. Its reactor only.
 */
#include "mta/base/clock.h"
#include "mta/outbound/delivery_private.h"
#include "mta/tls/distrust.h"

static const struct netaddr *
address_now(const struct delivery *d)
{
	return &d->addresses[d->address - 1];
}

/* May it go in plain text? */
static bool
is_optional(const struct delivery *d)
{
	return (d->to.tls.tls == ROUTE_TLS_AUTO || d->to.tls.tls == ROUTE_TLS_MAY) &&
	       !d->to.tls_on_connect;
}

enum smtp_client_tls
delivery_wants_tls(const struct delivery *d)
{
	if (d->to.tls.tls == ROUTE_TLS_OFF)
		return CLIENT_TLS_NEVER;
	if (!is_optional(d))
		return CLIENT_TLS_MUST;
	if (d->plain || distrust_has(d->reactor->distrust, address_now(d), mono_ms()))
		return CLIENT_TLS_NEVER;
	return CLIENT_TLS_MAY;
}

bool
delivery_falls_back(struct delivery *d)
{
	if (d->plain || !is_optional(d) || d->client.failure_stage != STAGE_TLS || d->finished)
		return false;
	distrust_add(d->reactor->distrust, address_now(d),
		     mono_ms() + d->config->limits.tls_fallback_ms);
	return true;
}

void
delivery_start_tls(struct delivery *d)
{
	struct tls_peer peer = {
		.sni = d->host_name,
		.names = d->to.tls.names,
		.name_count = d->to.tls.name_count,
	};

	if (peer.name_count == 0 && d->host_name.len > 0) {
		peer.names = &d->host_name;
		peer.name_count = 1;
	}
	stream_deadline(&d->stream, d->config->limits.tls_timeout_ms);
	stream_start_tls(&d->stream, tls_client_new(d->config->client_tls, d->reactor->index, &peer));
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

void
delivery_on_secured(struct stream *stream)
{
	struct delivery *d = CONTAINER_OF(stream, struct delivery, stream);
	struct span none = { 0 };
	struct tls_facts facts;

	tls_facts(stream->tls, &facts);
	if (d->to.tls.tls == ROUTE_TLS_VERIFY && facts.verified == TLS_NOT_VERIFIED) {
		delivery_lose(d, arena_printf(&d->arena, "its certificate is not good: %s",
					      facts.verify_error));
		return;
	}
	distrust_remove(d->reactor->distrust, address_now(d));
	d->tls_text = describe(d, &facts);
	d->deadline_set = false;
	smtp_client_tls_done(&d->client);
	delivery_pump(d, &none);
}
