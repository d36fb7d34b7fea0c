/*
 * dns/resolver: a real resolver object against the name server of dns_fixture.h, over UDP and TCP
 * on loopback.
 */
#include "dns_fixture.h"

#include <stdio.h>

static struct dns_server *server;
static struct test_loop loop;

/* What came back, copied out of the callback. */
static struct {
	unsigned calls;
	enum dns_outcome outcome;
	size_t count;
	uint32_t ttl;
	bool authenticated;
	char text[128];
	struct dns_record first;
} got;
static bool asking;

static void
on_answer(void *arg, const struct dns_answer *answer)
{
	assert_false(asking);		/* never before dns_ask() has returned */
	if (arg != NULL)
		++*(unsigned *)arg;
	got.calls++;
	got.outcome = answer->outcome;
	got.count = answer->count;
	got.ttl = answer->ttl;
	got.authenticated = answer->authenticated;
	snprintf(got.text, sizeof(got.text), "%.*s", SPAN_FMT(answer->text));
	if (answer->count > 0)
		got.first = answer->records[0];
}

static struct dns_query *
ask(const char *name, enum dns_type type, void *arg)
{
	struct dns_query *query;

	asking = true;
	query = dns_ask(loop.resolver, span_str(name), type, on_answer, arg);
	asking = false;
	return query;
}

static void
ask_and_wait(const char *name, enum dns_type type)
{
	unsigned calls = got.calls;

	ask(name, type, NULL);
	loop_run(&loop, &got.calls, calls + 1);
}

static void
start(int timeout_ms, int tries)
{
	struct dns_config config;

	server = server_start();
	config = config_for(server);
	config.timeout_ms = timeout_ms;
	config.tries = tries;
	loop_open(&loop, &config);
	memset(&got, 0, sizeof(got));
}

static int
finish(void **state)
{
	(void)state;
	if (!loop.closed)
		loop_close(&loop);
	server_stop(server);
	return 0;
}

static const char *
first_ip(void)
{
	static char text[NETADDR_TEXT_MAX];

	assert_true(got.count > 0);
	return netaddr_format(&got.first.address, text);
}

static void
test_plain(void **state)
{
	(void)state;
	start(2000, 2);
	ask_and_wait("Plain.TEST.", DNS_A);
	assert_int_equal(got.outcome, DNS_FOUND);
	assert_string_equal(first_ip(), "192.0.2.1");
	assert_true(got.authenticated);		/* loopback is trusted */
	assert_int_equal(server->ad_queries, 1);
	assert_int_equal(server->plain_queries, 0);
	assert_int_equal(server->tcp_queries, 0);
	ask_and_wait("plain.test", DNS_AAAA);
	assert_string_equal(first_ip(), "2001:db8::1");
	ask_and_wait("plain.test", DNS_MX);
	assert_int_equal(got.first.preference, 10);
	ask_and_wait("noopt.test", DNS_A);
	assert_int_equal(got.outcome, DNS_FOUND);
	ask_and_wait("nodata.test", DNS_A);
	assert_int_equal(got.outcome, DNS_NODATA);
	assert_int_equal(got.ttl, 60);
	ask_and_wait("nx.test", DNS_A);
	assert_int_equal(got.outcome, DNS_NXDOMAIN);
	assert_int_equal(got.ttl, 120);
	assert_int_equal(loop.count, 0);	/* no socket without a query */
}

static void
test_trouble(void **state)
{
	static const struct {
		const char *name, *text;
	} cases[] = {
		{ "servfail.test", "SERVFAIL" },
		{ "refused.test", "REFUSED" },
		{ "badrdata.test", "malformed answer" },
		{ "loop.test", "CNAME loop" },
	};

	(void)state;
	start(2000, 2);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		ask_and_wait(cases[i].name, DNS_A);
		assert_int_equal(got.outcome, DNS_TEMPORARY);
		assert_string_equal(got.text, cases[i].text);
		assert_int_equal(server->queries, i + 1);
	}
	ask_and_wait("chain.test", DNS_A);
	assert_int_equal(got.outcome, DNS_FOUND);
	assert_string_equal(first_ip(), "192.0.2.3");
	assert_int_equal(got.ttl, 50);
}

