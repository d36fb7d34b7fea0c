/*
 * Who may relay where, postmaster in all its spellings, and that nothing in a local part ever
 * routes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy/access.h"

struct fixture {
	struct arena arena;
	struct network from[2];
	struct span to[2];
	struct route list[4];
	struct access_rules rules;
	struct access_client inside, outside, local;
};

static struct access_client
client_at(const struct access_rules *rules, const char *ip)
{
	struct access_client client = { 0 };

	assert_true(netaddr_parse(span_str(ip), 40000, &client.peer));
	assert_true(netaddr_parse(SPAN("192.0.2.25"), 25, &client.server));
	access_greet(rules, &client);
	return client;
}

static int
setup(void **state)
{
	static struct fixture f;

	f = (struct fixture){ .to = { SPAN("example.org"), SPAN("*.example.org") } };
	assert_true(network_parse(SPAN("10.0.0.0/8"), &f.from[0]));
	assert_true(network_parse(SPAN("2001:db8::/32"), &f.from[1]));
	f.list[0] = (struct route){ .pattern = SPAN("example.org"), .kind = DELIVER_SMTP };
	f.list[1] = (struct route){ .pattern = SPAN("*.example.org"), .kind = DELIVER_SMTP };
	f.list[2] = (struct route){ .pattern = SPAN("*.com"), .kind = DELIVER_MX };
	f.list[3] = (struct route){ .pattern = SPAN("old.example.org"), .kind = DELIVER_REJECT,
				    .reject = REPLY(550, 5, 1, 6, "moved") };
	f.rules = (struct access_rules){ .relay_from = f.from, .relay_from_count = 2,
					 .relay_to = f.to, .relay_to_count = 2,
					 .hostname = SPAN("relay.example.net"),
					 .routes = { f.list, 4, false } };
	for (size_t i = 0; i < 4; i++)
		f.list[i].name = f.list[i].pattern;
	routes_sort(&f.rules.routes);
	f.inside = client_at(&f.rules, "10.1.2.3");
	f.outside = client_at(&f.rules, "198.51.100.7");
	f.local = (struct access_client){ .peer = { .family = AF_UNIX }, .local = true };
	access_greet(&f.rules, &f.local);
	*state = &f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	arena_free(&f->arena);
	return 0;
}

/* The code, the status' detail as in "550 5.7.1", and what became of the address. */
static void
expect(struct fixture *f, const struct access_client *client, const char *given,
	const char *verdict, const char *want)
{
	const struct route *route = NULL;
	struct span address = span_str(given);
	struct reply reply = access_rcpt(&f->rules, client, SPAN(""), &f->arena, &address, &route);
	struct buf line = { 0 };

	reply_to_line(&reply, &line);
	if (!span_starts(buf_span(&line), span_str(verdict)))
		fail_msg("%s: %.*s, not %s", given, SPAN_FMT(buf_span(&line)), verdict);
	if (reply_class(&reply) == 2) {
		assert_non_null(route);
		assert_true(span_eq(address, span_str(want)));
	}
	buf_free(&line);
}

static void
test_greet(void **state)
{
	struct fixture *f = *state;

	assert_true(f->inside.trusted);
	assert_false(f->outside.trusted);
	assert_true(f->local.trusted);
	assert_true(client_at(&f->rules, "2001:db8::25").trusted);
	assert_true(client_at(&f->rules, "::ffff:10.0.0.1").trusted);
	assert_false(client_at(&f->rules, "2001:db9::25").trusted);
	assert_false(client_at(&f->rules, "127.0.0.1").trusted);
}

