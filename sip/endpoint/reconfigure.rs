//! Changes the settings while calls continue. New requests use the new settings. Existing legs and transactions do not
//! change.

use std::mem;
use std::sync::Arc;
use std::time::Instant;

use super::Endpoint;
use crate::config::Config;
use crate::trunk::TrunkStatus;
use crate::trunk_acl::TrunkName;

impl Endpoint {
    /// Replaces the settings for all later inputs. The sockets, their addresses and the timers do not change.
    ///
    /// A trunk keeps its calls and its index while the endpoint lives, even if the new settings do not contain the
    /// trunk. In that case the trunk's registration is removed, and later requests do not belong to the trunk. A trunk
    /// name keeps the same index as long as the endpoint exists.
    pub fn reconfigure(&mut self, now: Instant, config: Config) {
        let trunks = config.trunk_settings.clone();
        let directory = Arc::clone(&config.directory);
        let old = mem::take(&mut self.core.config);
        self.core.config = Config { listen: old.listen, advertise: old.advertise, timers: old.timers, ..config };
        self.phones.reconfigure(self.core.config.registrar.clone(), directory);
        self.trunks.reconfigure(&mut self.core, now, trunks);
        self.serve_trunks(now);
    }

    /// Returns the names and statuses of all trunks. The position in the list is the index of the trunk. An entry is
    /// `None` if the trunk is no longer configured.
    #[must_use]
    pub fn trunk_statuses(&self) -> Vec<Option<(TrunkName, TrunkStatus)>> {
        self.trunks.statuses()
    }
}

#[cfg(test)]
mod tests;
