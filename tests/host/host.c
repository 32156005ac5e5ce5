/* A broker that calls its plugin in every order that the interface allows, and some that it does not.
 *
 *   host SCENARIO PLUGIN.so [OPTION=VALUE]... [-- [OPTION=VALUE]...]
 *
 * Behind -- stand the options of a second instance. The API that they name has to answer as tests/host.rs has it
 * answer. Ends with an error, and a line that says where, if the plugin does anything but what it should.
 */
#include <dirent.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "broker.h"

#define EXPECT(condition) \
	do { \
		if (!(condition)) expected(__LINE__, #condition); \
	} while (0)
#define EXPECT_CODE(call, code) expect_code(__LINE__, #call, call, code)

enum { OPTIONS = 32, ROUNDS = 100 };

struct options {
	struct mosquitto_opt list[OPTIONS];
	int count;
};

struct instance {
	mosquitto_plugin_id_t identifier;
	void *user_data;
};

struct client {
	struct mosquitto broker;
	bool is_parked, is_connected;
	int result;
	struct client *next;
};

static struct plugin plugin;
static const char *plugin_path;
static struct options given, given_to_second;
static pthread_t broker_thread;
static struct client *clients;
static char logged[1 << 20];
static size_t logged_length;

static void expected(int line, const char *condition)
{
	fprintf(stderr, "%stests/host/host.c, line %d: expected %s\n", logged, line, condition);
	exit(1);
}

static void expect_code(int line, const char *call, int code, int wanted)
{
	if (code == wanted) return;
	fprintf(stderr, "%stests/host/host.c, line %d: %s gives %d, expected %d\n", logged, line, call, code, wanted);
	exit(1);
}

/* The broker's side. */

static void only_on_the_brokers_thread(void) { EXPECT(pthread_equal(pthread_self(), broker_thread)); }
static void never(void) { EXPECT(!"a call of the broker's functions"); }

static void keep_line(int level, const char *line)
{
	(void)level;
	/* The oldest do not matter any more. */
	if (logged_length + strlen(line) + 2 > sizeof logged) logged_length = 0;
	logged_length += (size_t)snprintf(logged + logged_length, sizeof logged - logged_length, "%s\n", line);
}

static bool has_logged(const char *text) { return strstr(logged, text) != NULL; }

static const char *id_of(const struct client *client) { return client->broker.id ? client->broker.id : ""; }

static struct mosquitto *find_session(const char *id)
{
	for (struct client *client = clients; client; client = client->next) {
		if (client->is_connected && strcmp(id_of(client), id) == 0) return &client->broker;
	}
	return NULL;
}

static void complete(const char *id, int result)
{
	for (struct client *client = clients; client; client = client->next) {
		if (!client->is_parked || strcmp(id_of(client), id) != 0) continue;
		client->is_parked = false;
		client->is_connected = result == MOSQ_ERR_SUCCESS;
		client->result = result;
		return;
	}
}

static int start(struct instance *instance, struct options *options)
{
	*instance = (struct instance){ 0 };
	return plugin.init(&instance->identifier, &instance->user_data, options->list, options->count);
}

static bool has_callbacks(const struct instance *instance)
{
	for (int event = 0; event < EVENTS; event++) {
		if (instance->identifier.callbacks[event].function) return true;
	}
	return false;
}

static void stop(struct instance *instance)
{
	EXPECT_CODE(plugin.cleanup(instance->user_data, NULL, 0), MOSQ_ERR_SUCCESS);
	EXPECT(!has_callbacks(instance));
}

static struct client *new_client(const char *id, const char *username)
{
	struct client *client = calloc(1, sizeof *client);
	if (!client) fail("there is no memory");
	client->broker = (struct mosquitto){ .id = id, .username = username, .address = "192.0.2.1" };
	client->next = clients;
	clients = client;
	return client;
}

static int ask_login(struct instance *instance, struct client *client, const char *password)
{
	struct mha_evt_basic_auth event = { 0 };
	event.client = client ? &client->broker : NULL;
	event.username = client ? (char *)client->broker.username : NULL;
	event.password = (char *)password;
	return call(&instance->identifier, MOSQ_EVT_BASIC_AUTH, &event);
}

static void tick(struct instance *instance)
{
	struct mosquitto_evt_tick event = { 0 };
	EXPECT_CODE(call(&instance->identifier, MOSQ_EVT_TICK, &event), MOSQ_ERR_SUCCESS);
}

static void pause_ms(int ms) { nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000L }, NULL); }

/* Where another program runs this one, everything takes longer. */
static double paced(double seconds) { return getenv("MHA_LAUNCHER") ? seconds * 10 : seconds; }

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* The CONNECT of a client; gives what it ends with, also where that comes later. */
static int log_in(struct instance *instance, struct client *client, const char *password)
{
	client->is_connected = false;
	int code = ask_login(instance, client, password);
	if (code == MHA_ERR_AUTH_DELAYED) {
		EXPECT(IS_2_1);
		client->is_parked = true;
		for (double until = now() + paced(20); client->is_parked; pause_ms(1)) {
			EXPECT(now() < until);
			tick(instance);
		}
		return client->result;
	}
	client->is_connected = code == MOSQ_ERR_SUCCESS;
	return code;
}

