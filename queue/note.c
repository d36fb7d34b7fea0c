/*
 * note: small records that are not mail, by kind and key; see queue.h. They are written on the
 * writer's thread and read on a port's. Bounded by the octets of the table, so that an owner who
 * forgot to bound his own cannot fill the disk.
 */
#include <errno.h>

#include "queue/writer.h"

enum { NOTES_OCTETS = 160 << 20, PAGE_OCTETS = 1 << 20 };

/*
 * There are as many counts as tenants and sites, and so as senders like to make up: they leave room
 * for what an operator has put in, and for what holds mail back.
 */
static uint64_t
most_octets(uint8_t kind)
{
	return kind == NOTE_SHAPE || kind == NOTE_SOURCE_DAY ? NOTES_OCTETS / 2 : NOTES_OCTETS;
}

int
note_check(struct batch *b, const struct queue_note *note, uint64_t *octets)
{
	if (note->key.len == 0 || note->key.len > NOTE_KEY_MAX || note->value.len > NOTE_VALUE_MAX)
		return -EMSGSIZE;
	if (note->remove)
		return 0;
	*octets += note->key.len + note->value.len;
	if (!b->queue->disk_ok ||
	    txn_octets(&b->txn, TABLE_NOTE) + *octets > most_octets(note->kind))
		return -ENOSPC;
	return 0;
}

void
note_write(struct batch *b, const struct queue_note *note)
{
	const struct key key = key_note(note->kind, note->key);

	if (note->remove) {
		txn_del(&b->txn, TABLE_NOTE, key_span(&key));
		return;
	}
	buf_clear(&b->record);
	note_record_encode(note->value, &b->record);
	txn_put(&b->txn, TABLE_NOTE, key_span(&key), buf_span(&b->record));
}

int
note_apply(struct batch *b, const struct queue_note *note)
{
	uint64_t octets = 0;
	int r = note_check(b, note, &octets);

	for (size_t i = 0; r == 0 && i < note->more_count; i++)
		r = note_check(b, &note->more[i], &octets);
	if (r < 0)
		return r;
	note_write(b, note);
	for (size_t i = 0; i < note->more_count; i++)
		note_write(b, &note->more[i]);
	return 0;
}

/* ---- reading ------------------------------------------------------------------------------ */

static int
read_end(struct txn *txn, int result)
{
	int r = txn->error != 0 ? txn->error : result;

	txn_reset(txn);
	return r;
}

int
queue_read_note(struct queue_port *port, enum note_kind kind, struct span key, struct buf *out)
{
	struct txn *txn = &port->reader;
	struct span octets, value;
	struct key row;
	int r = -ENOENT;

	if (key.len == 0 || key.len > NOTE_KEY_MAX)
		return -ENOENT;
	row = key_note((uint8_t)kind, key);
	txn_renew(txn);
	if (txn_get(txn, TABLE_NOTE, key_span(&row), &octets)) {
		r = note_record_decode(octets, &value);
		if (r == 0)
			buf_append(out, value);
	}
	return read_end(txn, r);
}

static size_t
row_copy(const struct cursor *at, struct arena *arena, struct queue_note_row *ret)
{
	struct span value = SPAN("");

	*ret = (struct queue_note_row){ .key = arena_copy(arena, span_skip(at->key, 1)) };
	ret->damaged = note_record_decode(at->value, &value) < 0;
	ret->value = arena_copy(arena, value);
	return at->key.len + value.len;
}

int
queue_read_notes(struct queue_port *port, enum note_kind kind, struct span prefix,
		 struct span after, struct arena *arena, struct queue_note_row *ret, size_t max,
		 size_t *ret_count)
{
	struct txn *txn = &port->reader;
	struct key first, from;
	size_t octets = 0;
	struct cursor at;

	*ret_count = 0;
	if (prefix.len > NOTE_KEY_MAX || after.len > NOTE_KEY_MAX)
		return 0;
	first = key_note((uint8_t)kind, prefix);
	from = after.len > 0 ? key_note((uint8_t)kind, after) : first;
	txn_renew(txn);
	cursor_open(&at, txn, TABLE_NOTE, key_span(&from));
	while (*ret_count < max && octets < PAGE_OCTETS && cursor_next(&at) &&
	       key_starts(at.key, &first))
		if (after.len == 0 || !span_eq(at.key, key_span(&from)))
			octets += row_copy(&at, arena, &ret[(*ret_count)++]);
	cursor_close(&at);
	return read_end(txn, 0);
}
