//! The journal: a stream in the store that says what was taken back, in the order in which it was. All brokers read it,
//! and a verdict counts only if nothing that it is about was taken back behind it.

use std::collections::HashMap;

use redis::Value as Reply;

use super::seal::{Entry, Keys, Position, Value};
use super::statement::Statement;
use crate::fingerprint::{About, Whose};

/// Names that are remembered as forgotten: six times as many as a journal keeps entries, in some 3 MB for usernames and as
/// much for client ids. When there are more, everything from before counts as forgotten.
const NAMES: usize = 65_536;

/// Senders whose entries are told apart from repetitions: each start of a broker is one, so that a hundred brokers may start
/// forty times each, in some 200 KB. When there are more, all are learnt anew.
const SENDERS: usize = 4_096;

/// What is known of one journal.
#[derive(Debug, Default)]
pub struct Journal {
    /// Its number.
    pub epoch: u64,
    /// How far it was read.
    pub read: Position,
    /// Verdicts from before cannot be judged any more, or are all taken back.
    floor: Position,
    usernames: HashMap<u32, Position>,
    client_ids: HashMap<u32, Position>,
    newest: Newest,
}

/// What an entry is, beside those of the same sender that came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The next one, or the first that is known.
    New,
    /// A later one: one in between was lost or held back, whatever it said.
    NewBehindGap,
    /// One from before, once more.
    Repetition,
}

/// The number of the newest entry of each sender, those that begin a journal apart: each of these stands in one journal only.
#[derive(Debug, Default)]
pub struct Newest(HashMap<(u64, bool), u64>);

impl Newest {
    /// What an entry is. It is known from now on.
    pub fn hear(&mut self, entry: &Entry) -> Heard {
        let begins = entry.says == Statement::Begin;
        let sender = (entry.sender, begins);
        if self.0.len() >= SENDERS && !self.0.contains_key(&sender) {
            self.0.clear();
        }
        let newest = self.0.insert(sender, entry.number);
        match newest {
            Some(newest) if entry.number <= newest => {
                self.0.insert(sender, newest);
                Heard::Repetition
            }
            Some(newest) if !begins && entry.number - 1 > newest => Heard::NewBehindGap,
            // What came before the first that is known may have been cut off, or be in the journal before this one.
            _ => Heard::New,
        }
    }
}

impl Journal {
    /// A journal that is read from its first entry on, which is there.
    pub fn from(first: Position) -> Self {
        Self { floor: first, ..Self::default() }
    }

    /// Takes the next entry. `whose`: whose verdicts it takes back, if it is about any.
    pub fn take(&mut self, at: Position, entry: &Entry, whose: Option<Whose>) -> Heard {
        self.read = at;
        // Where its beginning was cut off, each entry tells which journal it is.
        if self.epoch == 0 || entry.says == Statement::Begin {
            self.epoch = entry.epoch;
        }
        if entry.says == Statement::Begin {
            self.forget_all(at);
        }
        let heard = self.newest.hear(entry);
        match whose {
            _ if heard == Heard::Repetition => {}
            // Nobody knows whose verdicts the missing one has taken back.
            _ if heard == Heard::NewBehindGap => self.forget_all(at),
            _ if self.usernames.len() + self.client_ids.len() >= NAMES => self.forget_all(at),
            Some(Whose::Everybody) => self.forget_all(at),
            Some(Whose::Username(username)) => drop(self.usernames.insert(username, at)),
            Some(Whose::ClientId(client_id)) => drop(self.client_ids.insert(client_id, at)),
            None => {}
        }
        heard
    }

    /// Passes over something that is no entry.
    pub fn pass(&mut self, at: Position) {
        self.read = at;
    }

    fn forget_all(&mut self, at: Position) {
        self.floor = at;
        self.usernames.clear();
        self.client_ids.clear();
    }

    /// Whether a verdict was stored behind all that was taken back of what it is about.
    pub fn lets_count(&self, value: &Value, about: About) -> bool {
        let taken_back = self.usernames.get(&about.username).max(self.client_ids.get(&about.client_id));
        value.epoch == self.epoch
            && value.position >= self.floor
            && taken_back.is_none_or(|at| value.position >= *at)
    }
}

/// An entry of a stream as the server tells it: its identifier, and what it holds.
pub type Raw = (Position, Vec<u8>);

/// The entries in an answer to XRANGE. `None` if it is no such answer.
pub fn entries(reply: Reply) -> Option<Vec<Raw>> {
    let Reply::Array(entries) = reply else { return None };
    entries.into_iter().map(entry).collect()
}

/// The entries in an answer to XREAD, by the names of the streams.
pub fn entries_of_streams(reply: Reply) -> Option<Vec<(String, Vec<Raw>)>> {
    let streams = match reply {
        Reply::Nil => return Some(Vec::new()),
        Reply::Array(streams) => streams,
        _ => return None,
    };
    let stream = |stream| {
        let Reply::Array(stream) = stream else { return None };
        let [name, found] = <[Reply; 2]>::try_from(stream).ok()?;
        Some((text(&name)?, entries(found)?))
    };
    streams.into_iter().map(stream).collect()
}

fn entry(reply: Reply) -> Option<Raw> {
    let Reply::Array(entry) = reply else { return None };
    let [id, fields] = <[Reply; 2]>::try_from(entry).ok()?;
    let id = text(&id)?;
    let (first, second) = id.split_once('-')?;
    let position = Position(first.parse().ok()?, second.parse().ok()?);
    // One that has fewer or other fields is nobody's of ours.
    let sealed = match fields {
        Reply::Array(fields) => fields.into_iter().nth(1),
        _ => None,
    };
    let sealed = match sealed {
        Some(Reply::BulkString(sealed)) => sealed,
        _ => Vec::new(),
    };
    Some((position, sealed))
}

