//! The users and rules that options name.

use super::{AclFile, LocalError, Placeholders, Users, read};
use crate::config::Config;

/// An option as messages call it, and what is wrong with its value or the file that it names.
pub type Wrong = (String, LocalError);

/// Reads the password file and the option `user`.
///
/// # Errors
/// The first mistake.
pub fn users(config: &Config) -> Result<Users, Wrong> {
    let in_file = |error| (config.called("password_file"), error);
    let mut users = match &config.password_file {
        None => Users::default(),
        Some(path) => {
            let text = read(path).map_err(in_file)?;
            Users::parse(&text, &path.display().to_string()).map_err(in_file)?
        }
    };
    for entry in &config.users {
        let in_option = |error| (config.called("user"), error);
        users.insert_inline(entry, "the option's value").map_err(in_option)?;
    }
    Ok(users)
}

/// Reads the ACL file, if the options name one, by the rules of this broker's version.
///
/// # Errors
/// The first mistake.
pub fn rules(config: &Config, placeholders: Placeholders) -> Result<Option<AclFile>, Wrong> {
    let Some(path) = &config.acl_file else { return Ok(None) };
    let in_file = |error| (config.called("acl_file"), error);
    let text = read(path).map_err(in_file)?;
    AclFile::parse(&text, &path.display().to_string(), placeholders).map(Some).map_err(in_file)
}
