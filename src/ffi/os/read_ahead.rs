//! What the broker has read of a client together with its CONNECT, and has not looked at yet.
//!
//! Mosquitto 2.1 reads whatever a socket has, up to its `packet_buffer_size`, into a buffer of the connection. So what a
//! client sends in one go with its CONNECT is in no socket any more when its login is decided, and no function of the
//! broker shows that buffer. It is found by what is in it: one word of the broker's record of the client is the address
//! of bytes that begin with this very CONNECT. Nothing is taken for granted of how the record is laid out. All of it is
//! read by the system, which says so where there is no memory instead of ending the process.
//!
//! What is found tells who is to be waited for, and decides nothing about rights. Where it is not found, the client
//! waits beside the loop like all others.
//!
//! All of this runs on the broker's thread.

use std::ffi::c_int;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::broker::Connection;

/// How much of a client's record is searched. In 2.1.2 the buffer's address stands in its first quarter.
const RECORD: usize = 1024;

/// How much of a buffer is read: as much as one of the size that brokers have unless they are told otherwise.
const BUFFER: usize = 4096;

/// The beginning that tells most words that are no address of a buffer.
const BEGINNING: usize = 16;

/// The smallest page of any system that this runs on; larger ones are multiples of it.
const PAGE: usize = 4096;

const CONNECT: u8 = 0x10;

/// After a search that found nothing the next one waits so long, and twice as long each time: such a broker keeps no
/// buffer, or this client's CONNECT came in pieces.
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Finds what was read ahead.
#[derive(Default)]
pub(in crate::ffi) struct ReadAhead {
    /// What memory is read through. `None` inside if the system gives none.
    pipe: Option<Option<Pipe>>,
    /// Where in the record the buffer's address stood last.
    place: Option<usize>,
    in_vain: u32,
    next: Option<Instant>,
}

impl ReadAhead {
    /// Whether the broker has read more of a client than its CONNECT. `length` says how long that is, where bytes begin
    /// with it.
    pub(in crate::ffi) fn has_more(
        &mut self,
        connection: Connection,
        length: &dyn Fn(&[u8]) -> Option<usize>,
        now: Instant,
    ) -> bool {
        let Some(pipe) = self.pipe.get_or_insert_with(Pipe::open) else { return false };
        let mut record = [0; RECORD];
        let known = pipe.read(connection, &mut record);
        let word = |place: usize| {
            let bytes = record[..known].get(place..place + size_of::<usize>())?;
            Some(usize::from_ne_bytes(bytes.try_into().ok()?))
        };
        let found = |place: usize| has_more_at(pipe, word(place)?, length);
        if let Some(place) = self.place
            && let Some(has_more) = found(place)
        {
            return has_more;
        }
        if self.next.is_some_and(|next| now < next) {
            return false;
        }
        for place in (0..RECORD).step_by(size_of::<usize>()) {
            if let Some(has_more) = found(place) {
                (self.place, self.in_vain, self.next) = (Some(place), 0, None);
                return has_more;
            }
        }
        self.next = Some(now + LONGEST_PAUSE.min(PAUSE * (1 << self.in_vain.min(13))));
        self.in_vain += 1;
        false
    }
}

/// Whether there is more than a CONNECT at an address, if that CONNECT is there.
fn has_more_at(pipe: &Pipe, address: usize, length: &dyn Fn(&[u8]) -> Option<usize>) -> Option<bool> {
    // What was allocated is aligned, and a process has its memory in the lower half.
    if address == 0 || !address.is_multiple_of(align_of::<usize>()) || address > usize::MAX / 2 {
        return None;
    }
    let mut bytes = [0; BUFFER];
    let beginning = pipe.read(address, &mut bytes[..BEGINNING]);
    if beginning < BEGINNING || bytes[0] != CONNECT {
        return None;
    }
    let read = pipe.read(address, &mut bytes);
    let length = length(&bytes[..read])?;
    // A new buffer is all zeroes, which begin no packet.
    Some(bytes[..read].get(length).is_some_and(|byte| byte >> 4 != 0))
}

