/*
 * test_passwords: the password file, its faults, its hashes; and the checker that calculates them
 * in the pool.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "mta/auth/checker.h"

/* "secret", by Python's crypt */
#define YESCRYPT \
	"$y$j9T$F5Jx5fExrKuPp53xLKQ..1$GmcwIgvdUC9qLWcKCi6gklUa1dM3ziD43YxYNURLKy0"
#define SHA512                                                                                   \
	"$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN." \
	"Pq.H91p5hVO1"
#define SHA256 "$5$rounds=5000$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA"
#define BCRYPT "$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"
#define MD5 "$1$saltsalt$9xy1btjgzLYfb7hivXtC//"
#define DES "abNANd1rDfiNc"
/* "päss", its ä in one code point and in two */
#define COMPOSED "$5$saltsalt$jCzctZPuSp6n9OZQjZ0kGu4bXPOziIJjnIQAtfHRIh4"
#define DECOMPOSED "$5$saltsalt$D6jq3.5qNWcsYK5/sP5oLn9AZGKqZFDsshfKXP9q.77"
/* "pencil" */
#define VERIFIER                                        \
	"{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==," \
	"WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=," \
	"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

static struct passwords *
parse(const char *text)
{
	struct passwords *p = NULL;
	struct buf errors = { 0 };

	if (passwords_parse(SPAN("users"), span_str(text), &errors, &p) != 0)
		fail_msg("%.*s", SPAN_FMT(buf_span(&errors)));
	assert_int_equal(buf_len(&errors), 0);
	return p;
}

static bool
check_one(const struct passwords *p, const char *user, const char *password,
	  const char *expected_spelling)
{
	struct password_hash hash;
	struct span spelling;

	passwords_hash_of(p, span_str(user), &hash, &spelling);
	assert_true(span_eq(spelling, span_str(expected_spelling)));
	return password_hash_check(&hash, span_str(password));
}

static void
test_hashes(void **state)
{
	struct passwords *p = parse("# users\n\n"
				    "yes:" YESCRYPT "\nSha512:{SHA512-CRYPT}" SHA512
				    "\r\n sha256 : " SHA256 " \nbcrypt:{BLF-CRYPT}" BCRYPT "\n"
				    "scram:" VERIFIER "\nboth:" VERIFIER "\nboth:" SHA256
				    ":\nno:" SHA256 ":disabled\n"
				    "composed:" COMPOSED "\ndecomposed:" DECOMPOSED);
	struct passwords_facts facts = passwords_facts(p);
	struct span spelling;

	(void)state;
	assert_true(check_one(p, "yes", "secret", "yes"));
	assert_false(check_one(p, "yes", "Secret", "yes"));
	assert_true(check_one(p, "SHA512", "secret", "Sha512"));
	assert_true(check_one(p, "sha256", "secret", "sha256"));
	assert_true(check_one(p, "bcrypt", "secret", "bcrypt"));
	assert_true(check_one(p, "scram", "pencil", "scram"));
	assert_true(check_one(p, "both", "secret", "both"));
	assert_false(check_one(p, "both", "pencil", "both"));
	assert_false(check_one(p, "no", "secret", "no"));
	assert_false(check_one(p, "nobody", "secret", "nobody"));
	assert_false(check_one(p, "", "secret", ""));
	assert_false(check_one(p, "yes", "", "yes"));
	assert_true(check_one(p, "composed", "p\xc3\xa4ss", "composed"));
	assert_true(check_one(p, "composed", "pa\xcc\x88ss", "composed"));
	assert_true(check_one(p, "decomposed", "pa\xcc\x88ss", "decomposed"));
	assert_int_equal(facts.users, 9);
	assert_int_equal(facts.with_crypt, 8);
	assert_int_equal(facts.with_scram, 2);
	assert_int_equal(facts.disabled, 1);
	assert_int_equal(facts.iterations, 4096);
	assert_false(facts.all_scram);
	assert_non_null(passwords_scram(p, SPAN("BOTH"), &spelling));
	assert_true(span_eq(spelling, SPAN("both")));
	assert_null(passwords_scram(p, SPAN("yes"), &spelling));
	assert_null(passwords_scram(p, SPAN("nobody"), &spelling));
	assert_true(passwords_find(p, SPAN("Yes"), &spelling));
	assert_false(passwords_find(p, SPAN("no"), &spelling));
	passwords_free(p);
}

