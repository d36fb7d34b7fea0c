/*
 * A hostile server against the client machine. The first octet chooses the set-up, the rest is what
 * the server says; 0x1e parts its packets. Whole packets and single octets must give the same
 * commands and the same fates, and no fate may claim more than a reply said. The owner acts when a
 * packet is over.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include "mta/smtp/client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MESSAGES = 3, RECIPIENTS = 3, TURNS_MAX = 100000 };

struct play {
	struct smtp_client client;
	struct smtp_transaction transactions[MESSAGES];
	struct smtp_client_recipient recipients[MESSAGES][RECIPIENTS];
	bool done[MESSAGES], said_all[MESSAGES];
	size_t begun;
	bool ready, body, closed, queue;
	struct arena arena;
	struct buf out, fates;
};

static const struct span body = { "Subject: x\r\n\r\n.\r\nbare\n.\r\nend", 29 };
static const struct recipient names[RECIPIENTS] = {
	{ .address = { "b@example.net", 13 }, .orcpt = { "rfc822;b", 8 }, .notify = NOTIFY_NEVER },
	{ .address = { "c@example.org", 13 } }, { .address = { "d@example.net", 13 } },
};

static void
check_recipient(const struct play *play, size_t n, const struct smtp_client_recipient *r)
{
	int klass = reply_class(&r->reply);

	assert(r->fate != FATE_PENDING);
	assert(r->fate != FATE_DELIVERED || (klass == 2 && play->said_all[n]));
	assert(r->fate != FATE_PERMANENT || klass == 5);
	assert(r->fate != FATE_TEMPORARY || klass == 4 || klass == 0);
	assert(r->fate != FATE_UNCERTAIN || play->said_all[n]);
	assert(!(r->fate == FATE_TEMPORARY && klass == 0 && play->said_all[n] &&
		 play->transactions[n].started));
	assert(r->reply.text.len <= 1000);
}

static void
on_done(struct play *play, struct smtp_transaction *t)
{
	size_t n = (size_t)(t - play->transactions);

	assert(n < play->begun && !play->done[n]);
	play->done[n] = true;
	for (size_t i = 0; i < t->recipient_count; i++) {
		const struct smtp_client_recipient *r = &t->recipients[i];

		check_recipient(play, n, r);
		buf_printf(&play->fates, "%zu %zu %d %d ", n, i, r->fate, r->stage);
		reply_to_line(&r->reply, &play->fates);
		buf_byte(&play->fates, '\n');
	}
}

static void
begin(struct play *play)
{
	static const struct envelope envelope = { .reverse_path = { "a@example.org", 13 },
						  .envid = { "x", 1 } };
	size_t n = play->begun++;

	play->transactions[n] = (struct smtp_transaction){
		.arena = &play->arena, .envelope = &envelope, .recipients = play->recipients[n],
		.recipient_count = RECIPIENTS, .size = body.len, .needs_8bit = n == 1,
		.needs_smtputf8 = n == 2,
	};
	for (size_t i = 0; i < RECIPIENTS; i++)
		play->recipients[n][i].recipient = &names[i];
	smtp_client_send(&play->client, &play->transactions[n]);
}

static void
feed(struct play *play, struct span in)
{
	enum smtp_client_event event;
	struct smtp_transaction *done;
	unsigned turns = 0;

	do {
		in = span_skip(in, smtp_client_take(&play->client, in, &event, &done));
		play->ready = play->ready || event == CLIENT_READY;
		play->body = play->body || event == CLIENT_BODY;
		play->closed = play->closed || event == CLIENT_CLOSED;
		if (event == CLIENT_DONE)
			on_done(play, done);
		assert(turns++ < TURNS_MAX);
	} while (event != CLIENT_WAIT && event != CLIENT_CLOSED);
	assert(in.len == 0);
	assert(smtp_client_timeout_ms(&play->client) >= -1);
	assert(smtp_client_waiting_for(&play->client) != NULL);
}

static void
act(struct play *play)
{
	while (!play->closed && (play->ready || play->body)) {
		if (play->body) {
			size_t n = (size_t)(play->client.current - play->transactions);

			smtp_client_body(&play->client, body);
			smtp_client_body_end(&play->client);
			play->said_all[n] = true;
			if (play->queue && play->begun < MESSAGES &&
			    smtp_client_can_queue(&play->client))
				begin(play);
		} else if (play->begun < MESSAGES) {
			begin(play);
		} else {
			smtp_client_quit(&play->client);
		}
		play->ready = play->body = false;
		feed(play, SPAN(""));
	}
	buf_append(&play->out, buf_span(&play->client.out));
	buf_clear(&play->client.out);
}

static void
check_output(struct span out)
{
	for (size_t i = 0; i < out.len; i++) {
		assert(out.at[i] != '\n' || (i > 0 && out.at[i - 1] == '\r'));
		assert(out.at[i] != '\r' || (i + 1 < out.len && out.at[i + 1] == '\n'));
	}
}

static void
run(struct play *play, uint8_t setup, struct span in, bool each)
{
	struct smtp_client_config config = {
		.ehlo_name = SPAN("tram.example.org"), .pipelining = setup & 1,
		.chunking = setup & 2, .convert_8bit = setup & 8, .max_reply = 2000,
		.timeouts = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 },
	};

	*play = (struct play){ .queue = setup & 4 };
	smtp_client_init(&play->client, &config);
	feed(play, SPAN(""));
	while (in.len > 0 && !play->closed) {
		struct span packet = span_cut(&in, 0x1e);

		for (size_t i = 0; each && i < packet.len && !play->closed; i++)
			feed(play, span_of(packet.at + i, 1));
		if (!each)
			feed(play, packet);
		act(play);
	}
	if (!play->closed) {
		smtp_client_lost(&play->client, SPAN("lost"));
		feed(play, SPAN(""));
	}
	assert(play->closed);
	for (size_t n = 0; n < play->begun; n++)
		assert(play->done[n]);
	check_output(buf_span(&play->out));
}

static void
end(struct play *play)
{
	smtp_client_free(&play->client);
	arena_free(&play->arena);
	buf_free(&play->out);
	buf_free(&play->fates);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct play whole, cut;

	if (size == 0)
		return 0;
	run(&whole, data[0], span_of(data + 1, size - 1), false);
	run(&cut, data[0], span_of(data + 1, size - 1), true);
	/* At MAILMAX the client takes leave by itself, in the middle of what we call a packet. */
	if (whole.client.features.limit_mail == 0)
		assert(span_eq(buf_span(&whole.out), buf_span(&cut.out)));
	assert(span_eq(buf_span(&whole.fates), buf_span(&cut.fates)));
	end(&whole);
	end(&cut);
	return 0;
}