static int check(struct instance *instance, struct client *client, const char *topic, int access)
{
	struct mosquitto_evt_acl_check event = { .topic = topic, .access = access };
	event.client = client ? &client->broker : NULL;
	return call(&instance->identifier, MOSQ_EVT_ACL_CHECK, &event);
}

static int disconnect(struct instance *instance, struct client *client)
{
	struct mosquitto_evt_disconnect event = { .client = client ? &client->broker : NULL };
	if (client) client->is_connected = false;
	return call(&instance->identifier, MOSQ_EVT_DISCONNECT, &event);
}

static void reload(struct instance *instance)
{
	struct mosquitto_evt_reload event = { 0 };
	int code = call(&instance->identifier, MOSQ_EVT_RELOAD, &event);
	EXPECT_CODE(code, IS_2_1 ? MOSQ_ERR_SUCCESS : MOSQ_ERR_PLUGIN_DEFER);
}

static int entries(const char *folder)
{
	DIR *directory = opendir(folder);
	if (!directory) fail("there is no /proc");
	int count = 0;
	while (readdir(directory)) count++;
	closedir(directory);
	return count;
}

static int threads(void) { return entries("/proc/self/task"); }
static int descriptors(void) { return entries("/proc/self/fd"); }

static const char *option(const char *name)
{
	for (int i = 0; i < given.count; i++) {
		if (strcmp(given.list[i].key, name) == 0) return given.list[i].value;
	}
	fail("an option is missing that the scenario needs");
	return NULL;
}

static char *file_text(const char *path)
{
	char *text = NULL;
	size_t size = 0;
	FILE *file = fopen(path, "r");
	if (!file || getdelim(&text, &size, 0, file) < 0 || fclose(file)) fail("a file cannot be read");
	return text;
}

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");
	if (!file || fputs(text, file) < 0 || fclose(file)) fail("a file cannot be written");
}

/* That it decides as the API does, and no more is open than that. */
static void works(struct instance *instance)
{
	struct client *good = new_client("good", "good"), *no = new_client("no", "no"), *gone = new_client("x", "gone");
	EXPECT_CODE(log_in(instance, good, "secret"), MOSQ_ERR_SUCCESS);
	EXPECT_CODE(log_in(instance, no, "secret"), MOSQ_ERR_AUTH);
	EXPECT_CODE(log_in(instance, gone, "secret"), MOSQ_ERR_AUTH);
	for (int access = MOSQ_ACL_READ; access <= MOSQ_ACL_SUBSCRIBE; access *= 2) {
		EXPECT_CODE(check(instance, good, "good", access), MOSQ_ERR_SUCCESS);
		EXPECT_CODE(check(instance, good, "no", access), MOSQ_ERR_ACL_DENIED);
		EXPECT_CODE(check(instance, good, "gone", access), MOSQ_ERR_ACL_DENIED);
	}
	EXPECT_CODE(disconnect(instance, good), MOSQ_ERR_SUCCESS);
}

/* Starting and stopping. */

static void does_not_start(struct options *options, const char *why)
{
	int threads_before = threads(), descriptors_before = descriptors();
	struct instance instance;
	logged[logged_length = 0] = 0;
	EXPECT(start(&instance, options) != MOSQ_ERR_SUCCESS);
	EXPECT(!instance.user_data && !has_callbacks(&instance));
	if (!has_logged(why)) expected(__LINE__, why);
	/* 2.1 calls it all the same. */
	stop(&instance);
	EXPECT(threads() == threads_before && descriptors() == descriptors_before);
}

static void versions(void)
{
	struct {
		int count, list[4], answer;
	} offers[] = {
		{ 0, { 5 }, -1 },
		{ -1, { 5 }, -1 },
		{ INT_MIN, { 5 }, -1 },
		{ 1, { 4 }, -1 },
		{ 1, { 5 }, 5 },
		{ 2, { 5, 6 }, 5 },
		{ 2, { 6, 5 }, 5 },
		{ 1, { 6 }, -1 },
		{ 4, { 5, 4, 3, 2 }, 5 },
		{ 4, { 2, 3, 4, 5 }, 5 },
		{ 3, { 2, 3, 4, 5 }, -1 },
		{ 4, { 0, -1, INT_MAX, INT_MIN }, -1 },
	};
	for (size_t i = 0; i < sizeof offers / sizeof *offers; i++) {
		EXPECT_CODE(plugin.version(offers[i].count, offers[i].list), offers[i].answer);
	}
	EXPECT_CODE(plugin.version(0, NULL), -1);
	EXPECT_CODE(plugin.version(3, NULL), -1);
}

