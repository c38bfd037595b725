//! The inputs of the caller, and the interruptions of the other side by them.

use std::time::{Duration, Instant};

use tandem_agent::words;
use tandem_call::conversation::{ConversationTarget, Inputs, Sensitivity};
use tandem_call::recognition::{RecognisedText, RecognitionEvent};
use tandem_dialect::conversation::ConversationEvent;
use tandem_speech::recognise::PAUSE;

use super::super::phrases::Phrases;
use super::queue::{Content, Piece, PieceState};
use super::{ConversationFact, MAX_AHEAD, TurnOutput, TurnTaking};

/// Duration after which a voice counts as an interruption although no words are recognised yet. This duration applies
/// only if words decide about interruptions.
const LONG_VOICE: Duration = Duration::from_millis(700);
/// Time after which paused playout resumes, if no words are recognised. The time begins when the caller pauses.
const NO_WORDS_TIMEOUT: Duration = Duration::from_millis(600);
/// Time after which paused playout resumes, if no voice is detected. The time begins at the sound that paused the
/// playout.
const NO_VOICE_TIMEOUT: Duration = Duration::from_millis(200);

impl TurnTaking {
    /// Whether the conversation takes the words of the caller.
    pub(in super::super) fn listens(&self) -> bool {
        self.listens
    }

    /// Starts or stops to take the words and digits of the caller.
    pub(super) fn listen(&mut self, now: Instant, listens: bool) {
        if std::mem::replace(&mut self.listens, listens) && !listens {
            (self.caller_speaks, self.interrupts_at) = (false, None);
            self.resume(now);
        }
    }

    /// Handles a DTMF digit from the caller.
    pub(in super::super) fn handle_digit(&mut self, now: Instant, digit: char) {
        if !self.spec.digits || !self.listens {
            return;
        }
        let speaking = self.interrupted_by();
        if speaking.is_some_and(|by| by.digits) {
            self.interrupt(now, "a key");
        } else if speaking.is_some() && !self.spec.reports.digits {
            return;
        }
        self.send_event(ConversationEvent::Digit(digit));
    }

    /// Handles a sound that may be the caller's voice, before the recogniser has detected a voice.
    pub(in super::super) fn handle_sound(&mut self, now: Instant) {
        if self.spec.words_decide_interruption
            && self.listens
            && !self.caller_speaks
            && self.interrupted_by().is_some_and(|by| by.speech)
        {
            self.stop(now);
            self.resumes_at = Some(now + NO_VOICE_TIMEOUT);
        }
    }

    /// Handles an event of the recogniser.
    pub(in super::super) fn handle_recognition(&mut self, now: Instant, event: RecognitionEvent) {
        if !self.listens {
            return;
        }
        match event {
            RecognitionEvent::Began => {
                self.caller_speaks = true;
                if self.spec.reports_speakers {
                    self.send_event(ConversationEvent::CallerSpeaking(true));
                }
                if self.interrupted_by().is_some_and(|by| by.speech) {
                    if self.spec.words_decide_interruption {
                        self.stop(now);
                        self.resumes_at = None;
                    }
                    self.interrupts_at = Some(now + self.interruption_delay());
                    self.handle_timeout(now);
                }
            }
            RecognitionEvent::Paused => {
                self.turns.caller_paused(now.checked_sub(PAUSE).unwrap_or(now));
                self.caller_speaks = false;
                self.interrupts_at = None;
                self.resumes_at = self.stopped_at.map(|_| now + NO_WORDS_TIMEOUT);
                if self.spec.reports_speakers {
                    self.send_event(ConversationEvent::CallerSpeaking(false));
                }
                self.advance(now);
            }
            RecognitionEvent::Partial(words) => self.prompt(now, words, false),
            RecognitionEvent::Final(words) => self.prompt(now, words, true),
        }
    }

    fn prompt(&mut self, now: Instant, words: RecognisedText, last: bool) {
        let text = words.text();
        let end_of_turn = words.end_of_turn.filter(|_| last);
        if text.trim().is_empty() {
            if last {
                // The recogniser found no words, so the sound was a noise.
                if self.spec.words_decide_interruption && !self.caller_speaks {
                    self.resume(now);
                }
                self.no_words(end_of_turn);
            }
            return;
        }
        let speaking = self.interrupted_by();
        if speaking.is_some_and(|by| by.speech) && self.spec.words_decide_interruption && self.is_no_interruption(&text)
        {
            if last {
                self.note(ConversationFact::Heard { text, sent: false });
                if !self.caller_speaks {
                    self.resume(now);
                }
                self.no_words(end_of_turn);
            }
            return;
        }
        if speaking.is_some_and(|by| by.speech) {
            self.interrupt(now, "speech");
        } else if speaking.is_some() && !self.spec.reports.speech {
            if last {
                self.note(ConversationFact::Heard { text, sent: false });
                self.no_words(end_of_turn);
            }
            return;
        }
        if last {
            self.note(ConversationFact::Heard { text: text.clone(), sent: true });
            self.turns.heard(now);
        }
        if last || self.spec.partials {
            let language = words.language.unwrap_or_else(|| self.recognition_language.clone());
            self.send_event(ConversationEvent::Prompt { text, language, last, end_of_turn });
        }
    }

