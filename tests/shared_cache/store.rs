//! Real servers of Valkey and Redis, each a process of its own in a directory of its own (scripts/stores.sh).

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::{Cmd, ConnectionLike, Value, cmd};
use tempfile::TempDir;

use crate::support::tls::{Authority, Identity};
use crate::support::{Admin, Broker, PATIENCE, Setup, eventually, free_port, log_in, timed};

/// The secret of brokers that share a cache.
pub const SECRET: &str = "0123456789abcdef-the-secret-of-the-tests";

/// The password of the default user, and a user with another one who may do no more than the plugin needs.
pub const STORE_PASSWORD: &str = "t0p-secret of the store";
pub const STORE_USER: &str = "mqtt";
const STORE_USER_PASSWORD: &str = "p@ss/word%";

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Valkey,
    Redis,
}

impl Kind {
    pub const BOTH: [Self; 2] = [Self::Valkey, Self::Redis];

    pub fn program(self) -> PathBuf {
        let name = if self == Self::Valkey { "valkey" } else { "redis" };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".brokers/stores").join(name);
        let path = folder.join("bin/server");
        assert!(path.exists(), "{} is missing: run `make test` (or scripts/stores.sh) first", path.display());
        path
    }
}

/// A running server. Dropping it kills it.
pub struct Store {
    kind: Kind,
    port: u16,
    /// The port for clients without TLS, where the other one wants it.
    plain: u16,
    arguments: Vec<String>,
    process: Child,
    folder: TempDir,
}

impl Store {
    /// One that everybody on this machine may use.
    pub fn start(kind: Kind) -> Self {
        let port = free_port();
        Self::listening(kind, port, port, &["--port", &port.to_string()], &[])
    }

    /// One with these further arguments.
    pub fn with(kind: Kind, arguments: &[&str]) -> Self {
        let port = free_port();
        Self::listening(kind, port, port, &["--port", &port.to_string()], arguments)
    }

