/*
 * https: requests to HTTPS servers out there: an MTA-STS policy that is fetched (RFC 8461 §3.3), a
 * TLS report that is sent (RFC 8460 §5.4). HTTP and TLS are libcurl's, on the loop it is given.
 *
 * A host is found through our own resolver, never the system's; it must show a certificate that the
 * CA vouches for and that has its name, over TLS 1.2 or later. No redirects are followed, no proxy
 * is used, and no address of the machine or of a private network is reached unless allow_private
 * says so: the URL is a stranger's. All is bounded: time (of the whole, from https_request on), the
 * answer's octets, how many requests go at once and how many wait. One loop, its thread only.
 */
#ifndef TRAM_HTTPS_H
#define TRAM_HTTPS_H

#include <uv.h>

#include "dns/resolver.h"
#include "mta/base/span.h"

enum {
	HTTPS_BODY_MAX = 65536,		/* octets of an answer that are wanted */
	HTTPS_AT_ONCE = 16,
	HTTPS_WAITING_MAX = 1000,	/* for their turn; one more fails */
};

struct https;
struct https_call;

struct https_settings {			/* for requests that begin from now on; copied */
	struct dns_resolver *resolver;	/* NULL: they fail */
	const char *ca;			/* a file or directory (PEM); NULL: the system's */
	bool allow_private;
};

enum https_method { HTTPS_GET, HTTPS_POST };

enum https_failure {
	HTTPS_ANSWERED,
	HTTPS_NO_HOST,			/* a URL that is none, a name without a (public) address */
	HTTPS_TIMED_OUT,
	HTTPS_NOT_TRUSTED,		/* its certificate is not good */
	HTTPS_FAILED,			/* connection, TLS, HTTP; too many requests wait */
};

struct https_answer {
	enum https_failure failure;
	unsigned status;		/* 200 …; 0: there is no answer */
	struct span content_type;	/* as sent; empty: none */
	/* More than HTTPS_BODY_MAX octets (one more): it was longer, the rest was not read. */
	struct span body;
	struct span why;		/* not ANSWERED: one line for people */
};

struct https_request {			/* copied */
	enum https_method method;
	/* "https://host[:port]/path"; the host is a name in A-labels */
	struct span url;
	struct span content_type;	/* POST: "application/tlsrpt+gzip" */
	struct span body;		/* POST */
	int64_t timeout_ms;		/* of all of it */
	/* The answer is good during the call. Never before https_request has returned. */
	void (*done)(void *arg, const struct https_answer *answer);
	void *arg;
};

struct https *https_new(uv_loop_t *loop);
void https_configure(struct https *https, const struct https_settings *settings);
/* The call is gone when done is called. Never NULL. */
struct https_call *https_request(struct https *https, const struct https_request *request);
void https_cancel(struct https_call *call);	/* done will not come; NULL is fine */
/*
 * What is under way ends without its done, and its calls are gone. Not from a done. Before the
 * resolver closes; the loop must run on, then https_free. Both take NULL.
 */
void https_close(struct https *https);
void https_free(struct https *https);

#endif
