//! What functions of the broker give for a client.

use std::ffi::{CStr, c_char};

use super::sys;

/// A string that a function of the broker gives for a client.
///
/// # Safety
/// `client` must be NULL or a client of this broker that outlives `'a`.
pub(super) unsafe fn string_of<'a>(
    function: Option<unsafe extern "C" fn(*const sys::mosquitto) -> *const c_char>,
    client: *const sys::mosquitto,
) -> Option<&'a CStr> {
    let function = function?;
    if client.is_null() {
        return None;
    }
    // SAFETY: a client of this broker, by the caller's word.
    let string = unsafe { function(client) };
    // SAFETY: the broker's strings are terminated and live as long as their client.
    (!string.is_null()).then(|| unsafe { CStr::from_ptr(string) })
}