static void
test_truncation(void **state)
{
	(void)state;
	start(2000, 2);
	ask_and_wait("tc.test", DNS_A);
	assert_int_equal(got.outcome, DNS_FOUND);
	assert_int_equal(server->tcp_queries, 1);
	ask_and_wait("big.test", DNS_A);
	assert_int_equal(got.count, DNS_RECORDS_MAX);
	assert_int_equal(server->tcp_queries, 2);
	ask_and_wait("tcdrop-tc.test", DNS_A);
	assert_int_equal(got.outcome, DNS_TEMPORARY);
	ask_and_wait("plain.test", DNS_A);
	assert_int_equal(got.outcome, DNS_FOUND);
}

static void
test_tcp_only(void **state)
{
	struct dns_config config;

	(void)state;
	server = server_start();
	config = config_for(server);
	config.tcp = true;
	loop_open(&loop, &config);
	ask_and_wait("plain.test", DNS_MX);
	assert_int_equal(got.outcome, DNS_FOUND);
	assert_int_equal(server->tcp_queries, 1);
	assert_int_equal(server->queries, 1);
}

/* Nobody answers, or nobody who may: in time, and never taken for "no such name". */
static void
test_timeouts(void **state)
{
	static const char *const names[] = { "silent.test", "onlywrong.test", "garbage.test",
					     "other.test" };
	unsigned done = 0;
	int64_t began;

	(void)state;
	start(100, 2);
	began = mono_ms();
	for (size_t i = 0; i < 4; i++)
		ask(names[i], DNS_A, &done);
	loop_run(&loop, &done, 4);
	assert_int_equal(got.outcome, DNS_TEMPORARY);
	assert_memory_equal(got.text, "timed out after ", 16);
	assert_true(mono_ms() - began >= 290 && mono_ms() - began < 3000);	/* 100, then 200 */
	assert_int_equal(server->queries, 8);
}

static void
test_wrong_id(void **state)
{
	(void)state;
	start(2000, 2);
	ask_and_wait("wrongid.test", DNS_A);
	assert_string_equal(first_ip(), "192.0.2.1");
	assert_int_equal(server->queries, 1);
}

static void
test_no_server(void **state)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t len = sizeof(addr);
	struct dns_config config;
	int fd;

	(void)state;
	start(2000, 3);
	loop_close(&loop);
	config = config_for(server);
	fd = socket(AF_INET, SOCK_DGRAM, 0);	/* for a port that nobody has */
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
	config.servers[0].port = ntohs(addr.sin_port);
	close(fd);
	loop_open(&loop, &config);
	ask_and_wait("plain.test", DNS_A);
	assert_int_equal(got.outcome, DNS_TEMPORARY);
	assert_string_equal(got.text, "no name server can be reached");
}

/* FORMERR to EDNS: c-ares asks again without; the others keep EDNS, then and later. */
static void
test_formerr(void **state)
{
	unsigned done = 0;

	(void)state;
	start(2000, 2);
	ask("formerr1.test", DNS_A, &done);
	ask("formerr2.test", DNS_A, &done);
	ask("formerr3.test", DNS_MX, &done);
	ask("plain1.test", DNS_A, &done);
	loop_run(&loop, &done, 4);
	assert_int_equal(got.outcome, DNS_FOUND);
	assert_int_equal(server->plain_queries, 3);
	assert_int_equal(server->queries, 7);
	ask_and_wait("plain2.test", DNS_A);
	assert_int_equal(server->plain_queries, 3);
	for (unsigned i = 0; i < 20; i++) {
		ask_and_wait("formerr4.test", DNS_A);
		assert_int_equal(got.outcome, DNS_FOUND);
		assert_int_equal(server->plain_queries, 4 + i);
	}
	ask_and_wait("badvers.test", DNS_A);
	assert_int_equal(got.outcome, DNS_FOUND);
	assert_int_equal(server->plain_queries, 24);
}

