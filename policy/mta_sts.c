/*
 * mta_sts: record and policy, octet by octet as RFC 8461 §3.1 and §3.2 have them; see mta_sts.h.
 * Names of fields are case-sensitive there; of a field given twice the first counts.
 */
#include "policy/mta_sts.h"

#include "dns/question.h"
#include "dns/txt.h"
#include "mta/base/address.h"

enum { FIELD_NAME_MAX = 32, MAX_AGE_DIGITS = 10 };

static bool
is_alnum(char c)
{
	return (c >= '0' && c <= '9') || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z');
}

static bool
is_wsp(char c)
{
	return c == ' ' || c == '\t';
}

/* Of an extension as well: a letter or digit, then up to 31 of those and "_-.". */
static bool
field_name_valid(struct span name)
{
	if (name.len == 0 || name.len > FIELD_NAME_MAX || !is_alnum(name.at[0]))
		return false;
	for (size_t i = 1; i < name.len; i++)
		if (!is_alnum(name.at[i]) && name.at[i] != '_' && name.at[i] != '-' &&
		    name.at[i] != '.')
			return false;
	return true;
}

/* ---- the record --------------------------------------------------------------------------- */

static struct span
prefixed(const char *prefix, struct span domain, struct arena *arena)
{
	struct span name = arena_printf(arena, "%s.%.*s", prefix, SPAN_FMT(domain));

	return dns_name_valid(name) ? name : SPAN("");
}

struct span
sts_record_name(struct span domain, struct arena *arena)
{
	return prefixed("_mta-sts", domain, arena);
}

struct span
sts_policy_host(struct span domain, struct arena *arena)
{
	return prefixed("mta-sts", domain, arena);
}

static struct span
skip_wsp(struct span s)
{
	while (s.len > 0 && is_wsp(s.at[0]))
		s = span_skip(s, 1);
	return s;
}

/* *WSP ";" *WSP */
static bool
take_delimiter(struct span *rest)
{
	struct span at = skip_wsp(*rest);

	if (at.len == 0 || at.at[0] != ';')
		return false;
	*rest = skip_wsp(span_skip(at, 1));
	return true;
}

static bool
take_record_field(struct span *rest, struct span *ret_name, struct span *ret_value)
{
	size_t len = 0;

	while (len < rest->len && rest->at[len] != '=' && rest->at[len] != ';')
		len++;
	if (len == rest->len || rest->at[len] != '=')
		return false;
	*ret_name = span_first(*rest, len);
	*rest = span_skip(*rest, len + 1);
	for (len = 0; len < rest->len && rest->at[len] > ' ' && rest->at[len] <= '~'; len++)
		if (rest->at[len] == ';' || rest->at[len] == '=')
			break;
	*ret_value = span_first(*rest, len);
	*rest = span_skip(*rest, len);
	return field_name_valid(*ret_name) && ret_value->len > 0;
}

static bool
id_valid(struct span id)
{
	for (size_t i = 0; i < id.len; i++)
		if (!is_alnum(id.at[i]))
			return false;
	return id.len > 0 && id.len <= STS_ID_MAX;
}

/* "v=STSv1" and a delimiter: others are not about MTA-STS at all. */
static bool
is_candidate(struct span text)
{
	struct span rest = span_skip(text, sizeof("v=STSv1") - 1);

	return span_starts(text, SPAN("v=STSv1")) && take_delimiter(&rest);
}

bool
sts_record_parse(struct span text, struct span *ret_id)
{
	struct span rest = span_skip(text, sizeof("v=STSv1") - 1), id = { 0 }, name, value;

	if (!span_starts(text, SPAN("v=STSv1")))
		return false;
	while (rest.len > 0) {
		if (!take_delimiter(&rest))
			return false;
		if (rest.len == 0)
			break;
		if (!take_record_field(&rest, &name, &value))
			return false;
		if (id.len == 0 && span_eq(name, SPAN("id"))) {
			if (!id_valid(value))
				return false;
			id = value;
		}
	}
	if (id.len == 0)
		return false;
	*ret_id = id;
	return true;
}

