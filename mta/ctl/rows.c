/* rows: what is listed and explained, for people. See tramctl.h. */
#include <stdlib.h>

#include "mta/base/clock.h"
#include "mta/control/text.h"
#include "mta/ctl/tramctl.h"
#include "mta/ctl/text.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void
on_table_row(struct tramctl *t, const json_t *line, void *table)
{
	(void)t;
	table_row(table, line);
}

static int
print_table(struct tramctl *t, const struct control_request *request, const struct column *columns,
	    size_t count, void (*row)(struct tramctl *t, const json_t *line, void *table),
	    const char *nothing)
{
	struct table table;
	json_t *last = NULL;
	int rc;

	table_init(&table, stdout, columns, count);
	rc = tramctl_ask(t, request, row, &table, &last);
	table_end(&table);
	if (rc == TRAMCTL_OK && !t->json && json_i64(last, "rows") == 0)
		printf("%s\n", nothing);
	json_decref(last);
	return rc;
}

static int
run_table(struct tramctl *t, const struct column *columns, size_t count, const char *nothing)
{
	return print_table(t, &t->request, columns, count, on_table_row, nothing);
}

static const struct column list_columns[] = {
	{ "ID", "id", COLUMN_TEXT, NULL }, { "STATE", "state", COLUMN_TEXT, NULL },
	{ "ARRIVED", "arrival_ms", COLUMN_TIME, NULL }, { "SIZE", "size", COLUMN_SIZE, NULL },
	{ "SENDER", "sender", COLUMN_TEXT, "<>" }, { "RECIPIENT", "recipient", COLUMN_TEXT, NULL },
	{ "TRIES", "attempts", COLUMN_NUMBER, NULL }, { "NEXT TRY", "next_ms", COLUMN_DUE, NULL },
	{ "LAST ERROR", "error", COLUMN_TEXT, NULL },
};

static const struct column recipient_columns[] = {
	{ "RECIPIENT", "recipient", COLUMN_TEXT, NULL }, { "STATE", "state", COLUMN_TEXT, NULL },
	{ "TRIES", "attempts", COLUMN_NUMBER, NULL }, { "NEXT TRY", "next_ms", COLUMN_DUE, NULL },
	{ "LAST ERROR", "error", COLUMN_TEXT, NULL },
};

static const struct column site_columns[] = {
	{ "SITE", "key", COLUMN_TEXT, NULL },
	{ "STATE", "state", COLUMN_TEXT, NULL },
	{ "LANES", "lanes", COLUMN_NUMBER, "0" },
	{ "READY", "ready", COLUMN_NUMBER, "0" },
	{ "IN FLIGHT", "in_flight", COLUMN_NUMBER, "0" },
	{ "CONNECTIONS", "connections", COLUMN_NUMBER, "0" },
	{ "FAILURES", "failures", COLUMN_NUMBER, "0" },
	{ "HELD BY", "held", COLUMN_TEXT, NULL },
	{ "NEXT", "next_ms", COLUMN_TIME, NULL },
	{ "LAST ERROR", "last_error", COLUMN_TEXT, NULL },
};

static const struct column session_columns[] = {
	{ "SESSION", "session", COLUMN_NUMBER, NULL },
	{ "LISTENER", "listener", COLUMN_TEXT, NULL },
	{ "CLIENT", "client", COLUMN_TEXT, NULL },
	{ "HELO", "helo", COLUMN_TEXT, NULL },
	{ "AGE", "age_ms", COLUMN_AGE, NULL },
	{ "MESSAGES", "messages", COLUMN_NUMBER, NULL },
	{ "ERRORS", "errors", COLUMN_NUMBER, NULL },
	{ "WAITING FOR", "waiting_for", COLUMN_TEXT, NULL },
};

int
tramctl_run_list(struct tramctl *t)
{
	bool selects = t->id_count > 0 || control_selects(&t->request);

	return run_table(t, list_columns, COUNT(list_columns),
			 selects ? "Nothing in the queue matches." : "The queue is empty.");
}

