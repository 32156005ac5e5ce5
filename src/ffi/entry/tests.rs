//! The boundary to the broker, with the broker's functions in Rust, so that Miri can run it (`make miri`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

use std::ffi::c_char;
use std::mem::{offset_of, size_of};
use std::ptr;

#[path = "../../../tests/support/fake_broker/mod.rs"]
mod fake_broker;

use fake_broker::abi::{
    self, ACL_CHECK, BASIC_AUTH, DISCONNECT, READ, RELOAD, SUBSCRIBE, SUCCESS, TICK, WRITE,
};
use fake_broker::step::{
    Connection, NOBODY, ask, ask_with_length, check, connect, connection, disconnect, empty, name, offline,
    reload, tick,
};
use fake_broker::{FakeBroker, Instance as Started, Version, functions};

use super::*;
use crate::ffi::sys::{mha_broker, mosq_err_t, mosquitto};

/// The fake broker's functions. There is no log function, since stable Rust cannot define a variadic one, and there are
/// no kicks, since nothing here rechecks a client.
fn table(is_2_1: bool) -> mha_broker {
    mha_broker {
        callback_register: Some(functions::callback_register),
        callback_unregister: Some(functions::callback_unregister),
        log_printf: None,
        client_address: Some(functions::client_address),
        client_clean_session: Some(functions::client_clean_session),
        client_id: Some(functions::client_id),
        client_keepalive: None,
        client_certificate: None,
        client_protocol: None,
        client_protocol_version: Some(functions::client_protocol_version),
        client_username: Some(functions::client_username),
        kick_client_by_clientid: None,
        kick_client_by_username: None,
        broker_publish: None,
        allocate: None,
        release: None,
        plugin_set_info: None,
        client_port: None,
        certificate_to_der: None,
        certificate_free: None,
        client: is_2_1.then_some(functions::client as unsafe extern "C" fn(*const c_char) -> *mut mosquitto),
        complete_basic_auth: is_2_1
            .then_some(functions::complete_basic_auth as unsafe extern "C" fn(*const c_char, c_int)),
    }
}

/// Does the work of `mosquitto_plugin_init`, with given functions where that one finds them by their names.
///
/// # Safety
/// As for `mosquitto_plugin_init`.
unsafe extern "C" fn init(
    identifier: *mut c_void,
    user_data: *mut *mut c_void,
    options: *mut abi::RawOption,
    count: c_int,
) -> c_int {
    // SAFETY: as the broker promises.
    let options = unsafe { events::options(options.cast(), count) }.unwrap();
    let process = Arc::new(Process::with(table(fake_broker::version() == Version::V2_1)));
    match start(process, Identifier(identifier.cast()), options) {
        // SAFETY: the broker lets init write to it.
        Ok(instance) => unsafe { *user_data = instance.cast() },
        Err(code) => return code.0,
    }
    SUCCESS
}

unsafe extern "C" fn cleanup(user_data: *mut c_void, options: *mut abi::RawOption, count: c_int) -> c_int {
    // SAFETY: as the broker promises.
    unsafe { mosquitto_plugin_cleanup(user_data, options.cast(), count) }
}

/// A local user whose password is `correct horse`. The hash is quick to compute, and needs no assembly.
const JOE: &str =
    "joe:$argon2id$v=19$m=8,t=1,p=1$dHdlbHZlIGJ5dGVz$ACYoMdFihEWG38nSnX9oEyE+ckPxt2zGBkUMfm9NyD4";

const PLUGIN: fake_broker::Plugin = fake_broker::Plugin { version: mosquitto_plugin_version, init, cleanup };

