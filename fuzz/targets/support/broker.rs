//! A broker around the plugin, as far as its C interface can tell: whatever bytes its strings hold, in whatever
//! order its events come, nobody is let in but local users with their passwords.
//!
//! The input is a list of steps, each ending in the byte 255: a letter, the digit of a client, and texts, each
//! behind the byte 254. A text that is not there is NULL. See [`Broker::step`].

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};
use std::path::PathBuf;
use std::ptr;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

// The plugin's library, for the functions that it exports.
use mosquitto_http_auth as _;

/// Local users; the broker has to wait for none of these hashes, but lets clients wait for an argon2id.
const NAMES: [&[u8]; 2] = [b"quick", b"slow"];
const PASSWORD: &[u8] = b"correct horse";
const PASSWORDS: &[u8] = b"\
quick:$6$quNYpwGom36IOVhq$FU5PeN6llhvTlMyvOJQXfPycmiWnfafVe4IrGhe+ThSabaR6YXldYyr0dwPRkF6Mxf/scaiDKfNE5Bc7ZINbgw==
slow:$argon2id$v=19$m=8,t=1,p=1$dHdlbHZlIGJ5dGVz$ACYoMdFihEWG38nSnX9oEyE+ckPxt2zGBkUMfm9NyD4
";
const RULES: &[u8] = b"user quick\ntopic ok/#\nuser slow\ntopic read ok/+\npattern write own/%u/%c\n";

/// Options that a fuzzer may not set: they would have it read files, ask strangers, wait, or open what the
/// model below believes to be closed.
const NOT_TO_SET: [&str; 9] = [
    "auth_url",
    "acl_url",
    "timeout",
    "max_wait",
    "connect_timeout",
    "user",
    "anonymous",
    "acl_checks",
    "stale_ttl",
];

const BASIC_AUTH: c_int = 3;
const ACL_CHECK: c_int = 2;
const RELOAD: c_int = 1;
const TICK: c_int = 9;
const DISCONNECT: c_int = 10;
const CLIENT_OFFLINE: c_int = 28;

const SUCCESS: c_int = 0;
const AUTH_DELAYED: c_int = -5;
const ACCESS_UNSUBSCRIBE: c_int = 8;

type Callback = unsafe extern "C" fn(c_int, *mut c_void, *mut c_void) -> c_int;

unsafe extern "C" {
    fn mosquitto_plugin_version(count: c_int, versions: *const c_int) -> c_int;
    fn mosquitto_plugin_init(
        identifier: *mut c_void,
        user_data: *mut *mut c_void,
        options: *mut RawOption,
        count: c_int,
    ) -> c_int;
    fn mosquitto_plugin_cleanup(user_data: *mut c_void, options: *mut RawOption, count: c_int) -> c_int;
}

/// `struct mosquitto_opt`
#[repr(C)]
struct RawOption {
    key: *mut c_char,
    value: *mut c_char,
}

/// `struct mosquitto_evt_basic_auth`, with what 2.1.3 added.
#[repr(C)]
struct BasicAuth {
    future: *mut c_void,
    client: *mut Client,
    username: *mut c_char,
    password: *mut c_char,
    password_len: u16,
    future2: [*mut c_void; 3],
}

/// `struct mosquitto_evt_acl_check`
#[repr(C)]
struct AclCheck {
    future: *mut c_void,
    client: *mut Client,
    topic: *const c_char,
    payload: *const c_void,
    properties: *mut c_void,
    access: c_int,
    payload_len: u32,
    qos: u8,
    retain: bool,
    future2: [*mut c_void; 4],
}

/// `struct mosquitto_evt_disconnect`
#[repr(C)]
struct Disconnect {
    future: *mut c_void,
    client: *mut Client,
    reason: c_int,
    future2: [*mut c_void; 4],
}

/// `struct mosquitto_evt_tick`
#[repr(C)]
struct Tick {
    future: *mut c_void,
    now_ns: c_long,
    next_ns: c_long,
    now_s: i64,
    next_s: i64,
    future2: [*mut c_void; 4],
}

/// `struct mosquitto`, which is the broker's own business.
#[derive(Default)]
struct Client {
    id: Option<CString>,
    address: Option<CString>,
    username: Option<CString>,
    starts_clean: bool,
    version: c_int,
}

