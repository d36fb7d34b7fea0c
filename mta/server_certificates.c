/*
 * server_certificates: see server_certificates.h. An event → on_look (a moment later) → in the
 * pool: have the files changed, and are they good? → on_looked → letters: each reactor adopts its
 * part.
 */
#include "mta/server_certificates.h"

#include <libgen.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/base/clock.h"
#include "mta/base/list.h"
#include "mta/base/log.h"
#include "mta/control/text.h"
#include "mta/server_private.h"

enum {
	SETTLE_MS = 1000,		/* without an event, before a change is looked at */
	SETTLE_MAX_MS = 5000,		/* with events all the time */
	AGAIN_MS = 60 * 1000,		/* what did not fit together */
	HOUR_MS = 3600 * 1000,
};
static const int64_t day_ms = INT64_C(24) * HOUR_MS;

struct certificates {
	struct server *server;
	uv_timer_t look, hour;
	struct list folders;
	struct config *config;		/* the one that is followed */
	uint8_t (*known)[TLS_DIGEST_LEN];	/* of what its contexts use */
	size_t count;			/* contexts */
	char error[TLS_ERROR_MAX];	/* told; "": the files were good */
	/* of the loop's clock: the first event not looked at; 0: none */
	int64_t changed_ms;
	int64_t warned_ms;		/* wall clock */
	bool looking, again, stopping;
	int handles_open;
};

struct folder {
	struct list node;
	struct certificates *owner;
	uv_fs_event_t watch;
	char *path;
};

/* One look, in the pool. */
struct look {
	uv_work_t work;
	struct certificates *owner;
	struct config *config;
	size_t count;
	uint8_t (*known)[TLS_DIGEST_LEN];
	struct tls_context **fresh;
	const struct keeper_link *keeper;	/* gives the files; NULL: they are read here */
	bool changed;
	char error[TLS_ERROR_MAX];
};

/* Shared by the letters of one adoption; the last one frees it. */
struct adoption {
	struct config *config;		/* in use at each reactor until behind the letter */
	atomic_uint left;
	size_t count;
	struct tls_context *fresh[];
};

struct adoption_letter {
	struct letter letter;
	struct reactor *reactor;
	struct adoption *adoption;
};

/* ---- what is in use ----------------------------------------------------------------------- */

/* Each listener has all certificates: the first one with TLS stands for them. */
static void
each_certificate(const struct config *config,
		 void (*each)(void *arg, const struct tls_certificate_facts *facts), void *arg)
{
	struct tls_context *context = config_tls_context(config, 0);

	if (context != NULL)
		tls_context_certificates(context, each, arg);
}

struct telling {
	const struct config *config;
	json_t *array;
};

static json_t *
users_of(const struct config *config, struct span certificate)
{
	json_t *users = json_array();

	for (size_t i = 0; i < config->listener_count; i++)
		if (config->listeners[i].tls_context != NULL)
			json_array_append_new(users, json_text(config->listeners[i].name));
	if (span_eq(config->delivery_certificate, certificate))
		json_array_append_new(users, json_string("delivery"));
	return users;
}

static void
tell_certificate(void *arg, const struct tls_certificate_facts *facts)
{
	static const char *const ocsp[] = { [TLS_OCSP_NONE] = "none",
					    [TLS_OCSP_STAPLED] = "stapled",
					    [TLS_OCSP_EXPIRED] = "expired",
					    [TLS_OCSP_FOREIGN] = "of another certificate" };
	const struct telling *t = arg;
	json_t *object = json_object();

	json_object_set_new(object, "certificate", json_text(facts->identity));
	json_object_set_new(object, "names", json_text(facts->names));
	json_object_set_new(object, "key", json_text(facts->key));
	json_object_set_new(object, "file", json_text(facts->file));
	json_object_set_new(object, "expires_ms", json_integer(facts->not_after_ms));
	json_object_set_new(object, "days_left",
			    json_integer((facts->not_after_ms - wall_ms()) / day_ms));
	json_object_set_new(object, "ocsp", json_string(ocsp[facts->ocsp]));
	json_object_set_new(object, "used_by", users_of(t->config, facts->identity));
	json_array_append_new(t->array, object);
}

