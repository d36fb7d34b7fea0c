/* reply_match: see reply_match.h. */
#include "policy/reply_match.h"

#include "mta/base/address.h"

enum { ANY = UINT16_MAX, CODE_NONE = 1000 };

static const char *const stages[] = {
	[CLASSIFY_CONNECT] = "connect", [CLASSIFY_GREETING] = "greeting", [CLASSIFY_TLS] = "tls",
	[CLASSIFY_AUTH] = "auth", [CLASSIFY_MAIL] = "mail", [CLASSIFY_RCPT] = "rcpt",
	[CLASSIFY_DATA] = "data",
};

void
reply_match_init(struct reply_match *m)
{
	*m = (struct reply_match){ .code = ANY, .klass = ANY, .subject = ANY, .detail = ANY,
				   .stage = CLASSIFY_STAGES };
}

void
reply_match_free(struct reply_match *m)
{
	pattern_free(m->pattern);
	m->pattern = NULL;
}

/* ---- reading ------------------------------------------------------------------------------ */

/* Each condition: NULL, or what is wrong with it. */
static const char *
read_code(struct reply_match *m, struct span value)
{
	static const char *const wrong = "a code is three digits (550), 4xx, 5xx or none";
	uint64_t n;

	if (m->code != ANY)
		return "a second code=; write one";
	if (span_eq(value, SPAN("none")))
		m->code = CODE_NONE;
	else if (value.len == 3 && span_ieq(span_skip(value, 1), SPAN("xx")) &&
		 (value.at[0] == '4' || value.at[0] == '5'))
		m->code = (uint16_t)(value.at[0] - '0');
	else if (value.len == 3 && span_to_u64(value, 599, &n) && n >= 400)
		m->code = (uint16_t)n;
	else
		return wrong;
	return NULL;
}

static bool
read_number(struct span value, uint16_t *ret)
{
	uint64_t n;

	if (span_eq(value, SPAN("*")))
		return true;
	if (!span_to_u64(value, 999, &n))
		return false;
	*ret = (uint16_t)n;
	return true;
}

static const char *
read_status(struct reply_match *m, struct span value)
{
	struct span klass = span_cut(&value, '.'), subject = span_cut(&value, '.');

	if (m->klass != ANY || m->subject != ANY || m->detail != ANY)
		return "a second status=; write one";
	if (!read_number(klass, &m->klass) || !read_number(subject, &m->subject) ||
	    !read_number(value, &m->detail) || (m->klass != ANY && m->klass != 4 && m->klass != 5))
		return "a status is three numbers, of which each may be *: 5.1.1, *.2.2, 4.7.*";
	return NULL;
}

static const char *
read_stage(struct reply_match *m, struct span value)
{
	if (m->stage != CLASSIFY_STAGES)
		return "a second stage=; write one";
	for (m->stage = 0; m->stage < CLASSIFY_STAGES; m->stage++)
		if (span_eq(value, span_str(stages[m->stage])))
			return NULL;
	return "a stage is connect, greeting, tls, auth, mail, rcpt or data";
}

bool
host_list_valid(struct span list)
{
	do {
		struct span one = span_cut(&list, ',');

		if (!domain_valid(span_starts(one, SPAN("*.")) ? span_skip(one, 2) : one, false))
			return false;
	} while (list.len > 0);
	return true;
}

static const char *
read_host(struct reply_match *m, struct span value)
{
	if (m->host.len > 0)
		return "a second host=; write one, with commas: host=*.example.org,*.example.net";
	if (!host_list_valid(value))
		return "a host is a name (mx.example.org), or *. and a domain (*.example.org); "
		       "several with commas";
	m->host = value;
	return NULL;
}

const char *
reply_match_word(struct reply_match *m, struct span word)
{
	struct span name = span_cut(&word, '=');

	if (span_eq(name, SPAN("code")))
		return read_code(m, word);
	if (span_eq(name, SPAN("status")))
		return read_status(m, word);
	if (span_eq(name, SPAN("stage")))
		return read_stage(m, word);
	if (span_eq(name, SPAN("host")))
		return read_host(m, word);
	return "";
}

