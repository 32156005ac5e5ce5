//! Questions that are on their way to an API, each for all who want its answer.
use std::collections::HashMap;

use tokio::sync::watch;

use super::request::Reply;
use crate::fingerprint::{AlreadyHashed, Fingerprint};
use crate::util::Lock;

/// Where the answer will be.
type Receiver = watch::Receiver<Option<Reply>>;

/// The questions that are on their way. Whoever comes meanwhile shares the answer.
#[derive(Default)]
pub(in crate::ask) struct OnTheirWay(Lock<HashMap<Fingerprint, Receiver, AlreadyHashed>>);

/// A question on its way. However it ends, others may ask anew then.
pub(in crate::ask) struct Asking<'a> {
    among: &'a OnTheirWay,
    key: Fingerprint,
    tell: watch::Sender<Option<Reply>>,
}

impl OnTheirWay {
    /// Joins this question, or begins it.
    pub(in crate::ask) fn join(&self, key: Fingerprint) -> Result<Asking<'_>, Receiver> {
        let mut on_their_way = self.0.lock();
        if let Some(receiver) = on_their_way.get(&key) {
            return Err(receiver.clone());
        }
        let (tell, receiver) = watch::channel(None);
        on_their_way.insert(key, receiver);
        Ok(Asking { among: self, key, tell })
    }
}

impl Asking<'_> {
    /// Tells all who wait.
    pub(in crate::ask) fn tell(&self, reply: &Reply) {
        let _ = self.tell.send(Some(reply.clone())); // fails if nobody waits
    }
}

impl Drop for Asking<'_> {
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
        let questions = OnTheirWay::default();
        let answer = Answer::verdict(Verdict::Allow, Grounds::Status(200));
        let reply = Reply { answer, sent: Instant::now(), lifetime: None };
        let asking = questions.join(key).ok().unwrap();
        let mut waiting = questions.join(key).err().unwrap();
        asking.tell(&reply);
        drop(asking);
        assert_eq!(*waiting.borrow_and_update(), Some(reply));
        // One that ends without an answer leaves nobody waiting.
        let asking = questions.join(key).ok().unwrap();
        let waiting = questions.join(key).err().unwrap();
        drop(asking);
        assert!(waiting.has_changed().is_err() && waiting.borrow().is_none());
        assert!(questions.join(key).is_ok());
    }
}
