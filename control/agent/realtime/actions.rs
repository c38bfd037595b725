//! The tool calls of a realtime model, the actions of its script, and the requests of applications.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;
use tandem_call::conversation::ConversationRequest;
use tandem_call::engine::EngineEffect;
use tandem_dialect::agent::{
    AfterRun, AgentAction, AgentSettings, AgentTimes, DialogueLine, EndReason, LineKind, MAX_REQUESTS, Response,
    ScriptRequest, ScriptResult, ScriptStep, ToolFault,
};
use tandem_dialect::conversation::ConversationEnd;
use tandem_http::Client;

use super::super::chat::ModelQuestion;
use super::super::chat::{MAX_TOOL_CALLS, ToolCall};
use super::super::ending::{EndReport, Ending};
use super::super::history;
use super::super::responder::{MAX_LATER, MAX_WARNINGS, warning_after};
use super::super::tools;
use super::{Dialogue, OutgoingRequest, RealtimeOutput, wire};

/// A tool call whose request runs.
#[derive(Debug)]
pub(super) struct RunningCall {
    id: String,
    /// Number of requests of this call so far.
    requests: u32,
    /// Whether the session of the call was lost.
    pub(super) is_lost: bool,
}

impl Dialogue {
    /// Requests the next response of the model after all tools of the model have run.
    pub(super) fn answer_to_results(&mut self) {
        if self.running.is_empty() && self.pending_end.is_none() && !std::mem::take(&mut self.skips_answer) {
            self.request_response(wire::respond(None));
        }
    }

    /// Sends the session's settings, if the script has changed the prompt or the tools.
    fn refresh(&mut self, now: Instant) {
        let turn = self.script.turn(self.at(now));
        if turn != self.turn {
            self.turn = turn;
            self.update();
        }
    }

    fn at(&self, now: Instant) -> Timestamp {
        let passed = now.saturating_duration_since(self.began.instant);
        self.began.time.checked_add(passed).unwrap_or(self.began.time)
    }

    /// Sends the requests of the script at the start of the conversation.
    pub(super) fn send_hooks(&mut self, now: Instant) {
        let at = self.at(now);
        for request in self.hooks.begin(self.script.as_mut(), at) {
            self.send(request);
        }
    }

    /// Notes the settings of the script that only an agent at a chat model has.
    pub(super) fn note_unsupported(&mut self) {
        let AgentSettings { hints, pronunciations, .. } = &self.settings;
        let unsupported = [
            (!hints.is_empty(), "expect certain words of the caller"),
            (!pronunciations.is_empty(), "change the pronunciation of words"),
            (!self.turn.model.is_empty(), "use the model's parameters of a document"),
        ];
        let names: Vec<&str> = unsupported.into_iter().filter_map(|(is_used, name)| is_used.then_some(name)).collect();
        names.into_iter().for_each(|name| self.impossible(name));
    }

    fn send(&mut self, request: ScriptRequest) {
        self.outputs.push_back(RealtimeOutput::SendRequest(OutgoingRequest::limited(request)));
    }

    pub(super) fn run(&mut self, now: Instant, call: &ToolCall) {
        let name = &call.name;
        self.note(format!("tool {name} runs"), json!({ "event": "tool", "tool": name, "id": call.id }));
        let step = match self.running.len() {
            ..MAX_TOOL_CALLS => self.script.call(call, self.at(now)),
            _ => ScriptStep::refused("too many tools are running"),
        };
        self.take_step(now, RunningCall { id: call.id.clone(), requests: 0, is_lost: false }, step);
    }

