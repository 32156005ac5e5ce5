//! Real brokers with the plugin loaded, each a process of its own in a directory of its own.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, OpenOptions, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{PATIENCE, eventually, free_port, side_by_side};

/// A version of Mosquitto that the plugin supports.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    V2_0_11,
    V2_0_21,
    V2_1,
}

impl Version {
    pub const ALL: [Self; 3] = [Self::V2_0_11, Self::V2_0_21, Self::V2_1];

    pub fn is_2_1(self) -> bool {
        self == Self::V2_1
    }

    /// The path of `mosquitto`, `mosquitto_passwd`, `mosquitto_pub` or `mosquitto_sub` of this version.
    pub fn program(self, name: &str) -> PathBuf {
        let path = folder().join(self.to_string()).join("bin").join(name);
        // scripts/test.sh counts what says so by itself.
        assert!(!is_absent(&format!("{self:?}")), "not run: {self:?} is missing");
        assert!(
            path.exists(),
            "{} is missing: run `make test` (or scripts/brokers.sh) first",
            path.display()
        );
        path
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mosquitto {self}")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V2_0_11 => "2.0.11",
            Self::V2_0_21 => "2.0.21",
            Self::V2_1 => "2.1",
        })
    }
}

/// The folder of all brokers: `MHA_BROKERS`, such as those for musl, or those that scripts/brokers.sh unpacked.
fn folder() -> PathBuf {
    // The program's tests have a folder of their own in it.
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let checkout = own.ancestors().find(|folder| folder.join("wrapper.h").exists()).unwrap_or(own);
    checkout.join(std::env::var_os("MHA_BROKERS").unwrap_or_else(|| ".brokers".into()))
}

/// Whether the brokers are for musl. Those have neither TLS nor websockets.
pub fn are_for_musl() -> bool {
    folder().ends_with("musl")
}

/// Whether a case is one of a broker that scripts/test.sh says is not here (`MHA_ABSENT`, such as `2.1`).
pub fn is_absent(case: &str) -> bool {
    let absent = std::env::var("MHA_ABSENT").unwrap_or_default();
    absent.split_whitespace().any(|version| case.contains(&format!("mosquitto {version}")))
}

/// Runs one test against every broker, side by side. A failure names the brokers that failed.
pub fn on_every_broker(test: impl Fn(Version) + Sync) {
    side_by_side(Version::ALL, test);
}

/// The path of the plugin under test: `MHA_PLUGIN`, or the file that Cargo built beside the running test.
pub fn plugin() -> PathBuf {
    if let Some(path) = std::env::var_os("MHA_PLUGIN") {
        return path.into();
    }
    let test = std::env::current_exe().unwrap();
    let built = test.ancestors().skip(1).take(2).map(|folder| folder.join("libmosquitto_http_auth.so"));
    let newest = built.max_by_key(|path| fs::metadata(path).and_then(|found| found.modified()).ok());
    newest
        .filter(|path| path.exists())
        .expect("no libmosquitto_http_auth.so beside the test: is the library built?")
}

/// The program under which brokers run, such as a memory checker (`MHA_BROKER_UNDER`). It gets the broker's command
/// line, replaces itself with it (`exec`), and reports by itself when the broker ends.
fn checker() -> Option<OsString> {
    std::env::var_os("MHA_BROKER_UNDER")
}

/// The configuration of a broker that is about to be started.
#[derive(Clone)]
pub struct Setup {
    version: Version,
    user: &'static str,
    globals: Vec<String>,
    plugin: Option<PathBuf>,
    lines: Vec<String>,
    listeners: Vec<Vec<String>>,
    files: Vec<(String, Vec<u8>)>,
    environment: Vec<(String, String)>,
    /// The program, with its arguments, that starts the broker, if there is one.
    launcher: Vec<String>,
}

impl Setup {
    /// Adds a line in front of the first listener.
    pub fn global(mut self, line: impl Into<String>) -> Self {
        self.globals.push(line.into());
        self
    }

    /// Adds an option of the plugin.
    pub fn option(self, name: &str, value: impl fmt::Display) -> Self {
        self.line(format!("plugin_opt_{name} {value}"))
    }

    /// Adds a line behind the first listener and its plugin.
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Adds a listener on a port of its own ([`Broker::ports`]), with the lines that belong to it.
    pub fn listener<L: Into<String>>(mut self, lines: impl IntoIterator<Item = L>) -> Self {
        self.listeners.push(lines.into_iter().map(Into::into).collect());
        self
    }

    pub fn without_plugin(mut self) -> Self {
        self.plugin = None;
        self
    }

    /// Has the broker load this file instead of the plugin that Cargo built.
    pub fn plugin(mut self, path: impl Into<PathBuf>) -> Self {
        self.plugin = Some(path.into());
        self
    }

