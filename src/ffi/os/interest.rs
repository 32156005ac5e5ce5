//! Which socket belongs to which client: the list of what the broker waits for, as the system shows it.
//!
//! The broker registers each client's socket in its one epoll instance together with its own pointer to that client,
//! the one that events carry. `/proc/self/fdinfo/N` shows all that is registered, in one consistent snapshot. Which `N`
//! is the broker's is proved by a client that is just logging in: only there its pointer is registered.
//!
//! All of this runs on the broker's thread. While it is in a callback, nothing is registered, closed or freed.

use std::ffi::c_int;
use std::fs::{self, File};
use std::io::{self, Read};
use std::time::{Duration, Instant};

use super::clock::worked;
use crate::broker::{Connection, Until};

/// The broker's epoll instance is among its first descriptors: it makes it when it starts.
const FIRST: c_int = 1024;

/// After a search for the broker's list that found nothing, the next one waits so long, and twice as long each time.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Searches in vain after which it is said: one or two may have met a client that was gone by then.
const SAID_AFTER: u32 = 5;

/// After the list was read only to tell whose sockets those are, pause so many times as long as that took, unless
/// there was time for it anyway: it uses a twentieth of the broker's time at most.
const PAUSE_FACTOR: u32 = 20;

/// Whether a client has a socket is asked on behalf of rights, so that this is told from a list that is nearly new: so
/// many times as old as reading it takes, which is a fifth of the broker's time at most.
const NEARLY_NEW: u32 = 4;

/// How long a line may tell whose socket it is. The number of an inode comes round after four thousand million others,
/// which takes much longer than this.
const OLD: Duration = Duration::from_secs(60);

/// One line of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Registered {
    descriptor: c_int,
    connection: Connection,
    /// The inode of the socket. Without it nobody is known by this line.
    inode: Option<u64>,
}

/// Reads a line such as `tfd: 7 events: 19 data: 55d0c8a4f2b0 pos:0 ino:5a3f sdev:8`, where `data` is the pointer.
fn registered(line: &[u8]) -> Option<Registered> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let mut behind = |label: &[u8]| if words.next()? == label { words.next() } else { None };
    let descriptor = std::str::from_utf8(behind(b"tfd:")?).ok()?.parse().ok()?;
    behind(b"events:")?;
    let connection = usize::try_from(hexadecimal(behind(b"data:")?)?).ok()?;
    let inode = words.find_map(|word| word.strip_prefix(b"ino:")).and_then(hexadecimal);
    Some(Registered { descriptor, connection, inode })
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The list, as far as it is known.
#[derive(Default)]
pub(in crate::ffi) struct Interest {
    /// The broker's epoll instance, once it is proved which one that is.
    epoll: Option<c_int>,
    search: Search,
    /// What was read, to be used again.
    text: Vec<u8>,
    /// Those whose sockets are known, by descriptor.
    sockets: Vec<Registered>,
    /// All that are registered, in order.
    connections: Vec<Connection>,
    /// Of each of these one line.
    lines: Vec<Registered>,
    /// When the list was read, if it is the broker's.
    read: Option<Instant>,
    /// How long this thread worked for that. A busy machine may take much longer, but it is not the list that keeps it.
    took: Duration,
    /// The list was read for the look that is going on.
    is_of_this_look: bool,
    /// While the list was read last for a look, the answer came that the look was to bridge.
    was_overtaken: bool,
    /// The list was read in this turn of the broker's loop, in which no socket can have come since.
    is_of_this_turn: bool,
}

/// The socket of a connection, as far as it can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ffi) enum Whereabouts {
    /// This descriptor.
    At(c_int),
    /// There is none, or it cannot be told.
    Unknown,
    /// The list is too old, and is not to be read again before this time.
    From(Instant),
}

/// How the search for the broker's list goes.
#[derive(Default)]
struct Search {
    in_vain: u32,
    next: Option<Instant>,
    is_said: bool,
}

