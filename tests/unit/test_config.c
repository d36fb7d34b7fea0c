/*
 * Configuration: each file of tests/config/bad gives the message in its first line ("# expect:
 * …"), each of tests/config/good none; the values, defaults and units that come out; warnings;
 * reload.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dns/channel.h"
#include "mta/config/private.h"

#define THREE_LINES                                                                              \
	"listener smtp { address = \"127.0.0.1:2525\" }\n"                                        \
	"relay-from = \"127.0.0.0/8\"\n"                                                          \
	"route \"*\" { deliver = \"mx\" }\n"

#define BY_SENDER(sender)                                                            \
	"hostname = a.example.org\nlistener smtp { address = \"127.0.0.1:2525\" }\n" \
	"relay-from = \"127.0.0.0/8\"\nroute \"*\" { sender = " sender " deliver = mx }\n"

static char source_folder[PATH_MAX];	/* tests/config, absolute */

static struct config *
parse(const char *text, struct buf *warnings)
{
	char error[CONFIG_ERROR_MAX];
	struct config *config = NULL;
	int rc = config_parse(span_str(text), "test.conf", &config, error, warnings);

	if (rc != 0)
		fail_msg("%s", error);
	assert_string_equal(error, "");
	return config;
}

static void
expect_error(const char *text, const char *want)
{
	char error[CONFIG_ERROR_MAX];
	struct config *config = NULL;

	assert_int_equal(config_parse(span_str(text), "test.conf", &config, error, NULL), -EINVAL);
	assert_null(config);
	if (strncmp(error, want, strlen(want)) != 0)
		fail_msg("%s\nis not: %s", error, want);
}

static bool
has(const struct buf *warnings, const char *text)
{
	return memmem(buf_span(warnings).at, buf_len(warnings), text, strlen(text)) != NULL;
}

/* U-labels in patterns become A-labels: twice the same is twice the same. */
static void
test_international(void **state)
{
	struct config *c = parse("relay-to = \"*.B\xc3\x9c"
				 "cher.example\"\n"
				 "route \"*.b\xc3\xbc"
				 "cher.example\" { deliver = \"mx:2525\" }\n" THREE_LINES,
				 NULL);

	(void)state;
	assert_true(span_eq(c->access.relay_to[0], SPAN("*.xn--bcher-kva.example")));
	assert_int_equal(route_find(&c->access.routes, SPAN("a.xn--bcher-kva.example"))->mx_port,
			 2525);
	config_free(c);
	expect_error("route \"b\xc3\xbc" "cher.example\" { deliver = \"mx\" }\n"
		     "route \"xn--bcher-kva.example\" { deliver = \"mx\" }\n" THREE_LINES,
		     "test.conf:2: route \"xn--bcher-kva.example\" is there twice");
}

/* ---- files -------------------------------------------------------------------------------- */

static void
check_bad(const char *name)
{
	char first[512] = "", error[CONFIG_ERROR_MAX];
	struct config *config = NULL;
	FILE *f = fopen(name, "r");
	char *want;

	assert_non_null(f);
	assert_non_null(fgets(first, sizeof(first), f));
	fclose(f);
	first[strcspn(first, "\n")] = '\0';
	assert_int_equal(strncmp(first, "# expect: ", 10), 0);
	want = first + 10;
	assert_true(config_load(name, &config, error, NULL) < 0);
	assert_null(config);
	if (strncmp(error, want, strlen(want)) != 0)
		fail_msg("%s: %s\nis not: %s", name, error, want);
}

static void
check_good(const char *name)
{
	char error[CONFIG_ERROR_MAX];
	struct config *config = NULL;

	if (config_load(name, &config, error, NULL) != 0)
		fail_msg("%s: %s", name, error);
	config_free(config);
}

