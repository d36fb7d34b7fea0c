/* reader: see reader.h. One thread. */
#include "queue/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "queue/writer.h"

struct queue_reader {
	struct queue_port port;		/* its reader is all that is used of it */
	struct store *store;
	int lock;
};

/* The same lock that store.c takes: on the directory. */
static int
lock(struct queue_reader *r, const char *path, char error[QUEUE_ERROR_MAX])
{
	int rc = 0;

	r->lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r->lock < 0 || flock(r->lock, LOCK_EX | LOCK_NB) < 0)
		rc = errno == EWOULDBLOCK ? -EBUSY : -errno;
	if (rc == -EBUSY)
		snprintf(error, QUEUE_ERROR_MAX, "a tramd has the queue in %s open", path);
	else if (rc < 0)
		snprintf(error, QUEUE_ERROR_MAX, "the queue's directory %s cannot be opened: %s",
			 path, strerror(-rc));
	return rc;
}

static int
check_format(struct queue_reader *r, const char *path, char error[QUEUE_ERROR_MAX])
{
	struct txn *txn = &r->port.reader;
	struct span value;
	uint64_t format = 0;

	if (txn_get(txn, TABLE_META, SPAN("format"), &value) && value.len == 8)
		format = key_get_u64(value, 0);
	if (format > 0 && format <= QUEUE_FORMAT)
		return 0;
	if (format == 0)
		snprintf(error, QUEUE_ERROR_MAX,
			 "the state of the queue in %s is damaged; run `tramctl queue salvage`",
			 path);
	else
		snprintf(error, QUEUE_ERROR_MAX,
			 "the queue in %s has format %llu, this program knows formats up to %d; "
			 "use the newer one",
			 path, (unsigned long long)format, QUEUE_FORMAT);
	return format == 0 ? -EBADMSG : -EPROTO;
}

int
queue_reader_open(const char *path, struct queue_reader **ret, char error[QUEUE_ERROR_MAX])
{
	const struct store_config config = { .path = path, .only_read = true };
	struct queue_reader *r = xcalloc(1, sizeof(*r));
	int rc;

	error[0] = '\0';
	rc = lock(r, path, error);
	if (rc == 0)
		rc = store_open(&config, &r->store, error);
	if (rc == 0)
		rc = txn_reader(r->store, &r->port.reader);
	if (rc == 0) {
		rc = check_format(r, path, error);
		txn_reset(&r->port.reader);
	}
	if (rc == 0) {
		*ret = r;
		return 0;
	}
	if (error[0] == '\0')
		snprintf(error, QUEUE_ERROR_MAX, "the queue in %s cannot be read: %s", path,
			 strerror(-rc));
	queue_reader_close(r);
	return rc;
}

struct queue_port *
queue_reader_port(struct queue_reader *r)
{
	return &r->port;
}

void
queue_reader_close(struct queue_reader *r)
{
	if (r == NULL)
		return;
	if (r->port.reader.at != NULL)
		txn_abort(&r->port.reader);
	store_close(r->store);
	if (r->lock >= 0)
		close(r->lock);
	free(r);
}
