//! What a leg's packets go through on their way in and out: nothing, or SRTP.

use std::net::SocketAddr;

use super::Context;
use crate::engine::Flow;
use crate::rtp::srtp::{LONGEST, LONGEST_TRAILER, Refused, Srtp};
use crate::sdp::Protection;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct SrtpContext {
    state: State,
    /// Kept while packets are plain: should its keys come back, its indices must not begin anew.
    srtp: Option<Box<Srtp>>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Plain,
    /// Nothing passes: no keys are agreed yet.
    Shut,
    Up,
}

impl SrtpContext {
    /// What offer and answer agreed. Keys that stay go on as they are.
    pub(super) fn set(&mut self, protection: &Protection) {
        self.state = match protection {
            Protection::Plain => State::Plain,
            Protection::Open => State::Shut,
            Protection::Keyed(keys) => {
                match &mut self.srtp {
                    Some(srtp) => srtp.rekey((**keys).clone()),
                    none => *none = Srtp::new((**keys).clone()).map(Box::new),
                }
                if self.srtp.is_some() { State::Up } else { State::Shut }
            }
        };
    }

    /// Whether packets go through as they are.
    pub(super) fn is_plain(&self) -> bool {
        self.state == State::Plain
    }

    /// A datagram as it came; its length then. Reads RTP's and RTCP's alike.
    pub(super) fn open(&mut self, rtcp: bool, packet: &mut [u8]) -> Result<usize, Refused> {
        match (self.state, &mut self.srtp) {
            (State::Plain, _) => Ok(packet.len()),
            (State::Up, Some(srtp)) if rtcp => srtp.unprotect_rtcp(packet),
            (State::Up, Some(srtp)) => srtp.unprotect(packet),
            (State::Shut | State::Up, _) => Err(Refused::Forged),
        }
    }

    /// Sends a packet to the peer. One that cannot be protected is not sent.
    pub(super) fn send(&mut self, flow: Flow, to: SocketAddr, packet: &[u8], cx: &mut Context<'_>) {
        match (self.state, &mut self.srtp) {
            (State::Plain, _) => cx.network.send(cx.slot, flow, to, packet),
            (State::Up, Some(srtp)) => {
                let mut room = [0; LONGEST + LONGEST_TRAILER];
                let Some(place) = room.get_mut(..packet.len()) else { return };
                place.copy_from_slice(packet);
                let length = match flow {
                    Flow::Rtp => srtp.protect(&mut room, packet.len()),
                    Flow::Rtcp => srtp.protect_rtcp(&mut room, packet.len()),
                };
                if let Some(packet) = length.and_then(|length| room.get(..length)) {
                    cx.network.send(cx.slot, flow, to, packet);
                }
            }
            (State::Shut | State::Up, _) => {}
        }
    }
}
