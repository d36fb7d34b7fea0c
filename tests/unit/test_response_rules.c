/*
 * test_response_rules: replies as servers give them → what is done about them; what is refused in
 * rules.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mta/base/buf.h"
#include "policy/response_rules.h"

#define AT(stage) CLASSIFY_##stage
#define MINUTE INT64_C(60000)
#define HOUR (60 * MINUTE)
#define GOOGLE "gmail-smtp-in.l.google.com"
#define OUTLOOK "hotmail-com.olc.protection.outlook.com"
#define YAHOO "mta7.am0.yahoodns.net"
#define OTHER "mx.example.org"

/*
 * did: "slow FACTOR", "suspend SCOPE", "temporary", "permanent", "next-mx", "class NAME"; "": no
 * rule.
 */
static const struct {
	enum classify_stage stage;
	uint16_t code;
	const char *status, *host, *text, *did;
} replies[] = {
	{ AT(DATA), 421, "4.7.28", GOOGLE, "Gmail has detected an unusual rate of mail originating "
					   "from your\nDKIM domain"
	  " [example.org 35]. To protect our users, it has been temporarily\nrate limited.",
	  "slow 4 class rate-limited " },
	{ AT(DATA), 421, "4.7.0", GOOGLE, "[192.0.2.1 15] Our system has detected an unusual rate "
					  "of\nunsolicited mail"
	  " originating from your IP address.", "slow 4 class rate-limited " },
	{ AT(DATA), 421, "4.7.0", GOOGLE, "This message is likely suspicious due to the very low "
					  "reputation of the\nsending domain.",
	  "slow 2 " },
	{ AT(GREETING), 421, "4.7.0", GOOGLE,
	  "Try again later, closing connection. (EHLO) x-1 - gsmtp",
	  "slow 2 class rate-limited " },
	{ AT(RCPT), 452, "4.2.2", GOOGLE, "The recipient's inbox is out of storage space.",
	  "class quota-issues " },
	{ AT(RCPT), 450, "4.2.1", "aspmx2.googlemail.com",
	  "The user you are trying to contact is receiving mail too quickly.",
	  "class rate-limited " },
	{ AT(DATA), 421, "4.3.0", GOOGLE, "Temporary System Problem. Try again later (10).",
	  "slow 2 " },
	{ AT(RCPT), 550, "5.1.1", GOOGLE, "The email account that you tried to reach does not "
					  "exist.", "" },
	{ AT(DATA), 550, "5.4.5", "smtp.gmail.com",
	  "Daily user sending limit exceeded. For more information on Gmail\nsending limits",
	  "slow 8 temporary class rate-limited " },
	{ AT(GREETING), 421, NULL, OUTLOOK, "RP-001 (X) Unfortunately, some messages from "
					    "192.0.2.1 weren't sent. Please try again.",
	  "slow 4 class rate-limited " },
	{ AT(GREETING), 421, NULL, OUTLOOK, "RP-002 (X) Unfortunately, some messages from "
					    "192.0.2.1 on behalf of (example.org)"
	  " weren't sent.", "slow 2 class rate-limited " },
	{ AT(GREETING), 421, NULL, OUTLOOK,
	  "RP-003 (X) The server IP has exceeded its connection limit.",
	  "slow 2 class rate-limited " },
	{ AT(RCPT), 451, "4.7.500", "example-com.mail.protection.outlook.com",
	  "Server busy. Please try again later from"
	  " [192.0.2.1]. (S77719)", "slow 2 class rate-limited " },
	{ AT(MAIL), 451, "4.7.650", OUTLOOK, "The mail server [192.0.2.1] has been temporarily "
					     "rate limited due to IP reputation."
	  " (S775)", "slow 4 class rate-limited " },
	{ AT(MAIL), 550, "5.7.1", OUTLOOK, "Unfortunately, messages from [192.0.2.1] weren't sent. "
					   "Part of their network is on our"
	  " block list (S3140).", "slow 8 class spam-block " },
	{ AT(MAIL), 432, "4.3.2", "smtp.office365.com",
	  "Concurrent connections limit exceeded. Visit https://aka.ms/concurrent_sending",
	  "slow 4 class rate-limited " },
	{ AT(GREETING), 421, "4.3.2", OUTLOOK, "The system is not accepting network messages",
	  "slow 2 " },
	{ AT(MAIL), 421, "4.7.0", YAHOO, "[TSS04] Messages from 192.0.2.1 temporarily deferred due "
					 "to unexpected volume or user"
	  " complaints - 4.16.55.1", "slow 4 suspend source class rate-limited " },
	{ AT(MAIL), 421, "4.7.1", YAHOO, "[TS01] Messages from 192.0.2.1 temporarily deferred due "
					 "to user complaints",
	  "slow 4 suspend source " },
	{ AT(MAIL), 421, "4.7.1", YAHOO, "[TS03] All messages from 192.0.2.1 will be permanently "
					 "deferred; Retrying will NOT"
	  " succeed.",
	  "suspend source class spam-block " },
	{ AT(GREETING), 421, "4.7.0", YAHOO,
	  "[GL01] Message from (192.0.2.1) temporarily deferred - 4.16.50.",
	  "class greylisted " },
	{ AT(DATA), 451, NULL, YAHOO, "Resources temporarily unavailable. Please try again later "
				      "[#4.16.5].",
	  "slow 2 " },
	{ AT(GREETING), 553, "5.7.1", YAHOO,
	  "[BL21] Connections will not be accepted from 192.0.2.1",
	  "slow 8 class spam-block " },
	{ AT(DATA), 421, "4.7.1", "mx01.mail.icloud.com",
	  "[HM07] Message temporarily rejected due to local policy.",
	  "slow 4 " },
	{ AT(GREETING), 421, "4.7.0", "mx02.mail.icloud.com",
	  "Error: too many connections from 192.0.2.1",
	  "slow 2 class rate-limited " },
	{ AT(GREETING), 421, "4.2.1", "mx1.comcast.net",
	  "192.0.2.1 Throttled - try again later. RL000003",
	  "slow 2 class rate-limited " },
	{ AT(GREETING), 554, NULL, "mx1.comcast.net", "Comcast block for spam. BL000000",
	  "slow 8 class spam-block " },
	{ AT(GREETING), 421, NULL, "mx0.charter.net", "server refused - AUP#I-1430", "slow 2 " },
	{ AT(MAIL), 553, "5.3.0", "al-ip4-mx-vip1.prodigy.net",
	  "DNSBL:ATTRBL 521< 192.0.2.1 >_is_blocked.",
	  "slow 8 class spam-block " },
	{ AT(GREETING), 421, NULL, "mx00.gmx.net", "gmx.net (mxgmx014) Nemesis ESMTP Service not "
						   "available\nService not available",
	  "slow 2 " },
	{ AT(RCPT), 450, NULL, "mx-ha03.web.de",
	  "Requested mail action not taken: mailbox sending limit exceeded",
	  "slow 2 class rate-limited " },
	{ AT(GREETING), 554, NULL, "mx00.mail.com",
	  "No SMTP service\nReject due to policy restrictions.", "slow 4 " },
	{ AT(GREETING), 421, NULL, "mx00.t-online.de", "Too many connections from your host",
	  "slow 2 " },
	{ AT(GREETING), 421, NULL, "smtp-in.orange.fr",
	  "mwinf5c04 ME Trop de connexions, veuillez verifier votre configuration."
	  " Too many connections, slow down. OFR004_104 [104]", "slow 4 class rate-limited " },
	{ AT(GREETING), 421, NULL, "smtp-in.orange.fr",
	  "mwinf5c10 ME Service refuse. Veuillez essayer plus tard. Service refused,"
	  " please try later. OFR_999 [999]", "slow 2 class rate-limited " },
	{ AT(DATA), 550, "5.2.0", "smtp-in.orange.fr", "Mail rejete. Mail rejected. OFR_506 [506]",
	  "slow 8 class spam-block " },
	{ AT(GREETING), 421, NULL, "mx1.free.fr", "Too many connections from your IP (192.0.2.1)",
	  "slow 2 " },
	{ AT(DATA), 451, NULL, "mx2.free.fr",
	  "too much spam from your IP (192.0.2.1), please visit http://postmaster.free.fr/",
	  "slow 4 suspend source " },
	{ AT(GREETING), 421, "4.7.0", "smtp4.laposte.net",
	  "LPN007_402 Service refuse. Veuillez essayer plus tard.",
	  "slow 2 class rate-limited " },
	{ AT(RCPT), 451, NULL, "mxs.mail.ru",
	  "Ratelimit exceeded for ip 192.0.2.1. Try again later.",
	  "slow 2 class rate-limited " },
	{ AT(RCPT), 451, "4.5.1", "mx.yandex.ru",
	  "The recipient <b@yandex.ru> has exceeded their message rate limit. Try again later.",
	  "class rate-limited " },
	{ AT(MAIL), 451, "4.7.1", "mx.yandex.ru",
	  "Sorry, the service is currently unavailable. Please come back later.",
	  "slow 2 class rate-limited " },
	{ AT(DATA), 550, NULL, "mx1.qq.com", "Ip frequency limited. http://service.mail.qq.com/",
	  "slow 8 temporary class rate-limited " },
	{ AT(GREETING), 421, NULL, "mx3.qq.com", "Too many connections, ip overrate", "slow 4 " },
	{ AT(GREETING), 421, "4.7.1", "smtp-in.sfr.fr", "Too many messages from 192.0.2.1",
	  "slow 2 " },
	{ AT(RCPT), 451, "4.7.0", OUTLOOK, "Server busy, please come back", "slow 2 " },
	{ AT(MAIL), 451, NULL, "163mx01.mxmail.netease.com", "MI:SPB 163 mx9,x 1700000000",
	  "slow 4 " },
	{ AT(RCPT), 451, NULL, "eu-smtp-inbound-1.mimecast.com",
	  "IP temporarily blacklisted - https://community.mimecast.com/",
	  "slow 2 " },
	{ AT(GREETING), 421, NULL, "mxa-1.gslb.pphosted.com",
	  "Resources restricted, too many connections", "slow 2 " },
	{ AT(GREETING), 421, NULL, "d1.ess.barracudanetworks.com", "rate control: try later",
	  "slow 2 " },
	{ AT(GREETING), 421, "4.7.0", OTHER,
	  "mx.example.org Error: too many connections from 192.0.2.1",
	  "slow 2 class rate-limited " },
	{ AT(RCPT), 450, "4.7.1", OTHER, "Error: too much mail from 192.0.2.1",
	  "slow 2 class rate-limited " },
	{ AT(RCPT), 450, "4.7.1", OTHER, "Error: too many recipients from 192.0.2.1",
	  "slow 2 class rate-limited " },
	/* of one message, that is */
	{ AT(RCPT), 452, "4.5.3", OTHER, "Error: too many recipients", "" },
	{ AT(GREETING), 452, "4.3.2", OTHER, "Connection rate limit exceeded.",
	  "slow 2 class rate-limited " },
	{ AT(GREETING), 421, NULL, OTHER, "Too many concurrent SMTP connections; please try again "
					  "later.",
	  "slow 2 class rate-limited " },
	{ AT(GREETING), 421, "4.3.2", OTHER, "The maximum number of concurrent connections has "
					     "exceeded a limit, closing transmission"
	  " channel", "slow 2 class rate-limited " },
	{ AT(MAIL), 421, "4.4.2", OTHER, "Message submission rate for this client has exceeded the "
					 "configured limit",
	  "slow 2 class rate-limited " },
	/* others may not say what these do */
	{ AT(MAIL), 421, "4.7.0", OTHER, "[TSS04] Messages from 192.0.2.1 temporarily deferred",
	  "" },
	{ AT(RCPT), 450, "4.2.0", OTHER, "<x@example.org>: Recipient address rejected: Greylisted",
	  "" },
	{ AT(RCPT), 550, "5.7.1", OTHER, "too many connections", "" },
};