    /// Sets the user that a broker becomes when root starts it. By default it stays `root`, so that it can read the
    /// files of the test.
    pub fn run_as(mut self, user: &'static str) -> Self {
        self.user = user;
        self
    }

    /// Adds a file to the broker's folder. The broker runs there, so the file's name is its path.
    pub fn file(mut self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.files.push((name.to_owned(), content.as_ref().to_vec()));
        self
    }

    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Has this program start the broker: it gets the broker's command line and must replace itself with it (`exec`).
    pub fn launched_by(mut self, program: &[&str]) -> Self {
        self.launcher = program.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Starts the broker and waits until its ports are open.
    pub fn start(&self) -> Broker {
        let mut broker = self.launch();
        for attempt in 1.. {
            let open = |port: &u16| TcpStream::connect(("127.0.0.1", *port)).is_ok();
            let ports = broker.ports.clone();
            let ready = eventually(PATIENCE, || !broker.is_running() || ports.iter().all(open))
                && broker.is_running();
            if ready {
                break;
            }
            // Another program took a port between its choice and the broker's start.
            let port_was_taken = broker.log().contains("Address already in use");
            assert!(attempt < 5 && port_was_taken, "mosquitto {} does not start", self.version);
            broker = self.launch();
        }
        broker
    }

    /// Starts a broker that must end by itself, because it cannot start.
    pub fn start_expecting_failure(&self) -> Failure {
        let mut broker = self.launch();
        let status = broker.wait_for_exit(PATIENCE).expect("the broker gives up");
        Failure { code: status.code(), log: broker.log() }
    }

    fn launch(&self) -> Broker {
        let folder = TempDir::with_prefix("mha-").unwrap();
        let ports: Vec<u16> = (0..=self.listeners.len()).map(|_| free_port()).collect();
        let conf = self.readable(folder.path()).conf(&ports);
        fs::write(folder.path().join("mosquitto.conf"), &conf).unwrap();
        for (name, content) in &self.files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let process = self.run(folder.path());
        Broker { setup: self.clone(), process, ports, conf, folder }
    }

    /// The same with a plugin that the broker's user can read: the checkout may be where only root can look.
    fn readable(&self, folder: &Path) -> Self {
        let mut setup = self.clone();
        if setup.user != "root"
            && let Some(plugin) = &mut setup.plugin
        {
            let copy = folder.join("plugin.so");
            fs::copy(&*plugin, &copy).unwrap();
            fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
            *plugin = copy;
        }
        setup
    }

    fn conf(&self, ports: &[u16]) -> String {
        let mut lines = vec![
            format!("user {}", self.user),
            "log_dest stderr".to_owned(),
            "log_type all".to_owned(),
            "log_timestamp_format %H:%M:%S".to_owned(),
        ];
        lines.extend(self.globals.iter().cloned());
        lines.push(format!("listener {} 127.0.0.1", ports[0]));
        lines.extend(self.plugin.iter().map(|path| plugin_line(path)));
        lines.extend(self.lines.iter().cloned());
        for (port, own) in ports[1..].iter().zip(&self.listeners) {
            lines.push(format!("listener {port} 127.0.0.1"));
            lines.extend(own.iter().cloned());
        }
        lines.join("\n") + "\n"
    }

    /// Starts the broker's program in its folder, where the configuration is.
    fn run(&self, folder: &Path) -> Child {
        let log = OpenOptions::new().create(true).append(true).open(folder.join("broker.log")).unwrap();
        let program = self.version.program("mosquitto").into_os_string();
        let under = checker().map(|checker| vec![checker]).unwrap_or_default();
        let mut words = under.into_iter().chain(self.launcher.iter().map(OsString::from)).chain([program]);
        Command::new(words.next().unwrap())
            .args(words)
            .arg("-c")
            .arg(folder.join("mosquitto.conf"))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }
}

/// The line of mosquitto.conf that loads a plugin.
pub fn plugin_line(path: &Path) -> String {
    format!("plugin {}", path.display())
}

/// The end of a broker that should not have started.
#[derive(Debug)]
pub struct Failure {
    /// The exit code; `None` if a signal ended the broker.
    pub code: Option<i32>,
    pub log: String,
}

/// A broker's use of the machine.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    pub threads: usize,
    pub files: usize,
    pub megabytes: usize,
}

/// A running broker. Dropping it kills the broker, unless a memory checker has to see its end. If the test is failing
/// then, the broker's configuration and log are printed.
pub struct Broker {
    setup: Setup,
    process: Child,
    ports: Vec<u16>,
    conf: String,
    folder: TempDir,
}

impl Broker {
    /// A broker of this version with the plugin and without options.
    pub fn with(version: Version) -> Setup {
        Setup {
            version,
            user: "root",
            globals: Vec::new(),
            plugin: Some(plugin()),
            lines: Vec::new(),
            listeners: Vec::new(),
            files: Vec::new(),
            environment: Vec::new(),
            launcher: Vec::new(),
        }
    }

