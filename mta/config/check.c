/*
 * check: what each directive alone cannot show: contradictions, loops, an open relay. An
 * error names the fix; a warning is for what may be meant so.
 */
#include <errno.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "dns/channel.h"
#include "mta/auth/sasl.h"
#include "mta/config/private.h"
#include "policy/site_key.h"

enum { OTHER_DESCRIPTORS = 64 }; /* store, log, sockets of control, resolver, epoll … */

/* Where the first of these words is written at the top, or the file's first line. */
static struct place
top_place(const struct load *load, const char *name)
{
	const char *const names[] = { name, NULL };
	struct place at = { load->config->path, 1 };

	config_place(load, names, SECTION_TOP, 0, &at);
	return at;
}

static struct place
pair_place(const struct load *load, enum section_kind kind, const char *a, const char *b)
{
	const char *const names[] = { a, b, NULL };
	struct place at = { load->config->path, 1 };

	config_place(load, names, kind, 0, &at);
	return at;
}

static struct place
route_place(const struct load *load, const struct route *route)
{
	for (size_t i = 0; i < load->section_count; i++)
		if (load->sections[i].kind == SECTION_ROUTE &&
		    span_eq(load->sections[i].name, route->pattern) &&
		    load->sections[i].at.line == route->line)
			return load->sections[i].at;
	return (struct place){ load->config->path, route->line };
}

/* ---- times, sizes and paths --------------------------------------------------------------- */

static bool
check_times(struct load *load)
{
	const struct schedule_config *s = &load->config->queue.schedule;
	const struct {
		const char *less, *more;
		int64_t small, large;
		const char *fix;
	} pairs[] = {
		{ "retry-first", "retry-max", s->retry_first_ms, s->retry_max_ms,
		  "raise retry-max" },
		{ "probe-first", "probe-max", s->probe_first_ms, s->probe_max_ms,
		  "raise probe-max" },
		{ "delay-warning", "lifetime", s->delay_warning_ms, s->lifetime_ms,
		  "lower delay-warning (0: no warning)" },
		{ "retry-first", "lifetime", s->retry_first_ms, s->lifetime_ms, "raise lifetime" },
	};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		struct span small = units_time_text(pairs[i].small, &load->config->arena);
		struct span large = units_time_text(pairs[i].large, &load->config->arena);

		if (pairs[i].small > pairs[i].large)
			return config_fail(
			    load, pair_place(load, SECTION_QUEUE, pairs[i].less, pairs[i].more),
			    "%s (%.*s) is longer than %s (%.*s); %s", pairs[i].less,
			    SPAN_FMT(small), pairs[i].more, SPAN_FMT(large), pairs[i].fix);
	}
	return true;
}

static bool
check_sizes(struct load *load)
{
	struct config *config = load->config;
	struct span max = units_size_text((int64_t)config->queue.max_size, &config->arena);

	if (config->queue.map_size < config->queue.max_size)
		return config_fail(load, pair_place(load, SECTION_QUEUE, "map-size", "max-size"),
				   "map-size is smaller than max-size (%.*s); raise map-size (it "
				   "costs address space only)",
				   SPAN_FMT(max));
	if (config->limits.message_size > config->queue.max_size)
		return config_fail(
		    load, pair_place(load, SECTION_LIMITS, "message-size", "message-size"),
		    "message-size is larger than the whole queue may be (max-size, %.*s); lower it",
		    SPAN_FMT(max));
	for (size_t i = 0; i < config->listener_count; i++) {
		const struct section *section = config_section(load, SECTION_LISTENER, i);

		if (config->listeners[i].smtp.max_message_size > config->queue.max_size)
			return config_fail(load, section->at,
					   "message-size of listener %.*s is larger than the whole "
					   "queue may be (max-size, %.*s); lower it",
					   SPAN_FMT(section->name), SPAN_FMT(max));
	}
	return true;
}

static bool
check_socket(struct load *load, const char *name, const char *path)
{
	size_t most = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;

	if (path == NULL || strlen(path) <= most)
		return true;
	return config_fail(load, top_place(load, name),
			   "%s = \"%s\": a socket's path has at most %zu characters; shorten it",
			   name, path, most);
}

