//! Client ids under which somebody was refused (2.1). While a client is parked, the broker turns away everybody else who
//! comes with its id, and asks nobody about that. So whoever tries made-up names under somebody's id would keep its owner out
//! most of the time.
//!
//! Once somebody was refused under an id, nobody but its owner is parked under it: others are turned away at once, and asked
//! about beside. Who has the right password gets in when it comes again.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use lru::LruCache;

use super::attempt::Attempt;
use super::event::Event;
use super::login::Logins;
use crate::broker::BrokerThread;
use crate::fingerprint::{AlreadyHashed, Domain, Fingerprint};
use crate::question::{Kind, Verdict};
use crate::util::{Lock, bounded};

/// Ids that are remembered, a megabyte of them; the longest unused go first.
const IDS: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// So long after a refusal nobody but the owner is parked. Then the next one shows whether it goes on.
const FOR: Duration = Duration::from_secs(600);

/// The ids, and who was let in under them last.
pub struct ContestedIds(Lock<LruCache<Fingerprint, Contest, AlreadyHashed>>);

struct Contest {
    /// The username under which somebody was let in last, if that is known.
    owner: Option<Fingerprint>,
    until: Instant,
}

impl ContestedIds {
    /// None yet.
    pub fn new() -> Self {
        Self(Lock::new(bounded(IDS)))
    }

    /// Somebody was refused under an id. `owner` is who is connected under it, if somebody is.
    fn refused(&self, id: Fingerprint, name: Fingerprint, owner: Option<Fingerprint>, now: Instant) {
        let mut ids = self.0.lock();
        let known = ids.get(&id).and_then(|contest| contest.owner);
        let owner = owner.or(known);
        // An owner with a wrong password contests nothing.
        if owner != Some(name) {
            ids.put(id, Contest { owner, until: now + FOR });
        }
    }

    /// Somebody was let in under an id.
    fn let_in(&self, id: impl FnOnce() -> Fingerprint, name: impl FnOnce() -> Fingerprint) {
        let mut ids = self.0.lock();
        if !ids.is_empty()
            && let Some(contest) = ids.get_mut(&id())
        {
            contest.owner = Some(name());
        }
    }

    /// Whether an id is contested and somebody else's.
    fn is_anothers(
        &self,
        id: impl FnOnce() -> Fingerprint,
        name: impl FnOnce() -> Fingerprint,
        now: Instant,
    ) -> bool {
        let mut ids = self.0.lock();
        if ids.is_empty() {
            return false;
        }
        let contest = ids.get(&id()).filter(|contest| now < contest.until);
        contest.and_then(|contest| contest.owner).is_some_and(|owner| owner != name())
    }
}

impl Logins {
    /// Whether a client would keep another one out if it were parked. Only where its answer is remembered until it comes
    /// again.
    pub fn would_keep_another_out(&self, attempt: &Attempt<'_>, event: &Event<'_>) -> bool {
        let is_remembered = || !event.settings.config.lifetime(Kind::Connect, Verdict::Allow).is_zero();
        attempt.hash.is_none()
            && self.contested.is_anothers(
                || self.id_of(attempt.client.id),
                || self.name_of(attempt.username),
                event.now,
            )
            && is_remembered()
    }

    /// Notes that a parked client is refused for its password.
    pub fn note_refused_id(&self, attempt: &Attempt<'_>, thread: &BrokerThread, now: Instant) {
        let Attempt { client, username, .. } = *attempt;
        let connected = self.broker.connection_of(thread, client.id);
        let owner = connected.and_then(|connection| self.sessions.client_of(connection));
        let owner = owner.filter(|owner| owner.client_id == client.id);
        let owner = owner.map(|owner| self.name_of(&owner.username));
        self.contested.refused(self.id_of(client.id), self.name_of(username), owner, now);
    }

    /// Notes that a client is let in.
    pub fn note_owner(&self, attempt: &Attempt<'_>) {
        self.contested.let_in(|| self.id_of(attempt.client.id), || self.name_of(attempt.username));
    }

    fn id_of(&self, client_id: &str) -> Fingerprint {
        self.keys.fields(Domain::ClientName, [client_id.as_bytes()])
    }

    fn name_of(&self, username: &str) -> Fingerprint {
        self.keys.fields(Domain::AccountName, [username.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::Fingerprinter;

    fn named(name: &str) -> Fingerprint {
        Fingerprinter::with_key(&[3; 16]).fields(Domain::ClientName, [name.as_bytes()])
    }

    fn keeps_out(ids: &ContestedIds, id: &str, name: &str, now: Instant) -> bool {
        ids.is_anothers(|| named(id), || named(name), now)
    }

    #[test]
    fn who_is_refused_under_anothers_id_is_not_to_wait_under_it_again() {
        let (ids, now) = (ContestedIds::new(), Instant::now());
        assert!(!keeps_out(&ids, "x", "mallory", now));
        ids.refused(named("x"), named("made-up"), Some(named("alice")), now);
        assert!(keeps_out(&ids, "x", "mallory", now));
        assert!(!keeps_out(&ids, "x", "alice", now) && !keeps_out(&ids, "y", "mallory", now));
        assert!(!keeps_out(&ids, "x", "mallory", now + FOR), "until it happens again");
    }

    #[test]
    fn its_owner_is_who_was_let_in_last() {
        let (ids, now) = (ContestedIds::new(), Instant::now());
        let let_in = |name: &str| ids.let_in(|| named("x"), || named(name));
        let_in("alice");
        ids.refused(named("x"), named("made-up"), None, now);
        assert!(!keeps_out(&ids, "x", "mallory", now), "whose it is, is not known");
        let_in("alice");
        assert!(keeps_out(&ids, "x", "bob", now));
        let_in("bob");
        assert!(keeps_out(&ids, "x", "alice", now) && !keeps_out(&ids, "x", "bob", now));
    }

    #[test]
    fn an_owner_with_a_wrong_password_contests_nothing() {
        let (ids, now) = (ContestedIds::new(), Instant::now());
        ids.refused(named("x"), named("alice"), Some(named("alice")), now);
        assert!(!keeps_out(&ids, "x", "bob", now));
    }
}
