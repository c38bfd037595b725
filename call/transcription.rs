//! Transcriptions: text of the speech of a leg or of a recording.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Callback;
use crate::leg::LegInfo;
use crate::output::LegCommand;
use crate::recognition::{RecognisedText, RecognitionSpec};
use crate::recording::{Recording, Track};
use crate::resume::Standing;
use tandem_id::{FetchId, OpId, TranscriptionId};

/// Parameters of a live transcription of a leg.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TranscriptionSpec {
    /// The name that the application uses for the transcription.
    pub name: Option<String>,
    /// The transcribed direction of the audio. Each direction is recognised separately.
    pub track: Track,
    /// Parameters of the recognition.
    pub recognition: RecognitionSpec,
    /// The labels that the application uses: first for the inbound track, then for the outbound track.
    pub labels: (Option<String>, Option<String>),
    /// The names that the application uses for the recogniser and for the model. The server does not interpret these
    /// names and returns them with the events.
    pub engine: (String, String),
    /// Whether the whole text is reported once at the end. If false, each utterance is reported.
    pub at_end: bool,
    /// Whether the transcription starts only if no transcription with the same name runs.
    pub if_none_runs: bool,
    /// The callback that receives the events of the transcription.
    pub callback: Option<Callback>,
}

/// Maximum size, in octets, of the stored text of a transcription that reports at the end. Later speech is left out.
pub(crate) const MAX_TEXT: usize = 1024 * 1024;

/// Facts about a live transcription at the time of an event.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TranscriptionFacts {
    /// Id of the transcription.
    pub id: TranscriptionId,
    /// Parameters of the transcription.
    pub spec: Box<TranscriptionSpec>,
    /// Number of earlier events of this transcription; 0 for the first event.
    pub sequence: u32,
    /// The event.
    pub status: TranscriptionStatus,
}

/// Events of a live transcription.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum TranscriptionStatus {
    /// The transcription started.
    Started,
    /// Speech was recognised.
    Recognised {
        /// The direction in which the text was spoken: `Inbound` or `Outbound`.
        track: Track,
        /// The recognised text.
        words: RecognisedText,
        /// Whether the text is final.
        is_final: bool,
    },
    /// The transcription ended.
    Stopped,
    /// The transcription ended. Contains the whole text, one line per utterance. This event is used only if the text is
    /// reported at the end.
    FullText(String),
    /// The transcription failed, or could not start. Contains the reason in words.
    Failed(String),
}

impl fmt::Display for TranscriptionStatus {
    /// Writes the event without the spoken words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("started"),
            Self::Recognised { words, is_final, .. } => {
                let kind = if *is_final { "final" } else { "partial" };
                write!(f, "heard {} characters ({kind})", words.text().chars().count())
            }
            Self::Stopped => f.write_str("stopped"),
            Self::FullText(text) => write!(f, "stopped, heard {} characters", text.chars().count()),
            Self::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

/// A live transcription that runs on a leg.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Transcribing {
    pub(crate) id: TranscriptionId,
    pub(crate) op: OpId,
    pub(crate) spec: Box<TranscriptionSpec>,
    pub(crate) sequence: u32,
    /// Whether the call has ordered the end of the transcription. Speech before this order is still being reported.
    pub(crate) stopping: bool,
    /// The text so far. The field is used only if the text is reported at the end.
    pub(crate) text: String,
}

impl Transcribing {
    pub(crate) fn resume(&self, standing: &mut Standing<'_>) {
        let (op, id, spec) = (self.op, self.id, self.spec.clone());
        standing.command(LegCommand::StartTranscription { op, id, spec });
        if self.stopping {
            standing.command(LegCommand::StopTranscription { op });
        }
    }
}

/// An order to transcribe a recording when the recording is complete.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TranscriptionOrder {
    /// The callback that receives the result or the failure.
    pub callback: Option<Callback>,
}

/// The transcription of a complete recording that waits until the application knows the recording: until the response to
/// the request of the recording's action.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct WaitingTranscript {
    /// The request of the action.
    pub(crate) after: FetchId,
    /// The recorded leg at the end of the recording.
    pub(crate) of: Arc<LegInfo>,
    pub(crate) recording: Recording,
    pub(crate) order: TranscriptionOrder,
}

/// A transcription of a recording.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Transcript {
    /// Id of the transcription.
    pub id: TranscriptionId,
    /// The transcribed recording.
    pub recording: Recording,
    /// The callback that receives the result or the failure.
    pub callback: Option<Callback>,
    /// Progress of the transcription.
    pub state: TranscriptState,
}

/// Progress of the transcription of a recording.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum TranscriptState {
    /// The transcription is not complete yet.
    InProgress,
    /// The transcription is complete. Contains the recognised text.
    Completed(RecognisedText),
    /// The transcription failed. Contains the reason in words.
    Failed(String),
}
