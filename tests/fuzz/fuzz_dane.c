/*
 * fuzz_dane: octets → TLSA answers → verdict. The first octet chooses the question's path and what
 * the look-ups of addresses bring; then comes a DNS message with the answer to the TLSA question,
 * or (high bit) the record's octets alone.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include "policy/dane.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
answer_address(const struct facts_need *need, uint8_t choice, struct facts *facts)
{
	static const enum dns_outcome outcomes[] = { DNS_FOUND, DNS_NODATA, DNS_TEMPORARY,
						     DNS_FOUND };
	struct dns_record record = { .name = SPAN("real.test") };
	struct dns_answer answer = { .outcome = outcomes[choice & 3], .text = SPAN("x"),
				     .ttl = 60 };

	answer.authenticated = (choice & 4) == 0;
	answer.canonical = choice & 8 ? SPAN("real.test") : need->name;
	if (answer.outcome == DNS_FOUND) {
		answer.records = &record;
		answer.count = 1;
	}
	facts_add(facts, need->name, need->type, &answer);
}

static void
answer_tlsa(const struct facts_need *need, bool bare, struct span octets, struct facts *facts)
{
	struct dns_record records[2] = { { .data = octets }, { .data = span_skip(octets, 1) } };
	struct dns_answer answer = { .outcome = DNS_FOUND, .text = SPAN("x"), .ttl = 60,
				     .records = records, .count = 2, .authenticated = true };

	if (!bare)
		dns_answer_parse(octets, need->name, DNS_TLSA, facts->arena, &answer);
	facts_add(facts, need->name, need->type, &answer);
}

static void
check(const struct dane_verdict *verdict, struct arena *arena)
{
	struct span lines[4];

	assert(verdict->reason.len > 0 && verdict->needs.count == 0);
	assert((verdict->outcome == DANE_USABLE) == (verdict->count > 0));
	assert((verdict->outcome == DANE_USABLE) == (verdict->name_count > 0));
	assert(verdict->count <= verdict->published);
	for (size_t i = 0; i < verdict->count; i++) {
		assert(dns_tlsa_usable(&verdict->records[i]));
		assert(dns_tlsa_text(&verdict->records[i], arena).len > 6);
	}
	assert(dane_policy_lines(verdict, arena, lines, 4) <= 4);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dane_question question = { .host = SPAN("mx.test"), .port = 25,
					  .next_hop = SPAN("dom.test") };
	struct arena arena = { 0 };
	struct facts facts = { .arena = &arena };
	struct dane_verdict verdict;
	unsigned rounds = 0;

	if (size < 1)
		return 0;
	question.path = data[0] & 64 ? DANE_DIRECT : DANE_BY_MX;
	for (;;) {
		dane_judge(&question, &facts, &verdict);
		if (verdict.outcome != DANE_NEEDS)
			break;
		assert(++rounds < 4 && verdict.needs.count > 0);
		for (size_t i = 0; i < verdict.needs.count; i++) {
			const struct facts_need *need = &verdict.needs.need[i];

			if (need->type == DNS_TLSA)
				answer_tlsa(need, data[0] & 128, span_of(data + 1, size - 1),
					    &facts);
			else
				answer_address(need, data[0], &facts);
		}
	}
	check(&verdict, &arena);
	arena_free(&arena);
	return 0;
}
