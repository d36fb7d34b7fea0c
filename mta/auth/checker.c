/*
 * checker: see checker.h. One lock guards what waits, what is done and what is remembered; it is
 * never held while a password is calculated or a callback runs.
 */
#include "mta/auth/checker.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "mta/base/arena.h"
#include "mta/base/clock.h"
#include "mta/base/map.h"

enum { LAST_EACH = 4, MAX_WAITING = 100, REMEMBERED = 4096, WAYS = 4, DIGEST = 16 };

enum job_state { JOB_WAITING, JOB_RUNNING, JOB_DONE };

struct check_job {
	struct list node;		/* of its client, or of port->done */
	struct list open;		/* of port->open */
	struct checker_port *port;	/* NULL: the port was closed under it */
	struct check *check;		/* the loop's; NULL: cancelled */
	enum job_state state;
	bool right;
	enum check_rank rank;
	uint64_t client;
	uint8_t digest[DIGEST];
	struct password_hash hash;
	size_t len;
	char password[];
};

struct client {				/* who has something waiting */
	struct map_node node;
	struct list turn;
	struct list jobs;
	size_t count;
};

struct remembered {
	uint8_t digest[DIGEST];
	int64_t until_ms;		/* monotonic; 0: empty */
};

struct rank {
	struct map clients;
	struct list turns;		/* of clients: the first is next */
	size_t waiting;
};

struct checker {
	struct checker_config config;
	uint8_t key[SCRAM_KEY];
	uv_mutex_t lock;
	/* under the lock */
	struct rank ranks[CHECK_RANKS];
	unsigned checks;		/* counts: every fourth is for the last rank */
	bool running;
	struct remembered *remembered;
};

struct checker *
checker_new(const struct checker_config *config)
{
	struct checker *c = xcalloc(1, sizeof(*c));

	c->config = *config;
	if (c->config.max_waiting == 0)
		c->config.max_waiting = MAX_WAITING;
	if (c->config.remember_ms > 0)
		c->remembered = xcalloc(REMEMBERED, sizeof(*c->remembered));
	scram_random(c->key, sizeof(c->key));
	for (size_t i = 0; i < CHECK_RANKS; i++)
		list_init(&c->ranks[i].turns);
	uv_mutex_init(&c->lock);
	return c;
}

void
checker_free(struct checker *c)
{
	if (c == NULL)
		return;
	assert(!c->running);
	uv_mutex_destroy(&c->lock);
	for (size_t i = 0; i < CHECK_RANKS; i++) {
		assert(c->ranks[i].waiting == 0);
		map_free(&c->ranks[i].clients);
	}
	free(c->remembered);
	explicit_bzero(c->key, sizeof(c->key));
	free(c);
}

size_t
checker_waiting(struct checker *c)
{
	size_t waiting = 0;

	uv_mutex_lock(&c->lock);
	for (size_t i = 0; i < CHECK_RANKS; i++)
		waiting += c->ranks[i].waiting;
	uv_mutex_unlock(&c->lock);
	return waiting;
}

/* Of the hash and the password: a changed file is another digest. */
static void
digest_of(const struct checker *c, const struct password_hash *hash, struct span password,
	  uint8_t ret[DIGEST])
{
	uint8_t full[SCRAM_KEY];
	struct buf both = { 0 };

	buf_reserve(&both, sizeof(hash->crypt) + password.len + 1);
	buf_append(&both, hash->is_scram ? span_of(hash->scram.stored_key, SCRAM_KEY) :
					   span_str(hash->crypt));
	buf_byte(&both, '\0');
	buf_append(&both, password);
	scram_hmac(span_of(c->key, sizeof(c->key)), buf_span(&both), full);
	explicit_bzero(both.at, both.cap);
	buf_free(&both);
	memcpy(ret, full, DIGEST);
}

static struct remembered *
ways_of(struct checker *c, const uint8_t digest[DIGEST])
{
	uint32_t index;

	memcpy(&index, digest, sizeof(index));
	return c->remembered + index % (REMEMBERED / WAYS) * WAYS;
}

