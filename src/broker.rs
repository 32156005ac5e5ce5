//! The broker as the plugin sees it: the words for its clients, and what the plugin needs of its process. `ffi` has the
//! real one.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Instant;

pub use cell::BrokerCell;

mod cell;

/// Names one connection of a client for as long as it lasts: the broker's own pointer to it, as a number.
/// It is compared and never followed; the broker may give the number to another client later.
pub type Connection = usize;

/// A client as the broker shows it in an event.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// Which connection this is about.
    pub connection: Connection,
    /// The client id.
    pub id: &'a str,
    /// The peer's address; none for sessions that were restored from disk and have not connected since,
    /// and where the broker asks on behalf of a stored message or of its HTTP listener.
    pub address: Option<&'a str>,
}

/// What else the broker tells of a client while an event about it is handled.
pub trait Details: fmt::Debug {
    /// Whether it speaks MQTT over websockets.
    fn uses_websockets(&self) -> bool;

    /// The protocol's level: 3, 4 or 5, or 0 where the broker does not say.
    fn level(&self) -> u8;

    /// Whether it starts, or started, without the session that it had before.
    fn starts_clean(&self) -> bool;

    /// Its keep alive in seconds, 0 for none.
    fn keepalive(&self) -> Option<u16>;

    /// The port of its listener, where the broker tells it (2.1).
    fn listener_port(&self) -> Option<u16>;

    /// The certificate that it has shown, in DER.
    fn certificate(&self) -> Option<Vec<u8>> {
        None
    }
}

/// Nothing is known.
impl Details for () {
    fn uses_websockets(&self) -> bool {
        false
    }

    fn level(&self) -> u8 {
        0
    }

    fn starts_clean(&self) -> bool {
        true
    }

    fn keepalive(&self) -> Option<u16> {
        None
    }

    fn listener_port(&self) -> Option<u16> {
        None
    }
}

/// What a topic check says of the retained message of its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Retain {
    /// Nothing.
    #[default]
    No,
    /// The message that it is about is kept, or was when it was published.
    Kept,
    /// The message that it is about is empty and ends that one is kept.
    Ended,
}

/// What waits unread in a socket of the broker.
#[derive(Debug, Clone, Copy)]
pub struct Unread<'a> {
    /// The number of the socket, by which a look goes through all.
    pub descriptor: i32,
    /// Which of the broker's listeners has accepted the connection, as an index; the same for this process's life.
    pub listener: u16,
    /// The port of that listener, if it has one.
    pub port: Option<u16>,
    /// Whose it is, where that can be told: the connection as events show it.
    pub client: Option<Connection>,
    /// The system's own number for this socket, which no other gets. An address and port would be somebody else's later.
    pub socket: Option<u64>,
    /// The address at the other end, where there is one.
    pub peer: Option<IpAddr>,
    /// The first of the bytes.
    pub bytes: &'a [u8],
}

/// Bytes of each socket that [`Broker::peek`] shows: enough for a CONNECT with what usually follows.
pub const PEEKED_BYTES: usize = 4096;

/// A look into the broker's sockets, once around.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    /// The descriptor where it begins. `None`: where the last look stopped.
    pub from: Option<i32>,
    /// How long it goes on.
    pub until: Until<'a>,
    /// The descriptors that are not to be looked at: what waits there is known.
    pub passes_over: &'a dyn Fn(i32) -> bool,
}

/// How long a look into the broker's sockets goes on.
#[derive(Clone, Copy)]
pub struct Until<'a> {
    /// It ends then at the latest.
    pub deadline: Instant,
    /// It also ends when this returns `true`: what the broker waits for has come.
    pub is_answered: &'a dyn Fn() -> bool,
}

impl Until<'_> {
    /// Whether it is to end now.
    pub fn is_over(&self) -> bool {
        (self.is_answered)() || Instant::now() >= self.deadline
    }
}

