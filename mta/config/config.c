/*
 * config: reads a file into a struct config; see config.h, and private.h for who does
 * what. The only file that knows <confuse.h>. One thread at a time.
 */
#include "mta/config/config.h"

#include <assert.h>
#include <confuse.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "mta/config/private.h"
#include "policy/site_key.h"

enum { REPLY_OCTETS = 64 << 10, LOG_RING_OCTETS = 4 << 20, HOSTNAME_MAX = 256 };

bool
config_fail(struct load *load, struct place at, const char *format, ...)
{
	va_list ap;
	int len;

	if (load->rc == 0)
		load->rc = -EINVAL;
	if (load->error[0] != '\0')
		return false;
	if (at.line > 0)
		len = snprintf(load->error, CONFIG_ERROR_MAX, "%s:%d: ", at.file, at.line);
	else
		len = snprintf(load->error, CONFIG_ERROR_MAX, "%s: ", at.file);
	if (len < 0 || len >= CONFIG_ERROR_MAX)
		return false;
	va_start(ap, format);
	vsnprintf(load->error + len, CONFIG_ERROR_MAX - (size_t)len, format, ap);
	va_end(ap);
	return false;
}

void
config_warn(struct load *load, struct place at, const char *format, ...)
{
	va_list ap;

	if (load->warnings == NULL)
		return;
	if (at.line > 0)
		buf_printf(load->warnings, "%s:%d: ", at.file, at.line);
	else
		buf_printf(load->warnings, "%s: ", at.file);
	va_start(ap, format);
	buf_vprintf(load->warnings, format, ap);
	va_end(ap);
	buf_byte(load->warnings, '\n');
}

/* ---- libConfuse --------------------------------------------------------------------------- */

static void __attribute__((format(printf, 2, 0)))
no_message(cfg_t *cfg, const char *format, va_list ap)
{
	(void)cfg; /* what it could say has been said before, with the file's name */
	(void)format;
	(void)ap;
}

/* The options of one kind of section, and for the top its sections; ends in an empty one. */
static cfg_opt_t *
options_of(struct load *load, enum section_kind kind)
{
	cfg_opt_t *options = arena_alloc(&load->config->arena,
					 (directive_count + SECTION_KINDS + 2) * sizeof(*options));
	size_t n = 0;

	for (size_t i = 0; i < directive_count; i++)
		if (directives[i].section == kind)
			options[n++] = (cfg_opt_t){ .name = directives[i].name,
						    .type = CFGT_STR,
						    .flags = CFGF_LIST };
	if (section_types[kind].titled != NULL)
		options[n++] = (cfg_opt_t){ .name = "title", .type = CFGT_STR, .flags = CFGF_LIST };
	for (enum section_kind in = SECTION_TOP + 1; kind == SECTION_TOP && in < SECTION_KINDS;
	     in++)
		options[n++] = (cfg_opt_t){ .name = section_types[in].name,
					    .type = CFGT_SEC,
					    .flags = CFGF_MULTI,
					    .subopts = options_of(load, in) };
	return options;
}

static cfg_t *
section_of(cfg_t *cfg, const struct section *section)
{
	if (section->kind == SECTION_TOP)
		return cfg;
	return cfg_getnsec(cfg, section_types[section->kind].name, (unsigned)section->index);
}

/*
 * The values of one option, copied. Variables have been put in by now: look again at what they
 * brought.
 */
static bool
values_of(struct load *load, cfg_t *cfg, const char *name, struct place at, size_t count,
	  struct span **ret)
{
	cfg_opt_t *option = cfg == NULL ? NULL : cfg_getopt(cfg, name);
	struct span *values = arena_alloc(&load->config->arena, (count + 1) * sizeof(*values));

	if (option == NULL || cfg_opt_size(option) != count)
		return config_fail(load, at, "%s cannot be read; write it more simply", name);
	for (size_t i = 0; i < count; i++) {
		values[i] = arena_copy(&load->config->arena,
				       span_str(cfg_opt_getnstr(option, (unsigned)i)));
		if (values[i].len == 0)
			return config_fail(
			    load, at, "%s is empty; give it a value, or remove the line", name);
		for (size_t j = 0; j < values[i].len; j++)
			if ((unsigned char)values[i].at[j] < ' ' || values[i].at[j] == 0x7f)
				return config_fail(load, at,
						   "%s has a control octet in it (from the "
						   "environment?); remove it",
						   name);
		if (!utf8_valid(values[i]))
			return config_fail(
			    load, at, "%s is not UTF-8 (from the environment?); mend it", name);
	}
	*ret = values;
	return true;
}

