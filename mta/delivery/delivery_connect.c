/*
 * delivery_connect: from a destination to a connection: the relays that the configuration names in
 * their order, or else the hosts of a domain by preference; of each host its addresses in turn,
 * until one answers (RFC 5321 §5.1). delivery.c has the overview. Its reactor only.
 */
#include <errno.h>
#include <stdlib.h>

#include "mta/base/map.h"
#include "mta/delivery/delivery_private.h"

static void next_address(struct delivery *d);

/* ---- getting there ------------------------------------------------------------------------ */

/* Where a shape says something. */
static void
use_times(const struct shape_times *times, struct smtp_client_timeouts *t)
{
	t->banner = delivery_time_ms(times->banner_ms, t->banner);
	t->ehlo = delivery_time_ms(times->ehlo_ms, t->ehlo);
	t->mail = delivery_time_ms(times->mail_ms, t->mail);
	t->rcpt = delivery_time_ms(times->rcpt_ms, t->rcpt);
	t->data = delivery_time_ms(times->data_init_ms, t->data);
	t->block = delivery_time_ms(times->block_ms, t->block);
	t->dot = delivery_time_ms(times->dot_ms, t->dot);
}

/*
 * No port is free, or the address is not this machine's: no host is to blame, and no other would do
 * better.
 */
static void
source_breaks(struct delivery *d, int error)
{
	d->source_broken = true;
	delivery_note_failure(d, STAGE_CONNECT,
			      (struct reply){ 0, { 4, 4, 1 },
					      arena_printf(&d->arena, "source %.*s: %s",
							   SPAN_FMT(d->source->name),
							   uv_strerror(error)) });
	stream_close(&d->stream, false);
}

static void
on_connected(struct stream *stream, int error)
{
	struct delivery *d = CONTAINER_OF(stream, struct delivery, stream);
	struct span none = { 0 };

	if (error == UV_EADDRNOTAVAIL && d->source != NULL) {
		source_breaks(d, error);
		return;
	}
	if (error < 0) {
		delivery_host_failed(
			d, STAGE_CONNECT,
			(struct reply){ 0,
					{ 4, 4, 1 },
					arena_printf(&d->arena, "%s", uv_strerror(error)) });
		delivery_log_trouble(d, "host-failed");
		stream_close(stream, false);
		return;
	}
	d->client_config = d->config->client;
	use_times(&d->times, &d->client_config.timeouts);
	if (d->source != NULL)
		d->client_config.ehlo_name = d->source->ehlo_name;
	smtp_client_init(&d->client, &d->client_config);
	d->client.want_tls = delivery_wants_tls(d);
	d->client.want_auth = d->to.tls.login && d->watch == NULL;
	d->client_open = true;
	d->deadline_set = false;
	delivery_report_begin(d);
	d->tls_text = (struct span){ 0 };
	d->offered_session = false;
	if (d->to.tls_on_connect)
		delivery_start_tls(d);
	else
		delivery_pump(d, &none);
	if (!stream->closing)
		stream_resume(stream);
}

static void
on_stream_closed(struct stream *stream)
{
	struct delivery *d = CONTAINER_OF(stream, struct delivery, stream);

	d->stream_open = false;
	delivery_auth_drop(d);
	if (d->moving && !d->quitting) {
		d->moving = d->leaving = d->was_ready = false;
		d->address = d->address_count;	/* its other addresses are the same host */
	}
	if (d->was_ready || d->quitting || d->source_broken) {
		delivery_finish(d);
		return;
	}
	if (d->client_open && delivery_tries_afresh(d)) {
		delivery_tell(d, WATCH_FALLS_BACK);
		d->afresh = true;
		d->address--;
		d->tries--;
	} else if (d->client_open && delivery_falls_back(d)) {
		delivery_tell(d, WATCH_FALLS_BACK);
		d->plain = true;
		d->address--;
		d->tries--;
	} else {
		d->plain = d->afresh = false;
	}
	if (d->client_open)
		smtp_client_free(&d->client);
	d->client_open = false;
	next_address(d);
}

