//! What the broker tells of a client beside its names and address.

use std::ffi::c_int;
use std::fmt;
use std::ptr;

use super::functions::Process;
use super::sys;
use crate::broker::Details;

/// The broker's number for MQTT over websockets.
const WEBSOCKETS: i32 = sys::mosquitto_protocol::mp_websockets.cast_signed();

/// The client of an event that is being handled.
pub(super) struct EventClient<'a> {
    process: &'a Process,
    client: *const sys::mosquitto,
}

impl<'a> EventClient<'a> {
    /// # Safety
    /// `client` must be NULL or a client of this broker that outlives `'a`.
    pub(super) unsafe fn new(process: &'a Process, client: *const sys::mosquitto) -> Self {
        Self { process, client }
    }

    /// A number that a function of the broker gives for the client.
    fn number(&self, function: Option<unsafe extern "C" fn(*const sys::mosquitto) -> c_int>) -> Option<i32> {
        let function = function.filter(|_| !self.client.is_null())?;
        // SAFETY: a client of this broker, by the word of whoever made this.
        Some(unsafe { function(self.client) })
    }
}

impl Details for EventClient<'_> {
    fn uses_websockets(&self) -> bool {
        self.number(self.process.functions.client_protocol) == Some(WEBSOCKETS)
    }

    fn level(&self) -> u8 {
        // SAFETY: NULL or a client of this broker, by the word of whoever made this.
        unsafe { self.process.client_level(self.client) }
    }

    fn starts_clean(&self) -> bool {
        // SAFETY: as above.
        unsafe { self.process.client_starts_clean(self.client) }
    }

    fn keepalive(&self) -> Option<u16> {
        u16::try_from(self.number(self.process.functions.client_keepalive)?).ok()
    }

    fn listener_port(&self) -> Option<u16> {
        let port = u16::try_from(self.number(self.process.functions.client_port)?).ok()?;
        (port != 0).then_some(port)
    }

    fn certificate(&self) -> Option<Vec<u8>> {
        let functions = &self.process.functions;
        let (get, to_der, free) =
            (functions.client_certificate?, functions.certificate_to_der?, functions.certificate_free?);
        if self.client.is_null() {
            return None;
        }
        // SAFETY: a client of this broker. What comes back is NULL or a certificate that is ours until it is freed; it is
        // written to memory of the length that was asked for, and freed once.
        unsafe {
            let certificate = get(self.client);
            if certificate.is_null() {
                return None;
            }
            let length = usize::try_from(to_der(certificate, ptr::null_mut())).unwrap_or(0);
            let mut der = vec![0; length];
            let mut end = der.as_mut_ptr();
            let written = if length > 0 { to_der(certificate, &raw mut end) } else { 0 };
            free(certificate);
            (length > 0 && usize::try_from(written) == Ok(length)).then_some(der)
        }
    }
}

impl fmt::Debug for EventClient<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventClient(..)")
    }
}
