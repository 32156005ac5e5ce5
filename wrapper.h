/* The input of bindgen: the installed headers of the plugin interface, and this plugin's additions. */
#include "include/mosquitto_http_auth.h"
