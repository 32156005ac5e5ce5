//! The servers of a shared cache, and which of them is asked.

use std::time::Duration;

use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value, cmd};
use tokio::time::timeout;

use super::cluster::Cluster;
use super::link::{Link, Way, cause, host_name};
use crate::config::Arrangement;

/// Entries of journals that are read in one go.
pub(super) const AT_ONCE: usize = 1_000;

/// How long a server may take for a command that nobody waits for.
const AT_LEISURE: Duration = Duration::from_secs(2);

/// Connections to a shared cache: some for verdicts, and one that waits for entries of the journal.
pub struct Servers {
    verdicts: Verdicts,
    journal: Link,
    way: Way,
    /// A name that is where the journal is.
    journal_name: String,
}

enum Verdicts {
    /// All are at one server, which must be the master if there are others.
    One(Link, bool),
    Many(Cluster),
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    /// The server is there, and refuses this command. What it says.
    Refused(String),
    /// What stands there is of another type.
    Foreign,
    /// Of several servers the one that has this name is not there. The others are.
    Away,
    /// The server is not there, or not good for anything. Why.
    Lost(String),
}

impl Failed {
    fn of(error: &RedisError) -> Self {
        let why = cause(error);
        match error.kind() {
            ErrorKind::Extension if error.code() == Some("WRONGTYPE") => Failed::Foreign,
            ErrorKind::Extension if error.code() == Some("OOM") => Failed::Refused(why),
            ErrorKind::Server(ServerErrorKind::ResponseError | ServerErrorKind::NoPerm) => {
                Failed::Refused(why)
            }
            _ => Failed::Lost(why),
        }
    }

    /// Why it failed, for the log.
    pub fn why(self) -> String {
        match self {
            Failed::Refused(why) | Failed::Lost(why) => why,
            Failed::Foreign => "what stands there is of another type".to_owned(),
            Failed::Away => "the server that has it is away".to_owned(),
        }
    }
}

impl Servers {
    /// Connects to the servers that take writes now. `journal_name` is the name of a journal.
    ///
    /// # Errors
    /// Why that is impossible, in words for the operator.
    pub async fn open(way: &Way, journal_name: &str) -> Result<Self, String> {
        let (verdicts, host, port) = match &way.url.arrangement {
            Arrangement::Single => {
                let (link, host, port) = first_master(way, way.url.servers.clone()).await?;
                (Verdicts::One(link, way.url.servers.len() > 1), host, port)
            }
            Arrangement::Sentinel(name) => {
                let (link, host, port) = first_master(way, vec![ask_sentinels(way, name).await?]).await?;
                (Verdicts::One(link, true), host, port)
            }
            Arrangement::Cluster => {
                let cluster = Cluster::open(way).await?;
                let nobody = || "no server of the cluster has the journal".to_owned();
                let (host, port) = cluster.address(journal_name).ok_or_else(nobody)?;
                (Verdicts::Many(cluster), host, port)
            }
        };
        let journal = Link::open(way, (&host, port), false).await?;
        Ok(Self { verdicts, journal, way: way.clone(), journal_name: journal_name.to_owned() })
    }

    /// Sends a command about a name. It may take as long as its future is waited for.
    ///
    /// # Errors
    /// Why it was not carried out.
    pub async fn ask(&self, name: &str, command: &Cmd) -> Result<Value, Failed> {
        match &self.verdicts {
            Verdicts::One(link, _) => link.ask(command).await.map_err(|error| Failed::of(&error)),
            Verdicts::Many(cluster) => {
                let error = match cluster.ask(name, command).await {
                    Some(Ok(reply)) => return Ok(reply),
                    Some(Err(error)) => error,
                    None => return Err(Failed::Away),
                };
                match Failed::of(&error) {
                    Failed::Lost(_) => {
                        // Another server has it, or will have.
                        cluster.distrust(name, !matches!(error.kind(), ErrorKind::Server(_)));
                        Err(Failed::Away)
                    }
                    failed => Err(failed),
                }
            }
        }
    }

    /// A command about a name has taken too long. Whether that is so of all names.
    pub fn is_lost(&self, name: &str) -> bool {
        match &self.verdicts {
            Verdicts::One(..) => true,
            Verdicts::Many(cluster) => {
                cluster.distrust(name, true);
                false
            }
        }
    }

    /// Sends a command to the server that has the journal.
    ///
    /// # Errors
    /// Why it was not carried out.
    pub async fn ask_journal(&self, command: &Cmd) -> Result<Value, Failed> {
        self.ask_at_leisure(&self.journal_name, command).await
    }

