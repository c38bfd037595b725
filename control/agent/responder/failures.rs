//! Failures of the engines, and the end of a conversation.

use std::time::Instant;

use serde_json::json;
use tandem_call::address::Address;
use tandem_call::engine::{Engine, EngineEffect, EngineFailure, SPEECH_TO_TEXT_OFF};
use tandem_dialect::agent::EndReason;
use tandem_dialect::conversation::{ConversationCommand, ConversationEnd};

use super::super::config::PhraseConfig;
use super::super::tools;
use super::answers::say;
use super::{MAX_FAILURES, MAX_RECOGNITION_FAILURES, Responder, ResponderOutput};

impl Responder {
    /// Handles a failure of the recogniser.
    pub(super) fn recognition_failed(&mut self, now: Instant, why: &str) {
        if self.is_ending {
            return;
        }
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
            return self.engine_failed(now, failure);
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
    pub(super) fn engine_failed(&mut self, now: Instant, failure: EngineFailure) {
        self.filler = None;
        self.break_off_answer();
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
            None if gives_up => self.give_up(EndReason::Failed),
            // Without a phrase, no end of speech follows that starts the timer.
            None => self.wait_in_silence(now),
        }
    }

    /// Ends the model's answer before it is complete. The caller hears the text so far, unless the turn of the caller goes on.
    fn break_off_answer(&mut self) {
        let Some(answer) = self.answer.take() else { return };
        self.outputs.push_back(ResponderOutput::CancelAnswer);
        if answer.early {
            return self.outputs.push_back(ResponderOutput::Command(ConversationCommand::Withdraw));
        }
        if !answer.text.is_empty() {
            let last = say(String::new(), true, self.language.clone());
            self.outputs.push_back(ResponderOutput::Command(last));
        }
        self.keep(answer);
    }

    pub(super) fn report(&mut self, failure: EngineFailure, effect: EngineEffect) {
        self.outputs.push_back(ResponderOutput::EngineFailed(failure.with_effect(effect)));
    }

    fn fall_back(&mut self, phrases: &PhraseConfig, to: Address, failure: EngineFailure) {
        self.note(format!("the caller is connected with {to}"), json!({ "event": "fallback", "to": to.to_string() }));
        self.say(&phrases.transfer);
        self.end_after_playout(ConversationEnd::Run(Box::new(tools::fall_back(to, failure))), EndReason::Failed);
    }

    /// Ends the conversation after all text is spoken. Only the first end counts.
    pub(super) fn end_after_playout(&mut self, end: ConversationEnd, why: EndReason) {
        if !std::mem::replace(&mut self.is_ending, true) {
            self.end_reason = Some(why);
            self.break_off_answer();
            (self.silence, self.filler, self.turn_ends, self.words_due) = (None, None, None, None);
            self.end_wait_file();
            self.report_lines(true);
            self.outputs.push_back(ResponderOutput::Command(ConversationCommand::HoldBack(false)));
            self.outputs.push_back(ResponderOutput::Command(ConversationCommand::EndAfter(end)));
        }
    }

    /// Ends the conversation for this reason. If the conversation collects values, it ends without the values. Every other
    /// conversation ends with a goodbye and hangs up, unless the settings keep the call.
    pub(super) fn give_up(&mut self, why: EndReason) {
        let keeps_call = self.settings.keeps_call && why == EndReason::TimedOut;
        if keeps_call || self.spec.collect_schema.is_some() {
            return self.end_after_playout(ConversationEnd::Handoff(None), why);
        }
        let goodbye = self.phrases().goodbye.clone();
        self.say(&goodbye);
        self.end_after_playout(ConversationEnd::Hangup, why);
    }
}