/* As the file is but for its user, who need not be on the machine that builds. */
static void
check_example(const char *name)
{
	char text[16384] = "", error[CONFIG_ERROR_MAX], *user;
	struct config *config = NULL;
	FILE *f = fopen(name, "r");

	assert_non_null(f);
	assert_true(fread(text, 1, sizeof(text) - 1, f) > 0);
	fclose(f);
	user = strstr(text, "\"tram\"");
	if (user == NULL || strstr(text, "\ninclude ") != NULL)
		/* a part, or what includes it: tests/peers/test_contrib.py */
		return;
	memcpy(user, "\"root\"", 6);
	if (config_parse(span_str(text), name, &config, error, NULL) != 0)
		fail_msg("%s", error);
	config_free(config);
}

static void
each_file(const char *folder, size_t least, void (*check)(const char *name))
{
	struct dirent *entry;
	size_t count = 0;
	DIR *dir;

	assert_int_equal(chdir(source_folder), 0);
	assert_int_equal(chdir(folder), 0);
	dir = opendir(".");
	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL) {
		if (!span_ends(span_str(entry->d_name), SPAN(".conf")))
			continue;
		check(entry->d_name);
		count++;
	}
	closedir(dir);
	assert_true(count >= least);
}

static void
test_bad_files(void **state)
{
	(void)state;
	unsetenv("TRAM_TEST_UNSET");
	each_file("bad", 90, check_bad);
}

static void
test_good_files(void **state)
{
	(void)state;
	setenv("TRAM_TEST_DOMAIN", "example.org", 1);
	each_file("good", 3, check_good);
	each_file("../../contrib/examples", 3, check_example);
}

static void
test_unreadable(void **state)
{
	char error[CONFIG_ERROR_MAX], path[] = "/tmp/tram-config-XXXXXX";
	struct config *config = NULL;
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(config_load("/nowhere/tram.conf", &config, error, NULL), -ENOENT);
	assert_string_equal(error, "/nowhere/tram.conf: cannot read it: No such file or directory; "
				   "check its name and "
			    "permissions");
	assert_int_equal(config_load("/", &config, error, NULL), -EINVAL);
	assert_non_null(strstr(error, "/: cannot read it: it is a directory"));
	assert_int_equal(config_load("/dev/null", &config, error, NULL), -EINVAL);
	assert_int_equal(config_load(path, &config, error, NULL), -EINVAL);
	assert_non_null(strstr(error, ":1: there is nothing in it"));
	assert_int_equal(fchmod(fd, 0), 0);
	if (geteuid() != 0)
		assert_int_equal(config_load(path, &config, error, NULL), -EACCES);
	assert_int_equal(ftruncate(fd, (off_t)64 << 20), 0);
	assert_true(config_load(path, &config, error, NULL) < 0);
	assert_null(config);
	close(fd);
	unlink(path);
}

/* ---- values ------------------------------------------------------------------------------- */

