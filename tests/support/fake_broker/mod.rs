//! What a broker is to a plugin, without its network: the functions that it offers, its tables, and how it loads and
//! calls a plugin. The tests of the C interface (`tests/host.rs`), its fuzzing (`fuzz/targets/support/broker.rs`) and
//! its run in Miri (`src/ffi/entry/tests.rs`) all have this one.
//!
//! It keeps the rules of real brokers: clients that wait are parked by their client ids, connected ones stand in a
//! table of sessions, kicks disconnect at once, and its functions may call back into the plugin before they return
//! ([`CallsBack`]). Beyond them it takes every order of events ([`step`]), and finds out what brokers would not: calls
//! from another thread, completions of nobody, lines within lines in the log, and writing where nothing is to be
//! written.
//!
//! A broker is its thread's: each thread has one of its own, or none.
#![allow(dead_code, unused_imports)] // everybody uses a part of this
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod abi;
pub mod functions;
pub mod step;

use std::cell::RefCell;
use std::collections::HashMap;
use std::env;
use std::ffi::{CString, c_char, c_int, c_long, c_void};
use std::marker::PhantomData;
use std::ptr;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use abi::{Callback, RawOption};
use step::{Action, Connection, Expected, IntoText, NOBODY, Password, Step, THIS, Text};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V2_0,
    V2_1,
}

/// The functions that a plugin exports.
#[derive(Clone, Copy)]
pub struct Plugin {
    pub version: abi::PluginVersion,
    pub init: abi::PluginInit,
    pub cleanup: abi::PluginCleanup,
}

/// What init is given: names and values.
pub type Options<'a> = [(Text<'a>, Text<'a>)];

/// `struct mosquitto`, which is the broker's own business.
pub struct Client {
    id: Option<CString>,
    address: Option<CString>,
    username: Option<CString>,
    starts_clean: bool,
    speaks_mqtt_5: bool,
}

impl Client {
    fn new(connection: &Connection<'_>) -> Self {
        Self {
            id: c_string(connection.id),
            address: c_string(connection.address),
            username: c_string(connection.username),
            starts_clean: !connection.is_durable,
            speaks_mqtt_5: connection.speaks_mqtt_5,
        }
    }

    fn id(&self) -> Vec<u8> {
        self.id.as_ref().map_or(Vec::new(), |id| id.to_bytes().to_vec())
    }
}

/// What a broker calls for an event, and with what.
#[derive(Clone, Copy)]
struct Registered {
    function: Callback,
    user_data: *mut c_void,
}

/// What a broker does from inside its own functions, before they return.
#[derive(Debug, Default)]
pub struct CallsBack {
    /// `log_dest topic`: who may read each line.
    pub at_each_line: Vec<Step<'static>>,
    /// The will of whoever is taken over, and what waited for [`THIS`] client.
    pub at_each_completion: Vec<Step<'static>>,
    /// The will of [`THIS`] client.
    pub at_each_kick: Vec<Step<'static>>,
}

/// What the broker knows. Nobody holds it while the plugin runs.
struct Table {
    version: Version,
    /// By plugin and event.
    callbacks: HashMap<(usize, c_int), Registered>,
    /// Plugins that were ever loaded: each line in mosquitto.conf has a number of its own.
    plugins: usize,
    /// The plugin that is being called.
    plugin: usize,
    /// Connections by their names in the scenario.
    clients: HashMap<String, *mut Client>,
    /// Connected clients by their ids.
    sessions: HashMap<Vec<u8>, *mut Client>,
    /// Clients that wait, by their ids; NULL is one that has gone since.
    parked: HashMap<Vec<u8>, *mut Client>,
    /// Who was completed, in that order: client id, client, result.
    completed: Vec<(Vec<u8>, *mut Client, c_int)>,
    completions: usize,
    kicks: usize,
    log: Vec<String>,
    /// A plugin has started: what it logs comes from clients by now.
    is_running: bool,
    /// The event whose registration fails next.
    refuses: Option<c_int>,
    /// The number that callbacks are told.
    mislabelled: Option<c_int>,
    wants_tick_early: bool,
    calls_back: Option<Rc<CallsBack>>,
    /// How deep the broker stands in calls of the plugin out of its own functions, and whom they are about.
    depth: usize,
    this: *mut Client,
}

thread_local! {
    static TABLE: RefCell<Option<Table>> = const { RefCell::new(None) };
}

fn table<R>(part: impl FnOnce(&mut Table) -> R) -> R {
    TABLE.with_borrow_mut(|table| {
        part(table.as_mut().expect("the broker's functions are called on its own thread, and while it runs"))
    })
}

