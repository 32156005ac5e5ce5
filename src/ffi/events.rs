//! The broker's event structs, read as typed requests that borrow from them.

use std::ffi::{CStr, c_char, c_int};
use std::ptr;
use std::slice;

use super::details::EventClient;
use super::functions::Process;
use super::sys;
use crate::broker::{Broker, Client, Connection, Retain};
use crate::config::BrokerOptions;
use crate::plugin::{Control, Login, SessionStays, TopicCheck};
use crate::question::Access;

/// An event that breaks a promise of the plugin interface, and how. It is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// The request in a MOSQ_EVT_ACL_CHECK.
pub(super) enum Check<'a> {
    /// READ, WRITE or SUBSCRIBE.
    Access(TopicCheck<'a>),
    /// An UNSUBSCRIBE of a filter, which is always allowed.
    Unsubscribe(Client<'a>, &'a str),
}

/// The options that the broker gives to init.
///
/// # Safety
/// `options` must point to `count` options with NUL-terminated strings (or NULL).
pub(super) unsafe fn options(
    options: *const sys::mosquitto_opt,
    count: c_int,
) -> Result<BrokerOptions, String> {
    let count = usize::try_from(count).unwrap_or(0);
    if options.is_null() || count == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: the caller vouches for pointer and count.
    let options = unsafe { slice::from_raw_parts(options, count) };
    options
        .iter()
        .map(|option| {
            // SAFETY: the caller vouches for the strings.
            let (key, value) = unsafe { (text(option.key), text(option.value)) };
            let key = key.map_err(|_| "found the name of an option that is no UTF-8".to_owned())?;
            let key = key.unwrap_or_default();
            let value = value.map_err(|_| format!("plugin_opt_{key}: found a value that is no UTF-8"))?;
            Ok((key.to_owned(), value.unwrap_or_default().to_owned()))
        })
        .collect()
}

/// The client that an event is about; none if the event has no data.
///
/// # Safety
/// `event` must be the data of an event that is being handled, and `client` return its client, which must not outlive it.
pub(super) unsafe fn client_of<'a, E>(
    process: &'a Process,
    event: *const E,
    client: impl FnOnce(&E) -> *mut sys::mosquitto,
) -> EventClient<'a> {
    // SAFETY: the caller vouches for the event and, through it, for the client.
    unsafe {
        EventClient::new(process, event.as_ref().map_or(ptr::null(), |event| client(event).cast_const()))
    }
}

/// The login that a MOSQ_EVT_BASIC_AUTH is about, whose client has these `details`.
///
/// # Safety
/// `event` must be the data of a MOSQ_EVT_BASIC_AUTH that is being handled; the login must not outlive it.
pub(super) unsafe fn login<'a>(
    process: &Process,
    event: *const sys::mha_evt_basic_auth,
    details: &'a EventClient<'a>,
) -> Result<Login<'a>, Malformed> {
    // SAFETY: the caller vouches for the event and, through it, for client and strings.
    unsafe {
        let event = event.as_ref().ok_or(Malformed("the event has no data"))?;
        Ok(Login {
            client: client(process, event.client)?,
            username: text(event.username)?.filter(|name| !name.is_empty()),
            password: password(event),
            starts_clean: process.client_starts_clean(event.client),
            level: process.client_level(event.client),
            details,
        })
    }
}