int
tramctl_print_list(struct tramctl *t, const struct control_request *request)
{
	return print_table(t, request, list_columns, COUNT(list_columns), on_table_row,
			   "The queue is empty.");
}

/* The kinds of what holds it, as words. */
static void
on_site_row(struct tramctl *t, const json_t *line, void *table)
{
	json_t *row = json_copy((json_t *)(uintptr_t)line), *words = json_array(), *one;
	size_t i;

	(void)t;
	json_array_foreach(json_object_get(line, "held_by"), i, one)
		json_array_append(words, json_object_get(one, "kind"));
	json_object_set_new(row, "held", words);
	table_row(table, row);
	json_decref(row);
}

int
tramctl_run_sessions(struct tramctl *t)
{
	return run_table(t, session_columns, COUNT(session_columns), "No client is connected.");
}

static const struct column certificate_columns[] = {
	{ "CERTIFICATE", "certificate", COLUMN_TEXT, NULL },
	{ "KEY", "key", COLUMN_TEXT, NULL },
	{ "EXPIRES", "expires_ms", COLUMN_TIME, NULL },
	{ "OCSP", "ocsp", COLUMN_TEXT, NULL },
	{ "USED BY", "used_by", COLUMN_TEXT, NULL },
	{ "FILE", "file", COLUMN_TEXT, NULL },
	{ "NAMES", "names", COLUMN_TEXT, NULL },
};

int
tramctl_run_certs(struct tramctl *t)
{
	return run_table(t, certificate_columns, COUNT(certificate_columns),
			 "No certificate is in use.");
}

static const struct column source_columns[] = {
	{ "SOURCE", "source", COLUMN_TEXT, NULL },
	{ "ADDRESSES", "addresses", COLUMN_TEXT, NULL },
	{ "EHLO NAME", "ehlo_name", COLUMN_TEXT, NULL },
	{ "CONNECTIONS", "connections", COLUMN_NUMBER, NULL },
	{ "SITE", "site", COLUMN_TEXT, NULL },
	{ "SENT TODAY", "sent_today", COLUMN_NUMBER, "0" },
	{ "WARM-UP DAY", "warmup_day", COLUMN_NUMBER, NULL },
	{ "CEILING", "ceiling", COLUMN_NUMBER, NULL },
	{ "TRIED AGAIN", "next_ms", COLUMN_TIME, NULL },
	{ "BROKEN", "broken", COLUMN_TEXT, NULL },
};

int
tramctl_run_sources(struct tramctl *t)
{
	return run_table(t, source_columns, COUNT(source_columns),
			 "No source is configured: the system chooses the address.");
}

static const struct column ban_columns[] = {
	{ "ADDRESS", "address", COLUMN_TEXT, NULL },
	{ "UNTIL", "until_ms", COLUMN_TIME, NULL },
};

int
tramctl_run_bans(struct tramctl *t)
{
	return run_table(t, ban_columns, COUNT(ban_columns), "Nobody is banned.");
}

static const struct column suppressed_columns[] = {
	{ "ADDRESS", "address", COLUMN_TEXT, NULL }, { "CLASS", "class", COLUMN_TEXT, NULL },
	{ "SINCE", "since_ms", COLUMN_TIME, NULL },  { "UNTIL", "until_ms", COLUMN_TIME, NULL },
	{ "REASON", "reason", COLUMN_TEXT, NULL },
};

int
tramctl_run_suppress_list(struct tramctl *t)
{
	return run_table(t, suppressed_columns, COUNT(suppressed_columns),
			 "No address is suppressed.");
}

static const struct column measure_columns[] = {
	{ "SITE", "site", COLUMN_TEXT, NULL },	      { "KIND", "kind", COLUMN_TEXT, NULL },
	{ "SCOPE", "scope", COLUMN_TEXT, NULL },      { "NAME", "name", COLUMN_TEXT, NULL },
	{ "FACTOR", "factor_text", COLUMN_TEXT, NULL }, { "SINCE", "since_ms", COLUMN_TIME, NULL },
	{ "UNTIL", "until_ms", COLUMN_TIME, NULL },   { "REPLIES", "replies", COLUMN_NUMBER, NULL },
	{ "RULE", "rule", COLUMN_TEXT, NULL },	      { "REASON", "reason", COLUMN_TEXT, NULL },
};

