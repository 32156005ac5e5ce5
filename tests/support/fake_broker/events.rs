//! Playing steps: each becomes an event of the plugin, and the broker acts on the plugin's answer.

use std::env;
use std::ffi::{c_int, c_long, c_void};
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use super::abi;
use super::step::{Action, Connection, Expected, IntoText, Password, Step, Text};
use super::table::{CallsBack, Client, Registered, c_string, forget, pointer, table};
use super::{Instance, Version, version};

/// How long a client may wait for its completion. Everything takes longer where another program runs this one
/// (`MHA_LAUNCHER`).
fn patience() -> Duration {
    Duration::from_secs(if env::var_os("MHA_LAUNCHER").is_some() { 200 } else { 20 })
}

/// The code that is expected of the plugin unless a step names another. For a reload see `Code::of_reload`.
pub(super) fn usual(action: &Action<'_>) -> Option<Expected> {
    let code = match (action, version()) {
        (Action::Connect(_) | Action::Name(_) | Action::Mislabel(_), _) => return None,
        (Action::Tick | Action::Disconnect, _) => abi::SUCCESS,
        (Action::Offline | Action::Reload, Version::V2_1) => abi::SUCCESS,
        (Action::Offline | Action::Reload, Version::V2_0) => abi::DEFER,
        _ => panic!("a step without an expectation proves nothing: {action:?}"),
    };
    Some(Expected::Code(code))
}

pub(super) fn take(plugin: usize, step: &Step<'_>) -> c_int {
    table(|table| table.plugin = plugin);
    let client = || table(|table| table.client(step.who));
    match &step.action {
        Action::Connect(connection) => {
            let client = Box::into_raw(Box::new(Client::new(connection)));
            if let Some(gone) = table(|table| table.clients.insert(step.who.to_owned(), client)) {
                forget(gone);
                // Freed after the new one was made, which thus has another address: a use of the old one is noticed.
                // SAFETY: the client was made from a box when it connected, and is in no table any more.
                drop(unsafe { Box::from_raw(gone) });
            }
            abi::SUCCESS
        }
        Action::Name(username) => {
            // SAFETY: a client of this broker, which is not borrowed at the moment.
            unsafe { (*client()).username = c_string(*username) };
            abi::SUCCESS
        }
        Action::Ask(password) => ask(client(), password),
        Action::LogIn(password) => {
            let client = client();
            forget(client);
            match ask(client, password) {
                abi::AUTH_DELAYED => await_completion(client),
                code => code,
            }
        }
        Action::AwaitCompletion => await_completion(client()),
        Action::Check { access, topic } => ask_topic(registered(abi::ACL_CHECK), client(), *access, *topic),
        Action::Disconnect => tell_gone(abi::DISCONNECT, client()),
        Action::Offline => tell_gone(abi::CLIENT_OFFLINE, client()),
        Action::Tick => tick(),
        Action::Reload => {
            let mut data = abi::Reload {
                future: ptr::null_mut(),
                options: ptr::null_mut(),
                option_count: 0,
                future2: [ptr::null_mut(); 4],
            };
            call(registered(abi::RELOAD), (&raw mut data).cast())
        }
        Action::Empty(event) => call(registered(*event), ptr::null_mut()),
        Action::Mislabel(number) => {
            table(|table| table.mislabelled = *number);
            abi::SUCCESS
        }
    }
}

/// The callback that the current plugin has registered for an event, and the event number that it gets.
fn registered(event: c_int) -> Option<(c_int, Registered)> {
    table(|table| {
        let registered = *table.callbacks.get(&(table.plugin, event))?;
        Some((table.mislabelled.unwrap_or(event), registered))
    })
}

/// Calls a callback. Without one, the answer is "defer", as in a broker.
fn call(registered: Option<(c_int, Registered)>, data: *mut c_void) -> c_int {
    let Some((number, Registered { function, user_data })) = registered else { return abi::DEFER };
    // SAFETY: called with the data that it was registered with, and with data of this event.
    unsafe { function(number, data, user_data) }
}

/// Asks the plugin about a login, and acts on the answer as a broker does.
fn ask(client: *mut Client, password: &Password<'_>) -> c_int {
    forget_who_has_gone(client);
    let code = ask_login(registered(abi::BASIC_AUTH), client, password);
    if client.is_null() {
        return code;
    }
    // SAFETY: a client of this broker.
    let id = unsafe { &*client }.id();
    table(|table| match code {
        abi::SUCCESS => {
            table.sessions.insert(id, client);
        }
        abi::AUTH_DELAYED => {
            assert_eq!(table.version, Version::V2_1, "2.0 knows no such code");
            table.parked.insert(id, client);
        }
        _ => {}
    });
    code
}

/// A broker of 2.1 asks about somebody new under the id of one that is parked only when that one has gone, of which it
/// says nothing. (What it asks about its sessions is no login.)
fn forget_who_has_gone(client: *mut Client) {
    // SAFETY: NULL or a client of this broker.
    let Some(id) = unsafe { client.as_ref() }.map(Client::id) else { return };
    table(|table| {
        let is_session = table.sessions.values().any(|session| *session == client);
        if !is_session && table.parked.remove(&id).is_some() {
            table.gone_while_parked.insert(id);
        }
    });
}

