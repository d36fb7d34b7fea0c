/* tls_event: see tls_event.h. */
#include "policy/tls_event.h"

static void
set_policy(const struct tls_question *question, const struct tls_demand *demand,
	   struct arena *arena, struct tlsrpt_event *ret)
{
	struct span *lines = arena_alloc(arena, TLSRPT_LINES_MAX * sizeof(*lines));

	ret->lines = lines;
	if (demand->source == TLS_SOURCE_DANE) {
		ret->type = TLSRPT_TLSA;
		ret->line_count =
			dane_policy_lines(question->dane, arena, lines, TLSRPT_LINES_MAX);
	} else if (demand->source == TLS_SOURCE_MTA_STS) {
		ret->type = TLSRPT_STS;
		ret->line_count = sts_policy_lines(question->sts, arena, lines, TLSRPT_LINES_MAX);
		ret->hosts = question->sts->mx;
		ret->host_count = question->sts->mx_count;
	} else {
		ret->type = TLSRPT_NO_POLICY;
	}
}

static enum tlsrpt_result
result_of(const struct tls_demand *demand, enum tls_end end, enum tls_trouble trouble,
	  enum tlsrpt_result failure)
{
	if (end == TLS_END_NOT_TRIED)
		return demand->source == TLS_SOURCE_DANE ? TLSRPT_DNSSEC_INVALID :
							   TLSRPT_VALIDATION_FAILURE;
	if (end == TLS_END_OPEN)
		return TLSRPT_SUCCESS;
	switch (trouble) {
	case TLS_TROUBLE_NOT_OFFERED:
	case TLS_TROUBLE_REFUSED: return TLSRPT_STARTTLS_NOT_SUPPORTED;
	case TLS_TROUBLE_HANDSHAKE: return TLSRPT_VALIDATION_FAILURE;
	case TLS_TROUBLE_NOT_VERIFIED: return failure;
	case TLS_TROUBLE_NO_REQUIRETLS: break;
	}
	return TLSRPT_SUCCESS;
}

bool
tls_event(const struct tls_question *question, const struct tls_demand *demand, enum tls_end end,
	  enum tls_trouble trouble, enum tlsrpt_result failure, struct arena *arena,
	  struct tlsrpt_event *ret)
{
	bool published = demand->source == TLS_SOURCE_DANE ||
			 demand->source == TLS_SOURCE_MTA_STS;

	if (!published && demand->source != TLS_SOURCE_DEFAULT)
		return false;
	if (!published && end == TLS_END_NOT_TRIED)
		return false;
	*ret = (struct tlsrpt_event){ .result = result_of(demand, end, trouble, failure) };
	set_policy(question, demand, arena, ret);
	/* RFC 8460 §4.3.2.1: none of the records could be used, so nothing was proven. */
	if (ret->type == TLSRPT_TLSA && ret->result == TLSRPT_SUCCESS &&
	    question->dane->outcome == DANE_UNUSABLE) {
		ret->result = TLSRPT_TLSA_INVALID;
		ret->detail = SPAN("none of the TLSA records can be used");
	}
	/* A policy that is only tested: passed by, but told of. */
	if (ret->type == TLSRPT_STS && ret->result == TLSRPT_SUCCESS &&
	    !sts_policy_lists(question->sts, question->host)) {
		ret->result = TLSRPT_VALIDATION_FAILURE;
		ret->detail = demand->reason;
	}
	return true;
}

void
tls_event_no_policy(enum tlsrpt_result failure, struct tlsrpt_event *ret)
{
	*ret = (struct tlsrpt_event){ .type = TLSRPT_STS, .result = failure };
}