    /// Reports to an agent that it gets no words of this speech of the caller. An agent waits for the words after each pause. An
    /// application would take a message without words for words of the caller.
    fn no_words(&mut self, end_of_turn: Option<f32>) {
        if matches!(self.spec.with, ConversationTarget::Agent(_)) {
            let (text, language) = (String::new(), self.recognition_language.clone());
            self.send_event(ConversationEvent::Prompt { text, language, last: true, end_of_turn });
        }
    }

    /// Handles the end of the recogniser, or a new recogniser. Nobody reports the end of a voice that the old recogniser has
    /// detected.
    pub(in super::super) fn recogniser_ended(&mut self, now: Instant) {
        self.interrupts_at = None;
        if std::mem::take(&mut self.caller_speaks) && self.spec.reports_speakers {
            self.send_event(ConversationEvent::CallerSpeaking(false));
        }
        self.resume(now);
        self.advance(now);
    }

    /// Whether the playout continues although the caller spoke these words. Such words only show agreement, or they are
    /// an echo of the reply.
    fn is_no_interruption(&self, text: &str) -> bool {
        let says = self.queue.iter().take(MAX_AHEAD + 1).filter_map(|piece| match &piece.content {
            Content::Text(text, _) => Some(text.as_str()),
            _ => None,
        });
        words::is_agreement(text) || words::is_echo(text, says)
    }

    /// Pauses the playout until recognised words decide about the interruption.
    fn stop(&mut self, now: Instant) {
        if self.stopped_at.is_none() {
            self.stopped_at = Some(now);
            self.outputs.push_back(TurnOutput::Pause);
        }
    }

    /// Resumes paused playout.
    fn resume(&mut self, now: Instant) {
        self.resumes_at = None;
        let Some(stopped) = self.stopped_at.take() else { return };
        let lost = now.saturating_duration_since(stopped);
        if let Some(playing) = &mut self.playing {
            playing.began += lost;
            playing.piece_began += lost;
        }
        self.outputs.push_back(TurnOutput::Resume);
        self.advance(now);
    }

    /// Handles the timeouts that are due at `now`.
    pub(in super::super) fn handle_timeout(&mut self, now: Instant) {
        if self.interrupts_at.take_if(|at| *at <= now).is_some() && self.interrupted_by().is_some_and(|by| by.speech) {
            self.interrupt(now, "speech");
        }
        if self.resumes_at.is_some_and(|at| at <= now) {
            self.resume(now);
        }
    }

    /// Returns the duration after which a voice counts as an interruption.
    fn interruption_delay(&self) -> Duration {
        if self.spec.words_decide_interruption {
            return LONG_VOICE;
        }
        Duration::from_millis(match self.spec.sensitivity {
            Sensitivity::High => 0,
            Sensitivity::Medium => 300,
            Sensitivity::Low => 700,
        })
    }

    /// Returns the inputs that may interrupt the current reply. Returns `None` if no reply plays. Between two pieces whose audio
    /// is made too slowly, the reply still counts as playing.
    fn interrupted_by(&self) -> Option<Inputs> {
        let plays = |piece: &&Piece| self.agent_speaks || matches!(piece.state, PieceState::Put(_));
        self.queue.front().filter(plays).map(|piece| piece.by)
    }

    /// Handles an interruption by the caller. Drops all pieces in the queue.
    fn interrupt(&mut self, now: Instant, by: &'static str) {
        let fragment = self.fragment(now);
        let (mut heard, after) = self
            .playing
            .take()
            .map_or_else(Default::default, |playing| (playing.text, now.saturating_duration_since(playing.began)));
        heard.push_str(&fragment);
        self.played(&fragment);
        self.outputs.push_back(TurnOutput::Clear);
        let heard = heard.trim_end().to_owned();
        self.turns.interrupted();
        self.note(ConversationFact::Interrupted { by, after, heard: heard.clone() });
        self.send_event(ConversationEvent::Interrupted { heard, after });
        let cut = std::mem::take(&mut self.queue);
        self.forget(cut);
        self.phrases = Phrases::default();
        self.writing = None;
        self.interrupts_at = None;
        self.resumes_at = None;
        if self.stopped_at.take().is_some() {
            self.outputs.push_back(TurnOutput::Resume);
        }
        self.fall_silent_if_done();
    }
}
