//! The `ai` method of SWML: a voice agent that a document defines. The engine of the server has the conversation and asks an
//! [`AgentScript`](tandem_dialect::agent::AgentScript), which is here: its prompts, functions (SWAIG), data and reports are
//! those of the document.
//!
//! ```text
//!   document ──Definition──► script ◄──engine: prompts, tools, calls, the end──►  the model
//!                             │  function, data_map, template: requests and texts
//!                             │  action: what an answer of a web server does      contexts: steps of the conversation
//!                             └──payload: the bodies of requests
//! ```
//!
//! An action with a document ends the conversation, and gives the interpreter an [`Outcome`]. The interpreter runs the
//! documents of the outcome, and then starts the method again with the [`Saved`] state.

mod action;
mod address;
mod contexts;
mod data_map;
mod definition;
mod function;
mod languages;
mod params;
mod payload;
mod pom;
mod script;
mod template;
#[cfg(test)]
mod tests;
mod tools;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

pub(super) use script::{AiScript, Saved};

/// The data from which a script is made: `AgentSpec::script` as JSON.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Seed {
    /// The parameters of the method.
    pub(super) ai: Json,
    /// The names of the contexts, in the order of the document.
    #[serde(default)]
    pub(super) contexts: Vec<String>,
    /// The object `call` of the document.
    pub(super) call: Json,
    /// The variables of the document.
    #[serde(default)]
    pub(super) vars: Json,
    /// The global data of an earlier agent of the call.
    #[serde(default)]
    pub(super) global_data: Map<String, Json>,
    /// The state of the agent, when it comes back from a document.
    #[serde(default)]
    pub(super) saved: Option<Box<script::Saved>>,
}

/// The result of a conversation that the agent has ended, as JSON.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// The documents that run first, in this order. A transfer in such a document ends only the document.
    #[serde(default)]
    pub(super) documents: Vec<Json>,
    /// The continuation. `None` means the step after the method.
    pub(super) then: Option<Continuation>,
    /// The global data, which the documents can use.
    #[serde(default)]
    pub(super) global_data: Map<String, Json>,
    /// Whether a later agent of the call gets the global data.
    #[serde(default)]
    pub(super) persists: bool,
    /// Warnings for the log of the call.
    #[serde(default)]
    pub(super) warnings: Vec<String>,
}

/// The continuation after a conversation.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) enum Continuation {
    /// The document replaces the rest of the script.
    Transfer(Json),
    /// The agent comes back in this state.
    Return(Box<script::Saved>),
    /// The call goes to this destination: the URL of a document, a number or a SIP URI.
    Destination(String),
}

/// The parts of the method that have no effect here, for the log of the call.
///
/// # Errors
/// The reason why there can be no agent.
pub(super) fn check(ai: &Json) -> Result<Vec<String>, String> {
    definition::Definition::read(ai, &[]).map(|definition| definition.warnings)
}
