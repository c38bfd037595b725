//! What a session tells its owner.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::answering::MachineVerdict;
use crate::command::{OpId, SessionKey, Track};
use crate::dtmf::Form;
use crate::quality::Impairment;
use crate::room::{NotJoined, RoomKey};

/// Where a session's events go: must not block. When it says [`Full`] the worker keeps the event (at most
/// [`BACKLOG`] of a session) and offers it again every 20 ms; beyond that the session is closed.
pub type EventSink = Arc<dyn Fn(SessionKey, Event) -> Result<(), Full> + Send + Sync>;

/// Events of one session that wait for a full sink.
pub const BACKLOG: usize = 256;

/// The sink took nothing; the same event comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// A fact about a session. Events of one session come in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The first valid RTP packet came.
    FirstPacket,
    /// The peer's RTP was silent for the configured probation and now comes from another address, where ours goes too.
    SourceMoved {
        /// From there.
        to: SocketAddr,
    },
    /// A key went down (RFC 4733). Sent once per press, at its first packet that arrives, so that a prompt stops at
    /// once; `duration_ms` is what that packet said, usually 0 to 20.
    Dtmf {
        /// `0`-`9`, `*`, `#`, `A`-`D`.
        digit: char,
        /// How long the key had been down, in ms.
        duration_ms: u32,
        /// How it came: as an event, or as tones.
        form: Form,
    },
    /// A `Play`, `Tone` or `SendDigits` is over. Completed: its last sample has been sent and 20 ms have passed.
    Finished {
        /// Of the command.
        op: OpId,
        /// Why.
        reason: FinishReason,
    },
    /// A recording's file is complete on disk.
    RecordingFinished {
        /// Of the command.
        op: OpId,
        /// Why it ended.
        reason: RecordingReason,
        /// Of the audio in the file, after trimming.
        duration: Duration,
        /// Of what was recorded, before it.
        recorded: Duration,
        /// Of that, silence in the place of audio that the disk was too slow for.
        dropped: Duration,
        /// The file.
        path: PathBuf,
        /// Its size, header included.
        bytes: u64,
    },
    /// What answered, or that its greeting is over; see [`MachineVerdict`] for which is the last.
    MachineDetected {
        /// Of the `DetectMachine` command.
        op: OpId,
        /// What was found out.
        verdict: MachineVerdict,
        /// Of the leg's audio since the command.
        after: Duration,
    },
    /// All audio written before this mark has been sent, or was cleared.
    MarkReached {
        /// Of the `Source` command.
        op: OpId,
        /// As written.
        name: Arc<str>,
    },
    /// A tap's reader is too slow: frames were dropped. At most once a second for each tap.
    StreamOverflow {
        /// Of the `Tap` command.
        op: OpId,
        /// Dropped since the last such event, in ms of one track.
        dropped_ms: u32,
    },
    /// The leg sounds bad: told once for each cause, and again only when it had been well and 30 s have passed.
    Impaired {
        /// Of what.
        cause: Impairment,
        /// How much, in the cause's own unit.
        value: f32,
    },
    /// The media thread has no time to clean that side: it goes on as it is.
    SuppressionShed {
        /// Which side.
        track: Track,
    },
    /// It is cleaned again.
    SuppressionResumed {
        /// Which side.
        track: Track,
    },
    /// A `Join` was in vain.
    NotJoined {
        /// Of the command.
        room: RoomKey,
        /// Why.
        why: NotJoined,
    },
    /// The last event: recordings are finished, ports are free.
    Closed {
        /// The whole session's figures.
        stats: Box<Stats>,
    },
}

/// How a `Play`, `Tone` or `SendDigits` ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// It came to its end.
    Completed,
    /// It was stopped, or replaced by another.
    Stopped,
}

/// Why a recording ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordingReason {
    /// By command, or because the session closed.
    Stopped,
    /// `max_length` was reached.
    MaxLength,
    /// `silence_timeout` passed.
    Silence,
    /// The file could not be written; the text says why. What was written stays.
    Error(String),
}

/// A session's figures, as RFC 3550 defines them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stats {
    /// RTP packets taken from the peer.
    pub packets_in: u64,
    /// Their payload octets.
    pub octets_in: u64,
    /// RTP packets sent to the peer.
    pub packets_out: u64,
    /// Their payload octets.
    pub octets_out: u64,
    /// Packets of the peer that never came.
    pub lost: u64,
    /// Packets that came too late to be heard, where somebody listened.
    pub late: u64,
    /// How much longer losses lasted than if they had fallen at random; 1 and more.
    pub burst_ratio: f32,
    /// What the peer last reported lost of ours.
    pub lost_by_peer: Option<u64>,
    /// Interarrival jitter, ms.
    pub jitter_ms: f32,
    /// What the peer last reported as that of ours, ms.
    pub jitter_by_peer_ms: Option<f32>,
    /// Round trip by RTCP, ms.
    pub round_trip_ms: Option<f32>,
    /// Estimated quality of what we received, 1 to 4.5 (E-model, ITU-T G.107): from loss, delay and codec.
    pub mos: Option<f32>,
    /// Of what the peer received of us, by its reports.
    pub mos_by_peer: Option<f32>,
    /// Where the peer's SDP last wanted RTP.
    pub signalled: Option<SocketAddr>,
    /// Where its packets came from last.
    pub heard_from: Option<SocketAddr>,
    /// Where ours go.
    pub sent_to: Option<SocketAddr>,
    /// Whether the peer was to send anything, at last.
    pub expected: bool,
    /// Who was first among those whose packets were dropped as somebody else's.
    pub stranger: Option<SocketAddr>,
    /// Dropped: from another source than the pinned one.
    pub dropped_stranger: u64,
    /// Dropped: a payload type that was not agreed.
    pub dropped_payload_type: u64,
    /// Dropped: more than 200 packets at once and then 250 a second.
    pub dropped_flood: u64,
    /// Dropped: not RTP or RTCP.
    pub dropped_malformed: u64,
    /// Dropped: not under the SRTP key that was agreed, or come before.
    pub dropped_srtp: u64,
    /// Dropped: of a peer that has said it sends nothing.
    pub dropped_held: u64,
    /// Dropped: RTCP about streams that are not this session's.
    pub dropped_rtcp: u64,
    /// Key presses dropped: more than 16 at once and then one in 40 ms.
    pub dropped_presses: u64,
    /// Not relayed: the other leg was held, busy with a prompt, or has no telephone-events.
    pub not_relayed: u64,
}
