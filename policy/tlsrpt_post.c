/* tlsrpt_post: the stored form of a report that is to be posted; see tlsrpt.h. Pure. */
#include "policy/codec.h"
#include "policy/tlsrpt.h"

enum { VERSION = 1, KIND = 'p', DAY_MAX = 1 << 16 };

void
tlsrpt_post_encode(const struct tlsrpt_post *post, struct buf *out)
{
	struct buf day = { 0 };
	struct encoder e;

	tlsrpt_day_encode(&post->day, &day);
	encoder_begin(&e, VERSION, KIND, out);
	encoder_number(&e, (uint64_t)post->begun_ms, 8);
	encoder_number(&e, (uint64_t)post->next_ms, 8);
	encoder_number(&e, post->tries, 4);
	encoder_span(&e, post->url);
	encoder_span(&e, post->report_id);
	encoder_span(&e, buf_span(&day));
	encoder_end(&e);
	buf_free(&day);
}

int
tlsrpt_post_decode(struct span octets, struct arena *arena, struct tlsrpt_post *ret)
{
	struct tlsrpt_post post = { 0 };
	struct decoder d;
	struct span day;
	int r = decoder_begin(&d, octets, VERSION, KIND, arena);

	if (r < 0)
		return r;
	post.begun_ms = (int64_t)decoder_number(&d, 8);
	post.next_ms = (int64_t)decoder_number(&d, 8);
	post.tries = (uint32_t)decoder_number(&d, 4);
	post.url = decoder_span(&d, TLSRPT_URI_MAX);
	post.report_id = decoder_span(&d, TLSRPT_TEXT_MAX);
	day = decoder_span(&d, DAY_MAX);
	r = decoder_end(&d);
	if (r == 0)
		r = tlsrpt_day_decode(day, arena, &post.day);
	if (r == 0)
		*ret = post;
	return r;
}
