/*
 * response_rules: what a server's reply makes us do: send to it more slowly, not at all for a
 * while, try another of its hosts, or take its word for more or less final than it is. Pure; any
 * thread.
 *
 * Rules are text, one a line, the first that fits counts; contrib/examples/response.rules says how
 * they are written, and is what is built in.
 */
#ifndef TRAM_POLICY_RESPONSE_RULES_H
#define TRAM_POLICY_RESPONSE_RULES_H

#include "policy/reply_match.h"

enum {
	RESPONSE_FILE_MAX = 1 << 20,	/* octets */
	RESPONSE_RULES_MAX = 500,	/* of a file */
	RESPONSE_FACTOR_MAX = 64,
};

enum response_scope {
	SCOPE_NONE,
	SCOPE_SITE,			/* all mail to the site, or to its provider */
	SCOPE_SOURCE,			/* … from this source address */
	SCOPE_TENANT,			/* … of this tenant */
	SCOPE_DOMAIN,			/* mail to the recipient's domain */
};
const char *response_scope_name(enum response_scope scope);

enum response_fate { FATE_AS_SAID, FATE_SOFTENED, FATE_HARDENED };	/* temporary, permanent */

struct response_rule {
	struct span name;		/* "FILE:LINE" */
	struct span line;		/* its conditions as written */
	struct reply_match match;
	struct span site;		/* a list of hosts, of which the site has one; empty: any */
	struct span provider;		/* empty: any */
	enum reply_class class;		/* REPLY_CLASSES: any */
	/* what follows */
	uint32_t slow;			/* factor; 0: none */
	int64_t slow_ms;
	enum response_scope suspend;
	int64_t suspend_ms;
	bool next_mx;
	enum response_fate fate;
	enum reply_class becomes;	/* REPLY_CLASSES: as it is */
	size_t number;
};

struct response_rules;

/*
 * Rules of a file (empty: none), and behind them those that are built in, if wanted. 0, or -EINVAL,
 * and errors gets lines "NAME:LINE: what is wrong".
 */
int response_rules_parse(struct span name, struct span content, bool builtin, struct buf *errors,
			 struct response_rules **ret);
void response_rules_free(struct response_rules *rules);		/* NULL is fine */

struct response_reply {
	struct classify_reply reply;
	enum reply_class class;
	struct span place;		/* the site's: site_key_place() */
	struct span provider;		/* the site's; empty: none */
};

/*
 * The rule for it, or NULL; rules NULL: there are none. What it costs is bounded (pattern.h); after
 * CLASSIFY_TROUBLE_MAX patterns that were given up there is no rule for it.
 */
const struct response_rule *response_rules_find(const struct response_rules *rules,
						const struct response_reply *reply);

/* has any of them next-mx? NULL: no */
bool response_rules_move(const struct response_rules *rules);
/*
 * Names that provider= has, to be held against those there are: one after the other; false: no
 * more.
 */
bool response_rules_provider(const struct response_rules *rules, size_t *i,
			     const struct response_rule **ret);

extern const char response_builtin[];		/* the rules that are built in, as text */

#endif
