/*
 * words: see words.h. Written for the person who sent the message and knows nothing of mail
 * servers; the remote server's words stand as they are, for that person's administrator. Any
 * thread.
 */
#include "mta/bounce/words.h"

#include "mta/base/clock.h"

#define INDENT "    "
#define SAID_INDENT "        "

/* Whole sections in the order in which they matter; a report seldom has more than one. */
static const struct section {
	enum report_action action;
	const char *what;		/* follows "Your message" */
	const char *one, *many;		/* of whom it is said; their number stands behind "these" */
	const char *then;
} sections[] = {
	{ REPORT_FAILED, "could not be delivered to", "recipient", "recipients", "" },
	{ REPORT_NONE, "has not yet been delivered to", "recipient", "recipients", "" },
	{ REPORT_RELAYED, "was handed on for", "recipient", "recipients",
	  "The server that took it over does not confirm deliveries, so this is the last\r\n"
	  "that can be said about it from here.\r\n\r\n" },
	{ REPORT_DELIVERED, "was delivered to", "recipient", "recipients", "" },
	{ REPORT_EXPANDED, "was sent on to all members of", "list", "lists", "" },
};

/* What the sender can do, by the status's subject and detail (RFC 3463 §3); the first that fits. */
static const struct advice {
	uint16_t subject, detail;	/* UINT16_MAX: any */
	const char *text;
} advices[] = {
	{ 1, 7,
	  "Ask your administrator: the receiving side does not accept your own address as the "
	  "sender." },
	{ 1, 8,
	  "Ask your administrator: the receiving side does not accept your own address as the "
	  "sender." },
	{ 1, 10, "This domain does not take any mail. Look for another address of the recipient." },
	{ 1, UINT16_MAX,
	  "Check the address for typing mistakes, or ask the recipient for the right one." },
	{ 2, 2, "The mailbox is full. Try again later, or tell the recipient by another way." },
	{ 2, 3, "Send a smaller message, or share large files by another way." },
	{ 3, 4, "Send a smaller message, or share large files by another way." },
	{ 2, UINT16_MAX, "The mailbox takes no messages now. Tell the recipient by another way." },
	{ 4, 4, "Check the part of the address behind the @ for typing mistakes." },
	{ 4, 6, "The mail goes round in circles: tell your administrator." },
	{ 4, 7, "Send the message again later, or tell the recipient by another way." },
	{ 6, UINT16_MAX,
	  "The recipient's server cannot take a message of this form. Send it as plain text, or in "
	  "another format." },
	{ 7, 30,
	  "The way to the recipient is not as secure as this message demands: tell your "
	  "administrator." },
	{ 7, UINT16_MAX,
	  "The receiving side refused it by its rules. The server's words above may say which; "
	  "your "
	  "administrator, or the recipient's, can help with them." },
	{ UINT16_MAX, UINT16_MAX,
	  "If the server's words above do not help, pass this message on to your administrator." },
};

static const char *
advice_for(const struct bounce_reason *r)
{
	const struct advice *a = advices;
	struct status status = r->status;

	/* a mailbox that was full until the end is worth more to know than that the end has come */
	if (r->cause == CAUSE_EXPIRED && r->attempt->status.subject == 2)
		status = r->attempt->status;
	while ((a->subject != UINT16_MAX && a->subject != status.subject) ||
	       (a->detail != UINT16_MAX && a->detail != status.detail))
		a++;
	return a->text;
}

static void
put_span_of_time(int64_t ms, struct buf *out)
{
	static const struct { int64_t ms; const char *name; } units[] = {
		{ 86400000, "day" }, { 3600000, "hour" }, { 60000, "minute" },
	};

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		int64_t n = ms / units[i].ms;

		if (n > 0) {
			buf_printf(out, "%lld %s%s", (long long)n, units[i].name, n > 1 ? "s" : "");
			return;
		}
	}
	buf_append(out, SPAN("less than a minute"));
}

/* A paragraph of our own words, wrapped. */
static void
put_paragraph(const struct buf *text, const char *indent, struct buf *out)
{
	buf_append(out, span_str(indent));
	report_fold(buf_span(text), strlen(indent), indent, out);
	buf_append(out, SPAN("\r\n"));
}

/* "The server mx.example.net refused it:", up to the colon or full stop. */
static void
put_cause(const struct bounce_facts *facts, const struct bounce_reason *r, struct span host,
	  struct buf *text)
{
	bool words = r->said.len > 0;

	switch (r->cause) {
	case CAUSE_REFUSED:
		if (host.len > 0)
			buf_printf(text, "The server %.*s refused it", SPAN_FMT(host));
		else
			buf_append(text, SPAN("It cannot be sent there"));
		break;
	case CAUSE_NEVER_TRIED:
	case CAUSE_EXPIRED:
		buf_append(text, SPAN("It was tried for "));
		put_span_of_time(facts->now_ms - facts->message->record.arrival_ms, text);
		buf_printf(text, ", but %s", r->cause == CAUSE_EXPIRED ? "was never accepted" :
			   "no server that takes mail for this address could be reached");
		if (words)
			buf_append(text, SPAN(". The last attempt ended with"));
		break;
	case CAUSE_ACTION:
		if (!words)
			break;
		if (r->status.klass == 4)
			buf_append(text, SPAN("The last attempt ended with"));
		else if (host.len > 0)
			buf_printf(text, "The server %.*s said", SPAN_FMT(host));
		else
			buf_append(text, SPAN("The server said"));
		break;
	}
	if (buf_len(text) > 0)
		buf_byte(text, words ? ':' : '.');
}