int
tramctl_run_measures(struct tramctl *t)
{
	return run_table(t, measure_columns, COUNT(measure_columns),
			 "Nothing is suspended or slowed down.");
}

static const struct column tls_report_columns[] = {
	{ "DAY", "day", COLUMN_TEXT, NULL },
	{ "DOMAIN", "domain", COLUMN_TEXT, NULL },
	{ "POLICY", "policy", COLUMN_TEXT, NULL },
	{ "SUCCESSES", "successes", COLUMN_NUMBER, NULL },
	{ "FAILURES", "failures", COLUMN_NUMBER, NULL },
	{ "NEXT TRY", "next_ms", COLUMN_TIME, NULL },
	{ "RESULTS", "results", COLUMN_TEXT, NULL },
};

int
tramctl_run_tls_reports(struct tramctl *t)
{
	return run_table(t, tls_report_columns, COUNT(tls_report_columns),
			 "Nothing has been counted.");
}

int
tramctl_run_tls_reports_send(struct tramctl *t)
{
	json_t *last = NULL;
	int rc = tramctl_ask(t, &t->request, NULL, NULL, &last);

	if (rc == TRAMCTL_OK && !t->json)
		printf("%lld reports were handed over, %lld were not wanted, %lld are tried again "
		       "later.\n",
		       (long long)json_i64(last, "sent"), (long long)json_i64(last, "unwanted"),
		       (long long)json_i64(last, "later"));
	json_decref(last);
	return rc;
}

/* ---- show --------------------------------------------------------------------------------- */

static void
print_pair(const char *name, struct span value)
{
	struct buf safe = { 0 };

	text_safe(value, &safe);
	if (value.len > 0)
		printf("%-14s %.*s\n", name, SPAN_FMT(buf_span(&safe)));
	buf_free(&safe);
}

static void
print_when(const char *name, int64_t at_ms)
{
	struct buf text = { 0 };

	text_time(at_ms, wall_ms(), &text);
	if (at_ms != 0)
		printf("%-14s %.*s\n", name, SPAN_FMT(buf_span(&text)));
	buf_free(&text);
}

static void
print_message(const json_t *m)
{
	static const char *const bodies[] = { "7BIT", "8BITMIME", "BINARYMIME" };
	struct buf size = { 0 };
	int64_t body = json_i64(m, "body"), open = json_i64(m, "open"),
		all = json_i64(m, "recipients");

	text_size((uint64_t)(json_i64(m, "header_size") + json_i64(m, "body_size")), &size);
	print_pair("Message", json_span(m, "id"));
	print_pair("Sender", json_span(m, "reverse_path").len > 0 ? json_span(m, "reverse_path")
								  : SPAN("<>"));
	print_when("Arrived", json_i64(m, "arrival_ms"));
	print_pair("Size", buf_span(&size));
	print_pair("From client", json_span(m, "client"));
	print_pair("From user", json_span(m, "user"));
	if (json_i64(m, "priority") != 0)
		printf("%-14s %lld\n", "Priority", (long long)json_i64(m, "priority"));
	if (json_i64(m, "release_ms") != 0)
		print_when("Not before", json_i64(m, "release_ms"));
	if (json_i64(m, "by_ms") != 0)
		print_when(span_eq(json_span(m, "by_mode"), SPAN("return")) ? "By, or return"
									    : "By, or tell",
			   json_i64(m, "by_ms"));
	print_pair("Envelope id", json_span(m, "envid"));
	if (json_i64(m, "ret") != 0)
		print_pair("Report returns", json_i64(m, "ret") == 1 ? SPAN("FULL") : SPAN("HDRS"));
	print_pair("Body", span_str(body >= 0 && body < 3 ? bodies[body] : "?"));
	if (json_flag(m, "requiretls"))
		print_pair("REQUIRETLS", SPAN("yes"));
	print_pair("TLS required", json_span(m, "tls_required"));
	if (json_flag(m, "smtputf8"))
		print_pair("SMTPUTF8", SPAN("yes"));
	printf("%-14s %lld of %lld are still to be delivered\n\n", "Recipients", (long long)open,
	       (long long)all);
	buf_free(&size);
}

