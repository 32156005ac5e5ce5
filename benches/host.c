/* What a broker of 2.1 is to a plugin, without its network: loads one and measures its callbacks.
 *
 *   host PLUGIN.so [OPTION=VALUE]...
 *
 * Prints, in nanoseconds, one topic check and one login whose verdicts the plugin remembers. Everything it
 * asks has to be allowed, at once or when it is completed; otherwise it ends with an error.
 */
#include <string.h>
#include <time.h>

#include "../tests/host/broker.h"

enum { TOPICS = 10000, BATCHES = 25, CALLS = 100000 };

static mosquitto_plugin_id_t identifier;

static int completed_with;
static bool completed;

static void complete(const char *id, int result)
{
	(void)id;
	completed = true;
	completed_with = result;
}

static void show_trouble(int level, const char *line)
{
	if (level == MOSQ_LOG_ERR || level == MOSQ_LOG_WARNING) fprintf(stderr, "%s\n", line);
}

/* What it measures. */

static int check(struct mosquitto *client, const char *topic)
{
	struct mosquitto_evt_acl_check event = { .client = client, .topic = topic, .access = MOSQ_ACL_READ };
	return call(&identifier, MOSQ_EVT_ACL_CHECK, &event);
}

static int login(struct mosquitto *client)
{
	char username[16], password[] = "a password";
	strcpy(username, client->username);
	struct mha_evt_basic_auth event = { .client = client, .username = username, .password = password };
	return call(&identifier, MOSQ_EVT_BASIC_AUTH, &event);
}

static void tick_until_completed(void)
{
	for (int tick = 0; !completed; tick++) {
		if (tick == 5000) fail("a login was delayed and never completed");
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
		struct mha_evt_tick event = { 0 };
		call(&identifier, MOSQ_EVT_TICK, &event);
	}
	if (completed_with != MOSQ_ERR_SUCCESS) fail("a delayed login was refused");
}

static char topics[TOPICS][24];
static int number;

static int check_one_topic(struct mosquitto *client) { return check(client, topics[0]); }

/* Strides through all topics, so that none of them is near the last one in memory. */
static int check_many_topics(struct mosquitto *client)
{
	number = (number + 7919) % TOPICS;
	return check(client, topics[number]);
}

static int compare(const void *a, const void *b)
{
	return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

/* The median of batches: what else the machine does in some of them does not count. */
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

	hooks.completing = complete;
	hooks.logging = show_trouble;
	struct plugin plugin = load(argv[1]);
	if (plugin.version(3, (int[]){ 3, 4, 5 }) != 5) fail("no plugin of version 5");
	void *user_data = NULL;
	if (plugin.init(&identifier, &user_data, options, argc - 2) != MOSQ_ERR_SUCCESS) fail("the plugin does not start");

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
	return plugin.cleanup(user_data, options, argc - 2);
}
