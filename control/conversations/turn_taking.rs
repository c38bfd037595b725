//! The course of a conversation: which side speaks, what the caller hears, and which inputs interrupt the agent. This
//! module is pure.
//!
//! ```text
//!   application ──Ask──► phrases ──► queue ──Make──► made ──Put──► playout ──► reached (its mark came back)
//!   caller ──digits, voice, words──► Tell; and, if the rules allow an interruption, Clear: the whole queue is dropped
//! ```
//!
//! A single piece cannot be removed from the buffer of the media session. Only the whole buffer can be cleared. So the
//! buffer contains only a few pieces at a time, and an interruption removes all of these pieces or none of them.

mod caller;
mod queue;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tandem_call::conversation::{ConversationSpec, ConversationStatus, Inputs};
use tandem_call::engine::EngineFailure;
use tandem_call::program::instruction::AudioSource;
use tandem_call::stream::StreamFault;
use tandem_dialect::agent::Pronunciation;
use tandem_dialect::conversation::{ConversationCommand, ConversationEnd, ConversationEvent, InterruptPolicy};
use tandem_metrics::turns::{Totals, Turn, Turns};

use super::phrases::Phrases;
use queue::{Content, Piece, PlayingReply};

/// Maximum number of pieces that wait in the buffer behind the current piece.
const MAX_AHEAD: usize = 2;
/// Number of consecutive invalid messages after which the conversation ends.
const MAX_MALFORMED: u32 = 10;

/// The state of one conversation.
#[derive(Debug)]
pub(super) struct TurnTaking {
    spec: ConversationSpec,
    speech_language: String,
    recognition_language: String,
    phrases: Phrases,
    /// The interruption rules and the language of the reply that the application is currently sending.
    writing: Option<Writing>,
    queue: VecDeque<Piece>,
    /// Whether the last piece was dropped because the queue was full. In this case the application has already received
    /// the error.
    full: bool,
    next_piece: u64,
    next_reply: u64,
    /// The part of the current reply that the caller has heard.
    playing: Option<PlayingReply>,
    agent_speaks: bool,
    caller_speaks: bool,
    /// The time at which the caller's voice counts as an interruption.
    interrupts_at: Option<Instant>,
    /// The time at which playout was paused. This field is used only if words decide about interruptions.
    stopped_at: Option<Instant>,
    /// The time at which paused playout resumes, if nothing changes.
    resumes_at: Option<Instant>,
    /// Whether no further pieces may be played at present.
    held_back: bool,
    /// Whether the words and digits of the caller are taken.
    listens: bool,
    /// Replacements in the text before it is spoken.
    pronunciations: Vec<Pronunciation>,
    /// The way in which the conversation ends after all audio is played.
    pending_end: Option<ConversationEnd>,
    malformed: u32,
    over: bool,
    turns: Turns,
    outputs: VecDeque<TurnOutput>,
}

/// An action for the shell, which is the code with the I/O.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum TurnOutput {
    /// Prepare the audio of a piece. [`TurnTaking::audio_began`] takes the beginning of the audio, and
    /// [`TurnTaking::made`] the result.
    Make {
        /// The id of the piece.
        piece: u64,
        source: AudioSource,
    },
    /// Append the audio of a piece to playout, and put a mark behind the audio.
    Put {
        /// The id of the piece.
        piece: u64,
    },
    /// Drop the audio of a piece, or abort the preparation of this audio.
    Forget {
        /// The id of the piece.
        piece: u64,
    },
    /// Drop the audio that is in the buffer and not played yet. The marks of this audio become invalid.
    Clear,
    /// Pause playout.
    Pause,
    /// Resume playout.
    Resume,
    /// Send these DTMF digits.
    SendDigits(String),
    /// Send this event to the application.
    Event(ConversationEvent),
    /// Write this fact to the log.
    Note(ConversationFact),
    /// A piece of a reply could not be spoken or played.
    EngineFailed(EngineFailure),
    /// Recognise this language from now on.
    RecogniseLanguage(String),
    /// End the conversation in this way.
    End(ConversationEnd),
    /// End the conversation.
    Over {
        /// The status that the leg receives.
        status: ConversationStatus,
        /// Whether the reason is that the application's messages are invalid.
        malformed: bool,
    },
}

