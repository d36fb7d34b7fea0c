/*
 * dns_fixture: DNS messages written by hand, a name server on 127.0.0.1 that misbehaves by name,
 * and a poll() loop to run a resolver in. For the tests of dns/ only; the server runs on a thread
 * of its own, all else on the test's.
 */
#ifndef TRAM_TESTS_DNS_FIXTURE_H
#define TRAM_TESTS_DNS_FIXTURE_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "dns/lookup.h"
#include "mta/base/clock.h"

/* messages */

struct packet {
	uint8_t at[65535];
	size_t len;
};

enum { SECTION_AN = 6, SECTION_NS = 8, SECTION_AR = 10 };	/* where their counts stand */
enum { QR = 0x8000, AA = 0x0400, TC = 0x0200, RD = 0x0100, RA = 0x0080, AD = 0x0020 };
enum { TYPE_CNAME = 5, TYPE_SOA = 6, TYPE_OPT = 41 };

static inline void
put(struct packet *p, const void *octets, size_t len)
{
	assert_true(p->len + len <= sizeof(p->at));
	memcpy(p->at + p->len, octets, len);
	p->len += len;
}

static inline void
put_number(struct packet *p, unsigned octets, uint32_t value)
{
	for (unsigned i = octets; i-- > 0;)
		put(p, &(uint8_t){ (uint8_t)(value >> 8 * i) }, 1);
}

static inline void
put_name(struct packet *p, const char *name)
{
	struct span rest = span_str(name);

	while (rest.len > 0) {
		struct span label = span_cut(&rest, '.');

		put_number(p, 1, (uint32_t)label.len);
		put(p, label.at, label.len);
	}
	put_number(p, 1, 0);
}

static inline void
packet_begin(struct packet *p, uint16_t id, unsigned flags, const char *name, unsigned type)
{
	p->len = 0;
	put_number(p, 2, id);
	put_number(p, 2, flags);
	put_number(p, 2, 1);
	put_number(p, 2, 0);
	put_number(p, 2, 0);
	put_number(p, 2, 0);
	put_name(p, name);
	put_number(p, 2, type);
	put_number(p, 2, 1);
}

static inline void
packet_record(struct packet *p, unsigned section, const char *owner, unsigned type, uint32_t ttl,
	      const void *data, size_t len)
{
	unsigned count = (unsigned)(p->at[section] << 8 | p->at[section + 1]) + 1;

	p->at[section] = (uint8_t)(count >> 8);
	p->at[section + 1] = (uint8_t)count;
	put_name(p, owner);
	put_number(p, 2, type);
	put_number(p, 2, 1);
	put_number(p, 4, ttl);
	put_number(p, 2, (uint32_t)len);
	put(p, data, len);
}

static inline void
packet_a(struct packet *p, const char *owner, uint32_t ttl, const char *ip)
{
	uint8_t octets[16];
	bool six = strchr(ip, ':') != NULL;

	assert_int_equal(inet_pton(six ? AF_INET6 : AF_INET, ip, octets), 1);
	packet_record(p, SECTION_AN, owner, six ? DNS_AAAA : DNS_A, ttl, octets, six ? 16 : 4);
}

static inline void
packet_mx(struct packet *p, const char *owner, uint32_t ttl, unsigned preference, const char *host)
{
	struct packet *data = calloc(1, sizeof(*data));

	put_number(data, 2, preference);
	put_name(data, host);
	packet_record(p, SECTION_AN, owner, DNS_MX, ttl, data->at, data->len);
	free(data);
}

static inline void
packet_cname(struct packet *p, const char *owner, uint32_t ttl, const char *target)
{
	struct packet *data = calloc(1, sizeof(*data));

	put_name(data, target);
	packet_record(p, SECTION_AN, owner, TYPE_CNAME, ttl, data->at, data->len);
	free(data);
}

static inline void
packet_soa(struct packet *p, uint32_t ttl, uint32_t minimum)
{
	struct packet *data = calloc(1, sizeof(*data));

	put_name(data, "ns.test");
	put_name(data, "hostmaster.test");
	for (unsigned i = 0; i < 4; i++)
		put_number(data, 4, 1);
	put_number(data, 4, minimum);
	packet_record(p, SECTION_NS, "test", TYPE_SOA, ttl, data->at, data->len);
	free(data);
}

static inline void
packet_opt(struct packet *p, unsigned upper_rcode)
{
	packet_record(p, SECTION_AR, "", TYPE_OPT, upper_rcode << 24, "", 0);
}

/* the name server */

struct dns_server {
	pthread_t thread;
	int udp, listener, stop[2];
	uint16_t port;
	atomic_uint queries, tcp_queries, plain_queries, ad_queries, held;
	atomic_bool release;		/* answers what "hold" has held back */
	struct packet kept[64];
	struct sockaddr_in kept_for[64];
	size_t kept_count;
};

