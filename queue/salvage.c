/* salvage: maps a data file, for reading only, and hands it to raw_scan.c; see queue.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "queue/place.h"
#include "queue/raw_scan.h"

int
queue_salvage(const char *path,
	      int (*message)(void *arg, const struct queue_salvaged *salvaged), void *arg,
	      struct queue_salvage_facts *ret, char error[QUEUE_ERROR_MAX])
{
	struct buf name = { 0 };
	struct stat st = { 0 };
	void *at = NULL;
	int fd, r = 0;

	*ret = (struct queue_salvage_facts){ 0 };
	error[0] = '\0';
	buf_printf(&name, "%s/data.mdb", path);
	buf_byte(&name, '\0');
	fd = open(buf_span(&name).at, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0)
		r = -errno;
	else if (st.st_size > 0)
		at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)						/* NOLINT */
		r = -errno;
	if (r < 0)
		snprintf(error, QUEUE_ERROR_MAX, "%s cannot be read: %s", buf_span(&name).at,
			 strerror(-r));
	else
		r = raw_scan(span_of(at != NULL ? at : "", (size_t)st.st_size), place_page_size(),
			     message, arg, ret);
	if (at != NULL && at != MAP_FAILED)				/* NOLINT */
		munmap(at, (size_t)st.st_size);
	if (fd >= 0)
		close(fd);
	buf_free(&name);
	return r;
}
