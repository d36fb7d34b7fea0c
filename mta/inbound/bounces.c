/* bounces: see bounces.h. RCPT → bounces_take → on_home → on_back. */
#include "mta/inbound/bounces.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mta/base/clock.h"
#include "mta/base/id.h"
#include "mta/base/log.h"
#include "mta/bounce/returned.h"
#include "mta/inbound/receiver_private.h"
#include "mta/reactor/returns.h"
#include "mta/reactor/suppressed.h"

enum { CLAIMS_MAX = 10 };		/* recipients that a report without proof is looked up by */

struct returning {
	struct letter letter;
	struct session *session;
	bool active;			/* in this transaction */
	/* on its way to the home loop and back: nothing of it may go */
	bool away;
	uint64_t report;		/* the id of what came back */
	/* how its message was found; "verp": by an address that only we can have made */
	const char *by;
	bool proven, found;
	struct verp_address verp;	/* if proven */
	struct delivered whose;		/* if found */
	struct buf body;
	struct arena arena;
	struct returned said;
	const struct returned_recipient *about;	/* NULL: nothing is said of it */
	enum returns_what what;
	bool classified;
	enum reply_class class;
	struct span suppress;		/* the address; empty: it stays off the list */
	struct suppressed_change change;
	struct span forward;		/* to whom; empty: nobody */
	const struct route *route;
};

static const struct reply noted = REPLY_INIT(250, 2, 0, 0, "noted");

/* ---- RCPT --------------------------------------------------------------------------------- */

static bool
is_address(const struct config *config, struct span address)
{
	for (size_t i = 0; i < config->bounces.address_count; i++)
		if (span_ieq(config->bounces.addresses[i], address))
			return true;
	return false;
}

static struct returning *
returning_of(struct session *s)
{
	if (s->returning == NULL) {
		s->returning = xcalloc(1, sizeof(*s->returning));
		s->returning->session = s;
	}
	return s->returning;
}

static bool
is_too_old(const struct config *config, const struct verp_address *verp)
{
	return id_time_ms(verp->id) < wall_ms() - config->bounces.lifetime_ms;
}

/* Old ones are refused like forged ones: nobody learns which it was. */
bool
bounces_judge(const struct reactor *reactor, const struct config *config, struct span *address,
	      struct verp_address *verp, bool *proven, struct reply *verdict)
{
	const struct verp_keys keys = returns_keys(reactor->returns, config);
	enum verp_verdict found;

	*proven = false;
	*verdict = REPLY(250, 2, 1, 5, "recipient ok");
	if (config->verp.count == 0 && config->bounces.address_count == 0)
		return false;
	if (is_address(config, *address))
		return true;
	if (span_ieq(address_local_of(*address), SPAN("postmaster")) &&
	    verp_has_domain(&config->verp, address_domain_of(*address))) {
		*address = SPAN("postmaster");		/* ours */
		return false;
	}
	found = verp_read(&config->verp, &keys, *address, verp);
	*proven = found == VERP_GOOD && !is_too_old(config, verp);
	if (found != VERP_FOREIGN && !*proven)
		*verdict = REPLY(550, 5, 1, 1, "no such address here");
	return found != VERP_FOREIGN;
}

bool
bounces_ask_rcpt(struct session *s, struct reply *verdict)
{
	static const struct reply alone =
		REPLY_INIT(452, 4, 5, 3, "bounces are taken for one recipient at a time");
	bool first = s->server.envelope.recipient_count == 0, proven, returns;
	struct verp_address verp = { 0 };
	struct returning *r;

	returns = bounces_judge(s->reactor, s->config, &s->server.asked.address, &verp, &proven,
				verdict);
	if (first)
		bounces_drop(s);
	else if (returns ? verdict->code == 250 : bounces_is(s))
		*verdict = alone;
	if (first && returns && verdict->code == 250) {
		r = returning_of(s);
		r->active = true;
		r->proven = proven;
		r->verp = verp;
		r->by = proven ? "verp" : NULL;
	}
	return returns || (!first && bounces_is(s));
}

bool
bounces_is(const struct session *s)
{
	return s->returning != NULL && s->returning->active;
}

/* ---- content ------------------------------------------------------------------------------ */

void
bounces_append(struct session *s, struct span bytes)
{
	size_t have;

	if (!bounces_is(s))
		return;
	have = buf_len(&s->returning->body);
	buf_append(&s->returning->body,
		   span_first(bytes, have < RETURNED_BODY_MAX ? RETURNED_BODY_MAX - have : 0));
}

size_t
bounces_memory(const struct session *s)
{
	return s->returning == NULL ? 0 : buf_len(&s->returning->body);
}

