//! Shows and steers a running plugin: the commands, written once, and the admin listener.

mod commands;
mod connections;
mod control;
mod figures;
mod history;
mod http;
mod listeners;
mod page;
mod time;

use std::sync::Arc;

use crate::plugin::{Plugin, Steering};
pub use control::carry_out;
use history::History;
use http::Site;
use listeners::Bound;

/// The ways in through the admin listener, open from the start of a plugin to its end.
pub struct Doors {
    steering: Arc<Steering>,
    bound: Vec<Bound>,
}

impl Doors {
    /// Begins to listen where the options say so. Nobody is served yet.
    ///
    /// # Errors
    /// Why that is impossible, in words for the operator.
    pub fn open(plugin: &Plugin) -> Result<Self, String> {
        let steering = Arc::clone(plugin.steering());
        let config = steering.config();
        let mut bound = Vec::new();
        for place in &config.admin_listen {
            bound.extend(listeners::bind(place, &steering)?);
        }
        Ok(Self { steering, bound })
    }

    /// Serves those who come, on the plugin's own thread.
    ///
    /// # Errors
    /// Why there is no such thread.
    pub fn serve(&mut self) -> Result<(), String> {
        if self.bound.is_empty() {
            return Ok(());
        }
        let (steering, history) = (Arc::clone(&self.steering), Arc::new(History::default()));
        let site = Arc::new(Site::new(Arc::clone(&steering), Arc::clone(&history)));
        let connections = Arc::default();
        let run =
            |task| self.steering.run(task).map_err(|reason| format!("plugin_opt_admin_listen: {reason}"));
        run(Box::pin(history::keep(history, steering)) as listeners::Task)?;
        for bound in &mut self.bound {
            if let Some(task) = bound.accept(&connections, &site) {
                run(task)?;
            }
        }
        Ok(())
    }
}
