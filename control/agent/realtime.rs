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

mod wire;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tandem_call::conversation::{AgentSpec, Utterance};
use tandem_call::engine::{Engine, EngineEffect, EngineFailure};
use tandem_call::program::instruction::{AudioSource, Instruction, Play, Program, Speech};
use tandem_dialect::conversation::ConversationEnd;

use super::chat::{LONGEST_TEXT, MAX_TOOL_CALLS, ToolCall};
use super::config::{AgentConfig, HttpTool, Interruptions};
use super::tools::{self, ToolAction, Tools};

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
/// Maximum number of items that wait for the end of their playout.
const MAX_ITEMS: usize = 64;
/// Maximum length of the id of an item, in octets.
const LONGEST_ID: usize = 256;
/// Maximum length of one line of the dialogue, in octets. A longer line is cut.
const LONGEST_LINE: usize = 8 * 1024;
/// Maximum length of all lines that the model reports in one conversation, in octets. This is longer than the longest
/// call.
const LONGEST_DIALOGUE: usize = 1024 * 1024;
/// Maximum number of responses in a row that only call tools.
const MAX_ROUNDS: u32 = 6;
/// Maximum number of problems that the model's server may report in one conversation.
const MAX_PROBLEMS: u32 = 100;
/// Maximum number of interrupted items that the agent remembers. The model may still send audio of these items. The
/// agent forgets the oldest items first.
const MAX_INTERRUPTED_ITEMS: usize = 64;

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
    /// Send the request of a tool to a web server. The fields are the id of the tool call, the tool, and the arguments.
    Run(String, Arc<HttpTool>, Map<String, Value>),
    /// Send these DTMF digits.
    SendDigits(String),
    /// Start (`true`) or stop (`false`) a recording.
    Record(bool),
    End(ConversationEnd),
    /// A line of the dialogue: words that the caller said or heard.
    Utterance(Utterance),
    /// The caller interrupted the agent.
    Interrupted,
    /// A line for the call's log. The fields are the text and the data of the line.
    Note(String, Value),
    /// The model or a tool failed.
    EngineFailed(EngineFailure),
}

/// An item of the model's speech, and the part of the item's audio that was given to playout.
#[derive(Debug)]
struct Item {
    id: String,
    /// Position of the item's first octet. The position counts the octets of all audio that was given to playout.
    from: u64,
    octets: u64,
    text: String,
}

/// The state of one conversation.
pub struct Dialogue {
    config: Arc<AgentConfig>,
    spec: AgentSpec,
    tools: Tools,
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
    running: HashSet<String>,
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
    /// Whether the model has failed for good. The model may still send messages.
    is_over: bool,
    /// The way in which the conversation ends after all audio is played, and the latest time of this end.
    pending_end: Option<(ConversationEnd, Option<Instant>)>,
    outputs: VecDeque<RealtimeOutput>,
}

