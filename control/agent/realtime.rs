//! An agent with a model that receives and produces audio itself, over one WebSocket. This module handles playout,
//! tools, silence and failures. After an interruption, this module tells the model what the caller heard. This module
//! is pure: it has no I/O and reads no clock.
//!
//! ```text
//!   caller's audio ──► model ──audio──► played ──(the caller speaks)──► cleared; the model learns what was heard
//!                        │ calls a tool ──► it runs ──► its result ──► the next answer
//! ```
//!
//! The caller has heard all audio that was given to playout, except the audio that still waits for playout. The
//! parameter `queued` of every input is the duration of the waiting audio.

mod actions;
mod items;
mod timers;
mod wire;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use tandem_call::command::Command;
use tandem_call::conversation::{AgentSpec, Utterance};
use tandem_call::engine::{EngineEffect, EngineFailure};
use tandem_dialect::agent::{AgentAction, AgentScript, AgentSettings, AgentTimes, EndReason, Opening, TurnSettings};
use tandem_dialect::conversation::ConversationEnd;
use tandem_id::Now;

use super::OutgoingRequest;
use super::chat::{MAX_TOOL_CALLS, ToolCall, excess};
use super::config::{AgentConfig, Interruptions};
use super::hooks::Hooks;
use super::responder::warning_after;
use super::tools::{self, ConfiguredScript};
use actions::RunningCall;
use items::Item;
pub use wire::{Event, Format, append, decode};

/// Time between a sound of the caller and the continuation of the playout. The playout continues only if the model has
/// not reported speech in this time.
const SOUND_TIMEOUT: Duration = Duration::from_millis(700);
/// Time after the last digit at which the digits count as complete.
const DIGITS_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of digits in one message.
const MAX_DIGITS: usize = 32;
/// Time before the maximum duration of the call at which the agent warns the caller.
const WARNING: Duration = Duration::from_secs(30);
/// Maximum time from the decision to end a conversation until the end of the conversation.
const END_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum number of requested responses that wait for the end of the running response. Further responses are dropped.
const MAX_WAITING_RESPONSES: usize = 16;
/// Maximum number of dialogue lines that are kept for a new session after the loss of a session. The oldest lines are
/// dropped.
const MAX_LINES: usize = 200;
/// Maximum length of one line of the dialogue, in octets. A longer line is cut.
const LONGEST_LINE: usize = 8 * 1024;
/// Maximum length of all lines that the model reports in one conversation, in octets. This is longer than the longest
/// call.
const LONGEST_DIALOGUE: usize = 1024 * 1024;
/// Maximum number of responses in a row that only call tools.
const MAX_ROUNDS: u32 = 6;
/// Maximum number of problems that the model's server may report in one conversation.
const MAX_PROBLEMS: u32 = 100;

/// An action for the shell, which is the code with the I/O.
#[derive(Clone, PartialEq, Debug)]
pub enum RealtimeOutput {
    /// Send this message to the model.
    Send(Value),
    /// Play this audio, which has the session's format.
    Play(Bytes),
    /// Drop the audio that waits for playout.
    Clear,
    /// Pause (`true`) or resume (`false`) playout.
    Pause(bool),
    /// Send this request of the script to a web server.
    SendRequest(OutgoingRequest),
    /// Send these DTMF digits.
    SendDigits(String),
    /// Start (`true`) or stop (`false`) a recording.
    Record(bool),
    /// Carry out a command for the leg.
    LegCommand(Box<Command>),
    /// Write a warning to the log of the call.
    Warn(String),
    End(ConversationEnd),
    /// A line of the dialogue: words that the caller said or heard.
    Utterance(Utterance),
    /// The values that are known so far, as a JSON object.
    PartialResult(String),
    /// The caller interrupted the agent.
    Interrupted,
    /// A line for the call's log. The fields are the text and the data of the line.
    Note(String, Value),
    /// The model or a tool failed.
    EngineFailed(EngineFailure),
}

