/*
 * tlsrpt: counting what happened, in bounds; see tlsrpt.h. Failures are told apart by what they
 * are, between whom, and why; once TLSRPT_FAILURES_MAX of a policy are apart, further ones are
 * counted by what they are alone. RFC 8460 §4.
 */
#include "policy/tlsrpt.h"

#include "policy/codec.h"

enum {
	VERSION = 1, KIND = 'r',
	FAILURES_KEPT = TLSRPT_FAILURES_MAX + TLSRPT_RESULTS,	/* with those without details */
	DOMAIN_MAX = 255,
	DAY_COST = 300, FAILURE_COST = 40,	/* stored, but for their texts and addresses */
	POLICY_COST = 20 + TLSRPT_RESULTS * FAILURE_COST,
	LENGTH_COST = 4,
};

static const char *const results[TLSRPT_RESULTS] = {
	[TLSRPT_SUCCESS] = "success",
	[TLSRPT_STARTTLS_NOT_SUPPORTED] = "starttls-not-supported",
	[TLSRPT_CERTIFICATE_HOST_MISMATCH] = "certificate-host-mismatch",
	[TLSRPT_CERTIFICATE_NOT_TRUSTED] = "certificate-not-trusted",
	[TLSRPT_CERTIFICATE_EXPIRED] = "certificate-expired",
	[TLSRPT_VALIDATION_FAILURE] = "validation-failure",
	[TLSRPT_TLSA_INVALID] = "tlsa-invalid",
	[TLSRPT_DNSSEC_INVALID] = "dnssec-invalid",
	[TLSRPT_DANE_REQUIRED] = "dane-required",
	[TLSRPT_STS_POLICY_FETCH_ERROR] = "sts-policy-fetch-error",
	[TLSRPT_STS_POLICY_INVALID] = "sts-policy-invalid",
	[TLSRPT_STS_WEBPKI_INVALID] = "sts-webpki-invalid",
};

const char *
tlsrpt_result_text(enum tlsrpt_result result)
{
	return result < TLSRPT_RESULTS ? results[result] : "?";
}

const char *
tlsrpt_policy_type_text(enum tlsrpt_policy_type type)
{
	switch (type) {
	case TLSRPT_NO_POLICY: return "no-policy-found";
	case TLSRPT_TLSA: return "tlsa";
	case TLSRPT_STS: return "sts";
	}
	return "?";
}

static struct span
cut(struct span text)
{
	return span_first(text, TLSRPT_TEXT_MAX);
}

static uint64_t
sum(uint64_t a, uint64_t b)
{
	return a + b < a ? UINT64_MAX : a + b;
}

/* ---- which policy ------------------------------------------------------------------------- */

static bool
same_texts(const struct span *have, size_t have_count, const struct span *want, size_t want_count,
	   size_t most)
{
	if (have_count != (want_count < most ? want_count : most))
		return false;
	for (size_t i = 0; i < have_count; i++)
		if (!span_eq(have[i], cut(want[i])))
			return false;
	return true;
}

static const struct span *
copy_texts(const struct span *texts, size_t count, size_t most, struct arena *arena, size_t *ret)
{
	struct span *copy;

	*ret = count < most ? count : most;
	copy = arena_alloc(arena, (*ret + 1) * sizeof(*copy));
	for (size_t i = 0; i < *ret; i++)
		copy[i] = arena_copy(arena, cut(texts[i]));
	return copy;
}

static size_t
texts_cost(const struct span *texts, size_t count, size_t most)
{
	size_t octets = 0;

	for (size_t i = 0; i < count && i < most; i++)
		octets += cut(texts[i]).len + LENGTH_COST;
	return octets;
}

/* With those failures of it that have no details. */
static size_t
policy_cost(const struct tlsrpt_policy *p)
{
	return POLICY_COST + texts_cost(p->lines, p->line_count, TLSRPT_LINES_MAX) +
	       texts_cost(p->hosts, p->host_count, TLSRPT_HOSTS_MAX);
}

