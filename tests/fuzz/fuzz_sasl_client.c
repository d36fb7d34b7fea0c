/*
 * fuzz_sasl_client: any replies to our AUTH. What we send is whole lines of clean octets; the end
 * comes, and with SCRAM it is good only if the server has proved itself. The first octet picks the
 * mechanism, then a line for each reply: "334 text".
 */
#include <assert.h>
#include <stdlib.h>

#include "mta/auth/sasl_client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct sasl_client_config config = {
	.user = { "user", 4 }, .password = { "pencil", 6 }, .token = { "token", 5 }, .allowed = ~0u,
	.binding = { "0123456789abcdef0123456789abcdef", 32 }, .host = { "h", 1 }, .port = 587,
	.nonce = { "rOprNGfwEbeRWgbNEkqO", 20 },
};

static void
check_out(struct span out)
{
	assert(span_ends(out, SPAN("\r\n")) && out.len <= 8192);
	for (size_t i = 0; i + 2 < out.len; i++)
		assert(out.at[i] >= ' ' && out.at[i] <= '~');
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum sasl_client_action action;
	struct sasl_client c;
	struct span lines;
	size_t sent = 0;

	if (size < 1)
		return 0;
	sasl_client_init(&c, &config, (enum sasl_mechanism)(data[0] % SASL_MECHANISMS));
	lines = span_of(data + 1, size - 1);
	action = sasl_client_start(&c);
	while (action == SASL_CLIENT_SEND && lines.len > 0) {
		struct span line = span_cut(&lines, '\n');
		struct reply reply = { 0 };
		uint64_t code;

		check_out(buf_span(&c.out));
		if (!span_to_u64(span_first(line, 3), 599, &code) || code < 200)
			continue;
		assert(++sent <= 6);
		reply.code = (uint16_t)code;
		reply.text = span_skip(line, 4);
		reply.status.klass = (uint8_t)(code / 100);
		action = sasl_client_reply(&c, &reply);
	}
	if (action == SASL_CLIENT_FAILED)
		assert(c.reply.code >= 200 && (c.why == NULL || c.reply.code == 454));
	if (action == SASL_CLIENT_DONE && (c.mechanism == SASL_SCRAM_SHA_256 ||
					   c.mechanism == SASL_SCRAM_SHA_256_PLUS))
		assert(c.scram.iterations >= SCRAM_ITERATIONS_MIN);
	sasl_client_free(&c);
	return 0;
}
