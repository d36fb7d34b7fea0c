/*
 * request: what the server asks the keeper, as octets: fixed in form, and read by a process that
 * may more than who wrote them. One request is one message of a SOCK_SEQPACKET socket; with it goes
 * a descriptor (a socket), to which the answer is written: so answers never meet. Pure.
 *
 *	1 octet: what is asked; 1 octet: number of words; then each word: 2 octets of length, octets
 *	(least significant first)
 */
#ifndef TRAM_KEEPER_REQUEST_H
#define TRAM_KEEPER_REQUEST_H

#include <stdbool.h>

#include "mta/base/buf.h"

enum keeper_ask {
	KEEPER_RUN = 1,			/* words: a token-command of the configuration */
	/* read the configuration again; two processes: and give it */
	KEEPER_RELOAD,
	KEEPER_TAKEN,			/* what was given last is in use now; no answer */
	KEEPER_DROPPED,			/* it is not; no answer */
	KEEPER_LOOK,			/* give the files of the one in use, as they are now */
	KEEPER_FILE,			/* word: give this one, if the configuration names it */
	KEEPER_NOTIFY,			/* word: tell the service manager; no answer */
	KEEPER_ASKS
};

enum { KEEPER_WORDS_MAX = 64, KEEPER_REQUEST_MAX = 16 << 10 };

struct keeper_request {
	enum keeper_ask ask;
	struct span words[KEEPER_WORDS_MAX];
	size_t word_count;
};

/* False: too many words, or too long. */
bool keeper_request_encode(const struct keeper_request *request, struct buf *out);
/* False: it is no request. The words point into `in`; none has a NUL. */
bool keeper_request_decode(struct span in, struct keeper_request *ret);

/*
 * What RELOAD, LOOK and FILE are answered with: messages of one octet and a text; a descriptor goes
 * with each but the last.
 */
enum keeper_gives {
	KEEPER_GIVES_FILE = 'f',	/* text: its path */
	/* text: the address, or path, on which the socket listens */
	KEEPER_GIVES_DOOR = 'd',
	KEEPER_GIVES_END = 'e',		/* nothing more; text: what was wrong, or none */
};

/* What KEEPER_RUN is answered with: this, `why` and what was printed. Same machine: as it is. */
struct keeper_outcome {
	int32_t rc;
	uint32_t why_len, output_len;
};

#endif
