/* A plugin that allows everything. It shows the cost of the broker alone and the least that any plugin adds. With the
 * option `idle_thread` it has a thread that does nothing, which by itself makes each system call and each malloc of the
 * process slower. */
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>

static mosquitto_plugin_id_t *plugin;
static pthread_t thread;
static int has_thread;

static void *idle(void *unused)
{
	for (;;) pause();
	return unused;
}

static int allow(int event, void *data, void *user_data)
{
	(void)event;
	(void)data;
	(void)user_data;
	return MOSQ_ERR_SUCCESS;
}

int mosquitto_plugin_version(int count, const int *versions)
{
	for (int i = 0; i < count; i++) {
		if (versions[i] == 5) return 5;
	}
	return -1;
}

int mosquitto_plugin_init(mosquitto_plugin_id_t *identifier, void **user_data, struct mosquitto_opt *options,
		int option_count)
{
	(void)user_data;
	for (int i = 0; i < option_count; i++) {
		if (strcmp(options[i].key, "idle_thread") == 0) has_thread = pthread_create(&thread, NULL, idle, NULL) == 0;
	}
	plugin = identifier;
	int code = mosquitto_callback_register(plugin, MOSQ_EVT_BASIC_AUTH, allow, NULL, NULL);
	return code ? code : mosquitto_callback_register(plugin, MOSQ_EVT_ACL_CHECK, allow, NULL, NULL);
}

int mosquitto_plugin_cleanup(void *user_data, struct mosquitto_opt *options, int option_count)
{
	(void)user_data;
	(void)options;
	(void)option_count;
	if (has_thread) {
		pthread_cancel(thread);
		pthread_join(thread, NULL);
	}
	mosquitto_callback_unregister(plugin, MOSQ_EVT_BASIC_AUTH, allow, NULL);
	mosquitto_callback_unregister(plugin, MOSQ_EVT_ACL_CHECK, allow, NULL);
	return MOSQ_ERR_SUCCESS;
}
