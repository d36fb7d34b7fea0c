/*
 * route: recipient domain, sender and user → route name → what the name says now. Pure.
 *
 * A recipient is judged once, at RCPT: its lane keeps the route's *name*. What that name says is
 * read at each attempt, so that a reload re-routes what waits. The most specific pattern wins:
 * "example.org" before "*.example.org" (any depth below) before "*.org" before "*". Of several
 * routes with one pattern: one that names the user before one that does not; then one that names
 * the sender's address, its domain, what its domain is below of (the closest first), any. If none
 * of them fits, the next pattern is looked at.
 *
 * A lane keeps a *label*: the route's name, how the message asks to be carried, and, where the
 * choice hung on more than the domain, a mark of all the routes that it was made from:
 *
 *	"*", "* sender=example.org @0123456789abcdef", "* requiretls", "* tls-required=no"
 *
 * As long as the mark is what the configuration says, nothing in the lane need be judged again.
 */
#ifndef TRAM_POLICY_ROUTE_H
#define TRAM_POLICY_ROUTE_H

#include "mta/base/arena.h"
#include "mta/base/netaddr.h"
#include "mta/base/reply.h"
#include "mta/base/span.h"

enum deliver_kind { DELIVER_MX, DELIVER_SMTP, DELIVER_DISCARD, DELIVER_REJECT };

/* How safely a route's mail must travel. */
enum route_tls {
	ROUTE_TLS_AUTO,			/* not said: as the other side offers */
	ROUTE_TLS_OFF,
	ROUTE_TLS_MAY,			/* TLS if it works, plain text if not */
	ROUTE_TLS_REQUIRED,		/* TLS with anybody */
	ROUTE_TLS_VERIFY,		/* TLS with the host whose name it is */
	ROUTE_TLS_DANE,			/* as AUTO, and only once the resolver validates DNSSEC */
	ROUTE_TLS_MTA_STS,		/* only by an MTA-STS policy */
};

struct deliver_host {
	struct span name;		/* host name, or empty if address is set */
	struct netaddr address;		/* family 0: look the name up */
	uint16_t port;
	bool use_mx;			/* written without brackets: the MX of name is meant */
	bool tls_on_connect;		/* smtps: TLS before the greeting */
	struct span text;		/* as it was written */
};

enum { ROUTE_HOSTS_MAX = 16 };

struct route {
	/* the pattern, and what it asks of the sender and the user: see route_set_name() */
	struct span name;
	struct span pattern;		/* of the recipient's domain, lower case */
	struct span *senders;		/* none: any. "<>", "a@b", "b", "*.b", "*" */
	size_t sender_count;
	struct span *users;		/* none: any, and nobody */
	size_t user_count;
	uint64_t mark;			/* of the name: by routes_sort() */
	enum deliver_kind kind;
	struct deliver_host *hosts;	/* DELIVER_SMTP: in the order they are tried */
	size_t host_count;
	struct span site_key;		/* DELIVER_SMTP: "static:" and the text, without blanks */
	struct span reject_text;	/* DELIVER_REJECT: "550 5.1.1 text" */
	struct reply reject;		/* DELIVER_REJECT: the same, as a value */
	uint16_t mx_port;		/* DELIVER_MX: 25 unless the route says otherwise */
	enum route_tls tls;
	struct span *tls_names;		/* a certificate must have one; none: the host's own name */
	size_t tls_name_count;
	/* to log in with, at a smarthost; user empty: nobody */
	struct span user, password;
	const char *password_file, *token_file;	/* one of the three, if there is a user */
	struct span *token_command;	/* its words; NUL behind each */
	size_t token_command_count;
	int64_t token_lifetime_ms;	/* of a token that does not say */
	struct span *mechanisms;	/* as written; none: all that are safe enough */
	size_t mechanism_count;
	bool auth_unverified;		/* whoever the host is */
	struct span pool;		/* of sources; empty: chosen otherwise */
	size_t connections;		/* per site; 0: the limit of all */
	size_t messages_per_connection;	/* 0: the limit of all */
	int line;			/* in the configuration file */
};

struct routes {
	struct route *routes;		/* by pattern: routes_sort() */
	size_t count;
	bool conditional;		/* some ask who sends: routes_sort() */
};