const char *
reply_match_pattern(struct reply_match *m, struct span text, struct buf *error)
{
	if (text.len < 3 || text.at[text.len - 1] != '/')
		return "a pattern stands between two /, at the end of its line";
	m->pattern = pattern_new(span_first(span_skip(text, 1), text.len - 2), error);
	if (m->pattern != NULL)
		return NULL;
	buf_byte(error, '\0');
	return buf_span(error).at;
}

struct span
rule_word(struct span *line)
{
	size_t n = 0;
	struct span word;

	*line = span_trim(*line);
	while (n < line->len && line->at[n] != ' ' && line->at[n] != '\t')
		n++;
	word = span_first(*line, n);
	*line = span_trim(span_skip(*line, n));
	return word;
}

const char *
reply_match_judge(const struct reply_match *m)
{
	uint16_t klass = m->code < 100 ? m->code : m->code / 100;

	/* ours, where none came, have a status of either kind */
	if (m->code != ANY && m->code != CODE_NONE && m->klass != ANY && m->klass != klass)
		return "no reply has such a code and such a status; mend one of them";
	return NULL;
}

bool
reply_match_covers(const struct reply_match *first, const struct reply_match *then)
{
	if (first->pattern != NULL || (first->host.len > 0 && !span_eq(first->host, then->host)))
		return false;
	if (first->code != ANY && first->code != then->code &&
	    (first->code > 9 || first->code != then->code / 100))
		return false;
	if ((first->klass != ANY && first->klass != then->klass) ||
	    (first->subject != ANY && first->subject != then->subject) ||
	    (first->detail != ANY && first->detail != then->detail))
		return false;
	return first->stage == CLASSIFY_STAGES || first->stage == then->stage;
}

/* ---- matching ----------------------------------------------------------------------------- */

/* Without codes that begin a line, and blanks and line ends that follow one another made one. */
struct span
reply_plain_text(const struct classify_reply *reply, char room[PATTERN_TEXT_MAX])
{
	struct span rest = span_first(reply->text, 4 * PATTERN_TEXT_MAX);
	size_t len = 0;

	for (size_t i = 0; i < rest.len && len < PATTERN_TEXT_MAX; i++) {
		char c = (unsigned char)rest.at[i] <= ' ' ? ' ' : rest.at[i];

		if (c != ' ' || (len > 0 && room[len - 1] != ' '))
			room[len++] = c;
	}
	return span_trim(span_of(room, len));
}

static bool
host_fits(struct span host, struct span wanted)
{
	if (wanted.at[0] != '*')
		return span_ieq(host, wanted);
	wanted = span_skip(wanted, 1);
	return host.len > wanted.len && span_ieq(span_skip(host, host.len - wanted.len), wanted);
}

bool
host_list_has(struct span list, struct span host)
{
	if (host.len > 0 && host.at[host.len - 1] == '.')
		host.len--;
	while (list.len > 0)
		if (host_fits(host, span_cut(&list, ',')))
			return true;
	return false;
}

static bool
conditions_fit(const struct reply_match *m, const struct classify_reply *reply)
{
	if (m->code == CODE_NONE ? reply->code != 0
	    : m->code < 10	    ? reply->code / 100 != m->code
				    : m->code != ANY && reply->code != m->code)
		return false;
	if ((m->klass != ANY && reply->status.klass != m->klass) ||
	    (m->subject != ANY && reply->status.subject != m->subject) ||
	    (m->detail != ANY && reply->status.detail != m->detail))
		return false;
	if ((m->subject != ANY || m->detail != ANY) && reply->status.klass == 0)
		return false;
	if (m->stage != CLASSIFY_STAGES && reply->stage != m->stage)
		return false;
	return m->host.len == 0 || host_list_has(m->host, reply->host);
}

enum pattern_result
reply_match_fits(const struct reply_match *m, const struct classify_reply *reply,
		 struct pattern_work *work, struct span text)
{
	if (!conditions_fit(m, reply))
		return PATTERN_NO;
	return m->pattern == NULL ? PATTERN_YES : pattern_match(m->pattern, work, text);
}