/* NULL: there are too many already. */
static struct tlsrpt_policy *
policy_for(struct tlsrpt_day *day, const struct tlsrpt_policy *like, struct arena *arena)
{
	struct tlsrpt_policy *policy;

	for (size_t i = 0; i < day->count; i++) {
		policy = &day->policies[i];
		if (policy->type == like->type &&
		    same_texts(policy->lines, policy->line_count, like->lines, like->line_count,
			       TLSRPT_LINES_MAX) &&
		    same_texts(policy->hosts, policy->host_count, like->hosts, like->host_count,
			       TLSRPT_HOSTS_MAX))
			return policy;
	}
	if (day->count == TLSRPT_POLICIES_MAX ||
	    day->octets + policy_cost(like) > TLSRPT_DAY_OCTETS)
		return NULL;
	day->octets += policy_cost(like);
	policy = &day->policies[day->count++];
	*policy = (struct tlsrpt_policy){ .type = like->type };
	policy->lines = copy_texts(like->lines, like->line_count, TLSRPT_LINES_MAX, arena,
				   &policy->line_count);
	policy->hosts = copy_texts(like->hosts, like->host_count, TLSRPT_HOSTS_MAX, arena,
				   &policy->host_count);
	return policy;
}

/* ---- which failure ------------------------------------------------------------------------ */

static bool
same_address(const struct netaddr *a, const struct netaddr *b)
{
	return (a->family == 0 && b->family == 0) || netaddr_same_ip(a, b);
}

static bool
same_failure(const struct tlsrpt_failure *a, const struct tlsrpt_failure *b)
{
	return a->result == b->result && same_address(&a->sending, &b->sending) &&
	       same_address(&a->receiving, &b->receiving) &&
	       span_eq(a->receiving_host, b->receiving_host) &&
	       span_eq(a->receiving_helo, b->receiving_helo) && span_eq(a->detail, b->detail);
}

static struct tlsrpt_failure *
failure_find(struct tlsrpt_policy *policy, const struct tlsrpt_failure *like)
{
	for (size_t i = 0; i < policy->failure_count; i++)
		if (same_failure(&policy->failures[i], like))
			return &policy->failures[i];
	return NULL;
}

static size_t
failure_cost(const struct tlsrpt_failure *f)
{
	size_t addresses = 16 * ((size_t)(f->sending.family != 0) + (f->receiving.family != 0));
	size_t details = f->receiving_host.len + f->receiving_helo.len + f->detail.len + addresses;

	return details > 0 ? FAILURE_COST + details : 0;	/* bare: room for it is kept */
}

static struct tlsrpt_failure *
failure_new(struct tlsrpt_policy *policy, const struct tlsrpt_failure *like, struct arena *arena)
{
	struct tlsrpt_failure *failure;

	if (policy->failures == NULL)
		policy->failures = arena_alloc(arena, FAILURES_KEPT * sizeof(*policy->failures));
	failure = &policy->failures[policy->failure_count++];
	*failure = *like;
	failure->count = 0;
	failure->receiving_host = arena_copy(arena, like->receiving_host);
	failure->receiving_helo = arena_copy(arena, like->receiving_helo);
	failure->detail = arena_copy(arena, like->detail);
	return failure;
}

static struct netaddr
address_alone(const struct netaddr *address)
{
	struct netaddr ret = *address;

	ret.port = 0;
	if (ret.family != AF_INET && ret.family != AF_INET6)
		ret.family = 0;
	return ret;
}

static void
add_failure(struct tlsrpt_day *day, struct tlsrpt_policy *policy, const struct tlsrpt_failure *one,
	    struct arena *arena)
{
	struct tlsrpt_failure bare = { .result = one->result }, whole = *one;
	struct tlsrpt_failure *failure;

