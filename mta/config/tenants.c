/* tenants: who shares with whom: tenant-by, and the blocks that give weights. */
#include <stdlib.h>

#include "mta/config/private.h"

bool
config_name_tenant(struct load *load, struct section *section, struct span title)
{
	struct tenant *tenant = &load->config->tenants.tenants[section->index];

	if (!tenant_name_valid(title))
		return config_fail(load, section->at,
				   "tenant \"%.*s\": a name has lower case letters, digits and - _ "
				   ". @ + only: "
				   "write tenant \"news\"",
				   SPAN_FMT(title));
	for (size_t i = 0; i < section->index; i++)
		if (span_eq(load->config->tenants.tenants[i].name, title))
			return config_fail(
				load, section->at,
				"there is a second tenant %.*s (the first in line %d); remove one",
				SPAN_FMT(title), load->config->tenants.tenants[i].line);
	tenant->name = section->name = title;
	tenant->line = section->at.line;
	return true;
}

bool
config_field_is_mails(struct span name)
{
	static const char *const fields[] = {
		"From", "Sender", "Reply-To", "To", "Cc", "Bcc", "Date", "Subject", "Message-ID",
		"In-Reply-To",
		"References", "Received", "Return-Path", "MIME-Version", "DKIM-Signature",
		"MT-Priority", "TLS-Required",
	};

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if (span_ieq(name, span_str(fields[i])))
			return true;
	return span_istarts(name, SPAN("Content-")) || span_istarts(name, SPAN("Resent-")) ||
	       span_istarts(name, SPAN("ARC-"));
}

/* Last: the blocks are found by their place in the file until then. */
bool
config_check_tenants(struct load *load)
{
	static const char *const names[] = { "tenant-by", NULL };
	struct tenant_rules *rules = &load->config->tenants;
	struct place at = { load->config->path, 1 };

	config_place(load, names, SECTION_TOP, 0, &at);
	if (!tenant_by_read(rules->wish, rules))
		return config_fail(load, at,
				   "tenant-by = \"%.*s\": write user, sender-domain, none, or the "
				   "name of a field, "
				   "\"header:X-Tenant\"",
				   SPAN_FMT(rules->wish));
	if (rules->by == TENANT_BY_HEADER && config_field_is_mails(rules->header))
		return config_fail(load, at,
				   "tenant-by = \"%.*s\": the field is taken out of the mail, "
				   "which needs it; take one of "
				   "its own: \"header:X-Tenant\"",
				   SPAN_FMT(rules->wish));
	if (rules->by == TENANT_BY_NONE && rules->count > 0)
		config_warn(load, config_section(load, SECTION_TENANT, 0)->at,
			    "tenants have no meaning with tenant-by = none; remove them, or say by "
			    "what they are known");
	if (rules->count > 0)
		qsort(rules->tenants, rules->count, sizeof(*rules->tenants), tenant_order);
	return true;
}
