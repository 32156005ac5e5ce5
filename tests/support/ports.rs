//! Loopback ports for the servers of a test program.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::process;
use std::sync::{Mutex, PoisonError};

use socket2::{Domain, Socket, Type};

/// The first port that tests use. All of them are below the kernel's range for outgoing connections
/// (`ip_local_port_range`), so that a port stays free while its server is stopped, and no client connects to itself.
const FIRST: u16 = 16_000;
const BLOCKS: u16 = 160;
const BLOCK_SIZE: u16 = 100;

static PORTS: Mutex<Ports> = Mutex::new(Ports { claims: Vec::new(), left: 0..0 });

/// A loopback port on which nothing listens, and which no other test program gets while this one runs.
pub fn free_port() -> u16 {
    PORTS.lock().unwrap_or_else(PoisonError::into_inner).next_free()
}

/// The blocks of ports that this program has claimed. Test programs that run side by side claim different blocks.
struct Ports {
    /// A listener on the first port of each claimed block, which keeps other programs out of it.
    claims: Vec<TcpListener>,
    left: Range<u16>,
}

impl Ports {
    fn next_free(&mut self) -> u16 {
        loop {
            match self.left.next() {
                Some(port) if is_free(port) => return port,
                Some(_taken) => {}
                None => self.claim_block(),
            }
        }
    }

    fn claim_block(&mut self) {
        let start = (process::id() % u32::from(BLOCKS)) as u16;
        let mut firsts = (0..BLOCKS).map(|step| FIRST + (start + step) % BLOCKS * BLOCK_SIZE);
        let (first, claim) = firsts
            .find_map(|first| Some((first, TcpListener::bind(loopback(first)).ok()?)))
            .expect("a free block of ports");
        self.claims.push(claim);
        self.left = first + 1..first + BLOCK_SIZE;
    }
}

/// Whether nothing listens on a port. This binds the port but does not listen on it: a child process that another
/// thread starts meanwhile keeps this socket open until it runs its program, and a listening one would block the port.
fn is_free(port: u16) -> bool {
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).and_then(|socket| {
        socket.set_reuse_address(true)?;
        socket.bind(&loopback(port).into())
    });
    bound.is_ok()
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
