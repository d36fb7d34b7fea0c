/*
 * auth: what the configuration says of logging in: contradictions, found without reading a file;
 * and the files of passwords and senders, which only the daemon opens.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mta/config/private.h"

static struct place
place_of(const struct load *load, const char *directive, enum section_kind kind, size_t index)
{
	const char *const names[] = { directive, NULL };
	struct place at = { load->config->path, 1 };

	config_place(load, names, kind, index, &at);
	return at;
}

static bool
read_mechanisms(struct load *load, struct listener *l, size_t i)
{
	struct place at = place_of(load, "auth-mechanisms", SECTION_LISTENER, i);

	l->sasl.offered = 0;
	for (size_t j = 0; j < l->mechanism_count; j++) {
		enum sasl_mechanism mechanism;

		if (!sasl_find(l->mechanisms[j], &mechanism))
			return config_fail(load, at,
					   "auth-mechanisms: %.*s is not known; known are PLAIN, "
					   "LOGIN, SCRAM-SHA-256, SCRAM-SHA-256-PLUS, OAUTHBEARER, "
					   "XOAUTH2 and EXTERNAL", SPAN_FMT(l->mechanisms[j]));
		l->sasl.offered |= 1u << mechanism;
	}
	if (l->mechanism_count == 0)
		l->sasl.offered = (1u << SASL_MECHANISMS) - 1;
	return true;
}

static bool
check_listener(struct load *load, size_t i)
{
	struct config *config = load->config;
	struct listener *l = &config->listeners[i];
	bool backend = config->passwords_path != NULL || config->auth_socket != NULL;
	struct place at = place_of(load, "auth", SECTION_LISTENER, i);

	if (!read_mechanisms(load, l, i))
		return false;
	l->sasl.max_line = config->limits.auth_line;
	l->smtp.max_auth_line = config->limits.auth_line;
	l->smtp.require_auth = l->auth == LISTENER_AUTH_REQUIRED;
	l->smtp.auth_needs_tls = l->auth != LISTENER_AUTH_OFF && !l->auth_without_tls;
	if (l->auth == LISTENER_AUTH_OFF)
		return true;
	if (!backend && l->sasl.offered != 1u << SASL_EXTERNAL)
		return config_fail(load, at,
				   "listener %.*s: nobody can log in, for there are no users; set "
				   "passwords = \"/etc/tram/passwords\" or auth-socket = "
				   "\"/run/dovecot/auth-client\"", SPAN_FMT(l->name));
	if (l->tls == LISTENER_TLS_OFF && !l->auth_without_tls)
		return config_fail(load, at,
				   "listener %.*s: passwords must not travel in plain text; add a "
				   "certificate (or, in a network that nobody else reads, "
				   "auth-without-tls = yes)", SPAN_FMT(l->name));
	if (l->auth_without_tls)
		config_warn(load, place_of(load, "auth-without-tls", SECTION_LISTENER, i),
			    "listener %.*s: passwords travel in plain text", SPAN_FMT(l->name));
	return true;
}

/* "anna=5": the last = counts, for a name may have one. */
static bool
read_priority(struct load *load, struct span word, struct user_priority *ret)
{
	size_t at = word.len;

	while (at > 0 && word.at[at - 1] != '=')
		at--;
	if (at < 2 || word.len != at + 1 || word.at[at] < '0' || word.at[at] > '9')
		return config_fail(
			load, place_of(load, "user-priority-max", SECTION_TOP, 0),
			"user-priority-max: \"%.*s\": write a user and a number from 0 to 9: "
			"\"anna=5\", or \"*=0\" for all others",
			SPAN_FMT(word));
	*ret = (struct user_priority){ span_first(word, at - 1), word.at[at] - '0' };
	return true;
}

