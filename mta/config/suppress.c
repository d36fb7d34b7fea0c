/*
 * suppress: which failures put an address on the list of suppressed ones, and for how long:
 * "bad-mailbox=30d".
 */
#include "mta/config/private.h"

#define YEAR_MS (INT64_C(366) * 24 * 3600 * 1000)

bool
config_check_suppress(struct load *load)
{
	static const char *const names[] = { "suppress", NULL };
	struct config *config = load->config;
	struct place at = { config->path, 1 };

	config_place(load, names, SECTION_TOP, 0, &at);
	for (size_t i = 0; i < config->suppress_count; i++) {
		struct span rest = config->suppress[i], word = span_cut(&rest, '=');
		const char *error = "write class=time: bad-mailbox=30d";
		enum reply_class class;
		int64_t ms;

		if (!reply_class_find(word, &class))
			return config_fail(load, at,
					   "suppress: there is no class \"%.*s\"; tram.conf(5) "
					   "lists them: write "
					   "{\"bad-mailbox=30d\"}",
					   SPAN_FMT(word));
		if (config->suppress_ms[class] != 0)
			return config_fail(load, at, "suppress: %.*s is there twice; remove one",
					   SPAN_FMT(word));
		if (!units_time(rest, &ms, &error) || ms <= 0 || ms > YEAR_MS)
			return config_fail(load, at,
					   "suppress: %.*s: for how long? Up to a year: %.*s=30d",
					   SPAN_FMT(config->suppress[i]), SPAN_FMT(word));
		config->suppress_ms[class] = ms;
	}
	return true;
}
