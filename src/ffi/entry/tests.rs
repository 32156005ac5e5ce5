//! The boundary with a broker's functions in Rust: what Miri can run (`make miri`).

use std::ffi::{CString, c_char};
use std::ptr;
use std::sync::{Mutex, PoisonError};

use super::*;
use crate::ffi::sys::{mha_broker, mosquitto, mosquitto_plugin_id_t};

/// What `struct mosquitto` is in this broker.
#[derive(Default)]
struct FakeClient {
    id: Option<CString>,
    address: Option<CString>,
    username: Option<CString>,
}

impl FakeClient {
    fn new(id: &[u8], username: &[u8]) -> Self {
        let text = |bytes: &[u8]| Some(CString::new(bytes).unwrap());
        Self { id: text(id), address: text(b"127.0.0.1"), username: text(username) }
    }

    fn pointer(&mut self) -> *mut mosquitto {
        (&raw mut *self).cast()
    }
}

/// # Safety
/// `client` must be a [`FakeClient`].
unsafe fn read<'a>(client: *const mosquitto) -> &'a FakeClient {
    // SAFETY: the caller vouches for it.
    unsafe { &*client.cast() }
}

fn pointer(text: &Option<CString>) -> *const c_char {
    text.as_ref().map_or(ptr::null(), |text| text.as_ptr())
}

unsafe extern "C" fn id(client: *const mosquitto) -> *const c_char {
    // SAFETY: this broker has no other clients.
    pointer(unsafe { &read(client).id })
}

unsafe extern "C" fn address(client: *const mosquitto) -> *const c_char {
    // SAFETY: as above.
    pointer(unsafe { &read(client).address })
}

unsafe extern "C" fn username(client: *const mosquitto) -> *const c_char {
    // SAFETY: as above.
    pointer(unsafe { &read(client).username })
}

unsafe extern "C" fn clean_session(_: *const mosquitto) -> bool {
    true
}

unsafe extern "C" fn protocol_version(_: *const mosquitto) -> c_int {
    5
}

/// Events that are registered, in the order of their registration.
static REGISTERED: Mutex<Vec<c_int>> = Mutex::new(Vec::new());

/// Only one broker at a time: it has one table.
static TURN: Mutex<()> = Mutex::new(());

unsafe extern "C" fn register(
    _: *mut mosquitto_plugin_id_t,
    event: c_int,
    _: Option<Callback>,
    _: *const c_void,
    _: *mut c_void,
) -> c_int {
    REGISTERED.lock().unwrap().push(event);
    0
}

unsafe extern "C" fn unregister(
    _: *mut mosquitto_plugin_id_t,
    event: c_int,
    _: Option<Callback>,
    _: *const c_void,
) -> c_int {
    REGISTERED.lock().unwrap().retain(|registered| *registered != event);
    0
}

unsafe extern "C" fn complete(id: *const c_char, _: c_int) {
    // SAFETY: the plugin gives a terminated string.
    assert!(!unsafe { std::ffi::CStr::from_ptr(id) }.is_empty());
}

unsafe extern "C" fn no_client(_: *const c_char) -> *mut mosquitto {
    ptr::null_mut()
}

/// Without a log: Rust has no functions with any number of arguments.
fn functions(is_2_1: bool) -> mha_broker {
    mha_broker {
        callback_register: Some(register),
        callback_unregister: Some(unregister),
        log_printf: None,
        client_address: Some(address),
        client_clean_session: Some(clean_session),
        client_id: Some(id),
        client_protocol_version: Some(protocol_version),
        client_username: Some(username),
        kick_client_by_clientid: None,
        kick_client_by_username: None,
        plugin_set_info: None,
        client: is_2_1.then_some(no_client as unsafe extern "C" fn(*const c_char) -> *mut mosquitto),
        complete_basic_auth: is_2_1.then_some(complete as unsafe extern "C" fn(*const c_char, c_int)),
    }
}

