//! The server's replies, well-formed or not.

use std::str::FromStr;
use std::time::Duration;

/// The server's reaction to a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A well-formed answer; without a status, the rules decide between 200 and 403.
    Http { status: Option<u16>, headers: Vec<(String, String)>, body: Vec<u8> },
    /// Another reply, after some time.
    After(Duration, Box<Reply>),
    /// Sends nothing until the other side goes away.
    Hang,
    /// Ends the connection with a TCP reset.
    Reset,
    /// Ends the connection without an answer.
    Close,
    /// Sends these bytes and ends the connection.
    Raw(Vec<u8>),
    /// Sends these bytes one at a time and ends the connection.
    ByteByByte { bytes: Vec<u8>, every: Duration },
    /// Sends `start`, then `again` and `again` until the other side goes away.
    Endless { start: Vec<u8>, again: Vec<u8>, every: Duration },
}

impl Reply {
    /// The reply that the rules choose: 200 or 403.
    pub fn rules() -> Self {
        Self::Http { status: None, headers: Vec::new(), body: Vec::new() }
    }

    pub fn status(status: u16) -> Self {
        Self::Http { status: Some(status), headers: Vec::new(), body: Vec::new() }
    }

    /// A 200 with this JSON.
    pub fn json(body: &serde_json::Value) -> Self {
        Self::status(200).header("Content-Type", "application/json").body(body.to_string().as_bytes())
    }

    /// The answer to many questions.
    pub fn results(allowed: impl IntoIterator<Item = bool>) -> Self {
        let results: Vec<bool> = allowed.into_iter().collect();
        Self::status(200).body(serde_json::json!({ "results": results }).to_string().as_bytes())
    }

    pub fn redirect(to: &str) -> Self {
        Self::status(302).header("Location", to)
    }

    pub fn garbage() -> Self {
        Self::Raw(b"\x00\xff\x13SSH-2.0-this is no HTTP\r\n\r\n".to_vec())
    }

    pub fn huge_headers() -> Self {
        Self::status(200).header("X-Filler", &"x".repeat(1 << 20))
    }

    pub fn huge_body() -> Self {
        Self::status(200).body(&vec![b'x'; 4 << 20])
    }

    pub fn byte_a_second() -> Self {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec();
        Self::ByteByByte { bytes, every: Duration::from_secs(1) }
    }

    /// A head that never ends, sent so slowly that no limit on its size is reached.
    pub fn endless_headers() -> Self {
        let start = b"HTTP/1.1 200 OK\r\n".to_vec();
        Self::Endless { start, again: b"X-Filler: x\r\n".to_vec(), every: Duration::from_millis(200) }
    }

    /// A 200 with a body that never ends, sent as fast as the other side reads it.
    pub fn endless_body() -> Self {
        let start = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        Self::Endless { start, again: vec![b'x'; 64 << 10], every: Duration::ZERO }
    }

    /// Adds a header to a well-formed answer.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Self::Http { headers, .. } = &mut self {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Sets the status of a well-formed answer.
    pub fn with_status(mut self, new: u16) -> Self {
        if let Self::Http { status, .. } = &mut self {
            *status = Some(new);
        }
        self
    }

    /// Sets the body of a well-formed answer.
    pub fn body(mut self, content: &[u8]) -> Self {
        if let Self::Http { body, .. } = &mut self {
            *body = content.to_vec();
        }
        self
    }

    pub fn after(self, delay: Duration) -> Self {
        Self::After(delay, Box::new(self))
    }
}

/// Parses a reply on the command line: a status, or the name of a fault.
impl FromStr for Reply {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "rules" => Self::rules(),
            "hang" => Self::Hang,
            "reset" => Self::Reset,
            "close" => Self::Close,
            "garbage" => Self::garbage(),
            "huge-headers" => Self::huge_headers(),
            "huge-body" => Self::huge_body(),
            "byte-a-second" => Self::byte_a_second(),
            "endless-headers" => Self::endless_headers(),
            "endless-body" => Self::endless_body(),
            status => match status.parse() {
                Ok(status @ 200..=599) => Self::status(status),
                _ => {
                    return Err(format!(
                        "unknown behaviour {name:?}, expected a status from 200 to 599 or one of rules, hang, reset, close, garbage, \
                         huge-headers, huge-body, byte-a-second, endless-headers, endless-body"
                    ));
                }
            },
        })
    }
}
