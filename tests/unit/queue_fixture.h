/*
 * queue_fixture: a queue in a directory of its own, one port, and operations that are waited for.
 * Waiting has a deadline: a test that hangs dies by SIGALRM.
 */
#ifndef TRAM_TEST_QUEUE_FIXTURE_H
#define TRAM_TEST_QUEUE_FIXTURE_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <stdint.h>

#include <cmocka.h>

#include "mta/base/clock.h"
#include "queue/queue.h"

struct fixture {
	char path[64];
	struct queue *queue;
	struct queue_port *port;
	int event;
	struct queue_config config;
	struct arena arena;
	char error[QUEUE_ERROR_MAX];
	struct queue_arrival arrivals[4096];
	size_t arrival_count;
};

static inline void
fixture_wake(void *arg)
{
	const uint64_t one = 1;
	ssize_t n = write(*(int *)arg, &one, sizeof(one));

	(void)n;
}

static inline void
fixture_arrivals(void *arg, const struct queue_arrival *arrivals, size_t count, bool overflow)
{
	struct fixture *f = arg;

	assert_false(overflow);
	for (size_t i = 0; i < count && f->arrival_count < 4096; i++)
		f->arrivals[f->arrival_count++] = arrivals[i];
}

static inline int
fixture_try_open(struct fixture *f)
{
	int r = queue_open(&f->config, &f->queue, f->error);

	if (r < 0)
		return r;
	assert_int_equal(queue_port_open(f->queue, fixture_wake, &f->event, &f->port), 0);
	queue_port_subscribe(f->port, fixture_arrivals, f);
	return 0;
}

static inline void
fixture_open(struct fixture *f)
{
	int r = fixture_try_open(f);

	if (r < 0)
		print_error("queue_open: %s\n", f->error);
	assert_int_equal(r, 0);
}

static inline void
fixture_init(struct fixture *f)
{
	const char *tmp = getenv("TMPDIR");

	*f = (struct fixture){ .event = eventfd(0, 0) };
	snprintf(f->path, sizeof(f->path), "%s/tram-queue-XXXXXX",
		 tmp != NULL && strlen(tmp) < 32 ? tmp : "/tmp");
	assert_non_null(mkdtemp(f->path));
	f->config = (struct queue_config){ .path = f->path, .map_size = 256 << 20,
					   .max_size = 128 << 20, .readers = 8 };
	alarm(300);
}

/* Waits until nothing is outstanding. */
static inline void
fixture_settle(struct fixture *f)
{
	uint64_t n;

	queue_port_flush(f->port);
	queue_port_run(f->port);
	while (queue_port_busy(f->port)) {
		assert_int_equal(read(f->event, &n, sizeof(n)), sizeof(n));
		queue_port_run(f->port);
		queue_port_flush(f->port);
	}
}

static inline void
fixture_fault(void *arg, const char *fault)
{
	(void)arg;
	print_error("fault: %s\n", fault);
}

static inline void
fixture_check(struct fixture *f)
{
	assert_int_equal(queue_check(f->queue, fixture_fault, NULL), 0);
}

static inline void
fixture_close(struct fixture *f)
{
	if (f->queue == NULL)
		return;
	fixture_settle(f);
	queue_port_close(f->port);
	queue_close(f->queue);
	f->queue = NULL;
}

static inline void
fixture_free(struct fixture *f)
{
	static const char *const names[] = { "data.mdb", "lock.mdb" };
	char path[128];

	fixture_close(f);
	arena_free(&f->arena);
	close(f->event);
	for (size_t i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", f->path, names[i]);
		unlink(path);
	}
	rmdir(f->path);
	alarm(0);
}

/* A message to count recipients rN@domainN.example of `domains` domains. */
static inline void
fixture_message(struct fixture *f, struct queue_accept *a, size_t count, size_t domains,
		size_t body)
{
	struct envelope *e = arena_alloc(&f->arena, sizeof(*e));
	struct lane_name *lanes = arena_alloc(&f->arena, count * sizeof(*lanes));
	char *octets = arena_alloc(&f->arena, body + 1);

	e->reverse_path = SPAN("sender@from.example");
	e->recipients = arena_alloc(&f->arena, count * sizeof(*e->recipients));
	e->recipient_count = count;
	for (size_t i = 0; i < count; i++) {
		lanes[i].domain = arena_printf(&f->arena, "domain%zu.example", i % domains);
		lanes[i].route = SPAN("*");
		e->recipients[i].address =
			arena_printf(&f->arena, "r%zu@%.*s", i, SPAN_FMT(lanes[i].domain));
	}
	for (size_t i = 0; i < body; i++)
		octets[i] = (char)(i * 7 + i / 251);
	*a = (struct queue_accept){
		.id = queue_next_id(f->queue), .arrival_ms = wall_ms(), .envelope = e,
		.lanes = lanes,
		.header = SPAN("Received: by test\r\nSubject: x\r\n\r\n"),
		.client = SPAN("client=[127.0.0.1]"), .body = span_of(octets, body),
	};
	a->due_ms = a->arrival_ms;
}

static inline int
fixture_accept(struct fixture *f, struct queue_accept *a)
{
	queue_submit_accept(f->port, a);
	fixture_settle(f);
	return a->op.result;
}

static inline uint64_t
fixture_deliverable(struct fixture *f, size_t recipients, size_t domains, size_t body)
{
	struct queue_accept a;

	fixture_message(f, &a, recipients, domains, body);
	assert_int_equal(fixture_accept(f, &a), 0);
	return a.id;
}

/* Settles one recipient where the message says it is. */
static inline int
fixture_settle_one(struct fixture *f, uint64_t id, uint32_t recipient, struct settle_recipient s,
		   bool *removed)
{
	struct queue_settle settle = { .op.urgent = true, .id = id, .recipients = &s, .count = 1 };
	struct history_record h;
	struct queue_message m;

	assert_int_equal(queue_read_message(f->port, id, &f->arena, &m), 0);
	s.recipient = recipient;
	s.lane = m.lanes[recipient];
	s.old_due_ms = m.record.due_ms;
	if (queue_read_history(f->port, id, recipient, &f->arena, &h) == 0) {
		s.lane = h.lane;
		s.old_due_ms = h.due_ms;
	}
	if (s.kind == SETTLE_AGAIN && s.due_ms == 0)
		s.due_ms = s.old_due_ms;
	queue_submit_settle(f->port, &settle);
	fixture_settle(f);
	if (removed != NULL)
		*removed = settle.removed;
	return settle.op.result;
}

/* All of a message's content. */
static inline int
fixture_content(struct fixture *f, uint64_t id, struct buf *out)
{
	struct queue_message m;
	size_t before;
	int r;

	r = queue_read_message(f->port, id, &f->arena, &m);
	do {
		before = buf_len(out);
		if (r == 0)
			r = queue_read_content(f->port, &m.record, before, 40000, false, out);
		if (r == -EAGAIN)
			r = queue_read_content_cold(f->queue, &m.record, before, 40000, out);
	} while (r == 0 && buf_len(out) > before);
	return r;
}

#endif