void
bounces_drop_body(struct session *s)
{
	if (s->returning != NULL && !s->returning->away)
		buf_free(&s->returning->body);
}

void
bounces_drop(struct session *s)
{
	struct returning *r = s->returning;

	if (r == NULL)
		return;
	assert(!r->away);
	buf_free(&r->body);
	arena_free(&r->arena);
	*r = (struct returning){ .session = s };
}

void
bounces_free(struct session *s)
{
	bounces_drop(s);
	free(s->returning);
}

/* ---- whose message it is about ------------------------------------------------------------ */

static struct queue_port *
port_of(const struct returning *r)
{
	return r->session->reactor->port;
}

static struct verp_keys
keys_of(const struct returning *r)
{
	return returns_keys(r->session->reactor->returns, r->session->config);
}

/* A complaint comes to an address of its own, but may show the one we sent under. */
static void
find_by_sender(struct returning *r, struct span sender)
{
	const struct verp_keys keys = keys_of(r);

	if (!r->proven && sender.len > 0 &&
	    verp_read(&r->session->config->verp, &keys, sender, &r->verp) == VERP_GOOD &&
	    !is_too_old(r->session->config, &r->verp)) {
		r->proven = true;
		r->by = "verp";
	}
}

static struct span
return_path(const struct returning *r)
{
	struct span value;

	if (!header_find(r->said.header, SPAN("Return-Path"), &value))
		return SPAN("");
	value = span_trim(value);
	if (value.len > 2 && value.at[0] == '<' && value.at[value.len - 1] == '>')
		return span_of(value.at + 1, value.len - 2);
	return value;
}

/* By what anybody can have read in the message: true only of a recipient that it had. */
static void
find_by_id(struct returning *r)
{
	struct span claims[2 * CLAIMS_MAX];
	struct delivered second;
	size_t count = 0;
	uint64_t id;

	if (!returned_queue_id(&r->said, r->session->config->hostname, &id))
		return;
	for (size_t i = 0; i < r->said.count && i < CLAIMS_MAX; i++) {
		const struct returned_recipient *one = &r->said.recipients[i];

		if (one->original.len > 0)
			claims[count++] = one->original;
		if (one->address.len > 0)
			claims[count++] = one->address;
	}
	if (count > 0)
		r->found =
			returns_find_address(port_of(r), id, claims, count, &r->arena, &r->whose);
	/* who complains is often not named */
	if (!r->found && r->said.count == 0 &&
	    returns_find(port_of(r), id, 0, &r->arena, &r->whose))
		r->found = !returns_find(port_of(r), id, 1, &r->arena, &second);
	if (r->found)
		r->by = "id";
}

static void
find(struct returning *r)
{
	const struct verp_keys keys = keys_of(r);

	find_by_sender(r, r->said.original_from);
	find_by_sender(r, return_path(r));
	if (r->proven)
		r->found = returns_find(port_of(r), r->verp.id, r->verp.recipient, &r->arena,
					&r->whose);
	else
		find_by_id(r);
	/* of another server that shares the key: that id is another message's here */
	if (r->proven && r->found && !verp_is_for(&keys, &r->verp, r->whose.address)) {
		r->found = false;
		r->whose = (struct delivered){ 0 };
	}
}

/* The line of the report that is about it. */
static const struct returned_recipient *
about(const struct returning *r)
{
	const struct verp_keys keys = keys_of(r);

	for (size_t i = 0; i < r->said.count; i++) {
		const struct returned_recipient *one = &r->said.recipients[i];

		if (r->found ? span_ieq(one->address, r->whose.address) ||
				       span_ieq(one->original, r->whose.address)
			     : r->proven && (verp_is_for(&keys, &r->verp, one->address) ||
					     verp_is_for(&keys, &r->verp, one->original)))
			return one;
	}
	/* it was forwarded, and is said of another address */
	for (size_t i = 0; i < r->said.count; i++)
		if (r->said.recipients[i].action == ACTION_FAILED)
			return &r->said.recipients[i];
	return r->said.count > 0 ? &r->said.recipients[0] : NULL;
}

/* ---- what it means ------------------------------------------------------------------------ */

