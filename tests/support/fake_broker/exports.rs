//! The functions that brokers of every version have, exported as symbols of the program, where a plugin looks for them.

use std::ffi::{c_char, c_int, c_void};

use super::fake_broker::abi::Callback;
use super::fake_broker::{Client, functions};

#[unsafe(no_mangle)]
unsafe extern "C" fn mosquitto_callback_register(
    identifier: *mut c_void,
    event: c_int,
    callback: Option<Callback>,
    event_data: *const c_void,
    user_data: *mut c_void,
) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { functions::callback_register(identifier, event, callback, event_data, user_data) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mosquitto_callback_unregister(
    identifier: *mut c_void,
    event: c_int,
    callback: Option<Callback>,
    event_data: *const c_void,
) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { functions::callback_unregister(identifier, event, callback, event_data) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mosquitto_log_printf(
    level: c_int,
    format: *const c_char,
    name: *const c_char,
    line: *const c_char,
) {
    // SAFETY: passed on to the caller.
    unsafe { functions::log_printf(level, format, name, line) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mosquitto_client_address(client: *const Client) -> *const c_char {
    // SAFETY: passed on to the caller.
    unsafe { functions::client_address(client) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mosquitto_client_id(client: *const Client) -> *const c_char {
    // SAFETY: passed on to the caller.
    unsafe { functions::client_id(client) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mosquitto_client_username(client: *const Client) -> *const c_char {
    // SAFETY: passed on to the caller.
    unsafe { functions::client_username(client) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mosquitto_client_clean_session(client: *const Client) -> bool {
    // SAFETY: passed on to the caller.
    unsafe { functions::client_clean_session(client) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mosquitto_client_protocol_version(client: *const Client) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { functions::client_protocol_version(client) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mosquitto_kick_client_by_clientid(id: *const c_char, with_will: bool) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { functions::kick_client_by_clientid(id, with_will) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mosquitto_kick_client_by_username(username: *const c_char, with_will: bool) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { functions::kick_client_by_username(username, with_will) }
}
