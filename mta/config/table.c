/*
 * table: every directive: where it stands, its type, its default as it would be written,
 * its bounds, the field it fills, and whether a change needs a restart. The parser, the defaults
 * and the check of the manual (tests/lint/man-directives.py) all come from here: to add a
 * directive, add a line, and describe it in tram.conf(5).
 */
#include "mta/config/private.h"

#define TYPE(t) .type = &type_##t
#define IN(s, field) .offset = offsetof(s, field), .width = sizeof(((s *)0)->field)
#define CONFIG(field) IN(struct config, field)
#define LIMIT(field) IN(struct config, limits.field)
#define LISTENER(field) IN(struct listener, field)
#define CERTIFICATE(field) IN(struct tls_identity, field)
#define ROUTE(field) IN(struct route, field)
#define TENANT(field) IN(struct tenant, field)
#define SHAPE(field) IN(struct shape, field)
#define SOURCE(field) IN(struct source, field)
#define POOL(field) IN(struct pool, field)
#define VERP(field) IN(struct verp_rule, field)
#define COUNT(s, field) .count_offset = offsetof(s, field)

#define MS INT64_C(1)
#define SECOND (1000 * MS)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define YEAR (366 * DAY)
#define KB INT64_C(1024)
#define MB (1024 * KB)
#define GB (1024 * MB)
#define TB (1024 * GB)

static const char *const levels[] = { [LOG_ERROR] = "error", [LOG_WARNING] = "warning", [LOG_INFO] = "info",
				      [LOG_DEBUG] = "debug", NULL };
static const char *const formats[] = { [LOG_LOGFMT] = "logfmt", [LOG_JSON] = "json", NULL };

static const char *const tls_modes[] = { [LISTENER_TLS_OFF] = "off", [LISTENER_TLS_OPTIONAL] = "optional",
					 [LISTENER_TLS_REQUIRED] = "required", NULL };
static const char *const auth_modes[] = { [LISTENER_AUTH_OFF] = "off", [LISTENER_AUTH_OPTIONAL] = "optional",
					  [LISTENER_AUTH_REQUIRED] = "required", NULL };
static const char *const tls_versions[] = { [TLS_1_0] = "1.0", [TLS_1_1] = "1.1", [TLS_1_2] = "1.2",
					    [TLS_1_3] = "1.3", NULL };
static const char *const route_tls[] = { [ROUTE_TLS_AUTO] = "auto", [ROUTE_TLS_OFF] = "off",
					 [ROUTE_TLS_MAY] = "may", [ROUTE_TLS_REQUIRED] = "required",
					 [ROUTE_TLS_VERIFY] = "verify", [ROUTE_TLS_DANE] = "dane",
					 [ROUTE_TLS_MTA_STS] = "mta-sts", NULL };
static const char *const published_sts[] = { [PUBLISHED_STS_OFF] = "off", [PUBLISHED_STS_NONE] = "none",
					     [PUBLISHED_STS_TESTING] = "testing",
					     [PUBLISHED_STS_ENFORCE] = "enforce", NULL };
static const char *const client_certificates[] = { [TLS_CLIENT_CERT_OFF] = "off",
						   [TLS_CLIENT_CERT_OPTIONAL] = "optional",
						   [TLS_CLIENT_CERT_REQUIRED] = "required", NULL };

