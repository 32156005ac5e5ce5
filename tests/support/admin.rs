//! An HTTP client of the plugin's admin listener that sends anything and sees every byte of the answer.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::broker::Setup;
use super::{PATIENCE, free_port};

/// The token of the tests.
pub const TOKEN: &str = "0123456789-token-of-the-tests";

/// What was answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// The status line and all headers.
    pub head: String,
    pub body: String,
}

impl Answer {
    /// The body, which must be JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Where a plugin is steered.
#[derive(Debug, Clone)]
pub enum Admin {
    Tcp(u16),
    Unix(PathBuf),
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

impl Admin {
    /// A port of the loopback that nobody else has.
    pub fn somewhere() -> Self {
        Self::Tcp(free_port())
    }

    /// The setup of a broker that is steered there. Commands over TCP want [`TOKEN`].
    pub fn of(&self, setup: Setup) -> Setup {
        match self {
            Self::Tcp(port) => setup
                .file("admin.token", TOKEN)
                .option("admin_token_file", "admin.token")
                .option("admin_listen", format!("127.0.0.1:{port}")),
            Self::Unix(path) => setup.option("admin_listen", format!("unix:{}", path.display())),
        }
    }

    fn connect(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(port) => {
                let stream = TcpStream::connect(("127.0.0.1", *port))?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Ok(Box::new(stream))
            }
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Ok(Box::new(stream))
            }
        }
    }

    /// Sends these bytes on a connection of their own, and reads to its end.
    pub fn send(&self, bytes: &[u8]) -> io::Result<Answer> {
        let mut stream = self.connect()?;
        stream.write_all(bytes)?;
        read_answer(&mut stream)
    }

    /// Sends a request with these further header lines, each with its end.
    pub fn request(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let host = match self {
            Self::Tcp(port) => format!("127.0.0.1:{port}"),
            Self::Unix(_) => "localhost".to_owned(),
        };
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}{length}\r\n{body}");
        self.send(request.as_bytes()).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "", "")
    }

    /// Gives a command, with the token.
    pub fn command(&self, name: &str, fields: &Value) -> Answer {
        let token = match self {
            Self::Tcp(_) => format!("Authorization: Bearer {TOKEN}\r\n"),
            Self::Unix(_) => String::new(),
        };
        let headers = format!("{token}Content-Type: application/json\r\n");
        self.request("POST", &format!("/v1/{name}"), &headers, &fields.to_string())
    }

    /// Gives a command that is carried out, and returns what it answers.
    pub fn carries_out(&self, name: &str, fields: &Value) -> Value {
        let answer = self.command(name, fields);
        assert_eq!(answer.status, 200, "{name} {fields}: {answer:?}");
        answer.json()
    }

    /// The value of a metric with exactly this name and these labels, 0 if it is not there.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").body;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }
}

/// Reads an answer to the end of its connection.
pub fn read_answer(stream: &mut impl Read) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no answer"));
    };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

/// The path of a socket in a folder.
pub fn socket_in(folder: &Path) -> PathBuf {
    folder.join("admin.sock")
}

/// How long a command may take that the broker's thread carries out.
pub const SOON: Duration = Duration::from_secs(10);
