//! Client ids under which one after the other is refused (2.1). While a client is parked, the broker turns away everybody else who
//! comes with its id, and asks nobody about that. So whoever tries made-up names under somebody's id would keep its owner out
//! most of the time.
//!
//! Once [`MANY`] were refused under an id, nobody but its owner is parked under it at once: others are turned away, and asked
//! about beside. Who has the right password gets in when it comes again.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use lru::LruCache;

use super::attempt::Attempt;
use super::event::Event;
use super::login::Logins;
use crate::fingerprint::{AlreadyHashed, Domain, Fingerprint};
use crate::util::{Lock, bounded};

/// Ids that are remembered, some 8 MB of them; the longest unused go first.
const IDS: NonZeroUsize = NonZeroUsize::new(50_000).unwrap();

/// So many refusals, each within [`SOON`] of the one before, are no slip of somebody who has an id in common with others.
const MANY: u32 = 5;
const SOON: Duration = Duration::from_secs(60);

/// So long after the last refusal others are turned away.
const FOR: Duration = Duration::from_secs(600);

/// The ids, and who was let in under them last.
pub struct ContestedIds(Lock<LruCache<Fingerprint, Id, AlreadyHashed>>);

#[derive(Default)]
struct Id {
    /// The username under which somebody was let in last, if that is known.
    owner: Option<Fingerprint>,
    /// How many others were refused, and when the last one was.
    refused: Option<(u32, Instant)>,
    /// The login that was turned away last. It is not turned away twice in a row: its answer may not be one that is kept.
    turned_away: Option<Fingerprint>,
}

impl ContestedIds {
    /// None yet.
    pub fn new() -> Self {
        Self(Lock::new(bounded(IDS)))
    }

    /// Somebody was refused under an id.
    fn refused(&self, id: Fingerprint, name: Fingerprint, now: Instant) {
        let mut ids = self.0.lock();
        let id = ids.get_or_insert_mut(id, Id::default);
        // An owner with a wrong password contests nothing.
        if id.owner != Some(name) {
            let goes_on = |(count, last): &(u32, Instant)| {
                now.saturating_duration_since(*last) < if *count < MANY { SOON } else { FOR }
            };
            let count = id.refused.filter(goes_on).map_or(0, |(count, _)| count);
            id.refused = Some((MANY.min(count + 1), now));
        }
    }

    /// Somebody was let in under an id.
    fn let_in(&self, id: Fingerprint, name: Fingerprint) {
        self.0.lock().get_or_insert_mut(id, Id::default).owner = Some(name);
    }

    /// Whether this login is to be turned away, since the id is contested and somebody else's.
    fn turns_away(&self, id: Fingerprint, name: Fingerprint, login: Fingerprint, now: Instant) -> bool {
        let mut ids = self.0.lock();
        let Some(id) = ids.get_mut(&id) else { return false };
        let is_contested = id
            .refused
            .is_some_and(|(count, last)| count >= MANY && now.saturating_duration_since(last) < FOR);
        let is_anothers = id.owner.is_some_and(|owner| owner != name);
        is_contested && is_anothers && id.turned_away.replace(login) != Some(login)
    }
}

impl Logins {
    /// Whether a client is to be turned away, since it would keep another one out while it is parked.
    pub fn would_keep_another_out(&self, attempt: &Attempt<'_>, event: &Event<'_>) -> bool {
        if attempt.hash.is_some() {
            // A local hash leaves no answer behind for the next time.
            return false;
        }
        let [id, name] = self.id_and_name(attempt);
        self.contested.turns_away(id, name, attempt.key, event.now)
    }

    /// Notes that a parked client is refused for its password.
    pub fn note_refused_id(&self, attempt: &Attempt<'_>, now: Instant) {
        let [id, name] = self.id_and_name(attempt);
        self.contested.refused(id, name, now);
    }

    /// Notes that a client is let in, where clients are parked.
    pub fn note_owner(&self, attempt: &Attempt<'_>) {
        if self.delays {
            let [id, name] = self.id_and_name(attempt);
            self.contested.let_in(id, name);
        }
    }

    fn id_and_name(&self, attempt: &Attempt<'_>) -> [Fingerprint; 2] {
        let id = self.keys.fields(Domain::ClientName, [attempt.client.id.as_bytes()]);
        [id, self.keys.fields(Domain::AccountName, [attempt.username.as_bytes()])]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::Fingerprinter;

    struct Scene(ContestedIds, Instant);

    fn named(name: &str) -> Fingerprint {
        Fingerprinter::with_key(&[3; 16]).fields(Domain::ClientName, [name.as_bytes()])
    }

    impl Scene {
        fn new() -> Self {
            Self(ContestedIds::new(), Instant::now())
        }

        fn let_in(&self, name: &str) {
            self.0.let_in(named("x"), named(name));
        }

        fn many_are_refused(&self) {
            (0..MANY).for_each(|number| self.is_refused(&format!("made-up {number}")));
        }

        fn is_refused(&self, name: &str) {
            self.0.refused(named("x"), named(name), self.1);
        }

        /// Whether a login under the id is turned away.
        fn turns_away(&self, name: &str, password: &str) -> bool {
            self.0.turns_away(named("x"), named(name), named(&format!("{name} {password}")), self.1)
        }
    }

    #[test]
    fn who_is_refused_under_anothers_id_has_others_turned_away() {
        let mut scene = Scene::new();
        scene.let_in("alice");
        (1..MANY).for_each(|_| scene.is_refused("slip"));
        assert!(!scene.turns_away("made-up-1", "x"), "some may slip");
        scene.1 += SOON;
        (1..MANY).for_each(|_| scene.is_refused("slip"));
        assert!(!scene.turns_away("made-up-1", "x"), "and some later");
        scene.is_refused("made-up");
        assert!(scene.turns_away("made-up-2", "x") && scene.turns_away("made-up-3", "x"));
        assert!(!scene.turns_away("alice", "new password"));
        assert!(!scene.0.turns_away(named("y"), named("made-up-2"), named("z"), scene.1), "another id");
        scene.1 += FOR;
        assert!(!scene.turns_away("made-up-4", "x"), "until it happens again");
    }

    #[test]
    fn nobody_is_turned_away_twice_in_a_row() {
        let scene = Scene::new();
        scene.let_in("alice");
        scene.many_are_refused();
        assert_eq!([(); 4].map(|()| scene.turns_away("bob", "secret")), [true, false, false, false]);
        assert!(scene.turns_away("made-up", "y") && scene.turns_away("bob", "secret"));
    }

    #[test]
    fn its_owner_is_who_was_let_in_last() {
        let scene = Scene::new();
        scene.many_are_refused();
        assert!(!scene.turns_away("mallory", "x"), "whose it is, is not known");
        scene.let_in("alice");
        assert!(scene.turns_away("bob", "x"));
        scene.let_in("bob");
        assert!(scene.turns_away("alice", "x") && !scene.turns_away("bob", "y"));
    }

    #[test]
    fn an_owner_with_a_wrong_password_contests_nothing() {
        let scene = Scene::new();
        scene.let_in("alice");
        (0..2 * MANY).for_each(|_| scene.is_refused("alice"));
        assert!(!scene.turns_away("bob", "x"));
    }
}
