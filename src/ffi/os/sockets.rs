//! Peeking into the sockets of the broker's clients: without taking a byte, without waiting, and without
//! touching any other descriptor of the process.

use std::ffi::c_int;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;
use std::slice;
use std::sync::LazyLock;
use std::time::Instant;

use super::interest::Interest;
use crate::broker::{Connection, HangUp, ListenAddress, Look, PEEKED_BYTES, Unread, Until};
use crate::util::Lock;

/// Descriptors that are polled at once: some ten microseconds, in which an answer may come.
const CHUNK: c_int = 256;

/// Descriptors are given out from the lowest: behind so many that are free there are no more.
const GAP: c_int = 1024;

/// A broker's listeners are among its first descriptors.
const FIRST: c_int = 256;

/// Descriptors among which a listener is looked for at the start: a few milliseconds.
const MOST: c_int = 4096;

/// Sockets that listen for this plugin, which is nothing for the broker: who connects there is no client. They belong to the
/// process, since each instance sees all of its sockets.
static OWN: LazyLock<Lock<Vec<RawFd>>> = LazyLock::new(Lock::default);

/// From now on, or until it is closed, this socket listens for the plugin.
pub(in crate::ffi) fn listens_for_plugin(socket: RawFd, listens: bool) {
    let mut own = OWN.lock();
    own.retain(|other| *other != socket);
    if listens {
        own.push(socket);
    }
}

/// Whether this process listens there.
pub(in crate::ffi) fn listens(place: ListenAddress<'_>) -> bool {
    let is_it = |end: End| match (place, end) {
        (ListenAddress::Tcp(address), End::Inet(own)) => own == address,
        (ListenAddress::Unix(path), End::Unix(own)) => {
            own.strip_suffix(b"\0").unwrap_or(&own) == path.as_os_str().as_encoded_bytes()
        }
        _ => false,
    };
    (0..descriptor_limit().min(MOST)).any(|fd| is_listening(fd) && own_end(fd).is_some_and(is_it))
}

/// Where the last look into the sockets stopped, and what belongs to the broker.
#[derive(Default)]
pub(in crate::ffi) struct Sockets {
    next: c_int,
    /// `RLIMIT_NOFILE`: poll refuses to look at more than that at once. 0: not known yet.
    limit: c_int,
    /// Where this process listens.
    listeners: Vec<End>,
    interest: Interest,
}

/// An end of a socket.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Inet(SocketAddr),
    /// By its path.
    Unix(Vec<u8>),
}

impl End {
    fn port(&self) -> Option<u16> {
        match self {
            End::Inet(address) => Some(address.port()),
            End::Unix(_) => None,
        }
    }

    /// Whether what is accepted where this one listens has `other` for its own end.
    fn accepts(&self, other: &End) -> bool {
        match (self, other) {
            (End::Inet(listener), End::Inet(other)) => {
                let is_any = listener.ip().is_unspecified() && listener.is_ipv4() == other.is_ipv4();
                listener.port() == other.port() && (is_any || listener.ip() == other.ip())
            }
            (listener, other) => listener == other,
        }
    }
}

/// A socket that a listener has accepted.
struct Accepted {
    /// Which of them, as an index.
    listener: u16,
    /// Its port, if it has one.
    port: Option<u16>,
    /// The address at the other end, where there is one.
    peer: Option<IpAddr>,
}

impl Sockets {
    /// A client logs in. Returns what there is to say in the log.
    pub(in crate::ffi) fn meet(&mut self, client: Connection, now: Instant) -> Option<String> {
        self.interest.meet(client, now)
    }

    /// All clients that have a socket, in order, if that can be told.
    pub(in crate::ffi) fn connections(&mut self) -> Option<&[Connection]> {
        self.interest.connections()
    }

    /// All clients that had a socket at `since` or later, in order, if that can be told.
    pub(in crate::ffi) fn connections_since(&mut self, since: Instant) -> Option<&[Connection]> {
        self.interest.connections_since(since)
    }

    /// A turn of the broker's loop begins.
    pub(in crate::ffi) fn new_turn(&mut self) {
        self.interest.new_turn();
    }

    /// Which socket belongs to which client.
    pub(in crate::ffi) fn interest(&mut self) -> &mut Interest {
        &mut self.interest
    }

