//! Recordings: their parameters, their status and their end.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{ConferenceId, LegId, OpId, RecordingId};
use crate::transcription::TranscriptionOrder;
use crate::{Callback, Target};

/// Parameters of a recording.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecordingSpec {
    /// The instruction or request that started the recording.
    pub source: RecordingSource,
    /// One channel for both directions, or one for each.
    pub channels: RecordingChannels,
    /// The recorded direction.
    pub track: Track,
    /// File format in which the recording is offered.
    pub format: RecordingFormat,
    /// Remove leading and trailing silence when the recording ends.
    pub trim: bool,
    /// Length at which the recording ends by itself.
    pub max_length: Option<Duration>,
    /// Silence after which the recording ends by itself; it counts only while audio arrives.
    pub silence_timeout: Option<Duration>,
    /// Play a tone before the recording.
    pub beep: bool,
    /// Transcribe the recording once it is complete.
    #[serde(default)]
    pub transcribe: bool,
    /// The callback that receives the recording's status events.
    pub callback: Option<Callback>,
}

impl RecordingSpec {
    /// Creates the parameters of a WAV recording of both directions, without a callback.
    pub fn whole(source: RecordingSource, channels: RecordingChannels) -> Self {
        Self {
            source,
            channels,
            track: Track::Both,
            format: RecordingFormat::Wav,
            transcribe: false,
            trim: false,
            max_length: None,
            silence_timeout: None,
            beep: false,
            callback: None,
        }
    }
}

/// A recording to be made, with the id that its application already knows.
#[derive(Clone, PartialEq, Debug)]
pub struct NewRecording {
    /// Id of the recording.
    pub id: RecordingId,
    /// Parameters of the recording.
    pub spec: RecordingSpec,
}

/// The instruction or request that started a recording.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RecordingSource {
    /// A record instruction.
    Record,
    /// A dial instruction with recording.
    Dial,
    /// The request that created the outbound leg.
    Outbound,
    /// A request during the call.
    Request,
    /// A start instruction.
    Start,
    /// A route in the configuration.
    Trunk,
    /// The settings of the first participant of a conference.
    Conference,
    /// A request during a conference.
    ConferenceRequest,
}

/// What a recording contains for the time of a pause.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PauseBehavior {
    /// Silence of the same length.
    Silence,
    /// Nothing: the time is left out.
    Skip,
}

/// Channels of a recording. With two channels, the left one is the audio from the leg, the right one the audio to the
/// leg.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RecordingChannels {
    /// One channel with both directions mixed.
    Mono,
    /// One channel for each direction.
    Dual,
}

/// Direction of a leg's audio.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Track {
    /// Audio from the leg's far end.
    Inbound,
    /// Audio to the leg's far end.
    Outbound,
    /// Both directions.
    Both,
}

/// File format that the application requested.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RecordingFormat {
    /// WAV (RIFF WAVE).
    Wav,
    /// MP3 (MPEG layer III).
    Mp3,
}

/// Facts about one recording at the time of an event.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Recording {
    /// Id of the recording.
    pub id: RecordingId,
    /// The recorded leg; for a conference, its first participant.
    pub leg: LegId,
    /// The recorded conference; `None` for the recording of a leg.
    #[serde(default)]
    pub conference: Option<ConferenceId>,
    /// Parameters of the recording.
    pub spec: RecordingSpec,
    /// Time at which the recording started.
    pub started_at: Timestamp,
    /// Time at which the recording ended.
    pub ended_at: Option<Timestamp>,
    /// Length of the audio in the file; known once the recording has ended.
    pub duration: Option<Duration>,
    /// Status at the time of the event.
    pub status: RecordingStatus,
}

/// Status of a recording.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RecordingStatus {
    /// The recording runs.
    InProgress,
    /// The recording is paused.
    Paused,
    /// The file is complete on disk.
    Completed,
    /// Nothing was recorded.
    Absent,
    /// The file could not be written; the reason in words.
    Failed(String),
}

impl fmt::Display for RecordingStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InProgress => f.write_str("runs"),
            Self::Paused => f.write_str("paused"),
            Self::Completed => f.write_str("completed"),
            Self::Absent => f.write_str("absent: no audio came"),
            Self::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

/// Why a recording ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecordingEnd {
    /// It was stopped.
    Stopped,
    /// The maximum length was reached.
    MaxLength,
    /// The maximum silence was reached.
    Silence,
    /// The file could not be written; the reason in words.
    Failed(String),
}

/// A recording that runs on a leg.
#[derive(Clone, Debug)]
pub(crate) struct ActiveRecording {
    pub(crate) op: OpId,
    pub(crate) facts: Recording,
    /// Whether it has been asked to stop.
    pub(crate) stopping: bool,
    /// Target that is requested when the file is complete, because the leg hung up during the record instruction.
    pub(crate) report_hangup: Option<Target>,
    /// The transcription to make of the recording once it is complete.
    pub(crate) transcribe: Option<TranscriptionOrder>,
}
