//! The tool calls of the model, the requests of the script, the actions of both, and the requests of applications.

use std::time::{Duration, Instant};

use serde_json::json;
use tandem_call::conversation::{AgentMessage, ConversationRequest, Inputs, MessageRole};
use tandem_call::engine::EngineEffect;
use tandem_call::program::instruction::Program;
use tandem_dialect::agent::{
    AfterRun, AgentAction, AgentTimes, BackgroundAudio, EndReason, MAX_REQUESTS, Response, ScriptCall, ScriptRequest,
    ScriptResult, ScriptStep, ToolFault,
};
use tandem_dialect::conversation::{ConversationCommand, ConversationEnd, InterruptPolicy};

use super::super::OutgoingRequest;
use super::super::history;
use super::super::tools;
use super::{FILLER, MAX_ROUNDS, Responder, ResponderOutput};

/// The longest hold. After this time the agent goes on.
const MAX_HOLD: Duration = Duration::from_secs(900);
/// Maximum number of actions that wait for the model's next answer. Further actions run at once.
pub(in super::super) const MAX_LATER: usize = 64;
/// Maximum number of warnings of one conversation.
pub(in super::super) const MAX_WARNINGS: u32 = 50;
/// Maximum number of times that a file plays.
const MAX_TIMES: u32 = 1_000;
/// The text for the model after a hold.
const HOLD_IS_OVER: &str = "The caller was on hold. The hold is over. Go on with the conversation.";

/// A tool call whose request runs.
#[derive(Debug)]
pub(super) struct RunningCall {
    pub(super) id: String,
    /// Whether the model said nothing in the answer with the call.
    says_nothing: bool,
    /// Number of requests of this call so far.
    requests: u32,
}

impl Responder {
    /// Sends the requests of the script at the start of the conversation.
    pub(super) fn send_hooks(&mut self, now: Instant) {
        let at = self.at(now);
        for request in self.hooks.begin(self.script.as_mut(), at) {
            self.send(request);
        }
    }

    /// Runs a tool call of the model.
    pub(super) fn run(&mut self, now: Instant, call: &ScriptCall, says_nothing: bool) {
        let name = &call.name;
        self.note(format!("tool {name} runs"), json!({ "event": "tool", "tool": name, "id": call.id }));
        let step = match self.rounds {
            ..=MAX_ROUNDS => self.script.call(call, self.at(now)),
            _ => ScriptStep::refused("too many tools in a row: answer now"),
        };
        if says_nothing && matches!(step, ScriptStep::Request(_)) {
            self.fill_call(now, name);
        }
        self.take_step(now, RunningCall { id: call.id.clone(), says_nothing, requests: 0 }, step);
    }

    /// Fills the time in which the request of a tool runs.
    fn fill_call(&mut self, now: Instant, name: &str) {
        let tool = self.tools.iter().find(|tool| tool.name == name);
        let texts = tool.map(|tool| tool.fillers.of(self.spoken_language())).unwrap_or_default();
        let file = tool.and_then(|tool| tool.wait_file.clone());
        match texts.get(self.fillers % texts.len().max(1)).cloned() {
            Some(text) => {
                self.fillers = self.fillers.wrapping_add(1);
                self.say_filler(text);
            }
            None if file.is_none() => self.filler = Some((now + FILLER, 0)),
            None => {}
        }
        if let Some(url) = file {
            let interrupt_policy = InterruptPolicy { by: None, preemptible: Some(true) };
            let play = ConversationCommand::Play { url, times: 1, interrupt_policy };
            self.outputs.push_back(ResponderOutput::Command(play));
            self.wait_file_plays = true;
        }
    }

    /// Ends the file of a tool. Words of the agent end the file too, but not every result of a tool leads to words.
    pub(super) fn end_wait_file(&mut self) {
        if std::mem::take(&mut self.wait_file_plays) {
            self.outputs.push_back(ResponderOutput::Command(ConversationCommand::Phrase(String::new())));
        }
    }