/* A name that nobody has is calculated with what most have. */
static void
test_unknown_costs_the_same(void **state)
{
	struct passwords *p = parse("a:" SHA256 "\nb:" SHA512 "\nc:" SHA512 "\nd:" SHA512
				    ":disabled\ne:" VERIFIER);
	struct password_hash hash;
	struct span spelling;

	(void)state;
	passwords_hash_of(p, SPAN("nobody"), &hash, &spelling);
	assert_false(hash.known || hash.is_scram);
	assert_string_equal(hash.crypt, SHA512);
	assert_false(password_hash_check(&hash, SPAN("secret")));
	passwords_hash_of(p, SPAN("d"), &hash, &spelling);
	assert_false(hash.known);
	assert_string_equal(hash.crypt, SHA512);
	passwords_free(p);
	p = parse("a:" VERIFIER);
	passwords_hash_of(p, SPAN("nobody"), &hash, &spelling);
	assert_true(hash.is_scram && !hash.known);
	assert_int_equal(hash.scram.iterations, 4096);
	assert_true(passwords_facts(p).all_scram);
	passwords_free(p);
	p = parse("");
	passwords_hash_of(p, SPAN("nobody"), &hash, &spelling);
	assert_false(hash.known || password_hash_check(&hash, SPAN("x")));
	passwords_free(p);
}

