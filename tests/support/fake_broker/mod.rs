//! A fake broker: all that a broker is to a plugin, but without a network. It has the broker's functions and tables,
//! and loads and calls a plugin. The tests of the C interface use it (`tests/host.rs`), its fuzzing
//! (`fuzz/targets/support/broker.rs`), and its run in Miri (`src/ffi/entry/tests.rs`).
//!
//! It keeps the rules of real brokers: clients that wait are parked by their client ids, connected ones stand in a
//! table of sessions, kicks disconnect at once, and its functions may call back into the plugin before they return
//! ([`CallsBack`]). Unlike real brokers it plays any order of events ([`step`]), and it fails on mistakes that those
//! would not notice: calls from another thread, completions of clients that are not parked, log lines within log lines,
//! and writes to fields that belong to the broker.
//!
//! Each thread has a fake broker of its own, or none.
#![allow(dead_code, unused_imports, reason = "every user needs its own part of this")]

pub mod abi;
mod events;
pub mod functions;
pub mod step;
mod table;

use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::ptr;
use std::rc::Rc;

use abi::RawOption;
use step::{Step, Text};
use table::{TABLE, Table, c_string, pointer, table};

pub use events::HttpApi;
pub use table::{CallsBack, Client};

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

/// Names and values of the options that init gets.
pub type Options<'a> = [(Text<'a>, Text<'a>)];

/// One `plugin` line in mosquitto.conf, and the data that the plugin keeps for it.
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

    /// Takes steps, and asserts for each that the plugin returns the expected code.
    #[track_caller]
    pub fn play<'a>(self, steps: impl IntoIterator<Item = Step<'a>>) {
        for step in steps {
            let code = events::take(self.plugin, &step);
            let Some(expected) = step.expected.or_else(|| events::usual(&step.action)) else { continue };
            let log = || table(|table| table.log.join("\n"));
            assert!(expected.is(code), "{}\n{step:?} gives {code}, expected {expected:?}", log());
        }
    }

    /// Takes a step, and returns the plugin's code, or "defer" where the plugin was not called.
    pub fn take(self, step: &Step<'_>) -> c_int {
        events::take(self.plugin, step)
    }
}

/// The running broker of this thread.
pub struct FakeBroker {
    plugin: Plugin,
    of_this_thread: PhantomData<*mut ()>,
}

impl FakeBroker {
    pub fn new(version: Version, plugin: Plugin) -> Self {
        let before = TABLE.replace(Some(Table::new(version)));
        assert!(before.is_none(), "a thread has one broker at most");
        Self { plugin, of_this_thread: PhantomData }
    }

    pub fn is_2_1(&self) -> bool {
        version() == Version::V2_1
    }

    /// Replaces the plugin's functions after its library was loaded again.
    pub fn replace_plugin(&mut self, plugin: Plugin) {
        self.plugin = plugin;
    }

    pub fn offer(&self, count: c_int, versions: Option<&[c_int]>) -> c_int {
        let versions = versions.map_or(ptr::null(), <[c_int]>::as_ptr);
        // SAFETY: `versions` points to at least `count` numbers, or is NULL, which the plugin checks.
        unsafe { (self.plugin.version)(count, versions) }
    }

    /// Starts the plugin for one more line in mosquitto.conf, and returns its code and the instance.
    pub fn start(&self, options: &Options<'_>) -> (c_int, Instance) {
        let count = c_int::try_from(options.len()).expect("few");
        self.start_with_count(Some(options), count)
    }

    /// Like [`Self::start`], but with a count that may be smaller than the number of options, or with NULL for options.
    pub fn start_with_count(&self, options: Option<&Options<'_>>, count: c_int) -> (c_int, Instance) {
        let plugin = table(|table| {
            table.plugins += 1;
            table.plugins
        });
        let mut user_data = ptr::null_mut();
        let code = self.init(plugin, &raw mut user_data, options, count);
        (code, Instance { plugin, user_data })
    }

    /// Starts the plugin once more for the same line, and returns its code and its data.
    pub fn start_again(&self, instance: Instance, options: &Options<'_>) -> (c_int, *mut c_void) {
        let mut user_data = ptr::null_mut();
        let count = c_int::try_from(options.len()).expect("few");
        (self.init(instance.plugin, &raw mut user_data, Some(options), count), user_data)
    }

    /// Starts the plugin with NULL where init stores its data.
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
        // SAFETY: the call is a broker's, and the options live until it returns.
        let code = unsafe { (self.plugin.init)(ptr::without_provenance_mut(plugin), user_data, list, count) };
        table(|table| table.is_running = true);
        code
    }

    /// Stops the plugin. A broker of 2.1 does so also where init has failed, with the data that init left.
    pub fn stop(&self, instance: Instance) {
        table(|table| table.plugin = instance.plugin);
        // SAFETY: the call is a broker's, and the only one for this instance.
        let code = unsafe { (self.plugin.cleanup)(instance.user_data, ptr::null_mut(), 0) };
        assert_eq!(code, abi::SUCCESS);
        assert!(!instance.has_callbacks(), "a callback is left behind");
    }

    /// Refuses the next registration for this event.
    pub fn refuse(&self, event: c_int) {
        table(|table| table.refuses = Some(event));
    }

    /// Whether the registration that [`Self::refuse`] announced has been refused. None will be from now on.
    pub fn has_refused(&self) -> bool {
        table(|table| table.refuses.take()).is_none()
    }

    /// Has the broker call the plugin from inside its functions from now on.
    pub fn call_back(&self, plan: CallsBack) {
        table(|table| table.calls_back = Some(Rc::new(plan)));
    }

    pub fn has_logged(&self, text: &str) -> bool {
        table(|table| table.log.iter().any(|line| line.contains(text)))
    }

    /// Takes the lines that were logged since the last call.
    pub fn take_log(&self) -> Vec<String> {
        table(|table| std::mem::take(&mut table.log))
    }

    /// Takes the completions since the last call, in their order: client ids and results.
    pub fn take_completed(&self) -> Vec<(Vec<u8>, c_int)> {
        let completed = table(|table| std::mem::take(&mut table.completed));
        completed.into_iter().map(|(id, _, result)| (id, result)).collect()
    }

    /// How many clients were completed until now.
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

    /// Whether this connection, and not only its client id, is in the table of sessions.
    pub fn is_connected(&self, who: &str) -> bool {
        table(|table| {
            let client = table.client(who);
            table.sessions.values().any(|session| *session == client)
        })
    }

    /// Whether the plugin wanted an early next tick at the last one.
    pub fn wants_tick_early(&self) -> bool {
        table(|table| table.wants_tick_early)
    }

    /// Ends the broker. A call of one of its functions fails from now on.
    pub fn end(&self) {
        let Some(table) = TABLE.take() else { return };
        for client in table.clients.into_values() {
            // SAFETY: the client was made from a box when it connected, and its table is gone.
            drop(unsafe { Box::from_raw(client) });
        }
    }

    /// The HTTP listener of 2.1, which calls the plugin on another thread.
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