static void
test_defaults(void **state)
{
	struct config *c = parse(THREE_LINES, NULL);

	(void)state;
	assert_string_equal(c->path, "test.conf");
	assert_string_equal(c->queue.path, "/var/lib/tram/queue");
	assert_int_equal(c->queue.schedule.lifetime_ms, 432000000);
	assert_int_equal(c->queue.schedule.report_lifetime_ms, 432000000);
	assert_int_equal(c->queue.schedule.retry_first_ms, 300000);
	assert_int_equal(c->queue.schedule.retry_max_ms, 14400000);
	assert_int_equal(c->queue.max_size, (uint64_t)20 << 30);
	assert_int_equal(c->queue.map_size, (uint64_t)1 << 40);
	assert_true(c->queue.return_full);
	assert_string_equal(c->control, "/run/tram/control");
	assert_int_equal(c->control_mode, 0660);
	assert_null(c->submission_socket);
	assert_null(c->user);
	assert_null(c->log.path);
	assert_int_equal(c->log.level, LOG_INFO);
	assert_int_equal(c->resolver.server_count, 0);
	assert_int_equal(c->resolver.timeout_ms, 5000);
	assert_int_equal(c->resolver.tries, 3);
	assert_int_equal(c->limits.connections, 10000);
	assert_int_equal(c->limits.error_delay_ms, 500);
	assert_int_equal(c->limits.message_size, 50 << 20);
	assert_int_equal(c->listener_count, 1);
	assert_true(span_eq(c->listeners[0].name, SPAN("smtp")));
	assert_int_equal(c->listeners[0].address_count, 1);
	assert_int_equal(c->listeners[0].addresses[0].port, 2525);
	assert_int_equal(c->listeners[0].smtp.max_message_size, 50 << 20);
	assert_int_equal(c->listeners[0].smtp.max_recipients, 1000);
	assert_true(span_eq(c->listeners[0].smtp.banner, SPAN("ESMTP tram")));
	assert_true(span_eq(c->listeners[0].smtp.hostname, c->hostname));
	assert_true(c->submission.local_submission);
	assert_true(c->client.pipelining && c->client.chunking);
	assert_true(c->client.max_reply > 512);
	assert_int_equal(c->client.timeouts.dot, 600000);
	assert_true(span_eq(c->client.ehlo_name, c->hostname));
	assert_int_equal(c->own_name_count, 1);
	assert_true(c->threads >= 1);
	assert_int_equal(c->stop_timeout_ms, 10000);
	assert_int_equal(c->access.relay_from_count, 1);
	assert_int_equal(c->access.routes.count, 1);
	assert_int_equal(c->access.routes.routes[0].kind, DELIVER_MX);
	config_free(c);
	config_free(NULL);
}

static void
test_values(void **state)
{
	struct config *c = parse(
		"# each kind of value\nhostname = Relay.Example.ORG names = {\"mx.example.org\", "
		"\"mail.example.org\",}\n"
		"queue { lifetime = 2d max-size = 5GB bounce-size = 0 bounce-lifetime = 1d "
		"retry-first = 500ms }\n"
		"resolver = {\"127.0.0.1:5353\", \"::1\"} resolver-tcp = on control-mode = 600\n"
		"limits { recipients = 50 message-size = 25MB error-delay = 0 }\n"
		"listener smtp { address = {\"0.0.0.0:25\", \"[::]:25\"} message-size = 1MB "
		"strict-addresses = yes\n"
		"\tbanner = 'ESMTP \"ready\" $1' }\n"
		"listener other { address = \"127.0.0.1:587\" binarymime = yes normalise-newlines "
		"= true recipients = 7 }\n"
		"relay-from = {10.0.0.0/8, \"2001:db8::/32\"} relay-to = {\"Example.org\", "
		"\"*.example.org\"}\n"
		"postmaster = \"Admin@Example.org\" ehlo-name = \"out.example.org\" pipelining = "
		"no chunking = off\n"
		"route \"Example.ORG\" { deliver = \"smtp:[127.0.0.1]:2526\" connections = 3 "
		"messages-per-connection = 4 }\n"
		"route \"*.example.org\" { deliver = \"smtp:mail.example.net\" } /* and the\n rest "
		"*/ route '*' { deliver = mx }\n"
		"log { level = debug format = json file = \"/var/log/tram.log\" } // the "
		"end\nthreads = 3 stop-timeout = 1m\n",
		NULL);
	const struct route *route = route_find(&c->access.routes, SPAN("example.org"));

	(void)state;
	assert_true(span_eq(c->hostname, SPAN("relay.example.org")));
	assert_int_equal(c->own_name_count, 3);
	assert_true(span_eq(c->own_names[0], c->hostname) &&
		    span_eq(c->own_names[2], SPAN("mail.example.org")));
	assert_int_equal(c->queue.schedule.report_lifetime_ms, 86400000);
	assert_int_equal(c->queue.schedule.retry_first_ms, 500);
	assert_false(c->queue.return_full);
	assert_int_equal(c->resolver.server_count, 2);
	assert_int_equal(c->resolver.servers[0].port, 5353);
	assert_int_equal(c->resolver.servers[1].port, 53);
	assert_true(c->resolver.tcp);
	assert_int_equal(c->control_mode, 0600);
	assert_int_equal(c->listeners[0].smtp.max_message_size, 1 << 20);
	assert_int_equal(c->listeners[0].smtp.max_recipients, 50);
	assert_true(c->listeners[0].smtp.strict_addresses);
	assert_false(c->listeners[0].smtp.offer_binarymime);
	assert_true(span_eq(c->listeners[0].smtp.banner, SPAN("ESMTP \"ready\" $1")));
	assert_int_equal(c->listeners[1].smtp.max_message_size, 25 << 20);
	assert_int_equal(c->listeners[1].smtp.max_recipients, 7);
	assert_true(c->listeners[1].smtp.offer_binarymime &&
		    c->listeners[1].smtp.normalise_newlines);
	assert_int_equal(c->access.relay_from_count, 2);
	assert_int_equal(c->access.relay_to_count, 2);
	assert_true(span_eq(c->access.relay_to[0], SPAN("example.org")));
	assert_true(span_eq(c->access.postmaster, SPAN("Admin@example.org")));
	assert_true(span_eq(c->client.ehlo_name, SPAN("out.example.org")));
	assert_false(c->client.pipelining || c->client.chunking);
	assert_non_null(route);
	assert_int_equal(route->line, 11);
	assert_int_equal(route->connections, 3);
	assert_int_equal(route->messages_per_connection, 4);
	assert_true(span_eq(route->site_key, SPAN("static:smtp:[127.0.0.1]:2526")));
	assert_true(route_find(&c->access.routes, SPAN("a.example.org"))->hosts[0].use_mx);
	assert_int_equal(c->log.level, LOG_DEBUG);
	assert_int_equal(c->log.format, LOG_JSON);
	assert_string_equal(c->log.path, "/var/log/tram.log");
	assert_int_equal(c->threads, 3);
	assert_int_equal(c->stop_timeout_ms, 60000);
	config_free(c);
}

