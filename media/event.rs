//! The events of a session that the application receives.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tandem_webrtc::{CertificateKind, Failure as TransportFailure};

use crate::answering::DetectionResult;
use crate::command::{LegId, OpId, Track};
use crate::dtmf::DtmfMethod;
use crate::quality::Impairment;
use crate::room::{NotJoined, RoomKey};

/// The receiver of a session's events. The receiver must not block. If the receiver returns [`Full`], the worker keeps
/// the event and offers the event again every 20 ms. If more than [`BACKLOG`] events of a session wait, the worker
/// closes the session.
pub type EventSink = Arc<dyn Fn(LegId, Event) -> Result<(), Full> + Send + Sync>;

/// The maximum number of events of one session that may wait for a full sink.
pub const BACKLOG: usize = 256;

/// The sink did not accept the event. The worker offers the event again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// An event of a session. The events of one session arrive in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The first valid RTP packet has arrived.
    FirstPacket,
    /// A valid RTP packet has arrived after [`Command::ReportNextPacket`](crate::Command::ReportNextPacket).
    NextPacket,
    /// The far end's RTP was silent for the configured probation time and now comes from another address. The engine
    /// now sends to this address.
    SourceMoved {
        /// The new source address.
        to: SocketAddr,
    },
    /// The far end's SDP names an address at which the far end cannot be, such as a loopback address. The engine sends
    /// nothing there before a packet has arrived from this address ([`Session::set_sip_source`](crate::Session::set_sip_source)).
    TargetRefused {
        /// The address in the SDP.
        to: SocketAddr,
    },
    /// The far end has pressed a digit. Each digit causes one event, so that a prompt can stop at once. The event comes
    /// with the first packet of the digit (RFC 4733) that arrives. `duration_ms` is the duration in this packet,
    /// usually 0 to 20.
    Dtmf {
        /// The digit: `0`-`9`, `*`, `#`, `A`-`D`.
        digit: char,
        /// The duration of the digit until this packet, in ms.
        duration_ms: u32,
        /// The method by which the digit arrived: telephone-event or tone.
        method: DtmfMethod,
    },
    /// A `Play`, `Tone` or `SendDigits` command has ended. If the reason is `Completed`, the last sample was sent at
    /// least 20 ms ago.
    Finished {
        /// The id of the command.
        op: OpId,
        /// The reason why the operation ended.
        reason: FinishReason,
    },
    /// The file of a recording is complete on disk.
    RecordingFinished {
        /// The id of the command.
        op: OpId,
        /// The reason why the recording ended.
        reason: RecordingReason,
        /// The duration of the audio in the file, after trimming.
        duration: Duration,
        /// The duration of the recorded audio before trimming.
        recorded: Duration,
        /// The duration of the silence in `recorded` that replaces audio for which the disk was too slow.
        dropped: Duration,
        /// The path of the file.
        path: PathBuf,
        /// The size of the file in octets, header included.
        bytes: u64,
    },
    /// Answering machine detection has a result, or the machine's greeting has ended. [`DetectionResult`] says which
    /// results are the last.
    MachineDetected {
        /// The id of the `DetectMachine` command.
        op: OpId,
        /// The result of the detection.
        result: DetectionResult,
        /// The duration of the leg's audio from the command to the result.
        after: Duration,
    },
    /// All audio that was written before this mark has been sent or cleared.
    MarkReached {
        /// The id of the `Source` command.
        op: OpId,
        /// The name that the writer gave to the mark.
        name: Arc<str>,
    },
    /// The reader of a tap is too slow, so the tap has dropped frames. Each tap causes at most one such event a second.
    StreamOverflow {
        /// The id of the `Tap` command.
        op: OpId,
        /// The duration of the audio that was dropped since the last such event. The value is in ms of one track.
        dropped_ms: u32,
    },
    /// The audio quality of the leg is bad. Each cause has its own event. The event for a cause is repeated only under
    /// two conditions: the value was good in the meantime, and 30 s have passed.
    Impaired {
        /// The cause of the bad quality.
        cause: Impairment,
        /// The measured value, in the unit of the cause.
        value: f32,
    },
    /// The far end should send, and no packet has arrived for 2 s. The event is not sent while the leg is on hold, or
    /// if the last packet was comfort noise.
    AudioMissing {
        /// Whether packets had arrived before.
        ever: bool,
        /// The RTP address in the far end's last SDP. It is `None` for a connection with ICE.
        signalled: Option<SocketAddr>,
    },
    /// Packets arrive again after [`Event::AudioMissing`], or the far end need not send any more.
    AudioResumed,
    /// The session can exchange no media with the far end any more, or never could. The leg should end. The session stays
    /// open until it is closed.
    TransportFailed {
        /// The reason.
        reason: TransportFailure,
    },
    /// The media thread has no time for noise suppression in this direction. The audio passes unchanged.
    SuppressionShed {
        /// The direction in which suppression has stopped.
        track: Track,
    },
    /// Noise suppression works again in this direction.
    SuppressionResumed {
        /// The direction in which suppression works again.
        track: Track,
    },
    /// DTLS has agreed on keys, with which packets are encrypted from now on (RFC 5764). It can happen again, with a far
    /// end that has moved.
    ConnectionEncrypted {
        /// The kind of the far end's certificate.
        certificate: CertificateKind,
    },
    /// The far end has answered no connectivity check for 15 s (RFC 7675). The session goes on trying.
    ConnectionInterrupted,
    /// The far end answers connectivity checks again after [`Event::ConnectionInterrupted`].
    ConnectionRestored,
    /// The statistics of the session so far, after [`Command::ReportStats`](crate::Command::ReportStats).
    Stats {
        /// The statistics since the start of the session.
        stats: Box<Stats>,
        /// The quality over time, the oldest point first.
        series: Vec<QualityPoint>,
    },
    /// A `Join` command failed.
    NotJoined {
        /// The room that the command named.
        room: RoomKey,
        /// The reason why the command failed.
        why: NotJoined,
    },
    /// The session's last event. All recordings are complete, and the ports are free.
    Closed {
        /// The statistics of the whole session.
        stats: Box<Stats>,
        /// The quality over time, the oldest point first.
        series: Vec<QualityPoint>,
    },
}

