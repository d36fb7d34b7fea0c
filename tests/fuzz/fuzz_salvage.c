/*
 * fuzz_salvage: any octets as a data file, read page by page. Twice: as they are, and with the
 * checksums of what looks like a record made right, or hardly any input would have one. What comes
 * out must be whole.
 */
#include <assert.h>
#include <stdlib.h>

#include "queue/lmdb_page.h"
#include "queue/raw_scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
	size_t file;
	uint64_t last, count;
};

static int
on_message(void *arg, const struct queue_salvaged *found)
{
	const struct message_record *r = &found->message.record;
	struct seen *seen = arg;
	bool any = false;

	assert(seen->count == 0 || r->id > seen->last);
	assert(found->content.len == (found->lost ? 0 : r->header_size + r->body_size));
	assert(found->content.len <= seen->file);
	for (size_t i = 0; i < found->message.envelope.recipient_count; i++)
		any = any || found->message.open[i];
	assert(any || found->message.envelope.recipient_count == 0);
	seen->last = r->id;
	seen->count++;
	return 0;
}

static void
scan(const char *at, size_t size)
{
	struct queue_salvage_facts facts;
	struct seen seen = { .file = size };
	int r = raw_scan(span_of(at, size), LMDB_PAGE_MIN, on_message, &seen, &facts);

	assert(r == 0 && facts.messages + facts.lost == seen.count &&
	       facts.doubtful <= facts.messages);
}

/* Version 1, a kind, fields, and four octets for the checksum. */
static void
mend(char *copy, const char *data, struct span value)
{
	char *at = copy + (value.at - data);
	uint32_t crc;

	if (value.len < 6 || value.at[0] != 1)
		return;
	crc = crc32c(0, at, value.len - 4);
	for (size_t i = 0; i < 4; i++)
		at[value.len - 4 + i] = (char)(crc >> (24 - 8 * i) & 255);
}

static void
mend_all(char *copy, const char *data, size_t size)
{
	struct lmdb_file file = { data, size, LMDB_PAGE_MIN };
	struct lmdb_page page;
	struct lmdb_node node;
	struct lmdb_meta meta;

	if (size >= LMDB_META_LEN && lmdb_meta_read(data, &meta) == LMDB_READABLE)
		file.page_size = meta.page_size;
	for (uint64_t number = 0; number < size / file.page_size; number++) {
		if (!lmdb_page_read(&file, number, &page) || !page.leaf)
			continue;
		for (size_t i = 0; i < page.count && i < 64; i++)
			if (lmdb_node_read(&page, i, &node) && node.value.at != NULL &&
			    node.value.len < 4096)
				mend(copy, data, node.value);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *copy = malloc(size > 0 ? size : 1);

	memcpy(copy, data, size);
	scan(copy, size);
	mend_all(copy, (const char *)data, size);
	scan(copy, size);
	free(copy);
	return 0;
}
