//! The token that commands over TCP want.

use std::fmt;

use ring::digest::{Digest, SHA256, digest};
use subtle::ConstantTimeEq;

use super::start_error::StartError;
use crate::config::Config;
use crate::util::files;

/// Bytes of a token: fewer could be guessed, and more are no token.
const SHORTEST: usize = 16;
const LONGEST: u64 = 4096;

/// A token, of which a digest is all that is kept.
#[derive(Clone)]
pub struct Token(Digest);

/// Without the digest.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Why this is no token, if it is none.
fn no_token(text: &[u8]) -> Option<String> {
    let lines = text.split(|byte| *byte == b'\n').count();
    match text.len() {
        0 => Some("nothing".to_owned()),
        _ if lines > 1 => Some(format!("{lines} lines")),
        _ if !text.iter().all(u8::is_ascii_graphic) => Some("a blank, or what is no ASCII".to_owned()),
        length if length < SHORTEST => Some(format!("{length} characters")),
        _ => None,
    }
}

impl Token {
    /// Reads the file that `admin_token_file` names, if it names one.
    ///
    /// # Errors
    /// That the file cannot be read, or holds no token.
    pub fn read(config: &Config) -> Result<Option<Self>, StartError> {
        let Some(path) = &config.admin_token_file else { return Ok(None) };
        let wrong = |what: String| StartError::Token(config.called("admin_token_file"), path.clone(), what);
        let text = files::read(path, LONGEST).map_err(|error| wrong(format!("cannot be read ({error})")))?;
        let token = text.trim_ascii();
        if let Some(found) = no_token(token) {
            return Err(wrong(format!(
                "holds no token: found {found}; expected one line of {SHORTEST} or more characters of ASCII, without blanks"
            )));
        }
        Ok(Some(Self(digest(&SHA256, token))))
    }

    /// Whether somebody knows the token, in a time that tells nothing about it.
    pub fn is(&self, shown: &[u8]) -> bool {
        digest(&SHA256, shown).as_ref().ct_eq(self.0.as_ref()).into()
    }
}