impl Interest {
    /// A client logs in: its pointer tells which list is the broker's, if that is not known yet. Returns what there is
    /// to say in the log.
    pub(in crate::ffi) fn meet(&mut self, connection: Connection, now: Instant) -> Option<String> {
        if self.epoll.is_some() || self.search.next.is_some_and(|next| now < next) {
            return None;
        }
        let found = self.find(connection);
        if let Ok(Some(number)) = found {
            self.epoll = Some(number);
            return None;
        }
        let search = &mut self.search;
        search.next = Some(now + LONGEST_PAUSE.min(PAUSE * (1 << search.in_vain.min(6))));
        search.in_vain += 1;
        let why = match found {
            Err(error) => error.to_string(),
            Ok(_) if search.in_vain >= SAID_AFTER => "this broker has none".to_owned(),
            Ok(_) => return None,
        };
        (!std::mem::replace(&mut search.is_said, true)).then(|| {
            format!(
                "Cannot read which socket belongs to which client (the broker's epoll list in /proc/self/fdinfo): {why}. \
                 So fewer questions are asked ahead, more is kept of parked clients that have hung up, and on Mosquitto \
                 2.0 a local user's will that was held back (will delay) is not sent. It works with Linux 5.14 or \
                 later, with /proc mounted, and where AppArmor allows that file."
            )
        })
    }

    /// The epoll instance where this pointer is registered.
    fn find(&mut self, connection: Connection) -> io::Result<Option<c_int>> {
        fs::metadata("/proc/self/fd")?;
        for number in (0..FIRST).filter(|number| is_epoll(*number)) {
            match self.read(number) {
                // It was another thread's, which has closed it meanwhile.
                Err(_) if !is_epoll(number) => continue,
                read => read?,
            }
            if self.connections.binary_search(&connection).is_ok() {
                return Ok(Some(number));
            }
            self.read = None;
        }
        Ok(None)
    }

    /// A look into the sockets begins.
    pub(in crate::ffi) fn new_look(&mut self) {
        self.is_of_this_look = false;
    }

    /// Whose socket this is, if that can be told now: by a list that was read before, or by reading it, if that fits
    /// into the time that there is or has not been done for long.
    pub(in crate::ffi) fn client_of(&mut self, socket: c_int, until: Until<'_>) -> Option<Connection> {
        let epoll = self.epoll?;
        let inode = inode(socket)?;
        let now = Instant::now();
        let is_new_enough = |read: Instant| now.saturating_duration_since(read) < OLD;
        if self.read.is_some_and(is_new_enough)
            && let Some(connection) = self.known(socket, inode)
        {
            return Some(connection);
        }
        let has_rested = self.read.is_none_or(|read| now >= read + self.took * PAUSE_FACTOR);
        let fits = !self.was_overtaken && now + self.took <= until.deadline;
        if self.is_of_this_look || !(has_rested || fits) || (until.is_answered)() {
            return None;
        }
        self.is_of_this_look = true;
        self.read_again(epoll)?;
        self.was_overtaken = (until.is_answered)();
        self.known(socket, inode)
    }

    /// A turn of the broker's loop begins.
    pub(in crate::ffi) fn new_turn(&mut self) {
        self.is_of_this_turn = false;
    }

    /// The socket of a connection, beyond doubt: by a list that was read in this turn, so that no other connection can
    /// have got its number since. With `at_once` it is read although it has just been.
    pub(in crate::ffi) fn socket_of(&mut self, connection: Connection, at_once: bool) -> Whereabouts {
        let Some(epoll) = self.epoll else { return Whereabouts::Unknown };
        let next = self.read.map(|read| read + self.took * NEARLY_NEW);
        match next {
            Some(next) if !self.is_of_this_turn && !at_once && Instant::now() < next => {
                return Whereabouts::From(next);
            }
            _ if self.is_of_this_turn && self.read.is_some() => {}
            _ if self.read_again(epoll).is_none() => return Whereabouts::Unknown,
            _ => {}
        }
        self.descriptor_of(connection).map_or(Whereabouts::Unknown, Whereabouts::At)
    }

    /// All connections that had a socket at `since` or later. `None` also where the list is older and has just been read:
    /// whoever closes one connection after the other must not have it read each time.
    pub(in crate::ffi) fn connections_since(&mut self, since: Instant) -> Option<&[Connection]> {
        let epoll = self.epoll?;
        if let Some(read) = self.read.filter(|read| *read < since) {
            if read.elapsed() < self.took * NEARLY_NEW {
                return None;
            }
            self.read_again(epoll)?;
        }
        self.connections()
    }

