//! The settings that count now, and what a SIGHUP makes of them.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use super::changes::{unsaid_ends, what_has_changed};
use super::settings::{Settings, files, what_is_asked};
use super::start_error::StartError;
use crate::ask::http::Target;
use crate::ask::resolver::Resolver;
use crate::config::BrokerOptions;
use crate::log::{Level, Log};

/// The settings that count now.
pub struct Current {
    /// The options in mosquitto.conf. The broker hands them over once, at its start.
    options: BrokerOptions,
    settings: ArcSwap<Settings>,
}

impl Current {
    /// Settings that were read from these options.
    pub fn new(options: BrokerOptions, settings: Settings) -> Self {
        Self { options, settings: ArcSwap::from_pointee(settings) }
    }

    /// The settings that count now. Holding them does not delay a reload.
    pub fn now(&self) -> Guard<Arc<Settings>> {
        self.settings.load()
    }

    /// Reads options and files again. If all are fine they count from now on, and the API to ask is returned. If not,
    /// the old settings stay.
    ///
    /// # Errors
    /// All mistakes that were found, or all checks that would end by a slip ([`StartError::UnsaidEnd`]).
    pub fn reload(
        &self,
        is_2_1: bool,
        resolver: &Resolver,
        log: &Arc<Log>,
    ) -> Result<Target, Vec<StartError>> {
        let before = self.now();
        let (settings, target) = Settings::read(&self.options, is_2_1, resolver, log)?;
        let unsaid = unsaid_ends(&before, &settings);
        if !unsaid.is_empty() {
            return Err(unsaid);
        }
        for name in settings.config.changed_for_next_start(&before.config) {
            log.warn(&format!("A new {name} counts from the broker's next start on."));
        }
        if !is_2_1 && !before.config.is_steered() && settings.config.shared_cache.is_some() {
            log.warn(
                "A first shared_cache lets other brokers disconnect a client by its id from the broker's next start on; by a \
                 username they can at once.",
            );
        }
        if is_2_1 && before.config.defer_status.is_empty() && !settings.config.defer_status.is_empty() {
            log.warn(
                "A first defer_status counts for logins of clients that wait beside the broker from its next start on: \
                 until then such an answer refuses them.",
            );
        }
        let changes = what_has_changed(&before, &settings);
        log.write(
            Level::Notice,
            format!(
                "Files are re-read ({}): {}. {changes}. Lines plugin_opt_ in mosquitto.conf are not: the broker reads \
                 them once, at its start.",
                files(&settings.config),
                what_is_asked(&settings)
            ),
        );
        self.settings.store(Arc::new(settings));
        Ok(target)
    }
}
