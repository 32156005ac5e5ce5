//! What commands need of the broker: their topic, messages to those who have asked, and disconnecting by a name.

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;

use super::code::Code;
use super::functions::Process;
use super::sys::mosquitto_plugin_event as event;
use crate::plugin::CONTROL_TOPIC_TERMINATED;

/// What an event is about, as the broker wants it: of commands, the topic that they come by.
pub(super) fn about(kind: event::Type) -> *const c_void {
    match kind {
        event::MOSQ_EVT_CONTROL => CONTROL_TOPIC_TERMINATED.as_ptr().cast(),
        _ => ptr::null(),
    }
}

impl Process {
    /// Sends a message, see [`Broker::publish`](crate::broker::Broker::publish). For the broker's own thread.
    pub(super) fn publish_to(&self, client_id: Option<&str>, topic: &str, payload: &[u8]) {
        let functions = &self.functions;
        let (Some(publish), Some(allocate), Some(release)) =
            (functions.broker_publish, functions.allocate, functions.release)
        else {
            return;
        };
        let (Ok(client_id), Ok(topic)) = (client_id.map(CString::new).transpose(), CString::new(topic))
        else {
            return;
        };
        let (to, retain) = (client_id.as_ref().map_or(ptr::null(), |id| id.as_ptr()), client_id.is_none());
        let Ok(length) = c_int::try_from(payload.len()) else { return };
        // SAFETY: plain numbers. One byte more, since the broker may be asked for none otherwise.
        let memory = unsafe { allocate(payload.len() + 1) };
        if memory.is_null() {
            return;
        }
        // SAFETY: the memory is as long as that, and nobody else's.
        unsafe { ptr::copy_nonoverlapping(payload.as_ptr(), memory.cast::<u8>(), payload.len()) };
        // SAFETY: terminated strings, and memory of the broker's own that it takes over, on the broker's thread. It only
        // queues the message. A client that it does not know gets none.
        let code = unsafe { publish(to, topic.as_ptr(), length, memory, 0, retain, ptr::null_mut()) };
        if code != Code::SUCCESS.0 {
            // SAFETY: what was not taken over is still this function's.
            unsafe { release(memory) };
        }
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
