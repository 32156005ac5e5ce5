//! The guard around every callback: a panic becomes a refusal, and the log is written when no lock is held any more.

use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use once_cell::sync::OnceCell;

use super::code::Code;
use super::events::Malformed;
use super::functions::{Callback, Identifier, Process};
use super::sys::mosquitto_plugin_event as event;
use crate::broker::{Broker, Caller, Client};
use crate::log::{Level, Refused};
use crate::plugin::{CONTROL_TOPIC, Plugin};
use crate::steer::Doors;
use crate::util::{Lock, panics};

/// One loaded plugin. The broker keeps its address and passes it to every callback.
pub(super) struct Instance {
    pub(super) process: Arc<Process>,
    identifier: Identifier,
    /// Declared before the plugin, since what it holds belongs to that.
    doors: Lock<Doors>,
    plugin: Plugin,
    /// The callbacks that the plugin always needs. It does not start without all of them.
    callbacks: Vec<(event::Type, Callback)>,
    /// The callback for topic checks, registered only while the plugin decides about topics.
    topic_checks: (event::Type, Callback),
    /// Whether `topic_checks` is registered.
    checks_topics: AtomicBool,
    /// The callback for commands, if it is registered.
    control: OnceCell<(event::Type, Callback)>,
    /// Whether lines are being written. The broker may call back into the plugin for each line.
    writing: AtomicBool,
}

impl Instance {
    pub(super) fn new(
        process: Arc<Process>,
        identifier: Identifier,
        doors: Doors,
        plugin: Plugin,
        callbacks: Vec<(event::Type, Callback)>,
        topic_checks: (event::Type, Callback),
    ) -> Self {
        Self {
            process,
            identifier,
            doors: Lock::new(doors),
            plugin,
            callbacks,
            topic_checks,
            checks_topics: AtomicBool::new(false),
            control: OnceCell::new(),
            writing: AtomicBool::new(false),
        }
    }

    /// Serves those who come to see or steer the plugin.
    pub(super) fn serve(&self) -> Result<(), Code> {
        let served = self.doors.lock().serve();
        served.map_err(|line| {
            self.process.write_log(Level::Error, &line);
            Code::INVALID
        })
    }

    /// Runs the body of a callback, then writes the log. A panic in the body becomes `on_panic` and a line in the log.
    pub(super) fn guarded(&self, on_panic: Code, body: impl FnOnce(&Plugin, &Caller) -> Code) -> c_int {
        let caller = self.process.caller();
        let code = panics::caught(|| body(&self.plugin, &caller)).unwrap_or_else(|location| {
            self.plugin.log().write(Level::Error, panics::message(&location, "Refused."));
            on_panic
        });
        self.write_log();
        code.0
    }

    /// Says in the log that an event is refused because it breaks a promise of the plugin interface.
    pub(super) fn refuse_malformed(&self, malformed: Malformed) {
        let line = || format!("Refused a request of the broker: {}.", malformed.0);
        let refused = Refused { client: None, reason: "a request that makes no sense" };
        self.plugin.log().refusal(Instant::now(), &refused, line);
    }

    /// Writes the queued lines to the broker's log. Does nothing on another thread. No lock may be held.
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

    /// Registers all callbacks, or none. If one is refused, only those registered before it are unregistered: the
    /// others may belong to another instance.
    pub(super) fn register_all(&self, control: (event::Type, Callback)) -> Result<(), Code> {
        for (registered, callback) in self.callbacks.iter().enumerate() {
            self.register(*callback).inspect_err(|_| self.unregister(&self.callbacks[..registered]))?;
        }
        self.follow_topic_checks().inspect_err(|_| self.unregister(&self.callbacks))?;
        self.register_control(control).inspect_err(|_| self.unregister_all())
    }

    /// Registers the callback for commands, if an option wants it. 2.1 has one for all of its listeners, so another copy
    /// of the plugin may have it.
    fn register_control(&self, control: (event::Type, Callback)) -> Result<(), Code> {
        if !self.plugin.steering().config().control {
            return Ok(());
        }
        let user_data = (&raw const *self).cast_mut().cast();
        // SAFETY: as in `register`.
        match unsafe { self.process.register(self.identifier, control.0, control.1, user_data) } {
            Ok(()) => drop(self.control.set(control)),
            Err(Code::ALREADY_EXISTS) => self.plugin.log().warn(&format!(
                "control: another copy of the plugin gets the commands on {CONTROL_TOPIC} already, for all listeners."
            )),
            Err(code) => {
                self.process.write_log(Level::Error, &cannot_register(control.0, code));
                return Err(code);
            }
        }
        Ok(())
    }

    /// A client is there: now it has a socket, which tells how to find out whose the others are.
    pub(super) fn meet(&self, client: Client<'_>, now: Instant) {
        if let Some(line) = self.process.meet(client, now) {
            self.plugin.log().warn(&line);
        }
    }

    pub(super) fn unregister_all(&self) {
        self.unregister(&self.callbacks);
        self.unregister(&[self.topic_checks]);
        self.control.get().into_iter().for_each(|control| self.unregister(&[*control]));
    }

    /// Registers or unregisters the callback for topic checks, as the settings want it. A broker whose plugins all
    /// defer refuses the topic, so the callback must not be there while the plugin does not decide about topics.
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
        // SAFETY: the instance does not move, and its callbacks are unregistered before it is dropped: where init
        // fails, or in cleanup.
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

/// Fails to compile if a plugin cannot be shared by threads: callbacks may run on two threads at once.
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
    let events = match event {
        event::MOSQ_EVT_RELOAD => "reloads",
        event::MOSQ_EVT_ACL_CHECK => "topic checks",
        event::MOSQ_EVT_BASIC_AUTH => "logins",
        event::MOSQ_EVT_TICK => "ticks",
        event::MOSQ_EVT_DISCONNECT => "ended connections",
        event::MOSQ_EVT_CONTROL => "commands",
        _ => "clients that come and go",
    };
    format!("Cannot handle {events} (event {event}, code {}): {why}.", code.0)
}