static bool
check_sockets(struct load *load)
{
	const struct config *config = load->config;

	if (config->submission_socket != NULL &&
	    span_eq(span_str(config->control), span_str(config->submission_socket)))
		return config_fail(
		    load, top_place(load, "submission-socket"),
		    "submission-socket and control are the same path; they must differ");
	return check_socket(load, "control", config->control) &&
	       check_socket(load, "submission-socket", config->submission_socket);
}

/* ---- listeners ---------------------------------------------------------------------------- */

static bool
is_any(const struct netaddr *a)
{
	static const uint8_t zero[16];

	return memcmp(a->ip, zero, sizeof(zero)) == 0;
}

/* Would binding both fail? A listener on [::] is for IPv6 alone. Port 0 is any free port. */
static bool
overlap(const struct netaddr *a, const struct netaddr *b)
{
	return a->family == b->family && a->port == b->port && a->port != 0 &&
	       (is_any(a) || is_any(b) || netaddr_same_ip(a, b));
}

static bool
check_address(struct load *load, size_t listener, size_t address)
{
	const struct config *config = load->config;
	const struct netaddr *mine = &config->listeners[listener].addresses[address];
	const struct section *section = config_section(load, SECTION_LISTENER, listener);
	char text[NETADDR_TEXT_MAX];

	for (size_t i = 0; i <= listener; i++)
		for (size_t j = 0;
		     j < (i == listener ? address : config->listeners[i].address_count); j++)
			if (overlap(&config->listeners[i].addresses[j], mine))
				return config_fail(load, section->at,
						   "listener %.*s: address %s is taken by listener "
						   "%.*s already; remove one",
						   SPAN_FMT(section->name),
						   netaddr_format_port(mine, text),
						   SPAN_FMT(config->listeners[i].name));
	return true;
}

static bool
check_listeners(struct load *load)
{
	const struct config *config = load->config;
	struct place whole = { config->path, 1 };

	if (config->listener_count == 0 && config->submission_socket == NULL)
		return config_fail(load, whole,
				   "there is no listener, so no mail can come in; add: "
				   "listener smtp { address = \"127.0.0.1:25\" }");
	for (size_t i = 0; i < config->listener_count; i++) {
		if (config->listeners[i].address_count == 0)
			return config_fail(load, config_section(load, SECTION_LISTENER, i)->at,
					   "listener %.*s has no address; add: address = "
					   "{\"0.0.0.0:25\", \"[::]:25\"}",
					   SPAN_FMT(config->listeners[i].name));
		for (size_t j = 0; j < config->listeners[i].address_count; j++)
			if (!check_address(load, i, j))
				return false;
	}
	return true;
}

/* ---- who may relay ------------------------------------------------------------------------ */

/*
 * First and last address are private, and no wider than the widest private network (so none
 * between is public).
 */