static struct response_reply
reply_of(size_t i)
{
	struct response_reply r = { .reply = { replies[i].stage, replies[i].code, { 0 },
					       span_str(replies[i].text),
					       span_str(replies[i].host) } };
	size_t len;

	if (replies[i].status != NULL)
		assert_true(status_parse(span_str(replies[i].status), &r.reply.status, &len));
	return r;
}

static void
tell(const struct response_rule *rule, struct buf *out)
{
	buf_clear(out);
	if (rule != NULL && rule->slow > 0)
		buf_printf(out, "slow %u ", rule->slow);
	if (rule != NULL && rule->suspend != SCOPE_NONE)
		buf_printf(out, "suspend %s ", response_scope_name(rule->suspend));
	if (rule != NULL && rule->next_mx)
		buf_printf(out, "next-mx ");
	if (rule != NULL && rule->fate != FATE_AS_SAID)
		buf_printf(out, "%s ", rule->fate == FATE_SOFTENED ? "temporary" : "permanent");
	if (rule != NULL && rule->becomes != REPLY_CLASSES)
		buf_printf(out, "class %s ", reply_class_name(rule->becomes));
	buf_byte(out, '\0');
}

static struct response_rules *
rules(const char *text, bool builtin)
{
	struct response_rules *r = NULL;
	struct buf errors = { 0 };

	if (response_rules_parse(SPAN("rules"), span_str(text), builtin, &errors, &r) < 0)
		fail_msg("%.*s", SPAN_FMT(buf_span(&errors)));
	buf_free(&errors);
	return r;
}

