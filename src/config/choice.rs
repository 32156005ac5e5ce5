//! Options whose value is one of a few words.

/// Who waits while the API decides about a login (`auth_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    /// The client where the broker can (2.1), else the broker.
    Auto,
    /// The broker.
    Blocking,
    /// The client; a broker that cannot does not start.
    Delayed,
}

/// Whose wrong passwords are counted together (`throttle_by`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountBy {
    /// An address and a username.
    AddressAndUsername,
    /// An address, whatever name it tries.
    Address,
}
