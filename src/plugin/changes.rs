//! What a SIGHUP would change: it is not taken over if it looks like a file that is half written, and said otherwise.

use super::settings::Settings;
use super::start_error::StartError;
use crate::config::{OPTIONS, OptionSpec};
use crate::util::location::file_name;

/// What a reload would end without saying so: whatever decides now about logins or topics, or about all local users. A
/// line that is lost looks like a file that somebody is still writing, so it has to be taken back by the word `none`.
pub fn unsaid_ends(before: &Settings, after: &Settings) -> Vec<StartError> {
    let (old, new) = (&*before.config, &*after.config);
    let file = new.config_file.as_deref().map_or_else(|| "config_file".into(), file_name);
    let (had, has) = (old.set(), new.set());
    let is_lost = |name: &'static str| had.contains(&name) && !has.contains(&name) && !new.is_in_file(name);
    let end = |spec: &OptionSpec| {
        let OptionSpec { name, default, if_lost, .. } = *spec;
        let so = if_lost.filter(|_| is_lost(name))?;
        let if_meant = if default.is_empty() { "\"none\"" } else { default };
        Some(format!(
            "{file}: {name} is missing, so {so}; expected {name} as before, or {name} = {if_meant} if that is meant"
        ))
    };
    let mut ends: Vec<String> = OPTIONS.iter().filter_map(end).collect();
    if ends.is_empty() {
        ends.extend(end_of_local_users(before, after, &file));
    }
    ends.into_iter().map(StartError::UnsaidEnd).collect()
}

/// All local users at once, where `password_file = "none"` does not say so.
fn end_of_local_users(before: &Settings, after: &Settings, file: &str) -> Option<String> {
    let count = before.users.len();
    if count == 0 || !after.users.is_empty() {
        return None;
    }
    let config = &*after.config;
    let Some(passwords) = &config.password_file else {
        return (!config.is_in_file("password_file")).then(|| {
            format!(
                "{file}: user is missing, so there would be no local users any more; expected user as before, or \
                 password_file = \"none\" if that is meant"
            )
        });
    };
    let if_meant = if config.is_in_file("password_file") {
        "or password_file = \"none\" if that is meant"
    } else {
        "or a restart of the broker if that is meant"
    };
    let passwords = file_name(passwords);
    Some(format!(
        "{passwords}: there is nobody in it, and {count} local users now; expected some, {if_meant}"
    ))
}

