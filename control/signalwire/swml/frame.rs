//! The position of a script in its documents: a stack of sections and conditions, and its written form.
//!
//! A document is written once, as the application's text in the form of [`written`]. A position is the number of a step
//! in its document, so positions are valid as long as [`Document::of`] numbers the steps in this order.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::document::{Document, Steps};
use super::value::Value;
use super::written::{self, Written};

/// The steps of a section or a condition that run.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Frame {
    pub(super) document: Document,
    pub(super) steps: Steps,
    /// The index of the next step.
    pub(super) at: usize,
    /// The section. `None` for the steps of a condition within a section.
    pub(super) section: Option<Section>,
}

impl Frame {
    /// Whether the frame is the section of an agent's action.
    pub(super) fn is_of_agent(&self) -> bool {
        self.section.as_ref().is_some_and(|section| section.entry == Entry::Agent)
    }
}

/// A section that runs.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Section {
    pub(super) name: String,
    #[serde(with = "written")]
    pub(super) params: Value,
    pub(super) entry: Entry,
    /// The number of jumps of each step that has made jumps.
    pub(super) jumps: BTreeMap<usize, u32>,
}

/// How a script enters a section.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) enum Entry {
    /// By `execute`: after the section, the script continues with the outcome of the `execute` step.
    Execute,
    /// By `transfer`, or as the first section: the script ends with the section.
    Transfer,
    /// By an action of an agent: after the section, the agent comes back.
    Agent,
}

/// The written form of the frames. `S` is a reference to the section when the frames are written.
#[derive(Serialize, Deserialize)]
struct Position<S> {
    documents: Vec<Arc<str>>,
    frames: Vec<FramePosition<S>>,
}

/// The written form of one frame.
#[derive(Serialize, Deserialize)]
struct FramePosition<S> {
    /// The index of the document.
    document: usize,
    /// The number of the first step. `None` for a section without steps.
    first: Option<usize>,
    at: usize,
    section: Option<S>,
}

/// Writes the frames of a script.
pub(super) fn serialize<S: Serializer>(frames: &[Frame], serializer: S) -> Result<S::Ok, S::Error> {
    let mut documents: Vec<&Document> = Vec::new();
    let positions = frames.iter().map(|Frame { document, steps, at, section }| {
        let known = documents.iter().position(|known| known.is(document));
        let index = known.unwrap_or_else(|| {
            documents.push(document);
            documents.len() - 1
        });
        let first = steps.first().map(|step| step.id);
        FramePosition { document: index, first, at: *at, section: section.as_ref() }
    });
    let frames = positions.collect();
    let documents = documents.into_iter().map(|document| Arc::clone(&document.source)).collect();
    Position { documents, frames }.serialize(serializer)
}

/// Reads the frames of a script.
///
/// # Errors
/// A document or a position is wrong.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Frame>, D::Error> {
    let Position { documents, frames } = Position::<Section>::deserialize(deserializer)?;
    let read = |source: &Arc<str>| {
        let Written(value) = serde_json::from_str::<Written<Value>>(source).map_err(D::Error::custom)?;
        Document::of(value).map_err(D::Error::custom)
    };
    let documents = documents.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let frame = |FramePosition { document, first, at, section }: FramePosition<Section>| -> Result<Frame, D::Error> {
        let wrong = || D::Error::custom("there is no document with this index");
        let document = documents.get(document).ok_or_else(wrong)?.clone();
        let steps = match first {
            Some(first) => document.steps_from(first),
            None => Some(Steps::default()),
        };
        let steps = steps.ok_or_else(|| D::Error::custom("there is no step with this number"))?;
        Ok(Frame { document, steps, at, section })
    };
    frames.into_iter().map(frame).collect()
}
