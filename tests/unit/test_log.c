/* log: escaping in both formats, cutting, many threads, reopening, and sinks that block or fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mta/base/clock.h"
#include "mta/base/log.h"

static char dir[] = "/tmp/tram-log-XXXXXX";
static char path[64], moved[64];
static char text[1 << 20];

static char *
contents(const char *file)
{
	FILE *f = fopen(file, "rb");
	size_t len;

	assert_non_null(f);
	len = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[len] = '\0';
	return text;
}

static struct log_config
config_for(enum log_format format)
{
	return (struct log_config){ LOG_INFO, format, path, 1 << 20, 0, 0 };
}

/* What one value looks like, behind its key and without the end of its line. */
static void
assert_value(enum log_format format, struct span value, const char *want)
{
	static struct log_line line;
	const char *key = format == LOG_JSON ? ",\"v\":" : " v=";
	char *at;

	log_line_shape(LOG_INFO, format);
	assert_true(log_begin(&line, LOG_INFO, "e"));
	log_span(&line, "v", value);
	line.at[line.len] = '\0';
	at = strstr(line.at, key);
	assert_non_null(at);
	assert_string_equal(at + strlen(key), want);
}

static void
test_escaping(void **state)
{
	static const struct { struct span value; const char *logfmt, *json; } rows[] = {
		{ SPAN("a@b"), "a@b", "\"a@b\"" },
		{ SPAN(""), "\"\"", "\"\"" },
		{ SPAN("a b"), "\"a b\"", "\"a b\"" },
		{ SPAN("a=b"), "\"a=b\"", "\"a=b\"" },
		{ SPAN("a\"b\\"), "\"a\\\"b\\\\\"", "\"a\\\"b\\\\\"" },
		{ SPAN("x\nlevel=error"), "\"x\\x0alevel=error\"", "\"x\\u000alevel=error\"" },
		{ SPAN("\r\0\x1b[2J\x7f"), "\"\\x0d\\x00\\x1b[2J\\x7f\"",
		  "\"\\u000d\\u0000\\u001b[2J\\u007f\"" },
		{ SPAN("grüße"), "grüße", "\"grüße\"" },
		{ SPAN("\xff\xfe"), "\"\\xff\\xfe\"", "\"\\ufffd\\ufffd\"" },
		{ SPAN("\xc0\xaf"), "\"\\xc0\\xaf\"", "\"\\ufffd\\ufffd\"" },
		{ SPAN("\xed\xa0\x80"), "\"\\xed\\xa0\\x80\"", "\"\\ufffd\\ufffd\\ufffd\"" },
		{ SPAN("a\xe2\x82"), "\"a\\xe2\\x82\"", "\"a\\ufffd\\ufffd\"" },
		{ SPAN("\xc2\x9b" "2J"), "\"\\xc2\\x9b2J\"", "\"\\u009b2J\"" },
		{ SPAN("\xe2\x80\xae"), "\"\\xe2\\x80\\xae\"", "\"\\u202e\"" },
		{ SPAN("\xf0\x9f\x93\xae"), "\xf0\x9f\x93\xae", "\"\xf0\x9f\x93\xae\"" },
		{ SPAN("\xf4\x90\x80\x80"), "\"\\xf4\\x90\\x80\\x80\"",
		  "\"\\ufffd\\ufffd\\ufffd\\ufffd\"" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_value(LOG_LOGFMT, rows[i].value, rows[i].logfmt);
		assert_value(LOG_JSON, rows[i].value, rows[i].json);
	}
	log_line_shape(LOG_INFO, LOG_LOGFMT);
}

static void
log_all_kinds(void)
{
	struct reply reply = REPLY(550, 5, 7, 1, "no\nmore");
	struct netaddr addr;
	struct log_line line;

	assert_true(netaddr_parse(SPAN("192.0.2.1"), 25, &addr));
	assert_true(log_begin(&line, LOG_INFO, "all"));
	log_id(&line, "id", 1);
	log_i64(&line, "i", INT64_MIN);
	log_u64(&line, "u", UINT64_MAX);
	log_addr(&line, "peer", &addr);
	log_reply(&line, "reply", &reply);
	log_errno(&line, "error", -ENOENT);
	log_errno(&line, "other", -99999);
	log_end(&line);
	assert_false(log_begin(&line, LOG_DEBUG, "never"));
	log_str(&line, "k", "v");
	log_end(&line);
	log_message(LOG_ERROR, "said", "%d of %s", 3, "them");
}

static void
test_kinds(void **state)
{
	struct log_config logfmt = config_for(LOG_LOGFMT), json = config_for(LOG_JSON);

	(void)state;
	assert_int_equal(log_start(&logfmt), 0);
	log_all_kinds();
	log_stop();
	contents(path);
	assert_int_equal(strncmp(text, "time=20", 7), 0);
	assert_non_null(strstr(
		text, "Z level=info event=all id=0000000000001 i=-9223372036854775808 "
		      "u=18446744073709551615 peer=192.0.2.1:25 reply=\"550 5.7.1 no / more\" "
		      "error=\"ENOENT: No such file or directory\" other=\"error -99999\"\n"));
	assert_non_null(strstr(text, " level=error event=said msg=\"3 of them\"\n"));
	assert_null(strstr(text, "never"));
	unlink(path);

	assert_int_equal(log_start(&json), 0);
	log_all_kinds();
	log_stop();
	contents(path);
	assert_int_equal(strncmp(text, "{\"time\":\"20", 11), 0);
	assert_non_null(strstr(
		text,
		"\",\"level\":\"info\",\"event\":\"all\",\"id\":\"0000000000001\","
		"\"i\":-9223372036854775808,\"u\":18446744073709551615,\"peer\":\"192.0.2.1:25\","
		"\"reply\":\"550 5.7.1 no / more\",\"error\":\"ENOENT: No such file or directory\","
		"\"other\":\"error -99999\"}\n"));
	unlink(path);
}

static void
test_cut(void **state)
{
	static char huge[8192];
	struct log_line line;

	(void)state;
	memset(huge, '\x01', sizeof(huge));
	for (int format = LOG_LOGFMT; format <= LOG_JSON; format++) {
		for (size_t first = 3900; first < 4100; first++) {
			log_line_shape(LOG_INFO, (enum log_format)format);
			assert_true(log_begin(&line, LOG_INFO, "e"));
			log_span(&line, "a",
				 span_of("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 48));
			log_span(&line, "b", span_of(huge, first / 6));
			log_u64(&line, "n", 12345678);
			log_str(&line, "c", "ccccccccc cccccccccccccccccc");
			log_span(&line, "d", span_of(huge, sizeof(huge)));
			log_str(&line, "never", "seen");
			log_line_close(&line);
			assert_true(line.len <= LOG_LINE_MAX);
			assert_memory_equal(line.at + line.len - (format ? 14 : 9),
				format ? ",\"cut\":\"yes\"}\n" : " cut=yes\n", format ? 14 : 9);
			assert_null(memmem(line.at, line.len, "never", 5));
		}
	}
	log_line_shape(LOG_INFO, LOG_LOGFMT);
}

enum { THREADS = 4, LINES = 2000 };

static void *
many_lines(void *arg)
{
	for (int i = 0; i < LINES; i++) {
		struct log_line line;

		log_begin(&line, LOG_INFO, "line");
		log_i64(&line, "thread", (int64_t)(intptr_t)arg);
		log_i64(&line, "n", i);
		log_end(&line);
		if (i % 500 == 250)
			log_reopen();
	}
	return NULL;
}

/* Every line whole, in the order of its thread, or counted as lost. */
static void
test_threads(void **state)
{
	struct log_config config = config_for(LOG_LOGFMT),
			  debug = { LOG_DEBUG, LOG_LOGFMT, path, 1 << 20, 0, 0 };
	int next[THREADS] = { 0 };
	pthread_t threads[THREADS];
	uint64_t lost = log_lost();
	unsigned seen = 0;

	(void)state;
	config.ring_octets = 4 << 20;
	assert_int_equal(log_start(&config), 0);
	for (intptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, many_lines, (void *)i), 0);
	assert_int_equal(log_configure(&debug), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	log_stop();
	contents(path);
	for (char *at = text, *end; (end = strchr(at, '\n')) != NULL; at = end + 1) {
		int thread, n;
		char *keys = strstr(at, " thread=");

		assert_true(keys != NULL && keys < end);
		assert_int_equal(sscanf(keys, " thread=%d n=%d\n", &thread, &n), 2);
		assert_int_equal(n, next[thread]);
		next[thread] = n + 1;
		seen++;
	}
	assert_int_equal(seen + (log_lost() - lost), THREADS * LINES);
	unlink(path);
}

static void
wait_for_file(const char *file, const char *what)
{
	int64_t until = mono_ms() + 5000;

	for (;;) {
		if (access(file, F_OK) == 0 && strstr(contents(file), what) != NULL)
			return;
		assert_true(mono_ms() < until);
		poll(NULL, 0, 2);
	}
}

static void
test_reopen(void **state)
{
	struct log_config config = config_for(LOG_LOGFMT), bad = config;

	(void)state;
	assert_int_equal(log_start(&config), 0);
	log_message(LOG_INFO, "one", "1");
	wait_for_file(path, "event=one");
	assert_int_equal(rename(path, moved), 0);
	log_message(LOG_INFO, "two", "2");
	wait_for_file(moved, "event=two");
	log_reopen();
	wait_for_file(path, "");
	log_message(LOG_INFO, "three", "3");
	wait_for_file(path, "event=three");
	assert_null(strstr(contents(moved), "three"));

	bad.path = "/nonexistent/log";
	assert_int_equal(log_configure(&bad), -ENOENT);
	config.path = moved;
	config.level = LOG_ERROR;
	assert_int_equal(log_configure(&config), 0);
	log_message(LOG_INFO, "four", "below the level now");
	log_message(LOG_ERROR, "five", "5");
	log_stop();
	assert_non_null(strstr(contents(moved), "event=five"));
	assert_null(strstr(text, "four"));
	assert_int_equal(log_start(&bad), -ENOENT);
	unlink(path);
	unlink(moved);
}

/* Fills the sink and the buffers; nobody waits; once it is read, the loss is told. */
static void
test_full_fifo(void **state)
{
	struct log_config config = { LOG_INFO, LOG_LOGFMT, path, 0, 0, 0 };
	int64_t began = mono_ms(), until = began + 5000;
	uint64_t lost = log_lost();
	bool told = false;
	int fd;

	(void)state;
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(log_start(&config), -ENXIO);
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	assert_int_equal(log_start(&config), 0);
	for (int i = 0; i < 5000; i++)
		log_message(LOG_INFO, "flood", "line %d", i);
	assert_true(mono_ms() - began < 2000);
	assert_true(log_lost() > lost);
	while (!told) {
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		ssize_t n;

		poll(&pfd, 1, 100);
		n = read(fd, text, sizeof(text) - 1);
		assert_true(mono_ms() < until);
		if (n <= 0)
			continue;
		text[n] = '\0';
		told = strstr(text, "event=log-lost lines=") != NULL;
	}
	log_stop();
	close(fd);
	unlink(path);
}

static void
test_blocked_forever(void **state)
{
	struct log_config config = { LOG_INFO, LOG_LOGFMT, NULL, 0, 0, 0 };
	int saved = dup(STDERR_FILENO), ends[2];
	int64_t began;

	(void)state;
	for (int round = 0; round < 2; round++) {	/* a blocking pipe, then one that is not */
		assert_int_equal(pipe2(ends, round ? O_NONBLOCK : 0), 0);
		assert_int_equal(fcntl(ends[1], F_SETPIPE_SZ, 4096), 4096);
		assert_int_equal(write(ends[1], text, 4096), 4096);
		dup2(ends[1], STDERR_FILENO);
		close(ends[1]);
		assert_int_equal(log_start(&config), 0);
		dup2(saved, STDERR_FILENO);
		for (int i = 0; i < 300; i++)
			log_message(LOG_INFO, "flood", "line %d", i);
		began = mono_ms();
		log_stop();
		assert_in_range(mono_ms() - began, 1900, 4000);
		close(ends[0]);			/* the thread left behind gets EPIPE and goes */
	}
	close(saved);
	assert_int_equal(log_start(&(struct log_config){ LOG_INFO, LOG_LOGFMT, path, 0, 0, 0 }), 0);
	log_message(LOG_INFO, "again", "1");
	log_stop();
	assert_non_null(strstr(contents(path), "event=again"));
	unlink(path);
}

static void
test_failing_sink(void **state)
{
	struct log_config config = { LOG_INFO, LOG_LOGFMT, "/dev/full", 0, 0, 0 };
	uint64_t lost = log_lost();

	(void)state;
	assert_int_equal(log_start(&config), 0);
	log_message(LOG_INFO, "one", "1");
	for (int64_t until = mono_ms() + 5000; log_lost() == lost && mono_ms() < until;)
		poll(NULL, 0, 2);
	assert_int_equal(log_lost(), lost + 1);
	config.path = path;
	assert_int_equal(log_configure(&config), 0);
	log_message(LOG_INFO, "two", "2");
	log_stop();
	assert_non_null(strstr(contents(path), "event=two msg=2\n"));
	assert_non_null(strstr(text, "event=log-lost lines=1\n"));
	assert_int_equal(log_lost(), lost + 1);
	unlink(path);
}

static int
make_dir(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/log", dir);
	snprintf(moved, sizeof(moved), "%s/log.1", dir);
	return 0;
}

static int
remove_dir(void **state)
{
	(void)state;
	unlink(path);
	unlink(moved);
	return rmdir(dir);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_escaping), cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_threads), cmocka_unit_test(test_reopen),
		cmocka_unit_test(test_full_fifo),
		cmocka_unit_test(test_blocked_forever), cmocka_unit_test(test_failing_sink),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
