//! What a session can be told to do.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::answering::MachineDetection;
use crate::audio::Audio;
use crate::encrypted::RecordingKey;
use crate::room::{Participation, RoomKey};
use crate::source::StreamSource;
use crate::tap::TapSink;
use crate::tone::Tone;
use crate::wav::{WavCoding, WavFormat};

/// A session's name, chosen by the application and unique among its open sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey(pub u128);

/// Names one command; events about what it started carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpId(pub u64);

/// One side of the audio, from the session's peer: what it says, or what it hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Track {
    /// Received from the peer.
    Inbound,
    /// Sent to the peer.
    Outbound,
}

/// Which sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracks {
    /// Received from the peer.
    Inbound,
    /// Sent to the peer.
    Outbound,
    /// Both.
    Both,
}

impl Tracks {
    /// Whether `track` is among them.
    pub fn has(self, track: Track) -> bool {
        matches!(
            (self, track),
            (Tracks::Both, _) | (Tracks::Inbound, Track::Inbound) | (Tracks::Outbound, Track::Outbound)
        )
    }
}

/// One or two channels of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// One; both tracks are mixed with saturation.
    Mono,
    /// Two: inbound left, outbound right.
    Dual,
}

/// What to record, and when to end by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSpec {
    /// The WAV file, 8,000 Hz. Its folder is made when missing; a file there is overwritten.
    pub path: PathBuf,
    /// What its samples are.
    pub coding: WavCoding,
    /// Mono or dual.
    pub channels: Channels,
    /// What is heard in it.
    pub track: Tracks,
    /// Of recorded audio, in whole frames: rounded up to 20 ms. Time that a pause leaves out does not count.
    pub max_length: Option<Duration>,
    /// Ends when the peer says nothing for so long, whatever noise there is. Counts from the start, and only while RTP arrives.
    pub silence_timeout: Option<Duration>,
    /// Removes what comes before the first word and after the last when finished, noise too; where nobody speaks at all, what is
    /// quiet.
    pub trim: bool,
    /// Starts when the `Play` or `Tone` of this name is over or was never there, so that a beep is not in it.
    pub after: Option<OpId>,
    /// Encrypts the file; [`crate::RecordedFile`] reads it.
    pub key: Option<RecordingKey>,
}

impl RecordSpec {
    /// A recording of both sides, linear, in the clear, until it is stopped.
    pub fn new(path: impl Into<PathBuf>, channels: Channels) -> RecordSpec {
        RecordSpec {
            path: path.into(),
            coding: WavCoding::Pcm,
            channels,
            track: Tracks::Both,
            max_length: None,
            silence_timeout: None,
            trim: false,
            after: None,
            key: None,
        }
    }

    pub(crate) fn form(&self) -> WavFormat {
        let channels = if self.channels == Channels::Dual { 2 } else { 1 };
        WavFormat { coding: self.coding, channels }
    }
}

/// An order about a recording: of a session, or of a room. Each takes eight at a time.
#[derive(Debug)]
pub enum RecordingCommand {
    /// Begins one.
    Start {
        /// Echoed by `RecordingFinished`.
        op: OpId,
        /// What and where. A room's is one channel, its whole mix, whatever this says.
        spec: RecordSpec,
    },
    /// Holds it: what comes now is left out.
    Pause {
        /// Of the recording.
        op: OpId,
        /// Its time is kept, as silence.
        silence: bool,
    },
    /// Goes on.
    Resume {
        /// Of the recording.
        op: OpId,
    },
    /// Ends it.
    Stop {
        /// Of the recording.
        op: OpId,
    },
}

/// An order to a session's worker. Acts at once; what it makes audible starts at the leg's next 20 ms frame.
#[derive(Debug)]
pub enum Command {
    /// Plays audio instead of what plays now.
    Play {
        /// Echoed by `Finished`.
        op: OpId,
        /// 8 kHz mono.
        audio: Arc<Audio>,
        /// How often; `None`: for ever.
        loops: Option<NonZeroU32>,
    },
    /// Plays a tone instead of what plays now.
    Tone {
        /// Echoed by `Finished`.
        op: OpId,
        /// Which; ringback and busy go on for ever.
        tone: Tone,
    },
    /// Sends key presses as RFC 4733 events, or as tones in the audio when the peer has no telephone-event. Those of an
    /// operation that is still sending go after what it has left.
    SendDigits {
        /// Echoed by `Finished`.
        op: OpId,
        /// `0-9A-D*#`, `w` waits 500 ms, `W` 1 s; other characters are skipped; at most 1,024.
        digits: String,
        /// Of each press, 40 to 8,000 ms.
        duration_ms: u16,
    },
    /// Finds out whether a person or a machine has answered. One at a time; a new one replaces it.
    DetectMachine {
        /// Echoed by `MachineDetected`.
        op: OpId,
        /// By which figures.
        spec: Box<MachineDetection>,
    },
    /// Ends that `Play`, `Tone` or `SendDigits`; a `DetectMachine` then says nothing more.
    Stop {
        /// Of the command to end.
        op: OpId,
    },
    /// About a recording of this session.
    Recording(RecordingCommand),
    /// Copies audio to a reader; a session takes sixteen taps at a time.
    Tap {
        /// Echoed by `StreamOverflow`.
        op: OpId,
        /// Which sides, each as its own frames.
        tracks: Tracks,
        /// From [`crate::tap()`].
        sink: TapSink,
    },
    /// Ends that tap; its reader then ends.
    Untap {
        /// Of the tap.
        op: OpId,
    },
    /// Plays what a stream writes, in place of an earlier source. `Play`, `Tone` and `SendDigits` go before it.
    Source {
        /// Echoed by `MarkReached`.
        op: OpId,
        /// From [`crate::source()`], or [`StreamSource::copying`].
        source: StreamSource,
    },
    /// Detaches that source; marks still waiting do not fire.
    Unsource {
        /// Of the source.
        op: OpId,
    },
    /// Joins two sessions: each hears the other. Ends an earlier bridge of either.
    Bridge {
        /// The other.
        with: SessionKey,
    },
    /// Parts them; nothing happens when not bridged.
    Unbridge,
    /// Takes part in a room, or takes part in it otherwise. Ends a bridge and leaves another room; `Bridge` leaves the
    /// room. [`Event::NotJoined`](crate::Event::NotJoined) tells when it cannot be.
    Join {
        /// Which.
        room: RoomKey,
        /// How.
        participation: Participation,
    },
    /// Leaves its room, if it is in one.
    Leave,
    /// Sends the peer its own packets.
    Echo(bool),
    /// Cleans of noise, 20 to 25 ms late, what the peer says (for a bridge, a room and taps; recordings get it as it came),
    /// or what it hears from a bridge or a room. Costs much; see [`crate::Event::SuppressionShed`].
    Suppress {
        /// Which sides are meant; the other stays as it is.
        direction: Tracks,
        /// On or off.
        on: bool,
    },
    /// What the peer says is not heard by a bridge, recorder or tap; key presses still are.
    Mute {
        /// On or off.
        inbound: bool,
    },
}
