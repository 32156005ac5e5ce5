/* What bindgen reads: the installed headers of the plugin interface and what this plugin adds. */
#include "include/mosquitto_http_auth.h"