static bool
is_remembered(struct checker *c, const uint8_t digest[DIGEST])
{
	struct remembered *ways;
	int64_t now = mono_ms();

	if (c->remembered == NULL)
		return false;
	ways = ways_of(c, digest);
	for (size_t i = 0; i < WAYS; i++)
		if (ways[i].until_ms > now && scram_equal(ways[i].digest, digest, DIGEST))
			return true;
	return false;
}

/* In place of the one that would be forgotten first. */
static void
remember(struct checker *c, const uint8_t digest[DIGEST])
{
	struct remembered *ways, *oldest;

	if (c->remembered == NULL)
		return;
	ways = oldest = ways_of(c, digest);
	for (size_t i = 1; i < WAYS; i++)
		if (ways[i].until_ms < oldest->until_ms)
			oldest = &ways[i];
	memcpy(oldest->digest, digest, DIGEST);
	oldest->until_ms = mono_ms() + c->config.remember_ms;
}

static void
free_job(struct check_job *job)
{
	explicit_bzero(job, sizeof(*job) + job->len);
	free(job);
}

/* Under the lock, as are those below. False: too much waits. */
static bool
enqueue(struct checker *c, struct check_job *job)
{
	struct rank *rank = &c->ranks[job->rank];
	struct map_node *node = map_find(&rank->clients, job->client);
	struct client *client = (struct client *)(void *)node;

	if (rank->waiting >= c->config.max_waiting ||
	    (client != NULL && client->count >= (c->config.max_waiting + 1) / 2))
		return false;
	if (client == NULL) {
		client = xcalloc(1, sizeof(*client));
		list_init(&client->jobs);
		list_add_last(&rank->turns, &client->turn);
		map_add(&rank->clients, &client->node, job->client);
	}
	list_add_last(&client->jobs, &job->node);
	client->count++;
	rank->waiting++;
	job->state = JOB_WAITING;
	return true;
}

static void
dequeue(struct checker *c, struct check_job *job)
{
	struct rank *rank = &c->ranks[job->rank];
	struct map_node *node = map_find(&rank->clients, job->client);
	struct client *client = (struct client *)(void *)node;

	assert(job->state == JOB_WAITING && client != NULL);
	list_remove(&job->node);
	rank->waiting--;
	if (--client->count > 0)
		return;
	list_remove(&client->turn);
	map_remove(&rank->clients, &client->node);
	free(client);
}

static struct rank *
next_rank(struct checker *c)
{
	bool last_first = ++c->checks % LAST_EACH == 0;

	for (size_t i = 0; i < CHECK_RANKS; i++) {
		struct rank *rank = &c->ranks[last_first ? CHECK_RANKS - 1 - i : i];

		if (!list_empty(&rank->turns))
			return rank;
	}
	return NULL;
}

/* Of the client whose turn it is, who then goes to the end. */
static struct check_job *
next_job(struct checker *c)
{
	struct rank *rank = next_rank(c);
	struct client *client;
	struct check_job *job;

	if (rank == NULL)
		return NULL;
	client = CONTAINER_OF(rank->turns.next, struct client, turn);
	list_remove(&client->turn);
	list_add_last(&rank->turns, &client->turn);
	job = CONTAINER_OF(client->jobs.next, struct check_job, node);
	dequeue(c, job);
	job->state = JOB_RUNNING;
	return job;
}

static void
give(struct checker_port *port, struct check_job *job)
{
	job->state = JOB_DONE;
	list_add_last(&port->done, &job->node);
	uv_async_send(&port->wake);
}

/* In the pool: until nothing waits. */
static void
work(uv_work_t *req)
{
	struct checker *c = req->data;
	struct check_job *job;

	uv_mutex_lock(&c->lock);
	while ((job = next_job(c)) != NULL) {
		uv_mutex_unlock(&c->lock);
		job->right = password_hash_check(&job->hash, span_of(job->password, job->len));
		explicit_bzero(job->password, job->len);
		uv_mutex_lock(&c->lock);
		if (job->right)
			remember(c, job->digest);
		if (job->port != NULL)
			give(job->port, job);
		else
			free_job(job);
	}
	c->running = false;
	uv_mutex_unlock(&c->lock);
}