/// A fact for the call's log.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum ConversationFact {
    /// The caller spoke.
    Heard {
        /// The recognised words.
        text: String,
        /// Whether the words were reported to the application. Words that only show agreement are not reported. Words
        /// during a reply that speech must not interrupt are not reported either.
        sent: bool,
    },
    /// The part of a finished reply that the caller heard.
    Spoken(String),
    /// The URL of a file that the caller heard.
    Played(String),
    /// The caller interrupted a reply.
    Interrupted {
        /// The kind of interruption: `speech` or `a key`.
        by: &'static str,
        /// Time for which the reply had been played before the interruption.
        after: Duration,
        /// The part of the reply that the caller heard.
        heard: String,
    },
    /// The playout of a reply to the caller started.
    Turn(Turn),
}

/// The reply that the application is currently sending.
#[derive(Debug, Clone)]
struct Writing {
    reply: u64,
    by: Inputs,
    preemptible: bool,
    language: String,
}

impl TurnTaking {
    pub(super) fn new(spec: ConversationSpec) -> Self {
        Self {
            speech_language: spec.speech_language.clone(),
            recognition_language: spec.recognition_language.clone(),
            spec,
            phrases: Phrases::default(),
            writing: None,
            queue: VecDeque::new(),
            full: false,
            next_piece: 1,
            next_reply: 1,
            playing: None,
            agent_speaks: false,
            caller_speaks: false,
            interrupts_at: None,
            stopped_at: None,
            resumes_at: None,
            held_back: false,
            listens: true,
            pronunciations: Vec::new(),
            pending_end: None,
            malformed: 0,
            over: false,
            turns: Turns::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Sets replacements in the text before it is spoken.
    pub(super) fn set_pronunciations(&mut self, pronunciations: Vec<Pronunciation>) {
        self.pronunciations = pronunciations;
    }

    /// Returns the recogniser's hints (likely phrases) and the recogniser's model for a language.
    pub(super) fn recogniser_settings(&self, language: &str) -> (Vec<String>, Option<String>) {
        let language_settings = self.spec.language_settings(language);
        (language_settings.hints.clone(), language_settings.model.clone())
    }

    /// Returns the next action.
    pub(super) fn poll_output(&mut self) -> Option<TurnOutput> {
        self.outputs.pop_front()
    }

    /// Returns the time at which [`Self::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.interrupts_at.into_iter().chain(self.resumes_at).min()
    }

    /// Returns the totals of the turns so far.
    pub(super) fn totals(&self) -> Totals {
        self.turns.totals()
    }

    /// Says the greeting when the application is connected.
    pub(super) fn begin(&mut self, now: Instant) {
        if let Some(greeting) = self.spec.greeting.clone() {
            let interrupt_policy = InterruptPolicy { by: Some(self.spec.greeting_interrupted_by), preemptible: None };
            self.say(now, &greeting, true, None, interrupt_policy, false);
        }
    }

    /// Handles a request of the application.
    pub(super) fn handle_command(&mut self, now: Instant, command: ConversationCommand) {
        self.malformed = 0;
        match command {
            ConversationCommand::Say { token, last, language, interrupt_policy } => {
                self.say(now, &token, last, language, interrupt_policy, true);
            }
            ConversationCommand::Phrase(text) => {
                self.finish_writing();
                self.say(now, &text, true, None, InterruptPolicy::default(), false);
            }
            ConversationCommand::Play { url, times, interrupt_policy } => {
                self.finish_writing();
                self.preempt(now);
                let reply = self.new_reply();
                self.turns.replied(now, reply);
                self.enqueue(
                    reply,
                    Content::File(url, times.max(1)),
                    self.by(interrupt_policy),
                    self.is_preemptible(interrupt_policy),
                );
            }
            ConversationCommand::SendDigits(digits) => {
                self.finish_writing();
                let reply = self.new_reply();
                self.enqueue(reply, Content::Digits(digits), self.spec.interrupted_by, self.spec.preemptible);
            }
            ConversationCommand::Language { speech_language, recognition_language } => {
                self.finish_writing();
                if let Some(speech_language) = speech_language {
                    self.speech_language = speech_language;
                }
                if let Some(recognition_language) = recognition_language
                    .filter(|recognition_language| *recognition_language != self.recognition_language)
                {
                    self.recognition_language.clone_from(&recognition_language);
                    self.outputs.push_back(TurnOutput::RecogniseLanguage(recognition_language));
                }
            }
            ConversationCommand::End { handoff } => return self.end(ConversationStatus::Ended(handoff), false),
            ConversationCommand::Filler(text) => {
                let (reply, language) = (self.new_reply(), self.speech_language.clone());
                self.enqueue(reply, Content::Text(text, language), self.spec.interrupted_by, true);
            }
            ConversationCommand::HoldBack(held) => self.held_back = held,
            ConversationCommand::Withdraw => self.withdraw(),
            ConversationCommand::Listen(listens) => self.listen(now, listens),
            ConversationCommand::Hints(hints) => {
                self.spec.default_language_settings.hints = hints;
                let language = self.recognition_language.clone();
                self.outputs.push_back(TurnOutput::RecogniseLanguage(language));
            }
            ConversationCommand::EndAfter(pending_end) => {
                self.finish_writing();
                self.pending_end = Some(pending_end);
            }
        }
        self.advance(now);
    }

    /// Handles an invalid message of the application. `why` is the error text for the application.
    pub(super) fn malformed(&mut self, why: String) {
        self.send_event(ConversationEvent::Problem(why));
        self.malformed += 1;
        if self.malformed >= MAX_MALFORMED {
            let why = StreamFault::Protocol.because("too many invalid messages in a row");
            self.end(ConversationStatus::Failed { after_start: true, why }, true);
        }
    }

    fn by(&self, interrupt_policy: InterruptPolicy) -> Inputs {
        interrupt_policy.by.unwrap_or(self.spec.interrupted_by)
    }

    fn is_preemptible(&self, interrupt_policy: InterruptPolicy) -> bool {
        interrupt_policy.preemptible.unwrap_or(self.spec.preemptible)
    }

    fn new_reply(&mut self) -> u64 {
        self.next_reply += 1;
        self.next_reply
    }

    /// Adds a piece of text to the reply. `is_reply` is false for a text that does not count as the reply to a turn.
    fn say(
        &mut self,
        now: Instant,
        token: &str,
        last: bool,
        language: Option<String>,
        interrupt_policy: InterruptPolicy,
        is_reply: bool,
    ) {
        if self.writing.is_none() {
            self.preempt(now);
        }
        let language = language.unwrap_or_else(|| self.speech_language.clone());
        let (by, preemptible) = (self.by(interrupt_policy), self.is_preemptible(interrupt_policy));
        match &mut self.writing {
            Some(writing) if (writing.by, writing.preemptible) == (by, preemptible) && writing.language == language => {
            }
            writing => {
                // The text so far becomes a separate phrase of the same reply.
                let reply = writing.as_ref().map(|writing| writing.reply);
                if reply.is_some() {
                    self.finish_phrase();
                }
                let reply = reply.unwrap_or_else(|| self.new_reply());
                if is_reply {
                    self.turns.replied(now, reply);
                }
                self.writing = Some(Writing { reply, by, preemptible, language });
            }
        }
        for phrase in self.phrases.push(token) {
            self.enqueue_phrase(phrase);
        }
        if last {
            self.finish_writing();
        }
        self.advance(now);
    }

    fn finish_phrase(&mut self) {
        if let Some(rest) = self.phrases.rest() {
            self.enqueue_phrase(rest);
        }
    }

    /// Ends the reply that the application has sent.
    fn finish_writing(&mut self) {
        self.finish_phrase();
        self.writing = None;
        self.log_heard_reply();
    }

    fn enqueue_phrase(&mut self, phrase: String) {
        if let Some(Writing { reply, by, preemptible, language }) = self.writing.clone() {
            self.enqueue(reply, Content::Text(phrase, language), by, preemptible);
        }
    }

    fn played(&mut self, text: &str) {
        if self.spec.reports_played && !text.trim().is_empty() {
            self.send_event(ConversationEvent::Played(text.trim().to_owned()));
        }
    }

    fn note(&mut self, fact: ConversationFact) {
        self.outputs.push_back(TurnOutput::Note(fact));
    }

    fn send_event(&mut self, event: ConversationEvent) {
        self.outputs.push_back(TurnOutput::Event(event));
    }

    fn end(&mut self, status: ConversationStatus, malformed: bool) {
        if !std::mem::replace(&mut self.over, true) {
            self.outputs.push_back(TurnOutput::Over { status, malformed });
        }
    }
}

#[cfg(test)]
#[path = "turn_taking_tests.rs"]
mod tests;

#[cfg(test)]
mod caller_tests;
