//! The commands that a session accepts.

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

/// A session's key. The application chooses it; it is unique among the open sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey(pub u128);

/// The id of one command. The events that the command causes carry the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpId(pub u64);

/// One direction of a session's audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Track {
    /// Audio received from the far end.
    Inbound,
    /// Audio sent to the far end.
    Outbound,
}

/// A selection of directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracks {
    /// Audio received from the far end.
    Inbound,
    /// Audio sent to the far end.
    Outbound,
    /// Both directions.
    Both,
}

impl Tracks {
    /// Whether the selection contains `track`.
    pub fn has(self, track: Track) -> bool {
        matches!(
            (self, track),
            (Tracks::Both, _) | (Tracks::Inbound, Track::Inbound) | (Tracks::Outbound, Track::Outbound)
        )
    }
}

/// The number of channels of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// One channel: the sum of both tracks, with saturation.
    Mono,
    /// Two channels: inbound on the left, outbound on the right.
    Dual,
}

/// The settings of a recording, and the conditions under which it ends by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSpec {
    /// The path of the WAV file (8,000 Hz). A missing folder is created; an existing file is overwritten.
    pub path: PathBuf,
    /// The coding of the samples.
    pub coding: WavCoding,
    /// One channel or two.
    pub channels: Channels,
    /// The directions that are recorded.
    pub track: Tracks,
    /// The longest duration of the recorded audio, rounded up to whole frames of 20 ms. Time that a pause leaves out
    /// does not count.
    pub max_length: Option<Duration>,
    /// The recording ends after this time without speech from the far end; noise is not speech. The time counts from
    /// the start of the recording, and only while RTP arrives.
    pub silence_timeout: Option<Duration>,
    /// When the recording ends, removes everything before the first word and after the last word, noise included. If
    /// nobody speaks in the recording, removes quiet audio at both ends instead.
    pub trim: bool,
    /// The recording starts when the `Play` or `Tone` with this id ends, so that a beep is not recorded. It starts at
    /// once if there is no such command.
    pub after: Option<OpId>,
    /// The key that encrypts the file; [`crate::RecordedFile`] decrypts it. `None`: the file is not encrypted.
    pub key: Option<RecordingKey>,
}

impl RecordSpec {
    /// A recording of both tracks with linear samples, not encrypted. It runs until it is stopped.
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

/// A command for a recording of a session or of a room. Each session and each room has at most eight recordings at a
/// time.
#[derive(Debug)]
pub enum RecordingCommand {
    /// Starts a recording.
    Start {
        /// The id that `RecordingFinished` carries.
        op: OpId,
        /// What to record, and into which file. For a room, `channels` and `track` have no effect: the recording is the
        /// whole mix in one channel.
        spec: RecordSpec,
    },
    /// Pauses the recording: audio during the pause is not recorded.
    Pause {
        /// The id of the recording.
        op: OpId,
        /// Whether the recording contains silence for the time of the pause. If not, the pause is left out.
        silence: bool,
    },
    /// Ends the pause.
    Resume {
        /// The id of the recording.
        op: OpId,
    },
    /// Ends the recording.
    Stop {
        /// The id of the recording.
        op: OpId,
    },
}

/// A command for a session's worker. It acts at once; audio that it starts begins with the leg's next 20 ms frame.
#[derive(Debug)]
pub enum Command {
    /// Plays audio and replaces what plays now.
    Play {
        /// The id that `Finished` carries.
        op: OpId,
        /// The audio: 8,000 Hz, mono.
        audio: Arc<Audio>,
        /// The number of times that the audio plays; `None`: without end.
        loops: Option<NonZeroU32>,
    },
    /// Plays a tone and replaces what plays now.
    Tone {
        /// The id that `Finished` carries.
        op: OpId,
        /// The tone; ringback and busy tones do not end by themselves.
        tone: Tone,
    },
    /// Sends digits as telephone-events (RFC 4733), or as DTMF tones in the audio if the far end has no
    /// telephone-event. If an operation with the same id is still sending, the new digits follow its remaining digits.
    SendDigits {
        /// The id that `Finished` carries.
        op: OpId,
        /// `0-9A-D*#`; `w` waits 500 ms, `W` waits 1 s. Other characters are skipped. At most 1,024 characters count.
        digits: String,
        /// The duration of each digit, 40 to 8,000 ms.
        duration_ms: u16,
    },
    /// Detects whether a person or an answering machine has answered. A session runs one detection at a time; a new one
    /// replaces the current one.
    DetectMachine {
        /// The id that `MachineDetected` carries.
        op: OpId,
        /// The thresholds and time limits of the detection.
        spec: Box<MachineDetection>,
    },
    /// Ends the `Play`, `Tone`, `SendDigits` or `DetectMachine` with this id. A stopped `DetectMachine` sends no
    /// further event.
    Stop {
        /// The id of the command to end.
        op: OpId,
    },
    /// A command for a recording of this session.
    Recording(RecordingCommand),
    /// Copies audio to a reader. A session has at most sixteen taps at a time; a further tap is ignored.
    Tap {
        /// The id that `StreamOverflow` carries.
        op: OpId,
        /// The directions to copy; each direction has frames of its own.
        tracks: Tracks,
        /// The writing half of [`crate::tap()`].
        sink: TapSink,
    },
    /// Ends the tap with this id; its reader then gets the end of the stream.
    Untap {
        /// The id of the tap.
        op: OpId,
    },
    /// Plays the audio that a stream writes, and replaces an earlier source. `Play`, `Tone` and `SendDigits` have
    /// priority over a source.
    Source {
        /// The id that `MarkReached` carries.
        op: OpId,
        /// The reading half of [`crate::source()`], or the result of [`StreamSource::copying`].
        source: StreamSource,
    },
    /// Detaches the source with this id; marks that still wait are not reported.
    Unsource {
        /// The id of the source.
        op: OpId,
    },
    /// Bridges two sessions: each far end hears the other. This ends an earlier bridge of either session.
    Bridge {
        /// The session to bridge with.
        with: SessionKey,
    },
    /// Ends the bridge; has no effect if the session is not bridged.
    Unbridge,
    /// Joins a room, or changes the session's participation in it. This ends a bridge and leaves another room; `Bridge`
    /// leaves the room. [`Event::NotJoined`](crate::Event::NotJoined) reports a failure.
    Join {
        /// The room.
        room: RoomKey,
        /// What the session hears in the room, and who hears it.
        participation: Participation,
    },
    /// Leaves the session's room; has no effect outside a room.
    Leave,
    /// Starts (true) or ends (false) an echo: the far end receives its own packets.
    Echo(bool),
    /// Starts or ends noise suppression. Inbound: a bridge, a room and taps get the clean audio 20 to 25 ms later;
    /// recordings get the audio as received. Outbound: the far end gets clean audio from a bridge or a room.
    /// Suppression uses much CPU time; see [`crate::Event::SuppressionShed`].
    Suppress {
        /// The directions to change; the other direction keeps its state.
        direction: Tracks,
        /// Whether suppression is on.
        on: bool,
    },
    /// Mutes the far end: bridge, recorders and taps do not get its audio. Its digits are still detected.
    Mute {
        /// Whether the far end is muted.
        inbound: bool,
    },
}
