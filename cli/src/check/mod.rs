//! `check`: goes through what a newcomer, or an upgrade, gets wrong. Each finding says what to do.

mod api;
mod broker;
mod library;
mod options;

pub use api::shown;
use broker::{Broker, parts};

use std::path::Path;

use crate::Outcome;
use crate::arguments::Check;
use crate::broker_conf::{BrokerConf, Plugin};
use crate::broker_user::{Now, become_user};
use crate::output::Report;
use crate::plugin_conf::is_ours;
use crate::util::Location;

/// Goes through all of it.
///
/// # Errors
/// Why nothing could be checked.
pub fn run(how: &Check, json: bool) -> Result<Outcome, String> {
    let mut report = Report::new(json);
    report.about(how.config.display());
    let conf = match BrokerConf::read(&how.config) {
        Ok(conf) => conf,
        Err(what) => {
            report
                .error(what, "name the file that the broker is started with: mosquitto-http-auth check FILE");
            return Ok(report.close(how.strict));
        }
    };
    let broker = broker::find(how.broker.as_deref(), &mut report);
    let ours: Vec<&Plugin> = conf.plugins.iter().filter(|plugin| is_ours(&plugin.path)).collect();
    if ours.is_empty() {
        no_plugin(&conf, &how.config, &mut report);
        return Ok(report.close(how.strict));
    }
    listeners(&conf, &ours, broker.as_ref(), &mut report);
    for plugin in &ours {
        library::check(plugin, broker.as_ref(), &mut report);
    }
    // From here on this sees what the plugin will see: the broker loads plugins when it has given up root.
    match become_user(&conf.user) {
        Ok(Now::BrokersUser | Now::Root) => {}
        Ok(Now::Whoever) => report.note(format!(
            "Files are looked at as the user who runs this, and not as {}: as root (sudo) this sees what the broker will see.",
            conf.user
        )),
        Err(what) => report.error(
            format!("user {}: {what}", conf.user),
            "name an existing user in the broker's line `user`; packages make one called mosquitto",
        ),
    }
    for plugin in &ours {
        if ours.len() > 1 || !plugin.listeners.is_empty() {
            report.about(format!("The plugin {}", plugin.shown_listeners()));
        }
        if let Some(config) = options::check(plugin, &conf, broker.as_ref(), &mut report) {
            api::check(&config, how.offline, broker.as_ref(), &mut report);
        }
    }
    Ok(report.close(how.strict))
}

fn no_plugin(conf: &BrokerConf, file: &Path, report: &mut Report) {
    let others: Vec<_> = conf.plugins.iter().map(|plugin| plugin.path.display().to_string()).collect();
    let found = match others.as_slice() {
        [] => "no plugin".to_owned(),
        others => format!("only {}", others.join(", ")),
    };
    report.error(
        format!("{} loads {found}, and mosquitto-http-auth was expected.", file.display()),
        "add two lines: plugin /PATH/mosquitto_http_auth.so and plugin_opt_auth_url http://HOST:PORT/PATH (on Debian in \
         /etc/mosquitto/conf.d/http-auth.conf), and restart the broker",
    );
    for plugin in &conf.plugins {
        if !plugin.path.exists() {
            report.error(
                format!("{}: there is no file {}.", plugin.at, plugin.path.display()),
                "correct the path",
            );
        }
    }
}