/// Proof of running on the broker's own thread, which serves all clients. It cannot be sent to another, so whoever
/// takes one as an argument need not ask where it runs.
#[derive(Debug)]
pub struct BrokerThread(PhantomData<*const ()>);

impl BrokerThread {
    /// For implementations of [`Broker`], which can tell. Everybody else is handed one.
    pub fn vouched_for() -> Self {
        Self(PhantomData)
    }
}

/// Who raises an event.
#[derive(Debug)]
pub enum Caller {
    /// The broker's own thread: while it waits, so does every client.
    Broker(BrokerThread),
    /// The thread of the broker's HTTP listener (2.1, `http_api`): only requests to that listener wait with it. It has
    /// no sessions, and none of the broker's functions may be called on it.
    HttpListener,
}

impl Caller {
    /// The proof, where there is one.
    pub fn broker_thread(&self) -> Option<&BrokerThread> {
        match self {
            Caller::Broker(thread) => Some(thread),
            Caller::HttpListener => None,
        }
    }
}

/// What became of an attempt to hang up on a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HangUp {
    /// Nothing that the broker sends reaches the client any more.
    Done,
    /// It cannot be told which socket is the client's.
    Impossible,
    /// It can be told at this time, and could be at once only by taking too much of the broker's time.
    From(Instant),
}

/// Where a socket may listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenAddress<'a> {
    /// At an address and port.
    Tcp(SocketAddr),
    /// At a path.
    Unix(&'a Path),
}

/// Which addresses of a name are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// All.
    Any,
    /// Addresses of IPv4.
    V4,
}

/// Looks a name up as the system does, in its files and at its name servers, and waits for as long as that takes:
/// minutes, if it must be. Returns its addresses, or why there are none in words for the operator.
pub type LookUp = fn(&str, Family) -> Result<Vec<IpAddr>, String>;

