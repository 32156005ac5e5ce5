//! The broker's memory, as far as it has to be looked at where no function of the broker shows what is there. All of it
//! is read by the system, which says so where there is no memory instead of ending the process. Nothing is taken for
//! granted of how the broker's records are laid out: what is looked for is known by what is in it.
//!
//! What is found here decides nothing about rights. All of this runs on the broker's thread.

use std::ffi::c_int;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::broker::Connection;

/// How much of a client's record is searched. In 2.1.2 what is looked for stands in its first quarter.
pub(super) const RECORD: usize = 1024;

/// The smallest page of any system that this runs on; larger ones are multiples of it.
const PAGE: usize = 4096;

/// After a search that found nothing the next one waits so long, and twice as long each time: it is not there, or this
/// client is an exception.
pub(super) const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A search for one word of clients' records: the address of something.
#[derive(Default)]
pub(super) struct Search {
    /// What memory is read through. `None` inside if the system gives none.
    pipe: Option<Option<Pipe>>,
    /// Where in the record the word stood last.
    pub(super) place: Option<usize>,
    in_vain: u32,
    next: Option<Instant>,
}

/// The record of one client, as it was copied.
pub(super) struct Record<'a> {
    bytes: &'a [u8],
    /// What other memory is read through.
    pub(super) pipe: &'a Pipe,
}

impl Record<'_> {
    /// The number at a place.
    pub(super) fn number(&self, place: usize) -> Option<u32> {
        let bytes = self.bytes.get(place..place + size_of::<u32>())?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    }

    /// The address at a place, if it may be one of allocated memory: that is aligned, and in the lower half.
    pub(super) fn address(&self, place: usize) -> Option<usize> {
        let bytes = self.bytes.get(place..place + size_of::<usize>())?;
        let address = usize::from_ne_bytes(bytes.try_into().ok()?);
        let may_be = address != 0 && address.is_multiple_of(align_of::<usize>()) && address <= usize::MAX / 2;
        may_be.then_some(address)
    }
}

impl Search {
    /// What `found` finds at the word's place in this client's record, or else at any place.
    pub(super) fn find<T>(
        &mut self,
        connection: Connection,
        now: Instant,
        found: impl Fn(&Record<'_>, usize) -> Option<T>,
    ) -> Option<T> {
        let pipe = self.pipe.get_or_insert_with(Pipe::open).as_ref()?;
        let mut bytes = [0; RECORD];
        let known = pipe.read(connection, &mut bytes);
        let record = Record { bytes: &bytes[..known], pipe };
        if let Some(place) = self.place
            && let Some(it) = found(&record, place)
        {
            return Some(it);
        }
        if self.next.is_some_and(|next| now < next) {
            return None;
        }
        for place in (0..RECORD).step_by(size_of::<usize>()) {
            if let Some(it) = found(&record, place) {
                (self.place, self.in_vain, self.next) = (Some(place), 0, None);
                return Some(it);
            }
        }
        self.next = Some(now + LONGEST_PAUSE.min(PAUSE * (1 << self.in_vain.min(13))));
        self.in_vain += 1;
        None
    }
}

/// A pipe, through which the system copies memory.
pub(super) struct Pipe {
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
    pub(super) fn read(&self, address: usize, buffer: &mut [u8]) -> usize {
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

    const LONG: &[u8] = b"some bytes at the very end";

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
        let mut buffer = [0; PAGE];
        assert_eq!(pipe.read(end - LONG.len(), &mut buffer), LONG.len());
        assert!(buffer.starts_with(LONG));
        assert_eq!(pipe.read(end, &mut buffer), 0);
        assert_eq!(pipe.read(usize::MAX, &mut buffer), 0);
        // What goes over the end of a page is read whole.
        let text: Vec<u8> = (0..4 * PAGE).map(|n| n as u8).collect();
        assert_eq!(pipe.read(text.as_ptr().expose_provenance() + 7, &mut buffer), PAGE);
        assert_eq!(buffer[..], text[7..7 + PAGE]);
        // SAFETY: mapped above, and used no more.
        unsafe { libc::munmap(start, size / 2) };
    }

    fn page_size() -> libc::c_long {
        // SAFETY: has no conditions.
        unsafe { libc::sysconf(libc::_SC_PAGESIZE) }
    }
}