static void
test_faults(void **state)
{
	static const struct { const char *text, *error; } faults[] = {
		{ "anna\n", "users:1: \"anna\": no hash; " },
		{ "\n:" SHA256 "\n", "users:2: no user's name before the first ':'" },
		{ "a\tb:" SHA256 "\n", "users:1: no user's name" },
		{ "a\x01" "b:" SHA256 "\n", "users:1: a control character" },
		{ "anna:" MD5 "\n", "users:1: \"anna\": MD5 is too weak; make a new hash with "
				    "tramctl password" },
		{ "anna:" DES "\n", "users:1: \"anna\": DES is too weak" },
		{ "anna:secret\n", "users:1: \"anna\": not a strong hash of crypt(3)" },
		{ "anna:{PLAIN}secret\n", "users:1: \"anna\": a scheme that is not known" },
		{ "anna:{SSHA}c2VjcmV0\n", "users:1: \"anna\": a scheme that is not known" },
		{ "anna:*\n", "users:1: \"anna\": a locked account" },
		{ "anna:!" SHA256 "\n", "users:1: \"anna\": a locked" },
		{ "anna:$6$saltsalt$8Y6\n", "users:1: \"anna\": the hash is not complete" },
		{ "anna:$6$\n", "users:1: \"anna\": the hash is not complete" },
		{ "anna:$5$rounds=999999999$s$1234567890123456789012345678901234567890123\n",
		  "users:1: \"anna\": one check of it would take seconds" },
		{ "anna:" SHA256 ":admin\n", "users:1: \"anna\": an option that is not known" },
		{ "anna:" SHA256 "\nAnna:" SHA512 "\n",
		  "users:2: \"Anna\": a second hash of this user" },
		{ "anna:" VERIFIER "\nanna:" VERIFIER "\n",
		  "users:2: \"anna\": a second SCRAM verifier" },
		{ "anna:{SCRAM-SHA-256}1,a,b,c\n", "users:1: \"anna\": the iterations" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		struct passwords *p = NULL;
		struct buf errors = { 0 };

		assert_int_equal(passwords_parse(SPAN("users"), span_str(faults[i].text), &errors,
						 &p), -EINVAL);
		assert_null(p);
		if (!span_starts(buf_span(&errors), span_str(faults[i].error)))
			fail_msg("%.*s", SPAN_FMT(buf_span(&errors)));
		buf_free(&errors);
	}
}

static void
test_many_faults(void **state)
{
	struct buf text = { 0 }, errors = { 0 };
	struct passwords *p = NULL;
	size_t lines = 0;

	(void)state;
	for (int i = 0; i < 1000; i++)
		buf_printf(&text, "user%d:x\n", i);
	assert_int_equal(passwords_parse(SPAN("users"), buf_span(&text), &errors, &p), -EINVAL);
	for (size_t i = errors.start; i < errors.end; i++)
		lines += errors.at[i] == '\n';
	assert_int_equal(lines, 20);
	buf_clear(&text);
	buf_clear(&errors);
	for (int i = 0; i < PASSWORDS_LINE_MAX + 10; i++)
		buf_byte(&text, 'a');
	assert_int_equal(passwords_parse(SPAN("users"), buf_span(&text), &errors, &p), -EINVAL);
	buf_free(&text);
	buf_free(&errors);
}

static void
test_make_entry(void **state)
{
	struct buf out = { 0 };
	struct passwords *p;

	(void)state;
	assert_null(passwords_make_entry(SPAN("anna@example.org"), SPAN("p\xc3\xa4ss w"),
					 PASSWORD_YESCRYPT | PASSWORD_SCRAM, &out));
	buf_byte(&out, '\0');
	p = parse(out.at);
	assert_int_equal(passwords_facts(p).with_crypt, 1);
	assert_true(passwords_facts(p).all_scram);
	assert_true(check_one(p, "anna@example.org", "p\xc3\xa4ss w", "anna@example.org"));
	passwords_free(p);
	buf_clear(&out);
	assert_non_null(passwords_make_entry(SPAN("an:na"), SPAN("pw"), PASSWORD_SCRAM, &out));
	assert_non_null(passwords_make_entry(SPAN("#anna"), SPAN("pw"), PASSWORD_SCRAM, &out));
	assert_non_null(passwords_make_entry(SPAN(" anna"), SPAN("pw"), PASSWORD_SCRAM, &out));
	assert_non_null(passwords_make_entry(SPAN("an\nna"), SPAN("pw"), PASSWORD_SCRAM, &out));
	assert_non_null(passwords_make_entry(SPAN(""), SPAN("pw"), PASSWORD_SCRAM, &out));
	assert_non_null(passwords_make_entry(SPAN("anna"), SPAN(""), PASSWORD_SCRAM, &out));
	assert_int_equal(buf_len(&out), 0);
	buf_free(&out);
}

/* The checker. */
enum { CHECKS = 12 };

struct asker {
	struct check check;
	int id;
	bool done, right;
};

static struct asker askers[CHECKS];
static int order[CHECKS], told;
static struct checker_port *closes;

static void
on_done(struct check *check, bool right)
{
	struct asker *a = (struct asker *)(void *)check;

	assert_false(a->done);
	a->done = true;
	a->right = right;
	order[told++] = a->id;
	if (closes != NULL)
		checker_port_close(closes);
}

static void
ask_as(struct checker_port *port, int id, enum check_rank rank, uint64_t client, const char *hash,
       const char *password, int expected)
{
	struct password_hash h = { .known = true };

	askers[id] = (struct asker){ .check.done = on_done, .id = id };
	memcpy(h.crypt, hash, strlen(hash));
	assert_int_equal(checker_submit(port, &askers[id].check, rank, client, &h,
					span_str(password)), expected);
	assert_false(askers[id].done);
}

static void
ask(struct checker_port *port, int id, uint64_t client, const char *hash, const char *password,
    int expected)
{
	ask_as(port, id, CHECK_UNKNOWN, client, hash, password, expected);
}

/* The pool has one thread here, and this holds it until all has been asked. */
static uv_sem_t held;

static void
hold(uv_work_t *req)
{
	(void)req;
	uv_sem_wait(&held);
}

static void
test_checker(void **state)
{
	static const int expected[] = { 0, 5, 6, 1, 2 };
	struct checker *checker = checker_new(&(struct checker_config){ .max_waiting = 7 });
	struct checker_port port;
	uv_work_t holder;
	uv_loop_t loop;

	(void)state;
	told = 0;
	closes = NULL;
	assert_int_equal(uv_loop_init(&loop), 0);
	assert_int_equal(uv_sem_init(&held, 0), 0);
	assert_int_equal(uv_queue_work(&loop, &holder, hold, NULL), 0);
	assert_int_equal(checker_port_init(&port, checker, &loop), 0);
	/* client 1 asks on and on: to its half */
	ask(&port, 0, 1, SHA256, "secret", 0);
	ask(&port, 1, 1, SHA256, "no", 0);
	ask(&port, 2, 1, SHA512, "secret", 0);
	ask(&port, 3, 1, SHA256, "secret", 0);
	ask(&port, 4, 1, SHA256, "secret", -EBUSY);
	/* others do not stand behind all of that */
	ask(&port, 5, 2, SHA256, "secret", 0);
	ask(&port, 6, 3, SHA256, "secret", 0);
	ask(&port, 7, 4, SHA256, "secret", 0);
	ask(&port, 8, 5, SHA256, "secret", -EBUSY);		/* nothing more at all */
	assert_int_equal(checker_waiting(checker), 7);
	check_cancel(&askers[3].check);
	check_cancel(&askers[7].check);
	check_cancel(&askers[7].check);
	assert_int_equal(checker_waiting(checker), 5);
	uv_sem_post(&held);
	while (told < 5)
		uv_run(&loop, UV_RUN_ONCE);
	assert_memory_equal(order, expected, sizeof(expected));
	assert_true(askers[0].right && askers[2].right && askers[5].right && !askers[1].right);
	assert_false(askers[3].done || askers[7].done);
	checker_port_close(&port);
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(uv_loop_close(&loop), 0);
	uv_sem_destroy(&held);
	checker_free(checker);
}

/* Each rank has its own room; friends first, and now and then a suspect. */
static void
test_checker_ranks(void **state)
{
	static const int expected[] = { 5, 6, 7, 0, 8, 3, 4, 1 };
	struct checker *checker = checker_new(&(struct checker_config){ .max_waiting = 4 });
	struct checker_port port;
	uv_work_t holder;
	uv_loop_t loop;

	(void)state;
	told = 0;
	closes = NULL;
	assert_int_equal(uv_loop_init(&loop), 0);
	assert_int_equal(uv_sem_init(&held, 0), 0);
	assert_int_equal(uv_queue_work(&loop, &holder, hold, NULL), 0);
	assert_int_equal(checker_port_init(&port, checker, &loop), 0);
	ask_as(&port, 0, CHECK_SUSPECT, 1, SHA256, "no", 0);
	ask_as(&port, 1, CHECK_SUSPECT, 1, SHA256, "no", 0);
	ask_as(&port, 2, CHECK_SUSPECT, 1, SHA256, "no", -EBUSY);
	ask_as(&port, 3, CHECK_UNKNOWN, 2, SHA256, "no", 0);
	ask_as(&port, 4, CHECK_UNKNOWN, 3, SHA256, "no", 0);
	ask_as(&port, 5, CHECK_FRIEND, 4, SHA256, "secret", 0);
	ask_as(&port, 6, CHECK_FRIEND, 1, SHA256, "secret", 0);	/* where a suspect is, too */
	ask_as(&port, 7, CHECK_FRIEND, 5, SHA256, "secret", 0);
	ask_as(&port, 8, CHECK_FRIEND, 6, SHA256, "secret", 0);
	assert_int_equal(checker_waiting(checker), 8);
	uv_sem_post(&held);
	while (told < 8)
		uv_run(&loop, UV_RUN_ONCE);
	assert_memory_equal(order, expected, sizeof(expected));
	checker_port_close(&port);
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(uv_loop_close(&loop), 0);
	uv_sem_destroy(&held);
	checker_free(checker);
}

static void
test_checker_remembers(void **state)
{
	struct checker *checker = checker_new(&(struct checker_config){ .remember_ms = 3600000 });
	struct checker_port port;
	uv_loop_t loop;

	(void)state;
	told = 0;
	closes = NULL;
	assert_int_equal(uv_loop_init(&loop), 0);
	assert_int_equal(checker_port_init(&port, checker, &loop), 0);
	ask(&port, 0, 1, SHA256, "secret", 0);
	while (told < 1)
		uv_run(&loop, UV_RUN_ONCE);
	/* the pool is not asked again: nothing ever waits */
	ask(&port, 1, 1, SHA256, "secret", 0);
	assert_int_equal(checker_waiting(checker), 0);
	while (told < 2)
		uv_run(&loop, UV_RUN_ONCE);
	assert_true(askers[0].right && askers[1].right);
	/* another password, another hash: they are */
	ask(&port, 2, 1, SHA256, "Secret", 0);
	ask(&port, 3, 1, SHA512, "wrong", 0);
	while (told < 4)
		uv_run(&loop, UV_RUN_ONCE);
	assert_false(askers[2].right || askers[3].right);
	checker_port_close(&port);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&loop), 0);
	checker_free(checker);
}

