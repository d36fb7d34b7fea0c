/* verp: see verp.h. */
#include "policy/verp.h"

#include <errno.h>

#include "mta/auth/scram.h"
#include "mta/base/address.h"
#include "mta/base/id.h"
#include "mta/base/lines.h"
#include "policy/route.h"

enum { MARK_LETTERS = 8, CHECK_LETTERS = 16, ADDRESS_MAX = 1000, KEY_LINE_MAX = 200 };

static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz";	/* as in ids */

_Static_assert((int)VERP_KEY == (int)SCRAM_KEY, "a key of HMAC-SHA-256");

/* The first letters of a digest, five bits each. */
static void
put_letters(const uint8_t *digest, size_t letters, struct buf *out)
{
	unsigned bits = 0, have = 0;

	for (size_t i = 0; i < letters; i++) {
		if (have < 5) {
			bits = (bits << 8 | *digest++) & 0xffff;
			have += 8;
		}
		have -= 5;
		buf_byte(out, digits[bits >> have & 31]);
	}
}

static void
put_mark(const uint8_t key[VERP_KEY], uint64_t id, struct span address, struct buf *out)
{
	uint8_t digest[SCRAM_KEY];
	char text[ID_TEXT_LEN + 1];
	struct buf data = { 0 };

	buf_printf(&data, "to %s ", id_format(id, text));
	for (size_t i = 0; i < address.len && i < ADDRESS_MAX; i++)
		buf_byte(&data, ascii_lower(address.at[i]));
	scram_hmac(span_of(key, VERP_KEY), buf_span(&data), digest);
	put_letters(digest, MARK_LETTERS, out);
	buf_free(&data);
}

/* what: "0dn4q7k2c0001-0-markmark" */
static void
put_check(const uint8_t key[VERP_KEY], struct span what, struct span domain, struct buf *out)
{
	uint8_t digest[SCRAM_KEY];
	struct buf data = { 0 };

	buf_printf(&data, "verp %.*s@%.*s", SPAN_FMT(what), SPAN_FMT(domain));
	scram_hmac(span_of(key, VERP_KEY), buf_span(&data), digest);
	put_letters(digest, CHECK_LETTERS, out);
	buf_free(&data);
}

static const uint8_t *
key_at(const struct verp_keys *keys, size_t i)
{
	return i < keys->shared_count ? keys->shared[i] : keys->own;
}

struct span
verp_write(const struct verp_rule *rule, const struct verp_keys *keys, uint64_t id,
	   uint32_t recipient, struct span address, struct arena *arena)
{
	const uint8_t *key = key_at(keys, 0);
	char text[ID_TEXT_LEN + 1];
	struct buf local = { 0 };
	struct span ret, what;

	buf_printf(&local, "%s-%u-", id_format(id, text), recipient);
	put_mark(key, id, address, &local);
	what = arena_copy(arena, buf_span(&local));
	put_check(key, what, rule->domain, &local);
	what = buf_span(&local);
	ret = arena_printf(arena, "%.*s-%.*s@%.*s", SPAN_FMT(rule->prefix), SPAN_FMT(what),
			   SPAN_FMT(rule->domain));
	buf_free(&local);
	return ret;
}

/* ---- reading ------------------------------------------------------------------------------ */

static bool
read_mark(struct span text, uint64_t *ret)
{
	*ret = 0;
	for (size_t i = 0; i < text.len; i++) {
		const char *at = text.at[i] != '\0' ? strchr(digits, text.at[i]) : NULL;

		if (at == NULL)
			return false;
		*ret = *ret << 5 | (uint64_t)(at - digits);
	}
	return text.len == MARK_LETTERS;
}

/* local: in lower case. */
static bool
read_local(const struct verp_rule *rule, const struct verp_keys *keys, struct span local,
	   struct verp_address *ret)
{
	struct span rest, id, number, letters;
	struct buf check = { 0 };
	uint64_t recipient;
	bool good = false;

	if (!span_istarts(local, rule->prefix) || local.len <= rule->prefix.len ||
	    local.at[rule->prefix.len] != '-')
		return false;
	local = rest = span_skip(local, rule->prefix.len + 1);
	id = span_cut(&rest, '-');
	number = span_cut(&rest, '-');
	letters = rest;
	if (letters.len != MARK_LETTERS + CHECK_LETTERS || !id_parse(id, &ret->id) ||
	    !span_to_u64(number, VERP_RECIPIENT_MAX, &recipient) ||
	    !read_mark(span_first(letters, MARK_LETTERS), &ret->mark))
		return false;
	ret->recipient = (uint32_t)recipient;
	for (size_t i = 0; i <= keys->shared_count && !good; i++) {
		buf_clear(&check);
		put_check(key_at(keys, i), span_first(local, local.len - CHECK_LETTERS),
			  rule->domain, &check);
		good = scram_equal(buf_span(&check).at, letters.at + MARK_LETTERS, CHECK_LETTERS);
		ret->key = i;
	}
	buf_free(&check);
	return good;
}

