/*
 * bio: what OpenSSL reads from and writes to: the octets that tls_receive() was given, and `out`.
 * No copy in between, and no buffer of its own for an idle connection.
 */
#include "mta/tls/bio.h"

#include <string.h>

static int
bio_read(BIO *bio, char *to, int max)
{
	struct tls_wire *wire = BIO_get_data(bio);
	size_t n = wire->in.len < (size_t)max ? wire->in.len : (size_t)max;

	BIO_clear_retry_flags(bio);
	if (n == 0) {
		BIO_set_retry_read(bio);
		return -1;
	}
	memcpy(to, wire->in.at, n);
	wire->in = span_skip(wire->in, n);
	return (int)n;
}

static int
bio_write(BIO *bio, const char *from, int n)
{
	struct tls_wire *wire = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	if (wire->out != NULL)		/* nobody can send it: the connection is going */
		buf_append(wire->out, span_of(from, (size_t)n));
	return n;
}

static long
bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
	(void)bio;
	(void)number;
	(void)pointer;
	return command == BIO_CTRL_FLUSH || command == BIO_CTRL_DUP;
}

static int
bio_create(BIO *bio)
{
	BIO_set_init(bio, 1);
	return 1;
}

BIO_METHOD *
tls_bio_method(void)
{
	BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "tram");

	if (method == NULL)
		return NULL;
	BIO_meth_set_read(method, bio_read);
	BIO_meth_set_write(method, bio_write);
	BIO_meth_set_ctrl(method, bio_ctrl);
	BIO_meth_set_create(method, bio_create);
	return method;
}
