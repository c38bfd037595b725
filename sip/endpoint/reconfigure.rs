//! New settings while calls go on: what holds for new requests changes, what lives stays as it is.

use std::mem;
use std::sync::Arc;
use std::time::Instant;

use super::Endpoint;
use super::locate::PendingLookup;
use super::out_of_dialog::OutOfDialogRequest;
use crate::config::Config;
use crate::digest;
use crate::leg::TrunkName;
use crate::message::Uri;
use crate::peer::{Peer, PeerStatus, TrunkState};
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
        let old = mem::take(&mut self.core.config);
        self.core.config = Config { listen: old.listen, advertise: old.advertise, timers: old.timers, ..config };
        self.registrar.reconfigure(self.core.config.registrar.clone());
        self.set_directory(directory);
        for index in 0..self.trunks.len() {
            let name = self.trunks.get(index).map(|state| state.peer.trunk.clone()).unwrap_or_default();
            if !peers.iter().any(|peer| peer.trunk == name) {
                self.change_trunk(now, index, Peer::new(name));
                self.trunks.get_mut(index).into_iter().for_each(|state| state.retired = true);
            }
        }
        for peer in peers {
            match self.trunks.iter().position(|state| state.peer.trunk == peer.trunk) {
                Some(index) => self.change_trunk(now, index, peer),
                None => self.add_trunk(now, peer),
            }
        }
        self.tell_guard();
    }

    /// A trunk that was not there yet.
    pub(super) fn add_trunk(&mut self, now: Instant, peer: Peer) {
        let index = self.trunks.len();
        self.trunks.push(TrunkState::new(peer, None, None));
        self.start_trunk(now, index);
        self.update_trunk(index);
    }

    /// Every trunk by its place; `None` for those that are no more.
    #[must_use]
    pub fn peers(&self) -> Vec<Option<(TrunkName, PeerStatus)>> {
        let shown = |state: &TrunkState| (!state.retired).then(|| (state.peer.trunk.clone(), state.status()));
        self.trunks.iter().map(shown).collect()
    }

    fn change_trunk(&mut self, now: Instant, index: usize, peer: Peer) {
        let Some(state) = self.trunks.get_mut(index) else { return };
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
            self.send_register(now, index, OutOfDialogRequest::Unregister(index));
        }
        if registers_anew
            && let Some(registration) = self.trunks.get_mut(index).and_then(|state| state.registration.take())
        {
            self.trunks_by_token.remove(&registration.token);
        }
        self.start_trunk(now, index);
        self.update_trunk(index);
    }

    /// Registers with the trunk and asks how it is, if that is wanted and not done yet.
    fn start_trunk(&mut self, now: Instant, index: usize) {
        let Some(TrunkState { peer, registration, probe, .. }) = self.trunks.get_mut(index) else { return };
        if registration.is_none()
            && let Some(register) = peer.register.clone()
        {
            let session = peer.credentials.clone().map(digest::Session::new);
            let begun = registration.insert(Registration::new(now, register, session, &mut self.core.rng));
            self.trunks_by_token.insert(begun.token, index);
        }
        if probe.is_none() && peer.uri.is_some() {
            *probe = peer.options_interval.map(|interval| Probe::new(now, interval, &mut self.core.rng));
        }
        let uri = peer.uri.as_deref().filter(|_| probe.is_none()).and_then(|uri| Uri::parse(uri.as_bytes()));
        if let Some(uri) = uri {
            let trunk = Some(peer.trunk.clone());
            self.locate(now, &uri, trunk, PendingLookup::OutOfDialog(OutOfDialogRequest::Resolve(index)));
        }
    }
}

#[cfg(test)]
mod tests;