static void
no_record(struct sts_record *ret, enum sts_record_outcome outcome, struct span why)
{
	*ret = (struct sts_record){ .outcome = outcome, .why = why };
}

void
sts_record_from_answer(const struct dns_answer *answer, struct arena *arena,
		       struct sts_record *ret)
{
	struct span text, candidate = { 0 };
	size_t candidates = 0;

	*ret = (struct sts_record){ .outcome = STS_RECORD_UNKNOWN };
	if (answer == NULL)
		return;
	if (answer->outcome == DNS_TEMPORARY) {
		no_record(ret, STS_RECORD_FAILED, arena_copy(arena, answer->text));
		return;
	}
	for (size_t i = 0; answer->outcome == DNS_FOUND && i < answer->count; i++)
		if (dns_txt_read(answer->records[i].data, arena, &text) && is_candidate(text)) {
			candidate = text;
			candidates++;
		}
	if (candidates != 1)
		no_record(ret, STS_RECORD_NONE,
			  candidates == 0 ? SPAN("no MTA-STS record") :
					    SPAN("several MTA-STS records: none counts"));
	else if (!sts_record_parse(candidate, &ret->id))
		no_record(ret, STS_RECORD_NONE, SPAN("the MTA-STS record is not well-formed"));
	else
		ret->outcome = STS_RECORD_FOUND;
}

/* ---- the policy --------------------------------------------------------------------------- */

struct parsing {
	struct arena *arena;
	struct sts_policy *policy;
	bool has_version, has_mode, has_max_age;
	const char *error;
};

static bool
is_mode(struct span value, enum sts_mode *ret)
{
	for (enum sts_mode mode = STS_MODE_NONE; mode <= STS_MODE_ENFORCE; mode++)
		if (span_eq(value, span_str(sts_mode_text(mode)))) {
			*ret = mode;
			return true;
		}
	return false;
}

const char *
sts_mode_text(enum sts_mode mode)
{
	switch (mode) {
	case STS_MODE_NONE: return "none";
	case STS_MODE_TESTING: return "testing";
	case STS_MODE_ENFORCE: return "enforce";
	}
	return "?";
}

static bool
pattern_valid(struct span pattern)
{
	struct span domain = span_starts(pattern, SPAN("*.")) ? span_skip(pattern, 2) : pattern;

	return domain.len > 0 && domain.at[0] != '[' && domain_valid(domain, false);
}

static const char *
add_pattern(struct parsing *p, struct span value)
{
	struct sts_policy *policy = p->policy;
	char *lower;

	if (!pattern_valid(value))
		return "an mx is neither a host name nor *. and a domain";
	if (policy->mx_count == STS_MX_MAX)
		return "it has too many mx";
	if (policy->mx == NULL)
		policy->mx = arena_alloc(p->arena, STS_MX_MAX * sizeof(*policy->mx));
	lower = arena_str(p->arena, value);
	for (size_t i = 0; i < value.len; i++)
		lower[i] = ascii_lower(lower[i]);
	policy->mx[policy->mx_count++] = span_of(lower, value.len);
	return NULL;
}

static const char *
set_max_age(struct parsing *p, struct span value)
{
	uint64_t seconds;

	if (value.len > MAX_AGE_DIGITS || !span_to_u64(value, UINT64_MAX, &seconds))
		return "max_age is not a number of seconds";
	p->policy->max_age = (uint32_t)(seconds < STS_MAX_AGE_MAX ? seconds : STS_MAX_AGE_MAX);
	p->has_max_age = true;
	return NULL;
}

static const char *
set_field(struct parsing *p, struct span name, struct span value)
{
	if (span_eq(name, SPAN("mx")))
		return add_pattern(p, value);
	if (span_eq(name, SPAN("version")) && !p->has_version) {
		p->has_version = true;
		return span_eq(value, SPAN("STSv1")) ? NULL : "its version is not STSv1";
	}
	if (span_eq(name, SPAN("mode")) && !p->has_mode) {
		p->has_mode = true;
		return is_mode(value, &p->policy->mode) ?
			       NULL :
			       "its mode is none of enforce, testing, none";
	}
	if (span_eq(name, SPAN("max_age")) && !p->has_max_age)
		return set_max_age(p, value);
	return NULL;
}

