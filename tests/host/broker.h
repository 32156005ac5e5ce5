/* What a broker is to a plugin, without its network: the functions that it offers, and how it loads and calls
 * a plugin. What a program wants to see of it, it hooks into.
 *
 * It is one of 2.1. With -DIS_2_1=0 it is one of 2.0, which knows fewer events; a function that a broker has not
 * is taken away by another name (-Dmosquitto_client=no_mosquitto_client).
 */
#ifndef FAKE_BROKER_H
#define FAKE_BROKER_H

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "mosquitto_http_auth.h"

#ifndef IS_2_1
#define IS_2_1 1
#endif

enum { EVENTS = IS_2_1 ? 31 : 11 };

struct mosquitto {
	const char *id, *username, *address;
	bool is_durable;
};

/* What init is given as its name: one line `plugin` in mosquitto.conf. */
struct mosquitto_plugin_id_t {
	struct callback {
		MOSQ_FUNC_generic_callback function;
		void *user_data;
	} callbacks[EVENTS];
};

struct plugin {
	int (*version)(int count, const int *versions);
	int (*init)(mosquitto_plugin_id_t *, void **user_data, struct mosquitto_opt *, int count);
	int (*cleanup)(void *user_data, struct mosquitto_opt *, int count);
	void *library;
};

/* What happens in the broker's functions; NULL: nothing. */
static struct {
	/* Every call of one of them. */
	void (*called)(void);
	/* What a registration is answered with. */
	int (*registering)(int event);
	void (*logging)(int level, const char *line);
	void (*completing)(const char *id, int result);
	/* Whom it knows by this id. */
	struct mosquitto *(*finding)(const char *id);
	void (*kicking)(const char *name);
} hooks;

static void fail(const char *what)
{
	fprintf(stderr, "host: %s\n", what);
	exit(1);
}

static struct plugin load(const char *path)
{
	struct plugin plugin = { .library = dlopen(path, RTLD_NOW | RTLD_LOCAL) };
	if (!plugin.library) fail(dlerror());
	*(void **)&plugin.version = dlsym(plugin.library, "mosquitto_plugin_version");
	*(void **)&plugin.init = dlsym(plugin.library, "mosquitto_plugin_init");
	*(void **)&plugin.cleanup = dlsym(plugin.library, "mosquitto_plugin_cleanup");
	if (!plugin.version || !plugin.init || !plugin.cleanup) fail("this is no plugin");
	return plugin;
}

/* Calls what is registered for an event. A broker takes no answer for "not my business". */
static int call(mosquitto_plugin_id_t *identifier, int event, void *data)
{
	struct callback callback = identifier->callbacks[event];
	if (!callback.function) return MOSQ_ERR_PLUGIN_DEFER;
	return callback.function(event, data, callback.user_data);
}

/* The broker's functions. */

static void note_call(void)
{
	if (hooks.called) hooks.called();
}

int mosquitto_callback_register(mosquitto_plugin_id_t *identifier, int event, MOSQ_FUNC_generic_callback function,
		const void *event_data, void *user_data)
{
	(void)event_data;
	note_call();
	if (event <= 0 || event >= EVENTS) return MOSQ_ERR_NOT_SUPPORTED;
	if (identifier->callbacks[event].function) return MOSQ_ERR_ALREADY_EXISTS;
	int code = hooks.registering ? hooks.registering(event) : MOSQ_ERR_SUCCESS;
	if (code == MOSQ_ERR_SUCCESS) identifier->callbacks[event] = (struct callback){ function, user_data };
	return code;
}

int mosquitto_callback_unregister(mosquitto_plugin_id_t *identifier, int event, MOSQ_FUNC_generic_callback function,
		const void *event_data)
{
	(void)event_data;
	note_call();
	if (event <= 0 || event >= EVENTS) return MOSQ_ERR_NOT_SUPPORTED;
	if (identifier->callbacks[event].function != function) return MOSQ_ERR_NOT_FOUND;
	identifier->callbacks[event] = (struct callback){ NULL, NULL };
	return MOSQ_ERR_SUCCESS;
}

void mosquitto_log_printf(int level, const char *format, ...)
{
	char line[1024];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(line, sizeof line, format, arguments);
	va_end(arguments);
	note_call();
	if (hooks.logging) hooks.logging(level, line);
}

const char *mosquitto_client_address(const struct mosquitto *client) { return client->address; }
const char *mosquitto_client_id(const struct mosquitto *client) { return client->id; }
const char *mosquitto_client_username(const struct mosquitto *client) { return client->username; }
bool mosquitto_client_clean_session(const struct mosquitto *client) { return !client->is_durable; }

int mosquitto_client_protocol_version(const struct mosquitto *client)
{
	(void)client;
	return 4;
}

static int kick(const char *name)
{
	note_call();
	if (hooks.kicking) hooks.kicking(name);
	return MOSQ_ERR_SUCCESS;
}

int mosquitto_kick_client_by_clientid(const char *id, bool with_will)
{
	(void)with_will;
	return kick(id);
}

int mosquitto_kick_client_by_username(const char *username, bool with_will)
{
	(void)with_will;
	return kick(username);
}

int mosquitto_plugin_set_info(mosquitto_plugin_id_t *identifier, const char *name, const char *version)
{
	(void)identifier;
	(void)name;
	(void)version;
	note_call();
	return MOSQ_ERR_SUCCESS;
}

struct mosquitto *mosquitto_client(const char *id)
{
	note_call();
	return hooks.finding ? hooks.finding(id) : NULL;
}

void mosquitto_complete_basic_auth(const char *id, int result)
{
	note_call();
	if (hooks.completing) hooks.completing(id, result);
}

#endif
