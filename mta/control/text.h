/*
 * text: octets ⇄ what JSON can carry. Pure; any thread.
 */
#ifndef TRAM_CONTROL_TEXT_H
#define TRAM_CONTROL_TEXT_H

#include <jansson.h>

#include "mta/base/base64.h"
#include "mta/base/buf.h"

/* Text of any origin as a JSON string: control octets and what is no UTF-8 become '?'. */
json_t *json_text(struct span text);
/* The string of a member, or an empty span; good as long as the object is. */
struct span json_span(const json_t *object, const char *key);
int64_t json_i64(const json_t *object, const char *key);		/* 0 if it is not there */
bool json_flag(const json_t *object, const char *key);
/* One line, newline included. The reference is taken. */
void json_line(json_t *object, struct buf *out);

#endif