    fn take_step(&mut self, now: Instant, mut call: RunningCall, step: ScriptStep) {
        let step = match step {
            ScriptStep::Request(_) if call.requests >= MAX_REQUESTS => {
                ScriptStep::failed(format!("the tool needs more than {MAX_REQUESTS} requests"))
            }
            step => step,
        };
        match step {
            ScriptStep::Request(request) => {
                call.requests += 1;
                let request = ScriptRequest { id: call.id.clone(), ..request };
                self.running.push(call);
                self.send(request);
            }
            ScriptStep::Result(ScriptResult { text, actions, after_reply }) => {
                self.report_fault(&text);
                let text = tools::for_model(text.map_err(ToolFault::into_text));
                let result = match call.is_lost {
                    false => wire::result(&call.id, &text),
                    // The present session does not know the call.
                    true => {
                        wire::message("system", &format!("A tool that you called has returned this result: {text}"))
                    }
                };
                self.outputs.push_back(RealtimeOutput::Send(result));
                if after_reply && self.later.len() + actions.len() <= MAX_LATER {
                    self.later.extend(actions);
                } else {
                    actions.into_iter().for_each(|action| self.perform(now, action));
                }
                self.refresh(now);
            }
        }
    }

    fn report_fault(&mut self, text: &Result<String, ToolFault>) {
        if let Some(failure) = tools::failure(text) {
            self.report(failure, EngineEffect::Recovered);
        }
    }

    pub(super) fn perform(&mut self, now: Instant, action: AgentAction) {
        if self.pending_end.is_some() {
            return;
        }
        match action {
            AgentAction::Say(text) => self.say(&text),
            AgentAction::SayUnlessSaid(text) if !self.spoke => self.say(&text),
            AgentAction::SayUnlessSaid(_) => {}
            AgentAction::HangUp => self.end_after_playout(ConversationEnd::Hangup, EndReason::HungUp),
            AgentAction::Stop(text) => self.end_after_playout(ConversationEnd::Handoff(text), EndReason::Stopped),
            AgentAction::Run { program, then: AfterRun::Leave } => {
                self.end_after_playout(ConversationEnd::Run(program), EndReason::Left);
            }
            AgentAction::Run { program, then: AfterRun::Return { event } } => {
                let agent = self.spec.returning(self.history.clone(), event, self.script.write());
                let end = ConversationEnd::RunThenReturn { program, agent: Box::new(agent) };
                self.end_after_playout(end, EndReason::Interrupted);
            }
            AgentAction::SendDigits(digits) => self.outputs.push_back(RealtimeOutput::SendDigits(digits)),
            AgentAction::Record(on) => self.outputs.push_back(RealtimeOutput::Record(on)),
            AgentAction::ReportPartialResult(values) => self.outputs.push_back(RealtimeOutput::PartialResult(values)),
            AgentAction::UserInput(text) => {
                self.outputs.push_back(RealtimeOutput::Send(wire::message("user", &text)));
                self.skips_answer = false;
            }
            AgentAction::System(text) => self.outputs.push_back(RealtimeOutput::Send(wire::message("system", &text))),
            AgentAction::SetTimes(times) => self.set_times(now, times),
            AgentAction::Command(command) => self.outputs.push_back(RealtimeOutput::LegCommand(command)),
            AgentAction::Warn(text) if self.warnings < MAX_WARNINGS => {
                self.warnings += 1;
                self.outputs.push_back(RealtimeOutput::Warn(text));
            }
            AgentAction::Warn(_) => {}
            AgentAction::WaitForCaller(waits) => self.skips_answer = waits,
            AgentAction::Hold(_) => self.impossible("hold the agent"),
            AgentAction::PlayBackground(_) | AgentAction::StopBackground => self.impossible("play background audio"),
            AgentAction::ReplaceHistory(_) | AgentAction::ReplaceCall(_) => self.impossible("replace the dialogue"),
            AgentAction::SetHints(_) => self.impossible("set the words that the caller is likely to say"),
        }
    }

    /// Notes an action that only an agent at a chat model can do. The server of a realtime model listens, remembers and speaks
    /// itself.
    fn impossible(&mut self, what: &str) {
        let why = format!("an agent at a realtime model cannot {what}: use a chat model (http:// or https://)");
        self.note(format!("problem: {why}"), json!({ "event": "problem", "why": why }));
    }

