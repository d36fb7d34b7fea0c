/*
 * test_classify: replies as servers give them → their classes; rules, and what is refused in them.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mta/base/clock.h"
#include "mta/base/buf.h"
#include "policy/classify.h"
#include "policy/pattern.h"

#define AT(stage) CLASSIFY_##stage
#define GOOGLE "gmail-smtp-in.l.google.com"
#define OUTLOOK "example-com.mail.protection.outlook.com"
#define YAHOO "mta7.am0.yahoodns.net"
#define OTHER "mx.example.org"

/* As they come: the enhanced code, where there is one, apart from the text. */
static const struct {
	enum classify_stage stage;
	uint16_t code;
	const char *status, *host, *text, *class;
} replies[] = {
	/* Gmail and Google Workspace */
	{ AT(RCPT), 550, "5.1.1", GOOGLE, "The email account that you tried to reach does not "
					  "exist. Please try\n"
	  "double-checking the recipient's email address for typos or\nunnecessary spaces. For "
	  "more information, go to\n"
	  " https://support.google.com/mail/?p=NoSuchUser x-1.2 - gsmtp", "bad-mailbox" },
	{ AT(RCPT), 550, "5.2.1", GOOGLE, "The email account that you tried to reach is inactive. "
					  "For more\ninformation, go to"
	  " https://support.google.com/mail/?p=DisabledUser x - gsmtp", "inactive-mailbox" },
	{ AT(RCPT), 550, "5.2.1", GOOGLE, "The email account that you tried to reach is disabled. "
					  "Learn more", "inactive-mailbox" },
	{ AT(RCPT), 452, "4.2.2", GOOGLE, "The recipient's inbox is out of storage space. Please "
					  "direct the\nrecipient to"
	  " https://support.google.com/mail/?p=OverQuotaTemp", "quota-issues" },
	{ AT(RCPT), 552, "5.2.2", GOOGLE, "The email account that you tried to reach is over quota",
	  "quota-issues" },
	{ AT(RCPT), 450, "4.2.1", GOOGLE, "The user you are trying to contact is receiving mail at "
					  "a rate that\nprevents additional"
	  " messages from being delivered.", "rate-limited" },
	{ AT(DATA), 421, "4.7.28", GOOGLE, "Gmail has detected an unusual rate of unsolicited mail "
					   "originating\nfrom your IP"
	  " address. To protect our users from spam, mail sent from\nyour IP address has been "
	  "temporarily rate limited.", "rate-limited" },
	{ AT(DATA), 550, "5.7.26", GOOGLE, "Unauthenticated email from example.org is not accepted "
					   "due to domain's\nDMARC policy."
	  " Please contact the administrator of example.org domain", "authentication-failed" },
	{ AT(DATA), 550, "5.7.26", GOOGLE, "Your email has been blocked because the sender is "
					   "unauthenticated.\nGmail requires all"
	  " senders to authenticate with either SPF or DKIM.", "authentication-failed" },
	{ AT(DATA), 550, "5.7.1", GOOGLE, "Gmail has detected that this message is likely "
					  "unsolicited mail. To\nreduce the amount of"
	  " spam sent to Gmail, this message has been blocked.", "spam-content" },
	{ AT(DATA), 421, "4.7.0", GOOGLE, "Gmail has detected that this message is likely "
					  "suspicious due to the\nvery low reputation of"
	  " the sending domain.", "spam-content" },
	{ AT(DATA), 550, "5.7.25", GOOGLE, "The IP address sending this message does not have a "
					   "PTR record setup, or\nthe corresponding"
	  " forward DNS entry does not match the sending IP.", "bad-configuration" },
	{ AT(DATA), 552, "5.7.0", GOOGLE, "This message was blocked because its content presents a "
					  "potential\nsecurity issue.",
	  "content-related" },
	{ AT(DATA), 552, "5.3.4", GOOGLE, "Your message exceeded Google's message size limits.",
	  "too-big" },
	{ AT(DATA), 550, "5.4.5", GOOGLE, "Daily user sending limit exceeded.", "rate-limited" },
	/* Microsoft */
	{ AT(MAIL), 550, "5.7.1", OUTLOOK, "Unfortunately, messages from [192.0.2.1] weren't sent. "
					   "Please contact your Internet service"
	  " provider since part of their network is on our block list (S3140).", "spam-block" },
	{ AT(RCPT), 550, "5.5.0", "hotmail-com.olc.protection.outlook.com",
	  "Requested action not taken: mailbox unavailable (S2017062302). "
	  "[X.prod.protection.outlook.com]", "bad-mailbox" },
	{ AT(RCPT), 550, "5.1.10", OUTLOOK, "RESOLVER.ADR.RecipientNotFound; Recipient "
					    "x@example.com not found by SMTP address lookup",
	  "bad-mailbox" },
	{ AT(RCPT), 550, "5.4.1", OUTLOOK, "Recipient address rejected: Access denied. "
					   "AS(201806281) [X.prod.protection.outlook.com]",
	  NULL },
	{ AT(CONNECT), 451, "4.7.650", OUTLOOK, "The mail server [192.0.2.1] has been temporarily "
						"rate limited due to IP reputation. For"
	  " e-mail delivery information, see https://postmaster.live.com (S775)", "rate-limited" },
	{ AT(RCPT), 451, "4.7.500", OUTLOOK, "Server busy. Please try again later from "
					     "[192.0.2.1]. (S77714)", "rate-limited" },
	{ AT(RCPT), 550, "5.7.606", OUTLOOK, "Access denied, banned sending IP [192.0.2.1]. To "
					     "request removal from this list please visit"
	  " https://sender.office.com/", "spam-block" },
	{ AT(DATA), 554, "5.2.2", OUTLOOK, "STOREDRV.Deliver.Exception:QuotaExceededException; "
					   "mailbox full", "quota-issues" },
	{ AT(DATA), 550, "5.7.23", OUTLOOK, "The message was rejected because of Sender Policy "
					    "Framework violation",
	  "authentication-failed" },
	{ AT(DATA), 550, "5.7.515", OUTLOOK, "Access denied, sending domain example.org does not "
					     "meet the required authentication level."
	  " The sender's domain in the 5322.From address doesn't meet the authentication "
	  "requirements (DMARC) policy.",
	  "authentication-failed" },
	/* Yahoo */
	{ AT(RCPT), 554, NULL, YAHOO, "delivery error: dd This user doesn't have a yahoo.com "
				      "account (x@yahoo.com) [0]", "bad-mailbox" },
	{ AT(MAIL), 421, "4.7.0", YAHOO, "[TSS04] Messages from 192.0.2.1 temporarily deferred due "
					 "to unexpected volume or user"
	  " complaints - 4.16.55.1; see https://postmaster.yahooinc.com/error-codes",
	  "rate-limited" },
	{ AT(CONNECT), 553, "5.7.1", YAHOO, "[BL21] Connections will not be accepted from "
					    "192.0.2.1, because the ip is in Spamhaus's list",
	  "spam-block" },
	{ AT(DATA), 554, "5.7.9", YAHOO, "Message not accepted for policy reasons. See"
	  " https://postmaster.yahooinc.com/error-codes", "spam-content" },
	{ AT(RCPT), 552, "5.2.2", YAHOO, "Mailbox over quota", "quota-issues" },
	/* servers of everybody: Postfix, Exim, Sendmail, qmail, Exchange */
	{ AT(RCPT), 550, "5.1.1", OTHER, "<x@example.org>: Recipient address rejected: User "
					 "unknown in virtual mailbox table",
	  "bad-mailbox" },
	{ AT(RCPT), 550, "5.1.1", OTHER, "<x@example.org>... User unknown", "bad-mailbox" },
	{ AT(RCPT), 550, NULL, OTHER, "No Such User Here", "bad-mailbox" },
	{ AT(RCPT), 550, NULL, OTHER, "Unrouteable address", "bad-mailbox" },
	{ AT(RCPT), 550, NULL, OTHER, "unknown user", "bad-mailbox" },
	{ AT(RCPT), 553, NULL, OTHER,
	  "sorry, this recipient is not in my validrcptto list (#5.7.1)", "bad-mailbox" },
	{ AT(RCPT), 511, NULL, OTHER, "sorry, no mailbox here by that name (#5.1.1 - chkuser)",
	  "bad-mailbox" },
	{ AT(DATA), 554, NULL, OTHER, "delivery error: This account has been disabled or "
				      "discontinued", "inactive-mailbox" },
	{ AT(RCPT), 550, "5.2.1", OTHER, "Mailbox disabled, not accepting messages",
	  "inactive-mailbox" },
	{ AT(RCPT), 550, NULL, OTHER, "Mailbox is inactive", "inactive-mailbox" },
	{ AT(RCPT), 452, "4.2.2", OTHER, "<x@example.org> Mailbox full", "quota-issues" },
	{ AT(RCPT), 552, NULL, OTHER, "Requested mail action aborted: exceeded storage allocation",
	  "quota-issues" },
	{ AT(DATA), 552, "5.2.2", OTHER,
	  "<x@example.org> Quota exceeded (mailbox for user is full)", "quota-issues" },
	{ AT(MAIL), 452, "4.3.1", OTHER, "Insufficient system storage", "quota-issues" },
	{ AT(RCPT), 450, "4.2.0", OTHER, "<x@example.org>: Recipient address rejected: Greylisted, "
					 "see http://postgrey.schweikert.ch/",
	  "greylisted" },
	{ AT(RCPT), 451, "4.7.1", OTHER, "Greylisting in action, please come back in 00:05:00",
	  "greylisted" },
	{ AT(RCPT), 451, NULL, OTHER, "Please try again in 300 seconds", "greylisted" },
	{ AT(RCPT), 450, "4.7.1", OTHER, "Error: too much mail from 192.0.2.1", "rate-limited" },
	{ AT(GREETING), 421, "4.7.0", OTHER, "mx.example.org Error: too many connections from "
					     "192.0.2.1", "rate-limited" },
	{ AT(RCPT), 452, "4.5.3", OTHER, "Error: too many recipients", "rate-limited" },
	{ AT(GREETING), 421, NULL, OTHER, "Too many concurrent SMTP connections; please try again "
					  "later.", "rate-limited" },
	{ AT(RCPT), 554, "5.7.1", OTHER, "Service unavailable; Client host [192.0.2.1] blocked "
					 "using zen.spamhaus.org;"
	  " https://www.spamhaus.org/query/ip/192.0.2.1", "spam-block" },
	{ AT(GREETING), 554, NULL, OTHER, "Your IP address is listed in a blocklist",
	  "spam-block" },
	{ AT(GREETING), 554, NULL, "mx00.gmx.net",
	  "gmx.net (mxgmx101) Nemesis ESMTP Service not available\nNo SMTP service\n"
	  "Bad DNS PTR resource record.", "bad-configuration" },
	{ AT(GREETING), 554, NULL, "mx00.t-online.de",
	  "IP=192.0.2.1 - A problem occurred. Ask your postmaster for help or to contact"
	  " tosa@rx.t-online.de to clarify.", "spam-block" },
	{ AT(DATA), 554, "5.7.1", "mx1.mail.icloud.com",
	  "[HM08] Message rejected due to local policy.", "spam-block" },
	{ AT(DATA), 550, NULL, OTHER,
	  "This message was classified as SPAM and may not be delivered", "spam-content" },
	{ AT(DATA), 554, "5.7.1", OTHER, "The message was rejected because it contains prohibited "
					 "virus or spam content",
	  "virus-related" },
	{ AT(DATA), 550, "5.7.1", OTHER, "Virus detected: Eicar-Test-Signature", "virus-related" },
	{ AT(DATA), 552, "5.7.0", OTHER, "Attachment type .exe is not allowed", "content-related" },
	{ AT(MAIL), 552, "5.3.4", OTHER, "Message size exceeds fixed limit", "too-big" },
	{ AT(MAIL), 552, NULL, OTHER, "Message size exceeds maximum permitted", "too-big" },
	{ AT(RCPT), 554, "5.7.1", OTHER, "<x@example.org>: Relay access denied",
	  "relaying-issues" },
	{ AT(RCPT), 550, NULL, OTHER, "relay not permitted", "relaying-issues" },
	{ AT(RCPT), 550, "5.7.1", OTHER, "Unable to relay", "relaying-issues" },
	{ AT(RCPT), 553, NULL, OTHER, "sorry, that domain isn't in my list of allowed rcpthosts "
				      "(#5.7.1)", "relaying-issues" },
	{ AT(RCPT), 550, NULL, OTHER, "Sender verify failed", "invalid-sender" },
	{ AT(RCPT), 550, "5.1.8", OTHER, "<a@nowhere.test>: Sender address rejected: Domain not "
					 "found", "invalid-sender" },
	{ AT(MAIL), 553, "5.1.8", OTHER, "Domain of sender address a@nowhere.test does not exist",
	  "invalid-sender" },
	{ AT(DATA), 550, "5.7.1", OTHER, "DKIM signature verification failed: message rejected by "
					 "policy", "authentication-failed" },
	{ AT(MAIL), 550, "5.7.1", OTHER, "SPF check failed: 192.0.2.1 is not authorized",
	  "authentication-failed" },
	{ AT(RCPT), 450, "4.7.1", OTHER, "Client host rejected: cannot find your reverse hostname, "
					 "[192.0.2.1]", "bad-configuration" },
	{ AT(RCPT), 504, "5.5.2", OTHER, "<localhost>: Helo command rejected: need fully-qualified "
					 "hostname", "bad-configuration" },
	{ AT(MAIL), 530, "5.7.0", OTHER, "Must issue a STARTTLS command first", "tls-failure" },
	{ AT(MAIL), 530, "5.7.0", OTHER, "Authentication required", "bad-configuration" },
	{ AT(AUTH), 535, "5.7.8", OTHER, "Error: authentication failed", "bad-configuration" },
	{ AT(RCPT), 554, "5.4.6", OTHER, "Too many hops", "routing-errors" },
	{ AT(RCPT), 451, "4.3.0", OTHER, "Temporary lookup failure", "dns-failure" },
	{ AT(DATA), 451, "4.3.0", OTHER, "Error: queue file write error", "transient-failure" },
	{ AT(DATA), 451, NULL, OTHER, "Requested action aborted: local error in processing",
	  "transient-failure" },
	{ AT(GREETING), 421, "4.3.2", OTHER, "Service not available, closing transmission channel",
	  "transient-failure" },
	{ AT(DATA), 550, "5.7.1", OTHER, "Message rejected by administrative prohibition",
	  "policy-related" },
	{ AT(RCPT), 500, "5.5.1", OTHER, "Command unrecognized", "protocol-errors" },
	/* ours */
	{ AT(CONNECT), 0, NULL, "", "connection refused", "bad-connection" },
	{ AT(CONNECT), 0, NULL, "", "timeout connecting", "no-answer-from-host" },
	{ AT(DATA), 0, NULL, "", "connection reset by peer", "bad-connection" },
	{ AT(TLS), 0, NULL, "", "the certificate is not trusted", "tls-failure" },
	{ AT(CONNECT), 556, "5.1.10", "", "example.org takes no mail (null MX)", "bad-domain" },
	{ AT(CONNECT), 550, "5.1.2", "", "the domain nowhere.test does not exist", "bad-domain" },
	{ AT(CONNECT), 451, "4.4.3", "", "the name server did not answer", "dns-failure" },
	/* codes without words that help */
	{ AT(RCPT), 550, NULL, OTHER, "no", "bad-mailbox" },
	{ AT(DATA), 550, NULL, OTHER, "no", "policy-related" },
	{ AT(MAIL), 553, NULL, OTHER, "no", "invalid-sender" },
	{ AT(RCPT), 450, NULL, OTHER, "no", "transient-failure" },
	{ AT(DATA), 552, NULL, OTHER, "no", "too-big" },
	{ AT(RCPT), 550, "5.1.6", OTHER, "no", "inactive-mailbox" },
	{ AT(DATA), 554, "5.6.1", OTHER, "no", "content-related" },
	{ AT(GREETING), 521, NULL, OTHER, "no", "bad-domain" },
	{ AT(RCPT), 250, NULL, OTHER, "fine", "other" },
};

