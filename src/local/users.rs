//! Local users and their password hashes, in the format of `mosquitto_passwd`: `name:hash`, a line each.
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::error::{LocalError, Mismatch};
use super::password::PasswordHash;
use super::text;
use crate::util::Location;

/// The most bytes of a name: the length of an MQTT string has 16 bits (MQTT 5.0, section 1.5.4).
const MAX_NAME_BYTES: usize = u16::MAX as usize;

/// The local users, each with the hash of a password.
#[derive(Debug, Default)]
pub struct Users {
    by_name: HashMap<String, User>,
}

#[derive(Debug)]
struct User {
    password: Arc<PasswordHash>,
    location: Location,
}

impl Users {
    /// Reads a password file. `source_name` is its name in errors, usually its path.
    ///
    /// Blank lines and lines that start with `#` are skipped, and white space at both ends of names and hashes is
    /// dropped, as in the broker. Unlike in the broker, every other line must give a user with a password, so that no
    /// user is missing that the operator believes to exist.
    ///
    /// # Errors
    /// The first line that is not `name:hash`, or that names a user a second time.
    pub fn parse(text: &str, source_name: &str) -> Result<Self, LocalError> {
        let mut users = Self::default();
        for (location, line) in text::meaningful_lines(text, source_name)? {
            users.insert(line, location)?;
        }
        Ok(users)
    }

    /// Adds one `name:hash` from an option. `source_name` is the option's name in errors, such as `plugin_opt_user`.
    ///
    /// # Errors
    /// The entry is not `name:hash`, or there is a user of this name already.
    pub fn insert_inline(&mut self, entry: &str, source_name: &str) -> Result<(), LocalError> {
        self.insert(entry, Location::Option(source_name.into()))
    }

    /// The hash of a user's password, or `None` for a name that is not local.
    pub fn get(&self, name: &str) -> Option<&Arc<PasswordHash>> {
        self.by_name.get(name).map(|user| &user.password)
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are no users.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// How many users were added, removed, or got another hash since `before`, for the log; `None` if nothing changed.
    pub fn changes(&self, before: &Self) -> Option<String> {
        let is_new = |name: &&String| !before.by_name.contains_key(*name);
        let has_other_hash =
            |(name, user): &(&String, &User)| before.get(name).is_some_and(|old| *old != user.password);
        let added = self.by_name.keys().filter(is_new).count();
        let removed = before.len() + added - self.len();
        let changed = self.by_name.iter().filter(has_other_hash).count();
        let counts = [(added, "added"), (removed, "removed"), (changed, "with another hash")];
        let told: Vec<_> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, how)| format!("{count} {how}"))
            .collect();
        (!told.is_empty()).then(|| told.join(", "))
    }

    fn insert(&mut self, entry: &str, location: Location) -> Result<(), LocalError> {
        let (name, password) = parse_entry(entry).map_err(|mismatch| mismatch.at(&location))?;
        match self.by_name.entry(name.to_owned()) {
            Entry::Vacant(free) => {
                free.insert(User { password: Arc::new(password), location });
                Ok(())
            }
            Entry::Occupied(taken) => Err(LocalError::Duplicate {
                name: name.to_owned(),
                first: taken.get().location.clone(),
                second: location,
            }),
        }
    }
}

