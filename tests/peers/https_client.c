/*
 * https_client: the requests of mta/https, made from a command line, for test_https.py.
 *
 *	https_client RESOLVER CA private|public TIMEOUT-MS URL [COUNT [TYPE BODY-FILE]]
 *
 * COUNT requests at once; with a body they are POSTs. A line for each, as its answer comes:
 * FAILURE STATUS BODY-LENGTH "CONTENT-TYPE" "WHY". Ends when all have been answered; then the loop
 * must close with no handle left.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "mta/base/arena.h"
#include "mta/base/buf.h"
#include "mta/base/list.h"
#include "mta/https/https.h"

struct watch {
	struct list node;
	int fd;
	uv_poll_t poll;
};

static uv_loop_t loop;
static uv_timer_t dns_clock;
static struct list watches;
static struct dns_resolver *resolver;
static struct https *https;
static unsigned left;

/* ---- the resolver on the loop --------------------------------------------------------------- */

static void
on_readable(uv_poll_t *poll, int status, int events)
{
	struct watch *w = poll->data;

	dns_resolver_ready(resolver, w->fd, status < 0 || (events & UV_READABLE) != 0,
			   status < 0 || (events & UV_WRITABLE) != 0);
}

static void
on_watch_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void
watch(void *arg, int fd, bool readable, bool writable)
{
	struct watch *w = NULL;

	(void)arg;
	LIST_EACH(struct watch, each, &watches, node)
		w = each->fd == fd ? each : w;
	if (w == NULL) {
		w = xcalloc(1, sizeof(*w));
		w->fd = fd;
		uv_poll_init(&loop, &w->poll, fd);
		w->poll.data = w;
		list_add_last(&watches, &w->node);
	}
	if (readable || writable) {
		uv_poll_start(&w->poll, (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0),
			      on_readable);
		return;
	}
	list_remove(&w->node);
	uv_close((uv_handle_t *)&w->poll, on_watch_closed);
}

static void
on_dns_clock(uv_timer_t *timer)
{
	(void)timer;
	dns_resolver_tick(resolver);
}

static void
clock_wish(void *arg, int64_t ms)
{
	(void)arg;
	if (ms < 0)
		uv_timer_stop(&dns_clock);
	else
		uv_timer_start(&dns_clock, on_dns_clock, (uint64_t)ms, 0);
}

static void
open_resolver(const char *address)
{
	struct dns_config config = { .server_count = 1, .timeout_ms = 5000, .tries = 3,
				     .grace_ms = 500 };
	struct dns_loop on = { .watch = watch, .timer = clock_wish };

	list_init(&watches);
	uv_timer_init(&loop, &dns_clock);
	if (!netaddr_parse_port(span_str(address), 53, &config.servers[0]) ||
	    dns_resolver_open(&config, &on, &resolver) < 0)
		exit(2);
}

/* ---- the requests --------------------------------------------------------------------------- */

static void
on_done(void *arg, const struct https_answer *answer)
{
	static const char *const words[] = { "answered", "no-host", "timed-out", "not-trusted",
					     "failed" };

	(void)arg;
	printf("%s %u %zu \"%.*s\" \"%.*s\"\n", words[answer->failure], answer->status,
	       answer->body.len, SPAN_FMT(answer->content_type), SPAN_FMT(answer->why));
	fflush(stdout);
	if (--left > 0)
		return;
	uv_stop(&loop);
}

static void
on_late(void *arg, const struct https_answer *answer)
{
	(void)arg;
	(void)answer;
}

static void
read_body(const char *path, struct buf *ret)
{
	FILE *file = fopen(path, "rb");

	if (file == NULL)
		exit(2);
	buf_grew(ret, fread(buf_reserve(ret, 1 << 20), 1, 1 << 20, file));
	fclose(file);
}

int
main(int argc, char **argv)
{
	struct buf body = { 0 };
	struct https_request request = { .done = on_done };
	struct https_settings settings = { 0 };

	if (argc < 6)
		return 2;
	uv_loop_init(&loop);
	open_resolver(argv[1]);
	settings.resolver = resolver;
	settings.ca = argv[2];
	settings.allow_private = strcmp(argv[3], "private") == 0;
	request.timeout_ms = strtol(argv[4], NULL, 10);
	request.url = span_str(argv[5]);
	left = argc > 6 ? (unsigned)strtoul(argv[6], NULL, 10) : 1;
	if (argc > 8) {
		request.method = HTTPS_POST;
		request.content_type = span_str(argv[7]);
		read_body(argv[8], &body);
		request.body = buf_span(&body);
	}
	https = https_new(&loop);
	https_configure(https, &settings);
	for (unsigned i = left; i-- > 0;)
		https_request(https, &request);
	https_cancel(https_request(https, &request));
	uv_run(&loop, UV_RUN_DEFAULT);
	request.done = on_late;
	https_request(https, &request);		/* it ends with the client */
	uv_run(&loop, UV_RUN_NOWAIT);
	https_close(https);
	dns_resolver_close(resolver);
	uv_close((uv_handle_t *)&dns_clock, NULL);
	uv_run(&loop, UV_RUN_DEFAULT);
	https_free(https);
	buf_free(&body);
	assert(uv_loop_close(&loop) == 0);
	return 0;
}