    /// Sends a command about a name, for [`AT_LEISURE`] at most.
    ///
    /// # Errors
    /// Why it was not carried out.
    pub async fn ask_at_leisure(&self, name: &str, command: &Cmd) -> Result<Value, Failed> {
        in_time(AT_LEISURE, self.ask(name, command)).await
    }

    /// Makes sure that the right servers are asked.
    ///
    /// # Errors
    /// Another server is the master now.
    pub async fn tend(&self) -> Result<(), Failed> {
        match &self.verdicts {
            Verdicts::One(link, true) => match in_time(AT_LEISURE, is_master(link)).await? {
                true => Ok(()),
                false => Err(Failed::Lost("another server is the master now".to_owned())),
            },
            Verdicts::One(_, false) => Ok(()),
            Verdicts::Many(cluster) => {
                cluster.mend(&self.way).await;
                Ok(())
            }
        }
    }

    /// Waits for entries of journals behind what was read, for `patience` at most.
    ///
    /// # Errors
    /// Why that cannot be waited for.
    pub async fn wait_for_entries(
        &self,
        behind: &[(String, String)],
        patience: Duration,
    ) -> Result<Value, Failed> {
        let mut command = cmd("XREAD");
        command.arg("COUNT").arg(AT_ONCE).arg("BLOCK").arg(patience.as_millis() as u64).arg("STREAMS");
        for (journal, _) in behind {
            command.arg(journal);
        }
        for (_, position) in behind {
            command.arg(position);
        }
        let asking = async { self.journal.ask(&command).await.map_err(|error| Failed::of(&error)) };
        in_time(patience + AT_LEISURE, asking).await
    }
}

/// Connects to the first of these servers that is a master.
async fn first_master(way: &Way, servers: Vec<(String, u16)>) -> Result<(Link, String, u16), String> {
    let (mut why, is_only) =
        (String::new(), way.url.servers.len() == 1 && way.url.arrangement == Arrangement::Single);
    for (host, port) in servers {
        let link = match Link::open(way, (&host, port), false).await {
            Ok(link) => link,
            Err(error) => {
                why = error;
                continue;
            }
        };
        // Who has no other need not be allowed to ask for its role.
        match if is_only { Ok(true) } else { in_time(AT_LEISURE, is_master(&link)).await } {
            Ok(true) => return Ok((link, host, port)),
            Ok(false) => why = format!("{host}:{port} is a replica"),
            Err(failed) => why = format!("{host}:{port}: {}", failed.why()),
        }
    }
    Err(why)
}

async fn is_master(link: &Link) -> Result<bool, Failed> {
    let role = link.ask(&cmd("ROLE")).await.map_err(|error| Failed::of(&error))?;
    Ok(
        matches!(role, Value::Array(role) if matches!(role.first(), Some(Value::BulkString(name)) if name == b"master")),
    )
}

/// The address of the master of this name, as the first Sentinel tells that knows it.
async fn ask_sentinels(way: &Way, name: &str) -> Result<(String, u16), String> {
    let mut why = String::new();
    for (host, port) in &way.url.servers {
        // Many want no password where the servers do.
        for anonymous in [true, false] {
            match ask_sentinel(way, (host, *port), name, anonymous).await {
                Ok(address) => return Ok(address),
                Err(error) => why = format!("the Sentinel {host}:{port}: {error}"),
            }
        }
    }
    Err(why)
}

async fn ask_sentinel(
    way: &Way,
    sentinel: (&str, u16),
    name: &str,
    anonymous: bool,
) -> Result<(String, u16), String> {
    let link = Link::open(way, sentinel, anonymous).await?;
    let mut command = cmd("SENTINEL");
    command.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    let asking = async { link.ask(&command).await.map_err(|error| Failed::of(&error)) };
    let told = in_time(AT_LEISURE, asking).await.map_err(Failed::why)?;
    let text = |value: &Value| match value {
        Value::BulkString(text) => host_name(text),
        _ => None,
    };
    let address = match &told {
        Value::Array(address) => match address.as_slice() {
            [host, port] => text(host).zip(text(port).and_then(|port| port.parse().ok())),
            _ => None,
        },
        _ => None,
    };
    address.ok_or_else(|| format!("it knows no master {name:?}"))
}

async fn in_time<T>(limit: Duration, asking: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
    let late = || Failed::Lost(format!("no answer within {limit:?}"));
    timeout(limit, asking).await.unwrap_or_else(|_| Err(late()))
}