    /// Returns the text for the time in which the model thinks.
    pub(super) fn thinking_filler(&mut self) -> String {
        let language = self.spoken_language().to_owned();
        let languages = &self.settings.languages;
        let own =
            languages.iter().find(|own| own.code == language).map(|own| own.fillers.as_slice()).unwrap_or_default();
        match own.get(self.fillers % own.len().max(1)).cloned() {
            Some(text) => {
                self.fillers = self.fillers.wrapping_add(1);
                text
            }
            None => self.phrases().wait.to_string(),
        }
    }

    fn spoken_language(&self) -> &str {
        let own = || self.settings.languages.first().map(|language| language.code.as_str());
        let of_spec = || self.spec.language.as_deref().unwrap_or(&self.config.language);
        self.language.as_deref().or_else(own).unwrap_or_else(of_spec)
    }

    fn take_step(&mut self, now: Instant, mut call: RunningCall, step: ScriptStep) {
        match step {
            ScriptStep::Request(_) if call.requests >= MAX_REQUESTS => {
                let step = ScriptStep::failed(format!("the tool needs more than {MAX_REQUESTS} requests"));
                self.take_step(now, call, step);
            }
            ScriptStep::Request(request) => {
                call.requests += 1;
                // The answer comes back with the id of the call.
                let request = ScriptRequest { id: call.id.clone(), ..request };
                self.running.push(call);
                self.send(request);
            }
            ScriptStep::Result(ScriptResult { text, actions, after_reply }) => {
                self.report_fault(&text);
                self.result(&call.id, text.map_err(ToolFault::into_text));
                let mut others = Vec::with_capacity(actions.len());
                for action in actions {
                    match action {
                        AgentAction::ReplaceCall(text) => self.history.replace_call(&call.id, text),
                        other => others.push(other),
                    }
                }
                if after_reply && self.later.len() + others.len() <= MAX_LATER {
                    self.later.extend(others);
                } else {
                    self.perform(now, others, call.says_nothing);
                }
            }
        }
    }

    fn report_fault(&mut self, text: &Result<String, ToolFault>) {
        if let Some(failure) = tools::failure(text) {
            self.report(failure, EngineEffect::Recovered);
        }
    }

    fn send(&mut self, request: ScriptRequest) {
        self.outputs.push_back(ResponderOutput::Send(OutgoingRequest::limited(request)));
    }

    /// Takes the answer of a web server to a request of the script.
    pub(in super::super) fn handle_response(&mut self, now: Instant, id: &str, answer: Result<&Response, String>) {
        self.set_time(now);
        if let Some(at) = self.running.iter().position(|call| call.id == id) {
            let call = self.running.remove(at);
            let step = self.script.answered(id, answer, self.at(now));
            self.take_step(now, call, step);
            return self.answer_to_results(now);
        }
        let at = self.at(now);
        match self.hooks.answered(self.script.as_mut(), id, answer, at) {
            None => {}
            Some(ScriptStep::Request(request)) => self.send(request),
            Some(ScriptStep::Result(ScriptResult { text, actions, .. })) => {
                self.report_fault(&text);
                self.perform_unasked(now, actions);
                self.answer_if_owed(now);
            }
        }
    }

    /// Lets the model answer the results of its tool calls after the last of them is complete.
    pub(super) fn answer_to_results(&mut self, now: Instant) {
        if !self.running.is_empty() || self.is_ending {
            return;
        }
        if !self.pending.is_empty() {
            let text = std::mem::take(&mut self.pending);
            (self.turn_ends, self.rounds) = (None, 0);
            self.history.caller(text);
        } else if std::mem::take(&mut self.skips_answer) {
            self.filler = None;
            self.end_wait_file();
            self.answer_if_owed(now);
            return self.wait_in_silence(now);
        }
        self.skips_answer = false;
        self.start_answer(now, false);
    }

