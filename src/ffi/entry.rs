//! The three functions that the library exports, and its callbacks: each a line inside a guard.

use std::ffi::{c_int, c_void};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::code::Code;
use super::events::{self, Check, Malformed};
use super::functions::{Identifier, Process};
use super::sys::{self, mosquitto_plugin_event as event};
use crate::broker::Broker;
use crate::config::BrokerOptions;
use crate::log::Level;
use crate::plugin::{Plugin, Ruling};
use crate::util::panics;

/// The version of the plugin interface that all of Mosquitto 2.x speak.
const INTERFACE_VERSION: c_int = 5;

/// What the broker keeps for each loaded plugin.
struct Instance {
    process: Arc<Process>,
    identifier: Identifier,
    plugin: Plugin,
    /// Topic checks are registered.
    checks_topics: AtomicBool,
    /// Lines are being written: the broker may call back into the plugin for each of them.
    writing: AtomicBool,
}

type Callback = unsafe extern "C" fn(c_int, *mut c_void, *mut c_void) -> c_int;

const TOPIC_CHECKS: (event::Type, Callback) = (event::MOSQ_EVT_ACL_CHECK, on_acl_check);

impl Instance {
    /// The callbacks that this plugin always needs; without any of them it would leave a door open.
    fn callbacks(&self) -> Vec<(event::Type, Callback)> {
        let mut callbacks: Vec<(event::Type, Callback)> = vec![
            (event::MOSQ_EVT_BASIC_AUTH, on_basic_auth),
            (event::MOSQ_EVT_RELOAD, on_reload),
            (event::MOSQ_EVT_TICK, on_tick),
            (event::MOSQ_EVT_DISCONNECT, on_disconnect),
        ];
        if self.process.is_2_1() {
            callbacks.push((sys::MHA_EVT_CLIENT_OFFLINE, on_disconnect));
        }
        callbacks
    }

    fn register(&self, (event, callback): (event::Type, Callback)) -> Result<(), Code> {
        let user_data = (&raw const *self).cast_mut().cast();
        // SAFETY: the instance stays where it is, and its callbacks are unregistered before it goes: when init
        // fails, or by cleanup.
        unsafe { self.process.register(self.identifier, event, callback, user_data) }.inspect_err(|code| {
            self.process.write_log(Level::Error, &cannot_register(event, *code));
        })
    }

    /// Has the broker ask about topics, or not: a plugin that is asked and has nothing to say would have it
    /// refuse everybody.
    fn follow_topic_checks(&self) -> Result<(), Code> {
        let wanted = self.plugin.checks_topics();
        if self.checks_topics.swap(wanted, Ordering::Relaxed) == wanted {
            return Ok(());
        }
        if wanted {
            return self.register(TOPIC_CHECKS).inspect_err(|_| {
                self.checks_topics.store(false, Ordering::Relaxed);
            });
        }
        let (event, callback) = TOPIC_CHECKS;
        self.process.unregister(self.identifier, event, callback);
        Ok(())
    }

    /// Registers all callbacks, or none: those that are refused may be another instance's, which keeps them.
    fn register_all(&self) -> Result<(), Code> {
        let callbacks = self.callbacks();
        for (registered, callback) in callbacks.iter().enumerate() {
            self.register(*callback).inspect_err(|_| self.unregister(&callbacks[..registered]))?;
        }
        self.follow_topic_checks().inspect_err(|_| self.unregister(&callbacks))
    }

    fn unregister(&self, callbacks: &[(event::Type, Callback)]) {
        for (event, callback) in callbacks {
            self.process.unregister(self.identifier, *event, *callback);
        }
    }

    fn unregister_all(&self) {
        self.unregister(&self.callbacks());
        self.unregister(&[TOPIC_CHECKS]);
    }

    /// Runs a callback's body. A panic in it refuses: it becomes `on_panic`, and a line in the log.
    fn guarded(&self, on_panic: Code, body: impl FnOnce(&Plugin) -> Code) -> c_int {
        let code = panics::caught(|| body(&self.plugin)).unwrap_or_else(|place| {
            let line = format!("A bug in the plugin was stopped at {place}; please report it. Refused.");
            self.plugin.log.write(Level::Error, line);
            on_panic
        });
        self.write_log();
        code.0
    }