static struct classify_reply
reply_of(size_t i)
{
	struct classify_reply r = { replies[i].stage, replies[i].code, { 0 },
				    span_str(replies[i].text), span_str(replies[i].host) };
	size_t len;

	if (replies[i].status != NULL)
		assert_true(status_parse(span_str(replies[i].status), &r.status, &len));
	return r;
}

static struct classifier *
rules(const char *text)
{
	struct classifier *c = NULL;
	struct buf errors = { 0 };

	if (classifier_parse(SPAN("rules"), span_str(text), &errors, &c) < 0)
		fail_msg("%.*s", SPAN_FMT(buf_span(&errors)));
	buf_free(&errors);
	return c;
}

static void
test_real_replies(void **state)
{
	struct classifier *c = rules("");
	size_t wrong = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
		struct classify_reply r = reply_of(i);
		const char *got = reply_class_name(classify(c, &r));

		if (replies[i].class != NULL && strcmp(got, replies[i].class) != 0) {
			print_error("%u %s: %s, and not %s\n", r.code, replies[i].text, got,
				    replies[i].class);
			wrong++;
		}
	}
	classifier_free(c);
	assert_int_equal(wrong, 0);
}

static void
test_own_rules_go_first(void **state)
{
	struct classifier *c = rules("# ours\n\nother code=5xx status=5.1.* stage=rcpt "
				     "host=*.example.org /User unknown/\n"
				     "too-big code=none\nvirus-related status=*.7.999\n");
	struct classify_reply r = { AT(RCPT), 550, { 5, 1, 1 }, SPAN("user\nUNKNOWN"),
				    SPAN("mx.Example.org.") };

	(void)state;
	assert_int_equal(classify(c, &r), CLASS_OTHER);
	r.host = SPAN("example.org");		/* not below itself */
	assert_int_equal(classify(c, &r), CLASS_BAD_MAILBOX);
	r.host = SPAN("mx.example.org");
	r.stage = AT(DATA);
	assert_int_equal(classify(c, &r), CLASS_BAD_MAILBOX);
	r = (struct classify_reply){ AT(DATA), 0, { 0 }, SPAN("connection lost"), SPAN("") };
	assert_int_equal(classify(c, &r), CLASS_TOO_BIG);
	r = (struct classify_reply){ AT(DATA), 450, { 4, 7, 999 }, SPAN("no"), SPAN("") };
	assert_int_equal(classify(c, &r), CLASS_VIRUS_RELATED);
	r.status.klass = 0;
	assert_int_equal(classify(c, &r), CLASS_TRANSIENT_FAILURE);
	classifier_free(c);
}

