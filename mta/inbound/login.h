/*
 * login: AUTH. The exchanges of a reactor's sessions (mta/auth/sasl.h), the backends that judge
 * them (a password file whose hashes are checked in the pool, or Dovecot's socket), and what a
 * failure costs, which the gate knows (mta/auth/throttle.h). On the session's reactor.
 */
#ifndef TRAM_LOGIN_H
#define TRAM_LOGIN_H

#include "mta/auth/checker.h"
#include "mta/inbound/receiver.h"

struct login;

/* For one reactor; before its loop runs. 0 or negative errno. */
int login_open(struct reactor *reactor, struct checker *checker);
/* Its loop must run until it is empty; then login_free(). NULL is fine for both. */
void login_close(struct login *login);
void login_free(struct login *login);

/* What EHLO shows of AUTH now: at the start, and anew after TLS. */
void login_offer(struct session *s);
/* SMTP_QUESTION_AUTH and _LINE: answers at once, or by session_answered(). */
void login_ask(struct session *s, enum smtp_question question);
/* The session ends: what is open is cancelled. */
void login_drop(struct session *s);

#endif
