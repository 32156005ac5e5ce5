//! Clients that a command has forgotten. From then on such a client has a new key, so what was learnt about it alone is no longer
//! found. The old entries are not searched for: they are dropped when room is short, as whatever is not used.

use std::collections::HashMap;

use super::pattern::Who;
use crate::fingerprint::{Domain, Fingerprint, Fingerprinter, Whose};

/// Names that are told apart. With more, all clients count as forgotten.
const NAMES: usize = 10_000;

/// The names that were forgotten, and a number for each time.
#[derive(Debug, Default)]
pub struct Forgotten {
    names: HashMap<Whose, u64>,
    everybody: u64,
}

impl Forgotten {
    /// Somebody is forgotten now. No other time has this number.
    pub fn note(&mut self, whose: Whose, number: u64) {
        if whose == Whose::Everybody || self.names.len() >= NAMES && !self.names.contains_key(&whose) {
            self.names.clear();
            self.everybody = number;
        } else {
            self.names.insert(whose, number);
        }
    }

    /// What a client is known by since it was forgotten last.
    #[inline]
    pub fn key(&self, client: Fingerprint, who: Who<'_>, keys: &Fingerprinter) -> Fingerprint {
        if self.names.is_empty() && self.everybody == 0 {
            return client;
        }
        let names =
            [Whose::Username(keys.username(who.username)), Whose::ClientId(keys.client_id(who.client_id))];
        let named = names.iter().filter_map(|name| self.names.get(name)).max();
        match named.copied().unwrap_or(self.everybody) {
            0 => client,
            number => {
                let words = client.words().map(u64::to_le_bytes);
                keys.fields(Domain::Forgotten, [words.as_flattened(), &number.to_le_bytes()])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_another_once_it_is_forgotten_and_nobody_else_is() {
        let keys = Fingerprinter::with_key(&[5; 16]);
        let mut forgotten = Forgotten::default();
        let client = |client_id| keys.fields(Domain::Client, [client_id]);
        let known = |forgotten: &Forgotten, username, client_id: &'static str| {
            forgotten.key(client(client_id.as_bytes()), Who { client_id, username }, &keys)
        };
        assert_eq!(known(&forgotten, "joe", "c1"), client(b"c1"));
        forgotten.note(Whose::Username(keys.username("joe")), 1);
        let once = known(&forgotten, "joe", "c1");
        assert_ne!(once, client(b"c1"));
        assert_eq!(known(&forgotten, "joe", "c1"), once);
        assert_eq!(known(&forgotten, "jim", "c1"), client(b"c1"));
        forgotten.note(Whose::ClientId(keys.client_id("c1")), 2);
        let twice = known(&forgotten, "joe", "c1");
        assert!(twice != once && twice != client(b"c1"));
        assert_ne!(known(&forgotten, "jim", "c1"), client(b"c1"));
        assert_eq!(known(&forgotten, "jim", "c2"), client(b"c2"));
    }

    #[test]
    fn no_more_names_are_kept_than_there_is_room_for() {
        let keys = Fingerprinter::with_key(&[5; 16]);
        let mut forgotten = Forgotten::default();
        let client = keys.fields(Domain::Client, [b"c"]);
        let who = Who { client_id: "c", username: "nobody" };
        for number in 1..=NAMES as u32 {
            forgotten.note(Whose::Username(number), number.into());
        }
        assert_eq!(forgotten.key(client, who, &keys), client);
        forgotten.note(Whose::Username(0), 20_000);
        assert!(forgotten.names.is_empty());
        assert_ne!(forgotten.key(client, who, &keys), client, "it may be one of them");
    }
}