static bool
is_private(const struct network *network)
{
	struct netaddr last = network->base;
	unsigned len = network->base.family == AF_INET ? 32 : 128;

	for (unsigned bit = network->bits; bit < len; bit++)
		last.ip[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
	return network->bits >= (len == 32 ? 8 : 7) && netaddr_is_private(&network->base) &&
	       netaddr_is_private(&last);
}

static bool
check_relay_from(struct load *load)
{
	const struct access_rules *access = &load->config->access;

	for (size_t i = 0; i < access->relay_from_count; i++) {
		const struct network *network = &access->relay_from[i];
		unsigned least = network->base.family == AF_INET ? 16 : 32;
		char text[NETADDR_TEXT_MAX];

		if (network->bits >= least || is_private(network))
			continue;
		return config_fail(load, top_place(load, "relay-from"),
				   "relay-from has %s/%u: strangers could send to anywhere (an "
				   "open relay); name your own networks, "
				   "public ones of at least /%u",
				   netaddr_format(&network->base, text), network->bits, least);
	}
	return true;
}

static bool
check_relay_to(struct load *load)
{
	const struct access_rules *access = &load->config->access;
	struct place at = top_place(load, "relay-to");

	for (size_t i = 0; i < access->relay_to_count; i++) {
		struct span domain = access->relay_to[i];
		const struct route *route = route_find(&access->routes, domain);

		if (span_eq(domain, SPAN("*")))
			return config_fail(load, at,
					   "relay-to has \"*\": strangers could send to anywhere "
					   "(an open relay); name the "
					   "domains you accept mail for");
		if (route == NULL || route->kind == DELIVER_REJECT)
			return config_fail(
				load, at,
				"relay-to has %.*s, but no route leads there for any sender; add: "
				"route \"%.*s\" { deliver = \"smtp:[HOST]:25\" }",
				SPAN_FMT(domain), SPAN_FMT(domain));
		if (span_starts(domain, SPAN("*.")) && span_find(span_skip(domain, 2), '.') == NULL)
			config_warn(load, at,
				    "relay-to has %.*s: mail for a whole top-level domain is "
				    "accepted from anyone",
				    SPAN_FMT(domain));
	}
	return true;
}

static bool
check_postmaster(struct load *load)
{
	const struct access_rules *access = &load->config->access;
	struct place at = top_place(load, "postmaster");
	struct span domain = address_domain_of(access->postmaster);
	const struct route *route = route_find(&access->routes, domain);

	if (access->postmaster.len == 0) {
		if (load->config->listener_count > 0 && access->relay_to_count > 0)
			config_warn(load, at,
				    "mail for postmaster is refused, though every server must take "
				    "it (RFC 5321); set "
				    "postmaster = \"you@example.org\"");
		return true;
	}
	if (route == NULL || route->kind == DELIVER_REJECT)
		return config_fail(load, at,
				   "postmaster = \"%.*s\": no route leads there; add one for %.*s",
				   SPAN_FMT(access->postmaster), SPAN_FMT(domain));
	return true;
}

/* ---- routes ------------------------------------------------------------------------------- */

/*
 * Does one of our sockets answer at that address? A listener on all addresses has those of every
 * interface.
 */
static bool
is_own_address(const struct config *config, const struct netaddr *to,
	       const struct ifaddrs *interfaces)
{
	bool ours = netaddr_is_loopback(to) || is_any(to);

	for (const struct ifaddrs *i = interfaces; i != NULL && !ours; i = i->ifa_next) {
		struct netaddr address;

		ours = i->ifa_addr != NULL && netaddr_from_sockaddr(i->ifa_addr, &address) &&
		       netaddr_same_ip(&address, to);
	}
	for (size_t i = 0; i < config->listener_count; i++) {
		for (size_t j = 0; j < config->listeners[i].address_count; j++) {
			const struct netaddr *a = &config->listeners[i].addresses[j];

			if (a->family == to->family && a->port == to->port &&
			    (netaddr_same_ip(a, to) || (ours && (is_any(a) || is_any(to)))))
				return true;
		}
	}
	return false;
}

static bool
is_own_name(const struct config *config, const struct deliver_host *host)
{
	bool ours = false;

	for (size_t i = 0; i < config->own_name_count; i++)
		ours = ours || span_eq(config->own_names[i], host->name);
	for (size_t i = 0; ours && !host->use_mx && i < config->listener_count; i++)
		for (size_t j = 0; j < config->listeners[i].address_count; j++)
			if (config->listeners[i].addresses[j].port == host->port)
				return true;
	return false;
}

/* Only what is not there at all: who looks (tramctl, too) need not be who will run it. */
static bool
check_token_command(struct load *load, const struct route *route, struct place at)
{
	struct config *config = load->config;
	struct span timeout = units_time_text(config->limits.token_timeout_ms, &config->arena);
	const char *program = route->token_command[0].at;
	struct stat there;

	if (stat(program, &there) < 0 && (errno == ENOENT || errno == ENOTDIR))
		return config_fail(
			load, at,
			"route \"%.*s\": token-command: there is no %s; name the program with "
			"its whole path, and each argument in quotes of its own: "
			"{\"/usr/bin/program\", \"argument\"}",
			SPAN_FMT(route->name), program);
	if (stat(program, &there) == 0 && (!S_ISREG(there.st_mode) || (there.st_mode & 0111) == 0))
		return config_fail(
			load, at,
			"route \"%.*s\": token-command: %s is not a program; chmod 0755, or "
			"name another",
			SPAN_FMT(route->name), program);
	if (config->limits.token_timeout_ms >= config->limits.auth_timeout_ms)
		return config_fail(
			load, pair_place(load, SECTION_LIMITS, "token-timeout", "auth-timeout"),
			"token-timeout (%.*s) must be shorter than auth-timeout, for the login "
			"waits for the token; lower it",
			SPAN_FMT(timeout));
	return true;
}

/* Credentials go to a host that has shown who it is, or somebody has said that it need not. */
static bool
check_route_user(struct load *load, const struct route *route, struct place at)
{
	if (route->kind != DELIVER_SMTP)
		return config_fail(load, at,
				   "route \"%.*s\": a user logs in at a smarthost; write deliver = "
				   "\"smtp:[relay.example.net]:587\"", SPAN_FMT(route->name));
	if ((route->password_file != NULL) + (route->token_file != NULL) +
		    (route->token_command_count > 0) != 1)
		return config_fail(
			load, at,
			"route \"%.*s\": name the file of the user's password "
			"(password-file) or of an access token (token-file), or the command "
			"that prints one (token-command), one of the three",
			SPAN_FMT(route->name));
	if (route->token_command_count > 0 && !check_token_command(load, route, at))
		return false;
	if (route->tls != ROUTE_TLS_VERIFY && !route->auth_unverified)
		return config_fail(load, at,
				   "route \"%.*s\": the password would go to a host that has not "
				   "shown who it is; set tls = verify (or, where you know better, "
				   "auth-unverified = yes)", SPAN_FMT(route->name));
	for (size_t i = 0; i < route->mechanism_count; i++) {
		enum sasl_mechanism mechanism;

		if (!sasl_find(route->mechanisms[i], &mechanism))
			return config_fail(
				load, at,
				"auth-mechanisms: %.*s is not known; known are PLAIN, "
				"LOGIN, SCRAM-SHA-256, SCRAM-SHA-256-PLUS, OAUTHBEARER and "
				"XOAUTH2",
				SPAN_FMT(route->mechanisms[i]));
	}
	return true;
}

static bool
check_host_tls(struct load *load, const struct route *route, const struct deliver_host *host,
	       struct place at)
{
	if (host->tls_on_connect && (route->tls == ROUTE_TLS_OFF || route->tls == ROUTE_TLS_MAY))
		return config_fail(
			load, at,
			"route \"%.*s\": smtps has no plain text to fall back to; remove "
			"tls, or set tls = required or verify",
			SPAN_FMT(route->name));
	if (route->tls == ROUTE_TLS_VERIFY && host->address.family != 0 &&
	    route->tls_name_count == 0)
		return config_fail(
			load, at,
			"route \"%.*s\": an address has no name that a certificate could "
			"be checked for; name the host, or set tls-names",
			SPAN_FMT(route->name));
	return true;
}

/* What it asks for must be possible. */
static bool
check_route_tls(struct load *load, const struct route *route, struct place at)
{
	if (route->user.len > 0 && !check_route_user(load, route, at))
		return false;
	if (route->user.len == 0 && (route->password_file != NULL || route->token_file != NULL ||
				     route->token_command_count > 0))
		return config_fail(
			load, at,
			"route \"%.*s\": a password or a token needs its user; add: user = "
			"\"name\"",
			SPAN_FMT(route->name));
	for (size_t i = 0; i < route->host_count; i++)
		if (!check_host_tls(load, route, &route->hosts[i], at))
			return false;
	if (route->tls == ROUTE_TLS_DANE && load->config->resolver_test_count == 0)
		return config_fail(load, at,
				   "route \"%.*s\": tls = dane needs a resolver that shows that it "
				   "validates DNSSEC; remove resolver-test = \"off\"",
				   SPAN_FMT(route->name));
	if (route->tls == ROUTE_TLS_MTA_STS && route_is_static(route))
		return config_fail(
			load, at,
			"route \"%.*s\": an MTA-STS policy is about MX hosts, and this "
			"names its host; set tls = verify, or deliver to the MX of a domain",
			SPAN_FMT(route->name));
	if (route->tls == ROUTE_TLS_MTA_STS && !load->config->mta_sts)
		return config_fail(
			load, at,
			"route \"%.*s\": tls = mta-sts needs policies; remove mta-sts = no",
			SPAN_FMT(route->name));
	if (route->tls_name_count > 0 && route->tls != ROUTE_TLS_VERIFY)
		return config_fail(
			load, at,
			"route \"%.*s\": tls-names are looked at only with tls = verify; "
			"set it, or remove them",
			SPAN_FMT(route->name));
	return true;
}

static bool
anybody_logs_in(const struct config *config)
{
	for (size_t i = 0; i < config->listener_count; i++)
		if (config->listeners[i].auth != LISTENER_AUTH_OFF)
			return true;
	return false;
}

static bool
check_route(struct load *load, const struct route *route, const struct ifaddrs *interfaces)
{
	const struct config *config = load->config;
	struct place at = route_place(load, route);

	if (route->user_count > 0 && !anybody_logs_in(config))
		return config_fail(
			load, at,
			"route \"%.*s\": nobody can log in, so sender-user fits nothing; "
			"set auth in a listener",
			SPAN_FMT(route->pattern));
	if (route->kind == DELIVER_MX && route->mx_port == 0)
		return config_fail(load, at, "route \"%.*s\" leads nowhere; add: deliver = \"mx\"",
				   SPAN_FMT(route->name));
	for (size_t i = 0; i < route->host_count; i++) {
		const struct deliver_host *host = &route->hosts[i];

		if (host->address.family != 0 ? is_own_address(config, &host->address, interfaces) :
						is_own_name(config, host))
			return config_fail(load, at,
					   "route \"%.*s\": %.*s is a listener of this server (a "
					   "loop); name another host or port",
					   SPAN_FMT(route->name), SPAN_FMT(host->text));
	}
	return check_route_tls(load, route, at);
}

/* Two that stand for the same messages: with the same condition, or each with a part of one. */
static bool
check_route_twice(struct load *load, size_t n)
{
	const struct route *all = load->config->access.routes.routes, *route = &all[n];

	for (size_t i = n; i-- > 0 && span_eq(all[i].pattern, route->pattern);) {
		const struct route *first = all[i].line < route->line ? &all[i] : route;
		const struct route *second = first == route ? &all[i] : route;

		if (!route_is_ambiguous(first, second) && !span_eq(first->name, second->name))
			continue;
		return config_fail(load, route_place(load, second),
				   "route \"%.*s\" is there twice (also in line %d)%s; remove one",
				   SPAN_FMT(route->pattern), first->line,
				   first->sender_count + first->user_count == 0 ?
					   "" :
					   " for the same sender and sender-user");
	}
	return true;
}

static bool
check_routes(struct load *load)
{
	const struct routes *routes = &load->config->access.routes;
	struct place whole = { load->config->path, 1 };
	struct ifaddrs *interfaces = NULL;
	bool good = true;

	if (routes->count == 0)
		return config_fail(load, whole,
				   "there is no route, so no mail can go out; add: route \"*\" { "
				   "deliver = \"mx\" }");
	for (size_t i = 1; i < routes->count; i++)
		if (!check_route_twice(load, i))
			return false;
	if (getifaddrs(&interfaces) < 0)
		interfaces = NULL;
	for (size_t i = 0; i < routes->count && good; i++)
		good = check_route(load, &routes->routes[i], interfaces);
	if (interfaces != NULL)
		freeifaddrs(interfaces);
	return good;
}

/* ---- what may be meant so ----------------------------------------------------------------- */

static bool
route_asks_the_dns(const struct route *route)
{
	bool asks = route->kind == DELIVER_MX;

	for (size_t i = 0; i < route->host_count; i++)
		asks = asks || route->hosts[i].address.family == 0;
	return asks;
}

static bool
asks_the_dns(const struct config *config)
{
	const struct routes *routes = &config->access.routes;
	bool asks = config->check_sender && config->access.relay_to_count > 0;

	for (size_t i = 0; i < routes->count && !asks; i++)
		asks = route_asks_the_dns(&routes->routes[i]);
	return asks;
}

/* The system's, if none is set: whoever wrote resolv.conf did not think of forged MX records. */
static void
warn_resolver(struct load *load)
{
	struct dns_config dns = load->config->resolver;
	const char *whose = dns.server_count > 0 ? "resolver" : "the system's resolver";
	char text[NETADDR_TEXT_MAX];

	if (load->warnings == NULL || dns.tcp || !asks_the_dns(load->config) ||
	    (dns.server_count == 0 && dns_system_servers(&dns) < 0))
		return;
	for (size_t i = 0; i < dns.server_count; i++)
		if (!netaddr_is_loopback(&dns.servers[i]))
			config_warn(load, top_place(load, "resolver"),
				    "%s %s is not on this machine, so its answers can be forged on "
				    "the way; run one on loopback, "
				    "or set resolver-tcp = yes",
				    whose, netaddr_format(&dns.servers[i], text));
}

static void
warn_descriptors(struct load *load)
{
	const struct limits *limits = &load->config->limits;
	size_t want = limits->connections + limits->deliveries + OTHER_DESCRIPTORS;
	struct rlimit have;

	if (getrlimit(RLIMIT_NOFILE, &have) == 0 && have.rlim_max != RLIM_INFINITY &&
	    want > have.rlim_max)
		config_warn(load, pair_place(load, SECTION_LIMITS, "connections", "deliveries"),
			    "connections (%zu) and deliveries (%zu) need %zu descriptors, and the "
			    "system allows %llu; raise "
			    "LimitNOFILE= (ulimit -n), or lower them",
			    limits->connections, limits->deliveries, want,
			    (unsigned long long)have.rlim_max);
}

static bool
takes_reports(const struct route *route)
{
	bool takes = route->sender_count == 0;

	for (size_t i = 0; i < route->sender_count; i++)
		takes = takes || span_eq(route->senders[i], SPAN("<>"));
	return takes && route->user_count == 0 && route->kind != DELIVER_REJECT;
}

/* A report has no sender, and nobody logged in to hand it in. */
static void
warn_reports(struct load *load)
{
	const struct routes *routes = &load->config->access.routes;
	const struct route *first = &routes->routes[0];

	for (size_t i = 0; i < routes->count; i++) {
		if (takes_reports(&routes->routes[i]))
			return;
		if (routes->routes[i].line < first->line)
			first = &routes->routes[i];
	}
	if (routes->conditional)
		config_warn(load, route_place(load, first),
			    "no route takes messages without a sender, so no report of failure can "
			    "leave; add: route "
			    "\"*\" { sender = \"<>\" deliver = \"mx\" }, or one that asks for no "
			    "sender");
}

static void
warn_access(struct load *load)
{
	const struct config *config = load->config;
	struct place whole = { config->path, 1 };

	if (config->access.relay_from_count == 0 && config->access.relay_to_count == 0 &&
	    config->submission_socket == NULL)
		config_warn(load, whole,
			    "nobody may send anything; set relay-from (your clients) or relay-to "
			    "(your domains)");
	if (geteuid() == 0 && config->user == NULL)
		config_warn(load, whole, "tramd would run as root; set user = \"tram\"");
}

bool
config_check(struct load *load)
{
	if (!check_times(load) || !check_sizes(load) || !check_sockets(load) ||
	    !check_listeners(load) || !check_routes(load) || !check_relay_from(load) ||
	    !check_relay_to(load) || !check_postmaster(load) || !config_check_suppress(load) ||
	    !config_check_tenants(load) || !config_check_sources(load) ||
	    !config_check_shapes(load) || !config_check_bounces(load))
		return false;
	warn_resolver(load);
	warn_descriptors(load);
	warn_reports(load);
	warn_access(load);
	return true;
}
