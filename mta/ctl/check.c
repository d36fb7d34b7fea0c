/* check: tls-check, for people. See tramctl.h. */
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
