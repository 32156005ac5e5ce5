//! `hash`: a line for `plugin_opt_user` or a password file, in the format of `mosquitto_passwd` that every Mosquitto 2
//! understands.

use std::num::NonZeroU32;

use anstream::println;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::pbkdf2;
use ring::rand::{SecureRandom, SystemRandom};

use crate::Outcome;
use crate::arguments::Hash;
use crate::local::{PasswordHash, Users};
use crate::output::password;

/// Bytes of salt: what the brokers of 2.0 have room for.
const SALT_BYTES: usize = 12;

/// Bytes of a `$7$` hash.
const HASH_BYTES: usize = 64;

/// Makes the line.
///
/// # Errors
/// Why there is none.
pub fn run(hash: &Hash) -> Result<Outcome, String> {
    let password = password(hash.password_stdin, true)?;
    if password.is_empty() {
        return Err("the password is empty".to_owned());
    }
    if hash.username.starts_with('#') {
        return Err("a name that begins with # would make the line a comment".to_owned());
    }
    let line = format!("{}:{}", hash.username, hashed(&password, hash.iterations)?);
    // The plugin has the last word on whether it understands the line.
    Users::default().insert_inline(&line, "the line").map_err(|error| error.to_string())?;
    println!("{line}");
    Ok(Outcome::Yes)
}

fn hashed(password: &str, iterations: u32) -> Result<String, String> {
    let (mut salt, mut hash) = ([0; SALT_BYTES], [0; HASH_BYTES]);
    SystemRandom::new().fill(&mut salt).map_err(|_| "the system gives no random numbers".to_owned())?;
    let rounds = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, rounds, &salt, password.as_bytes(), &mut hash);
    let text = format!("$7${iterations}${}${}", BASE64.encode(salt), BASE64.encode(hash));
    match PasswordHash::parse(&text).map(|hash| hash.verify(password.as_bytes())) {
        Ok(true) => Ok(text),
        _ => Err("the hash does not fit its password: please report this".to_owned()),
    }
}
