//! The three functions that the library exports, and its callbacks, each of which runs inside a guard.

use std::ffi::{c_int, c_void};
use std::slice;
use std::sync::Arc;
use std::time::Instant;

use super::code::Code;
use super::events::{self, Check};
use super::functions::{Callback, Identifier, Process};
use super::guard::Instance;
use super::sys::{self, mosquitto_plugin_event as event};
use crate::broker::{Broker, Caller};
use crate::config::BrokerOptions;
use crate::log::Level;
use crate::plugin::{Plugin, Ruling};
use crate::question::Access;
use crate::steer::{self, Doors};
use crate::util::panics;

/// The version of the plugin interface that all Mosquitto 2.x brokers offer.
const INTERFACE_VERSION: c_int = 5;

const TOPIC_CHECKS: (event::Type, Callback) = (event::MOSQ_EVT_ACL_CHECK, on_acl_check);
const CONTROL: (event::Type, Callback) = (event::MOSQ_EVT_CONTROL, on_control);

/// The callbacks that the plugin needs in any configuration.
fn callbacks(is_2_1: bool) -> Vec<(event::Type, Callback)> {
    let mut callbacks: Vec<(event::Type, Callback)> = vec![
        (event::MOSQ_EVT_BASIC_AUTH, on_basic_auth),
        (event::MOSQ_EVT_RELOAD, on_reload),
        (event::MOSQ_EVT_TICK, on_tick),
        (event::MOSQ_EVT_DISCONNECT, on_disconnect),
    ];
    if is_2_1 {
        callbacks.push((sys::MHA_EVT_CLIENT_OFFLINE, on_disconnect));
        callbacks.push((sys::MHA_EVT_CONNECT, on_connect));
    }
    callbacks
}

/// Chooses the version of the plugin interface: 5, or -1 if the broker does not offer it.
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

/// Starts the plugin. On failure the log says why, and nothing stays behind.
///
/// # Safety
/// The arguments must be those that the broker gives to this function, and the calling thread the broker's own.
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
        let options = unsafe { events::options(options, option_count) }.map_err(|found| {
            process.write_log(Level::Error, &format!("{found}, expected text in UTF-8."));
            Code::INVALID
        })?;
        start(Arc::clone(&process), Identifier(identifier), options)
    });
    match started {
        Ok(Ok(instance)) => {
            // Set last, since a broker of 2.1 calls cleanup with this value even if init has failed.
            // SAFETY: not NULL, and the broker lets init write to it.
            unsafe { *user_data = instance.cast() };
            Code::SUCCESS.0
        }
        Ok(Err(code)) => code.0,
        Err(location) => {
            process.write_log(Level::Error, &panics::message(&location, "It is not started."));
            Code::INVALID.0
        }
    }
}

fn start(
    process: Arc<Process>,
    identifier: Identifier,
    options: BrokerOptions,
) -> Result<*mut Instance, Code> {
    let Caller::Broker(thread) = process.caller() else { return Err(Code::INVALID) };
    let broker: Arc<dyn Broker> = Arc::clone(&process) as Arc<dyn Broker>;
    let plugin = Plugin::new(options, broker, &thread, Instant::now()).map_err(|errors| {
        for error in errors {
            process.write_log(Level::Error, &error.to_string());
        }
        Code::INVALID
    })?;
    let doors = Doors::open(&plugin).map_err(|line| {
        process.write_log(Level::Error, &line);
        Code::INVALID
    })?;
    let callbacks = callbacks(process.is_2_1());
    // The instance must not move any more: callbacks are registered with its address.
    let instance = Instance::new(process, identifier, doors, plugin, callbacks, TOPIC_CHECKS);
    let address = Box::into_raw(Box::new(instance));
    // SAFETY: made above, and no other reference exists.
    let instance = unsafe { &*address };
    instance.process.introduce(identifier);
    // The thread comes last, since a 2.0 broker whose plugin fails to start calls no cleanup.
    if let Err(code) = instance
        .register_all(CONTROL)
        .and_then(|()| instance.serve().inspect_err(|_| instance.unregister_all()))
    {
        // SAFETY: made above, and the broker has no callback with it any more.
        drop(unsafe { Box::from_raw(address) });
        return Err(code);
    }
    instance.write_log();
    Ok(address)
}

/// Stops the plugin. When this returns, no thread of it is left but those that are looking up names, which cannot be
/// stopped and use nothing of what ends here.
///
/// # Safety
/// `user_data` must be the value that init set, and no callback may run now or later.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mosquitto_plugin_cleanup(
    user_data: *mut c_void,
    _options: *mut sys::mosquitto_opt,
    _option_count: c_int,
) -> c_int {
    if !user_data.is_null() {
        // SAFETY: init made the pointer from such a box, and the broker calls cleanup once.
        let instance: Box<Instance> = unsafe { Box::from_raw(user_data.cast()) };
        instance.unregister_all();
        let process = Arc::clone(&instance.process);
        // A panic must not reach the broker, not even while the instance is dropped.
        if let Err(location) = panics::caught(|| drop(instance)) {
            process.write_log(Level::Error, &panics::message(&location, "It was stopping."));
        }
    }
    Code::SUCCESS.0
}

/// The instance that a callback was registered with.
///
/// # Safety
/// `user_data` must be the pointer that `start` registered, and cleanup not yet called.
unsafe fn instance<'a>(user_data: *mut c_void) -> &'a Instance {
    // SAFETY: the caller vouches for the pointer. Several callbacks may run at once (the broker calls back into the
    // plugin, and its HTTP listener has a thread of its own), so the reference is shared and never mutable.
    unsafe { &*user_data.cast::<Instance>() }
}

