//! Where the cache is that several brokers share (`shared_cache`).

use std::fmt;

use super::error::Wrong;
use super::url::can_be_looked_up;

/// The ports of a server and of a Sentinel, where none is named.
const SERVER: u16 = 6379;
const SENTINEL: u16 = 26_379;

/// How the servers of a shared cache belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrangement {
    /// One server. Where several are named, the first that takes writes.
    Single,
    /// Sentinels, which know the server that is the master of this name.
    Sentinel(String),
    /// Some servers of a cluster, which know the others.
    Cluster,
}

/// A Valkey or Redis, and how to log in there.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedCacheUrl {
    /// How its servers belong together.
    pub arrangement: Arrangement,
    /// Whether it is reached by TLS.
    pub tls: bool,
    /// Names or addresses, and ports.
    pub servers: Vec<(String, u16)>,
    /// The user of its access control list, unless it is the default one.
    pub username: Option<String>,
    /// The password, if one is wanted.
    pub password: Option<String>,
    /// The number of the database.
    pub database: u16,
}

impl SharedCacheUrl {
    /// The URL as it may stand in a log: without credentials.
    pub fn shown(&self) -> String {
        let servers: Vec<_> = self.servers.iter().map(|(host, port)| address(host, *port)).collect();
        let (kind, path) = match &self.arrangement {
            Arrangement::Single => ("", String::new()),
            Arrangement::Sentinel(master) => ("+sentinel", format!("/{master}")),
            Arrangement::Cluster => ("+cluster", String::new()),
        };
        let scheme = if self.tls { "rediss" } else { "redis" };
        format!("{scheme}{kind}://{}{path}", servers.join(","))
    }
}

/// A host and its port as they are written together.
pub fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Without credentials.
impl fmt::Debug for SharedCacheUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

/// Parses a URL of a shared cache. What is wrong with it is told without any part of it that may be a secret.
pub(super) fn shared_cache_url(text: &str) -> Result<Option<SharedCacheUrl>, Wrong> {
    parse(text).map(Some).map_err(|what| Wrong::Because(what.to_owned()))
}

const SCHEMES: &str = "expected redis:// or rediss://, or one of them with +sentinel or +cluster, such as \
                       redis+sentinel://HOST:26379,HOST:26379/MASTER";

fn parse(text: &str) -> Result<SharedCacheUrl, &'static str> {
    let (scheme, rest) = text.split_once("://").ok_or(SCHEMES)?;
    let (scheme, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
    let tls = match scheme {
        "redis" | "valkey" => false,
        "rediss" | "valkeys" => true,
        _ => return Err(SCHEMES),
    };
    if rest.contains(['?', '#']) {
        return Err("found a ? or #, which such a URL does not have; in a password write %3F and %23");
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (credentials, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (username, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    if password.is_empty() && !username.is_empty() {
        return Err(
            "found a user without a password, expected user:password@ or :password@ in front of the host",
        );
    }
    let path: Vec<&str> = if path.is_empty() { Vec::new() } else { path.split('/').collect() };
    let (arrangement, database) = match (kind, path.as_slice()) {
        ("", []) => (Arrangement::Single, "0"),
        ("", [database]) => (Arrangement::Single, *database),
        ("sentinel", [master]) if !master.is_empty() => (Arrangement::Sentinel(decoded(master)?), "0"),
        ("sentinel", [master, database]) if !master.is_empty() => {
            (Arrangement::Sentinel(decoded(master)?), *database)
        }
        ("sentinel", _) => {
            return Err("expected the name of the master behind the Sentinels, such as /mymaster");
        }
        ("cluster", []) => (Arrangement::Cluster, "0"),
        ("cluster", _) => return Err("found a path behind the hosts, which a cluster does not have"),
        ("", _) => {
            return Err("found a longer path, expected nothing or the number of a database behind the host");
        }
        _ => return Err(SCHEMES),
    };
    let port = if kind == "sentinel" { SENTINEL } else { SERVER };
    let servers: Vec<_> = hosts.split(',').map(|host| server(host, port)).collect::<Result<_, _>>()?;
    let given = |text: &str| if text.is_empty() { Ok(None) } else { decoded(text).map(Some) };
    Ok(SharedCacheUrl {
        arrangement,
        tls,
        servers,
        username: given(username)?,
        password: given(password)?,
        database: database.parse().map_err(|_| "expected the number of a database, such as /0")?,
    })
}

fn server(text: &str, default: u16) -> Result<(String, u16), &'static str> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("found [ without ]")?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("expected an IPv6 address within [ and ]");
            }
            (host, port.strip_prefix(':').or(port.is_empty().then_some("")))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port).filter(|port| !port.is_empty())),
            None => (text, Some("")),
        },
    };
    if host.is_empty() {
        return Err("there is no host in it");
    }
    if !host.contains(':') && !can_be_looked_up(host) {
        return Err("no machine can have this host name");
    }
    let port = match port {
        Some("") => default,
        Some(port) => port
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .ok_or("expected the number of a port behind the colon")?,
        None => return Err("expected the number of a port behind the colon"),
    };
    Ok((host.to_owned(), port))
}

/// What `%41` and the like stand for.
fn decoded(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "found a % without two hexadecimal digits behind it; write a % as %25";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(rest.next()).ok_or(WRONG)?, digit(rest.next()).ok_or(WRONG)?);
        bytes.push((high << 4 | low) as u8);
    }
    String::from_utf8(bytes).map_err(|_| "what its % stand for is no UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_how_servers_belong_together() {
        for (text, shown) in [
            ("redis://cache", "redis://cache:6379"),
            ("valkey://cache:7000/3", "redis://cache:7000"),
            ("rediss://user:p%40ss%2F@[::1]:6380", "rediss://[::1]:6380"),
            ("redis://:secret@127.0.0.1", "redis://127.0.0.1:6379"),
            ("rediss+sentinel://u:p@a,b:1/main", "rediss+sentinel://a:26379,b:1/main"),
            ("redis+cluster://a:7000,b:7001", "redis+cluster://a:7000,b:7001"),
        ] {
            let url = parse(text).unwrap_or_else(|what| panic!("{text}: {what}"));
            assert_eq!((url.shown().as_str(), format!("{url:?}").as_str()), (shown, shown));
        }
        let url = parse("rediss://us%65r:p%40ss%2F@h/3").unwrap();
        assert_eq!((url.username.as_deref(), url.password.as_deref()), (Some("user"), Some("p@ss/")));
        assert_eq!((url.database, url.tls), (3, true));
    }

    #[test]
    fn what_is_wrong_is_said_without_secrets() {
        for text in [
            "",
            "cache:6379",
            "http://cache",
            "redis://",
            "redis://t0psecret@cache",
            "redis://cache:0",
            "redis://cache:",
            "redis://cache:t0psecret",
            "redis://a b",
            "redis://[::1",
            "redis://[x]",
            "redis://cache/db",
            "redis://cache/0/1",
            "redis://:t0psecret%@cache",
            "redis://:t0psecret?@cache",
            "redis+sentinel://cache",
            "redis+cluster://cache/0",
            "redis+ring://cache",
        ] {
            let what = parse(text).expect_err(text);
            assert!(!what.contains("t0psecret"), "{what}");
        }
    }
}
