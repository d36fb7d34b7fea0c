/*
 * bio: what OpenSSL reads from and writes to. See bio.c.
 */
#ifndef TRAM_TLS_BIO_H
#define TRAM_TLS_BIO_H

#include <openssl/bio.h>

#include "mta/base/buf.h"
#include "mta/base/span.h"

struct tls_wire {			/* the BIO's data */
	struct span in;			/* not read yet */
	struct buf *out;		/* NULL: what is written is dropped */
};

BIO_METHOD *tls_bio_method(void);

#endif