/* ---- values → fields ---------------------------------------------------------------------- */

static bool
read_directive(struct load *load, const struct directive *d, char *base, const struct span *values,
	       size_t count, struct place at)
{
	const struct reading reading = { load, d, at, values, count, base };

	return d->type->read(&reading);
}

static void
set_defaults(struct load *load, enum section_kind kind, char *base)
{
	for (size_t i = 0; i < directive_count; i++) {
		struct span value = span_str(directives[i].fallback);

		if (directives[i].section != kind || directives[i].fallback == NULL)
			continue;
		bool good = read_directive(load, &directives[i], base, &value, 1,
					   (struct place){ "the table of defaults", 0 });
		assert(good);
	}
}

static char *
base_of(struct config *config, const struct section *section)
{
	switch (section->kind) {
	case SECTION_CERTIFICATE:
		return (char *)&config->certificates[section->index];
	case SECTION_LISTENER:
		return (char *)&config->listeners[section->index];
	case SECTION_TENANT:
		return (char *)&config->tenants.tenants[section->index];
	case SECTION_ROUTE:
		return (char *)&config->access.routes.routes[section->index];
	case SECTION_PROVIDER:
		return (char *)&config->shapes.providers[section->index];
	case SECTION_SHAPE:
		return (char *)&config->shapes.shapes[section->index];
	case SECTION_SOURCE:
		return (char *)&config->sources.sources[section->index];
	case SECTION_POOL:
		return (char *)&config->sources.pools[section->index];
	case SECTION_VERP:
		return (char *)&config->verp.rules[section->index];
	default:
		return (char *)config;
	}
}

/*
 * The settings of the sections that stand once come first: listeners begin with the limits they
 * set.
 */
static bool
read_settings(struct load *load, cfg_t *cfg, bool titled)
{
	for (size_t i = 0; i < load->setting_count; i++) {
		const struct setting *setting = &load->settings[i];
		const struct section *section = &load->sections[setting->section];
		struct span *values = NULL;

		if ((section_types[section->kind].titled != NULL) != titled)
			continue;
		if (!values_of(load, section_of(cfg, section), setting->directive->name,
			       setting->at, setting->count, &values) ||
		    !read_directive(load, setting->directive, base_of(load->config, section),
				    values, setting->count, setting->at))
			return false;
	}
	return true;
}

static void
smtp_from_limits(const struct config *config, struct smtp_server_config *smtp)
{
	const struct limits *limits = &config->limits;

	*smtp = (struct smtp_server_config){
		.banner = SPAN("ESMTP tram"),
		.max_message_size = limits->message_size,
		.max_recipients = limits->recipients,
		.max_line = limits->line_length,
		.max_command = limits->command_length,
		.max_messages = limits->messages_per_session,
		.max_errors = limits->errors_per_session,
		.max_junk = limits->junk_commands,
	};
}

static bool
name_listener(struct load *load, struct section *section, struct span title)
{
	struct listener *listener = &load->config->listeners[section->index];

	for (size_t i = 0; i < title.len; i++)
		if (!(title.at[i] >= '0' && title.at[i] <= '9') && title.at[i] != '-' &&
		    title.at[i] != '_' &&
		    !(ascii_lower(title.at[i]) >= 'a' && ascii_lower(title.at[i]) <= 'z'))
			return config_fail(
			    load, section->at,
			    "listener \"%.*s\": its name may have letters, digits, - and _ only",
			    SPAN_FMT(title));
	for (size_t i = 0; i < section->index; i++)
		if (span_eq(load->config->listeners[i].name, title))
			return config_fail(
			    load, section->at,
			    "there is a second listener %.*s (the first in line %d); rename one",
			    SPAN_FMT(title), config_section(load, SECTION_LISTENER, i)->at.line);
	listener->name = section->name = title;
	smtp_from_limits(load->config, &listener->smtp);
	return true;
}

