/*
 * tls_reports_view: what the operator sees of counters and reports; see tls_reports.h. Home loop
 * only.
 */
#include "mta/base/clock.h"
#include "mta/assurance/tls_reports_private.h"

static json_t *
text_json(struct span text)
{
	json_t *json = json_stringn(text.at, text.len);		/* NULL: no UTF-8 */

	return json != NULL ? json : json_string("?");
}

static json_t *
address_json(const struct netaddr *address)
{
	char text[NETADDR_TEXT_MAX];

	return json_string(netaddr_format(address, text));
}

static void
set_texts(json_t *json, const char *key, const struct span *texts, size_t count)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(array, text_json(texts[i]));
	json_object_set_new(json, key, array);
}

static json_t *
failure_json(const struct tlsrpt_failure *f)
{
	json_t *json = json_object();

	json_object_set_new(json, "result", json_string(tlsrpt_result_text(f->result)));
	json_object_set_new(json, "count", json_integer((json_int_t)f->count));
	if (f->receiving_host.len > 0)
		json_object_set_new(json, "host", text_json(f->receiving_host));
	if (f->receiving.family != 0)
		json_object_set_new(json, "address", address_json(&f->receiving));
	if (f->sending.family != 0)
		json_object_set_new(json, "source", address_json(&f->sending));
	if (f->detail.len > 0)
		json_object_set_new(json, "reason", text_json(f->detail));
	return json;
}

/* "starttls-not-supported 3, certificate-expired 1" */
static void
set_results(json_t *json, const struct tlsrpt_policy *policy)
{
	json_t *failures = json_array();
	struct buf text = { 0 };

	for (size_t i = 0; i < policy->failure_count; i++) {
		const struct tlsrpt_failure *f = &policy->failures[i];

		json_array_append_new(failures, failure_json(f));
		buf_printf(&text, "%s%s %llu", i > 0 ? ", " : "", tlsrpt_result_text(f->result),
			   (unsigned long long)f->count);
	}
	json_object_set_new(json, "failures", json_integer((json_int_t)policy->failed));
	json_object_set_new(json, "results", text_json(buf_span(&text)));
	json_object_set_new(json, "failure_details", failures);
	buf_free(&text);
}

static void
add_day(const struct tlsrpt_day *day, const struct tlsrpt_post *post, json_t *array)
{
	char date[ISO_DATE_MAX];

	clock_iso((int64_t)day->day * DAY_MS, date);
	for (size_t i = 0; i < day->count; i++) {
		const struct tlsrpt_policy *policy = &day->policies[i];
		json_t *json = json_object();

		json_object_set_new(json, "day", json_stringn(date, 10));
		json_object_set_new(json, "domain", text_json(day->domain));
		json_object_set_new(json, "policy",
				    json_string(tlsrpt_policy_type_text(policy->type)));
		set_texts(json, "policy_lines", policy->lines, policy->line_count);
		set_texts(json, "policy_hosts", policy->hosts, policy->host_count);
		json_object_set_new(json, "successes", json_integer((json_int_t)policy->successes));
		set_results(json, policy);
		if (post != NULL) {
			json_object_set_new(json, "post", text_json(post->url));
			json_object_set_new(json, "tries", json_integer(post->tries));
			json_object_set_new(json, "next_ms", json_integer(post->next_ms));
		}
		json_array_append_new(array, json);
	}
}

bool
tls_reports_rows(struct tls_reports *r, struct buf *after, json_t *array)
{
	struct arena arena = { 0 };
	struct queue_note_row row;
	struct tlsrpt_post post;
	struct tlsrpt_day day;
	size_t count = 0;

	if (queue_read_notes(r->home->port, NOTE_TLS_REPORT, SPAN(""), buf_span(after), &arena,
			     &row, 1, &count) < 0 ||
	    count == 0) {
		arena_free(&arena);
		return false;
	}
	buf_clear(after);
	buf_append(after, row.key);
	if (row.key.at[0] == KEY_POST && tlsrpt_post_decode(row.value, &arena, &post) == 0)
		add_day(&post.day, &post, array);
	else if (tlsrpt_day_decode(row.value, &arena, &day) == 0)
		add_day(&day, NULL, array);
	arena_free(&arena);
	return true;
}