fn ask_login(registered: Option<(c_int, Registered)>, client: *mut Client, password: &Password<'_>) -> c_int {
    // Copied, so that a read beyond the end of the text is noticed.
    // SAFETY: NULL or a client of this broker.
    let username = unsafe { client.as_ref() }.and_then(|client| client.username.clone());
    let mut bytes = password.bytes.map(|bytes| [bytes, &[0]].concat());
    let length = if password.says_length { password.bytes.unwrap_or_default().len() } else { 0 };
    let mut data = abi::BasicAuth {
        future: ptr::null_mut(),
        client,
        username: pointer(&username).cast_mut(),
        password: bytes.as_mut().map_or(ptr::null_mut(), |bytes| bytes.as_mut_ptr().cast()),
        // No CONNECT can hold a longer one.
        password_len: u16::try_from(length).unwrap_or(0),
        future2: [ptr::null_mut(); 3],
    };
    call(registered, (&raw mut data).cast())
}

fn ask_topic(
    registered: Option<(c_int, Registered)>,
    client: *mut Client,
    access: c_int,
    topic: Text<'_>,
) -> c_int {
    let topic = c_string(topic);
    let mut data = abi::AclCheck {
        future: ptr::null_mut(),
        client,
        topic: pointer(&topic),
        payload: ptr::null(),
        properties: ptr::null_mut(),
        access,
        payload_len: 0,
        qos: 0,
        retain: false,
        future2: [ptr::null_mut(); 4],
    };
    call(registered, (&raw mut data).cast())
}

fn await_completion(client: *mut Client) -> c_int {
    let deadline = Instant::now() + patience();
    loop {
        let result = table(|table| {
            let position = table.completed.iter().position(|(_, completed, _)| *completed == client)?;
            Some(table.completed.remove(position).2)
        });
        if let Some(result) = result {
            return result;
        }
        assert!(Instant::now() < deadline, "a client waits for ever");
        assert_eq!(tick(), abi::SUCCESS);
        thread::sleep(Duration::from_millis(1));
    }
}

/// Plays a tick. All fields of its event hold values that the plugin must leave alone, except the one that it may
/// write.
fn tick() -> c_int {
    const UNTOUCHED: c_long = 0x5a5a_5a5a;
    let untouched = ptr::without_provenance_mut(0x5a5a_5a5a);
    let before = abi::Tick {
        future: untouched,
        now_ns: UNTOUCHED,
        next_ms: 0,
        now_s: 0x5a5a_5a5a,
        next_s: 0,
        future2: [untouched; 4],
    };
    let mut data = before;
    let code = call(registered(abi::TICK), (&raw mut data).cast());
    assert_eq!(abi::Tick { next_ms: 0, ..data }, before);
    assert!([0, 1].contains(&data.next_ms), "the next tick is wanted in {} ms", data.next_ms);
    table(|table| table.wants_tick_early = data.next_ms == 1);
    code
}

/// Tells the plugin that a client has gone, and removes it from the tables.
pub(super) fn tell_gone(event: c_int, client: *mut Client) -> c_int {
    let mut data =
        abi::Disconnect { future: ptr::null_mut(), client, reason: 0, future2: [ptr::null_mut(); 4] };
    let code = call(registered(event), (&raw mut data).cast());
    forget(client);
    code
}

/// Takes the steps that are planned for the inside of one of the broker's functions. They may nest to a depth of 3,
/// which no real broker exceeds.
pub(super) fn reenter(this: *mut Client, steps: impl Fn(&CallsBack) -> &Vec<Step<'static>>) {
    let Some(plan) = table(|table| table.calls_back.clone()) else { return };
    let steps = steps(&plan);
    if steps.is_empty() {
        return;
    }
    let (plugin, before) = table(|table| {
        table.depth += 1;
        assert!(table.depth < 4, "the plugin and the broker call each other in circles");
        (table.plugin, std::mem::replace(&mut table.this, this))
    });
    Instance { plugin, user_data: ptr::null_mut() }.play(steps.iter().cloned());
    table(|table| {
        table.depth -= 1;
        table.this = before;
        table.plugin = plugin;
    });
}

/// The HTTP listener of 2.1, which asks about users of its own: their client id is `http-api`, and they have no
/// address.
#[derive(Clone, Copy)]
pub struct HttpApi {
    pub(super) login: Registered,
    pub(super) check: Registered,
}

// SAFETY: the plugin promises that its callbacks, with their data, can be called on two threads at once.
unsafe impl Send for HttpApi {}

impl HttpApi {
    fn client(username: &str) -> Client {
        Client::new(&Connection { id: "http-api".text(), username: username.text(), ..Connection::default() })
    }

    pub fn ask(self, username: &str, password: &str) -> c_int {
        let mut client = Self::client(username);
        let password = Password { bytes: password.text(), says_length: false };
        ask_login(Some((abi::BASIC_AUTH, self.login)), &raw mut client, &password)
    }

    pub fn check(self, username: &str, access: c_int, topic: &str) -> c_int {
        let mut client = Self::client(username);
        ask_topic(Some((abi::ACL_CHECK, self.check)), &raw mut client, access, topic.text())
    }
}