const struct directive directives[] = {
	{ SECTION_TOP, "hostname", TYPE(domain), CONFIG(hostname), .note = "the machine's name" },
	{ SECTION_TOP, "names", TYPE(domains), CONFIG(own_names), COUNT(struct config, own_name_count) },
	{ SECTION_TOP, "control", TYPE(path), "/run/tram/control", CONFIG(control), .restart = true },
	{ SECTION_TOP, "control-mode", TYPE(mode), "0660", CONFIG(control_mode), .restart = true },
	{ SECTION_TOP, "submission-socket", TYPE(path), CONFIG(submission_socket), .restart = true },
	{ SECTION_TOP, "resolver", TYPE(servers), CONFIG(resolver.servers), COUNT(struct config, resolver.server_count),
	  .note = "the system's" },
	{ SECTION_TOP, "resolver-timeout", TYPE(time), "5s", 10 * MS, 5 * MINUTE, CONFIG(resolver.timeout_ms) },
	{ SECTION_TOP, "resolver-tries", TYPE(number), "3", 1, 10, CONFIG(resolver.tries) },
	{ SECTION_TOP, "resolver-grace", TYPE(time), "500ms", 10 * MS, 5 * MINUTE, CONFIG(resolver.grace_ms) },
	{ SECTION_TOP, "resolver-test", TYPE(words), CONFIG(resolver_test), COUNT(struct config, resolver_test_count),
	  .note = "isc.org dnssec-failed.org" },
	{ SECTION_TOP, "resolver-tcp", TYPE(boolean), "no", CONFIG(resolver.tcp) },
	{ SECTION_TOP, "relay-from", TYPE(networks), CONFIG(access.relay_from),
	  COUNT(struct config, access.relay_from_count) },
	{ SECTION_TOP, "relay-to", TYPE(patterns), CONFIG(access.relay_to), COUNT(struct config, access.relay_to_count) },
	{ SECTION_TOP, "tenant-by", TYPE(text), "user", CONFIG(tenants.wish) },
	{ SECTION_TOP, "check-sender", TYPE(boolean), "yes", CONFIG(check_sender) },
	{ SECTION_TOP, "postmaster", TYPE(mailbox), CONFIG(access.postmaster) },
	{ SECTION_TOP, "ehlo-name", TYPE(domain), CONFIG(client.ehlo_name), .note = "as hostname" },
	{ SECTION_TOP, "pool-header", TYPE(text), CONFIG(sources.header) },
	{ SECTION_TOP, "pipelining", TYPE(boolean), "yes", CONFIG(client.pipelining) },
	{ SECTION_TOP, "chunking", TYPE(boolean), "yes", CONFIG(client.chunking) },
	{ SECTION_TOP, "passwords", TYPE(path), CONFIG(passwords_path), .file = true },
	{ SECTION_TOP, "auth-socket", TYPE(path), CONFIG(auth_socket) },
	{ SECTION_TOP, "senders", TYPE(path), CONFIG(senders_path), .file = true, .note = "anybody as anybody" },
	{ SECTION_TOP, "user-priority-max", TYPE(words), CONFIG(priority_words),
	  COUNT(struct config, priority_word_count), .note = "as priority-max" },
	{ SECTION_TOP, "delivery-ca", TYPE(path), CONFIG(delivery_ca), .file = true, .note = "the system's" },
	{ SECTION_TOP, "delivery-certificate", TYPE(text), CONFIG(delivery_certificate) },
	{ SECTION_TOP, "delivery-tls-min-version", TYPE(choice), "1.2", CONFIG(delivery_tls.min_version),
	  .words = tls_versions },
	{ SECTION_TOP, "delivery-tls-ciphers", TYPE(text), CONFIG(delivery_tls.ciphers),
	  .note = "all good ones" },
	{ SECTION_TOP, "delivery-tls-groups", TYPE(text), CONFIG(delivery_tls.groups),
	  .note = "X25519:P-256:P-384:P-521" },
	{ SECTION_TOP, "delivery-tls-sessions", TYPE(number), "1000", 0, 1000000, CONFIG(delivery_tls.sessions) },
	{ SECTION_TOP, "delivery-tls-session-lifetime", TYPE(time), "1h", SECOND, 7 * DAY,
	  CONFIG(delivery_tls.session_lifetime_ms) },
	{ SECTION_TOP, "published-mta-sts", TYPE(choice), "off", CONFIG(published_sts), .words = published_sts },
	{ SECTION_TOP, "published-mta-sts-max-age", TYPE(time), "7d", HOUR, 365 * DAY,
	  CONFIG(published_sts_max_age_ms) },
	{ SECTION_TOP, "published-tlsrpt", TYPE(text), CONFIG(published_tlsrpt) },
	{ SECTION_TOP, "convert-8bit", TYPE(boolean), "no", CONFIG(client.convert_8bit) },
	{ SECTION_TOP, "classify-rules", TYPE(path), CONFIG(classify_path), .file = true, .note = "those that are built in" },
	{ SECTION_TOP, "response-rules", TYPE(path), CONFIG(response_path), .file = true, .note = "those that are built in" },
	{ SECTION_TOP, "response-rules-builtin", TYPE(boolean), "yes", CONFIG(response_builtin) },
	{ SECTION_TOP, "mta-sts", TYPE(boolean), "yes", CONFIG(mta_sts) },
	{ SECTION_TOP, "suppress", TYPE(words), CONFIG(suppress), COUNT(struct config, suppress_count) },
	{ SECTION_TOP, "allow-private", TYPE(boolean), "no", CONFIG(allow_private) },
	{ SECTION_TOP, "threads", TYPE(number), NULL, 1, 256, CONFIG(threads), .note = "cores less one, at least 1",
	  .restart = true },
	{ SECTION_TOP, "certificate-warning", TYPE(time), "14d", 0, YEAR, CONFIG(certificate_warning_ms) },
	{ SECTION_TOP, "tls-report-contact", TYPE(mailbox), CONFIG(tls_reports.contact) },
	{ SECTION_TOP, "tls-report-organization", TYPE(text), CONFIG(tls_reports.organization), .note = "as hostname" },
	{ SECTION_TOP, "tls-report-spread", TYPE(time), "4h", 0, DAY, CONFIG(tls_reports.spread_ms) },
	{ SECTION_TOP, "stop-timeout", TYPE(time), "10s", 0, HOUR, CONFIG(stop_timeout_ms) },
	{ SECTION_TOP, "user", TYPE(user), CONFIG(user), .restart = true },
	{ SECTION_TOP, "sandbox", TYPE(boolean), "yes", CONFIG(sandbox), .restart = true },

	{ SECTION_QUEUE, "path", TYPE(path), "/var/lib/tram/queue", CONFIG(queue.path), .restart = true },
	{ SECTION_QUEUE, "lifetime", TYPE(time), "5d", SECOND, YEAR, CONFIG(queue.schedule.lifetime_ms) },
	{ SECTION_QUEUE, "bounce-lifetime", TYPE(time), NULL, SECOND, YEAR, CONFIG(queue.schedule.report_lifetime_ms),
	  .note = "as lifetime" },
	{ SECTION_QUEUE, "bounce-size", TYPE(size), "50KB", 0, GB, CONFIG(queue.bounce_size) },
	{ SECTION_QUEUE, "delay-warning", TYPE(time), "4h", 0, YEAR, CONFIG(queue.schedule.delay_warning_ms) },
	{ SECTION_QUEUE, "retry-first", TYPE(time), "5m", 10 * MS, DAY, CONFIG(queue.schedule.retry_first_ms) },
	{ SECTION_QUEUE, "retry-max", TYPE(time), "4h", 10 * MS, 7 * DAY, CONFIG(queue.schedule.retry_max_ms) },
	{ SECTION_QUEUE, "probe-first", TYPE(time), "1m", 10 * MS, DAY, CONFIG(queue.schedule.probe_first_ms) },
	{ SECTION_QUEUE, "probe-max", TYPE(time), "15m", 10 * MS, 7 * DAY, CONFIG(queue.schedule.probe_max_ms) },
	{ SECTION_QUEUE, "max-size", TYPE(size), "20GB", MB, 16 * TB, CONFIG(queue.max_size) },
	{ SECTION_QUEUE, "min-free", TYPE(size), "256MB", 0, 16 * TB, CONFIG(queue.min_free) },
	{ SECTION_QUEUE, "map-size", TYPE(size), "1TB", 128 * MB, 64 * TB, CONFIG(queue.map_size), .restart = true },

	{ SECTION_LIMITS, "connections", TYPE(number), "10000", 1, 1000000, LIMIT(connections) },
	{ SECTION_LIMITS, "connections-per-client", TYPE(number), "100", 1, 1000000, LIMIT(connections_per_client) },
	{ SECTION_LIMITS, "messages-per-session", TYPE(number), "1000", 1, 1000000000, LIMIT(messages_per_session) },
	{ SECTION_LIMITS, "errors-per-session", TYPE(number), "20", 1, 1000000, LIMIT(errors_per_session) },
	{ SECTION_LIMITS, "junk-commands", TYPE(number), "100", 1, 1000000, LIMIT(junk_commands) },
	{ SECTION_LIMITS, "recipients", TYPE(number), "1000", 1, 100000, LIMIT(recipients) },
	{ SECTION_LIMITS, "message-size", TYPE(size), "50MB", 1, TB, LIMIT(message_size) },
	{ SECTION_LIMITS, "line-length", TYPE(size), "64KB", 1000, 64 * MB, LIMIT(line_length) },
	{ SECTION_LIMITS, "command-length", TYPE(size), "4KB", 1000, MB, LIMIT(command_length) },
	{ SECTION_LIMITS, "header-size", TYPE(size), "256KB", KB, 16 * MB, LIMIT(header_size) },
	{ SECTION_LIMITS, "header-lines", TYPE(number), "2000", 10, 1000000, LIMIT(header_lines) },
	{ SECTION_LIMITS, "hops", TYPE(number), "50", 1, 1000, LIMIT(hops) },
	{ SECTION_LIMITS, "command-timeout", TYPE(time), "5m", 10 * MS, DAY, LIMIT(command_timeout_ms) },
	{ SECTION_LIMITS, "tls-timeout", TYPE(time), "1m", 10 * MS, HOUR, LIMIT(tls_timeout_ms) },
	{ SECTION_LIMITS, "tls-fallback", TYPE(time), "1h", 0, 7 * DAY, LIMIT(tls_fallback_ms) },
	{ SECTION_LIMITS, "auth-timeout", TYPE(time), "30s", SECOND, HOUR, LIMIT(auth_timeout_ms) },
	{ SECTION_LIMITS, "auth-line", TYPE(size), "16KB", KB, MB, LIMIT(auth_line) },
	{ SECTION_LIMITS, "auth-waiting", TYPE(number), "100", 1, 100000, LIMIT(auth_waiting), .restart = true },
	{ SECTION_LIMITS, "auth-failures", TYPE(number), "20", 1, 1000000, LIMIT(auth_failures) },
	{ SECTION_LIMITS, "auth-ban", TYPE(time), "1h", 0, 30 * DAY, LIMIT(auth_ban_ms) },
	{ SECTION_LIMITS, "auth-remembered", TYPE(number), "20000", 100, 10000000, LIMIT(auth_remembered) },
	{ SECTION_LIMITS, "auth-delay", TYPE(time), "15s", SECOND, 5 * MINUTE, LIMIT(auth_delay_ms) },
	{ SECTION_LIMITS, "token-timeout", TYPE(time), "20s", 100 * MS, 10 * MINUTE, LIMIT(token_timeout_ms) },
	{ SECTION_LIMITS, "token-output", TYPE(size), "64KB", 64, MB, LIMIT(token_output) },
	{ SECTION_LIMITS, "sts-timeout", TYPE(time), "30s", 100 * MS, 10 * MINUTE, LIMIT(sts_timeout_ms) },
	{ SECTION_LIMITS, "sts-policies", TYPE(number), "10000", 1, 1000000, LIMIT(sts_policies) },
	{ SECTION_LIMITS, "data-timeout", TYPE(time), "3m", 10 * MS, DAY, LIMIT(data_timeout_ms) },
	{ SECTION_LIMITS, "stress-timeout", TYPE(time), "10s", 10 * MS, DAY, LIMIT(stress_timeout_ms) },
	{ SECTION_LIMITS, "data-rate", TYPE(size), "100B", 0, GB, LIMIT(data_rate) },
	{ SECTION_LIMITS, "error-delay", TYPE(time), "500ms", 0, 5 * SECOND, LIMIT(error_delay_ms) },
	{ SECTION_LIMITS, "memory", TYPE(size), "256MB", MB, TB, LIMIT(memory) },
	{ SECTION_LIMITS, "deliveries", TYPE(number), "500", 1, 100000, LIMIT(deliveries) },
	{ SECTION_LIMITS, "connections-per-site", TYPE(number), "20", 1, 100000, LIMIT(connections_per_site) },
	{ SECTION_LIMITS, "messages-per-connection", TYPE(number), "100", 1, 1000000, LIMIT(messages_per_connection) },
	{ SECTION_LIMITS, "recipients-per-delivery", TYPE(number), "100", 1, 10000, LIMIT(recipients_per_delivery) },
	{ SECTION_LIMITS, "addresses-per-attempt", TYPE(number), "10", 1, 100, LIMIT(addresses_per_attempt) },
	{ SECTION_LIMITS, "idle-connection", TYPE(time), "5s", 0, 10 * MINUTE, LIMIT(idle_connection_ms) },
	{ SECTION_LIMITS, "connect-timeout", TYPE(time), "30s", 10 * MS, HOUR, LIMIT(connect_timeout_ms) },
	{ SECTION_LIMITS, "banner-timeout", TYPE(time), "5m", 10 * MS, HOUR, LIMIT(banner_timeout_ms) },
	{ SECTION_LIMITS, "ehlo-timeout", TYPE(time), "5m", 10 * MS, HOUR, LIMIT(ehlo_timeout_ms) },
	{ SECTION_LIMITS, "mail-timeout", TYPE(time), "5m", 10 * MS, HOUR, LIMIT(mail_timeout_ms) },
	{ SECTION_LIMITS, "rcpt-timeout", TYPE(time), "5m", 10 * MS, HOUR, LIMIT(rcpt_timeout_ms) },
	{ SECTION_LIMITS, "data-init-timeout", TYPE(time), "2m", 10 * MS, HOUR, LIMIT(data_init_timeout_ms) },
	{ SECTION_LIMITS, "block-timeout", TYPE(time), "3m", 10 * MS, HOUR, LIMIT(block_timeout_ms) },
	{ SECTION_LIMITS, "dot-timeout", TYPE(time), "10m", 10 * MS, HOUR, LIMIT(dot_timeout_ms) },
	{ SECTION_LIMITS, "quit-timeout", TYPE(time), "5s", 10 * MS, HOUR, LIMIT(quit_timeout_ms) },
	{ SECTION_LIMITS, "window-sites", TYPE(number), "10000", 10, 1000000, LIMIT(window_sites), .restart = true },
	{ SECTION_LIMITS, "window-entries", TYPE(number), "50000", 100, 10000000, LIMIT(window_entries), .restart = true },
	{ SECTION_LIMITS, "lookups", TYPE(number), "100", 1, 10000, LIMIT(lookups) },
	{ SECTION_LIMITS, "local-rate", TYPE(number), "600", 0, 1000000, LIMIT(local_rate) },
	{ SECTION_LIMITS, "user-messages-per-hour", TYPE(number), "0", 0, 1000000000, LIMIT(user_messages_hour) },
	{ SECTION_LIMITS, "user-messages-per-day", TYPE(number), "0", 0, 1000000000, LIMIT(user_messages_day) },
	{ SECTION_LIMITS, "user-recipients-per-hour", TYPE(number), "0", 0, 1000000000, LIMIT(user_recipients_hour) },
	{ SECTION_LIMITS, "user-recipients-per-day", TYPE(number), "0", 0, 1000000000, LIMIT(user_recipients_day) },

	{ SECTION_CERTIFICATE, "chain", TYPE(paths), CERTIFICATE(chains), .file = true, COUNT(struct tls_identity, chain_count),
	  .note = "required" },
	{ SECTION_CERTIFICATE, "key", TYPE(paths), CERTIFICATE(keys), .file = true, COUNT(struct tls_identity, key_count),
	  .note = "required" },
	{ SECTION_CERTIFICATE, "ocsp", TYPE(paths), CERTIFICATE(ocsps), .file = true, COUNT(struct tls_identity, ocsp_count) },
	{ SECTION_CERTIFICATE, "next-key", TYPE(paths), CERTIFICATE(next_keys), .file = true,
	  COUNT(struct tls_identity, next_key_count) },

	{ SECTION_LISTENER, "address", TYPE(addresses), LISTENER(addresses), COUNT(struct listener, address_count),
	  .note = "required" },
	{ SECTION_LISTENER, "banner", TYPE(text), "ESMTP tram", LISTENER(smtp.banner) },
	{ SECTION_LISTENER, "greet-delay", TYPE(time), "0", 0, MINUTE, LISTENER(greet_delay_ms) },
	{ SECTION_LISTENER, "tls", TYPE(choice), LISTENER(tls), .words = tls_modes,
	  .note = "optional if there is a certificate, else off" },
	{ SECTION_LISTENER, "tls-on-connect", TYPE(boolean), "no", LISTENER(tls_on_connect) },
	{ SECTION_LISTENER, "tls-min-version", TYPE(choice), "1.2", LISTENER(tls_settings.min_version),
	  .words = tls_versions },
	{ SECTION_LISTENER, "tls-ciphers", TYPE(text), LISTENER(tls_settings.ciphers),
	  .note = "those with forward secrecy" },
	{ SECTION_LISTENER, "tls-ciphersuites", TYPE(text), LISTENER(tls_settings.ciphersuites), .note = "OpenSSL's" },
	{ SECTION_LISTENER, "tls-groups", TYPE(text), LISTENER(tls_settings.groups),
	  .note = "X25519:P-256:P-384:P-521" },
	{ SECTION_LISTENER, "tls-tickets", TYPE(boolean), "yes", LISTENER(tls_settings.tickets) },
	{ SECTION_LISTENER, "client-certificates", TYPE(choice), "off", LISTENER(tls_settings.client_certificates),
	  .words = client_certificates },
	{ SECTION_LISTENER, "client-ca", TYPE(path), LISTENER(tls_settings.client_ca), .file = true },
	{ SECTION_LISTENER, "auth", TYPE(choice), "off", LISTENER(auth), .words = auth_modes },
	{ SECTION_LISTENER, "auth-mechanisms", TYPE(words), LISTENER(mechanisms),
	  COUNT(struct listener, mechanism_count), .note = "all that can be done" },
	{ SECTION_LISTENER, "auth-without-tls", TYPE(boolean), "no", LISTENER(auth_without_tls) },
	{ SECTION_LISTENER, "strict-addresses", TYPE(boolean), "no", LISTENER(smtp.strict_addresses) },
	{ SECTION_LISTENER, "normalise-newlines", TYPE(boolean), "no", LISTENER(smtp.normalise_newlines) },
	{ SECTION_LISTENER, "normalise-from", TYPE(networks), LISTENER(normalise_from),
	  COUNT(struct listener, normalise_from_count) },
	{ SECTION_LISTENER, "binarymime", TYPE(boolean), "no", LISTENER(smtp.offer_binarymime) },
	{ SECTION_LISTENER, "submission", TYPE(boolean), "no", LISTENER(submission) },
	{ SECTION_LISTENER, "mt-priority", TYPE(boolean), "yes", LISTENER(smtp.offer_priority) },
	{ SECTION_LISTENER, "priority-max", TYPE(number), "9", 0, MT_PRIORITY_MAX, LISTENER(smtp.max_priority) },
	{ SECTION_LISTENER, "future-release", TYPE(time), "0", 0, YEAR, LISTENER(smtp.hold_max_ms) },
	{ SECTION_LISTENER, "deliver-by", TYPE(time), "0", 0, 30 * DAY, LISTENER(smtp.by_min_ms) },
	{ SECTION_LISTENER, "hide-client", TYPE(boolean), "no", LISTENER(hide_client) },
	{ SECTION_LISTENER, "message-size", TYPE(size), NULL, 1, TB, LISTENER(smtp.max_message_size),
	  .note = "as limits.message-size" },
	{ SECTION_LISTENER, "recipients", TYPE(number), NULL, 1, 100000, LISTENER(smtp.max_recipients),
	  .note = "as limits.recipients" },
	{ SECTION_LISTENER, "messages-per-session", TYPE(number), NULL, 1, 1000000000, LISTENER(smtp.max_messages),
	  .note = "as limits.messages-per-session" },

	{ SECTION_ROUTE, "deliver", TYPE(deliver), ROUTE(kind), .note = "required" },
	{ SECTION_ROUTE, "sender", TYPE(senders), ROUTE(senders), COUNT(struct route, sender_count), .note = "any" },
	{ SECTION_ROUTE, "sender-user", TYPE(words), ROUTE(users), COUNT(struct route, user_count), .note = "any" },
	{ SECTION_ROUTE, "tls", TYPE(choice), "auto", ROUTE(tls), .words = route_tls },
	{ SECTION_ROUTE, "tls-names", TYPE(domains), ROUTE(tls_names), COUNT(struct route, tls_name_count),
	  .note = "the host's" },
	{ SECTION_ROUTE, "user", TYPE(text), ROUTE(user) },
	{ SECTION_ROUTE, "password-file", TYPE(path), ROUTE(password_file), .file = true },
	{ SECTION_ROUTE, "token-file", TYPE(path), ROUTE(token_file), .file = true },
	{ SECTION_ROUTE, "token-command", TYPE(command), ROUTE(token_command),
	  COUNT(struct route, token_command_count) },
	{ SECTION_ROUTE, "token-lifetime", TYPE(time), "10m", SECOND, 7 * DAY, ROUTE(token_lifetime_ms) },
	{ SECTION_ROUTE, "auth-mechanisms", TYPE(words), ROUTE(mechanisms), COUNT(struct route, mechanism_count),
	  .note = "the strongest that the host offers" },
	{ SECTION_ROUTE, "auth-unverified", TYPE(boolean), "no", ROUTE(auth_unverified) },
	{ SECTION_ROUTE, "connections", TYPE(number), NULL, 1, 100000, ROUTE(connections),
	  .note = "as limits.connections-per-site" },
	{ SECTION_ROUTE, "messages-per-connection", TYPE(number), NULL, 1, 1000000, ROUTE(messages_per_connection),
	  .note = "as limits.messages-per-connection" },
	{ SECTION_ROUTE, "pool", TYPE(text), ROUTE(pool), .note = "see POOL" },

	{ SECTION_SOURCE, "address", TYPE(ips), SOURCE(addresses), COUNT(struct source, address_count),
	  .note = "required" },
	{ SECTION_SOURCE, "ehlo-name", TYPE(domain), SOURCE(ehlo_name), .note = "as that of all" },
	{ SECTION_SOURCE, "warmup-start", TYPE(date), SOURCE(start_day) },
	{ SECTION_SOURCE, "warmup-plan", TYPE(words), SOURCE(plan_words), COUNT(struct source, plan_count) },

	{ SECTION_POOL, "sources", TYPE(words), POOL(words), COUNT(struct pool, word_count), .note = "required" },
	{ SECTION_POOL, "senders", TYPE(senders), POOL(senders), COUNT(struct pool, sender_count) },
	{ SECTION_POOL, "tenants", TYPE(words), POOL(tenants), COUNT(struct pool, tenant_count) },

	{ SECTION_TENANT, "weight", TYPE(number), "1", 1, TENANT_WEIGHT_MAX, TENANT(weight) },

	{ SECTION_PROVIDER, "mx", TYPE(hosts), IN(struct provider, mx), COUNT(struct provider, mx_count),
	  .note = "required" },

	{ SECTION_SHAPE, "site", TYPE(words), SHAPE(sites), COUNT(struct shape, site_count), .note = "any" },
	{ SECTION_SHAPE, "host", TYPE(hosts), SHAPE(hosts), COUNT(struct shape, host_count), .note = "any" },
	{ SECTION_SHAPE, "domain", TYPE(patterns), SHAPE(domains), COUNT(struct shape, domain_count), .note = "any" },
	{ SECTION_SHAPE, "tenant", TYPE(words), SHAPE(tenants), COUNT(struct shape, tenant_count), .note = "any" },
	{ SECTION_SHAPE, "source", TYPE(words), SHAPE(sources), COUNT(struct shape, source_count), .note = "any" },
	{ SECTION_SHAPE, "per", TYPE(words), SHAPE(per_words), COUNT(struct shape, per_count),
	  .note = "site, and what is matched" },
	{ SECTION_SHAPE, "connections", TYPE(number), NULL, 1, 100000, SHAPE(limits[SHAPE_CONNECTIONS]) },
	{ SECTION_SHAPE, "connections-per-minute", TYPE(number), NULL, 1, 1000000,
	  SHAPE(limits[SHAPE_NEW_CONNECTIONS]) },
	{ SECTION_SHAPE, "messages-per-connection", TYPE(number), NULL, 1, 1000000, SHAPE(messages_per_connection) },
	{ SECTION_SHAPE, "messages-per-second", TYPE(number), NULL, 1, 1000000, SHAPE(limits[SHAPE_MESSAGES_SECOND]) },
	{ SECTION_SHAPE, "messages-per-minute", TYPE(number), NULL, 1, 60000000,
	  SHAPE(limits[SHAPE_MESSAGES_MINUTE]) },
	{ SECTION_SHAPE, "messages-per-hour", TYPE(number), NULL, 1, 1000000000, SHAPE(limits[SHAPE_MESSAGES_HOUR]) },
	{ SECTION_SHAPE, "messages-per-day", TYPE(number), NULL, 1, 1000000000, SHAPE(limits[SHAPE_MESSAGES_DAY]) },
	{ SECTION_SHAPE, "recipients-per-hour", TYPE(number), NULL, 1, 1000000000,
	  SHAPE(limits[SHAPE_RECIPIENTS_HOUR]) },
	{ SECTION_SHAPE, "recipients-per-day", TYPE(number), NULL, 1, 1000000000,
	  SHAPE(limits[SHAPE_RECIPIENTS_DAY]) },
	{ SECTION_SHAPE, "recipients-per-transaction", TYPE(number), NULL, 1, 10000,
	  SHAPE(recipients_per_transaction) },
	{ SECTION_SHAPE, "idle-connection", TYPE(time), NULL, 10 * MS, 10 * MINUTE, SHAPE(times.idle_ms),
	  .note = "as limits.idle-connection" },
	{ SECTION_SHAPE, "connect-timeout", TYPE(time), NULL, 10 * MS, HOUR, SHAPE(times.connect_ms),
	  .note = "as limits.connect-timeout" },
	{ SECTION_SHAPE, "banner-timeout", TYPE(time), NULL, 10 * MS, HOUR, SHAPE(times.banner_ms),
	  .note = "as limits.banner-timeout" },
	{ SECTION_SHAPE, "ehlo-timeout", TYPE(time), NULL, 10 * MS, HOUR, SHAPE(times.ehlo_ms),
	  .note = "as limits.ehlo-timeout" },
	{ SECTION_SHAPE, "mail-timeout", TYPE(time), NULL, 10 * MS, HOUR, SHAPE(times.mail_ms),
	  .note = "as limits.mail-timeout" },
	{ SECTION_SHAPE, "rcpt-timeout", TYPE(time), NULL, 10 * MS, HOUR, SHAPE(times.rcpt_ms),
	  .note = "as limits.rcpt-timeout" },
	{ SECTION_SHAPE, "data-init-timeout", TYPE(time), NULL, 10 * MS, HOUR, SHAPE(times.data_init_ms),
	  .note = "as limits.data-init-timeout" },
	{ SECTION_SHAPE, "block-timeout", TYPE(time), NULL, 10 * MS, HOUR, SHAPE(times.block_ms),
	  .note = "as limits.block-timeout" },
	{ SECTION_SHAPE, "dot-timeout", TYPE(time), NULL, 10 * MS, HOUR, SHAPE(times.dot_ms),
	  .note = "as limits.dot-timeout" },
	{ SECTION_SHAPE, "burst", TYPE(number), NULL, 1, 1000000, SHAPE(burst), .note = "what goes in 20 ms, at least 1" },

	{ SECTION_VERP, "prefix", TYPE(text), "b", VERP(prefix) },
	{ SECTION_VERP, "sender", TYPE(senders), VERP(senders), COUNT(struct verp_rule, sender_count), .note = "any" },
	{ SECTION_VERP, "route", TYPE(patterns), VERP(routes), COUNT(struct verp_rule, route_count), .note = "any" },
	{ SECTION_VERP, "tenant", TYPE(words), VERP(tenants), COUNT(struct verp_rule, tenant_count), .note = "any" },
	{ SECTION_VERP, "pool", TYPE(words), VERP(pools), COUNT(struct verp_rule, pool_count), .note = "any" },

	{ SECTION_BOUNCES, "address", TYPE(words), CONFIG(bounces.addresses), COUNT(struct config, bounces.address_count) },
	{ SECTION_BOUNCES, "forward", TYPE(text), "sender", CONFIG(bounces.forward_text) },
	{ SECTION_BOUNCES, "lifetime", TYPE(time), "14d", MINUTE, YEAR, CONFIG(bounces.lifetime_ms) },
	{ SECTION_BOUNCES, "records", TYPE(size), "32MB", 0, 96 * MB, CONFIG(bounces.records) },
	{ SECTION_BOUNCES, "verp-keys", TYPE(path), CONFIG(verp_keys_path), .file = true, .note = "the queue's own" },
	{ SECTION_BOUNCES, "suppress-unproven", TYPE(boolean), "no", CONFIG(bounces.suppress_unproven) },

	{ SECTION_LOG, "level", TYPE(choice), "info", CONFIG(log.level), .words = levels },
	{ SECTION_LOG, "format", TYPE(choice), "logfmt", CONFIG(log.format), .words = formats },
	{ SECTION_LOG, "file", TYPE(path), CONFIG(log.path), .note = "standard error" },
};

const size_t directive_count = sizeof(directives) / sizeof(directives[0]);

static void
print_type(const struct directive *d, struct buf *out)
{
	if (d->words == NULL)
		buf_printf(out, "%s", d->type->name);
	for (const char *const *word = d->words; word != NULL && *word != NULL; word++)
		buf_printf(out, "%s%s", word == d->words ? "" : "|", *word);
}

void
config_print_directives(struct buf *out)
{
	for (size_t i = 0; i < directive_count; i++) {
		const struct directive *d = &directives[i];

		buf_printf(out, "%s%s%s ", section_types[d->section].name, d->section == SECTION_TOP ? "" : ".", d->name);
		print_type(d, out);
		if (d->fallback != NULL)
			buf_printf(out, " %s\n", d->fallback);
		else
			buf_printf(out, " (%s)\n", d->note != NULL ? d->note : "none");
	}
}