static const struct stream_events delivery_events = {
	.connected = on_connected,
	.secured = delivery_on_secured,
	.read = delivery_on_read,
	.written = delivery_on_written,
	.ended = delivery_on_stream_ended,
	.closed = on_stream_closed,
};

/* One of our own listeners: connecting would bring the message back to us. */
static bool
is_ours(const struct config *config, const struct netaddr *address)
{
	for (size_t i = 0; i < config->listener_count; i++)
		for (size_t j = 0; j < config->listeners[i].address_count; j++)
			if (config->listeners[i].addresses[j].port == address->port &&
			    netaddr_same_ip(&config->listeners[i].addresses[j], address))
				return true;
	return false;
}

/* Which of the source's addresses calls this one; false: it has none of that family. */
static bool
source_for(struct delivery *d, const struct netaddr *to, const struct netaddr **ret)
{
	static const char *const families[] = { "IPv4", "IPv6" };

	*ret = d->source == NULL ? NULL : source_address(d->source, to->family);
	if (d->source == NULL || *ret != NULL)
		return true;
	d->source_unfit = d->tries == 0 && !d->failed_lookup;
	delivery_note_failure(d, STAGE_CONNECT,
			      (struct reply){ 0, { 4, 4, 4 },
					      arena_printf(&d->arena,
							   "source %.*s has no %s address",
							   SPAN_FMT(d->source->name),
							   families[to->family == AF_INET6]) });
	return false;
}

static void
next_address(struct delivery *d)
{
	const struct netaddr *from;
	int rc;

	while (d->address < d->address_count &&
	       d->tries < d->config->limits.addresses_per_attempt) {
		const struct netaddr *address = &d->addresses[d->address++];

		if (is_ours(d->config, address)) {
			delivery_note_failure(
				d, STAGE_CONNECT,
				REPLY(554, 5, 4, 6, "the address is our own: mail would loop"));
			delivery_tell(d, WATCH_FAILED);
			continue;
		}
		if (d->looks_only)
			continue;
		if (!source_for(d, address, &from)) {
			delivery_tell(d, WATCH_FAILED);
			continue;
		}
		d->source_unfit = false;
		d->tries++;
		d->stream_open = true;
		rc = stream_connect(&d->stream, &d->reactor->loop, address, from,
				    &d->reactor->scratch, &delivery_events);
		if (rc == -EADDRNOTAVAIL && from != NULL) {
			source_breaks(d, rc);
			return;
		}
		if (rc < 0) {
			delivery_host_failed(d, STAGE_CONNECT,
					     REPLY(0, 4, 4, 1, "cannot open a connection"));
			stream_close(&d->stream, false);
			return;
		}
		stream_deadline(&d->stream, delivery_wait_ms(d, delivery_time_ms(
			d->times.connect_ms, d->config->limits.connect_timeout_ms)));
		return;
	}
	delivery_next_host(d);
}

static void
on_addresses(void *arg, const struct host_addresses *found)
{
	struct delivery *d = arg;

	d->lookup = NULL;
	if (found->count == 0 && d->watch != NULL)
		delivery_note_failure(d, STAGE_CONNECT, found->failure);
	if (found->count == 0) {
		if (found->failure.status.subject == 4 && found->failure.status.detail == 6)
			/* it is us: worse hosts would only send it back */
			d->host = d->to.host_count;
		if (found->failure.code < 500)
			d->failed_lookup = true;
		if (d->failure.code == 0 && d->failure.text.len == 0)
			delivery_note_failure(d, STAGE_CONNECT, found->failure);
		else if (found->failure.code < 500)
			delivery_note_failure(d, STAGE_CONNECT, found->failure);
	}
	d->address = 0;
	d->address_count = found->count;
	d->addresses = arena_alloc(&d->arena, found->count * sizeof(*found->addresses) + 1);
	if (found->count > 0)
		memcpy(d->addresses, found->addresses, found->count * sizeof(*found->addresses));
	delivery_tell(d, found->count > 0 ? WATCH_ADDRESSES : WATCH_FAILED);
	next_address(d);
}

static bool
is_wildcard(const struct netaddr *address)
{
	static const struct netaddr any;

	return memcmp(address->ip, any.ip, sizeof(any.ip)) == 0;
}