    /// Shows what waits unread in the sockets of clients, once around, but no longer than is said.
    pub(in crate::ffi) fn look(&mut self, look: Look<'_>, mut see: impl FnMut(Unread<'_>)) {
        let Look { from, until, passes_over } = look;
        if self.listeners.is_empty() {
            self.limit = descriptor_limit();
            let own = OWN.lock().clone();
            let is_brokers = |fd: &c_int| is_listening(*fd) && !own.contains(fd);
            self.listeners = (0..FIRST).filter(is_brokers).filter_map(own_end).collect();
        }
        self.interest.new_look();
        self.next = from.unwrap_or(self.next);
        let start = self.next;
        let (mut wrapped, mut free) = (false, 0);
        while !until.is_over() {
            let chunk = CHUNK.min(self.limit);
            let mut polled: Vec<libc::pollfd> = (self.next..self.next.saturating_add(chunk))
                .map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 })
                .collect();
            // SAFETY: the array is as long as said. A time-out of 0 never waits, and a number that is no
            // descriptor is reported as such.
            let ready = unsafe { libc::poll(polled.as_mut_ptr(), chunk.cast_unsigned().into(), 0) };
            let all_free = polled.iter().all(|entry| entry.revents & libc::POLLNVAL != 0);
            free = if all_free { free + chunk } else { 0 };
            let is_end = free >= GAP.min(self.limit);
            if ready < 0 || (is_end && wrapped) {
                self.next = 0;
                return;
            }
            for entry in polled
                .iter()
                // Reading from a broken connection would take its error away from the broker.
                .filter(|entry| entry.revents & (libc::POLLIN | libc::POLLERR) == libc::POLLIN)
            {
                if passes_over(entry.fd) {
                    continue;
                }
                if until.is_over() {
                    self.next = entry.fd;
                    return;
                }
                self.peek(entry.fd, until, &mut see);
            }
            if is_end {
                (self.next, free) = (0, 0);
                wrapped = true;
            } else {
                self.next = self.next.saturating_add(chunk);
            }
            if wrapped && self.next >= start {
                return;
            }
        }
    }

    fn peek(&mut self, fd: c_int, until: Until<'_>, see: &mut impl FnMut(Unread<'_>)) {
        let Some(Accepted { listener, port, peer }) = self.accepted(fd) else { return };
        let mut bytes = [0u8; PEEKED_BYTES];
        // SAFETY: the buffer is as long as said; the flags keep the bytes in the socket and never wait.
        let length = unsafe {
            libc::recv(fd, bytes.as_mut_ptr().cast(), bytes.len(), libc::MSG_PEEK | libc::MSG_DONTWAIT)
        };
        if let Ok(length) = usize::try_from(length)
            && length > 0
        {
            let client = self.interest.client_of(fd, until);
            let (descriptor, socket) = (fd, cookie(fd));
            see(Unread { descriptor, listener, port, client, socket, peer, bytes: &bytes[..length] });
        }
    }

    /// What there is to say of a client's socket, which is one that a listener has accepted. The API's and bridges'
    /// connections begin elsewhere.
    fn accepted(&self, fd: c_int) -> Option<Accepted> {
        let own = own_end(fd)?;
        let listener = self.listeners.iter().position(|listener| listener.accepts(&own))?;
        let is_stream = option(fd, libc::SO_TYPE).map(c_int::from_ne_bytes) == Some(libc::SOCK_STREAM);
        // What listens has no other end.
        let (peer, _) = name_of(fd, libc::getpeername).filter(|_| is_stream)?;
        Some(Accepted {
            listener: u16::try_from(listener).ok()?,
            port: own.port(),
            peer: inet(&peer).map(|peer| peer.ip()),
        })
    }
}

/// Shuts a socket down, both ways: whatever is written to it from now on fails. It stays open, and the broker's to close.
pub(in crate::ffi) fn shut_down(socket: c_int) -> HangUp {
    // SAFETY: has no conditions.
    let result = unsafe { libc::shutdown(socket, libc::SHUT_RDWR) };
    if result == 0 { HangUp::Done } else { HangUp::Impossible }
}

/// Whether something waits unread in a client's socket, besides what says nothing: TLS's alerts, and the frames in which
/// websockets ping and close.
pub(in crate::ffi) fn has_unread(socket: c_int) -> bool {
    let mut first = 0u8;
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: writes one byte on this stack; the flags keep it in the socket and never wait.
    let length = unsafe { libc::recv(socket, (&raw mut first).cast(), 1, flags) };
    length == 1 && !matches!(first, 0x15 | 0x88..=0x8A)
}

fn descriptor_limit() -> c_int {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes to a struct on this stack.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    let current = c_int::try_from(limit.rlim_cur).unwrap_or(c_int::MAX);
    if result == 0 { current.max(1) } else { FIRST }
}

fn is_listening(fd: c_int) -> bool {
    option(fd, libc::SO_ACCEPTCONN).map(c_int::from_ne_bytes).is_some_and(|value| value != 0)
}

/// The kernel's own number for a socket, which it gives to no other as long as it runs (Linux 4.12).
fn cookie(fd: c_int) -> Option<u64> {
    option(fd, libc::SO_COOKIE).map(u64::from_ne_bytes)
}

/// What the system keeps with a socket, or `None` if this is none.
fn option<const BYTES: usize>(fd: c_int, name: c_int) -> Option<[u8; BYTES]> {
    let mut value = [0; BYTES];
    let mut length = BYTES as libc::socklen_t;
    // SAFETY: value and length live on this stack and fit together.
    let result =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, name, value.as_mut_ptr().cast(), &raw mut length) };
    (result == 0).then_some(value)
}