/// Starts the plugin in both kinds of broker, connects `joe`, runs the test and stops the plugin. No client is parked,
/// since Miri has no signals.
fn in_both(options: &[(&str, &str)], test: impl Fn(Started)) {
    for version in [Version::V2_0, Version::V2_1] {
        let options = options.iter().chain(&[("user", JOE), ("auth_mode", "blocking")]);
        let options: Vec<_> =
            options.map(|(name, value)| (Some(name.as_bytes()), Some(value.as_bytes()))).collect();
        let broker = FakeBroker::new(version, PLUGIN);
        let (code, started) = broker.start(&options);
        assert_eq!(code, SUCCESS);
        started.play([connect("joe", "id", "joe")]);
        test(started);
        broker.stop(started);
    }
}

#[test]
fn logins_of_any_bytes_are_answered() {
    in_both(&[], |plugin| {
        for username in [None, Some(&b"joe"[..]), Some(b""), Some(b"\xc3("), Some(b"stranger")] {
            plugin.play([name("joe", username), ask("joe", None).gives_no_yes()]);
        }
        plugin.play([
            name("joe", None),
            ask_with_length("joe", b"a\0b").gives_no_yes(),
            connect("odd", b"\xff", "joe"),
            ask("odd", "correct horse").gives_no_yes(),
            empty(BASIC_AUTH).gives_no_yes(),
            name("joe", "joe"),
            ask("joe", "correct horse").gives(SUCCESS),
            // With the length that 2.1.3 gives, the bytes after a NUL belong to the password.
            ask_with_length("joe", b"correct horse\0x").gives_no_yes(),
            ask("joe", b"correct horse\0x").gives(SUCCESS),
        ]);
    });
}

#[test]
fn topic_checks_of_any_bytes_are_answered() {
    let rules = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(rules.path(), "user joe\ntopic a/#\n").unwrap();
    in_both(&[("acl_file", rules.path().to_str().unwrap())], |plugin| {
        plugin.play([
            ask("joe", "correct horse").gives(SUCCESS),
            check("joe", READ, "a/b").gives(SUCCESS),
            check("joe", WRITE, "a/b").gives(SUCCESS),
            check("joe", SUBSCRIBE, "#").gives(SUCCESS),
            check("joe", READ, b"\xff").gives_no_yes(),
            check("joe", WRITE, "b").gives_no_yes(),
            check("joe", READ, "").gives_no_yes(),
            check("joe", READ, None).gives_no_yes(),
            check("joe", READ | WRITE, "a/b").gives_no_yes(),
            check("joe", -1, "a/b").gives_no_yes(),
            check("joe", abi::UNSUBSCRIBE, "a/#").gives(SUCCESS),
            check("joe", abi::UNSUBSCRIBE, None).gives(SUCCESS),
            connect("odd name", "id", b"\xc3("),
            check("odd name", READ, "a/b").gives_no_yes(),
            connect("odd id", b"\xc3(", "joe"),
            check("odd id", READ, "a/b").gives_no_yes(),
            empty(ACL_CHECK).gives_no_yes(),
        ]);
    });
}

#[test]
fn clients_go_and_the_loop_comes_round() {
    in_both(&[], |plugin| {
        plugin.play([
            ask("joe", "correct horse").gives(SUCCESS),
            offline("joe"),
            disconnect("joe"),
            connect("odd", b"\xff", b"\xff"),
            disconnect("odd"),
            connection("nameless", Connection::default()),
            disconnect("nameless"),
            disconnect(NOBODY),
            empty(DISCONNECT).gives(SUCCESS),
            tick(),
            empty(TICK).gives(SUCCESS),
            reload(),
        ]);
        plugin.take(&empty(RELOAD));
        plugin.play([ask("joe", "correct horse").gives(SUCCESS)]);
    });
    let mut tick = sys::mha_evt_tick { future: ptr::null_mut(), now_ns: 0, next_ms: 0 };
    // SAFETY: the event can be written to, or is none.
    unsafe {
        events::tick_again_soon(&raw mut tick);
        events::tick_again_soon(ptr::null_mut());
    }
    assert_eq!(tick.next_ms, 1);
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
    let broker = FakeBroker::new(Version::V2_1, PLUGIN);
    assert_eq!(broker.offer(2, Some(&[4, 5])), 5);
    assert_eq!(broker.offer(1, Some(&[4])), -1);
    assert_eq!(broker.offer(0, None), -1);
}

