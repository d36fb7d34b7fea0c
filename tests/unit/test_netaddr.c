/* netaddr: parsing, formatting, networks, and the two spellings of one IPv4 address. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "mta/base/netaddr.h"

static struct netaddr
parsed(const char *text)
{
	struct netaddr addr;

	assert_true(netaddr_parse(span_str(text), 25, &addr));
	return addr;
}

static void
test_parse_and_format(void **state)
{
	static const struct { const char *in, *ip, *port, *literal; } rows[] = {
		{ "192.0.2.1", "192.0.2.1", "192.0.2.1:25", "[192.0.2.1]" },
		{ "2001:DB8::1", "2001:db8::1", "[2001:db8::1]:25", "[IPv6:2001:db8::1]" },
		{ "::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1:25", "[192.0.2.1]" },
		{ "::", "::", "[::]:25", "[IPv6:::]" },
	};
	char out[NETADDR_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct netaddr addr = parsed(rows[i].in);

		assert_string_equal(netaddr_format(&addr, out), rows[i].ip);
		assert_string_equal(netaddr_format_port(&addr, out), rows[i].port);
		assert_string_equal(netaddr_format_literal(&addr, out), rows[i].literal);
	}
}

static void
test_parse_refuses(void **state)
{
	static const char *const bad[] = { "", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4",
					   "1.2.3.4 ", "::1%lo",
		":::", "fe80::1::2", "host", "0x7f.1.1.1", "[::1]" };
	struct netaddr addr;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(netaddr_parse(span_str(bad[i]), 0, &addr));
	assert_false(netaddr_parse(span_of("1.2.3.4\0x", 9), 0, &addr));
}

static void
test_parse_port(void **state)
{
	static const struct {
		const char *in;
		uint16_t fallback;
		bool ok;
		const char *out;
	} rows[] = {
		{ "192.0.2.1:2525", 0, true, "192.0.2.1:2525" },
		{ "192.0.2.1", 25, true, "192.0.2.1:25" },
		{ "[2001:db8::1]:25", 0, true, "[2001:db8::1]:25" },
		{ "[2001:db8::1]", 24, true, "[2001:db8::1]:24" },
		{ "2001:db8::1", 24, true, "[2001:db8::1]:24" },
		{ "127.0.0.1:0", 25, true, "127.0.0.1:0" },
		{ "[127.0.0.1]:2525", 0, true, "127.0.0.1:2525" },
		{ "2001:db8::1", 0, false, NULL },
		{ "192.0.2.1", 0, false, NULL },
		{ "192.0.2.1:", 25, false, NULL },
		{ "192.0.2.1:65536", 25, false, NULL },
		{ "192.0.2.1:+5", 25, false, NULL },
		{ "[::1", 25, false, NULL },
		{ "[::1]25", 25, false, NULL },
		{ "[]:25", 25, false, NULL },
		{ ":25", 25, false, NULL },
		{ "", 25, false, NULL },
	};
	char out[NETADDR_TEXT_MAX];
	struct netaddr addr;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(netaddr_parse_port(span_str(rows[i].in), rows[i].fallback, &addr),
				 rows[i].ok);
		if (rows[i].ok)
			assert_string_equal(netaddr_format_port(&addr, out), rows[i].out);
	}
}

static void
test_sockaddr(void **state)
{
	static const char *const all[] = { "192.0.2.7", "2001:db8::7" };
	struct sockaddr un = { .sa_family = AF_UNIX }, none = { .sa_family = AF_NETLINK };
	struct sockaddr_storage ss;
	struct netaddr addr, back;
	char out[NETADDR_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		addr = parsed(all[i]);
		assert_true(netaddr_to_sockaddr(&addr, &ss) > 0);
		assert_true(netaddr_from_sockaddr((struct sockaddr *)&ss, &back));
		assert_true(netaddr_same_ip(&addr, &back));
		assert_int_equal(back.port, 25);
	}
	assert_true(netaddr_from_sockaddr(&un, &addr));
	assert_string_equal(netaddr_format_port(&addr, out), "local");
	assert_true(netaddr_is_loopback(&addr) && netaddr_is_private(&addr));
	assert_int_equal(netaddr_to_sockaddr(&addr, &ss), 0);
	assert_false(netaddr_from_sockaddr(&none, &addr));
}

static void
test_private(void **state)
{
	static const char *const yes[] = { "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1",
					   "169.254.1.1", "172.16.0.1",
		"172.31.255.255", "192.168.0.1", "224.0.0.1", "255.255.255.255", "::", "::1",
					   "fe80::1", "fd00::1",
		"ff02::1", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::10.0.0.1",
					   "2002:7f00:1::1" };
	static const char *const no[] = { "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255",
					  "100.128.0.0",
		"172.15.255.255", "172.32.0.0", "192.167.255.255", "223.255.255.255",
					  "2001:4860::1", "64:ff9b::1.1.1.1",
		"2002:101:101::1" };

	(void)state;
	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
		assert_true(netaddr_is_private((struct netaddr[]){ parsed(yes[i]) }));
	assert_false(netaddr_is_private(&(struct netaddr){ 0 }));
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
		assert_false(netaddr_is_private((struct netaddr[]){ parsed(no[i]) }));
	assert_true(netaddr_is_loopback((struct netaddr[]){ parsed("127.255.0.1") }));
	assert_true(netaddr_is_loopback((struct netaddr[]){ parsed("::1") }));
	assert_false(netaddr_is_loopback((struct netaddr[]){ parsed("::2") }));
}

static void
test_networks(void **state)
{
	static const struct { const char *network, *addr; bool holds; } rows[] = {
		{ "10.0.0.0/8", "10.255.0.1", true }, { "10.0.0.0/8", "11.0.0.0", false },
		{ "192.0.2.128/25", "192.0.2.128", true },
		{ "192.0.2.128/25", "192.0.2.127", false },
		{ "192.0.2.1", "192.0.2.1", true }, { "192.0.2.1", "192.0.2.2", false },
		{ "0.0.0.0/0", "203.0.113.9", true }, { "0.0.0.0/0", "2001:db8::1", false },
		{ "::/0", "2001:db8::1", true }, { "::/0", "10.0.0.1", false },
		{ "2001:db8::/33", "2001:db8:7fff::1", true },
		{ "2001:db8::/33", "2001:db8:8000::1", false },
		{ "::1", "::1", true }, { "10.0.0.0/8", "::ffff:10.1.1.1", true },
		{ "::ffff:10.0.0.0/104", "10.9.9.9", true },
	};
	static const char *const bad[] = { "10.0.0.1/8", "10.0.0.0/33", "2001:db8::/129",
					   "2001:db8::1/64", "10.0.0.0/",
		"/8", "", "10.0.0.0/8/8", "10.0.0.0/-1", "::ffff:0:0/95", "a/8", "10/8" };
	struct network network;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_true(network_parse(span_str(rows[i].network), &network));
		assert_int_equal(network_holds(&network,
					       (struct netaddr[]){ parsed(rows[i].addr) }),
				 rows[i].holds);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(network_parse(span_str(bad[i]), &network));
	assert_false(network_holds(&network, &(struct netaddr){ .family = AF_UNIX }));
}

static uint64_t
key(const char *text)
{
	return netaddr_limit_key((struct netaddr[]){ parsed(text) });
}

static void
test_limit_key(void **state)
{
	(void)state;
	assert_true(key("192.0.2.1") == key("::ffff:192.0.2.1"));
	assert_true(key("192.0.2.1") != key("192.0.2.2"));
	assert_true(key("2001:db8:0:1::1") == key("2001:db8:0:1:ffff::2"));
	assert_true(key("2001:db8:0:1::1") != key("2001:db8:0:2::1"));
	assert_true(netaddr_limit_key(&(struct netaddr){ .family = AF_UNIX }) != key("::1"));
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_and_format), cmocka_unit_test(test_parse_refuses),
		cmocka_unit_test(test_parse_port), cmocka_unit_test(test_sockaddr),
		cmocka_unit_test(test_private), cmocka_unit_test(test_networks),
		cmocka_unit_test(test_limit_key),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