/// A text, up to the first NUL, and NULL for none.
fn c_string(text: Text<'_>) -> Option<CString> {
    let text = text?;
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    CString::new(&text[..end]).ok()
}

fn pointer(text: &Option<CString>) -> *const c_char {
    text.as_ref().map_or(ptr::null(), |text| text.as_ptr())
}

/// How long a client may have to wait for its completion. Where another program runs this one, everything takes longer.
fn patience() -> Duration {
    Duration::from_secs(if env::var_os("MHA_LAUNCHER").is_some() { 200 } else { 20 })
}

/// One `plugin` line in mosquitto.conf, and what the plugin keeps for it.
#[derive(Debug, Clone, Copy)]
pub struct Instance {
    plugin: usize,
    user_data: *mut c_void,
}

impl Instance {
    /// Whether the plugin left nothing behind: neither data nor a callback.
    pub fn is_nothing(self) -> bool {
        self.user_data.is_null() && !self.has_callbacks()
    }

    pub fn has_callbacks(self) -> bool {
        table(|table| table.callbacks.keys().any(|(plugin, _)| *plugin == self.plugin))
    }

    pub fn has_callback(self, event: c_int) -> bool {
        table(|table| table.callbacks.contains_key(&(self.plugin, event)))
    }

    /// Takes steps, each of which has to give what it is expected to give.
    #[track_caller]
    pub fn play<'a>(self, steps: impl IntoIterator<Item = Step<'a>>) {
        for step in steps {
            let code = take(self.plugin, &step);
            let Some(expected) = step.expected.or_else(|| usual(&step.action)) else { continue };
            let log = || table(|table| table.log.join("\n"));
            assert!(expected.is(code), "{}\n{step:?} gives {code}, expected {expected:?}", log());
        }
    }

    /// Takes a step; gives the plugin's code, and "not my business" where it was not asked.
    pub fn take(self, step: &Step<'_>) -> c_int {
        take(self.plugin, step)
    }
}

/// The running broker of this thread.
pub struct FakeBroker {
    plugin: Plugin,
    of_this_thread: PhantomData<*mut ()>,
}

impl FakeBroker {
    pub fn new(version: Version, plugin: Plugin) -> Self {
        let table = Table {
            version,
            callbacks: HashMap::new(),
            plugins: 0,
            plugin: 0,
            clients: HashMap::new(),
            sessions: HashMap::new(),
            parked: HashMap::new(),
            completed: Vec::new(),
            completions: 0,
            kicks: 0,
            log: Vec::new(),
            is_running: false,
            refuses: None,
            mislabelled: None,
            wants_tick_early: false,
            calls_back: None,
            depth: 0,
            this: ptr::null_mut(),
        };
        let before = TABLE.replace(Some(table));
        assert!(before.is_none(), "a thread has one broker at most");
        Self { plugin, of_this_thread: PhantomData }
    }

    pub fn is_2_1(&self) -> bool {
        version() == Version::V2_1
    }

    /// The plugin's library was loaded anew.
    pub fn replace_plugin(&mut self, plugin: Plugin) {
        self.plugin = plugin;
    }

    pub fn offer(&self, count: c_int, versions: Option<&[c_int]>) -> c_int {
        let versions = versions.map_or(ptr::null(), <[c_int]>::as_ptr);
        // SAFETY: as many versions as are said, or NULL, which the plugin promises to survive.
        unsafe { (self.plugin.version)(count, versions) }
    }

    /// Starts the plugin as one more line in mosquitto.conf; gives its code, too.
    pub fn start(&self, options: &Options<'_>) -> (c_int, Instance) {
        let count = c_int::try_from(options.len()).expect("few");
        self.start_with_count(Some(options), count)
    }

    /// As [`Self::start`], with another count than there are options (a smaller one), or with NULL for options.
    pub fn start_with_count(&self, options: Option<&Options<'_>>, count: c_int) -> (c_int, Instance) {
        let plugin = table(|table| {
            table.plugins += 1;
            table.plugins
        });
        let mut user_data = ptr::null_mut();
        let code = self.init(plugin, &raw mut user_data, options, count);
        (code, Instance { plugin, user_data })
    }

    /// Starts the plugin once more for the same line: gives its code and what it left.
    pub fn start_again(&self, instance: Instance, options: &Options<'_>) -> (c_int, *mut c_void) {
        let mut user_data = ptr::null_mut();
        let count = c_int::try_from(options.len()).expect("few");
        (self.init(instance.plugin, &raw mut user_data, Some(options), count), user_data)
    }

