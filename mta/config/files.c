/*
 * files: reads the files that a configuration names, but for certificates; and the rules of
 * classify-rules. Blocks: at the start, and for a moment at a reload.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mta/config/private.h"

enum { READ_ROOM = 65536 };

static int
read_all(int fd, size_t size, size_t most, struct buf *ret)
{
	ssize_t n;

	/* all at once: no smaller ones are left behind with what stood in them */
	buf_reserve(ret, size + READ_ROOM);
	while ((n = read(fd, buf_reserve(ret, READ_ROOM), READ_ROOM)) > 0) {
		buf_grew(ret, (size_t)n);
		if (buf_len(ret) > most)
			return -EFBIG;
	}
	return n < 0 ? -errno : 0;
}

int
config_read_file(const char *path, size_t most, struct buf *ret, struct stat *there,
	  char error[CONFIG_ERROR_MAX])
{
	int rc, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	rc = fd < 0 || fstat(fd, there) < 0 ? -errno : 0;
	if (rc == 0 && !S_ISREG(there->st_mode))
		rc = -ENOTSUP;
	else if (rc == 0)
		rc = (size_t)there->st_size > most ? -EFBIG :
						     read_all(fd, (size_t)there->st_size, most, ret);
	if (fd >= 0)
		close(fd);
	if (rc == -ENOTSUP)
		snprintf(error, CONFIG_ERROR_MAX, "%s: not a file; name one", path);
	else if (rc == -EFBIG)
		snprintf(error, CONFIG_ERROR_MAX, "%s: larger than %zu MB", path, most >> 20);
	else if (rc < 0)
		snprintf(error, CONFIG_ERROR_MAX, "%s: %s; make it readable for tramd", path,
			 strerror(-rc));
	return rc < 0 ? -EINVAL : 0;
}

int
config_faults(const struct buf *list, int rc, char error[CONFIG_ERROR_MAX])
{
	struct span text = span_trim(buf_span(list));

	if (rc < 0)
		snprintf(error, CONFIG_ERROR_MAX, "%.*s", SPAN_FMT(span_first(text, CONFIG_ERROR_MAX - 1)));
	return rc;
}

int
config_open_rules(struct config *config, char error[CONFIG_ERROR_MAX])
{
	const char *path = config->classify_path;
	struct buf content = { 0 }, list = { 0 };
	struct stat there = { 0 };
	int rc = 0;

	if (path != NULL)
		rc = config_read_file(path, CLASSIFY_FILE_MAX, &content, &there, error);
	if (rc == 0)
		rc = config_faults(&list, classifier_parse(span_str(path), buf_span(&content), &list, &config->classifier),
				   error);
	buf_free(&content);
	buf_free(&list);
	return rc;
}
