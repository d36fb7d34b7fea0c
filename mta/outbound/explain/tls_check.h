/*
 * tls_check: what a delivery would meet on its way, and do about it, without mail (`tramctl
 * tls-check`). It takes the way of a lane (route, MX records, site), then watches a delivery that
 * has no job: what is told is decided by the code that decides for mail. Home loop only.
 *
 * Rows are objects: step, verdict (good, bad, note), text, host; some have members of their own.
 * Every wait ends: look-ups by the resolver's time-outs, all others by DELIVERY_WATCH_MS.
 */
#ifndef TRAM_TLS_CHECK_H
#define TRAM_TLS_CHECK_H

#include <jansson.h>

#include "mta/base/span.h"

struct dispatcher;
struct tls_check;

/*
 * domain: of a recipient; or host: "mx.example.org:25", "[192.0.2.1]:25" (as behind "smtp:" in a
 * route). more(arg) is called when there are rows, or the end; never before this has returned.
 * NULL:
 * *error says what is wrong with the domain or host.
 */
struct tls_check *tls_check_start(struct dispatcher *d, struct span domain, struct span host,
				  void (*more)(void *arg), void *arg, const char **error);
/*
 * The same, of the records to publish for this domain (dns_check.c): rows have record (mx, tlsa,
 * mta-sts, tlsrpt, policy-file), text, and state, if the resolver was asked; bad is what is not
 * there.
 */
struct tls_check *dns_check_start(struct dispatcher *d, struct span domain,
				  void (*more)(void *arg), void *arg, const char **error);
json_t *tls_check_next(struct tls_check *check);	/* the reference is given; NULL: none now */
bool tls_check_over(const struct tls_check *check);	/* after the last row */
bool tls_check_good(const struct tls_check *check);	/* over: no row is bad */
/* It need not be over; more is not called any more. From more() too. */
void tls_check_release(struct tls_check *check);
/* The daemon stops: all of them end soon. */
void tls_checks_stop(struct dispatcher *d);

#endif
