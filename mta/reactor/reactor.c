/*
 * reactor: see reactor.h. The glue between one libuv loop, its queue port and its resolver.
 */
#include "mta/reactor/reactor.h"

#include <assert.h>
#include <stdlib.h>

#include "mta/base/log.h"
#include "mta/tls/distrust.h"

/*
 * A resolver and its place on the loop. A reload that names other servers makes a new one; the
 * old one stays until the end, for what it was asked must still be answered.
 */
struct dns_place {
	struct list node;
	struct reactor *reactor;
	struct dns_resolver *resolver;
	struct list watches;
	uv_timer_t timer;
};

struct dns_watch {
	struct list node;
	struct dns_place *place;
	uv_poll_t poll;
	int fd;
};

struct config_user {
	struct list node;
	struct config *config;
	size_t count;
};

/* ---- queue -------------------------------------------------------------------------------- */

static void
wake_from_writer(void *arg)
{
	struct reactor *r = arg;

	uv_async_send(&r->queue_wake);
}

static void
close_handles(struct reactor *r)
{
	if (uv_is_closing((uv_handle_t *)&r->queue_wake))
		return;
	uv_close((uv_handle_t *)&r->queue_wake, NULL);
	post_close(r->post);
}

static void
on_queue_wake(uv_async_t *async)
{
	struct reactor *r = async->data;

	queue_port_run(r->port);
	if (r->closing && !queue_port_busy(r->port))
		close_handles(r);
}

static void
flush_port(void *arg)
{
	struct reactor *r = arg;

	queue_port_flush(r->port);
}

/* ---- resolver: c-ares watches descriptors through us -------------------------------------- */

static void
on_dns_poll(uv_poll_t *poll, int status, int events)
{
	struct dns_watch *w = poll->data;
	bool failed = status < 0;

	dns_resolver_ready(w->place->resolver, w->fd, failed || (events & UV_READABLE) != 0,
			   failed || (events & UV_WRITABLE) != 0);
}

static void
on_watch_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static struct dns_watch *
watch_of(struct dns_place *place, int fd)
{
	LIST_EACH(struct dns_watch, w, &place->watches, node)
		if (w->fd == fd)
			return w;
	return NULL;
}

static void
dns_watch(void *arg, int fd, bool readable, bool writable)
{
	struct dns_place *place = arg;
	struct dns_watch *w = watch_of(place, fd);

	if (!readable && !writable) {
		if (w != NULL) {
			list_remove(&w->node);
			uv_close((uv_handle_t *)&w->poll, on_watch_closed);
		}
		return;
	}
	if (w == NULL) {
		w = xcalloc(1, sizeof(*w));
		w->place = place;
		w->fd = fd;
		if (uv_poll_init(&place->reactor->loop, &w->poll, fd) < 0) {
			free(w);
			return;		/* the query times out: a temporary outcome */
		}
		w->poll.data = w;
		list_add_last(&place->watches, &w->node);
	}
	uv_poll_start(&w->poll, (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0),
		      on_dns_poll);
}

static void
on_dns_timer(uv_timer_t *timer)
{
	struct dns_place *place = timer->data;

	dns_resolver_tick(place->resolver);
}

static void
dns_timer(void *arg, int64_t ms)
{
	struct dns_place *place = arg;

	if (ms < 0)
		uv_timer_stop(&place->timer);
	else
		uv_timer_start(&place->timer, on_dns_timer, (uint64_t)ms, 0);
}

static void
on_place_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void
place_close(struct dns_place *place)
{
	dns_resolver_close(place->resolver);
	list_remove(&place->node);
	uv_close((uv_handle_t *)&place->timer, on_place_closed);
}

int
reactor_set_resolver(struct reactor *r, const struct dns_config *config)
{
	struct dns_place *place = xcalloc(1, sizeof(*place));
	struct dns_loop loop = { .arg = place, .watch = dns_watch, .timer = dns_timer };
	int rc;

	place->reactor = r;
	list_init(&place->watches);
	uv_timer_init(&r->loop, &place->timer);
	place->timer.data = place;
	list_add_last(&r->resolvers, &place->node);
	rc = dns_resolver_open(config, &loop, &place->resolver);
	if (rc == 0)
		r->resolver = place->resolver;
	else
		place_close(place);
	return rc;
}

/* ---- configurations in use ---------------------------------------------------------------- */

static struct config_user *
user_of(struct reactor *r, const struct config *config)
{
	LIST_EACH(struct config_user, u, &r->config_users, node)
		if (u->config == config)
			return u;
	return NULL;
}

void
reactor_config_use(struct reactor *r, struct config *config)
{
	struct config_user *u = user_of(r, config);

	if (u == NULL) {
		u = xcalloc(1, sizeof(*u));
		u->config = config;
		list_add_first(&r->config_users, &u->node);
	}
	u->count++;
}

void
reactor_config_release(struct reactor *r, struct config *config)
{
	struct config_user *u = user_of(r, config);

	assert(u != NULL && u->count > 0);
	if (--u->count > 0)
		return;
	list_remove(&u->node);
	free(u);
	if (r->config_unused != NULL)
		r->config_unused(r, config);
}

/* What a listener on 0.0.0.0 or [::] stands for: mail that would go there would loop. */
static void
note_interfaces(struct reactor *r)
{
	uv_interface_address_t *all;
	int count;

	if (uv_interface_addresses(&all, &count) < 0)
		return;
	r->interfaces = xcalloc((size_t)count + 1, sizeof(*r->interfaces));
	for (int i = 0; i < count; i++)
		if (netaddr_from_sockaddr((const struct sockaddr *)&all[i].address,
					  &r->interfaces[r->interface_count]))
			r->interface_count++;
	uv_free_interface_addresses(all, count);
}

/* ---- life --------------------------------------------------------------------------------- */

int
reactor_init(struct reactor *r, struct queue *queue, struct config *config, struct post *all,
	     unsigned index, unsigned count)
{
	int rc;

	*r = (struct reactor){ .index = index, .config = config, .queue = queue };
	list_init(&r->resolvers);
	list_init(&r->sessions);
	list_init(&r->deliveries);
	list_init(&r->config_users);
	r->post = &all[index];
	r->home = &all[0];
	r->memory_max = config->limits.memory / count;
	r->distrust = distrust_new();
	rc = uv_loop_init(&r->loop);
	if (rc == 0)
		rc = uv_async_init(&r->loop, &r->queue_wake, on_queue_wake);
	r->queue_wake.data = r;
	note_interfaces(r);
	if (rc == 0)
		rc = post_init(r->post, &r->loop, all, index, count);
	r->post->flush = flush_port;
	r->post->flush_arg = r;
	if (rc == 0)
		rc = queue_port_open(queue, wake_from_writer, r, &r->port);
	if (rc == 0)
		rc = reactor_set_resolver(r, &config->resolver);
	reactor_config_use(r, config);
	return rc;
}

void
reactor_close(struct reactor *r)
{
	LIST_EACH(struct dns_place, place, &r->resolvers, node)
		place_close(place);
	r->resolver = NULL;
	r->closing = true;
	/* else what the queue still has for us comes home first */
	if (!queue_port_busy(r->port))
		close_handles(r);
}

void
reactor_free(struct reactor *r)
{
	queue_port_close(r->port);
	post_free(r->post);
	LIST_EACH(struct config_user, u, &r->config_users, node)
		free(u);
	distrust_free(r->distrust);
	stream_scratch_free(&r->scratch);
	free(r->interfaces);
	uv_loop_close(&r->loop);
}
