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

mod answers;
mod caller;
mod failures;
mod requests;
mod timers;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use tandem_call::command::Command;
use tandem_call::conversation::{AgentSpec, Inputs, Utterance};
use tandem_call::engine::EngineFailure;
use tandem_dialect::agent::{AgentAction, AgentScript, AgentSettings, AgentTimes, EndReason, Opening, ScriptTool};
use tandem_dialect::conversation::{ConversationCommand, ConversationEvent, InterruptPolicy};
use tandem_id::Now;

use super::OutgoingRequest;
use super::chat::ModelQuestion;
use super::config::{AgentConfig, Interruptions, PhraseConfig};
use super::ending::Ending;
use super::history::{self, History};
use super::hooks::Hooks;
use answers::ModelAnswer;
use requests::RunningCall;
pub(super) use requests::{MAX_LATER, MAX_WARNINGS};

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
        /// The messages, the tools and the fields of the request.
        question: ModelQuestion,
    },
    /// Abandon the running request to the model.
    CancelAnswer,
    /// Send this request of the script to a web server.
    Send(OutgoingRequest),
    /// Start (`true`) or stop (`false`) a recording.
    Record(bool),
    /// Carry out a command for the leg.
    LegCommand(Box<Command>),
    /// Write a warning to the log of the call.
    Warn(String),
    /// Start speech recognition again after a failure.
    RestartRecognition,
    /// A line of the dialogue: words that the caller said or heard.
    Utterance(Utterance),
    /// The values that are known so far, as a JSON object.
    PartialResult(String),
    /// A line for the call's log. The fields are the text and the data of the line.
    Note(String, Value),
    /// An engine of the agent failed. The agent has decided about the consequence for the call.
    EngineFailed(EngineFailure),
}

/// The state of one agent in one conversation.
pub(super) struct Responder {
    config: Arc<AgentConfig>,
    spec: AgentSpec,
    script: Box<dyn AgentScript>,
    settings: AgentSettings,
    /// The times that the script has set or changed.
    times: AgentTimes,
    /// The tools of the last request to the model.
    tools: Vec<ScriptTool>,
    /// The start of the conversation.
    began: Now,
    history: History,
    /// The language in which the agent speaks, if the agent has several.
    language: Option<String>,
    /// The caller's words in the current turn, which has not ended yet.
    pending: String,
    caller_speaks: bool,
    agent_speaks: bool,
    paused_at: Option<Instant>,
    turn_ends: Option<Instant>,
    /// The recogniser's probability that the caller has finished.
    end_of_turn: Option<f32>,
    answer: Option<ModelAnswer>,
    next_answer: u64,
    /// The tool calls whose requests run.
    running: Vec<RunningCall>,
    /// The requests that the script has sent at the start.
    hooks: Hooks,
    /// The actions that follow the model's next answer.
    later: Vec<AgentAction>,
    /// Whether the agent waits for the caller after the running round of tool calls.
    skips_answer: bool,
    /// Whether the file of a tool may play.
    wait_file_plays: bool,
    /// The end of the hold.
    held: Option<Instant>,
    /// Number of filler texts of the script so far.
    fillers: usize,
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
    end_reason: Option<EndReason>,
    /// Whether an application has added messages that the model has not answered.
    owes_answer: bool,
    /// Number of warnings of the script so far.
    warnings: u32,
    outputs: VecDeque<ResponderOutput>,
}

