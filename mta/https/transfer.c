/*
 * transfer: one request as libcurl does it: what is asked, of which addresses, and what is made of
 * the answer; see https.c. Its loop only.
 *
 * libcurl is given the addresses that our resolver found. Should it want to look a name up all the
 * same, it is stopped, and each address is looked at once more before a socket is made for it.
 */
#include "mta/https/private.h"

#include <sys/socket.h>
#include <unistd.h>

#include "mta/base/netaddr.h"

/* ---- the URL ------------------------------------------------------------------------------ */

static bool
refuse(struct https_call *call, struct span why)
{
	call->refused = why;
	return false;
}

static bool
take_port(struct https_call *call, const char *text)
{
	uint64_t port;

	if (!span_to_u64(span_str(text), UINT16_MAX, &port) || port == 0)
		return false;
	call->port = (uint16_t)port;
	return true;
}

static bool
judge_url(struct https_call *call, CURLU *url)
{
	char *scheme = NULL, *host = NULL, *port = NULL, *user = NULL;
	struct netaddr literal;
	bool good = false;

	curl_url_get(url, CURLUPART_USER, &user, 0);
	if (curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
	    !span_eq(span_str(scheme), SPAN("https"))) {
		refuse(call, SPAN("the URL is not https://"));
	} else if (user != NULL) {
		refuse(call, SPAN("the URL has a user name"));
	} else if (curl_url_get(url, CURLUPART_HOST, &host, 0) != CURLUE_OK ||
		   curl_url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) != CURLUE_OK ||
		   !take_port(call, port)) {
		refuse(call, SPAN("the URL has no host, or no port that could be"));
	} else if (host[0] == '[' || netaddr_parse(span_str(host), 0, &literal) ||
		   !span_is_ascii(span_str(host))) {
		refuse(call, SPAN("the URL's host is not a name in A-labels"));
	} else {
		call->host = arena_copy(&call->arena, span_str(host));
		good = true;
	}
	curl_free(scheme);
	curl_free(host);
	curl_free(port);
	curl_free(user);
	return good;
}

bool
transfer_read_url(struct https_call *call)
{
	CURLU *url = curl_url();
	bool good = url != NULL && curl_url_set(url, CURLUPART_URL, call->url,
						CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK;

	good = good ? judge_url(call, url) : refuse(call, SPAN("the URL cannot be read"));
	curl_url_cleanup(url);
	return good;
}

/* ---- what libcurl asks us while it works -------------------------------------------------- */

/* It has been given the addresses: a look-up of its own would be one too many. */
static int
on_own_lookup(void *resolver, void *reserved, void *arg)
{
	(void)resolver;
	(void)reserved;
	(void)arg;
	return 1;
}

static curl_socket_t
on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *to)
{
	const struct https_call *call = arg;
	struct netaddr address;

	(void)purpose;
	if (!netaddr_from_sockaddr(&to->addr, &address) ||
	    (!call->allow_private && netaddr_is_private(&address)))
		return CURL_SOCKET_BAD;
	return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

/* Fewer than given: the transfer ends. */
static size_t
on_header(char *at, size_t size, size_t count, void *arg)
{
	struct https_call *call = arg;

	(void)at;
	call->header_octets += size * count;
	return call->header_octets > HEADER_MAX ? 0 : size * count;
}

static size_t
on_body(char *at, size_t size, size_t count, void *arg)
{
	struct https_call *call = arg;
	size_t room = HTTPS_BODY_MAX + 1 - buf_len(&call->in), given = size * count;

	buf_append(&call->in, span_first(span_of(at, given), room));
	return buf_len(&call->in) > HTTPS_BODY_MAX ? 0 : given;
}

/* ---- the request -------------------------------------------------------------------------- */

#define SET(option, value) (good = good && curl_easy_setopt(easy, (option), (value)) == CURLE_OK)

static bool
set_trust(const struct https *https, CURL *easy)
{
	const char *usual = NULL;
	bool good = true;

	SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	SET(CURLOPT_CA_CACHE_TIMEOUT, (long)CA_CACHE_S);
	if (https->ca != NULL) {		/* this one, and not the system's beside it */
		SET(CURLOPT_CAINFO, https->ca_is_folder ? NULL : https->ca);
		SET(CURLOPT_CAPATH, https->ca_is_folder ? https->ca : NULL);
	} else if (curl_easy_getinfo(easy, CURLINFO_CAINFO, &usual) == CURLE_OK && usual != NULL) {
		SET(CURLOPT_CAPATH, NULL);	/* the file is read once for many requests */
	}
	return good;
}

/* Only https, straight to the host, and nothing from the environment or from former requests. */
static bool
set_manners(CURL *easy)
{
	bool good = true;

	SET(CURLOPT_PROTOCOLS_STR, "https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_HTTP09_ALLOWED, 0L);
	SET(CURLOPT_FRESH_CONNECT, 1L);
	SET(CURLOPT_FORBID_REUSE, 1L);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_RESOLVER_START_FUNCTION, on_own_lookup);
	return good;
}

static bool
add_header(struct https_call *call, const char *line)
{
	struct curl_slist *longer = curl_slist_append(call->headers, line);

	if (longer != NULL)
		call->headers = longer;
	return longer != NULL;
}

static bool
set_content(struct https_call *call, CURL *easy)
{
	struct span type = arena_printf(&call->arena, "Content-Type: %.*s",
					SPAN_FMT(call->content_type));
	bool good = true;

	SET(CURLOPT_HTTPGET, 1L);
	if (call->method == HTTPS_GET)
		return good;
	SET(CURLOPT_POST, 1L);
	/* never NULL: it would read standard input instead */
	SET(CURLOPT_POSTFIELDS, call->body.len > 0 ? call->body.at : "");
	SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body.len);
	good = good && add_header(call, type.at) && add_header(call, "Expect:");
	SET(CURLOPT_HTTPHEADER, call->headers);
	return good;
}

