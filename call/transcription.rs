//! Words on paper: of what is said on a leg as it is said, and of recordings.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Callback;
use crate::hearing::{Listening, Words};
use crate::id::{OpId, TranscriptionId};
use crate::recording::{Recording, Track};

/// A transcription of a leg, as asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TranscriptionSpec {
    /// The application's name for it.
    pub name: Option<String>,
    /// Whose words; each direction is heard on its own.
    pub track: Track,
    /// How.
    pub listening: Listening,
    /// What the application calls what the leg's party says, and what it hears.
    pub labels: (Option<String>, Option<String>),
    /// Recogniser and model in the application's words; handed back, and not looked at.
    pub engine: (String, String),
    /// The application is told once, at the end, of all that was said.
    pub at_end: bool,
    /// Only if none of this name runs.
    pub alone: bool,
    /// Told of all of it.
    pub callback: Option<Callback>,
}

/// Octets that are kept of what was said until the end; what is said after that is left out.
pub(crate) const MOST_SAID: usize = 1024 * 1024;

/// A live transcription's life.
#[derive(Clone, PartialEq, Debug)]
pub struct TranscriptionFacts {
    /// Its id.
    pub id: TranscriptionId,
    /// As asked for.
    pub spec: Box<TranscriptionSpec>,
    /// How many were told of it before this one, from 0.
    pub sequence: u32,
    /// What happened.
    pub status: TranscriptionStatus,
}

/// What happened to a live transcription.
#[derive(Clone, PartialEq, Debug)]
pub enum TranscriptionStatus {
    /// It listens.
    Started,
    /// Something was said.
    Said {
        /// `Inbound` or `Outbound`.
        track: Track,
        /// What.
        words: Words,
        /// It will not change.
        is_final: bool,
    },
    /// It is over.
    Stopped,
    /// It is over, and was to be told of at the end: all that was said, a line for each utterance.
    Whole(String),
    /// It could not begin, or go on.
    Failed(String),
}

impl fmt::Display for TranscriptionStatus {
    /// Without the words.
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

/// A live transcription under way.
#[derive(Debug)]
pub(crate) struct Transcribing {
    pub(crate) id: TranscriptionId,
    pub(crate) op: OpId,
    pub(crate) spec: Box<TranscriptionSpec>,
    pub(crate) sequence: u32,
    /// Whether it was asked to end: what was said before is still being told.
    pub(crate) stopping: bool,
    /// So far, if it is told of at the end.
    pub(crate) said: String,
}

/// What is to be done with a recording, once it is whole.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TranscriptionOrder {
    /// Told when it is done, or cannot be.
    pub callback: Option<Callback>,
}

/// A transcription of a recording.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Transcript {
    /// Its id.
    pub id: TranscriptionId,
    /// What was said in.
    pub recording: Recording,
    /// Told when it is done, or cannot be.
    pub callback: Option<Callback>,
    /// How far it is.
    pub state: TranscriptState,
}

/// How far the transcription of a recording is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum TranscriptState {
    /// Being made.
    InProgress,
    /// The words.
    Completed(Words),
    /// Why there are none.
    Failed(String),
}