static void no_options(void)
{
	const char *why = "there is nothing to decide with";
	does_not_start(&(struct options){ .count = 0 }, why);
	does_not_start(&(struct options){ .count = -1 }, why);
	for (int count = -1; count <= 3; count++) {
		struct instance instance = { 0 };
		EXPECT(plugin.init(&instance.identifier, &instance.user_data, NULL, count) != MOSQ_ERR_SUCCESS);
		EXPECT(!instance.user_data && !has_callbacks(&instance));
	}
	struct instance instance = { 0 };
	EXPECT(plugin.init(&instance.identifier, NULL, given.list, given.count) != MOSQ_ERR_SUCCESS);
	EXPECT(!has_callbacks(&instance));
}

static void bad_options(void)
{
	struct {
		struct mosquitto_opt option;
		const char *why;
	} bad[] = {
		{ { "no_such_option", "x" }, "no_such_option" },
		{ { "auth_urll", "http://127.0.0.1/" }, "auth_url" },
		{ { "acl_checks", "write,everything" }, "everything" },
		{ { "timeout", "soon" }, "soon" },
		{ { "timeout", "" }, "timeout" },
		{ { "timeout", NULL }, "timeout" },
		{ { "", "x" }, "plugin_opt_" },
		{ { NULL, "x" }, "plugin_opt_" },
		{ { NULL, NULL }, "plugin_opt_" },
		{ { "\xff", "x" }, "UTF-8" },
		{ { "timeout", "\xff" }, "UTF-8" },
		{ { "password_file", "/no/such/file" }, "/no/such/file" },
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct options options = given;
		options.list[options.count++] = bad[i].option;
		does_not_start(&options, bad[i].why);
	}
	struct instance instance;
	EXPECT_CODE(start(&instance, &given), MOSQ_ERR_SUCCESS);
	works(&instance);
	stop(&instance);
}

static void lacks_a_function(void) { does_not_start(&given, "has not all functions of a broker"); }

static void works_all_the_same(void)
{
	struct instance instance;
	EXPECT_CODE(start(&instance, &given), MOSQ_ERR_SUCCESS);
	works(&instance);
	reload(&instance);
	works(&instance);
	stop(&instance);
}

static int refused_event;
static bool has_refused;

static int refuse_one(int event)
{
	if (event != refused_event) return MOSQ_ERR_SUCCESS;
	has_refused = true;
	return MOSQ_ERR_NOMEM;
}

static void refused_callbacks(void)
{
	int refused = 0;
	for (refused_event = 1; refused_event < EVENTS; refused_event++) {
		struct instance instance;
		has_refused = false;
		hooks.registering = refuse_one;
		int code = start(&instance, &given);
		hooks.registering = NULL;
		if (has_refused) {
			EXPECT_CODE(code, MOSQ_ERR_NOMEM);
			EXPECT(!instance.user_data && !has_callbacks(&instance));
			refused++;
		} else {
			EXPECT_CODE(code, MOSQ_ERR_SUCCESS);
			works(&instance);
		}
		stop(&instance);
	}
	/* Logins, topics, reloads, ticks, and who goes. */
	EXPECT(refused == (IS_2_1 ? 6 : 5));
}

static void the_same_file_twice(void)
{
	struct instance instance;
	EXPECT_CODE(start(&instance, &given), MOSQ_ERR_SUCCESS);
	void *second = NULL;
	EXPECT_CODE(plugin.init(&instance.identifier, &second, given.list, given.count), MOSQ_ERR_ALREADY_EXISTS);
	EXPECT(!second && has_logged("another plugin line names this same file"));
	/* The first is none the worse for it. */
	works(&instance);
	stop(&instance);
}

static void again_and_again(bool closes_library)
{
	int threads_before = 0, descriptors_before = 0;
	for (int round = 0; round < ROUNDS; round++) {
		if (closes_library && round > 0) {
			EXPECT(dlclose(plugin.library) == 0);
			plugin = load(plugin_path);
		}
		struct instance instance;
		EXPECT_CODE(start(&instance, &given), MOSQ_ERR_SUCCESS);
		struct client *good = new_client("good", "good");
		EXPECT_CODE(log_in(&instance, good, "secret"), MOSQ_ERR_SUCCESS);
		EXPECT_CODE(check(&instance, good, "good", MOSQ_ACL_READ), MOSQ_ERR_SUCCESS);
		EXPECT_CODE(check(&instance, good, "no", MOSQ_ACL_READ), MOSQ_ERR_ACL_DENIED);
		stop(&instance);
		if (round == 0) {
			threads_before = threads();
			descriptors_before = descriptors();
		}
		good->is_connected = false;
		logged[logged_length = 0] = 0;
	}
	EXPECT(threads() == threads_before && descriptors() == descriptors_before);
}

static void starts_and_stops(void) { again_and_again(false); }
static void starts_and_stops_with_dlclose(void) { again_and_again(true); }