enum verp_verdict
verp_read(const struct verp_rules *rules, const struct verp_keys *keys, struct span address,
	  struct verp_address *ret)
{
	struct span domain = address_domain_of(address), local = address_local_of(address);
	enum verp_verdict verdict = VERP_FOREIGN;
	char room[64];

	for (size_t i = 0; i < rules->count && verdict != VERP_GOOD; i++) {
		if (domain.len == 0 || !span_ieq(rules->rules[i].domain, domain))
			continue;
		verdict = VERP_UNKNOWN;
		if (local.len > sizeof(room))
			continue;
		for (size_t j = 0; j < local.len; j++)
			room[j] = ascii_lower(local.at[j]);
		if (read_local(&rules->rules[i], keys, span_of(room, local.len), ret))
			verdict = VERP_GOOD;
	}
	return verdict;
}

bool
verp_is_for(const struct verp_keys *keys, const struct verp_address *verp, struct span address)
{
	struct buf letters = { 0 };
	uint64_t mark = 0;

	put_mark(key_at(keys, verp->key), verp->id, address, &letters);
	read_mark(buf_span(&letters), &mark);
	buf_free(&letters);
	return mark == verp->mark;
}

/* ---- keys --------------------------------------------------------------------------------- */

void
verp_key_text(const uint8_t key[VERP_KEY], struct buf *out)
{
	for (size_t i = 0; i < VERP_KEY; i++)
		buf_printf(out, "%02x", key[i]);
}

static bool
read_key(struct span text, uint8_t ret[VERP_KEY])
{
	static const char hex[] = "0123456789abcdef";

	for (size_t i = 0; i < text.len; i++) {
		const char *at = text.at[i] != '\0' ? strchr(hex, ascii_lower(text.at[i])) : NULL;

		if (at == NULL || i >= 2 * VERP_KEY)
			return false;
		ret[i / 2] = (uint8_t)((i % 2 == 0 ? 0 : ret[i / 2] << 4) | (at - hex));
	}
	return text.len == 2 * VERP_KEY;
}

int
verp_keys_parse(struct span file, struct span content, struct buf *faults,
		uint8_t ret[VERP_KEYS_MAX][VERP_KEY], size_t *ret_count)
{
	struct lines lines = { .name = file, .rest = content, .max_line = KEY_LINE_MAX,
			       .errors = faults };
	struct span line;
	size_t count = 0;

	while (lines_next(&lines, &line)) {
		if (count == VERP_KEYS_MAX)
			lines_fault(&lines, SPAN(""),
				    "there are too many keys: 8 at most, the one to be used first");
		else if (!read_key(line, ret[count]))
			lines_fault(&lines, SPAN(""), "that is no key; make one: tramctl verp-key");
		else
			count++;
	}
	if (count == 0 && lines.faults == 0)
		lines_fault(&lines, SPAN(""), "there is no key; make one: tramctl verp-key");
	*ret_count = lines.faults == 0 ? count : 0;
	return lines.faults == 0 ? 0 : -EINVAL;
}

/* ---- which sender is written anew --------------------------------------------------------- */

bool
verp_has_domain(const struct verp_rules *rules, struct span domain)
{
	for (size_t i = 0; i < rules->count; i++)
		if (span_ieq(rules->rules[i].domain, domain))
			return true;
	return false;
}

static bool
is_marked(struct span sender)
{
	static const char *const marks[] = { "SRS0=", "SRS0+", "SRS0-", "SRS1=", "SRS1+", "SRS1-",
					     "prvs=", "btv1==" };

	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
		if (span_istarts(sender, span_str(marks[i])))
			return true;
	return false;
}

static bool
in_list(const struct span *list, size_t count, struct span word)
{
	for (size_t i = 0; i < count; i++)
		if (span_ieq(list[i], word))
			return true;
	return count == 0;
}

static bool
sender_fits(const struct verp_rule *rule, struct span sender)
{
	for (size_t i = 0; i < rule->sender_count; i++)
		if (sender_pattern_rank(rule->senders[i], sender) > 0)
			return true;
	return rule->sender_count == 0;
}

const struct verp_rule *
verp_choose(const struct verp_rules *rules, const struct verp_facts *facts)
{
	struct span route = facts->route;

	if (rules->count == 0 || facts->sender.len == 0 || is_marked(facts->sender) ||
	    verp_has_domain(rules, address_domain_of(facts->sender)))
		return NULL;
	route = span_cut(&route, ' ');		/* its pattern */
	for (size_t i = 0; i < rules->count; i++) {
		const struct verp_rule *rule = &rules->rules[i];

		if (sender_fits(rule, facts->sender) &&
		    in_list(rule->routes, rule->route_count, route) &&
		    in_list(rule->tenants, rule->tenant_count, facts->tenant) &&
		    in_list(rule->pools, rule->pool_count, facts->pool))
			return rule;
	}
	return NULL;
}
