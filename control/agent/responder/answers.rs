//! The requests to the model and its answers.

use std::time::{Duration, Instant};

use serde_json::json;
use tandem_call::engine::{Engine, EngineEffect, EngineFailure};
use tandem_dialect::conversation::{ConversationCommand, InterruptPolicy};

use super::super::chat::{ModelQuestion, Piece, ToolCall};
use super::super::languages::{LanguageFilter, SpokenPart};
use super::super::spoken::SpokenFilter;
use super::super::tools;
use super::{FILLER, MAX_ROUNDS, Responder, ResponderOutput};

/// A request to the model, with the response so far.
#[derive(Debug)]
pub(super) struct ModelAnswer {
    pub(super) id: u64,
    /// Whether the request was sent before the end of the caller's turn. The response is held back until the turn ends.
    pub(super) early: bool,
    pub(super) text: String,
    /// Number of octets of `text` that the caller has heard.
    pub(super) heard: usize,
    pub(super) filter: SpokenFilter,
    pub(super) languages: LanguageFilter,
    pub(super) asked: Instant,
    /// Time from the request to the first text.
    pub(super) latency: Option<Duration>,
    pub(super) calls: Vec<ToolCall>,
    pub(super) ended: bool,
    /// Whether this is the second attempt, after the failure of the first attempt.
    pub(super) is_retry: bool,
    pub(super) due: Instant,
}

impl Responder {
    pub(super) fn start_answer(&mut self, now: Instant, early: bool) {
        if self.held.is_some() {
            self.owes_answer = true;
            return;
        }
        self.ask_model(now, early, false);
        let hold = ResponderOutput::Command(ConversationCommand::HoldBack(early));
        self.outputs.push_back(hold);
        if !early {
            self.filler = Some((now + FILLER, 0));
        }
    }

    fn ask_model(&mut self, now: Instant, early: bool, is_retry: bool) {
        let id = self.next_answer;
        self.next_answer += 1;
        self.owes_answer = false;
        let turn = self.script.turn(self.at(now));
        let prompt = LanguageFilter::prompt(turn.prompt, &self.settings.languages);
        let mut messages = self.history.messages(&prompt);
        if !self.pending.is_empty() {
            messages.push(json!({ "role": "user", "content": self.pending }));
        }
        let question =
            ModelQuestion { messages, tools: turn.tools.iter().map(tools::function).collect(), fields: turn.model };
        self.tools = turn.tools;
        self.outputs.push_back(ResponderOutput::AskModel { id, question });
        self.answer = Some(ModelAnswer {
            id,
            early,
            text: String::new(),
            heard: 0,
            filter: SpokenFilter::default(),
            languages: LanguageFilter::new(&self.settings.languages),
            asked: now,
            latency: None,
            calls: Vec::new(),
            ended: false,
            is_retry,
            due: now + self.config.model.timeout(),
        });
        self.silence = None;
    }

    pub(super) fn cancel_answer(&mut self) {
        if self.answer.take().is_some() {
            self.outputs.push_back(ResponderOutput::CancelAnswer);
        }
    }

    /// Takes a piece of the model's response. A piece for an abandoned request is ignored.
    pub(in super::super) fn handle_piece(&mut self, now: Instant, id: u64, piece: Piece) {
        self.set_time(now);
        let timeout = self.config.model.timeout();
        let Some(answer) = self.answer.as_mut().filter(|answer| answer.id == id) else { return };
        match piece {
            Piece::Text(text) => {
                answer.due = now + timeout;
                answer.latency.get_or_insert_with(|| now.saturating_duration_since(answer.asked));
                let text = answer.filter.push(&text);
                let parts = answer.languages.push(&text);
                self.say_parts(parts, false);
            }
            Piece::End(calls) => {
                let rest = answer.filter.rest();
                let mut parts = answer.languages.push(&rest);
                parts.extend(answer.languages.rest());
                answer.calls = calls;
                answer.ended = true;
                let early = answer.early;
                self.say_parts(parts, true);
                if !early {
                    self.answer_ended(now);
                }
            }
            Piece::Failed { why, for_good } => {
                let (early, is_retry) = (answer.early, answer.is_retry);
                let fresh = answer.text.trim().is_empty();
                let failure = EngineFailure::new(Engine::Model, why);
                if fresh && !is_retry && !for_good {
                    self.report(failure, EngineEffect::Recovered);
                    self.ask_model(now, early, true);
                } else {
                    self.engine_failed(now, failure);
                }
            }
        }
    }

    /// Speaks the next parts of the model's answer. `last` says whether the answer ends with them.
    fn say_parts(&mut self, parts: Vec<SpokenPart>, last: bool) {
        let Some(answer) = self.answer.as_mut() else { return };
        let mut words = Vec::new();
        for part in parts {
            match part {
                SpokenPart::Language(code) => self.language = Some(code),
                SpokenPart::Text(text) if !text.is_empty() => {
                    if !text.trim().is_empty() {
                        self.filler = None;
                    }
                    answer.text.push_str(&text);
                    words.push((text, self.language.clone()));
                }
                SpokenPart::Text(_) => {}
            }
        }
        // The last piece of an answer may have no text, but it ends the answer for the voice.
        if last && !answer.text.is_empty() && words.is_empty() {
            words.push((String::new(), self.language.clone()));
        }
        let count = words.len();
        for (index, (text, language)) in words.into_iter().enumerate() {
            self.outputs.push_back(ResponderOutput::Command(say(text, last && index + 1 == count, language)));
        }
    }

    /// Adds an answer that does not go on to the dialogue, with the part that the caller has heard.
    pub(super) fn keep(&mut self, answer: ModelAnswer) {
        self.history.latency = answer.latency;
        self.history.agent(answer.text, answer.heard, Vec::new());
    }

    /// Handles a complete response after the end of the caller's turn. The caller may now hear the response.
    pub(super) fn answer_ended(&mut self, now: Instant) {
        let Some(answer) = self.answer.take() else { return };
        self.outputs.push_back(ResponderOutput::CancelAnswer);
        let says_nothing = answer.text.trim().is_empty();
        self.history.results_answered();
        self.history.latency = answer.latency;
        self.history.agent(answer.text, answer.heard, answer.calls.clone());
        if answer.calls.is_empty() {
            self.filler = None;
            self.failures = 0;
            if says_nothing {
                self.say(&self.phrases().repeat.clone());
            }
            let later = std::mem::take(&mut self.later);
            self.perform(now, later, says_nothing);
            self.answer_if_owed(now);
            return self.wait_in_silence(now);
        }
        self.rounds += 1;
        self.skips_answer = false;
        if self.rounds > MAX_ROUNDS + 1 {
            answer.calls.iter().for_each(|call| self.result(&call.id, Err("not run".to_owned())));
            let why = "the model called tools in too many rounds";
            return self.engine_failed(now, EngineFailure::new(Engine::Model, why));
        }
        for call in answer.calls {
            self.run(now, &call, says_nothing);
        }
        self.answer_to_results(now);
    }
}

pub(super) fn say(token: String, last: bool, language: Option<String>) -> ConversationCommand {
    ConversationCommand::Say { token, last, language, interrupt_policy: InterruptPolicy::default() }
}