/// What the broker's functions see and leave. Nobody holds it while the plugin runs.
#[derive(Default)]
struct Table {
    /// Function and data, as numbers.
    callbacks: HashMap<c_int, (usize, usize)>,
    /// Clients that wait to be completed, by their ids: whether they have shown the right password, and who
    /// they are, as a number.
    parked: HashMap<Vec<u8>, (bool, usize)>,
    /// Connected clients by their ids, as numbers.
    sessions: HashMap<Vec<u8>, usize>,
    /// Passwords, which must not stand in the log.
    secrets: Vec<Vec<u8>>,
    /// The plugin has started: what it logs comes from clients by now.
    is_running: bool,
}

static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);

fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A text, up to the first NUL, and NULL for none.
fn c_string(text: Option<&[u8]>) -> Option<CString> {
    let text = text?;
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    CString::new(&text[..end]).ok()
}

fn pointer(text: &Option<CString>) -> *mut c_char {
    text.as_ref().map_or(ptr::null_mut(), |text| text.as_ptr().cast_mut())
}

fn bytes(text: &Option<CString>) -> &[u8] {
    text.as_ref().map_or(&[], |text| text.to_bytes())
}

/// # Safety
/// `text` must be terminated.
unsafe fn read(text: *const c_char) -> Vec<u8> {
    assert!(!text.is_null());
    // SAFETY: the caller vouches for it.
    unsafe { CStr::from_ptr(text) }.to_bytes().to_vec()
}

/// The files that the plugin reads, in a folder of this process.
struct Files {
    _folder: TempDir,
    passwords: PathBuf,
    rules: PathBuf,
}

static FILES: LazyLock<Files> = LazyLock::new(|| {
    let folder = TempDir::with_prefix("mha-fuzz-").expect("a folder");
    let [passwords, rules] = ["passwords", "rules"].map(|name| folder.path().join(name));
    Files { _folder: folder, passwords, rules }
});

fn write(path: &PathBuf, content: &[u8]) {
    std::fs::write(path, content).expect("room for a small file");
}

/// Plays one input.
pub fn play(input: &[u8]) {
    write(&FILES.passwords, PASSWORDS);
    write(&FILES.rules, RULES);
    let steps: Vec<Vec<&[u8]>> = input
        .split(|byte| *byte == 255)
        .filter(|step| !step.is_empty())
        .map(|step| step.split(|byte| *byte == 254).collect())
        .collect();
    *table() = Table { secrets: secrets(&steps), ..Table::default() };
    let Some(mut broker) = Broker::start(&steps) else { return };
    for step in &steps {
        broker.step(step);
    }
    broker.complete_all();
    broker.stop();
}

/// Passwords that stand out, and stand nowhere else in an input.
fn secrets(steps: &[Vec<&[u8]>]) -> Vec<Vec<u8>> {
    const MARK: &[u8] = b"~pw~";
    let is_login = |step: &[&[u8]]| matches!(step[0].first(), Some(b'L' | b'l'));
    let mut secrets = Vec::new();
    for step in steps {
        for (index, text) in step.iter().enumerate() {
            match text.windows(MARK.len()).any(|part| part == MARK) {
                true if is_login(step) && index == 2 && text.starts_with(MARK) => secrets.push(text.to_vec()),
                true => return Vec::new(),
                false => {}
            }
        }
    }
    secrets
}

struct Broker {
    user_data: *mut c_void,
    // Boxes, since the plugin is given their addresses.
    #[allow(clippy::vec_box)]
    clients: Vec<Box<Client>>,
    /// Password file and rules are still those that were there at the start.
    files_are_ours: bool,
}