struct question_seen {
	uint16_t id;
	char name[256];
	unsigned type;
	bool edns, tcp;
};

static inline bool
read_question(const uint8_t *at, size_t len, struct question_seen *ret)
{
	size_t i = 12, n = 0;

	if (len < 12)
		return false;
	ret->id = (uint16_t)(at[0] << 8 | at[1]);
	while (i < len && at[i] != 0 && at[i] < 64 && n + at[i] + 1 < sizeof(ret->name)) {
		memcpy(ret->name + n, at + i + 1, at[i]);
		n += at[i];
		ret->name[n++] = '.';
		i += at[i] + 1u;
	}
	if (i + 5 > len || n == 0)
		return false;
	ret->name[n - 1] = '\0';
	ret->type = (unsigned)(at[i + 1] << 8 | at[i + 2]);
	ret->edns = at[11] == 1;
	/* What c-ares needs: OPT last and bare. */
	return !ret->edns ||
	       (len == i + 5 + 11 && at[i + 7] == TYPE_OPT && at[len - 1] == 0 && at[len - 2] == 0);
}

static inline bool
named(const struct question_seen *q, const char *prefix)
{
	return strncmp(q->name, prefix, strlen(prefix)) == 0;
}

static inline void
answer_plainly(struct packet *p, const struct question_seen *q)
{
	packet_begin(p, q->id, QR | RD | RA | AD, q->name, q->type);
	if (named(q, "nodata"))
		packet_soa(p, 900, 60);
	else if (q->type == DNS_A)
		packet_a(p, q->name, 300, named(q, "private") ? "10.0.0.1" : "192.0.2.1");
	else if (q->type == DNS_AAAA && !named(q, "v4"))
		packet_a(p, q->name, 300, named(q, "private") ? "fd00::1" : "2001:db8::1");
	else if (q->type == DNS_MX)
		packet_mx(p, q->name, 300, 10, "v4.mx.test");
}

/* The name says what becomes of it. False: no answer. */
static inline bool
answer_question(struct packet *p, const struct question_seen *q)
{
	answer_plainly(p, q);
	if (named(q, "silent") || (named(q, "deaf6") && q->type == DNS_AAAA) ||
	    (named(q, "deaf4") && q->type == DNS_A))
		return false;
	if (named(q, "servfail") || (named(q, "fail6") && q->type == DNS_AAAA))
		packet_begin(p, q->id, QR | RD | RA | 2, q->name, q->type);
	if (named(q, "refused"))
		packet_begin(p, q->id, QR | RD | RA | 5, q->name, q->type);
	if (named(q, "formerr") && q->edns) {
		packet_begin(p, q->id, QR | RD | RA | 1, q->name, q->type);
		return true;
	}
	if (named(q, "nx")) {
		packet_begin(p, q->id, QR | RD | RA | 3, q->name, q->type);
		packet_soa(p, 900, 120);
	}
	if (named(q, "nullmx") && q->type == DNS_MX) {
		packet_begin(p, q->id, QR | RD | RA, q->name, q->type);
		packet_mx(p, q->name, 300, 0, "");
	}
	if (named(q, "chain")) {
		packet_begin(p, q->id, QR | RD | RA, q->name, q->type);
		packet_cname(p, "b.test", 50, "c.test");
		packet_cname(p, q->name, 300, "b.test");
		packet_a(p, "c.test", 300, "192.0.2.3");
	}
	if (named(q, "loop")) {
		packet_begin(p, q->id, QR | RD | RA, q->name, q->type);
		packet_cname(p, q->name, 300, "b.test");
		packet_cname(p, "b.test", 300, q->name);
	}
	if (named(q, "big"))
		for (unsigned i = 0; i < 120; i++)
			packet_a(p, q->name, 300, "192.0.2.2");
	if ((named(q, "tc") || p->len > 1232) && !q->tcp) {
		packet_begin(p, q->id, QR | RD | RA | TC, q->name, q->type);
		return true;
	}
	if (named(q, "badrdata"))
		packet_record(p, SECTION_AN, q->name, q->type, 300, "\1\2\3", 3);
	if (named(q, "other"))
		packet_begin(p, q->id, QR | RD | RA, "another.test", q->type);
	if (q->edns && !named(q, "noopt"))
		packet_opt(p, 0);
	if (named(q, "badvers") && q->edns) {
		packet_begin(p, q->id, QR | RD | RA, q->name, q->type);
		packet_opt(p, 1);
	}
	return true;
}