impl Dialogue {
    /// Creates a dialogue that has not started yet. `config` is the agent's configuration. `spec` contains the
    /// additional settings of the document.
    pub fn new(config: Arc<AgentConfig>, spec: AgentSpec, now: Instant) -> Self {
        let longest = Duration::from_secs(config.max_seconds.into());
        Self {
            tools: Tools::new(&config.tools, spec.collect_schema.as_deref()),
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
            running: HashSet::new(),
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
            ends_at: Some(now + longest.saturating_sub(WARNING)),
            warned: false,
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
        let pending_end = self.pending_end.as_ref().and_then(|(_, latest)| *latest);
        let answer = self.answer_due.map(|(at, _)| at);
        [self.heard_at, pending_end, answer, self.in_doubt, self.digits_complete_at, self.silence, self.ends_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// Starts the first session, or a new session after the loss of a session.
    pub fn begin(&mut self, now: Instant) {
        (self.is_ready, self.is_answering, self.requested_response, self.caller_speaks) = (false, false, None, false);
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

    /// Updates the amount of audio that waits for playout.
    fn set_queued(&mut self, now: Instant, queued: Duration) {
        self.queued = self.octets(queued);
        self.heard_at = (self.queued > 0).then(|| now + queued);
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
        let first = self.spec.first_message.clone().or_else(|| self.config.first_message.clone()).unwrap_or_default();
        match self.spec.event.clone() {
            Some(event) => {
                self.outputs.push_back(RealtimeOutput::Send(wire::message("system", &event)));
                self.request_response(wire::respond(None));
            }
            None if first.trim().is_empty() => self.wait_in_silence(now),
            None => self.say(&first),
        }
    }

    fn update(&mut self) {
        let prompt = self.spec.prompt.clone().or_else(|| self.config.prompt.clone()).unwrap_or_default();
        let model = &self.config.model;
        let tools = self.tools.described();
        let settings = wire::Settings {
            instructions: &prompt,
            voice: self.spec.voice.as_deref().or(self.config.voice.as_deref()),
            language: self.spec.language.as_deref().unwrap_or(&self.config.language),
            transcription: &model.transcription,
            max_tokens: model.max_tokens,
            tools: &tools,
            interruptible: self.hears_voices(),
            extra: &model.extra,
        };
        let update = wire::session(model.protocol, self.format, &settings);
        self.outputs.push_back(RealtimeOutput::Send(update));
    }

    fn hears_voices(&self) -> bool {
        let own = matches!(self.config.interruptions, Interruptions::Words | Interruptions::Voice);
        self.spec.interruptible.unwrap_or(own)
    }

    /// Handles a sound that may be the start of the caller's speech. The playout pauses at once. The model decides
    /// later whether the sound is speech.
    pub fn handle_sound(&mut self, now: Instant, queued: Duration) {
        self.set_queued(now, queued);
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

    /// Ends the playout of the waiting audio. The record of the dialogue gets only the words that the caller has heard.
    fn interrupt(&mut self) {
        let heard = self.played_octets.saturating_sub(self.queued);
        let plays = self.queued > 0;
        for item in std::mem::take(&mut self.items) {
            let part = heard.saturating_sub(item.from).min(item.octets);
            if part == item.octets && !self.is_answering {
                if !item.text.is_empty() {
                    self.line(true, item.text);
                }
                continue;
            }
            self.outputs.push_back(RealtimeOutput::Send(wire::truncate(&item.id, part / self.format.octets())));
            let characters = item.text.chars().count() as u64 * part / item.octets.max(1);
            let text: String = item.text.chars().take(usize::try_from(characters).unwrap_or(usize::MAX)).collect();
            if !text.trim().is_empty() {
                self.line(true, format!("{} — (interrupted by the caller)", text.trim_end()));
            }
            if self.interrupted_items.len() == MAX_INTERRUPTED_ITEMS {
                self.interrupted_items.pop_front();
            }
            self.interrupted_items.push_back(item.id);
        }
        if plays {
            (self.played_octets, self.queued, self.heard_at) = (heard, 0, None);
            self.outputs.push_back(RealtimeOutput::Clear);
            self.outputs.push_back(RealtimeOutput::Interrupted);
        }
        if self.in_doubt.take().is_some() {
            self.outputs.push_back(RealtimeOutput::Pause(false));
        }
    }

    fn audio(&mut self, now: Instant, id: String, octets: Vec<u8>) {
        if self.interrupted_items.contains(&id) {
            return;
        }
        (self.answer_due, self.silence, self.spoke) = (None, None, true);
        let length = octets.len() as u64;
        if self.has_too_many_items(&id) {
            return;
        }
        match self.items.iter_mut().find(|item| item.id == id) {
            Some(item) => item.octets += length,
            None => self.items.push_back(Item { id, from: self.played_octets, octets: length, text: String::new() }),
        }
        self.played_octets += length;
        self.queued += length;
        self.heard_at = Some(now + self.span(self.queued));
        self.outputs.push_back(RealtimeOutput::Play(octets.into()));
    }

    /// Takes the transcript of an item. The transcript arrives before the audio of the item.
    fn words(&mut self, id: String, text: &str, is_whole: bool) {
        if self.interrupted_items.contains(&id) {
            return;
        }
        if self.has_too_many_items(&id) {
            return;
        }
        let known = self.items.iter().find(|item| item.id == id).filter(|_| !is_whole);
        if known.map_or(0, |item| item.text.len()) + text.len() > LONGEST_TEXT {
            return self.too_much(&format!("the text of the model's answer has more than {LONGEST_TEXT} octets"));
        }
        match self.items.iter_mut().find(|item| item.id == id) {
            Some(item) if is_whole => item.text = text.to_owned(),
            Some(item) => item.text.push_str(text),
            None => self.items.push_back(Item { id, from: self.played_octets, octets: 0, text: text.to_owned() }),
        }
    }

    /// Takes a tool call of the running response. The tool runs at the end of the response.
    fn called(&mut self, call: ToolCall) {
        match call.excess() {
            Some(why) => self.too_much(why),
            None if self.calls.len() >= MAX_TOOL_CALLS => self.too_much("too many tool calls in one answer"),
            None => self.calls.push(call),
        }
    }

    fn has_too_many_items(&mut self, id: &str) -> bool {
        let is_new = !self.items.iter().any(|item| item.id == id);
        let is_too_many = is_new && (self.items.len() >= MAX_ITEMS || id.len() > LONGEST_ID);
        if is_too_many {
            self.too_much("the model sends too many items at once, or items with long ids");
        }
        is_too_many
    }

    /// Ends the conversation, because the model sends more than a model may send.
    fn too_much(&mut self, why: &str) {
        if !self.is_over {
            self.failed(why);
        }
    }

    fn answer_ended(&mut self, now: Instant, failure: Option<String>) {
        self.is_answering = false;
        if let Some(why) = failure {
            return self.no_answer(now, why);
        }
        let calls = std::mem::take(&mut self.calls);
        if calls.is_empty() {
            return;
        }
        self.answer_due = None;
        self.rounds += 1;
        if self.rounds > MAX_ROUNDS {
            return self.too_much("the model called tools in too many rounds");
        }
        for call in &calls {
            self.run(call);
        }
        self.answer_to_results();
    }

    /// Requests the next response of the model after all tools of the model have run.
    fn answer_to_results(&mut self) {
        if self.running.is_empty() && self.pending_end.is_none() {
            self.request_response(wire::respond(None));
        }
    }

    fn run(&mut self, call: &ToolCall) {
        let name = &call.name;
        self.note(format!("tool {name} runs"), json!({ "event": "tool", "tool": name, "id": call.id }));
        let phrases = self.config.phrases.clone();
        match self.tools.action(call) {
            ToolAction::HangUp => {
                self.result(&call.id, "the call ends");
                if !self.spoke {
                    self.say(&phrases.goodbye);
                }
                self.end_after_playout(ConversationEnd::Hangup);
            }
            ToolAction::SendDigits(digits) => {
                self.outputs.push_back(RealtimeOutput::SendDigits(digits));
                self.result(&call.id, "pressed");
            }
            ToolAction::Record(on) => {
                self.outputs.push_back(RealtimeOutput::Record(on));
                self.result(&call.id, "done");
            }
            ToolAction::Transfer(name, to) => {
                self.result(&call.id, "the caller is being connected");
                if !self.spoke {
                    self.say(&phrases.transfer);
                }
                let event = format!(
                    "The caller was to be connected with {name}, but nobody answered. Tell the caller, and go on."
                );
                let then = AgentSpec { history: self.history.clone(), event: Some(event.into()), ..self.spec.clone() };
                self.end_after_playout(ConversationEnd::Run(Box::new(tools::transfer(to, Some(then)))));
            }
            ToolAction::Collected(values) => {
                self.result(&call.id, "thank you");
                if let Some(closing_message) = self.spec.closing_message.clone() {
                    self.say(&closing_message);
                }
                self.end_after_playout(ConversationEnd::Handoff(Some(values.to_string())));
            }
            ToolAction::Ask(..) if self.running.len() >= MAX_TOOL_CALLS => {
                let text = json!({ "error": "too many tools are running" }).to_string();
                self.result(&call.id, &text);
            }
            ToolAction::Ask(tool, arguments) => {
                self.running.insert(call.id.clone());
                self.outputs.push_back(RealtimeOutput::Run(call.id.clone(), tool, arguments));
            }
            ToolAction::Refused(why) => self.result(&call.id, &json!({ "error": why }).to_string()),
        }
    }

    fn result(&mut self, call: &str, text: &str) {
        self.outputs.push_back(RealtimeOutput::Send(wire::result(call, text)));
    }

    /// Takes the result of a tool's request.
    pub fn handle_tool_result(&mut self, now: Instant, call: &str, result: Result<String, String>) {
        if self.running.remove(call) {
            if let Err(why) = &result {
                self.report(EngineFailure::new(Engine::Tool, why), EngineEffect::Recovered);
            }
            let text = result.unwrap_or_else(|why| json!({ "error": why }).to_string());
            self.result(call, &text);
            self.answer_to_results();
            self.advance(now);
        }
    }

    fn error(&mut self, now: Instant, code: &str, of: &str, why: String) {
        if !self.is_ready && self.format == Format::Pcmu && code != wire::MALFORMED {
            // Some servers accept only linear audio.
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

    /// Handles a DTMF digit from the caller.
    pub fn handle_digit(&mut self, now: Instant, queued: Duration, digit: char) {
        self.set_queued(now, queued);
        (self.silence, self.silence_prompts_sent) = (None, 0);
        if self.config.interruptions != Interruptions::None && self.spec.interruptible != Some(false) {
            self.interrupt();
        }
        if digit != '#' && self.digits.len() < MAX_DIGITS {
            self.digits.push(digit);
        }
        self.digits_complete_at = Some(now + DIGITS_TIMEOUT);
        if digit == '#' || self.digits.len() >= MAX_DIGITS {
            self.complete_digits();
        }
        self.advance(now);
    }

    fn complete_digits(&mut self) {
        self.digits_complete_at = None;
        self.rounds = 0;
        let digits: Vec<String> = std::mem::take(&mut self.digits).chars().map(String::from).collect();
        let text = format!("(pressed the keys {})", if digits.is_empty() { "#".to_owned() } else { digits.join(" ") });
        self.outputs.push_back(RealtimeOutput::Send(wire::message("user", &text)));
        self.line(false, text);
        self.request_response(wire::respond(None));
    }

    /// Handles all timeouts that are due at `now`.
    pub fn handle_timeout(&mut self, now: Instant, queued: Duration) {
        self.set_queued(now, queued);
        if self.is_over {
            (self.silence, self.digits_complete_at, self.ends_at, self.in_doubt) = (None, None, None, None);
            return;
        }
        if self.in_doubt.is_some_and(|at| at <= now) {
            self.in_doubt = None;
            self.outputs.push_back(RealtimeOutput::Pause(false));
        }
        if self.digits_complete_at.is_some_and(|at| at <= now) {
            self.complete_digits();
        }
        if self.answer_due.is_some_and(|(at, _)| at <= now) {
            self.no_answer(now, "the model did not answer in time".to_owned());
        }
        if self.silence.is_some_and(|at| at <= now) {
            self.handle_silence();
        }
        if self.ends_at.is_some_and(|at| at <= now) {
            self.time_is_up(now);
        }
        self.advance(now);
    }

    /// Handles a missing response. After the first missing response, the function repeats the request. After the second
    /// missing response, the model counts as failed.
    fn no_answer(&mut self, now: Instant, why: String) {
        match self.answer_due.replace((now + self.config.model.timeout(), true)) {
            Some((_, true)) => self.failed(why),
            _ if self.pending_end.is_some() => self.answer_due = None,
            _ => {
                self.report(EngineFailure::new(Engine::Model, why), EngineEffect::Recovered);
                self.is_answering = false;
                self.request_response(wire::respond(None));
            }
        }
    }

    /// Handles the permanent failure of the model. The voice of this server apologises. Then the caller is transferred
    /// to the fallback, if the agent has a fallback.
    pub fn failed(&mut self, why: impl Into<String>) {
        self.answer_due = None;
        self.is_over = true;
        let ends_call = self.config.fallback.is_none() && self.spec.collect_schema.is_none();
        let effect = if ends_call { EngineEffect::Fatal } else { EngineEffect::Noticed };
        let failure = EngineFailure::new(Engine::Model, why);
        self.report(failure.clone(), effect);
        let phrases = &self.config.phrases;
        let play = |text: &Arc<str>| {
            let voice = self.config.voice.as_ref().map(ToString::to_string);
            let speech =
                Speech { text: text.to_string(), ssml: false, voice, language: Some(self.config.language.to_string()) };
            Instruction::Play(Play::once(AudioSource::Speech(speech)))
        };
        let mut instructions = vec![play(&phrases.apology)];
        match &self.config.fallback {
            Some(to) => {
                instructions.push(play(&phrases.transfer));
                instructions.extend(tools::fall_back(to.0.clone(), failure).instructions);
            }
            None => instructions.extend([play(&phrases.goodbye), tools::give_up(failure)]),
        }
        let program = Program { instructions, warnings: Vec::new() };
        let end = match self.spec.collect_schema {
            Some(_) => ConversationEnd::Handoff(None),
            None => ConversationEnd::Run(Box::new(program)),
        };
        self.outputs.push_back(RealtimeOutput::Clear);
        self.outputs.push_back(RealtimeOutput::End(end));
    }

    fn handle_silence(&mut self) {
        self.silence = None;
        let phrases = self.config.phrases.clone();
        if self.silence_prompts_sent >= self.config.silence_prompts {
            self.note("the caller is silent".to_owned(), json!({ "event": "silence" }));
            return self.give_up();
        }
        self.silence_prompts_sent += 1;
        self.say(&phrases.silence);
    }

    fn give_up(&mut self) {
        match self.spec.collect_schema {
            Some(_) => self.end_after_playout(ConversationEnd::Handoff(None)),
            None => {
                let goodbye = self.config.phrases.goodbye.clone();
                self.say(&goodbye);
                self.end_after_playout(ConversationEnd::Hangup);
            }
        }
    }

    fn time_is_up(&mut self, now: Instant) {
        if std::mem::replace(&mut self.warned, true) {
            self.ends_at = None;
            self.note("the call has reached max_seconds".to_owned(), json!({ "event": "max_seconds" }));
            return self.give_up();
        }
        self.ends_at = Some(now + WARNING);
        let ending = self.config.phrases.ending.clone();
        self.say(&ending);
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
                (self.silence, self.answer_due, self.ends_at) = (None, None, None);
            }
            return;
        }
        if self.silence.is_none() {
            self.wait_in_silence(now);
        }
    }

    /// Adds the completely played items to the lines of the dialogue.
    fn all_heard(&mut self) {
        if self.queued == 0 && !self.is_answering {
            for item in std::mem::take(&mut self.items) {
                if !item.text.is_empty() {
                    self.line(true, item.text);
                }
            }
        }
    }

    /// Starts the silence timer if both the caller and the model are idle.
    fn wait_in_silence(&mut self, now: Instant) {
        let is_idle =
            self.is_ready && !self.is_answering && self.waiting_responses.is_empty() && self.running.is_empty();
        if is_idle && self.queued == 0 && !self.caller_speaks && self.answer_due.is_none() && self.digits.is_empty() {
            let longest = Duration::from_secs(self.config.silence_seconds.into());
            self.silence = Some(now + self.spec.silence.unwrap_or(longest));
        }
    }

    fn end_after_playout(&mut self, end: ConversationEnd) {
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

    fn octets(&self, length: Duration) -> u64 {
        u64::try_from(length.as_micros()).unwrap_or(u64::MAX) * self.format.octets() / 1_000
    }

    fn span(&self, octets: u64) -> Duration {
        Duration::from_micros(octets * 1_000 / self.format.octets())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(more: Value) -> Arc<AgentConfig> {
        let mut table = json!({
            "name": "a", "prompt": "Be kind.", "first_message": "Hello.", "tools": ["hang_up"],
            "model": { "url": "ws://127.0.0.1:1/v1/realtime", "timeout_seconds": 2 },
        });
        table.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Arc::new(serde_json::from_value(table).unwrap())
    }

    /// Returns a conversation whose session is ready and whose greeting was requested.
    fn ready(more: Value) -> (Dialogue, Instant) {
        let now = tandem_host::clock::now().instant;
        let mut one = Dialogue::new(agent(more), AgentSpec::default(), now);
        one.begin(now);
        one.event(now, Duration::ZERO, Event::Updated);
        (one, now)
    }

    fn outputs(one: &mut Dialogue) -> Vec<RealtimeOutput> {
        std::iter::from_fn(|| one.poll_output()).collect()
    }

    /// Returns the types of the sent messages.
    fn sent(outputs: &[RealtimeOutput]) -> Vec<&str> {
        outputs
            .iter()
            .filter_map(|act| if let RealtimeOutput::Send(one) = act { one["type"].as_str() } else { None })
            .collect()
    }

    fn log_lines(outputs: &[RealtimeOutput]) -> Vec<&str> {
        outputs
            .iter()
            .filter_map(|act| if let RealtimeOutput::Utterance(line) = act { Some(&*line.text) } else { None })
            .collect()
    }

    const MS: Duration = Duration::from_millis(1);

    /// Simulates a response of the model with this duration of audio. The caller has not heard this audio yet.
    fn answers(one: &mut Dialogue, now: Instant, item: &str, words: &str, milliseconds: u32) {
        one.event(now, Duration::ZERO, Event::Began);
        let words = Event::Words { item: item.to_owned(), text: words.to_owned(), is_whole: true };
        one.event(now, Duration::ZERO, words);
        let octets = vec![0; milliseconds as usize * 8];
        one.event(now, Duration::ZERO, Event::Audio { item: item.to_owned(), octets });
        one.event(now, MS * milliseconds, Event::Ended(None));
    }

    #[test]
    fn an_interruption_truncates_the_answer_at_the_played_position() {
        let (mut one, now) = ready(json!({}));
        answers(&mut one, now, "i", "one two three four.", 1_000);
        outputs(&mut one);
        one.event(now, MS * 500, Event::Speech(true));
        let outputs = outputs(&mut one);
        assert_eq!(outputs[0], RealtimeOutput::Send(wire::truncate("i", 500)));
        assert_eq!(log_lines(&outputs), ["one two t — (interrupted by the caller)"]);
        assert!(outputs.contains(&RealtimeOutput::Clear));
        // Audio of the interrupted item that arrives later is not played.
        one.event(now, Duration::ZERO, Event::Audio { item: "i".to_owned(), octets: vec![0; 160] });
        assert!(one.poll_output().is_none());
    }

    #[test]
    fn a_completely_played_answer_is_logged_and_starts_the_silence_timer() {
        let (mut one, now) = ready(json!({ "silence_seconds": 3, "silence_prompts": 0 }));
        answers(&mut one, now, "i", "Hello.", 1_000);
        outputs(&mut one);
        assert_eq!(one.poll_timeout(), Some(now + MS * 1_000));
        let later = now + MS * 1_000;
        one.handle_timeout(later, Duration::ZERO);
        assert_eq!(log_lines(&outputs(&mut one)), ["Hello."]);
        assert_eq!(one.poll_timeout(), Some(later + MS * 3_000));
        one.handle_timeout(later + MS * 3_000, Duration::ZERO);
        assert_eq!(sent(&outputs(&mut one)), ["response.create"]);
        answers(&mut one, later + MS * 3_100, "j", "Goodbye.", 500);
        one.handle_timeout(later + MS * 3_600, Duration::ZERO);
        assert!(outputs(&mut one).contains(&RealtimeOutput::End(ConversationEnd::Hangup)));
    }

    #[test]
    fn a_model_beyond_its_limits_ends_the_conversation() {
        let words = |item: &str, length: usize| Event::Words {
            item: item.to_owned(),
            text: "x".repeat(length),
            is_whole: false,
        };
        let call = |arguments: usize| {
            Event::Call(ToolCall { id: "c".into(), name: "f".into(), arguments: "x".repeat(arguments) })
        };
        let error = || Event::Error { code: "c".into(), why: "w".into(), of: String::new() };
        let floods: [(&str, &dyn Fn(u32) -> Event); 8] = [
            ("words", &|_| words("i", 1_000)),
            ("large words", &|_| words("i", 1_000_000)),
            ("items", &|count| words(&count.to_string(), 10)),
            ("a long id", &|_| words(&"i".repeat(1_000), 10)),
            ("transcripts", &|_| Event::Heard("x".repeat(2_000))),
            ("tool calls", &|_| call(10)),
            ("a large tool call", &|_| call(1_000_000)),
            ("errors", &|_| error()),
        ];
        for (name, flood) in floods {
            let (mut one, now) = ready(json!({}));
            outputs(&mut one);
            one.event(now, Duration::ZERO, Event::Began);
            let mut made = Vec::new();
            for count in 0..10_000 {
                one.event(now, Duration::ZERO, flood(count));
                made.extend(outputs(&mut one));
            }
            let ends = made.iter().filter(|output| matches!(output, RealtimeOutput::End(_))).count();
            let failed = |output: &&RealtimeOutput| matches!(output, RealtimeOutput::EngineFailed(_));
            assert_eq!((ends, made.iter().filter(failed).count()), (1, 1), "{name}");
            let octets: usize = log_lines(&made).iter().map(|line| line.len()).sum();
            assert!(made.len() < 1_000 && octets <= LONGEST_DIALOGUE, "{name}: {} {octets}", made.len());
        }
    }

    #[test]
    fn a_model_that_only_calls_tools_ends_the_conversation() {
        let (mut one, now) = ready(json!({}));
        outputs(&mut one);
        for round in 0..=MAX_ROUNDS {
            one.event(now, Duration::ZERO, Event::Began);
            let call = ToolCall { id: round.to_string(), name: "no_such_tool".into(), arguments: "{}".into() };
            one.event(now, Duration::ZERO, Event::Call(call));
            one.event(now, Duration::ZERO, Event::Ended(None));
        }
        assert!(outputs(&mut one).iter().any(|output| matches!(output, RealtimeOutput::End(_))));
    }

    #[test]
    fn a_sound_that_is_no_speech_only_pauses_the_agent() {
        let (mut one, now) = ready(json!({}));
        answers(&mut one, now, "i", "Hello.", 5_000);
        outputs(&mut one);
        one.handle_sound(now, MS * 4_000);
        assert_eq!(outputs(&mut one), [RealtimeOutput::Pause(true)]);
        one.handle_timeout(now + SOUND_TIMEOUT, MS * 4_000);
        assert_eq!(outputs(&mut one), [RealtimeOutput::Pause(false)]);
        let (mut deaf, now) = ready(json!({ "interruptions": "none" }));
        answers(&mut deaf, now, "i", "Hello.", 5_000);
        outputs(&mut deaf);
        deaf.handle_sound(now, MS * 4_000);
        deaf.event(now, MS * 4_000, Event::Speech(true));
        assert!(outputs(&mut deaf).is_empty());
    }

    #[test]
    fn an_answer_requested_during_another_answer_starts_after_that_answer() {
        let (mut one, now) = ready(json!({}));
        outputs(&mut one);
        let code = "conversation_already_has_active_response".to_owned();
        let busy = Event::Error { code, why: String::new(), of: wire::RESPOND.to_owned() };
        one.event(now, Duration::ZERO, busy);
        assert!(sent(&outputs(&mut one)).is_empty());
        one.event(now, Duration::ZERO, Event::Ended(None));
        assert_eq!(sent(&outputs(&mut one)), ["response.create"]);
    }

    #[test]
    fn a_server_without_narrowband_audio_gets_wideband() {
        let now = tandem_host::clock::now().instant;
        let mut one = Dialogue::new(agent(json!({})), AgentSpec::default(), now);
        one.begin(now);
        let (code, why) = ("invalid_value".to_owned(), "no such format".to_owned());
        one.event(now, Duration::ZERO, Event::Error { code, why, of: String::new() });
        assert_eq!(sent(&outputs(&mut one)), ["session.update", "session.update"]);
        assert_eq!(one.format(), Format::Pcm24);
        one.event(now, Duration::ZERO, Event::Updated);
        assert!(one.is_ready());
    }

    #[test]
    fn a_request_without_an_answer_is_repeated_once_and_then_fails() {
        let (mut one, now) = ready(json!({ "fallback": "+15551230099" }));
        outputs(&mut one);
        one.handle_timeout(now + MS * 2_000, Duration::ZERO);
        assert_eq!(sent(&outputs(&mut one)), ["response.create"]);
        one.handle_timeout(now + MS * 4_000, Duration::ZERO);
        let outputs = outputs(&mut one);
        let Some(RealtimeOutput::End(ConversationEnd::Run(program))) = outputs.last() else { panic!("{outputs:?}") };
        let [.., Instruction::Dial(_), Instruction::GiveUp(why)] = &program.instructions[..] else {
            panic!("{program:?}")
        };
        assert_eq!((program.instructions.len(), why.engine), (4, Engine::Model), "two phrases come before");
        // Without a fallback, the caller hears a goodbye.
        let (mut one, now) = ready(json!({}));
        one.failed("gone");
        assert!(one.poll_timeout().is_none_or(|at| at > now));
        let last = self::outputs(&mut one).pop();
        let Some(RealtimeOutput::End(ConversationEnd::Run(program))) = last else { panic!("{last:?}") };
        let [Instruction::Play(_), Instruction::Play(_), Instruction::GiveUp(why)] = &program.instructions[..] else {
            panic!("{program:?}")
        };
        assert_eq!(why.to_string(), "the model failed: gone");
    }

    #[test]
    fn a_session_after_a_lost_session_gets_the_history() {
        let (mut one, now) = ready(json!({}));
        answers(&mut one, now, "i", "Hello.", 100);
        one.event(now, Duration::ZERO, Event::Heard("Are you open?".to_owned()));
        outputs(&mut one);
        one.begin(now);
        one.event(now, Duration::ZERO, Event::Updated);
        // The last request answers the question of the caller.
        let types = ["session.update", "conversation.item.create", "conversation.item.create", "response.create"];
        assert_eq!(sent(&outputs(&mut one)), types);
    }
}