static bool
name_certificate(struct load *load, struct section *section, struct span title)
{
	struct tls_identity *certificate = &load->config->certificates[section->index];

	for (size_t i = 0; i < section->index; i++)
		if (span_eq(load->config->certificates[i].name, title))
			return config_fail(load, section->at,
					   "there is a second certificate %.*s (the first in line "
					   "%d); rename one",
					   SPAN_FMT(title), load->config->certificates[i].line);
	certificate->name = section->name = title;
	certificate->file = arena_str(&load->config->arena, span_str(section->at.file));
	certificate->line = section->at.line;
	return true;
}

static bool
name_route(struct load *load, struct section *section, struct span title)
{
	struct route *route = &load->config->access.routes.routes[section->index];
	route->line = section->at.line;
	if (!domain_pattern_read(title, &load->config->arena, &route->pattern))
		return config_fail(
		    load, section->at,
		    "route \"%.*s\": it is not a domain; write example.org, *.example.org for all "
		    "below it, or * for all others",
		    SPAN_FMT(title));
	section->name = route->pattern;
	return true;
}

/* It stands in the log, and in messages to people. */
static bool
plain_name(struct span title)
{
	for (size_t i = 0; i < title.len; i++)
		if (!(title.at[i] >= '0' && title.at[i] <= '9') &&
		    memchr("-_.", title.at[i], 3) == NULL &&
		    !(ascii_lower(title.at[i]) >= 'a' && ascii_lower(title.at[i]) <= 'z'))
			return false;
	return title.len <= 64;
}

static bool
name_plainly(struct load *load, struct section *section, struct span title)
{
	const char *what = section_types[section->kind].name;

	if (!plain_name(title))
		return config_fail(
			load, section->at,
			"%s \"%.*s\": its name may have letters, digits, '.', '-' and '_' "
			"only, 64 at most",
			what, SPAN_FMT(title));
	for (size_t i = 0; i < load->section_count; i++)
		if (load->sections[i].kind == section->kind &&
		    load->sections[i].index < section->index &&
		    span_eq(load->sections[i].name, title))
			return config_fail(
				load, section->at,
				"there is a second %s %.*s (the first in line %d); rename one",
				what, SPAN_FMT(title), load->sections[i].at.line);
	section->name = title;
	return true;
}

static bool
name_source(struct load *load, struct section *section, struct span title)
{
	struct source *source = &load->config->sources.sources[section->index];

	source->name = title;
	source->line = section->at.line;
	return name_plainly(load, section, title);
}

static bool
name_pool(struct load *load, struct section *section, struct span title)
{
	struct pool *pool = &load->config->sources.pools[section->index];

	pool->name = title;
	pool->line = section->at.line;
	return name_plainly(load, section, title);
}