static void
on_show_row(struct tramctl *t, const json_t *line, void *table)
{
	const json_t *message = json_object_get(line, "message");

	(void)t;
	if (message != NULL)
		print_message(message);
	else
		table_row(table, line);
}

int
tramctl_run_show(struct tramctl *t)
{
	struct table table;
	json_t *last = NULL;
	int rc;

	table_init(&table, stdout, recipient_columns, COUNT(recipient_columns));
	rc = tramctl_ask(t, &t->request, on_show_row, &table, &last);
	table_end(&table);
	json_decref(last);
	return rc;
}

/* ---- explain ------------------------------------------------------------------------------ */

static void
print_try_tls(const json_t *a, struct buf *line)
{
	buf_clear(line);
	text_safe(json_span(a, "tls"), line);
	if (json_span(a, "tls_policy").len > 0)
		buf_append(line, SPAN(", by policy: "));
	text_safe(json_span(a, "tls_policy"), line);
	printf("      TLS: %.*s%s\n", SPAN_FMT(buf_span(line)),
	       json_flag(a, "tls_resumed") ? ", resumed" : "");
}

static void
print_try(const json_t *a)
{
	struct buf line = { 0 };

	text_time(json_i64(a, "at_ms"), wall_ms(), &line);
	buf_byte(&line, ' ');
	text_safe(json_span(a, "host"), &line);
	if (json_span(a, "address").len > 0) {
		buf_append(&line, SPAN(" ["));
		text_safe(json_span(a, "address"), &line);
		buf_byte(&line, ']');
	}
	buf_append(&line, SPAN(": "));
	if (json_i64(a, "code") > 0)
		buf_printf(&line, "%lld ", (long long)json_i64(a, "code"));
	if (json_span(a, "status").len > 0)
		buf_printf(&line, "%.*s ", SPAN_FMT(json_span(a, "status")));
	text_safe(json_span(a, "text"), &line);
	printf("    %.*s\n", SPAN_FMT(buf_span(&line)));
	if (json_span(a, "class").len > 0)
		printf("      Class: %.*s\n", SPAN_FMT(json_span(a, "class")));
	if (json_span(a, "source").len > 0)
		printf("      Source: %.*s\n", SPAN_FMT(json_span(a, "source")));
	if (json_span(a, "tls").len > 0)
		print_try_tls(a, &line);
	buf_free(&line);
}

static void
print_tries(const json_t *row)
{
	json_t *tries = json_object_get(row, "tries"), *one;
	int64_t all = json_i64(row, "attempts");
	size_t i;

	if (json_array_size(tries) == 0) {
		printf("  Tries: none of its own yet\n");
		return;
	}
	printf("  Tries: %lld\n", (long long)all);
	json_array_foreach(tries, i, one) {
		if (i == 3 && all > (int64_t)json_array_size(tries))
			printf("    ... %lld more ...\n",
			       (long long)(all - (int64_t)json_array_size(tries)));
		print_try(one);
	}
}

static void
print_fact(const char *name, struct span value)
{
	struct buf safe = { 0 };

	text_safe(value, &safe);
	if (value.len > 0)
		printf("  %s: %.*s\n", name, SPAN_FMT(buf_span(&safe)));
	buf_free(&safe);
}

/* "Blocked by: … (since 3 min ago (…), until in 5 min (…))", one line for each reason. */
static void
print_holds(const json_t *reasons)
{
	const json_t *one;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)reasons, i, one) {
		struct buf text = { 0 };

		buf_append(&text, json_span(one, "text"));
		text_span_of_time(one, &text);
		print_fact(i == 0 ? "Blocked by" : "And by", buf_span(&text));
		buf_free(&text);
	}
}