static void
put_recipient(const struct bounce_facts *facts, const struct bounce_recipient *recipient,
	      const struct bounce_reason *r, struct buf *out)
{
	struct arena arena = { 0 };
	struct buf text = { 0 };
	struct span host = report_clean(r->host, false, &arena);
	struct span said = report_squeeze(report_clean(r->said, true, &arena), &arena);
	struct span address = report_clean(recipient->recipient->address, true, &arena);
	bool host_said = host.len > 0 && r->cause != CAUSE_REFUSED && r->status.klass != 2;

	buf_printf(out, "  <%.*s>\r\n", SPAN_FMT(address));
	put_cause(facts, r, host, &text);
	if (buf_len(&text) > 0)
		put_paragraph(&text, INDENT, out);
	if (said.len > 0) {
		buf_clear(&text);
		if (host_said)
			buf_printf(&text, "%.*s: ", SPAN_FMT(host));
		buf_append(&text, said);
		put_paragraph(&text, SAID_INDENT, out);
	}
	if (recipient->history != NULL && recipient->history->uncertain && r->status.klass != 2)
		buf_append(out,
			   SPAN(INDENT "Once the connection broke off just before the server "
				       "confirmed: the\r\n" INDENT
				       "recipient may have got the message all the same.\r\n"));
	if (strcmp(r->action, "failed") == 0) {
		buf_clear(&text);
		buf_append(&text, span_str(advice_for(r)));
		put_paragraph(&text, INDENT, out);
	}
	buf_append(out, SPAN("\r\n"));
	buf_free(&text);
	arena_free(&arena);
}

static enum report_action
action_of(const struct bounce_facts *facts, size_t i)
{
	return facts->delay ? REPORT_NONE : facts->recipients[i].action;
}

static void
put_section(const struct bounce_facts *facts, const struct bounce_reason *reasons,
	    const struct section *section, struct buf *out)
{
	char date[RFC5322_DATE_MAX];
	size_t count = 0;

	for (size_t i = 0; i < facts->count; i++)
		count += action_of(facts, i) == section->action;
	if (count == 0)
		return;
	if (count == 1)
		buf_printf(out, "Your message %s this %s:\r\n\r\n", section->what, section->one);
	else
		buf_printf(out, "Your message %s these %zu %s:\r\n\r\n", section->what, count,
			   section->many);
	for (size_t i = 0; i < facts->count; i++)
		if (action_of(facts, i) == section->action)
			put_recipient(facts, &facts->recipients[i], &reasons[i], out);
	buf_append(out, span_str(section->then));
	if (section->action == REPORT_NONE)
		buf_printf(out,
			   "This is only a warning: you need not do anything, and need not send it "
			   "again.\r\n"
			   "Delivery will be tried until\r\n" INDENT "%s\r\n"
			   "If it still cannot be delivered by then, you will be told.\r\n\r\n",
			   clock_rfc5322(facts->gives_up_ms, date));
}

void
bounce_words(const struct bounce_facts *facts, const struct bounce_reason *reasons,
	     enum bounce_attached attached, struct buf *out)
{
	struct arena arena = { 0 };
	struct span host = report_clean(facts->hostname, false, &arena);
	char date[RFC5322_DATE_MAX];

	buf_printf(out, "This is the mail system at %.*s.\r\n\r\n", SPAN_FMT(host));
	buf_printf(out, "It is about the message that you sent on\r\n" INDENT "%s\r\n\r\n",
		   clock_rfc5322(facts->message->record.arrival_ms, date));
	for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++)
		put_section(facts, reasons, &sections[i], out);
	if (attached == ATTACHED_MESSAGE)
		buf_append(out, SPAN("Your message is attached, behind the details for mail "
				     "programs.\r\n"));
	else if (attached == ATTACHED_HEADER)
		buf_append(out, SPAN("The header of your message is attached, behind the details "
				     "for mail programs.\r\n"));
	arena_free(&arena);
}

const char *
bounce_subject(const struct bounce_facts *facts)
{
	static const char *const subjects[] = {
		[REPORT_NONE] = "Your message is delayed",
		[REPORT_FAILED] = "Your message could not be delivered",
		[REPORT_RELAYED] = "Your message was handed on",
		[REPORT_DELIVERED] = "Your message was delivered",
		[REPORT_EXPANDED] = "Your message was sent to a list",
	};

	for (size_t s = 0; s < sizeof(sections) / sizeof(sections[0]); s++)
		for (size_t i = 0; i < facts->count; i++)
			if (action_of(facts, i) == sections[s].action)
				return subjects[sections[s].action];
	return subjects[REPORT_NONE];
}
