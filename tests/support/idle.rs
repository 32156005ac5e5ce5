//! A 2.0 broker without clients, for tests and fuzz targets that call a `Plugin` directly.

use std::io;
use std::thread::{self, JoinHandle};

use mosquitto_http_auth::internals::{Broker, BrokerThread, Caller, Connection, Look, Unread};

/// The proof that the caller is the broker's thread: here that is the thread that makes a plugin.
#[allow(dead_code, reason = "not every user is the broker's thread")]
pub fn thread() -> BrokerThread {
    BrokerThread::vouched_for()
}

/// A broker that has no clients, and ignores what the plugin asks of it.
pub struct Idle;

impl Broker for Idle {
    fn spawn(&self, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
        thread::Builder::new().spawn(body)
    }
    fn caller(&self) -> Caller {
        Caller::Broker(thread())
    }
    fn is_2_1(&self) -> bool {
        false
    }
    fn can_wake(&self, _: &BrokerThread) -> bool {
        false
    }
    fn wake(&self) {}
    fn is_session(&self, _: &BrokerThread, _: &str, _: Connection) -> bool {
        false
    }
    fn complete_login(&self, _: &BrokerThread, _: &str, _: bool) {}
    fn kick(&self, _: &BrokerThread, _: &str, _: &str) {}
    fn peek(&self, _: &BrokerThread, _: Look<'_>, _: &mut dyn FnMut(Unread<'_>)) {}
}