/* Makes the certificates, listeners, routes, sources and pools: named, and with their defaults. */
static bool
begin_titled(struct load *load, cfg_t *cfg)
{
	static bool (*const name[SECTION_KINDS])(struct load *, struct section *, struct span) = {
		[SECTION_CERTIFICATE] = name_certificate,
		[SECTION_LISTENER] = name_listener,
		[SECTION_ROUTE] = name_route,
		[SECTION_TENANT] = config_name_tenant,
		[SECTION_PROVIDER] = config_name_provider,
		[SECTION_SHAPE] = config_name_shape,
		[SECTION_SOURCE] = name_source,
		[SECTION_POOL] = name_pool,
		[SECTION_VERP] = config_name_verp,
	};
	struct config *config = load->config;

	config->certificate_count = cfg_size(cfg, "certificate");
	config->certificates = arena_alloc(
		&config->arena, config->certificate_count * sizeof(*config->certificates));
	config->listener_count = cfg_size(cfg, "listener");
	config->listeners =
	    arena_alloc(&config->arena, config->listener_count * sizeof(*config->listeners));
	config->tenants.count = cfg_size(cfg, "tenant");
	config->tenants.tenants = arena_alloc(
		&config->arena, config->tenants.count * sizeof(*config->tenants.tenants));
	config->access.routes.count = cfg_size(cfg, "route");
	config->access.routes.routes = arena_alloc(
	    &config->arena, config->access.routes.count * sizeof(*config->access.routes.routes));
	config->shapes.provider_count = cfg_size(cfg, "provider");
	config->shapes.providers = arena_alloc(
	    &config->arena, config->shapes.provider_count * sizeof(*config->shapes.providers));
	config->shapes.count = cfg_size(cfg, "shape");
	config->shapes.shapes =
		arena_alloc(&config->arena, config->shapes.count * sizeof(*config->shapes.shapes));
	config->sources.source_count = cfg_size(cfg, "source");
	config->sources.sources = arena_alloc(
	    &config->arena, config->sources.source_count * sizeof(*config->sources.sources) + 1);
	config->sources.pool_count = cfg_size(cfg, "pool");
	config->sources.pools = arena_alloc(
	    &config->arena, config->sources.pool_count * sizeof(*config->sources.pools) + 1);
	config->verp.count = cfg_size(cfg, "verp");
	config->verp.rules =
		arena_alloc(&config->arena, config->verp.count * sizeof(*config->verp.rules) + 1);
	for (size_t i = 0; i < load->section_count; i++) {
		struct section *section = &load->sections[i];
		struct span *title = NULL;

		if (section_types[section->kind].titled == NULL)
			continue;
		if (!values_of(load, section_of(cfg, section), "title", section->at, 1, &title))
			return false;
		if (!name[section->kind](load, section, *title))
			return false;
		set_defaults(load, section->kind, base_of(config, section));
	}
	return true;
}

/* ---- what is not written but follows ------------------------------------------------------ */

static unsigned
default_threads(void)
{
	cpu_set_t set;
	int cores = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;

	return cores > 2 ? (unsigned)cores - 1 : 1;
}

static bool
only_loopback(const struct config *config)
{
	for (size_t i = 0; i < config->listener_count; i++)
		for (size_t j = 0; j < config->listeners[i].address_count; j++)
			if (!netaddr_is_loopback(&config->listeners[i].addresses[j]))
				return false;
	return true;
}

/* Peers refuse an EHLO that is no full name, and a Message-ID or DSN needs one. */
static bool
set_hostname(struct load *load)
{
	static const char *const hostname[] = { "hostname", NULL };
	struct config *config = load->config;
	struct place at = { config->path, 1 };
	bool written = config_place(load, hostname, SECTION_TOP, 0, &at);
	char machine[HOSTNAME_MAX] = "";
	struct span name;

	if (!written) {
		if (gethostname(machine, sizeof(machine) - 1) < 0)
			machine[0] = '\0';
		for (size_t i = 0; machine[i] != '\0'; i++)
			machine[i] = ascii_lower(machine[i]);
		name = span_str(machine);
		config->hostname = domain_valid(name, false) ? arena_copy(&config->arena, name)
							     : SPAN("localhost");
	}
	name = config->hostname;
	if (span_find(name, '.') != NULL)
		return true;
	if (!only_loopback(config) && written)
		return config_fail(
		    load, at,
		    "hostname = \"%.*s\" is not a full name; write it with its domain: "
		    "hostname = \"%.*s.example.org\"",
		    SPAN_FMT(name), SPAN_FMT(name));
	if (!only_loopback(config))
		return config_fail(load, at,
				   "the machine's name (%.*s) is not a full one; set it: hostname "
				   "= \"%.*s.example.org\"",
				   SPAN_FMT(name), SPAN_FMT(name));
	config_warn(load, at,
		    "%s (%.*s) is not a full name, and other servers may refuse it; set hostname",
		    written ? "hostname" : "the machine's name", SPAN_FMT(name));
	return true;
}

static void
set_names(struct config *config)
{
	struct span *names =
	    arena_alloc(&config->arena, (config->own_name_count + 1) * sizeof(*names));

	names[0] = config->hostname;
	for (size_t i = 0; i < config->own_name_count; i++)
		names[i + 1] = config->own_names[i];
	config->own_names = names;
	config->own_name_count++;
	config->access.hostname = config->hostname;
	if (config->client.ehlo_name.len == 0)
		config->client.ehlo_name = config->hostname;
	for (size_t i = 0; i < config->listener_count; i++) {
		struct listener *listener = &config->listeners[i];

		listener->smtp.hostname = config->hostname;
		listener->smtp_normalising = listener->smtp;
		listener->smtp_normalising.normalise_newlines = true;
	}
	smtp_from_limits(config, &config->submission);
	config->submission.hostname = config->hostname;
	config->submission.local_submission = true;
}

