//! Peeking into the sockets of the broker's clients: without taking a byte, without waiting, and without
//! touching any other descriptor of the process.

use std::collections::HashSet;
use std::ffi::c_int;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use crate::lookahead::{PEEKED_BYTES, Unread};

/// Descriptors that are polled at once: a fraction of a millisecond.
const CHUNK: c_int = 1024;

/// A broker's listeners are among its first descriptors.
const FIRST: c_int = 256;

/// Where the last look into the sockets stopped, and what belongs to the broker.
#[derive(Default)]
pub(super) struct Sockets {
    next: c_int,
    /// `RLIMIT_NOFILE`: poll refuses to look at more than that at once. 0: not known yet.
    limit: c_int,
    /// The local ports on which this process listens; 0: a Unix socket.
    listeners: HashSet<u16>,
}

impl Sockets {
    /// Shows what waits unread in the sockets of clients, from where the last look stopped once around, but no
    /// longer than until `deadline`.
    pub(super) fn look(&mut self, deadline: Instant, mut see: impl FnMut(Unread<'_>)) {
        if self.listeners.is_empty() {
            self.limit = descriptor_limit();
            self.listeners = (0..FIRST).filter(|fd| is_listening(*fd)).filter_map(local_port).collect();
        }
        let start = self.next;
        let mut wrapped = false;
        while Instant::now() < deadline {
            let chunk = CHUNK.min(self.limit);
            let mut polled: Vec<libc::pollfd> = (self.next..self.next.saturating_add(chunk))
                .map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 })
                .collect();
            // SAFETY: the array is as long as said. A time-out of 0 never waits, and a number that is no
            // descriptor is reported as such.
            let ready = unsafe { libc::poll(polled.as_mut_ptr(), chunk.cast_unsigned().into(), 0) };
            let all_free = polled.iter().all(|entry| entry.revents & libc::POLLNVAL != 0);
            if ready < 0 || (all_free && wrapped) {
                self.next = 0;
                return;
            }
            for entry in polled
                .iter()
                // Reading from a broken connection would take its error away from the broker.
                .filter(|entry| entry.revents & (libc::POLLIN | libc::POLLERR) == libc::POLLIN)
            {
                if Instant::now() >= deadline {
                    self.next = entry.fd;
                    return;
                }
                self.peek(entry.fd, &mut see);
            }
            if all_free {
                // Descriptors are given out from the lowest: behind a gap this long there are no more.
                self.next = 0;
                wrapped = true;
            } else {
                self.next = self.next.saturating_add(chunk);
            }
            if wrapped && self.next >= start {
                return;
            }
        }
    }

    fn peek(&self, fd: c_int, see: &mut impl FnMut(Unread<'_>)) {
        // A client's socket is one that was accepted: its local port is a listener's. The API's and bridges'
        // connections have ports of their own.
        let Some(listener) = local_port(fd).filter(|port| self.listeners.contains(port)) else { return };
        if is_listening(fd) {
            return;
        }
        let mut bytes = [0u8; PEEKED_BYTES];
        // SAFETY: the buffer is as long as said; the flags keep the bytes in the socket and never wait.
        let length = unsafe {
            libc::recv(fd, bytes.as_mut_ptr().cast(), bytes.len(), libc::MSG_PEEK | libc::MSG_DONTWAIT)
        };
        if let Ok(length) = usize::try_from(length)
            && length > 0
        {
            see(Unread { listener, connection: cookie(fd), peer: peer(fd), bytes: &bytes[..length] });
        }
    }
}

fn descriptor_limit() -> c_int {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes to a struct on this stack.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    let current = c_int::try_from(limit.rlim_cur).unwrap_or(c_int::MAX);
    if result == 0 { current.max(1) } else { FIRST }
}

fn is_listening(fd: c_int) -> bool {
    let mut value: c_int = 0;
    let mut length: libc::socklen_t = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: value and length live on this stack and fit together. What is no socket is an error.
    let result = unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN, (&raw mut value).cast(), &raw mut length)
    };
    result == 0 && value != 0
}

/// The port of this end; 0 for a Unix socket with a path. `None` for what is no such socket.
fn local_port(fd: c_int) -> Option<u16> {
    let (address, length) = name_of(fd, libc::getsockname)?;
    if c_int::from(address.ss_family) == libc::AF_UNIX {
        // An unnamed one was not accepted by a listener.
        return (length as usize > size_of::<libc::sa_family_t>()).then_some(0);
    }
    inet(&address).map(|address| address.port())
}

/// The kernel's own number for a socket, which it gives to no other as long as it runs (Linux 4.12).
fn cookie(fd: c_int) -> Option<u64> {
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: value and length live on this stack and fit together.
    let result = unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_COOKIE, (&raw mut cookie).cast(), &raw mut length)
    };
    (result == 0).then_some(cookie)
}

/// The address of the other end.
fn peer(fd: c_int) -> Option<IpAddr> {
    inet(&name_of(fd, libc::getpeername)?.0).map(|address| address.ip())
}

type NameCall = unsafe extern "C" fn(c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> c_int;

fn name_of(fd: c_int, call: NameCall) -> Option<(libc::sockaddr_storage, libc::socklen_t)> {
    // SAFETY: all zeroes is a valid sockaddr_storage, which has room for every address; what is no socket is
    // an error.
    unsafe {
        let mut address: libc::sockaddr_storage = std::mem::zeroed();
        let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        (call(fd, (&raw mut address).cast(), &raw mut length) == 0).then_some((address, length))
    }
}

fn inet(address: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match c_int::from(address.ss_family) {
        libc::AF_INET => {
            // SAFETY: an address of this family is a sockaddr_in, and a sockaddr_storage is aligned for it.
            let v4 = unsafe { &*(&raw const *address).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddr::new(IpAddr::V4(ip), u16::from_be(v4.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: as above, with sockaddr_in6.
            let v6 = unsafe { &*(&raw const *address).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Some(SocketAddr::new(IpAddr::V6(ip), u16::from_be(v6.sin6_port)))
        }
        _ => None,
    }
}
