/*
 * Any text as a configuration: it is read or refused with one line that names its place, and
 * leaves nothing behind that could change how the next one is read.
 */
#include <assert.h>
#include <stdlib.h>

#include "mta/config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_config(const struct config *config)
{
	assert(config->hostname.len > 0 && config->own_name_count > 0 && config->threads > 0);
	assert(config->access.routes.count > 0);
	assert(config->listener_count > 0 || config->submission_socket != NULL);
	for (size_t i = 0; i < config->listener_count; i++)
		assert(config->listeners[i].address_count > 0 &&
		       config->listeners[i].smtp.max_message_size > 0);
	for (size_t i = 0; i < config->access.relay_to_count; i++)
		assert(route_find(&config->access.routes, config->access.relay_to[i]) != NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct span good =
		SPAN("listener a { address = \"127.0.0.1:25\" } route \"*\" { deliver = mx }");
	char error[CONFIG_ERROR_MAX];
	struct config *config = NULL;
	struct buf warnings = { 0 };
	int rc = config_parse(span_of(data, size), "fuzz.conf", &config, error, &warnings);

	assert((rc == 0) == (config != NULL) && (rc == 0) == (error[0] == '\0'));
	if (rc == 0)
		check_config(config);
	else
		assert(span_starts(span_str(error), SPAN("fuzz.conf:")) &&
		       span_find(span_str(error), '\n') == NULL);
	config_free(config);
	config = NULL;
	rc = config_parse(good, "good.conf", &config, error, NULL);
	assert(rc == 0);
	config_free(config);
	buf_free(&warnings);
	return 0;
}
