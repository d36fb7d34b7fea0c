/* verdict: see verdict.h. */
#include "mta/inbound/verdict.h"

#include <string.h>

#include "mta/smtp/header.h"
#include "policy/tenant.h"

static const struct reply not_yours =
	REPLY_INIT(553, 5, 7, 1, "you may not send under this address");
static const struct reply sender_good = REPLY_INIT(250, 2, 1, 0, "sender ok");

struct span
verdict_qualified(const struct config *config, const struct access_client *client,
		  struct span reverse_path, struct arena *arena)
{
	if (!client->local || reverse_path.len == 0 || address_domain_of(reverse_path).len > 0)
		return reverse_path;
	return arena_printf(arena, "%.*s@%.*s", SPAN_FMT(reverse_path), SPAN_FMT(config->hostname));
}

struct reply
verdict_mail(const struct config *config, const struct access_client *client,
	     struct span reverse_path)
{
	struct reply verdict = access_mail(&config->access, client, reverse_path);

	/* a user who has logged in sends under names of its own (RFC 6409 §6.1) */
	if (verdict.code == 250 && config->senders != NULL && client->user.len > 0 &&
	    !senders_allow(config->senders, client->user, reverse_path))
		return not_yours;
	return verdict;
}

struct reply
verdict_rcpt(const struct config *config, const struct access_client *client,
	     struct span reverse_path, bool requiretls, struct arena *arena, struct span *address,
	     const struct route **route)
{
	struct reply verdict =
		access_rcpt(&config->access, client, reverse_path, arena, address, route);

	if (verdict.code == 250 && (*route)->tls == ROUTE_TLS_OFF && requiretls &&
	    reverse_path.len > 0)
		return REPLY(550, 5, 7, 30, "REQUIRETLS cannot be met on the way there");
	return verdict;
}

/* Not of our own clients. */
bool
verdict_asks_sender(const struct config *config, const struct access_client *client,
		    struct span reverse_path)
{
	struct span domain = address_domain_of(reverse_path);

	return config->check_sender && !client->trusted && domain.len > 0 && domain.at[0] != '[';
}

/* Where the DNS says nothing the sender is taken, for this is no reason to keep mail waiting. */
struct reply
verdict_sender(const struct mx_set *set)
{
	const struct status *status = &set->failure.status;

	if (set->count == 0 && status->klass == 5 && status->subject == 1 && status->detail == 10)
		return REPLY(550, 5, 7, 27, "the sender's domain takes no mail (null MX)");
	return sender_good;
}

bool
verdict_tls_optional(struct span header)
{
	struct span value;
	size_t seen = 0;
	bool no = false;

	while (header_next_named(&header, SPAN("TLS-Required"), &value)) {
		seen++;
		while (value.len > 0 && memchr(" \t\r\n", value.at[0], 4) != NULL)
			value = span_skip(value, 1);	/* it may be folded */
		no = span_ieq(span_trim(value), SPAN("No"));
	}
	return seen == 1 && no;
}

/* How often it is there; the last one's value, in lower case. */
static size_t
tenant_field(struct span header, struct span wanted, struct arena *arena, struct span *ret)
{
	struct span value;
	size_t seen = 0;

	while (header_next_named(&header, wanted, &value)) {
		*ret = span_trim(arena_lower(arena, value));
		seen++;
	}
	return seen;
}

struct reply
verdict_tenant(const struct config *config, const struct access_client *client,
	       struct span reverse_path, struct span header, struct arena *arena,
	       struct span *tenant, bool *named)
{
	const struct tenant_rules *rules = &config->tenants;
	struct tenant_facts facts = {
		.may_relay = client->trusted || client->authenticated,
		.user = client->user,
		.sender = reverse_path,
	};
	size_t seen = 0;

	if (rules->by == TENANT_BY_HEADER && facts.may_relay)
		seen = tenant_field(header, rules->header, arena, &facts.header);
	*named = seen > 0;
	*tenant = (struct span){ 0 };
	if (seen > 1 || (seen == 1 && !tenant_name_valid(facts.header)))
		return REPLY(550, 5, 6, 0,
			     "the field that names the tenant must be there once, with letters, "
			     "digits and - _ . @ + only");
	*tenant = tenant_choose(rules, &facts, arena);
	return REPLY(250, 2, 0, 0, "its tenant is known");
}

int
verdict_max_priority(const struct config *config, const struct smtp_server_config *smtp,
		     struct span user)
{
	int most = (int)smtp->max_priority;

	for (size_t i = 0; i < config->priority_count && user.len > 0; i++) {
		const struct user_priority *p = &config->priorities[i];

		if (span_ieq(p->user, user) || span_eq(p->user, SPAN("*")))
			return p->most < most ? p->most : most;
	}
	return most;
}
