//! A name server on a loopback address of its own, and a way to have brokers ask only this one.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{self, Command};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Setup;

/// How the name server answers every question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// With this address, whatever the name.
    Address(Ipv4Addr),
    /// With this address, after some time.
    After(Duration, Ipv4Addr),
    /// With this address, if the name is this one; there is no other.
    Only(&'static str, Ipv4Addr),
    /// With this address, whatever the name, and never to questions about IPv6.
    NothingAboutIpv6(Ipv4Addr),
    /// That there is no such name.
    NoSuchName,
    /// Never.
    Silence,
    /// With bytes that are not a DNS answer.
    Garbage,
}

/// Starts a program for which `resolv.conf` and `hosts` in its folder are those of the system.
pub const OWN_FILES: [&str; 6] = [
    "unshare",
    "-m",
    "sh",
    "-c",
    "mount --bind resolv.conf /etc/resolv.conf && mount --bind hosts /etc/hosts && exec \"$@\"",
    "sh",
];

/// A running name server. It speaks UDP only, and its answers may not be cached.
pub struct NameServer {
    address: Ipv4Addr,
    lookup: Arc<Mutex<Lookup>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Starts a name server. That takes root: for port 53, and for brokers with a `/etc/resolv.conf` of their own.
    /// Elsewhere it prints so and returns `None`, and the test has nothing to show.
    pub fn start(lookup: Lookup) -> Option<Self> {
        let can_mount = Command::new("unshare").args(["-m", "true"]).output();
        if !can_mount.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: unshare(1) gives no mount namespace here");
            return None;
        }
        let (address, socket) = loop {
            let address = free_address();
            match UdpSocket::bind((address, 53)) {
                Ok(socket) => break (address, socket),
                Err(error) if error.kind() == ErrorKind::AddrInUse => {}
                Err(error) => {
                    eprintln!("skipped: no port 53 to be had on {address} ({error})");
                    return None;
                }
            }
        };
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let lookup = Arc::new(Mutex::new(lookup));
        let stopping = Arc::new(AtomicBool::new(false));
        let (current, stop) = (Arc::clone(&lookup), Arc::clone(&stopping));
        let thread = thread::spawn(move || serve(&socket, &current, &stop));
        Some(Self { address, lookup, stopping, thread: Some(thread) })
    }

    /// Sets how questions are answered from now on.
    pub fn answer(&self, lookup: Lookup) {
        *self.lookup.lock().unwrap() = lookup;
    }

    /// The text of a resolv.conf that names this server.
    pub fn resolv_conf(&self) -> String {
        format!("nameserver {}\n", self.address)
    }

    /// Has a broker ask this server for all names, by a file `resolv.conf` in its folder.
    pub fn serves(&self, setup: Setup) -> Setup {
        self.serves_with_hosts(setup, "127.0.0.1 localhost\n")
    }

    /// Has a broker ask this server for all names but those in `hosts`, by the files `resolv.conf` and `hosts` in its
    /// folder.
    pub fn serves_with_hosts(&self, setup: Setup, hosts: &str) -> Setup {
        setup.file("resolv.conf", self.resolv_conf()).file("hosts", hosts).launched_by(&OWN_FILES)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A loopback address that other test programs probably do not use.
fn free_address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = process::id().wrapping_mul(101).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
    let [_, _, high, low] = number.to_be_bytes();
    Ipv4Addr::new(127, 53, high, low.clamp(1, 254))
}

fn serve(socket: &UdpSocket, lookup: &Mutex<Lookup>, stopping: &AtomicBool) {
    let mut question = [0; 512];
    while !stopping.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut question) else { continue };
        let question = question[..length].to_vec();
        let send = |socket: &UdpSocket, answer: Option<Vec<u8>>| {
            let _ = answer.map(|answer| socket.send_to(&answer, from)); // fails if the asking side has gone
        };
        let current = *lookup.lock().unwrap();
        match current {
            Lookup::Address(address) => send(socket, reply(&question, Some(address))),
            Lookup::After(delay, address) => {
                let socket = socket.try_clone().unwrap();
                let answer = reply(&question, Some(address));
                thread::spawn(move || {
                    thread::sleep(delay);
                    let _ = answer.map(|answer| socket.send_to(&answer, from));
                });
            }
            Lookup::Only(name, address) => {
                send(socket, reply(&question, (name_in(&question) == name).then_some(address)));
            }
            Lookup::NothingAboutIpv6(_) if question.ends_with(&AAAA_IN) => {}
            Lookup::NothingAboutIpv6(address) => send(socket, reply(&question, Some(address))),
            Lookup::NoSuchName => send(socket, reply(&question, None)),
            Lookup::Silence => {}
            Lookup::Garbage => send(socket, Some(b"\xff\xff this is no answer \x00".to_vec())),
        }
    }
}

/// The end of a question about IPv6: type AAAA, class IN.
const AAAA_IN: [u8; 4] = [0, 28, 0, 1];

/// The length of what comes before the question itself.
const HEADER: usize = 12;

/// The name that is asked about, with dots.
fn name_in(question: &[u8]) -> String {
    let mut rest = question.get(HEADER..).unwrap_or_default();
    let mut labels = Vec::new();
    while let Some((length @ 1..=63, after)) = rest.split_first() {
        let Some((label, after)) = after.split_at_checked(usize::from(*length)) else { break };
        labels.push(String::from_utf8_lossy(label));
        rest = after;
    }
    labels.join(".")
}

/// The answer to a question of one name (RFC 1035, section 4): an IPv4 address, no IPv6 address, or no such name.
fn reply(question: &[u8], address: Option<Ipv4Addr>) -> Option<Vec<u8>> {
    const A: [u8; 2] = [0, 1];
    let name_length = question.get(HEADER..)?.iter().position(|byte| *byte == 0)? + 1;
    let asked = question.get(HEADER..HEADER + name_length + 4)?;
    let address = address.map(|address| (address, asked[name_length..][..2] == A));
    let code = if address.is_some() { 0x80 } else { 0x83 };
    let answers = u8::from(matches!(address, Some((_, true))));
    let mut reply = vec![question[0], question[1], 0x81, code, 0, 1, 0, answers, 0, 0, 0, 0];
    reply.extend_from_slice(asked);
    if let Some((address, true)) = address {
        // The name of the question, type A, class IN, a lifetime of 0, four bytes.
        reply.extend([0xc0, HEADER as u8, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        reply.extend(address.octets());
    }
    Some(reply)
}
