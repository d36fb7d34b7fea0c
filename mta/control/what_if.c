/*
 * what_if: `tramctl what-if`: first what MAIL and RCPT would be answered (by the functions that
 * answer them, mta/inbound/verdict.h), then, if it would be taken, what would become of it
 * (mta/outbound/explain/what_if.h). Rows as of tls-check. Home loop; nothing is counted, sent or
 * kept.
 */
#include <stdlib.h>

#include "mta/auth/throttle.h"
#include "mta/base/clock.h"
#include "mta/control/job.h"
#include "mta/inbound/allowance.h"
#include "mta/inbound/bounces.h"
#include "mta/inbound/gate.h"
#include "mta/inbound/pools.h"
#include "mta/inbound/verdict.h"
#include "mta/outbound/explain/what_if.h"
#include "mta/reactor/suppressed.h"
#include "mta/smtp/command.h"
#include "mta/smtp/texts.h"
#include "policy/site_key.h"

struct asked {
	struct control_job *job;
	const struct config *config;
	const struct listener *listener;	/* NULL: the socket for local programs */
	const struct smtp_server_config *smtp;
	struct access_client client;
	struct span sender, recipient, header, tenant;
	const struct route *route;
	struct mail_wishes wishes;		/* as granted */
	bool returns;				/* it is for an address that mail comes back to */
};

static void
tell(struct control_job *job, bool good, const char *step, struct span text)
{
	json_t *row = json_object();

	json_object_set_new(row, "step", json_string(step));
	json_object_set_new(row, "verdict", json_string(good ? "good" : "bad"));
	json_object_set_new(row, "text", json_text(text));
	job_row(job, row);
}

static void
tell_note(struct control_job *job, const char *step, struct span text)
{
	json_t *row = json_object();

	json_object_set_new(row, "step", json_string(step));
	json_object_set_new(row, "verdict", json_string("note"));
	json_object_set_new(row, "text", json_text(text));
	job_row(job, row);
}

/* A reply as it would go out; false: it refuses. */
static bool
tell_reply(struct control_job *job, const char *step, const struct reply *reply)
{
	struct buf line = { 0 };
	json_t *row = json_object();

	reply_to_line(reply, &line);
	json_object_set_new(row, "step", json_string(step));
	json_object_set_new(row, "verdict", json_string(reply->code < 400 ? "good" : "bad"));
	json_object_set_new(row, "text", json_text(buf_span(&line)));
	json_object_set_new(row, "code", json_integer(reply->code));
	job_row(job, row);
	buf_free(&line);
	return reply->code < 400;
}

/* ---- who asks, and where ------------------------------------------------------------------ */

static const struct listener *
named_listener(const struct config *config, struct span name)
{
	for (size_t i = 0; i < config->listener_count; i++)
		if (span_eq(config->listeners[i].name, name))
			return &config->listeners[i];
	return NULL;
}

/*
 * The first that such a client would use: who logs in, where that can be done; others, where it
 * need not.
 */
static const struct listener *
likely_listener(const struct config *config, bool logs_in)
{
	for (size_t i = 0; i < config->listener_count; i++)
		if (config->listeners[i].auth !=
		    (logs_in ? LISTENER_AUTH_OFF : LISTENER_AUTH_REQUIRED))
			return &config->listeners[i];
	return NULL;
}

static const char *
find_client(struct asked *a)
{
	const struct control_request *r = &a->job->request;
	bool local = r->listener.len == 0 ? r->client.len == 0 && r->user.len == 0 :
					    span_eq(r->listener, SPAN("local"));

	a->client.user = r->user;
	a->client.authenticated = r->user.len > 0;
	if (r->client.len > 0 && !netaddr_parse(r->client, 0, &a->client.peer))
		return "The client is no IP address.";
	if (local) {
		if (r->client.len > 0 || r->user.len > 0)
			return "Local programs have no address, and do not log in.";
		a->client.local = true;
		a->client.peer.family = AF_UNIX;
		a->smtp = &a->config->submission;
		access_greet(&a->config->access, &a->client);
		return NULL;
	}
	a->listener = r->listener.len > 0 ? named_listener(a->config, r->listener) :
					    likely_listener(a->config, r->user.len > 0);
	if (a->listener == NULL)
		return r->listener.len > 0 ? "There is no listener with that name." :
					     "No listener takes mail of such a client.";
	a->smtp = listener_smtp(a->listener, &a->client.peer);
	if (a->listener->address_count > 0)
		a->client.server = a->listener->addresses[0];
	access_greet(&a->config->access, &a->client);
	return NULL;
}