/* Names of people who look after them; "off": nobody is asked, and DANE is not used. */
static void
set_resolver_test(struct config *config)
{
	static struct span usual[] = { { "isc.org", 7 }, { "dnssec-failed.org", 17 } };

	if (config->resolver_test_count == 1 && span_eq(config->resolver_test[0], SPAN("off"))) {
		config->resolver_test_count = 0;
	} else if (config->resolver_test_count == 0) {
		config->resolver_test = usual;
		config->resolver_test_count = 2;
	}
}

static void
set_rest(struct config *config)
{
	const struct limits *limits = &config->limits;

	if (config->queue.schedule.report_lifetime_ms == 0)
		config->queue.schedule.report_lifetime_ms = config->queue.schedule.lifetime_ms;
	set_resolver_test(config);
	config->queue.return_full = config->queue.bounce_size > 0;
	config->client.max_reply = REPLY_OCTETS;
	config->client.timeouts = (struct smtp_client_timeouts){
		.banner = limits->banner_timeout_ms,
		.ehlo = limits->ehlo_timeout_ms,
		.tls = limits->tls_timeout_ms,
		.auth = limits->auth_timeout_ms,
		.mail = limits->mail_timeout_ms,
		.rcpt = limits->rcpt_timeout_ms,
		.data = limits->data_init_timeout_ms,
		.block = limits->block_timeout_ms,
		.dot = limits->dot_timeout_ms,
		.quit = limits->quit_timeout_ms,
	};
	config->log.ring_octets = LOG_RING_OCTETS;
	if (config->threads == 0)
		config->threads = default_threads();
	for (size_t i = 0; i < config->access.routes.count; i++) {
		struct route *route = &config->access.routes.routes[i];

		route_set_name(route, &config->arena);
		route->site_key = site_key_of(route->site_key, route, WISH_NONE,
					      SITE_MX_INSECURE, &config->arena);
	}
	routes_sort(&config->access.routes);
}

/* ---- the whole ---------------------------------------------------------------------------- */

static bool
fill(struct load *load, cfg_t *cfg)
{
	set_defaults(load, SECTION_TOP, (char *)load->config);
	set_defaults(load, SECTION_QUEUE, (char *)load->config);
	set_defaults(load, SECTION_LIMITS, (char *)load->config);
	set_defaults(load, SECTION_LOG, (char *)load->config);
	set_defaults(load, SECTION_BOUNCES, (char *)load->config);
	if (!read_settings(load, cfg, false) || !begin_titled(load, cfg) ||
	    !read_settings(load, cfg, true) || !set_hostname(load) || !config_check_tls(load) ||
	    !config_check_auth(load))
		return false;
	set_names(load->config);
	set_rest(load->config);
	return config_check(load);
}

static bool
interpret(struct load *load)
{
	struct place whole = { load->config->path, 1 };
	bool good = false;
	cfg_t *cfg;

	if (!config_tree(load))
		return false;
	cfg = cfg_init(options_of(load, SECTION_TOP), CFGF_NONE);
	if (cfg == NULL)
		abort();
	cfg_set_error_function(cfg, no_message);
	buf_byte(&load->text, '\0');
	if (cfg_parse_buf(cfg, buf_span(&load->text).at) == CFG_SUCCESS)
		good = fill(load, cfg);
	else
		config_fail(load, whole, "libConfuse cannot read it; write it more simply");
	cfg_free(cfg);
	return good;
}

