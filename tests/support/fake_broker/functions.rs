//! The functions that a broker offers to a plugin. A call from another thread than the broker's finds no broker there,
//! and ends the program.
//!
//! Clients and identifiers are opaque to a plugin, so each declaration of these functions may give them types of its
//! own: hence the type parameters.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;

use super::Version;
use super::abi::{self, Callback};
use super::events::{reenter, tell_gone};
use super::table::{Client, Registered, pointer, table};

/// # Safety
/// `text` must be terminated.
unsafe fn read(text: *const c_char) -> Vec<u8> {
    assert!(!text.is_null());
    // SAFETY: the caller vouches for it.
    unsafe { CStr::from_ptr(text) }.to_bytes().to_vec()
}

/// Events of 2.0 have the numbers up to 10, those of 2.1 up to 30.
fn is_event(version: Version, event: c_int) -> bool {
    event > 0 && event < if version == Version::V2_1 { 31 } else { 11 }
}

/// `mosquitto_callback_register`
///
/// # Safety
/// The callback may be called with this data until it is unregistered.
pub unsafe extern "C" fn callback_register<P>(
    identifier: *mut P,
    event: c_int,
    callback: Option<Callback>,
    _: *const c_void,
    user_data: *mut c_void,
) -> c_int {
    table(|table| {
        let key = (identifier.addr(), event);
        if !is_event(table.version, event) {
            return abi::NOT_SUPPORTED;
        }
        if table.callbacks.contains_key(&key) {
            return abi::ALREADY_EXISTS;
        }
        if table.refuses == Some(event) {
            table.refuses = None;
            return abi::NO_MEMORY;
        }
        let function = callback.expect("a broker would call NULL, too");
        table.callbacks.insert(key, Registered { function, user_data });
        abi::SUCCESS
    })
}

/// `mosquitto_callback_unregister`
///
/// # Safety
/// None: the arguments are only compared.
pub unsafe extern "C" fn callback_unregister<P>(
    identifier: *mut P,
    event: c_int,
    callback: Option<Callback>,
    _: *const c_void,
) -> c_int {
    table(|table| {
        let key = (identifier.addr(), event);
        if !is_event(table.version, event) {
            return abi::NOT_SUPPORTED;
        }
        let address = |function: Callback| function as usize;
        // Addresses are not compared in Miri, where a function may have several.
        let is_this =
            |found: &Registered| cfg!(miri) || callback.map(address) == Some(address(found.function));
        if !table.callbacks.get(&key).is_some_and(is_this) {
            return abi::NOT_FOUND;
        }
        table.callbacks.remove(&key);
        abi::SUCCESS
    })
}

/// `mosquitto_log_printf`. In C it takes any number of arguments; two strings arrive in the same way.
///
/// # Safety
/// The texts must be terminated.
pub unsafe extern "C" fn log_printf(
    _level: c_int,
    format: *const c_char,
    name: *const c_char,
    line: *const c_char,
) {
    // SAFETY: the caller vouches for them.
    let (format, name, line) = unsafe { (read(format), read(name), read(line)) };
    assert_eq!((format.as_slice(), name.as_slice()), (&b"%s: %s"[..], &b"mosquitto-http-auth"[..]));
    let line = String::from_utf8(line).expect("the log is text");
    assert!(!line.contains("A bug in the plugin"), "{line}");
    table(|table| {
        assert!(!table.is_running || !line.contains(char::is_control), "a line in a line: {line:?}");
        table.log.push(line);
    });
    reenter(ptr::null_mut(), |plan| &plan.at_each_line);
}

/// # Safety
/// `client` must be a client of this broker, and stay one while the result is used.
unsafe fn this<'a, C>(client: *const C) -> &'a Client {
    // SAFETY: the caller vouches for it.
    unsafe { client.cast::<Client>().as_ref() }.expect("a broker would follow NULL, too")
}

/// `mosquitto_client_address`
///
/// # Safety
/// `client` must be a client of this broker. Like the functions that follow, this reads only the client, and may be
/// called on any thread.
pub unsafe extern "C" fn client_address<C>(client: *const C) -> *const c_char {
    // SAFETY: passed on to the caller.
    pointer(&unsafe { this(client) }.address)
}