impl Broker {
    /// Starts the plugin, with further options: steps `I` with name and value.
    fn start(steps: &[Vec<&[u8]>]) -> Option<Self> {
        let own = [
            ("auth_url", "http://127.0.0.1:1/".to_owned()),
            ("acl_url", "http://127.0.0.1:1/".to_owned()),
            ("password_file", FILES.passwords.display().to_string()),
            ("acl_file", FILES.rules.display().to_string()),
        ];
        let own =
            own.map(|(name, value)| (c_string(Some(name.as_bytes())), c_string(Some(value.as_bytes()))));
        let given = steps
            .iter()
            .filter(|step| step[0] == b"I")
            .map(|step| (c_string(step.get(1).copied()), c_string(step.get(2).copied())));
        let may_be_set = |(name, _): &(Option<CString>, _)| {
            let name = String::from_utf8_lossy(bytes(name)).into_owned();
            !name.contains("file") && !NOT_TO_SET.contains(&name.as_str())
        };
        let options: Vec<_> = own.into_iter().chain(given.filter(may_be_set)).collect();
        let mut raw: Vec<RawOption> = options
            .iter()
            .map(|(key, value)| RawOption { key: pointer(key), value: pointer(value) })
            .collect();
        let mut user_data = ptr::null_mut();
        let count = c_int::try_from(raw.len()).expect("few");
        // SAFETY: as a broker calls it; options and versions live until it returns.
        let code = unsafe {
            assert_eq!(mosquitto_plugin_version(3, [3, 4, 5].as_ptr()), 5);
            mosquitto_plugin_init(ptr::dangling_mut(), &raw mut user_data, raw.as_mut_ptr(), count)
        };
        // The plugin silences panics, those of this harness included.
        std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
        table().is_running = true;
        let broker =
            Self { user_data, clients: (0..4).map(|_| Box::default()).collect(), files_are_ours: true };
        if code != SUCCESS {
            assert!(options.len() > 4, "the options of this harness are good");
            assert!(user_data.is_null() && table().callbacks.is_empty(), "something is left behind");
            broker.stop();
            return None;
        }
        Some(broker)
    }

    /// - `N` id, address, username, flags: a new connection in place of a client
    /// - `L` username, password: a login; `l`: the same, with the length of the password
    /// - `C` topic, access: a topic check
    /// - `D`, `O`: a client is gone, or only offline; `Z`: events without data
    /// - `T`: a tick; `R`: a reload; `P`, `A`: other password and ACL files for the next one
    fn step(&mut self, step: &[&[u8]]) {
        let text = |index: usize| step.get(index).copied();
        let Some((&letter, digit)) = step[0].split_first() else { return };
        let which = usize::from(digit.first().copied().unwrap_or_default()) % self.clients.len();
        match letter {
            b'N' => {
                let flags = text(4).unwrap_or_default();
                let gone = &mut self.clients[which];
                forget((&raw const **gone).addr());
                // Elsewhere: whoever still follows the old one is found out.
                #[allow(clippy::replace_box)]
                {
                    *gone = Box::new(Client {
                        id: c_string(text(1)),
                        address: c_string(text(2)),
                        username: c_string(text(3)),
                        starts_clean: flags.contains(&b'c'),
                        version: if flags.contains(&b'5') { 5 } else { 4 },
                    });
                }
            }
            b'L' | b'l' => self.login(which, text(1), text(2), letter == b'l'),
            b'C' => {
                let access = c_int::from(text(2).and_then(|text| text.first()).map_or(1, |byte| byte % 16));
                self.check(which, text(1), access);
            }
            b'D' | b'O' => {
                let event = if letter == b'D' { DISCONNECT } else { CLIENT_OFFLINE };
                let client = &raw mut *self.clients[which];
                let mut data =
                    Disconnect { future: ptr::null_mut(), client, reason: 0, future2: [ptr::null_mut(); 4] };
                call(event, (&raw mut data).cast());
                forget(client.addr());
            }
            b'Z' => {
                for event in [BASIC_AUTH, ACL_CHECK] {
                    assert_ne!(call(event, ptr::null_mut()), Some(SUCCESS), "a yes to nothing");
                }
                for event in [DISCONNECT, CLIENT_OFFLINE, TICK, RELOAD] {
                    call(event, ptr::null_mut());
                }
            }
            b'T' => tick(),
            b'R' => {
                call(RELOAD, ptr::null_mut());
            }
            b'P' | b'A' => {
                let path = if letter == b'P' { &FILES.passwords } else { &FILES.rules };
                write(path, text(1).unwrap_or_default());
                self.files_are_ours = false;
            }
            _ => {}
        }
    }

