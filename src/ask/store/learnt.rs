//! What clients were seen to ask after their login, for all brokers: each adds what it has learnt, and one that is started
//! knows it at once. Nothing but guesses comes of it.

use std::sync::Weak;
use std::time::{Duration, Instant};

use redis::{Value as Reply, cmd};

use super::Store;
use super::listener::Listener;
use super::servers::{Failed, Servers};

/// The most bytes of it that are written and read.
const MOST: usize = 32 * 1024;

/// How often it is looked whether there is anything new.
const EVERY: Duration = Duration::from_secs(10);

/// How long it stays if nobody writes it any more: a week.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// What is known of it.
#[derive(Default)]
pub(super) struct Learnt {
    /// When it was looked at last.
    looked: Option<Instant>,
    /// What stood in the store then.
    text: String,
}

impl Store {
    /// Takes over what the others have learnt and adds what was learnt here, if it is time to.
    pub(super) async fn share_learnt(
        &self,
        servers: &Servers,
        learnt: &mut Learnt,
        listener: &Weak<dyn Listener>,
    ) -> Result<(), Failed> {
        let now = Instant::now();
        if learnt.looked.is_some_and(|looked| now.saturating_duration_since(looked) < EVERY) {
            return Ok(());
        }
        learnt.looked = Some(now);
        match self.exchange_learnt(servers, learnt, listener).await {
            // It is no more than a help, also where there is no room for it or no right to it.
            Err(Failed::Refused(_) | Failed::Foreign | Failed::Away) => Ok(()),
            result => result,
        }
    }

    async fn exchange_learnt(
        &self,
        servers: &Servers,
        learnt: &mut Learnt,
        listener: &Weak<dyn Listener>,
    ) -> Result<(), Failed> {
        for keys in &self.keys {
            let name = &keys.learnt;
            let read = cmd("GETRANGE").arg(name).arg(0).arg(2 * MOST).take();
            if let Reply::BulkString(sealed) = servers.ask_at_leisure(name, &read).await?
                && let Some(text) = keys.open_text(name, &sealed)
                && text != learnt.text
                && let Some(listener) = listener.upgrade()
            {
                if let Some(peer) = listener.peer() {
                    peer.learnt_elsewhere(&text);
                }
                learnt.text = text;
            }
        }
        let Some(listener) = listener.upgrade() else { return Ok(()) };
        let own = listener.peer().and_then(|peer| peer.learnt(MOST));
        let (Some(own), Some(keys)) = (own.filter(|own| *own != learnt.text), self.keys.first()) else {
            return Ok(());
        };
        let Some(sealed) = keys.seal_text(&keys.learnt, &own) else { return Ok(()) };
        let write = cmd("SET").arg(&keys.learnt).arg(sealed).arg("EX").arg(KEPT.as_secs()).take();
        servers.ask_at_leisure(&keys.learnt, &write).await?;
        learnt.text = own;
        Ok(())
    }
}
