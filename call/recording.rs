//! What is recorded, and what became of it.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{ConferenceId, LegId, OpId, RecordingId};
use crate::transcription::TranscriptionOrder;
use crate::{Callback, Target};

/// How to record a leg.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecordingSpec {
    /// Who asked for it.
    pub source: RecordingSource,
    /// One channel or one per direction.
    pub channels: RecordingChannels,
    /// Which direction.
    pub track: Track,
    /// The form it is offered in.
    pub format: RecordingFormat,
    /// Leading and trailing silence is cut away at the end.
    pub trim: bool,
    /// Ends by itself at this length.
    pub max_length: Option<Duration>,
    /// Ends by itself after this much silence (counted only while audio arrives).
    pub silence_timeout: Option<Duration>,
    /// A tone first.
    pub beep: bool,
    /// What was said is written down once it is whole.
    #[serde(default)]
    pub transcribe: bool,
    /// Told of its progress.
    pub callback: Option<Callback>,
}

impl RecordingSpec {
    /// Of all that is said in both directions, as a WAV file; nobody is told.
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

/// A recording to be made, under the id that its application has been told.
#[derive(Clone, PartialEq, Debug)]
pub struct NewRecording {
    /// Its id.
    pub id: RecordingId,
    /// How.
    pub spec: RecordingSpec,
}

/// Who asked for a recording.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RecordingSource {
    /// The record instruction.
    Record,
    /// A dial with recording on.
    Dial,
    /// The request that made the call.
    Outbound,
    /// A request during the call.
    Request,
    /// A start instruction.
    Start,
    /// A route of the configuration.
    Trunk,
    /// The first participant of a conference.
    Conference,
    /// A request during a conference.
    ConferenceRequest,
}

/// What becomes of the time for which a recording is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gap {
    /// It stays, as silence.
    Silence,
    /// It is left out.
    Skip,
}

/// One channel or one per direction (left: from the leg, right: to the leg).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RecordingChannels {
    /// Both directions mixed.
    Mono,
    /// One channel each.
    Dual,
}

/// Direction of audio as the leg's far end sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Track {
    /// What the leg's party says.
    Inbound,
    /// What the leg's party hears.
    Outbound,
    /// Both.
    Both,
}

/// The file type the application wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RecordingFormat {
    /// RIFF WAVE.
    Wav,
    /// MPEG layer III.
    Mp3,
}

/// Facts about one recording, at the time they are told.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Recording {
    /// Its id.
    pub id: RecordingId,
    /// The leg it was made on; of a conference: the one that was first in it.
    pub leg: LegId,
    /// The conference that it was made of.
    #[serde(default)]
    pub conference: Option<ConferenceId>,
    /// How it was asked for.
    pub spec: RecordingSpec,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Length of the audio in the file.
    pub duration: Option<Duration>,
    /// What it is doing.
    pub status: RecordingStatus,
}

/// What a recording is doing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RecordingStatus {
    /// Running.
    InProgress,
    /// Held.
    Paused,
    /// On disk, whole.
    Completed,
    /// Nothing was recorded.
    Absent,
    /// Could not be written.
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
    /// It was told to.
    Stopped,
    /// Its maximum length.
    MaxLength,
    /// Silence.
    Silence,
    /// The disk.
    Failed(String),
}

/// A recording under way on a leg.
#[derive(Clone, Debug)]
pub(crate) struct ActiveRecording {
    pub(crate) op: OpId,
    pub(crate) facts: Recording,
    /// Whether it was asked to end.
    pub(crate) stopping: bool,
    /// Asked, once the file is whole, because the leg hung up on the record instruction.
    pub(crate) report_hangup: Option<Target>,
    /// Written down once it is whole.
    pub(crate) transcribe: Option<TranscriptionOrder>,
}
