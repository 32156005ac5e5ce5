/* The broker's interface as the plugin uses it: a table of functions, some events, and what only 2.1 has.
 *
 * The plugin is built against the installed headers, of 2.0 or 2.1, and runs in both. Functions of 2.1 alone are
 * declared here (from its include/mosquitto/broker.h and broker_plugin.h; a second declaration is harmless) and may be
 * NULL in the table.
 */
#ifndef MOSQUITTO_HTTP_AUTH_H
#define MOSQUITTO_HTTP_AUTH_H

#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>

/* Since 2.1. */
int mosquitto_plugin_set_info(mosquitto_plugin_id_t *identifier, const char *plugin_name,
		const char *plugin_version);
struct mosquitto *mosquitto_client(const char *clientid);
int mosquitto_client_port(const struct mosquitto *client);
void mosquitto_complete_basic_auth(const char *clientid, int result);

/* Of OpenSSL (openssl/x509.h), whose headers are not needed for this. */
int i2d_X509(const void *certificate, unsigned char **out);
void X509_free(void *certificate);

/* MOSQ_ERR_AUTH_DELAYED, MOSQ_ERR_SERVER_UNAVAILABLE and MOSQ_ERR_SERVER_BUSY of 2.1 (include/mosquitto/defs.h). */
#define MHA_ERR_AUTH_DELAYED (-5)
#define MHA_ERR_SERVER_UNAVAILABLE 136
#define MHA_ERR_SERVER_BUSY 137

/* MOSQ_EVT_CLIENT_OFFLINE of 2.1 (include/mosquitto/broker.h): it replaces MOSQ_EVT_DISCONNECT for clients whose session
 * stays. Its data has the layout of struct mosquitto_evt_disconnect. */
#define MHA_EVT_CLIENT_OFFLINE 28

/* MOSQ_EVT_CONNECT of 2.1 (include/mosquitto/broker.h): a client was admitted, by this plugin or by something else. */
#define MHA_EVT_CONNECT 11

/* The parts of three event structs that the plugin reads. The layout is the same in all versions; only the names of
 * fields differ in the headers. */
struct mha_evt_basic_auth {
	void *future;
	struct mosquitto *client;
	char *username;
	char *password;
	/* Since 2.1.3; before that reserved and 0. */
	uint16_t password_len;
};

struct mha_evt_connect {
	void *future;
	struct mosquitto *client;
};

struct mha_evt_tick {
	void *future;
	long now_ns;
	/* next_ns in 2.0, which ignores it; next_ms since 2.1. */
	long next_ms;
};

/* Every function of the broker that the plugin calls; NULL where this broker has none. */
struct mha_broker {
	int (*callback_register)(mosquitto_plugin_id_t *identifier, int event,
			MOSQ_FUNC_generic_callback cb_func, const void *event_data, void *userdata);
	int (*callback_unregister)(mosquitto_plugin_id_t *identifier, int event,
			MOSQ_FUNC_generic_callback cb_func, const void *event_data);
	void (*log_printf)(int level, const char *fmt, ...);
	const char *(*client_address)(const struct mosquitto *client);
	bool (*client_clean_session)(const struct mosquitto *client);
	const char *(*client_id)(const struct mosquitto *client);
	int (*client_keepalive)(const struct mosquitto *client);
	/* The peer's certificate, an X509 of the broker's OpenSSL that the caller has to free. */
	void *(*client_certificate)(const struct mosquitto *client);
	int (*client_protocol)(const struct mosquitto *client);
	int (*client_protocol_version)(const struct mosquitto *client);
	const char *(*client_username)(const struct mosquitto *client);
	int (*kick_client_by_clientid)(const char *clientid, bool with_will);
	int (*kick_client_by_username)(const char *username, bool with_will);
	/* Takes over the payload, which must come from `allocate`, unless it fails. */
	int (*broker_publish)(const char *clientid, const char *topic, int payloadlen, void *payload, int qos,
			bool retain, mosquitto_property *properties);
	void *(*allocate)(size_t size);
	void (*release)(void *memory);
	/* Since 2.1. */
	int (*plugin_set_info)(mosquitto_plugin_id_t *identifier, const char *plugin_name,
			const char *plugin_version);
	struct mosquitto *(*client)(const char *clientid);
	int (*client_port)(const struct mosquitto *client);
	void (*complete_basic_auth)(const char *clientid, int result);
	/* Of the OpenSSL that the broker is linked with: writes a certificate in DER where *out points to, or, if out is
	 * NULL, nothing, and returns its length; and frees one. */
	int (*certificate_to_der)(const void *certificate, unsigned char **out);
	void (*certificate_free)(void *certificate);
};

/* Returns the table, filled with the functions that this process has. */
struct mha_broker mha_broker_find(void);

#endif