/// Parses `name:hash`. Errors quote neither the text after the colon nor a line without one, since either may be a
/// password.
fn parse_entry(entry: &str) -> Result<(&str, PasswordHash), Mismatch> {
    let mismatch = |found: &'static str| Mismatch::new(found, "name:hash as mosquitto_passwd writes it");
    let (name, hash) = entry.split_once(':').ok_or_else(|| mismatch("text without a colon"))?;
    let (name, hash) = (text::trim(name), text::trim(hash));
    if name.is_empty() {
        return Err(mismatch("an empty name"));
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(mismatch("a name of more than 65535 bytes"));
    }
    if name.contains(char::is_control) {
        return Err(mismatch("a name with a control character (which no client can send)"));
    }
    if hash.is_empty() {
        return Err(mismatch("a line without a hash"));
    }
    Ok((name, PasswordHash::parse(hash)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSWORD: &[u8] = b"correct horse";

    const ALICE: &str = concat!(
        "alice:$6$oKo/iXbCv7L29hWq$4eI4gM7pmoFi7t+2SvzRz7lv8fo3NAe51kv560BNI0EL8wLSmCfxf",
        "/5fakUXOfNzGn0rOcyfziVg9DuGsQyUZA==",
    );

    fn parse(text: &str) -> Result<Users, LocalError> {
        Users::parse(text, "/etc/mosquitto/passwd")
    }

    #[test]
    fn changes_are_counted() {
        let line = |name: &str, hash: &str| format!("{name}:$7$101$AAAAAAAAAAAAAAAA${hash}\n");
        let users = |lines: &[(&str, &str)]| {
            parse(&lines.iter().map(|(name, hash)| line(name, hash)).collect::<String>()).unwrap()
        };
        // Two hashes of 64 bytes, in base64.
        let [one, other] = ["A", "B"].map(|letter| letter.repeat(85) + "A==");
        let before = users(&[("alice", &one), ("bob", &one), ("carol", &one)]);
        let after = users(&[("alice", &other), ("bob", &one), ("dave", &one), ("erin", &one)]);
        assert_eq!(after.changes(&before).as_deref(), Some("2 added, 1 removed, 1 with another hash"));
        assert_eq!(before.changes(&before), None);
        assert_eq!(Users::default().changes(&before).as_deref(), Some("3 removed"));
    }

    #[test]
    fn files_of_every_mosquitto_passwd_are_understood() {
        for (file, text) in [
            ("2.0.11", include_str!("../../tests/fixtures/passwd-2.0.11")),
            ("2.0.21", include_str!("../../tests/fixtures/passwd-2.0.21")),
            ("2.1", include_str!("../../tests/fixtures/passwd-2.1")),
        ] {
            let users = Users::parse(text, file).unwrap();
            assert_eq!(users.len(), 5, "{file}");
            for name in ["sha512", "pbkdf2", "iterated", "default"] {
                let hash = users.get(name).unwrap();
                assert!(hash.verify(PASSWORD), "{file}: {name}");
                assert!(!hash.verify(b"wrong horse"), "{file}: {name}");
                assert_eq!(hash.is_slow(), name == "iterated", "{file}: {name}");
            }
            assert!(users.get("with space").unwrap().verify("pä ss:w$rd".as_bytes()), "{file}");
        }
    }

    #[test]
    fn argon2id_of_libargon2_is_understood() {
        let users = parse(include_str!("../../tests/fixtures/passwd-argon2id")).unwrap();
        for name in ["argon2id", "command", "lanes"] {
            assert!(users.get(name).unwrap().verify(PASSWORD), "{name}");
        }
        assert!(!users.get("command").unwrap().verify(b"wrong horse"));
    }

    #[test]
    fn blank_lines_comments_and_line_ends_do_not_matter() {
        let carol = ALICE.replace("alice", "carol");
        for text in [
            ALICE.to_owned(),
            format!("{ALICE}\n"),
            format!("{ALICE}\r\n"),
            format!("\n \t\r\n# bob:secret\n#\n{ALICE}\n\n"),
            format!("  alice\t: {}\t\n", &ALICE["alice:".len()..]),
            format!("{carol}\r\n{ALICE}"),
        ] {
            let users = parse(&text).unwrap();
            assert!(users.get("alice").is_some_and(|hash| hash.verify(PASSWORD)), "{text:?}");
            assert!(users.get("bob").is_none() && users.get("# bob").is_none(), "{text:?}");
        }
        assert!(parse("# nobody\n").unwrap().is_empty());
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn bad_lines_are_named_and_not_quoted() {
        const LINE: &str = "found SECRET, expected";
        for (bad, found) in [
            ("hunter2", "text without a colon"),
            (" # hunter2", "text without a colon"),
            ("alice", "text without a colon"),
            ("alice:", "a line without a hash"),
            ("alice: \t", "a line without a hash"),
            (":hunter2", "an empty name"),
            (" : hunter2", "an empty name"),
            ("alice:hunter2", "something that is no hash"),
            ("alice:hunter2:$6$a$b", "something that is no hash"),
            ("alice:$hunter2$hunter2", "an unknown hash format"),
            ("alice:$6$hunter2$hunter2", "a salt that is no base64"),
            ("al\tice:hunter2", "a name with a control character (which no client can send)"),
            ("al\rice:hunter2", "a name with a control character (which no client can send)"),
            ("hunter2\0:", "a NUL character"),
        ] {
            let error = parse(&format!("# a comment\n{ALICE}\n{bad}\n")).unwrap_err().to_string();
            let start = format!("/etc/mosquitto/passwd, line 3: {}", LINE.replace("SECRET", found));
            assert!(error.starts_with(&start), "{bad:?} gives {error}");
            assert!(!error.contains("hunter2"), "{bad:?} gives {error}");
        }
    }

    #[test]
    fn an_error_reads_well() {
        assert_eq!(
            parse("\n#\nalice:\n").unwrap_err().to_string(),
            "/etc/mosquitto/passwd, line 3: found a line without a hash, \
             expected name:hash as mosquitto_passwd writes it"
        );
        assert_eq!(
            parse("\u{feff}alice:x\n").unwrap_err().to_string(),
            "/etc/mosquitto/passwd, line 1: found a byte order mark, expected UTF-8 text without one"
        );
    }

    #[test]
    fn names_are_as_long_as_mqtt_allows() {
        let named = |bytes| ALICE.replace("alice", &"a".repeat(bytes));
        assert!(parse(&named(65_535)).is_ok());
        assert!(parse(&named(65_536)).is_err());
    }

    #[test]
    fn file_and_options_merge_and_a_second_hash_is_an_error() {
        let mut users = parse(&format!("# first\n{ALICE}\n")).unwrap();
        users.insert_inline(&ALICE.replace("alice", "carol"), "plugin_opt_user").unwrap();
        assert_eq!(users.len(), 2);
        assert_eq!(
            users.insert_inline(ALICE, "plugin_opt_user").unwrap_err().to_string(),
            "plugin_opt_user: found user \"alice\" again, expected one hash for each name \
             (/etc/mosquitto/passwd, line 2 has one)"
        );
        assert!(users.insert_inline("# dave:secret", "plugin_opt_user").is_err());
        let error = parse(&format!("{ALICE}\n\n{ALICE}\n")).unwrap_err().to_string();
        assert!(error.starts_with("/etc/mosquitto/passwd, line 3: "), "{error}");
        assert!(error.ends_with("(/etc/mosquitto/passwd, line 1 has one)"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "(alice|\n|:|\\$[67]|#|\r| |.){0,40}") {
            if let Err(error) = parse(&text) {
                prop_assert!(!error.to_string().contains('\n'));
            }
        }
    }
}