static const char *
read_address(struct span text, unsigned flags, struct arena *arena, struct span *ret)
{
	struct address address;
	struct span rest;

	if (address_parse_path(text, ADDRESS_UTF8 | flags, arena, &address, &rest) != ADDRESS_OK ||
	    rest.len > 0)
		return "That is no address.";
	*ret = address_text(&address, arena);
	return NULL;
}

static const char *
read_question(struct asked *a)
{
	const struct control_request *r = &a->job->request;
	const char *error = find_client(a);
	unsigned local = a->client.local ? ADDRESS_BARE_LOCAL_OK : 0;

	if (error == NULL && r->reverse_path.len > 0)
		error = read_address(r->reverse_path, ADDRESS_NULL_OK | local, &a->job->arena,
				     &a->sender);
	if (error == NULL)
		error = read_address(r->recipient, ADDRESS_POSTMASTER_OK | local, &a->job->arena,
				     &a->recipient);
	if (error == NULL && r->header.len > 0 && span_find(r->header, ':') == NULL)
		error = "The header field has no colon.";
	a->header = arena_printf(&a->job->arena, "%.*s\r\n", SPAN_FMT(r->header));
	return error;
}

static void
tell_client(const struct asked *a)
{
	struct control_job *job = a->job;
	char address[NETADDR_TEXT_MAX];

	if (a->listener == NULL) {
		tell_note(job, "client", SPAN("a local program, over the submission socket"));
		return;
	}
	tell_note(job, "client",
		  arena_printf(&job->arena, "listener %.*s, client %s (%s)%s%.*s",
			       SPAN_FMT(a->listener->name),
			       a->client.peer.family == 0
				       ? "anywhere"
				       : netaddr_format(&a->client.peer, address),
			       a->client.trusted	? "in relay-from"
			       : a->client.user.len > 0 ? "not in relay-from"
							: "a stranger",
			       a->client.user.len > 0 ? ", logged in as " : "",
			       SPAN_FMT(a->client.user)));
}

/* ---- how it is to be carried -------------------------------------------------------------- */

/* MAIL's line with what was asked for, read and judged as that of a session in TLS. */
static const struct reply *
read_wishes(struct asked *a)
{
	const struct control_request *r = &a->job->request;
	bool heard = a->client.trusted || a->client.authenticated;
	const struct smtp_command_limits limits = {
		.extended = true, .tls = true, .priority = heard && a->smtp->offer_priority,
		.hold = heard && a->smtp->hold_max_ms > 0, .by = heard && a->smtp->by_min_ms > 0,
	};
	struct buf line = { 0 };
	struct smtp_command command;
	struct reply *refused = arena_alloc(&a->job->arena, sizeof(*refused));
	unsigned wrong;
	bool read;

	buf_append(&line, SPAN("MAIL FROM:<>"));
	if (r->requiretls)
		buf_append(&line, SPAN(" REQUIRETLS"));
	if (r->priority.given)
		buf_printf(&line, " MT-PRIORITY=%d", r->priority.mt);
	if (r->hold_ms > 0)
		buf_printf(&line, " HOLDFOR=%llu", (unsigned long long)r->hold_ms / 1000);
	if (r->within_ms > 0)
		buf_printf(&line, " BY=%llu;R", (unsigned long long)r->within_ms / 1000);
	read = smtp_command_parse(buf_span(&line), &limits, &a->job->arena, &command, refused);
	buf_free(&line);
	if (!read)
		return refused;
	a->wishes = command.wishes;
	wrong = smtp_server_judge_wishes(a->smtp,
					 verdict_max_priority(a->config, a->smtp, a->client.user),
					 wall_ms(), &a->wishes);
	return wrong == TEXT_COUNT ? NULL : &smtp_texts[wrong];
}

