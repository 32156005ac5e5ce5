//! The servers of a cluster: which of them has a name, and connections to all of them. Nobody waits for a connection that
//! is not there: the keeper makes it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use redis::{Cmd, RedisError, Value, cmd};

use super::link::{Link, Way, host_name};

/// The slots of every cluster.
const SLOTS: u16 = 16_384;

/// The most ranges of slots, and servers, that a map is believed to have. There is a connection to each server, and whoever
/// speaks for the store could name any number.
const RANGES: usize = 1_000;
const SERVERS: usize = 128;

/// The servers as they are known, and connections to them.
pub struct Cluster {
    map: ArcSwap<Map>,
    /// The map is not right any more.
    is_old: AtomicBool,
}

#[derive(Default)]
struct Map {
    /// From which slot to which one, and the number of the server that has them.
    ranges: Vec<(u16, u16, usize)>,
    nodes: Vec<Arc<Node>>,
}

struct Node {
    host: String,
    port: u16,
    link: Option<Link>,
    /// It has not answered.
    is_lost: AtomicBool,
}

impl Cluster {
    /// Asks the servers that are named for the map, and connects to all that it has.
    ///
    /// # Errors
    /// Why no server tells.
    pub async fn open(way: &Way) -> Result<Self, String> {
        let mut why = String::new();
        for (host, port) in &way.url.servers {
            match Map::by(way, host, *port, &Map::default()).await {
                Ok(map) => {
                    return Ok(Self { map: ArcSwap::from_pointee(map), is_old: AtomicBool::new(false) });
                }
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    /// Sends a command to the server that has a name. `None` if there is no connection to it.
    pub async fn ask(&self, name: &str, command: &Cmd) -> Option<Result<Value, RedisError>> {
        let node = self.map.load().node(name)?;
        if node.is_lost.load(Ordering::Relaxed) {
            return None;
        }
        let asking = node.link.as_ref()?.ask(command);
        Some(asking.await)
    }

    /// The address of the server that has a name.
    pub fn address(&self, name: &str) -> Option<(String, u16)> {
        self.map.load().node(name).map(|node| (node.host.clone(), node.port))
    }

    /// The server that has a name has not answered, or says that another has it.
    pub fn distrust(&self, name: &str, is_lost: bool) {
        if let Some(node) = self.map.load().node(name).filter(|_| is_lost) {
            node.is_lost.store(true, Ordering::Relaxed);
        }
        self.is_old.store(true, Ordering::Relaxed);
    }

    /// Asks for the map again if it may not be right, and connects to those that there is no connection to.
    pub async fn mend(&self, way: &Way) {
        if !self.is_old.swap(false, Ordering::Relaxed) {
            return;
        }
        let before = self.map.load_full();
        let known = before.nodes.iter().map(|node| (node.host.clone(), node.port));
        for (host, port) in known.chain(way.url.servers.iter().cloned()) {
            if let Ok(map) = Map::by(way, &host, port, &before).await {
                let is_whole = map.nodes.iter().all(|node| node.link.is_some());
                self.is_old.fetch_or(!is_whole, Ordering::Relaxed);
                self.map.store(Arc::new(map));
                return;
            }
        }
        self.is_old.store(true, Ordering::Relaxed);
    }
}

impl Map {
    /// The map that a server tells. Connections that work are taken over.
    async fn by(way: &Way, host: &str, port: u16, before: &Self) -> Result<Self, String> {
        let link = Link::open(way, (host, port), false).await?;
        let told = link.ask(cmd("CLUSTER").arg("SLOTS")).await.map_err(|error| super::link::cause(&error))?;
        let ranges = ranges(&told, host).map_err(|why| format!("{host}:{port} {why}"))?;
        let mut map = Self::default();
        for (from, to, host, port) in ranges {
            let is_it = |node: &Arc<Node>| node.host == host && node.port == port;
            let index = match map.nodes.iter().position(is_it) {
                Some(index) => index,
                None => {
                    let works =
                        |node: &&Arc<Node>| node.link.is_some() && !node.is_lost.load(Ordering::Relaxed);
                    let node = match before.nodes.iter().filter(|node| is_it(node)).find(works) {
                        Some(node) => Arc::clone(node),
                        None => {
                            let link = Link::open(way, (&host, port), false).await.ok();
                            Arc::new(Node { host, port, link, is_lost: AtomicBool::new(false) })
                        }
                    };
                    map.nodes.push(node);
                    map.nodes.len() - 1
                }
            };
            map.ranges.push((from, to, index));
        }
        Ok(map)
    }

    fn node(&self, name: &str) -> Option<Arc<Node>> {
        let slot = slot(name);
        let range = self.ranges.iter().find(|(from, to, _)| (*from..=*to).contains(&slot))?;
        self.nodes.get(range.2).cloned()
    }
}

/// The ranges of slots in an answer to CLUSTER SLOTS, and the host and port of each one's master. `asked` is the host
/// that a server means by none.
///
/// # Errors
/// What is wrong with it.
fn ranges(told: &Value, asked: &str) -> Result<Vec<(u16, u16, String, u16)>, String> {
    let nothing = || "knows no server of the cluster".to_owned();
    let Value::Array(ranges) = told else { return Err(nothing()) };
    let too_many = |count: usize, what: &str, most: usize| {
        Err(format!(
            "tells a map of the cluster that makes no sense: {count} {what}, expected at most {most}"
        ))
    };
    if ranges.len() > RANGES {
        return too_many(ranges.len(), "ranges of slots", RANGES);
    }
    let range = |range: &Value| {
        let Value::Array(range) = range else { return None };
        let [Value::Int(from), Value::Int(to), Value::Array(master), ..] = range.as_slice() else {
            return None;
        };
        let [host, Value::Int(port), ..] = master.as_slice() else { return None };
        let host = match host {
            Value::BulkString(host) if !host.is_empty() => host_name(host)?,
            _ => asked.to_owned(),
        };
        Some((u16::try_from(*from).ok()?, u16::try_from(*to).ok()?, host, u16::try_from(*port).ok()?))
    };
    let ranges: Option<Vec<_>> = ranges.iter().map(range).collect();
    let ranges = ranges.filter(|ranges| !ranges.is_empty()).ok_or_else(nothing)?;
    let servers = ranges.iter().map(|(_, _, host, port)| (host, port)).collect::<HashSet<_>>().len();
    if servers > SERVERS {
        return too_many(servers, "servers", SERVERS);
    }
    Ok(ranges)
}

/// The slot of a name: of what stands in the first braces, if anything does.
fn slot(name: &str) -> u16 {
    let tag = name.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    crc16(tag.filter(|tag| !tag.is_empty()).unwrap_or(name).as_bytes()) % SLOTS
}

/// CRC16/XMODEM, by which clusters spread names.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        (0..8).fold(
            crc ^ u16::from(*byte) << 8,
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_clusters_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot("foo"), 12_182);
        assert_eq!(slot("{user1000}.following"), slot("user1000"));
        assert_eq!(slot("mha:1:{journal}:a"), slot("mha:1:{journal}:b"));
        assert_eq!(slot("a{}b"), crc16(b"a{}b") % SLOTS);
    }

    /// So many ranges, spread over so many servers.
    fn told(count: usize, servers: usize) -> Value {
        let range = |n: usize| {
            let host = Value::BulkString(format!("10.0.0.{}", n % servers).into());
            let first = Value::Int(n as i64);
            Value::Array(vec![first.clone(), first, Value::Array(vec![host, Value::Int(6379)])])
        };
        Value::Array((0..count).map(range).collect())
    }

    #[test]
    fn a_map_of_any_size_is_not_believed() {
        assert_eq!(ranges(&told(RANGES, SERVERS), "a").map(|ranges| ranges.len()), Ok(RANGES));
        for (count, servers) in [(RANGES + 1, 3), (SERVERS + 1, SERVERS + 1), (16_384, 16_384)] {
            let why = ranges(&told(count, servers), "a").expect_err("it is too large");
            assert!(why.contains("makes no sense") && why.contains("expected at most"), "{why}");
        }
        for nothing in [told(0, 1), Value::Nil, Value::Array(vec![Value::Nil])] {
            assert!(ranges(&nothing, "a").is_err_and(|why| why.contains("knows no server")));
        }
    }
}