static void
test_environment(void **state)
{
	struct config *c;

	(void)state;
	setenv("TRAM_TEST_HOST", "env.example.org", 1);
	unsetenv("TRAM_TEST_UNSET");
	c = parse(
		"hostname = ${TRAM_TEST_HOST} names = {\"${TRAM_TEST_UNSET:-other.example.org}\", "
		"\"x.${TRAM_TEST_HOST}\"}\n" THREE_LINES,
		NULL);
	assert_true(span_eq(c->hostname, SPAN("env.example.org")));
	assert_true(span_eq(c->own_names[1], SPAN("other.example.org")));
	assert_true(span_eq(c->own_names[2], SPAN("x.env.example.org")));
	config_free(c);
	setenv("TRAM_TEST_HOST", "a\nb", 1);
	expect_error("hostname = \"${TRAM_TEST_HOST}\"\n" THREE_LINES,
		     "test.conf:1: hostname has a control octet");
	setenv("TRAM_TEST_HOST", "caf\xe9", 1);
	expect_error("hostname = \"${TRAM_TEST_HOST}\"\n" THREE_LINES,
		     "test.conf:1: hostname is not UTF-8");
	setenv("TRAM_TEST_HOST", "x\" } } evil = {", 1);
	expect_error("hostname = \"${TRAM_TEST_HOST}\"\n" THREE_LINES,
		     "test.conf:1: hostname = \"x\" } } evil = {\": it is not");
	unsetenv("TRAM_TEST_HOST");
}

/* After a failure in the middle of anything the next file is read as if nothing had been. */
static void
test_again_after_failure(void **state)
{
	(void)state;
	expect_error("hostname = \"a", "test.conf:1: this string has no closing");
	expect_error("queue {", "test.conf:1: the {");
	expect_error("include \"x\"\n" THREE_LINES, "test.conf:1: include stands in files only");
	expect_error("a = b, c", "test.conf:1: unknown word a");
	config_free(parse(THREE_LINES, NULL));
}

