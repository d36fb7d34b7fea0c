/*
 * tls: what the configuration says of TLS: contradictions, found without reading a file; and the
 * certificates and keys themselves, which only the daemon opens.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "mta/base/clock.h"
#include "mta/config/private.h"
#include "policy/tlsrpt.h"

enum { SMTPS_PORT = 465 };

static const int64_t day_ms = INT64_C(24) * 3600 * 1000;

static struct place
listener_place(const struct load *load, const char *directive, size_t listener)
{
	const char *const names[] = { directive, NULL };
	struct place at = config_section(load, SECTION_LISTENER, listener)->at;

	config_place(load, names, SECTION_LISTENER, listener, &at);
	return at;
}

static bool
is_written(const struct load *load, const char *directive, size_t listener)
{
	const char *const names[] = { directive, NULL };
	struct place at;

	return config_place(load, names, SECTION_LISTENER, listener, &at);
}

static bool
check_certificate(struct load *load, size_t i)
{
	const struct tls_identity *c = &load->config->certificates[i];
	struct place at = { c->file, c->line };

	if (c->chain_count == 0 || c->key_count == 0)
		return config_fail(load, at,
				   "certificate %.*s needs both: chain = \"/path/fullchain.pem\" "
				   "and key = \"/path/privkey.pem\"", SPAN_FMT(c->name));
	if (c->next_key_count > TLS_PAIRS_MAX)
		return config_fail(load, at, "certificate %.*s has %zu files in next-key; name at "
				   "most %d", SPAN_FMT(c->name), c->next_key_count, TLS_PAIRS_MAX);
	if (c->chain_count != c->key_count || c->chain_count > TLS_PAIRS_MAX)
		return config_fail(load, at,
				   "certificate %.*s has %zu chains and %zu keys; name one key "
				   "for each chain, in the same order (at most %d)",
				   SPAN_FMT(c->name), c->chain_count, c->key_count, TLS_PAIRS_MAX);
	return true;
}

static bool
has_port(const struct listener *listener, uint16_t port)
{
	for (size_t i = 0; i < listener->address_count; i++)
		if (listener->addresses[i].port == port)
			return true;
	return false;
}

static bool
check_listener(struct load *load, size_t i)
{
	struct config *config = load->config;
	struct listener *l = &config->listeners[i];

	if (!is_written(load, "tls", i))
		l->tls = l->tls_on_connect	       ? LISTENER_TLS_REQUIRED :
			 config->certificate_count > 0 ? LISTENER_TLS_OPTIONAL :
							 LISTENER_TLS_OFF;
	if (l->tls != LISTENER_TLS_OFF && config->certificate_count == 0)
		return config_fail(load, listener_place(load, "tls", i),
				   "listener %.*s cannot do TLS without a certificate; add: "
				   "certificate mail { chain = \"/path/fullchain.pem\" key = "
				   "\"/path/privkey.pem\" }", SPAN_FMT(l->name));
	if (l->tls_on_connect && l->tls == LISTENER_TLS_OFF)
		return config_fail(
			load, listener_place(load, "tls-on-connect", i),
			"listener %.*s: tls-on-connect contradicts tls = off; remove one",
			SPAN_FMT(l->name));
	if (l->tls_settings.client_certificates != TLS_CLIENT_CERT_OFF &&
	    l->tls == LISTENER_TLS_OFF)
		return config_fail(
			load, listener_place(load, "client-certificates", i),
			"listener %.*s: client-certificates needs TLS; set tls = required",
			SPAN_FMT(l->name));
	if (l->tls_settings.client_certificates != TLS_CLIENT_CERT_OFF &&
	    l->tls_settings.client_ca == NULL)
		return config_fail(load, listener_place(load, "client-certificates", i),
				   "listener %.*s: set client-ca to the certificate(s) of who "
				   "signs the clients' ones", SPAN_FMT(l->name));
	if (has_port(l, SMTPS_PORT) && !l->tls_on_connect)
		config_warn(load, config_section(load, SECTION_LISTENER, i)->at,
			    "listener %.*s: clients expect TLS from the first octet on port 465; "
			    "set tls-on-connect = yes", SPAN_FMT(l->name));
	if (l->tls_settings.min_version < TLS_1_2)
		config_warn(load, listener_place(load, "tls-min-version", i),
			    "listener %.*s: TLS below 1.2 can be broken; keep it for old devices "
			    "in your own network", SPAN_FMT(l->name));
	l->smtp.offer_starttls = l->tls != LISTENER_TLS_OFF && !l->tls_on_connect;
	l->smtp.require_tls = l->tls == LISTENER_TLS_REQUIRED;
	return true;
}

static const struct tls_identity *
find_certificate(const struct config *config, struct span name)
{
	for (size_t i = 0; i < config->certificate_count; i++)
		if (span_eq(config->certificates[i].name, name))
			return &config->certificates[i];
	return NULL;
}

static bool
check_published(struct load *load)
{
	static const char *const name[] = { "published-tlsrpt", NULL };
	struct span uri = load->config->published_tlsrpt;
	struct tlsrpt_record record;
	struct arena arena = { 0 };
	struct place at;
	bool good = uri.len == 0 ||
		    tlsrpt_record_parse(arena_printf(&arena, "v=TLSRPTv1; rua=%.*s", SPAN_FMT(uri)),
					&arena, &record);

	arena_free(&arena);
	if (good || !config_place(load, name, SECTION_TOP, 0, &at))
		return true;
	return config_fail(load, at, "published-tlsrpt = \"%.*s\": not where a report can be sent; "
			   "as in \"mailto:tls-reports@example.org\"", SPAN_FMT(uri));
}

bool
config_check_tls(struct load *load)
{
	static const char *const shown[] = { "delivery-certificate", NULL };
	struct span name = load->config->delivery_certificate;
	struct place at;

	if (config_place(load, shown, SECTION_TOP, 0, &at) &&
	    find_certificate(load->config, name) == NULL)
		return config_fail(load, at,
				   "delivery-certificate = \"%.*s\": there is no such certificate; "
				   "name one, or add it", SPAN_FMT(name));
	if (!check_published(load))
		return false;
	for (size_t i = 0; i < load->config->certificate_count; i++)
		if (!check_certificate(load, i))
			return false;
	for (size_t i = 0; i < load->config->listener_count; i++)
		if (!check_listener(load, i))
			return false;
	return true;
}

/* ---- the files ---------------------------------------------------------------------------- */