/// Starts a thread as [`Broker::spawn`] does.
pub type Spawn<'a> = &'a dyn Fn(Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>;

/// The broker that has loaded the plugin, and its process.
pub trait Broker: Send + Sync {
    /// Starts a thread that takes no signals, since those are for the broker's own thread.
    ///
    /// # Errors
    /// Why the system starts none.
    fn spawn(&self, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>;

    /// What looks names up here. A function, since a thread that is at it may outlive the broker's plugins, and must use
    /// nothing of theirs.
    fn look_up(&self) -> LookUp {
        |name, _| Err(format!("the name {name} cannot be looked up here"))
    }

    /// Which thread this is called on.
    fn caller(&self) -> Caller;

    /// Whether this is Mosquitto 2.1 or later, in which clients can wait beside the loop.
    fn is_2_1(&self) -> bool;

    /// Whether no other copy of this library's file is in the process. Copies do not know of each other's parked
    /// clients, and the broker knows those by nothing but their ids.
    fn is_only_copy(&self) -> bool {
        true
    }

    /// Prepares for [`Self::wake`]. `false` if that cannot work here; then the loop comes round by itself, after up to
    /// 100 ms.
    fn can_wake(&self, thread: &BrokerThread) -> bool;

    /// Makes the broker's loop come round, unless it has just come round and not yet begun to wait: then
    /// nothing happens. From any thread.
    fn wake(&self);

    /// Whether this connection is the broker's session of that client id: a client whose CONNECT is being
    /// handled is not yet. Always `false` before 2.1.
    fn is_session(&self, thread: &BrokerThread, client_id: &str, connection: Connection) -> bool;

    /// Whether there is a session of this client id, connected or not. `None`: that cannot be told, as before 2.1.
    fn has_session(&self, _: &BrokerThread, _client_id: &str) -> Option<bool> {
        None
    }

    /// Lets a client in that is parked under this id, or refuses it. May call back into the plugin before
    /// it returns.
    fn complete_login(&self, thread: &BrokerThread, client_id: &str, allow: bool);

    /// Whether a client whose CONNECT is being handled has sent more already. `length` says how long that CONNECT is,
    /// where bytes begin with it.
    fn has_sent_more(
        &self,
        _: &BrokerThread,
        _client: Connection,
        _length: &dyn Fn(&[u8]) -> Option<usize>,
    ) -> bool {
        false
    }

    /// The body of the packet of a client that the broker is at: it asks about something in it. `ends` says of bytes that
    /// may begin with it where it may end, in order. `None`: it cannot be found.
    fn packet_in_hand(
        &self,
        _: &BrokerThread,
        _client: Connection,
        _ends: &dyn Fn(&[u8]) -> Vec<usize>,
    ) -> Option<Vec<u8>> {
        None
    }

    /// Shuts the socket of a parked client down, so that it gets no CONNACK when it is refused. The broker keeps the
    /// socket and closes it. With `insists` it may take more of the broker's time.
    fn hang_up(&self, _: &BrokerThread, _client: Client<'_>, _insists: bool) -> HangUp {
        HangUp::Impossible
    }

    /// Disconnects a client. May call back into the plugin before it returns. Not for a callback about that client.
    fn kick(&self, thread: &BrokerThread, client_id: &str, username: &str);

    /// Disconnects all who are connected under a username, which is not empty, and no session that sleeps. May call back
    /// into the plugin before it returns. Not for a callback about any of them.
    fn kick_username(&self, _: &BrokerThread, _username: &str) {}

    /// Disconnects the client of this id, which must be connected: 2.0 would read freed memory later. The same holds as
    /// for [`Self::kick`].
    fn kick_client_id(&self, _: &BrokerThread, _client_id: &str) {}

    /// The connection of the session of a client id. `None`: that cannot be told, as before 2.1, or there is none.
    fn connection_of(&self, _: &BrokerThread, _client_id: &str) -> Option<Connection> {
        None
    }

    /// Sends a message with QoS 0: to one client, whatever it has subscribed to, or, without a client id, to all who have
    /// subscribed to the topic, and retained.
    fn publish(&self, _: &BrokerThread, _client_id: Option<&str>, _topic: &str, _payload: &[u8]) {}

    /// Has the broker read its files again and check its sessions, as a SIGHUP does, once the event at hand is over.
    fn reload(&self, _: &BrokerThread) {}

    /// Whether this process itself listens there.
    fn listens(&self, _: ListenAddress<'_>) -> bool {
        false
    }

    /// Notes that a socket listens for the plugin, or no longer does: who connects there is no client of the broker.
    fn listens_for_plugin(&self, _socket: RawFd, _listens: bool) {}

    /// Shows what clients have sent and the broker has not read. Takes nothing and never waits.
    fn peek(&self, thread: &BrokerThread, look: Look<'_>, see: &mut dyn FnMut(Unread<'_>));

    /// The descriptor of a client's socket, where it is known without finding out.
    fn descriptor_of(&self, _: &BrokerThread, _: Connection) -> Option<i32> {
        None
    }

    /// All connections that have a socket at this moment, in order. `None`: that cannot be told. Reading them takes a
    /// microsecond for each.
    fn connections(&self, _: &BrokerThread) -> Option<Vec<Connection>> {
        None
    }

    /// Whether a connection has a socket at this moment: the number of one that is closed has none, until the broker
    /// gives it to somebody else. `None`: that cannot be told.
    fn has_socket(&self, thread: &BrokerThread, connection: Connection) -> Option<bool> {
        self.connections(thread).map(|connections| connections.binary_search(&connection).is_ok())
    }

    /// Whether a connection had a socket at `since` or later: what [`Self::has_socket`] tells may be some milliseconds old.
    /// `None` also where that would take too much of the broker's time.
    fn has_socket_since(&self, thread: &BrokerThread, connection: Connection, _: Instant) -> Option<bool> {
        self.has_socket(thread, connection)
    }
}