static void
test_relaying(void **state)
{
	struct fixture *f = *state;
	struct reply mail = access_mail(&f->rules, &f->outside, SPAN(""));

	assert_int_equal(mail.code, 250);
	expect(f, &f->outside, "a@example.org", "250 2.1.5", "a@example.org");
	expect(f, &f->outside, "a@deep.sub.example.org", "250 2.1.5", "a@deep.sub.example.org");
	expect(f, &f->outside, "a@example.com", "550 5.7.1", NULL);
	expect(f, &f->outside, "a@badexample.org", "550 5.7.1", NULL);
	expect(f, &f->outside, "a@example.org.evil.test", "550 5.7.1", NULL);
	expect(f, &f->outside, "a@[192.0.2.1]", "550 5.7.1", NULL);
	expect(f, &f->outside, "a@[192.0.2.25]", "550 5.7.1", NULL);
	expect(f, &f->inside, "a@www.example.com", "250 2.1.5", "a@www.example.com");
	expect(f, &f->inside, "a@example.net", "550 5.4.4", NULL);
	expect(f, &f->inside, "a@old.example.org", "550 5.1.6 moved", NULL);
	expect(f, &f->outside, "a@old.example.org", "550 5.1.6 moved", NULL);
}

static void
test_local_part_is_opaque(void **state)
{
	struct fixture *f = *state;

	expect(f, &f->outside, "a%victim.test@example.org", "250 2.1.5",
	       "a%victim.test@example.org");
	expect(f, &f->outside, "victim.test!a@example.org", "250 2.1.5",
	       "victim.test!a@example.org");
	expect(f, &f->outside, "\"a@victim.test\"@example.org", "250 2.1.5",
	       "\"a@victim.test\"@example.org");
	expect(f, &f->outside, "\"a@example.org\"@victim.test", "550 5.7.1", NULL);
	expect(f, &f->outside, "a%example.org@victim.test", "550 5.7.1", NULL);
}

static void
test_postmaster(void **state)
{
	struct fixture *f = *state;

	/* Not configured: at our hostname, to which no route leads here. */
	expect(f, &f->outside, "postmaster", "550 5.7.1", NULL);
	expect(f, &f->inside, "postmaster", "550 5.4.4", NULL);
	f->rules.postmaster = SPAN("admin@sub.example.com");
	expect(f, &f->outside, "postmaster", "250 2.1.5", "admin@sub.example.com");
	expect(f, &f->outside, "PostMaster", "250 2.1.5", "admin@sub.example.com");
	expect(f, &f->outside, "Postmaster@relay.example.net", "250 2.1.5",
	       "admin@sub.example.com");
	expect(f, &f->outside, "postmaster@[192.0.2.25]", "250 2.1.5", "admin@sub.example.com");
	expect(f, &f->outside, "postmaster@[192.0.2.26]", "550 5.7.1", NULL);
	expect(f, &f->outside, "postmaster@example.com", "550 5.7.1", NULL);
	expect(f, &f->outside, "postmaster@example.org", "250 2.1.5", "postmaster@example.org");
	expect(f, &f->outside, "postmaster2@relay.example.net", "550 5.7.1", NULL);
	expect(f, &f->local, "postmaster", "250 2.1.5", "admin@sub.example.com");
	assert_true(netaddr_parse(SPAN("2001:db8::25"), 25, &f->outside.server));
	expect(f, &f->outside, "postmaster@[IPv6:2001:db8:0::25]", "250 2.1.5",
	       "admin@sub.example.com");
	f->outside.server.family = 0;
	expect(f, &f->outside, "postmaster@[IPv6:2001:db8::25]", "550 5.7.1", NULL);
}

static void
test_bare_local_part(void **state)
{
	struct fixture *f = *state;

	expect(f, &f->local, "root", "550 5.4.4", NULL);
	f->rules.hostname = SPAN("relay.example.org");
	expect(f, &f->local, "root", "250 2.1.5", "root@relay.example.org");
	expect(f, &f->inside, "root", "550 5.1.1", NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_greet, setup, teardown),
		cmocka_unit_test_setup_teardown(test_relaying, setup, teardown),
		cmocka_unit_test_setup_teardown(test_local_part_is_opaque, setup, teardown),
		cmocka_unit_test_setup_teardown(test_postmaster, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bare_local_part, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
