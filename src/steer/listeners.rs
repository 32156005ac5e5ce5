//! The sockets of the admin listener: opened while the broker starts, so that one that is taken is a clear error.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use socket2::{Domain, SockAddr, Socket, Type};

use super::connections::{Accepting, Connections, accept};
use super::http::Site;
use crate::broker::ListenAddress;
use crate::config::ListenAt;
use crate::log::Level;
use crate::plugin::Steering;

/// Connections that may wait to be accepted, in the system's memory: as many as may be open.
const BACKLOG: i32 = 64;

/// Who may open a Unix socket: the broker's user and its group.
const MODE: u32 = 0o660;

/// Something that runs on the plugin's own thread.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A place where the plugin listens. Dropping it gives the place back, once nothing runs on the plugin's thread any more.
pub struct Bound {
    /// Until it is served.
    waiting: Option<Accepting>,
    socket: RawFd,
    /// The path of a Unix socket, and the number of its inode: what stands there later may be somebody else's.
    path: Option<(PathBuf, u64)>,
    steering: Arc<Steering>,
}

impl Bound {
    fn new(
        waiting: Accepting,
        socket: RawFd,
        path: Option<(PathBuf, u64)>,
        steering: &Arc<Steering>,
    ) -> Self {
        steering.broker().listens_for_plugin(socket, true);
        Self { waiting: Some(waiting), socket, path, steering: Arc::clone(steering) }
    }

    /// What serves those who come, once.
    pub fn accept(&mut self, connections: &Arc<Connections>, site: &Arc<Site>) -> Option<Task> {
        let accepting = self.waiting.take()?;
        Some(Box::pin(accept(accepting, Arc::clone(connections), Arc::clone(site))))
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.steering.broker().listens_for_plugin(self.socket, false);
        if let Some((path, inode)) = &self.path
            && fs::symlink_metadata(path).is_ok_and(|found| found.ino() == *inode)
        {
            // It is only tidier without it: the next start removes a socket that nobody listens at.
            let _ = fs::remove_file(path);
        }
    }
}

/// Begins to listen. `None` if another copy of the plugin in this process does so there already, which the log says.
///
/// # Errors
/// Why that is impossible, in words for the operator.
pub fn bind(at: &ListenAt, steering: &Arc<Steering>) -> Result<Option<Bound>, String> {
    let (bound, place) = match at {
        ListenAt::Tcp(address) => {
            if !address.ip().is_loopback() {
                steering.log().warn(&format!(
                    "admin_listen {address} can be reached from other machines, and is not encrypted: whoever can listen \
                     on the way learns the token. Prefer 127.0.0.1 and a proxy with TLS, or an SSH tunnel, in front of it."
                ));
            }
            let listener = TcpListener::bind(address).and_then(|listener| {
                listener.set_nonblocking(true)?;
                Ok(listener)
            });
            let bound = listener.map(|listener| {
                let socket = listener.as_raw_fd();
                Bound::new(Accepting::Tcp(listener), socket, None, steering)
            });
            (bound, ListenAddress::Tcp(*address))
        }
        ListenAt::Unix(path) => (unix(path, steering), ListenAddress::Unix(path)),
    };
    let error = match bound {
        Ok(bound) => {
            steering.log().write(Level::Notice, format!("Admin listener at {at}."));
            return Ok(Some(bound));
        }
        Err(error) => error,
    };
    if error.kind() == io::ErrorKind::AddrInUse && steering.broker().listens(place) {
        steering.log().warn(&format!(
            "admin_listen {at}: another copy of the plugin, or a listener of this broker, is there already. This copy cannot \
             be seen or steered there: give it a place of its own."
        ));
        return Ok(None);
    }
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => "another program is there; expected a port or path that is free",
        io::ErrorKind::AddrNotAvailable => "this machine does not have the address; expected one that it has",
        io::ErrorKind::PermissionDenied => {
            "the broker's user may not listen there; expected a port from 1024 on, or a socket in a folder of its own"
        }
        io::ErrorKind::NotFound => "there is no such folder",
        _ => "expected a free address and port, or a path for a socket",
    };
    Err(format!("plugin_opt_admin_listen: cannot listen at {at} ({error}): {hint}"))
}

fn unix(path: &Path, steering: &Arc<Steering>) -> io::Result<Bound> {
    if let Ok(found) = fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            return Err(io::Error::other("a file that is no socket is there, and is left alone"));
        }
        match UnixStream::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            // What a broker left behind that was killed.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
            Err(error) => return Err(error),
        }
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Set before there is a path, so that at no time anybody else can come in.
    let file = File::from(OwnedFd::from(socket));
    file.set_permissions(fs::Permissions::from_mode(MODE))?;
    let socket = Socket::from(OwnedFd::from(file));
    socket.bind(&SockAddr::unix(path)?)?;
    // The process's umask has taken something away, perhaps.
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let inode = fs::symlink_metadata(path)?.ino();
    let listener = UnixListener::from(OwnedFd::from(socket));
    let number = listener.as_raw_fd();
    let shown = path.display().to_string();
    Ok(Bound::new(Accepting::Unix(listener, shown), number, Some((path.to_owned(), inode)), steering))
}
