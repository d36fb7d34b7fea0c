/* access: who may relay where, judged at RCPT so that nothing need bounce later. See access.h. */
#include "policy/access.h"

void
access_greet(const struct access_rules *rules, struct access_client *client)
{
	client->trusted = client->local;
	for (size_t i = 0; i < rules->relay_from_count && !client->trusted; i++)
		client->trusted = network_holds(&rules->relay_from[i], &client->peer);
}

struct reply
access_mail(const struct access_rules *rules, const struct access_client *client,
	    struct span reverse_path)
{
	(void)rules; /* any sender may begin: what it may reach is judged at each RCPT */
	(void)client;
	(void)reverse_path;
	return REPLY(250, 2, 1, 0, "sender ok");
}

/* "[192.0.2.1]" or "[IPv6:2001:db8::1]", the address that the client has connected to. */
static bool
is_own_literal(const struct access_client *client, struct span domain)
{
	struct netaddr address;

	if (client->server.family == 0 || domain.len < 3 || domain.at[0] != '[' ||
	    domain.at[domain.len - 1] != ']')
		return false;
	domain = span_first(span_skip(domain, 1), domain.len - 2);
	if (span_istarts(domain, SPAN("IPv6:")))
		domain = span_skip(domain, 5);
	return netaddr_parse(domain, 0, &address) && netaddr_same_ip(&address, &client->server);
}

static bool
is_postmaster(const struct access_rules *rules, const struct access_client *client,
	      struct span address)
{
	struct span domain = address_domain_of(address);

	return span_ieq(address_local_of(address), SPAN("postmaster")) &&
	       (domain.len == 0 || domain_pattern_matches(rules->hostname, domain) ||
		is_own_literal(client, domain));
}

static bool
is_relay_to(const struct access_rules *rules, struct span domain)
{
	for (size_t i = 0; i < rules->relay_to_count; i++)
		if (domain_pattern_matches(rules->relay_to[i], domain))
			return true;
	return false;
}

struct reply
access_rcpt(const struct access_rules *rules, const struct access_client *client,
	    struct span reverse_path, struct arena *arena, struct span *address,
	    const struct route **route)
{
	bool allowed = client->trusted || client->authenticated;
	const struct route *found;
	struct span domain;

	if (is_postmaster(rules, client, *address)) {
		if (rules->postmaster.len > 0) {
			*address = rules->postmaster;
			allowed = true;
		} else {
			*address =
			    arena_printf(arena, "postmaster@%.*s", SPAN_FMT(rules->hostname));
		}
	} else if (address_domain_of(*address).len == 0) {
		if (!client->local)
			return REPLY(550, 5, 1, 1, "a recipient needs a domain");
		*address =
		    arena_printf(arena, "%.*s@%.*s", SPAN_FMT(*address), SPAN_FMT(rules->hostname));
	}
	domain = address_domain_of(*address);
	if (!allowed && !is_relay_to(rules, domain))
		return REPLY(550, 5, 7, 1, "relaying denied");
	found = route_choose(&rules->routes,
			     &(struct route_facts){ domain, reverse_path, client->user });
	if (found == NULL)
		return REPLY(550, 5, 4, 4, "no route to this domain");
	if (found->kind == DELIVER_REJECT)
		return found->reject;
	*route = found;
	return REPLY(250, 2, 1, 5, "recipient ok");
}
