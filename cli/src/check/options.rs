//! Options and the files that they name, read by the plugin's own code.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use nix::unistd::AccessFlags;

use super::broker::Broker;
use crate::broker_conf::{BrokerConf, Plugin};
use crate::config::{AuthMode, Config, ConfigError, Field, ListenAt};
use crate::local;
use crate::output::Report;
use crate::plugin_conf::{acl, users};
use crate::util::Location;

/// Reads options and files. `None` if the plugin would not start with them.
pub fn check(
    plugin: &Plugin,
    conf: &BrokerConf,
    broker: Option<&Broker>,
    report: &mut Report,
) -> Option<Config> {
    let config = match Config::read(&plugin.broker_options()) {
        Ok((config, in_both)) => {
            for name in in_both {
                report.warning(
                    format!(
                        "{name} is set in mosquitto.conf and in the configuration file: the former counts."
                    ),
                    "take one of the two lines out",
                );
            }
            config
        }
        Err(errors) => {
            for error in &errors {
                let (text, cure) = (located(error, plugin), cure(&error.to_string(), &conf.user));
                report.error(text, cure);
            }
            return None;
        }
    };
    for remark in &config.dialect.remarks {
        report.note(remark.clone());
    }
    let shown = config.not_at_default();
    report.ok(format!(
        "Options: {}.",
        if shown.is_empty() { "all at their defaults".to_owned() } else { shown.join("; ") }
    ));
    let known = users(&config).map_err(|what| files_error(&what, conf, report)).ok();
    let rules =
        acl(&config, Broker::placeholders(broker)).map_err(|what| files_error(&what, conf, report)).ok();
    if let Some(users) = known.as_ref().filter(|users| !users.is_empty()) {
        report.ok(format!("{} local users, decided without the API.", users.len()));
    }
    secrets(&config, conf, report);
    what_the_broker_lacks(&config, broker, report);
    admin_places(&config, &conf.user, report);
    for path in config.secret_files().filter(|path| local::is_world_readable(path)) {
        let path = path.display();
        report.warning(
            format!("{path} can be read by everybody on this machine."),
            format!("sudo chown root:{0} {path} && sudo chmod 640 {path}", conf.user),
        );
    }
    for (option, path) in config.paths().into_iter().filter(|(_, path)| path.is_relative()) {
        report.warning(
            format!(
                "{option}: {} is found only from the folder in which the broker is started.",
                path.display()
            ),
            "write the whole path, from / on",
        );
    }
    if config.tls_insecure {
        report.warning(
            "tls_insecure is true: anybody on the way can pose as the API and let clients in.",
            "name the API's authority, or its very certificate, in tls_ca_file",
        );
    }
    if !config.checks_topics() {
        report.note("No acl_url: this plugin checks no topics, and whoever is let in may do what the broker's acl_file allows (without one: everything).");
    } else if config.acl_urls.is_empty() && config.has_rules() {
        report.note("No acl_url: topics are decided by the rules in a login's answer (answer_rules), and nobody else is asked.");
    }
    (known.is_some() && rules.is_some()).then_some(config)
}

/// The files of the admin token and of the shared cache's secret.
fn secrets(config: &Config, conf: &BrokerConf, report: &mut Report) {
    let token = config.admin_token_file.as_ref().map(|path| (path, local::token(path).err()));
    let shared = config.shared_cache_secret_file.as_ref();
    let shared = shared.map(|path| (path, local::shared_cache_secrets(path).err()));
    for (option, found) in [("admin_token_file", token), ("shared_cache_secret_file", shared)] {
        if let Some((path, Some(what))) = found {
            files_error(&format!("{}: {} {what}", config.called(option), path.display()), conf, report);
        }
    }
}

/// What options want that only Mosquitto 2.1 has.
fn what_the_broker_lacks(config: &Config, broker: Option<&Broker>, report: &mut Report) {
    let Some(broker) = broker.filter(|broker| !broker.is_2_1()) else { return };
    let fields = [("auth_fields", &config.auth_fields), ("acl_fields", &config.acl_fields)];
    for (option, _) in fields.iter().filter(|(_, fields)| fields.contains(&Field::ListenerPort)) {
        report.error(
            format!(
                "{}: listener_port, which Mosquitto {} does not tell.",
                config.called(option),
                broker.version
            ),
            "take it out of the list, or install Mosquitto 2.1; the broker does not start with it",
        );
    }
    if config.auth_mode == AuthMode::Delayed {
        report.error(
            format!(
                "{}: delayed, but in Mosquitto {} clients cannot wait beside the loop.",
                config.called("auth_mode"),
                broker.version
            ),
            "write auto, or install Mosquitto 2.1; the broker does not start with it",
        );
    }
}

/// Whether the plugin can listen where `admin_listen` says. A port that is taken may be the running broker's own.
fn admin_places(config: &Config, user: &str, report: &mut Report) {
    for place in &config.admin_listen {
        let found = match place {
            ListenAt::Unix(path) => unusable(path),
            ListenAt::Tcp(address) => TcpListener::bind(address).err().and_then(|error| match error.kind() {
                ErrorKind::AddrInUse => None,
                _ => Some(error.to_string()),
            }),
        };
        if let Some(what) = found {
            report.error(
                format!("{}: cannot listen at {place} ({what}).", config.called("admin_listen")),
                format!(
                    "name a folder that {user} may write to, or an address of this machine and a port from 1024 on; the broker \
                     does not start with it"
                ),
            );
        }
    }
}

/// Why a socket cannot be made at this path, if it cannot.
fn unusable(path: &Path) -> Option<String> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => Some("a file that is no socket is there".to_owned()),
        _ => nix::unistd::access(folder, AccessFlags::W_OK | AccessFlags::X_OK)
            .err()
            .map(|error| format!("{}: {}", folder.display(), error.desc())),
    }
}

/// A mistake in an option, with its line in the broker's configuration where it stands there.
fn located(error: &ConfigError, plugin: &Plugin) -> String {
    let text = error.to_string();
    let by_name = |(at, name, _): &(Location, String, String)| {
        text.starts_with(&format!("plugin_opt_{name}:")).then(|| at.to_string())
    };
    match plugin.options.iter().find_map(by_name) {
        Some(at) => format!("{at}: {text}."),
        None => format!("{text}."),
    }
}

/// What to do about a mistake. Its own text says what was expected.
fn cure(text: &str, user: &str) -> String {
    if text.contains("Permission denied") || text.contains("cannot be read") {
        return readable(user);
    }
    "correct the line, and restart the broker (a reload does not read it)".to_owned()
}

fn readable(user: &str) -> String {
    format!(
        "let the broker's user read it: sudo chown root:{user} FILE && sudo chmod 640 FILE, and sudo chmod a+x the folders \
         above it"
    )
}

pub fn files_error(what: &str, conf: &BrokerConf, report: &mut Report) {
    let cure = if what.contains("Permission denied") {
        readable(&conf.user)
    } else if what.contains("No such file") {
        "correct the path, or make the file".to_owned()
    } else {
        "correct the file; the broker does not start with it".to_owned()
    };
    report.error(format!("{what}."), cure);
}
