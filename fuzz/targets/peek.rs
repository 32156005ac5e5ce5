//! Bytes that clients have sent and the broker has not read: any bytes, cut anywhere.
#![no_main]

use std::time::Instant;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use mosquitto_http_auth::internals::{
    Access, Fingerprinter, Guess, Identity, Packet, Peeked, Unread, packets,
};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    cut: u16,
    level: Option<u8>,
    bytes: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let bytes = input.bytes;
    let part = &bytes[..usize::from(input.cut).min(bytes.len())];
    // More bytes add packets and change none.
    let whole = packets(bytes, input.level);
    assert!(whole.starts_with(&packets(part, input.level)));
    assert!(whole.len() <= bytes.len() / 2, "a packet has two bytes at least");
    for packet in &whole {
        check(packet, bytes);
    }

    // A client that is not known yet has the names of the CONNECT at the start, if that is complete.
    let connects = |bytes| match packets(bytes, None).first() {
        Some(Packet::Connect { client_id, username: Some(username), .. }) if !client_id.is_empty() => {
            Some(((*client_id).to_owned(), (*username).to_owned()))
        }
        _ => None,
    };
    let mut peeked = Peeked::new(Fingerprinter::with_key(&[7; 16]));
    for seen in [part, bytes] {
        let known = connects(seen);
        read(&mut peeked, seen, |identity| {
            let names = Some((identity.client_id.clone(), identity.username.clone()));
            assert_eq!(names, known, "{seen:?}");
        });
    }
    // A connection whose beginning was not seen has no known client.
    let mut stranger = Peeked::new(Fingerprinter::with_key(&[7; 16]));
    let starts_with_connect = bytes.first() == Some(&0x10);
    read(&mut stranger, bytes, |identity| assert!(starts_with_connect, "{identity:?}"));
});

fn read(peeked: &mut Peeked, bytes: &[u8], mut check: impl FnMut(&Identity)) {
    let (listener, port) = (0, Some(1883));
    let unread = Unread { descriptor: 9, listener, port, client: None, socket: Some(1), peer: None, bytes };
    for guess in peeked.read(unread, |_| None, Instant::now()) {
        match guess {
            Guess::Login { username, .. } => assert!(!username.is_empty()),
            Guess::Topic { identity, access, topic } => {
                assert!(!topic.is_empty());
                assert!(access == Access::Subscribe || !topic.contains(['+', '#']));
                check(&identity);
            }
        }
    }
}

/// Asserts that every text of a packet stands in the bytes, with its length in front.
fn check(packet: &Packet<'_>, bytes: &[u8]) {
    let stands = |text: &[u8]| {
        let length = u16::try_from(text.len()).expect("a length has 16 bits").to_be_bytes();
        let found = [length.as_slice(), text].concat();
        assert!(bytes.windows(found.len()).any(|window| window == found), "{packet:?}");
    };
    let texts: Vec<&str> = match packet {
        Packet::Connect { level, starts_clean, keepalive, client_id, username, password } => {
            assert!((3..=5).contains(level));
            let is_it = |window: &[u8]| {
                window[0] == *level
                    && (window[1] & 2 != 0) == *starts_clean
                    && window[2..] == keepalive.to_be_bytes()
            };
            assert!(bytes.windows(4).any(is_it), "{packet:?}");
            password.iter().for_each(|password| stands(password));
            [Some(*client_id), *username].into_iter().flatten().collect()
        }
        Packet::Subscribe(filters) => {
            assert!(!filters.is_empty());
            filters.clone()
        }
        Packet::Publish(topic) => vec![topic],
    };
    for text in texts {
        assert!(!text.contains('\0'));
        stands(text.as_bytes());
    }
}
