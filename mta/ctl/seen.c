/* seen: a table of open addresses, at most half full. See seen.h. */
#include "mta/ctl/seen.h"

#include <stdlib.h>

#include "mta/base/arena.h"

/* Where it stands, or would stand. */
static struct seen_place *
place_of(const struct seen *s, uint64_t id, uint32_t recipient)
{
	uint64_t hash = (id ^ (uint64_t)recipient << 40) * UINT64_C(0x9e3779b97f4a7c15);
	size_t i = (size_t)(hash >> 20) & (s->size - 1);

	while (s->places[i].taken &&
	       (s->places[i].id != id || s->places[i].recipient != recipient))
		i = (i + 1) & (s->size - 1);
	return &s->places[i];
}

static void
grow(struct seen *s)
{
	struct seen old = *s;

	s->size = old.size == 0 ? 1024 : old.size * 2;
	s->places = xcalloc(s->size, sizeof(*s->places));
	for (size_t i = 0; i < old.size; i++)
		if (old.places[i].taken)
			*place_of(s, old.places[i].id, old.places[i].recipient) = old.places[i];
	free(old.places);
}

bool
seen_add(struct seen *s, uint64_t id, uint32_t recipient)
{
	struct seen_place *place;

	if (s->count * 2 >= s->size)
		grow(s);
	place = place_of(s, id, recipient);
	if (place->taken)
		return false;
	*place = (struct seen_place){ id, recipient, true };
	s->count++;
	return true;
}

void
seen_free(struct seen *s)
{
	free(s->places);
	*s = (struct seen){ 0 };
}