    /// Writes what is queued for the log, on the broker's thread, with nothing held.
    fn write_log(&self) {
        if !self.plugin.log.any()
            || !self.process.is_broker_thread()
            || self.writing.swap(true, Ordering::Acquire)
        {
            return;
        }
        while let Some((level, line)) = self.plugin.log.next() {
            self.process.write_log(level, &line);
        }
        self.writing.store(false, Ordering::Release);
    }

    fn refuse_malformed(&self, malformed: Malformed) -> Ruling {
        let line = || format!("Refused a request of the broker: {}.", malformed.0);
        self.plugin.log.refusal(Instant::now(), line);
        Ruling::Deny
    }
}

/// Chooses the version of the interface: 5, or none.
///
/// # Safety
/// `versions` must point to `count` numbers, as the broker promises.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mosquitto_plugin_version(count: c_int, versions: *const c_int) -> c_int {
    let count = usize::try_from(count).unwrap_or(0);
    if versions.is_null() {
        return -1;
    }
    // SAFETY: the broker vouches for pointer and count.
    let versions = unsafe { slice::from_raw_parts(versions, count) };
    if versions.contains(&INTERFACE_VERSION) { INTERFACE_VERSION } else { -1 }
}

/// Starts the plugin, or says in the log why it cannot and leaves nothing behind.
///
/// # Safety
/// The arguments must be what the broker gives to this function, and the calling thread its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mosquitto_plugin_init(
    identifier: *mut sys::mosquitto_plugin_id_t,
    user_data: *mut *mut c_void,
    options: *mut sys::mosquitto_opt,
    option_count: c_int,
) -> c_int {
    panics::install_hook();
    let process = Arc::new(Process::find());
    if !process.is_a_broker() {
        process.write_log(
            Level::Error,
            "This process has not all functions of a broker; expected Mosquitto 2.0.11 or later.",
        );
        return Code::NOT_SUPPORTED.0;
    }
    if user_data.is_null() {
        return Code::INVALID.0;
    }
    let started = panics::caught(|| {
        // SAFETY: the broker vouches for its options.
        let options = unsafe { events::options(options, option_count) }.map_err(|malformed| {
            process.write_log(Level::Error, &format!("{}; expected text in UTF-8", malformed.0));
            Code::INVALID
        })?;
        start(Arc::clone(&process), Identifier(identifier), options)
    });
    match started {
        Ok(Ok(instance)) => {
            // Last, since a broker of 2.1 calls cleanup with whatever is here also when init has failed.
            // SAFETY: not NULL, and the broker's to give.
            unsafe { *user_data = instance.cast() };
            Code::SUCCESS.0
        }
        Ok(Err(code)) => code.0,
        Err(place) => {
            process.write_log(Level::Error, &format!("A bug in the plugin was stopped at {place}."));
            Code::INVALID.0
        }
    }
}

fn start(
    process: Arc<Process>,
    identifier: Identifier,
    options: BrokerOptions,
) -> Result<*mut Instance, Code> {
    let host: Arc<dyn Broker> = Arc::clone(&process) as Arc<dyn Broker>;
    let plugin = Plugin::new(options, host, Instant::now()).map_err(|errors| {
        for error in errors {
            process.write_log(Level::Error, &error.to_string());
        }
        Code::INVALID
    })?;
    // From here on it stays where it is: callbacks are registered with its address.
    let address = Box::into_raw(Box::new(Instance {
        process,
        identifier,
        plugin,
        checks_topics: AtomicBool::new(false),
        writing: AtomicBool::new(false),
    }));
    // SAFETY: just made, and nobody else has it.
    let instance = unsafe { &*address };
    instance.process.introduce(identifier);
    if let Err(code) = instance.register_all() {
        // SAFETY: made above, and the broker has forgotten it.
        drop(unsafe { Box::from_raw(address) });
        return Err(code);
    }
    instance.write_log();
    Ok(address)
}

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

