//! The token that commands over TCP want.

use std::fmt;

use ring::digest::{Digest, SHA256, digest};
use subtle::ConstantTimeEq;

use super::start_error::StartError;
use crate::config::Config;
use crate::local;

/// A token, of which a digest is all that is kept.
#[derive(Clone)]
pub struct Token(Digest);

/// Without the digest.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// Reads the file that `admin_token_file` names, if it names one.
    ///
    /// # Errors
    /// That the file cannot be read, or holds no token.
    pub fn read(config: &Config) -> Result<Option<Self>, StartError> {
        let Some(path) = &config.admin_token_file else { return Ok(None) };
        let wrong = |what| StartError::Token(config.called("admin_token_file"), path.clone(), what);
        let token = local::token(path).map_err(wrong)?;
        Ok(Some(Self(digest(&SHA256, &token))))
    }

    /// Whether somebody knows the token, in a time that tells nothing about it.
    pub fn is(&self, shown: &[u8]) -> bool {
        digest(&SHA256, shown).as_ref().ct_eq(self.0.as_ref()).into()
    }
}
