//! The plugin's C interface, in a broker of 2.1, where clients can wait for their answer: see
//! `support/broker.rs`.
#![no_main]

#[path = "support/broker.rs"]
mod broker;

use std::ffi::{CStr, c_char, c_int, c_void};

libfuzzer_sys::fuzz_target!(|input: &[u8]| broker::play(input));

/// # Safety
/// The strings must be terminated.
#[unsafe(no_mangle)]
unsafe extern "C" fn mosquitto_plugin_set_info(
    _: *mut c_void,
    name: *const c_char,
    version: *const c_char,
) -> c_int {
    // SAFETY: the caller vouches for them.
    let texts = unsafe { [CStr::from_ptr(name), CStr::from_ptr(version)] };
    assert!(texts.iter().all(|text| !text.is_empty()));
    0
}

/// # Safety
/// `id` must be terminated.
#[unsafe(no_mangle)]
unsafe extern "C" fn mosquitto_client(id: *const c_char) -> *mut c_void {
    // SAFETY: the caller vouches for it.
    broker::since_2_1::session(unsafe { CStr::from_ptr(id) }.to_bytes())
}

/// # Safety
/// `id` must be terminated.
#[unsafe(no_mangle)]
unsafe extern "C" fn mosquitto_complete_basic_auth(id: *const c_char, result: c_int) {
    // SAFETY: the caller vouches for it.
    broker::since_2_1::complete(unsafe { CStr::from_ptr(id) }.to_bytes(), result);
}
