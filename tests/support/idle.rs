//! The process of a 2.0 broker that does nothing but ask, for what needs a plugin and no broker. (`fuzz/` uses it, too.)

use std::io;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use mosquitto_http_auth::broker::Broker;
use mosquitto_http_auth::broker::Connection;
use mosquitto_http_auth::broker::Unread;

/// It has no clients of its own.
pub struct Idle;

impl Broker for Idle {
    fn spawn(&self, body: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
        thread::Builder::new().spawn(body)
    }
    fn is_broker_thread(&self) -> bool {
        true
    }
    fn is_2_1(&self) -> bool {
        false
    }
    fn can_wake(&self) -> bool {
        false
    }
    fn wake(&self) {}
    fn is_session(&self, _: &str, _: Connection) -> bool {
        false
    }
    fn complete_login(&self, _: &str, _: bool) {}
    fn kick(&self, _: &str, _: &str) {}
    fn look_ahead(&self, _: Instant, _: &mut dyn FnMut(Unread<'_>)) {}
}
