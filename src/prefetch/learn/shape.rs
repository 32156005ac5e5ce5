//! Which clients are taken for the same kind: those whose names look alike. `sensor-0017` and `sensor-4711` do,
//! `sensor-0017` and `hub-3` do not.

use serde::{Deserialize, Serialize};

use super::pattern::Who;
use crate::fingerprint::{Domain, Fingerprint, Fingerprinter};

/// The most bytes of a shape. Names that differ only behind it look alike.
const LONGEST: usize = 48;

/// What a name looks like, without what tells it from others of its kind.
pub struct Shape {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Shape {
    /// The shape of a name. Numbers, and whatever else looks as if a machine had counted or drawn it, become `0`; the
    /// words beside them stay. A name without any digit is somebody's: what tells people apart is no kind, so the words
    /// behind the first separator, or the only one, become `a`.
    pub fn of(name: &str) -> Self {
        let mut shape = Self { bytes: [0; LONGEST], length: 0 };
        let has_digits = name.bytes().any(|byte| byte.is_ascii_digit());
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || !byte.is_ascii();
        let mut rest = name.as_bytes();
        let mut is_first = true;
        while let Some(&next) = rest.first() {
            if !is_word(next) {
                shape.push(&[next]);
                rest = &rest[1..];
                continue;
            }
            let end = rest.iter().position(|byte| !is_word(*byte)).unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end);
            rest = behind;
            if has_digits {
                shape.push_word(word);
            } else if is_first && !rest.is_empty() {
                shape.push(word);
            } else {
                shape.push(b"a");
            }
            is_first = false;
        }
        shape
    }

    /// Its text.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn push_word(&mut self, word: &[u8]) {
        let is_hexadecimal = word.iter().all(u8::is_ascii_hexdigit);
        let digits = word.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let letters = &word[..word.len() - digits];
        // Two digits, as in a MAC address, or four and more.
        let was_drawn = is_hexadecimal && matches!(word.len(), 2 | 4..);
        if was_drawn || letters.iter().any(u8::is_ascii_digit) || letters.is_empty() {
            self.push(b"0");
        } else {
            self.push(letters);
            self.push(if digits > 0 { b"0" } else { b"" });
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        let room = LONGEST - self.length;
        let taken = &bytes[..bytes.len().min(room)];
        self.bytes[self.length..][..taken.len()].copy_from_slice(taken);
        self.length += taken.len();
    }
}

/// What all clients of these names are known by whose names look alike.
pub fn key(keys: &Fingerprinter, who: Who<'_>) -> Fingerprint {
    let [client_id, username] = [who.client_id, who.username].map(Shape::of);
    keys.fields(Domain::LooksAlike, [client_id.bytes(), username.bytes()])
}

/// Clients whose names look alike: what their ids and usernames look like.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Alike {
    pub(super) id: String,
    pub(super) name: String,
}

impl Alike {
    /// The names that look like those of this client. `None` where the look is no text, since it ends within a letter.
    pub fn like(who: Who<'_>) -> Option<Self> {
        let text = |name| String::from_utf8(Shape::of(name).bytes().to_vec()).ok();
        Some(Self { id: text(who.client_id)?, name: text(who.username)? })
    }

    /// The bytes of its texts.
    pub fn bytes(&self) -> usize {
        self.id.len() + self.name.len()
    }

    /// Whether it can be what names look like.
    pub fn is_one(&self) -> bool {
        [&self.id, &self.name].iter().all(|text| text.len() <= LONGEST)
    }

    /// What they are known by, see [`key`].
    pub fn key(&self, keys: &Fingerprinter) -> Fingerprint {
        keys.fields(Domain::LooksAlike, [self.id.as_bytes(), self.name.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shape(name: &str) -> String {
        String::from_utf8_lossy(Shape::of(name).bytes()).into_owned()
    }

    #[test]
    fn what_counts_or_was_drawn_is_no_kind() {
        for (name, expected) in [
            ("sensor-0017", "sensor-0"),
            ("sensor-4711", "sensor-0"),
            ("hub3", "hub0"),
            ("f47ac10b-58cc-4372-beef-0e02b2c3d479", "0-0-0-0-0"),
            ("mqttjs_1a2b3c4d", "mqttjs_0"),
            ("a4:cf:12:6b:00:01", "0:0:0:0:0:0"),
            ("A4CF126B0001", "0"),
            ("site-7/gateway", "site-0/gateway"),
            ("alice", "a"),
            ("dash-ops", "dash-a"),
            ("", ""),
            ("+", "+"),
            ("é7", "é0"),
        ] {
            assert_eq!(shape(name), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_name_has_one(name in ".{0,200}") {
            prop_assert!(Shape::of(&name).bytes().len() <= LONGEST);
        }
    }
}
