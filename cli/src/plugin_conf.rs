//! The plugin in a broker's configuration: which lines are its own, and what they and their files come to.

use std::fs;
use std::path::{Path, PathBuf};

use memchr::memmem;
use toml::de::{DeTable, DeValue};

use crate::arguments::Which;
use crate::broker_conf::{BrokerConf, Plugin};
use crate::broker_user::become_user;
use crate::config::Config;
use crate::local::{self, AclFile, Placeholders, Users};

/// The most bytes of a library that are read.
pub const MAX_LIBRARY_BYTES: u64 = 256 * 1024 * 1024;

/// What every build of the plugin has in its file: the beginning of its user agent.
pub const OWN: &[u8] = b"mosquitto-http-auth/";

/// Whether this is the plugin's file, by what it holds or, where it cannot be read, by its name.
pub fn is_ours(path: &Path) -> bool {
    match fs::read(path) {
        Ok(bytes) => memmem::find(&bytes, OWN).is_some(),
        Err(_) => path.file_name().is_some_and(|name| name.to_string_lossy().contains("http_auth")),
    }
}

/// The local users.
///
/// # Errors
/// What is wrong with the file or an option.
pub fn users(config: &Config) -> Result<Users, String> {
    local::users(config).map_err(in_words)
}

/// The topic rules of local users, if an option names some.
///
/// # Errors
/// What is wrong with the file.
pub fn acl(config: &Config, placeholders: Placeholders) -> Result<Option<AclFile>, String> {
    local::rules(config, placeholders).map_err(in_words)
}

fn in_words((option, error): local::Wrong) -> String {
    format!("{option}: {error}")
}

/// The options of the plugin that is meant. This program is the broker's user afterwards, if it was root.
///
/// # Errors
/// What is wrong, one line for each.
pub fn options(which: &Which) -> Result<Config, String> {
    let conf = BrokerConf::read(&which.config)?;
    let plugin = chosen(&conf, which)?;
    let options = plugin.broker_options();
    become_user(&conf.user)?;
    let (config, _) = Config::read(&options)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n       "))?;
    Ok(config)
}

fn chosen<'c>(conf: &'c BrokerConf, which: &Which) -> Result<&'c Plugin, String> {
    let file = which.config.display();
    let ours: Vec<&Plugin> = conf.plugins.iter().filter(|plugin| is_ours(&plugin.path)).collect();
    let of_listener = |plugin: &&&Plugin| {
        which
            .listener
            .as_ref()
            .is_none_or(|port| plugin.listeners.is_empty() || plugin.listeners.contains(port))
    };
    let mut meant = ours.iter().filter(of_listener);
    match (meant.next(), meant.next()) {
        (Some(plugin), None) => Ok(plugin),
        (None, _) if ours.is_empty() => {
            Err(format!("{file} loads no mosquitto-http-auth: `mosquitto-http-auth check` says more"))
        }
        (None, _) => Err(format!("{file} loads the plugin for other listeners than this one")),
        (Some(_), Some(_)) => {
            let listeners: Vec<_> = ours.iter().flat_map(|plugin| plugin.listeners.clone()).collect();
            Err(format!(
                "{file} loads the plugin more than once: choose one by --listener {}",
                listeners.join(" or ")
            ))
        }
    }
}

/// The places of the admin listener and the token file, as the options have them.
///
/// # Errors
/// What is wrong, one line for each.
pub fn admin_lines(which: &Which) -> Result<(Vec<String>, Option<PathBuf>), String> {
    let conf = BrokerConf::read(&which.config)?;
    let plugin = chosen(&conf, which)?;
    let in_file = plugin.options.iter().find(|(_, name, _)| name == "config_file");
    let text = in_file.and_then(|(_, _, path)| fs::read_to_string(path.trim()).ok()).unwrap_or_default();
    let table = DeTable::parse(&text).ok();
    let in_table = |name: &str| -> Vec<String> {
        let value = table.as_ref().and_then(|table| table.get_ref().get(name)).map(|value| value.get_ref());
        let text = |value: &DeValue<'_>| value.as_str().map(str::to_owned);
        match value {
            Some(DeValue::Array(values)) => values.iter().filter_map(|value| text(value.get_ref())).collect(),
            value => value.and_then(text).into_iter().collect(),
        }
    };
    let values = |name: &str| {
        let own = plugin.options.iter().filter(|(_, own, _)| own == name);
        let lines: Vec<_> = own.map(|(_, _, value)| value.trim().to_owned()).collect();
        if lines.is_empty() { in_table(name) } else { lines }
    };
    Ok((values("admin_listen"), values("admin_token_file").pop().map(PathBuf::from)))
}