/*
 * Do its hosts stand in the configuration, and are tried in their order? Else they are the MX of a
 * domain, which is asked for once for all that goes there. Who logs in must know for which domain.
 */
static inline bool
route_is_static(const struct route *route)
{
	return route->kind == DELIVER_SMTP &&
	       (route->host_count > 1 || !route->hosts[0].use_mx || route->user.len > 0);
}

/* How a message asks to be carried (RFC 8689). */
enum route_wish {
	WISH_NONE,
	WISH_REQUIRETLS,		/* MAIL had REQUIRETLS */
	WISH_TLS_OPTIONAL,		/* the header has TLS-Required: No */
};

struct route_facts {
	struct span domain;		/* the recipient's */
	struct span sender;		/* as address_text() gives it; empty: the null path */
	struct span user;		/* who logged in; empty: nobody */
};

/* Once, after the last route has been added: the look-ups below rely on it. */
void routes_sort(struct routes *routes);

/* From pattern, senders and users, which are there already. */
void route_set_name(struct route *route, struct arena *arena);
/* Would there be messages for which nothing says which of the two comes first? */
bool route_is_ambiguous(const struct route *a, const struct route *b);

/*
 * NULL: nothing matches (there is no "*"). Domain in lower case, in A-labels or U-labels; a
 * literal matches "*" only, or itself.
 */
const struct route *route_choose(const struct routes *routes, const struct route_facts *facts);
/* Why one with a pattern that fits is, or is not, for these: by whom it asks for. */
struct route_fit {
	bool fits;
	bool other_user, other_sender;		/* it does not fit, for that */
	/* what fitted of those that it names; empty: it names none */
	struct span user, sender;
};
struct route_fit route_fit(const struct route *route, const struct route_facts *facts);
/* The same for any sender: routes that ask who sends do not count. */
const struct route *route_find(const struct routes *routes, struct span domain);

/* route: as chosen from these facts; NULL: there is none. In the arena: it outlives the routes. */
struct span route_label(const struct routes *routes, struct span domain, const struct route *route,
			enum route_wish wish, struct arena *arena);
/* Was it chosen from the routes that are there now? Else each message must be judged again. */
bool route_label_holds(const struct routes *routes, struct span domain, struct span label);
/* NULL: there is no such route (any more) that could lead to this domain. */
const struct route *route_labelled(const struct routes *routes, struct span domain,
				   struct span label);
enum route_wish route_label_wish(struct span label);
struct span route_label_with(struct span label, enum route_wish wish, struct arena *arena);
struct span route_label_text(struct span label);	/* without the mark: for people */

/*
 * The routes of the most specific patterns that domain has, down to the first one that any sender
 * may take: `each` for one after the other, until it says false. For route_choice.c.
 */
void routes_each(const struct routes *routes, struct span domain,
		 bool (*each)(void *arg, const struct route *routes, size_t count), void *arg);
/* "<>", "a@b.example", or as domain_pattern_read(). */
bool sender_pattern_read(struct span text, struct arena *arena, struct span *ret);
/* 0: it does not fit this sender (empty: the null path); else the more specific the higher. */
int sender_pattern_rank(struct span pattern, struct span sender);

/*
 * "smtps:…" is like "smtp:…", on port 465 and with TLS before the greeting;
 * "mx", "mx:2525", "smtp:[127.0.0.1]:2525", "smtp:[::1]:25", "smtp:[host.name]:587" (its
 * addresses; without brackets: its MX), "discard", "reject:550 5.1.1 text". Without a port: 25.
 * Several hosts, to be tried in their order, have commas between them: "smtp:[a]:587, smtp:b".
 * Sets kind, hosts, site_key, reject and mx_port. False: *error says what is wrong and what would
 * be right.
 */
bool route_parse_deliver(struct span text, struct arena *arena, struct route *ret,
			 const char **error);

/*
 * "example.org", "*.example.org", "*", as people write it → lower case, A-labels, in the arena:
 * the form that patterns and names of routes have. False: it is no pattern.
 */
bool domain_pattern_read(struct span text, struct arena *arena, struct span *ret);
bool domain_pattern_matches(struct span pattern, struct span domain);

#endif