    /// Starts the plugin without a place for its data.
    pub fn start_without_place(&self, options: &Options<'_>) -> (c_int, Instance) {
        let plugin = table(|table| {
            table.plugins += 1;
            table.plugins
        });
        let count = c_int::try_from(options.len()).expect("few");
        let code = self.init(plugin, ptr::null_mut(), Some(options), count);
        (code, Instance { plugin, user_data: ptr::null_mut() })
    }

    fn init(
        &self,
        plugin: usize,
        user_data: *mut *mut c_void,
        options: Option<&Options<'_>>,
        count: c_int,
    ) -> c_int {
        let texts = options.map(|options| {
            options.iter().map(|(name, value)| (c_string(*name), c_string(*value))).collect::<Vec<_>>()
        });
        let mut raw = texts.as_ref().map(|texts| {
            let raw = |text| pointer(text).cast_mut();
            texts
                .iter()
                .map(|(key, value)| RawOption { key: raw(key), value: raw(value) })
                .collect::<Vec<_>>()
        });
        let list = raw.as_mut().map_or(ptr::null_mut(), Vec::as_mut_ptr);
        table(|table| (table.is_running, table.plugin) = (false, plugin));
        // SAFETY: as a broker calls it; the options live until it returns.
        let code = unsafe { (self.plugin.init)(ptr::without_provenance_mut(plugin), user_data, list, count) };
        table(|table| table.is_running = true);
        code
    }

    /// Stops the plugin. 2.1 does so with whatever init left, also when that failed.
    pub fn stop(&self, instance: Instance) {
        table(|table| table.plugin = instance.plugin);
        // SAFETY: as a broker calls it, once.
        let code = unsafe { (self.plugin.cleanup)(instance.user_data, ptr::null_mut(), 0) };
        assert_eq!(code, abi::SUCCESS);
        assert!(!instance.has_callbacks(), "a callback is left behind");
    }

    /// Refuses the next registration for this event.
    pub fn refuse(&self, event: c_int) {
        table(|table| table.refuses = Some(event));
    }

    /// Whether the registration was asked for that was to be refused; none is from now on.
    pub fn has_refused(&self) -> bool {
        table(|table| table.refuses.take()).is_none()
    }

    /// From now on the broker calls the plugin from inside its functions.
    pub fn call_back(&self, plan: CallsBack) {
        table(|table| table.calls_back = Some(Rc::new(plan)));
    }

    pub fn has_logged(&self, text: &str) -> bool {
        table(|table| table.log.iter().any(|line| line.contains(text)))
    }

    /// What was logged since this was last asked.
    pub fn take_log(&self) -> Vec<String> {
        table(|table| std::mem::take(&mut table.log))
    }

    /// Who was completed since this was last asked, in that order: client id and result.
    pub fn take_completed(&self) -> Vec<(Vec<u8>, c_int)> {
        let completed = table(|table| std::mem::take(&mut table.completed));
        completed.into_iter().map(|(id, _, result)| (id, result)).collect()
    }

    /// How many clients were ever completed.
    pub fn completions(&self) -> usize {
        table(|table| table.completions)
    }

    pub fn kicks(&self) -> usize {
        table(|table| table.kicks)
    }

    pub fn is_parked(&self, id: &[u8]) -> bool {
        table(|table| table.parked.contains_key(id))
    }

    pub fn has_parked(&self) -> bool {
        table(|table| !table.parked.is_empty())
    }

    /// Whether this very connection is in the table of sessions.
    pub fn is_connected(&self, who: &str) -> bool {
        table(|table| {
            let client = table.client(who);
            table.sessions.values().any(|session| *session == client)
        })
    }

    /// Whether the plugin, at the last tick, wanted the next one early.
    pub fn wants_tick_early(&self) -> bool {
        table(|table| table.wants_tick_early)
    }

    /// Ends the broker: whoever calls one of its functions from now on is found out.
    pub fn end(&self) {
        let Some(table) = TABLE.take() else { return };
        for client in table.clients.into_values() {
            // SAFETY: made from a box when it connected, and gone from the tables just now.
            drop(unsafe { Box::from_raw(client) });
        }
    }

    /// The HTTP listener of 2.1, which calls the plugin on a thread of its own.
    pub fn http_api(&self, instance: Instance) -> HttpApi {
        let registered = |event| table(|table| table.callbacks[&(instance.plugin, event)]);
        HttpApi { login: registered(abi::BASIC_AUTH), check: registered(abi::ACL_CHECK) }
    }
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.end();
    }
}

/// The version of this thread's broker.
pub fn version() -> Version {
    table(|table| table.version)
}

