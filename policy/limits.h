/*
 * limits: every bound that a configuration can set, with its unit. Defaults stand in
 * mta/config/table.c (which is also the table that the manual is checked against). Sizes in
 * octets, times in milliseconds.
 */
#ifndef TRAM_POLICY_LIMITS_H
#define TRAM_POLICY_LIMITS_H

#include <stddef.h>
#include <stdint.h>

struct limits {
	/* sessions */
	size_t connections;			/* inbound, in all: 10,000 */
	size_t connections_per_client;		/* per address, per /64: 100 */
	size_t messages_per_session;		/* 1,000 */
	size_t errors_per_session;		/* 20 */
	size_t junk_commands;			/* NOOP, RSET, … without a message: 100 */
	size_t recipients;			/* per message: 1,000 */
	uint64_t message_size;			/* 50 MB */
	size_t line_length;			/* text line with CRLF: 64 KB */
	size_t command_length;			/* 4 KB */
	size_t header_size;			/* 256 KB */
	size_t header_lines;			/* 2,000 */
	size_t hops;				/* Received fields: 50 */
	int64_t auth_timeout_ms;		/* for a backend's answer, or a smarthost's */
	/* clients that failed; users; twice: that logged in */
	size_t auth_remembered;
	int64_t token_timeout_ms;		/* for a command that prints a token */
	int64_t sts_timeout_ms;		/* for an MTA-STS policy, from asking to having it */
	size_t token_output;			/* octets that it may print */
	uint64_t auth_line;			/* octets of AUTH and of an answer to a challenge */
	size_t auth_waiting;			/* passwords that wait to be checked */
	size_t auth_failures;			/* by one network, before it is banned */
	int64_t auth_ban_ms;			/* 0: never */
	int64_t auth_delay_ms;			/* before the reply to a wrong password, at most */
	int64_t tls_timeout_ms;			/* for a handshake, as a whole */
	/* how long a host whose TLS does not work gets mail in plain text, where that may be */
	int64_t tls_fallback_ms;
	int64_t command_timeout_ms;		/* idle between commands: 5 min */
	int64_t data_timeout_ms;		/* silence inside a message: 3 min */
	int64_t stress_timeout_ms;		/* both, while connections run short: 10 s */
	uint64_t data_rate;			/* octets per second at least: 100 */
	/* before the reply to an error, times errors: 0.5 s */
	int64_t error_delay_ms;
	/* memory */
	uint64_t memory;			/* all message buffers: 256 MB */
	/* outbound */
	size_t deliveries;			/* connections out, in all: 500 */
	size_t connections_per_site;		/* 20 */
	size_t messages_per_connection;		/* 100 */
	size_t recipients_per_delivery;		/* one transaction: 100 */
	size_t addresses_per_attempt;		/* hosts × addresses tried: 10 */
	int64_t idle_connection_ms;		/* a kept connection without work: 5 s */
	int64_t connect_timeout_ms;		/* per address: 30 s */
	/* 5 min each */
	int64_t banner_timeout_ms, ehlo_timeout_ms, mail_timeout_ms, rcpt_timeout_ms;
	int64_t data_init_timeout_ms;		/* 2 min */
	int64_t block_timeout_ms;		/* 3 min */
	int64_t dot_timeout_ms;			/* 10 min */
	int64_t quit_timeout_ms;		/* 5 s */
	/* the window in memory */
	size_t window_sites;			/* 10,000 */
	size_t window_entries;			/* 50,000 */
	size_t sts_policies;			/* MTA-STS policies that are kept */
	size_t lookups;				/* lanes being resolved at once: 100 */
	/* the queue */
	size_t local_rate;			/* messages a minute of a local user: 600; 0: any */
	/* of one who has logged in; 0, as by default: any number */
	size_t user_messages_hour, user_messages_day;
	size_t user_recipients_hour, user_recipients_day;
};

#endif