static void
tell_wishes(const struct asked *a)
{
	const struct control_request *r = &a->job->request;
	struct arena *arena = &a->job->arena;
	char at[WISH_TIME_MAX];

	if (r->priority.given)
		tell_note(a->job, "priority",
			  a->wishes.priority == r->priority.mt ? arena_printf(arena, "%d",
									      r->priority.mt) :
			  arena_printf(arena, "%d: %d was asked for, and is more than it may have",
				       a->wishes.priority, r->priority.mt));
	if (a->wishes.hold_for_s > 0)
		tell_note(a->job, "release", arena_printf(arena, "not before %s", wish_time_text(
				  wall_ms() + (int64_t)a->wishes.hold_for_s * 1000, at)));
	if (a->wishes.by_mode != BY_NONE)
		tell_note(a->job, "deliver-by",
			  arena_printf(arena, "by %s, or it is returned",
				       wish_time_text(wall_ms() + a->wishes.by_s * 1000, at)));
}

/* ---- is it taken? ------------------------------------------------------------------------- */

/* What the session itself asks for, before MAIL is judged. */
static bool
session_takes(const struct asked *a)
{
	static const struct reply banned =
		REPLY_INIT(421, 4, 7, 0, "too many failed logins, try again later");
	static const struct reply log_in = REPLY_INIT(530, 5, 7, 0, "log in first (AUTH)");
	static const struct reply too_large = REPLY_INIT(552, 5, 3, 4, "message too large");
	static const struct reply no_disk =
		REPLY_INIT(452, 4, 3, 1, "the queue is full, try again later");
	struct reactor *home = job_home(a->job);
	uint64_t size = a->job->request.body_size;

	if (a->listener != NULL && a->listener->auth == LISTENER_AUTH_REQUIRED &&
	    a->client.peer.family != 0 &&
	    throttle_turns_away(gate_throttle(home->gate), &a->client.peer, mono_ms()))
		return tell_reply(a->job, "client", &banned);
	if (a->smtp->require_auth && !a->client.authenticated)
		return tell_reply(a->job, "mail", &log_in);
	if (a->smtp->require_tls)
		tell_note(a->job, "tls", SPAN("this listener wants TLS first"));
	if (size > a->smtp->max_message_size)
		return tell_reply(a->job, "mail", &too_large);
	if (!queue_has_room(home->queue, size))
		return tell_reply(a->job, "mail", &no_disk);
	return true;
}

/* The counters of its user, and whether they leave room for one more. */
static bool
user_may_send(const struct asked *a)
{
	struct quota_limits limits = allowance_limits(a->config);
	struct quota_verdict v;

	if (a->client.user.len == 0 || !quota_any(&limits))
		return true;
	v = quota_look(gate_quota(job_home(a->job)->gate), &limits, a->client.user, mono_ms());
	for (unsigned i = 0; i < QUOTA_KINDS; i++) {
		struct span text = arena_printf(&a->job->arena, "%s: %llu of %llu", quota_name(i),
						(unsigned long long)v.count[i],
						(unsigned long long)limits.most[i]);

		if (limits.most[i] > 0)
			tell(a->job, v.count[i] < limits.most[i], "user-limit", text);
	}
	return v.messages > 0 && v.recipients > 0;
}

