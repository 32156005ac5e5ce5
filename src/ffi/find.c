/* Finds the broker's functions. They are weak symbols, which stable Rust cannot declare: the dynamic linker sets those
 * that a broker does not have to NULL. A strong reference would keep 2.0 from loading the plugin at all, and test
 * programs from linking without a broker. */
#include <stddef.h>

#include "mosquitto_http_auth.h"

_Static_assert(offsetof(struct mha_evt_basic_auth, password_len) ==
		offsetof(struct mosquitto_evt_basic_auth, password) + sizeof(char *), "basic auth event");
_Static_assert(offsetof(struct mha_evt_tick, next_ms) ==
		offsetof(struct mosquitto_evt_tick, now_ns) + sizeof(long), "tick event");

#pragma weak mosquitto_callback_register
#pragma weak mosquitto_callback_unregister
#pragma weak mosquitto_log_printf
#pragma weak mosquitto_client_address
#pragma weak mosquitto_client_clean_session
#pragma weak mosquitto_client_id
#pragma weak mosquitto_client_keepalive
#pragma weak mosquitto_client_certificate
#pragma weak mosquitto_client_protocol
#pragma weak mosquitto_client_protocol_version
#pragma weak mosquitto_client_username
#pragma weak mosquitto_kick_client_by_clientid
#pragma weak mosquitto_kick_client_by_username
#pragma weak mosquitto_broker_publish
#pragma weak mosquitto_malloc
#pragma weak mosquitto_free
#pragma weak mosquitto_plugin_set_info
#pragma weak mosquitto_client
#pragma weak mosquitto_client_port
#pragma weak mosquitto_complete_basic_auth
#pragma weak i2d_X509
#pragma weak X509_free

struct mha_broker mha_broker_find(void)
{
	struct mha_broker broker = {
		.callback_register = mosquitto_callback_register,
		.callback_unregister = mosquitto_callback_unregister,
		.log_printf = mosquitto_log_printf,
		.client_address = mosquitto_client_address,
		.client_clean_session = mosquitto_client_clean_session,
		.client_id = mosquitto_client_id,
		.client_keepalive = mosquitto_client_keepalive,
		.client_certificate = mosquitto_client_certificate,
		.client_protocol = mosquitto_client_protocol,
		.client_protocol_version = mosquitto_client_protocol_version,
		.client_username = mosquitto_client_username,
		.kick_client_by_clientid = mosquitto_kick_client_by_clientid,
		.kick_client_by_username = mosquitto_kick_client_by_username,
		.broker_publish = mosquitto_broker_publish,
		.allocate = mosquitto_malloc,
		.release = mosquitto_free,
		.plugin_set_info = mosquitto_plugin_set_info,
		.client = mosquitto_client,
		.client_port = mosquitto_client_port,
		.complete_basic_auth = mosquitto_complete_basic_auth,
		.certificate_to_der = i2d_X509,
		.certificate_free = X509_free,
	};
	return broker;
}
