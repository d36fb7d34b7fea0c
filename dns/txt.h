/*
 * dns/txt: the octets of a TXT record → its text (RFC 1035 §3.3.14; strings are joined with
 * nothing between them: RFC 7208 §3.3, 8461 §3.1, 8460 §3). Pure.
 */
#ifndef TRAM_DNS_TXT_H
#define TRAM_DNS_TXT_H

#include <stdbool.h>

#include "mta/base/arena.h"
#include "mta/base/buf.h"
#include "mta/base/span.h"

/*
 * False: a string runs beyond the end, or there is none at all. Any octets may be in *ret, which
 * is in the arena.
 */
bool dns_txt_read(struct span rdata, struct arena *arena, struct span *ret);

/*
 * For a zone file: "v=STSv1; id=1" in quotes, cut into strings of 255 octets, what is not
 * printable escaped (RFC 1035 §5.1). Appended.
 */
void dns_txt_write(struct span text, struct buf *out);

#endif