static void
after_work(uv_work_t *req, int status)
{
	(void)status;
	free(req);
}

static void
start_work(struct checker *c, uv_loop_t *loop)
{
	uv_work_t *req = xcalloc(1, sizeof(*req));
	int rc;

	req->data = c;
	rc = uv_queue_work(loop, req, work, after_work);
	assert(rc == 0);
}

int
checker_submit(struct checker_port *port, struct check *check, enum check_rank rank,
	       uint64_t client, const struct password_hash *hash, struct span password)
{
	struct checker *c = port->checker;
	struct check_job *job;
	bool start = false, taken = true;

	assert(check->job == NULL && !port->closing);
	job = xcalloc(1, sizeof(*job) + password.len);
	job->port = port;
	job->check = check;
	job->rank = rank;
	job->client = client;
	job->hash = *hash;
	job->len = password.len;
	if (password.len > 0)
		memcpy(job->password, password.at, password.len);
	digest_of(c, hash, password, job->digest);
	uv_mutex_lock(&c->lock);
	job->right = hash->known && is_remembered(c, job->digest);
	if (job->right) {
		give(port, job);
	} else if ((taken = enqueue(c, job))) {
		start = !c->running;
		c->running = true;
	}
	if (taken)
		list_add_last(&port->open, &job->open);
	uv_mutex_unlock(&c->lock);
	if (!taken) {
		free_job(job);
		return -EBUSY;
	}
	check->job = job;
	if (start)
		start_work(c, port->wake.loop);
	return 0;
}

void
check_cancel(struct check *check)
{
	struct check_job *job = check->job;
	struct checker *c;
	bool waited;

	if (job == NULL)
		return;
	check->job = NULL;
	job->check = NULL;
	c = job->port->checker;
	uv_mutex_lock(&c->lock);
	waited = job->state == JOB_WAITING;
	if (waited)
		dequeue(c, job);
	uv_mutex_unlock(&c->lock);
	if (waited) {
		list_remove(&job->open);
		free_job(job);
	}
}

static struct check_job *
take_done(struct checker_port *port)
{
	struct check_job *job = NULL;

	uv_mutex_lock(&port->checker->lock);
	if (!list_empty(&port->done)) {
		job = CONTAINER_OF(port->done.next, struct check_job, node);
		list_remove(&job->node);
	}
	uv_mutex_unlock(&port->checker->lock);
	return job;
}

static void
on_wake(uv_async_t *async)
{
	struct checker_port *port = async->data;
	struct check_job *job;

	/* one at a time: a callback may cancel others, or close the port */
	while ((job = take_done(port)) != NULL) {
		struct check *check = job->check;
		bool right = job->right;

		list_remove(&job->open);
		free_job(job);
		if (check == NULL)
			continue;
		check->job = NULL;
		check->done(check, right);
	}
}

int
checker_port_init(struct checker_port *port, struct checker *checker, uv_loop_t *loop)
{
	*port = (struct checker_port){ .checker = checker };
	list_init(&port->done);
	list_init(&port->open);
	port->wake.data = port;
	return uv_async_init(loop, &port->wake, on_wake);
}

void
checker_port_close(struct checker_port *port)
{
	struct checker *c = port->checker;

	if (port->closing)
		return;
	port->closing = true;
	uv_mutex_lock(&c->lock);
	LIST_EACH(struct check_job, job, &port->open, open) {
		if (job->check != NULL)
			job->check->job = NULL;
		list_remove(&job->open);
		if (job->state == JOB_RUNNING) {
			job->port = NULL;		/* the pool frees it */
			continue;
		}
		if (job->state == JOB_WAITING)
			dequeue(c, job);
		else
			list_remove(&job->node);
		free_job(job);
	}
	uv_mutex_unlock(&c->lock);
	uv_close((uv_handle_t *)&port->wake, NULL);
}
