//! Password files. The first line of the input is a password; the rest is a file, to which a user with that password is
//! added.
#![no_main]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use mosquitto_http_auth::internals::Users;
use ring::digest;

const NAME: &str = "a user of its own";

/// A text that stands only after names, where a hash or a mistyped password is.
const SECRET: &str = "s3cret";

fuzz_target!(|text: &str| {
    let (password, file) = text.split_once('\n').unwrap_or((text, ""));
    let entry = format!("{NAME}:{}", hash(password));
    let read = Users::parse(file, "passwd");
    match &read {
        Ok(users) => {
            let blank = |c: char| matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r');
            let lines = file.split('\n').map(|line| line.trim_end_matches(blank));
            let entries: Vec<&str> =
                lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
            assert_eq!(users.len(), entries.len(), "a line was passed over");
            for entry in entries {
                let (name, hash) = entry.split_once(':').expect("name:hash");
                let user = users.get(name.trim_matches(blank)).expect("every user is there");
                assert!(hash.trim_matches(blank).starts_with('$'));
                assert!(user.is_slow() || !user.verify(entry.as_bytes()), "a password out of nothing");
            }
        }
        Err(error) => {
            let message = error.to_string();
            assert!(!message.contains(char::is_control), "{message:?}");
            let is_public = |line: &str| line.split(':').next().is_some_and(|name| name.contains(SECRET));
            assert!(file.lines().any(is_public) || !message.contains(SECRET), "told: {message}");
        }
    }
    // A further user changes nothing about the others.
    let longer = Users::parse(&format!("{file}\n{entry}\n"), "passwd");
    match (read, longer) {
        (Ok(users), Ok(longer)) => {
            assert_eq!(longer.len(), users.len() + 1);
            assert!(longer.get(NAME).is_some() && longer.len() == users.len() + 1);
            let user = longer.get(NAME).expect("just added");
            assert!(user.verify(password.as_bytes()));
            assert!(!user.verify(format!("{password}x").as_bytes()));
            assert!(password.is_empty() || !user.verify(&password.as_bytes()[1..]));
        }
        (Ok(users), Err(error)) => assert!(users.get(NAME).is_some(), "{error}"),
        (Err(_), Err(_)) => {}
        (Err(error), Ok(_)) => panic!("one more user mends: {error}"),
    }
});

/// A hash as mosquitto_passwd makes it: `$6$salt$hash`.
fn hash(password: &str) -> String {
    let salt = b"twelve bytes";
    let hash = digest::digest(&digest::SHA512, &[password.as_bytes(), salt].concat());
    format!("$6${}${}", STANDARD.encode(salt), STANDARD.encode(hash))
}
