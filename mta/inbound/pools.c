/* pools: see pools.h. */
#include "mta/inbound/pools.h"

#include "mta/base/log.h"
#include "mta/smtp/header.h"

/* The one field that names a pool; several say nothing. */
static struct span
asked_for(struct span header, struct span field)
{
	struct span value, found = { 0 };
	size_t seen = 0;

	while (header_next_named(&header, field, &value)) {
		found = span_trim(value);
		seen++;
	}
	return seen == 1 ? found : (struct span){ 0 };
}

/* Only from whom we send mail for: others could take the good name of an address for theirs. */
struct span
pools_named(const struct config *config, const struct access_client *client, struct span header)
{
	if (config->sources.header.len == 0 || !(client->trusted || client->authenticated))
		return (struct span){ 0 };
	return asked_for(header, config->sources.header);
}

static void
log_unknown(const struct session *s, struct span name)
{
	struct log_line l;

	if (!log_begin(&l, LOG_WARNING, "pool-unknown"))
		return;
	log_id(&l, "id", s->id);
	log_u64(&l, "session", s->number);
	log_span(&l, "pool", span_first(name, 64));
	log_end(&l);
}

void
pools_choose(struct session *s)
{
	const struct sources *all = &s->config->sources;
	struct pool_facts facts = { .sender = s->server.envelope.reverse_path };

	if (all->pool_count == 0)
		return;
	facts.header = pools_named(s->config, &s->client, buf_span(&s->header.text));
	if (facts.header.len > 0 && pool_find(all, facts.header) == NULL)
		log_unknown(s, facts.header);
	for (size_t i = 0; i < s->server.envelope.recipient_count; i++) {
		struct lane_name *lane = &s->lanes[i];
		const struct route *route =
			route_labelled(&s->config->access.routes, lane->domain, lane->route);

		facts.route = route != NULL ? route->pool : (struct span){ 0 };
		facts.tenant = lane->tenant;
		lane->pool = pool_chosen(all, &facts);
	}
}

void
pools_strip(struct session *s)
{
	struct span name = s->config->sources.header, value;
	struct buf kept = { 0 };

	if (name.len == 0 || !header_find(buf_span(&s->header.text), name, &value))
		return;
	header_copy_without(buf_span(&s->header.text), name, &kept);
	buf_clear(&s->header.text);
	buf_append(&s->header.text, buf_span(&kept));
	buf_free(&kept);
}