void
config_judge_certificate(const struct config *config, const struct tls_certificate_facts *facts,
			 struct buf *out)
{
	int64_t left = facts->not_after_ms - wall_ms();

	if (left < 0)
		buf_printf(out, "%.*s: this certificate (%.*s) has expired: other servers and "
				"programs will refuse it; renew it\n",
			   SPAN_FMT(facts->file), SPAN_FMT(facts->names));
	else if (left < config->certificate_warning_ms)
		buf_printf(out, "%.*s: this certificate (%.*s) expires in %lld days; renew it\n",
			   SPAN_FMT(facts->file), SPAN_FMT(facts->names),
			   (long long)(left / day_ms));
	if (facts->ocsp == TLS_OCSP_EXPIRED)
		buf_printf(out, "%.*s: the OCSP response about this certificate has expired and is "
				"not shown; get a new one\n", SPAN_FMT(facts->file));
	else if (facts->ocsp == TLS_OCSP_FOREIGN)
		buf_printf(out, "%.*s: no file of `ocsp` is about this certificate; get a response "
				"for it, or remove `ocsp`\n", SPAN_FMT(facts->file));
}

/* Who has the key can be this server. */
static void
judge_keys(const struct config *config, struct buf *out)
{
	struct arena arena = { 0 };
	char room[FILES_PATH_MAX];
	struct stat there;

	for (size_t i = 0; i < config->certificate_count; i++) {
		const struct tls_identity *c = &config->certificates[i];

		for (size_t j = 0; j < c->key_count; j++)
			if (stat(files_at(config->files, arena_str(&arena, c->keys[j]), room),
				 &there) == 0 &&
			    (there.st_mode & (S_IROTH | S_IWOTH)) != 0)
				buf_printf(out, "%.*s: everybody on this machine can read this "
						"key; chmod o= it\n", SPAN_FMT(c->keys[j]));
	}
	arena_free(&arena);
}

struct judging {
	const struct config *config;
	struct buf *warnings;
};

static void
judge_certificate(void *arg, const struct tls_certificate_facts *facts)
{
	const struct judging *j = arg;

	config_judge_certificate(j->config, facts, j->warnings);
}

struct tls_context *
config_tls_context(const struct config *config, size_t i)
{
	for (size_t j = 0; j < config->listener_count; j++)
		if (config->listeners[j].tls_context != NULL && i-- == 0)
			return config->listeners[j].tls_context;
	return i == 0 ? config->client_tls : NULL;
}

static int
open_client(struct config *config, char why[TLS_ERROR_MAX])
{
	const struct tls_identity *shown = find_certificate(config, config->delivery_certificate);

	return tls_client_context(&config->delivery_tls, config->delivery_ca, shown,
				  config->threads, &config->client_tls, why);
}

int
config_open_tls(struct config *config, char error[CONFIG_ERROR_MAX], struct buf *warnings)
{
	struct judging judging = { config, warnings };
	bool told = warnings == NULL;
	char whose[TLS_ERROR_MAX] = "";

	config->delivery_tls.files = config->files;
	if (open_client(config, whose) < 0) {
		snprintf(error, CONFIG_ERROR_MAX, "%s: deliveries: %s", config->path, whose);
		return -EINVAL;
	}

	for (size_t i = 0; i < config->listener_count; i++) {
		struct listener *l = &config->listeners[i];
		char why[TLS_ERROR_MAX] = "";
		int rc;

		if (l->tls == LISTENER_TLS_OFF)
			continue;
		l->tls_settings.files = config->files;
		rc = tls_server_context(l->name, &l->tls_settings, config->certificates,
					config->certificate_count, config->threads,
					&l->tls_context, why);
		if (rc < 0) {
			snprintf(error, CONFIG_ERROR_MAX, "%s: listener %.*s: %s", config->path,
				 SPAN_FMT(l->name), why);
			return rc;
		}
		if (!told)
			tls_context_certificates(l->tls_context, judge_certificate, &judging);
		told = true;
	}
	if (warnings != NULL)
		judge_keys(config, warnings);
	return 0;
}
