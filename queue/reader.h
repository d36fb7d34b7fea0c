/*
 * reader: a queue that no tramd has open, for reading only: what `tramctl queue export` walks
 * while the daemon is stopped. It holds the queue's lock meanwhile, so that no daemon starts on
 * it, and writes nothing, not even what a start after a crash would (recover.c).
 */
#ifndef TRAM_QUEUE_READER_H
#define TRAM_QUEUE_READER_H

#include "queue/queue.h"

struct queue_reader;

/*
 * 0, or a negative errno and a sentence in error: -EBUSY (a tramd has it), -EPROTO (newer or
 * foreign format), -EBADMSG (damaged), …
 */
int queue_reader_open(const char *path, struct queue_reader **ret, char error[QUEUE_ERROR_MAX]);
/* For the reading functions of queue.h only: nothing can be submitted here. */
struct queue_port *queue_reader_port(struct queue_reader *reader);
void queue_reader_close(struct queue_reader *reader);		/* NULL is fine */

#endif
