/*
 * address: mailboxes and paths (RFC 5321 §4.1.2, RFC 6531 §3.3), parsed once into a value.
 *
 * The local part's case is kept, the domain is lowered (ASCII letters only). Quoted local parts are
 * kept as written unless the quotes are needless, in which case they are dropped. Any thread.
 */
#ifndef TRAM_BASE_ADDRESS_H
#define TRAM_BASE_ADDRESS_H

#include "mta/base/arena.h"
#include "mta/base/buf.h"
#include "mta/base/span.h"

enum {
	/* octets; 64 must be taken (RFC 5321 §4.5.3.1.1), VERP and SRS need more */
	ADDRESS_LOCAL_MAX = 253,
	ADDRESS_DOMAIN_MAX = 255,
	ADDRESS_PATH_MAX = 254 + 2,
};

struct address {
	struct span local;		/* empty only in the null path */
	/* lower case; a literal with its brackets; empty: null path or bare postmaster */
	struct span domain;
	bool utf8;			/* has octets above 127 */
};

enum address_error {
	ADDRESS_OK = 0,
	ADDRESS_SYNTAX,			/* 501 5.1.3 (5.1.7 for a reverse-path) */
	ADDRESS_TOO_LONG,		/* the same, the text says why */
	ADDRESS_NEEDS_UTF8,		/* octets above 127 without ADDRESS_UTF8: 553 5.6.7 */
	ADDRESS_NO_DOMAIN,		/* a local part alone */
	ADDRESS_BAD_UTF8,
};

enum address_flags {
	ADDRESS_UTF8 = 1,		/* SMTPUTF8 was asked for */
	ADDRESS_NULL_OK = 2,		/* <> is one: MAIL */
	ADDRESS_POSTMASTER_OK = 4,	/* <postmaster>, any case: RCPT */
	ADDRESS_STRICT = 8,		/* the angle brackets are required */
	ADDRESS_BARE_LOCAL_OK = 16,	/* no domain at all: what a local program hands in */
};

/*
 * Reads one path at the start of text: "<a@b>", or (not STRICT) "a@b" up to the first blank. A
 * source route is dropped. On success *rest is what follows the path (starting with a blank, or
 * empty), and *ret is copied into the arena.
 */
enum address_error address_parse_path(struct span text, unsigned flags, struct arena *arena,
				      struct address *ret, struct span *rest);

/* The whole of text is one mailbox without brackets: "a@b". */
enum address_error address_parse(struct span text, unsigned flags, struct arena *arena,
				 struct address *ret);

/* "local@domain", "local" or "": in the arena. */
struct span address_text(const struct address *address, struct arena *arena);

/* A stored address (from address_text) cut at its last '@' outside quotes: no copy, no check. */
struct span address_domain_of(struct span text);
struct span address_local_of(struct span text);

/*
 * A host name of RFC 5321 "Domain" (A-labels, or U-labels if utf8), or an address literal in
 * brackets.
 */
bool domain_valid(struct span domain, bool utf8);
bool domain_literal_valid(struct span literal);		/* "[192.0.2.1]", "[IPv6:…]" */

/* Well-formed UTF-8 without surrogates or overlong forms. */
bool utf8_valid(struct span s);

/* xtext, RFC 3461 §4: decoding into the arena fails on bad hex or octets outside 33..126. */
bool xtext_decode(struct span s, struct arena *arena, struct span *ret);
void xtext_encode(struct span s, struct buf *out);

#endif