static void
test_real_replies(void **state)
{
	struct response_rules *builtin = rules("", true);
	struct buf did = { 0 };
	size_t wrong = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
		struct response_reply r = reply_of(i);

		tell(response_rules_find(builtin, &r), &did);
		if (strcmp(buf_span(&did).at, replies[i].did) != 0) {
			print_error("%u %s: \"%s\", and not \"%s\"\n", r.reply.code,
				    replies[i].text, buf_span(&did).at, replies[i].did);
			wrong++;
		}
	}
	buf_free(&did);
	response_rules_free(builtin);
	assert_int_equal(wrong, 0);
}

/*
 * Each rule that is built in has a reply above: nobody finds out otherwise that one can never fit.
 */
static void
test_every_builtin_rule_is_used(void **state)
{
	struct response_rules *builtin = rules("", true);
	size_t lines = 0, used[1000] = { 0 }, unused = 0;
	struct span text = span_str(response_builtin);

	(void)state;
	for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++) {
		struct response_reply r = reply_of(i);
		const struct response_rule *rule = response_rules_find(builtin, &r);

		if (rule != NULL)
			used[rule->number]++;
	}
	while (text.len > 0) {
		struct span line = span_trim(span_cut(&text, '\n'));

		lines++;
		if (line.len > 0 && line.at[0] != '#' && used[lines] == 0) {
			print_error("no reply for line %zu: %.*s\n", lines, SPAN_FMT(line));
			unused++;
		}
	}
	response_rules_free(builtin);
	assert_int_equal(unused, 0);
}