impl Responder {
    /// Creates the agent. `now` is the start of the conversation.
    pub(super) fn new(config: Arc<AgentConfig>, spec: AgentSpec, script: Box<dyn AgentScript>, now: Now) -> Self {
        let settings = script.settings();
        Self {
            times: settings.times,
            tools: Vec::new(),
            history: History::new(&spec.history),
            language: None,
            began: now,
            script,
            settings,
            config,
            spec,
            pending: String::new(),
            caller_speaks: false,
            agent_speaks: false,
            paused_at: None,
            turn_ends: None,
            end_of_turn: None,
            answer: None,
            next_answer: 1,
            running: Vec::new(),
            hooks: Hooks::default(),
            later: Vec::new(),
            skips_answer: false,
            wait_file_plays: false,
            held: None,
            fillers: 0,
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
            end_reason: None,
            owes_answer: false,
            warnings: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Returns the settings of the script.
    pub(super) fn settings(&self) -> &AgentSettings {
        &self.settings
    }

    /// Returns the next action.
    pub(super) fn poll_output(&mut self) -> Option<ResponderOutput> {
        self.outputs.pop_front()
    }

    /// Returns the time at which [`Self::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        // After the decision to end, only the playout of the last words is open, and the conversation waits for it.
        if self.is_ending {
            return None;
        }
        let answer = self.answer.as_ref().filter(|answer| !answer.ended).map(|answer| answer.due);
        let filler = self.filler.map(|(at, _)| at);
        let words = self.words_due.map(|(at, _)| at);
        [self.turn_ends, answer, filler, words, self.digits_complete_at, self.silence, self.ends_at, self.held]
            .into_iter()
            .flatten()
            .min()
    }

    /// Starts the conversation.
    pub(super) fn begin(&mut self, now: Instant) {
        self.set_time(now);
        self.set_end();
        self.send_hooks(now);
        if let Some(event) = self.spec.event.clone() {
            self.history.note(event.to_string());
            return self.start_answer(now, false);
        }
        let opening = match self.spec.first_message.clone() {
            Some(first) => Opening::Say { text: first.to_string(), interruptible: true },
            None => self.settings.opening.clone(),
        };
        match opening {
            Opening::Configured => {
                let first = self.config.first_message.clone().unwrap_or_default();
                self.say(&first);
            }
            Opening::Say { text, interruptible: true } => self.say(&text),
            Opening::Say { text, interruptible: false } if !text.trim().is_empty() => {
                let interrupt_policy = InterruptPolicy { by: Some(Inputs::NONE), preemptible: Some(false) };
                self.history.agent(text.clone(), 0, Vec::new());
                let say = ConversationCommand::Say { token: text, last: true, language: None, interrupt_policy };
                self.outputs.push_back(ResponderOutput::Command(say));
            }
            Opening::Model => return self.start_answer(now, false),
            Opening::Say { .. } | Opening::WaitForCaller => {}
        }
        if self.outputs.iter().all(|output| !matches!(output, ResponderOutput::Command(_))) {
            self.wait_in_silence(now);
        }
    }

    /// Sets the time at which the conversation ends.
    fn set_end(&mut self) {
        let longest = self.times.longest.unwrap_or_else(|| Duration::from_secs(self.config.max_seconds.into()));
        let (warning, warned) = warning_after(longest);
        (self.ends_at, self.warned) = (Some(self.began.instant + warning), warned);
    }

    /// Converts a time of this machine to the time of the calendar.
    fn at(&self, now: Instant) -> Timestamp {
        let passed = now.saturating_duration_since(self.began.instant);
        self.began.time.checked_add(passed).unwrap_or(self.began.time)
    }

    /// Sets the time of the next lines of the dialogue.
    fn set_time(&mut self, now: Instant) {
        self.history.now = self.at(now);
    }

    pub(super) fn handle_event(&mut self, now: Instant, event: ConversationEvent) {
        self.set_time(now);
        match event {
            // The caller may have spoken just before the hold.
            ConversationEvent::CallerSpeaking(_)
            | ConversationEvent::Prompt { .. }
            | ConversationEvent::Digit(_)
            | ConversationEvent::Interrupted { .. }
                if self.held.is_some() => {}
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
            ConversationEvent::Prompt { text, last, end_of_turn, .. } => self.prompt(now, &text, last, end_of_turn),
            ConversationEvent::Digit(digit) => self.handle_digit(now, digit),
            ConversationEvent::Interrupted { .. } => self.interrupted(),
            ConversationEvent::AgentSpeaking(speaks) => {
                self.agent_speaks = speaks;
                self.silence = None;
                if !speaks {
                    self.history.all_heard();
                    self.filler = self.filler.map(|(_, count)| (now + filler_delay(count), count));
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
            ConversationEvent::RecognitionFailed(why) => self.recognition_failed(now, &why),
        }
    }

    /// Whether no request, no tool call, no turn, no sequence of digits and no end is open.
    fn is_idle(&self) -> bool {
        !self.is_ending
            && self.held.is_none()
            && self.answer.is_none()
            && self.running.is_empty()
            && self.pending.is_empty()
            && self.digits.is_empty()
    }

    /// Reports the new lines of the dialogue. If `all` is true, the report includes the lines that the caller is about
    /// to hear.
    fn report_lines(&mut self, all: bool) {
        self.outputs.extend(self.history.take_lines(all).into_iter().map(ResponderOutput::Utterance));
    }

    /// Returns the work that follows the conversation. `why` is the reason of the end. `None` means that the end which the
    /// agent requested has come.
    pub(super) fn finish(mut self, now: Instant, why: Option<EndReason>) -> Ending {
        let at = self.at(now);
        let why = why.or(self.end_reason).unwrap_or(EndReason::Caller);
        self.interrupted();
        // A model refuses a dialogue in which a tool call has no result.
        for call in std::mem::take(&mut self.running) {
            self.history.result(call.id, json!({ "error": "the conversation ended before the result" }).to_string());
        }
        let pending = std::mem::take(&mut self.pending);
        if !pending.is_empty() {
            self.history.caller(pending);
        }
        let question = self.script.end_question(why, at).map(|question| {
            let mut messages = self.history.messages(&self.script.turn(at).prompt);
            messages.push(json!({ "role": "system", "content": question.prompt }));
            ModelQuestion { messages, tools: Vec::new(), fields: question.model }
        });
        Ending {
            script: self.script,
            question,
            why,
            began: self.began.time,
            ended: at,
            dialogue: self.history.dialogue(),
        }
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

    /// Says a text for the time in which the caller waits.
    fn say_filler(&mut self, text: String) {
        if !text.trim().is_empty() {
            self.outputs.push_back(ResponderOutput::Command(ConversationCommand::Filler(text)));
        }
    }

    fn note(&mut self, text: String, data: Value) {
        self.outputs.push_back(ResponderOutput::Note(text, data));
    }
}

/// Returns the time before a filler phrase, if there were `count` of them in this turn.
fn filler_delay(count: u32) -> Duration {
    if count == 0 { FILLER } else { STILL_WAITING.0 }
}

/// The number of questions to a silent caller before the agent ends the conversation. A request that sets the time of silence wants its
/// answer after this time, without a question.
pub(super) fn silence_prompts(spec: &AgentSpec, times: &AgentTimes, config: &AgentConfig) -> u32 {
    match spec.silence {
        Some(_) => 0,
        None => times.silence_prompts.unwrap_or(config.silence_prompts),
    }
}

/// Returns the time after which the agent announces the end of a conversation of this length. The flag says that the time is too
/// short for an announcement. The time is then the end.
pub(super) fn warning_after(longest: Duration) -> (Duration, bool) {
    match longest.checked_sub(WARNING) {
        Some(warning) if !warning.is_zero() => (warning, false),
        _ => (longest, true),
    }
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

#[cfg(test)]
mod script_tests;

#[cfg(test)]
mod turn_tests;

#[cfg(test)]
mod limit_tests;
