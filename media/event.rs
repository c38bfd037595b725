//! The events of a session, for the application.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::answering::MachineVerdict;
use crate::command::{OpId, SessionKey, Track};
use crate::dtmf::DtmfMethod;
use crate::quality::Impairment;
use crate::room::{NotJoined, RoomKey};

/// The receiver of a session's events. It must not block. If it returns [`Full`], the worker keeps the event and offers
/// it again every 20 ms. The worker keeps at most [`BACKLOG`] events of a session; beyond that it closes the session.
pub type EventSink = Arc<dyn Fn(SessionKey, Event) -> Result<(), Full> + Send + Sync>;

/// The number of events of one session that may wait for a full sink.
pub const BACKLOG: usize = 256;

/// The sink did not take the event; the worker offers it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// An event of a session. The events of one session arrive in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The first valid RTP packet has arrived.
    FirstPacket,
    /// The far end's RTP was silent for the configured probation time and now comes from another address. The engine
    /// sends to that address from now on.
    SourceMoved {
        /// The new source address.
        to: SocketAddr,
    },
    /// The far end has pressed a digit. There is one event for each press, at the first packet (RFC 4733) that arrives,
    /// so that a prompt stops at once. `duration_ms` is the duration in that packet, usually 0 to 20.
    Dtmf {
        /// `0`-`9`, `*`, `#`, `A`-`D`.
        digit: char,
        /// The duration of the press so far, in ms.
        duration_ms: u32,
        /// The method by which the digit arrived: as a telephone-event or as a tone.
        form: DtmfMethod,
    },
    /// A `Play`, `Tone` or `SendDigits` has ended. With the reason `Completed`, its last sample was sent at least 20 ms
    /// ago.
    Finished {
        /// The id of the command.
        op: OpId,
        /// Why it ended.
        reason: FinishReason,
    },
    /// The file of a recording is complete on disk.
    RecordingFinished {
        /// The id of the command.
        op: OpId,
        /// Why the recording ended.
        reason: RecordingReason,
        /// The duration of the audio in the file, after trimming.
        duration: Duration,
        /// The duration of the recorded audio before trimming.
        recorded: Duration,
        /// The part of `recorded` that is silence because the disk was too slow for the audio.
        dropped: Duration,
        /// The path of the file.
        path: PathBuf,
        /// The size of the file in octets, header included.
        bytes: u64,
    },
    /// Answering machine detection has a result, or the machine's greeting has ended. [`MachineVerdict`] says which
    /// result is the last one.
    MachineDetected {
        /// The id of the `DetectMachine` command.
        op: OpId,
        /// The result.
        verdict: MachineVerdict,
        /// The duration of the leg's audio since the command.
        after: Duration,
    },
    /// All audio that was written before this mark has been sent or cleared.
    MarkReached {
        /// The id of the `Source` command.
        op: OpId,
        /// The name that the writer gave to the mark.
        name: Arc<str>,
    },
    /// A tap's reader is too slow: the tap dropped frames. There is at most one such event a second for each tap.
    StreamOverflow {
        /// The id of the `Tap` command.
        op: OpId,
        /// The audio dropped since the last such event, in ms of one track.
        dropped_ms: u32,
    },
    /// The audio quality of the leg is bad. There is one event for each cause. The event repeats only if the value was
    /// good again in between and 30 s have passed.
    Impaired {
        /// The cause.
        cause: Impairment,
        /// The measured value, in the cause's unit.
        value: f32,
    },
    /// The media thread has no time for noise suppression in this direction: the audio passes unchanged.
    SuppressionShed {
        /// The direction.
        track: Track,
    },
    /// Noise suppression works again in this direction.
    SuppressionResumed {
        /// The direction.
        track: Track,
    },
    /// A `Join` command failed.
    NotJoined {
        /// The room of the command.
        room: RoomKey,
        /// Why it failed.
        why: NotJoined,
    },
    /// The session's last event: its recordings are complete and its ports are free.
    Closed {
        /// The figures of the whole session.
        stats: Box<Stats>,
    },
}

/// The reasons for which a `Play`, `Tone` or `SendDigits` can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The audio or the digits were sent to their end.
    Completed,
    /// The operation was stopped, or replaced by another one.
    Stopped,
}

/// Why a recording ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordingReason {
    /// A command stopped it, or the session closed.
    Stopped,
    /// `max_length` was reached.
    MaxLength,
    /// The far end did not speak for `silence_timeout`.
    Silence,
    /// The file could not be written; the text is the error. Data written before the error remains.
    Error(String),
}

/// A session's figures, as RFC 3550 defines them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stats {
    /// RTP packets accepted from the far end.
    pub packets_in: u64,
    /// Payload octets of these packets.
    pub octets_in: u64,
    /// RTP packets sent to the far end.
    pub packets_out: u64,
    /// Payload octets of these packets.
    pub octets_out: u64,
    /// Packets of the far end that never arrived.
    pub lost: u64,
    /// Packets that arrived too late for playout. They are counted only while a recorder, tap, bridge, room or detector
    /// reads the audio.
    pub late: u64,
    /// The mean length of the losses divided by the mean length of random losses at the same rate; 1 or more (ITU-T
    /// G.107).
    pub burst_ratio: f32,
    /// Our packets that the far end last reported as lost.
    pub lost_by_peer: Option<u64>,
    /// Interarrival jitter of the far end's packets, in ms.
    pub jitter_ms: f32,
    /// Interarrival jitter of our packets that the far end last reported, in ms.
    pub jitter_by_peer_ms: Option<f32>,
    /// Round-trip time measured by RTCP, in ms.
    pub round_trip_ms: Option<f32>,
    /// Estimated quality of the received audio, 1 to 4.5 (E-model, ITU-T G.107), from loss, delay and codec.
    pub mos: Option<f32>,
    /// Estimated quality of the audio that the far end receives, 1 to 4.5, from its reports.
    pub mos_by_peer: Option<f32>,
    /// The RTP address in the far end's last SDP.
    pub signalled: Option<SocketAddr>,
    /// The source address of the far end's last packets.
    pub heard_from: Option<SocketAddr>,
    /// The address that our packets go to.
    pub sent_to: Option<SocketAddr>,
    /// Whether the far end should send RTP, according to the last offer and answer.
    pub expected: bool,
    /// The first source address whose packets were dropped because they did not come from the far end.
    pub stranger: Option<SocketAddr>,
    /// Packets dropped because their source was not the latched address.
    pub dropped_stranger: u64,
    /// Packets dropped because their payload type was not agreed.
    pub dropped_payload_type: u64,
    /// Packets dropped by the rate limit: a burst of 200 packets, then 250 packets a second.
    pub dropped_flood: u64,
    /// Packets dropped because they were not RTP or RTCP.
    pub dropped_malformed: u64,
    /// Packets dropped because they did not authenticate with the agreed SRTP key, or were replayed.
    pub dropped_srtp: u64,
    /// Packets dropped because the far end had said in its SDP that it sends nothing.
    pub dropped_held: u64,
    /// RTCP packets dropped because they were about streams of other sessions.
    pub dropped_rtcp: u64,
    /// Digits dropped by the rate limit: a burst of 16 digits, then one digit in 40 ms.
    pub dropped_presses: u64,
    /// Packets not relayed because the bridged leg was on hold, was playing a prompt, or has no telephone-event.
    pub not_relayed: u64,
}
