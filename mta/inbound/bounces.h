/*
 * bounces: mail that comes back: to an address that a delivery of ours was sent under (verp), or to
 * one that is configured for bounces and complaints. It needs no mailbox: what it says is read at
 * the final dot, matched to the message it is about, logged, counted, and may put the address on
 * the list of suppressed ones; then it goes to the sender of that message, to a mailbox, or
 * nowhere. What goes on has the null reverse-path: so nothing that comes back ever makes another
 * report, nor a loop.
 *
 * On the session's reactor; what is counted and changed goes by a letter to the home loop, and the
 * reply to the dot waits until the list is on disk.
 */
#ifndef TRAM_BOUNCES_H
#define TRAM_BOUNCES_H

#include "mta/inbound/receiver.h"

/*
 * Is it an address that mail comes back to? Then verdict says if it is taken; proven: we made it,
 * for the delivery that verp says. postmaster at a domain of verp becomes ours, which is none.
 */
bool bounces_judge(const struct reactor *reactor, const struct config *config, struct span *address,
		   struct verp_address *verp, bool *proven, struct reply *verdict);
/* RCPT. True: it is decided here, and verdict set. */
bool bounces_ask_rcpt(struct session *s, struct reply *verdict);
/* Is the message of this transaction one that comes back? */
bool bounces_is(const struct session *s);
/* Of its body, as it comes. */
void bounces_append(struct session *s, struct span bytes);
size_t bounces_memory(const struct session *s);
/* It is complete. The dot is answered later. */
void bounces_take(struct session *s);
/* The message is over; the transaction is. */
void bounces_drop_body(struct session *s);
void bounces_drop(struct session *s);
void bounces_free(struct session *s);

#endif