    pub(super) fn result(&mut self, id: &str, result: Result<String, String>) {
        let ok = result.is_ok();
        let text = tools::for_model(result);
        let shown = if ok { "done" } else { "failed" };
        self.note(format!("tool call {id} {shown}"), json!({ "event": "tool_result", "id": id, "ok": ok }));
        self.history.result(id.to_owned(), text);
    }

    /// Performs actions of the script. `says_nothing` says whether the model was silent in the answer that led to them.
    pub(super) fn perform(&mut self, now: Instant, actions: Vec<AgentAction>, says_nothing: bool) {
        for action in actions {
            if self.is_ending {
                return;
            }
            self.perform_one(now, action, says_nothing);
        }
    }

    /// Performs actions that belong to no tool call. A text or a file does not come into the middle of an answer of the model: the
    /// actions then follow the answer.
    fn perform_unasked(&mut self, now: Instant, actions: Vec<AgentAction>) {
        let is_heard = |action: &AgentAction| {
            matches!(action, AgentAction::Say(_) | AgentAction::SayUnlessSaid(_) | AgentAction::PlayBackground(_))
        };
        let waits = self.answer.is_some() && actions.iter().any(is_heard);
        match waits && self.later.len() + actions.len() <= MAX_LATER {
            true => self.later.extend(actions),
            false => self.perform(now, actions, true),
        }
    }

    fn perform_one(&mut self, now: Instant, action: AgentAction, says_nothing: bool) {
        match action {
            AgentAction::Say(text) => self.say(&text),
            AgentAction::SayUnlessSaid(text) if says_nothing => self.say(&text),
            AgentAction::SayUnlessSaid(_) => {}
            AgentAction::HangUp => self.end_after_playout(ConversationEnd::Hangup, EndReason::HungUp),
            AgentAction::Hold(limit) => self.hold(now, limit),
            AgentAction::Stop(text) => self.end_after_playout(ConversationEnd::Handoff(text), EndReason::Stopped),
            AgentAction::Run { program, then } => self.run_program(program, then),
            AgentAction::SendDigits(digits) => {
                self.outputs.push_back(ResponderOutput::Command(ConversationCommand::SendDigits(digits)));
            }
            AgentAction::Record(on) => self.outputs.push_back(ResponderOutput::Record(on)),
            AgentAction::ReportPartialResult(values) => self.outputs.push_back(ResponderOutput::PartialResult(values)),
            AgentAction::PlayBackground(audio) => self.play_background(audio),
            AgentAction::StopBackground => {}
            AgentAction::UserInput(text) => {
                self.add_message(AgentMessage { role: MessageRole::User, text: text.into() });
                self.owes_answer = true;
            }
            AgentAction::System(text) => self.history.note(text),
            AgentAction::ReplaceHistory(messages) => self.history.replace(messages),
            // The action belongs to no tool call.
            AgentAction::ReplaceCall(_) => {}
            AgentAction::SetTimes(times) => self.set_times(times),
            AgentAction::SetHints(hints) => {
                self.outputs.push_back(ResponderOutput::Command(ConversationCommand::Hints(hints)));
            }
            AgentAction::Command(command) => self.outputs.push_back(ResponderOutput::LegCommand(command)),
            AgentAction::Warn(text) if self.warnings < MAX_WARNINGS => {
                self.warnings += 1;
                self.outputs.push_back(ResponderOutput::Warn(text));
            }
            AgentAction::Warn(_) => {}
            AgentAction::WaitForCaller(waits) => self.skips_answer = waits,
        }
    }

    /// Adds a message of an application to the dialogue.
    fn add_message(&mut self, message: AgentMessage) {
        if !self.history.add(message) {
            let why = history::too_long();
            self.note(format!("problem: {why}"), json!({ "event": "problem", "why": why }));
        }
    }

    fn set_times(&mut self, new: AgentTimes) {
        let old = self.times;
        self.times = AgentTimes {
            end_of_speech: new.end_of_speech.or(old.end_of_speech),
            silence: new.silence.or(old.silence),
            silence_prompts: new.silence_prompts.or(old.silence_prompts),
            longest: new.longest.or(old.longest),
        };
        if new.longest.is_some() {
            self.set_end();
        }
    }