/* Where we listen ourselves; a wildcard stands for every address of this machine. */
static void
drop_own_addresses(struct delivery *d)
{
	const struct config *config = d->config;
	size_t each = d->reactor->interface_count + 1, total = 0, n = 0;
	struct netaddr *own;

	for (size_t i = 0; i < config->listener_count; i++)
		total += config->listeners[i].address_count;
	own = arena_alloc(&d->arena, total * each * sizeof(*own) + 1);
	for (size_t i = 0; i < config->listener_count; i++)
		for (size_t j = 0; j < config->listeners[i].address_count; j++) {
			const struct netaddr *address = &config->listeners[i].addresses[j];

			own[n++] = *address;
			for (size_t k = 0; is_wildcard(address) && k < d->reactor->interface_count;
			     k++) {
				own[n] = d->reactor->interfaces[k];
				own[n++].port = address->port;
			}
		}
	lookup_drop_own(d->lookup, own, n);
}

/* The demand on TLS is known: on to its addresses. */
void
delivery_look_up_host(struct delivery *d)
{
	if (d->to.address.family != 0) {		/* the address of a relay */
		next_address(d);
		return;
	}
	d->lookup = lookup_addresses(d->reactor->resolver, d->host_name, d->to.port,
				     d->config->allow_private,
				     d->config->limits.addresses_per_attempt, on_addresses, d);
	drop_own_addresses(d);
}

void
delivery_shuffle(struct delivery *d)
{
	mx_shuffle(d->to.hosts, d->to.host_count, hash_bytes(&d, sizeof(d), uv_hrtime()));
}

bool
delivery_has_another(const struct delivery *d)
{
	return (d->host < d->to.host_count || d->relay < d->to.relay_count) &&
	       d->tries < d->config->limits.addresses_per_attempt;
}

/* ---- hosts that the configuration names ---------------------------------------------------- */

/* What is found out here holds for this connection: the next one asks again. */
static void
on_relay_mx(void *arg, const struct mx_set *set)
{
	struct delivery *d = arg;

	d->lookup = NULL;
	if (set->count == 0) {
		d->failed_lookup = d->failed_lookup || set->failure.code < 500;
		if (d->failure.text.len == 0 || set->failure.code < 500 || d->watch != NULL)
			delivery_note_failure(d, STAGE_CONNECT, set->failure);
		delivery_log_trouble(d, "host-failed");
	}
	destination_relay_mx(&d->to, set, &d->arena);
	delivery_shuffle(d);
	delivery_next_host(d);
}

static void
next_relay(struct delivery *d)
{
	const struct config *config = d->config;

	d->host_name = d->to.relays[d->relay].name;
	destination_relay(&d->to, d->relay++, &d->arena);
	d->host = d->address = d->address_count = 0;		/* not the last one's */
	if (d->to.address.family != 0 || d->to.next_hop.len > 0)
		delivery_tell(d, WATCH_HOST);
	if (d->to.address.family != 0) {
		d->addresses = &d->to.address;
		d->address_count = 1;
		delivery_judge_tls(d);
	} else if (d->to.next_hop.len > 0) {
		d->lookup =
			lookup_mx(d->reactor->resolver, d->to.next_hop, config->own_names,
				  config->own_name_count, config->allow_private, on_relay_mx, d);
	} else {
		delivery_next_host(d);
	}
}

/*
 * The next host by preference. None left: the failure of the last one, permanent only if nothing
 * could be tried.
 */
void
delivery_next_host(struct delivery *d)
{
	if (d->watch != NULL)
		d->tries = 0;			/* who watches wants to see all of them */
	if (delivery_has_another(d) && d->host < d->to.host_count) {
		d->host_name = d->to.hosts[d->host++].name;
		d->address = d->address_count = 0;	/* not the last host's */
		delivery_tell(d, WATCH_HOST);
		delivery_judge_tls(d);
		return;
	}
	if (delivery_has_another(d)) {
		next_relay(d);
		return;
	}
	if (d->failure.code >= 500 && (d->tries > d->hopeless || d->failed_lookup))
		d->failure.code = 0; /* a greeting of 5xx, or a look-up that failed: temporary */
	delivery_finish(d);
}
