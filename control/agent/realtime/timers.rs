//! The digits, the timeouts and the failures of a conversation with a realtime model.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tandem_call::engine::{Engine, EngineEffect, EngineFailure};
use tandem_call::program::instruction::{AudioSource, Instruction, Play, Program, Speech};
use tandem_dialect::agent::EndReason;
use tandem_dialect::conversation::ConversationEnd;

use super::super::config::Interruptions;
use super::super::responder::silence_prompts;
use super::super::tools;
use super::{DIGITS_TIMEOUT, Dialogue, MAX_DIGITS, RealtimeOutput, WARNING, wire};

impl Dialogue {
    /// Handles a DTMF digit from the caller.
    pub fn handle_digit(&mut self, now: Instant, queued: Duration, digit: char) {
        self.set_queued(now, queued);
        if self.is_over {
            return;
        }
        (self.silence, self.silence_prompts_sent) = (None, 0);
        let configured = self.config.interruptions != Interruptions::None;
        let own = self.settings.interrupted_by.map_or(configured, |by| by.digits);
        if own && self.spec.interruptible != Some(false) {
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

    pub(super) fn complete_digits(&mut self) {
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
    pub(super) fn no_answer(&mut self, now: Instant, why: String) {
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
        self.end_reason.get_or_insert(EndReason::Failed);
        self.outputs.push_back(RealtimeOutput::Clear);
        self.outputs.push_back(RealtimeOutput::End(end));
    }

    fn handle_silence(&mut self) {
        self.silence = None;
        let phrases = self.config.phrases.clone();
        if self.silence_prompts_sent >= silence_prompts(&self.spec, &self.times, &self.config) {
            self.note("the caller is silent".to_owned(), json!({ "event": "silence" }));
            return self.give_up();
        }
        self.silence_prompts_sent += 1;
        match self.settings.silence_prompt.clone() {
            Some(prompt) => {
                self.outputs.push_back(RealtimeOutput::Send(wire::message("system", &prompt)));
                self.request_response(wire::respond(None));
            }
            None => self.say(&phrases.silence),
        }
    }

    /// Ends the conversation because a time is over. If the settings keep the call, or if the conversation collects values, the call
    /// goes on. Every other conversation ends with a goodbye and hangs up.
    fn give_up(&mut self) {
        if self.settings.keeps_call || self.spec.collect_schema.is_some() {
            return self.end_after_playout(ConversationEnd::Handoff(None), EndReason::TimedOut);
        }
        let goodbye = self.config.phrases.goodbye.clone();
        self.say(&goodbye);
        self.end_after_playout(ConversationEnd::Hangup, EndReason::TimedOut);
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
}
