//! Recordings: their parameters, their status and their end.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::DialResult;
use crate::output::LegCommand;
use crate::resume::Standing;
use crate::transcription::TranscriptionOrder;
use crate::{Callback, Target};
use tandem_id::{ConferenceId, LegId, OpId, RecordingId};

/// Parameters of a recording.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecordingSpec {
    /// The instruction or request that started the recording.
    pub source: RecordingSource,
    /// The channels of the file: one channel for both directions, or one channel for each direction.
    pub channels: RecordingChannels,
    /// The recorded direction of the audio.
    pub track: Track,
    /// File format in which the application can download the recording.
    pub format: RecordingFormat,
    /// Whether silence at the start and end is removed when the recording ends.
    pub trim: bool,
    /// Maximum length of the recording. At this length the recording ends without a request.
    pub max_length: Option<Duration>,
    /// Length of the silence that ends the recording. The time counts only while audio packets arrive.
    pub silence_timeout: Option<Duration>,
    /// Whether a tone is played before the recording.
    pub beep: bool,
    /// Whether the recording is transcribed when it is complete.
    #[serde(default)]
    pub transcribe: bool,
    /// The callback that receives the recording's status events.
    pub callback: Option<Callback>,
}

impl RecordingSpec {
    /// Creates the parameters of a WAV recording of both directions, without a callback.
    pub fn new(source: RecordingSource, channels: RecordingChannels) -> Self {
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

/// A recording that will start later. The application already knows the id of the recording.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
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
    /// The route of a call in the configuration.
    Trunk,
    /// The settings of a conference. The first participant brought these settings.
    Conference,
    /// A request during a conference.
    ConferenceRequest,
}

/// The content of a recording for the time of a pause.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PauseBehavior {
    /// The recording contains silence of the same length as the pause.
    Silence,
    /// The recording leaves out the time of the pause.
    Skip,
}

/// Channels of a recording. If there are two channels, the left channel has the audio from the leg and the right
/// channel has the audio to the leg.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RecordingChannels {
    /// One channel, in which both directions are mixed.
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
    /// The recorded leg. For a recording of a conference, this is the leg of the first participant.
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
    /// Length of the audio in the file. `None` until the recording has ended.
    pub duration: Option<Duration>,
    /// The limit that ended the recording. `None` while the recording runs, and if something else ended the recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<RecordingLimit>,
    /// Status at the time of the event.
    pub status: RecordingStatus,
}

/// A limit of a recording.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordingLimit {
    /// The maximum length.
    Length,
    /// The length of the silence that ends the recording.
    Silence,
}

impl Recording {
    /// Whether the recording has ended and its file has audio. If the file could not be written to the end, for example
    /// because the disk is full, the file has the audio up to then.
    pub fn has_audio(&self) -> bool {
        match self.status {
            RecordingStatus::Completed => true,
            RecordingStatus::Failed(_) => self.duration.is_some_and(|duration| !duration.is_zero()),
            RecordingStatus::InProgress | RecordingStatus::Paused | RecordingStatus::Absent => false,
        }
    }
}

/// Status of a recording.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RecordingStatus {
    /// The recording runs.
    InProgress,
    /// The recording is paused.
    Paused,
    /// The recording has ended, and its file is complete.
    Completed,
    /// The recording has ended without audio.
    Absent,
    /// The file could not be written, or could not be written to the end ([`Recording::has_audio`]). Contains the reason
    /// in words.
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

/// The reason why a recording ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecordingEnd {
    /// The call stopped the recording.
    Stopped,
    /// The maximum length was reached.
    MaxLength,
    /// The silence reached its maximum length.
    Silence,
    /// The file could not be written. Contains the reason in words.
    Failed(String),
}

/// An instruction that was cut before its recording was complete, with the target of its action.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum CutInstruction {
    Record(Target),
    Dial(Target, Box<DialResult>),
}

impl RecordingEnd {
    /// The limit that ended the recording.
    pub(crate) fn limit(&self) -> Option<RecordingLimit> {
        match self {
            Self::MaxLength => Some(RecordingLimit::Length),
            Self::Silence => Some(RecordingLimit::Silence),
            Self::Stopped | Self::Failed(_) => None,
        }
    }
}

/// A recording that runs on a leg.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ActiveRecording {
    pub(crate) op: OpId,
    pub(crate) facts: Recording,
    /// Whether the call has already ordered the end of the recording.
    pub(crate) stopping: bool,
    /// The content of the recording for the time of its pause, if the recording is paused.
    pub(crate) pause: Option<PauseBehavior>,
    /// The request to an action that waits until the file is complete. The field is set if something has cut the
    /// instruction that records.
    pub(crate) report: Option<CutInstruction>,
    /// The transcription that starts when the recording is complete.
    pub(crate) transcribe: Option<TranscriptionOrder>,
}

impl ActiveRecording {
    /// Continues the recording. A tone before the recording is not played again.
    pub(crate) fn resume(&self, standing: &mut Standing<'_>) {
        let (op, id, spec) = (self.op, self.facts.id, self.facts.spec.clone());
        standing.command(LegCommand::Record { op, id, spec, after: None });
        if let Some(pause_behavior) = self.pause {
            standing.command(LegCommand::PauseRecording { op, pause_behavior });
        }
        if self.stopping {
            standing.command(LegCommand::StopRecording { op });
        }
    }
}