/* Closing under everything: what waits, what runs, what is done, and from inside a callback. */
static void
test_checker_closes(void **state)
{
	(void)state;
	for (int round = 0; round < 4; round++) {
		struct checker *checker = checker_new(&(struct checker_config){ 0 });
		struct checker_port port;
		uv_loop_t loop;

		told = 0;
		closes = round == 0 ? &port : NULL;
		assert_int_equal(uv_loop_init(&loop), 0);
		assert_int_equal(checker_port_init(&port, checker, &loop), 0);
		for (int i = 0; i < CHECKS; i++)
			ask(&port, i, (uint64_t)i % 3, SHA256, "secret", 0);
		for (int i = 0; round == 2 && i < CHECKS; i += 2)
			check_cancel(&askers[i].check);
		if (round == 0)
			while (told == 0)
				uv_run(&loop, UV_RUN_ONCE);
		if (round == 3)
			uv_sleep(5);
		checker_port_close(&port);
		assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
		assert_int_equal(uv_loop_close(&loop), 0);
		assert_int_equal(told, round == 0);
		for (int i = 0; i < CHECKS; i++)
			assert_null(askers[i].check.job);
		checker_free(checker);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hashes), cmocka_unit_test(test_unknown_costs_the_same),
		cmocka_unit_test(test_faults), cmocka_unit_test(test_many_faults),
		cmocka_unit_test(test_make_entry),
		cmocka_unit_test(test_checker), cmocka_unit_test(test_checker_ranks),
		cmocka_unit_test(test_checker_remembers), cmocka_unit_test(test_checker_closes),
	};

	setenv("UV_THREADPOOL_SIZE", "1", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
