//! Transcriptions: the speech of a leg or of a recording as text.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Callback;
use crate::id::{OpId, TranscriptionId};
use crate::recognition::{RecognisedText, RecognitionSpec};
use crate::recording::{Recording, Track};

/// Parameters of a live transcription of a leg.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TranscriptionSpec {
    /// The application's name of the transcription.
    pub name: Option<String>,
    /// The transcribed direction; each direction is recognised separately.
    pub track: Track,
    /// Parameters of the recognition.
    pub listening: RecognitionSpec,
    /// The application's labels of the inbound and of the outbound track.
    pub labels: (Option<String>, Option<String>),
    /// The application's names of recogniser and model. They are returned with the events and not interpreted.
    pub engine: (String, String),
    /// Report the whole text once at the end instead of each utterance.
    pub at_end: bool,
    /// Start only if no transcription with this name runs.
    pub alone: bool,
    /// The callback that receives the events of the transcription.
    pub callback: Option<Callback>,
}

/// Maximum size of the text that is kept for a report at the end, in octets. Later speech is left out.
pub(crate) const MOST_SAID: usize = 1024 * 1024;

/// Facts about a live transcription at an event.
#[derive(Clone, PartialEq, Debug)]
pub struct TranscriptionFacts {
    /// Id of the transcription.
    pub id: TranscriptionId,
    /// Parameters of the transcription.
    pub spec: Box<TranscriptionSpec>,
    /// Number of earlier events of the transcription, from 0.
    pub sequence: u32,
    /// What happened.
    pub status: TranscriptionStatus,
}

/// Events of a live transcription.
#[derive(Clone, PartialEq, Debug)]
pub enum TranscriptionStatus {
    /// The transcription started.
    Started,
    /// Speech was recognised.
    Said {
        /// `Inbound` or `Outbound`.
        track: Track,
        /// The recognised text.
        words: RecognisedText,
        /// Whether the text is final.
        is_final: bool,
    },
    /// The transcription ended.
    Stopped,
    /// The transcription ended; the whole text, one line per utterance. Only if it is reported at the end.
    Whole(String),
    /// The transcription could not start, or failed; the reason in words.
    Failed(String),
}

impl fmt::Display for TranscriptionStatus {
    /// Writes the event without the spoken words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("started"),
            Self::Said { words, is_final, .. } => {
                let kind = if *is_final { "final" } else { "partial" };
                write!(f, "heard {} characters ({kind})", words.text().chars().count())
            }
            Self::Stopped => f.write_str("stopped"),
            Self::Whole(said) => write!(f, "stopped, heard {} characters", said.chars().count()),
            Self::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

/// A live transcription that runs on a leg.
#[derive(Debug)]
pub(crate) struct Transcribing {
    pub(crate) id: TranscriptionId,
    pub(crate) op: OpId,
    pub(crate) spec: Box<TranscriptionSpec>,
    pub(crate) sequence: u32,
    /// Whether it has been asked to stop; speech before that is still being reported.
    pub(crate) stopping: bool,
    /// The text so far, if it is reported at the end.
    pub(crate) said: String,
}

/// A transcription to make of a recording once that is complete.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TranscriptionOrder {
    /// The callback that receives the result or the failure.
    pub callback: Option<Callback>,
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
    /// The transcription is being made.
    InProgress,
    /// The transcription is complete; the recognised text.
    Completed(RecognisedText),
    /// The transcription failed; the reason in words.
    Failed(String),
}
