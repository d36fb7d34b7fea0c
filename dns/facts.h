/*
 * facts: the table of DNS answers that decisions are made from.
 *
 * A decision is a pure function over this table: it returns its verdict, or all names that it
 * still needs. The driver asks for those, adds the answers and calls again from the start. A
 * look-up that failed or took too long is a fact, too (DNS_TEMPORARY): with it the function will
 * not ask for that name again. One thread at a time; all lives in the arena.
 */
#ifndef TRAM_DNS_FACTS_H
#define TRAM_DNS_FACTS_H

#include "dns/answer.h"

enum { FACTS_MAX = 256, FACTS_NEEDS_MAX = 16 };

struct fact {
	struct fact *next;
	struct span name;		/* lower case, no final dot */
	enum dns_type type;
	struct dns_answer answer;
};

struct facts {				/* zeroed but for its arena: empty */
	struct arena *arena;
	struct fact *first;
	size_t count;
};

struct facts_needs {			/* zeroed: none */
	struct facts_need {
		struct span name;	/* good as long as the question and the table are */
		enum dns_type type;
	} need[FACTS_NEEDS_MAX];
	size_t count;
};

/* Copied, down to its records' octets. Beyond FACTS_MAX, or if it is there already: dropped. */
void facts_add(struct facts *facts, struct span name, enum dns_type type,
	       const struct dns_answer *answer);
/* A look-up that will bring no answer: DNS_TEMPORARY, why. */
void facts_add_failure(struct facts *facts, struct span name, enum dns_type type, struct span why);

/* NULL: not known yet. The name in any case. */
const struct dns_answer *facts_find(const struct facts *facts, struct span name,
				    enum dns_type type);

/* The same; an unknown one is put on the list of needs (once). The name is in the arena. */
const struct dns_answer *facts_want(const struct facts *facts, struct span name,
				    enum dns_type type, struct facts_needs *needs);

#endif