static void stops_with_questions_in_flight(void)
{
	int threads_before = threads(), descriptors_before = descriptors();
	struct instance instance;
	EXPECT_CODE(start(&instance, &given), MOSQ_ERR_SUCCESS);
	EXPECT(threads() == threads_before);
	struct client *good = new_client("good", "good");
	EXPECT_CODE(log_in(&instance, good, "secret"), MOSQ_ERR_SUCCESS);
	static char names[50][16];
	for (int i = 0; i < (IS_2_1 ? 50 : 2); i++) {
		snprintf(names[i], sizeof names[i], "hang-%d", i);
		int code = ask_login(&instance, new_client(names[i], names[i]), "secret");
		EXPECT_CODE(code, IS_2_1 ? MHA_ERR_AUTH_DELAYED : MOSQ_ERR_AUTH);
	}
	EXPECT_CODE(check(&instance, good, "hang", MOSQ_ACL_WRITE), MOSQ_ERR_ACL_DENIED);
	/* This one is answered when everything is over. */
	EXPECT_CODE(check(&instance, good, "slow", MOSQ_ACL_WRITE), MOSQ_ERR_ACL_DENIED);
	EXPECT(threads() > threads_before);
	double begin = now();
	stop(&instance);
	EXPECT(now() - begin < paced(2));
	EXPECT(threads() == threads_before && descriptors() == descriptors_before);
	hooks.called = never;
	pause_ms((int)paced(1500));
}

static void two_instances(void)
{
	struct instance one, other;
	EXPECT_CODE(start(&one, &given), MOSQ_ERR_SUCCESS);
	EXPECT_CODE(start(&other, &given_to_second), MOSQ_ERR_SUCCESS);
	struct client *local = new_client("c", "local"), *same_local = new_client("c", "local");
	struct client *good = new_client("d", "good"), *same_good = new_client("d", "good");
	/* The second time from memory. */
	for (int round = 0; round < 2; round++) {
		EXPECT_CODE(log_in(&one, local, "correct horse"), MOSQ_ERR_SUCCESS);
		EXPECT_CODE(log_in(&other, same_local, "correct horse"), MOSQ_ERR_AUTH);
		EXPECT_CODE(log_in(&one, good, "secret"), MOSQ_ERR_SUCCESS);
		EXPECT_CODE(log_in(&other, same_good, "secret"), MOSQ_ERR_AUTH);
		EXPECT_CODE(check(&one, local, "no", MOSQ_ACL_WRITE), MOSQ_ERR_SUCCESS);
		EXPECT_CODE(check(&other, same_local, "no", MOSQ_ACL_WRITE), MOSQ_ERR_ACL_DENIED);
		EXPECT_CODE(check(&one, good, "good", MOSQ_ACL_WRITE), MOSQ_ERR_SUCCESS);
		EXPECT_CODE(check(&other, same_good, "good", MOSQ_ACL_WRITE), MOSQ_ERR_ACL_DENIED);
		tick(&one);
		tick(&other);
	}
	stop(&one);
	EXPECT_CODE(log_in(&other, same_local, "correct horse"), MOSQ_ERR_AUTH);
	EXPECT_CODE(check(&other, same_good, "good", MOSQ_ACL_WRITE), MOSQ_ERR_ACL_DENIED);
	EXPECT_CODE(start(&one, &given), MOSQ_ERR_SUCCESS);
	stop(&other);
	works(&one);
	stop(&one);
}

/* Reloads. */

static void failed_reloads(void)
{
	struct instance instance;
	const char *path = option("config_file");
	char *text = file_text(path);
	EXPECT_CODE(start(&instance, &given), MOSQ_ERR_SUCCESS);
	reload(&instance);
	struct client *local = new_client("c", "local"), *wrong = new_client("w", "local");
	EXPECT_CODE(log_in(&instance, local, "correct horse"), MOSQ_ERR_SUCCESS);
	int threads_before = 0, descriptors_before = 0;
	for (int round = 0; round < 20; round++) {
		if (round % 2) {
			EXPECT(remove(path) == 0);
		} else {
			write_file(path, "no_such_option = \"x\"\n");
		}
		reload(&instance);
		EXPECT(has_logged("Nothing was taken over"));
		/* The broker asks about its session once more; anything but this would disconnect it. */
		EXPECT_CODE(ask_login(&instance, local, "correct horse"), MOSQ_ERR_SUCCESS);
		tick(&instance);
		EXPECT_CODE(log_in(&instance, wrong, "wrong"), MOSQ_ERR_AUTH);
		EXPECT_CODE(check(&instance, local, "no", MOSQ_ACL_WRITE), MOSQ_ERR_SUCCESS);
		works(&instance);
		if (round == 1) {
			threads_before = threads();
			descriptors_before = descriptors();
		}
	}
	EXPECT(threads() == threads_before && descriptors() == descriptors_before);
	/* A file that leaves nothing to ask about topics: their checks go, and come back with the next. */
	write_file(path, "timeout = \"1s\"\n");
	reload(&instance);
	EXPECT(!instance.identifier.callbacks[MOSQ_EVT_ACL_CHECK].function);
	write_file(path, text);
	free(text);
	reload(&instance);
	works(&instance);
	stop(&instance);
}

/* What is in events. */

