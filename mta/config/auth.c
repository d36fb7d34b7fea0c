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

enum { READ_ROOM = 65536 };

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
	return true;
}

/* ---- the files ---------------------------------------------------------------------------- */

static int
read_all(int fd, size_t size, size_t most, struct buf *ret)
{
	ssize_t n;

	/* all at once: no smaller ones are left behind with what stood in them */
	buf_reserve(ret, size + READ_ROOM);
	while ((n = read(fd, buf_reserve(ret, READ_ROOM), READ_ROOM)) > 0) {
		buf_grew(ret, (size_t)n);
		if (buf_len(ret) > most)
			return -EFBIG;
	}
	return n < 0 ? -errno : 0;
}

/*
 * 0, and the content is the caller's to free; or -EINVAL and error. Only of a file: what may wait
 * (a pipe) would stop the loop that reloads.
 */
static int
read_file(const char *path, size_t most, struct buf *ret, struct stat *there,
	  char error[CONFIG_ERROR_MAX])
{
	int rc, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	rc = fd < 0 || fstat(fd, there) < 0 ? -errno : 0;
	if (rc == 0 && !S_ISREG(there->st_mode))
		rc = -ENOTSUP;
	else if (rc == 0)
		rc = (size_t)there->st_size > most ? -EFBIG :
						     read_all(fd, (size_t)there->st_size, most, ret);
	if (fd >= 0)
		close(fd);
	if (rc == -ENOTSUP)
		snprintf(error, CONFIG_ERROR_MAX, "%s: not a file; name one", path);
	else if (rc == -EFBIG)
		snprintf(error, CONFIG_ERROR_MAX, "%s: larger than %zu MB", path, most >> 20);
	else if (rc < 0)
		snprintf(error, CONFIG_ERROR_MAX, "%s: %s; make it readable for tramd", path,
			 strerror(-rc));
	return rc < 0 ? -EINVAL : 0;
}

/* Hashes are worth stealing. */
static void
warn_readable(const char *path, const struct stat *there, struct buf *warnings)
{
	if (warnings != NULL && (there->st_mode & S_IROTH) != 0)
		buf_printf(warnings, "%s: everybody on this machine can read it; chmod 0640\n", path);
}

/* The parsers list up to twenty faults; the error holds the first ones. */
static int
faults(const struct buf *list, int rc, char error[CONFIG_ERROR_MAX])
{
	struct span text = span_trim(buf_span(list));

	if (rc < 0)
		snprintf(error, CONFIG_ERROR_MAX, "%.*s", SPAN_FMT(span_first(text, CONFIG_ERROR_MAX - 1)));
	return rc;
}

static int
open_passwords(struct config *config, char error[CONFIG_ERROR_MAX], struct buf *warnings)
{
	struct buf content = { 0 }, list = { 0 };
	struct stat there = { 0 };
	int rc = read_file(config->passwords_path, PASSWORDS_FILE_MAX, &content, &there, error);

	if (rc == 0) {
		warn_readable(config->passwords_path, &there, warnings);
		rc = faults(&list, passwords_parse(span_str(config->passwords_path),
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
	int rc = read_file(config->senders_path, SENDERS_FILE_MAX, &content, &there, error);

	if (rc == 0)
		rc = faults(&list, senders_parse(span_str(config->senders_path), buf_span(&content),
						 &list, &config->senders), error);
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
