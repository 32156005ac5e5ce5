//! Identical questions about a user share one request. (Those about logins and topics do so in `ask::inflight`.)
use std::collections::HashMap;

use tokio::sync::watch;

use super::request::Reply;
use crate::fingerprint::{AlreadyHashed, Fingerprint};
use crate::util::Lock;

/// Where the answer will be.
type Receiver = watch::Receiver<Option<Reply>>;

/// The questions that are on their way. Whoever comes meanwhile shares the answer.
#[derive(Default)]
pub(in crate::ask) struct SingleFlight(Lock<HashMap<Fingerprint, Receiver, AlreadyHashed>>);

/// A question on its way. However it ends, others may ask anew then.
pub(in crate::ask) struct Flight<'a> {
    among: &'a SingleFlight,
    key: Fingerprint,
    tell: watch::Sender<Option<Reply>>,
}

impl SingleFlight {
    /// Joins this question, or begins it.
    pub(in crate::ask) fn join(&self, key: Fingerprint) -> Result<Flight<'_>, Receiver> {
        let mut flights = self.0.lock();
        if let Some(receiver) = flights.get(&key) {
            return Err(receiver.clone());
        }
        let (tell, receiver) = watch::channel(None);
        flights.insert(key, receiver);
        Ok(Flight { among: self, key, tell })
    }
}

impl Flight<'_> {
    /// Tells all who wait.
    pub(in crate::ask) fn tell(&self, reply: &Reply) {
        let _ = self.tell.send(Some(reply.clone())); // fails if nobody waits
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.among.0.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::fingerprint::{Domain, Fingerprinter};
    use crate::question::{Answer, Grounds, Verdict};

    #[test]
    fn who_comes_meanwhile_shares_the_question_and_whoever_comes_later_asks() {
        let key = Fingerprinter::with_key(&[7; 16]).fields(Domain::Superuser, [b"joe"]);
        let flights = SingleFlight::default();
        let answer = Answer::verdict(Verdict::Allow, Grounds::Status(200));
        let reply = Reply { answer, sent: Instant::now(), lifetime: None };
        let flight = flights.join(key).ok().unwrap();
        let mut waiting = flights.join(key).err().unwrap();
        flight.tell(&reply);
        drop(flight);
        assert_eq!(*waiting.borrow_and_update(), Some(reply));
        // One that ends without an answer leaves nobody waiting.
        let flight = flights.join(key).ok().unwrap();
        let waiting = flights.join(key).err().unwrap();
        drop(flight);
        assert!(waiting.has_changed().is_err() && waiting.borrow().is_none());
        assert!(flights.join(key).is_ok());
    }
}
