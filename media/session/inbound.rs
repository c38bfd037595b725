//! The RTP stream received from a leg: its statistics, its rate limit, and the counters of dropped datagrams.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::event::Stats;
use crate::network::Counts;
use crate::rtp::receiver::{PacketBudget, Receiver};
use crate::transport::Refusal;

/// The state of the RTP stream received from a leg.
#[derive(Default, Clone, Serialize, Deserialize)]
pub(super) struct Inbound {
    pub(super) receiver: Receiver,
    pub(super) budget: PacketBudget,
    /// Whether the application has muted the leg. The audio of a muted leg is replaced with silence or dropped.
    pub(super) muted: bool,
    /// Whether the next packet is reported to the application.
    pub(super) reports_next: bool,
    dropped: Dropped,
}

/// The reason why a datagram is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DropReason {
    /// The far end's SDP says that the far end sends nothing. So the engine cannot tell packets of the far end from
    /// packets of a stranger.
    OnHold,
    /// The packet is not authentic under the agreed SRTP key, or it is a replay.
    Srtp,
    /// The datagram is STUN or DTLS of a stranger.
    Connection,
    /// The datagram is neither RTP nor RTCP.
    Malformed,
    /// The payload type was not agreed.
    PayloadType,
    /// RTP came from a source that is not the latched source.
    UnknownSource,
    /// RTCP came from a host that is not the source of RTP.
    RtcpUnknownSource,
    /// Packets come faster than [`PacketBudget`] allows.
    Flood,
    /// Two audio sources of the far end send at the same time, and the packet is from the source that is not heard.
    OtherSource,
    /// RTCP was about streams of other sessions.
    ForeignRtcp,
}

/// The number of dropped datagrams for each reason.
#[derive(Default, Clone, Serialize, Deserialize)]
struct Dropped {
    on_hold: u64,
    srtp: u64,
    connection: u64,
    malformed: u64,
    payload_type: u64,
    unknown_source: u64,
    flood: u64,
    other_source: u64,
    rtcp: u64,
    first_unknown_source: Option<SocketAddr>,
}

impl From<Refusal> for DropReason {
    fn from(refusal: Refusal) -> DropReason {
        match refusal {
            Refusal::OnHold => DropReason::OnHold,
            Refusal::UnknownRtcpSource => DropReason::RtcpUnknownSource,
            Refusal::Srtp => DropReason::Srtp,
            Refusal::Connection => DropReason::Connection,
        }
    }
}

impl Inbound {
    /// Counts a dropped datagram.
    pub(super) fn note_dropped(&mut self, why: DropReason, from: SocketAddr, counts: &mut Counts) {
        let dropped = &mut self.dropped;
        let count = match why {
            DropReason::OnHold => &mut dropped.on_hold,
            DropReason::Srtp => &mut dropped.srtp,
            DropReason::Connection => &mut dropped.connection,
            DropReason::Malformed => &mut dropped.malformed,
            DropReason::PayloadType => &mut dropped.payload_type,
            DropReason::UnknownSource => {
                dropped.first_unknown_source.get_or_insert(from);
                &mut dropped.unknown_source
            }
            DropReason::RtcpUnknownSource => &mut dropped.unknown_source,
            DropReason::Flood => &mut dropped.flood,
            DropReason::OtherSource => &mut dropped.other_source,
            DropReason::ForeignRtcp => &mut dropped.rtcp,
        };
        *count += 1;
        match why {
            DropReason::Malformed => counts.malformed += 1,
            _ => counts.dropped += 1,
        }
    }

    /// Adds the counters of dropped datagrams to a session's statistics.
    pub(super) fn add_dropped(&self, stats: &mut Stats) {
        let Dropped {
            on_hold,
            srtp,
            connection,
            malformed,
            payload_type,
            unknown_source,
            flood,
            other_source,
            rtcp,
            first_unknown_source,
        } = self.dropped;
        stats.dropped_held = on_hold;
        stats.dropped_srtp = srtp;
        stats.dropped_connection = connection;
        stats.dropped_malformed = malformed;
        stats.dropped_payload_type = payload_type;
        stats.dropped_unknown_source = unknown_source;
        stats.dropped_flood = flood;
        stats.dropped_other_source = other_source;
        stats.dropped_rtcp = rtcp;
        stats.unknown_source = first_unknown_source;
    }
}
