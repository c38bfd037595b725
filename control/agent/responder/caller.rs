//! The turn of the caller: words, digits, and interruptions of the agent.

use std::time::Instant;

use serde_json::json;
use tandem_dialect::conversation::ConversationCommand;

use super::super::words;
use super::{DIGITS_TIMEOUT, FILLER, LONGEST_TURN, MAX_DIGITS, Responder, ResponderOutput};

impl Responder {
    /// Takes words of the caller. `end_of_turn` is the recogniser's probability that the caller has finished.
    pub(super) fn prompt(&mut self, now: Instant, text: &str, last: bool, end_of_turn: Option<f32>) {
        // An estimate without words belongs to the words before it.
        if end_of_turn.is_some() || !text.trim().is_empty() {
            self.end_of_turn = end_of_turn;
        }
        if last {
            self.words_due = None;
            self.recognition_failures = 0;
        }
        if text.trim().is_empty() {
            let is_quiet = !self.caller_speaks && !self.agent_speaks;
            if last && self.interrupted_without_words && is_quiet && self.is_idle() {
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
        self.interrupted_without_words = false;
        self.give_way();
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

    /// Ends a response to earlier words, because more words of the caller have followed.
    fn give_way(&mut self) {
        let Some(answer) = &self.answer else { return };
        if self.agent_speaks {
            return self.withdraw_answer();
        }
        if answer.heard > 0 || self.rounds > 0 {
            // The caller spoke between two phrases, or before the answer to the results of tools.
            self.interrupted();
            self.interrupted_without_words = false;
        } else {
            // The caller has heard nothing of the response. So the caller's turn was not over.
            self.cancel_answer();
            if let Some(earlier) = self.history.take_back() {
                self.pending = earlier;
            }
        }
        self.outputs.push_back(ResponderOutput::Command(ConversationCommand::Withdraw));
    }

    /// Withdraws the early response, because more words of the caller have followed.
    fn withdraw_early(&mut self) {
        if self.answer.as_ref().is_some_and(|answer| answer.early) {
            self.cancel_answer();
            self.outputs.push_back(ResponderOutput::Command(ConversationCommand::Withdraw));
        }
    }

    /// Sets the time at which the caller's turn ends if no more words follow.
    pub(super) fn set_turn_end(&mut self, now: Instant) {
        if self.caller_speaks || self.pending.is_empty() || !self.running.is_empty() {
            return;
        }
        let configured = || self.config.patience.of(words::wait_after(&self.pending, self.end_of_turn));
        let wait = self.times.end_of_speech.unwrap_or_else(configured);
        self.turn_ends = Some(self.paused_at.map_or(now, |paused| (paused + wait).max(now)));
    }

    /// Handles the end of the caller's turn.
    pub(super) fn turn_ended(&mut self, now: Instant) {
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

    pub(super) fn handle_digit(&mut self, now: Instant, digit: char) {
        (self.silence, self.silence_prompts_sent, self.interrupted_without_words) = (None, 0, false);
        if digit != '#' && self.digits.len() < MAX_DIGITS {
            self.digits.push(digit);
        }
        self.digits_complete_at = Some(now + DIGITS_TIMEOUT);
        if digit == '#' || self.digits.len() >= MAX_DIGITS {
            self.complete_digits(now);
        }
    }

    pub(super) fn complete_digits(&mut self, now: Instant) {
        self.digits_complete_at = None;
        let digits: Vec<String> = std::mem::take(&mut self.digits).chars().map(String::from).collect();
        let text = if digits.is_empty() { "#".to_owned() } else { digits.join(" ") };
        self.add_words(&format!("(pressed the keys {text})"));
        if self.running.is_empty() && !self.is_ending {
            self.turn_ended(now);
        }
    }

    /// Withdraws the text of the agent that the caller does not hear yet, and abandons the model's answer. The phrase that plays
    /// is spoken to its end.
    pub(super) fn withdraw_answer(&mut self) {
        if let Some(answer) = self.answer.take() {
            self.outputs.push_back(ResponderOutput::CancelAnswer);
            if !answer.early {
                self.keep(answer);
            }
        }
        self.outputs.push_back(ResponderOutput::Command(ConversationCommand::Withdraw));
        self.filler = None;
        self.history.withdraw();
        if !self.agent_speaks {
            self.history.all_heard();
        }
    }

    /// Handles an interruption of the agent by the caller.
    pub(super) fn interrupted(&mut self) {
        if let Some(answer) = self.answer.take_if(|answer| !answer.early) {
            self.outputs.push_back(ResponderOutput::CancelAnswer);
            // The caller may have heard a part of the text.
            self.keep(answer);
        }
        // Text that the conversation has not taken yet would be spoken after the interruption.
        let is_speech =
            |output: &ResponderOutput| matches!(output, ResponderOutput::Command(ConversationCommand::Say { .. }));
        self.outputs.retain(|output| !is_speech(output));
        self.history.interrupted();
        self.report_lines(false);
        self.filler = None;
        self.interrupted_without_words = true;
    }
}
