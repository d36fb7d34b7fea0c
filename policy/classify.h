/*
 * classify: what a reply means: its class, by rules, then by its enhanced code (RFC 3463 and the
 * registry of RFC 5248), then by its basic code and the stage it came at. Pure; any thread.
 *
 * The names are those of PowerMTA's bounce categories, where it has one, and KumoMTA's for the
 * rest; the manual lists them side by side. The class of a reply is told, counted and may keep an
 * address from being tried again (the list of suppressed addresses); it never decides whether a
 * failure is for good or not: that is the code's first digit.
 *
 * Rules are text, one a line; contrib/examples/classify.rules says how they are written, and is
 * what is built in.
 */
#ifndef TRAM_POLICY_CLASSIFY_H
#define TRAM_POLICY_CLASSIFY_H

#include "mta/base/reply.h"

enum reply_class {
	CLASS_OTHER = 0,
	CLASS_BAD_MAILBOX, CLASS_BAD_DOMAIN, CLASS_INACTIVE_MAILBOX, CLASS_QUOTA_ISSUES,
	CLASS_POLICY_RELATED, CLASS_SPAM_BLOCK, CLASS_SPAM_CONTENT, CLASS_CONTENT_RELATED,
	CLASS_VIRUS_RELATED, CLASS_TOO_BIG, CLASS_AUTHENTICATION_FAILED, CLASS_RELAYING_ISSUES,
	CLASS_INVALID_SENDER, CLASS_BAD_CONFIGURATION, CLASS_GREYLISTED, CLASS_RATE_LIMITED,
	CLASS_TLS_FAILURE, CLASS_ROUTING_ERRORS, CLASS_DNS_FAILURE, CLASS_NO_ANSWER,
	CLASS_BAD_CONNECTION, CLASS_PROTOCOL_ERRORS, CLASS_MESSAGE_EXPIRED, CLASS_TRANSIENT_FAILURE,
	CLASS_COMPLAINT,		/* no reply: what comes back of itself (RFC 5965) */
	REPLY_CLASSES
};

const char *reply_class_name(enum reply_class class);
bool reply_class_find(struct span name, enum reply_class *ret);

enum classify_stage {
	CLASSIFY_CONNECT, CLASSIFY_GREETING, CLASSIFY_TLS, CLASSIFY_AUTH, CLASSIFY_MAIL,
	CLASSIFY_RCPT, CLASSIFY_DATA,
	CLASSIFY_STAGES
};

struct classify_reply {
	enum classify_stage stage;
	uint16_t code;			/* 0: none came; the text is ours */
	struct status status;
	struct span text;
	struct span host;		/* who said it; may be empty */
};

enum {
	CLASSIFY_FILE_MAX = 1 << 20,	/* octets */
	CLASSIFY_RULES_MAX = 500,	/* of a file */
	CLASSIFY_TROUBLE_MAX = 3,
};

struct classifier;

/*
 * Rules of a file, and behind them those that are built in. 0, or -EINVAL, and errors gets lines
 * "NAME:LINE: what is wrong".
 */
int classifier_parse(struct span name, struct span content, struct buf *errors,
		     struct classifier **ret);
void classifier_free(struct classifier *classifier);		/* NULL is fine */

/*
 * classifier NULL: by the codes alone. What it costs is bounded, whatever the text: see pattern.h;
 * and after CLASSIFY_TROUBLE_MAX patterns that were given up the codes decide.
 */
enum reply_class classify(const struct classifier *classifier, const struct classify_reply *reply);

extern const char classify_builtin[];		/* the rules that are built in, as text */

#endif
