//! Has the broker disconnect whoever is connected under a name or a client id, and counts them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::sessions::Sessions;
use crate::broker::{Broker, BrokerThread, Connection};
use crate::command::Named;

/// Disconnects those who are connected.
pub struct Kicks {
    sessions: Arc<Sessions>,
    broker: Arc<dyn Broker>,
    /// Connections that have ended, whoever let them in.
    closings: AtomicUsize,
}

impl Kicks {
    /// No connection has ended.
    pub fn new(sessions: Arc<Sessions>, broker: Arc<dyn Broker>) -> Self {
        Self { sessions, broker, closings: AtomicUsize::new(0) }
    }

    /// A connection has ended.
    pub fn note_closing(&self) {
        self.closings.fetch_add(1, Ordering::Relaxed);
    }

    /// Disconnects those who are meant. Returns how many there were.
    pub fn kick(&self, named: &Named, thread: &BrokerThread) -> usize {
        let before = self.closings.load(Ordering::Relaxed);
        let has_socket = |connection: &Connection| self.broker.has_socket(thread, *connection) != Some(false);
        let connected: Vec<_> = self.connected(named).into_iter().filter(has_socket).collect();
        match named {
            Named::Username(username) => self.broker.kick_username(thread, username),
            Named::ClientId(client_id) => self.kick_client_id(client_id, thread),
        }
        let ended = self.closings.load(Ordering::Relaxed).wrapping_sub(before);
        // Of those on websockets 2.0 says nothing until it has closed them, which it does when they can be written to.
        let mut still_connected = self.connected(named);
        still_connected.sort_unstable();
        let is_ending = |connection: &&Connection| still_connected.binary_search(connection).is_ok();
        let ending = connected.iter().filter(is_ending).count();
        ended + ending
    }

    /// The connections of those who are meant, where the broker does not tell: before 2.1.
    fn connected(&self, named: &Named) -> Vec<Connection> {
        match named {
            Named::Username(username) => self.sessions.connections_of(username),
            Named::ClientId(client_id) => self.sessions.connection_of(client_id).into_iter().collect(),
        }
    }

    fn kick_client_id(&self, client_id: &str, thread: &BrokerThread) {
        // 2.0 has no function that finds a client, and must not be told to disconnect one that is not connected: this
        // plugin knows whom it has let in.
        let connection = if self.broker.is_2_1() {
            self.broker.connection_of(thread, client_id)
        } else {
            self.sessions.connection_of(client_id)
        };
        // Where it cannot be told whether it has a socket, the session table says that it is connected, or this is 2.1, where it
        // does no harm.
        let may_be_there = |connection| self.broker.has_socket(thread, connection) != Some(false);
        if connection.is_some_and(may_be_there) {
            self.broker.kick_client_id(thread, client_id);
        }
    }
}
