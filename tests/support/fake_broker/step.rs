//! What happens at a broker, as data: a scenario is a list of steps.
//!
//! Clients have names in a scenario, which are not what they call themselves: two connections with the same client id
//! have two names.

use std::ffi::c_int;

use super::abi;

/// A C string, up to its first NUL; `None` is NULL.
pub type Text<'a> = Option<&'a [u8]>;

/// Whoever has no place in the event: its client is NULL.
pub const NOBODY: &str = "";

/// In steps that a broker takes from inside its own functions: the client that it completes or kicks.
pub const THIS: &str = "this";

/// One thing that happens, to whom, and what the plugin has to say to it.
#[derive(Debug, Clone)]
pub struct Step<'a> {
    pub who: &'a str,
    pub action: Action<'a>,
    pub expected: Option<Expected>,
}

#[derive(Debug, Clone)]
pub enum Action<'a> {
    /// A new connection has this name from now on; who had it is gone without a word.
    Connect(Connection<'a>),
    /// The username of the connection's CONNECT. For 2.0 and 2.1 it is the client's from then on.
    Name(Text<'a>),
    /// A BASIC_AUTH by itself: of a CONNECT, or of a session that is asked about again.
    Ask(Password<'a>),
    /// A CONNECT from its BASIC_AUTH to its end, which may come some ticks later.
    LogIn(Password<'a>),
    /// Ticks until the parked client is completed.
    AwaitCompletion,
    /// An ACL_CHECK.
    Check {
        access: c_int,
        topic: Text<'a>,
    },
    /// A DISCONNECT, and the session ends.
    Disconnect,
    /// Since 2.1: a CLIENT_OFFLINE. This broker keeps no such sessions.
    Offline,
    Tick,
    Reload,
    /// An event of this number that brings no data.
    Empty(c_int),
    /// The number that callbacks are told from now on, instead of that of their event.
    Mislabel(Option<c_int>),
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Connection<'a> {
    pub id: Text<'a>,
    pub address: Text<'a>,
    pub username: Text<'a>,
    /// It does not start clean.
    pub is_durable: bool,
    pub speaks_mqtt_5: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct Password<'a> {
    /// Any bytes. NULL is no password.
    pub bytes: Text<'a>,
    /// The event says how many they are, as since 2.1.3.
    pub says_length: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    Code(c_int),
    /// Any code but success, and no promise of one.
    NoYes,
}

impl Expected {
    pub fn is(self, code: c_int) -> bool {
        match self {
            Self::Code(expected) => code == expected,
            Self::NoYes => code != abi::SUCCESS && code != abi::AUTH_DELAYED,
        }
    }
}

impl<'a> Step<'a> {
    pub fn new(who: &'a str, action: Action<'a>) -> Self {
        Self { who, action, expected: None }
    }

    /// Expects this code of the plugin.
    pub fn gives(self, code: c_int) -> Self {
        Self { expected: Some(Expected::Code(code)), ..self }
    }

    /// Expects anything of the plugin but a yes.
    pub fn gives_no_yes(self) -> Self {
        Self { expected: Some(Expected::NoYes), ..self }
    }
}

/// What a [`Text`] can be written as.
pub trait IntoText<'a> {
    fn text(self) -> Text<'a>;
}

impl<'a> IntoText<'a> for &'a str {
    fn text(self) -> Text<'a> {
        Some(self.as_bytes())
    }
}

impl<'a, const N: usize> IntoText<'a> for &'a [u8; N] {
    fn text(self) -> Text<'a> {
        Some(self)
    }
}

impl<'a> IntoText<'a> for Text<'a> {
    fn text(self) -> Text<'a> {
        self
    }
}

/// A connection from an ordinary address, with the username of its CONNECT.
pub fn connect<'a>(who: &'a str, id: impl IntoText<'a>, username: impl IntoText<'a>) -> Step<'a> {
    let address = Some(&b"192.0.2.1"[..]);
    connection(who, Connection { id: id.text(), address, username: username.text(), ..Connection::default() })
}

pub fn connection<'a>(who: &'a str, connection: Connection<'a>) -> Step<'a> {
    Step::new(who, Action::Connect(connection))
}

pub fn name<'a>(who: &'a str, username: impl IntoText<'a>) -> Step<'a> {
    Step::new(who, Action::Name(username.text()))
}

pub fn ask<'a>(who: &'a str, password: impl IntoText<'a>) -> Step<'a> {
    Step::new(who, Action::Ask(Password { bytes: password.text(), says_length: false }))
}

/// As [`ask`], with an event that says how long the password is.
pub fn ask_with_length<'a>(who: &'a str, password: impl IntoText<'a>) -> Step<'a> {
    Step::new(who, Action::Ask(Password { bytes: password.text(), says_length: true }))
}

pub fn log_in<'a>(who: &'a str, password: impl IntoText<'a>) -> Step<'a> {
    Step::new(who, Action::LogIn(Password { bytes: password.text(), says_length: false }))
}

pub fn await_completion(who: &str) -> Step<'_> {
    Step::new(who, Action::AwaitCompletion)
}

pub fn check<'a>(who: &'a str, access: c_int, topic: impl IntoText<'a>) -> Step<'a> {
    Step::new(who, Action::Check { access, topic: topic.text() })
}

pub fn disconnect(who: &str) -> Step<'_> {
    Step::new(who, Action::Disconnect)
}

pub fn offline(who: &str) -> Step<'_> {
    Step::new(who, Action::Offline)
}

pub fn tick() -> Step<'static> {
    Step::new(NOBODY, Action::Tick)
}

pub fn reload() -> Step<'static> {
    Step::new(NOBODY, Action::Reload)
}

pub fn empty(event: c_int) -> Step<'static> {
    Step::new(NOBODY, Action::Empty(event))
}

pub fn mislabel(number: Option<c_int>) -> Step<'static> {
    Step::new(NOBODY, Action::Mislabel(number))
}