/// A pipe, through which the system copies memory.
struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Pipe {
    fn open() -> Option<Self> {
        let mut ends: [c_int; 2] = [-1; 2];
        // SAFETY: writes two descriptors to an array of two.
        let result = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) };
        // SAFETY: both are open and nobody else's.
        (result == 0).then(|| unsafe {
            Self { reader: OwnedFd::from_raw_fd(ends[0]), writer: OwnedFd::from_raw_fd(ends[1]) }
        })
    }

    /// Copies memory of this process, as far as there is any at this address. Returns how many bytes there were.
    fn read(&self, address: usize, buffer: &mut [u8]) -> usize {
        let mut copied = 0;
        while copied < buffer.len() {
            // Memory begins and ends with a page, and the system copies all of a range or nothing.
            let Some(from) = address.checked_add(copied) else { break };
            let piece = (buffer.len() - copied).min(PAGE - from % PAGE);
            match self.read_within_page(from, &mut buffer[copied..copied + piece]) {
                0 => break,
                read => copied += read,
            }
        }
        copied
    }

    /// Copies memory that is all there or not at all.
    fn read_within_page(&self, address: usize, buffer: &mut [u8]) -> usize {
        let address: *const u8 = std::ptr::with_exposed_provenance(address);
        // SAFETY: the system reads at the address, and answers EFAULT if there is no memory. (Not by the C library's
        // function, in whose place a sanitizer would read there itself.)
        let written =
            unsafe { libc::syscall(libc::SYS_write, self.writer.as_raw_fd(), address, buffer.len()) };
        let Ok(written) = usize::try_from(written) else { return 0 };
        // SAFETY: the buffer is as long as was written, at least.
        let read = unsafe { libc::read(self.reader.as_raw_fd(), buffer.as_mut_ptr().cast(), written) };
        usize::try_from(read).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record like the broker's, with the buffer's address somewhere between other words.
    #[repr(C)]
    struct Record {
        words: [usize; 40],
    }

    fn record(buffer: &[u8], place: usize) -> Box<Record> {
        let mut words = [0; 40];
        words[1] = 8; // no memory
        words[2] = usize::MAX;
        words[3] = b"something else!!".as_ptr().expose_provenance() & !7;
        words[place] = buffer.as_ptr().expose_provenance();
        Box::new(Record { words })
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
                assert_eq!(ahead.place, Some(place * 8));
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

    #[test]
    fn memory_is_read_to_its_end() {
        let size = 2 * PAGE.max(usize::try_from(page_size()).unwrap());
        // SAFETY: new memory, of which the second half is given back at once; nobody else has either.
        let start = unsafe {
            let (protection, flags) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            let start = libc::mmap(std::ptr::null_mut(), size, protection, flags, -1, 0);
            assert_ne!(start, libc::MAP_FAILED);
            assert_eq!(libc::munmap(start.byte_add(size / 2), size / 2), 0);
            start
        };
        let end = start.expose_provenance() + size / 2;
        // SAFETY: the last bytes of the half that is still there.
        unsafe { start.cast::<u8>().add(size / 2 - LONG.len()).copy_from(LONG.as_ptr(), LONG.len()) };
        let pipe = Pipe::open().unwrap();
        let mut buffer = [0; BUFFER];
        assert_eq!(pipe.read(end - LONG.len(), &mut buffer), LONG.len());
        assert!(buffer.starts_with(LONG));
        assert_eq!(pipe.read(end, &mut buffer), 0);
        assert_eq!(pipe.read(usize::MAX, &mut buffer), 0);
        // What goes over the end of a page is read whole.
        let text: Vec<u8> = (0..4 * PAGE).map(|n| n as u8).collect();
        assert_eq!(pipe.read(text.as_ptr().expose_provenance() + 7, &mut buffer), BUFFER);
        assert_eq!(buffer[..], text[7..7 + BUFFER]);
        // SAFETY: mapped above, and used no more.
        unsafe { libc::munmap(start, size / 2) };
    }

    fn page_size() -> libc::c_long {
        // SAFETY: has no conditions.
        unsafe { libc::sysconf(libc::_SC_PAGESIZE) }
    }
}