static inline void
count_query(struct dns_server *s, const uint8_t *at, const struct question_seen *q)
{
	atomic_fetch_add(&s->queries, 1);
	if (q->tcp)
		atomic_fetch_add(&s->tcp_queries, 1);
	if (!q->edns)
		atomic_fetch_add(&s->plain_queries, 1);
	if ((at[3] & 0x20) && (at[2] & 0x01))
		atomic_fetch_add(&s->ad_queries, 1);
}

static inline void
udp_send(struct dns_server *s, const struct packet *p, const struct sockaddr_in *to)
{
	sendto(s->udp, p->at, p->len, 0, (const struct sockaddr *)to, sizeof(*to));
}

static inline void
serve_udp(struct dns_server *s, struct packet *p)
{
	struct question_seen q = { 0 };
	struct sockaddr_in from;
	socklen_t from_len = sizeof(from);
	uint8_t in[1500];
	ssize_t n =
		recvfrom(s->udp, in, sizeof(in), MSG_DONTWAIT, (struct sockaddr *)&from, &from_len);

	if (n <= 0 || !read_question(in, (size_t)n, &q))
		return;
	count_query(s, in, &q);
	if (!answer_question(p, &q))
		return;
	if (named(&q, "hold") && s->kept_count < 64) {
		s->kept[s->kept_count] = *p;
		s->kept_for[s->kept_count++] = from;
		atomic_fetch_add(&s->held, 1);
		return;
	}
	if (named(&q, "wrongid") || named(&q, "onlywrong")) {
		struct question_seen wrong = q;
		struct packet *lie = calloc(1, sizeof(*lie));

		wrong.id ^= 0x5555;
		packet_begin(lie, wrong.id, QR | RD | RA, q.name, q.type);
		packet_a(lie, q.name, 300, "192.0.2.66");
		udp_send(s, lie, &from);
		free(lie);
	}
	if (named(&q, "garbage")) {
		static const uint8_t junk[] =
			"\0\1not a DNS message at all, but long enough for a header";
		struct packet short_one = { .len = 3 };

		udp_send(s, &short_one, &from);
		p->len = 0;
		put(p, junk, sizeof(junk));
		p->at[0] = in[0];
		p->at[1] = in[1];
	}
	if (!named(&q, "onlywrong"))
		udp_send(s, p, &from);
}

/* One question of a connection; false: it is to be closed. */
static inline bool
serve_tcp(struct dns_server *s, int fd, struct packet *p)
{
	uint8_t in[2 + 512], prefix[2];
	struct question_seen q = { .tcp = true };

	if (recv(fd, in, 2, MSG_WAITALL) != 2 || (in[0] << 8 | in[1]) > 512 ||
	    recv(fd, in + 2, (size_t)(in[0] << 8 | in[1]), MSG_WAITALL) <= 0 ||
	    !read_question(in + 2, (size_t)(in[0] << 8 | in[1]), &q))
		return false;
	count_query(s, in + 2, &q);
	if (named(&q, "tcdrop"))
		return false;
	if (!answer_question(p, &q))
		return true;
	prefix[0] = (uint8_t)(p->len >> 8);
	prefix[1] = (uint8_t)p->len;
	return send(fd, prefix, 2, MSG_NOSIGNAL) == 2 && send(fd, p->at, p->len, MSG_NOSIGNAL) > 0;
}

enum { FD_UDP, FD_LISTENER, FD_STOP, FD_FIRST, FD_MAX = 32 };

static inline void
serve_connections(struct dns_server *s, struct pollfd *fds, nfds_t *count, struct packet *p)
{
	for (nfds_t i = *count; i-- > FD_FIRST;) {
		if (fds[i].revents == 0 || serve_tcp(s, fds[i].fd, p))
			continue;
		close(fds[i].fd);
		fds[i] = fds[--*count];
	}
	if (fds[FD_LISTENER].revents && *count < FD_MAX)
		fds[(*count)++] = (struct pollfd){ accept(s->listener, NULL, NULL), POLLIN, 0 };
}

static inline void *
server_main(void *arg)
{
	struct dns_server *s = arg;
	struct packet *p = calloc(1, sizeof(*p));
	struct pollfd fds[FD_MAX] = { { s->udp, POLLIN, 0 },
				      { s->listener, POLLIN, 0 },
				      { s->stop[0], POLLIN, 0 } };
	nfds_t count = FD_FIRST;

	for (;;) {
		if (poll(fds, count, 20) < 0 && errno != EINTR)
			break;
		if (fds[FD_STOP].revents)
			break;
		if (fds[FD_UDP].revents)
			serve_udp(s, p);
		serve_connections(s, fds, &count, p);
		if (!atomic_load(&s->release))
			continue;
		for (size_t i = 0; i < s->kept_count; i++)
			udp_send(s, &s->kept[i], &s->kept_for[i]);
		s->kept_count = 0;
	}
	while (count > FD_FIRST)
		close(fds[--count].fd);
	free(p);
	return NULL;
}