static void
test_bad_rules(void **state)
{
	static const struct { const char *rules, *error;
	} bad[] = {
		{ "\nspam /x/\n", "rules:2: \"spam\": no such class" },
		{ "other\n", "rules:1: \"other\": a class for what?" },
		{ "other /x\n", "rules:1: \"/x\": a pattern stands between two /" },
		{ "other //\n", "a pattern stands between two /" },
		{ "other /(x/\n", "rules:1: \"/(x/\": missing closing parenthesis (at octet 3)" },
		{ "other /\\C/\n", "using \\C is disabled" },
		{ "other /(*UTF)x/\n", "using UTF is disabled" },
		{ "other code=600\n", "\"code=600\": a code is three digits" },
		{ "other code=2xx\n", "a code is three digits" },
		{ "other code=450 code=451\n", "a second code=" },
		{ "other status=5.7\n", "a status is three numbers" },
		{ "other status=2.0.0\n", "a status is three numbers" },
		{ "other stage=dot\n", "a stage is connect, greeting" },
		{ "other host=*.*\n", "a host is a name" },
		{ "other colour=red\n", "neither code=" },
		{ "other code=4xx status=5.1.1\n", "no reply has such a code and such a status" },
		{ "other /x/\nother /y/\ntoo-big  /x/\n",
		  "rules:3: \"/x/\": line 1 says this already, with the class other" },
	};
	struct buf errors = { 0 }, list = { 0 };
	struct classifier *c = NULL;
	char room[1200];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		buf_clear(&errors);
		assert_int_equal(classifier_parse(SPAN("rules"), span_str(bad[i].rules), &errors,
						  &c), -EINVAL);
		buf_byte(&errors, '\0');
		if (strstr(buf_span(&errors).at, bad[i].error) == NULL)
			fail_msg("%s: %s, and not %s", bad[i].rules, buf_span(&errors).at,
				 bad[i].error);
	}
	buf_clear(&errors);
	for (int i = 0; i < 501; i++)
		buf_printf(&errors, "other /x%d/\n", i);
	buf_printf(&errors, "other /x/\n");
	assert_int_equal(classifier_parse(SPAN("rules"), buf_span(&errors), &list, &c), -EINVAL);
	buf_free(&list);
	memset(room, 'x', sizeof(room));
	memcpy(room, "other /", 7);
	buf_clear(&errors);
	assert_int_equal(classifier_parse(SPAN("rules"), span_of(room, 900), &errors, &c), -EINVAL);
	buf_free(&errors);
}