/// Starts the plugin in both kinds of broker, and stops it again. Clients wait nowhere: Miri knows no signals.
fn in_both(options: &[(&str, &str)], test: impl Fn(*mut c_void)) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for is_2_1 in [false, true] {
        let options = options.iter().chain(&[("user", JOE), ("auth_mode", "blocking")]);
        let options = options.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let process = Arc::new(Process::with(functions(is_2_1)));
        let user_data = start(process, Identifier(ptr::null_mut()), options).unwrap().cast();
        test(user_data);
        // SAFETY: what start has made, once.
        assert_eq!(unsafe { mosquitto_plugin_cleanup(user_data, ptr::null_mut(), 0) }, 0);
        assert!(REGISTERED.lock().unwrap().is_empty(), "a callback is left behind");
    }
}

/// His password is `correct horse`; the hash is one that is quickly made, and without assembly.
const JOE: &str =
    "joe:$argon2id$v=19$m=8,t=1,p=1$dHdlbHZlIGJ5dGVz$ACYoMdFihEWG38nSnX9oEyE+ckPxt2zGBkUMfm9NyD4";

fn login(
    user_data: *mut c_void,
    client: &mut FakeClient,
    name: Option<&[u8]>,
    password: Option<(&[u8], u16)>,
) -> c_int {
    let name = name.map(|name| CString::new(name).unwrap());
    let password = password.map(|(bytes, length)| ([bytes, &[0]].concat(), length));
    let mut event = sys::mha_evt_basic_auth {
        future: ptr::null_mut(),
        client: client.pointer(),
        username: pointer(&name).cast_mut(),
        password: password.as_ref().map_or(ptr::null_mut(), |(bytes, _)| bytes.as_ptr().cast_mut().cast()),
        password_len: password.as_ref().map_or(0, |(_, length)| *length),
    };
    // SAFETY: data of this event, with what start has made.
    unsafe { on_basic_auth(3, (&raw mut event).cast(), user_data) }
}

fn check(user_data: *mut c_void, client: &mut FakeClient, topic: Option<&[u8]>, access: c_int) -> c_int {
    let topic = topic.map(|topic| CString::new(topic).unwrap());
    let mut event = sys::mosquitto_evt_acl_check {
        future: ptr::null_mut(),
        client: client.pointer(),
        topic: pointer(&topic),
        payload: ptr::null(),
        properties: ptr::null_mut(),
        access,
        payloadlen: 0,
        qos: 0,
        retain: false,
        future2: [ptr::null_mut(); 4],
    };
    // SAFETY: data of this event, with what start has made.
    unsafe { on_acl_check(2, (&raw mut event).cast(), user_data) }
}

fn disconnect(user_data: *mut c_void, client: &mut FakeClient, event: c_int) {
    let mut data = sys::mosquitto_evt_disconnect {
        future: ptr::null_mut(),
        client: client.pointer(),
        reason: 0,
        future2: [ptr::null_mut(); 4],
    };
    // SAFETY: data of this event, with what start has made.
    assert_eq!(unsafe { on_disconnect(event, (&raw mut data).cast(), user_data) }, 0);
}

const PASSWORD: Option<(&[u8], u16)> = Some((b"correct horse", 0));

#[test]
fn logins_of_any_bytes_are_answered() {
    in_both(&[], |user_data| {
        let mut joe = FakeClient::new(b"id", b"joe");
        for name in [None, Some(b"joe".as_slice()), Some(b""), Some(b"\xc3("), Some(b"stranger")] {
            assert_ne!(login(user_data, &mut joe, name, None), 0, "{name:?}");
        }
        assert_ne!(login(user_data, &mut joe, None, Some((b"a\0b", 3))), 0);
        assert_ne!(login(user_data, &mut FakeClient::new(b"\xff", b"joe"), Some(b"joe"), PASSWORD), 0);
        // SAFETY: an event without data, which the plugin promises to survive.
        assert_ne!(unsafe { on_basic_auth(3, ptr::null_mut(), user_data) }, 0);
        assert_eq!(login(user_data, &mut joe, Some(b"joe"), PASSWORD), 0);
        // With the length that 2.1.3 gives, what follows a NUL counts, too.
        assert_ne!(login(user_data, &mut joe, Some(b"joe"), Some((b"correct horse\0x", 15))), 0);
        assert_eq!(login(user_data, &mut joe, Some(b"joe"), Some((b"correct horse\0x", 0))), 0);
    });
}