impl Table {
    fn client(&self, who: &str) -> *mut Client {
        match who {
            NOBODY => ptr::null_mut(),
            THIS => self.this,
            who => *self.clients.get(who).unwrap_or_else(|| panic!("nobody is called {who}")),
        }
    }
}

/// What is expected of the plugin unless a step says something else. To a reload no other code would do: see
/// `Code::of_reload`.
fn usual(action: &Action<'_>) -> Option<Expected> {
    let code = match (action, version()) {
        (Action::Connect(_) | Action::Name(_) | Action::Mislabel(_), _) => return None,
        (Action::Tick | Action::Disconnect, _) => abi::SUCCESS,
        (Action::Offline | Action::Reload, Version::V2_1) => abi::SUCCESS,
        (Action::Offline | Action::Reload, Version::V2_0) => abi::DEFER,
        _ => panic!("a step without an expectation proves nothing: {action:?}"),
    };
    Some(Expected::Code(code))
}

fn take(plugin: usize, step: &Step<'_>) -> c_int {
    table(|table| table.plugin = plugin);
    let client = || table(|table| table.client(step.who));
    match &step.action {
        Action::Connect(connection) => {
            let client = Box::into_raw(Box::new(Client::new(connection)));
            if let Some(gone) = table(|table| table.clients.insert(step.who.to_owned(), client)) {
                forget(gone);
                // Elsewhere than the new one: whoever still follows it is found out.
                // SAFETY: made from a box when it connected, and gone from the tables just now.
                drop(unsafe { Box::from_raw(gone) });
            }
            abi::SUCCESS
        }
        Action::Name(username) => {
            // SAFETY: a client of this broker, which nobody reads at the moment.
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

/// What the plugin that is being called has registered for an event, and the number that it is told.
fn registered(event: c_int) -> Option<(c_int, Registered)> {
    table(|table| {
        let registered = *table.callbacks.get(&(table.plugin, event))?;
        Some((table.mislabelled.unwrap_or(event), registered))
    })
}

/// Calls what is registered. A broker takes no answer for "not my business".
fn call(registered: Option<(c_int, Registered)>, data: *mut c_void) -> c_int {
    let Some((number, Registered { function, user_data })) = registered else { return abi::DEFER };
    // SAFETY: called with the data that it was registered with, and with data of this event.
    unsafe { function(number, data, user_data) }
}

/// BASIC_AUTH, and what a broker makes of the answer.
fn ask(client: *mut Client, password: &Password<'_>) -> c_int {
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

fn ask_login(registered: Option<(c_int, Registered)>, client: *mut Client, password: &Password<'_>) -> c_int {
    // A copy of its own, so that whoever reads beyond its end is found out.
    // SAFETY: NULL or a client.
    let username = unsafe { client.as_ref() }.and_then(|client| client.username.clone());
    let mut bytes = password.bytes.map(|bytes| [bytes, &[0]].concat());
    let length = if password.says_length { password.bytes.unwrap_or_default().len() } else { 0 };
    let mut data = abi::BasicAuth {
        future: ptr::null_mut(),
        client,
        username: pointer(&username).cast_mut(),
        password: bytes.as_mut().map_or(ptr::null_mut(), |bytes| bytes.as_mut_ptr().cast()),
        // What is longer no CONNECT can bring.
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

/// A tick whose event is full of what the plugin must leave alone, but for the one field that it may write to.
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

/// Tells the plugin that a client is gone, and takes it out of the table.
fn tell_gone(event: c_int, client: *mut Client) -> c_int {
    let mut data =
        abi::Disconnect { future: ptr::null_mut(), client, reason: 0, future2: [ptr::null_mut(); 4] };
    let code = call(registered(event), (&raw mut data).cast());
    forget(client);
    code
}

/// This client is nobody's session any more, and cannot become one.
fn forget(client: *mut Client) {
    table(|table| {
        table.sessions.retain(|_, session| *session != client);
        for parked in table.parked.values_mut().filter(|parked| **parked == client) {
            *parked = ptr::null_mut();
        }
    });
}

/// Takes the steps that are planned for inside one of the broker's functions. No real one goes deeper than this.
fn reenter(this: *mut Client, steps: impl Fn(&CallsBack) -> &Vec<Step<'static>>) {
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

/// What the HTTP listener of 2.1 asks, for users of its own: their client id is `http-api`, and they have no address.
#[derive(Clone, Copy)]
pub struct HttpApi {
    login: Registered,
    check: Registered,
}

// SAFETY: the plugin promises that it can be called on two threads at once; what is registered is its own.
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
