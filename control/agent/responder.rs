//! Decides when an agent responds and what the agent does. This module handles turns, the model's responses, tools,
//! silence, and failures of engines. This module is pure: it has no I/O and reads no clock.
//!
//! ```text
//!   caller's words ──► asked early, held back ──(the turn has ended)──► spoken ──► tools ──► asked again
//!          ▲                     │ the caller continues                   │ the caller interrupts
//!          └──── withdrawn ──────┘◄────────────── what was heard ─────────┘
//! ```
//!
//! Every state has a timeout, except the state in which the agent waits for the caller's words.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tandem_call::address::Address;
use tandem_call::conversation::{AgentSpec, Inputs, Utterance};
use tandem_call::engine::{Engine, EngineEffect, EngineFailure, SPEECH_TO_TEXT_OFF};
use tandem_dialect::conversation::{ConversationCommand, ConversationEnd, ConversationEvent, InterruptPolicy};

use super::chat::{Piece, ToolCall};
use super::config::{AgentConfig, HttpTool, Interruptions, PhraseConfig};
use super::history::{self, History};
use super::spoken::SpokenFilter;
use super::tools::{self, ToolAction, Tools};
use super::words;

/// Time between the end of a turn and a filler phrase, if the model has not responded yet.
const FILLER: Duration = Duration::from_millis(700);
/// The time before each "still waiting" phrase, and the maximum number of these phrases. The first of these phrases
/// follows the filler.
const STILL_WAITING: (Duration, u32) = (Duration::from_secs(6), 3);
/// Time between a pause of the caller and a filler phrase. The agent says the filler phrase only if there is no
/// recognition result in this time.
const WORDS_TIMEOUT: Duration = Duration::from_secs(3);
/// Time after the filler phrase that follows `WORDS_TIMEOUT`. If there is still no recognition result after this time,
/// the recogniser counts as failed.
const NO_WORDS_TIMEOUT: Duration = Duration::from_secs(9);
/// Time after the last digit at which the digits count as complete.
const DIGITS_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of digits in one message.
const MAX_DIGITS: usize = 32;
/// Maximum number of rounds of tool calls in one turn.
const MAX_ROUNDS: u32 = 5;
/// Maximum length of the caller's words in one turn, in octets. Further words are dropped.
const LONGEST_TURN: usize = 16 * 1024;
/// Number of failed turns after which the agent ends the call.
const MAX_FAILURES: u32 = 2;
/// Number of failures of the recogniser after which speech recognition is started again.
const MAX_RECOGNITION_FAILURES: u32 = 2;
/// Time before the maximum duration of the call at which the agent warns the caller.
const WARNING: Duration = Duration::from_secs(30);

/// An action for the shell, which is the code with the I/O.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum ResponderOutput {
    /// A request to the conversation.
    Command(ConversationCommand),
    /// Send a request to the model, and abandon the previous request.
    AskModel {
        /// The number of the request. The pieces of the response carry this number.
        id: u64,
        /// The messages, in the JSON format of the model's API.
        messages: Vec<Value>,
    },
    /// Abandon the running request to the model.
    CancelAnswer,
    /// Run a tool, which sends a request to a web server.
    Run {
        /// The id that the model gave to the tool call.
        id: String,
        /// The tool to run.
        tool: Arc<HttpTool>,
        /// The arguments from the model.
        arguments: serde_json::Map<String, Value>,
    },
    /// Start (`true`) or stop (`false`) a recording.
    Record(bool),
    /// Start speech recognition again after a failure.
    RestartRecognition,
    /// A line of the dialogue: words that the caller said or heard.
    Utterance(Utterance),
    /// A line for the call's log. The fields are the text and the data of the line.
    Note(String, Value),
    /// An engine of the agent failed. The agent has decided about the consequence for the call.
    EngineFailed(EngineFailure),
}

