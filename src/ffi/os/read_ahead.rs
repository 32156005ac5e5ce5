//! What the broker has read of a client together with its CONNECT, and has not looked at yet.
//!
//! Mosquitto 2.1 reads whatever a socket has, up to its `packet_buffer_size`, into a buffer of the connection. So what a
//! client sends in one go with its CONNECT is in no socket any more when its login is decided, and no function of the
//! broker shows that buffer. It is found by what is in it: one word of the broker's record of the client is the address
//! of bytes that begin with this very CONNECT.
//!
//! What is found tells who is to be waited for. Where it is not found, the client waits beside the loop like all others.

use std::time::Instant;

use super::memory::{Record, Search};
use crate::broker::Connection;

/// How much of a buffer is read: as much as one of the size that brokers have unless they are told otherwise.
const BUFFER: usize = 4096;

/// The beginning that tells most words that are no address of a buffer.
const BEGINNING: usize = 16;

const CONNECT: u8 = 0x10;

/// Finds what was read ahead. After a search in vain it pauses: such a broker keeps no buffer, or this client's CONNECT
/// came in pieces.
#[derive(Default)]
pub(in crate::ffi) struct ReadAhead(Search);

impl ReadAhead {
    /// Whether the broker has read more of a client than its CONNECT. `length` says how long that is, where bytes begin
    /// with it.
    pub(in crate::ffi) fn has_more(
        &mut self,
        connection: Connection,
        length: &dyn Fn(&[u8]) -> Option<usize>,
        now: Instant,
    ) -> bool {
        let found = |record: &Record<'_>, place| has_more_at(record, place, length);
        self.0.find(connection, now, found).unwrap_or(false)
    }
}

/// Whether there is more than a CONNECT at the address at a place, if that CONNECT is there.
fn has_more_at(record: &Record<'_>, place: usize, length: &dyn Fn(&[u8]) -> Option<usize>) -> Option<bool> {
    let address = record.address(place)?;
    let mut bytes = [0; BUFFER];
    let beginning = record.pipe.read(address, &mut bytes[..BEGINNING]);
    if beginning < BEGINNING || bytes[0] != CONNECT {
        return None;
    }
    let read = record.pipe.read(address, &mut bytes);
    let length = length(&bytes[..read])?;
    // A new buffer is all zeroes, which begin no packet.
    Some(bytes[..read].get(length).is_some_and(|byte| byte >> 4 != 0))
}

#[cfg(test)]
mod tests {
    use super::super::memory::PAUSE;
    use super::*;

    /// A record like the broker's, with the buffer's address somewhere between other words.
    #[repr(C)]
    struct Memory {
        words: [usize; 40],
    }

    fn record(buffer: &[u8], place: usize) -> Box<Memory> {
        let mut words = [0; 40];
        words[1] = 8; // no memory
        words[2] = usize::MAX;
        words[3] = b"something else!!".as_ptr().expose_provenance() & !7;
        words[place] = buffer.as_ptr().expose_provenance();
        Box::new(Memory { words })
    }

    /// A buffer of the broker with these bytes in it.
    fn buffer(bytes: &[u8]) -> Vec<u64> {
        let mut buffer = vec![0u64; BUFFER / 8];
        for (word, bytes) in buffer.iter_mut().zip(bytes.chunks(8)) {
            let mut padded = [0; 8];
            padded[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(padded);
        }
        buffer
    }

    fn as_bytes(buffer: &[u64]) -> &[u8] {
        // SAFETY: the same memory.
        unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast(), size_of_val(buffer)) }
    }

    const LONG: &[u8] = b"\x10\x12a whole CONNECT...";

    #[test]
    fn what_was_read_with_the_connect_is_found_wherever_its_address_stands() {
        let length = |bytes: &[u8]| bytes.starts_with(LONG).then_some(LONG.len());
        for place in [0, 7, 39] {
            let mut ahead = ReadAhead::default();
            let now = Instant::now();
            for (rest, expected) in [(&b""[..], false), (b"\x30\x05\0\x01axx", true), (b"", false)] {
                let buffer = buffer(&[LONG, rest].concat());
                let record = record(as_bytes(&buffer), place);
                let address = (&raw const *record).expose_provenance();
                assert_eq!(ahead.has_more(address, &length, now), expected, "{place}");
                assert_eq!(ahead.0.place, Some(place * 8));
            }
        }
    }

    #[test]
    fn what_is_not_there_is_not_looked_for_all_the_time() {
        let mut ahead = ReadAhead::default();
        let now = Instant::now();
        let buffer = buffer(&[LONG, b"\xc0\0"].concat());
        let record = record(as_bytes(&buffer), 5);
        let address = (&raw const *record).expose_provenance();
        let asked = std::cell::Cell::new(0);
        let nobodys = |_: &[u8]| {
            asked.set(asked.get() + 1);
            None
        };
        assert!(!ahead.has_more(address, &nobodys, now));
        // The search goes beyond this record, to whatever other memory has the look of a CONNECT.
        let in_one_search = asked.get();
        assert!(in_one_search >= 1);
        for _ in 0..5 {
            assert!(!ahead.has_more(address, &nobodys, now));
        }
        assert_eq!(asked.get(), in_one_search);
        let length = |_: &[u8]| Some(LONG.len());
        assert!(!ahead.has_more(address, &length, now), "not yet");
        assert!(ahead.has_more(address, &length, now + PAUSE));
        // No memory at all.
        assert!(!ahead.has_more(8, &length, now + PAUSE));
    }
}