/// What is not as it was before, without secrets.
pub fn what_has_changed(before: &Settings, after: &Settings) -> String {
    let mut changes = after.config.changes(&before.config);
    changes.extend(after.users.changes(&before.users).map(|users| format!("local users: {users}")));
    if after.acl.is_some() && before.acl.is_some() && after.acl != before.acl {
        changes.push("the rules in acl_file".to_owned());
    }
    if changes.is_empty() {
        return "No option has changed".to_owned();
    }
    format!("Changed: {}", changes.join("; "))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;
    use std::{fs, io};

    use super::*;
    use crate::ask::resolver::Resolver;
    use crate::log::Log;

    const LOCAL: &str = include_str!("../../tests/fixtures/passwd-2.1");

    /// What a configuration file says in the end, and the options of mosquitto.conf beside it.
    fn settings(folder: &std::path::Path, file: &str, options: &[(&str, &str)]) -> Settings {
        fs::write(folder.join("options.toml"), file).unwrap();
        let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let mut all = vec![("config_file".to_owned(), path("options.toml"))];
        all.extend(options.iter().map(|(name, value)| ((*name).to_owned(), path(value))));
        let log = Arc::new(Log::new(Instant::now()));
        let resolver = Resolver::new(|_| Err(io::ErrorKind::Unsupported.into()), |_, _| Ok(Vec::new()));
        Settings::read(&all, true, &resolver, &log).expect("good options").0
    }

    #[test]
    fn what_decides_ends_only_by_the_word() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fs::write(folder.join("passwords"), LOCAL).unwrap();
        fs::write(folder.join("nobody"), "# none yet\n").unwrap();
        fs::write(folder.join("rules"), "pattern readwrite own/%u\n").unwrap();
        let passwords = format!("password_file = '{}'\n", folder.join("passwords").display());
        let nobody = format!("password_file = '{}'\n", folder.join("nobody").display());
        let rules = format!("acl_file = '{}'\n", folder.join("rules").display());
        let user = format!("user = '{}'\n", LOCAL.lines().find(|line| line.starts_with("sha512")).unwrap());
        let [logins, topics] =
            ["auth_url", "acl_url"].map(|name| format!("{name} = 'http://127.0.0.1:1/'\n"));
        let none = |name: &str| format!("{name} = 'none'\n");
        let (auth, acl) = (logins.as_str(), topics.as_str());
        for (before, after, expected) in [
            ([auth, acl], [auth, acl], None),
            ([auth, acl], [auth, ""], Some("acl_url is missing")),
            ([auth, acl], [auth, &none("acl_url")], None),
            ([auth, acl], ["", acl], Some("auth_url is missing")),
            ([auth, acl], [&none("auth_url"), acl], None),
            ([auth, ""], [auth, acl], None),
            // Others who decide are no reason to lose one.
            ([auth, &passwords], ["", &passwords], Some("auth_url is missing")),
            ([auth, &passwords], [auth, ""], Some("password_file is missing")),
            ([auth, &passwords], [auth, &user], Some("password_file is missing")),
            ([auth, &passwords], [auth, &none("password_file")], None),
            ([auth, &passwords], [auth, &nobody], Some("nobody in it")),
            ([auth, &user], [auth, ""], Some("user is missing")),
            ([auth, &user], [auth, &nobody], Some("nobody in it")),
            ([auth, &user], [auth, &none("password_file")], None),
            ([auth, &nobody], [auth, &nobody], None),
            ([&user, &rules], [&user, ""], Some("acl_file is missing")),
            ([&user, &rules], [&user, &none("acl_file")], None),
            ([&user, &rules], [&user, acl], Some("acl_file is missing")),
        ] {
            let before = settings(folder, &before.concat(), &[]);
            let after_text = after.concat();
            let ends = unsaid_ends(&before, &settings(folder, &after_text, &[]));
            let ends: Vec<_> = ends.iter().map(ToString::to_string).collect();
            match expected {
                None => assert!(ends.is_empty(), "{after_text}: {ends:?}"),
                Some(expected) => {
                    assert!(ends.len() == 1 && ends[0].contains(expected), "{after_text}: {ends:?}");
                    assert!(ends[0].contains("\"none\" if that is meant"), "{ends:?}");
                }
            }
        }
    }

    /// An option of mosquitto.conf cannot say `none` before a restart.
    #[test]
    fn an_empty_file_of_local_users_that_mosquitto_conf_names_is_meant_by_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fs::write(folder.join("passwords"), LOCAL).unwrap();
        let read = || settings(folder, "auth_url = 'http://127.0.0.1:1/'", &[("password_file", "passwords")]);
        let before = read();
        fs::write(folder.join("passwords"), "").unwrap();
        let ends = unsaid_ends(&before, &read());
        assert!(ends.len() == 1 && ends[0].to_string().contains("a restart of the broker"), "{ends:?}");
    }

    #[test]
    fn changes_are_told_without_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let url = "auth_url = 'http://127.0.0.1:1/'\n";
        let before = settings(folder, &format!("{url}timeout = '1s'\nheader = 'A: t0psecret'\n"), &[]);
        let after = settings(
            folder,
            &format!(
                "{url}timeout = '3s'\nheader = 'A: other t0psecret'\nacl_prefetch = 'read a'\nmax_wait = 30\n"
            ),
            &[],
        );
        let told = what_has_changed(&before, &after);
        assert_eq!(
            told,
            "Changed: timeout \"1s\" -> \"3s\"; header (not shown, it may be a secret); acl_prefetch not set -> \
             \"read a\""
        );
        assert_eq!(what_has_changed(&before, &before), "No option has changed");
    }
}
