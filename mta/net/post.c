/*
 * net/post: see post.h. Each post belongs to its loop's thread; only `box` is touched by others,
 * under its lock.
 */
#include "mta/net/post.h"

#include <stdlib.h>

#include "mta/base/arena.h"

static void
letters_init(struct letters *l)
{
	l->first = NULL;
	l->last = &l->first;
}

static void
letters_add(struct letters *l, struct letter *letter)
{
	letter->next = NULL;
	*l->last = letter;
	l->last = &letter->next;
}

/* Moves all of `from` to the end of `to`; true if `to` was empty. */
static bool
letters_move(struct letters *to, struct letters *from)
{
	bool was_empty = to->first == NULL;

	if (from->first == NULL)
		return false;
	*to->last = from->first;
	to->last = from->last;
	letters_init(from);
	return was_empty;
}

static void
letters_open(struct letter *first)
{
	while (first != NULL) {
		struct letter *next = first->next;

		first->open(first);
		first = next;
	}
}

static void
on_wake(uv_async_t *wake)
{
	struct post *post = wake->data;
	struct letters in;

	letters_init(&in);
	uv_mutex_lock(&post->lock);
	letters_move(&in, &post->box);
	uv_mutex_unlock(&post->lock);
	letters_open(in.first);
}

/*
 * Letters to ourselves may beget more: they are opened until none is left, then everything
 * leaves.
 */
static void
on_turn_end(uv_prepare_t *prepare)
{
	struct post *post = prepare->data;

	while (post->own.first != NULL) {
		struct letter *first = post->own.first;

		letters_init(&post->own);
		letters_open(first);
	}
	if (post->flush != NULL)
		post->flush(post->flush_arg);
	for (unsigned i = 0; i < post->peers; i++) {
		struct post *to = &post->all[i];
		bool wake;

		if (post->out[i].first == NULL)
			continue;
		uv_mutex_lock(&to->lock);
		wake = letters_move(&to->box, &post->out[i]);
		uv_mutex_unlock(&to->lock);
		if (wake)
			uv_async_send(&to->wake);
	}
}

int
post_init(struct post *post, uv_loop_t *loop, struct post *all, unsigned index, unsigned peers)
{
	int rc;

	*post = (struct post){ .loop = loop, .index = index, .peers = peers, .all = all };
	letters_init(&post->box);
	letters_init(&post->own);
	post->out = xcalloc(peers, sizeof(*post->out));
	for (unsigned i = 0; i < peers; i++)
		letters_init(&post->out[i]);
	rc = uv_mutex_init(&post->lock);
	if (rc == 0)
		rc = uv_async_init(loop, &post->wake, on_wake);
	if (rc == 0)
		rc = uv_prepare_init(loop, &post->turn_end);
	if (rc == 0)
		rc = uv_prepare_start(&post->turn_end, on_turn_end);
	post->wake.data = post;
	post->turn_end.data = post;
	return rc;
}

void
post_close(struct post *post)
{
	uv_close((uv_handle_t *)&post->wake, NULL);
	uv_close((uv_handle_t *)&post->turn_end, NULL);
}

void
post_free(struct post *post)
{
	letters_open(post->box.first);
	for (unsigned i = 0; i < post->peers; i++)
		letters_open(post->out[i].first);
	uv_mutex_destroy(&post->lock);
	free(post->out);
}

void
post_send(struct post *from, struct post *to, struct letter *letter)
{
	letters_add(from == to ? &from->own : &from->out[to->index], letter);
}
