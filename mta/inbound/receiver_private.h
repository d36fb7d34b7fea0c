/*
 * receiver_private: what receiver.c (the session) and receiver_message.c (its message) share.
 */
#ifndef TRAM_RECEIVER_PRIVATE_H
#define TRAM_RECEIVER_PRIVATE_H

#include "mta/inbound/receiver.h"

/* receiver_message.c */
void message_append(struct session *s, struct span bytes);
/* Answers the machine's question, now or (the final dot) when the queue has answered. */
void message_ask(struct session *s, enum smtp_question question);
/* What was taken of it is forgotten, its draft deleted. Not while it is with the queue. */
void message_drop(struct session *s);

void message_go_on_mail(struct session *s);	/* its user may send it */
void message_submit(struct session *s);		/* it is complete, and may be sent */

/* message_wishes.c */
/* For whom it is: its lanes get that name. False: it is refused. */
bool message_heed_tenant(struct session *s, struct reply *refusal);

/* Its priority, taken out of its header; true: what holds is to stand there. */
bool message_heed_wishes(struct session *s);
/* When it may go and by when it is to be there. */
void message_heed_times(struct session *s, struct queue_accept *accept);

/* receiver.c */
/* A question answered later than it was asked; frees the session if its peer is gone. */
void session_answered(struct session *s, const struct reply *reply);
void session_go_on(struct session *s);
/* Frees the session if nothing of it is left, anywhere: then true. */
bool session_gone(struct session *s);

#endif
