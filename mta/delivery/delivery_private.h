/*
 * delivery_private: what the three files of a delivery share. See delivery.c.
 */
#ifndef TRAM_DELIVERY_PRIVATE_H
#define TRAM_DELIVERY_PRIVATE_H

#include "mta/delivery/delivery.h"
#include "mta/delivery/tokens.h"

/* delivery.c */
void delivery_job_home(struct delivery *d, struct job *job);	/* as it is */
/* One recipient's outcome of the transaction, judged by the rules, and logged. */
void delivery_judge(struct delivery *d, struct job *job, struct job_recipient *r,
		    const struct smtp_client_recipient *outcome);
void delivery_job_judged(struct delivery *d, struct job *job);	/* as it is; MAIL was sent */
/* with the fates of its transaction */
void delivery_job_return(struct delivery *d, struct job *job);
/* the one exit; may have to be called again */
void delivery_finish(struct delivery *d);
void delivery_tell(struct delivery *d, enum delivery_event event);	/* who watches */
/* A deadline, shorter if somebody watches. */
int64_t delivery_wait_ms(const struct delivery *d, int64_t ms);
/* The same, where the host, or the way to it, is to blame. */
void delivery_host_failed(struct delivery *d, enum smtp_stage stage, struct reply reply);
void delivery_note_failure(struct delivery *d, enum smtp_stage stage, struct reply reply);
void delivery_log_trouble(struct delivery *d, const char *event);

/* delivery_tls.c: what must hold for d->host_name; goes on by delivery_look_up_host() */
void delivery_judge_tls(struct delivery *d);
void delivery_start_tls(struct delivery *d);
/* An event of the stream: the handshake is done. */
void delivery_on_secured(struct stream *stream);
/* What the client machine must do about TLS with this address. */
enum smtp_client_tls delivery_wants_tls(const struct delivery *d);
/* The dialogue begins without TLS, as it may. */
void delivery_is_plain(struct delivery *d);
/* Why the dialogue failed; where it was for TLS, also who asked for that. */
struct reply delivery_tls_failure(struct delivery *d);
/* The host cannot do what the message demands, today or later: *ret is why. */
bool delivery_refuses_host(struct delivery *d, struct reply *ret);
/* The connection ended at TLS: may the same address be tried in plain text? */
bool delivery_falls_back(struct delivery *d);

/* … or with a full handshake, if it was to be a resumed one? */
bool delivery_tries_afresh(struct delivery *d);

/* delivery_report.c: what is counted of TLS, and for whom */
void delivery_report_begin(struct delivery *d);		/* a new connection, or another host */
void delivery_report_tls(struct delivery *d, enum tls_end end, enum tls_trouble trouble,
			 enum tlsrpt_result failure, struct span detail);
void delivery_report_ready(struct delivery *d);		/* the host is ready for mail */
void delivery_report_closed(struct delivery *d);	/* the client machine has ended */
void delivery_report_failed(struct delivery *d);	/* no mail goes over this connection */
void delivery_report_arrived(struct delivery *d, const struct job *job);
void delivery_report_taken(struct delivery *d, const struct job *job);

/* delivery_auth.c: CLIENT_AUTH; the connection is gone */
void delivery_auth(struct delivery *d);
void delivery_auth_drop(struct delivery *d);

/* delivery_connect.c */
void delivery_next_host(struct delivery *d);
void delivery_look_up_host(struct delivery *d);
void delivery_shuffle(struct delivery *d);		/* hosts of the same preference */
bool delivery_has_another(const struct delivery *d);	/* host that might be tried */

/* delivery_dialogue.c: events of the stream */
size_t delivery_on_read(struct stream *stream, struct span bytes);
void delivery_on_written(struct stream *stream);
void delivery_on_stream_ended(struct stream *stream, enum stream_end end, int error);
void delivery_begin_job(struct delivery *d);
void delivery_pump(struct delivery *d, struct span *in);
void delivery_lose(struct delivery *d, struct span text);

#endif
