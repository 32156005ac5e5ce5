//! Decides topic checks (`MOSQ_EVT_ACL_CHECK`).

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Instant;

use super::api::{Account, Api, Inquiry};
use super::attempt::NO_USERNAME;
use super::decision::{By, Decision, LoggedClient, Ruling};
use super::event::{Event, TopicCheck};
use super::granting::Granting;
use super::parts::Parts;
use super::sessions::{RulesSay, Sessions};
use super::unasked::{Facts, TopicRequest, Unasked, unasked};
use crate::ask::Asker;
use crate::broker::{Broker, BrokerThread, Client, Retain};
use crate::config::WithoutAnswer;
use crate::fingerprint::Fingerprint;
use crate::local::PasswordHash;
use crate::log::{Log, quoted, sentence};
use crate::metrics::DecidedBy;
use crate::prefetch::retained::Whose;
use crate::prefetch::{Prefetch, asks_reads};
use crate::question::{Access, Question};

/// Decides about topics.
pub struct TopicChecks {
    api: Arc<Api>,
    asker: Arc<Asker>,
    prefetch: Arc<Prefetch>,
    granting: Arc<Granting>,
    sessions: Arc<Sessions>,
    broker: Arc<dyn Broker>,
    log: Arc<Log>,
}

/// What a topic check asks, in the words of the decisions for which nobody has to be asked (`unasked`).
fn requested<'a>(check: &TopicCheck<'a>) -> TopicRequest<'a> {
    let TopicCheck { client, username, topic, access, qos, retain, .. } = *check;
    TopicRequest {
        username,
        client_id: client.id,
        topic,
        access,
        qos: Some(qos),
        retain: Some(retain != Retain::No),
    }
}

/// What is so about the client of a topic check.
struct Live<'a> {
    topics: &'a TopicChecks,
    check: &'a TopicCheck<'a>,
    event: &'a Event<'a>,
}

impl Live<'_> {
    fn has_socket(&self) -> Option<bool> {
        self.topics.broker.has_socket(self.event.broker_thread()?, self.check.client.connection)
    }

    fn has_socket_since(&self, closed: Instant) -> Option<bool> {
        self.topics.broker.has_socket_since(self.event.broker_thread()?, self.check.client.connection, closed)
    }
}

impl Facts for Live<'_> {
    fn is_let_in_without_username(&self) -> bool {
        let (sessions, client) = (&self.topics.sessions, self.check.client);
        // Its password was asked about: that of this very connection, or of one that is closed, and whose number nobody
        // else has by now.
        sessions.is_connected(client, NO_USERNAME)
            || sessions.is_known(client, NO_USERNAME) && self.has_socket() == Some(false)
    }

    fn has_local_rights(&self, username: &str, hash: &Arc<PasswordHash>) -> bool {
        let TopicCheck { client, access, .. } = *self.check;
        let (sessions, now) = (&self.topics.sessions, self.event.now);
        sessions.has_local_rights(client, username, hash, access, now, |closed| self.has_socket_since(closed))
    }

    fn rules_say(&self, username: &str) -> Option<RulesSay> {
        // Requests to the broker's HTTP listener have no session, and a client may have their id.
        self.event.broker_thread()?;
        let wanted = requested(self.check).wanted();
        let (sessions, client, now) = (&self.topics.sessions, self.check.client, self.event.now);
        sessions.says(client, username, &wanted, now, |closed| self.has_socket_since(closed))
    }

    fn has_subscribed(&self, username: &str) -> bool {
        // Requests to the broker's HTTP listener have subscribed to nothing, and a client may have their id.
        self.event.broker_thread().is_some()
            && self.topics.prefetch.covers(self.check.client.id, username, self.check.topic)
    }
}

impl TopicChecks {
    /// No topic was asked about.
    pub fn new(parts: &Parts) -> Self {
        Self {
            api: Arc::clone(&parts.api),
            asker: Arc::clone(&parts.asker),
            prefetch: Arc::clone(&parts.prefetch),
            granting: Arc::clone(&parts.granting),
            sessions: Arc::clone(&parts.sessions),
            broker: Arc::clone(&parts.broker),
            log: Arc::clone(&parts.log),
        }
    }

