/*
 * route: recipient domain → route name → what the name says now. Pure.
 *
 * A recipient is judged once, at RCPT: its lane keeps the route's *name*. What that name says is
 * read at each attempt, so that a reload re-routes what waits. The most specific pattern wins:
 * "example.org" before "*.example.org" (any depth below) before "*.org" before "*".
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
};

struct deliver_host {
	struct span name;		/* host name, or empty if address is set */
	struct netaddr address;		/* family 0: look the name up */
	uint16_t port;
	bool use_mx;			/* written without brackets: the MX of name is meant */
	bool tls_on_connect;		/* smtps: TLS before the greeting */
};

struct route {
	struct span name;		/* the pattern, lower case: also the lane's route name */
	enum deliver_kind kind;
	struct deliver_host host;	/* DELIVER_SMTP */
	struct span site_key;		/* DELIVER_SMTP: "static:" and the text */
	struct span reject_text;	/* DELIVER_REJECT: "550 5.1.1 text" */
	struct reply reject;		/* DELIVER_REJECT: the same, as a value */
	uint16_t mx_port;		/* DELIVER_MX: 25 unless the route says otherwise */
	enum route_tls tls;
	struct span *tls_names;		/* a certificate must have one; none: the host's own name */
	size_t tls_name_count;
	/* to log in with, at a smarthost; user empty: nobody */
	struct span user, password;
	const char *password_file, *token_file;
	struct span *mechanisms;	/* as written; none: all that are safe enough */
	size_t mechanism_count;
	bool auth_unverified;		/* whoever the host is */
	size_t connections;		/* per site; 0: the limit of all */
	size_t messages_per_connection;	/* 0: the limit of all */
	int line;			/* in the configuration file */
};

struct routes {
	struct route *routes;		/* by name: routes_sort() */
	size_t count;
};

/* Once, after the last route has been added: the look-ups below rely on it. */
void routes_sort(struct routes *routes);

/*
 * NULL: nothing matches (there is no "*"). Domain in lower case, in A-labels or U-labels; a
 * literal matches "*" only, or itself.
 */
const struct route *route_find(const struct routes *routes, struct span domain);
const struct route *route_by_name(const struct routes *routes, struct span name);

/*
 * "smtps:…" is like "smtp:…", on port 465 and with TLS before the greeting;
 * "mx", "mx:2525", "smtp:[127.0.0.1]:2525", "smtp:[::1]:25", "smtp:[host.name]:587" (its
 * addresses; without brackets: its MX), "discard", "reject:550 5.1.1 text". Without a port: 25.
 * Sets kind, host, site_key, reject and mx_port. False: *error says what is wrong and what would
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