/* A pattern that would take 2^100 steps is given up, and does not match; the codes decide. */
static void
test_patterns_that_blow_up(void **state)
{
	struct classifier *c = rules(
		"virus-related /^(a+)+$/\nvirus-related /(a|a?)+b/\nvirus-related /((a*)*)*c/\n"
		"too-big /d/\n");
	struct classify_reply r = { AT(RCPT), 550, { 0 }, { 0 }, SPAN("") };
	struct pattern_work *work = pattern_work_new();
	struct buf errors = { 0 };
	struct pattern *p = pattern_new(SPAN("^(a+)+$"), &errors);
	char text[4000];

	(void)state;
	memset(text, 'a', sizeof(text));
	text[400] = 'd';
	r.text = span_of(text, sizeof(text));
	assert_int_equal(pattern_match(p, work, r.text), PATTERN_TOO_MUCH);
	assert_int_equal(pattern_match(p, work, SPAN("aaaa")), PATTERN_YES);
	assert_int_equal(pattern_match(p, work, SPAN("")), PATTERN_NO);
	/* one or two were given up: the others still have their turn */
	(void)classify(c, &r);
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = "ab"[i % 2];
	assert_true(classify(c, &r) < REPLY_CLASSES);
	pattern_free(p);
	pattern_work_free(work);
	classifier_free(c);
	buf_free(&errors);
}

