/*
 * mail: the report as a message, RFC 8460 §5.1 and §5.3; see tlsrpt_report.h. Every name that gets
 * here has been checked where it was parsed; the lines of the text are ours. Any thread.
 */
#include <inttypes.h>

#include "mta/base/base64.h"
#include "mta/base/clock.h"
#include "mta/tlsrpt/tlsrpt_report.h"

enum { BASE64_LINE = 76, SECONDS_A_DAY = 86400 };

struct span
tlsrpt_file_name(const struct tlsrpt_facts *facts, struct arena *arena)
{
	uint64_t start = (uint64_t)facts->day->day * SECONDS_A_DAY;

	return arena_printf(arena, "%.*s!%.*s!%" PRIu64 "!%" PRIu64 "!%.*s.json.gz",
			    SPAN_FMT(facts->hostname), SPAN_FMT(facts->day->domain), start,
			    start + SECONDS_A_DAY - 1, SPAN_FMT(facts->report_id));
}

static void
put_header(const struct tlsrpt_facts *facts, const struct span *to, size_t to_count,
	   struct buf *out)
{
	char date[RFC5322_DATE_MAX];
	struct span domain = facts->day->domain;

	buf_printf(out, "From: <%.*s>\r\nTo:", SPAN_FMT(facts->contact));
	for (size_t i = 0; i < to_count; i++)
		buf_printf(out, " <%.*s>%s\r\n", SPAN_FMT(to[i]), i + 1 < to_count ? "," : "");
	buf_printf(out, "Date: %s\r\n", clock_rfc5322(facts->now_ms, date));
	buf_printf(out, "Message-ID: <%.*s@%.*s>\r\n", SPAN_FMT(facts->report_id),
		   SPAN_FMT(facts->hostname));
	buf_printf(out,
		   "Subject: Report Domain: %.*s\r\n Submitter: %.*s\r\n"
		   " Report-ID: <%.*s@%.*s>\r\n",
		   SPAN_FMT(domain), SPAN_FMT(facts->hostname), SPAN_FMT(facts->report_id),
		   SPAN_FMT(facts->hostname));
	buf_printf(out, "TLS-Report-Domain: %.*s\r\nTLS-Report-Submitter: %.*s\r\n",
		   SPAN_FMT(domain), SPAN_FMT(facts->hostname));
	buf_append(out, SPAN("TLS-Required: No\r\nAuto-Submitted: auto-generated\r\n"));
	buf_printf(out,
		   "MIME-Version: 1.0\r\n"
		   "Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n"
		   "\tboundary=\"=_tlsrpt_%.*s\"\r\n\r\n",
		   SPAN_FMT(facts->report_id));
}

static void
put_words(const struct tlsrpt_facts *facts, struct buf *out)
{
	const struct tlsrpt_day *day = facts->day;
	time_t at = (time_t)day->day * SECONDS_A_DAY;
	uint64_t successes = 0, failed = 0;
	char date[16];
	struct tm tm;

	for (size_t i = 0; i < day->count; i++) {
		successes += day->policies[i].successes;
		failed += day->policies[i].failed;
	}
	strftime(date, sizeof(date), "%Y-%m-%d", gmtime_r(&at, &tm));
	buf_printf(out,
		   "This is a report about TLS on mail that was sent\r\n"
		   "  to       %.*s\r\n  by       %.*s\r\n  on       %s (UTC)\r\n\r\n"
		   "  sessions that met your policy:         %" PRIu64 "\r\n"
		   "  sessions that failed to:               %" PRIu64 "\r\n\r\n"
		   "The details are in the attached file (RFC 8460).\r\n",
		   SPAN_FMT(day->domain), SPAN_FMT(facts->hostname), date, successes, failed);
}

static void
put_base64(struct span octets, struct buf *out)
{
	struct buf text = { 0 };

	base64_encode(octets, &text);
	for (struct span rest = buf_span(&text); rest.len > 0;
	     rest = span_skip(rest, BASE64_LINE)) {
		buf_append(out, span_first(rest, BASE64_LINE));
		buf_append(out, SPAN("\r\n"));
	}
	buf_free(&text);
}

static void
put_body(const struct tlsrpt_facts *facts, struct span gzipped, struct buf *out)
{
	struct arena arena = { 0 };
	struct span file = tlsrpt_file_name(facts, &arena);

	buf_printf(out,
		   "--=_tlsrpt_%.*s\r\n"
		   "Content-Type: text/plain; charset=us-ascii\r\n\r\n",
		   SPAN_FMT(facts->report_id));
	put_words(facts, out);
	buf_printf(out,
		   "\r\n--=_tlsrpt_%.*s\r\n"
		   "Content-Type: application/tlsrpt+gzip\r\n"
		   "Content-Transfer-Encoding: base64\r\n"
		   "Content-Disposition: attachment;\r\n\tfilename=\"%.*s\"\r\n\r\n",
		   SPAN_FMT(facts->report_id), SPAN_FMT(file));
	put_base64(gzipped, out);
	buf_printf(out, "--=_tlsrpt_%.*s--\r\n", SPAN_FMT(facts->report_id));
	arena_free(&arena);
}

int
tlsrpt_mail(const struct tlsrpt_facts *facts, const struct span *to, size_t to_count,
	    struct buf *header, struct buf *body)
{
	struct buf json = { 0 }, gzipped = { 0 };
	int r;

	tlsrpt_json(facts, &json);
	r = tlsrpt_gzip(buf_span(&json), &gzipped);
	if (r == 0) {
		put_header(facts, to, to_count, header);
		put_body(facts, buf_span(&gzipped), body);
	}
	buf_free(&json);
	buf_free(&gzipped);
	return r;
}
