//! The tool calls of a realtime model, the actions of its script, and the requests of applications.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use serde_json::json;
use tandem_call::conversation::{AgentMessage, ConversationRequest, MessageRole};
use tandem_call::engine::{Engine, EngineEffect, EngineFailure};
use tandem_dialect::agent::{
    AfterRun, AgentAction, AgentTimes, DialogueLine, EndReason, LineKind, MAX_REQUESTS, Response, ScriptRequest,
    ScriptResult, ScriptStep, ToolFault,
};
use tandem_dialect::conversation::ConversationEnd;
use tandem_http::Client;

use super::super::chat::{MAX_TOOL_CALLS, ToolCall};
use super::super::ending::{EndReport, Ending};
use super::super::responder::MAX_WARNINGS;
use super::{Dialogue, OutgoingRequest, RealtimeOutput, WARNING, wire};

/// The reason why a realtime model does not answer a question after the conversation.
const NO_QUESTION: &str =
    "a realtime model answers no question after the conversation: use a chat model (http:// or https://) for a summary";

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

    pub(super) fn run(&mut self, now: Instant, call: &ToolCall) {
        let name = &call.name;
        self.note(format!("tool {name} runs"), json!({ "event": "tool", "tool": name, "id": call.id }));
        let step = match self.running.len() {
            ..MAX_TOOL_CALLS => self.script.call(call, self.at(now)),
            _ => ScriptStep::refused("too many tools are running"),
        };
        self.take_step(now, &call.id, 0, step);
    }

    fn take_step(&mut self, now: Instant, id: &str, requests: u32, step: ScriptStep) {
        let step = match step {
            ScriptStep::Request(_) if requests >= MAX_REQUESTS => {
                ScriptStep::failed(format!("the tool needs more than {MAX_REQUESTS} requests"))
            }
            step => step,
        };
        match step {
            ScriptStep::Request(request) => {
                self.running.push((id.to_owned(), requests + 1));
                let request = OutgoingRequest::limited(ScriptRequest { id: id.to_owned(), ..request });
                self.outputs.push_back(RealtimeOutput::SendRequest(request));
            }
            ScriptStep::Result(ScriptResult { text, actions, .. }) => {
                if let Err(ToolFault::Failed(why)) = &text {
                    self.report(EngineFailure::new(Engine::Tool, why), EngineEffect::Recovered);
                }
                let text = text.unwrap_or_else(|fault| json!({ "error": fault.into_text() }).to_string());
                self.outputs.push_back(RealtimeOutput::Send(wire::result(id, &text)));
                actions.into_iter().for_each(|action| self.perform(now, action));
                self.refresh(now);
            }
        }
    }

    fn perform(&mut self, now: Instant, action: AgentAction) {
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
            AgentAction::ReplaceHistory(_) => self.impossible("replace the dialogue"),
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
        if let (Some(longest), true) = (new.longest, self.pending_end.is_none()) {
            self.ends_at = Some((self.began.instant + longest.saturating_sub(WARNING)).max(now));
        }
    }

    /// Takes the answer of a web server to a request of the script.
    pub fn handle_response(&mut self, now: Instant, id: &str, answer: Result<&Response, String>) {
        let Some(at) = self.running.iter().position(|(call, _)| call == id) else { return };
        let (_, requests) = self.running.remove(at);
        let step = self.script.answered(id, answer, self.at(now));
        self.take_step(now, id, requests, step);
        self.answer_to_results();
        self.advance(now);
    }

    /// Handles a request of an application.
    pub fn handle_request(&mut self, now: Instant, request: ConversationRequest) {
        match request {
            ConversationRequest::AddMessages { messages, answer } => {
                for AgentMessage { role, text } in &messages {
                    let role = match role {
                        MessageRole::System => "system",
                        MessageRole::User => "user",
                        MessageRole::Assistant => "assistant",
                    };
                    self.outputs.push_back(RealtimeOutput::Send(wire::message(role, text)));
                }
                if answer && self.pending_end.is_none() {
                    self.request_response(wire::respond(None));
                }
            }
            ConversationRequest::Hold(_) | ConversationRequest::Unhold => self.impossible("hold the agent"),
            ConversationRequest::ToScript(text) => {
                let actions = self.script.request(&text, self.at(now));
                let answers = actions.iter().any(|action| matches!(action, AgentAction::UserInput(_)));
                actions.into_iter().for_each(|action| self.perform(now, action));
                self.refresh(now);
                if answers && self.pending_end.is_none() {
                    self.request_response(wire::respond(None));
                }
            }
        }
        self.advance(now);
    }

    /// Ends the agent. Then sends the reports of its script. This takes at most 120 s. `why` is the reason of the end, if the
    /// agent has not ended the conversation.
    pub async fn finish(mut self, client: Client, now: Instant, why: Option<EndReason>) -> Vec<EndReport> {
        let (at, why) = (self.at(now), why.or(self.end_reason).unwrap_or(EndReason::Caller));
        let has_question = self.script.end_question(why, at).is_some();
        let line = |line: &tandem_call::conversation::Utterance| DialogueLine {
            // The model's server has no times of the lines.
            at,
            kind: match line.by_agent {
                true => LineKind::Agent { latency: None, calls: Vec::new() },
                false => LineKind::Caller,
            },
            text: line.text.to_string(),
        };
        let ending = Ending {
            question: None,
            why,
            began: self.began.time,
            ended: at,
            dialogue: self.history.iter().map(line).collect(),
            script: self.script,
        };
        let model = &Arc::clone(&self.config).model;
        ending.run(&client, model, has_question.then(|| Err(NO_QUESTION.to_owned()))).await
    }
}