/// The state of one conversation.
pub struct Dialogue {
    config: Arc<AgentConfig>,
    spec: AgentSpec,
    script: Box<dyn AgentScript>,
    /// The prompt and the tools of the session.
    turn: TurnSettings,
    settings: AgentSettings,
    times: AgentTimes,
    began: Now,
    end_reason: Option<EndReason>,
    /// Whether the agent waits for the caller after the running round of tool calls.
    skips_answer: bool,
    /// Number of warnings of the script so far.
    warnings: u32,
    format: Format,
    is_ready: bool,
    greeted: bool,
    /// The lines of the dialogue. A new session gets these lines after the loss of a session.
    history: Vec<Utterance>,
    items: VecDeque<Item>,
    interrupted_items: VecDeque<String>,
    /// Number of octets of audio that were given to playout.
    played_octets: u64,
    queued: u64,
    /// The time when the playout of the waiting audio will end.
    heard_at: Option<Instant>,
    /// Whether a response is running or was requested.
    is_answering: bool,
    waiting_responses: VecDeque<Value>,
    requested_response: Option<Value>,
    /// Whether the running response contained audio so far.
    spoke: bool,
    /// The tool calls whose requests run.
    running: Vec<RunningCall>,
    /// The requests that the script has sent at the start.
    hooks: Hooks,
    /// The actions that follow the model's next answer.
    later: Vec<AgentAction>,
    calls: Vec<ToolCall>,
    /// Number of responses that called tools since the caller's last words.
    rounds: u32,
    problems: u32,
    /// The octets of all lines so far.
    line_octets: usize,
    caller_speaks: bool,
    in_doubt: Option<Instant>,
    answer_due: Option<(Instant, bool)>,
    digits: String,
    digits_complete_at: Option<Instant>,
    silence: Option<Instant>,
    silence_prompts_sent: u32,
    ends_at: Option<Instant>,
    warned: bool,
    /// Whether the call has got the end of the conversation, or the model has failed for good. Inputs may still arrive.
    is_over: bool,
    /// The way in which the conversation ends after all audio is played, and the latest time of this end.
    pending_end: Option<(ConversationEnd, Option<Instant>)>,
    outputs: VecDeque<RealtimeOutput>,
}

impl Dialogue {
    /// Creates a dialogue that has not started yet. `config` is the agent's configuration. `spec` contains the
    /// additional settings of the document.
    pub fn new(config: Arc<AgentConfig>, spec: AgentSpec, script: Option<Box<dyn AgentScript>>, now: Now) -> Self {
        let mut script = script.unwrap_or_else(|| Box::new(ConfiguredScript::new(&config, &spec)));
        let settings = script.settings();
        let times = settings.times;
        let longest = times.longest.unwrap_or_else(|| Duration::from_secs(config.max_seconds.into()));
        let (warning, warned) = warning_after(longest);
        Self {
            turn: script.turn(now.time),
            script,
            settings,
            times,
            began: now,
            end_reason: None,
            skips_answer: false,
            warnings: 0,
            history: spec.history.clone(),
            format: Format::Pcmu,
            is_ready: false,
            greeted: false,
            items: VecDeque::new(),
            interrupted_items: VecDeque::new(),
            played_octets: 0,
            queued: 0,
            heard_at: None,
            is_answering: false,
            waiting_responses: VecDeque::new(),
            requested_response: None,
            spoke: false,
            running: Vec::new(),
            hooks: Hooks::default(),
            later: Vec::new(),
            calls: Vec::new(),
            rounds: 0,
            problems: 0,
            line_octets: 0,
            caller_speaks: false,
            in_doubt: None,
            answer_due: None,
            digits: String::new(),
            digits_complete_at: None,
            silence: None,
            silence_prompts_sent: 0,
            ends_at: Some(now.instant + warning),
            warned,
            is_over: false,
            pending_end: None,
            config,
            spec,
            outputs: VecDeque::new(),
        }
    }

    /// Returns the audio format. The format is final if [`Self::is_ready`] is true.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether the model has accepted the audio format.
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Returns the next action.
    pub fn poll_output(&mut self) -> Option<RealtimeOutput> {
        self.outputs.pop_front()
    }

