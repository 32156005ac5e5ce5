//! Servers as people run them, each with its own way to keep and to close connections. Two hundred devices at once get in,
//! and so they do after the server has closed what was idle, be it at that very moment.
//!
//! All close idle connections after a second, so that an hour's idling takes seconds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::closing::assert_nobody_is_refused;
use crate::support::{Broker, Connect, PATIENCE, Version, eventually, free_port, side_by_side};
use crate::{OPENED, log_in_many};

const DEVICES: usize = 200;

/// When servers close what is idle.
const IDLE: Duration = Duration::from_secs(1);

const ASGI_APP: &str = include_str!("../fixtures/servers/asgi_app.py");
const WSGI_APP: &str = include_str!("../fixtures/servers/wsgi_app.py");
const NODE_APP: &str = include_str!("../fixtures/servers/app.mjs");
const NGINX_CONF: &str = include_str!("../fixtures/servers/nginx.conf");

/// Debian's own, to which the servers' packages belong.
const PYTHON: &str = "/usr/bin/python3";

/// A server in a folder of its own. It is ended when this is dropped.
struct RealServer {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl RealServer {
    /// Starts a program with these arguments, in a folder with this file. In both `PORT` is the port to listen on.
    /// Nothing, and a line that says so, where there is no such program.
    fn start(program: impl AsRef<Path>, arguments: &str, (name, content): (&str, &str)) -> Option<Self> {
        let program = program.as_ref();
        let folder = TempDir::with_prefix("mha-server-").unwrap();
        let port = free_port();
        let filled_in = |text: &str| text.replace("PORT", &port.to_string());
        fs::write(folder.path().join(name), filled_in(content)).unwrap();
        let log = fs::File::create(folder.path().join("server.log")).unwrap();
        let mut command = Command::new(program);
        command.args(filled_in(arguments).split_whitespace()).current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let Ok(process) = command.spawn() else {
            eprintln!("SKIPPED: there is no {}", program.display());
            return None;
        };
        let mut server = Self { process, port, _folder: folder };
        let listens = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        let is_up = eventually(PATIENCE, || listens() || server.process.try_wait().unwrap().is_some());
        if !is_up || !listens() {
            let log = fs::read_to_string(server._folder.path().join("server.log")).unwrap_or_default();
            panic!("{} {arguments} does not listen: {log}", program.display());
        }
        Some(server)
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        // Asked to, it ends its workers, too.
        let pid = libc::pid_t::try_from(self.process.id()).unwrap();
        // SAFETY: `kill` takes plain numbers; the process is a child that was not yet waited for.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        let ended = eventually(Duration::from_secs(3), || self.process.try_wait().unwrap().is_some());
        if !ended {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// Whether Debian's Python has this module.
fn has_python(module: &str) -> bool {
    let found = Command::new(PYTHON).args(["-c", &format!("import {module}")]).output();
    let has = found.is_ok_and(|output| output.status.success());
    if !has {
        eprintln!("SKIPPED: there is no {module} for {PYTHON}");
    }
    has
}

fn nginx() -> PathBuf {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join(".brokers/nginx/usr/sbin/nginx");
    if unpacked.exists() { unpacked } else { PathBuf::from("nginx") }
}

/// The crowd gets in at once, and again and again around the moment at which the server closes what is idle.
fn assert_serves_all(server: &RealServer) {
    side_by_side([Version::V2_0_21, Version::V2_1], |version| {
        let broker = Broker::with(version)
            .option("auth_url", format!("http://127.0.0.1:{}/auth", server.port))
            // A crowd takes a server its time on a busy machine.
            .option("timeout", "20s")
            .option("connect_timeout", "10s")
            .option("login_wait", 0)
            .start();
        Connect::v5("x").login("x", "wrong").refused(broker.port());
        for (number, pause) in [0, 990, 1000, 1010, 2000].into_iter().enumerate() {
            thread::sleep(IDLE * pause / 1000);
            // A crowd at first and at last, and a few between.
            let devices = if matches!(pause, 0 | 2000) { DEVICES } else { 16 };
            // Names that were not asked about before.
            let refused = log_in_many(&broker, devices, devices + number);
            let (first, count) = (refused.first(), refused.len());
            assert_eq!(count, 0, "of {devices} after {pause} ms: {first:?}");
        }
        assert!(!broker.log().contains(OPENED));
    });
    // On request: as many as it takes to be sure.
    if std::env::var_os("MHA_LOGINS").is_some() {
        assert_nobody_is_refused(&format!("http://127.0.0.1:{}/auth", server.port));
    }
}

#[test]
fn uvicorn_with_fastapi() {
    if has_python("uvicorn") && has_python("fastapi") {
        let arguments = "-m uvicorn --port PORT --timeout-keep-alive 1 --no-access-log app:app";
        assert_serves_all(&RealServer::start(PYTHON, arguments, ("app.py", ASGI_APP)).unwrap());
    }
}

#[test]
fn gunicorn_with_threads() {
    if has_python("gunicorn") {
        let arguments = "-m gunicorn -k gthread -w 1 --threads 4 --keep-alive 1 -b 127.0.0.1:PORT app";
        assert_serves_all(&RealServer::start(PYTHON, arguments, ("app.py", WSGI_APP)).unwrap());
    }
}

/// It says that it closes, after each answer.
#[test]
fn gunicorn_as_it_comes() {
    if has_python("gunicorn") {
        let arguments = "-m gunicorn -w 2 -b 127.0.0.1:PORT app";
        assert_serves_all(&RealServer::start(PYTHON, arguments, ("app.py", WSGI_APP)).unwrap());
    }
}

/// It closes after each answer, and does not say so.
#[test]
fn uwsgi() {
    let arguments = "--plugin python3 --http-socket 127.0.0.1:PORT --threads 4 --need-app --disable-logging \
        --die-on-term --wsgi-file app.py";
    if let Some(server) = RealServer::start("uwsgi", arguments, ("app.py", WSGI_APP)) {
        assert_serves_all(&server);
    }
}

#[test]
fn node() {
    if let Some(server) = RealServer::start("node", "app.mjs PORT", ("app.mjs", NODE_APP)) {
        assert_serves_all(&server);
    }
}

#[test]
fn nginx_in_front() {
    let Some(api) = RealServer::start("node", "app.mjs PORT", ("app.mjs", NODE_APP)) else { return };
    let conf = NGINX_CONF.replace("UPSTREAM", &api.port.to_string());
    // Node.js closes after a second what nginx keeps, so nginx itself has to send questions again.
    let arguments = "-p . -c nginx.conf -e stderr";
    if let Some(server) = RealServer::start(nginx(), arguments, ("nginx.conf", &conf)) {
        assert_serves_all(&server);
    }
}
