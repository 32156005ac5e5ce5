//! Fingerprints: keyed hashes that stand for questions, clients and passwords in tables, so that no table keeps a
//! password.
use std::borrow::Cow;
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::question::{Access, Question};

/// 128 bits of keyed hash. Without the process's key they tell nothing about what was hashed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(u64, u64);

impl Fingerprint {
    /// The two halves of a fingerprint. Each of them is a hash by itself.
    pub const fn words(self) -> [u64; 2] {
        [self.0, self.1]
    }
}

/// What a fingerprint stands for. Each use has its own domain, so that equal fields never give equal fingerprints for
/// two uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Domain {
    /// A READ question: username, client id, topic.
    Read = Access::Read as u8,
    /// A WRITE question: username, client id, topic.
    Write = Access::Write as u8,
    /// A SUBSCRIBE question: username, client id, filter.
    Subscribe = Access::Subscribe as u8,
    /// A login: username, password.
    Credentials,
    /// A question with further fields: the two halves of the fingerprint without them, the JSON of them.
    MoreFields,
    /// The client that a question is about: username, client id.
    Client,
    /// A session: client id, username.
    Session,
    /// The address of a client.
    Address,
    /// The network of a client's address, see `network`.
    Network,
    /// A username as tried from one network: network, username.
    Account,
    /// A username, from whatever network it is tried.
    AccountName,
    /// A client id as tried from one network: network, client id.
    ClientId,
    /// All clients without an id that try one username from one network: network, username.
    NoClientId,
    /// A message on its way to its readers: topic.
    Message,
    /// A client that may send before its CONNACK: client id, username, network.
    EarlySender,
    /// A client id, from whatever network it comes.
    ClientName,
    /// The question whether a user may do everything: the name by which the API knows it.
    Superuser,
    /// Clients whose names look alike: the shapes of their client id and username.
    LooksAlike,
    /// Those of them that ask the same first: their fingerprint, a kind of access, a pattern of topics.
    AsksFirst,
    /// What one client asks by itself: its fingerprint.
    OwnWishes,
    /// Who has taught what others are expected to ask: a network, or another broker.
    Teacher,
    /// A client since it was forgotten: its fingerprint, a number.
    Forgotten,
}

impl From<Access> for Domain {
    fn from(access: Access) -> Self {
        match access {
            Access::Read => Domain::Read,
            Access::Write => Domain::Write,
            Access::Subscribe => Domain::Subscribe,
        }
    }
}

/// Without the hash, which nobody who reads a log could use.
impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(..)")
    }
}

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// The hasher of tables whose keys are fingerprints. Those are keyed hashes already: hashing them again would only cost
/// time.
pub type AlreadyHashed = BuildHasherDefault<PassThrough>;

/// The hasher behind [`AlreadyHashed`]: the number that is written is the hash.
#[derive(Default)]
pub struct PassThrough(u64);

impl Hasher for PassThrough {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Where a request comes from. Room is shared fairly between networks, and the room of one network between its usernames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Source {
    /// The network, as a keyed hash.
    pub network: u64,
    /// The username, as a keyed hash, or [`NO_NAME`].
    pub username: u64,
}

/// The username of nobody: a [`Source`] with it is a stranger.
pub const NO_NAME: u64 = 0;

impl Source {
    /// A stranger from the same network.
    pub const fn of_stranger(self) -> Self {
        Self { username: NO_NAME, ..self }
    }
}

/// The keys by which a `FairQueue` shares its room.
impl From<Source> for [u64; 2] {
    fn from(Source { network, username }: Source) -> Self {
        [network, username]
    }
}

/// Whom a question is about, as far as is needed to forget its verdict: keyed hashes, cut to what a slot of the cache has
/// room for. Where two names happen to share one, a verdict is forgotten that need not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct About {
    /// The username.
    pub username: u32,
    /// The client id; that of an empty one for a login, whose verdict goes by username and password.
    pub client_id: u32,
}

/// A username has so many shares of a full cache, and each of its client ids belongs to one of them.
const SHARES_OF_USERNAME: u64 = 2;

impl About {
    /// To whose share of a full cache its verdict counts. An account has as many client ids as it likes, so these have no
    /// shares of their own. Where devices have one username in common, one that fills its share takes that from half of the
    /// others only.
    pub fn sharer(self) -> Fingerprint {
        let part = u64::from(self.client_id) % SHARES_OF_USERNAME;
        Fingerprint(u64::from(self.username) * SHARES_OF_USERNAME + part, 0)
    }
}

/// Whose verdicts are forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Whose {
    /// Those about a username.
    Username(u32),
    /// Those about the topics of a client id.
    ClientId(u32),
    /// All.
    Everybody,
}

/// Bytes that are hashed in one go.
const SHORT: usize = 128;