/* "name: value"; blank lines are overlooked, as they stand at many ends. */
static const char *
read_line(struct parsing *p, struct span line)
{
	const char *colon;
	struct span name, value;

	if (line.len > 0 && line.at[line.len - 1] == '\r')
		line.len--;
	if (span_trim(line).len == 0)
		return NULL;
	colon = span_find(line, ':');
	if (colon == NULL)
		return "a line has no colon";
	name = span_first(line, (size_t)(colon - line.at));
	value = span_trim(span_skip(line, name.len + 1));
	if (!field_name_valid(name))
		return "the name of a field is not one";
	if (value.len == 0)
		return "a field is empty";
	for (size_t i = 0; i < value.len; i++)
		if ((unsigned char)value.at[i] < ' ' || value.at[i] == 127)
			return "a field has a control character";
	return set_field(p, name, value);
}

bool
sts_policy_parse(struct span text, struct arena *arena, struct sts_policy *ret, const char **error)
{
	struct sts_policy policy = { 0 };
	struct parsing p = { .arena = arena, .policy = &policy };

	if (text.len > STS_POLICY_MAX)
		p.error = "it is larger than 64 KB";
	while (text.len > 0 && p.error == NULL)
		p.error = read_line(&p, span_cut(&text, '\n'));
	if (p.error == NULL && !p.has_version)
		p.error = "it has no version";
	if (p.error == NULL && !p.has_mode)
		p.error = "it has no mode";
	if (p.error == NULL && !p.has_max_age)
		p.error = "it has no max_age";
	if (p.error == NULL && policy.mx_count == 0 && policy.mode != STS_MODE_NONE)
		p.error = "it has no mx";
	if (p.error != NULL) {
		*error = p.error;
		return false;
	}
	*ret = policy;
	return true;
}

bool
sts_policy_from_response(unsigned status, struct span content_type, struct span body,
			 struct arena *arena, struct sts_policy *ret, const char **error)
{
	struct span rest = content_type;

	if (status != 200) {
		*error = status / 100 == 3 ? "the policy host redirects, which does not count" :
					     "the policy host did not answer with 200";
		return false;
	}
	if (!span_ieq(span_trim(span_cut(&rest, ';')), SPAN("text/plain"))) {
		*error = "it is not text/plain";
		return false;
	}
	return sts_policy_parse(body, arena, ret, error);
}

static bool
pattern_matches(struct span pattern, struct span host)
{
	const char *dot;

	if (!span_starts(pattern, SPAN("*.")))
		return span_ieq(pattern, host);
	dot = span_find(host, '.');
	return dot != NULL && dot > host.at &&
	       span_ieq(span_skip(pattern, 1), span_skip(host, (size_t)(dot - host.at)));
}

bool
sts_policy_lists(const struct sts_policy *policy, struct span host)
{
	for (size_t i = 0; i < policy->mx_count; i++)
		if (pattern_matches(policy->mx[i], host))
			return true;
	return false;
}

size_t
sts_policy_lines(const struct sts_policy *policy, struct arena *arena, struct span *ret,
		 size_t most)
{
	size_t count = 0;

	if (count < most)
		ret[count++] = SPAN("version: STSv1");
	if (count < most)
		ret[count++] = arena_printf(arena, "mode: %s", sts_mode_text(policy->mode));
	for (size_t i = 0; i < policy->mx_count && count + 1 < most; i++)
		ret[count++] = arena_printf(arena, "mx: %.*s", SPAN_FMT(policy->mx[i]));
	if (count < most)
		ret[count++] = arena_printf(arena, "max_age: %u", (unsigned)policy->max_age);
	return count;
}

void
sts_policy_write(const struct sts_policy *policy, struct buf *out)
{
	buf_printf(out, "version: STSv1\r\nmode: %s\r\n", sts_mode_text(policy->mode));
	for (size_t i = 0; i < policy->mx_count; i++)
		buf_printf(out, "mx: %.*s\r\n", SPAN_FMT(policy->mx[i]));
	buf_printf(out, "max_age: %u\r\n", (unsigned)policy->max_age);
}
