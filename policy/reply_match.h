/*
 * reply_match: the conditions of a rule about replies, as they are written in files of rules
 * (classify-rules, response-rules): code=5xx status=5.7.* stage=rcpt host=*.example.org /PATTERN/.
 * Pure; any thread.
 *
 * What a match costs is bounded, whatever the text: see pattern.h.
 */
#ifndef TRAM_POLICY_REPLY_MATCH_H
#define TRAM_POLICY_REPLY_MATCH_H

#include "policy/classify.h"
#include "policy/pattern.h"

struct reply_match {
	/* any, none came, a code, or its first digit (4, 5) */
	uint16_t code;
	uint16_t klass, subject, detail;	/* of the status, or any */
	unsigned stage;			/* CLASSIFY_STAGES: any */
	struct span host;		/* a list of hosts, as written; empty: any. The line's */
	struct pattern *pattern;	/* NULL: none */
};

void reply_match_init(struct reply_match *m);
void reply_match_free(struct reply_match *m);

/* The next word of a line that is left; empty at its end. */
struct span rule_word(struct span *line);

/* Each: NULL, or what is wrong with it; error has room for that. */
/* code=, status=, stage=, host=; "": it is none of these. */
const char *reply_match_word(struct reply_match *m, struct span word);
const char *reply_match_pattern(struct reply_match *m, struct span text, struct buf *error);
/* all of it is read: can it ever be? */
const char *reply_match_judge(const struct reply_match *m);

/* Does all that fits `then` surely fit `first`? */
bool reply_match_covers(const struct reply_match *first, const struct reply_match *then);

/* "mx.example.org,*.example.net": names, and *. for all below a domain. */
bool host_list_valid(struct span list);
bool host_list_has(struct span list, struct span host);		/* a valid one */
/* The text of a reply, with blanks and line ends that follow one another made one. */
struct span reply_plain_text(const struct classify_reply *reply, char room[PATTERN_TEXT_MAX]);
enum pattern_result reply_match_fits(const struct reply_match *m,
				     const struct classify_reply *reply, struct pattern_work *work,
				     struct span text);

#endif