/// Makes fingerprints with a key that is drawn at start and never leaves the process.
///
/// SipHash-1-3 with 128 bits of output. It is a keyed function, so that nobody without the key can search for two
/// questions with one fingerprint; with 128 bits no two meet by chance either.
#[derive(Clone, Copy)]
pub struct Fingerprinter(SipHasher13);

impl Fingerprinter {
    /// A fingerprinter with this key.
    pub fn with_key(key: &[u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(key))
    }

    /// The fingerprint of a question: of its kind of access and of every field of the request.
    #[inline]
    pub fn question(&self, question: &Question<'_>) -> Fingerprint {
        match *question {
            Question::Connect { username, password, more } => {
                self.with(self.credentials(username, password.as_bytes()), more)
            }
            Question::Access { username, client_id, topic, access, more } => self.with(
                self.fields(access.into(), [username.as_bytes(), client_id.as_bytes(), topic.as_bytes()]),
                more,
            ),
        }
    }

    /// The fingerprint of a question with further fields, by that of the question without them.
    #[inline]
    pub fn with(&self, contract: Fingerprint, more: &str) -> Fingerprint {
        if more.is_empty() {
            return contract;
        }
        let [first, second] = contract.words().map(u64::to_le_bytes);
        self.fields(Domain::MoreFields, [&first, &second, more.as_bytes()])
    }

    /// The fingerprint of the client that a question is about: of its username and, for a topic, its client id, which
    /// tells devices apart that share one username.
    pub fn client(&self, question: &Question<'_>) -> Fingerprint {
        let (username, client_id) = match *question {
            Question::Connect { username, .. } => (username, ""),
            Question::Access { username, client_id, .. } => (username, client_id),
        };
        self.fields(Domain::Client, [username.as_bytes(), client_id.as_bytes()])
    }

    /// The fingerprint of a username and a password of any bytes. For a password that is text, it is the fingerprint of
    /// the question about them, if that has no further fields.
    pub fn credentials(&self, username: &str, password: &[u8]) -> Fingerprint {
        self.fields(Domain::Credentials, [username.as_bytes(), password])
    }

    /// Whom a question is about.
    pub fn about(&self, question: &Question<'_>) -> About {
        let client_id = match *question {
            Question::Connect { .. } => "",
            Question::Access { client_id, .. } => client_id,
        };
        About { username: self.username(question.username()), client_id: self.client_id(client_id) }
    }

    /// A username, as [`About`] has it.
    pub fn username(&self, username: &str) -> u32 {
        self.fields(Domain::AccountName, [username.as_bytes()]).1 as u32
    }

    /// A client id, as [`About`] has it.
    pub fn client_id(&self, client_id: &str) -> u32 {
        self.fields(Domain::ClientName, [client_id.as_bytes()]).1 as u32
    }

    /// The source of a request. Without an address, each username counts as a network of its own.
    pub fn source(&self, address: Option<&str>, username: &str) -> Source {
        let username = self.fields(Domain::AccountName, [username.as_bytes()]).0;
        let network = |address| self.fields(Domain::Network, [network(address).as_bytes()]).0;
        Source { network: address.map_or(username, network), username }
    }

    /// The fingerprint of up to three fields within a domain. Their number and their lengths are hashed first, so that no
    /// two lists of fields give the same input, wherever one field ends and the next begins, and also where one of them
    /// is empty.
    pub fn fields<const N: usize>(&self, domain: Domain, fields: [&[u8]; N]) -> Fingerprint {
        const { assert!(N <= 3) };
        let mut hasher = self.0;
        // All share one word, since each word takes time: the length of an MQTT string has 16 bits. A length that does
        // not fit is 65535 here, and stands in full before its field.
        let in_head = |field: &[u8]| u16::try_from(field.len()).unwrap_or(u16::MAX);
        let lengths = fields.iter().rev().fold(0, |head, field| head << 16 | u64::from(in_head(field)));
        let head = (N as u64) << 56 | lengths << 8 | u64::from(domain as u8);
        // What is short is hashed in one go: each write has its own beginning and end.
        let mut short = [0; SHORT];
        let length = size_of_val(&head) + fields.iter().map(|field| field.len()).sum::<usize>();
        if length <= SHORT {
            let (place, mut rest) = short.split_at_mut(size_of_val(&head));
            place.copy_from_slice(&head.to_ne_bytes());
            for field in fields {
                let place;
                (place, rest) = rest.split_at_mut(field.len());
                place.copy_from_slice(field);
            }
            hasher.write(&short[..length]);
            let hash = hasher.finish128();
            return Fingerprint(hash.h1, hash.h2);
        }
        hasher.write_u64(head);
        for field in fields {
            if in_head(field) == u16::MAX {
                hasher.write_u64(field.len() as u64);
            }
            hasher.write(field);
        }
        let hash = hasher.finish128();
        Fingerprint(hash.h1, hash.h2)
    }
}