    /// The socket of a client that is just logging in, if the list is new enough to have it or may be read again by now.
    pub(in crate::ffi) fn socket_of_newcomer(
        &mut self,
        connection: Connection,
        now: Instant,
    ) -> Option<c_int> {
        let epoll = self.epoll?;
        if let Some(socket) = self.descriptor_of(connection) {
            return Some(socket);
        }
        if self.read.is_some_and(|read| now < read + self.took * PAUSE_FACTOR) {
            return None;
        }
        self.read_again(epoll)?;
        self.descriptor_of(connection)
    }

    /// All connections that have a socket.
    pub(in crate::ffi) fn connections(&mut self) -> Option<&[Connection]> {
        let epoll = self.epoll?;
        if self.read.is_none_or(|read| read.elapsed() >= self.took * NEARLY_NEW) {
            self.read_again(epoll)?;
        }
        Some(&self.connections)
    }

    /// The descriptor of a connection's socket, if the list as it was read last has it.
    pub(in crate::ffi) fn descriptor_of(&self, connection: Connection) -> Option<c_int> {
        // A line holds as long as its socket is open, whoever had the connection's number before.
        let Registered { descriptor, inode: its_inode, .. } =
            self.lines[self.connections.binary_search(&connection).ok()?];
        (its_inode.is_some() && inode(descriptor) == its_inode).then_some(descriptor)
    }

    fn known(&self, socket: c_int, its_inode: u64) -> Option<Connection> {
        let place = self.sockets.binary_search_by_key(&socket, |it| it.descriptor).ok()?;
        let Registered { connection, inode, .. } = self.sockets[place];
        // The number of a descriptor may be another socket's by now.
        (inode == Some(its_inode)).then_some(connection)
    }

    fn read_again(&mut self, epoll: c_int) -> Option<()> {
        if is_epoll(epoll) && self.read(epoll).is_ok() {
            return Some(());
        }
        (self.epoll, self.read) = (None, None);
        None
    }

    /// Reads what is registered in an epoll instance.
    fn read(&mut self, epoll: c_int) -> io::Result<()> {
        let begun = worked();
        self.read = None;
        self.sockets.clear();
        let length = read_whole(&mut File::open(format!("/proc/self/fdinfo/{epoll}"))?, &mut self.text)?;
        self.sockets.extend(self.text[..length].split(|byte| *byte == b'\n').filter_map(registered));
        self.text.truncate(4 * length);
        self.text.shrink_to(4 * length);
        self.put_in_order();
        (self.read, self.took, self.is_of_this_turn) = (Some(Instant::now()), worked() - begun, true);
        Ok(())
    }

    /// Puts what was read in order, so that nothing is looked for among all of it.
    fn put_in_order(&mut self) {
        self.connections.clear();
        self.lines.clear();
        self.sockets.sort_unstable_by_key(|it| it.connection);
        // Of two sockets with one pointer one is a remainder, so neither is known by it.
        for same in self.sockets.chunk_by_mut(|one, other| one.connection == other.connection) {
            if same.len() > 1 {
                same.iter_mut().for_each(|it| it.inode = None);
            }
            self.connections.push(same[0].connection);
            self.lines.push(same[0]);
        }
        self.sockets.sort_unstable_by_key(|it| it.descriptor);
    }
}

/// Reads a file into a buffer, and says how long it is.
fn read_whole(file: &mut File, buffer: &mut Vec<u8>) -> io::Result<usize> {
    const LEAST: usize = 64 << 10;
    let mut length = 0;
    loop {
        if length == buffer.len() {
            buffer.resize(LEAST.max(2 * length), 0);
        }
        match file.read(&mut buffer[length..])? {
            0 => return Ok(length),
            read => length += read,
        }
    }
}

fn is_epoll(number: c_int) -> bool {
    fs::read_link(format!("/proc/self/fd/{number}"))
        .is_ok_and(|link| link.as_os_str() == "anon_inode:[eventpoll]")
}

/// The inode of a socket, or `None` if this is none.
fn inode(descriptor: c_int) -> Option<u64> {
    // SAFETY: all zeroes is a valid stat; it is written to on this stack, and what is no descriptor is an error.
    let (result, found) = unsafe {
        let mut found: libc::stat = std::mem::zeroed();
        (libc::fstat(descriptor, &raw mut found), found)
    };
    (result == 0 && found.st_mode & libc::S_IFMT == libc::S_IFSOCK).then_some(found.st_ino)
}

#[cfg(test)]
mod tests;