/// The state of one agent in one conversation.
pub(super) struct Responder {
    config: Arc<AgentConfig>,
    spec: AgentSpec,
    prompt: Arc<str>,
    tools: Tools,
    history: History,
    /// The caller's words in the current turn, which has not ended yet.
    pending: String,
    caller_speaks: bool,
    agent_speaks: bool,
    paused_at: Option<Instant>,
    turn_ends: Option<Instant>,
    answer: Option<ModelAnswer>,
    next_answer: u64,
    /// The ids of the running tool calls.
    running: Vec<String>,
    rounds: u32,
    digits: String,
    digits_complete_at: Option<Instant>,
    /// The time of the next filler phrase, and the number of filler phrases so far in this turn.
    filler: Option<(Instant, u32)>,
    words_due: Option<(Instant, bool)>,
    /// Whether the agent was interrupted and no words of the caller have followed yet.
    interrupted_without_words: bool,
    silence: Option<Instant>,
    silence_prompts_sent: u32,
    ends_at: Option<Instant>,
    warned: bool,
    failures: u32,
    recognition_failures: u32,
    is_ending: bool,
    outputs: VecDeque<ResponderOutput>,
}

/// A request to the model, with the response so far.
#[derive(Debug)]
struct ModelAnswer {
    id: u64,
    /// Whether the request was sent before the end of the caller's turn. The response is held back until the turn ends.
    early: bool,
    text: String,
    /// Number of octets of `text` that the caller has heard.
    heard: usize,
    filter: SpokenFilter,
    calls: Vec<ToolCall>,
    ended: bool,
    /// Whether this is the second attempt, after the failure of the first attempt.
    is_retry: bool,
    due: Instant,
}

impl Responder {
    pub(super) fn new(config: Arc<AgentConfig>, spec: AgentSpec) -> Self {
        let prompt = spec.prompt.clone().or_else(|| config.prompt.clone()).unwrap_or_default();
        Self {
            tools: Tools::new(&config.tools, spec.collect_schema.as_deref()),
            history: History::new(&spec.history),
            prompt,
            config,
            spec,
            pending: String::new(),
            caller_speaks: false,
            agent_speaks: false,
            paused_at: None,
            turn_ends: None,
            answer: None,
            next_answer: 1,
            running: Vec::new(),
            rounds: 0,
            digits: String::new(),
            digits_complete_at: None,
            filler: None,
            words_due: None,
            interrupted_without_words: false,
            silence: None,
            silence_prompts_sent: 0,
            ends_at: None,
            warned: false,
            failures: 0,
            recognition_failures: 0,
            is_ending: false,
            outputs: VecDeque::new(),
        }
    }

    /// Returns the tools, in the JSON format of the model's API.
    pub(super) fn tools(&self) -> Vec<Value> {
        self.tools.described()
    }

    /// Returns the next action.
    pub(super) fn poll_output(&mut self) -> Option<ResponderOutput> {
        self.outputs.pop_front()
    }