static void
test_own_rules(void **state)
{
	struct response_rules *own =
		rules("# ours\n\nsuspend tenant for 2h\tprovider=big code=421\n"
		      "slow 3 for 1s, next-mx, class other\tsite=*.b.example stage=rcpt /later/\n"
		      "permanent class=greylisted\nsuspend domain for 30d "
		      "host=mx.c.example,*.d.example status=4.*.9\n",
		      true);
	struct response_reply r = { { AT(RCPT), 450, { 4, 7, 1 }, SPAN("Later,\n  please"),
				      SPAN("mx.a.example") }, CLASS_OTHER,
				    SPAN("mx:mx.a.example>mx.b.example:25"), SPAN("") };
	const struct response_rule *rule = response_rules_find(own, &r), *named = NULL;
	size_t i = 0;

	(void)state;
	assert_non_null(rule);
	assert_true(rule->slow == 3 && rule->slow_ms == 1000 && rule->next_mx &&
		    rule->becomes == CLASS_OTHER);
	assert_true(span_eq(rule->name, SPAN("rules:4")));
	r.place = SPAN("static:smtp:[192.0.2.1]:25");
	assert_null(response_rules_find(own, &r));
	r.class = CLASS_GREYLISTED;
	rule = response_rules_find(own, &r);
	assert_true(rule != NULL && rule->fate == FATE_HARDENED);
	r.class = CLASS_OTHER;
	r.reply.code = 421;
	assert_null(response_rules_find(own, &r));
	r.provider = SPAN("big");
	rule = response_rules_find(own, &r);
	assert_true(rule != NULL && rule->suspend == SCOPE_TENANT && rule->suspend_ms == 2 * HOUR);
	r = (struct response_reply){ { AT(DATA), 451, { 4, 1, 9 }, SPAN(""),
				       SPAN("mx1.d.example.") }, CLASS_OTHER, SPAN(""), SPAN("") };
	rule = response_rules_find(own, &r);
	assert_true(rule != NULL && rule->suspend == SCOPE_DOMAIN &&
		    rule->suspend_ms == 720 * HOUR);
	assert_true(response_rules_provider(own, &i, &named) &&
		    span_eq(named->provider, SPAN("big")));
	assert_false(response_rules_provider(own, &i, &named));
	response_rules_free(own);
	assert_null(response_rules_find(NULL, &r));
}

