use super::*;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use proptest::prelude::*;

/// An epoll instance such as a broker has.
struct Epoll(OwnedFd);

impl Epoll {
    fn new() -> Self {
        // SAFETY: a new descriptor, which nobody else has.
        Self(unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(0)) })
    }

    /// Registers a socket of a client.
    fn add(&self, socket: &impl AsRawFd, client: Connection) {
        let events = libc::EPOLLIN.cast_unsigned();
        let mut event = libc::epoll_event { events, u64: u64::try_from(client).unwrap() };
        let epoll = self.0.as_raw_fd();
        // SAFETY: two descriptors that are open, and an event on this stack.
        let result =
            unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &raw mut event) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
    }
}

/// Sockets, both ends of each.
fn sockets<const N: usize>() -> [(UnixStream, UnixStream); N] {
    [(); N].map(|()| UnixStream::pair().unwrap())
}

fn now() -> Instant {
    Instant::now()
}

fn within_a_second(is_answered: &dyn Fn() -> bool) -> Until<'_> {
    Until { deadline: now() + Duration::from_secs(1), is_answered }
}

fn client_of(interest: &mut Interest, socket: &impl AsRawFd) -> Option<Connection> {
    interest.new_look();
    interest.client_of(socket.as_raw_fd(), within_a_second(&|| false))
}

#[test]
fn a_socket_is_known_by_what_it_is_registered_with() {
    let (other, own) = (Epoll::new(), Epoll::new());
    let pairs = sockets::<3>();
    other.add(&pairs[0].0, 0xA0);
    own.add(&pairs[0].0, 0xB0);
    own.add(&pairs[1].0, usize::MAX);
    let mut interest = Interest::default();
    assert_eq!(client_of(&mut interest, &pairs[0].0), None, "it has met nobody");
    assert_eq!(interest.meet(0xB0, now()), None);
    let clients = pairs.each_ref().map(|(socket, _)| client_of(&mut interest, socket));
    assert_eq!(clients, [Some(0xB0), Some(usize::MAX), None]);
    assert_eq!(interest.connections(), Some(&[0xB0, usize::MAX][..]));
}

#[test]
fn the_number_of_a_descriptor_goes_to_another_socket() {
    let epoll = Epoll::new();
    let [(first, _end), (second, _other_end)] = sockets();
    epoll.add(&first, 71);
    let mut interest = Interest::default();
    interest.meet(71, now());
    assert_eq!(client_of(&mut interest, &first), Some(71));
    // SAFETY: both are open; the first becomes the second, and is closed once.
    assert!(unsafe { libc::dup2(second.as_raw_fd(), first.as_raw_fd()) } >= 0);
    assert_eq!(client_of(&mut interest, &first), None);
    epoll.add(&first, 72);
    assert_eq!(client_of(&mut interest, &first), Some(72));
}

#[test]
fn of_two_sockets_with_one_pointer_neither_is_known() {
    let epoll = Epoll::new();
    let pairs = sockets::<3>();
    pairs.iter().zip([7, 8, 7]).for_each(|((socket, _), client)| epoll.add(socket, client));
    let mut interest = Interest::default();
    interest.meet(8, now());
    let clients = pairs.each_ref().map(|(socket, _)| client_of(&mut interest, socket));
    assert_eq!(clients, [None, Some(8), None]);
    assert_eq!(interest.connections(), Some(&[7, 8][..]), "they are there all the same");
}

#[test]
fn who_has_gone_has_no_socket() {
    let epoll = Epoll::new();
    let [(one, _end), (other, _other_end)] = sockets();
    // Numbers of its own, since the lists of tests that run beside it are in the same process.
    epoll.add(&one, 31);
    epoll.add(&other, 32);
    let mut interest = Interest::default();
    interest.meet(31, now());
    drop(one);
    interest.took = Duration::ZERO;
    assert_eq!(interest.connections(), Some(&[32][..]));
}

#[test]
fn where_there_is_no_list_that_is_said_once() {
    let mut interest = Interest::default();
    let (mut now, mut lines) = (now(), Vec::new());
    for _ in 0..20 {
        lines.extend(interest.meet(0xDEAD, now));
        assert_eq!(interest.meet(0xDEAD, now), None, "there is a pause between two searches");
        now += LONGEST_PAUSE;
    }
    assert_eq!(lines.len(), 1);
    assert!(lines[0].contains("this broker has none"), "{}", lines[0]);
    assert_eq!(interest.connections(), None);
}

#[test]
fn a_list_that_is_gone_is_looked_for_again() {
    let mut interest = Interest::default();
    let [(socket, _end)] = sockets();
    for client in [1, 2] {
        let epoll = Epoll::new();
        epoll.add(&socket, client);
        interest.meet(client, now());
        assert_eq!(interest.connections(), Some(&[client][..]));
        drop(epoll);
        interest.took = Duration::ZERO;
        assert_eq!(interest.connections(), None);
    }
}