	whole.sending = address_alone(&one->sending);
	whole.receiving = address_alone(&one->receiving);
	whole.receiving_host = cut(one->receiving_host);
	whole.receiving_helo = cut(one->receiving_helo);
	whole.detail = cut(one->detail);
	failure = failure_find(policy, &whole);
	if (failure == NULL && policy->failure_count < TLSRPT_FAILURES_MAX &&
	    day->octets + failure_cost(&whole) <= TLSRPT_DAY_OCTETS) {
		day->octets += failure_cost(&whole);
		failure = failure_new(policy, &whole, arena);
	}
	if (failure == NULL)
		failure = failure_find(policy, &bare);
	if (failure == NULL && policy->failure_count < FAILURES_KEPT)
		failure = failure_new(policy, &bare, arena);
	if (failure != NULL)
		failure->count = sum(failure->count, one->count);
	policy->failed = sum(policy->failed, one->count);
}

/* ---- a day -------------------------------------------------------------------------------- */

void
tlsrpt_day_init(struct tlsrpt_day *day, struct span domain, uint32_t number, struct arena *arena)
{
	*day = (struct tlsrpt_day){
		.domain = arena_copy(arena, span_first(domain, DOMAIN_MAX)),
		.day = number,
		.octets = DAY_COST,
	};
}

void
tlsrpt_count(struct tlsrpt_day *day, const struct tlsrpt_event *event, struct arena *arena)
{
	struct tlsrpt_policy like = {
		.type = event->type,
		.lines = event->lines,
		.line_count = event->line_count,
		.hosts = event->hosts,
		.host_count = event->host_count,
	};
	struct tlsrpt_policy *policy = policy_for(day, &like, arena);
	struct tlsrpt_failure failure = {
		.result = event->result,
		.sending = event->sending,
		.receiving = event->receiving,
		.receiving_host = event->receiving_host,
		.receiving_helo = event->receiving_helo,
		.detail = event->detail,
		.count = 1,
	};

	if (policy == NULL)
		day->lost = sum(day->lost, 1);
	else if (event->result == TLSRPT_SUCCESS)
		policy->successes = sum(policy->successes, 1);
	else
		add_failure(day, policy, &failure, arena);
}

void
tlsrpt_merge(struct tlsrpt_day *into, const struct tlsrpt_day *from, struct arena *arena)
{
	into->lost = sum(into->lost, from->lost);
	for (size_t i = 0; i < from->count; i++) {
		const struct tlsrpt_policy *theirs = &from->policies[i];
		struct tlsrpt_policy *ours = policy_for(into, theirs, arena);

		if (ours == NULL) {
			into->lost = sum(into->lost, sum(theirs->successes, theirs->failed));
			continue;
		}
		ours->successes = sum(ours->successes, theirs->successes);
		for (size_t k = 0; k < theirs->failure_count; k++)
			add_failure(into, ours, &theirs->failures[k], arena);
	}
}

/* ---- stored ------------------------------------------------------------------------------- */

static void
put_address(struct encoder *e, const struct netaddr *address)
{
	size_t octets = address->family == AF_INET6 ? 16 : address->family == AF_INET ? 4 : 0;

	encoder_span(e, span_of(address->ip, octets));
}

static struct netaddr
take_address(struct decoder *d)
{
	struct span octets = decoder_span(d, 16);
	struct netaddr address = { 0 };

	if (octets.len != 0 && octets.len != 4 && octets.len != 16) {
		d->bad = true;
		return address;
	}
	address.family = octets.len == 16 ? AF_INET6 : octets.len == 4 ? AF_INET : 0;
	memcpy(address.ip, octets.at, octets.len);
	return address;
}

static void
put_texts(struct encoder *e, const struct span *texts, size_t count)
{
	encoder_number(e, count, 1);
	for (size_t i = 0; i < count; i++)
		encoder_span(e, texts[i]);
}

static const struct span *
take_texts(struct decoder *d, size_t most, size_t *ret_count)
{
	size_t count = (size_t)decoder_upto(d, 1, most);
	struct span *texts = arena_alloc(d->arena, (count + 1) * sizeof(*texts));

	for (size_t i = 0; i < count; i++)
		texts[i] = decoder_span(d, TLSRPT_TEXT_MAX);
	*ret_count = count;
	return texts;
}

