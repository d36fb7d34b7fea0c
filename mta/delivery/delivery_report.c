/*
 * delivery_report: what a delivery tells of how TLS went (RFC 8460 §4.3), and for which domains.
 * Its reactor only; what is told goes to the home loop by letter (tls_reports.c).
 *
 * A session counts once for each recipient domain whose mail it carries. One that ends at TLS
 * counts for the domains of all jobs that were waiting for it. Hosts that the configuration names
 * are the operator's own affair, and what carries a report is not reported on.
 */
#include "mta/base/address.h"
#include "mta/base/map.h"
#include "mta/delivery/delivery_private.h"
#include "mta/assurance/tls_reports.h"

static bool
is_counted(const struct delivery *d)
{
	return d->tls_reports != NULL && !d->to.is_static;
}

void
delivery_report_begin(struct delivery *d)
{
	d->report.judged = d->report.known = false;
	d->report.told_count = 0;
}

/* ---- for whom ----------------------------------------------------------------------------- */

static void
tell_domain(struct delivery *d, struct span domain, const struct tlsrpt_event *event)
{
	const uint64_t hash = hash_bytes(domain.at, domain.len, 0);
	const size_t cap = sizeof(d->report.told) / sizeof(d->report.told[0]);
	size_t count = d->report.told_count < cap ? d->report.told_count : cap;

	for (size_t i = 0; i < count; i++)
		if (d->report.told[i] == hash)
			return;
	d->report.told[d->report.told_count++ % cap] = hash;
	tls_reports_tell(d->tls_reports, d->reactor->post, d->reactor->home, domain, event);
}

static void
tell_message(struct delivery *d, const struct job *job, const struct queue_message *message,
	     const struct tlsrpt_event *event)
{
	if ((message->record.flags & MESSAGE_TLS_REPORT) != 0)
		return;
	for (size_t i = 0; i < job->count; i++) {
		const uint32_t n = job->recipients[i].recipient;

		if (n < message->envelope.recipient_count && message->open[n])
			tell_domain(d, address_domain_of(message->envelope.recipients[n].address),
				    event);
	}
}

/* Of a job that has not been read yet. */
static void
tell_waiting(struct delivery *d, const struct job *job, const struct tlsrpt_event *event)
{
	struct arena arena = { 0 };
	struct queue_message message;

	if (queue_read_message(d->reactor->port, job->id, &arena, &message) == 0)
		tell_message(d, job, &message, event);
	arena_free(&arena);
}

void
delivery_report_taken(struct delivery *d, const struct job *job)
{
	if (d->report.known)
		tell_message(d, job, &job->message, &d->report.event);
}

void
delivery_report_arrived(struct delivery *d, const struct job *job)
{
	for (size_t i = 0; i < d->report.pending_count; i++) {
		d->report.told_count = 0;
		tell_waiting(d, job, &d->report.pending[i]);
		d->report.told_count = 0;
	}
	d->report.pending_count = 0;
}

void
delivery_report_failed(struct delivery *d)
{
	const size_t cap = sizeof(d->report.pending) / sizeof(d->report.pending[0]);

	if (!d->report.known)
		return;
	for (struct letter *l = d->todo.first; l != NULL; l = l->next)
		tell_waiting(d, CONTAINER_OF(l, struct job, letter), &d->report.event);
	if (d->todo.first == NULL && d->report.pending_count < cap)
		d->report.pending[d->report.pending_count++] = d->report.event;
	d->report.known = false;
}

/* ---- what --------------------------------------------------------------------------------- */

static struct netaddr
local_address(const struct delivery *d)
{
	struct netaddr address = { 0 };
	struct sockaddr_storage sa;
	int len = sizeof(sa);

	if (d->stream_open &&
	    uv_tcp_getsockname(&d->stream.h.tcp, (struct sockaddr *)&sa, &len) == 0)
		netaddr_from_sockaddr((struct sockaddr *)&sa, &address);
	return address;
}

void
delivery_report_tls(struct delivery *d, enum tls_end end, enum tls_trouble trouble,
		    enum tlsrpt_result failure, struct span detail)
{
	struct tlsrpt_event *event = &d->report.event;

	if (d->report.judged || !is_counted(d))
		return;
	d->report.judged = true;
	d->report.known = tls_event(&d->question, &d->demand, end, trouble, failure, &d->arena,
				    event);
	if (!d->report.known || event->result == TLSRPT_SUCCESS)
		return;
	event->receiving_host = d->host_name;
	if (event->detail.len == 0)
		event->detail = arena_copy(&d->arena, detail);
	if (end == TLS_END_NOT_TRIED)
		return;
	event->sending = local_address(d);
	if (d->address > 0)
		event->receiving = d->addresses[d->address - 1];
	if (d->client_open)
		event->receiving_helo = arena_copy(&d->arena, d->client.greeting_name);
}

void
delivery_report_ready(struct delivery *d)
{
	if (d->stream.tls == NULL && d->client.want_tls == CLIENT_TLS_MAY)
		delivery_report_tls(d, TLS_END_TROUBLE, TLS_TROUBLE_NOT_OFFERED, TLSRPT_SUCCESS,
				    SPAN("no STARTTLS in the reply to EHLO"));
}

void
delivery_report_closed(struct delivery *d)
{
	if (d->quitting)
		return;				/* it is we who end it */
	if (d->client.failure_stage == STAGE_TLS)
		delivery_report_tls(d, TLS_END_TROUBLE,
				    d->stream.tls != NULL ? TLS_TROUBLE_HANDSHAKE
							  : TLS_TROUBLE_NOT_OFFERED,
				    TLSRPT_SUCCESS, d->client.failure.text);
	if (d->report.known && d->report.event.result != TLSRPT_SUCCESS)
		delivery_report_failed(d);
}
