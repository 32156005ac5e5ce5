//! Those who have connected to the admin listener: few at once, each for a short time and one request.

use std::collections::VecDeque;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener as TokioTcpListener, UnixListener as TokioUnixListener};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::http::{Door, Site, answer};
use crate::util::Lock;

/// Connections at once: those of a few operators and of Prometheus, which keep none, with room for some that hang. With two
/// buffers and a body each they take some 3 MB.
const MOST: usize = 64;

/// How long a request's head may take.
const HEAD_WITHIN: Duration = Duration::from_secs(5);

/// How long a connection may last: the head, the body, the broker's thread, and the answer.
const LASTS: Duration = Duration::from_secs(20);

/// Bytes of a request's head and of what is read of its body at a time: those of browsers take some 2 KB.
const BUFFER: usize = 16 * 1024;

/// Headers of a request: browsers send some twenty, and proxies add a few.
const HEADERS: usize = 64;

/// After an error such as too many open files.
const PAUSE: Duration = Duration::from_millis(200);

/// A socket that is about to be served.
pub enum Accepting {
    /// At an address.
    Tcp(TcpListener),
    /// At a path, which this shows.
    Unix(UnixListener, String),
}

/// The connections that are open, to all places together.
#[derive(Default)]
pub struct Connections(Lock<VecDeque<Open>>);

struct Open {
    task: AbortHandle,
    /// Whether it has shown that it may steer.
    is_trusted: Arc<AtomicBool>,
}

impl Connections {
    /// Whether there is room for one more. If not, the oldest goes that has not shown that it may steer: whoever holds
    /// connections open keeps nobody out.
    fn make_room(&self) -> bool {
        let mut open = self.0.lock();
        open.retain(|other| !other.task.is_finished());
        if open.len() < MOST {
            return true;
        }
        let oldest = open.iter().position(|other| !other.is_trusted.load(Ordering::Relaxed));
        let Some(oldest) = oldest.and_then(|oldest| open.remove(oldest)) else { return false };
        oldest.task.abort();
        true
    }

    fn begin(
        &self,
        site: &Arc<Site>,
        door: Door,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) {
        if !self.make_room() {
            return;
        }
        let is_trusted = Arc::new(AtomicBool::new(false));
        let (site, door, trusted) = (Arc::clone(site), Arc::new(door), Arc::clone(&is_trusted));
        let serve = async move {
            let each = service_fn(move |request| {
                answer(request, Arc::clone(&site), Arc::clone(&door), Arc::clone(&trusted))
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_WITHIN)
                .max_buf_size(BUFFER)
                .max_headers(HEADERS)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), each);
            // Whatever goes wrong with a connection is the matter of whoever opened it.
            let _ = timeout(LASTS, connection).await;
        };
        let task = tokio::spawn(serve).abort_handle();
        self.0.lock().push_back(Open { task, is_trusted });
    }
}

/// Serves those who come, for as long as the plugin's thread runs.
pub async fn accept(accepting: Accepting, connections: Arc<Connections>, site: Arc<Site>) {
    match accepting {
        Accepting::Tcp(listener) => {
            let Ok(listener) = TokioTcpListener::from_std(listener) else { return };
            loop {
                match listener.accept().await {
                    Ok((stream, from)) => connections.begin(&site, Door::Tcp { from }, stream),
                    Err(_) => sleep(PAUSE).await,
                }
            }
        }
        Accepting::Unix(listener, path) => {
            let Ok(listener) = TokioUnixListener::from_std(listener) else { return };
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let user = stream.peer_cred().ok().map(|of| of.uid());
                        let path = format!("unix:{path}");
                        connections.begin(&site, Door::Unix { user, path }, stream);
                    }
                    Err(_) => sleep(PAUSE).await,
                }
            }
        }
    }
}