void
server_certificates(void *arg, json_t *array)
{
	struct server *server = arg;
	struct telling telling = { home_of(server)->config, array };

	each_certificate(telling.config, tell_certificate, &telling);
}

static void
warn_certificate(void *arg, const struct tls_certificate_facts *facts)
{
	struct buf text = { 0 };
	struct span lines;

	config_judge_certificate(arg, facts, &text);
	lines = buf_span(&text);
	while (lines.len > 0) {
		struct span line = span_cut(&lines, '\n');

		log_message(LOG_WARNING, "certificate", "%.*s", SPAN_FMT(line));
	}
	buf_free(&text);
}

static void
warn(struct certificates *c)
{
	c->warned_ms = wall_ms();
	each_certificate(c->config, warn_certificate, c->config);
}

static void
log_certificate(void *arg, const struct tls_certificate_facts *facts)
{
	struct log_line l;
	char date[ISO_DATE_MAX];

	(void)arg;
	if (!log_begin(&l, LOG_INFO, "certificate-read"))
		return;
	log_span(&l, "certificate", facts->identity);
	log_span(&l, "file", facts->file);
	log_span(&l, "names", facts->names);
	log_str(&l, "expires", clock_iso(facts->not_after_ms, date));
	log_end(&l);
}

/* ---- folders ------------------------------------------------------------------------------ */

static void
on_folder_closed(uv_handle_t *handle)
{
	struct folder *f = handle->data;

	free(f->path);
	free(f);
}

static void
close_folders(struct list *folders)
{
	LIST_EACH(struct folder, f, folders, node) {
		list_remove(&f->node);
		uv_close((uv_handle_t *)&f->watch, on_folder_closed);
	}
}

/* Who watches the files, and gives them; NULL: we do. */
static const struct keeper_link *
keeper_of(const struct certificates *c)
{
	const struct keeper_link *keeper = &c->server->rights->keeper;

	return keeper->gives ? keeper : NULL;
}

static void on_look(uv_timer_t *timer);

static void
look_in(struct certificates *c, int64_t ms)
{
	uv_timer_start(&c->look, on_look, (uint64_t)ms, 0);
}

void
certificates_look(struct certificates *c)
{
	int64_t now = (int64_t)uv_now(&home_of(c->server)->loop), rest;

	if (c->stopping)
		return;
	if (c->changed_ms == 0)
		c->changed_ms = now;
	rest = c->changed_ms + SETTLE_MAX_MS - now;
	look_in(c, rest < 0 ? 0 : rest < SETTLE_MS ? rest : SETTLE_MS);
}

static void
on_event(uv_fs_event_t *watch, const char *name, int events, int status)
{
	struct folder *f = watch->data;

	(void)name;			/* a link anywhere on the way may have been turned */
	(void)events;
	(void)status;
	certificates_look(f->owner);
}

static void
watch_folder(struct certificates *c, const char *path)
{
	struct folder *f;
	int rc;

	LIST_EACH(struct folder, other, &c->folders, node)
		if (strcmp(other->path, path) == 0)
			return;
	f = xcalloc(1, sizeof(*f));
	f->owner = c;
	f->path = strdup(path);
	uv_fs_event_init(&home_of(c->server)->loop, &f->watch);
	f->watch.data = f;
	list_add_last(&c->folders, &f->node);
	rc = f->path == NULL ? UV_ENOMEM : uv_fs_event_start(&f->watch, on_event, path, 0);
	if (rc < 0)
		log_message(LOG_DEBUG, "certificates", "%s cannot be watched: %s", path,
			    uv_strerror(rc));
}

/* Its folder, and the one where it lies if it is a link. */
static void
watch_file(struct certificates *c, struct span path)
{
	struct arena arena = { 0 };
	char *name = arena_str(&arena, path), *real = realpath(name, NULL);

	watch_folder(c, dirname(name));
	if (real != NULL)
		watch_folder(c, dirname(real));
	free(real);
	arena_free(&arena);
}

static void
watch_files(struct certificates *c, const struct span *paths, size_t count)
{
	for (size_t i = 0; i < count; i++)
		watch_file(c, paths[i]);
}

