//! The way to an API, step by step: its name, a connection, TLS.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::cause::tls_cause;
use crate::config::{ApiUrl, Config};

/// How long a look-up is waited for. What takes longer than the plugin's time is said, and how much longer.
const LONGEST_LOOK_UP: Duration = Duration::from_secs(15);

/// How long a TLS handshake is waited for.
const LONGEST_HANDSHAKE: Duration = Duration::from_secs(10);

/// A way that was gone to its end.
#[derive(Debug, Default)]
pub struct Reached {
    /// The addresses of its name and how long the look-up took, where there is a name.
    pub looked_up: Option<(Vec<IpAddr>, Duration)>,
    /// How long the connection took, and to what it leads.
    pub connected: (String, Duration),
    /// The version of TLS and how long its handshake took, where there is TLS.
    pub tls: Option<(String, Duration)>,
}

/// The step that failed, and why.
#[derive(Debug)]
pub enum Trouble {
    /// The name has no address, or cannot be looked up.
    Name(String),
    /// There is no connection.
    Connection(String),
    /// The two do not agree on TLS.
    Tls(String),
}

/// Goes the way to an API.
///
/// # Errors
/// The first step that fails.
pub fn reach(api: &ApiUrl, config: &Config, tls: &ClientConfig) -> Result<Reached, Trouble> {
    let mut reached = Reached::default();
    let began = Instant::now();
    if let Some(socket) = &api.socket {
        UnixStream::connect(socket)
            .map_err(|cause| Trouble::Connection(format!("the socket {}: {cause}", socket.display())))?;
        reached.connected = (socket.display().to_string(), began.elapsed());
        return Ok(reached);
    }
    let host = api.url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = api.url.port_or_known_default().unwrap_or(80);
    let addresses = look_up(&host, port).map_err(Trouble::Name)?;
    if let Some(name) = api.name() {
        if addresses.is_empty() {
            return Err(Trouble::Name(format!("the name {name} has no address")));
        }
        reached.looked_up = Some((addresses.iter().map(SocketAddr::ip).collect(), began.elapsed()));
    }
    let (mut stream, address, took) = connect(&addresses, config.connect_timeout)?;
    reached.connected = (address.to_string(), took);
    if api.url.scheme() == "https" {
        reached.tls = Some(shake_hands(&mut stream, &host, &api.shown(), tls)?);
    }
    Ok(reached)
}

/// The addresses of a name, by the system's own resolver, which cannot be told how long it may take.
fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let (sender, receiver) = mpsc::channel();
    let wanted = host.to_owned();
    thread::spawn(move || {
        sender.send((wanted.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>))
    });
    match receiver.recv_timeout(LONGEST_LOOK_UP) {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(cause)) => Err(format!("the name {host} cannot be looked up ({cause})")),
        Err(_) => Err(format!("the name {host} was not looked up within {LONGEST_LOOK_UP:?}")),
    }
}

fn connect(addresses: &[SocketAddr], limit: Duration) -> Result<(TcpStream, SocketAddr, Duration), Trouble> {
    let mut failures = Vec::new();
    for address in addresses {
        let began = Instant::now();
        match TcpStream::connect_timeout(address, limit) {
            Ok(stream) => return Ok((stream, *address, began.elapsed())),
            Err(cause) if cause.kind() == ErrorKind::TimedOut => {
                failures.push(format!("{address}: no connection within {limit:?} (connect_timeout)"));
            }
            Err(cause) => failures.push(format!("{address}: {cause}")),
        }
    }
    Err(Trouble::Connection(failures.join("; ")))
}

fn shake_hands(
    stream: &mut TcpStream,
    host: &str,
    shown: &str,
    tls: &ClientConfig,
) -> Result<(String, Duration), Trouble> {
    let began = Instant::now();
    let failed = |cause: io::Error| {
        Trouble::Tls(match tls_cause(&cause, shown) {
            Some(words) => words,
            None if cause.kind() == ErrorKind::UnexpectedEof => {
                "the API hung up in the TLS handshake; does it speak TLS on this port?".to_owned()
            }
            None if matches!(cause.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                "nothing came back in the TLS handshake; does the API speak TLS on this port?".to_owned()
            }
            None => cause.to_string(),
        })
    };
    stream.set_read_timeout(Some(LONGEST_HANDSHAKE)).map_err(failed)?;
    stream.set_write_timeout(Some(LONGEST_HANDSHAKE)).map_err(failed)?;
    let name = ServerName::try_from(host.to_owned()).map_err(|cause| Trouble::Tls(cause.to_string()))?;
    let mut connection = ClientConnection::new(Arc::new(tls.clone()), name)
        .map_err(|cause| Trouble::Tls(cause.to_string()))?;
    while connection.is_handshaking() {
        connection.complete_io(stream).map_err(failed)?;
    }
    let version =
        connection.protocol_version().map(|version| format!("{version:?}").replace("TLSv1_", "TLS 1."));
    Ok((version.unwrap_or_default(), began.elapsed()))
}