static void
put_policy(struct encoder *e, const struct tlsrpt_policy *policy)
{
	encoder_number(e, policy->type, 1);
	put_texts(e, policy->lines, policy->line_count);
	put_texts(e, policy->hosts, policy->host_count);
	encoder_number(e, policy->successes, 8);
	encoder_number(e, policy->failure_count, 1);
	for (size_t i = 0; i < policy->failure_count; i++) {
		const struct tlsrpt_failure *failure = &policy->failures[i];

		encoder_number(e, failure->result, 1);
		put_address(e, &failure->sending);
		put_address(e, &failure->receiving);
		encoder_span(e, failure->receiving_host);
		encoder_span(e, failure->receiving_helo);
		encoder_span(e, failure->detail);
		encoder_number(e, failure->count, 8);
	}
}

/* What all have failed is not stored: it is the sum of the failures. */
static void
take_policy(struct decoder *d, struct tlsrpt_policy *policy)
{
	policy->type = (enum tlsrpt_policy_type)decoder_upto(d, 1, TLSRPT_STS);
	policy->lines = take_texts(d, TLSRPT_LINES_MAX, &policy->line_count);
	policy->hosts = take_texts(d, TLSRPT_HOSTS_MAX, &policy->host_count);
	policy->successes = decoder_number(d, 8);
	policy->failure_count = (size_t)decoder_upto(d, 1, FAILURES_KEPT);
	if (policy->failure_count > 0)
		policy->failures = arena_alloc(d->arena, FAILURES_KEPT * sizeof(*policy->failures));
	for (size_t i = 0; i < policy->failure_count && !d->bad; i++) {
		struct tlsrpt_failure *failure = &policy->failures[i];

		failure->result = (enum tlsrpt_result)decoder_upto(d, 1, TLSRPT_RESULTS - 1);
		failure->sending = take_address(d);
		failure->receiving = take_address(d);
		failure->receiving_host = decoder_span(d, TLSRPT_TEXT_MAX);
		failure->receiving_helo = decoder_span(d, TLSRPT_TEXT_MAX);
		failure->detail = decoder_span(d, TLSRPT_TEXT_MAX);
		failure->count = decoder_number(d, 8);
		policy->failed = sum(policy->failed, failure->count);
	}
}

static size_t
stored_octets(const struct tlsrpt_day *day)
{
	size_t octets = DAY_COST;

	for (size_t i = 0; i < day->count; i++) {
		octets += policy_cost(&day->policies[i]);
		for (size_t k = 0; k < day->policies[i].failure_count; k++)
			octets += failure_cost(&day->policies[i].failures[k]);
	}
	return octets;
}

void
tlsrpt_day_encode(const struct tlsrpt_day *day, struct buf *out)
{
	struct encoder e;

	encoder_begin(&e, VERSION, KIND, out);
	encoder_span(&e, day->domain);
	encoder_number(&e, day->day, 4);
	encoder_number(&e, day->lost, 8);
	encoder_number(&e, day->count, 1);
	for (size_t i = 0; i < day->count; i++)
		put_policy(&e, &day->policies[i]);
	encoder_end(&e);
}

int
tlsrpt_day_decode(struct span octets, struct arena *arena, struct tlsrpt_day *ret)
{
	struct tlsrpt_day day = { 0 };
	struct decoder d;
	int r = decoder_begin(&d, octets, VERSION, KIND, arena);

	if (r < 0)
		return r;
	day.domain = decoder_span(&d, DOMAIN_MAX);
	day.day = (uint32_t)decoder_number(&d, 4);
	day.lost = decoder_number(&d, 8);
	day.count = (size_t)decoder_upto(&d, 1, TLSRPT_POLICIES_MAX);
	for (size_t i = 0; i < day.count && !d.bad; i++)
		take_policy(&d, &day.policies[i]);
	r = decoder_end(&d);
	if (r < 0)
		return r;
	day.octets = stored_octets(&day);
	*ret = day;
	return 0;
}