/* "In flight: to mx.example.org 192.0.2.1:25, waits for: the reply to RCPT; begun 3 s ago (…)" */
static void
print_flight(const json_t *flight)
{
	int64_t since = json_i64(flight, "since_ms"), before = json_i64(flight, "before");
	struct span host = json_span(flight, "host"), address = json_span(flight, "address");
	struct buf text = { 0 };

	if (flight == NULL)
		return;
	if (host.len + address.len > 0)
		buf_printf(&text, "to %.*s%s%.*s, ", SPAN_FMT(host),
			   host.len > 0 && address.len > 0 ? " " : "", SPAN_FMT(address));
	buf_printf(&text, "waits for: %.*s", SPAN_FMT(json_span(flight, "stage")));
	if (before > 0)
		buf_printf(&text, "; %lld before it on its connection", (long long)before);
	if (since != 0) {
		buf_append(&text, SPAN("; begun "));
		text_time(since, wall_ms(), &text);
	}
	print_fact("In flight", buf_span(&text));
	buf_free(&text);
}

/*
 * "Place: 317 before it in its lane, the first due 3 min ago (…); 12 lanes of 3 tenants take turns
 * there"
 */
static void
print_place(const json_t *place)
{
	int64_t before = json_i64(place, "before"), lanes = json_i64(place, "lanes");
	struct buf text = { 0 };

	if (before > 0) {
		buf_printf(&text, "%s%lld before it in its lane, the first due ",
			   json_flag(place, "more") ? "more than " : "", (long long)before);
		text_time(json_i64(place, "head_due_ms"), wall_ms(), &text);
	}
	if (lanes > 1)
		buf_printf(&text, "%s%lld lanes of %lld tenants take turns there",
			   before > 0 ? "; " : "", (long long)lanes,
			   (long long)json_i64(place, "tenants"));
	print_fact("Place", buf_span(&text));
	buf_free(&text);
}

static void
print_site(const json_t *row)
{
	struct buf text = { 0 };

	buf_append(&text, json_span(row, "site"));
	if (json_span(row, "site_state").len > 0)
		buf_printf(&text, " (%.*s)", SPAN_FMT(json_span(row, "site_state")));
	if (json_span(row, "site").len > 0)
		print_fact("Site", buf_span(&text));
	buf_free(&text);
}

static void
explain_recipient(const json_t *row)
{
	struct buf text = { 0 };

	text_safe(json_span(row, "recipient"), &text);
	printf("%.*s: %.*s\n", SPAN_FMT(buf_span(&text)), SPAN_FMT(json_span(row, "state")));
	print_fact("Waits for", json_span(row, "waits_for"));
	print_flight(json_object_get(row, "flight"));
	print_holds(json_object_get(row, "held_by"));
	print_place(json_object_get(row, "place"));
	if (json_i64(row, "next_ms") != 0) {
		buf_clear(&text);
		text_time(json_i64(row, "next_ms"), wall_ms(), &text);
		print_fact(json_i64(row, "next_ms") > wall_ms() ? "Goes next" : "Was due",
			   buf_span(&text));
	}
	if (json_flag(row, "uncertain"))
		print_fact("Uncertain", SPAN("a server may have it already: its answer to the "
					     "final dot never came"));
	if (json_flag(row, "warned"))
		print_fact("Delay", SPAN("its sender has been warned"));
	print_fact("Route", json_span(row, "route"));
	print_fact("Pool", json_span(row, "pool"));
	print_fact("Tenant", json_span(row, "tenant"));
	if (json_i64(row, "priority") != 0) {
		char digits[24];

		snprintf(digits, sizeof(digits), "%lld", (long long)json_i64(row, "priority"));
		print_fact("Priority", span_str(digits));
	}
	print_site(row);
	if (json_i64(row, "site_failed_ms") != 0) {
		buf_clear(&text);
		text_time(json_i64(row, "site_failed_ms"), wall_ms(), &text);
		if (json_span(row, "site_failed_host").len > 0)
			buf_printf(&text, " %.*s", SPAN_FMT(json_span(row, "site_failed_host")));
		buf_append(&text, SPAN(": "));
		buf_append(&text, json_span(row, "site_failed_text"));
		print_fact("Last failed connection of the site", buf_span(&text));
	}
	print_tries(row);
	buf_free(&text);
}

