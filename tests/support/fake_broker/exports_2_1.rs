//! The functions that brokers have since 2.1, exported as symbols of the program, where a plugin looks for them.

use std::ffi::{c_char, c_int, c_void};

use super::fake_broker::{Client, functions};

#[unsafe(no_mangle)]
unsafe extern "C" fn mosquitto_plugin_set_info(
    identifier: *mut c_void,
    name: *const c_char,
    version: *const c_char,
) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { functions::plugin_set_info(identifier, name, version) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mosquitto_client(id: *const c_char) -> *mut Client {
    // SAFETY: passed on to the caller.
    unsafe { functions::client(id) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mosquitto_complete_basic_auth(id: *const c_char, result: c_int) {
    // SAFETY: passed on to the caller.
    unsafe { functions::complete_basic_auth(id, result) }
}
