/*
 * content: queue cat, queue export: what messages consist of. Home loop; what is not in memory
 * is read by the thread pool.
 *
 * cat: lines {"content": base64}, header block first. export: for each message {"message"}, then
 * {"recipient"} for each that is open, the content, and {"message_end": id}: what import takes,
 * and what the archive holds.
 */
#include <errno.h>
#include <stdlib.h>

#include "mta/base/id.h"
#include "mta/control/job.h"
#include "mta/control/walk.h"

struct reading {
	struct walk walk;
	struct control_job *job;
	struct buf piece;
	uint64_t message;		/* being written; 0: none */
	struct walk_row next;		/* its own rows are gathered while id is the same */
	struct message_record record;
	struct arena arena;		/* of record */
	uint64_t offset;
	bool reading_content;
	bool have_next, walked;
	uint64_t messages;
	uv_work_t work;
	int work_result;
};

/* ---- content ------------------------------------------------------------------------------ */

static void
read_cold(uv_work_t *work)
{
	struct reading *r = work->data;

	r->work_result = queue_read_content_cold(job_home(r->job)->queue, &r->record, r->offset,
						 CONTROL_PIECE, &r->piece);
}

static void
on_read_cold(uv_work_t *work, int status)
{
	struct reading *r = work->data;

	if (status < 0)
		r->work_result = status;
	job_wake(r->job);
}

static void
put_piece(struct reading *r)
{
	json_t *object = json_object();
	struct buf text = { 0 };

	base64_encode(buf_span(&r->piece), &text);
	json_object_set_new(object, "content", json_stringn(text.at, buf_len(&text)));
	job_row(r->job, object);
	r->offset += buf_len(&r->piece);
	buf_free(&text);
	buf_clear(&r->piece);
}

static void
put_id(struct control_job *job, const char *key, uint64_t id)
{
	json_t *object = json_object();
	char text[ID_TEXT_LEN + 1];

	json_object_set_new(object, key, json_string(id_format(id, text)));
	job_row(job, object);
}

static enum job_next
content_step(struct reading *r)
{
	int rc = r->work_result;

	r->work_result = 0;
	if (rc == 0 && buf_len(&r->piece) == 0)
		rc = queue_read_content(job_home(r->job)->port, &r->record, r->offset,
					CONTROL_PIECE, false, &r->piece);
	if (rc == -EAGAIN) {
		r->work.data = r;
		rc = uv_queue_work(&job_home(r->job)->loop, &r->work, read_cold, on_read_cold);
		if (rc == 0)
			return JOB_WAITS;
	}
	if (rc == -ENOENT)
		return job_fail(r->job, "The message left the queue while it was read.",
				"It was delivered, bounced or removed; the log has its id.");
	if (rc < 0)
		return job_fail_errno(r->job, rc);
	if (buf_len(&r->piece) > 0) {
		put_piece(r);
		return JOB_MORE;
	}
	r->reading_content = false;
	if (r->job->request.command == CONTROL_QUEUE_EXPORT)
		put_id(r->job, "message_end", r->message);
	return JOB_MORE;
}

/* ---- messages ----------------------------------------------------------------------------- */

static void
copy_record(struct reading *r, const struct message_record *from)
{
	arena_free(&r->arena);
	r->record = *from;
	r->record.crcs = arena_alloc(&r->arena, from->crc_count * sizeof(*from->crcs) + 1);
	if (from->crc_count > 0)
		memcpy(r->record.crcs, from->crcs, from->crc_count * sizeof(*from->crcs));
	r->record.client = r->record.user = (struct span){ 0 };
	r->offset = 0;
}

static void
begin_message(struct reading *r, const struct walk_row *row)
{
	json_t *object = json_object();

	r->message = row->id;
	r->messages++;
	copy_record(r, &row->message->record);
	if (r->job->request.command == CONTROL_QUEUE_EXPORT) {
		json_object_set_new(object, "message", walk_message_json(row->id, row->message));
		job_row(r->job, object);
	} else {
		json_decref(object);
	}
}

/*
 * A row: of the message being gathered, or (its recipients are all told) of the next one, which
 * then waits until the content is through. True: stop here.
 */
static bool
take_row(struct reading *r, const struct walk_row *row)
{
	if (row->id != r->message && r->message != 0) {
		r->next = *row;
		r->have_next = true;
		r->reading_content = true;
		return true;
	}
	if (r->message == 0)
		begin_message(r, row);
	if (r->job->request.command == CONTROL_QUEUE_EXPORT)
		job_row(r->job, walk_exported_json(&r->walk, row));
	return false;
}

static enum job_next
gather(struct reading *r)
{
	size_t budget = JOB_SLICE;
	struct walk_row row;
	int error;

	if (r->have_next) {		/* the walk has not moved since */
		r->have_next = false;
		r->message = 0;
		take_row(r, &r->next);
	}
	for (;;) {
		switch (walk_next(&r->walk, &budget, &row, &error)) {
		case WALK_ROW:
			if (take_row(r, &row))
				return JOB_MORE;
			break;
		case WALK_MISSING:
			put_id(r->job, "missing", row.id);
			break;
		case WALK_PAUSE:
			return JOB_MORE;
		case WALK_DONE:
			r->walked = true;
			r->reading_content = r->message != 0;
			return JOB_MORE;
		case WALK_ERROR:
			return job_fail_errno(r->job, error);
		}
	}
}

static enum job_next
reading_step(struct control_job *job)
{
	struct reading *r = job->state;
	json_t *object;

	if (r->reading_content)
		return content_step(r);
	if (!r->walked)
		return gather(r);
	if (r->messages == 0 && job->request.command == CONTROL_QUEUE_CAT)
		return job_fail(job, "That message is not in the queue.",
				"It was delivered, bounced or removed; the log has its id.");
	object = json_object();
	json_object_set_new(object, "messages", json_integer((json_int_t)r->messages));
	return job_end(job, object);
}

static void
reading_free(struct control_job *job)
{
	struct reading *r = job->state;

	walk_free(&r->walk);
	arena_free(&r->arena);
	buf_free(&r->piece);
	free(r);
}

void
control_content_start(struct control_job *job)
{
	struct reading *r = xcalloc(1, sizeof(*r));
	struct walk_source source = job_walk_source(job);

	walk_init(&r->walk, &source, &job->request, WALK_BY_MESSAGE);
	r->job = job;
	job->state = r;
	job->step = reading_step;
	job->free_state = reading_free;
}