/// The request that a MOSQ_EVT_ACL_CHECK is about, whose client has these `details`.
///
/// # Safety
/// `event` must be the data of a MOSQ_EVT_ACL_CHECK that is being handled; the check must not outlive it.
pub(super) unsafe fn check<'a>(
    process: &Process,
    event: *const sys::mosquitto_evt_acl_check,
    details: &'a EventClient<'a>,
) -> Result<Check<'a>, Malformed> {
    // SAFETY: the caller vouches for the event and, through it, for client and strings.
    unsafe {
        let event = event.as_ref().ok_or(Malformed("the event has no data"))?;
        let access = match event.access.cast_unsigned() {
            sys::MOSQ_ACL_READ => Access::Read,
            sys::MOSQ_ACL_WRITE => Access::Write,
            sys::MOSQ_ACL_SUBSCRIBE => Access::Subscribe,
            sys::MOSQ_ACL_UNSUBSCRIBE => {
                let filter = text(event.topic)?.unwrap_or_default();
                return Ok(Check::Unsubscribe(client(process, event.client)?, filter));
            }
            _ => return Err(Malformed("the access is none that Mosquitto documents")),
        };
        Ok(Check::Access(TopicCheck {
            client: client(process, event.client)?,
            username: username(process, event.client)?,
            topic: text(event.topic)?.ok_or(Malformed("there is no topic"))?,
            access,
            qos: event.qos,
            retain: retain(event.retain, event.payloadlen),
            details,
        }))
    }
}

/// The commands that a MOSQ_EVT_CONTROL brings, whose sender has these `details`.
///
/// # Safety
/// `event` must be the data of a MOSQ_EVT_CONTROL that is being handled; the commands must not outlive it.
pub(super) unsafe fn control<'a>(
    process: &Process,
    event: *const sys::mosquitto_evt_control,
    details: &'a EventClient<'a>,
) -> Result<Control<'a>, Malformed> {
    // SAFETY: the caller vouches for the event and, through it, for client and payload.
    unsafe {
        let event = event.as_ref().ok_or(Malformed("the event has no data"))?;
        Ok(Control {
            client: client(process, event.client)?,
            username: username(process, event.client)?,
            payload: match event.payload.is_null() {
                true => &[],
                false => slice::from_raw_parts(event.payload.cast(), event.payloadlen as usize),
            },
            qos: event.qos,
            retain: retain(event.retain, event.payloadlen),
            details,
        })
    }
}

/// What a message with this flag and so many bytes of payload says of its topic's retained message.
#[inline]
fn retain(flag: bool, payload: u32) -> Retain {
    match (flag, payload) {
        (false, _) => Retain::No,
        (true, 0) => Retain::Ended,
        (true, _) => Retain::Kept,
    }
}

/// The client that a MOSQ_EVT_CONNECT is about, and its username; an empty one for a client without.
///
/// # Safety
/// `event` must be the data of a MOSQ_EVT_CONNECT that is being handled; the client must not outlive it.
pub(super) unsafe fn connected<'a>(
    process: &Process,
    event: *const sys::mha_evt_connect,
) -> Option<(Client<'a>, &'a str)> {
    // SAFETY: the caller vouches for the event and, through it, for client and strings.
    unsafe {
        let event = event.as_ref()?;
        Some((client(process, event.client).ok()?, username(process, event.client).ok()?.unwrap_or_default()))
    }
}

/// The client that has disconnected, its username (an empty one if it has none), and whether its session stays. `None`
/// if it never had an id: 2.0 reports bare TCP connections, too.
///
/// # Safety
/// `event` must be the data of a MOSQ_EVT_DISCONNECT or, if `is_offline`, a MOSQ_EVT_CLIENT_OFFLINE that is
/// being handled; the client must not outlive it.
pub(super) unsafe fn disconnected<'a>(
    process: &Process,
    event: *const sys::mosquitto_evt_disconnect,
    is_offline: bool,
) -> Option<(Client<'a>, &'a str, SessionStays)> {
    // SAFETY: the caller vouches for the event and, through it, for client and strings.
    unsafe {
        let event = event.as_ref()?;
        process.client_id(event.client)?;
        let client = client(process, event.client).ok()?;
        let stays = if process.is_2_1() {
            if is_offline { SessionStays::Yes } else { SessionStays::No }
        } else if !process.client_starts_clean(event.client) {
            SessionStays::Yes
        } else if process.client_speaks_mqtt_5(event.client) {
            SessionStays::Unknown
        } else {
            SessionStays::No
        };
        Some((client, username(process, event.client).ok()?.unwrap_or_default(), stays))
    }
}

