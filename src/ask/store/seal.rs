//! What stands in the store: under names that tell nothing, signed or encrypted with a secret that only the brokers have.
//!
//! Whoever can read the store learns how many verdicts there are and when they were given. Whoever can write it can remove
//! them, which costs questions, and can put nothing in its place: a verdict is bound to its question, to the API, to its
//! time and to its place among what was taken back ([`Position`]).

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac::{HMAC_SHA256, Key, Tag, sign, verify};
use ring::rand::{SecureRandom, SystemRandom};

use super::statement::{Numbers, Statement};
use crate::local;
use crate::question::{Grounds, Kind};

/// The version of all that is stored. Another one is another name, so that brokers of two versions leave each other's
/// verdicts alone.
const VERSION: u8 = 1;

/// Bytes of a stored verdict.
pub(super) const VALUE: usize = SIGNED + 32;
/// Bytes of a stored verdict in front of its signature.
const SIGNED: usize = 1 + 1 + 2 + 8 + 8 + 8 + 16;
/// Says that the verdict is a yes without conditions, and no refusal is stored. An answer that says more than yes needs
/// another number.
const ALLOW: u8 = 1;

/// An entry's text is filled up to a multiple of this, so that its length tells little of a name.
const BLOCK: usize = 64;

/// A place in the journal: the identifier that the server gave to an entry, which grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position(pub u64, pub u64);

impl Position {
    /// The next one, unless this is the last that there is.
    pub fn next(self) -> Option<Self> {
        let next_first = || Some(Self(self.0.checked_add(1)?, 0));
        self.1.checked_add(1).map(|second| Self(self.0, second)).or_else(next_first)
    }
}

/// A verdict as it is stored. It is an allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value {
    /// The journal that was counted by.
    pub epoch: u64,
    /// How far whoever stored it had read the journal when it sent the question.
    pub position: Position,
    /// When the question was sent, in milliseconds of the store's clock.
    pub sent: u64,
    /// How long it holds from then on, in milliseconds.
    pub lifetime: u64,
    /// What the API said.
    pub grounds: Grounds,
}

/// What an entry of the journal says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The number of the journal: another one has begun where it changes, and nothing from before counts.
    pub epoch: u64,
    /// Who says it: a number that each plugin draws at its start.
    pub sender: u64,
    /// Counts the commands of that sender, or the journals that it has begun, from 1 on.
    pub number: u64,
    /// When, in milliseconds of the store's clock.
    pub at: u64,
    /// What it says.
    pub says: Statement,
}

/// A name in the store that tells nothing of what it stands for.
pub struct Name {
    /// As it stands there.
    pub text: String,
    digest: Tag,
}

/// The secrets, the one that counts first.
#[derive(PartialEq, Eq, Clone)]
pub struct Secrets(Vec<String>);

impl Secrets {
    /// Reads a file of secrets.
    ///
    /// # Errors
    /// What is wrong with it, behind its name.
    pub fn read(path: &Path) -> Result<Self, String> {
        local::shared_cache_secrets(path).map(Self)
    }

    /// The keys that are made from them, in the same order.
    pub fn keys(&self) -> Vec<Keys> {
        self.0.iter().map(|secret| Keys::of(secret)).collect()
    }
}

/// The keys that are made from one secret, each for one purpose.
pub struct Keys {
    names: Key,
    values: Key,
    entries: LessSafeKey,
    /// The name of the journal.
    pub journal: String,
    /// The name of what was learnt.
    pub learnt: String,
}

impl Keys {
    fn of(secret: &str) -> Self {
        let root = Key::new(HMAC_SHA256, secret.as_bytes());
        let derived =
            |purpose: &str| sign(&root, format!("mosquitto-http-auth {VERSION} {purpose}").as_bytes());
        let key = |purpose: &str| Key::new(HMAC_SHA256, derived(purpose).as_ref());
        let entries = UnboundKey::new(&CHACHA20_POLY1305, derived("journal").as_ref());
        #[allow(clippy::expect_used, reason = "an HMAC by SHA-256 has the 256 bits of such a key")]
        let entries = LessSafeKey::new(entries.expect("a key of the right length"));
        let journal = URL_SAFE_NO_PAD.encode(&derived("journal's name").as_ref()[..16]);
        Self {
            names: key("names"),
            values: key("values"),
            entries,
            // In a cluster the journals of two secrets are on one server, as what stands in braces says.
            journal: format!("mha:{VERSION}:{{journal}}:{journal}"),
            learnt: format!("mha:{VERSION}:learnt:{journal}"),
        }
    }

