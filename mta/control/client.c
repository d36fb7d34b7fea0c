/* client: see client.h. */
#include "mta/control/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { ANSWER_MAX = 16 << 20 };		/* octets of one line */

/* "control = "/run/tram/control"": the path, or an empty span. */
static struct span
path_in_line(struct span line)
{
	struct span value = line, name = span_trim(span_cut(&value, '=')), rest = span_trim(value);

	if (!span_eq(name, SPAN("control")) || rest.len < 2 || rest.at[0] != '"')
		return SPAN("");
	rest = span_skip(rest, 1);
	return span_find(rest, '"') == NULL ? SPAN("") : span_cut(&rest, '"');
}

const char *
control_client_find(const char *config_path, struct arena *arena)
{
	FILE *file = fopen(config_path, "re");
	const char *found = NULL;
	char *line = NULL;
	size_t room = 0;
	ssize_t len;

	if (file == NULL)
		return NULL;
	while (found == NULL && (len = getline(&line, &room, file)) > 0) {
		struct span path = path_in_line(
			span_trim(span_first(span_of(line, (size_t)len), (size_t)len - 1)));

		if (path.len > 0)
			found = arena_str(arena, path);
	}
	free(line);
	fclose(file);
	return found;
}

int
control_client_open(struct control_client *c, const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd, rc;

	*c = (struct control_client){ .fd = -1 };
	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	memcpy(sa.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	c->fd = fd;
	return 0;
}

void
control_client_close(struct control_client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	buf_free(&c->in);
	buf_free(&c->out);
}

int
control_client_ask(struct control_client *c, const struct control_request *request)
{
	buf_clear(&c->out);
	if (!control_request_format(request, &c->out))
		return -EINVAL;
	while (buf_len(&c->out) > 0) {
		ssize_t n = send(c->fd, c->out.at + c->out.start, buf_len(&c->out), MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		buf_consume(&c->out, (size_t)n);
	}
	return 0;
}

/* Reads on until there is a newline; its place, or NULL. */
static const char *
read_line(struct control_client *c)
{
	for (;;) {
		struct span fresh = span_skip(buf_span(&c->in), c->scanned);
		const char *end = span_find(fresh, '\n');
		ssize_t n;

		if (end != NULL)
			return end;
		c->scanned = buf_len(&c->in);
		if (c->scanned > ANSWER_MAX)
			return NULL;
		n = read(c->fd, buf_reserve(&c->in, 65536), 65536);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return NULL;
		buf_grew(&c->in, (size_t)n);
	}
}

json_t *
control_client_next(struct control_client *c)
{
	const char *end = read_line(c);
	struct span line = buf_span(&c->in);
	json_t *object;

	if (end == NULL)
		return NULL;
	line.len = (size_t)(end - line.at);
	object = json_loadb(line.at, line.len, 0, NULL);
	buf_consume(&c->in, line.len + 1);
	c->scanned = 0;
	if (object != NULL && !json_is_object(object)) {
		json_decref(object);
		return NULL;
	}
	return object;
}
