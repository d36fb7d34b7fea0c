/*
 * fuzz_classify: any octets as a file of rules, and as the text of a reply: every reply has a
 * class, the same one when it is asked for again, and the rules that are built in are always good.
 */
#include <assert.h>
#include <errno.h>

#include "policy/classify.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct classify_reply
reply_of(struct span in)
{
	uint8_t first = in.len > 0 ? (uint8_t)in.at[0] : 0;
	static const uint16_t codes[] = { 0, 421, 450, 452, 550, 552, 553, 554 };
	struct classify_reply r = { first % CLASSIFY_STAGES, codes[first / 8 % 8], { 0 },
				    in, SPAN("mta7.am0.yahoodns.net") };
	size_t len;

	if (first >= 128)
		r.host = SPAN("gmail-smtp-in.l.google.com");
	if (status_parse(span_skip(in, 1), &r.status, &len))
		r.text = span_skip(in, 1 + len);
	return r;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct classifier *builtin;
	struct classifier *own = NULL;
	struct buf errors = { 0 };
	struct span in = span_of(data, size);
	struct classify_reply r = reply_of(in);
	int rc;

	if (builtin == NULL)
		assert(classifier_parse(SPAN(""), SPAN(""), &errors, &builtin) == 0);
	assert(classify(builtin, &r) < REPLY_CLASSES);
	assert(classify(builtin, &r) == classify(builtin, &r));
	rc = classifier_parse(SPAN("rules"), in, &errors, &own);
	assert((rc == 0) == (own != NULL) && (rc == 0) == (buf_len(&errors) == 0));
	if (rc == 0)
		assert(classify(own, &r) < REPLY_CLASSES);
	else
		assert(rc == -EINVAL);
	classifier_free(own);
	buf_free(&errors);
	return 0;
}