    /// Decides a topic check, and logs a refusal.
    pub fn authorise(&self, check: &TopicCheck<'_>, event: &Event<'_>) -> Decision {
        let mut decision = self.decide(check, event).or_deferred(&event.settings.config.defer_status);
        if decision.ruling == Ruling::Deny && decision.is_no_answer() {
            if self.keeps_message(check, event) {
                decision.ruling = Ruling::Unavailable;
            } else if self.may_wait(check, event) {
                decision = Decision::allow(By::Asleep);
            }
        }
        if check.retain != Retain::No && check.access == Access::Write && decision.is_allow() {
            self.note_retained(check, event);
        }
        if matches!(decision.ruling, Ruling::Deny | Ruling::Unavailable) {
            self.log_refusal(check, &decision, event.now);
        }
        decision
    }

    /// Decides in the order of the list in docs/deciding.md.
    fn decide(&self, check: &TopicCheck<'_>, event: &Event<'_>) -> Decision {
        let TopicCheck { client, username, topic, access, .. } = *check;
        let facts = Live { topics: self, check, event };
        let (decision, username) = match unasked(&requested(check), event.settings, &facts) {
            Unasked::Decided(decision) if decision.by.source() == DecidedBy::Rules => {
                (decision, username.unwrap_or(NO_USERNAME))
            }
            Unasked::Decided(decision) => return decision,
            Unasked::Unchecked(username) => (Decision::allow(By::Option("acl_checks")), username),
            Unasked::ToBeAsked(username) => {
                let message = (check.qos, check.retain != Retain::No);
                let fields = &event.settings.config.acl_fields;
                let more = self.api.more(fields, client, check.details, Some(message));
                let question =
                    Question::Access { username, client_id: client.id, topic, access, more: &more };
                let (key, source) = (self.asker.key(&question), OnceCell::new());
                let inquiry = Inquiry { key, question, client, source: &source };
                let decision = self.by_api(&inquiry, check, event);
                if decision.terms.is_some() && event.broker_thread().is_some() {
                    self.granting.widen(&inquiry, &decision, event.now);
                }
                (decision, username)
            }
        };
        if decision.is_allow() && access == Access::Subscribe {
            self.subscribed(client, username, topic, event);
        }
        decision
    }

    /// Notes an allowed subscription, and asks early about the retained messages that it will get.
    fn subscribed(&self, client: Client<'_>, username: &str, filter: &str, event: &Event<'_>) {
        let prefetch = &self.prefetch;
        prefetch.subscribed(client.id, username, filter, event.now);
        if event.broker_thread().is_some() {
            let source = self.asker.source(client.address, username);
            let gate = self.api.gate(event);
            prefetch.replay_begins(client.id, username, filter, &gate.scope(&|| source, Instant::now()));
        }
    }

    /// Notes that a topic has, or no longer has, a retained message. Only needed where the API is asked about reading.
    fn note_retained(&self, check: &TopicCheck<'_>, event: &Event<'_>) {
        if asks_reads(&event.settings.config) {
            let (client_id, username) = (check.client.id, check.username.unwrap_or_default());
            let whose = Whose { client_id, username, publishes: check.access == Access::Write };
            self.prefetch.note_retained(check.topic, whose, check.retain, event.now);
        }
    }

    /// Decides by the remembered verdict, or asks the API and waits.
    fn by_api(&self, inquiry: &Inquiry<'_>, check: &TopicCheck<'_>, event: &Event<'_>) -> Decision {
        let Inquiry { key, question, client, .. } = inquiry;
        let hit = self.api.remembered(inquiry, || None, event.now);
        let mut replay = None;
        if hit.as_ref().is_none_or(|hit| hit.is_first_use) {
            let prefetch = &self.prefetch;
            prefetch.note_reader(question, event.now);
            if check.retain != Retain::No && check.access == Access::Read {
                // The topic has a retained message, whether this client may read it or not.
                self.note_retained(check, event);
            }
            if let Some(thread) = event.broker_thread() {
                let has_address = client.address.is_some();
                replay = prefetch.comes_in_replay(*key, question, check.retain, has_address);
                if replay.is_none() {
                    self.learn(inquiry, check, thread, event);
                }
            }
        }
        match hit {
            Some(hit) => {
                if hit.is_first_use {
                    self.api.look_on(inquiry, event);
                }
                Decision::by_memory(hit)
            }
            None => self.api.wait_for(inquiry, self.account(question, replay), event),
        }
    }