    fn login(&mut self, which: usize, username: Option<&[u8]>, password: Option<&[u8]>, says_length: bool) {
        let username = c_string(username);
        // Any bytes, and one NUL behind them.
        let mut buffer = password.map(|password| [password, &[0]].concat());
        let whole = password.unwrap_or_default();
        let length = if says_length { u16::try_from(whole.len()).unwrap_or(0) } else { 0 };
        let end = whole.iter().position(|byte| *byte == 0).unwrap_or(whole.len());
        let sent = if length == 0 { &whole[..end] } else { whole };
        let client = &raw mut *self.clients[which];
        self.clients[which].username.clone_from(&username);
        let mut data = BasicAuth {
            future: ptr::null_mut(),
            client,
            username: pointer(&username),
            password: buffer.as_mut().map_or(ptr::null_mut(), |buffer| buffer.as_mut_ptr().cast()),
            password_len: length,
            future2: [ptr::null_mut(); 3],
        };
        let id = bytes(&self.clients[which].id).to_vec();
        let is_right = password.is_some() && is_right_password(bytes(&username), sent);
        // Brokers also ask about sessions that it has already: 2.1 about those in its table, and 2.0 about
        // some that it read from its disk, which alone have no address.
        let is_session = if is_2_1() {
            table().sessions.get(&id) == Some(&client.addr())
        } else {
            self.clients[which].address.is_none() && password.is_none()
        };
        match call(BASIC_AUTH, (&raw mut data).cast()).expect("it is registered") {
            SUCCESS => {
                assert!(is_right || is_session, "let in: {username:?} with {sent:?}");
                table().sessions.insert(id, client.addr());
            }
            AUTH_DELAYED => {
                assert!(is_2_1(), "2.0 knows no such code");
                table().parked.insert(id, (is_right, client.addr()));
            }
            _ => {}
        }
    }

    fn check(&mut self, which: usize, topic: Option<&[u8]>, access: c_int) {
        let topic = c_string(topic);
        let client = &mut self.clients[which];
        let mut data = AclCheck {
            future: ptr::null_mut(),
            client: &raw mut **client,
            topic: pointer(&topic),
            payload: ptr::null(),
            properties: ptr::null_mut(),
            access,
            payload_len: 0,
            qos: 0,
            retain: false,
            future2: [ptr::null_mut(); 4],
        };
        let code = call(ACL_CHECK, (&raw mut data).cast());
        if code != Some(SUCCESS) || access == ACCESS_UNSUBSCRIBE {
            return;
        }
        let client = &*self.clients[which];
        let (username, topic) = (bytes(&client.username), bytes(&topic));
        assert!([1, 2, 4].contains(&access), "allowed: access {access}");
        assert!(!username.is_empty() && std::str::from_utf8(username).is_ok(), "allowed: {username:?}");
        if self.files_are_ours {
            assert!(NAMES.contains(&username), "allowed without a question: {username:?}");
            let is_covered = topic.starts_with(b"ok") || topic.starts_with(b"own/");
            assert!(access == 4 || is_covered, "allowed: {topic:?} to {username:?}");
        }
    }

    /// Whoever waits is completed, and soon: nothing that is asked here takes time.
    fn complete_all(&self) {
        let start = Instant::now();
        while !table().parked.is_empty() {
            assert!(start.elapsed() < Duration::from_secs(20), "a client waits for ever");
            std::thread::sleep(Duration::from_micros(100));
            tick();
        }
    }

    fn stop(self) {
        // SAFETY: as a broker calls it, once.
        let code = unsafe { mosquitto_plugin_cleanup(self.user_data, ptr::null_mut(), 0) };
        assert_eq!(code, SUCCESS);
        assert!(table().callbacks.is_empty(), "a callback is left behind");
    }
}

/// This client is nobody's session any more, and cannot become one.
fn forget(client: usize) {
    let mut table = table();
    table.sessions.retain(|_, session| *session != client);
    for (_, parked) in table.parked.values_mut().filter(|(_, parked)| *parked == client) {
        *parked = 0;
    }
}

fn is_right_password(username: &[u8], password: &[u8]) -> bool {
    NAMES.contains(&username) && password == PASSWORD
}

fn tick() {
    let mut data = Tick {
        future: ptr::null_mut(),
        now_ns: 0,
        next_ns: 0,
        now_s: 0,
        next_s: 0,
        future2: [ptr::null_mut(); 4],
    };
    call(TICK, (&raw mut data).cast());
}

/// Calls what is registered for an event, if anything is.
fn call(event: c_int, data: *mut c_void) -> Option<c_int> {
    let (function, user_data) = *table().callbacks.get(&event)?;
    // SAFETY: a number that was made from such a function below.
    let function = unsafe { std::mem::transmute::<usize, Callback>(function) };
    // SAFETY: called with the data that it was registered with, and with data of this event.
    Some(unsafe { function(event, data, ptr::with_exposed_provenance_mut(user_data)) })
}