/// The connection that has ended, whether it had a client id or not.
///
/// # Safety
/// `event` must be the data of a MOSQ_EVT_DISCONNECT that is being handled.
pub(super) unsafe fn closed(event: *const sys::mosquitto_evt_disconnect) -> Option<Connection> {
    // SAFETY: the caller vouches for the event. The pointer in it is not followed.
    unsafe { event.as_ref() }.map(|event| event.client.addr())
}

/// Asks for the next tick in a millisecond. Otherwise 2.1 ticks once per turn of its loop, which may take long.
///
/// # Safety
/// `event` must be the data of a MOSQ_EVT_TICK of Mosquitto 2.1 that is being handled.
pub(super) unsafe fn tick_again_soon(event: *mut sys::mha_evt_tick) {
    // SAFETY: the caller vouches for the event.
    if let Some(event) = unsafe { event.as_mut() } {
        event.next_ms = 1;
    }
}

/// The client behind a pointer of the broker.
///
/// # Safety
/// `client` must be NULL or a client of the broker that outlives `'a`.
#[inline]
unsafe fn client<'a>(process: &Process, client: *const sys::mosquitto) -> Result<Client<'a>, Malformed> {
    if client.is_null() {
        return Err(Malformed("there is no client"));
    }
    // SAFETY: passed on to the caller.
    let (id, address) = unsafe { (process.client_id(client), process.client_address(client)) };
    Ok(Client {
        connection: client.expose_provenance(),
        id: match id {
            Some(id) => utf8(id).ok_or(Malformed("the client id is no UTF-8"))?,
            None => "",
        },
        // An address that is not UTF-8 must not count as none, since no address means a session restored from disk.
        // (Up to 2.0.21 the address of a WebSocket client is whatever its X-Forwarded-For says.)
        address: match address {
            Some(address) => Some(utf8(address).ok_or(Malformed("the address is no UTF-8"))?),
            None => None,
        },
    })
}

/// The username of a client, or `None` if it is empty or there is none.
///
/// # Safety
/// What [`client`] demands.
unsafe fn username<'a>(
    process: &Process,
    client: *const sys::mosquitto,
) -> Result<Option<&'a str>, Malformed> {
    // SAFETY: passed on to the caller.
    match unsafe { process.client_username(client) } {
        None => Ok(None),
        Some(name) => match utf8(name) {
            Some(name) => Ok((!name.is_empty()).then_some(name)),
            None => Err(Malformed("the username is no UTF-8")),
        },
    }
}

/// The password of a login, which may be any bytes. Brokers from 2.1.3 on tell its length; in older ones it ends at the
/// first NUL.
///
/// # Safety
/// The event's password must be NULL or terminated, and as long as the event says.
unsafe fn password<'a>(event: &sys::mha_evt_basic_auth) -> Option<&'a [u8]> {
    if event.password.is_null() {
        return None;
    }
    // SAFETY: the caller vouches for the password and its length.
    Some(unsafe {
        match event.password_len {
            0 => CStr::from_ptr(event.password).to_bytes(),
            length => slice::from_raw_parts(event.password.cast(), usize::from(length)),
        }
    })
}

/// A string of the broker as text, or `None` for NULL.
///
/// # Safety
/// `string` must be NULL or terminated, and outlive `'a`.
unsafe fn text<'a>(string: *const c_char) -> Result<Option<&'a str>, Malformed> {
    if string.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller vouches for the string.
    let string = unsafe { CStr::from_ptr(string) };
    utf8(string).map(Some).ok_or(Malformed("a string is no UTF-8"))
}

/// A string as text, if it is UTF-8. Nearly all of them are ASCII, which is seen a word at a time: the check for UTF-8 goes
/// by bytes in strings as short as these, and every message has several.
fn utf8(string: &CStr) -> Option<&str> {
    let bytes = string.to_bytes();
    if bytes.is_ascii() {
        // SAFETY: ASCII is UTF-8.
        return Some(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    std::str::from_utf8(bytes).ok()
}
