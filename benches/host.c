/* A broker of 2.1 without a network: it loads a plugin and measures its callbacks.
 *
 *   host PLUGIN.so [OPTION=VALUE]...
 *
 * Prints, in nanoseconds, one topic check and one login whose verdicts the plugin remembers. Everything it
 * asks has to be allowed, at once or when it is completed; otherwise it ends with an error.
 */
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mosquitto_http_auth.h"

enum { EVENTS = 31, TOPICS = 10000, BATCHES = 25, CALLS = 100000 };

struct mosquitto {
	const char *id, *username, *address;
};

struct mosquitto_plugin_id_t {
	struct callback {
		MOSQ_FUNC_generic_callback function;
		void *user_data;
	} callbacks[EVENTS];
};

static mosquitto_plugin_id_t identifier;

static int completed_with;
static bool completed;

static void fail(const char *what)
{
	fprintf(stderr, "host: %s\n", what);
	exit(1);
}

static void *find(void *library, const char *name)
{
	void *found = dlsym(library, name);
	if (!found) fail("this is no plugin");
	return found;
}

/* Calls the callback of an event. Without one, the answer is "defer", as in a broker. */
static int call(int event, void *data)
{
	struct callback callback = identifier.callbacks[event];
	if (!callback.function) return MOSQ_ERR_PLUGIN_DEFER;
	return callback.function(event, data, callback.user_data);
}

/* The broker's functions, as far as the login of one client needs them. */

int mosquitto_callback_register(mosquitto_plugin_id_t *plugin, int event, MOSQ_FUNC_generic_callback function,
		const void *event_data, void *user_data)
{
	(void)event_data;
	if (event <= 0 || event >= EVENTS) return MOSQ_ERR_NOT_SUPPORTED;
	plugin->callbacks[event] = (struct callback){ function, user_data };
	return MOSQ_ERR_SUCCESS;
}

int mosquitto_callback_unregister(mosquitto_plugin_id_t *plugin, int event, MOSQ_FUNC_generic_callback function,
		const void *event_data)
{
	(void)event_data;
	(void)function;
	plugin->callbacks[event] = (struct callback){ NULL, NULL };
	return MOSQ_ERR_SUCCESS;
}

void mosquitto_log_printf(int level, const char *format, ...)
{
	if (level != MOSQ_LOG_ERR && level != MOSQ_LOG_WARNING) return;
	va_list arguments;
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
}

const char *mosquitto_client_address(const struct mosquitto *client) { return client->address; }
const char *mosquitto_client_id(const struct mosquitto *client) { return client->id; }
const char *mosquitto_client_username(const struct mosquitto *client) { return client->username; }

bool mosquitto_client_clean_session(const struct mosquitto *client)
{
	(void)client;
	return true;
}

int mosquitto_client_protocol_version(const struct mosquitto *client)
{
	(void)client;
	return 4;
}

/* No client is in the table of sessions: each login is a new CONNECT. */
struct mosquitto *mosquitto_client(const char *id)
{
	(void)id;
	return NULL;
}

void mosquitto_complete_basic_auth(const char *id, int result)
{
	(void)id;
	completed = true;
	completed_with = result;
}

/* The calls that are measured. */

static int check(struct mosquitto *client, const char *topic)
{
	struct mosquitto_evt_acl_check event = { .client = client, .topic = topic, .access = MOSQ_ACL_READ };
	return call(MOSQ_EVT_ACL_CHECK, &event);
}

static int login(struct mosquitto *client)
{
	char username[16], password[] = "a password";
	strcpy(username, client->username);
	struct mha_evt_basic_auth event = { .client = client, .username = username, .password = password };
	return call(MOSQ_EVT_BASIC_AUTH, &event);
}

static void tick_until_completed(void)
{
	for (int tick = 0; !completed; tick++) {
		if (tick == 5000) fail("a login was delayed and never completed");
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
		struct mha_evt_tick event = { 0 };
		call(MOSQ_EVT_TICK, &event);
	}
	if (completed_with != MOSQ_ERR_SUCCESS) fail("a delayed login was refused");
}

static char topics[TOPICS][24];
static int number;

static int check_one_topic(struct mosquitto *client) { return check(client, topics[0]); }

/* Goes through all topics with a stride, so that none of them is near the one before it in memory. */
static int check_many_topics(struct mosquitto *client)
{
	number = (number + 7919) % TOPICS;
	return check(client, topics[number]);
}

static int compare(const void *a, const void *b)
{
	return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

/* Returns the median of several batches, so that other work of the machine in some of them does not count. */
static void measure(const char *name, int (*ask)(struct mosquitto *), struct mosquitto *client)
{
	double batches[BATCHES];
	for (int batch = 0; batch < BATCHES; batch++) {
		struct timespec start, end;
		clock_gettime(CLOCK_MONOTONIC, &start);
		for (int i = 0; i < CALLS; i++) {
			if (ask(client) != MOSQ_ERR_SUCCESS) fail("a verdict that was remembered is none any more");
		}
		clock_gettime(CLOCK_MONOTONIC, &end);
		batches[batch] = ((end.tv_sec - start.tv_sec) * 1e9 + (end.tv_nsec - start.tv_nsec)) / CALLS;
	}
	qsort(batches, BATCHES, sizeof(double), compare);
	printf("%s %.1f\n", name, batches[BATCHES / 2]);
}

int main(int argc, char **argv)
{
	if (argc < 2) fail("expected PLUGIN.so [OPTION=VALUE]...");
	struct mosquitto_opt options[argc];
	for (int i = 2; i < argc; i++) {
		char *value = strchr(argv[i], '=');
		if (!value) fail("expected OPTION=VALUE");
		*value = 0;
		options[i - 2] = (struct mosquitto_opt){ argv[i], value + 1 };
	}

	void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
	if (!library) fail(dlerror());
	int (*version)(int, const int *);
	int (*init)(mosquitto_plugin_id_t *, void **, struct mosquitto_opt *, int);
	int (*cleanup)(void *, struct mosquitto_opt *, int);
	*(void **)&version = find(library, "mosquitto_plugin_version");
	*(void **)&init = find(library, "mosquitto_plugin_init");
	*(void **)&cleanup = find(library, "mosquitto_plugin_cleanup");
	if (version(3, (int[]){ 3, 4, 5 }) != 5) fail("no plugin of version 5");
	void *user_data = NULL;
	if (init(&identifier, &user_data, options, argc - 2) != MOSQ_ERR_SUCCESS) fail("the plugin does not start");

	struct mosquitto client = { .id = "bench-client-1", .username = "bench-user-1", .address = "192.0.2.1" };
	int code = login(&client);
	if (code == MHA_ERR_AUTH_DELAYED) {
		tick_until_completed();
	} else if (code != MOSQ_ERR_SUCCESS) {
		fail("a login was refused");
	}
	for (int i = 0; i < TOPICS; i++) {
		snprintf(topics[i], sizeof topics[i], "sensors/%05d/value", i);
		if (check(&client, topics[i]) != MOSQ_ERR_SUCCESS) fail("a topic was refused");
	}
	measure("one_topic", check_one_topic, &client);
	measure("many_topics", check_many_topics, &client);
	measure("login", login, &client);
	return cleanup(user_data, options, argc - 2);
}
