//! The packet of a client that the broker is at.
//!
//! The broker has read a packet whole before it asks about the first filter in it, so the rest is in no socket any more,
//! and no function of the broker shows it. It is found by what is in it: one word of the broker's record of the client is
//! the address of a body that holds the very filter that is asked about, and near that word stands how long the body is.
//!
//! What is found is asked about early. Where it is not found, the broker asks about one filter after the other.

use std::time::Instant;

use super::memory::{Record, Search};
use crate::broker::Connection;

/// How much of a body is read to tell whether it is the one: more than most are long.
const BEGINNING: usize = 4096;

/// How much of it is read in all: some thousand filters.
const LONGEST: usize = 256 << 10;

/// How much is read at once: less than a pipe holds.
const CHUNK: usize = 16 << 10;

/// How far behind the address the length stands at most. In 2.0.11 and 2.0.21 these are 20 bytes, in 2.1.2 12.
const NEAR: usize = 48;

/// Finds packets that the broker is at.
#[derive(Default)]
pub(in crate::ffi) struct InHand(Search);

impl InHand {
    /// The body of the packet of a client that the broker is at. `ends` says of bytes that may begin with it where it may
    /// end.
    pub(in crate::ffi) fn body(
        &mut self,
        connection: Connection,
        ends: &dyn Fn(&[u8]) -> Vec<usize>,
        now: Instant,
    ) -> Option<Vec<u8>> {
        self.0.find(connection, now, |record, place| body_at(record, place, ends))
    }
}

fn body_at(record: &Record<'_>, place: usize, ends: &dyn Fn(&[u8]) -> Vec<usize>) -> Option<Vec<u8>> {
    let address = record.address(place)?;
    let mut body = vec![0; BEGINNING];
    let mut read = record.pipe.read(address, &mut body);
    let lengths: Vec<usize> = (place + size_of::<usize>()..place + NEAR)
        .step_by(size_of::<u32>())
        .filter_map(|near| usize::try_from(record.number(near)?).ok())
        .collect();
    // Among them is how far the broker has read, which is the end of a filter, too. So the last end counts, and where the body
    // may be longer it is read on.
    let longest = lengths.iter().filter(|length| (BEGINNING..=LONGEST).contains(*length)).max();
    if let Some(&longest) = longest.filter(|_| read == BEGINNING) {
        body.resize(longest, 0);
        while read < longest {
            let chunk = record.pipe.read(address + read, &mut body[read..longest.min(read + CHUNK)]);
            if chunk == 0 {
                break;
            }
            read += chunk;
        }
    }
    let end = ends(&body[..read]).into_iter().rev().find(|end| lengths.contains(end))?;
    body.truncate(end);
    Some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record like the broker's, with the body's address and length somewhere between other words, and how far it has read.
    fn record(body: &[u64], place: usize, length: u32, position: u32) -> Box<[usize; 128]> {
        // As much as is searched: behind it there may be another one.
        let mut words = [0; 128];
        words[1] = 8; // no memory
        words[2] = usize::MAX;
        words[place] = body.as_ptr().expose_provenance();
        words[place + 2] = (length as usize) << 32 | position as usize;
        Box::new(words)
    }

    fn aligned(bytes: &[u8]) -> Vec<u64> {
        let mut body = vec![0u64; bytes.len() / 8 + 1];
        for (word, bytes) in body.iter_mut().zip(bytes.chunks(8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(padded);
        }
        body
    }

    /// Every byte `;` may be the last one, if they begin with these.
    fn ends(bytes: &[u8]) -> Vec<usize> {
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b';').map(|(at, _)| at + 1);
        if bytes.starts_with(b"body") { ends.collect() } else { Vec::new() }
    }

    #[test]
    fn a_body_is_found_by_what_is_in_it_and_by_its_length() {
        let now = Instant::now();
        for length in [10, 5_000, 100_000] {
            for place in [3, 7, 35] {
                let text = [&b"body;"[..], &vec![b'x'; length], b";x;and what lies behind;"].concat();
                let body = aligned(&text);
                let mut in_hand = InHand::default();
                let mut found = |length: usize, position: u32| {
                    let record = record(&body, place, u32::try_from(length).unwrap(), position);
                    let address = (&raw const *record).expose_provenance();
                    in_hand.body(address, &ends, now)
                };
                // The first `;` is also where the broker has read to.
                assert_eq!(found(length + 8, 5).as_deref(), Some(&text[..length + 8]));
                assert_eq!(found(length + 6, 5).as_deref(), Some(&text[..length + 6]));
                assert_eq!(found(length + 7, 1), None, "nothing ends there");
            }
        }
        assert_eq!(InHand::default().body(8, &ends, now), None, "no memory at all");
    }
}