/// The network of an address, by which clients are counted: the first 64 bits of an IPv6 address, since one customer
/// has all addresses that begin with them; anything else as it is.
pub fn network(address: &str) -> Cow<'_, str> {
    match address.parse() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_none() => {
            Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).to_string().into()
        }
        _ => address.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::question::Access;
    use std::collections::{HashMap, HashSet};

    const KEY: [u8; 16] = *b"0123456789abcdef";

    #[test]
    fn every_cutting_of_the_same_text_stays_apart() {
        let keys = Fingerprinter::with_key(&KEY);
        let text = "a-b-c";
        let mut seen = HashMap::new();
        let mut note = |fingerprint: Fingerprint, what: String| {
            if let Some(other) = seen.insert(fingerprint, what.clone()) {
                panic!("{what} and {other} share a fingerprint");
            }
        };
        for i in 0..=text.len() {
            let (username, password) = text.split_at(i);
            note(
                keys.question(&Question::Connect { username, password, more: "" }),
                format!("{username}|{password}"),
            );
            for j in 0..=password.len() {
                let (client_id, topic) = password.split_at(j);
                for access in [Access::Read, Access::Write, Access::Subscribe] {
                    note(
                        keys.question(&Question::Access { username, client_id, topic, access, more: "" }),
                        format!("{username}|{client_id}|{topic}|{access}"),
                    );
                }
            }
        }
        for i in 0..=text.len() {
            let (password, more) = text.split_at(i);
            if !more.is_empty() {
                let question = Question::Connect { username: "u", password, more };
                note(keys.question(&question), format!("u|{password}, {more}"));
            }
        }
        // A key that joins fields with a dash would take `a-b` with `c` for `a` with `b-c`.
        let connect = |username, password| keys.question(&Question::Connect { username, password, more: "" });
        assert!(connect("a-b", "c") != connect("a", "b-c"));
    }

    #[test]
    fn a_username_has_few_shares_however_many_client_ids_it_has() {
        let keys = Fingerprinter::with_key(&KEY);
        let sharer = |username: &str, client_id: &str| {
            let question =
                Question::Access { username, client_id, topic: "t", access: Access::Read, more: "" };
            keys.about(&question).sharer().words()
        };
        let of = |username: &str| (0..100).map(|n| sharer(username, &n.to_string())).collect::<HashSet<_>>();
        let shares = [of("one"), of("another")];
        assert!(shares.iter().all(|shares| shares.len() == SHARES_OF_USERNAME as usize));
        assert!(shares[0].is_disjoint(&shares[1]));
        assert_eq!(sharer("one", "1"), sharer("one", "1"));
    }

    /// Which way a fingerprint is made does not show in it.
    #[test]
    fn what_is_hashed_in_one_go_is_hashed_as_in_several() {
        let keys = Fingerprinter::with_key(&KEY);
        let bytes: Vec<u8> = (0..=u8::MAX).collect();
        for (first, second) in (0..SHORT).flat_map(|first| [(first, 0), (first, 7), (first / 2, first)]) {
            let fields = [&bytes[..first], &bytes[first..first + second]];
            let mut hasher = keys.0;
            hasher.write_u64(2 << 56 | (second as u64) << 24 | (first as u64) << 8 | Domain::Client as u64);
            fields.into_iter().for_each(|field| hasher.write(field));
            let hash = hasher.finish128();
            assert!(keys.fields(Domain::Client, fields) == Fingerprint(hash.h1, hash.h2), "{first} {second}");
        }
    }

    #[test]
    fn fields_of_any_length_stay_apart() {
        let keys = Fingerprinter::with_key(&KEY);
        let long = usize::from(u16::MAX);
        let bytes = vec![0; 2 * long + 40];
        let mut seen = HashMap::new();
        for total in [long, long + 9, 2 * long + 40] {
            for first in (0..20).chain(long - 20..=long + 20).filter(|first| *first <= total) {
                let fields = [&bytes[..first], &bytes[first..total]];
                assert_eq!(seen.insert(keys.fields(Domain::Client, fields), (first, total)), None);
            }
        }
    }

    #[test]
    fn an_empty_field_is_not_the_lack_of_one() {
        let keys = Fingerprinter::with_key(&KEY);
        for bytes in [&b""[..], b"x", &[0; SHORT], &[0; 1 << 16]] {
            let client = Domain::Client;
            let all = [keys.fields(client, [bytes]), keys.fields(client, [bytes, b""])];
            assert!(all[0] != all[1]);
            assert!(!all.contains(&keys.fields(client, [bytes, b"", b""])));
            assert!(!all.contains(&keys.fields(client, [b"", bytes])) || bytes.is_empty());
        }
        assert!(keys.fields(Domain::Client, []) != keys.fields(Domain::Client, [b""]));
    }

    #[test]
    fn another_key_gives_other_fingerprints() {
        let question = Question::Connect { username: "u", password: "p", more: "" };
        let other = Fingerprinter::with_key(b"fedcba9876543210");
        assert!(Fingerprinter::with_key(&KEY).question(&question) != other.question(&question));
    }
}
