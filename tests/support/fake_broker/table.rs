//! What the broker of a thread knows, and whom.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;
use std::rc::Rc;

use super::Version;
use super::abi::Callback;
use super::step::{Connection, NOBODY, Step, THIS, Text};

/// `struct mosquitto`, which is the broker's own business.
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

/// What a broker calls for an event, and with what.
#[derive(Clone, Copy)]
pub(super) struct Registered {
    pub(super) function: Callback,
    pub(super) user_data: *mut c_void,
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
pub(super) struct Table {
    pub(super) version: Version,
    /// By plugin and event.
    pub(super) callbacks: HashMap<(usize, c_int), Registered>,
    /// Plugins that were ever loaded: each line in mosquitto.conf has a number of its own.
    pub(super) plugins: usize,
    /// The plugin that is being called.
    pub(super) plugin: usize,
    /// Connections by their names in the scenario.
    pub(super) clients: HashMap<String, *mut Client>,
    /// Connected clients by their ids.
    pub(super) sessions: HashMap<Vec<u8>, *mut Client>,
    /// Clients that wait, by their ids; NULL is one that has gone since.
    pub(super) parked: HashMap<Vec<u8>, *mut Client>,
    /// Who was completed, in that order: client id, client, result.
    pub(super) completed: Vec<(Vec<u8>, *mut Client, c_int)>,
    pub(super) completions: usize,
    pub(super) kicks: usize,
    pub(super) log: Vec<String>,
    /// A plugin has started: what it logs comes from clients by now.
    pub(super) is_running: bool,
    /// The event whose registration fails next.
    pub(super) refuses: Option<c_int>,
    /// The number that callbacks are told.
    pub(super) mislabelled: Option<c_int>,
    pub(super) wants_tick_early: bool,
    pub(super) calls_back: Option<Rc<CallsBack>>,
    /// How deep the broker stands in calls of the plugin out of its own functions, and whom they are about.
    pub(super) depth: usize,
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

/// This client is nobody's session any more, and cannot become one.
pub(super) fn forget(client: *mut Client) {
    table(|table| {
        table.sessions.retain(|_, session| *session != client);
        for parked in table.parked.values_mut().filter(|parked| **parked == client) {
            *parked = ptr::null_mut();
        }
    });
}

/// A text, up to the first NUL, and NULL for none.
pub(super) fn c_string(text: Text<'_>) -> Option<CString> {
    let text = text?;
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    CString::new(&text[..end]).ok()
}

pub(super) fn pointer(text: &Option<CString>) -> *const c_char {
    text.as_ref().map_or(ptr::null(), |text| text.as_ptr())
}
