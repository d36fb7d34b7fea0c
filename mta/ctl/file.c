/* file: see file.h. */
#include "mta/ctl/file.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "mta/base/clock.h"
#include "mta/ctl/tramctl.h"

enum { READ_SIZE = 65536 };

static int
file_failed(const struct archive_file *a, const char *what)
{
	return tramctl_fail(TRAMCTL_FAILED, "%s: %s", a->path, what);
}

/* ---- writing ------------------------------------------------------------------------------ */

int
archive_put(struct archive_file *a, enum archive_type type, struct span payload)
{
	buf_clear(&a->bytes);
	archive_record_encode(type, payload, &a->bytes);
	a->messages += type == ARCHIVE_MESSAGE;
	a->octets += type == ARCHIVE_CONTENT ? payload.len : 0;
	if (a->failed || fwrite(a->bytes.at, 1, buf_len(&a->bytes), a->file) == buf_len(&a->bytes))
		return a->failed ? TRAMCTL_FAILED : TRAMCTL_OK;
	a->failed = true;
	return file_failed(a, strerror(errno));
}

int
archive_put_json(struct archive_file *a, enum archive_type type, const json_t *object)
{
	char *text = json_dumps(object, JSON_COMPACT);
	int rc = text == NULL ? file_failed(a, "out of memory")
			      : archive_put(a, type, span_str(text));

	free(text);
	return rc;
}

int
archive_create(struct archive_file *a, const char *path)
{
	json_t *about = json_object();
	int fd, rc;

	*a = (struct archive_file){ .path = path, .file = stdout };
	if (strcmp(path, "-") != 0) {
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		a->file = fd < 0 ? NULL : fdopen(fd, "w");
	}
	if (a->file == NULL) {
		json_decref(about);
		return file_failed(a, errno == EEXIST ? "it exists; name a new file"
						      : strerror(errno));
	}
	json_object_set_new(about, "program", json_string("tram " TRAM_VERSION));
	json_object_set_new(about, "made_ms", json_integer(wall_ms()));
	fwrite(ARCHIVE_MAGIC, 1, ARCHIVE_MAGIC_LEN, a->file);
	rc = archive_put_json(a, ARCHIVE_ABOUT, about);
	json_decref(about);
	return rc;
}

int
archive_finish(struct archive_file *a)
{
	int rc = archive_put(a, ARCHIVE_END, SPAN(""));

	if (rc == TRAMCTL_OK && (fflush(a->file) != 0 || ferror(a->file)))
		rc = file_failed(a, strerror(errno));
	if (rc == TRAMCTL_OK && a->file != stdout && fsync(fileno(a->file)) < 0)
		rc = file_failed(a, strerror(errno));
	archive_close(a);
	return rc;
}

void
archive_close(struct archive_file *a)
{
	if (a->file != NULL && a->file != stdin && a->file != stdout)
		fclose(a->file);
	a->file = NULL;
	buf_free(&a->bytes);
}

/* ---- reading ------------------------------------------------------------------------------ */

/* At least len octets, unless the file ends before. */
static void
fill(struct archive_file *a, size_t len)
{
	while (buf_len(&a->bytes) < len) {
		size_t n = fread(buf_reserve(&a->bytes, READ_SIZE), 1, READ_SIZE, a->file);

		if (n == 0)
			return;
		buf_grew(&a->bytes, n);
	}
}

static int
begin_reading(struct archive_file *a)
{
	struct span magic;

	buf_clear(&a->bytes);
	a->used = 0;
	a->last = ARCHIVE_END;
	fill(a, ARCHIVE_MAGIC_LEN);
	magic = span_first(buf_span(&a->bytes), ARCHIVE_MAGIC_LEN);
	if (ferror(a->file))
		return file_failed(a, strerror(errno));
	if (!span_starts(magic, span_first(SPAN(ARCHIVE_MAGIC), ARCHIVE_MAGIC_LEN - 1)))
		return file_failed(a, "it is no archive of tramctl");
	if (!span_eq(magic, SPAN(ARCHIVE_MAGIC)))
		return file_failed(a, "it was made by a newer tramctl; use that version");
	buf_consume(&a->bytes, ARCHIVE_MAGIC_LEN);
	return TRAMCTL_OK;
}

int
archive_open(struct archive_file *a, const char *path)
{
	*a = (struct archive_file){ .path = path };
	a->file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	if (a->file == NULL)
		return file_failed(a, strerror(errno));
	return begin_reading(a);
}

int
archive_next(struct archive_file *a, enum archive_type *type, struct span *payload)
{
	size_t want = ARCHIVE_HEAD;
	enum archive_state state;

	buf_consume(&a->bytes, a->used);
	a->used = 0;
	for (;;) {
		fill(a, want);
		state = archive_record_decode(buf_span(&a->bytes), type, payload, &a->used);
		if (state != ARCHIVE_MORE)
			break;
		if (buf_len(&a->bytes) < want)
			return file_failed(a,
					   ferror(a->file) ? strerror(errno) : "it is cut short");
		want = buf_len(&a->bytes) + 1;
	}
	if (state == ARCHIVE_DAMAGED || !archive_may_follow(a->last, *type))
		return file_failed(a, "it is damaged");
	a->last = *type;
	return TRAMCTL_OK;
}

int
archive_verify(struct archive_file *a)
{
	enum archive_type type = ARCHIVE_ABOUT;
	struct span payload;
	int rc = TRAMCTL_OK;

	if (fseek(a->file, 0, SEEK_SET) < 0)
		return TRAMCTL_OK;
	rc = begin_reading(a);
	while (rc == TRAMCTL_OK && type != ARCHIVE_END)
		rc = archive_next(a, &type, &payload);
	if (rc != TRAMCTL_OK)
		return rc;
	rewind(a->file);
	return begin_reading(a);
}