/* A server that fails is passed over where there is another; where all fail, its word stands. */
static void
test_two_servers(void **state)
{
	struct dns_server *second = server_start();
	struct dns_config config;

	(void)state;
	server = server_start();
	config = config_for(second);
	config.servers[1] = config.servers[0];
	config.servers[0].port = server->port;
	config.server_count = 2;
	loop_open(&loop, &config);
	ask_and_wait("servfail.test", DNS_A);
	assert_int_equal(got.outcome, DNS_TEMPORARY);
	assert_string_equal(got.text, "SERVFAIL");
	assert_true(second->queries > 0);
	ask_and_wait("plain.test", DNS_A);
	assert_int_equal(got.outcome, DNS_FOUND);
	loop_close(&loop);
	server_stop(second);
}

static void
test_asked_once(void **state)
{
	unsigned done = 0, ten = 0;

	(void)state;
	start(5000, 2);
	for (int i = 0; i < 10; i++)
		ask(i % 2 ? "HOLD.test" : "hold.test.", DNS_A, &ten);
	ask("hold.test", DNS_MX, &done);
	while (atomic_load(&server->held) < 2)
		loop_turn(&loop, 10);
	assert_int_equal(ten + done, 0);
	atomic_store(&server->release, true);
	loop_run(&loop, &ten, 10);
	loop_run(&loop, &done, 1);
	assert_int_equal(server->queries, 2);
	ask_and_wait("hold.test", DNS_A);		/* no cache */
	assert_int_equal(server->queries, 3);
}

static void
test_cancel(void **state)
{
	struct dns_query *first, *second, *third;
	unsigned kept = 0, cancelled = 0;

	(void)state;
	start(5000, 2);
	first = ask("hold.test", DNS_A, &cancelled);
	ask("hold.test", DNS_A, &kept);
	second = ask("hold2.test", DNS_A, &cancelled);
	third = ask("..", DNS_A, &cancelled);
	dns_cancel(first);
	dns_cancel(second);
	dns_cancel(third);
	dns_cancel(NULL);
	while (atomic_load(&server->held) < 2)
		loop_turn(&loop, 10);
	atomic_store(&server->release, true);
	loop_run(&loop, &kept, 1);
	assert_int_equal(cancelled, 0);
	ask_and_wait("hold2.test", DNS_A);
	assert_int_equal(cancelled, 0);
}

static void
test_close_in_flight(void **state)
{
	struct dns_config config;
	unsigned done = 0;

	(void)state;
	start(5000, 2);
	for (int i = 0; i < 300; i++) {			/* more than are sent at once */
		char name[32];

		snprintf(name, sizeof(name), "silent%d.test", i);
		ask(name, DNS_A, &done);
	}
	ask("..", DNS_A, &done);
	loop_close(&loop);
	assert_int_equal(done, 0);
	config = config_for(server);
	loop_open(&loop, &config);
	ask("tc-silent.test", DNS_A, &done);		/* then with a TCP connection open */
	while (atomic_load(&server->tcp_queries) == 0)
		loop_turn(&loop, 10);
	loop_close(&loop);
	assert_int_equal(done, 0);
}

static void
close_it(void *arg, const struct dns_answer *answer)
{
	(void)answer;
	++*(unsigned *)arg;
	loop_close(&loop);
}

static void
test_close_in_callback(void **state)
{
	unsigned done = 0;

	(void)state;
	start(5000, 2);
	for (int i = 0; i < 3; i++)
		dns_ask(loop.resolver, SPAN("plain.test"), DNS_A, close_it, &done);
	ask("..", DNS_A, NULL);
	ask("silent.test", DNS_A, NULL);
	while (!loop.closed)
		loop_turn(&loop, 100);
	assert_int_equal(done, 1);
}

static struct dns_query *victim;

static void
ask_more(void *arg, const struct dns_answer *answer)
{
	on_answer(arg, answer);
	dns_cancel(victim);
	victim = NULL;
	if (*(unsigned *)arg < 5)
		dns_ask(loop.resolver, SPAN("plain.test"), DNS_A, ask_more, arg);
}

/* A callback asks the same again and cancels another that stands behind it. */
static void
test_busy_callback(void **state)
{
	unsigned done = 0, cancelled = 0;

	(void)state;
	start(5000, 2);
	dns_ask(loop.resolver, SPAN("plain.test"), DNS_A, ask_more, &done);
	victim = ask("plain.test", DNS_A, &cancelled);
	loop_run(&loop, &done, 5);
	assert_int_equal(cancelled, 0);
	assert_int_equal(server->queries, 5);
}

