//! The written form of a running script, for the derives of [`Interpreter`](super::interpreter::Interpreter).
//!
//! A document is written once, as the application's text in the form of [`written`](super::written). A position is the
//! number of a step in its document, so positions are valid as long as [`Document::of`] numbers the steps in this order.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tandem_call::snapshot::SnapshotError;

use super::document::{Document, Steps};
use super::interpreter::{Entry, Frame};
use super::value::Value as ScriptValue;
use super::written::Written;

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
        #[serde(with = "value")]
        params: ScriptValue,
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
    fn into_frames(self) -> Result<Vec<Frame>, SnapshotError> {
        let malformed = |why: &str| SnapshotError::Malformed(why.to_owned());
        let read = |source: &Arc<str>| {
            let value = serde_json::from_str::<Written<ScriptValue>>(source);
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

pub(super) mod frames {
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

pub(super) mod value {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{ScriptValue, Written};

    pub(in super::super) fn serialize<S: Serializer>(value: &ScriptValue, serializer: S) -> Result<S::Ok, S::Error> {
        Written(value).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ScriptValue, D::Error> {
        Written::deserialize(deserializer).map(|written: Written<ScriptValue>| written.0)
    }
}

pub(super) mod object {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Written;
    use crate::swml::value::Object;

    pub(in super::super) fn serialize<S: Serializer>(object: &Object, serializer: S) -> Result<S::Ok, S::Error> {
        Written(object).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Object, D::Error> {
        Written::deserialize(deserializer).map(|written: Written<Object>| written.0)
    }
}

pub(super) mod http_method {
    use http::Method;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in super::super) fn serialize<S: Serializer>(method: &Method, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(method.as_str())
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Method, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