static void
test_many_routes(void **state)
{
	struct buf text = { 0 };
	struct config *c;

	(void)state;
	buf_append(&text, SPAN(THREE_LINES));
	for (int i = 0; i < 5000; i++)
		buf_printf(&text,
			   "route \"d%d.example.org\" { deliver = \"smtp:[192.0.2.1]:%d\" }\n", i,
			   i + 1);
	buf_byte(&text, '\0');
	c = parse(buf_span(&text).at, NULL);
	assert_int_equal(c->access.routes.count, 5001);
	assert_int_equal(route_find(&c->access.routes, SPAN("d4321.example.org"))->hosts[0].port,
			 4322);
	config_free(c);
	buf_free(&text);
}

/* ---- the whole ---------------------------------------------------------------------------- */

/* Of the machine that this runs on nothing is known but what c-ares says. */
static bool
system_is_elsewhere(void)
{
	struct dns_config dns = { 0 };
	bool elsewhere = false;

	assert_int_equal(dns_system_servers(&dns), 0);
	for (size_t i = 0; i < dns.server_count; i++)
		elsewhere = elsewhere || !netaddr_is_loopback(&dns.servers[i]);
	return elsewhere;
}

static void
test_resolver_warnings(void **state)
{
	static const char listener[] = "hostname = a.example.org relay-from = \"127.0.0.0/8\"\n"
				       "listener smtp { address = \"127.0.0.1:0\" }\n";
	static const struct { const char *text; bool asks; } cases[] = {
		{ "route \"*\" { deliver = mx }", true },
		{ "route \"*\" { deliver = \"smtp:example.org\" }", true },
		{ "route \"*\" { deliver = \"smtp:[mail.example.org]\" }", true },
		{ "route \"*\" { deliver = \"smtp:[192.0.2.1]\" }", false },
		{ "route \"*\" { deliver = discard } relay-to = example.org", true },
		{ "route \"*\" { deliver = discard } relay-to = example.org check-sender = no",
		  false },
		{ "route \"*\" { deliver = mx } resolver-tcp = yes", false },
		{ "route \"*\" { deliver = mx } resolver = \"127.0.0.1\"", false },
	};
	char text[512];
	struct buf w = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(text, sizeof(text), "%s%s\n", listener, cases[i].text);
		buf_clear(&w);
		buf_append(&w, SPAN("warnings: "));
		config_free(parse(text, &w));
		assert_int_equal(has(&w, "the system's resolver"),
				 cases[i].asks && system_is_elsewhere());
	}
	buf_free(&w);
}

/* Limits that are never reached, for another one is met first. */
static void
test_vain_limits(void **state)
{
	static const struct { const char *shape, *warning; } cases[] = {
		{ "messages-per-hour = 100 messages-per-day = 100",
		  "messages-per-hour = 100 is never reached" },
		{ "messages-per-hour = 100 messages-per-day = 2400",
		  "messages-per-day = 2400 is never reached" },
		{ "messages-per-second = 2 messages-per-minute = 120",
		  "messages-per-minute = 120 is never reached" },
		{ "messages-per-second = 60 messages-per-minute = 60",
		  "messages-per-second = 60 is never reached" },
		{ "recipients-per-hour = 5 recipients-per-day = 5",
		  "recipients-per-hour = 5 is never reached" },
		{ "connections = 21", "connections = 21 is never reached, for connections-per-site "
				      "is 20" },
		{ "connections = 21 per = {\"site\", \"source\"}", NULL },
		{ "connections = 20 messages-per-second = 2 messages-per-minute = 100 "
		  "messages-per-hour = 5000", NULL },
	};
	char text[512];
	struct buf w = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(text, sizeof(text),
			 "hostname = a.example.org\n" THREE_LINES "shape a { %s }\n",
			 cases[i].shape);
		buf_clear(&w);
		buf_append(&w, SPAN("warnings: "));
		config_free(parse(text, &w));
		assert_int_equal(has(&w, "is never reached"), cases[i].warning != NULL);
		assert_true(cases[i].warning == NULL || has(&w, cases[i].warning));
	}
	buf_free(&w);
}

