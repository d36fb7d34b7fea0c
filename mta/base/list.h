/*
 * list: a ring of embedded nodes, with a head that is a node too. O(1) to add and to take out.
 *
 *	struct list sessions;			list_init(&sessions);
 *	list_add_last(&sessions, &s->node);
 *	LIST_EACH(struct session, s, &sessions, node) …;	(the current one may be taken out)
 */
#ifndef TRAM_BASE_LIST_H
#define TRAM_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *prev, *next;
};

#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

#define LIST_EACH(type, var, head, member)                                                \
	for (struct list *var##_at = (head)->next, *var##_next = var##_at->next;          \
	     var##_at != (head); var##_at = var##_next, var##_next = var##_at->next)      \
		for (type *var = CONTAINER_OF(var##_at, type, member), *var##_once = var; \
		     var##_once != NULL; var##_once = NULL)

static inline void
list_init(struct list *head)
{
	head->prev = head->next = head;
}

static inline bool
list_empty(const struct list *head)
{
	return head->next == head;
}

static inline void
list_add_last(struct list *head, struct list *node)
{
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}

static inline void
list_add_first(struct list *head, struct list *node)
{
	list_add_last(head->next, node);
}

/* The node is a ring of its own afterwards: taking it out twice does no harm. */
static inline void
list_remove(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

static inline bool
list_linked(const struct list *node)
{
	return node->next != NULL && node->next != node;
}

#endif