fn text(reply: &Reply) -> Option<String> {
    match reply {
        Reply::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Reply::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

/// What kind of answer it is, for the log: what stands in it may be anybody's.
pub fn kind(reply: &Reply) -> &'static str {
    match reply {
        Reply::Nil => "nothing",
        Reply::Int(_) => "a number",
        Reply::BulkString(_) | Reply::SimpleString(_) | Reply::Okay => "a text",
        Reply::Array(_) => "a list of something else",
        _ => "something else",
    }
}

/// An identifier as commands have it.
pub fn shown(position: Position) -> String {
    format!("{}-{}", position.0, position.1)
}

/// Each entry with its position; `None` for one that these keys do not open.
pub fn decrypted(raw: Vec<Raw>, keys: &Keys) -> impl Iterator<Item = (Position, Option<Entry>)> {
    raw.into_iter().map(|(at, sealed)| (at, keys.decrypt(&sealed)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Whom};

    const ABOUT: About = About { username: 1, client_id: 2 };

    fn entry(number: u64, says: Statement) -> Entry {
        Entry { epoch: 7, sender: 9, number, at: 0, says }
    }

    fn told() -> Statement {
        Statement::Told(Command::Forget(Whom::username("somebody".to_owned())))
    }

    fn value(position: u64) -> Value {
        Value {
            epoch: 7,
            position: Position(position, 0),
            sent: 0,
            lifetime: 1,
            grounds: crate::question::Grounds::Status(200),
        }
    }

    #[test]
    fn what_was_stored_before_it_was_taken_back_does_not_count() {
        let mut journal = Journal::from(Position(1, 0));
        assert_eq!(journal.take(Position(1, 0), &entry(1, Statement::Begin), None), Heard::New);
        assert!(journal.lets_count(&value(1), ABOUT));
        assert!(!journal.lets_count(&value(0), ABOUT), "from before the journal");
        assert!(!journal.lets_count(&Value { epoch: 8, ..value(1) }, ABOUT), "of another journal");
        for (number, whose) in [(2, Whose::Username(1)), (3, Whose::ClientId(2)), (4, Whose::Everybody)] {
            assert_eq!(journal.take(Position(number, 0), &entry(number, told()), Some(whose)), Heard::New);
            assert!(!journal.lets_count(&value(number - 1), ABOUT), "{whose:?}");
            assert!(journal.lets_count(&value(number), ABOUT), "{whose:?}");
        }
        assert_eq!(journal.take(Position(5, 0), &entry(5, told()), Some(Whose::Username(9))), Heard::New);
        assert!(journal.lets_count(&value(4), ABOUT), "that was about somebody else");
        assert_eq!(journal.read, Position(5, 0));
    }

    #[test]
    fn a_repetition_says_nothing_new() {
        let mut journal = Journal::from(Position(1, 0));
        let mut take = |at| journal.take(Position(at, 0), &entry(1, told()), Some(Whose::Username(1)));
        assert_eq!((take(1), take(2)), (Heard::New, Heard::Repetition));
        assert!(journal.lets_count(&value(1), ABOUT));
        assert_eq!(journal.read, Position(2, 0));
    }

    /// Whoever can write the store takes an entry out, or holds it back.
    #[test]
    fn what_is_missing_may_have_been_about_anybody() {
        let mut journal = Journal::from(Position(1, 0));
        // A sender that was there before this journal, or whose first entries were cut off.
        assert_eq!(journal.take(Position(1, 0), &entry(7, told()), None), Heard::New);
        assert_eq!(journal.take(Position(2, 0), &entry(8, told()), None), Heard::New);
        assert!(journal.lets_count(&value(1), ABOUT));
        let of_another = Entry { sender: 10, ..entry(3, told()) };
        assert_eq!(journal.take(Position(3, 0), &of_another, None), Heard::New);
        assert_eq!(journal.take(Position(4, 0), &entry(10, told()), None), Heard::NewBehindGap);
        assert!(!journal.lets_count(&value(3), ABOUT) && journal.lets_count(&value(4), ABOUT));
        // If it comes late, it changes nothing any more.
        assert_eq!(journal.take(Position(5, 0), &entry(9, told()), None), Heard::Repetition);
        assert_eq!(journal.take(Position(6, 0), &entry(11, told()), None), Heard::New);
        assert!(journal.lets_count(&value(4), ABOUT));
    }

    /// With two secrets there are two journals, and each is begun by itself.
    #[test]
    fn the_beginning_of_a_journal_makes_no_gap() {
        let mut newest = Newest::default();
        let heard = [(5, told()), (1, Statement::Begin), (6, told()), (3, Statement::Begin), (7, told())]
            .map(|(number, says)| newest.hear(&entry(number, says)));
        assert_eq!(heard, [Heard::New; 5]);
        assert_eq!(newest.hear(&entry(3, Statement::Begin)), Heard::Repetition);
    }

    #[test]
    fn names_are_bounded() {
        let mut journal = Journal::from(Position(1, 0));
        for number in 1..=NAMES as u64 + 1 {
            let whose = Some(Whose::Username(number as u32 + 10));
            assert_eq!(journal.take(Position(number, 0), &entry(number, told()), whose), Heard::New);
        }
        assert!(journal.usernames.len() <= NAMES);
        assert!(!journal.lets_count(&value(9), ABOUT), "everything from before is taken back");
    }
}