static void
test_warnings(void **state)
{
	struct rlimit limit;
	struct buf w = { 0 };

	(void)state;
	config_free(parse("hostname = a.example.org resolver = 192.0.2.53\n" THREE_LINES, &w));
	assert_true(has(&w, "test.conf:1: resolver 192.0.2.53 is not on this machine"));
	assert_int_equal(geteuid() == 0, has(&w, "would run as root"));
	buf_clear(&w);
	config_free(parse(
		"hostname = a.example.org resolver = 192.0.2.53 resolver-tcp = yes\n" THREE_LINES,
		&w));
	assert_false(has(&w, "resolver"));
	buf_clear(&w);
	config_free(parse("hostname = relay\n" THREE_LINES, &w));
	assert_true(has(&w, "test.conf:1: hostname (relay) is not a full name"));
	buf_clear(&w);
	config_free(parse("hostname = a.example.org\nrelay-to = \"*.lan\"\n" THREE_LINES, &w));
	assert_true(has(&w, "test.conf:2: relay-to has *.lan: mail for a whole top-level domain"));
	assert_true(has(&w, "mail for postmaster is refused"));
	buf_clear(&w);
	config_free(parse("hostname = a.example.org\nlistener smtp { address = \"127.0.0.1:0\" } "
			  "route \"*\" { deliver = mx }",
			  &w));
	assert_true(has(&w, "nobody may send anything"));
	buf_clear(&w);
	config_free(parse(BY_SENDER("\"b.example\""), &w));
	assert_true(has(&w, "test.conf:4: no route takes messages without a sender, so no report"));
	buf_clear(&w);
	config_free(parse(BY_SENDER("{\"b.example\", \"<>\"}"), &w));
	config_free(parse(BY_SENDER("\"b.example\"") "route \"c.example\" { deliver = mx }\n", &w));
	config_free(parse("hostname = a.example.org\n" THREE_LINES, &w));
	assert_false(has(&w, "no route takes"));
	buf_clear(&w);
	config_free(parse(
		BY_SENDER("\"b.example\"") "route \"*\" { deliver = \"reject:550 5.7.1 no\" }\n",
		&w));
	assert_true(has(&w, "test.conf:4: no route takes"));
	buf_clear(&w);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_max < 1000000) {
		config_free(parse(
			"hostname = a.example.org\nlimits { connections = 1000000 }\n" THREE_LINES,
			&w));
		assert_true(has(&w, "test.conf:2: connections (1000000) and deliveries (500) need "
				    "1000564 descriptors"));
	}
	buf_free(&w);
}

static void
test_own_networks_are_fine(void **state)
{
	struct config *c = parse(
		"hostname = a.example.org\nrelay-from = {\"10.0.0.0/8\", \"172.16.0.0/12\", "
		"\"192.168.0.0/16\", "
		"\"127.0.0.0/8\", \"198.51.0.0/16\", \"2001:db8::/32\", \"fc00::/7\", \"::1\"}\n"
		"listener smtp { address = {\"0.0.0.0:25\", \"[::]:25\"} } route \"*\" { deliver = "
		"mx }",
		NULL);

	(void)state;
	assert_int_equal(c->access.relay_from_count, 8);
	config_free(c);
}

static void
test_needs_restart(void **state)
{
	struct config *a = parse("threads = 2\n" THREE_LINES, NULL);
	struct config *b = parse("threads = 2 stop-timeout = 1s relay-to = {}\n" THREE_LINES, NULL);
	struct config *c = parse("threads = 3 submission-socket = \"/run/x\" queue { path = \"/q\" "
				 "map-size = 1024GB }\n" THREE_LINES,
				 NULL);
	struct arena arena = { 0 };

	(void)state;
	assert_int_equal(config_needs_restart(a, b, &arena).len, 0);
	assert_string_equal(config_needs_restart(a, c, &arena).at,
			    "changed, but in effect only after a restart: submission-socket, "
			    "threads, queue.path");
	arena_free(&arena);
	config_free(a);
	config_free(b);
	config_free(c);
}

