//! What the broker's functions tell of a client.

use std::ffi::{CStr, c_char};

use super::functions::Process;
use super::sys;

impl Process {
    /// The client's id.
    ///
    /// # Safety
    /// `client` must be NULL or a client of this broker that outlives `'a`.
    pub(super) unsafe fn client_id<'a>(&self, client: *const sys::mosquitto) -> Option<&'a CStr> {
        // SAFETY: passed on to the caller.
        unsafe { string_of(self.functions.client_id, client) }
    }

    /// The address of the client's peer.
    ///
    /// # Safety
    /// What [`Self::client_id`] demands.
    pub(super) unsafe fn client_address<'a>(&self, client: *const sys::mosquitto) -> Option<&'a CStr> {
        // SAFETY: passed on to the caller.
        unsafe { string_of(self.functions.client_address, client) }
    }

    /// The client's username.
    ///
    /// # Safety
    /// What [`Self::client_id`] demands.
    pub(super) unsafe fn client_username<'a>(&self, client: *const sys::mosquitto) -> Option<&'a CStr> {
        // SAFETY: passed on to the caller.
        unsafe { string_of(self.functions.client_username, client) }
    }

    /// Whether the client connects or connected with a clean start: without the session that it had before.
    ///
    /// # Safety
    /// `client` must be NULL or a client of this broker.
    pub(super) unsafe fn client_starts_clean(&self, client: *const sys::mosquitto) -> bool {
        let Some(clean_session) = self.functions.client_clean_session else { return true };
        // SAFETY: a client of this broker, by the caller's word.
        client.is_null() || unsafe { clean_session(client) }
    }

    /// Whether the client speaks MQTT 5, where a clean start does not tell whether the session ends with the
    /// connection.
    ///
    /// # Safety
    /// `client` must be NULL or a client of this broker.
    pub(super) unsafe fn client_speaks_mqtt_5(&self, client: *const sys::mosquitto) -> bool {
        // SAFETY: a client of this broker, by the caller's word, or NULL, which is allowed here.
        self.functions.client_protocol_version.is_none_or(|version| unsafe { version(client) } == 5)
    }

    /// The protocol's level that the client speaks: 3, 4 or 5, or 0 if the broker does not say.
    ///
    /// # Safety
    /// What [`Self::client_id`] demands.
    pub(super) unsafe fn client_level(&self, client: *const sys::mosquitto) -> u8 {
        let version = self.functions.client_protocol_version.filter(|_| !client.is_null());
        // SAFETY: a client of this broker, by the caller's word.
        let level = version.map(|version| unsafe { version(client) });
        level.and_then(|level| u8::try_from(level).ok()).unwrap_or(0)
    }
}

/// A string that a function of the broker gives for a client.
///
/// # Safety
/// `client` must be NULL or a client of this broker that outlives `'a`.
unsafe fn string_of<'a>(
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
