/* gzip: the only file that knows zlib; see tlsrpt_report.h. Any thread. */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <zlib.h>

#include "mta/tlsrpt/tlsrpt_report.h"

enum { GZIP_WINDOW = 15 + 16, MEMORY_LEVEL = 8, ROOM = 16384 };

static int
deflate_all(z_stream *z, struct buf *out)
{
	int r;

	do {
		z->next_out = (unsigned char *)buf_reserve(out, ROOM);
		z->avail_out = ROOM;
		r = deflate(z, Z_FINISH);
		buf_grew(out, ROOM - z->avail_out);
	} while (r == Z_OK || r == Z_BUF_ERROR);
	return r == Z_STREAM_END ? 0 : -EIO;
}

int
tlsrpt_gzip(struct span json, struct buf *out)
{
	z_stream z = { 0 };
	int r;

	assert(json.len <= UINT_MAX);
	if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, GZIP_WINDOW, MEMORY_LEVEL,
			 Z_DEFAULT_STRATEGY) != Z_OK)
		return -ENOMEM;
	z.next_in = (z_const unsigned char *)json.at;
	z.avail_in = (unsigned)json.len;
	r = deflate_all(&z, out);
	deflateEnd(&z);
	return r;
}
