//! Looks into the sockets of other clients: what waits there unread is what the broker will ask next.

use std::time::{Duration, Instant};

use super::peek::{BREAK, Guess, Identity};
use super::{Prefetch, Scope, State, again};
use crate::ask::Early;
use crate::ask::more_fields::{self, FieldSource};
use crate::broker::{BrokerThread, Connection, Look, Unread, Until};
use crate::config::Field;
use crate::question::Question;

/// The longest that one look into the sockets takes from whoever waits for the API anyway.
const PEEK: Duration = Duration::from_millis(2);

/// A socket all of whose questions are asked is not looked at again until the broker has come to one of them, but at most
/// for so long: its client may have sent more.
pub(super) const SEEN: Duration = Duration::from_millis(100);

/// After a look that had nothing asked, the broker goes on for so long without another one, unless it waits.
const IN_VAIN: Duration = Duration::from_millis(10);

/// Whether a guess was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guessed {
    Now,
    Before,
    Not,
}

impl Prefetch {
    /// Has the questions asked that wait unread in the sockets of other clients. The broker waits for an
    /// answer about a `client` at this moment, so this costs nobody anything; it ends when the answer is there.
    pub fn peek(
        &self,
        thread: &BrokerThread,
        client: Connection,
        is_answered: &dyn Fn() -> bool,
        scope: &Scope<'_>,
    ) {
        if !scope.config.lookahead {
            return;
        }
        let state = &mut *self.state.lock();
        if state.peeked.may_look() {
            // Not from when the wait began: on a busy machine the time may be over once the question is on its way.
            let until = Until { deadline: Instant::now() + PEEK, is_answered };
            // The broker often goes through a crowd in this order, so the look begins where the broker is.
            let from = self.broker.descriptor_of(thread, client).or(state.came_to);
            let is_of_use = self.peek_until(state, from, until, thread, scope);
            state.peeked.has_looked(is_of_use, is_answered());
        }
    }

    /// The broker has come to a question of a `client` that was asked early, and goes on without waiting. If it was seen in a
    /// socket, looks for more before nothing is on its way any more: else the next one would be waited for from the beginning.
    pub fn look_on(&self, thread: &BrokerThread, client: Connection, scope: &Scope<'_>) {
        let config = scope.config;
        let state = &mut *self.state.lock();
        let begun = Instant::now();
        if !config.lookahead
            || state.came_to.is_none()
            || state.look_on.is_some_and(|due| begun < due)
            || self.asker.under_way(Early::Guess) >= config.max_requests / 2
        {
            return;
        }
        let until = Until { deadline: begun + PEEK, is_answered: &|| false };
        let from = self.broker.descriptor_of(thread, client).or(state.came_to);
        let is_of_use = self.peek_until(state, from, until, thread, &Scope { now: begun, ..*scope });
        let over = Instant::now();
        let pause = (over - begun) * BREAK;
        state.look_on = Some(over + if is_of_use { pause } else { pause.max(IN_VAIN) });
    }

    /// Learns whose connections those are whose CONNECT waits unread, where the system does not tell. Once the broker has
    /// taken it, nothing tells any more; and where logins wait beside the loop, nobody else looks before they are let in.
    pub fn peek_at_logins(&self, thread: &BrokerThread, scope: &Scope<'_>) {
        let Scope { config, now, .. } = *scope;
        if !config.lookahead || config.acl_urls.is_empty() {
            return;
        }
        let state = &mut *self.state.lock();
        if !state.peeked.is_due(now) {
            return;
        }
        let begun = Instant::now();
        let until = Until { deadline: begun + PEEK, is_answered: &|| false };
        self.peek_until(state, None, until, thread, &Scope { now: begun, ..*scope });
        state.peeked.has_taken(begun.elapsed(), Instant::now());
    }