/* text.at NULL: path is a file to read. */
static int
load_config(const char *path, struct span text, struct files *given, struct config **ret,
	    char error[CONFIG_ERROR_MAX], struct buf *warnings)
{
	struct config *config = xcalloc(1, sizeof(*config));
	struct load load = { .config = config,
			     .error = error,
			     .warnings = warnings,
			     .files = given,
			     .may_include = text.at == NULL };

	error[0] = '\0';
	config->files = given;
	config->path = arena_str(&config->arena, span_str(path));
	if (text.at == NULL ? config_scan_file(&load, config->path)
			    : config_scan_text(&load, text, config->path))
		interpret(&load);
	free(load.tokens);
	free(load.sections);
	free(load.settings);
	buf_free(&load.text);
	if (load.rc < 0)
		config_free(config);
	else
		*ret = config;
	return load.rc;
}

int
config_load(const char *path, struct config **ret, char error[CONFIG_ERROR_MAX],
	    struct buf *warnings)
{
	return load_config(path, (struct span){ 0 }, NULL, ret, error, warnings);
}

int
config_load_given(const char *path, struct files *files, struct files *doors, struct config **ret,
		  char error[CONFIG_ERROR_MAX], struct buf *warnings)
{
	int rc = load_config(path, (struct span){ 0 }, files, ret, error, warnings);

	if (rc < 0)
		files_free(doors);
	else
		(*ret)->doors = doors;
	return rc;
}

int
config_parse(struct span text, const char *name, struct config **ret, char error[CONFIG_ERROR_MAX],
	     struct buf *warnings)
{
	return load_config(name, text.at == NULL ? SPAN("") : text, NULL, ret, error, warnings);
}

int
config_open_files(struct config *config, char error[CONFIG_ERROR_MAX], struct buf *warnings)
{
	int rc = config_open_tls(config, error, warnings);

	if (rc == 0)
		rc = config_open_auth(config, error, warnings);
	if (rc == 0)
		rc = config_open_verp(config, error, warnings);
	return rc < 0 ? rc : config_open_rules(config, error);
}

void
config_use_secrets(struct config *config, const struct config_secrets *secrets)
{
	for (size_t i = 0; i < config->listener_count; i++) {
		struct listener *l = &config->listeners[i];

		if (l->tls_context != NULL)
			tls_context_use_tickets(l->tls_context, secrets->tickets);
		memcpy(l->sasl.secret, secrets->sasl, sizeof(l->sasl.secret));
	}
}

const struct smtp_server_config *
listener_smtp(const struct listener *listener, const struct netaddr *client)
{
	for (size_t i = 0; i < listener->normalise_from_count; i++)
		if (network_holds(&listener->normalise_from[i], client))
			return &listener->smtp_normalising;
	return &listener->smtp;
}

void
config_free(struct config *config)
{
	struct arena arena;

	if (config == NULL)
		return;
	for (size_t i = 0; i < config->listener_count; i++)
		tls_context_free(config->listeners[i].tls_context);
	tls_context_free(config->client_tls);
	config_close_files(config);
	free(config->parts);
	passwords_free(config->passwords);
	senders_free(config->senders);
	classifier_free(config->classifier);
	response_rules_free(config->responses);
	arena = config->arena;
	arena_free(&arena);
	free(config);
}

/* Only numbers and C strings need a restart. */
static bool
same_value(const struct directive *d, const struct config *a, const struct config *b)
{
	const char *left = (const char *)a + d->offset, *right = (const char *)b + d->offset;
	const char *left_text, *right_text;

	if (d->type != &type_path && d->type != &type_user)
		return memcmp(left, right, d->width) == 0;
	memcpy(&left_text, left, sizeof(left_text));
	memcpy(&right_text, right, sizeof(right_text));
	return span_eq(span_str(left_text), span_str(right_text)) &&
	       (left_text == NULL) == (right_text == NULL);
}

struct span
config_needs_restart(const struct config *old, const struct config *new, struct arena *arena)
{
	struct span list = { 0 };

	for (size_t i = 0; i < directive_count; i++) {
		const struct directive *d = &directives[i];

		if (!d->restart || same_value(d, old, new))
			continue;
		list = arena_printf(arena, "%.*s%s%s%s%s", SPAN_FMT(list), list.len > 0 ? ", " : "",
				    section_types[d->section].name,
				    d->section == SECTION_TOP ? "" : ".", d->name);
	}
	if (list.len == 0)
		return SPAN("");
	return arena_printf(arena, "changed, but in effect only after a restart: %.*s",
			    SPAN_FMT(list));
}
