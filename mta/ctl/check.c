/* check: tls-check and dns-records, for people. See tramctl.h. */
#include "mta/control/text.h"
#include "mta/ctl/text.h"
#include "mta/ctl/tramctl.h"

struct printing {
	struct buf host;		/* the lines are about */
};

static void
on_step(struct tramctl *t, const json_t *line, void *arg)
{
	struct printing *p = arg;
	struct buf text = { 0 };

	(void)t;
	if (!span_eq(json_span(line, "host"), buf_span(&p->host))) {
		buf_clear(&p->host);
		buf_append(&p->host, json_span(line, "host"));
		text_safe(json_span(line, "host"), &text);
		if (buf_len(&text) > 0)
			printf("%.*s\n", SPAN_FMT(buf_span(&text)));
		buf_clear(&text);
	}
	text_safe(json_span(line, "text"), &text);
	text_span_of_time(line, &text);
	printf("%s%-5.*s %-12.*s %.*s\n", buf_len(&p->host) > 0 ? "  " : "",
	       SPAN_FMT(json_span(line, "verdict")), SPAN_FMT(json_span(line, "step")),
	       SPAN_FMT(buf_span(&text)));
	fflush(stdout);
	buf_free(&text);
}

/* 1 is what a monitor looks at: something is wrong there. */
int
tramctl_run_tls_check(struct tramctl *t)
{
	struct printing p = { 0 };
	json_t *last = NULL;
	int rc = tramctl_ask(t, &t->request, on_step, &p, &last);

	if (rc == TRAMCTL_OK && !json_flag(last, "good"))
		rc = TRAMCTL_FAILED;
	json_decref(last);
	buf_free(&p.host);
	return rc;
}

/* ---- dns-records -------------------------------------------------------------------------- */

/* Its own line ends are meant; all else may be anybody's. */
static void
print_lines(struct span text, const char *before)
{
	while (text.len > 0) {
		struct span line = span_cut(&text, '\n');
		struct buf safe = { 0 };

		if (line.len > 0 && line.at[line.len - 1] == '\r')
			line.len--;
		text_safe(line, &safe);
		printf("%s%.*s\n", before, SPAN_FMT(buf_span(&safe)));
		buf_free(&safe);
	}
}

/* All of it can be pasted into a zone file. */
static void
on_record(struct tramctl *t, const json_t *line, void *arg)
{
	struct span state = json_span(line, "state");

	(void)arg;
	if (span_eq(json_span(line, "record"), SPAN("policy-file"))) {
		printf("; the policy file, to be had at\n"
		       "; https://mta-sts.%.*s/.well-known/mta-sts.txt\n"
		       "; (a web server with a certificate of its name; CRLF at the end of each "
		       "line):\n",
		       SPAN_FMT(t->request.domain));
		print_lines(json_span(line, "text"), ";\t");
		return;
	}
	print_lines(json_span(line, "text"), "");
	if (state.len > 0)
		printf("; in the DNS now: %.*s\n", SPAN_FMT(state));
	printf("\n");
}

int
tramctl_run_dns_records(struct tramctl *t)
{
	json_t *last = NULL;
	int rc = tramctl_ask(t, &t->request, on_record, NULL, &last);

	if (rc == TRAMCTL_OK && !json_flag(last, "good"))
		rc = TRAMCTL_FAILED;
	json_decref(last);
	return rc;
}
