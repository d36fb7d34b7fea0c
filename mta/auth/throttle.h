/*
 * auth/throttle: failed logins, counted by address (IPv4; /64 of IPv6) and by user; from them the
 * delay to impose, and the ban of an address. Pure: `now` is an argument. One thread at a time.
 *
 * Counts decay by half every half_life. Tables are bounded: the one longest untouched is dropped.
 *
 * Guessing locks nobody out: a user is never banned, only delayed; and a *friend*, an address that
 * has lately logged in as this very user, is not asked to pay for what others try as that user, nor
 * for the ban of an address that it shares with a guesser, unless what is guessed there is this
 * very user's password. Where anybody has lately logged in nobody is turned away before it is known
 * who it is. The same wrong password again and again is a device with an old one, not a guess: it
 * is delayed but leads to no ban. A success takes nothing off the address's count, or one good
 * account would buy free guesses.
 */
#ifndef TRAM_AUTH_THROTTLE_H
#define TRAM_AUTH_THROTTLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mta/base/netaddr.h"
#include "mta/base/span.h"

struct throttle_config {		/* 0: the default */
	size_t max_addresses;		/* 20,000 */
	size_t max_users;		/* 20,000 */
	size_t max_friends;		/* 50,000 pairs of user and address that logged in */
	unsigned free_failures;		/* 3 cost no delay */
	int64_t first_delay_ms;		/* 1 s for the next, doubling with each … */
	int64_t max_delay_ms;		/* … to 15 s */
	unsigned ban_after;		/* 20 failures */
	int64_t ban_ms;			/* 1 h, doubling with each ban in a row … */
	int64_t ban_max_ms;		/* … to 24 h */
	int64_t half_life_ms;		/* 15 min */
	int64_t friend_ms;		/* 30 days */
	bool never_ban;
};

struct throttle;

struct throttle *throttle_new(const struct throttle_config *config, uint64_t seed);
void throttle_free(struct throttle *throttle);			/* NULL is fine */
/* After a reload: the new numbers hold from here on. */
void throttle_configure(struct throttle *throttle, const struct throttle_config *config);

struct throttle_verdict {
	int64_t delay_ms;		/* before the answer is given, or the check begins */
	int64_t banned_until_ms;	/* 0: not banned */
	bool ban_begins;		/* by this failure: log it */
	bool friendly;			/* this user has lately logged in from there */
	bool suspect;			/* that address has failed more often than is free */
	unsigned address_failures, user_failures;	/* decayed */
};

/* Before a session begins: it is banned, and nobody has lately logged in from there. */
bool throttle_turns_away(const struct throttle *throttle, const struct netaddr *address,
			 int64_t now_ms);
/* Before a password is checked. user: empty: not known. Changes nothing. */
struct throttle_verdict throttle_ask(const struct throttle *throttle, const struct netaddr *address,
				     struct span user, int64_t now_ms);
/*
 * A guess failed (sasl.failure is SASL_BAD_CREDENTIALS). guess: throttle_guess() of what was tried;
 * 0: not known. The verdict holds for the reply to it. user: empty: not known.
 */
struct throttle_verdict throttle_failed(struct throttle *throttle, const struct netaddr *address,
					struct span user, uint64_t guess, int64_t now_ms);
void throttle_succeeded(struct throttle *throttle, const struct netaddr *address, struct span user,
			int64_t now_ms);
/* A digest of name and password, of use only with this seed; never 0. Any thread. */
uint64_t throttle_guess(uint64_t seed, struct span user, struct span password);

/* By an operator: forgets an address. True if there was something. */
bool throttle_pardon(struct throttle *throttle, const struct netaddr *address);
/* What is banned now, for `tramctl`. */
void throttle_banned(const struct throttle *throttle, int64_t now_ms,
		     void (*each)(void *arg, const struct netaddr *address, int64_t until_ms),
		     void *arg);
size_t throttle_memory(const struct throttle *throttle);	/* octets */

#endif
