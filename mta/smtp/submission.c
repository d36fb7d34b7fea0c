/*
 * submission: see submission.h. A field at a time; what is kept stays octet for octet. Any thread.
 */
#include "mta/smtp/submission.h"

#include "mta/base/clock.h"
#include "mta/base/id.h"
#include "mta/smtp/header.h"

static bool
is_blind(struct span name)
{
	return span_ieq(name, SPAN("Bcc")) || span_ieq(name, SPAN("Resent-Bcc"));
}

void
submission_complete(struct span header, const struct submission_facts *facts, struct buf *out)
{
	struct span rest = header, at = header, name, value;
	bool has_date = false, has_id = false;
	char date[RFC5322_DATE_MAX], id[ID_TEXT_LEN + 1];

	while (header_next(&at, &name, &value)) {
		if (!is_blind(name))
			buf_append(out, span_first(rest, rest.len - at.len));
		has_date = has_date || span_ieq(name, SPAN("Date"));
		has_id = has_id || span_ieq(name, SPAN("Message-ID"));
		rest = at;
	}
	if (!has_date)
		buf_printf(out, "Date: %s\r\n", clock_rfc5322(facts->now_ms, date));
	if (!has_id)
		buf_printf(out, "Message-ID: <%s@%.*s>\r\n", id_format(facts->id, id),
			   SPAN_FMT(facts->hostname));
	buf_append(out, rest);			/* the blank line */
}
