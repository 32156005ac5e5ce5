//! The example servers decide as they should, and are shown as they are.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

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
        let started = Self::run(Command::new(interpreter).arg(in_checkout(file)).arg("127.0.0.1:0"));
        if let Err(error) = &started {
            // Past what captures the output of tests that pass.
            let _ = writeln!(std::io::stderr(), "SKIPPED: {file} needs {interpreter} ({error})");
        }
        started.ok()
    }

    fn run(command: &mut Command) -> std::io::Result<Self> {
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://");
        let address = address.unwrap_or_else(|| panic!("{command:?} says {line:?}")).to_owned();
        Ok(Self { process, address })
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

/// The statuses and bodies that come for two questions on one connection.
fn ask_twice(server: &Server, path: &str, body: &str) -> [(u16, Value); 2] {
    let mut connection = BufReader::new(TcpStream::connect(&server.address).unwrap());
    connection.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    [(); 2].map(|()| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: api\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        connection.get_mut().write_all((head + body).as_bytes()).unwrap();
        let head: Vec<String> =
            connection.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
        let header = |name: &str| {
            let of_name = |line: &String| {
                let (found, value) = line.split_once(':')?;
                found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            };
            head.iter().find_map(of_name)
        };
        let mut answer = vec![0; header("Content-Length").expect("a length").parse().unwrap()];
        connection.read_exact(&mut answer).unwrap();
        let status = head[0].split(' ').nth(1).unwrap().parse().unwrap();
        if status == 200 && !answer.is_empty() {
            assert_eq!(header("Content-Type").as_deref(), Some("application/json"), "{head:?}");
        }
        (status, serde_json::from_slice(&answer).unwrap_or_default())
    })
}

/// Who was asked about what, where the server answers as an API without the plugin's options needs it. `no_question` is
/// its status for a body that is none.
fn answers(server: &Server, no_question: u16) {
    let login = r#"{"username":"sensor-1","password":"secret-1"}"#;
    for (path, body, expected) in [
        ("/auth", login, 200),
        ("/auth", r#"{"username":"sensor-1","password":""}"#, 403),
        ("/auth", r#"{"username":"sensor-1"}"#, no_question),
        ("/auth", "no JSON", no_question),
        // The client id, with auth_fields.
        ("/auth", r#"{"username":"sensor-1","password":"secret-1","clientid":"sensor-1:a"}"#, 200),
        ("/auth", r#"{"username":"sensor-1","password":"secret-1","clientid":"sensor-12"}"#, 403),
        ("/acl", r#"{"username":"dashboard","clientid":"c","topic":"sensors/a","acc":3}"#, 403),
        ("/acl", r#"{"username":"dashboard","clientid":"c","topic":"sensors/a","acc":0}"#, 403),
        ("/acl", r#"{"username":"dashboard","clientid":"c","topic":"sensors/a","acc":1,"qos":1}"#, 200),
        ("/acl", r#"{"username":"nobody","clientid":"c","topic":"sensors/a","acc":1}"#, 403),
        ("/acl-batch", r#"{"checks":[{"username":"dashboard"}]}"#, no_question),
        ("/acl-batch", r#"{"checks":1}"#, no_question),
        ("/other", login, 404),
    ] {
        for (status, _) in ask_twice(server, path, body) {
            assert_eq!(status, expected, "{path} {body}");
        }
    }
    for (_, answer) in ask_twice(server, "/auth", login) {
        let rule =
            |permission, action, topic| json!({ "permission": permission, "action": action, "topic": topic });
        let acl = [
            rule("allow", "publish", "sensors/${username}/#"),
            rule("allow", "subscribe", "commands/${username}"),
            rule("deny", "all", "#"),
        ];
        assert_eq!(answer, json!({ "result": "allow", "acl": acl }));
    }
    let checks = [
        ("sensor-1", "sensors/sensor-1/t", 2),
        ("sensor-1", "sensors/sensor-2/t", 2),
        ("dashboard", "sensors/#", 4),
    ];
    let checks = checks.map(
        |(username, topic, acc)| json!({ "username": username, "clientid": "c", "topic": topic, "acc": acc }),
    );
    for (_, answer) in ask_twice(server, "/acl-batch", &json!({ "checks": checks }).to_string()) {
        assert_eq!(answer, json!({ "results": [true, false, true] }));
    }
}

/// By questions about topics, and by the rules in the answer to a login alone.
fn decides_for_every_broker(server: &Server) {
    for by_rules in [false, true] {
        decides(server, by_rules);
    }
}

fn decides(server: &Server, by_rules: bool) {
    on_every_broker(|version| {
        let broker = Broker::with(version)
            .option("auth_url", server.url("/auth"))
            // Hashing passwords takes the server its time on a busy machine.
            .option("timeout", "20s");
        let broker = if by_rules {
            broker
                .option("answer_rules", true)
                .option("acl_no_match", "deny")
                .option("auth_fields", "clientid")
        } else {
            broker.option("acl_url", server.url("/acl")).option("acl_batch_url", server.url("/acl-batch"))
        };
        let broker = broker.start();
        let connect =
            |user: &str, password: &str| Connect::v5(format!("{user}:{password}")).login(user, password);
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
        Some(server) => {
            answers(&server, 400);
            decides_for_every_broker(&server);
        }
        None => assert!(std::env::var_os("CI").is_none(), "CI needs python3"),
    }
}

#[test]
fn the_server_in_node_decides_for_every_broker() {
    if let Some(server) = Server::start("node", "examples/api_server.mjs") {
        answers(&server, 400);
        decides_for_every_broker(&server);
    }
}

/// With Debian's own Python, to which its packages of FastAPI and uvicorn belong.
#[test]
fn the_server_in_fastapi_decides_for_every_broker() {
    const PYTHON: &str = "/usr/bin/python3";
    let found = Command::new(PYTHON).args(["-c", "import fastapi, uvicorn"]).output();
    if !found.is_ok_and(|output| output.status.success()) {
        let _ = writeln!(std::io::stderr(), "SKIPPED: there is no fastapi and uvicorn for {PYTHON}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let call = |words: &[&str]| {
        let mut command = Command::new(PYTHON);
        command.arg(in_checkout("examples/api_fastapi.py")).args(words).current_dir(&folder);
        command
    };
    let run = |words: &[&str]| call(words).stderr(Stdio::null()).status().unwrap().success();
    for (name, password, rights) in [
        (
            "sensor-1",
            "secret-1",
            [("publish", "sensors/${username}/#"), ("subscribe", "commands/${username}")],
        ),
        ("dashboard", "secret-2", [("subscribe", "sensors/#"), ("publish", "commands/#")]),
        ("gone", "secret-3", [("all", "#"), ("all", "#")]),
    ] {
        assert!(run(&["user", name, "another"]) && run(&["user", name, password]));
        for (action, filter) in rights {
            assert!(run(&["allow", name, action, filter]));
        }
    }
    assert!(run(&["remove", "gone"]));
    for mistake in [&["allow", "nobody", "all", "#"][..], &["allow", "sensor-1", "eat", "#"], &["user", "x"]]
    {
        assert!(!run(mistake), "{mistake:?}");
    }
    let server = Server::run(&mut call(&["127.0.0.1:0"])).unwrap();
    answers(&server, 422);
    let gone = r#"{"username":"gone","password":"secret-3"}"#;
    assert_eq!(ask_twice(&server, "/auth", gone)[0].0, 403);
    decides_for_every_broker(&server);
}
