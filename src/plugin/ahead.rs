//! Asking before the broker asks: what waits in other sockets, who else will read a message, what a client
//! that comes in is expected to want. Nothing here decides anything; it only has answers on their way.
use std::ops::ControlFlow;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Plugin, has_wildcard, is_wildcard_in_disguise};
use crate::ask::Listener;
use crate::ask::worker::Worker;
use crate::broker::{Client, Unread};
use crate::plugin::throttle::Try;
use crate::prefetch::peek::{Guess, Identity, Lookahead};
use crate::prefetch::subscriptions::{Expected, Reader};
use crate::question::{Access, Kind, Question};

/// The longest that one look into the sockets takes from whoever waits for the API anyway.
const LOOK: Duration = Duration::from_millis(2);

/// The longest that asking for the listeners of one message takes.
const FAN_OUT: Duration = Duration::from_millis(10);

/// All listeners of a topic.
const ALL: usize = usize::MAX;

impl Plugin {
    /// Has the questions asked that wait unread in the sockets of other clients. The broker waits for an
    /// answer at this moment, so this costs nobody anything.
    pub(super) fn look_ahead(&self, worker: &Worker, now: Instant) {
        if !self.loaded().config.lookahead {
            return;
        }
        let mut lookahead = self.lookahead();
        for place in self.verdicts.take_hits() {
            lookahead.hit(place);
        }
        let deadline = now + LOOK;
        self.host.look_ahead(deadline, &mut |unread| {
            let mut sent = Vec::new();
            lookahead.read(unread, |guess| {
                // There may be hundreds of packets in one socket.
                if Instant::now() > deadline {
                    return;
                }
                let kind = if matches!(guess, Guess::Login { .. }) { Kind::Connect } else { Kind::Access };
                if self.ask_guess(guess, unread, worker, now) > 0 {
                    sent.push(kind);
                }
            });
            for kind in sent {
                lookahead.guessed((unread.listener, kind));
            }
        });
    }

    /// Learns whose connections those are whose CONNECT waits unread. Once the broker has taken it, nothing tells
    /// any more; and where logins wait beside the loop, nobody else looks before they are let in.
    pub(super) fn look_at_logins(&self, worker: &Worker) {
        if !self.loaded().config.acl_urls.is_empty() && self.lookahead().is_due(Instant::now()) {
            let begun = Instant::now();
            self.look_ahead(worker, begun);
            self.lookahead().has_taken(begun.elapsed(), Instant::now());
        }
    }

    fn lookahead(&self) -> MutexGuard<'_, Lookahead> {
        self.lookahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many questions were sent.
    fn ask_guess(&self, guess: Guess<'_>, unread: Unread<'_>, worker: &Worker, now: Instant) -> usize {
        let listener = unread.listener;
        let loaded = self.loaded();
        let config = &*loaded.config;
        match guess {
            // Where logins are delayed they are asked side by side anyway.
            Guess::Login { .. } if self.delays || config.auth_urls.is_empty() => 0,
            Guess::Login { username, password } => {
                let Ok(password_text) = std::str::from_utf8(password) else { return 0 };
                let credentials = self.keys.credentials(username, password);
                // The address may be a proxy's here, so a guess also goes by the strictest count there is for
                // the name.
                let address = unread.peer.map(|peer| peer.to_string());
                let attempt = Try { address: address.as_deref(), username, credentials };
                let is_braked = self.throttle.holds_name(&attempt, &config.throttle, now)
                    || !self.throttle.pause(&attempt, &config.throttle, now).is_zero();
                if loaded.users.get(username).is_some() || is_braked {
                    return 0;
                }
                let question = Question::Connect { username, password: password_text };
                if self.verdicts.peek(credentials, now).is_some()
                    || !self.throttle.takes_one_ahead(&attempt, &config.throttle, now)
                {
                    return 0;
                }
                usize::from(self.verdicts.ask_guess(&question, listener, now, worker))
            }
            Guess::Subscribe(identity, filter) => {
                self.ask_topic_guess(identity, filter, Access::Subscribe, listener, worker, now)
            }
            Guess::Publish(identity, topic) => {
                self.ask_topic_guess(identity, topic, Access::Write, listener, worker, now)
            }
        }
    }

