/*
 * wire: libcurl's multi interface on a libuv loop: it names the descriptors to be watched and the
 * time to be called at; see https.c. Its loop only.
 */
#include "mta/https/private.h"

#include <stdlib.h>

struct watched {
	struct list node;
	struct https *https;
	curl_socket_t fd;
	uv_poll_t poll;
};

/* Transfers that have ended. Their done may begin new ones, or cancel others. */
static void
collect(struct https *https)
{
	struct CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(https->multi, &left)) != NULL) {
		CURLcode code = message->data.result;
		char *call = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &call);
		transfer_ended((struct https_call *)(void *)call, code);
	}
}

static void
act(struct https *https, curl_socket_t fd, int what)
{
	int running;

	curl_multi_socket_action(https->multi, fd, what, &running);
	collect(https);
}

static void
on_poll(uv_poll_t *poll, int status, int events)
{
	struct watched *w = poll->data;
	int what = status < 0 ? CURL_CSELECT_ERR : 0;

	what |= (events & UV_READABLE) != 0 ? CURL_CSELECT_IN : 0;
	what |= (events & UV_WRITABLE) != 0 ? CURL_CSELECT_OUT : 0;
	act(w->https, w->fd, what);
}

static void
on_timer(uv_timer_t *timer)
{
	act(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static int
on_wish_timer(CURLM *multi, long ms, void *arg)
{
	struct https *https = arg;

	(void)multi;
	if (https->closed)
		return 0;
	if (ms < 0)
		uv_timer_stop(&https->timer);
	else
		uv_timer_start(&https->timer, on_timer, (uint64_t)ms, 0);
	return 0;
}

static void
on_watched_closed(uv_handle_t *handle)
{
	free(handle->data);
}

/* At once, for libcurl closes the descriptor next. */
static void
forget(struct watched *w)
{
	list_remove(&w->node);
	uv_poll_stop(&w->poll);
	uv_close((uv_handle_t *)&w->poll, on_watched_closed);
}

static struct watched *
watch(struct https *https, curl_socket_t fd)
{
	struct watched *w = xcalloc(1, sizeof(*w));

	w->https = https;
	w->fd = fd;
	if (uv_poll_init(https->loop, &w->poll, fd) < 0) {
		free(w);
		return NULL;			/* the request's time will pass */
	}
	w->poll.data = w;
	list_add_last(&https->sockets, &w->node);
	curl_multi_assign(https->multi, fd, w);
	return w;
}

static int
on_wish_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *watched)
{
	struct https *https = arg;
	struct watched *w = watched;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (w != NULL)
			forget(w);
		curl_multi_assign(https->multi, fd, NULL);
		return 0;
	}
	if (w == NULL)
		w = watch(https, fd);
	if (w != NULL)
		uv_poll_start(&w->poll, ((what & CURL_POLL_IN) != 0 ? UV_READABLE : 0) |
					((what & CURL_POLL_OUT) != 0 ? UV_WRITABLE : 0), on_poll);
	return 0;
}

void
wire_open(struct https *https)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
	    (https->multi = curl_multi_init()) == NULL)
		abort();			/* memory is gone */
	uv_timer_init(https->loop, &https->timer);
	https->timer.data = https;
	curl_multi_setopt(https->multi, CURLMOPT_SOCKETFUNCTION, on_wish_socket);
	curl_multi_setopt(https->multi, CURLMOPT_SOCKETDATA, https);
	curl_multi_setopt(https->multi, CURLMOPT_TIMERFUNCTION, on_wish_timer);
	curl_multi_setopt(https->multi, CURLMOPT_TIMERDATA, https);
}

/* Its transfers are gone. Whatever libcurl still had open is let go of here. */
void
wire_close(struct https *https)
{
	curl_multi_cleanup(https->multi);
	https->multi = NULL;
	LIST_EACH(struct watched, w, &https->sockets, node)
		forget(w);
	uv_close((uv_handle_t *)&https->timer, NULL);
	curl_global_cleanup();
}