static void
test_bad_names(void **state)
{
	static const char *const names[] = { "", ".", "a..b", "b\xc3\xbcro.test", "a b.test",
		"aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggg.test" };

	(void)state;
	start(2000, 2);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		ask_and_wait(names[i], DNS_A);
		assert_int_equal(got.outcome, DNS_BAD_NAME);
	}
	assert_int_equal(server->queries, 0);
}

static void
test_thousand(void **state)
{
	unsigned done = 0;
	int64_t began = mono_ms();

	(void)state;
	start(1000, 4);
	for (int i = 0; i < 1000; i++) {
		char name[32];

		snprintf(name, sizeof(name), i % 10 ? "n%d.test" : "tc%d.test", i);
		ask(name, DNS_A, &done);
	}
	loop_run(&loop, &done, 1000);
	assert_int_equal(got.outcome, DNS_FOUND);
	assert_true(mono_ms() - began < 10000);
	assert_true(loop.timers < 50);
}

/* Slow answers hold up nobody: after a second more are sent. */
static void
test_slow_do_not_block(void **state)
{
	unsigned slow = 0, done = 0;

	(void)state;
	start(8000, 1);
	for (int i = 0; i < 600; i++) {
		char name[32];

		snprintf(name, sizeof(name), "silent%d.test", i);
		ask(name, DNS_A, &slow);
	}
	ask("plain.test", DNS_A, &done);
	loop_run(&loop, &done, 1);
	assert_int_equal(got.outcome, DNS_FOUND);
	assert_int_equal(slow, 0);
}

/* Opened, not asked: what would answer is none of a test's business. */
static void
test_system_servers(void **state)
{
	(void)state;
	start(2000, 2);
	loop_close(&loop);
	loop_open(&loop, &(struct dns_config){ 0 });
}

/* What could be forged on the way shows nothing of DNSSEC. */
static void
test_trusted(void **state)
{
	static const struct { const char *servers[2]; bool declared, trusted; } cases[] = {
		{ { "127.0.0.1", "::1" }, false, true },
		{ { "192.0.2.1", NULL }, false, false },
		{ { "127.0.0.1", "192.0.2.1" }, false, false },
		{ { "192.0.2.1", NULL }, true, true },
	};

	(void)state;
	start(1000, 1);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct dns_config config = { .trusted = cases[i].declared };

		for (size_t j = 0; j < 2 && cases[i].servers[j] != NULL; j++)
			assert_true(netaddr_parse(span_str(cases[i].servers[j]), 53,
						  &config.servers[config.server_count++]));
		loop_close(&loop);
		loop_open(&loop, &config);
		assert_int_equal(dns_resolver_trusted(loop.resolver), cases[i].trusted);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_plain, finish),
		cmocka_unit_test_teardown(test_trouble, finish),
		cmocka_unit_test_teardown(test_truncation, finish),
		cmocka_unit_test_teardown(test_tcp_only, finish),
		cmocka_unit_test_teardown(test_timeouts, finish),
		cmocka_unit_test_teardown(test_wrong_id, finish),
		cmocka_unit_test_teardown(test_no_server, finish),
		cmocka_unit_test_teardown(test_formerr, finish),
		cmocka_unit_test_teardown(test_two_servers, finish),
		cmocka_unit_test_teardown(test_asked_once, finish),
		cmocka_unit_test_teardown(test_cancel, finish),
		cmocka_unit_test_teardown(test_close_in_flight, finish),
		cmocka_unit_test_teardown(test_close_in_callback, finish),
		cmocka_unit_test_teardown(test_busy_callback, finish),
		cmocka_unit_test_teardown(test_bad_names, finish),
		cmocka_unit_test_teardown(test_thousand, finish),
		cmocka_unit_test_teardown(test_slow_do_not_block, finish),
		cmocka_unit_test_teardown(test_system_servers, finish),
		cmocka_unit_test_teardown(test_trusted, finish),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
