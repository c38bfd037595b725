//! New settings while calls go on: what holds for new requests changes, what lives stays as it is.

use std::mem;
use std::sync::Arc;
use std::time::Instant;

use super::Endpoint;
use super::errand::Errand;
use super::locate::Waiting;
use crate::config::Config;
use crate::digest;
use crate::leg::TrunkName;
use crate::message::Uri;
use crate::peer::{Peer, PeerState, PeerStatus};
use crate::probe::Probe;
use crate::registration::{Registration, Step};

impl Endpoint {
    /// Takes other settings, for all that comes from now on. Sockets, what we call ourselves on them, and the timers stay.
    ///
    /// A trunk keeps its calls and its place among the peers for as long as the endpoint lives, also when it is not among the
    /// new ones: then it is withdrawn where it was registered and is nobody's any more. There are as many places as there
    /// were names.
    pub fn reconfigure(&mut self, now: Instant, mut config: Config) {
        let peers = mem::take(&mut config.peers);
        let directory = Arc::clone(&config.directory);
        let old = mem::take(&mut self.config);
        self.config = Config { listen: old.listen, advertise: old.advertise, timers: old.timers, ..config };
        self.registrar.reconfigure(self.config.registrar.clone());
        self.set_directory(directory);
        for index in 0..self.peers.len() {
            let name = self.peers.get(index).map(|state| state.peer.trunk.clone()).unwrap_or_default();
            if !peers.iter().any(|peer| peer.trunk == name) {
                self.change_peer(now, index, Peer::new(name));
                self.peers.get_mut(index).into_iter().for_each(|state| state.retired = true);
            }
        }
        for peer in peers {
            match self.peers.iter().position(|state| state.peer.trunk == peer.trunk) {
                Some(index) => self.change_peer(now, index, peer),
                None => self.add_peer(now, peer),
            }
        }
        self.tell_guard();
    }

    /// A trunk that was not there yet.
    pub(super) fn add_peer(&mut self, now: Instant, peer: Peer) {
        let index = self.peers.len();
        self.peers.push(PeerState::new(peer, None, None));
        self.begin_errands(now, index);
        self.settle_peer(index);
    }

    /// Every trunk by its place; `None` for those that are no more.
    #[must_use]
    pub fn peers(&self) -> Vec<Option<(TrunkName, PeerStatus)>> {
        let shown = |state: &PeerState| (!state.retired).then(|| (state.peer.trunk.clone(), state.status()));
        self.peers.iter().map(shown).collect()
    }

    fn change_peer(&mut self, now: Instant, index: usize, peer: Peer) {
        let Some(state) = self.peers.get_mut(index) else { return };
        let (credentials, old) = (peer.credentials.clone(), mem::replace(&mut state.peer, peer));
        state.retired = false;
        let (uri, interval) = (&state.peer.uri, state.peer.options_interval);
        if (&old.uri, old.options_interval) != (uri, interval) {
            state.probe = None;
        }
        let registers_anew = old.register != state.peer.register || old.credentials != credentials;
        if old.uri != state.peer.uri {
            state.addresses.clear();
        }
        if registers_anew && state.registration.as_mut().map(Registration::stop) == Some(Step::Send) {
            // What comes of it is of no interest: the old Contact is over in time anyway.
            self.send_register(now, index, Errand::Leave(index));
        }
        if registers_anew
            && let Some(registration) = self.peers.get_mut(index).and_then(|state| state.registration.take())
        {
            self.peers_by_token.remove(&registration.token);
        }
        self.begin_errands(now, index);
        self.settle_peer(index);
    }

    /// Registers with the trunk and asks how it is, if that is wanted and not done yet.
    fn begin_errands(&mut self, now: Instant, index: usize) {
        let Some(PeerState { peer, registration, probe, .. }) = self.peers.get_mut(index) else { return };
        if registration.is_none()
            && let Some(register) = peer.register.clone()
        {
            let session = peer.credentials.clone().map(digest::Session::new);
            let begun = registration.insert(Registration::new(now, register, session, &mut self.rng));
            self.peers_by_token.insert(begun.token, index);
        }
        if probe.is_none() && peer.uri.is_some() {
            *probe = peer.options_interval.map(|interval| Probe::new(now, interval, &mut self.rng));
        }
        let uri = peer.uri.as_deref().filter(|_| probe.is_none()).and_then(|uri| Uri::parse(uri.as_bytes()));
        if let Some(uri) = uri {
            let trunk = Some(peer.trunk.clone());
            self.locate(now, &uri, trunk, Waiting::Errand(Errand::Locate(index)));
        }
    }
}

#[cfg(test)]
mod tests;
