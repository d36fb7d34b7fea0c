/* bounces: senders of deliveries that are written anew, and where what comes back is read. */
#include <string.h>

#include "mta/base/address.h"
#include "mta/config/private.h"

static struct place
place_of(const struct load *load, const char *name)
{
	const char *const names[] = { name, NULL };
	struct place at = { load->config->path, 1 };

	config_place(load, names, SECTION_BOUNCES, 0, &at);
	return at;
}

bool
config_name_verp(struct load *load, struct section *section, struct span title)
{
	struct verp_rule *rule = &load->config->verp.rules[section->index];

	rule->domain = section->name = arena_lower(&load->config->arena, title);
	if (!domain_valid(rule->domain, false) || span_find(rule->domain, '.') == NULL ||
	    title.at[0] == '[')
		return config_fail(
			load, section->at,
			"verp \"%.*s\": it is not a domain of yours, with its dots; write "
			"verp \"bounces.example.org\"",
			SPAN_FMT(title));
	return true;
}

static bool
check_prefix(struct load *load, const struct verp_rule *rule, struct place at)
{
	for (size_t i = 0; i < rule->prefix.len; i++) {
		char c = ascii_lower(rule->prefix.at[i]);

		if (rule->prefix.len > VERP_PREFIX_MAX ||
		    !((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')))
			return config_fail(load, at,
					   "verp \"%.*s\": prefix = \"%.*s\" must be letters and "
					   "digits, 16 at most: "
					   "prefix = \"b\"",
					   SPAN_FMT(rule->domain), SPAN_FMT(rule->prefix));
	}
	return true;
}

static bool
has_route(const struct routes *routes, struct span name)
{
	for (size_t i = 0; i < routes->count; i++)
		if (span_eq(routes->routes[i].name, name))
			return true;
	return false;
}

/* What it asks for is there, or it would fit nothing, and nobody would know. */
static bool
check_lists(struct load *load, const struct verp_rule *rule, struct place at)
{
	const struct config *config = load->config;

	for (size_t i = 0; i < rule->pool_count; i++)
		if (pool_find(&config->sources, rule->pools[i]) == NULL)
			return config_fail(
				load, at,
				"verp \"%.*s\": there is no pool %.*s; add it, or remove it here",
				SPAN_FMT(rule->domain), SPAN_FMT(rule->pools[i]));
	for (size_t i = 0; i < rule->route_count; i++)
		if (!has_route(&config->access.routes, rule->routes[i]))
			return config_fail(load, at,
					   "verp \"%.*s\": there is no route \"%.*s\"; add it, or "
					   "remove it here",
					   SPAN_FMT(rule->domain), SPAN_FMT(rule->routes[i]));
	return true;
}

/* All mail for the domain is what comes back: people cannot have mailboxes there. */
static bool
check_rule(struct load *load, size_t i)
{
	const struct config *config = load->config;
	const struct verp_rule *rule = &config->verp.rules[i];
	struct place at = config_section(load, SECTION_VERP, i)->at;

	if (rule->domain.len > VERP_DOMAIN_MAX)
		return config_fail(
			load, at,
			"verp \"%.*s\": addresses at it would be longer than mail can have; take a "
			"domain of %d octets at most",
			SPAN_FMT(rule->domain), VERP_DOMAIN_MAX);
	if (span_eq(rule->domain, config->hostname))
		return config_fail(load, at,
				   "verp \"%.*s\": that is hostname, and its postmaster could not "
				   "be reached; take a "
				   "domain of its own: verp \"bounces.example.org\"",
				   SPAN_FMT(rule->domain));
	for (size_t j = 0; j < config->access.relay_to_count; j++)
		if (span_eq(config->access.relay_to[j], rule->domain))
			return config_fail(load, at,
					   "verp \"%.*s\": it is in relay-to, but no mail for it "
					   "goes anywhere; remove it "
					   "there, or take a domain of its own",
					   SPAN_FMT(rule->domain));
	return check_prefix(load, rule, at) && check_lists(load, rule, at);
}

static bool
check_addresses(struct load *load)
{
	struct config *config = load->config;

	for (size_t i = 0; i < config->bounces.address_count; i++) {
		struct span text = config->bounces.addresses[i];
		struct address address;

		if (address_parse(text, 0, &config->arena, &address) != ADDRESS_OK)
			return config_fail(load, place_of(load, "address"),
					   "address = \"%.*s\": it is not a mail address like "
					   "bounces@example.org",
					   SPAN_FMT(text));
		config->bounces.addresses[i] =
			arena_lower(&config->arena, address_text(&address, &config->arena));
		if (verp_has_domain(&config->verp, address.domain))
			return config_fail(load, place_of(load, "address"),
					   "address = \"%.*s\": the domain is one of verp, which "
					   "has addresses of its "
					   "own only; take another domain",
					   SPAN_FMT(text));
	}
	return true;
}

static bool
is_of_bounces(const struct config *config, struct span mailbox)
{
	for (size_t i = 0; i < config->bounces.address_count; i++)
		if (span_ieq(config->bounces.addresses[i], mailbox))
			return true;
	return verp_has_domain(&config->verp, address_domain_of(mailbox));
}

static bool
check_forward(struct load *load)
{
	struct config *config = load->config;
	struct span text = config->bounces.forward_text;
	struct address address;

	if (span_eq(text, SPAN("sender")) || span_eq(text, SPAN("nobody"))) {
		config->bounces.forward =
			span_eq(text, SPAN("sender")) ? BOUNCES_TO_SENDER : BOUNCES_TO_NOBODY;
		return true;
	}
	if (address_parse(text, 0, &config->arena, &address) != ADDRESS_OK)
		return config_fail(load, place_of(load, "forward"),
				   "forward = \"%.*s\": write sender, nobody, or a mail address",
				   SPAN_FMT(text));
	config->bounces.forward = BOUNCES_TO_MAILBOX;
	config->bounces.mailbox = address_text(&address, &config->arena);
	if (is_of_bounces(config, config->bounces.mailbox))
		return config_fail(load, place_of(load, "forward"),
				   "forward = \"%.*s\": what comes there would be sent there "
				   "again; take a mailbox",
				   SPAN_FMT(text));
	return true;
}

bool
config_check_bounces(struct load *load)
{
	for (size_t i = 0; i < load->config->verp.count; i++)
		if (!check_rule(load, i))
			return false;
	return check_addresses(load) && check_forward(load);
}

int
config_open_verp(struct config *config, char error[CONFIG_ERROR_MAX], struct buf *warnings)
{
	struct buf content = { 0 }, list = { 0 };
	struct stat there = { 0 };
	int rc;

	if (config->verp_keys_path == NULL)
		return 0;
	rc = config_read_file(config, config->verp_keys_path, VERP_KEYS_FILE_MAX, &content, &there,
			      error);
	if (rc == 0) {
		if (warnings != NULL && (there.st_mode & S_IROTH) != 0)
			buf_printf(warnings,
				   "%s: everybody on this machine can read it; chmod 0640\n",
				   config->verp_keys_path);
		rc = config_faults(&list,
				   verp_keys_parse(span_str(config->verp_keys_path),
						   buf_span(&content), &list, config->verp_keys,
						   &config->verp_key_count),
				   error);
	}
	if (content.at != NULL)
		explicit_bzero(content.at, content.cap);
	buf_free(&content);
	buf_free(&list);
	return rc;
}
