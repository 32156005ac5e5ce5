//! Options whose value is one of a few words.

/// Whether the client or the whole broker waits while the API decides about a login (`auth_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    /// The client waits where the broker supports that (2.1), else the broker waits.
    Auto,
    /// The broker always waits.
    Blocking,
    /// The client waits. A broker that does not support that does not start.
    Delayed,
}

/// Which wrong passwords are counted together (`throttle_by`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountBy {
    /// Those from one address for one username.
    AddressAndUsername,
    /// Those from one address, for any username.
    Address,
}