/* At which stage the reply came, a report tells by accident only. */
static enum reply_class
class_of(const struct config *config, const struct returned_recipient *one)
{
	struct classify_reply reply = { CLASSIFY_RCPT, one->code, one->status, one->diagnostic,
					one->host };
	bool vague =
		one->status.klass == 0 || (one->status.subject == 0 && one->status.detail == 0);
	enum reply_class class;

	if (one->code != 0)
		return classify(config->classifier, &reply);
	reply.stage = CLASSIFY_DATA;
	class = classify(config->classifier, &reply);
	if (class != CLASS_BAD_CONNECTION || !vague)
		return class;
	/* words alone: as a rule for replies would have them */
	reply.code = one->status.klass == 4 ? 450 : 550;
	class = classify(config->classifier, &reply);
	return class == CLASS_POLICY_RELATED || class == CLASS_TRANSIENT_FAILURE ? CLASS_OTHER
										 : class;
}

static void
judge(struct returning *r)
{
	const struct config *config = r->session->config;

	r->about = about(r);
	r->what = RETURNS_OTHER;
	if (r->said.kind == RETURNED_AUTOREPLY) {
		r->what = RETURNS_AUTOREPLY;
	} else if (returned_is_complaint(&r->said)) {
		r->what = RETURNS_COMPLAINT;
		r->classified = true;
		r->class = CLASS_COMPLAINT;
	} else if (r->said.kind == RETURNED_BOUNCE) {
		enum returned_action action = r->about != NULL ? r->about->action : ACTION_FAILED;

		r->what = action == ACTION_FAILED    ? RETURNS_BOUNCE
			  : action == ACTION_DELAYED ? RETURNS_DELAY
						     : RETURNS_OTHER;
		r->classified = action == ACTION_FAILED;
		r->class = r->about != NULL ? class_of(config, r->about) : CLASS_OTHER;
	}
}

/*
 * Only the address that the message went to: never one that a report names and we did not send to.
 */
static struct span
address_of(const struct returning *r)
{
	const struct verp_keys keys = keys_of(r);

	if (r->found)
		return r->whose.address;
	if (r->proven && r->about != NULL && verp_is_for(&keys, &r->verp, r->about->original))
		return r->about->original;
	if (r->proven && r->about != NULL && verp_is_for(&keys, &r->verp, r->about->address))
		return r->about->address;
	return SPAN("");
}

static void
choose_forward(struct returning *r)
{
	const struct config *config = r->session->config;
	struct span to = config->bounces.mailbox;

	if (config->bounces.forward == BOUNCES_TO_NOBODY)
		return;
	if (config->bounces.forward == BOUNCES_TO_SENDER)
		to = r->found ? r->whose.sender : SPAN("");
	/* whoever sends under such an address has it here already */
	if (to.len == 0 || is_address(config, to) ||
	    verp_has_domain(&config->verp, address_domain_of(to)))
		return;
	r->route = route_choose(&config->access.routes,
				&(struct route_facts){ .domain = address_domain_of(to) });
	if (r->route != NULL && r->route->kind != DELIVER_REJECT)
		r->forward = arena_copy(&r->session->server.arena, to);
}

/* ---- on the home loop --------------------------------------------------------------------- */

static void
put_reply(const struct returning *r, struct reply *ret)
{
	*ret = (struct reply){ 0 };
	if (r->about == NULL)
		return;
	ret->code = r->about->code;
	ret->status = r->about->status;
	ret->text = r->about->diagnostic;
}

static void
log_it(const struct returning *r)
{
	struct span to = address_of(r);
	struct reply reply;
	struct log_line l;

	put_reply(r, &reply);
	if (!log_begin(&l, LOG_INFO, r->what == RETURNS_COMPLAINT	 ? "complaint"
				     : r->said.kind == RETURNED_BOUNCE ? "bounce-received"
								       : "returned"))
		return;
	log_id(&l, "id", r->proven ? r->verp.id : r->whose.id);
	log_id(&l, "report", r->report);
	log_str(&l, "by", r->by != NULL ? r->by : "nothing");
	log_span(&l, "to", to);
	if (r->found)
		log_span(&l, "from", r->whose.sender);
	if (r->whose.tenant.len > 0)
		log_span(&l, "tenant", r->whose.tenant);
	log_str(&l, "kind", returned_kind_name(r->said.kind));
	if (r->said.form != FORM_NONE)
		log_str(&l, "form", returned_form_name(r->said.form));
	if (r->said.kind == RETURNED_BOUNCE && r->about != NULL)
		log_str(&l, "action", returned_action_name(r->about->action));
	if (r->said.envelope_id.len > 0)
		log_span(&l, "envid", span_first(r->said.envelope_id, 100));
	if (r->said.feedback_type.len > 0)
		log_span(&l, "feedback", r->said.feedback_type);
	if (reply.code != 0 || reply.status.klass != 0 || reply.text.len > 0)
		log_reply(&l, "reply", &reply);
	if (r->classified)
		log_str(&l, "class", reply_class_name(r->class));
	log_span(&l, "forward", r->forward.len > 0 ? r->forward : SPAN("nobody"));
	log_end(&l);
}