/// The fake broker declares the interface a second time, since it is also built where the headers are out of reach.
#[test]
fn the_imitated_broker_has_the_layouts_and_numbers_of_the_headers() {
    macro_rules! same_layout {
        ($ours:ty, $theirs:ty { $($our_field:ident = $their_field:ident),* }) => {
            assert_eq!(size_of::<$ours>(), size_of::<$theirs>(), stringify!($ours));
            $(assert_eq!(
                offset_of!($ours, $our_field),
                offset_of!($theirs, $their_field),
                concat!(stringify!($ours), ".", stringify!($our_field))
            );)*
        };
    }
    same_layout!(abi::RawOption, sys::mosquitto_opt { key = key, value = value });
    same_layout!(abi::AclCheck, sys::mosquitto_evt_acl_check {
        future = future, client = client, topic = topic, payload = payload, properties = properties,
        access = access, payload_len = payloadlen, qos = qos, retain = retain, future2 = future2
    });
    same_layout!(abi::Disconnect, sys::mosquitto_evt_disconnect {
        future = future, client = client, reason = reason, future2 = future2
    });
    // The plugin's own declarations of these end after the last field that it reads.
    macro_rules! same_start {
        ($ours:ty, $theirs:ty { $($field:ident),* }) => {
            assert!(size_of::<$ours>() >= size_of::<$theirs>(), stringify!($ours));
            $(assert_eq!(offset_of!($ours, $field), offset_of!($theirs, $field), stringify!($field));)*
        };
    }
    same_start!(abi::BasicAuth, sys::mha_evt_basic_auth { future, client, username, password, password_len });
    same_start!(abi::Tick, sys::mha_evt_tick { future, now_ns, next_ms });
    assert_eq!(
        [RELOAD, ACL_CHECK, BASIC_AUTH, TICK, DISCONNECT, abi::CLIENT_OFFLINE].map(i32::cast_unsigned),
        [
            event::MOSQ_EVT_RELOAD,
            event::MOSQ_EVT_ACL_CHECK,
            event::MOSQ_EVT_BASIC_AUTH,
            event::MOSQ_EVT_TICK,
            event::MOSQ_EVT_DISCONNECT,
            sys::MHA_EVT_CLIENT_OFFLINE,
        ]
    );
    assert_eq!(
        [READ, WRITE, SUBSCRIBE, abi::UNSUBSCRIBE].map(i32::cast_unsigned),
        [sys::MOSQ_ACL_READ, sys::MOSQ_ACL_WRITE, sys::MOSQ_ACL_SUBSCRIBE, sys::MOSQ_ACL_UNSUBSCRIBE]
    );
    for (ours, theirs) in [
        (SUCCESS, mosq_err_t::MOSQ_ERR_SUCCESS),
        (abi::NO_MEMORY, mosq_err_t::MOSQ_ERR_NOMEM),
        (abi::NOT_FOUND, mosq_err_t::MOSQ_ERR_NOT_FOUND),
        (abi::NOT_SUPPORTED, mosq_err_t::MOSQ_ERR_NOT_SUPPORTED),
        (abi::AUTH, mosq_err_t::MOSQ_ERR_AUTH),
        (abi::ACL_DENIED, mosq_err_t::MOSQ_ERR_ACL_DENIED),
        (abi::DEFER, mosq_err_t::MOSQ_ERR_PLUGIN_DEFER),
        (abi::ALREADY_EXISTS, mosq_err_t::MOSQ_ERR_ALREADY_EXISTS),
        (abi::AUTH_DELAYED, sys::MHA_ERR_AUTH_DELAYED),
    ] {
        assert_eq!(ours, theirs);
    }
}
