//! The process of a 2.0 broker that does nothing but ask, for what needs a plugin and no broker. (`fuzz/` uses it, too.)

use std::io;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use mosquitto_http_auth::internals::{Broker, BrokerThread, Caller, Connection, Unread};

/// Everything is called on its thread.
#[allow(dead_code)]
pub fn thread() -> BrokerThread {
    BrokerThread::vouched_for()
}

/// It has no clients of its own.
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
    fn peek(&self, _: &BrokerThread, _: Instant, _: &mut dyn FnMut(Unread<'_>)) {}
}