    /// Returns the time at which [`Self::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let answer = self.answer.as_ref().filter(|answer| !answer.ended).map(|answer| answer.due);
        let filler = self.filler.map(|(at, _)| at);
        let words = self.words_due.map(|(at, _)| at);
        [self.turn_ends, answer, filler, words, self.digits_complete_at, self.silence, self.ends_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Starts the conversation.
    pub(super) fn begin(&mut self, now: Instant) {
        let longest = Duration::from_secs(self.config.max_seconds.into());
        self.ends_at = Some(now + longest.saturating_sub(WARNING));
        if let Some(event) = self.spec.event.clone() {
            self.history.note(event.to_string());
            return self.start_answer(now, false);
        }
        let first = self.spec.first_message.clone().or_else(|| self.config.first_message.clone()).unwrap_or_default();
        if first.trim().is_empty() {
            self.wait_in_silence(now);
        } else {
            self.say(&first);
        }
    }

    pub(super) fn handle_event(&mut self, now: Instant, event: ConversationEvent) {
        match event {
            ConversationEvent::CallerSpeaking(true) => {
                self.caller_speaks = true;
                (self.silence, self.words_due, self.turn_ends) = (None, None, None);
            }
            ConversationEvent::CallerSpeaking(false) => {
                self.caller_speaks = false;
                self.paused_at = Some(now);
                self.words_due = Some((now + WORDS_TIMEOUT, false));
                self.set_turn_end(now);
            }
            ConversationEvent::Prompt { text, last, .. } => self.prompt(now, &text, last),
            ConversationEvent::Digit(digit) => self.handle_digit(now, digit),
            ConversationEvent::Interrupted { .. } => self.interrupted(),
            ConversationEvent::AgentSpeaking(speaks) => {
                self.agent_speaks = speaks;
                self.filler = None;
                self.silence = None;
                if !speaks {
                    self.history.all_heard();
                    self.wait_in_silence(now);
                }
                self.report_lines(false);
            }
            ConversationEvent::Played(text) => {
                if !self.history.heard(&text)
                    && let Some(answer) = self.answer.as_mut().filter(|answer| !answer.early)
                {
                    history::mark_heard(&answer.text, &mut answer.heard, &text);
                }
            }
            ConversationEvent::Problem(why) => {
                self.note(format!("problem: {why}"), json!({ "event": "problem", "why": why }));
            }
            ConversationEvent::RecognitionFailed(why) => self.recognition_failed(&why),
        }
    }

    fn prompt(&mut self, now: Instant, text: &str, last: bool) {
        if last {
            self.words_due = None;
            self.recognition_failures = 0;
        }
        if text.trim().is_empty() {
            if last && self.interrupted_without_words && !self.caller_speaks && self.is_idle() {
                // The caller interrupted the agent, and the recogniser found no words.
                self.interrupted_without_words = false;
                self.say(&self.phrases().repeat.clone());
            } else if last {
                self.set_turn_end(now);
                self.wait_in_silence(now);
            }
            return;
        }
        (self.interrupted_without_words, self.silence, self.silence_prompts_sent) = (false, None, 0);
        if !last {
            self.withdraw_early();
            self.turn_ends = None;
            return;
        }
        self.add_words(text.trim());
        if self.running.is_empty() && !self.is_ending {
            self.start_answer(now, true);
        }
        self.set_turn_end(now);
    }

    /// Adds words to the caller's turn.
    fn add_words(&mut self, text: &str) {
        self.withdraw_early();
        if self.answer.is_some() && !self.agent_speaks && self.rounds == 0 {
            // The response has started, but the caller has heard nothing of it. So the caller's turn was not over.
            self.cancel_answer();
            self.outputs.push_back(ResponderOutput::Command(ConversationCommand::Withdraw));
            if let Some(earlier) = self.history.take_back() {
                self.pending = earlier;
            }
        }
        if self.pending.len() + text.len() >= LONGEST_TURN {
            let why = format!("more than {LONGEST_TURN} octets of words in one turn: further words are dropped");
            return self.note(format!("problem: {why}"), json!({ "event": "problem", "why": why }));
        }
        if !self.pending.is_empty() {
            self.pending.push(' ');
        }
        self.pending.push_str(text);
        self.filler = None;
    }

    /// Withdraws the early response, because more words of the caller have followed.
    fn withdraw_early(&mut self) {
        if self.answer.as_ref().is_some_and(|answer| answer.early) {
            self.cancel_answer();
            self.outputs.push_back(ResponderOutput::Command(ConversationCommand::Withdraw));
        }
    }

    /// Sets the time at which the caller's turn ends if no more words follow.
    fn set_turn_end(&mut self, now: Instant) {
        if self.caller_speaks || self.pending.is_empty() || !self.running.is_empty() {
            return;
        }
        let wait = self.config.patience.of(words::wait_after(&self.pending));
        self.turn_ends = Some(self.paused_at.map_or(now, |paused| (paused + wait).max(now)));
    }

    /// Handles the end of the caller's turn.
    fn turn_ended(&mut self, now: Instant) {
        self.turn_ends = None;
        self.rounds = 0;
        let text = std::mem::take(&mut self.pending);
        if text.is_empty() {
            return;
        }
        self.history.caller(text);
        self.outputs.push_back(ResponderOutput::Command(ConversationCommand::HoldBack(false)));
        match &mut self.answer {
            Some(answer) => {
                answer.early = false;
                if answer.text.trim().is_empty() {
                    self.filler = Some((now + FILLER, 0));
                }
                if answer.ended {
                    self.answer_ended(now);
                }
            }
            None => self.start_answer(now, false),
        }
    }

    fn handle_digit(&mut self, now: Instant, digit: char) {
        (self.silence, self.silence_prompts_sent) = (None, 0);
        if digit != '#' && self.digits.len() < MAX_DIGITS {
            self.digits.push(digit);
        }
        self.digits_complete_at = Some(now + DIGITS_TIMEOUT);
        if digit == '#' || self.digits.len() >= MAX_DIGITS {
            self.complete_digits(now);
        }
    }

    fn complete_digits(&mut self, now: Instant) {
        self.digits_complete_at = None;
        let digits: Vec<String> = std::mem::take(&mut self.digits).chars().map(String::from).collect();
        let text = if digits.is_empty() { "#".to_owned() } else { digits.join(" ") };
        self.add_words(&format!("(pressed the keys {text})"));
        if self.running.is_empty() && !self.is_ending {
            self.turn_ended(now);
        }
    }

    /// Handles an interruption of the agent by the caller.
    fn interrupted(&mut self) {
        if let Some(answer) = self.answer.take_if(|answer| !answer.early) {
            self.outputs.push_back(ResponderOutput::CancelAnswer);
            // The caller may have heard a part of the text.
            self.history.agent(answer.text, answer.heard, Vec::new());
        }
        self.history.interrupted();
        self.report_lines(false);
        self.filler = None;
        self.interrupted_without_words = true;
    }

    fn start_answer(&mut self, now: Instant, early: bool) {
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
        let mut messages = self.history.messages(&self.prompt);
        if !self.pending.is_empty() {
            messages.push(json!({ "role": "user", "content": self.pending }));
        }
        self.outputs.push_back(ResponderOutput::AskModel { id, messages });
        self.answer = Some(ModelAnswer {
            id,
            early,
            text: String::new(),
            heard: 0,
            filter: SpokenFilter::default(),
            calls: Vec::new(),
            ended: false,
            is_retry,
            due: now + self.config.model.timeout(),
        });
        self.silence = None;
    }

    fn cancel_answer(&mut self) {
        if self.answer.take().is_some() {
            self.outputs.push_back(ResponderOutput::CancelAnswer);
        }
    }

    /// Takes a piece of the model's response. A piece for an abandoned request is ignored.
    pub(super) fn handle_piece(&mut self, now: Instant, id: u64, piece: Piece) {
        let timeout = self.config.model.timeout();
        let Some(answer) = self.answer.as_mut().filter(|answer| answer.id == id) else { return };
        match piece {
            Piece::Text(text) => {
                answer.due = now + timeout;
                let text = answer.filter.push(&text);
                if text.is_empty() {
                    return;
                }
                if !text.trim().is_empty() {
                    self.filler = None;
                }
                answer.text.push_str(&text);
                self.outputs.push_back(ResponderOutput::Command(say(text, false)));
            }
            Piece::End(calls) => {
                let rest = answer.filter.rest();
                answer.text.push_str(&rest);
                answer.calls = calls;
                answer.ended = true;
                if !answer.text.is_empty() {
                    self.outputs.push_back(ResponderOutput::Command(say(rest, true)));
                }
                if !answer.early {
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
                    self.engine_failed(failure);
                }
            }
        }
    }

    /// Handles a complete response after the end of the caller's turn. The caller may now hear the response.
    fn answer_ended(&mut self, now: Instant) {
        let Some(answer) = self.answer.take() else { return };
        self.outputs.push_back(ResponderOutput::CancelAnswer);
        let says_nothing = answer.text.trim().is_empty();
        self.history.agent(answer.text, answer.heard, answer.calls.clone());
        if answer.calls.is_empty() {
            self.filler = None;
            self.failures = 0;
            if says_nothing {
                self.say(&self.phrases().repeat.clone());
            }
            return self.wait_in_silence(now);
        }
        self.rounds += 1;
        if self.rounds > MAX_ROUNDS + 1 {
            answer.calls.iter().for_each(|call| self.result(call, Err("not run".to_owned())));
            let why = "the model called tools in too many rounds";
            return self.engine_failed(EngineFailure::new(Engine::Model, why));
        }
        for call in answer.calls {
            self.run(now, &call, says_nothing);
        }
        if self.running.is_empty() && !self.is_ending {
            self.start_answer(now, false);
        }
    }

    fn run(&mut self, now: Instant, call: &ToolCall, says_nothing: bool) {
        let action = match self.tools.action(call) {
            _ if self.rounds > MAX_ROUNDS => ToolAction::Refused("too many tools in a row: answer now".to_owned()),
            action => action,
        };
        let name = &call.name;
        self.note(format!("tool {name} runs"), json!({ "event": "tool", "tool": name, "id": call.id }));
        match action {
            ToolAction::HangUp => {
                if says_nothing {
                    self.say(&self.phrases().goodbye.clone());
                }
                self.result(call, Ok("the call ends".to_owned()));
                self.end_after_playout(ConversationEnd::Hangup);
            }
            ToolAction::SendDigits(digits) => {
                self.outputs.push_back(ResponderOutput::Command(ConversationCommand::SendDigits(digits)));
                self.result(call, Ok("pressed".to_owned()));
            }
            ToolAction::Record(on) => {
                self.outputs.push_back(ResponderOutput::Record(on));
                self.result(call, Ok("done".to_owned()));
            }
            ToolAction::Transfer(name, to) => {
                if says_nothing {
                    self.say(&self.phrases().transfer.clone());
                }
                let event = format!(
                    "The caller was to be connected with {name}, but nobody answered. Tell the caller, and go on."
                );
                let then = AgentSpec { history: self.history.lines(), event: Some(event.into()), ..self.spec.clone() };
                self.result(call, Ok("the caller is being connected".to_owned()));
                self.end_after_playout(ConversationEnd::Run(Box::new(tools::transfer(to, Some(then)))));
            }
            ToolAction::Collected(values) => {
                self.result(call, Ok("thank you".to_owned()));
                if let Some(closing_message) = self.spec.closing_message.clone() {
                    self.say(&closing_message);
                }
                self.end_after_playout(ConversationEnd::Handoff(Some(values.to_string())));
            }
            ToolAction::Ask(tool, arguments) => {
                if let Some(words) = self.tools.says(name).filter(|_| says_nothing) {
                    self.outputs.push_back(ResponderOutput::Command(ConversationCommand::Filler(words.to_string())));
                } else if says_nothing {
                    self.filler = Some((now + FILLER, 0));
                }
                self.running.push(call.id.clone());
                self.outputs.push_back(ResponderOutput::Run { id: call.id.clone(), tool, arguments });
            }
            ToolAction::Refused(why) => self.result(call, Err(why)),
        }
    }

    /// Takes the result of a tool's request.
    pub(super) fn handle_tool_result(&mut self, now: Instant, id: &str, result: Result<String, String>) {
        let Some(at) = self.running.iter().position(|one| one == id) else { return };
        self.running.remove(at);
        let call = ToolCall { id: id.to_owned(), ..ToolCall::default() };
        if let Err(why) = &result {
            self.report(EngineFailure::new(Engine::Tool, why), EngineEffect::Recovered);
        }
        self.result(&call, result);
        if self.running.is_empty() && !self.is_ending {
            if !self.pending.is_empty() {
                let text = std::mem::take(&mut self.pending);
                self.history.caller(text);
            }
            self.start_answer(now, false);
        }
    }

    fn result(&mut self, call: &ToolCall, result: Result<String, String>) {
        let (text, ok) = match result {
            Ok(text) => (text, true),
            Err(why) => (json!({ "error": why }).to_string(), false),
        };
        let shown = if ok { "done" } else { "failed" };
        self.note(format!("tool call {} {shown}", call.id), json!({ "event": "tool_result", "id": call.id, "ok": ok }));
        self.history.result(call.id.clone(), text);
    }

    /// Handles a failure of the recogniser.
    fn recognition_failed(&mut self, why: &str) {
        self.recognition_failures += 1;
        let misses_words = self.words_due.take().is_some();
        if misses_words {
            self.note(format!("no recognition result: {why}"), json!({ "event": "words_missing", "why": why }));
        }
        let failure = EngineFailure::new(Engine::Recogniser, why);
        // A recogniser that is off, or whose address is not allowed, does not get better.
        let for_good = why == SPEECH_TO_TEXT_OFF || why.contains("allow_networks");
        if for_good {
            self.recognition_failures = MAX_RECOGNITION_FAILURES + 1;
        }
        if self.recognition_failures > MAX_RECOGNITION_FAILURES {
            return self.engine_failed(failure);
        }
        self.report(failure, EngineEffect::Recovered);
        self.outputs.push_back(ResponderOutput::RestartRecognition);
        // A caller who has said nothing is not asked to say it again.
        let repeats = self.recognition_failures == 2 && (misses_words || self.caller_speaks);
        if repeats || misses_words && self.is_idle() {
            self.say(&self.phrases().repeat.clone());
        }
    }

    /// Handles the repeated failure of an engine. The agent apologises, and then transfers the caller to the fallback,
    /// if the agent has a fallback.
    fn engine_failed(&mut self, failure: EngineFailure) {
        self.cancel_answer();
        self.filler = None;
        let pending = std::mem::take(&mut self.pending);
        if !pending.is_empty() {
            self.history.caller(pending);
        }
        self.turn_ends = None;
        self.outputs.push_back(ResponderOutput::Command(ConversationCommand::HoldBack(false)));
        self.failures += 1;
        let fallback = self.config.fallback.clone();
        let gives_up = fallback.is_none()
            && (self.failures >= MAX_FAILURES || self.recognition_failures > MAX_RECOGNITION_FAILURES);
        let ends_call = gives_up && self.spec.collect_schema.is_none();
        self.report(failure.clone(), if ends_call { EngineEffect::Fatal } else { EngineEffect::Noticed });
        let phrases = self.phrases().clone();
        self.say(&phrases.apology);
        match fallback {
            Some(to) => self.fall_back(&phrases, to.0, failure),
            None if gives_up => self.give_up(),
            None => {}
        }
    }

    fn report(&mut self, failure: EngineFailure, effect: EngineEffect) {
        self.outputs.push_back(ResponderOutput::EngineFailed(failure.with_effect(effect)));
    }

    fn fall_back(&mut self, phrases: &PhraseConfig, to: Address, failure: EngineFailure) {
        self.note(format!("the caller is connected with {to}"), json!({ "event": "fallback", "to": to.to_string() }));
        self.say(&phrases.transfer);
        self.end_after_playout(ConversationEnd::Run(Box::new(tools::fall_back(to, failure))));
    }

    fn end_after_playout(&mut self, end: ConversationEnd) {
        if !std::mem::replace(&mut self.is_ending, true) {
            self.cancel_answer();
            (self.silence, self.filler, self.turn_ends, self.words_due) = (None, None, None, None);
            self.report_lines(true);
            self.outputs.push_back(ResponderOutput::Command(ConversationCommand::HoldBack(false)));
            self.outputs.push_back(ResponderOutput::Command(ConversationCommand::EndAfter(end)));
        }
    }

    /// Ends the conversation after failures. If the conversation collects values, it ends without the values. Every
    /// other conversation ends with a goodbye and hangs up.
    fn give_up(&mut self) {
        let goodbye = self.phrases().goodbye.clone();
        match self.spec.collect_schema {
            Some(_) => self.end_after_playout(ConversationEnd::Handoff(None)),
            None => {
                self.say(&goodbye);
                self.end_after_playout(ConversationEnd::Hangup);
            }
        }
    }

    /// Reports the new lines of the dialogue. If `all` is true, the report includes the lines that the caller is about
    /// to hear.
    fn report_lines(&mut self, all: bool) {
        self.outputs.extend(self.history.take_lines(all).into_iter().map(ResponderOutput::Utterance));
    }

    /// Handles all timeouts that are due at `now`.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.is_ending {
            (self.ends_at, self.digits_complete_at) = (None, None);
            return;
        }
        if self.turn_ends.is_some_and(|at| at <= now) {
            self.turn_ended(now);
        }
        if self.digits_complete_at.is_some_and(|at| at <= now) {
            self.complete_digits(now);
        }
        if let Some(answer) = self.answer.as_ref().filter(|answer| !answer.ended && answer.due <= now) {
            let why = format!("no text in {} s", self.config.model.timeout_seconds);
            self.handle_piece(now, answer.id, Piece::Failed { why, for_good: false });
        }
        if let Some((_, count)) = self.filler.filter(|(at, _)| *at <= now) {
            self.fill(now, count);
        }
        if let Some((_, missed)) = self.words_due.filter(|(at, _)| *at <= now) {
            self.words_missed(now, missed);
        }
        if self.silence.is_some_and(|at| at <= now) {
            self.handle_silence(now);
        }
        if self.ends_at.is_some_and(|at| at <= now) {
            self.time_is_up(now);
        }
    }

    /// Says a filler phrase.
    fn fill(&mut self, now: Instant, count: u32) {
        let phrases = self.phrases();
        let text = if count == 0 { phrases.wait.clone() } else { phrases.still_waiting.clone() };
        if !text.trim().is_empty() {
            self.outputs.push_back(ResponderOutput::Command(ConversationCommand::Filler(text.to_string())));
        }
        self.filler = (count < STILL_WAITING.1).then(|| (now + STILL_WAITING.0, count + 1));
    }

    /// Handles a missing recognition result after speech of the caller.
    fn words_missed(&mut self, now: Instant, missed: bool) {
        if !self.is_idle() || self.agent_speaks {
            self.words_due = None;
            return;
        }
        if missed {
            return self.recognition_failed("the recogniser does not answer");
        }
        self.words_due = Some((now + NO_WORDS_TIMEOUT, true));
        let text = self.phrases().wait.clone();
        self.outputs.push_back(ResponderOutput::Command(ConversationCommand::Filler(text.to_string())));
    }

    /// Starts the silence timer if both the caller and the agent are idle.
    fn wait_in_silence(&mut self, now: Instant) {
        if self.is_idle() && !self.agent_speaks && !self.caller_speaks && !self.is_ending {
            let longest = Duration::from_secs(self.config.silence_seconds.into());
            self.silence = Some(now + self.spec.silence.unwrap_or(longest));
        }
    }

    fn handle_silence(&mut self, now: Instant) {
        self.silence = None;
        if !self.is_idle() || self.words_due.is_some() {
            return self.wait_in_silence(now);
        }
        let phrases = self.phrases().clone();
        if self.silence_prompts_sent >= self.config.silence_prompts {
            self.note("the caller is silent".to_owned(), json!({ "event": "silence" }));
            return self.give_up();
        }
        self.silence_prompts_sent += 1;
        self.say(&phrases.silence);
        if phrases.silence.trim().is_empty() {
            self.wait_in_silence(now);
        }
    }

    fn time_is_up(&mut self, now: Instant) {
        let phrases = self.phrases().clone();
        if std::mem::replace(&mut self.warned, true) {
            self.ends_at = None;
            self.note("the call has reached max_seconds".to_owned(), json!({ "event": "max_seconds" }));
            return self.give_up();
        }
        self.ends_at = Some(now + WARNING);
        self.outputs.push_back(ResponderOutput::Command(ConversationCommand::Filler(phrases.ending.to_string())));
    }

    /// Whether no request, no tool call, no turn and no sequence of digits is open.
    fn is_idle(&self) -> bool {
        self.answer.is_none() && self.running.is_empty() && self.pending.is_empty() && self.digits.is_empty()
    }

    fn phrases(&self) -> &PhraseConfig {
        &self.config.phrases
    }

    /// Says a phrase from the configuration.
    fn say(&mut self, text: &str) {
        if !text.trim().is_empty() {
            self.history.agent(text.to_owned(), 0, Vec::new());
            self.outputs.push_back(ResponderOutput::Command(ConversationCommand::Phrase(text.to_owned())));
        }
    }

    fn note(&mut self, text: String, data: Value) {
        self.outputs.push_back(ResponderOutput::Note(text, data));
    }
}

fn say(token: String, last: bool) -> ConversationCommand {
    ConversationCommand::Say { token, last, language: None, interrupt_policy: InterruptPolicy::default() }
}

/// Returns the inputs of the caller that interrupt the agent.
pub(super) fn interrupted_by(interruptions: Interruptions) -> Inputs {
    match interruptions {
        Interruptions::Words | Interruptions::Voice => Inputs::ANY,
        Interruptions::Keys => Inputs { digits: true, speech: false },
        Interruptions::None => Inputs::NONE,
    }
}

#[cfg(test)]
#[path = "responder_tests.rs"]
mod tests;
