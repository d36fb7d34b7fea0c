/*
 * job: one request being answered, and what control.c offers to those who answer it. Inside
 * control only.
 *
 * A job is made for a request, its `step` is called once per loop turn while it returns JOB_MORE
 * and the peer reads fast enough; a step does at most JOB_SLICE rows of work. JOB_WAITS:
 * something was asked for and job_wake() will be called by its callback; the job outlives its
 * peer until then. A step ends an answer by job_end() or job_fail() and returns JOB_DONE.
 */
#ifndef TRAM_CONTROL_JOB_H
#define TRAM_CONTROL_JOB_H

#include "mta/control/control.h"
#include "mta/control/protocol.h"
#include "mta/control/text.h"
#include "mta/control/walk.h"
#include "mta/reactor/reactor.h"

enum { JOB_SLICE = 500, IMPORT_ATTEMPTS = HISTORY_FIRST + HISTORY_LAST };

enum job_next { JOB_MORE, JOB_WAITS, JOB_DONE };

struct control_peer;
struct control_import;
struct control_restore;

/* What happened to a recipient before its message was exported. */
struct import_recipient {
	uint64_t state;			/* enum control_state */
	int64_t due_ms;
	uint8_t action;			/* enum report_action, of what is owed */
	bool uncertain, warned;
	size_t attempt_count;		/* in all */
	struct attempt *attempts;	/* IMPORT_ATTEMPTS; NULL: none */
	size_t kept;
};

struct control_job {
	struct control_request request;
	struct arena arena;			/* of the request and the answer as a whole */
	struct control *control;
	struct control_peer *peer;		/* NULL: it is gone */
	enum job_next (*step)(struct control_job *job);
	void (*free_state)(struct control_job *job);
	void *state;				/* the command's own */
	bool waits;
	bool answered;				/* the last line is written */
	uint32_t uid;				/* who asked, for the log */
	int32_t pid;
	struct span outcome;			/* the same */
};

struct reactor *job_home(const struct control_job *job);
struct walk_source job_walk_source(const struct control_job *job);	/* list.c */
const struct control_owner *job_owner(const struct control_job *job);
/*
 * Where a peer keeps the message that it is importing, over several requests. From a step only:
 * the peer is there.
 */
struct control_import **job_import(struct control_job *job);
/* Nothing more is accepted. */
bool *job_draining(struct control_job *job);
/* Another one for each import of this process. */
unsigned job_import_number(struct control_job *job);

void job_row(struct control_job *job, json_t *object);		/* takes the reference */
/* the same, or NULL: adds "end", returns JOB_DONE */
enum job_next job_end(struct control_job *job, json_t *object);
enum job_next job_fail(struct control_job *job, const char *text, const char *hint);
enum job_next job_fail_errno(struct control_job *job, int error);
void job_wake(struct control_job *job);

/* What each command's file offers: called once, makes state and step, and may answer at once. */
void control_list_start(struct control_job *job);	/* list.c: list, show, explain */
/* edit.c: hold, release, retry, bounce, remove */
void control_edit_start(struct control_job *job);
void control_content_start(struct control_job *job);	/* content.c: cat, export */
void control_import_start(struct control_job *job);	/* import.c */
void control_drain_start(struct control_job *job);	/* drain.c */
void control_check_start(struct control_job *job);	/* check.c */
struct what_if_message;
/* check.c: the rows of it are the rest of the answer; from a step */
enum job_next control_follow_what_if(struct control_job *job,
				     const struct what_if_message *message);
void control_what_if_start(struct control_job *job);	/* what_if.c */
void control_suppress_start(struct control_job *job);	/* suppress.c */
/* tls_reports.c */
void control_tls_reports_start(struct control_job *job);
/* measures.c: sites measures, suspend, resume, reset */
void control_measures_start(struct control_job *job);
/* state.c: all that is not about messages */
void control_state_start(struct control_job *job);

/* restore.c */
struct control_restore *control_restore_new(struct control_job *job, uint64_t id,
					    const struct import_recipient *recipients,
					    size_t count);
/* JOB_DONE: all is as it was, or *error is negative. job_wake() calls it again. */
enum job_next control_restore_step(struct control_restore *restore, int *error);
void control_restore_free(struct control_restore *restore);	/* NULL is fine */

void control_import_abort(struct control_import *import);	/* NULL is fine */

#endif
