/*
 * config: one immutable value, read from one file (with includes), checked whole before use.
 *
 * A reload makes a new struct config; sessions and deliveries begun under the old one keep it
 * until they end (each reactor counts its users per configuration: see mta/server_reload.c).
 * Directives, types, defaults and bounds stand in one table, table.c, which is also what tests/lint
 * checks the manual against.
 */
#ifndef TRAM_CONFIG_H
#define TRAM_CONFIG_H

#include "dns/resolver.h"
#include "mta/auth/passwords.h"
#include "mta/auth/sasl.h"
#include "mta/auth/senders.h"
#include "mta/base/arena.h"
#include "mta/base/files.h"
#include "mta/base/log.h"
#include "mta/smtp/client.h"
#include "mta/smtp/server.h"
#include "mta/tls/context.h"
#include "policy/access.h"
#include "policy/classify.h"
#include "policy/limits.h"
#include "policy/verp.h"
#include "policy/response_rules.h"
#include "policy/tenant.h"
#include "policy/shape.h"
#include "policy/source.h"
#include "queue/schedule.h"

enum listener_auth { LISTENER_AUTH_OFF, LISTENER_AUTH_OPTIONAL, LISTENER_AUTH_REQUIRED };
enum listener_tls { LISTENER_TLS_OFF, LISTENER_TLS_OPTIONAL, LISTENER_TLS_REQUIRED };

struct listener {
	struct span name;
	struct netaddr *addresses;
	size_t address_count;
	enum listener_tls tls;
	bool tls_on_connect;			/* TLS before the greeting (port 465) */
	struct tls_settings tls_settings;
	struct tls_context *tls_context;	/* by config_open_files(); NULL: tls is off */
	enum listener_auth auth;
	bool auth_without_tls;
	struct span *mechanisms;		/* as written; none: all that the backend can */
	size_t mechanism_count;
	struct sasl_config sasl;		/* what they come to */
	struct smtp_server_config smtp;		/* what its sessions offer and allow */
	/* the same with normalise_newlines, for clients in these networks */
	struct smtp_server_config smtp_normalising;
	struct network *normalise_from;
	size_t normalise_from_count;
	/* its clients are mail programs: headers are completed */
	bool submission;
	bool hide_client;			/* Received does not tell its name and address */
	int64_t greet_delay_ms;			/* before the greeting, for strangers */
};

enum published_sts {
	PUBLISHED_STS_OFF, PUBLISHED_STS_NONE, PUBLISHED_STS_TESTING, PUBLISHED_STS_ENFORCE,
};

/* What becomes of a bounce or complaint, once it is noted. */
enum bounces_forward { BOUNCES_TO_SENDER, BOUNCES_TO_NOBODY, BOUNCES_TO_MAILBOX };

struct user_priority { struct span user; int most; };

struct config {
	struct arena arena;			/* all of it lives here */
	const char *path;			/* the file */
	const char **parts;			/* malloc: it, and what it includes */
	size_t part_count;
	/* given with it, or NULL: see config_load_given() */
	struct files *files;
	struct files *doors;			/* the same: sockets that listen, by address */
	struct span hostname;			/* lower case; the machine's name if not set */
	struct span *own_names;			/* hostname and `names`: an MX of ours is a loop */
	size_t own_name_count;

	struct {
		const char *path;
		uint64_t max_size, min_free, map_size;
		struct schedule_config schedule;
		bool return_full;		/* DSNs carry the whole message below bounce-size */
		uint64_t bounce_size;		/* above it only the header */
	} queue;

	struct {				/* of RFC 8460, about TLS to others */
		struct span contact;		/* From, contact-info; empty: nothing is counted */
		struct span organization;	/* empty: hostname */
		int64_t spread_ms;		/* so long after midnight they are sent, at most */
	} tls_reports;

