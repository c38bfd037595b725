//! Changes the settings while calls continue. New requests use the new settings; existing legs and transactions stay as
//! they are.

use std::mem;
use std::sync::Arc;
use std::time::Instant;

use super::Endpoint;
use crate::config::Config;
use crate::leg::TrunkName;
use crate::peer::TrunkStatus;

impl Endpoint {
    /// Replaces the settings for everything that happens from now on. Sockets, their addresses and the timers do not
    /// change.
    ///
    /// A trunk keeps its calls and its index while the endpoint lives, even if the new settings do not contain it. Then
    /// its registration is removed, and requests no longer belong to it. The number of indexes is the number of
    /// different trunk names since the start.
    pub fn reconfigure(&mut self, now: Instant, mut config: Config) {
        let trunks = mem::take(&mut config.peers);
        let directory = Arc::clone(&config.directory);
        let old = mem::take(&mut self.core.config);
        self.core.config = Config { listen: old.listen, advertise: old.advertise, timers: old.timers, ..config };
        self.phones.reconfigure(self.core.config.registrar.clone(), directory);
        self.trunks.reconfigure(&mut self.core, now, trunks);
        self.serve_trunks(now);
    }

    /// Every trunk by its index; `None` for trunks that are no longer configured.
    #[must_use]
    pub fn peers(&self) -> Vec<Option<(TrunkName, TrunkStatus)>> {
        self.trunks.statuses()
    }
}

#[cfg(test)]
mod tests;