static void
on_explain_row(struct tramctl *t, const json_t *line, void *arg)
{
	const json_t *message = json_object_get(line, "message");

	(void)t;
	(void)arg;
	if (message != NULL)
		print_message(message);
	else
		explain_recipient(line);
}

int
tramctl_run_explain(struct tramctl *t)
{
	json_t *last = NULL;
	int rc = tramctl_ask(t, &t->request, on_explain_row, NULL, &last);

	json_decref(last);
	return rc;
}

/* ---- one site ----------------------------------------------------------------------------- */

static void
print_count(const char *name, const json_t *row, const char *key)
{
	if (json_object_get(row, key) != NULL)
		printf("  %s: %lld\n", name, (long long)json_i64(row, key));
}

static void
on_one_site(struct tramctl *t, const json_t *line, void *arg)
{
	struct buf text = { 0 };
	const char *class;
	json_t *count;

	(void)t;
	(void)arg;
	text_safe(json_span(line, "key"), &text);
	printf("%.*s: %.*s\n", SPAN_FMT(buf_span(&text)), SPAN_FMT(json_span(line, "state")));
	print_holds(json_object_get(line, "held_by"));
	print_count("Lanes", line, "lanes");
	print_count("Ready", line, "ready");
	print_count("In flight", line, "in_flight");
	print_count("Connections", line, "connections");
	print_count("Connections it takes as yet", line, "limit");
	print_count("Failures in a row", line, "failures");
	print_fact("Last error", json_span(line, "last_error"));
	json_object_foreach(json_object_get(line, "classes"), class, count)
		printf("  Class %s: %lld\n", class, (long long)json_integer_value(count));
	buf_free(&text);
}

int
tramctl_run_sites(struct tramctl *t)
{
	json_t *last = NULL;
	int rc;

	if (t->request.site.len == 0)
		return print_table(t, &t->request, site_columns, COUNT(site_columns), on_site_row,
				   "No site is known: nothing waits.");
	rc = tramctl_ask(t, &t->request, on_one_site, NULL, &last);
	json_decref(last);
	return rc;
}

/* ---- stats -------------------------------------------------------------------------------- */

static void
print_classes(const char *what, json_t *classes)
{
	const char *key;
	json_t *value;

	json_object_foreach(classes, key, value)
		printf("%s %-*s %lld\n", what, 23 - (int)strlen(what), key,
		       (long long)json_integer_value(value));
}

int
tramctl_run_stats(struct tramctl *t)
{
	json_t *last = NULL, *value;
	const char *key;
	int rc = tramctl_ask(t, &t->request, NULL, NULL, &last);

	if (rc != TRAMCTL_OK || t->json) {
		json_decref(last);
		return rc;
	}
	json_object_foreach(last, key, value) {
		if (json_is_integer(value))
			printf("%-24s %lld\n", key, (long long)json_integer_value(value));
		else if (json_is_boolean(value) && strcmp(key, "end") != 0)
			printf("%-24s %s\n", key, json_is_true(value) ? "yes" : "no");
		else if (json_is_string(value))
			printf("%-24s %s\n", key, json_string_value(value));
		else if (json_is_string(value))
			print_pair(key, json_span(last, key));
	}
	print_classes("class", json_object_get(last, "classes"));
	print_classes("returned", json_object_get(last, "returned_classes"));
	json_object_foreach(json_object_get(last, "returned_tenants"), key, value) {
		printf("returned of %s:\n", key);
		print_classes("    class", value);
	}
	json_decref(last);
	return rc;
}
