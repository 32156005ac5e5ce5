//! Becoming the broker's user, so that files are seen as the plugin will see them.

use nix::unistd::{Uid, User, initgroups, setgid, setuid};
use std::ffi::CString;

/// As whom this program goes on.
#[derive(Debug, PartialEq, Eq)]
pub enum Now {
    /// It was root, and is the broker's user for good, as the broker itself when it loads plugins.
    BrokersUser,
    /// It stays whoever it was, who is not root.
    Whoever,
    /// It stays root, since the broker does, too.
    Root,
}

/// Becomes the broker's user for good, with its groups, if this is root.
///
/// # Errors
/// Why that cannot be done, in words.
pub fn become_user(name: &str) -> Result<Now, String> {
    if !Uid::effective().is_root() {
        let own = User::from_uid(Uid::effective()).ok().flatten();
        return Ok(if own.is_some_and(|own| own.name == name) { Now::BrokersUser } else { Now::Whoever });
    }
    if name == "root" {
        return Ok(Now::Root);
    }
    let failed = |cause: nix::Error| format!("cannot become the user {name} ({cause})");
    let user = User::from_name(name).map_err(failed)?.ok_or_else(|| format!("there is no user {name}"))?;
    let c_name = CString::new(name).map_err(|_| format!("there is no user {name:?}"))?;
    initgroups(&c_name, user.gid)
        .and_then(|()| setgid(user.gid))
        .and_then(|()| setuid(user.uid))
        .map_err(failed)?;
    Ok(Now::BrokersUser)
}