#[test]
fn reading_takes_a_part_of_the_time() {
    let epoll = Epoll::new();
    let [(one, _end), (other, _other_end)] = sockets();
    epoll.add(&one, 81);
    let mut interest = Interest::default();
    interest.meet(81, now());
    epoll.add(&other, 82);
    interest.took = Duration::from_secs(3600);
    assert_eq!(client_of(&mut interest, &other), None, "there is no time");
    assert_eq!(client_of(&mut interest, &one), Some(81), "that was known");
    assert_eq!(interest.connections(), Some(&[81][..]), "nearly new");
    interest.took = Duration::ZERO;
    assert_eq!(client_of(&mut interest, &other), Some(82));
}

/// Reading takes longer than the API, so it is done when there has been time for it.
#[test]
fn what_answers_overtake_is_not_read_for_each_of_them() {
    let epoll = Epoll::new();
    let pairs = sockets::<4>();
    epoll.add(&pairs[0].0, 91);
    let mut interest = Interest::default();
    interest.meet(91, now());
    interest.took = Duration::ZERO;
    let find = |interest: &mut Interest, number: usize, answered_after: u32| {
        let left = std::cell::Cell::new(answered_after);
        let is_answered = || left.replace(left.get().saturating_sub(1)) == 0;
        interest.new_look();
        interest.client_of(pairs[number].0.as_raw_fd(), within_a_second(&is_answered))
    };
    epoll.add(&pairs[1].0, 92);
    assert_eq!(find(&mut interest, 1, 0), None, "the answer is there");
    assert_eq!(find(&mut interest, 1, 1), Some(92), "it comes meanwhile");
    epoll.add(&pairs[2].0, 93);
    interest.took = Duration::from_millis(100);
    assert_eq!(find(&mut interest, 2, 9), None, "it would come meanwhile");
    interest.took = Duration::ZERO;
    assert_eq!(find(&mut interest, 2, 9), Some(93), "there has been time");
    epoll.add(&pairs[3].0, 94);
    interest.took = Duration::from_millis(100);
    assert_eq!(find(&mut interest, 3, 9), Some(94), "it was in time the last time");
}

/// Whoever closes one connection after the other must not have the list read each time.
#[test]
fn who_had_a_socket_since_a_moment_is_told_when_it_is_time() {
    let epoll = Epoll::new();
    let [(one, _end), (other, _other_end)] = sockets();
    epoll.add(&one, 41);
    let mut interest = Interest::default();
    assert_eq!(interest.connections_since(now()), None, "no list is known");
    interest.meet(41, now());
    let read = interest.read.unwrap();
    assert_eq!(interest.connections_since(read), Some(&[41][..]));
    epoll.add(&other, 42);
    interest.took = Duration::from_secs(3600);
    assert_eq!(interest.connections_since(now()), None, "it is too early to read again");
    assert_eq!(interest.read, Some(read));
    assert_eq!(interest.connections_since(read), Some(&[41][..]), "what was read before still tells that");
    interest.took = Duration::ZERO;
    assert_eq!(interest.connections_since(now()), Some(&[41, 42][..]));
}

/// Whoever is hung up on by its number must be the one who is meant.
#[test]
fn a_socket_is_told_beyond_doubt_only_by_a_list_of_this_turn() {
    let epoll = Epoll::new();
    let [(one, _end), (other, _other_end), (third, _third_end)] = sockets();
    epoll.add(&one, 51);
    let mut interest = Interest::default();
    assert_eq!(interest.socket_of(51, true), Whereabouts::Unknown, "no list is known");
    interest.meet(51, now());
    let at = |socket: &UnixStream| Whereabouts::At(socket.as_raw_fd());
    assert_eq!(interest.socket_of(51, false), at(&one));
    assert_eq!(interest.socket_of(52, false), Whereabouts::Unknown);
    // In the next turn the number may be somebody else's.
    interest.new_turn();
    // SAFETY: both are open; the first becomes the third, and is closed once.
    assert!(unsafe { libc::dup2(third.as_raw_fd(), one.as_raw_fd()) } >= 0);
    epoll.add(&other, 51);
    interest.took = Duration::from_secs(3600);
    assert!(matches!(interest.socket_of(51, false), Whereabouts::From(time) if time > now()));
    assert_eq!(interest.socket_of(51, true), at(&other));
    interest.new_turn();
    interest.took = Duration::ZERO;
    assert_eq!(interest.socket_of(51, false), at(&other));
    // The descriptor has become another socket since the list was read.
    // SAFETY: as above.
    assert!(unsafe { libc::dup2(third.as_raw_fd(), other.as_raw_fd()) } >= 0);
    assert_eq!(interest.socket_of(51, false), Whereabouts::Unknown);
}

