//! What commands need of the broker: their topic, and disconnecting by a name.

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;

use super::sys::mosquitto_plugin_event as event;
use crate::plugin::CONTROL_TOPIC_TERMINATED;

/// What an event is about, as the broker wants it: of commands, the topic that they come by.
pub(super) fn about(kind: event::Type) -> *const c_void {
    match kind {
        event::MOSQ_EVT_CONTROL => CONTROL_TOPIC_TERMINATED.as_ptr().cast(),
        _ => ptr::null(),
    }
}

/// Disconnects whom one of the broker's functions for that finds by a name.
///
/// # Safety
/// On the broker's thread, and not in a callback about one of these clients.
pub(super) unsafe fn kick_by(kick: Option<unsafe extern "C" fn(*const c_char, bool) -> c_int>, name: &str) {
    let (Some(kick), Ok(name)) = (kick, CString::new(name)) else { return };
    // SAFETY: a terminated string; the caller vouches for the rest.
    unsafe { kick(name.as_ptr(), true) };
}