unsafe extern "C" fn on_basic_auth(_: c_int, data: *mut c_void, user_data: *mut c_void) -> c_int {
    // SAFETY: the broker calls this with what was registered.
    let instance = unsafe { instance(user_data) };
    instance.guarded(Code::AUTH, |plugin, caller| {
        // SAFETY: the broker calls this with the data of this event.
        let details = unsafe {
            events::client_of(&instance.process, data.cast(), |event: &sys::mha_evt_basic_auth| event.client)
        };
        // SAFETY: the same.
        let login = unsafe { events::login(&instance.process, data.cast(), &details) };
        match login {
            Ok(login) => {
                let now = Instant::now();
                instance.meet(login.client, now);
                let decision = plugin.authenticate(&login, caller, now);
                Code::of_login(&decision, login.level == 5, instance.process.is_2_1())
            }
            Err(malformed) => {
                instance.refuse_malformed(malformed);
                Code::AUTH
            }
        }
    })
}

unsafe extern "C" fn on_acl_check(_: c_int, data: *mut c_void, user_data: *mut c_void) -> c_int {
    // SAFETY: the broker calls this with what was registered.
    let instance = unsafe { instance(user_data) };
    instance.guarded(Code::ACL_DENIED, |plugin, caller| {
        // SAFETY: the broker calls this with the data of this event.
        let details = unsafe {
            events::client_of(&instance.process, data.cast(), |event: &sys::mosquitto_evt_acl_check| {
                event.client
            })
        };
        // SAFETY: the same.
        let check = unsafe { events::check(&instance.process, data.cast(), &details) };
        Code::of_topic_check(match check {
            Ok(Check::Access(check)) => {
                // Where certificates let clients in, no login comes by here.
                if check.access == Access::Subscribe {
                    instance.meet(check.client, Instant::now());
                }
                plugin.authorise(&check, caller, instance.process.coarse_now()).ruling
            }
            Ok(Check::Unsubscribe(client, filter)) => {
                plugin.unsubscribed(client, filter);
                Ruling::Allow
            }
            Err(malformed) => {
                instance.refuse_malformed(malformed);
                Ruling::Deny
            }
        })
    })
}

/// Whatever comes of it, the sender stays: any other code would disconnect it.
unsafe extern "C" fn on_control(_: c_int, data: *mut c_void, user_data: *mut c_void) -> c_int {
    // SAFETY: the broker calls this with what was registered.
    let instance = unsafe { instance(user_data) };
    instance.guarded(Code::SUCCESS, |plugin, caller| {
        // SAFETY: the broker calls this with the data of this event.
        let details = unsafe {
            events::client_of(&instance.process, data.cast(), |event: &sys::mosquitto_evt_control| {
                event.client
            })
        };
        // SAFETY: the same.
        match unsafe { events::control(&instance.process, data.cast(), &details) } {
            Ok(control) if plugin.may_control(&control, caller, Instant::now()) => {
                steer::carry_out(&control, plugin.steering());
            }
            Ok(_) => {}
            Err(malformed) => instance.refuse_malformed(malformed),
        }
        Code::SUCCESS
    })
}

unsafe extern "C" fn on_connect(_: c_int, data: *mut c_void, user_data: *mut c_void) -> c_int {
    // SAFETY: the broker calls this with what was registered.
    let instance = unsafe { instance(user_data) };
    instance.guarded(Code::SUCCESS, |plugin, _| {
        // SAFETY: the broker calls this with the data of this event.
        if let Some((client, username)) = unsafe { events::connected(&instance.process, data.cast()) } {
            plugin.connected(client, username);
        }
        Code::SUCCESS
    })
}

unsafe extern "C" fn on_disconnect(event: c_int, data: *mut c_void, user_data: *mut c_void) -> c_int {
    // SAFETY: the broker calls this with what was registered.
    let instance = unsafe { instance(user_data) };
    instance.guarded(Code::SUCCESS, |plugin, _| {
        let is_offline = event == sys::MHA_EVT_CLIENT_OFFLINE.cast_signed();
        // SAFETY: the broker calls this with the data of this event.
        let gone = unsafe { events::disconnected(&instance.process, data.cast(), is_offline) };
        match gone {
            Some((client, username, session_stays)) => {
                plugin.disconnected(client, username, session_stays, Instant::now());
            }
            None => {
                // SAFETY: the same.
                let connection = unsafe { events::closed(data.cast()) };
                connection.into_iter().for_each(|connection| plugin.closed_nameless(connection));
            }
        }
        Code::SUCCESS
    })
}

unsafe extern "C" fn on_tick(_: c_int, data: *mut c_void, user_data: *mut c_void) -> c_int {
    // SAFETY: the broker calls this with what was registered.
    let instance = unsafe { instance(user_data) };
    instance.guarded(Code::SUCCESS, |plugin, caller| {
        instance.process.new_turn();
        plugin.tick(caller, Instant::now());
        if caller.broker_thread().is_some_and(|thread| plugin.wants_tick(thread)) {
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
    instance.guarded(code, |plugin, caller| {
        plugin.reload(caller, Instant::now());
        // A refusal by the broker is in the log already; topics are then checked as before the reload.
        let _ = instance.follow_topic_checks();
        code
    })
}

#[cfg(test)]
mod tests;
