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
    /// Takes other settings for everything that comes from now on. Sockets, our addresses on them, and the timers stay.
    ///
    /// A trunk keeps its calls and its index for as long as the endpoint lives, also when it is not among the new ones: then
    /// its registration is withdrawn, and no request belongs to it any more. There are as many indexes as there were names.
    pub fn reconfigure(&mut self, now: Instant, mut config: Config) {
        let trunks = mem::take(&mut config.peers);
        let directory = Arc::clone(&config.directory);
        let old = mem::take(&mut self.core.config);
        self.core.config = Config { listen: old.listen, advertise: old.advertise, timers: old.timers, ..config };
        self.phones.reconfigure(self.core.config.registrar.clone(), directory);
        self.trunks.reconfigure(&mut self.core, now, trunks);
        self.serve_trunks(now);
    }

    /// Every trunk by its index; `None` for those that are not configured any more.
    #[must_use]
    pub fn peers(&self) -> Vec<Option<(TrunkName, TrunkStatus)>> {
        self.trunks.statuses()
    }
}

#[cfg(test)]
mod tests;