static void odd_logins(void)
{
	struct instance instance;
	EXPECT_CODE(start(&instance, &given), MOSQ_ERR_SUCCESS);
	struct {
		const char *id, *username, *address, *password;
		int code;
	} logins[] = {
		{ "c", NULL, "192.0.2.1", NULL, MOSQ_ERR_PLUGIN_DEFER },
		{ "c", "", "192.0.2.1", NULL, MOSQ_ERR_PLUGIN_DEFER },
		{ NULL, NULL, NULL, NULL, MOSQ_ERR_PLUGIN_DEFER },
		{ "c", NULL, "192.0.2.1", "secret", MOSQ_ERR_AUTH },
		{ "c", "", "192.0.2.1", "", MOSQ_ERR_AUTH },
		{ "c", "good", "192.0.2.1", NULL, MOSQ_ERR_SUCCESS },
		{ "c", "good", "192.0.2.1", "", MOSQ_ERR_SUCCESS },
		{ NULL, "good", NULL, NULL, MOSQ_ERR_SUCCESS },
		{ NULL, "no", NULL, NULL, MOSQ_ERR_AUTH },
		{ "", "no", "", "", MOSQ_ERR_AUTH },
		{ NULL, "gone", NULL, NULL, MOSQ_ERR_AUTH },
		{ "c", "\xff", "192.0.2.1", "secret", MOSQ_ERR_AUTH },
		{ "c", "good", "192.0.2.1", "\xff", MOSQ_ERR_AUTH },
		{ "\xff", "good", "192.0.2.1", "secret", MOSQ_ERR_AUTH },
		{ "c", "good", "\xff", "secret", MOSQ_ERR_AUTH },
		/* Of a local user nobody is asked. */
		{ "c", "local", "192.0.2.1", "correct horse", MOSQ_ERR_SUCCESS },
		{ NULL, "local", NULL, NULL, MOSQ_ERR_AUTH },
		{ "c", "local", "192.0.2.1", "", MOSQ_ERR_AUTH },
		{ "c", "local", "192.0.2.1", "\xff", MOSQ_ERR_AUTH },
	};
	for (size_t i = 0; i < sizeof logins / sizeof *logins; i++) {
		struct client *client = new_client(logins[i].id, logins[i].username);
		client->broker.address = logins[i].address;
		EXPECT_CODE(log_in(&instance, client, logins[i].password), logins[i].code);
		client->is_connected = false;
	}
	EXPECT_CODE(ask_login(&instance, NULL, NULL), MOSQ_ERR_PLUGIN_DEFER);
	EXPECT_CODE(ask_login(&instance, NULL, "secret"), MOSQ_ERR_AUTH);
	EXPECT_CODE(call(&instance.identifier, MOSQ_EVT_BASIC_AUTH, NULL), MOSQ_ERR_AUTH);
	works(&instance);
	stop(&instance);
}

static void odd_topic_checks(void)
{
	struct instance instance;
	EXPECT_CODE(start(&instance, &given), MOSQ_ERR_SUCCESS);
	struct {
		const char *id, *username, *address, *topic;
		int code;
	} checks[] = {
		{ "c", "good", "192.0.2.1", "good", MOSQ_ERR_SUCCESS },
		{ "c", "good", "192.0.2.1", "", MOSQ_ERR_SUCCESS },
		{ NULL, "good", NULL, "good", MOSQ_ERR_SUCCESS },
		{ NULL, "good", NULL, "no", MOSQ_ERR_ACL_DENIED },
		{ "c", "good", "192.0.2.1", NULL, MOSQ_ERR_ACL_DENIED },
		{ "c", "good", "192.0.2.1", "\xff", MOSQ_ERR_ACL_DENIED },
		{ "c", "good", "\xff", "good", MOSQ_ERR_ACL_DENIED },
		{ "c", "\xff", "192.0.2.1", "good", MOSQ_ERR_ACL_DENIED },
		{ "\xff", "good", "192.0.2.1", "good", MOSQ_ERR_ACL_DENIED },
		{ "c", NULL, "192.0.2.1", "good", MOSQ_ERR_ACL_DENIED },
		{ "c", "", "192.0.2.1", "good", MOSQ_ERR_ACL_DENIED },
		{ NULL, NULL, NULL, NULL, MOSQ_ERR_ACL_DENIED },
		{ "+", "good", "192.0.2.1", "good", MOSQ_ERR_ACL_DENIED },
		{ "c", "#", "192.0.2.1", "good", MOSQ_ERR_ACL_DENIED },
		/* A local user has rights only where the password was checked. */
		{ "c", "local", "192.0.2.1", "no", MOSQ_ERR_ACL_DENIED },
	};
	for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
		struct client *client = new_client(checks[i].id, checks[i].username);
		client->broker.address = checks[i].address;
		for (int access = MOSQ_ACL_READ; access <= MOSQ_ACL_SUBSCRIBE; access *= 2) {
			EXPECT_CODE(check(&instance, client, checks[i].topic, access), checks[i].code);
		}
	}
	EXPECT_CODE(check(&instance, NULL, "good", MOSQ_ACL_READ), MOSQ_ERR_ACL_DENIED);
	EXPECT_CODE(call(&instance.identifier, MOSQ_EVT_ACL_CHECK, NULL), MOSQ_ERR_ACL_DENIED);

	struct client *good = new_client("c", "good"), *local = new_client("l", "local");
	EXPECT_CODE(log_in(&instance, local, "correct horse"), MOSQ_ERR_SUCCESS);
	int accesses[] = { 0, 3, 5, 6, 7, 9, 16, 255, 257, -1, INT_MAX, INT_MIN };
	for (size_t i = 0; i < sizeof accesses / sizeof *accesses; i++) {
		EXPECT_CODE(check(&instance, good, "good", accesses[i]), MOSQ_ERR_ACL_DENIED);
		EXPECT_CODE(check(&instance, local, "good", accesses[i]), MOSQ_ERR_ACL_DENIED);
	}
	/* Who wants less may, whoever it is. */
	EXPECT_CODE(check(&instance, good, "never subscribed", 8), MOSQ_ERR_SUCCESS);
	EXPECT_CODE(check(&instance, good, NULL, 8), MOSQ_ERR_SUCCESS);
	EXPECT_CODE(check(&instance, NULL, NULL, 8), MOSQ_ERR_SUCCESS);
	works(&instance);
	stop(&instance);
}

