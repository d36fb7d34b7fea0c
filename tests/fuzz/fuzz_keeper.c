/*
 * fuzz_keeper: what a server that has been taken over may ask the keeper. A request that is one can
 * be said again.
 */
#include <assert.h>
#include <stdint.h>

#include "mta/keeper/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = span_of((const char *)data, size);
	struct keeper_request request;
	struct buf again = { 0 };

	if (!keeper_request_decode(in, &request))
		return 0;
	assert(request.word_count <= KEEPER_WORDS_MAX && request.ask < KEEPER_ASKS);
	assert(keeper_request_encode(&request, &again) && span_eq(buf_span(&again), in));
	buf_free(&again);
	return 0;
}