/// Where a socket is bound. `None` for an unnamed one, and for what is no socket.
fn own_end(fd: c_int) -> Option<End> {
    let (address, length) = name_of(fd, libc::getsockname)?;
    if c_int::from(address.ss_family) != libc::AF_UNIX {
        return inet(&address).map(End::Inet);
    }
    let bytes = (&raw const address).cast::<u8>();
    let length = size_of_val(&address).min(length as usize);
    // SAFETY: the address is as long as that.
    let path = unsafe { slice::from_raw_parts(bytes, length) }.get(size_of::<libc::sa_family_t>()..)?;
    (!path.is_empty()).then(|| End::Unix(path.to_vec()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::time::Duration;

    /// A look that knows these listeners.
    fn sockets(listeners: &[&dyn AsRawFd]) -> Sockets {
        let listeners = listeners.iter().map(|it| own_end(it.as_raw_fd()).expect("an end")).collect();
        Sockets { listeners, ..Sockets::default() }
    }

    fn listener(sockets: &Sockets, socket: &dyn AsRawFd) -> Option<u16> {
        sockets.accepted(socket.as_raw_fd()).map(|accepted| accepted.listener)
    }

    fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(listener.local_addr().expect("address")).expect("connection");
        (client, listener.accept().expect("accepted").0)
    }

    #[test]
    fn what_a_listener_has_accepted_is_a_clients() {
        let all = TcpListener::bind("0.0.0.0:0").expect("port");
        let one = TcpListener::bind("127.0.0.1:0").expect("port");
        let sockets = sockets(&[&all, &one]);
        for (n, listening) in [&all, &one].into_iter().enumerate() {
            let (client, accepted) = pair(listening);
            assert_eq!(listener(&sockets, &accepted), u16::try_from(n).ok());
            let port = listening.local_addr().expect("address").port();
            assert_eq!(sockets.accepted(accepted.as_raw_fd()).and_then(|it| it.port), Some(port));
            assert_eq!(listener(&sockets, &client), None);
        }
        assert_eq!((listener(&sockets, &all), listener(&sockets, &one)), (None, None));
    }

    #[test]
    fn a_port_alone_makes_no_client() {
        let listening = TcpListener::bind("127.0.0.1:0").expect("port");
        let port = listening.local_addr().expect("address").port();
        let sockets = sockets(&[&listening]);
        let datagrams = UdpSocket::bind(("127.0.0.1", port)).expect("the same port of UDP");
        datagrams.connect("127.0.0.1:9").expect("UDP");
        assert_eq!(listener(&sockets, &datagrams), None);
        // The same port of another address.
        let elsewhere = TcpListener::bind(("127.0.0.2", port)).expect("port");
        let (_client, accepted) = pair(&elsewhere);
        assert_eq!(listener(&sockets, &accepted), None);
    }

    #[test]
    fn a_unix_socket_is_known_by_its_path() {
        let folder = tempfile::tempdir().expect("folder");
        let listen = |name| UnixListener::bind(folder.path().join(name)).expect("socket");
        let (own, other) = (listen("own"), listen("other"));
        let sockets = sockets(&[&own]);
        let connect = |name| UnixStream::connect(folder.path().join(name)).expect("connection");
        let (_clients, accepted) = ([connect("own"), connect("other")], [own.accept(), other.accept()]);
        let accepted = accepted.map(|accepted| accepted.expect("accepted").0);
        assert_eq!(accepted.each_ref().map(|socket| listener(&sockets, socket)), [Some(0), None]);
        assert!(sockets.accepted(accepted[0].as_raw_fd()).is_some_and(|it| it.port.is_none()));
        // Neither a pair of sockets without a name nor one that is not bound to anything.
        let (left, _right) = UnixStream::pair().expect("pair");
        let unbound =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("socket");
        assert_eq!((listener(&sockets, &left), listener(&sockets, &unbound)), (None, None));
    }

    #[test]
    fn what_is_passed_over_is_not_looked_at() {
        let listening = TcpListener::bind("127.0.0.1:0").expect("port");
        let accepted: Vec<_> = (0..3)
            .map(|_| {
                let (mut client, accepted) = pair(&listening);
                client.write_all(b"x").expect("sent");
                accepted.peek(&mut [0]).expect("it has come");
                (client, accepted)
            })
            .collect();
        let mut all: Vec<_> = accepted.iter().map(|(_, socket)| socket.as_raw_fd()).collect();
        all.sort_unstable();
        let seen = |known: &[RawFd]| -> Vec<RawFd> {
            let mut sockets = Sockets { limit: descriptor_limit(), ..sockets(&[&listening]) };
            let until = Until { deadline: Instant::now() + Duration::from_secs(10), is_answered: &|| false };
            let look = Look { from: Some(all[1]), until, passes_over: &|socket| known.contains(&socket) };
            let mut seen = Vec::new();
            sockets.look(look, |unread| seen.push(unread.descriptor));
            seen.retain(|socket| all.contains(socket));
            seen.sort_unstable();
            seen.dedup(); // Where it began is seen once more at the end.
            seen
        };
        assert_eq!(seen(&[]), all);
        assert_eq!(seen(&[all[1]]), [all[0], all[2]]);
        assert!(seen(&all).is_empty());
    }
}
