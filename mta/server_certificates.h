/*
 * server_certificates: certificates while the daemon runs. Files that have changed are read anew
 * and taken over by all reactors; what expires soon is logged; tramctl is told what is in use.
 *
 * The folders of the files are watched, and those where links lead to. A renewal writes several
 * files one after the other, so a change is looked at a second after the last event; what does not
 * fit together then changes nothing, is logged with its reason, and looked at again at the next
 * event and each minute. Once an hour the files are looked at without an event. The configuration
 * itself is not read again, and no connection notices. Home loop; files are read in the pool.
 */
#ifndef TRAM_SERVER_CERTIFICATES_H
#define TRAM_SERVER_CERTIFICATES_H

#include <jansson.h>

struct server;
struct certificates;

struct certificates *certificates_start(struct server *server);
/* The files may have changed: they are looked at in a moment. */
void certificates_look(struct certificates *certificates);
/* home->config is another one. */
void certificates_follow(struct certificates *certificates);
/* Frees itself while the loop runs on. NULL is fine. */
void certificates_stop(struct certificates *certificates);

/* control_owner.certificates: an object for each. */
void server_certificates(void *server, json_t *array);

#endif