    fn run_program(&mut self, program: Box<Program>, then: AfterRun) {
        let AfterRun::Return { event } = then else {
            return self.end_after_playout(ConversationEnd::Run(program), EndReason::Left);
        };
        let agent = self.spec.returning(self.history.lines(), event, self.script.write());
        let end = ConversationEnd::RunThenReturn { program, agent: Box::new(agent) };
        self.end_after_playout(end, EndReason::Interrupted);
    }

    /// Plays a file. The media engine plays one source at a time, so a file in the background of the speech is not possible.
    fn play_background(&mut self, audio: BackgroundAudio) {
        let BackgroundAudio { url, times, waits } = audio;
        if !waits {
            let why = "this server does not mix audio into the background of an agent's speech: the file is not played";
            return self.note(format!("problem: {why}"), json!({ "event": "problem", "why": why, "url": url }));
        }
        let interrupt_policy = InterruptPolicy { by: Some(Inputs::NONE), preemptible: Some(false) };
        let times = times.unwrap_or(1).min(MAX_TIMES);
        let play = ConversationCommand::Play { url, times, interrupt_policy };
        self.outputs.push_back(ResponderOutput::Command(play));
    }

    /// Holds the agent: the agent finishes its words, and then neither listens nor speaks.
    fn hold(&mut self, now: Instant, limit: Option<Duration>) {
        let until = now + limit.unwrap_or(MAX_HOLD).min(MAX_HOLD);
        if self.held.replace(until).is_some() {
            return;
        }
        self.end_wait_file();
        let pending = std::mem::take(&mut self.pending);
        if !pending.is_empty() {
            self.history.caller(pending);
        }
        self.digits.clear();
        (self.turn_ends, self.digits_complete_at, self.filler) = (None, None, None);
        (self.words_due, self.silence, self.caller_speaks) = (None, None, false);
        self.outputs.push_back(ResponderOutput::Command(ConversationCommand::HoldBack(false)));
        self.outputs.push_back(ResponderOutput::Command(ConversationCommand::Listen(false)));
        self.note("the agent is on hold".to_owned(), json!({ "event": "hold" }));
    }

    /// Ends the hold, and lets the model go on.
    pub(super) fn unhold(&mut self, now: Instant) {
        if self.held.take().is_none() || self.is_ending {
            return;
        }
        self.outputs.push_back(ResponderOutput::Command(ConversationCommand::Listen(true)));
        self.note("the hold of the agent is over".to_owned(), json!({ "event": "unhold" }));
        self.history.note(HOLD_IS_OVER.to_owned());
        self.rounds = 0;
        if self.running.is_empty() {
            self.start_answer(now, false);
        }
    }

    /// Handles a request of an application.
    pub(in super::super) fn handle_request(&mut self, now: Instant, request: ConversationRequest) {
        self.set_time(now);
        match request {
            ConversationRequest::AddMessages { messages, answer } => {
                messages.into_iter().for_each(|message| self.add_message(message));
                self.owes_answer |= answer;
            }
            ConversationRequest::Hold(limit) if !self.is_ending => {
                // An application that holds the agent wants silence at once. The model's answer is abandoned.
                if self.held.is_none() {
                    self.withdraw_answer();
                }
                self.hold(now, limit);
            }
            ConversationRequest::Hold(_) => {}
            ConversationRequest::Unhold => self.unhold(now),
            ConversationRequest::ToScript(text) => {
                let actions = self.script.request(&text, self.at(now));
                self.perform_unasked(now, actions);
            }
        }
        self.answer_if_owed(now);
    }

    /// Lets the model answer added messages, if nothing else of the agent or of the caller is open.
    pub(super) fn answer_if_owed(&mut self, now: Instant) {
        if self.is_idle() && !self.is_ending && std::mem::take(&mut self.owes_answer) {
            self.rounds = 0;
            self.start_answer(now, false);
        }
    }
}
