//! The position of a script in its documents: a stack of sections and conditions, and its written form.
//!
//! A document is written once, as the application's text in the form of [`written`](super::written). A position is the
//! number of a step in its document, so positions are valid as long as [`Document::of`] numbers the steps in this order.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tandem_call::snapshot::CallSnapshotError;

use super::document::{Document, Steps};
use super::value::Value;
use super::written::{self as values, Written};

/// How a script enters a section.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Entry {
    /// By `execute`: after the section, the script continues with the outcome of the `execute` step.
    Execute,
    /// By `transfer`, or as the first section: the script ends with the section.
    Transfer,
}

/// A section or a condition whose steps run.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Frame {
    Section {
        name: String,
        document: Document,
        steps: Steps,
        at: usize,
        params: Value,
        entry: Entry,
        /// The number of jumps of each step that has made jumps.
        jumps: BTreeMap<usize, u32>,
    },
    /// Steps within a section.
    Block { steps: Steps, at: usize },
}

/// The written form of the frames.
#[derive(Serialize, Deserialize)]
struct Position {
    documents: Vec<Arc<str>>,
    levels: Vec<Level>,
}

/// The written form of one frame.
#[derive(Serialize, Deserialize)]
enum Level {
    Section {
        name: String,
        /// The index of the document.
        document: usize,
        at: usize,
        #[serde(with = "values::value")]
        params: Value,
        entry: Entry,
        jumps: BTreeMap<usize, u32>,
    },
    Block {
        /// The number of the first step. All steps are in the document of the innermost section.
        first: usize,
        at: usize,
    },
}

impl Position {
    fn of(frames: &[Frame]) -> Self {
        let mut documents: Vec<&Document> = Vec::new();
        let levels = frames.iter().map(|frame| match frame {
            Frame::Section { name, document, steps: _, at, params, entry, jumps } => {
                let known = documents.iter().position(|known| known.is(document));
                let index = known.unwrap_or_else(|| {
                    documents.push(document);
                    documents.len() - 1
                });
                let (name, params, jumps) = (name.clone(), params.clone(), jumps.clone());
                Level::Section { name, document: index, at: *at, params, entry: *entry, jumps }
            }
            // A block has steps.
            Frame::Block { steps, at } => Level::Block { first: steps.first().map_or(0, |step| step.id), at: *at },
        });
        let levels = levels.collect();
        Self { documents: documents.into_iter().map(|document| Arc::clone(&document.source)).collect(), levels }
    }

    /// # Errors
    /// A document or a position is wrong.
    fn into_frames(self) -> Result<Vec<Frame>, CallSnapshotError> {
        let malformed = |why: &str| CallSnapshotError::Malformed(why.to_owned());
        let read = |source: &Arc<str>| {
            let value = serde_json::from_str::<Written<Value>>(source);
            let value = value.map_err(|why| malformed(&why.to_string()))?;
            Document::of(value.0).map_err(|fault| malformed(&fault.to_string()))
        };
        let documents = self.documents.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let mut frames = Vec::with_capacity(self.levels.len());
        let mut current = None;
        for level in self.levels {
            frames.push(match level {
                Level::Section { name, document, at, params, entry, jumps } => {
                    let document =
                        documents.get(document).ok_or_else(|| malformed("there is no document with this index"))?;
                    current = Some(document);
                    let steps = document.section(&name).cloned().unwrap_or_default();
                    Frame::Section { name, document: document.clone(), steps, at, params, entry, jumps }
                }
                Level::Block { first, at } => {
                    let steps: Option<Steps> = current.and_then(|document| document.steps_from(first));
                    Frame::Block { steps: steps.ok_or_else(|| malformed("there is no step with this number"))?, at }
                }
            });
        }
        Ok(frames)
    }
}

/// The written form of all frames of a script.
pub(super) mod written {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Frame, Position};

    pub(in super::super) fn serialize<S: Serializer>(frames: &[Frame], serializer: S) -> Result<S::Ok, S::Error> {
        Position::of(frames).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Frame>, D::Error> {
        Position::deserialize(deserializer)?.into_frames().map_err(D::Error::custom)
    }
}
