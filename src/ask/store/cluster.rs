//! The servers of a cluster: which of them has a name, and connections to all of them. Nobody waits for a connection that
//! is not there: the keeper makes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use redis::{Cmd, RedisError, Value, cmd};

use super::link::{Link, Way};

/// The slots of every cluster.
const SLOTS: u16 = 16_384;

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
        let ranges = ranges(&told, host).filter(|ranges| !ranges.is_empty());
        let ranges = ranges.ok_or_else(|| format!("{host}:{port} knows no server of the cluster"))?;
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
fn ranges(told: &Value, asked: &str) -> Option<Vec<(u16, u16, String, u16)>> {
    let Value::Array(ranges) = told else { return None };
    let range = |range: &Value| {
        let Value::Array(range) = range else { return None };
        let [Value::Int(from), Value::Int(to), Value::Array(master), ..] = range.as_slice() else {
            return None;
        };
        let [host, Value::Int(port), ..] = master.as_slice() else { return None };
        let host = match host {
            Value::BulkString(host) if !host.is_empty() => String::from_utf8(host.clone()).ok()?,
            _ => asked.to_owned(),
        };
        Some((u16::try_from(*from).ok()?, u16::try_from(*to).ok()?, host, u16::try_from(*port).ok()?))
    };
    ranges.iter().map(range).collect()
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
}
