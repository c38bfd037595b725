//! The commands that a session accepts.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::answering::MachineDetection;
use crate::audio::Audio;
use crate::encrypted::RecordingKey;
use crate::room::{Participation, RoomKey};
use crate::source::StreamSource;
use crate::tap::TapSink;
use crate::tone::Tone;
use crate::wav::{WavCoding, WavFormat};

/// The id of a leg is the key of its session. The application chooses the key. No two open sessions may have the same key.
///
/// An operation id belongs to one command. The events that the command causes have the same id.
pub use tandem_id::{LegId, OpId};

/// One direction of a session's audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Track {
    /// Audio received from the far end.
    Inbound,
    /// Audio sent to the far end.
    Outbound,
}

/// A selection of one or both directions of a session's audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    /// One channel with the sum of both tracks. The sum saturates.
    Mono,
    /// Two channels, with inbound audio on the left and outbound audio on the right.
    Dual,
}

/// The settings of a recording. Some settings are conditions under which the recording ends without a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSpec {
    /// The path of the WAV file. The file has a sample rate of 8,000 Hz. A missing folder is created, and an existing
    /// file is overwritten.
    pub path: PathBuf,
    /// The coding of the samples.
    pub coding: WavCoding,
    /// The number of channels: one or two.
    pub channels: Channels,
    /// The directions that are recorded.
    pub track: Tracks,
    /// The longest duration of the recorded audio, rounded up to whole frames of 20 ms. If the recording omits a pause,
    /// the time of the pause does not count.
    pub max_length: Option<Duration>,
    /// The time without speech from the far end after which the recording ends. Noise is not speech. The time counts
    /// from the start of the recording. It counts only while RTP arrives.
    pub silence_timeout: Option<Duration>,
    /// Whether silence is removed when the recording ends. Then everything before the first word and after the last
    /// word is removed, noise included. If the recording has no speech, only quiet audio at the start and at the end is
    /// removed.
    pub trim: bool,
    /// The id of the `Play` or `Tone` command after whose end the recording starts. So a beep is not recorded. If no
    /// such command runs, the recording starts at once.
    pub after: Option<OpId>,
    /// The key that encrypts the file. [`crate::RecordedFile`] decrypts the file. If the key is `None`, the file is not
    /// encrypted.
    pub key: Option<RecordingKey>,
}

