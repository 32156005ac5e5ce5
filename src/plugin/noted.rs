//! Sessions that the broker has checked after a SIGHUP, and that the API is to be asked about when its loop comes round.

use std::collections::VecDeque;

use super::sessions::SessionName;
use crate::fingerprint::Fingerprint;
use crate::question::OwnedQuestion;
use crate::util::random;

/// Sessions that the API is asked about in one go: some milliseconds. The broker goes through all of them in one turn of its
/// loop, and asking takes longer than noting who is to be asked about.
const AT_ONCE: usize = 1_000;

/// Bytes of those who were noted. The others are asked about there and then.
const NOTED: usize = 32 << 20;

/// Sessions that the API is to be asked about.
#[derive(Default)]
pub struct Noted {
    sessions: VecDeque<Note>,
    bytes: usize,
}

/// One of them, and the question.
pub struct Note {
    /// The session.
    pub session: SessionName,
    /// The fingerprint of the question.
    pub key: Fingerprint,
    /// The question.
    pub question: OwnedQuestion,
}

impl Note {
    /// Bytes that it takes.
    fn bytes(&self) -> usize {
        let SessionName { client_id, username, address, .. } = &self.session;
        let texts = client_id.len() + username.len() + address.as_ref().map_or(0, String::len);
        size_of::<Self>() + texts + self.question.bytes()
    }
}

impl Noted {
    /// Whether there is no room for more.
    pub fn is_full(&self) -> bool {
        self.bytes >= NOTED
    }

    /// Whether nobody is noted.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Adds one, and says whether it is the first.
    pub fn add(&mut self, note: Note) -> bool {
        self.bytes += note.bytes();
        self.sessions.push_back(note);
        self.sessions.len() == 1
    }

    /// Takes the next ones to be asked about, or a `few` that are drawn at random, and says whether these are all.
    pub fn next(&mut self, few: Option<usize>) -> (Vec<Note>, bool) {
        let count = few.unwrap_or(AT_ONCE).min(AT_ONCE).min(self.sessions.len());
        let next: Vec<_> = match few {
            None => self.sessions.drain(..count).collect(),
            Some(_) => (0..count).filter_map(|_| self.draw()).collect(),
        };
        self.bytes -= next.iter().map(Note::bytes).sum::<usize>();
        (next, self.sessions.is_empty())
    }

    /// Takes one at random.
    fn draw(&mut self) -> Option<Note> {
        let index = (random::fraction() * self.sessions.len() as f64) as usize;
        self.sessions.swap_remove_back(index.min(self.sessions.len().saturating_sub(1)))
    }
}
