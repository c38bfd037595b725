//! The timeouts of a conversation: fillers, missing words, silence, and the longest duration.

use std::time::{Duration, Instant};

use serde_json::json;
use tandem_dialect::agent::EndReason;

use super::super::chat::Piece;
use super::{NO_WORDS_TIMEOUT, Responder, STILL_WAITING, WARNING, silence_prompts};

impl Responder {
    /// Handles all timeouts that are due at `now`.
    pub(in super::super) fn handle_timeout(&mut self, now: Instant) {
        self.set_time(now);
        if self.is_ending {
            return;
        }
        if self.held.is_some_and(|until| until <= now) {
            self.unhold(now);
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

    /// Says a filler phrase, unless the agent speaks.
    fn fill(&mut self, now: Instant, count: u32) {
        if self.agent_speaks {
            // The end of the speech sets the time again.
            self.filler = Some((now + STILL_WAITING.0, count));
            return;
        }
        let text = match count {
            0 => self.thinking_filler(),
            _ => self.phrases().still_waiting.to_string(),
        };
        self.say_filler(text);
        self.filler = (count < STILL_WAITING.1).then(|| (now + STILL_WAITING.0, count + 1));
    }

    /// Handles a missing recognition result after speech of the caller.
    fn words_missed(&mut self, now: Instant, missed: bool) {
        if !self.is_idle() || self.agent_speaks {
            self.words_due = None;
            return;
        }
        if missed {
            return self.recognition_failed(now, "the recogniser does not answer");
        }
        self.words_due = Some((now + NO_WORDS_TIMEOUT, true));
        self.say_filler(self.phrases().wait.to_string());
    }

    /// Starts the silence timer if both the caller and the agent are idle.
    pub(super) fn wait_in_silence(&mut self, now: Instant) {
        if self.is_idle() && !self.agent_speaks && !self.caller_speaks {
            let configured = Duration::from_secs(self.config.silence_seconds.into());
            self.silence = Some(now + self.spec.silence.or(self.times.silence).unwrap_or(configured));
        }
    }

    fn handle_silence(&mut self, now: Instant) {
        self.silence = None;
        if !self.is_idle() || self.words_due.is_some() {
            return self.wait_in_silence(now);
        }
        let phrases = self.phrases().clone();
        if self.silence_prompts_sent >= silence_prompts(&self.spec, &self.times, &self.config) {
            self.note("the caller is silent".to_owned(), json!({ "event": "silence" }));
            return self.give_up(EndReason::TimedOut);
        }
        self.silence_prompts_sent += 1;
        if let Some(prompt) = self.settings.silence_prompt.clone() {
            self.history.note(prompt);
            self.rounds = 0;
            return self.start_answer(now, false);
        }
        self.say(&phrases.silence);
        if phrases.silence.trim().is_empty() {
            self.wait_in_silence(now);
        }
    }

    fn time_is_up(&mut self, now: Instant) {
        if std::mem::replace(&mut self.warned, true) {
            self.ends_at = None;
            self.note("the call has reached max_seconds".to_owned(), json!({ "event": "max_seconds" }));
            // The text that waits may last for minutes.
            self.withdraw_answer();
            return self.give_up(EndReason::TimedOut);
        }
        self.ends_at = Some(now + WARNING);
        self.say_filler(self.phrases().ending.to_string());
    }
}