/// What stands beside the plugin and takes part in what is decided.
fn listeners(conf: &BrokerConf, ours: &[&Plugin], broker: Option<&Broker>, report: &mut Report) {
    for plugin in ours {
        report.ok(format!("{}: the plugin is loaded {}.", plugin.at, plugin.shown_listeners()));
    }
    let is_open = |listener: &&String| {
        conf.per_listener
            && !ours.iter().any(|plugin| plugin.listeners.is_empty() || plugin.listeners.contains(listener))
    };
    for listener in conf.listeners.iter().filter(is_open) {
        report.warning(
            format!("Listener {listener} has no mosquitto-http-auth (per_listener_settings is true)."),
            "repeat the plugin's lines below that listener, if its clients are to be checked",
        );
    }
    let version = broker.map(|broker| parts(&broker.version));
    if conf.per_listener && version.as_deref() == Some(&KEEPS_NOTHING) {
        report.warning(
            "Mosquitto 2.0.21 keeps no messages for clients that are away where per_listener_settings is true.",
            "set per_listener_settings to false, or take another version of Mosquitto",
        );
    }
    let asks_without_username =
        |(_, name, value): &&(Location, String, String)| name == "username_missing" && value.trim() == "ask";
    let is_anonymous = conf.beside("allow_anonymous").is_some_and(|(_, value)| value == "true");
    let asking = ours.iter().flat_map(|plugin| &plugin.options).find(asks_without_username);
    if let Some((at, ..)) = asking.filter(|_| !is_anonymous) {
        report.warning(
            format!(
                "{at}: the broker disconnects all clients without a username at each SIGHUP, log rotation included, before it \
                 asks the plugin. (On 2.0 it may crash later if one of them was away.)"
            ),
            "give them a username, which may be an empty text, or set allow_anonymous true: plugin_opt_anonymous still denies \
             topics to whoever has no password either",
        );
    }
    anonymous(conf, broker, report);
    let asks = ours
        .iter()
        .any(|plugin| plugin.line_of("auth_url").is_some() || plugin.line_of("config_file").is_some());
    if let Some((at, file)) = conf.beside("password_file").filter(|_| asks) {
        report.warning(
            format!(
                "{at}: password_file {file} lets nobody in any more: the API is asked about those in it, too."
            ),
            format!("write plugin_opt_password_file {file} below the plugin's line"),
        );
    }
    let before = conf.plugins.iter().position(|plugin| is_ours(&plugin.path)).unwrap_or(0);
    for other in &conf.plugins[..before] {
        report.note(format!(
            "{}: {} is asked first, and this plugin about what it leaves open.",
            other.at,
            other.path.display()
        ));
    }
}

/// A version that loses messages for clients that are away where listeners have settings of their own.
const KEEPS_NOTHING: [u32; 3] = [2, 0, 21];

/// From this version on, `allow_anonymous false` counts without a listener's line, too.
const IS_STRICT: [u32; 3] = [2, 0, 21];

/// Before this version an option of listeners, such as `max_connections`, opens the broker to the network without a
/// listener's line.
const IS_LOCAL: [u32; 3] = [2, 0, 12];

/// Who gets in without being asked about.
fn anonymous(conf: &BrokerConf, broker: Option<&Broker>, report: &mut Report) {
    let said = conf.beside("allow_anonymous");
    if let Some((at, "true")) = said {
        report.warning(
            format!("{at}: allow_anonymous true lets in whoever gives neither username nor password, without the API."),
            "write allow_anonymous false, unless that is meant",
        );
        return;
    }
    if !conf.is_local_only {
        return;
    }
    if conf.per_listener {
        report.error(
            "There is no listener line, and per_listener_settings is true: Mosquitto 2.0.21 asks no plugin then, and lets \
             everybody in with any password; 2.1 does not start.",
            "write a line such as listener 1883 above the plugin's line",
        );
        return;
    }
    let is_from = |version: [u32; 3]| broker.is_none_or(|broker| parts(&broker.version) >= version.to_vec());
    let why = match (said, broker) {
        (None, _) => "allow_anonymous is not set".to_owned(),
        (Some((at, _)), Some(broker)) if !is_from(IS_STRICT) => {
            format!("{at}: allow_anonymous false does not count for Mosquitto {}", broker.version)
        }
        (Some((at, _)), None) => {
            report.note(format!(
                "{at}: without a listener line, Mosquitto before 2.0.21 takes allow_anonymous false for true."
            ));
            return;
        }
        (Some(_), Some(_)) => return,
    };
    let who = match is_from(IS_LOCAL) {
        true => "whoever on this machine gives neither username nor password",
        false => "whoever gives neither username nor password",
    };
    report.warning(
        format!("There is no listener line, and {why}: {who} gets in, without the API."),
        "write the lines listener 1883 127.0.0.1 and allow_anonymous false",
    );
}