    /// The name of a verdict: of the API that is asked, the kind of question, and the request as it is sent.
    pub fn name(&self, api: &[u8], kind: Kind, request: &[u8]) -> Name {
        let (word, number) = match kind {
            Kind::Connect => ("login", 0),
            Kind::Access => ("topic", 1),
        };
        let mut text = Vec::with_capacity(16 + api.len() + request.len());
        text.extend_from_slice(&(api.len() as u64).to_be_bytes());
        text.extend_from_slice(api);
        text.push(number);
        text.extend_from_slice(request);
        let digest = sign(&self.names, &text);
        Name { text: format!("mha:{VERSION}:{word}:{}", URL_SAFE_NO_PAD.encode(digest)), digest }
    }

    /// A verdict as it is stored under this name.
    pub fn seal(&self, name: &Name, value: &Value) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(VALUE);
        bytes.extend_from_slice(&[VERSION, ALLOW]);
        bytes.extend_from_slice(&value.grounds.number().to_be_bytes());
        for number in [value.epoch, value.position.0, value.position.1, value.sent, value.lifetime] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        let signature = sign(&self.values, &signed(name, &bytes));
        bytes.extend_from_slice(signature.as_ref());
        bytes
    }

    /// What stands under this name, if it was stored there with this secret.
    pub fn open(&self, name: &Name, bytes: &[u8]) -> Option<Value> {
        let (head, signature) = bytes.split_at_checked(SIGNED)?;
        verify(&self.values, &signed(name, head), signature).ok()?;
        let mut numbers = Numbers(head);
        let [VERSION, ALLOW] = numbers.take::<2>()? else { return None };
        let grounds = Grounds::of_number(u16::from_be_bytes(numbers.take()?));
        let mut next = || Some(u64::from_be_bytes(numbers.take()?));
        let epoch = next()?;
        let position = Position(next()?, next()?);
        Some(Value { epoch, position, sent: next()?, lifetime: next()?, grounds })
    }

    /// An entry as it is appended to the journal. `None` if the system gives no random numbers.
    pub fn encrypt(&self, entry: &Entry) -> Option<Vec<u8>> {
        let mut text = vec![VERSION];
        for number in [entry.epoch, entry.sender, entry.number, entry.at] {
            text.extend_from_slice(&number.to_be_bytes());
        }
        entry.says.write(&mut text)?;
        text.resize(text.len().next_multiple_of(BLOCK), 0);
        self.encrypted(&self.journal, text)
    }

    /// A text that stands under a name, encrypted. `None` if the system gives no random numbers.
    pub fn seal_text(&self, name: &str, text: &str) -> Option<Vec<u8>> {
        self.encrypted(name, text.as_bytes().to_vec())
    }

    /// The text that stands under a name, if it was written with this secret and for this name.
    pub fn open_text(&self, name: &str, bytes: &[u8]) -> Option<String> {
        String::from_utf8(self.decrypted(name, bytes)?).ok()
    }

    fn encrypted(&self, name: &str, mut text: Vec<u8>) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let aad = Aad::from(name.as_bytes());
        self.entries.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut text).ok()?;
        Some([&nonce[..], &text].concat())
    }

    fn decrypted(&self, name: &str, bytes: &[u8]) -> Option<Vec<u8>> {
        let (nonce, text) = bytes.split_at_checked(NONCE_LEN)?;
        let (nonce, mut text) = (Nonce::try_assume_unique_for_key(nonce).ok()?, text.to_vec());
        let length = self.entries.open_in_place(nonce, Aad::from(name.as_bytes()), &mut text).ok()?.len();
        text.truncate(length);
        Some(text)
    }

    /// An entry of the journal, if it was appended with this secret.
    pub fn decrypt(&self, bytes: &[u8]) -> Option<Entry> {
        let text = self.decrypted(&self.journal, bytes)?;
        let mut numbers = Numbers(&text);
        let [VERSION] = numbers.take::<1>()? else { return None };
        let mut next = || Some(u64::from_be_bytes(numbers.take()?));
        let (epoch, sender, number, at) = (next()?, next()?, next()?, next()?);
        Some(Entry { epoch, sender, number, at, says: Statement::read(numbers)? })
    }
}