    pub fn version(&self) -> Version {
        self.setup.version
    }

    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// The ports of all listeners, in the order of the configuration.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// The broker's own folder, which is its working directory.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// All that the broker has logged until now.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.path().join("broker.log")).unwrap()).into_owned()
    }

    /// Waits until the log contains a text, and returns the first line with it.
    pub fn wait_for_log(&self, text: &str, timeout: Duration) -> String {
        let mut line = None;
        eventually(timeout, || {
            line = self.log().lines().find(|line| line.contains(text)).map(str::to_owned);
            line.is_some()
        });
        line.unwrap_or_else(|| panic!("mosquitto {} does not log {text:?}", self.version()))
    }

    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// Has the broker read its configuration again (SIGHUP), and does not wait for that.
    pub fn sighup(&self) {
        self.signal(libc::SIGHUP);
    }

    pub fn signal(&self, signal: libc::c_int) {
        // A broker opens its ports before it says how it takes signals: until then it would be ended by one.
        if matches!(signal, libc::SIGHUP | libc::SIGTERM) {
            eventually(PATIENCE, || self.catches(signal));
        }
        let pid = libc::pid_t::try_from(self.process.id()).unwrap();
        // SAFETY: `kill` takes plain numbers. The process is a child that was not yet waited for, so the number is its
        // own.
        let result = unsafe { libc::kill(pid, signal) };
        assert_eq!(result, 0, "signal {signal} to mosquitto {}", self.version());
    }

    /// Whether the broker has said how it takes a signal, or is gone.
    fn catches(&self, signal: libc::c_int) -> bool {
        let Ok(status) = fs::read_to_string(format!("/proc/{}/status", self.process.id())) else {
            return true;
        };
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = caught.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
        let is_dead = status.contains("State:\tZ");
        is_dead || caught.is_none_or(|caught| caught >> (signal - 1) & 1 == 1)
    }

    /// Asks the broker to stop, and returns how it ended and how long that took.
    pub fn terminate(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        self.signal(libc::SIGTERM);
        let status = self.wait_for_exit(PATIENCE).expect("the broker stops when it is asked to");
        (status, start.elapsed())
    }

    /// Stops the broker and starts it again, with the same ports and in the same folder.
    pub fn restart(&mut self) {
        self.terminate();
        self.process = self.setup.run(self.folder.path());
        let ports = self.ports.clone();
        let open = |port: &u16| TcpStream::connect(("127.0.0.1", *port)).is_ok();
        assert!(eventually(PATIENCE, || ports.iter().all(open)), "the broker starts again");
    }

    pub fn wait_for_exit(&mut self, timeout: Duration) -> Option<ExitStatus> {
        let mut status = None;
        eventually(timeout, || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        });
        status
    }

    /// The broker's use of the machine at this moment.
    pub fn usage(&self) -> Usage {
        let megabytes = self.resident_bytes() >> 20;
        Usage { threads: self.threads(), files: self.open_files(), megabytes }
    }

    /// The processor time that all threads of the broker have used until now.
    pub fn computed(&self) -> Duration {
        let statistics = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        // User and system time are the fields 14 and 15, in hundredths of a second (proc(5)). The program's name, field
        // 2, ends with the last parenthesis.
        let fields = statistics.rsplit(')').next().unwrap().split_whitespace().skip(14 - 3).take(2);
        Duration::from_millis(fields.map(|ticks| 10 * ticks.parse::<u64>().unwrap()).sum())
    }

    pub fn threads(&self) -> usize {
        self.count("task")
    }

    pub fn open_files(&self) -> usize {
        self.count("fd")
    }

    fn count(&self, folder: &str) -> usize {
        fs::read_dir(format!("/proc/{}/{folder}", self.process.id())).unwrap().count()
    }

    /// The memory that the broker uses, in bytes.
    pub fn resident_bytes(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    /// Runs `mosquitto_pub`, or `mosquitto_sub`, of the broker's version against its first listener.
    pub fn run_client(&self, program: &str, arguments: &[&str]) -> Output {
        Command::new(self.version().program(program))
            .args(["-h", "127.0.0.1", "-p", &self.port().to_string()])
            .args(arguments)
            .output()
            .unwrap()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if checker().is_some() && self.is_running() {
            self.signal(libc::SIGTERM);
            self.wait_for_exit(PATIENCE);
        }
        let _ = self.process.kill(); // fails if it has ended
        let _ = self.process.wait();
        if thread::panicking() {
            eprintln!(
                "--- mosquitto {}, mosquitto.conf:\n{}--- log:\n{}---",
                self.version(),
                self.conf,
                self.log()
            );
        }
    }
}