static bool
is_taken(struct asked *a)
{
	struct reactor *home = job_home(a->job);
	struct suppression suppression;
	struct verp_address verp;
	struct reply reply;
	const struct reply *unheard = read_wishes(a);
	bool named, proven;

	if (unheard != NULL)
		return tell_reply(a->job, "mail", unheard);
	a->sender = verdict_qualified(a->config, &a->client, a->sender, &a->job->arena);
	reply = verdict_mail(a->config, &a->client, a->sender);
	if (!tell_reply(a->job, "mail", &reply) || !user_may_send(a))
		return false;
	a->returns = bounces_judge(home, a->config, &a->recipient, &verp, &proven, &reply);
	if (a->returns)
		return tell_reply(a->job, "rcpt", &reply);
	reply = verdict_rcpt(a->config, &a->client, a->sender, a->job->request.requiretls,
			     &a->job->arena, &a->recipient, &a->route);
	if (reply.code == 250 && suppressed_find(home->suppressed, home->port, a->recipient,
						 &a->job->arena, &suppression)) {
		reply = suppressed_reply(&suppression, &a->job->arena);
		tell(a->job, false, "suppressed",
		     suppression.reason.len > 0 ? suppression.reason
						: span_str(reply_class_name(suppression.class)));
	}
	if (!tell_reply(a->job, "rcpt", &reply))
		return false;
	reply = verdict_tenant(a->config, &a->client, a->sender, a->header, &a->job->arena,
			       &a->tenant, &named);
	if (reply.code != 250)
		return tell_reply(a->job, "message", &reply);
	if (!span_ieq(a->recipient, a->job->request.recipient))
		tell_note(a->job, "recipient",
			  arena_printf(&a->job->arena, "it is for %.*s", SPAN_FMT(a->recipient)));
	return true;
}

/* ---- and then? ---------------------------------------------------------------------------- */

static enum job_next
refused(struct control_job *job)
{
	json_t *object = json_object();

	tell(job, false, "result", SPAN("it would be refused"));
	json_object_set_new(object, "good", json_false());
	return job_end(job, object);
}

/* Where it would go on to hangs on what it says. */
static enum job_next
read_here(struct control_job *job)
{
	json_t *object = json_object();

	tell(job, true, "result", SPAN("it would be read as mail that comes back"));
	json_object_set_new(object, "good", json_true());
	return job_end(job, object);
}

static enum job_next
follow(struct asked *a)
{
	struct control_job *job = a->job;
	uint32_t flags = (verdict_tls_optional(a->header) ? MESSAGE_TLS_OPTIONAL : 0u) |
			 (job->request.requiretls ? MESSAGE_REQUIRETLS : 0u);
	struct what_if_message message = {
		.sender = a->sender, .user = a->client.user, .recipient = a->recipient,
		.route = a->route, .wish = message_wish(flags, a->sender),
		.release_ms = a->wishes.hold_for_s > 0 ? wall_ms() +
		(int64_t)a->wishes.hold_for_s * 1000 : 0,
	};

	message.lane.domain = address_domain_of(a->recipient);
	message.lane.tenant = a->tenant;
	message.lane.priority = priority_of_mt(a->wishes.priority);
	message.lane.pool = pool_chosen(&a->config->sources, &(struct pool_facts){
		.header = pools_named(a->config, &a->client, a->header),
		.route = a->route->pool, .sender = a->sender, .tenant = a->tenant,
	});
	message.lane.route = route_label(&a->config->access.routes, message.lane.domain, a->route,
					 message.wish, &job->arena);
	if (verdict_asks_sender(a->config, &a->client, a->sender))
		message.ask_sender = address_domain_of(a->sender);
	return control_follow_what_if(job, &message);
}

static enum job_next
start_step(struct control_job *job)
{
	struct asked a = { .job = job, .config = job_home(job)->config };
	const char *error = read_question(&a);

	if (error != NULL)
		return job_fail(
			job, error,
			"As in: tramctl what-if --to anna@example.org --from news@shop.example");
	tell_client(&a);
	if (!session_takes(&a) || !is_taken(&a))
		return refused(job);
	if (a.returns)
		return read_here(job);
	tell_wishes(&a);
	return follow(&a);
}

void
control_what_if_start(struct control_job *job)
{
	job->step = start_step;
}
