//! The present activity of a conversation, for people who watch it.

use parking_lot::Mutex;
use tandem_call::engine::{Engine, EngineFailure};
use tandem_dialect::conversation::ConversationEvent;

use super::turn_taking::ConversationFact;

/// A running conversation. Its task and its call write; anybody may read.
#[derive(Debug)]
pub struct LiveConversation {
    /// The name of the agent, or the URL of the application without credentials.
    pub with: String,
    /// Whether the other side is an agent of this server.
    pub is_agent: bool,
    figures: Mutex<ConversationFigures>,
}

/// The activity of a conversation at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConversationFigures {
    /// Number of turns whose reply began to play.
    pub turns: u32,
    /// Number of replies that the caller has interrupted.
    pub interruptions: u32,
    /// The party that is expected to act. `None` if the task does not know.
    pub state: Option<ConversationState>,
    /// The engines that have failed and not worked since, each with the reason.
    pub failures: Vec<FailedEngine>,
    /// The last failure of an engine, in words.
    pub last_error: Option<String>,
    /// Number of times that words of the caller were recognised.
    heard: u32,
    caller_speaks: bool,
    other_speaks: bool,
    /// Whether the other side has words of the caller that it has not answered.
    thinks: bool,
}

/// An engine that has failed and not worked since.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FailedEngine {
    /// The engine.
    pub engine: Engine,
    /// The reason in words.
    pub detail: String,
    /// The value of [`ConversationFigures::heard`] at the time of the failure.
    heard: u32,
}

/// The party that acts in a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConversationState {
    /// The other side waits for the caller.
    Listening,
    /// The caller speaks.
    CallerSpeaks,
    /// The other side has the words of the caller, and its reply has not begun.
    Thinking,
    /// The other side speaks.
    Speaking,
}

impl LiveConversation {
    pub(super) fn new(with: String, is_agent: bool) -> Self {
        Self { with, is_agent, figures: Mutex::default() }
    }

    /// Returns what the conversation does now.
    pub fn figures(&self) -> ConversationFigures {
        self.figures.lock().clone()
    }

    /// Takes a failure of an engine.
    pub fn failed(&self, failure: &EngineFailure) {
        self.figures.lock().failed(failure);
    }

    pub(super) fn note(&self, fact: &ConversationFact) {
        self.figures.lock().note(fact);
    }

    /// Takes an event for the other side.
    pub(super) fn event(&self, event: &ConversationEvent) {
        self.figures.lock().event(event);
    }
}

impl ConversationFigures {
    fn event(&mut self, event: &ConversationEvent) {
        match event {
            ConversationEvent::CallerSpeaking(speaks) => self.caller_speaks = *speaks,
            ConversationEvent::AgentSpeaking(speaks) => (self.other_speaks, self.thinks) = (*speaks, false),
            // A noise has no words, and nobody answers it.
            ConversationEvent::Prompt { last: true, text, .. } => self.thinks |= !text.trim().is_empty(),
            _ => return,
        }
        self.state = Some(match self {
            Self { caller_speaks: true, .. } => ConversationState::CallerSpeaks,
            Self { other_speaks: true, .. } => ConversationState::Speaking,
            Self { thinks: true, .. } => ConversationState::Thinking,
            _ => ConversationState::Listening,
        });
    }

    fn failed(&mut self, failure: &EngineFailure) {
        let EngineFailure { engine, detail, .. } = failure;
        self.last_error = Some(failure.to_string());
        self.failures.retain(|failed| failed.engine != *engine);
        self.failures.push(FailedEngine { engine: *engine, detail: detail.clone(), heard: self.heard });
    }

    fn note(&mut self, fact: &ConversationFact) {
        match fact {
            ConversationFact::Heard { .. } => {
                self.heard = self.heard.saturating_add(1);
                self.failures.retain(|failed| failed.engine != Engine::Recogniser);
            }
            ConversationFact::Turn(turn) => {
                self.turns = turn.number;
                // An apology for a failure is a reply too, but to words from before the failure.
                self.failures.retain(|failed| failed.heard >= self.heard);
            }
            ConversationFact::Interrupted { .. } => self.interruptions = self.interruptions.saturating_add(1),
            ConversationFact::Spoken(_) | ConversationFact::Played(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tandem_metrics::turns::Turn;

    use super::*;

    fn heard() -> ConversationFact {
        ConversationFact::Heard { text: "sales".to_owned(), sent: true }
    }

    fn turn(number: u32) -> ConversationFact {
        ConversationFact::Turn(Turn { number, words: None, token: None, audio: Duration::ZERO })
    }

    fn engines(figures: &ConversationFigures) -> Vec<Engine> {
        figures.failures.iter().map(|failed| failed.engine).collect()
    }

    #[test]
    fn an_engine_counts_as_failed_until_a_turn_after_further_words_succeeds() {
        let mut figures = ConversationFigures::default();
        figures.note(&heard());
        figures.failed(&EngineFailure::new(Engine::Model, "no answer"));
        figures.note(&turn(1));
        assert_eq!(engines(&figures), [Engine::Model], "the apology is no success");
        figures.note(&heard());
        figures.note(&turn(2));
        assert_eq!((figures.failures.len(), figures.turns), (0, 2));
        assert_eq!(figures.last_error.as_deref(), Some("the model failed: no answer"));
    }

    #[test]
    fn a_noise_of_the_caller_changes_the_state_only_while_it_lasts() {
        let mut figures = ConversationFigures::default();
        let mut state = |event: ConversationEvent| {
            figures.event(&event);
            figures.state.unwrap()
        };
        let prompt = |text: &str| ConversationEvent::Prompt {
            text: text.to_owned(),
            language: "en".to_owned(),
            last: true,
            end_of_turn: None,
        };
        assert_eq!(state(ConversationEvent::CallerSpeaking(true)), ConversationState::CallerSpeaks);
        assert_eq!(state(ConversationEvent::CallerSpeaking(false)), ConversationState::Listening);
        assert_eq!(state(prompt("sales")), ConversationState::Thinking);
        assert_eq!(state(ConversationEvent::AgentSpeaking(true)), ConversationState::Speaking);
        assert_eq!(state(ConversationEvent::CallerSpeaking(true)), ConversationState::CallerSpeaks);
        assert_eq!(state(ConversationEvent::CallerSpeaking(false)), ConversationState::Speaking, "it goes on");
        assert_eq!(state(prompt("")), ConversationState::Speaking);
        assert_eq!(state(ConversationEvent::AgentSpeaking(false)), ConversationState::Listening);
    }

    #[test]
    fn recognised_words_show_that_the_recogniser_works_and_only_it() {
        let mut figures = ConversationFigures::default();
        for engine in [Engine::Recogniser, Engine::Voice, Engine::Voice] {
            figures.failed(&EngineFailure::new(engine, "down"));
        }
        figures.note(&heard());
        assert_eq!(engines(&figures), [Engine::Voice]);
    }
}