static bool
check_priorities(struct load *load)
{
	struct config *config = load->config;
	struct user_priority any = { 0 };
	size_t n = config->priority_word_count;

	config->priorities = arena_alloc(&config->arena, (n + 1) * sizeof(*config->priorities));
	for (size_t i = 0; i < n; i++) {
		struct user_priority one = { 0 };

		if (!read_priority(load, config->priority_words[i], &one))
			return false;
		for (size_t j = 0; j < config->priority_count; j++)
			if (span_ieq(config->priorities[j].user, one.user))
				return config_fail(
					load, place_of(load, "user-priority-max", SECTION_TOP, 0),
					"user-priority-max: %.*s is there twice; remove one",
					SPAN_FMT(one.user));
		if (span_eq(one.user, SPAN("*")))
			any = one;
		else
			config->priorities[config->priority_count++] = one;
	}
	if (any.user.len > 0)
		config->priorities[config->priority_count++] = any;
	return true;
}

bool
config_check_auth(struct load *load)
{
	const struct config *config = load->config;

	if (config->passwords_path != NULL && config->auth_socket != NULL)
		return config_fail(load, place_of(load, "auth-socket", SECTION_TOP, 0),
				   "users come from passwords or from auth-socket, not from both; "
				   "remove one");
	for (size_t i = 0; i < config->listener_count; i++)
		if (!check_listener(load, i))
			return false;
	return check_priorities(load);
}

/* ---- the files ---------------------------------------------------------------------------- */

/* Hashes are worth stealing. */
static void
warn_readable(const char *path, const struct stat *there, struct buf *warnings)
{
	if (warnings != NULL && (there->st_mode & S_IROTH) != 0)
		buf_printf(warnings, "%s: everybody on this machine can read it; chmod 0640\n",
			   path);
}

static int
open_passwords(struct config *config, char error[CONFIG_ERROR_MAX], struct buf *warnings)
{
	struct buf content = { 0 }, list = { 0 };
	struct stat there = { 0 };
	int rc = config_read_file(config, config->passwords_path, PASSWORDS_FILE_MAX, &content,
				  &there, error);

	if (rc == 0) {
		warn_readable(config->passwords_path, &there, warnings);
		rc = config_faults(&list, passwords_parse(span_str(config->passwords_path),
						   buf_span(&content), &list, &config->passwords),
			    error);
	}
	if (content.at != NULL)
		explicit_bzero(content.at, content.cap);
	buf_free(&content);
	buf_free(&list);
	return rc;
}

static int
open_senders(struct config *config, char error[CONFIG_ERROR_MAX])
{
	struct buf content = { 0 }, list = { 0 };
	struct stat there = { 0 };
	int rc = config_read_file(config, config->senders_path, SENDERS_FILE_MAX, &content, &there,
				  error);

	if (rc == 0)
		rc = config_faults(&list,
				   senders_parse(span_str(config->senders_path), buf_span(&content),
						 &list, &config->senders),
				   error);
	buf_free(&content);
	buf_free(&list);
	return rc;
}

/* SCRAM only where every user has a verifier: a client takes the strongest mechanism it sees. */
static void
narrow_mechanisms(struct config *config)
{
	struct passwords_facts facts = passwords_facts(config->passwords);
	unsigned can = 1u << SASL_PLAIN | 1u << SASL_LOGIN | 1u << SASL_EXTERNAL;

	if (facts.all_scram)
		can |= 1u << SASL_SCRAM_SHA_256 | 1u << SASL_SCRAM_SHA_256_PLUS;
	for (size_t i = 0; i < config->listener_count; i++) {
		config->listeners[i].sasl.offered &= can;
		config->listeners[i].sasl.imagined_iterations = facts.iterations;
	}
}

int
config_open_auth(struct config *config, char error[CONFIG_ERROR_MAX], struct buf *warnings)
{
	int rc = 0;

	if (config->passwords_path != NULL)
		rc = open_passwords(config, error, warnings);
	if (rc == 0 && config->passwords != NULL)
		narrow_mechanisms(config);
	if (rc == 0 && config->senders_path != NULL)
		rc = open_senders(config, error);
	for (size_t i = 0; config->auth_socket != NULL && i < config->listener_count; i++) {
		config->listeners[i].sasl.relayed =
			1u << SASL_SCRAM_SHA_256 | 1u << SASL_SCRAM_SHA_256_PLUS;
		config->listeners[i].sasl.authzid_allowed = true;
	}
	return rc;
}
