//! What stands between the broker and the plugin: a panic becomes a refusal, and the log is written when nothing is
//! held any more.

use std::ffi::{c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::code::Code;
use super::events::Malformed;
use super::functions::{Identifier, Process};
use super::sys::mosquitto_plugin_event as event;
use crate::broker::{Broker, Caller};
use crate::log::Level;
use crate::plugin::{Plugin, Ruling};
use crate::util::panics;

/// A callback as the broker calls it: the event's number, its data, and what was registered with it.
pub(super) type Callback = unsafe extern "C" fn(c_int, *mut c_void, *mut c_void) -> c_int;

/// What the broker keeps for each loaded plugin.
pub(super) struct Instance {
    pub(super) process: Arc<Process>,
    identifier: Identifier,
    plugin: Plugin,
    /// The callbacks that this plugin always needs; without any of them it would leave a door open.
    callbacks: Vec<(event::Type, Callback)>,
    topic_checks: (event::Type, Callback),
    /// Topic checks are registered.
    checks_topics: AtomicBool,
    /// Lines are being written: the broker may call back into the plugin for each of them.
    writing: AtomicBool,
}

impl Instance {
    pub(super) fn new(
        process: Arc<Process>,
        identifier: Identifier,
        plugin: Plugin,
        callbacks: Vec<(event::Type, Callback)>,
        topic_checks: (event::Type, Callback),
    ) -> Self {
        Self {
            process,
            identifier,
            plugin,
            callbacks,
            topic_checks,
            checks_topics: AtomicBool::new(false),
            writing: AtomicBool::new(false),
        }
    }

    /// Runs a callback's body. A panic in it refuses: it becomes `on_panic`, and a line in the log.
    pub(super) fn guarded(&self, on_panic: Code, body: impl FnOnce(&Plugin, &Caller) -> Code) -> c_int {
        let caller = self.process.caller();
        let code = panics::caught(|| body(&self.plugin, &caller)).unwrap_or_else(|place| {
            self.plugin.log().write(Level::Error, panics::message(&place, "Refused."));
            on_panic
        });
        self.write_log();
        code.0
    }

    /// Refuses an event that is not what the interface promises.
    pub(super) fn refuse_malformed(&self, malformed: Malformed) -> Ruling {
        let line = || format!("Refused a request of the broker: {}.", malformed.0);
        self.plugin.log().refusal(Instant::now(), line);
        Ruling::Deny
    }

    /// Writes what is queued for the log, on the broker's thread, with nothing held.
    pub(super) fn write_log(&self) {
        let log = self.plugin.log();
        if !log.any() || !self.process.is_own_thread() || self.writing.swap(true, Ordering::Acquire) {
            return;
        }
        while let Some((level, line)) = log.next() {
            self.process.write_log(level, &line);
        }
        self.writing.store(false, Ordering::Release);
    }

    /// Registers all callbacks, or none: those that are refused may be another instance's, which keeps them.
    pub(super) fn register_all(&self) -> Result<(), Code> {
        for (registered, callback) in self.callbacks.iter().enumerate() {
            self.register(*callback).inspect_err(|_| self.unregister(&self.callbacks[..registered]))?;
        }
        self.follow_topic_checks().inspect_err(|_| self.unregister(&self.callbacks))
    }

    pub(super) fn unregister_all(&self) {
        self.unregister(&self.callbacks);
        self.unregister(&[self.topic_checks]);
    }

    /// Has the broker ask about topics, or not: a plugin that is asked and has nothing to say would have it
    /// refuse everybody.
    pub(super) fn follow_topic_checks(&self) -> Result<(), Code> {
        let wanted = self.plugin.checks_topics();
        if self.checks_topics.swap(wanted, Ordering::Relaxed) == wanted {
            return Ok(());
        }
        if wanted {
            return self.register(self.topic_checks).inspect_err(|_| {
                self.checks_topics.store(false, Ordering::Relaxed);
            });
        }
        self.unregister(&[self.topic_checks]);
        Ok(())
    }

    fn register(&self, (event, callback): (event::Type, Callback)) -> Result<(), Code> {
        let user_data = (&raw const *self).cast_mut().cast();
        // SAFETY: the instance stays where it is, and its callbacks are unregistered before it goes: when init
        // fails, or by cleanup.
        unsafe { self.process.register(self.identifier, event, callback, user_data) }.inspect_err(|code| {
            self.process.write_log(Level::Error, &cannot_register(event, *code));
        })
    }

    fn unregister(&self, callbacks: &[(event::Type, Callback)]) {
        for (event, callback) in callbacks {
            self.process.unregister(self.identifier, *event, *callback);
        }
    }
}

/// Callbacks may run on two threads at once.
const _: () = {
    const fn callable_from_any_thread<T: Sync>() {}
    callable_from_any_thread::<Plugin>();
};

fn cannot_register(event: event::Type, code: Code) -> String {
    let why = match code {
        Code::ALREADY_EXISTS => {
            "another plugin line names this same file, which this broker can load only once; keep one of \
             them, or load the file per listener with per_listener_settings true"
        }
        _ => "the broker refused the callback",
    };
    format!("Cannot handle events number {event} (code {}): {why}.", code.0)
}
