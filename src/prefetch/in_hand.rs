//! The rest of a SUBSCRIBE: while the broker waits for the answer about one of its filters, those behind it are asked
//! about. It is found in the broker's hand ([`Broker::packet_in_hand`]), with and without TLS.
//!
//! [`Broker::packet_in_hand`]: crate::broker::Broker::packet_in_hand

use std::cmp::Reverse;

use super::packet;
use super::{Prefetch, Scope, keeps_topics};
use crate::ask::Early;
use crate::broker::{BrokerThread, Connection};
use crate::question::{Access, Question};

/// Filters that are asked about in one go. Those behind them are when the broker comes to the first of those.
const MOST: usize = 256;

/// Formats of the packet: before MQTT 5, and since.
const FORMATS: [u8; 2] = [4, 5];

impl Prefetch {
    /// Has the filters asked about that stand behind the one of this question in its packet. The broker waits for an
    /// answer at this moment.
    pub fn ask_rest(
        &self,
        question: &Question<'_>,
        connection: Connection,
        thread: &BrokerThread,
        scope: &Scope<'_>,
    ) {
        let Question::Access { username, client_id, topic, access: access @ Access::Subscribe, .. } =
            *question
        else {
            return;
        };
        let config = scope.config;
        if !config.lookahead || !keeps_topics(config) || !scope.may_ask_about(username, client_id) {
            return;
        }
        let ends = |body: &[u8]| {
            let read = read(body, topic);
            read.map_or_else(Vec::new, |(filters, at)| filters[at..].iter().map(|(_, end)| *end).collect())
        };
        let Some(body) = self.broker.packet_in_hand(thread, connection, &ends) else { return };
        let Some((filters, at)) = read(&body, topic) else { return };
        let mount_point = &topic[..topic.len() - filters[at].0.len()];
        let state = &mut *self.state.lock();
        let _many = self.asker.sends_many();
        for (filter, _) in filters.iter().skip(at + 1).take(MOST) {
            let topic = format!("{mount_point}{filter}");
            let question = Question::Access { username, client_id, topic: &topic, access, more: "" };
            let _ = self.ask_topic(state, &question, || question.to_owned(), Early::Guess, scope);
        }
    }
}

/// The filters of a SUBSCRIBE that may begin with these bytes, with where they end, and which of them is asked about.
fn read<'b>(body: &'b [u8], asked: &str) -> Option<(Vec<(&'b str, usize)>, usize)> {
    FORMATS.into_iter().find_map(|level| {
        let filters = packet::filters(body, level);
        // The broker puts a mount point in front of what the client wrote, and several filters may end alike.
        let may_be = filters.iter().enumerate().filter(|(_, (filter, _))| asked.ends_with(filter));
        let (at, _) = may_be.max_by_key(|(at, (filter, _))| (filter.len(), Reverse(*at)))?;
        Some((filters, at))
    })
}
