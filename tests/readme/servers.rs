//! The example servers decide as they should, and are shown as they are.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use crate::support::{Broker, Connect, PATIENCE, on_every_broker, reason};
use crate::{blocks, in_checkout, read};

#[test]
fn the_example_servers_are_shown_as_they_are() {
    let text = read("docs/contract.md");
    for (language, file) in [("python", "examples/api_server.py"), ("js", "examples/api_server.mjs")] {
        let shown = blocks(&text, language);
        assert!(shown.contains(&read(file).as_str()), "docs/contract.md shows another {file}");
    }
}

/// An example server on a port of its own. It is killed when it is dropped.
pub struct Server {
    process: Child,
    address: String,
}

impl Server {
    /// Nothing, and a line that says so, where the machine has no such interpreter.
    pub fn start(interpreter: &str, file: &str) -> Option<Self> {
        let mut command = Command::new(interpreter);
        command.arg(in_checkout(file)).arg("127.0.0.1:0").stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = match command.spawn() {
            Ok(process) => process,
            Err(error) => {
                // Past what captures the output of tests that pass.
                let _ = writeln!(std::io::stderr(), "SKIPPED: {file} needs {interpreter} ({error})");
                return None;
            }
        };
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://");
        let address = address.unwrap_or_else(|| panic!("{file} says {line:?}")).to_owned();
        Some(Self { process, address })
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill(); // fails if it has ended
        let _ = self.process.wait();
    }
}

/// The status lines that come for two questions on one connection.
fn ask_twice(server: &Server, path: &str, body: &str) -> [String; 2] {
    let mut connection = BufReader::new(TcpStream::connect(&server.address).unwrap());
    connection.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    [(); 2].map(|()| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: api\r\nContent-Length: {}\r\n\r\n", body.len());
        connection.get_mut().write_all((head + body).as_bytes()).unwrap();
        let head: Vec<String> =
            connection.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
        assert!(head.iter().any(|line| line.eq_ignore_ascii_case("Content-Length: 0")), "{head:?}");
        head[0].clone()
    })
}

fn decides_for_every_broker(server: &Server) {
    let login = r#"{"username":"sensor-1","password":"secret-1"}"#;
    for (path, body, status) in [
        ("/auth", login, 200),
        ("/auth", r#"{"username":"sensor-1","password":""}"#, 403),
        ("/auth", r#"{"username":"sensor-1"}"#, 400),
        ("/auth", "no JSON", 400),
        ("/acl", r#"{"username":"dashboard","clientid":"c","topic":"sensors/a","acc":3}"#, 403),
        ("/acl", r#"{"username":"dashboard","clientid":"c","topic":"sensors/a","acc":0}"#, 403),
        ("/other", login, 404),
    ] {
        for line in ask_twice(server, path, body) {
            assert!(line.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {body}: {line}");
        }
    }

    on_every_broker(|version| {
        let broker = Broker::with(version)
            .option("auth_url", server.url("/auth"))
            .option("acl_url", server.url("/acl"))
            // Hashing passwords takes the server its time on a busy machine.
            .option("timeout", "20s")
            .start();
        let connect =
            |user: &str, password: &str| Connect::v5(format!("{user}-{password}")).login(user, password);
        let mut dashboard = connect("dashboard", "secret-2").accepted(broker.port());
        let mut sensor = connect("sensor-1", "secret-1").accepted(broker.port());
        for (user, password) in [("sensor-1", "secret-2"), ("sensor-1", ""), ("nobody", "secret-1")] {
            assert_eq!(
                connect(user, password).refused(broker.port()),
                reason::NOT_AUTHORIZED,
                "{user} {password}"
            );
        }

        assert!(dashboard.may_subscribe("sensors/#"));
        assert!(dashboard.may_subscribe("$share/group/sensors/+/t"));
        assert!(sensor.may_subscribe("commands/sensor-1"));
        for filter in ["#", "commands/+", "sensors/sensor-1/#"] {
            assert!(!sensor.may_subscribe(filter), "{filter}");
        }

        assert_eq!(sensor.publish_acknowledged("sensors/sensor-2/t", "1"), reason::NOT_AUTHORIZED);
        assert_eq!(sensor.publish_acknowledged("sensors/sensor-1/t", "2"), reason::SUCCESS);
        assert_eq!(dashboard.receive(PATIENCE).expect("the allowed message").payload, b"2");
        assert_eq!(dashboard.publish_acknowledged("commands/sensor-1", "3"), reason::SUCCESS);
        assert_eq!(sensor.receive(PATIENCE).expect("the command").payload, b"3");
    });
}

#[test]
fn the_server_in_python_decides_for_every_broker() {
    match Server::start("python3", "examples/api_server.py") {
        Some(server) => decides_for_every_broker(&server),
        None => assert!(std::env::var_os("CI").is_none(), "CI needs python3"),
    }
}

#[test]
fn the_server_in_node_decides_for_every_broker() {
    if let Some(server) = Server::start("node", "examples/api_server.mjs") {
        decides_for_every_broker(&server);
    }
}
