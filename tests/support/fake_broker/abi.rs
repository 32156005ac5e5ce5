//! The plugin interface, written down from the headers of Mosquitto 2.0 and 2.1: the layouts of events, and the
//! numbers. The plugin reads the headers themselves; `src/ffi/entry/tests.rs` compares the two.

use std::ffi::{c_char, c_int, c_long, c_void};

use super::Client;

/// `MOSQ_FUNC_generic_callback`
pub type Callback = unsafe extern "C" fn(c_int, *mut c_void, *mut c_void) -> c_int;

/// `mosquitto_plugin_version`
pub type PluginVersion = unsafe extern "C" fn(c_int, *const c_int) -> c_int;
/// `mosquitto_plugin_init`
pub type PluginInit = unsafe extern "C" fn(*mut c_void, *mut *mut c_void, *mut RawOption, c_int) -> c_int;
/// `mosquitto_plugin_cleanup`
pub type PluginCleanup = unsafe extern "C" fn(*mut c_void, *mut RawOption, c_int) -> c_int;

pub const RELOAD: c_int = 1;
pub const ACL_CHECK: c_int = 2;
pub const BASIC_AUTH: c_int = 3;
pub const TICK: c_int = 9;
pub const DISCONNECT: c_int = 10;
/// Since 2.1.
pub const CLIENT_OFFLINE: c_int = 28;

pub const SUCCESS: c_int = 0;
pub const NO_MEMORY: c_int = 1;
pub const NOT_FOUND: c_int = 6;
pub const NOT_SUPPORTED: c_int = 10;
pub const AUTH: c_int = 11;
pub const ACL_DENIED: c_int = 12;
pub const UNKNOWN: c_int = 13;
pub const DEFER: c_int = 17;
pub const ALREADY_EXISTS: c_int = 31;
/// Since 2.1.
pub const AUTH_DELAYED: c_int = -5;

pub const READ: c_int = 1;
pub const WRITE: c_int = 2;
pub const SUBSCRIBE: c_int = 4;
pub const UNSUBSCRIBE: c_int = 8;

/// `struct mosquitto_opt`
#[repr(C)]
pub struct RawOption {
    pub key: *mut c_char,
    pub value: *mut c_char,
}

/// `struct mosquitto_evt_basic_auth`, with what 2.1.3 added.
#[repr(C)]
pub struct BasicAuth {
    pub future: *mut c_void,
    pub client: *mut Client,
    pub username: *mut c_char,
    pub password: *mut c_char,
    pub password_len: u16,
    pub future2: [*mut c_void; 3],
}

/// `struct mosquitto_evt_acl_check`
#[repr(C)]
pub struct AclCheck {
    pub future: *mut c_void,
    pub client: *mut Client,
    pub topic: *const c_char,
    pub payload: *const c_void,
    pub properties: *mut c_void,
    pub access: c_int,
    pub payload_len: u32,
    pub qos: u8,
    pub retain: bool,
    pub future2: [*mut c_void; 4],
}

/// `struct mosquitto_evt_disconnect`, which CLIENT_OFFLINE brings, too.
#[repr(C)]
pub struct Disconnect {
    pub future: *mut c_void,
    pub client: *mut Client,
    pub reason: c_int,
    pub future2: [*mut c_void; 4],
}

/// `struct mosquitto_evt_tick`
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    pub future: *mut c_void,
    pub now_ns: c_long,
    /// `next_ns` in 2.0, which ignores it.
    pub next_ms: c_long,
    pub now_s: i64,
    pub next_s: i64,
    pub future2: [*mut c_void; 4],
}

/// `struct mosquitto_evt_reload`
#[repr(C)]
pub struct Reload {
    pub future: *mut c_void,
    pub options: *mut RawOption,
    pub option_count: c_int,
    pub future2: [*mut c_void; 4],
}
