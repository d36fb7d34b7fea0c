/*
 * file: an archive as a file: written once, whole; read in order. See archive.h for its form.
 */
#ifndef TRAM_TRAMCTL_FILE_H
#define TRAM_TRAMCTL_FILE_H

#include <jansson.h>
#include <stdio.h>

#include "mta/ctl/archive.h"

struct archive_file {
	FILE *file;
	const char *path;
	struct buf bytes;
	size_t used;			/* of bytes: the record given last */
	enum archive_type last;
	uint64_t messages, octets;
	bool failed;			/* writing: said once */
};

/*
 * All return a tramctl exit code and have told why on standard error. "-" is standard output, or
 * input.
 */
int archive_create(struct archive_file *a, const char *path);	/* a new file, for its owner only */
int archive_put(struct archive_file *a, enum archive_type type, struct span payload);
int archive_put_json(struct archive_file *a, enum archive_type type, const json_t *object);
int archive_finish(struct archive_file *a);			/* writes the end, syncs, closes */
void archive_close(struct archive_file *a);

int archive_open(struct archive_file *a, const char *path);
/* The next record, in its right place; after ARCHIVE_END there is no more. */
int archive_next(struct archive_file *a, enum archive_type *type, struct span *payload);
/* Reads the whole of a file, then goes back to its beginning; a pipe is taken on trust. */
int archive_verify(struct archive_file *a);

#endif
