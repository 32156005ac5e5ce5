//! The state of a thread's broker: its callbacks, clients, sessions and log.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;
use std::rc::Rc;

use super::Version;
use super::abi::Callback;
use super::step::{Connection, NOBODY, Step, THIS, Text};

/// A client: `struct mosquitto`, whose fields only the broker knows.
pub struct Client {
    pub(super) id: Option<CString>,
    pub(super) address: Option<CString>,
    pub(super) username: Option<CString>,
    pub(super) starts_clean: bool,
    pub(super) speaks_mqtt_5: bool,
}

impl Client {
    pub(super) fn new(connection: &Connection<'_>) -> Self {
        Self {
            id: c_string(connection.id),
            address: c_string(connection.address),
            username: c_string(connection.username),
            starts_clean: !connection.is_durable,
            speaks_mqtt_5: connection.speaks_mqtt_5,
        }
    }

    pub(super) fn id(&self) -> Vec<u8> {
        self.id.as_ref().map_or(Vec::new(), |id| id.to_bytes().to_vec())
    }
}

/// A registered callback with its data.
#[derive(Clone, Copy)]
pub(super) struct Registered {
    pub(super) function: Callback,
    pub(super) user_data: *mut c_void,
}

/// The steps that a broker takes inside its own functions, before they return.
#[derive(Debug, Default)]
pub struct CallsBack {
    /// Steps at each line of the log: `log_dest topic` asks which clients may read it.
    pub at_each_line: Vec<Step<'static>>,
    /// Steps at each completion: the will of a session that is taken over, and messages that waited for [`THIS`]
    /// client.
    pub at_each_completion: Vec<Step<'static>>,
    /// Steps at each kick: the will of [`THIS`] client.
    pub at_each_kick: Vec<Step<'static>>,
}

/// The broker's state. It is never borrowed while the plugin runs.
pub(super) struct Table {
    pub(super) version: Version,
    /// Registered callbacks, by plugin and event.
    pub(super) callbacks: HashMap<(usize, c_int), Registered>,
    /// The number of plugins that were loaded until now. Each `plugin` line has a number of its own.
    pub(super) plugins: usize,
    /// The plugin that is being called.
    pub(super) plugin: usize,
    /// Connections by their names in the scenario.
    pub(super) clients: HashMap<String, *mut Client>,
    /// Connected clients by their ids.
    pub(super) sessions: HashMap<Vec<u8>, *mut Client>,
    /// Parked clients by their ids; NULL for one that has gone since.
    pub(super) parked: HashMap<Vec<u8>, *mut Client>,
    /// Ids whose clients went while they were parked: completing them means nothing.
    pub(super) gone_while_parked: HashSet<Vec<u8>>,
    /// Completions in their order: client id, client, result.
    pub(super) completed: Vec<(Vec<u8>, *mut Client, c_int)>,
    pub(super) completions: usize,
    pub(super) kicks: usize,
    pub(super) log: Vec<String>,
    /// Whether init has returned: lines that are logged afterwards may come from clients.
    pub(super) is_running: bool,
    /// The event whose next registration is refused.
    pub(super) refuses: Option<c_int>,
    /// The event number that callbacks get instead of the right one.
    pub(super) mislabelled: Option<c_int>,
    pub(super) wants_tick_early: bool,
    pub(super) calls_back: Option<Rc<CallsBack>>,
    /// How many calls of the plugin from inside the broker's functions are nested at the moment.
    pub(super) depth: usize,
    /// The client that the innermost of these calls is about.
    pub(super) this: *mut Client,
}

thread_local! {
    pub(super) static TABLE: RefCell<Option<Table>> = const { RefCell::new(None) };
}

pub(super) fn table<R>(part: impl FnOnce(&mut Table) -> R) -> R {
    TABLE.with_borrow_mut(|table| {
        part(table.as_mut().expect("the broker's functions are called on its own thread, and while it runs"))
    })
}

impl Table {
    pub(super) fn new(version: Version) -> Self {
        Self {
            version,
            callbacks: HashMap::new(),
            plugins: 0,
            plugin: 0,
            clients: HashMap::new(),
            sessions: HashMap::new(),
            parked: HashMap::new(),
            gone_while_parked: HashSet::new(),
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
        }
    }

    pub(super) fn client(&self, who: &str) -> *mut Client {
        match who {
            NOBODY => ptr::null_mut(),
            THIS => self.this,
            who => *self.clients.get(who).unwrap_or_else(|| panic!("nobody is called {who}")),
        }
    }
}

/// Removes a client from the table of sessions, and keeps it from getting there if it is parked.
pub(super) fn forget(client: *mut Client) {
    table(|table| {
        table.sessions.retain(|_, session| *session != client);
        for parked in table.parked.values_mut().filter(|parked| **parked == client) {
            *parked = ptr::null_mut();
        }
    });
}

/// A text as a C string, up to its first NUL.
pub(super) fn c_string(text: Text<'_>) -> Option<CString> {
    let text = text?;
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    CString::new(&text[..end]).ok()
}

pub(super) fn pointer(text: &Option<CString>) -> *const c_char {
    text.as_ref().map_or(ptr::null(), |text| text.as_ptr())
}