/// Stops the plugin: no thread of it is left when this returns.
///
/// # Safety
/// `user_data` must be what init left, and no callback may run or come later.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mosquitto_plugin_cleanup(
    user_data: *mut c_void,
    _options: *mut sys::mosquitto_opt,
    _option_count: c_int,
) -> c_int {
    if !user_data.is_null() {
        // SAFETY: init made it from such a box, and the broker calls cleanup once.
        let instance: Box<Instance> = unsafe { Box::from_raw(user_data.cast()) };
        instance.unregister_all();
        let process = Arc::clone(&instance.process);
        // A panic while things are dropped must not reach the broker, which is on its way out anyway.
        if let Err(place) = panics::caught(|| drop(instance)) {
            process.write_log(Level::Error, &format!("A bug in the plugin was stopped at {place}."));
        }
    }
    Code::SUCCESS.0
}

/// # Safety
/// `user_data` must be what `start` registered, and cleanup not yet called.
unsafe fn instance<'a>(user_data: *mut c_void) -> &'a Instance {
    // SAFETY: the caller vouches for it. The broker may be in several callbacks at once (it calls back, and
    // its HTTP listener has a thread of its own), so this is shared and never mutable.
    unsafe { &*user_data.cast::<Instance>() }
}

/// Callbacks may run on two threads at once.
const _: () = {
    const fn callable_from_any_thread<T: Sync>() {}
    callable_from_any_thread::<Plugin>();
};

unsafe extern "C" fn on_basic_auth(_: c_int, data: *mut c_void, user_data: *mut c_void) -> c_int {
    // SAFETY: the broker calls this with what was registered.
    let instance = unsafe { instance(user_data) };
    instance.guarded(Code::AUTH, |plugin| {
        // SAFETY: the broker calls this with the data of this event.
        let login = unsafe { events::login(&instance.process, data.cast()) };
        Code::of_login(match login {
            Ok(login) => plugin.authenticate(&login, Instant::now()),
            Err(malformed) => instance.refuse_malformed(malformed),
        })
    })
}

unsafe extern "C" fn on_acl_check(_: c_int, data: *mut c_void, user_data: *mut c_void) -> c_int {
    // SAFETY: the broker calls this with what was registered.
    let instance = unsafe { instance(user_data) };
    instance.guarded(Code::ACL_DENIED, |plugin| {
        // SAFETY: the broker calls this with the data of this event.
        let check = unsafe { events::check(&instance.process, data.cast()) };
        Code::of_topic_check(match check {
            Ok(Check::Access(check)) => plugin.authorise(&check, instance.process.coarse_now()),
            Ok(Check::Unsubscribe(client, filter)) => {
                plugin.unsubscribed(client, filter);
                Ruling::Allow
            }
            Err(malformed) => instance.refuse_malformed(malformed),
        })
    })
}

unsafe extern "C" fn on_disconnect(event: c_int, data: *mut c_void, user_data: *mut c_void) -> c_int {
    // SAFETY: the broker calls this with what was registered.
    let instance = unsafe { instance(user_data) };
    instance.guarded(Code::SUCCESS, |plugin| {
        let is_offline = event == sys::MHA_EVT_CLIENT_OFFLINE.cast_signed();
        // SAFETY: the broker calls this with the data of this event.
        let gone = unsafe { events::disconnected(&instance.process, data.cast(), is_offline) };
        if let Some((client, username, session_stays)) = gone {
            plugin.disconnected(client, username, session_stays, Instant::now());
        }
        Code::SUCCESS
    })
}

unsafe extern "C" fn on_tick(_: c_int, data: *mut c_void, user_data: *mut c_void) -> c_int {
    // SAFETY: the broker calls this with what was registered.
    let instance = unsafe { instance(user_data) };
    instance.guarded(Code::SUCCESS, |plugin| {
        plugin.tick(Instant::now());
        if plugin.wants_tick() {
            // SAFETY: the broker calls this with the data of this event.
            unsafe { events::tick_again_soon(data.cast()) };
        }
        Code::SUCCESS
    })
}

unsafe extern "C" fn on_reload(_: c_int, _: *mut c_void, user_data: *mut c_void) -> c_int {
    // SAFETY: the broker calls this with what was registered.
    let instance = unsafe { instance(user_data) };
    let code = Code::of_reload(instance.process.is_2_1());
    instance.guarded(code, |plugin| {
        plugin.reload();
        // What the broker refuses here it has said in the log; topics are then as open as they were.
        let _ = instance.follow_topic_checks();
        code
    })
}

#[cfg(test)]
mod tests;