fn is_2_1() -> bool {
    // Only 2.1 has the event; the plugin asks for it where there is `mosquitto_complete_basic_auth`.
    table().callbacks.contains_key(&CLIENT_OFFLINE)
}

// The functions that brokers of every version have.

#[unsafe(no_mangle)]
extern "C" fn mosquitto_callback_register(
    _: *mut c_void,
    event: c_int,
    callback: Callback,
    _: *const c_void,
    user_data: *mut c_void,
) -> c_int {
    table().callbacks.insert(event, (callback as usize, user_data.expose_provenance()));
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn mosquitto_callback_unregister(
    _: *mut c_void,
    event: c_int,
    _: Callback,
    _: *const c_void,
) -> c_int {
    table().callbacks.remove(&event);
    SUCCESS
}

/// In C it takes any number of arguments; two strings arrive in the same way.
///
/// # Safety
/// The arguments must be terminated.
#[unsafe(no_mangle)]
unsafe extern "C" fn mosquitto_log_printf(
    _: c_int,
    format: *const c_char,
    name: *const c_char,
    line: *const c_char,
) {
    // SAFETY: the caller vouches for them.
    let (format, name, line) = unsafe { (read(format), read(name), read(line)) };
    assert_eq!(
        (format.as_slice(), name.as_slice()),
        (b"%s: %s".as_slice(), b"mosquitto-http-auth".as_slice())
    );
    let text = String::from_utf8(line).expect("the log is text");
    assert!(!text.contains("A bug in the plugin"), "{text}");
    let table = table();
    if table.is_running {
        assert!(!text.contains(char::is_control), "a line in a line: {text:?}");
    }
    for secret in &table.secrets {
        assert!(
            !text.as_bytes().windows(secret.len()).any(|part| part == secret),
            "a password in the log: {text}"
        );
    }
}

/// # Safety
/// `client` must be a client of this broker.
unsafe fn with_client<R>(client: *const Client, part: impl Fn(&Client) -> R) -> R {
    // SAFETY: the caller vouches for it.
    part(unsafe { client.as_ref() }.expect("a broker would follow NULL, too"))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mosquitto_client_address(client: *const Client) -> *const c_char {
    // SAFETY: passed on to the caller.
    unsafe { with_client(client, |client| pointer(&client.address)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mosquitto_client_id(client: *const Client) -> *const c_char {
    // SAFETY: passed on to the caller.
    unsafe { with_client(client, |client| pointer(&client.id)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mosquitto_client_username(client: *const Client) -> *const c_char {
    // SAFETY: passed on to the caller.
    unsafe { with_client(client, |client| pointer(&client.username)) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mosquitto_client_clean_session(client: *const Client) -> bool {
    // SAFETY: passed on to the caller.
    unsafe { with_client(client, |client| client.starts_clean) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mosquitto_client_protocol_version(client: *const Client) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { with_client(client, |client| client.version) }
}

/// # Safety
/// `username` must be terminated.
#[unsafe(no_mangle)]
unsafe extern "C" fn mosquitto_kick_client_by_username(username: *const c_char, _: bool) -> c_int {
    // SAFETY: passed on to the caller.
    unsafe { read(username) };
    SUCCESS
}

/// # Safety
/// `id` must be terminated.
#[unsafe(no_mangle)]
unsafe extern "C" fn mosquitto_kick_client_by_clientid(id: *const c_char, _: bool) -> c_int {
    // SAFETY: passed on to the caller.
    table().sessions.remove(&unsafe { read(id) });
    SUCCESS
}

/// What brokers have since 2.1. Whoever defines these functions is one.
#[allow(dead_code)]
pub mod since_2_1 {
    use super::*;

    /// Lets a parked client in, or refuses it.
    pub fn complete(id: &[u8], result: c_int) {
        let mut table = table();
        let Some((is_right, client)) = table.parked.remove(id) else { panic!("{id:?} is not parked") };
        if result == SUCCESS {
            assert!(is_right, "let in: {id:?}");
            table.sessions.insert(id.to_vec(), client);
        }
    }

    /// The session of this client id, if there is one.
    pub fn session(id: &[u8]) -> *mut c_void {
        ptr::without_provenance_mut(table().sessions.get(id).copied().unwrap_or_default())
    }
}
