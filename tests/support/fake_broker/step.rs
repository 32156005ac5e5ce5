//! Events at a broker, as data: a scenario is a list of steps.
//!
//! Connections have names in a scenario, which are not their client ids: two connections with the same client id have
//! two names.

use std::ffi::c_int;

use super::abi;

/// A text for a C string, up to its first NUL; `None` stands for NULL.
pub type Text<'a> = Option<&'a [u8]>;

/// The name for no client at all: NULL.
pub const NOBODY: &str = "";

/// The name for the client that the broker completes or kicks, in steps inside its functions.
pub const THIS: &str = "this";

/// One event: the connection that it is about, what happens, and the code that the plugin must return.
#[derive(Debug, Clone)]
pub struct Step<'a> {
    pub who: &'a str,
    pub action: Action<'a>,
    pub expected: Option<Expected>,
}

#[derive(Debug, Clone)]
pub enum Action<'a> {
    /// A new connection takes this name. The connection that had it goes without an event.
    Connect(Connection<'a>),
    /// The connection's CONNECT gives this username, which is the client's from then on, in 2.0 and 2.1.
    Name(Text<'a>),
    /// A BASIC_AUTH alone: of a CONNECT, or of a session that is rechecked.
    Ask(Password<'a>),
    /// A CONNECT from its BASIC_AUTH to the end of the login, which may take some ticks.
    LogIn(Password<'a>),
    /// Ticks until the parked client is completed.
    AwaitCompletion,
    /// An ACL_CHECK.
    Check {
        access: c_int,
        topic: Text<'a>,
    },
    /// A DISCONNECT, with the end of the session.
    Disconnect,
    /// A CLIENT_OFFLINE, since 2.1. The fake broker forgets the session nevertheless.
    Offline,
    Tick,
    Reload,
    /// An event of this number with NULL for its data.
    Empty(c_int),
    /// Callbacks get this event number from now on, instead of the right one.
    Mislabel(Option<c_int>),
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Connection<'a> {
    pub id: Text<'a>,
    pub address: Text<'a>,
    pub username: Text<'a>,
    /// Whether the client asks for a session that stays.
    pub is_durable: bool,
    pub speaks_mqtt_5: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct Password<'a> {
    /// The password, any bytes; `None` for a login without one.
    pub bytes: Text<'a>,
    /// Whether the event tells the password's length, as since 2.1.3.
    pub says_length: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    Code(c_int),
    /// Any code but success and "delayed", which promises a later one.
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

    /// Expects that the plugin returns this code.
    pub fn gives(self, code: c_int) -> Self {
        Self { expected: Some(Expected::Code(code)), ..self }
    }

    /// Expects that the plugin neither allows nor delays this.
    pub fn gives_no_yes(self) -> Self {
        Self { expected: Some(Expected::NoYes), ..self }
    }
}

/// Types that a scenario may write for a [`Text`].
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

/// Like [`ask`], with an event that tells the password's length.
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