static void on_back(struct letter *letter);

static void
send_back(struct returning *r)
{
	struct reactor *reactor = r->session->reactor;

	r->letter.open = on_back;
	post_send(reactor->home, reactor->post, &r->letter);
}

static void
suppress_failed(int rc)
{
	log_message(LOG_WARNING, "suppress",
		    "the list of suppressed addresses could not be changed: %s", strerror(-rc));
}

static void
on_suppressed(struct suppressed_change *change)
{
	if (change->result < 0)
		suppress_failed(change->result);
	send_back(CONTAINER_OF(change, struct returning, change));
}

static void
log_suppressed(const struct returning *r, int64_t ms)
{
	struct log_line l;

	if (!log_begin(&l, LOG_INFO, "suppressed"))
		return;
	log_id(&l, "id", r->proven ? r->verp.id : r->whose.id);
	log_span(&l, "to", r->suppress);
	log_str(&l, "class", reply_class_name(r->class));
	log_i64(&l, "for", ms / 1000);
	log_end(&l);
}

/* False: there is nothing to wait for. */
static bool
suppress(struct returning *r, int64_t ms)
{
	struct suppressed *list = r->session->reactor->suppressed;
	int64_t now = wall_ms();
	struct reply reply;
	struct buf line = { 0 };
	int rc = -EINVAL;

	put_reply(r, &reply);
	reply_to_line(&reply, &line);
	r->change = (struct suppressed_change){ .urgent = true, .done = on_suppressed };
	r->change.entry = (struct suppression){
		.class = r->class, .since_ms = now, .until_ms = now + ms,
		.reason = arena_copy(&r->arena,
				     span_first(buf_span(&line), SUPPRESSION_REASON_MAX)),
	};
	buf_free(&line);
	if (suppression_key(r->suppress, &r->arena, &r->change.key))
		rc = suppressed_submit(list, &r->change);
	if (rc < 0)
		suppress_failed(rc);
	else
		log_suppressed(r, ms);
	return rc == 0;
}

static void
on_home(struct letter *letter)
{
	struct returning *r = CONTAINER_OF(letter, struct returning, letter);
	struct returns *returns = r->session->reactor->returns;
	int64_t ms = r->classified ? r->session->config->suppress_ms[r->class] : 0;

	log_it(r);
	returns_count(returns, r->what);
	if (!r->found)
		returns_count(returns, RETURNS_UNMATCHED);
	if (r->classified)
		returns_count_class(returns, r->class, r->whose.tenant, r->whose.site);
	if (r->suppress.len == 0 || ms == 0 || !suppress(r, ms))
		send_back(r);
}

/* ---- and back ----------------------------------------------------------------------------- */

/* It goes on as a message to whom it may concern, from nobody. */
static void
forward(struct session *s, const struct returning *r)
{
	struct envelope *e = &s->server.envelope;
	struct lane_name *lane = &s->lanes[0];

	e->reverse_path = SPAN("");
	e->envid = (struct span){ 0 };
	e->ret = RET_UNSET;
	e->recipients[0] = (struct recipient){ .address = r->forward };
	e->smtputf8 = e->smtputf8 || !span_is_ascii(r->forward);
	lane->domain = address_domain_of(r->forward);
	lane->route = route_label(&s->config->access.routes, lane->domain, r->route, WISH_NONE,
				  &s->server.arena);
	lane->priority = PRIORITY_REPORT;
	message_submit(s);
}

static void
on_back(struct letter *letter)
{
	struct returning *r = CONTAINER_OF(letter, struct returning, letter);
	struct session *s = r->session;

	r->away = false;
	s->outcomes--;
	if (session_gone(s) || s->stream.closing)
		return;
	s->waiting = false;
	if (r->forward.len > 0) {
		forward(s, r);
		return;
	}
	s->accepted++;
	message_drop(s);
	session_answered(s, &noted);
}

void
bounces_take(struct session *s)
{
	struct returning *r = s->returning;

	returned_parse(buf_span(&s->header.text), buf_span(&r->body), &r->arena, &r->said);
	find(r);
	judge(r);
	choose_forward(r);
	if (r->classified && (r->proven || s->config->bounces.suppress_unproven))
		r->suppress = address_of(r);
	r->report = s->id;
	r->away = true;
	s->outcomes++;
	s->waiting = true;
	stream_deadline(&s->stream, -1);	/* it is ours to answer */
	r->letter.open = on_home;
	post_send(s->reactor->post, s->reactor->home, &r->letter);
}