    /// Returns the time at which [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_over {
            return None;
        }
        let pending_end = self.pending_end.as_ref().and_then(|(_, latest)| *latest);
        let answer = self.answer_due.map(|(at, _)| at);
        [self.heard_at, pending_end, answer, self.in_doubt, self.digits_complete_at, self.silence, self.ends_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Starts the conversation. The first session may follow later.
    pub fn start(&mut self, now: Instant) {
        self.note_unsupported();
        self.send_hooks(now);
    }

    /// Handles the loss of the session. A new session may follow.
    pub fn lost(&mut self) {
        // The new session does not know the tool calls of the lost session.
        self.calls.clear();
        self.running.iter_mut().for_each(|call| call.is_lost = true);
        (self.is_ready, self.is_answering, self.requested_response, self.caller_speaks) = (false, false, None, false);
        (self.answer_due, self.silence) = (None, None);
    }

    /// Starts the first session, or a new session after the loss of a session.
    pub fn begin(&mut self, now: Instant) {
        self.lost();
        self.answer_due = Some((now + self.config.model.timeout(), true));
        self.update();
    }

    /// Handles an event of the model. `queued` is the duration of the audio that still waits for playout.
    pub fn event(&mut self, now: Instant, queued: Duration, event: Event) {
        self.set_queued(now, queued);
        if self.is_over {
            return;
        }
        self.all_heard();
        match event {
            Event::Updated if !self.is_ready => self.ready(now),
            Event::Speech(true) => self.speech_began(),
            Event::Speech(false) => {
                self.caller_speaks = false;
                self.answer_due = Some((now + self.config.model.timeout(), false));
            }
            Event::Heard(text) if !text.is_empty() => self.line(false, text),
            Event::Began => (self.is_answering, self.requested_response, self.spoke) = (true, None, false),
            Event::Audio { item, octets } => self.audio(now, item, octets),
            Event::Words { item, text, is_whole } => self.words(item, &text, is_whole),
            Event::Call(call) => self.called(call),
            Event::Ended(failure) => self.answer_ended(now, failure),
            Event::Error { code, why, of } => self.error(now, &code, &of, why),
            Event::Updated | Event::Heard(_) | Event::Other => {}
        }
        self.advance(now);
    }

    fn ready(&mut self, now: Instant) {
        self.is_ready = true;
        self.answer_due = None;
        for line in self.history.clone() {
            let role = if line.by_agent { "assistant" } else { "user" };
            self.outputs.push_back(RealtimeOutput::Send(wire::message(role, &line.text)));
        }
        if std::mem::replace(&mut self.greeted, true) {
            if self.history.last().is_some_and(|line| !line.by_agent) {
                // The model has not yet responded to the last words of the caller.
                self.request_response(wire::respond(None));
            }
            return self.wait_in_silence(now);
        }
        if let Some(event) = self.spec.event.clone() {
            self.outputs.push_back(RealtimeOutput::Send(wire::message("system", &event)));
            return self.request_response(wire::respond(None));
        }
        let first = match (&self.spec.first_message, &self.settings.opening) {
            (Some(first), _) => first.to_string(),
            (None, Opening::Say { text, .. }) => text.clone(),
            (None, Opening::Configured) => self.config.first_message.as_deref().unwrap_or_default().to_owned(),
            (None, Opening::Model) => return self.request_response(wire::respond(None)),
            (None, Opening::WaitForCaller) => String::new(),
        };
        if first.trim().is_empty() {
            return self.wait_in_silence(now);
        }
        self.say(&first);
    }

    fn update(&mut self) {
        let model = &self.config.model;
        let tools: Vec<Value> = self.turn.tools.iter().map(tools::function).collect();
        let settings = wire::Settings {
            instructions: &self.turn.prompt,
            voice: self.spec.voice.as_deref().or(self.config.voice.as_deref()),
            language: self.language(),
            transcription: &model.transcription,
            max_tokens: model.max_tokens,
            tools: &tools,
            interruptible: self.hears_voices(),
            extra: &model.extra,
        };
        let update = wire::session(model.protocol, self.format, &settings);
        self.outputs.push_back(RealtimeOutput::Send(update));
    }

    /// Returns the language of the caller. `None` means any language.
    fn language(&self) -> Option<&str> {
        let own = match &self.settings.languages[..] {
            [] => Some(&*self.config.language),
            [one] => Some(one.code.as_str()),
            [..] => None,
        };
        self.spec.language.as_deref().or(own)
    }

    fn hears_voices(&self) -> bool {
        let own = matches!(self.config.interruptions, Interruptions::Words | Interruptions::Voice);
        self.spec.interruptible.or(self.settings.interrupted_by.map(|by| by.speech)).unwrap_or(own)
    }

    /// Handles a sound that may be the start of the caller's speech. The playout pauses at once. The model decides
    /// later whether the sound is speech.
    pub fn handle_sound(&mut self, now: Instant, queued: Duration) {
        self.set_queued(now, queued);
        if self.is_over {
            return;
        }
        if self.queued > 0 && self.hears_voices() && self.in_doubt.is_none() && !self.caller_speaks {
            self.in_doubt = Some(now + SOUND_TIMEOUT);
            self.outputs.push_back(RealtimeOutput::Pause(true));
        }
    }

    fn speech_began(&mut self) {
        self.caller_speaks = true;
        self.rounds = 0;
        (self.silence, self.answer_due, self.silence_prompts_sent) = (None, None, 0);
        if self.hears_voices() {
            self.interrupt();
        }
    }

    /// Takes a tool call of the running response. The tool runs at the end of the response.
    fn called(&mut self, call: ToolCall) {
        match excess(&call) {
            Some(why) => self.too_much(why),
            None if self.calls.len() >= MAX_TOOL_CALLS => self.too_much("too many tool calls in one answer"),
            None => self.calls.push(call),
        }
    }

    /// Ends the conversation, because the model sends more than a model may send.
    fn too_much(&mut self, why: &str) {
        if !self.is_over {
            self.failed(why);
        }
    }

    fn answer_ended(&mut self, now: Instant, failure: Option<String>) {
        self.is_answering = false;
        let calls = std::mem::take(&mut self.calls);
        if let Some(why) = failure {
            return self.no_answer(now, why);
        }
        if calls.is_empty() {
            let later = if self.spoke { std::mem::take(&mut self.later) } else { Vec::new() };
            later.into_iter().for_each(|action| self.perform(now, action));
            return;
        }
        self.answer_due = None;
        self.rounds += 1;
        if self.rounds > MAX_ROUNDS {
            return self.too_much("the model called tools in too many rounds");
        }
        for call in &calls {
            self.run(now, call);
        }
        self.answer_to_results();
    }

    fn error(&mut self, now: Instant, code: &str, of: &str, why: String) {
        if !self.is_ready && !self.greeted && self.format == Format::Pcmu && code != wire::MALFORMED {
            // Some servers accept only linear audio. The caller hears the format of the first session.
            self.format = Format::Pcm24;
            return self.update();
        }
        if code == "conversation_already_has_active_response" {
            // The model has started a response without a request. The requested response waits for the end of this
            // response.
            if let Some(requested_response) = self.requested_response.take() {
                self.waiting_responses.push_front(requested_response);
            }
            self.is_answering = true;
            return;
        }
        self.problems += 1;
        if self.problems > MAX_PROBLEMS {
            return self.too_much("the model's server reported too many problems");
        }
        self.note(format!("problem: {why}"), json!({ "event": "problem", "code": code, "why": why }));
        if of == wire::RESPOND && self.requested_response.take().is_some() {
            self.is_answering = false;
            self.no_answer(now, why);
        }
    }

    /// Starts the next actions after a change: requests the next waiting response, ends the conversation, or starts the
    /// silence timer.
    fn advance(&mut self, now: Instant) {
        self.all_heard();
        if self.is_ready
            && !self.is_answering
            && !self.caller_speaks
            && let Some(response) = self.waiting_responses.pop_front()
        {
            self.requested_response = Some(response.clone());
            self.is_answering = true;
            self.answer_due.get_or_insert((now + self.config.model.timeout(), false));
            self.outputs.push_back(RealtimeOutput::Send(response));
        }
        if let Some((_, latest)) = &mut self.pending_end {
            let is_heard = self.queued == 0 && !self.is_answering && self.waiting_responses.is_empty();
            if is_heard || *latest.get_or_insert(now + END_TIMEOUT) <= now {
                let end = self.pending_end.take().map(|(end, _)| end);
                self.outputs.extend(end.map(RealtimeOutput::End));
                self.is_over = true;
            }
            return;
        }
        if self.silence.is_none() {
            self.wait_in_silence(now);
        }
    }

    /// Starts the silence timer if both the caller and the model are idle.
    fn wait_in_silence(&mut self, now: Instant) {
        let is_idle =
            self.is_ready && !self.is_answering && self.waiting_responses.is_empty() && self.running.is_empty();
        if is_idle && self.queued == 0 && !self.caller_speaks && self.answer_due.is_none() && self.digits.is_empty() {
            let configured = Duration::from_secs(self.config.silence_seconds.into());
            self.silence = Some(now + self.spec.silence.or(self.times.silence).unwrap_or(configured));
        }
    }

    fn end_after_playout(&mut self, end: ConversationEnd, why: EndReason) {
        self.end_reason.get_or_insert(why);
        (self.silence, self.digits_complete_at, self.ends_at) = (None, None, None);
        if self.pending_end.is_none() {
            self.pending_end = Some((end, None));
        }
    }

    fn say(&mut self, text: &str) {
        if !text.trim().is_empty() {
            let instructions = format!("Say exactly this in its language, and nothing else: {text:?}");
            self.request_response(wire::respond(Some(&instructions)));
        }
    }

    fn request_response(&mut self, response: Value) {
        if self.waiting_responses.len() < MAX_WAITING_RESPONSES {
            self.waiting_responses.push_back(response);
        }
    }

    fn line(&mut self, by_agent: bool, mut text: String) {
        text.truncate(text.floor_char_boundary(LONGEST_LINE));
        self.line_octets += text.len() + 1;
        if self.line_octets > LONGEST_DIALOGUE {
            return self.too_much("the model reports more words than a call can have");
        }
        let line = Utterance { by_agent, text: text.into() };
        if self.history.len() == MAX_LINES {
            self.history.remove(0);
        }
        self.history.push(line.clone());
        self.outputs.push_back(RealtimeOutput::Utterance(line));
    }

    fn note(&mut self, text: String, data: Value) {
        self.outputs.push_back(RealtimeOutput::Note(text, data));
    }

    /// Reports a failure of the model or of a tool.
    pub fn report(&mut self, failure: EngineFailure, effect: EngineEffect) {
        self.outputs.push_back(RealtimeOutput::EngineFailed(failure.with_effect(effect)));
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod script_tests;