static void
test_bad_rules(void **state)
{
	static const struct { const char *rules, *error;
	} bad[] = {
		{ "\nhalt code=421\n", "rules:2: \"halt\": no such action; write slow" },
		{ "slow code=421\n", "\"code=421\": how much more slowly?" },
		{ "slow 1 for 5m code=421\n", "\"1\": how much more slowly? Write a whole number "
					      "from 2 to 64" },
		{ "slow 65 for 5m code=421\n", "how much more slowly?" },
		{ "slow 2 code=421\n", "how long? write for and a time" },
		{ "slow 2 for 0m code=421\n", "\"0m\": how long?" },
		{ "slow 2 for 31d code=421\n", "\"31d\": how long?" },
		{ "slow 2 for 5 code=421\n", "\"5\": how long?" },
		{ "suspend world for 5m code=421\n",
		  "suspend what? Write site, source, tenant or domain" },
		{ "suspend site code=421\n", "how long?" },
		{ "class spam code=421\n", "\"spam\": no such class" },
		{ "slow 2 for 5m\n", "for which replies?" },
		{ "slow 2 for 5m, code=421\n", "\"code=421\": no such action" },
		{ "slow 2 for 5m next-mx code=421\n", "\"next-mx\": neither code=" },
		{ "slow 2 for 5m next-mx, temporary code=5xx\n",
		  "\"next-mx\": no part of that action" },
		{ "slow 2 for 5m, slow 3 for 1h code=421\n", "a second slow" },
		{ "suspend site for 5m, suspend source for 1h code=421\n", "a second suspend" },
		{ "next-mx, next-mx code=421\n", "a second next-mx" },
		{ "class other, class other code=421\n", "a second class" },
		{ "temporary, permanent code=421\n", "temporary or permanent, once; not both" },
		{ "permanent, next-mx code=421\n", "contradict each other" },
		{ "suspend site for 5m, next-mx code=421\n", "contradict each other" },
		{ "temporary code=4xx\n", "temporary is what a 4xx is" },
		{ "permanent code=550\n", "permanent is what a 5xx is" },
		{ "permanent stage=greeting\n", "what fails before MAIL fails for no message" },
		{ "next-mx stage=connect\n", "the next host is tried anyway" },
		{ "suspend tenant for 1h stage=greeting\n", "it is not known whose mail comes" },
		{ "suspend site for 1h, slow 2 for 30m code=421\n",
		  "slow is over before the suspension is" },
		{ "slow 2 for 5m class=green\n", "no such class" },
		{ "slow 2 for 5m class=other class=other\n", "a second class=" },
		{ "slow 2 for 5m site=a..b\n", "a site is told by one of its hosts" },
		{ "slow 2 for 5m provider=\n", "which provider?" },
		{ "slow 2 for 5m host=a.example,,\n", "a host is a name" },
		{ "slow 2 for 5m code=4xx status=5.7.1\n",
		  "no reply has such a code and such a status" },
		{ "slow 2 for 5m /(x/\n", "\"/(x/\": missing closing parenthesis" },
		{ "next-mx code=421 /x/\n#\nslow 2 for 5m code=421 /x/\n",
		  "rules:3: \"/x/\": line 1 is for the same replies; remove one" },
		{ "slow 2 for 5m code=4xx\nsuspend site for 1h code=421 host=mx.a.example /x/\n",
		  "rules:2: \"/x/\": line 1 fits all of these replies, and counts; put this before "
		  "it" },
	};
	struct buf errors = { 0 }, list = { 0 };
	struct response_rules *r = NULL;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		buf_clear(&errors);
		assert_int_equal(response_rules_parse(SPAN("rules"), span_str(bad[i].rules), true,
						      &errors, &r),
				 -EINVAL);
		buf_byte(&errors, '\0');
		if (strstr(buf_span(&errors).at, bad[i].error) == NULL)
			fail_msg("%s: %s, and not %s", bad[i].rules, buf_span(&errors).at,
				 bad[i].error);
	}
	buf_clear(&errors);
	for (int i = 0; i < 501; i++)
		buf_printf(&list, "slow 2 for 5m /x%d/\n", i);
	assert_int_equal(response_rules_parse(SPAN("rules"), buf_span(&list), true, &errors, &r),
			 -EINVAL);
	buf_free(&list);
	buf_free(&errors);
}

/*
 * A text that makes an expression backtrack for ever: it is given up, and the rules behind it have
 * their turn.
 */
static void
test_patterns_that_blow_up(void **state)
{
	struct response_rules *own =
		rules("suspend site for 1h /^(a+)+$/\nslow 2 for 1h /d/\n", false);
	struct response_reply r = { { AT(RCPT), 450, { 0 }, { 0 }, SPAN("") }, CLASS_OTHER,
				    SPAN(""), SPAN("") };
	char text[4000];

	(void)state;
	memset(text, 'a', sizeof(text));
	text[400] = 'd';
	r.reply.text = span_of(text, sizeof(text));
	assert_int_equal(response_rules_find(own, &r)->slow, 2);
	response_rules_free(own);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_real_replies),
		cmocka_unit_test(test_every_builtin_rule_is_used),
		cmocka_unit_test(test_own_rules),
		cmocka_unit_test(test_bad_rules),
		cmocka_unit_test(test_patterns_that_blow_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