	const char *control;			/* path of the control socket */
	uint32_t control_mode;			/* 0660 */
	const char *submission_socket;		/* path of tram-sendmail's socket; NULL: none */
	struct dns_config resolver;
	/* a signed name, a bogus one; none: DANE is not used */
	struct span *resolver_test;
	size_t resolver_test_count;
	struct log_config log;
	struct limits limits;
	struct tenant_rules tenants;
	struct shapes shapes;			/* shape, provider */
	struct access_rules access;		/* relay-from, relay-to, postmaster, routes */
	/* of addresses that mail leaves from, and their pools */
	struct sources sources;
	struct tls_identity *certificates;	/* the first is for whom no other fits */
	size_t certificate_count;
	int64_t certificate_warning_ms;		/* so long before one expires it is logged */
	struct listener *listeners;
	size_t listener_count;
	struct smtp_server_config submission;	/* for the local socket */
	struct smtp_client_config client;
	/* who signs other servers' certificates; NULL: the system's */
	const char *delivery_ca;
	/* for `tramctl dns-records`: what others shall read of this server */
	enum published_sts published_sts;
	int64_t published_sts_max_age_ms;
	struct span published_tlsrpt;		/* "mailto:tls@example.org"; empty: none */
	/* what we show them: the title of one of certificates */
	struct span delivery_certificate;
	struct tls_settings delivery_tls;
	struct tls_context *client_tls;		/* by config_open_files() */
	const char *passwords_path, *auth_socket, *senders_path;	/* NULL: none */
	struct span *priority_words;		/* as written: "anna=5", "*=0" */
	size_t priority_word_count;
	struct user_priority *priorities;	/* "*" last */
	size_t priority_count;
	/* by config_open_files(); NULL: auth_socket knows */
	struct passwords *passwords;
	struct senders *senders;		/* the same; NULL: everybody may send as anybody */
	const char *classify_path;		/* rules of the operator's; NULL: none */
	struct classifier *classifier;		/* by config_open_files(); NULL before */
	const char *response_path;		/* the same, of what is done about replies */
	bool response_builtin;			/* behind them, those that are built in */
	struct response_rules *responses;	/* by config_open_files(); NULL before */
	struct span *suppress;			/* as written */
	size_t suppress_count;
	/* what a failure of this class is on the list for; 0: it is not */
	int64_t suppress_ms[REPLY_CLASSES];
	struct verp_rules verp;			/* senders of deliveries, written anew */
	const char *verp_keys_path;		/* NULL: the queue's own key is used */
	uint8_t verp_keys[VERP_KEYS_MAX][VERP_KEY];	/* by config_open_files() */
	size_t verp_key_count;
	struct {				/* mail that comes back */
		struct span *addresses;		/* beside those of verp; in lower case */
		size_t address_count;
		struct span forward_text;	/* as written */
		enum bounces_forward forward;
		struct span mailbox;
		int64_t lifetime_ms;		/* of an address of verp, and of a record */
		/* octets of what is kept of delivered recipients; 0: nothing */
		uint64_t records;
		bool suppress_unproven;
	} bounces;
	bool check_sender;			/* strangers' senders must be able to get mail */
	bool mta_sts;				/* policies that domains publish are asked for */
	bool allow_private;			/* MX hosts with private addresses are fine */
	unsigned threads;			/* reactors */
	int64_t stop_timeout_ms;		/* 10 s */
	const char *user;			/* NULL: stays who it is */
	bool sandbox;				/* gives away what it does not need */
};

/* What this client's session offers and allows. */
const struct smtp_server_config *listener_smtp(const struct listener *listener,
					       const struct netaddr *client);

enum { CONFIG_ERROR_MAX = 1024 };

/*
 * Reads and checks. 0: *ret is the caller's (config_free). -EINVAL: error has "FILE:LINE: what
 * is wrong; what to do". -errno for a file that cannot be read (error says so too). warnings, if
 * not NULL, gets one line each ('\n').
 */
int config_load(const char *path, struct config **ret, char error[CONFIG_ERROR_MAX],
		struct buf *warnings);
/*
 * The same, where files can be opened, and addresses listened on, only as they were given. It takes
 * both (NULL: none), also if it fails; they are there until config_close_files().
 */
int config_load_given(const char *path, struct files *files, struct files *doors,
		      struct config **ret, char error[CONFIG_ERROR_MAX], struct buf *warnings);
void config_close_files(struct config *config);
/* Calls each for the files of the configuration itself, and for all that it names to be read. */
void config_each_file(const struct config *config, void (*each)(void *arg, const char *path),
		      void *arg);
/*
 * The same, from text (tests, fuzzing); name stands for the file in messages. include is
 * refused.
 */
int config_parse(struct span text, const char *name, struct config **ret,
		 char error[CONFIG_ERROR_MAX], struct buf *warnings);
/*
 * What there is to say against a certificate, as a line with '\n'; nothing if it is good.
 */
void config_judge_certificate(const struct config *config,
			      const struct tls_certificate_facts *facts, struct buf *out);
/* The TLS contexts of a config, one by one; NULL: no more. */
struct tls_context *config_tls_context(const struct config *config, size_t i);
/*
 * Reads certificates, keys and passwords: for the daemon, which may; other programs need nothing of
 * them. 0, or -EINVAL and error as above. Blocks.
 */
int config_open_files(struct config *config, char error[CONFIG_ERROR_MAX], struct buf *warnings);
/* What lives as long as the process, whatever is reloaded. */
struct config_secrets {
	struct tls_tickets *tickets;
	uint8_t sasl[SCRAM_KEY];		/* for names that nobody has */
};
void config_use_secrets(struct config *config, const struct config_secrets *secrets);
void config_free(struct config *config);	/* NULL is fine */

/*
 * Which directives differ and need a restart (path of the queue, threads, user …): a sentence,
 * or "" in the arena.
 */
struct span config_needs_restart(const struct config *old, const struct config *new,
				 struct arena *arena);

/* The table, for the manual's check: one line per directive: "section.name type default". */
void config_print_directives(struct buf *out);

#endif