    /// Learns from a question that was not remembered what will be asked: about clients like this one, or about what is
    /// put into its queue while it sleeps.
    fn learn(&self, inquiry: &Inquiry<'_>, check: &TopicCheck<'_>, thread: &BrokerThread, event: &Event<'_>) {
        let Inquiry { question, client, .. } = inquiry;
        let is_asleep = || {
            client.address.is_none() || self.sessions.has_ended(*client, check.username.unwrap_or_default())
        };
        if check.access == Access::Read && check.qos > 0 && is_asleep() {
            return self.prefetch.note_queued(question, thread);
        }
        let source = self.api.source(inquiry);
        self.prefetch.learn(question, &self.api.gate(event).scope(&|| source, event.now));
    }

    /// The client on whose account the broker waits. A READ is on no client's account: it was caused by the publisher,
    /// and a message that is refused for want of time is lost for the reader.
    fn account(&self, question: &Question<'_>, replay: Option<Fingerprint>) -> Account {
        match (replay, question) {
            (Some(client), _) => Account::Replay(client),
            (None, Question::Access { access: Access::Write | Access::Subscribe, .. }) => {
                Account::Client(self.asker.client(question))
            }
            (None, _) => Account::Nobody,
        }
    }

    /// Notes an UNSUBSCRIBE. It needs no permission.
    pub fn unsubscribed(&self, client: Client<'_>, filter: &str) {
        self.prefetch.unsubscribed(client.id, filter);
    }

    fn log_refusal(&self, check: &TopicCheck<'_>, decision: &Decision, now: Instant) {
        // Under `log_dest topic` each line is a message, and each message causes a READ check for each client that
        // reads the log. A line about a refusal there would cause the next refusal.
        if !check.topic.starts_with("$SYS/broker/log") {
            let refused = decision.by.as_refusal(check.client);
            self.log.refusal(now, &refused, || {
                let who = LoggedClient(check.client, check.username);
                let and = match decision.ruling {
                    Ruling::Unavailable => "; it is disconnected, so that it keeps the message",
                    _ => "",
                };
                let topic = quoted(check.topic);
                sentence(format!("Refused {} of {topic} to {who}: {}{and}", check.access, decision.by))
            });
        }
    }

    /// Whether a message waits for a client that is not there: the broker only puts it into the session's queue, and asks
    /// again about all that is there before it sends any of it (`connection_check_acl` in 2.0,
    /// `db__check_acl_of_all_messages` in 2.1).
    fn may_wait(&self, check: &TopicCheck<'_>, event: &Event<'_>) -> bool {
        let TopicCheck { client, username, access, qos, .. } = *check;
        let Some(thread) = event.broker_thread() else { return false };
        let has_socket = |since| match since {
            Some(since) => self.broker.has_socket_since(thread, client.connection, since),
            None => self.broker.has_socket(thread, client.connection),
        };
        access == Access::Read
            && qos > 0
            && self.sessions.let_wait_unasked(client, username.unwrap_or_default(), has_socket)
    }

    /// Whether a client that is about to be refused for want of an answer keeps its message if its connection ends: that
    /// is so for what it publishes with QoS 1 or 2. Its will is none of that.
    ///
    /// What the broker asks about when it hands out a retained message (`check_retain_source`) concerns somebody else's
    /// subscription, and comes without an address.
    fn keeps_message(&self, check: &TopicCheck<'_>, event: &Event<'_>) -> bool {
        let TopicCheck { client, username, .. } = *check;
        check.access == Access::Write
            && check.qos > 0
            && event.settings.config.acl_no_answer == WithoutAnswer::Disconnect
            && client.address.is_some()
            && event.broker_thread().is_some()
            && !self.sessions.has_ended(client, username.unwrap_or_default())
    }
}
