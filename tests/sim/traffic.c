/* traffic: messages that are handed in: who writes whom, when. See sim.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/sim.h"

enum { RCPTS_MAX = 4 };

struct offer {				/* a message on its way into the queue */
	struct queue_accept accept;
	struct arena arena;
	struct envelope envelope;
	uint32_t number;
};

static struct reactor *home;
static uint32_t offers;			/* not answered */

struct config *
config_make(void)
{
	const struct settings *s = &world->set;
	struct buf text = { 0 }, warnings = { 0 };
	char error[CONFIG_ERROR_MAX];
	struct config *config = NULL;

	buf_printf(&text, "hostname = \"relay.example.org\"\nresolver = {\"127.0.0.1:1\"}\nresolver-test = \"off\"\n"
		   "mta-sts = no\ncheck-sender = no\n"
		   "queue { path = \"%s\" map-size = 8GB max-size = 4GB min-free = 1MB lifetime = %llds }\n"
		   "limits { deliveries = %u connections-per-site = %u window-entries = %u window-sites = %u }\n"
		   "listener smtp { address = \"127.0.0.1:25\" }\n"
		   "route \"*\" { deliver = \"mx\" tls = off }\n%s",
		   s->path, (long long)(s->lifetime_ms / 1000), s->deliveries, s->per_site, s->window_entries,
		   s->window_sites, s->config != NULL ? s->config : "");
	if (config_parse(buf_span(&text), "sim", &config, error, &warnings) < 0 ||
	    config_open_files(config, error, &warnings) < 0)
		fail("%s", error);
	buf_free(&text);
	buf_free(&warnings);
	return config;
}

static void
on_accepted(struct queue_op *op)
{
	struct offer *offer = CONTAINER_OF(op, struct offer, accept.op);
	struct arena arena = offer->arena;

	offers--;
	if (op->result == 0)
		ledger_accepted(offer->number, offer->accept.id);
	else if (op->result == -ENOSPC)
		ledger_refused(offer->number);
	else
		fail("an accept says %s", strerror(-op->result));
	arena_free(&arena);
}

static void
offer_lane(struct offer *offer, struct lane_name *lane, struct span sender, struct span address, uint32_t tenant)
{
	const struct routes *routes = &home->config->access.routes;
	struct route_facts facts = { .domain = address_domain_of(address), .sender = sender };

	lane->tenant = arena_printf(&offer->arena, "t%u", tenant);
	lane->domain = facts.domain;
	lane->route = route_label(routes, facts.domain, route_choose(routes, &facts), WISH_NONE, &offer->arena);
}

static void
hand_in(uint32_t tenant, const uint32_t *domains, uint32_t count)
{
	struct arena arena = { 0 };
	struct offer *offer = arena_alloc(&arena, sizeof(*offer));
	struct recipient *to = arena_alloc(&arena, count * sizeof(*to));
	struct lane_name *lanes = arena_alloc(&arena, count * sizeof(*lanes));

	offer->arena = arena;
	offer->number = ledger_offer(tenant, domains, count);
	offer->envelope = (struct envelope){ .recipients = to, .recipient_count = count };
	offer->envelope.reverse_path = arena_printf(&offer->arena, "t%u@d%u.example", tenant, tenant);
	for (uint32_t i = 0; i < count; i++) {
		to[i].address = arena_printf(&offer->arena, "r%u@d%u.example",
					     world->messages[offer->number].first + i, domains[i]);
		offer_lane(offer, &lanes[i], offer->envelope.reverse_path, to[i].address, tenant);
	}
	offer->accept = (struct queue_accept){
		.op = { .done = on_accepted, .urgent = true },
		.id = queue_next_id(home->queue),
		.arrival_ms = wall_ms(),
		.due_ms = wall_ms(),
		.envelope = &offer->envelope,
		.lanes = lanes,
		.header = SPAN("Subject: sim\r\n\r\n"),
		.body = SPAN("Hello\r\n"),
		.client = SPAN("sim"),
	};
	offers++;
	world->handed_in++;
	queue_submit_accept(home->port, &offer->accept);
}

/* As Zipf has it: as many in each octave. */
static uint32_t
draw_domain(void)
{
	const uint32_t first = world->set.tenants, most = world->set.domains - first;
	uint32_t octaves = 0, rank;

	while ((UINT32_C(1) << (octaves + 1)) <= most)
		octaves++;
	do {
		uint32_t low = UINT32_C(1) << draw(CHANCE_TRAFFIC, octaves + 1);

		rank = low + (uint32_t)draw(CHANCE_TRAFFIC, low) - 1;
	} while (rank >= most);
	return first + rank;
}

static void
hand_in_any(void)
{
	uint32_t domains[RCPTS_MAX], count = 1;

	while (count < RCPTS_MAX && draw(CHANCE_TRAFFIC, 10) == 0)
		count++;
	for (uint32_t i = 0; i < count; i++)
		domains[i] = draw_domain();
	hand_in((uint32_t)draw(CHANCE_TRAFFIC, world->set.tenants), domains, count);
}

void
traffic_start(struct reactor *reactor, struct config **config)
{
	(void)config;
	home = reactor;
	offers = 0;
	if (world->next_message == 0)
		world->next_message = world->began;
}

bool
traffic_idle(void)
{
	return offers == 0;
}

int64_t
traffic_turn(void)
{
	int64_t mean = world->set.days_ms / (world->set.messages + 1);

	while (world->next_message <= world->mono) {
		if (world->mono >= world->traffic_ends || world->message_count >= world->set.messages)
			world->next_message = INT64_MAX;
		else {
			hand_in_any();
			world->next_message = world->mono + draw_around(CHANCE_TRAFFIC, mean);
		}
	}
	return world->next_message;
}