#[test]
fn topic_checks_of_any_bytes_are_answered() {
    let rules = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(rules.path(), "user joe\ntopic a/#\n").unwrap();
    in_both(&[("acl_file", rules.path().to_str().unwrap())], |user_data| {
        let mut joe = FakeClient::new(b"id", b"joe");
        assert_eq!(login(user_data, &mut joe, Some(b"joe"), PASSWORD), 0);
        for (topic, access, expected) in [
            (Some(b"a/b".as_slice()), 1, true),
            (Some(b"a/b"), 2, true),
            (Some(b"#"), 4, true),
            (Some(b"\xff"), 1, false),
            (Some(b"b"), 2, false),
            (Some(b""), 1, false),
            (None, 1, false),
            (Some(b"a/b"), 3, false),
            (Some(b"a/b"), -1, false),
            (Some(b"a/#"), 8, true),
            (None, 8, true),
        ] {
            assert_eq!(check(user_data, &mut joe, topic, access) == 0, expected, "{topic:?} {access}");
        }
        assert_ne!(check(user_data, &mut FakeClient::new(b"id", b"\xc3("), Some(b"a/b"), 1), 0);
        assert_ne!(check(user_data, &mut FakeClient::new(b"\xc3(", b"joe"), Some(b"a/b"), 1), 0);
        // SAFETY: an event without data, which the plugin promises to survive.
        assert_ne!(unsafe { on_acl_check(2, ptr::null_mut(), user_data) }, 0);
    });
}

#[test]
fn clients_go_and_the_loop_comes_round() {
    in_both(&[], |user_data| {
        let mut joe = FakeClient::new(b"id", b"joe");
        assert_eq!(login(user_data, &mut joe, Some(b"joe"), PASSWORD), 0);
        disconnect(user_data, &mut joe, sys::MHA_EVT_CLIENT_OFFLINE.cast_signed());
        disconnect(user_data, &mut joe, 10);
        disconnect(user_data, &mut FakeClient::new(b"\xff", b"\xff"), 10);
        disconnect(user_data, &mut FakeClient::default(), 10);
        let mut tick = sys::mha_evt_tick { future: ptr::null_mut(), now_ns: 0, next_ms: 0 };
        // SAFETY: data of this event and none at all, with what start has made.
        unsafe {
            assert_eq!(on_disconnect(10, ptr::null_mut(), user_data), 0);
            assert_eq!(on_tick(9, (&raw mut tick).cast(), user_data), 0);
            assert_eq!(on_tick(9, ptr::null_mut(), user_data), 0);
            on_reload(1, ptr::null_mut(), user_data);
        }
        // SAFETY: the event can be written to.
        unsafe { events::tick_again_soon(&raw mut tick) };
        assert_eq!(tick.next_ms, 1);
        assert_eq!(login(user_data, &mut joe, Some(b"joe"), PASSWORD), 0);
    });
}

#[test]
fn options_of_any_bytes_are_read_or_refused() {
    let texts = [c"name", c"value", c"\xff"].map(|text| text.as_ptr().cast_mut());
    let [name, value, no_text] = texts;
    let read = |options: &[sys::mosquitto_opt], count: c_int| {
        // SAFETY: as many options as there are, or fewer, with terminated strings.
        unsafe { events::options(options.as_ptr(), count) }
    };
    let option = |key, value| sys::mosquitto_opt { key, value };
    let good = [option(name, value), option(ptr::null_mut(), ptr::null_mut())];
    let expected = [("name", "value"), ("", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(read(&good, 2).unwrap(), expected);
    assert!(read(&good, 0).unwrap().is_empty() && read(&good, -1).unwrap().is_empty());
    assert!(read(&[option(name, no_text)], 1).is_err() && read(&[option(no_text, value)], 1).is_err());
    // SAFETY: no options at all.
    assert!(unsafe { events::options(ptr::null(), 3) }.unwrap().is_empty());
    // SAFETY: as many versions as there are.
    unsafe {
        assert_eq!(mosquitto_plugin_version(2, [4, 5].as_ptr()), 5);
        assert_eq!(mosquitto_plugin_version(1, [4].as_ptr()), -1);
        assert_eq!(mosquitto_plugin_version(0, ptr::null()), -1);
    }
}
