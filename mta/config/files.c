/*
 * files: which files a configuration consists of and names; reads them, but for certificates; and
 * the rules of classify-rules and response-rules. Blocks: at the start, and for a moment at a
 * reload.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
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

/* ---- which ones --------------------------------------------------------------------------- */

void
config_note_file(struct config *config, const char *path)
{
	const char **more = realloc(config->parts, (config->part_count + 1) * sizeof(*more));

	if (more == NULL)
		abort();
	config->parts = more;
	config->parts[config->part_count++] = path;
}

void
config_close_files(struct config *config)
{
	files_free(config->files);
	files_free(config->doors);
	config->files = config->doors = NULL;
}

struct walk {
	void (*each)(void *arg, const char *path);
	void *arg;
};

/* The paths in one field; lists of them have a NUL behind each, as all values have. */
static void
walk_field(const struct directive *d, const char *base, const struct walk *walk)
{
	const struct span *list;
	const char *path;
	size_t count;

	if (!d->type->list) {
		memcpy(&path, base + d->offset, sizeof(path));
		if (path != NULL)
			walk->each(walk->arg, path);
		return;
	}
	memcpy(&list, base + d->offset, sizeof(list));
	memcpy(&count, base + d->count_offset, sizeof(count));
	for (size_t i = 0; i < count; i++)
		walk->each(walk->arg, list[i].at);
}

static void
walk_section(enum section_kind kind, const void *base, const struct walk *walk)
{
	for (size_t i = 0; i < directive_count; i++)
		if (directives[i].file && directives[i].section == kind)
			walk_field(&directives[i], base, walk);
}

void
config_each_file(const struct config *config, void (*each)(void *arg, const char *path), void *arg)
{
	const struct walk walk = { each, arg };

	for (size_t i = 0; i < config->part_count; i++)
		each(arg, config->parts[i]);
	for (enum section_kind kind = 0; kind < SECTION_KINDS; kind++)
		if (section_types[kind].titled == NULL)
			walk_section(kind, config, &walk);
	for (size_t i = 0; i < config->certificate_count; i++)
		walk_section(SECTION_CERTIFICATE, &config->certificates[i], &walk);
	for (size_t i = 0; i < config->listener_count; i++)
		walk_section(SECTION_LISTENER, &config->listeners[i], &walk);
	for (size_t i = 0; i < config->access.routes.count; i++)
		walk_section(SECTION_ROUTE, &config->access.routes.routes[i], &walk);
}

/* ---- reading ------------------------------------------------------------------------------ */

int
config_read_file(const struct config *config, const char *path, size_t most, struct buf *ret,
		 struct stat *there, char error[CONFIG_ERROR_MAX])
{
	char room[FILES_PATH_MAX];
	int rc, fd = open(files_at(config->files, path, room), O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	rc = fd < 0 || fstat(fd, there) < 0 ? -errno : 0;
	if (rc == 0 && !S_ISREG(there->st_mode))
		rc = -ENOTSUP;
	else if (rc == 0)
		rc = (size_t)there->st_size > most
			     ? -EFBIG
			     : read_all(fd, (size_t)there->st_size, most, ret);
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
		snprintf(error, CONFIG_ERROR_MAX, "%.*s",
			 SPAN_FMT(span_first(text, CONFIG_ERROR_MAX - 1)));
	return rc;
}

static int
read_rules(const struct config *config, const char *path, size_t most, struct buf *content,
	   char error[CONFIG_ERROR_MAX])
{
	struct stat there = { 0 };

	buf_clear(content);
	return path == NULL ? 0 : config_read_file(config, path, most, content, &there, error);
}

/* A rule for a provider that there is not would never be one for anything. */
static int
check_providers(const struct config *config, char error[CONFIG_ERROR_MAX])
{
	const struct response_rule *rule;
	size_t at = 0;

	while (response_rules_provider(config->responses, &at, &rule)) {
		bool known = false;

		for (size_t i = 0; i < config->shapes.provider_count; i++)
			known = known || span_eq(config->shapes.providers[i].name, rule->provider);
		if (known)
			continue;
		snprintf(error, CONFIG_ERROR_MAX,
			 "%.*s: \"provider=%.*s\": there is no such provider; add: provider "
			 "\"%.*s\" {…}",
			 SPAN_FMT(rule->name), SPAN_FMT(span_first(rule->provider, 100)),
			 SPAN_FMT(span_first(rule->provider, 100)));
		return -EINVAL;
	}
	return 0;
}

int
config_open_rules(struct config *config, char error[CONFIG_ERROR_MAX])
{
	struct buf content = { 0 }, list = { 0 };
	const char *path = config->classify_path;
	int rc = read_rules(config, path, CLASSIFY_FILE_MAX, &content, error);

	if (rc == 0)
		rc = config_faults(&list,
				   classifier_parse(span_str(path), buf_span(&content), &list,
						    &config->classifier),
				   error);
	path = config->response_path;
	if (rc == 0)
		rc = read_rules(config, path, RESPONSE_FILE_MAX, &content, error);
	if (rc == 0)
		rc = config_faults(&list,
				   response_rules_parse(span_str(path), buf_span(&content),
							config->response_builtin, &list,
							&config->responses),
				   error);
	if (rc == 0)
		rc = check_providers(config, error);
	buf_free(&content);
	buf_free(&list);
	return rc;
}