/* Each of them stays below its limit at each place; all together they have one, too. */
static void
test_patterns_that_are_slow_together(void **state)
{
	struct classify_reply r = { CLASSIFY_RCPT, 550, { 5, 0, 0 }, { 0 }, { 0 } };
	struct classifier *c = NULL;
	struct buf rules = { 0 }, errors = { 0 };
	char text[PATTERN_TEXT_MAX];

	(void)state;
	for (int i = 0; i < 200; i++)
		buf_printf(&rules, "policy-related /[^y]{0,%d}[^y]{0,30}[^y]{1,2}z%03d/\n",
			   20 + i % 10, i);
	buf_append(&rules, SPAN("spam-content /aaaa/\n"));
	assert_int_equal(classifier_parse(SPAN("slow"), buf_span(&rules), &errors, &c), 0);
	memset(text, 'a', sizeof(text));
	memcpy(text + sizeof(text) - 11, "z0123456789", 11);
	r.text = span_of(text, sizeof(text));
	assert_int_not_equal(classify(c, &r), CLASS_SPAM_CONTENT);	/* it never came to that */
	r.text = SPAN("aaaa");
	assert_int_equal(classify(c, &r), CLASS_SPAM_CONTENT);
	classifier_free(c);
	buf_free(&rules);
	buf_free(&errors);
}

static void
test_names(void **state)
{
	enum reply_class class;

	(void)state;
	for (enum reply_class i = 0; i < REPLY_CLASSES; i++) {
		assert_true(reply_class_find(span_str(reply_class_name(i)), &class));
		assert_int_equal(class, i);
	}
	assert_false(reply_class_find(SPAN("spam"), &class));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_real_replies),
		cmocka_unit_test(test_own_rules_go_first),
		cmocka_unit_test(test_bad_rules),
		cmocka_unit_test(test_patterns_that_blow_up),
		cmocka_unit_test(test_patterns_that_are_slow_together),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