/* Callbacks are told which event it is, and none of them may take another's word for an answer of its own. */
static void odd_event_numbers(void)
{
	struct instance instance;
	EXPECT_CODE(start(&instance, &given), MOSQ_ERR_SUCCESS);
	struct client *good = new_client("c", "good"), *no = new_client("n", "no");
	EXPECT_CODE(log_in(&instance, good, "secret"), MOSQ_ERR_SUCCESS);
	EXPECT_CODE(log_in(&instance, no, "secret"), MOSQ_ERR_AUTH);
	int events[] = { 0, -1, 6, 11, 27, 29, 255, INT_MAX, INT_MIN };
	for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
		struct callback *callbacks = instance.identifier.callbacks, callback = callbacks[MOSQ_EVT_BASIC_AUTH];
		struct mha_evt_basic_auth login = { .client = &no->broker, .username = "no", .password = "secret" };
		EXPECT_CODE(callback.function(events[i], &login, callback.user_data), MOSQ_ERR_AUTH);
		callback = callbacks[MOSQ_EVT_ACL_CHECK];
		struct mosquitto_evt_acl_check check = { .client = &good->broker, .topic = "no", .access = MOSQ_ACL_READ };
		EXPECT_CODE(callback.function(events[i], &check, callback.user_data), MOSQ_ERR_ACL_DENIED);
		callback = callbacks[MOSQ_EVT_DISCONNECT];
		struct mosquitto_evt_disconnect gone = { .client = &no->broker };
		EXPECT_CODE(callback.function(events[i], &gone, callback.user_data), MOSQ_ERR_SUCCESS);
		callback = callbacks[MOSQ_EVT_TICK];
		struct mosquitto_evt_tick tick = { 0 };
		EXPECT_CODE(callback.function(events[i], &tick, callback.user_data), MOSQ_ERR_SUCCESS);
	}
	works(&instance);
	stop(&instance);
}

/* Who goes twice, or was never there; ticks and reloads before anybody has come. */
static void odd_orders(void)
{
	struct instance instance;
	EXPECT_CODE(start(&instance, &given), MOSQ_ERR_SUCCESS);
	tick(&instance);
	EXPECT_CODE(call(&instance.identifier, MOSQ_EVT_TICK, NULL), MOSQ_ERR_SUCCESS);
	EXPECT_CODE(call(&instance.identifier, MOSQ_EVT_DISCONNECT, NULL), MOSQ_ERR_SUCCESS);
	EXPECT_CODE(disconnect(&instance, NULL), MOSQ_ERR_SUCCESS);
	EXPECT_CODE(disconnect(&instance, new_client(NULL, NULL)), MOSQ_ERR_SUCCESS);
	EXPECT_CODE(disconnect(&instance, new_client("x", NULL)), MOSQ_ERR_SUCCESS);
	EXPECT_CODE(disconnect(&instance, new_client("\xff", "\xff")), MOSQ_ERR_SUCCESS);
	for (int i = 0; i < 3; i++) reload(&instance);

	struct client *local = new_client("l", "local"), *same = new_client("l", "local");
	EXPECT_CODE(disconnect(&instance, local), MOSQ_ERR_SUCCESS);
	EXPECT_CODE(log_in(&instance, local, "correct horse"), MOSQ_ERR_SUCCESS);
	EXPECT_CODE(check(&instance, local, "no", MOSQ_ACL_SUBSCRIBE), MOSQ_ERR_SUCCESS);
	/* Another connection of that id, let in by nobody. */
	EXPECT_CODE(check(&instance, same, "no", MOSQ_ACL_SUBSCRIBE), MOSQ_ERR_ACL_DENIED);
	EXPECT_CODE(disconnect(&instance, same), MOSQ_ERR_SUCCESS);
	EXPECT_CODE(check(&instance, local, "no", MOSQ_ACL_SUBSCRIBE), MOSQ_ERR_SUCCESS);
	EXPECT_CODE(disconnect(&instance, local), MOSQ_ERR_SUCCESS);
	EXPECT_CODE(disconnect(&instance, local), MOSQ_ERR_SUCCESS);
	tick(&instance);
	EXPECT_CODE(check(&instance, local, "no", MOSQ_ACL_SUBSCRIBE), MOSQ_ERR_ACL_DENIED);
	works(&instance);
	stop(&instance);
}