/// `mosquitto_client_id`
///
/// # Safety
/// `client` must be a client of this broker.
pub unsafe extern "C" fn client_id<C>(client: *const C) -> *const c_char {
    // SAFETY: passed on to the caller.
    pointer(&unsafe { this(client) }.id)
}

/// `mosquitto_client_username`
///
/// # Safety
/// `client` must be a client of this broker.
pub unsafe extern "C" fn client_username<C>(client: *const C) -> *const c_char {
    // SAFETY: passed on to the caller.
    pointer(&unsafe { this(client) }.username)
}

/// `mosquitto_client_clean_session`
///
/// # Safety
/// `client` must be a client of this broker.
pub unsafe extern "C" fn client_clean_session<C>(client: *const C) -> bool {
    // SAFETY: passed on to the caller.
    unsafe { this(client) }.starts_clean
}

/// `mosquitto_client_protocol_version`
///
/// # Safety
/// `client` must be a client of this broker.
pub unsafe extern "C" fn client_protocol_version<C>(client: *const C) -> c_int {
    // SAFETY: passed on to the caller.
    if unsafe { this(client) }.speaks_mqtt_5 { 5 } else { 4 }
}

/// `mosquitto_kick_client_by_clientid`
///
/// # Safety
/// `id` must be terminated.
pub unsafe extern "C" fn kick_client_by_clientid(id: *const c_char, _: bool) -> c_int {
    // SAFETY: passed on to the caller.
    let id = unsafe { read(id) };
    let kicked = table(|table| table.sessions.get(&id).copied());
    kick(kicked.into_iter().collect())
}

/// `mosquitto_kick_client_by_username`
///
/// # Safety
/// `username` must be terminated.
pub unsafe extern "C" fn kick_client_by_username(username: *const c_char, _: bool) -> c_int {
    // SAFETY: passed on to the caller.
    let username = unsafe { read(username) };
    let sessions: Vec<*mut Client> = table(|table| table.sessions.values().copied().collect());
    let has_name = |client: &*mut Client| {
        // SAFETY: sessions are clients of this broker.
        unsafe { this(*client) }.username.as_ref().is_some_and(|name| name.to_bytes() == username)
    };
    kick(sessions.into_iter().filter(has_name).collect())
}

/// Disconnects a client at once. Before this returns, the plugin is called for the client's will, then for its
/// disconnection.
fn kick(clients: Vec<*mut Client>) -> c_int {
    table(|table| table.kicks += 1);
    for client in clients {
        reenter(client, |plan| &plan.at_each_kick);
        tell_gone(abi::DISCONNECT, client);
    }
    abi::SUCCESS
}

/// `mosquitto_plugin_set_info`, since 2.1.
///
/// # Safety
/// The texts must be terminated.
pub unsafe extern "C" fn plugin_set_info<P>(_: *mut P, name: *const c_char, version: *const c_char) -> c_int {
    // SAFETY: the caller vouches for them.
    let texts = unsafe { [read(name), read(version)] };
    assert!(texts.iter().all(|text| !text.is_empty()));
    table(|_| abi::SUCCESS)
}

/// `mosquitto_client`, since 2.1: the session of this client id, if there is one.
///
/// # Safety
/// `id` must be terminated.
pub unsafe extern "C" fn client<C>(id: *const c_char) -> *mut C {
    // SAFETY: the caller vouches for it.
    let id = unsafe { read(id) };
    table(|table| table.sessions.get(&id).copied()).unwrap_or(ptr::null_mut()).cast()
}

/// `mosquitto_complete_basic_auth`, since 2.1: admits a parked client, or refuses it. A real broker ignores ids that
/// are not parked; here they are a failure, since the plugin does not rely on that.
///
/// # Safety
/// `id` must be terminated.
pub unsafe extern "C" fn complete_basic_auth(id: *const c_char, result: c_int) {
    // SAFETY: the caller vouches for it.
    let id = unsafe { read(id) };
    let client = table(|table| {
        let Some(client) = table.parked.remove(&id) else {
            assert!(table.gone_while_parked.contains(&id), "{id:?} is not parked");
            return ptr::null_mut();
        };
        table.completions += 1;
        table.completed.push((id.clone(), client, result));
        if result == abi::SUCCESS && !client.is_null() {
            table.sessions.insert(id, client);
        }
        client
    });
    if result == abi::SUCCESS && !client.is_null() {
        reenter(client, |plan| &plan.at_each_completion);
    }
}