/* "host:443:192.0.2.1,[2001:db8::1]", in a cache of its own that ends with the call. */
static bool
set_addresses(struct https_call *call, CURL *easy, const struct host_addresses *found)
{
	struct buf line = { 0 };
	bool good = true;

	buf_printf(&line, "%.*s:%u:", SPAN_FMT(call->host), call->port);
	for (size_t i = 0; i < found->count; i++) {
		const struct netaddr *address = &found->addresses[i];
		bool six = address->family == AF_INET6;
		char text[NETADDR_TEXT_MAX];

		buf_printf(&line, "%s%s%s%s", i > 0 ? "," : "", six ? "[" : "",
			   netaddr_format(address, text), six ? "]" : "");
	}
	buf_byte(&line, '\0');
	call->resolve = curl_slist_append(NULL, buf_span(&line).at);
	buf_free(&line);
	call->share = curl_share_init();
	good = call->resolve != NULL && call->share != NULL &&
	       curl_share_setopt(call->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS) == CURLSHE_OK;
	SET(CURLOPT_SHARE, call->share);
	SET(CURLOPT_RESOLVE, call->resolve);
	return good;
}

static bool
set_all(struct https_call *call, CURL *easy, const struct host_addresses *found)
{
	int64_t left_ms = call->until_ms - (int64_t)uv_now(call->https->loop);
	bool good = set_trust(call->https, easy) && set_manners(easy) && set_content(call, easy) &&
		    set_addresses(call, easy, found);

	left_ms = left_ms > 0 ? left_ms : 1;
	SET(CURLOPT_URL, call->url);
	SET(CURLOPT_TIMEOUT_MS, (long)left_ms);	/* it shares this out among the addresses */
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long)left_ms);
	SET(CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
	SET(CURLOPT_OPENSOCKETDATA, call);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, call);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, call);
	SET(CURLOPT_ERRORBUFFER, call->error);
	SET(CURLOPT_PRIVATE, call);
	return good;
}

void
transfer_start(struct https_call *call, const struct host_addresses *found)
{
	struct https_answer answer = { .failure = HTTPS_FAILED,
				       .why = SPAN("libcurl cannot do this request") };

	call->easy = curl_easy_init();
	if (call->easy == NULL || !set_all(call, call->easy, found) ||
	    curl_multi_add_handle(call->https->multi, call->easy) != CURLM_OK)
		https_call_over(call, &answer);
}

/* ---- the answer --------------------------------------------------------------------------- */

static enum https_failure
failure_of(CURLcode code)
{
	switch (code) {
	case CURLE_OPERATION_TIMEDOUT:
		return HTTPS_TIMED_OUT;
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_INVALIDCERTSTATUS:
		return HTTPS_NOT_TRUSTED;
	default:
		return HTTPS_FAILED;
	}
}

void
transfer_ended(struct https_call *call, CURLcode code)
{
	struct https_answer answer = { .failure = failure_of(code) };
	bool cut = buf_len(&call->in) > HTTPS_BODY_MAX;
	const char *type = NULL;
	long status = 0;

	if (code == CURLE_OK || cut) {
		curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &status);
		curl_easy_getinfo(call->easy, CURLINFO_CONTENT_TYPE, &type);
		answer = (struct https_answer){
			.status = (unsigned)status,
			.content_type = arena_copy(&call->arena, span_str(type)),
			.body = buf_span(&call->in),
		};
	} else if (call->header_octets > HEADER_MAX) {
		answer.why = SPAN("the header of its answer is too long");
	} else {
		answer.why = span_str(call->error[0] ? call->error : curl_easy_strerror(code));
	}
	https_call_over(call, &answer);
}

void
transfer_drop(struct https_call *call)
{
	if (call->easy != NULL) {
		curl_multi_remove_handle(call->https->multi, call->easy);
		curl_easy_cleanup(call->easy);
	}
	call->easy = NULL;
	if (call->share != NULL)
		curl_share_cleanup(call->share);
	call->share = NULL;
	curl_slist_free_all(call->resolve);
	curl_slist_free_all(call->headers);
	call->resolve = call->headers = NULL;
}