impl RecordSpec {
    /// Creates the settings of a recording of both tracks. The samples are linear, and the file is not encrypted. The
    /// recording continues until a command stops it.
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

/// A command for a recording of a session or of a room. A session or a room has at most eight recordings at a time.
#[derive(Debug)]
pub enum RecordingCommand {
    /// Starts a recording.
    Start {
        /// The id that `RecordingFinished` carries.
        op: OpId,
        /// The settings of the recording. For a room, `channels` and `track` have no effect: the recording is the whole
        /// mix in one channel.
        spec: RecordSpec,
    },
    /// Pauses the recording. Audio during the pause is not recorded.
    Pause {
        /// The id of the recording.
        op: OpId,
        /// Whether the recording contains silence for the time of the pause. If false, the recording contains nothing
        /// for this time.
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

/// A command for a session's worker. The command acts at once. Audio that the command starts begins with the leg's next
/// frame of 20 ms.
#[derive(Debug)]
pub enum Command {
    /// Plays audio. The new audio replaces the audio or tone that plays now.
    Play {
        /// The id that `Finished` carries.
        op: OpId,
        /// The audio, which is mono at 8,000 Hz.
        audio: Arc<Audio>,
        /// The number of times that the audio plays. If the value is `None`, the audio repeats without end.
        loops: Option<NonZeroU32>,
        /// The part of all repetitions that was played before. If a resumed session waits for this playback, the exact
        /// position of the session counts instead.
        elapsed: Duration,
    },
    /// Plays a tone. The new tone replaces the audio or tone that plays now.
    Tone {
        /// The id that `Finished` carries.
        op: OpId,
        /// The tone. Ringback and busy tones do not end by themselves.
        tone: Tone,
    },
    /// Sends digits as telephone-events (RFC 4733). If the far end does not support telephone-events, the digits are
    /// sent as DTMF tones in the audio. If an operation with the same id is still sending digits, the new digits are
    /// sent after the remaining digits.
    SendDigits {
        /// The id that `Finished` carries.
        op: OpId,
        /// The digits: `0-9A-D*#`, `w` for a pause of 500 ms, `W` for a pause of 1 s. Other characters are skipped.
        /// Only the first 1,024 characters count.
        digits: String,
        /// The duration of each digit, 40 to 8,000 ms.
        duration_ms: u16,
    },
    /// Detects whether a person or an answering machine has answered. A session runs one detection at a time. A new
    /// detection replaces the current one.
    DetectMachine {
        /// The id that `MachineDetected` carries.
        op: OpId,
        /// The thresholds and time limits of the detection.
        spec: Box<MachineDetection>,
    },
    /// Ends the `Play`, `Tone`, `SendDigits` or `DetectMachine` command with this id. A stopped `DetectMachine` sends
    /// no further event.
    Stop {
        /// The id of the command to end.
        op: OpId,
    },
    /// A command for a recording of this session.
    Recording(RecordingCommand),
    /// Copies audio to a reader. A session has at most sixteen taps at a time. A `Tap` command for a further tap is
    /// ignored.
    Tap {
        /// The id that `StreamOverflow` carries.
        op: OpId,
        /// The directions to copy. Each direction has its own frames.
        tracks: Tracks,
        /// The writing half of [`crate::tap()`].
        sink: TapSink,
    },
    /// Ends the tap with this id. The reader of the tap then gets the end of the stream.
    Untap {
        /// The id of the tap.
        op: OpId,
    },
    /// Plays the audio that a stream writes. The new source replaces an earlier source of the session. `Play`, `Tone`
    /// and `SendDigits` have priority over a source.
    Source {
        /// The id that `MarkReached` carries.
        op: OpId,
        /// The reading half of [`crate::source()`], or the result of [`StreamSource::copying`].
        source: StreamSource,
    },
    /// Detaches the source with this id. Marks that the source has not reached yet are not reported.
    Unsource {
        /// The id of the source.
        op: OpId,
    },
    /// Bridges two sessions, so that each far end hears the other far end. An earlier bridge of either session ends.
    Bridge {
        /// The session to bridge with.
        with: LegId,
    },
    /// Ends the session's bridge. The command has no effect if the session is not bridged.
    Unbridge,
    /// Joins a room, or changes the session's participation in the room. The session leaves its bridge or its former
    /// room. A later `Bridge` makes the session leave the room. [`Event::NotJoined`](crate::Event::NotJoined) reports a
    /// failure.
    Join {
        /// The room.
        room: RoomKey,
        /// The part that the session has in the room: what the session hears, and which participants hear the session.
        participation: Participation,
    },
    /// Leaves the session's room. The command has no effect if the session is in no room.
    Leave,
    /// The leg is answered, so its far end should send audio. From now on, the session reports gaps in this audio
    /// ([`Event::AudioMissing`](crate::Event::AudioMissing)).
    ExpectAudio,
    /// Reports the next RTP packet of the far end with [`Event::NextPacket`](crate::Event::NextPacket).
    ReportNextPacket,
    /// Reports the statistics of the session so far with [`Event::Stats`](crate::Event::Stats).
    ReportStats,
    /// Whether the far end gets silence while there is no other audio for it. A new session sends silence, if the
    /// configuration says so.
    SendSilence(bool),
    /// Starts (true) or ends (false) an echo. During an echo the far end receives its own packets.
    Echo(bool),
    /// Starts or ends noise suppression.
    ///
    /// Inbound suppression removes the noise from the audio that a bridge, a room and taps get, and delays this audio
    /// by 20 to 25 ms. Recordings get the audio as received. Outbound suppression removes the noise from the audio that
    /// the far end gets from a bridge or a room. Suppression uses much CPU time ([`crate::Event::SuppressionShed`]).
    Suppress {
        /// The directions to change. A direction that is not selected keeps its state.
        direction: Tracks,
        /// Whether suppression is on.
        on: bool,
    },
    /// Mutes or unmutes the far end. While the far end is muted, the bridge, recorders and taps do not get the far
    /// end's audio. The far end's digits are still detected.
    Mute {
        /// Whether the far end is muted.
        inbound: bool,
    },
}