    /// Looks, and says whether anything was asked.
    fn peek_until(
        &self,
        state: &mut State,
        from: Option<i32>,
        until: Until<'_>,
        thread: &BrokerThread,
        scope: &Scope<'_>,
    ) -> bool {
        let Scope { gate, now, .. } = *scope;
        let (mut seen, mut told, mut is_of_use) = (0, 0, false);
        let _many = self.asker.sends_many();
        state.came_to = None;
        state.peeked.begins(from.is_some());
        let mut seen_before = std::mem::take(&mut state.seen);
        seen_before.retain(|_, at| now.saturating_duration_since(*at) < SEEN);
        let passes_over = |socket: i32| seen_before.contains_key(&socket);
        let mut seen_now = Vec::new();
        self.broker.peek(thread, Look { from, until, passes_over: &passes_over }, &mut |unread| {
            seen += 1;
            told += u32::from(unread.client.is_some());
            let guesses = state.peeked.read(unread, |connection| gate.client_of(connection), now);
            let mut all_asked = !guesses.is_empty();
            for guess in guesses {
                // There may be hundreds of packets in one socket.
                if until.is_over() {
                    return;
                }
                let mut more = String::new();
                let question = self.question_of(&guess, &mut more, unread, scope);
                let guessed = question.map(|question| self.ask_guess(state, &question, unread, scope));
                is_of_use |= guessed == Some(Guessed::Now);
                all_asked &= matches!(guessed, Some(Guessed::Now | Guessed::Before));
            }
            if all_asked {
                seen_now.push(unread.descriptor);
            }
        });
        state.seen = seen_before;
        state.seen.extend(seen_now.into_iter().map(|socket| (socket, now)));
        if seen > 0 {
            state.peeked.note_told(told == seen);
        }
        is_of_use
    }

    /// The question that a guess is about, if it may be asked early. `more` is room for its further fields.
    fn question_of<'g>(
        &self,
        guess: &'g Guess<'_>,
        more: &'g mut String,
        unread: Unread<'_>,
        scope: &Scope<'_>,
    ) -> Option<Question<'g>> {
        let Scope { config, gate, now, .. } = *scope;
        match guess {
            Guess::Login { username, password, seen } => {
                let is_unknown = seen.client_id.is_empty() && config.auth_fields.contains(&Field::ClientId);
                if !gate.guesses_logins() || config.auth_urls.is_empty() || is_unknown {
                    return None;
                }
                let credentials = self.keys.credentials(username, password);
                let password = std::str::from_utf8(password).ok()?;
                if !config.auth_fields.is_empty() {
                    let address = unread.peer.map(|peer| peer.to_string());
                    let (client_id, address) = (seen.client_id, address.as_deref());
                    let known = FieldSource { client_id, address, details: seen, message: None };
                    *more = more_fields::json(&config.auth_fields, &known, None);
                }
                let key = self.keys.with(credentials, more);
                let is_news = self.asker.peek(key, now).is_none();
                (is_news && gate.asks_login(unread.peer, username, key)).then_some(Question::Connect {
                    username,
                    password,
                    more,
                })
            }
            Guess::Topic { identity, access, topic } => {
                let Identity { client_id, username, .. } = &**identity;
                let question = Question::Access { username, client_id, topic, access: *access, more: "" };
                // Or an attacker could have the API asked in a victim's name.
                (gate.is_connected(identity) && scope.may_ask(&question)).then_some(question)
            }
        }
    }

    /// Has a guess asked, unless it has been and the broker has not come to it.
    fn ask_guess(
        &self,
        state: &mut State,
        question: &Question<'_>,
        unread: Unread<'_>,
        scope: &Scope<'_>,
    ) -> Guessed {
        let key = self.asker.key(question);
        if state.guesses.contains(&key) && state.was_asked_lately(key, again(question, scope), scope.now) {
            return Guessed::Before;
        }
        let peer = unread.peer.map(|peer| peer.to_string());
        let source = self.keys.source(peer.as_deref(), question.username());
        let scope = Scope { source: &|| source, ..*scope };
        let is_sent = self.send_early(state, key, question, || question.to_owned(), Early::Guess, &scope);
        if !is_sent {
            return Guessed::Not;
        }
        let origin = state.peeked.origin(unread, question.kind());
        state.peeked.guessed(origin, scope.now);
        state.guesses.put(key, (origin, unread.descriptor));
        Guessed::Now
    }
}
