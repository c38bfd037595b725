//! Failures of the engines that work for a leg: language models, voices, recognisers, tools of agents.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The text of a failure if speech to text is switched off in the configuration.
pub const SPEECH_TO_TEXT_OFF: &str = "speech to text is off (speech.stt)";

/// The beginning of the text of a failure if the engine on this computer, or its models, are not installed.
pub const SPEECH_NOT_INSTALLED: &str = "the local speech engine is not installed";
/// The beginning of the text of a failure if the engine on this computer has too much work.
pub const LOCAL_SPEECH_BUSY: &str = "the local speech engine has too much work";
/// The beginning of the text of a failure if the program of the engine on this computer does not run.
pub const LOCAL_SPEECH_DOWN: &str = "the local speech engine does not run";
/// The words in the text of a failure if espeak-ng speaks in place of the configured voice.
pub const ESPEAK_SPEAKS: &str = "espeak-ng speaks instead";

/// A failure of an engine that worked for a leg.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EngineFailure {
    /// The engine.
    pub engine: Engine,
    /// Details in words, without credentials.
    pub detail: String,
    /// The consequence for the call.
    pub effect: EngineEffect,
}

/// The kinds of engines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Engine {
    /// The language model of an agent.
    Model,
    /// Text to speech.
    Voice,
    /// Speech to text.
    Recogniser,
    /// A web server that runs a tool of an agent.
    Tool,
    /// An audio file that a conversation plays.
    File,
}

/// The consequence of an engine's failure for the call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum EngineEffect {
    /// The server makes up for the failure: it repeats the request, uses another engine, or reports the failure to the
    /// model.
    Recovered,
    /// The caller notices the failure, and the call continues.
    Noticed,
    /// The call ends because of the failure.
    Fatal,
}

impl EngineFailure {
    /// Creates a failure that the caller notices. The call continues.
    pub fn new(engine: Engine, detail: impl Into<String>) -> Self {
        Self { engine, detail: detail.into(), effect: EngineEffect::Noticed }
    }

    /// Returns the same failure with this consequence.
    #[must_use]
    pub fn with_effect(self, effect: EngineEffect) -> Self {
        Self { effect, ..self }
    }
}

impl fmt::Display for EngineFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.engine {
            Engine::Model => "the model failed",
            Engine::Voice => "text was not spoken",
            Engine::Recogniser => "speech is not recognised",
            Engine::Tool => "a tool failed",
            Engine::File => "a file was not played",
        };
        write!(f, "{what}: {}", self.detail)
    }
}