/// The quality of the received audio in one interval: about 5 s, in a leg of more than 5 minutes longer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct QualityPoint {
    /// The end of the interval in ms since 1970 UTC.
    pub at_ms: u64,
    /// The number of packets that arrived in the interval.
    pub packets: u32,
    /// The number of packets that should have arrived in the interval and did not.
    pub lost: u32,
    /// The interarrival jitter in ms at the end of the interval (RFC 3550 §6.4.1).
    pub jitter_ms: f32,
    /// The estimated quality (MOS, E-model) in the interval, 1 to 4.5. `None` if no packet arrived.
    pub mos: Option<f32>,
}

/// The reason why a `Play`, `Tone` or `SendDigits` ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// All audio or all digits were sent.
    Completed,
    /// A command stopped the operation, or another operation replaced it.
    Stopped,
}

/// The reason why a recording ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordingReason {
    /// A command stopped the recording, or the session closed.
    Stopped,
    /// `max_length` was reached.
    MaxLength,
    /// The far end did not speak for `silence_timeout`.
    Silence,
    /// An error occurred while the file was written. The text describes the error. The data written before the error
    /// remains in the file.
    Error(String),
}

/// The statistics of a session, as RFC 3550 defines them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Stats {
    /// The number of RTP packets accepted from the far end.
    pub packets_in: u64,
    /// The number of payload octets accepted from the far end.
    pub octets_in: u64,
    /// The number of RTP packets sent to the far end.
    pub packets_out: u64,
    /// The number of payload octets sent to the far end.
    pub octets_out: u64,
    /// The number of the far end's packets that never arrived.
    pub lost: u64,
    /// The number of packets that arrived too late for playout. Late packets are counted only while a recorder, tap,
    /// bridge, room or detector reads the audio.
    pub late: u64,
    /// The burst ratio (ITU-T G.107): the mean length of the losses, divided by the mean length that random losses
    /// would have at the same loss rate. The ratio is 1 or more.
    pub burst_ratio: f32,
    /// The number of our packets that were lost. The number comes from the far end's last report.
    pub lost_by_far_end: Option<u64>,
    /// The interarrival jitter of the far end's packets, in ms.
    pub jitter_ms: f32,
    /// The interarrival jitter of our packets in ms. The value comes from the far end's last report.
    pub jitter_by_far_end_ms: Option<f32>,
    /// The round-trip time measured with RTCP, in ms.
    pub round_trip_ms: Option<f32>,
    /// The estimated quality (MOS) of the received audio, 1 to 4.5. The value is computed with the E-model (ITU-T
    /// G.107) from loss, delay and codec.
    pub mos: Option<f32>,
    /// The estimated quality (MOS) of the audio that the far end receives, 1 to 4.5. The value is computed from the far
    /// end's reports.
    pub mos_by_far_end: Option<f32>,
    /// The RTP address in the far end's last SDP.
    pub signalled: Option<SocketAddr>,
    /// The source address of the far end's last packets.
    pub heard_from: Option<SocketAddr>,
    /// The address that our packets go to.
    pub sent_to: Option<SocketAddr>,
    /// Whether the far end should send RTP, according to the last offer and answer.
    pub expected: bool,
    /// The first unknown source address. The packets from this address were dropped, because it is not the far end's
    /// address.
    pub unknown_source: Option<SocketAddr>,
    /// The number of packets that were dropped because their source address was not the learnt address of the far end.
    pub dropped_unknown_source: u64,
    /// The number of packets that were dropped because their payload type was not agreed in SDP.
    pub dropped_payload_type: u64,
    /// The number of packets dropped by the rate limit. The limit is a burst of 200 packets, then 250 packets a second.
    pub dropped_flood: u64,
    /// The number of audio packets that were dropped because two audio sources (SSRCs) of the far end sent at the same
    /// time. The source that began last is heard.
    pub dropped_other_source: u64,
    /// The number of packets dropped because they were neither RTP nor RTCP.
    pub dropped_malformed: u64,
    /// The number of packets that were dropped because they were replayed, or because the agreed SRTP key did not
    /// authenticate them.
    pub dropped_srtp: u64,
    /// The number of STUN and DTLS datagrams that changed nothing: they had a wrong password, or their source had passed no
    /// connectivity check.
    pub dropped_connection: u64,
    /// The number of the far end's ICE candidates that were not used: they were malformed, had a host name, or were too many.
    pub skipped_candidates: u64,
    /// The number of packets that were dropped because the far end's SDP says that the far end does not send.
    pub dropped_held: u64,
    /// The number of RTCP packets that were dropped because they report on streams of other sessions.
    pub dropped_rtcp: u64,
    /// The number of digits dropped by the rate limit. The limit is a burst of 16 digits, then one digit in 40 ms.
    pub dropped_digits: u64,
    /// The number of packets that were not relayed to the bridged leg. The bridged leg was on hold, played a prompt, or
    /// does not support telephone-events.
    pub not_relayed: u64,
}
