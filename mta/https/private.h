/*
 * private: what the three files of the HTTPS client share. See https.c.
 */
#ifndef TRAM_HTTPS_PRIVATE_H
#define TRAM_HTTPS_PRIVATE_H

#include <curl/curl.h>

#include "dns/lookup.h"
#include "mta/base/arena.h"
#include "mta/base/buf.h"
#include "mta/base/list.h"
#include "mta/https/https.h"

enum {
	ADDRESSES_MAX = 8,
	HEADER_MAX = 65536,
	/* requests within this share what was read of the CA's file */
	CA_CACHE_S = 300,
};

enum call_state { CALL_WAITS, CALL_LOOKS_UP, CALL_TRANSFERS, CALL_OVER };

struct https {
	uv_loop_t *loop;
	CURLM *multi;
	uv_timer_t timer;		/* libcurl's wish */
	struct list sockets;		/* that libcurl has us watch */
	struct list waiting, running;	/* oldest first */
	size_t waiting_count, running_count;
	struct dns_resolver *resolver;
	char *ca;
	bool ca_is_folder, allow_private, closed;
};

struct https_call {
	struct list node;
	struct https *https;
	enum call_state state;
	struct arena arena;
	uv_timer_t deadline;
	int64_t until_ms;		/* of the loop's clock */
	enum https_method method;
	char *url;
	struct span host;
	uint16_t port;
	struct span content_type, body;
	struct span refused;		/* why it will not even be tried; empty: it will */
	struct lookup *lookup;
	void (*done)(void *arg, const struct https_answer *answer);
	void *arg;

	/* transfer.c */
	CURL *easy;
	CURLSH *share;			/* the addresses of this call, seen by no other */
	struct curl_slist *resolve, *headers;
	char error[CURL_ERROR_SIZE];
	bool allow_private;
	size_t header_octets;
	struct buf in;			/* the answer's body */
};

/* https.c: the one end of a call that was not cancelled */
void https_call_over(struct https_call *call, const struct https_answer *answer);

/* transfer.c. False: the URL is none that we ask; call->refused says why. */
bool transfer_read_url(struct https_call *call);
/* The call is over, now or later. */
void transfer_start(struct https_call *call, const struct host_addresses *found);
void transfer_ended(struct https_call *call, CURLcode code);
void transfer_drop(struct https_call *call);	/* what it has of libcurl; again is fine */

/* wire.c */
void wire_open(struct https *https);
void wire_close(struct https *https);

#endif