static void
test_table(void **state)
{
	struct buf out = { 0 };

	(void)state;
	config_print_directives(&out);
	assert_true(has(&out, "\nqueue.lifetime time 5d\n"));
	assert_true(has(&out, "hostname name (the machine's name)\n"));
	assert_true(has(&out, "\nlog.level error|warning|info|debug info\n"));
	assert_true(has(&out, "\nlistener.message-size size (as limits.message-size)\n"));
	buf_free(&out);
	for (size_t i = 0; i < directive_count; i++) {
		const struct directive *d = &directives[i];

		assert_true(d->min <= d->max);
		assert_true(!d->restart || d->type != &type_networks);
		for (size_t j = 0; j < i; j++)
			assert_false(d->section == directives[j].section &&
				     strcmp(d->name, directives[j].name) == 0);
	}
}

static void
test_units(void **state)
{
	struct arena arena = { 0 };
	const char *error;
	int64_t n = -1;

	(void)state;
	assert_true(units_time(SPAN("0"), &n, &error) && n == 0);
	assert_true(units_time(SPAN("500ms"), &n, &error) && n == 500);
	assert_true(units_time(SPAN("2w"), &n, &error) && n == 1209600000);
	assert_true(units_size(SPAN("1TB"), &n, &error) && n == INT64_C(1) << 40);
	assert_true(units_size(SPAN("0B"), &n, &error) && n == 0);
	assert_false(units_time(SPAN("9223372036854775807d"), &n, &error));
	assert_false(units_time(SPAN("1.5h"), &n, &error));
	assert_false(units_time(SPAN("ms"), &n, &error));
	assert_false(units_time(SPAN("5 s"), &n, &error));
	assert_false(units_size(SPAN("-1KB"), &n, &error));
	assert_false(units_size(SPAN("1kb"), &n, &error));
	assert_false(units_number(SPAN(""), &n, &error));
	assert_string_equal(units_time_text(90 * 1000, &arena).at, "90s");
	assert_string_equal(units_time_text(0, &arena).at, "0");
	assert_string_equal(units_size_text(1536, &arena).at, "1536B");
	assert_string_equal(units_size_text(INT64_C(20) << 30, &arena).at, "20GB");
	arena_free(&arena);
	assert_int_equal(edit_distance(SPAN("lifetime"), SPAN("lifetime")), 0);
	assert_int_equal(edit_distance(SPAN("hostnmae"), SPAN("hostname")), 1);
	assert_int_equal(edit_distance(SPAN(""), SPAN("abc")), 3);
	assert_int_equal(edit_distance(SPAN("kitten"), SPAN("sitting")), 3);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_international),
		cmocka_unit_test(test_units),		  cmocka_unit_test(test_table),
		cmocka_unit_test(test_defaults),	  cmocka_unit_test(test_values),
		cmocka_unit_test(test_environment),	  cmocka_unit_test(test_again_after_failure),
		cmocka_unit_test(test_many_routes),	  cmocka_unit_test(test_warnings),
		cmocka_unit_test(test_resolver_warnings), cmocka_unit_test(test_vain_limits),
		cmocka_unit_test(test_own_networks_are_fine), cmocka_unit_test(test_needs_restart),
		cmocka_unit_test(test_unreadable),	  cmocka_unit_test(test_bad_files),
		cmocka_unit_test(test_good_files),
	};
	char folder[PATH_MAX];

	snprintf(folder, sizeof(folder), "%.*s/../config", (int)(strrchr(__FILE__, '/') - __FILE__),
		 __FILE__);
	if (realpath(folder, source_folder) == NULL) {
		perror(folder);
		return 1;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
