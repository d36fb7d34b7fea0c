/*
 * smtp/client_body: the message's octets on their way into client->out: dot-stuffed, or as the
 * one chunk of a BDAT whose size has been promised. They come clean from the store; a bare CR or
 * LF would nevertheless not get out, for behind it the next server might see the end of the
 * message where there is none.
 */
#include <stdlib.h>

#include "mta/smtp/client_private.h"
#include "mta/smtp/data.h"

/*
 * The octets before the first bare CR or LF; a CR at the very end is not judged, and is left
 * out.
 */
static size_t
clean_run(struct span s)
{
	size_t at = 0;

	while (at < s.len) {
		const char *lf, *cr;
		size_t end;

		at += data_plain_run(span_skip(s, at));
		lf = memchr(s.at + at, '\n', s.len - at);
		end = lf ? (size_t)(lf - s.at) : s.len;
		cr = memchr(s.at + at, '\r', end - at);
		if (lf == NULL)
			return cr ? (size_t)(cr - s.at) : s.len;
		if (cr == NULL)
			return end;
		if (cr + 1 != lf)
			return (size_t)(cr - s.at);
		at = end + 1;
	}
	return at;
}

static void
write_octets(struct smtp_client *client, struct run *run, struct span s)
{
	if (!run->bdat) {
		data_encode(s, &client->p->at_line_start, &client->out);
	} else if (s.len > run->t->size - run->octets) {
		/* more than was promised: none of it is the message */
		smtp_client_body_failed(client);
	} else {
		run->octets += s.len;
		run->handed_over = run->octets == run->t->size;
		buf_append(&client->out, s);
	}
}

/* For a bare CR or LF: a line end, or, where the size has been promised, one octet. */
static void
write_newline(struct smtp_client *client, struct run *run)
{
	write_octets(client, run, run->bdat ? SPAN(" ") : SPAN("\r\n"));
}

void
client_drop_converter(struct smtp_client *client)
{
	struct smtp_client_private *p = client->p;

	if (p->converter != NULL)
		convert_free(p->converter);
	free(p->converter);
	p->converter = NULL;
	buf_free(&p->converted);
}

void
client_begin_body(struct smtp_client *client, struct run *run)
{
	struct smtp_client_private *p = client->p;

	p->at_line_start = true;
	p->held_cr = false;
	client_drop_converter(client);		/* of a body that broke off */
	if (!run->convert)
		return;
	p->converter = xcalloc(1, sizeof(*p->converter));
	convert_init(p->converter);
}

static void
write_body(struct smtp_client *client, struct run *run, struct span bytes)
{
	struct smtp_client_private *p = client->p;

	if (run->bdat && run->t->envelope->body == BODY_BINARYMIME) {
		write_octets(client, run, bytes);
		return;
	}
	while (bytes.len > 0 && !run->finished) {
		size_t clean;

		if (p->held_cr) {
			p->held_cr = false;
			if (bytes.at[0] != '\n') {
				write_newline(client, run);
				continue;
			}
			write_octets(client, run, SPAN("\r\n"));
			bytes = span_skip(bytes, 1);
		}
		clean = run->bdat ? 0 : data_plain_run(bytes);
		if (clean > 0) {
			data_encode_plain(span_first(bytes, clean), &p->at_line_start,
					  &client->out);
			bytes = span_skip(bytes, clean);
			continue;
		}
		clean = clean_run(bytes);
		write_octets(client, run, span_first(bytes, clean));
		bytes = span_skip(bytes, clean);
		if (bytes.len > 0 && bytes.at[0] == '\r') {
			p->held_cr = true;
			bytes = span_skip(bytes, 1);
		} else if (bytes.len > 0) {
			write_newline(client, run);
			bytes = span_skip(bytes, 1);
		}
	}
}

void
smtp_client_body(struct smtp_client *client, struct span bytes)
{
	struct smtp_client_private *p = client->p;
	struct run *run = client_streaming_run(p);

	if (run == NULL)
		return; /* it has ended meanwhile: the owner is about to be told */
	if (p->converter == NULL) {
		write_body(client, run, bytes);
		return;
	}
	convert_take(p->converter, bytes, &p->converted);
	write_body(client, run, buf_span(&p->converted));
	buf_clear(&p->converted);
}

static void
end_conversion(struct smtp_client *client, struct run *run)
{
	struct smtp_client_private *p = client->p;

	convert_end(p->converter, &p->converted);
	write_body(client, run, buf_span(&p->converted));
	client_drop_converter(client);
}

void
smtp_client_body_end(struct smtp_client *client)
{
	struct smtp_client_private *p = client->p;
	struct run *run = client_streaming_run(p);

	if (run == NULL)
		return;
	if (p->converter != NULL)
		end_conversion(client, run);
	if (p->held_cr)
		write_newline(client, run);
	p->held_cr = false;
	if (run->finished)
		return;
	if (run->bdat && run->octets != run->t->size) {
		smtp_client_body_failed(client);
		return;
	}
	if (!run->bdat)
		data_encode_end(p->at_line_start, &client->out);
	run->handed_over = true;
	run->streaming = false;
	run->sender.state = AT_END;
	client->current = NULL;
}

void
smtp_client_body_failed(struct smtp_client *client)
{
	struct reply reply = { .text = SPAN("the message could not be read") };

	client_fail(client, STAGE_BODY, &reply);
}