    fn set_times(&mut self, now: Instant, new: AgentTimes) {
        self.times.silence = new.silence.or(self.times.silence);
        self.times.silence_prompts = new.silence_prompts.or(self.times.silence_prompts);
        if let Some(longest) = new.longest {
            let (warning, warned) = warning_after(longest);
            (self.ends_at, self.warned) = (Some((self.began.instant + warning).max(now)), warned);
        }
    }

    /// Takes the answer of a web server to a request of the script.
    pub fn handle_response(&mut self, now: Instant, id: &str, answer: Result<&Response, String>) {
        if self.is_over {
            return;
        }
        if let Some(at) = self.running.iter().position(|call| call.id == id) {
            let call = self.running.remove(at);
            let step = self.script.answered(id, answer, self.at(now));
            self.take_step(now, call, step);
            self.answer_to_results();
        } else {
            let at = self.at(now);
            match self.hooks.answered(self.script.as_mut(), id, answer, at) {
                None => {}
                Some(ScriptStep::Request(request)) => self.send(request),
                Some(ScriptStep::Result(ScriptResult { text, actions, .. })) => {
                    self.report_fault(&text);
                    self.perform_and_answer(now, actions);
                }
            }
        }
        self.advance(now);
    }

    /// Performs actions that belong to no tool call. The model answers if they have an input for it.
    fn perform_and_answer(&mut self, now: Instant, actions: Vec<AgentAction>) {
        let answers = actions.iter().any(|action| matches!(action, AgentAction::UserInput(_)));
        actions.into_iter().for_each(|action| self.perform(now, action));
        self.refresh(now);
        if answers && self.pending_end.is_none() {
            self.request_response(wire::respond(None));
        }
    }

    /// Handles a request of an application.
    pub fn handle_request(&mut self, now: Instant, request: ConversationRequest) {
        if self.is_over {
            return;
        }
        match request {
            ConversationRequest::AddMessages { messages, answer } => {
                for mut message in messages {
                    if !history::limit(&mut message) {
                        let why = history::too_long();
                        self.note(format!("problem: {why}"), json!({ "event": "problem", "why": why }));
                    }
                    let role = history::role_name(message.role);
                    self.outputs.push_back(RealtimeOutput::Send(wire::message(role, &message.text)));
                }
                if answer && self.pending_end.is_none() {
                    self.request_response(wire::respond(None));
                }
            }
            ConversationRequest::Hold(_) | ConversationRequest::Unhold => self.impossible("hold the agent"),
            ConversationRequest::ToScript(text) => {
                let actions = self.script.request(&text, self.at(now));
                self.perform_and_answer(now, actions);
            }
        }
        self.advance(now);
    }

    /// Ends the agent. Then sends the reports of its script. This takes at most 120 s. `queued` is the duration of the audio that
    /// the caller does not hear any more. `why` is the reason of the end, if the agent has not ended the conversation.
    pub async fn finish(
        self,
        client: Client,
        now: Instant,
        queued: Duration,
        why: Option<EndReason>,
    ) -> Vec<EndReport> {
        let config = Arc::clone(&self.config);
        self.end(now, queued, why).run(&client, &config.model).await
    }

    /// Returns the work after the conversation.
    pub(super) fn end(mut self, now: Instant, queued: Duration, why: Option<EndReason>) -> Ending {
        self.set_queued(now, queued);
        self.interrupt();
        // The call also stops the conversation to perform the end that the agent requested.
        let why = why.filter(|_| !self.is_over).or(self.end_reason).unwrap_or(EndReason::Caller);
        let at = self.at(now);
        let question = self.script.end_question(why, at).map(|_| ModelQuestion::default());
        let line = |line: &tandem_call::conversation::Utterance| DialogueLine {
            // The model's server has no times of the lines.
            at,
            kind: match line.by_agent {
                true => LineKind::Agent { latency: None, calls: Vec::new() },
                false => LineKind::Caller,
            },
            text: line.text.to_string(),
        };
        Ending {
            question,
            why,
            began: self.began.time,
            ended: at,
            dialogue: self.history.iter().map(line).collect(),
            script: self.script,
        }
    }
}