#[test]
fn of_two_sockets_with_one_pointer_nobody_is_hung_up_on() {
    let epoll = Epoll::new();
    let pairs = sockets::<2>();
    pairs.iter().for_each(|(socket, _)| epoll.add(socket, 107));
    let mut interest = Interest::default();
    interest.meet(107, now());
    assert_eq!(interest.socket_of(107, true), Whereabouts::Unknown);
}

/// All who are parked may be refused in one turn.
#[test]
fn a_socket_is_not_looked_for_among_all() {
    const CLIENTS: usize = 30_000;
    let epoll = Epoll::new();
    let mut interest =
        Interest { epoll: Some(epoll.0.as_raw_fd()), read: Some(now()), ..Interest::default() };
    // Descriptors that nobody has, in another order than the connections.
    let line = |connection| Registered {
        descriptor: 1_000_000 + (CLIENTS - connection) as c_int,
        connection,
        inode: Some(1),
    };
    interest.sockets = (0..CLIENTS).map(line).collect();
    interest.put_in_order();
    interest.is_of_this_turn = true;
    let begun = Instant::now();
    for connection in 0..CLIENTS {
        assert_eq!(interest.socket_of(connection, true), Whereabouts::Unknown);
        assert_eq!(interest.descriptor_of(connection), None);
    }
    // Some 50 ms without optimisation. If each were looked for among all it would be many seconds.
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn the_socket_of_a_newcomer_takes_a_part_of_the_time() {
    let epoll = Epoll::new();
    let [(one, _end), (other, _other_end)] = sockets();
    epoll.add(&one, 61);
    let mut interest = Interest::default();
    interest.meet(61, now());
    epoll.add(&other, 62);
    interest.took = Duration::from_secs(3600);
    assert_eq!(interest.socket_of_newcomer(61, now()), Some(one.as_raw_fd()));
    assert_eq!(interest.socket_of_newcomer(62, now()), None, "there is no time");
    interest.took = Duration::ZERO;
    assert_eq!(interest.socket_of_newcomer(62, now()), Some(other.as_raw_fd()));
}

const LINE: &str = "tfd:       12 events:       19 data:     55d0c8a4f2b0  pos:0 ino:5a3f sdev:8";

#[test]
fn lines_are_read_as_the_system_writes_them() {
    let read = |line: &str| registered(line.as_bytes()).map(|it| (it.descriptor, it.connection, it.inode));
    assert_eq!(read(LINE), Some((12, 0x55d0_c8a4_f2b0, Some(0x5a3f))));
    assert_eq!(read("tfd: 5 events: 80000019 data: ffffffffffffffff"), Some((5, usize::MAX, None)));
    for other in
        ["pos:\t0", "flags:\t02", "ino:\t1057", "", "tfd: x events: 1 data: 1", "tfd: 1 events: 1 data:"]
    {
        assert_eq!(read(other), None, "{other}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_taken(line in prop::collection::vec(any::<u8>(), 0..200)) {
        registered(&line);
    }

    #[test]
    fn damaged_lines_are_taken(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut line = LINE.as_bytes().to_vec();
        for (index, byte) in damage {
            let index = index.index(line.len());
            line[index] = byte;
        }
        registered(&line[..cut.index(line.len())]);
    }

    #[test]
    fn what_is_written_is_read(descriptor: u16, connection: usize, inode: u64) {
        let descriptor = c_int::from(descriptor);
        let line = format!("tfd: {descriptor:8} events: {:8x} data: {connection:16x}  pos:0 ino:{inode:x} sdev:8", 25);
        prop_assert_eq!(registered(line.as_bytes()), Some(Registered { descriptor, connection, inode: Some(inode) }));
    }
}

/// Prints what reading the list costs, and sees that it grows no faster than the list.
#[test]
#[ignore = "measures, and takes thousands of descriptors"]
#[allow(clippy::print_stderr, reason = "what it measures is read by people")]
fn how_long_reading_takes() {
    let times = [500usize, 5_000].map(|count| {
        let epoll = Epoll::new();
        let pairs: Vec<_> = (0..count).map(|_| UnixStream::pair().unwrap()).collect();
        let ends = pairs.iter().flat_map(|(one, other)| [one, other]);
        ends.enumerate().for_each(|(number, socket)| epoll.add(socket, number + 1));
        let mut interest = Interest::default();
        interest.meet(1, now());
        let read = |_| {
            interest.read(epoll.0.as_raw_fd()).unwrap();
            assert_eq!(interest.connections.len(), 2 * count);
            interest.took
        };
        let took = (0..20).map(read).min().unwrap();
        eprintln!("{} sockets: {took:?}", 2 * count);
        took
    });
    assert!(times[1] < 30 * times[0], "{times:?}");
}