/* Ticks. */

static struct mosquitto_evt_tick tick_with(struct instance *instance)
{
	struct mosquitto_evt_tick event, before;
	memset(&event, 0x5a, sizeof event);
	event.next_s = 0;
	((struct mha_evt_tick *)&event)->next_ms = 0;
	before = event;
	EXPECT_CODE(call(&instance->identifier, MOSQ_EVT_TICK, &event), MOSQ_ERR_SUCCESS);
	/* Nothing is written but, maybe, the one field. */
	((struct mha_evt_tick *)&before)->next_ms = ((struct mha_evt_tick *)&event)->next_ms;
	EXPECT(memcmp(&event, &before, sizeof event) == 0);
	return event;
}

static long next_ms(struct mosquitto_evt_tick event) { return ((struct mha_evt_tick *)&event)->next_ms; }

static void ignore_signal(int signal) { (void)signal; }

/* Others are kept from no tick: it is wanted early only where nothing else brings it about. */
static void ticks(void)
{
	for (int can_wake = 1; can_wake >= 0; can_wake--) {
		if (!can_wake) signal(SIGWINCH, ignore_signal);
		struct instance instance;
		EXPECT_CODE(start(&instance, &given), MOSQ_ERR_SUCCESS);
		EXPECT(next_ms(tick_with(&instance)) == 0);
		struct client *client = new_client("hang", "hang");
		int code = ask_login(&instance, client, "secret");
		client->is_parked = code == MHA_ERR_AUTH_DELAYED;
		EXPECT(next_ms(tick_with(&instance)) == (client->is_parked && !can_wake ? 1 : 0));
		for (double until = now() + paced(20); client->is_parked; pause_ms(1)) {
			EXPECT(now() < until);
			tick_with(&instance);
		}
		EXPECT(code == MOSQ_ERR_AUTH || client->result == MOSQ_ERR_AUTH);
		EXPECT(next_ms(tick_with(&instance)) == 0);
		stop(&instance);
	}
}

/* Calls from inside the broker's own functions, which it makes for wills, sessions that end, and its log. */

static struct instance *called_back;
static struct client *subscriber;
static int depth, lines, completions, kicks;

static void enter(void)
{
	depth++;
	EXPECT(depth < 4);
}

static void log_to_subscriber(int level, const char *line)
{
	enter();
	keep_line(level, line);
	lines++;
	EXPECT_CODE(check(called_back, subscriber, "$SYS/broker/log/no", MOSQ_ACL_READ), MOSQ_ERR_ACL_DENIED);
	depth--;
}

/* Worse than any broker: each line is the cause of the next. */
static void log_in_circles(int level, const char *line)
{
	enter();
	keep_line(level, line);
	lines++;
	EXPECT_CODE(check(called_back, subscriber, "no", MOSQ_ACL_READ), MOSQ_ERR_ACL_DENIED);
	depth--;
}

static void take_over(struct client *client)
{
	enter();
	EXPECT_CODE(check(called_back, client, "good", MOSQ_ACL_WRITE), MOSQ_ERR_SUCCESS);
	EXPECT_CODE(check(called_back, client, "no", MOSQ_ACL_WRITE), MOSQ_ERR_ACL_DENIED);
	EXPECT_CODE(check(called_back, subscriber, "good", MOSQ_ACL_READ), MOSQ_ERR_SUCCESS);
	depth--;
}

static void complete_and_call_back(const char *id, int result)
{
	completions++;
	complete(id, result);
	struct mosquitto *session = find_session(id);
	if (session) take_over((struct client *)session);
}

static void kick_and_call_back(const char *name)
{
	kicks++;
	for (struct client *client = clients; client; client = client->next) {
		if (!client->is_connected || strcmp(IS_2_1 ? client->broker.id : client->broker.username, name) != 0) continue;
		take_over(client);
		EXPECT_CODE(disconnect(called_back, client), MOSQ_ERR_SUCCESS);
	}
}