    /// A Sentinel that watches a master under the name `main`.
    pub fn sentinel_of(kind: Kind, master: &Self) -> Self {
        let (port, folder) = (free_port(), TempDir::with_prefix("mha-sentinel-").unwrap());
        let conf = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 5000\n",
            master.port
        );
        let path = folder.path().join("sentinel.conf");
        fs::write(&path, conf).unwrap();
        let arguments = vec![path.to_str().unwrap().to_owned(), "--sentinel".to_owned()];
        let process = Self::run(kind, &arguments, folder.path());
        let store = Self { kind, port, plain: port, arguments, process, folder };
        store.wait_until_up();
        store
    }

    /// Three servers that are one cluster.
    pub fn cluster(kind: Kind) -> [Self; 3] {
        let bus = [(); 3].map(|()| free_port());
        let nodes = bus.map(|bus| {
            let bus = bus.to_string();
            Self::with(
                kind,
                &[
                    "--cluster-enabled",
                    "yes",
                    "--cluster-port",
                    &bus,
                    "--cluster-node-timeout",
                    "1000",
                    "--cluster-require-full-coverage",
                    "no",
                ],
            )
        });
        for (index, (node, bus)) in nodes.iter().zip(bus).enumerate() {
            let (from, to) = (index * 5461, if index == 2 { 16_383 } else { index * 5461 + 5460 });
            node.does(cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(from).arg(to));
            nodes[0].does(cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(node.port).arg(bus));
        }
        let knows_all = |node: &Self| {
            let Value::Array(ranges) = node.does(cmd("CLUSTER").arg("SLOTS")) else { return false };
            let info: String = redis::from_redis_value(node.does(cmd("CLUSTER").arg("INFO"))).unwrap();
            ranges.len() == 3 && info.contains("cluster_state:ok")
        };
        assert!(eventually(PATIENCE, || nodes.iter().all(knows_all)), "no cluster: {}", nodes[0].log());
        nodes
    }

    /// One that is reached by TLS and shows this certificate. It wants one of its clients if somebody vouches for them.
    pub fn with_tls(kind: Kind, identity: &Identity, clients_by: Option<&Authority>) -> Self {
        let (port, plain) = (free_port(), free_port());
        let files = TempDir::with_prefix("mha-store-tls-").unwrap();
        let path = |name: &str, content: &str| {
            let path = files.path().join(name);
            fs::write(&path, content).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let authority = clients_by.map_or(&identity.certificate, |authority| &authority.certificate);
        let [certificate, key, authority] =
            [("cert", &identity.certificate), ("key", &identity.key), ("ca", authority)]
                .map(|(name, pem)| path(name, pem));
        let (tls, plain_text) = (port.to_string(), plain.to_string());
        let wants = if clients_by.is_some() { "yes" } else { "no" };
        let listen = [
            "--port",
            &plain_text,
            "--tls-port",
            &tls,
            "--tls-cert-file",
            &certificate,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &authority,
            "--tls-auth-clients",
            wants,
        ];
        Self::listening(kind, port, plain, &listen, &[])
    }

    fn listening(kind: Kind, port: u16, plain: u16, listen: &[&str], arguments: &[&str]) -> Self {
        let folder = TempDir::with_prefix("mha-store-").unwrap();
        let own = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"];
        let all: Vec<_> = listen.iter().chain(&own).chain(arguments).map(|word| (*word).to_owned()).collect();
        let process = Self::run(kind, &all, folder.path());
        let store = Self { kind, port, plain, arguments: all, process, folder };
        store.wait_until_up();
        store
    }

    fn run(kind: Kind, arguments: &[String], folder: &Path) -> Child {
        let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
        Command::new(kind.program())
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    fn wait_until_up(&self) {
        let is_up = || TcpStream::connect(("127.0.0.1", self.plain)).is_ok();
        assert!(eventually(PATIENCE, is_up), "{:?} does not start: {}", self.kind, self.log());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The URL for [`STORE_USER`], whom [`Self::make_user`] has made.
    pub fn url_of_user(&self) -> String {
        format!("redis://{STORE_USER}:p%40ss%2Fword%25@127.0.0.1:{}", self.port)
    }

    /// Makes a user who may do what docs/several-brokers.md says, and lets nobody in without a password.
    pub fn make_user(&self) {
        let rights = [
            "on",
            "resetchannels",
            "~mha:*",
            "+getrange",
            "+set",
            "+del",
            "+xadd",
            "+xread",
            "+xrange",
            "+ping",
            "+time",
        ];
        let password = format!(">{STORE_USER_PASSWORD}");
        self.does(cmd("ACL").arg("SETUSER").arg(STORE_USER).arg(password).arg(&rights[..]));
        self.does(cmd("CONFIG").arg("SET").arg("requirepass").arg(STORE_PASSWORD));
    }

    fn client(&self) -> redis::Connection {
        // Not before the server has given itself a password.
        let url = |credentials: String| format!("redis://{credentials}127.0.0.1:{}", self.plain);
        let encoded = STORE_PASSWORD.replace(' ', "%20");
        let open = |url: String| redis::Client::open(url).unwrap().get_connection();
        let mut plain = open(url(String::new())).expect("a connection to the store");
        if cmd("PING").exec(&mut plain).is_ok() { plain } else { open(url(format!(":{encoded}@"))).unwrap() }
    }

    /// Has the server carry out a command.
    pub fn does(&self, command: &Cmd) -> Value {
        self.client().req_command(command).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The names of all that stands there and begins like this.
    pub fn names(&self, start: &str) -> Vec<String> {
        let found = self.does(cmd("KEYS").arg(format!("{start}*")));
        redis::from_redis_value(found).unwrap()
    }

    /// The verdicts that stand there.
    pub fn verdicts(&self) -> Vec<String> {
        [self.names("mha:1:login:"), self.names("mha:1:topic:")].concat()
    }

    pub fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.process.id()).unwrap();
        // SAFETY: `kill` takes plain numbers. The process is a child that was not yet waited for, so the number is its
        // own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Ends the server. Whatever stood there is gone.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again, empty, where it was.
    pub fn start_again(&mut self) {
        self.process = Self::run(self.kind, &self.arguments, self.folder.path());
        self.wait_until_up();
    }

    /// The setup of a broker that shares this cache.
    pub fn shared_by(&self, setup: Setup) -> Setup {
        shared(setup, &self.url())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The setup of a broker that shares the cache at this URL.
pub fn shared(setup: Setup, url: &str) -> Setup {
    setup
        .file("cache.secret", SECRET)
        .option("shared_cache", url)
        .option("shared_cache_secret_file", "cache.secret")
}

/// A broker that shares a cache, and where it is steered.
pub struct Sharer {
    pub broker: Broker,
    pub admin: Admin,
}

impl Sharer {
    /// Starts a broker that shares this cache, and waits until it does.
    pub fn start(setup: Setup, store: &Store) -> Self {
        Self::of(store.shared_by(setup))
    }

    /// Starts a broker that shares a cache, and waits until it does.
    pub fn of(setup: Setup) -> Self {
        let sharer = Self::alone(setup);
        sharer.wait_until(true);
        sharer
    }

    /// Starts a broker whose shared cache may not be there.
    pub fn alone(setup: Setup) -> Self {
        let admin = Admin::somewhere();
        let broker = admin.of(setup).option("login_wait", 0).start();
        Self { broker, admin }
    }

    pub fn port(&self) -> u16 {
        self.broker.port()
    }

    /// Waits until the broker uses the cache, or does not.
    pub fn wait_until(&self, is_up: bool) {
        let is_so = || (self.metric("up") == 1.0) == is_up;
        assert!(eventually(PATIENCE, is_so), "the cache is used: {}", !is_up);
    }

    /// Lets a client in, which goes again at once. Returns how long its login took.
    pub fn visited_by(&self, name: &str) -> Duration {
        timed(|| drop(log_in(&self.broker, name))).1
    }

    /// The value of a metric of the shared cache.
    pub fn metric(&self, name: &str) -> f64 {
        self.admin.metric(&format!("mosquitto_http_auth_shared_cache_{name}"))
    }
}