/*
 * Anew each time, for links and folders may be others by now; the old ones last until the new are.
 */
static void
watch_all(struct certificates *c)
{
	const struct config *config = c->config;
	struct list old;

	if (keeper_of(c) != NULL)
		return;
	list_init(&old);
	LIST_EACH(struct folder, f, &c->folders, node) {
		list_remove(&f->node);
		list_add_last(&old, &f->node);
	}
	for (size_t i = 0; i < config->certificate_count && c->count > 0; i++) {
		const struct tls_identity *from = &config->certificates[i];

		watch_files(c, from->chains, from->chain_count);
		watch_files(c, from->keys, from->key_count);
		watch_files(c, from->ocsps, from->ocsp_count);
		watch_files(c, from->next_keys, from->next_key_count);
	}
	for (size_t i = 0; i < config->listener_count; i++)
		if (config->listeners[i].tls_settings.client_ca != NULL)
			watch_file(c, span_str(config->listeners[i].tls_settings.client_ca));
	if (config->delivery_ca != NULL)
		watch_file(c, span_str(config->delivery_ca));
	close_folders(&old);
}

/* ---- a look at the files ------------------------------------------------------------------ */

static void
look_free(struct look *look)
{
	for (size_t i = 0; i < look->count; i++)
		tls_context_free(look->fresh[i]);
	free(look->fresh);
	free(look->known);
	free(look);
}

static void
read_files(struct look *look, const struct files *files)
{
	for (size_t i = 0; i < look->count; i++)
		if (tls_context_changed(config_tls_context(look->config, i), files, look->known[i]))
			look->changed = true;
	for (size_t i = 0; look->changed && i < look->count && look->error[0] == '\0'; i++)
		if (tls_context_again(config_tls_context(look->config, i), files, &look->fresh[i],
				      look->error) < 0 && look->error[0] == '\0')
			memcpy(look->error, "?", 2);
}

/* In the pool. */
static void
on_read(uv_work_t *work)
{
	struct look *look = CONTAINER_OF(work, struct look, work);
	char error[CONFIG_ERROR_MAX];
	struct files *files = NULL;

	if (look->keeper != NULL &&
	    keeper_link_fetch(look->keeper, KEEPER_LOOK, &files, NULL, error) < 0) {
		snprintf(look->error, sizeof(look->error), "%.*s", (int)sizeof(look->error) - 1,
			 error);
		return;
	}
	read_files(look, files);
	files_free(files);
}

static void
on_adopt(struct letter *letter)
{
	struct adoption_letter *a = CONTAINER_OF(letter, struct adoption_letter, letter);
	struct adoption *adoption = a->adoption;

	for (size_t i = 0; i < adoption->count; i++)
		tls_context_adopt(config_tls_context(adoption->config, i), adoption->fresh[i],
				  a->reactor->index);
	if (a->reactor->post == a->reactor->home)
		each_certificate(adoption->config, log_certificate, NULL);
	free(a);
	if (atomic_fetch_sub(&adoption->left, 1) > 1)
		return;
	for (size_t i = 0; i < adoption->count; i++)
		tls_context_free(adoption->fresh[i]);
	free(adoption);
}

static void
spread(struct certificates *c, struct look *look)
{
	struct server *server = c->server;
	struct adoption *adoption =
		xcalloc(1, sizeof(*adoption) + look->count * sizeof(adoption->fresh[0]));

	adoption->config = look->config;
	adoption->count = look->count;
	atomic_init(&adoption->left, server->count);
	memcpy(adoption->fresh, look->fresh, look->count * sizeof(adoption->fresh[0]));
	memset(look->fresh, 0, look->count * sizeof(look->fresh[0]));
	for (unsigned i = 0; i < server->count; i++) {
		struct adoption_letter *a = xcalloc(1, sizeof(*a));

		a->letter.open = on_adopt;
		a->reactor = &server->reactors[i];
		a->adoption = adoption;
		post_send(home_of(server)->post, server->reactors[i].post, &a->letter);
	}
}