static void calls_back(void)
{
	struct instance instance;
	EXPECT_CODE(start(&instance, &given), MOSQ_ERR_SUCCESS);
	called_back = &instance;
	subscriber = new_client("subscriber", "good");
	EXPECT_CODE(log_in(&instance, subscriber, "secret"), MOSQ_ERR_SUCCESS);
	hooks.logging = log_to_subscriber;
	hooks.completing = complete_and_call_back;
	hooks.kicking = kick_and_call_back;
	works(&instance);
	/* The API says yes once, and no when it is asked again. */
	struct client *revoked = new_client("r", "once");
	EXPECT_CODE(log_in(&instance, revoked, "secret"), MOSQ_ERR_SUCCESS);
	reload(&instance);
	EXPECT_CODE(ask_login(&instance, revoked, "secret"), MOSQ_ERR_SUCCESS);
	for (double until = now() + paced(20); revoked->is_connected; pause_ms(1)) {
		EXPECT(now() < until);
		tick(&instance);
	}
	EXPECT(kicks == 1 && (completions > 0) == IS_2_1 && lines > 3);
	hooks.logging = log_in_circles;
	lines = 0;
	EXPECT_CODE(check(&instance, subscriber, "no more", MOSQ_ACL_READ), MOSQ_ERR_ACL_DENIED);
	EXPECT(lines > 10 && lines < 200);
	stop(&instance);
}

/* The HTTP listener of 2.1 calls on a thread of its own. */

static atomic_bool has_ended;

static void *ask_on_another_thread(void *instance)
{
	struct client client = { .broker = { .id = "http-api", .username = "slow" } };
	EXPECT_CODE(ask_login(instance, &client, "secret"), MOSQ_ERR_SUCCESS);
	client.broker.username = "no";
	EXPECT_CODE(ask_login(instance, &client, "secret"), MOSQ_ERR_AUTH);
	client.broker.username = "good";
	EXPECT_CODE(check(instance, &client, "slow/2", MOSQ_ACL_READ), MOSQ_ERR_SUCCESS);
	for (int i = 0; i < 1000; i++) {
		EXPECT_CODE(check(instance, &client, "good", MOSQ_ACL_READ), MOSQ_ERR_SUCCESS);
		EXPECT_CODE(check(instance, &client, "no", MOSQ_ACL_READ), MOSQ_ERR_ACL_DENIED);
	}
	has_ended = true;
	return NULL;
}

static void two_threads(void)
{
	struct instance instance;
	EXPECT_CODE(start(&instance, &given), MOSQ_ERR_SUCCESS);
	pthread_t thread;
	if (pthread_create(&thread, NULL, ask_on_another_thread, &instance) != 0) fail("there is no thread");
	pause_ms(100);
	double begin = now();
	works(&instance);
	EXPECT(now() - begin < paced(0.7));
	struct client *good = new_client("c", "good");
	EXPECT_CODE(log_in(&instance, good, "secret"), MOSQ_ERR_SUCCESS);
	while (!has_ended) {
		EXPECT_CODE(check(&instance, good, "good", MOSQ_ACL_WRITE), MOSQ_ERR_SUCCESS);
		EXPECT_CODE(check(&instance, good, "no", MOSQ_ACL_WRITE), MOSQ_ERR_ACL_DENIED);
		tick(&instance);
		reload(&instance);
	}
	pthread_join(thread, NULL);
	stop(&instance);
}

static const struct {
	const char *name;
	void (*run)(void);
} scenarios[] = {
#define SCENARIO(name) { #name, name }
	SCENARIO(versions),
	SCENARIO(no_options),
	SCENARIO(bad_options),
	SCENARIO(lacks_a_function),
	SCENARIO(works_all_the_same),
	SCENARIO(refused_callbacks),
	SCENARIO(the_same_file_twice),
	SCENARIO(starts_and_stops),
	SCENARIO(starts_and_stops_with_dlclose),
	SCENARIO(stops_with_questions_in_flight),
	SCENARIO(two_instances),
	SCENARIO(failed_reloads),
	SCENARIO(odd_logins),
	SCENARIO(odd_topic_checks),
	SCENARIO(odd_event_numbers),
	SCENARIO(odd_orders),
	SCENARIO(ticks),
	SCENARIO(calls_back),
	SCENARIO(two_threads),
};

int main(int argc, char **argv)
{
	if (argc < 3) fail("expected SCENARIO PLUGIN.so [OPTION=VALUE]... [-- [OPTION=VALUE]...]");
	struct options *options = &given;
	for (int i = 3; i < argc; i++) {
		if (strcmp(argv[i], "--") == 0) {
			options = &given_to_second;
			continue;
		}
		char *value = strchr(argv[i], '=');
		/* A scenario adds one of its own. */
		if (!value || options->count == OPTIONS - 1) fail("expected OPTION=VALUE");
		*value = 0;
		options->list[options->count++] = (struct mosquitto_opt){ argv[i], value + 1 };
	}
	broker_thread = pthread_self();
	hooks.called = only_on_the_brokers_thread;
	hooks.logging = keep_line;
	hooks.completing = complete;
	hooks.finding = find_session;
	plugin_path = argv[2];
	plugin = load(plugin_path);
	for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
		if (strcmp(scenarios[i].name, argv[1]) != 0) continue;
		scenarios[i].run();
		while (clients) {
			struct client *client = clients;
			clients = client->next;
			free(client);
		}
		return 0;
	}
	fail("there is no such scenario");
}