/* The same port for both: picked by the kernel for one, tried for the other. */
static inline bool
server_bind(struct dns_server *s)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(addr);
	int room = 8 << 20, on = 1;

	s->udp = socket(AF_INET, SOCK_DGRAM, 0);
	s->listener = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(s->udp, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	setsockopt(s->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(s->udp, (struct sockaddr *)&addr, sizeof(addr)) == 0 &&
	    getsockname(s->udp, (struct sockaddr *)&addr, &len) == 0 &&
	    bind(s->listener, (struct sockaddr *)&addr, sizeof(addr)) == 0 &&
	    listen(s->listener, 128) == 0) {
		s->port = ntohs(addr.sin_port);
		return true;
	}
	close(s->udp);
	close(s->listener);
	return false;
}

static inline struct dns_server *
server_start(void)
{
	struct dns_server *s = calloc(1, sizeof(*s));
	int tries = 0;

	while (!server_bind(s))
		assert_true(++tries < 50);
	assert_int_equal(pipe(s->stop), 0);
	assert_int_equal(pthread_create(&s->thread, NULL, server_main, s), 0);
	return s;
}

static inline void
server_stop(struct dns_server *s)
{
	close(s->stop[1]);
	pthread_join(s->thread, NULL);
	close(s->stop[0]);
	close(s->udp);
	close(s->listener);
	free(s);
}

/* the loop */

struct test_loop {
	struct dns_resolver *resolver;
	struct pollfd fds[32];
	nfds_t count;
	int64_t due_ms;			/* 0: no timer */
	unsigned timers;		/* how often one was set */
	bool closed;
};

static inline void
loop_watch(void *arg, int fd, bool readable, bool writable)
{
	struct test_loop *loop = arg;
	nfds_t i = 0;

	while (i < loop->count && loop->fds[i].fd != fd)
		i++;
	if (!readable && !writable) {
		assert_true(i < loop->count);
		loop->fds[i] = loop->fds[--loop->count];
		return;
	}
	assert_true(i < 32);
	loop->fds[i] =
		(struct pollfd){ fd, (short)((readable ? POLLIN : 0) | (writable ? POLLOUT : 0)),
				 0 };
	if (i == loop->count)
		loop->count++;
}

static inline void
loop_timer(void *arg, int64_t ms)
{
	struct test_loop *loop = arg;

	loop->due_ms = ms < 0 ? 0 : mono_ms() + ms;
	loop->timers++;
}

static inline void
loop_turn(struct test_loop *loop, int64_t most_ms)
{
	struct pollfd ready[32];
	nfds_t count = loop->count;
	int64_t wait = most_ms;

	if (loop->due_ms != 0 && loop->due_ms - mono_ms() < wait)
		wait = loop->due_ms - mono_ms();
	poll(loop->fds, loop->count, wait > 0 ? (int)wait : 0);
	memcpy(ready, loop->fds, sizeof(ready));
	for (nfds_t i = 0; i < count && !loop->closed; i++) {
		bool failed = (ready[i].revents & (POLLERR | POLLHUP)) != 0;

		if (ready[i].revents != 0)
			dns_resolver_ready(loop->resolver, ready[i].fd,
					   failed || (ready[i].revents & POLLIN) != 0,
					   failed || (ready[i].revents & POLLOUT) != 0);
	}
	if (!loop->closed && loop->due_ms != 0 && mono_ms() >= loop->due_ms) {
		loop->due_ms = 0;
		dns_resolver_tick(loop->resolver);
	}
}

/* Until *count reaches want; the test fails after 20 s. */
static inline void
loop_run(struct test_loop *loop, const unsigned *count, unsigned want)
{
	int64_t end = mono_ms() + 20000;

	while (*count < want) {
		assert_true(mono_ms() < end);
		loop_turn(loop, 100);
	}
}

static inline void
loop_open(struct test_loop *loop, const struct dns_config *config)
{
	struct dns_loop calls = { loop, loop_watch, loop_timer };

	*loop = (struct test_loop){ 0 };
	assert_int_equal(dns_resolver_open(config, &calls, &loop->resolver), 0);
}

/* Proves that nothing is left: no descriptor, no timer. */
static inline void
loop_close(struct test_loop *loop)
{
	dns_resolver_close(loop->resolver);
	loop->closed = true;
	assert_int_equal(loop->count, 0);
	assert_int_equal(loop->due_ms, 0);
}

static inline struct dns_config
config_for(const struct dns_server *s)
{
	struct dns_config config = { .server_count = 1, .timeout_ms = 2000, .tries = 2 };

	assert_true(netaddr_parse(SPAN("127.0.0.1"), s->port, &config.servers[0]));
	return config;
}

#endif
