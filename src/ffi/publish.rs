//! Messages that the broker publishes: to one client, or retained to all.

use std::ffi::{CString, c_int};
use std::ptr;

use super::code::Code;
use super::sys;

/// Has the broker publish, see [`Broker::publish`](crate::broker::Broker::publish). For the broker's own thread.
pub(super) fn publish(functions: &sys::mha_broker, client_id: Option<&str>, topic: &str, payload: &[u8]) {
    let (Some(publish), Some(allocate), Some(release)) =
        (functions.broker_publish, functions.allocate, functions.release)
    else {
        return;
    };
    let (Ok(client_id), Ok(topic)) = (client_id.map(CString::new).transpose(), CString::new(topic)) else {
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
