/*
 * json: the report of RFC 8460 §4.4; see tlsrpt_report.h. What the other side sent (names, words)
 * may be any octets: what is no UTF-8 is written as '?'. Any thread.
 */
#include <assert.h>
#include <jansson.h>
#include <stdlib.h>

#include "mta/base/address.h"
#include "mta/base/clock.h"
#include "mta/tlsrpt/tlsrpt_report.h"

/* Well-formed as a whole, or ASCII with '?' for the rest. */
static json_t *
text_of(struct span text)
{
	struct buf clean = { 0 };
	json_t *json;

	if (utf8_valid(text))
		return json_stringn_nocheck(text.at != NULL ? text.at : "", text.len);
	for (size_t i = 0; i < text.len; i++)
		buf_byte(&clean, (unsigned char)text.at[i] > 126 ? '?' : text.at[i]);
	json = json_stringn_nocheck(buf_span(&clean).at, buf_len(&clean));
	buf_free(&clean);
	return json;
}

static json_t *
number_of(uint64_t n)
{
	return json_integer(n < INT64_MAX ? (json_int_t)n : INT64_MAX);
}

static void
set(json_t *object, const char *key, json_t *value)
{
	int r = json_object_set_new_nocheck(object, key, value);

	assert(r == 0);
}

static void
set_text(json_t *object, const char *key, struct span text)
{
	if (text.len > 0)
		set(object, key, text_of(text));
}

static void
set_address(json_t *object, const char *key, const struct netaddr *address)
{
	char text[NETADDR_TEXT_MAX];

	if (address->family != 0)
		set(object, key, text_of(span_str(netaddr_format(address, text))));
}

static void
set_texts(json_t *object, const char *key, const struct span *texts, size_t count)
{
	json_t *array;

	if (count == 0)
		return;
	array = json_array();
	for (size_t i = 0; i < count; i++)
		json_array_append_new(array, text_of(texts[i]));
	set(object, key, array);
}

static json_t *
date_range(uint32_t day)
{
	char start[ISO_DATE_MAX], end[ISO_DATE_MAX];
	time_t at = (time_t)day * 86400;
	json_t *range = json_object();
	struct tm tm;

	gmtime_r(&at, &tm);
	strftime(start, sizeof(start), "%Y-%m-%dT00:00:00Z", &tm);
	strftime(end, sizeof(end), "%Y-%m-%dT23:59:59Z", &tm);
	set(range, "start-datetime", json_string(start));
	set(range, "end-datetime", json_string(end));
	return range;
}

static json_t *
failure_json(const struct tlsrpt_failure *failure)
{
	json_t *json = json_object();

	set(json, "result-type", json_string(tlsrpt_result_text(failure->result)));
	set_address(json, "sending-mta-ip", &failure->sending);
	set_text(json, "receiving-mx-hostname", failure->receiving_host);
	set_text(json, "receiving-mx-helo", failure->receiving_helo);
	set_address(json, "receiving-ip", &failure->receiving);
	set(json, "failed-session-count", number_of(failure->count));
	set_text(json, "failure-reason-code", failure->detail);
	return json;
}

static json_t *
policy_json(const struct tlsrpt_policy *policy, struct span domain)
{
	json_t *json = json_object(), *about = json_object(), *summary = json_object();

	set(about, "policy-type", json_string(tlsrpt_policy_type_text(policy->type)));
	set_texts(about, "policy-string", policy->lines, policy->line_count);
	set(about, "policy-domain", text_of(domain));
	set_texts(about, "mx-host", policy->hosts, policy->host_count);
	set(summary, "total-successful-session-count", number_of(policy->successes));
	set(summary, "total-failure-session-count", number_of(policy->failed));
	set(json, "policy", about);
	set(json, "summary", summary);
	if (policy->failure_count > 0) {
		json_t *failures = json_array();

		for (size_t i = 0; i < policy->failure_count; i++)
			json_array_append_new(failures, failure_json(&policy->failures[i]));
		set(json, "failure-details", failures);
	}
	return json;
}

static int
append(const char *at, size_t len, void *arg)
{
	buf_append(arg, span_of(at, len));
	return 0;
}

void
tlsrpt_json(const struct tlsrpt_facts *facts, struct buf *out)
{
	json_t *json = json_object(), *policies = json_array();
	const struct tlsrpt_day *day = facts->day;
	int r;

	set(json, "organization-name",
	    text_of(facts->organization.len > 0 ? facts->organization : facts->hostname));
	set(json, "date-range", date_range(day->day));
	set(json, "contact-info", text_of(facts->contact));
	set(json, "report-id", text_of(facts->report_id));
	for (size_t i = 0; i < day->count; i++)
		json_array_append_new(policies, policy_json(&day->policies[i], day->domain));
	set(json, "policies", policies);
	r = json_dump_callback(json, append, out, JSON_INDENT(1));
	assert(r == 0);
	buf_byte(out, '\n');
	json_decref(json);
}
