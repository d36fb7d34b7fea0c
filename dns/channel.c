/* channel: the glue to c-ares; see channel.h. Runs on its resolver's thread. */
#include "dns/channel.h"

#include <ares.h>
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "dns/question.h"

enum { SOCKET_BUFFER = 1 << 20 };	/* the kernel gives what it allows */

static int
errno_of(int status)
{
	return status == ARES_ENOMEM ? -ENOMEM : -EIO;
}

static void
on_socket_state(void *data, int fd, int readable, int writable)
{
	struct dns_channel *channel = data;

	channel->loop.watch(channel->loop.arg, fd, readable != 0, writable != 0);
}

static int
flags_of(const struct dns_config *config, enum dns_channel_kind kind)
{
	int flags = config->tcp ? ARES_FLAG_USEVC : 0;

	if (kind != DNS_CHANNEL_OTHERS)
		flags |= ARES_FLAG_NOCHECKRESP;
	if (kind != DNS_CHANNEL_PLAIN)
		flags |= ARES_FLAG_EDNS;
	return flags;
}

static int
set_servers(const struct dns_config *config, ares_channel ares)
{
	struct ares_addr_port_node nodes[4] = { 0 };

	for (size_t i = 0; i < config->server_count; i++) {
		const struct netaddr *server = &config->servers[i];

		nodes[i].next = i + 1 < config->server_count ? &nodes[i + 1] : NULL;
		nodes[i].family = server->family;
		nodes[i].udp_port = nodes[i].tcp_port = server->port;
		if (server->family == AF_INET)
			memcpy(&nodes[i].addr.addr4, server->ip, 4);
		else
			memcpy(&nodes[i].addr.addr6, server->ip, 16);
	}
	return ares_set_servers_ports(ares, nodes);
}

int
dns_system_servers(struct dns_config *config)
{
	struct ares_addr_port_node *nodes = NULL;
	ares_channel ares;
	int status = ares_init(&ares);

	if (status != ARES_SUCCESS)
		return errno_of(status);
	status = ares_get_servers_ports(ares, &nodes);
	for (struct ares_addr_port_node *node = nodes; node != NULL && config->server_count < 4;
	     node = node->next) {
		struct netaddr *server = &config->servers[config->server_count++];

		*server = (struct netaddr){ .family = (uint8_t)node->family,
					    .port = (uint16_t)node->udp_port };
		if (node->family == AF_INET)
			memcpy(server->ip, &node->addr.addr4, 4);
		else
			memcpy(server->ip, &node->addr.addr6, 16);
	}
	if (nodes != NULL)
		ares_free_data(nodes);
	ares_destroy(ares);
	return status == ARES_SUCCESS && config->server_count > 0 ? 0 : errno_of(status);
}

int
dns_channel_open(enum dns_channel_kind kind, const struct dns_config *config,
		 const struct dns_loop *loop, struct dns_channel **ret)
{
	struct dns_channel *channel = xcalloc(1, sizeof(*channel));
	char lookups[] = "b";
	/*
	 * All that c-ares would look for is given, so that it reads no file: by now resolv.conf
	 * may be out of reach.
	 */
	struct ares_options options = {
		.flags = flags_of(config, kind),
		.timeout = config->timeout_ms,
		.tries = config->tries,
		.ndots = 1,
		.socket_send_buffer_size = SOCKET_BUFFER,
		.socket_receive_buffer_size = SOCKET_BUFFER,
		.lookups = lookups,
		.sock_state_cb = on_socket_state,
		.sock_state_cb_data = channel,
		.ednspsz = DNS_UDP_SIZE,
	};
	int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_NDOTS |
		   ARES_OPT_SOCK_SNDBUF | ARES_OPT_SOCK_RCVBUF | ARES_OPT_LOOKUPS |
		   ARES_OPT_SOCK_STATE_CB | ARES_OPT_EDNSPSZ | ARES_OPT_SERVERS | ARES_OPT_DOMAINS |
		   ARES_OPT_SORTLIST | ARES_OPT_NOROTATE;
	int status = ares_init_options(&channel->ares, &options, mask);

	if (status != ARES_SUCCESS) {
		free(channel);
		return errno_of(status);
	}
	channel->kind = kind;
	channel->loop = *loop;
	list_init(&channel->node);
	status = set_servers(config, channel->ares);
	if (status != ARES_SUCCESS) {
		dns_channel_close(channel);
		return errno_of(status);
	}
	*ret = channel;
	return 0;
}

void
dns_channel_close(struct dns_channel *channel)
{
	ares_destroy(channel->ares);
	assert(channel->outstanding == 0);
	list_remove(&channel->node);
	free(channel);
}

static void
on_answer(void *arg, int status, int timeouts, unsigned char *octets, int len)
{
	struct dns_flight *flight = arg;

	(void)timeouts;
	flight->channel->outstanding--;
	switch (status) {
	case ARES_SUCCESS:
		flight->landed(flight, DNS_LANDED_ANSWER, span_of(octets, (size_t)len));
		break;
	case ARES_ETIMEOUT:
		flight->landed(flight, DNS_LANDED_TIMEOUT, SPAN(""));
		break;
	case ARES_ECONNREFUSED:
		flight->landed(flight, DNS_LANDED_NO_SERVER, SPAN(""));
		break;
	case ARES_ECANCELLED:
	case ARES_EDESTRUCTION:
		flight->landed(flight, DNS_LANDED_CLOSED, SPAN(""));
		break;
	default:
		flight->landed(flight, DNS_LANDED_ERROR, span_str(ares_strerror(status)));
	}
}

void
dns_channel_send(struct dns_channel *channel, struct span packet, struct dns_flight *flight)
{
	assert(packet.len <= DNS_QUESTION_MAX);
	flight->channel = channel;
	channel->outstanding++;
	ares_send(channel->ares, (const unsigned char *)packet.at, (int)packet.len, on_answer,
		  flight);
}

void
dns_channel_process(struct dns_channel *channel, int fd, bool readable, bool writable)
{
	ares_process_fd(channel->ares, readable ? fd : ARES_SOCKET_BAD,
			writable ? fd : ARES_SOCKET_BAD);
}

int64_t
dns_channel_wait_ms(struct dns_channel *channel)
{
	struct timeval tv, *left = ares_timeout(channel->ares, NULL, &tv);

	return left == NULL ? -1 : (int64_t)left->tv_sec * 1000 + left->tv_usec / 1000 + 1;
}

bool
dns_channel_lost_edns(struct dns_channel *channel)
{
	struct ares_options options;
	int mask;
	bool lost = ares_save_options(channel->ares, &options, &mask) == ARES_SUCCESS &&
		    !(options.flags & ARES_FLAG_EDNS);

	ares_destroy_options(&options);
	return lost;
}