    fn ask_topic_guess(
        &self,
        identity: &Identity,
        topic: &str,
        access: Access,
        listener: u16,
        worker: &Worker,
        now: Instant,
    ) -> usize {
        let Identity { client_id, username, credentials, .. } = identity;
        // Or an attacker could have the API asked in a victim's name.
        if !self.sessions.is_connected_with(client_id, username, *credentials) {
            return 0;
        }
        let loaded = self.loaded();
        if loaded.config.acl_urls.is_empty()
            || !loaded.config.acl_checks.contains(&access)
            || loaded.users.get(username).is_some()
            || is_wildcard_in_disguise(&loaded.config, client_id, username)
        {
            return 0;
        }
        let question = Question::Access { username, client_id, topic, access };
        usize::from(self.verdicts.ask_guess(&question, listener, now, worker))
    }

    /// Has it asked for everybody who listens to a topic whether they may read it: the broker will, one after
    /// the other. Returns about whom.
    pub(super) fn fan_out(&self, question: &Question<'_>, worker: &Worker, now: Instant) -> Vec<Expected> {
        let mut expected = Vec::new();
        let Question::Access { topic, access: Access::Read | Access::Write, .. } = *question else {
            return expected;
        };
        let loaded = self.loaded();
        let config = &*loaded.config;
        let is_remembered = config.cache_size > 0 && !config.acl_cache_ttl.is_zero();
        if !config.acl_checks.contains(&Access::Read) || !is_remembered {
            return expected;
        }
        // Once for each message: an API that gives no answers would be asked about all of them for each.
        let mut fanned_out = self.fanned_out();
        if self.patience().is_tickless(now) {
            fanned_out.clear();
        }
        let message = self.keys.fields(b'f', [topic.as_bytes()]);
        let done = fanned_out.insert(message, ALL).unwrap_or(0);
        drop(fanned_out);
        if done == ALL {
            return expected;
        }
        let (mut count, mut is_cut_short) = (0, false);
        self.subscriptions().listeners(topic, |reader| {
            if count < done {
                count += 1;
                return ControlFlow::Continue(());
            }
            is_cut_short = now.elapsed() > FAN_OUT;
            if is_cut_short {
                return ControlFlow::Break(());
            }
            count += 1;
            let Reader { client_id, username, .. } = reader;
            if loaded.users.get(username).is_none()
                && !is_wildcard_in_disguise(&loaded.config, client_id, username)
            {
                let question = Question::Access { username, client_id, topic, access: Access::Read };
                if self.verdicts.ask_ahead(&question, Listener::None, now, worker) {
                    expected.push(reader.expected);
                }
            }
            ControlFlow::Continue(())
        });
        if is_cut_short {
            // The rest when the broker waits next.
            self.fanned_out().insert(message, count);
        }
        expected
    }

    /// What the broker was waiting for is allowed, so it is going to ask about these readers. After a READ
    /// that is less sure: retained messages and those of a session's queue go to one client alone.
    pub(super) fn expect(&self, question: &Question<'_>, readers: &[Expected], now: Instant) {
        let Question::Access { access, client_id, .. } = *question else { return };
        let mut subscriptions = self.subscriptions();
        // Who publishes is there, but may not want to hear itself (MQTT 5).
        subscriptions.is_there(client_id, now);
        for &reader in readers {
            subscriptions.expect(reader, access == Access::Write, now);
        }
    }

    /// The broker has come to a question that it was expected to come to, or that nobody expected.
    pub(super) fn note_reader(&self, question: &Question<'_>, now: Instant) {
        if let Question::Access { client_id, access: Access::Read, .. } = *question {
            self.subscriptions().is_there(client_id, now);
        }
    }

    /// Asks what a client that was just let in is expected to want (`acl_prefetch`). `listener` makes whoever
    /// waits for the answers; returns how many are to come.
    pub(super) fn prefetch(
        &self,
        client: Client<'_>,
        username: &str,
        listener: impl Fn() -> Listener,
        now: Instant,
    ) -> usize {
        let loaded = self.loaded();
        let config = &*loaded.config;
        if config.acl_prefetch.is_empty()
            || config.acl_urls.is_empty()
            || loaded.users.get(username).is_some()
            // Also where `special_chars allow` lets them pass: never into a `%c` or `%u`.
            || has_wildcard(username)
            || has_wildcard(client.id)
        {
            return 0;
        }
        let Ok(worker) = self.worker() else { return 0 };
        config
            .acl_prefetch
            .iter()
            .filter(|rule| config.acl_checks.contains(&rule.access))
            .filter(|rule| {
                let topic = rule.topic_for(username, client.id);
                let question =
                    Question::Access { username, client_id: client.id, topic: &topic, access: rule.access };
                self.verdicts.ask_ahead(&question, listener(), now, worker)
            })
            .count()
    }
}
