//! Options whose value is one of a few words or forms.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

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

/// What becomes of a QoS 1 or 2 publish whose question gets no answer (`acl_no_answer`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithoutAnswer {
    /// Its connection ends, so that the client keeps the message and sends it again.
    Disconnect,
    /// It is acknowledged and dropped, as the broker does with what is denied.
    Deny,
}

/// What a topic gets that no rule of the session is about (`acl_no_match`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoMatch {
    /// The API decides, if it is asked about topics; else it is denied.
    Ask,
    /// It is denied.
    Deny,
    /// It is allowed.
    Allow,
}

/// Where the admin listener listens (`admin_listen`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAt {
    /// At an address and port.
    Tcp(SocketAddr),
    /// At a Unix socket with this path.
    Unix(PathBuf),
}

impl fmt::Display for ListenAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAt::Tcp(address) => write!(f, "{address}"),
            ListenAt::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Which wrong passwords are counted together (`throttle_by`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountBy {
    /// Wrong passwords from one address for one username.
    AddressAndUsername,
    /// Wrong passwords from one address, for any username.
    Address,
}
