/*
 * reactor: one loop with its inbound sessions, outbound deliveries, resolver and queue port.
 * Reactors share nothing; the first is also home to the gate, the dispatcher and the control
 * socket.
 */
#ifndef TRAM_REACTOR_H
#define TRAM_REACTOR_H

#include <uv.h>

#include "dns/resolver.h"
#include "mta/base/buf.h"
#include "mta/base/list.h"
#include "mta/config/config.h"
#include "mta/net/post.h"
#include "mta/net/stream.h"
#include "queue/queue.h"

struct distrust;
struct gate;
struct https;
struct login;
struct dispatcher;
struct returns;
struct suppressed;

struct reactor {
	uv_loop_t loop;
	uv_thread_t thread;
	struct post *post;			/* of the array of all */
	unsigned index;
	/* for what begins now; old ones live on in their sessions */
	struct config *config;
	struct queue *queue;
	struct queue_port *port;
	uv_async_t queue_wake;
	struct dns_resolver *resolver;		/* the newest of: */
	struct list resolvers;
	/* this machine's addresses, as they were at start */
	struct netaddr *interfaces;
	size_t interface_count;
	struct distrust *distrust;		/* hosts whose TLS does not work */
	struct stream_scratch scratch;		/* of its streams */
	struct list sessions, deliveries;	/* newest last */
	size_t session_count, delivery_count;
	/* messages; written by its own thread, read by the first's */
	_Atomic uint64_t accepted;
	uint64_t memory_used, memory_max;	/* its share of the message buffers' budget */
	struct login *login;			/* AUTH of its sessions */
	struct gate *gate;			/* the one of the first reactor */
	struct returns *returns;		/* the same: what may come back */
	/* of the process; changed on the first reactor's loop only */
	struct suppressed *suppressed;
	struct https *https;			/* the first reactor's: its loop only */
	const struct file_opener *opener;	/* of secrets; NULL: they are opened here */
	/* the first reactor's; NULL: commands are run here */
	const struct command_runner *runner;
	/* the one of the first reactor: others post to its loop only */
	struct dispatcher *dispatcher;
	struct post *home;			/* the first reactor's post */
	bool stopping, closing;
	void *owner;				/* main's */
	/* which configurations are in use here, by how many */
	struct list config_users;
	/* the last user of an old one ended */
	void (*config_unused)(struct reactor *r, struct config *config);
};

/* What was begun under a configuration keeps it until it ends. */
void reactor_config_use(struct reactor *r, struct config *config);
void reactor_config_release(struct reactor *r, struct config *config);

/* 0 or negative errno. Made on the main thread; run on its own (or, the first, on the main one). */
int reactor_init(struct reactor *r, struct queue *queue, struct config *config, struct post *all,
		 unsigned index, unsigned count);
/* A new resolver, for what is asked from now on. On failure the old one stays. */
int reactor_set_resolver(struct reactor *r, const struct dns_config *config);
/* closes its handles; then run the loop until it is empty */
void reactor_close(struct reactor *r);
void reactor_free(struct reactor *r);

#endif
