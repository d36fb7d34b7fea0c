/*
 * tlsrpt_report: a day's counters → the JSON report of RFC 8460 §4, and the mail that carries it
 * (§5.3). Pure but for zlib and jansson.
 */
#ifndef TRAM_TLSRPT_REPORT_H
#define TRAM_TLSRPT_REPORT_H

#include "mta/base/buf.h"
#include "policy/tlsrpt.h"

struct tlsrpt_facts {
	const struct tlsrpt_day *day;
	struct span organization;	/* "Example, Inc."; empty: hostname */
	struct span hostname;		/* who reports; A-labels, as the domain */
	struct span contact;		/* "tls-reports@example.org": From, contact-info */
	struct span report_id;		/* unique: letters, digits, ".-_" (an id of the queue) */
	int64_t now_ms;			/* wall clock */
};

/* UTF-8, whatever octets the other side sent. Appended. */
void tlsrpt_json(const struct tlsrpt_facts *facts, struct buf *out);

/* RFC 1952: for Content-Type application/tlsrpt+gzip. Appended. Negative errno if zlib fails. */
int tlsrpt_gzip(struct span json, struct buf *out);

/* "relay.example.net!example.org!1479945600!1480031999!001.json.gz" */
struct span tlsrpt_file_name(const struct tlsrpt_facts *facts, struct arena *arena);

/*
 * Appends the header block (with its blank line; no Received, no Return-Path) and the body of the
 * mail to these addresses (at least one): multipart/report of a text and the gzipped JSON in
 * base64; 7-bit, CRLF, with "TLS-Required: No", for it must get through where TLS is broken.
 * Negative errno if zlib fails.
 */
int tlsrpt_mail(const struct tlsrpt_facts *facts, const struct span *to, size_t to_count,
		struct buf *header, struct buf *body);

#endif
