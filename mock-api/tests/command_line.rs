//! The program does as its command line says, shows what it was asked, and explains what it does not understand.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn the_program_shows_what_it_was_asked() {
    let program =
        Program::start(&["--rules", "examples/api-rules.txt", "--username", "sensor-1", "--behave", "503"]);
    program.post("/auth", r#"{"username":"sensor-1","password":"secret-1"}"#);
    program.post("/_control", r#"{"behave":"close","every":2}"#);
    program.post("/acl", r#"{"username":"admin","clientid":"c","topic":"t","acc":2}"#);
    program.post("/acl", r#"{"username":"admin","clientid":"c","topic":"t","acc":2}"#);
    program.post("/_control", r#"{"behave":"dance"}"#);
    program.post("/auth", "nonsense");
    program.assert_lines(&[
        r#"POST /auth {"username":"sensor-1","password":"***"} -> 503"#,
        r#"POST /_control {"behave":"close","every":2} -> 200"#,
        r#"POST /acl {"username":"admin","clientid":"c","topic":"t","acc":2} -> 200"#,
        r#"POST /acl {"username":"admin","clientid":"c","topic":"t","acc":2} -> close"#,
        r#"POST /_control {"behave":"dance"} -> 400"#,
        r#"POST /auth "8 bytes that are no question" -> 400"#,
    ]);
}

#[test]
fn a_login_says_what_the_user_may_do() {
    let program = Program::start(&["--rules", "examples/api-rules.txt", "--logins", "rules"]);
    let login = |password: &str| {
        program
            .post("/auth", &serde_json::json!({ "username": "sensor-1", "password": password }).to_string())
    };
    let answer = login("secret-1");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Content-Type: application/json"), "{head}");
    let rule = |permission, action, topic| serde_json::json!({ "permission": permission, "action": action, "topic": topic });
    let acl = [
        rule("allow", "publish", "sensors/${username}/#"),
        rule("allow", "subscribe", "commands/${username}"),
        rule("allow", "subscribe", "commands/${username}"),
        rule("deny", "all", "#"),
    ];
    let expected = serde_json::json!({ "result": "allow", "acl": acl });
    assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap(), expected);
    assert!(login("secret-2").starts_with("HTTP/1.1 403 "));
}

#[test]
fn the_program_explains_a_bad_command_line() {
    for (arguments, problem) in [
        (&["--lisen", "x"][..], "unknown flag --lisen, try --help"),
        (&["--rules"], "--rules needs a value, try --help"),
        (&["--rules", "/does/not/exist"], "cannot read /does/not/exist: No such file"),
        (&["--rules", "Cargo.toml"], "Cargo.toml, line 1: unknown keyword \"[package]\""),
        (&["--behave", "dance"], "--behave: unknown behaviour \"dance\""),
        (&["--delay", "20"], "--delay: expected a time such as 20ms or 2s, found \"20\""),
        (&["--logins", "x"], "--logins: expected status or rules, found \"x\""),
        (&["--every", "0"], "--every: expected a number from 1, found \"0\""),
        (&["--listen", "nowhere"], "cannot listen on nowhere"),
    ] {
        let Output { status, stderr, .. } = program().args(arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&stderr);
        assert_eq!(status.code(), Some(2), "{arguments:?}");
        assert!(stderr.starts_with(&format!("mock-api: {problem}")), "{arguments:?}: {stderr}");
    }
}

struct Program {
    process: Child,
    address: String,
    output: RefCell<Lines<BufReader<ChildStdout>>>,
}

impl Program {
    fn start(arguments: &[&str]) -> Self {
        let mut process = program().args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
        let first = output.next().unwrap().unwrap();
        let address = first.strip_prefix("listening on http://").expect(&first).to_owned();
        Self { process, address, output: output.into() }
    }

    /// One request on a connection of its own, and what comes back until that is closed.
    fn post(&self, path: &str, body: &str) -> String {
        let mut connection = TcpStream::connect(&self.address).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        let request = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}");
        connection.write_all(request.as_bytes()).unwrap();
        // It asks no more.
        connection.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    fn assert_lines(&self, expected: &[&str]) {
        let mut output = self.output.borrow_mut();
        for line in expected {
            assert_eq!(output.next().unwrap().unwrap(), *line);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill(); // fails if it has ended
        let _ = self.process.wait();
    }
}

fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_mock-api"));
    program.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    program
}