static void
judge_look(struct certificates *c, struct look *look)
{
	if (look->error[0] != '\0') {
		if (strcmp(look->error, c->error) != 0)
			log_message(LOG_WARNING, "certificates",
				    "the changed files are not used yet, those before are: %s",
				    look->error);
		memcpy(c->error, look->error, sizeof(c->error));
		if (!uv_is_active((uv_handle_t *)&c->look))
			look_in(c, AGAIN_MS);
		return;
	}
	if (c->error[0] != '\0' && !look->changed)
		log_message(LOG_INFO, "certificates", "the files are again what they were");
	c->error[0] = '\0';
	if (!look->changed)
		return;
	memcpy(c->known, look->known, look->count * sizeof(look->known[0]));
	spread(c, look);
}

static void certificates_free(struct certificates *c);

static void
on_looked(uv_work_t *work, int status)
{
	struct look *look = CONTAINER_OF(work, struct look, work);
	struct certificates *c = look->owner;

	c->looking = false;
	if (!c->stopping) {
		if (status == 0 && look->config == c->config)
			judge_look(c, look);
		if (c->again)
			look_in(c, 0);
		c->again = false;
		reactor_config_release(home_of(c->server), look->config);
	}
	look_free(look);
	certificates_free(c);
}

static void
on_look(uv_timer_t *timer)
{
	struct certificates *c = timer->data;
	struct look *look;

	if (c->looking || c->count == 0) {
		c->again = c->looking;
		return;
	}
	c->changed_ms = 0;
	watch_all(c);
	look = xcalloc(1, sizeof(*look));
	look->owner = c;
	look->config = c->config;
	look->count = c->count;
	look->keeper = keeper_of(c);
	look->known = xcalloc(c->count, sizeof(*look->known));
	look->fresh = xcalloc(c->count, sizeof(struct tls_context *));
	memcpy(look->known, c->known, c->count * sizeof(*look->known));
	/* a reload meanwhile must not free it; at the stop nobody does */
	reactor_config_use(home_of(c->server), look->config);
	c->looking = true;
	uv_queue_work(timer->loop, &look->work, on_read, on_looked);
}

static void
on_hour(uv_timer_t *timer)
{
	struct certificates *c = timer->data;
	int64_t since = wall_ms() - c->warned_ms;

	if (since < 0 || since > day_ms - HOUR_MS / 2)
		warn(c);
	look_in(c, 0);
}

/* ---- life --------------------------------------------------------------------------------- */

void
certificates_follow(struct certificates *c)
{
	struct config *config = home_of(c->server)->config;

	c->config = config;
	c->count = 0;
	c->error[0] = '\0';
	while (config_tls_context(config, c->count) != NULL)
		c->count++;
	free(c->known);
	c->known = xcalloc(c->count + 1, sizeof(*c->known));
	for (size_t i = 0; i < c->count; i++)
		tls_context_digest(config_tls_context(config, i), c->known[i]);
	watch_all(c);
	warn(c);
	look_in(c, 0);			/* what changed before it was watched */
}

struct certificates *
certificates_start(struct server *server)
{
	struct certificates *c = xcalloc(1, sizeof(*c));
	uv_loop_t *loop = &home_of(server)->loop;

	c->server = server;
	list_init(&c->folders);
	uv_timer_init(loop, &c->look);
	uv_timer_init(loop, &c->hour);
	c->look.data = c->hour.data = c;
	c->handles_open = 2;
	uv_timer_start(&c->hour, on_hour, HOUR_MS, HOUR_MS);
	certificates_follow(c);
	return c;
}

static void
certificates_free(struct certificates *c)
{
	if (c->handles_open > 0 || c->looking)
		return;
	free(c->known);
	free(c);
}

static void
on_closed(uv_handle_t *handle)
{
	struct certificates *c = handle->data;

	c->handles_open--;
	certificates_free(c);
}

void
certificates_stop(struct certificates *c)
{
	if (c == NULL)
		return;
	c->stopping = true;
	close_folders(&c->folders);
	uv_close((uv_handle_t *)&c->look, on_closed);
	uv_close((uv_handle_t *)&c->hour, on_closed);
}