/// What a signature is made of: a verdict under another name has another one.
fn signed(name: &Name, head: &[u8]) -> Vec<u8> {
    [name.digest.as_ref(), head].concat()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::command::{Command, Named, Whom};

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn value() -> Value {
        Value { epoch: 7, position: Position(1, 2), sent: 3, lifetime: 4, grounds: Grounds::Status(200) }
    }

    #[test]
    fn behind_the_last_position_there_is_none() {
        assert_eq!(Position(1, 2).next(), Some(Position(1, 3)));
        assert_eq!(Position(1, u64::MAX).next(), Some(Position(2, 0)));
        assert_eq!(Position(u64::MAX, u64::MAX).next(), None);
    }

    #[test]
    fn a_verdict_is_read_under_its_own_name_alone() {
        let (keys, other) = (Keys::of(SECRET), Keys::of("another secret of 32 characters."));
        let name = keys.name(b"api", Kind::Connect, b"question");
        assert!(name.text.starts_with("mha:1:login:") && name.text.len() == 12 + 43, "{}", name.text);
        let sealed = keys.seal(&name, &value());
        assert_eq!((sealed.len(), keys.open(&name, &sealed)), (VALUE, Some(value())));
        let others = [
            keys.name(b"api", Kind::Access, b"question"),
            keys.name(b"ap", Kind::Connect, b"iquestion"),
            keys.name(b"api", Kind::Connect, b"question "),
            other.name(b"api", Kind::Connect, b"question"),
        ];
        for wrong in &others {
            assert_ne!(wrong.text, name.text);
            assert_eq!(keys.open(wrong, &sealed), None);
        }
        assert_eq!(other.open(&name, &sealed), None);
        for index in 0..VALUE {
            let mut forged = sealed.clone();
            forged[index] ^= 1;
            assert_eq!(keys.open(&name, &forged), None, "byte {index}");
            assert_eq!(keys.open(&name, &sealed[..index]), None, "{index} bytes");
        }
        assert_eq!(keys.open(&name, &[&sealed[..], b"x"].concat()), None);
    }

    #[test]
    fn an_entry_tells_nothing_without_the_secret() {
        let (keys, other) = (Keys::of(SECRET), Keys::of("another secret of 32 characters."));
        for says in [
            Statement::Begin,
            Statement::Told(Command::Kick(Named::Username("alice".to_owned()))),
            Statement::Told(Command::Forget(Whom::username("x".repeat(65_535)))),
            Statement::Told(Command::Forget(Whom::client_id("c".to_owned()))),
            Statement::Told(Command::Recheck(None)),
            Statement::Unknown(9, 1),
        ] {
            let entry = Entry { epoch: 1, sender: 2, number: 3, at: 4, says };
            let sealed = keys.encrypt(&entry).unwrap();
            assert!(!sealed.windows(5).any(|bytes| bytes == b"alice"));
            assert_ne!(keys.encrypt(&entry).unwrap(), sealed, "a nonce of its own");
            assert_eq!((keys.decrypt(&sealed), other.decrypt(&sealed)), (Some(entry), None));
            let mut forged = sealed.clone();
            *forged.last_mut().unwrap() ^= 1;
            assert_eq!(keys.decrypt(&forged), None);
        }
        for bytes in [&b""[..], b"garbage", &[0; 100]] {
            assert_eq!(keys.decrypt(bytes), None);
        }
    }

    #[test]
    fn a_text_is_read_under_its_own_name_alone() {
        let (keys, other) = (Keys::of(SECRET), Keys::of("another secret of 32 characters."));
        let sealed = keys.seal_text("a", "sensor-0").unwrap();
        assert!(!sealed.windows(6).any(|bytes| bytes == b"sensor"));
        assert_eq!(keys.open_text("a", &sealed).as_deref(), Some("sensor-0"));
        assert_eq!((keys.open_text("b", &sealed), other.open_text("a", &sealed)), (None, None));
        assert_eq!(keys.open_text("a", &sealed[1..]), None);
    }

    #[test]
    fn a_file_holds_a_secret_and_the_one_from_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            Secrets::read(&path).map(|secrets| secrets.0.len())
        };
        assert_eq!(read(&format!("{SECRET}\n")), Ok(1));
        assert_eq!(read(&format!("\n{SECRET}x\r\n{SECRET}\n\n")), Ok(2));
        for text in
            [String::new(), "short\n".to_owned(), format!("{SECRET} {SECRET}"), [SECRET; 3].join("\n")]
        {
            let what = read(&text).expect_err(&text);
            assert!(!what.contains(SECRET), "{what}");
        }
    }
}
