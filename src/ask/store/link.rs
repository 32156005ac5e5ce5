//! A connection to one server: name look-up, TCP, TLS, and then the protocol.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, RedisConnectionInfo, RedisError, Value};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use crate::ask::resolver::Resolver;
use crate::config::{SharedCacheUrl, address};

/// A future without the type of what it is made of. Those of the client crate nest so deep that compiling all that waits
/// for them would take minutes.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Bytes that may come for one command. Whoever can write the store could otherwise fill the broker's memory.
const LONGEST_REPLY: usize = 16 << 20;

/// How servers are reached.
#[derive(Clone)]
pub struct Way {
    /// Where.
    pub url: SharedCacheUrl,
    /// Whom to trust and what to show.
    pub tls: Arc<ClientConfig>,
    /// Looks names up.
    pub resolver: Resolver,
    /// How long a connection may take.
    pub connect_timeout: Duration,
}

/// A connection over which commands are sent without waiting for one another. It is closed when it is dropped.
pub struct Link {
    connection: MultiplexedConnection,
    driver: AbortHandle,
    /// Bytes that may still come.
    room: Arc<AtomicUsize>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Link {
    /// Connects to a server, and logs in there unless it is `anonymous`. Takes no longer than the way says.
    ///
    /// # Errors
    /// Why there is no connection, in words for the operator.
    pub async fn open(way: &Way, (host, port): (&str, u16), anonymous: bool) -> Result<Self, String> {
        let began = Instant::now();
        let opening: Boxed<'_, _> = Box::pin(Self::open_at_leisure(way, host, port, anonymous));
        let opened = tokio::time::timeout(way.connect_timeout, opening).await;
        opened
            .unwrap_or_else(|_| {
                way.resolver.distrust(host, began);
                Err(format!("no connection within {:?}", way.connect_timeout))
            })
            .map_err(|why| format!("{}: {why}", address(host, port)))
    }

    async fn open_at_leisure(way: &Way, host: &str, port: u16, anonymous: bool) -> Result<Self, String> {
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => way.resolver.addresses(host).await?,
        };
        let began = Instant::now();
        let mut stream = Err("there is no address of this name".to_owned());
        let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        for address in addresses {
            // One that hangs leaves time for the others.
            let limit = way.connect_timeout.saturating_sub(began.elapsed()) / left;
            left -= 1;
            stream = match tokio::time::timeout(limit, TcpStream::connect((address, port))).await {
                Ok(connected) => connected.map_err(|error| error.to_string()),
                Err(_) => Err(format!("no connection within {limit:?}")),
            };
            if stream.is_ok() {
                break;
            }
        }
        let stream = stream.inspect_err(|_| way.resolver.distrust(host, began))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        if !way.url.tls {
            return Self::over(stream, way, anonymous).await;
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(Arc::clone(&way.tls)).connect(name, stream).await;
        Self::over(stream.map_err(|error| error.to_string())?, way, anonymous).await
    }

    async fn over<S>(stream: S, way: &Way, anonymous: bool) -> Result<Self, String>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut info = RedisConnectionInfo::default().set_skip_set_lib_name();
        if !anonymous {
            info = info.set_db(i64::from(way.url.database));
            if let Some(username) = &way.url.username {
                info = info.set_username(username);
            }
            if let Some(password) = &way.url.password {
                info = info.set_password(password);
            }
        }
        let room = Arc::new(AtomicUsize::new(LONGEST_REPLY));
        let stream = Bounded { stream, room: Arc::clone(&room) };
        // Whoever asks says how long.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let opened = MultiplexedConnection::new_with_config(&info, stream, config).await;
        let (connection, driver) = opened.map_err(|error| cause(&error))?;
        Ok(Self { connection, driver: tokio::spawn(driver).abort_handle(), room })
    }

    /// Sends a command. Those that are sent in one turn of the thread go in one packet.
    ///
    /// # Errors
    /// The server's, or that of the connection.
    pub fn ask<'a>(&self, command: &'a Cmd) -> Boxed<'a, Result<Value, RedisError>> {
        self.room.store(LONGEST_REPLY, Ordering::Relaxed);
        let mut connection = self.connection.clone();
        Box::pin(async move { connection.send_packed_command(command).await?.extract_error() })
    }
}

/// Why a command failed, in words for the log and without any part of the command.
pub fn cause(error: &RedisError) -> String {
    if error.kind() == ErrorKind::AuthenticationFailed {
        return "the server takes no such user or password".to_owned();
    }
    let said = match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(code), None) => code.to_owned(),
        _ => error.to_string(),
    };
    // A server repeats the arguments of a command that it does not know.
    let said = said.split(", with args").next().unwrap_or_default();
    said.chars().filter(|letter| !letter.is_control()).take(200).collect()
}

/// A stream that fails when more comes than there is room for.
struct Bounded<S> {
    stream: S,
    room: Arc<AtomicUsize>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let read = buffer.filled().len() - before;
        let room = self.room.load(Ordering::Relaxed);
        if read > room {
            return Poll::Ready(Err(io::Error::other("the answer of the store is too long")));
        }
        self.room.store(room - read, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The name or address of a server, as another one tells it: none is longer.
pub(super) fn host_name(told: &[u8]) -> Option<String> {
    const LONGEST: usize = 255;
    String::from_utf8(told.to_owned()).ok().filter(|host| host.len() <= LONGEST)
}
