//! The protection of a leg's packets. Packets are plain, or SRTP with keys from offer and answer.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::network::{Flow, Network};
use crate::rtp::srtp::{Keys, LONGEST, LONGEST_TRAILER, Refused, Srtp, SrtpState};
use crate::sdp::Protection;

/// The state of the protection. `former` is the SRTP context of earlier keys. If the same keys return, their packet
/// indices must not restart.
#[derive(Debug)]
pub(super) enum SrtpContext {
    /// Packets are not encrypted.
    Plain { former: Option<Box<Srtp>> },
    /// We have offered keys, and no answer has arrived. No packet is sent or accepted.
    AwaitingKeys { former: Option<Box<Srtp>> },
    /// Packets are encrypted and authenticated.
    Keyed(Box<Srtp>),
}

/// The state of the protection as data. It contains the keys.
#[derive(Serialize, Deserialize)]
pub(super) enum SrtpContextState {
    Plain { former: Option<Box<SrtpState>> },
    AwaitingKeys { former: Option<Box<SrtpState>> },
    Keyed(Box<SrtpState>),
}

impl Default for SrtpContext {
    fn default() -> SrtpContext {
        SrtpContext::Plain { former: None }
    }
}

impl SrtpContext {
    pub(super) fn state(&self) -> SrtpContextState {
        let state = |srtp: &Srtp| Box::new(srtp.state());
        match self {
            SrtpContext::Plain { former } => SrtpContextState::Plain { former: former.as_deref().map(state) },
            SrtpContext::AwaitingKeys { former } => {
                SrtpContextState::AwaitingKeys { former: former.as_deref().map(state) }
            }
            SrtpContext::Keyed(srtp) => SrtpContextState::Keyed(state(srtp)),
        }
    }

    /// Creates the protection from data ([`Srtp::resume`]).
    pub(super) fn resume(state: SrtpContextState, skipped: u16) -> SrtpContext {
        let resume = |state: Box<SrtpState>| Srtp::resume(*state, skipped).map(Box::new);
        match state {
            SrtpContextState::Plain { former } => SrtpContext::Plain { former: former.and_then(resume) },
            SrtpContextState::AwaitingKeys { former } => SrtpContext::AwaitingKeys { former: former.and_then(resume) },
            SrtpContextState::Keyed(state) => {
                resume(state).map_or(SrtpContext::AwaitingKeys { former: None }, SrtpContext::Keyed)
            }
        }
    }

    /// Applies the negotiated protection. Unchanged keys keep their state.
    pub(super) fn set(&mut self, protection: &Protection) {
        if matches!((&protection, &self), (Protection::Dtls, SrtpContext::Keyed(_))) {
            return;
        }
        let former = match std::mem::take(self) {
            SrtpContext::Plain { former } | SrtpContext::AwaitingKeys { former } => former,
            SrtpContext::Keyed(srtp) => Some(srtp),
        };
        *self = match (protection, former) {
            (Protection::Plain, former) => SrtpContext::Plain { former },
            (Protection::Open | Protection::Dtls, former) => SrtpContext::AwaitingKeys { former },
            (Protection::Keyed(keys), Some(mut srtp)) => {
                srtp.rekey((**keys).clone());
                SrtpContext::Keyed(srtp)
            }
            (Protection::Keyed(keys), None) => match Srtp::new((**keys).clone()) {
                Some(srtp) => SrtpContext::Keyed(Box::new(srtp)),
                None => SrtpContext::AwaitingKeys { former: None },
            },
        };
    }

    /// Applies the keys of a handshake.
    pub(super) fn set_keys(&mut self, keys: Keys) {
        self.set(&Protection::Keyed(Box::new(keys)));
    }

    pub(super) fn is_plain(&self) -> bool {
        matches!(self, SrtpContext::Plain { .. })
    }

    /// Decrypts a datagram in place. Returns the length of the plain packet.
    #[inline]
    pub(super) fn decrypt(&mut self, flow: Flow, packet: &mut [u8]) -> Result<usize, Refused> {
        match (self, flow) {
            (SrtpContext::Plain { .. }, _) => Ok(packet.len()),
            (SrtpContext::Keyed(srtp), Flow::Rtcp) => srtp.unprotect_rtcp(packet),
            (SrtpContext::Keyed(srtp), _) => srtp.unprotect(packet),
            (SrtpContext::AwaitingKeys { .. }, _) => Err(Refused::Forged),
        }
    }

    /// Sends an RTP or RTCP packet through the socket `socket` of `slot`. A packet that cannot be encrypted is not sent.
    pub(super) fn send(
        &mut self,
        (slot, socket): (usize, Flow),
        flow: Flow,
        to: SocketAddr,
        packet: &[u8],
        network: &mut dyn Network,
    ) {
        match self {
            SrtpContext::Plain { .. } => network.send(slot, socket, to, packet),
            SrtpContext::Keyed(srtp) => {
                let mut buffer = [0; LONGEST + LONGEST_TRAILER];
                let Some(place) = buffer.get_mut(..packet.len()) else { return };
                place.copy_from_slice(packet);
                let length = match flow {
                    Flow::Rtcp => srtp.protect_rtcp(&mut buffer, packet.len()),
                    _ => srtp.protect(&mut buffer, packet.len()),
                };
                if let Some(packet) = length.and_then(|length| buffer.get(..length)) {
                    network.send(slot, socket, to, packet);
                }
            }
            SrtpContext::AwaitingKeys { .. } => {}
        }
    }
}
