/*
 * tokens: access tokens that commands print (token-command), for the logins at smarthosts.
 *
 *	a delivery's loop: tokens_ask(&request) → … → request.done, on the same loop
 *	home loop: one entry per command: its token while it is good; else who waits for it, and the
 *	thread in which the command runs (mta/net/command_run.h)
 *
 * One run of a command at a time, however many deliveries wait. A token that a server has refused
 * is not given again: the request says which one that was, and only if it is still the one that is
 * known does the command run anew. A reload forgets all tokens.
 */
#ifndef TRAM_TOKENS_H
#define TRAM_TOKENS_H

#include "mta/base/buf.h"
#include "mta/config/config.h"
#include "mta/net/command_run.h"
#include "mta/net/post.h"

struct tokens;

struct token_request {			/* embedded in whoever waits; lives until done */
	struct letter letter;
	struct tokens *tokens;
	struct post *from, *home;
	void (*done)(struct token_request *request);
	/* of the configuration, for as long as the delivery that asks */
	const struct route *route;
	const struct limits *limits;
	/* number of the token that a server would not have; 0: none */
	uint64_t refused;
	/* the answer */
	/* the owner's to wipe; empty: there is none, the log says why */
	struct buf token;
	uint64_t number;		/* which one it is */
	bool fresh;			/* made for this request */
};

/* On the loop of `from`, of a delivery that is not yet released. */
void tokens_ask(struct token_request *request);

/* Home loop. */
struct tokens *tokens_start(uv_loop_t *loop, struct post *home,
			    const struct command_runner *runner);
void tokens_forget(struct tokens *tokens);
/* Commands are killed, whoever waits is told; the loop must run on. No more requests. */
void tokens_close(struct tokens *tokens);
void tokens_free(struct tokens *tokens);

#endif
