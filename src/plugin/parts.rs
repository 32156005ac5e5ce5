//! What the parts of a plugin hold in common, made before they are.

use std::sync::Arc;
use std::time::Instant;

use super::api::Api;
use super::expiry::Expiry;
use super::granting::Granting;
use super::kicks::Kicks;
use super::leaving::Leaving;
use super::sessions::Sessions;
use super::tasks::Tasks;
use super::throttle::Throttle;
use super::ticks::Ticks;
use crate::ask::Asker;
use crate::ask::http::Target;
use crate::broker::Broker;
use crate::fingerprint::Fingerprinter;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::prefetch::Prefetch;

/// What several parts hold.
#[derive(Clone)]
pub struct Parts {
    /// Decides by the API.
    pub api: Arc<Api>,
    /// The door to the API's verdicts.
    pub asker: Arc<Asker>,
    /// Asks before the broker asks.
    pub prefetch: Arc<Prefetch>,
    /// Whether the broker ticks.
    pub ticks: Arc<Ticks>,
    /// Who was let in, and by what.
    pub sessions: Arc<Sessions>,
    /// Counts wrong passwords.
    pub throttle: Arc<Throttle>,
    /// Who has to leave.
    pub leaving: Arc<Leaving>,
    /// Gives sessions what came with the API's answers.
    pub granting: Arc<Granting>,
    /// Disconnects those who are connected.
    pub kicks: Arc<Kicks>,
    /// Where other threads leave answers for the broker's thread.
    pub tasks: Arc<Tasks>,
    /// Makes fingerprints.
    pub keys: Fingerprinter,
    /// Whether clients wait beside the broker's loop for their logins.
    pub delays: bool,
    /// The broker.
    pub broker: Arc<dyn Broker>,
    /// The log.
    pub log: Arc<Log>,
    /// Counts what is decided.
    pub metrics: Arc<Metrics>,
}

impl Parts {
    /// Parts that know nobody yet, and ask this API. They start no thread and send nothing.
    pub fn new(
        target: Target,
        delays: bool,
        keys: Fingerprinter,
        broker: Arc<dyn Broker>,
        log: Arc<Log>,
        now: Instant,
    ) -> Self {
        let (metrics, tasks) = (Arc::new(Metrics::new()), Arc::new(Tasks::new(Arc::clone(&broker))));
        let asker = Asker::new(
            Arc::clone(&log),
            Arc::clone(&broker),
            keys,
            Arc::new(target),
            Arc::clone(&metrics),
            now,
        );
        let asker = Arc::new(asker);
        let prefetch = Arc::new(Prefetch::new(Arc::clone(&asker), Arc::clone(&broker), keys, now));
        let sessions = Arc::new(Sessions::new(keys, broker.is_2_1()));
        let throttle = Arc::new(Throttle::new(keys));
        let leaving = Arc::<Leaving>::default();
        let kicks = Arc::new(Kicks::new(Arc::clone(&sessions), Arc::clone(&broker)));
        let expiry = Arc::new(Expiry::new(Arc::clone(&leaving), Arc::clone(&tasks)));
        let granting =
            Granting::new(Arc::clone(&asker), Arc::clone(&sessions), keys, expiry, Arc::clone(&log));
        let ticks = Arc::new(Ticks::new(now));
        let api = Api::new(
            Arc::clone(&asker),
            Arc::clone(&prefetch),
            Arc::clone(&ticks),
            Arc::clone(&sessions),
            Arc::clone(&throttle),
            delays,
            now,
        );
        Self {
            api: Arc::new(api),
            asker,
            prefetch,
            ticks,
            sessions,
            throttle,
            leaving,
            granting: Arc::new(granting),
            kicks,
            tasks,
            keys,
            delays,
            broker,
            log,
            metrics,
        }
    }
}
