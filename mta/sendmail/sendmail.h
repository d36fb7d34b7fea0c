/*
 * tram-sendmail: what programs call to hand in mail, as they would call sendmail. It speaks SMTP
 * over tramd's local socket, whose peer credentials tell the daemon who called: so it needs no
 * privilege, and refuses to have one.
 *
 * Way of a call: options.c reads the command line; message.c reads the message from standard
 * input and completes its header; smtp.c hands it in. pass.c is -bs, queue.c is mailq and -q.
 * Nothing is taken from the environment, no shell is run, no file but the configuration is read.
 */
#ifndef TRAM_TRAM_SENDMAIL_H
#define TRAM_TRAM_SENDMAIL_H

#include "mta/base/arena.h"
#include "mta/base/buf.h"
#include "mta/base/envelope.h"

#define TRAM_CONFIG_DEFAULT "/etc/tram/tram.conf"
#define TRAM_SUBMISSION_DEFAULT "/run/tram/submission"
#define TRAM_CONTROL_DEFAULT "/run/tram/control"

enum sendmail_mode {
	SENDMAIL_SEND,
	SENDMAIL_SMTP,
	SENDMAIL_LIST,
	SENDMAIL_ALIASES,
	SENDMAIL_RUN_QUEUE,
	SENDMAIL_HELP,
	SENDMAIL_VERSION,
};

/* in an arena; each one as it is to be said in MAIL or RCPT */
struct sendmail_addresses {
	struct span *list;
	size_t count, cap;
};

struct sendmail {
	enum sendmail_mode mode;
	const char *config_path;	/* NULL: the default, if it can be read */
	struct span sender;		/* -f, -r */
	bool sender_given;		/* the sender may be empty: the null path */
	struct span full_name;		/* -F */
	bool from_header;		/* -t */
	bool dots_are_text;		/* -i */
	bool quiet, verbose;		/* -oeq; -v */
	bool eightbit;			/* -B8BITMIME */
	uint8_t notify, ret;		/* -N, -R */
	struct span envid;		/* -V, still as it was typed */
	struct span queue_id, queue_sender, queue_recipient;	/* -qI, -qS, -qR */
	struct sendmail_addresses recipients;
	/* from the configuration, or by default */
	const char *socket, *control;
	struct span hostname;
	uint64_t max_size;
	struct arena arena;
};

/* ---- options: 0, or an exit code of sysexits.h with a message on standard error ----------- */

int sendmail_parse(int argc, char **argv, struct sendmail *ret);
void sendmail_help(void);

/* ---- addresses: pure ---------------------------------------------------------------------- */

enum { SENDMAIL_ADDRESSES_MAX = 100000 };

/*
 * Adds the addresses of a list (RFC 5322 §3.4: names, comments, groups, routes; separated by
 * commas). False: *bad is what is no address, or the list is too long.
 */
bool sendmail_addresses_add(struct sendmail_addresses *to, struct span list, struct arena *arena,
			    struct span *bad);

/* ---- the message: pure -------------------------------------------------------------------- */

struct sendmail_message {
	struct buf line;		/* the input's line so far */
	struct buf text;		/* all of it, CRLF lines */
	bool dots_are_text;
	bool ended;			/* by a lone dot */
	bool too_large;
	uint64_t max_size;		/* 0: no limit */
	struct buf header;		/* set by sendmail_message_complete: with its blank line */
	struct span body;		/* the same: a part of text */
	bool eightbit;
};

/* Takes octets of standard input; LF, CRLF and CR end lines. */
void sendmail_message_take(struct sendmail_message *m, struct span octets);
void sendmail_message_end(struct sendmail_message *m);

struct sendmail_facts {
	struct span login, full_name, hostname;		/* of who calls; full_name may be empty */
	int64_t now_ms;
	uint64_t unique;				/* for Message-ID */
};
/*
 * Splits it, takes recipients out of To, Cc and Bcc if s says so (Bcc goes), and adds From, Date
 * and Message-ID where they are missing. False: *bad is an address that is none.
 */
bool sendmail_message_complete(struct sendmail_message *m, struct sendmail *s,
			       const struct sendmail_facts *facts, struct span *bad);
void sendmail_message_free(struct sendmail_message *m);

/* ---- what is done: each returns an exit code ---------------------------------------------- */

int sendmail_submit(const struct sendmail *s, const struct sendmail_message *m);
int sendmail_pass_smtp(const struct sendmail *s);		/* -bs */
int sendmail_list(const struct sendmail *s);			/* -bp */
int sendmail_run_queue(const struct sendmail *s);		/* -q */
/*
 * Connects, waiting for the daemon up to SENDMAIL_WAIT_MS from began_ms (monotonic). A
 * descriptor, or -errno.
 */
enum { SENDMAIL_WAIT_MS = 30 * 1000 };
int sendmail_connect(const char *path, int64_t began_ms);
void sendmail_pause(void);					/* between two tries */
int sendmail_no_daemon(const struct sendmail *s, int error);	/* says so; the exit code */

int sendmail_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
