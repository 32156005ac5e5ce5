//! Questions that had no answer. An API that is left alone is probed with them until it is back.
use std::collections::VecDeque;

use super::request::Request;
use crate::util::Lock;

/// Questions that are kept to probe with. One of them may be the reason why the API hangs; that one goes when it fails.
const KEPT: usize = 4;

/// Questions without an answer, while their endpoint is left alone.
#[derive(Default)]
pub(super) struct Samples(Lock<VecDeque<Request>>);

impl Samples {
    /// Keeps a question, if it is not kept already.
    pub(super) fn keep(&self, request: &Request) {
        let mut kept = self.0.lock();
        if kept.iter().all(|one| one.asked_for != request.asked_for) {
            kept.push_back(request.clone());
        }
        if kept.len() > KEPT {
            kept.pop_front();
        }
    }

    /// The next question to probe with. They take turns.
    pub(super) fn next(&self) -> Option<Request> {
        let mut kept = self.0.lock();
        let next = kept.pop_front()?;
        kept.push_back(next.clone());
        Some(next)
    }

    /// The question that came last had no answer: unless it is the only one, others are asked instead.
    pub(super) fn drop_last(&self) {
        let mut kept = self.0.lock();
        if kept.len() > 1 {
            kept.pop_back();
        }
    }

    /// Forgets all: they hold passwords.
    pub(super) fn clear(&self) {
        *self.0.lock() = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::http::AskedFor;
    use crate::config::UrlSet;

    fn request(n: u64) -> Request {
        let asked_for = AskedFor { client: n, ..AskedFor::default() };
        Request { asked_for, urls: UrlSet::Login, body: Vec::new().into(), credentials: None }
    }

    fn next(samples: &Samples) -> Option<u64> {
        samples.next().map(|request| request.asked_for.client)
    }

    #[test]
    fn questions_take_turns_and_one_that_fails_goes_unless_it_is_the_only_one() {
        let samples = Samples::default();
        assert_eq!(next(&samples), None);
        samples.keep(&request(1));
        samples.keep(&request(1));
        assert_eq!([next(&samples), next(&samples)], [Some(1); 2]);
        samples.keep(&request(2));
        assert_eq!([next(&samples), next(&samples), next(&samples)], [Some(1), Some(2), Some(1)]);
        samples.drop_last();
        assert_eq!([next(&samples), next(&samples)], [Some(2); 2]);
        samples.drop_last();
        assert_eq!(next(&samples), Some(2));
        (3..100).for_each(|n| samples.keep(&request(n)));
        assert_eq!(samples.0.lock().len(), KEPT);
        samples.clear();
        assert_eq!(next(&samples), None);
    }
}
