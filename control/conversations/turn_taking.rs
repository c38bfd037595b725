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

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tandem_agent::words;
use tandem_call::conversation::{ConversationSpec, ConversationStatus, Inputs, Sensitivity};
use tandem_call::engine::{Engine, EngineFailure};
use tandem_call::program::instruction::{AudioSource, Speech};
use tandem_call::recognition::{RecognisedText, RecognitionEvent};
use tandem_call::stream::StreamFault;
use tandem_dialect::agent::Pronunciation;
use tandem_dialect::conversation::{ConversationCommand, ConversationEnd, ConversationEvent, InterruptPolicy};
use tandem_metrics::turns::{Totals, Turn, Turns};
use tandem_speech::recognise::PAUSE;

use super::phrases::{Phrases, is_markup};
use super::pronunciation::spoken;

/// Maximum number of waiting pieces. Further pieces are dropped, and the application receives an error.
const MAX_PIECES: usize = 512;
/// Maximum length of the waiting text in octets. Further pieces are dropped, and the application receives an error.
const MAX_TEXT: usize = 64 * 1024;
/// Maximum number of pieces whose audio is prepared at the same time.
const MAX_MAKING: usize = 2;
/// If the queue contains this duration of prepared audio, no more audio is prepared. One second of audio takes as much
/// memory as one page of text.
const MAX_READY_AUDIO: Duration = Duration::from_secs(20);
/// Maximum number of pieces that wait in the buffer behind the current piece.
const MAX_AHEAD: usize = 2;
/// Duration after which a voice counts as an interruption although no words are recognised yet. This duration applies
/// only if words decide about interruptions.
const LONG_VOICE: Duration = Duration::from_millis(700);
/// Time after which paused playout resumes, if no words are recognised. The time begins when the caller pauses.
const NO_WORDS_TIMEOUT: Duration = Duration::from_millis(600);
/// Time after which paused playout resumes, if no voice is detected. The time begins at the sound that paused the
/// playout.
const NO_VOICE_TIMEOUT: Duration = Duration::from_millis(200);
/// The time that a usual voice needs for a letter.
const LETTER: Duration = Duration::from_millis(66);
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

/// A piece of a reply.
#[derive(Debug)]
struct Piece {
    id: u64,
    reply: u64,
    content: Content,
    by: Inputs,
    preemptible: bool,
    state: PieceState,
    /// Whether the audio of the piece is still being made, although the piece may already play. The length in `state` is
    /// then an estimate.
    is_growing: bool,
}

#[derive(Debug)]
enum Content {
    /// The text, and the language of its speech.
    Text(String, String),
    /// The URL of a file, and the number of times that the file is still to be played.
    File(String, u32),
    /// DTMF digits.
    Digits(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PieceState {
    Waiting,
    Making,
    Made(Duration),
    /// The piece is in the buffer of the media session. The duration is the length of its audio.
    Put(Duration),
}

/// The part of a reply that the caller has heard.
#[derive(Debug)]
struct PlayingReply {
    reply: u64,
    /// The text of the pieces that the caller heard completely.
    text: String,
    began: Instant,
    /// The time at which the current piece started to play.
    piece_began: Instant,
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

    /// Handles the first audio of a piece whose audio is still being made. The piece can be played from now on.
    pub(super) fn audio_began(&mut self, now: Instant, id: u64) {
        if let Some(piece) = self.queue.iter_mut().find(|piece| piece.id == id && piece.state == PieceState::Making) {
            piece.state = PieceState::Made(piece.content.estimated_length());
            piece.is_growing = true;
        }
        self.advance(now);
    }

    /// Handles the end of a piece whose remaining audio does not fit into the buffer.
    pub(super) fn cut(&mut self, id: u64) {
        if let Some(piece) = self.queue.iter_mut().find(|piece| piece.id == id) {
            piece.is_growing = false;
        }
    }

    /// Takes the duration of a piece's audio, or the reason why there is no audio.
    pub(super) fn made(&mut self, now: Instant, id: u64, made: Result<Duration, String>) {
        let Some(index) = self.queue.iter().position(|piece| piece.id == id) else { return };
        match made {
            Ok(length) => {
                if let Some(piece) = self.queue.get_mut(index) {
                    piece.is_growing = false;
                    piece.state = match piece.state {
                        PieceState::Put(_) => PieceState::Put(length),
                        _ => PieceState::Made(length),
                    };
                }
            }
            Err(why) => {
                let is_file = self.queue.remove(index).is_some_and(|piece| matches!(piece.content, Content::File(..)));
                let engine = if is_file { Engine::File } else { Engine::Voice };
                self.outputs.push_back(TurnOutput::EngineFailed(EngineFailure::new(engine, why.clone())));
                self.send_event(ConversationEvent::Problem(why));
                self.log_heard_reply();
            }
        }
        self.advance(now);
    }

    /// Handles the mark behind a piece. The playout has reached this mark.
    pub(super) fn handle_mark(&mut self, now: Instant, id: u64) {
        let Some(front) = self.queue.front_mut() else { return };
        let PieceState::Put(length) = front.state else { return };
        if front.id != id {
            return;
        }
        let reply = front.reply;
        match &mut front.content {
            Content::File(_, times) if *times > 1 => {
                *times -= 1;
                front.state = PieceState::Made(length);
            }
            _ => self.heard_whole(reply),
        }
        if let Some(playing) = &mut self.playing {
            playing.piece_began = now;
        }
        self.advance(now);
    }

    /// Handles the end of the first piece in the queue, which the caller has heard completely.
    fn heard_whole(&mut self, reply: u64) {
        let Some(piece) = self.queue.pop_front() else { return };
        self.outputs.push_back(TurnOutput::Forget { piece: piece.id });
        match piece.content {
            Content::Text(text, _) => {
                if let Some(playing) = self.playing.as_mut().filter(|playing| playing.reply == reply) {
                    playing.text.push_str(&text);
                }
                self.played(&text);
            }
            Content::File(url, _) => self.note(ConversationFact::Played(url)),
            Content::Digits(_) => {}
        }
        self.log_heard_reply();
    }

    /// Logs the part of a reply that the caller heard, if no other piece of this reply follows.
    fn log_heard_reply(&mut self) {
        let Some(playing) = &mut self.playing else { return };
        let goes_on = self.queue.iter().any(|piece| piece.reply == playing.reply)
            || self.writing.as_ref().is_some_and(|writing| writing.reply == playing.reply);
        if !goes_on && !playing.text.trim().is_empty() {
            let text = std::mem::take(&mut playing.text);
            self.note(ConversationFact::Spoken(text.trim().to_owned()));
        }
    }

    /// Whether the conversation takes the words of the caller.
    pub(super) fn listens(&self) -> bool {
        self.listens
    }

    /// Starts or stops to take the words and digits of the caller.
    fn listen(&mut self, now: Instant, listens: bool) {
        if std::mem::replace(&mut self.listens, listens) && !listens {
            (self.caller_speaks, self.interrupts_at) = (false, None);
            self.resume(now);
        }
    }

    /// Handles a DTMF digit from the caller.
    pub(super) fn handle_digit(&mut self, now: Instant, digit: char) {
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
    pub(super) fn handle_sound(&mut self, now: Instant) {
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
    pub(super) fn handle_recognition(&mut self, now: Instant, event: RecognitionEvent) {
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

    /// Whether the playout continues although the caller spoke these words. Such words only show agreement, or they are
    /// an echo of the reply.
    fn is_no_interruption(&self, text: &str) -> bool {
        let says = self.queue.iter().take(MAX_AHEAD + 1).filter_map(|piece| match &piece.content {
            Content::Text(text, _) => Some(text.as_str()),
            _ => None,
        });
        words::is_agreement(text) || words::is_echo(text, says)
    }

    fn prompt(&mut self, now: Instant, words: RecognisedText, last: bool) {
        let text = words.text();
        let end_of_turn = words.end_of_turn.filter(|_| last);
        if text.trim().is_empty() {
            if self.spec.words_decide_interruption && last {
                // The recogniser found no words, so the sound was a noise.
                if !self.caller_speaks {
                    self.resume(now);
                }
                self.send_event(ConversationEvent::Prompt {
                    text: String::new(),
                    language: self.recognition_language.clone(),
                    last,
                    end_of_turn,
                });
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
            }
            return;
        }
        if speaking.is_some_and(|by| by.speech) {
            self.interrupt(now, "speech");
        } else if speaking.is_some() && !self.spec.reports.speech {
            if last {
                self.note(ConversationFact::Heard { text, sent: false });
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

    /// Handles the timeouts that are due at `now`.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
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

    /// Returns the inputs that may interrupt the current piece. Returns `None` if no piece plays.
    fn interrupted_by(&self) -> Option<Inputs> {
        self.queue.front().filter(|piece| matches!(piece.state, PieceState::Put(_))).map(|piece| piece.by)
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

    fn enqueue(&mut self, reply: u64, content: Content, by: Inputs, preemptible: bool) {
        let waiting: usize = self.queue.iter().map(|piece| piece.content.octets()).sum();
        if self.queue.len() >= MAX_PIECES || waiting + content.octets() > MAX_TEXT {
            // Thousands of pieces may be dropped. So the error is reported once, and again only after the queue had
            // room.
            if !std::mem::replace(&mut self.full, true) {
                self.send_event(ConversationEvent::Problem(
                    "too much text waits to be spoken: this text and what follows are dropped until there is room"
                        .to_owned(),
                ));
            }
            return;
        }
        self.full = false;
        let id = self.next_piece;
        self.next_piece += 1;
        self.queue.push_back(Piece {
            id,
            reply,
            content,
            by,
            preemptible,
            state: PieceState::Waiting,
            is_growing: false,
        });
    }

    /// Drops the preemptible pieces when a new reply starts.
    fn preempt(&mut self, now: Instant) {
        if self.queue.front().is_some_and(|piece| piece.preemptible && matches!(piece.state, PieceState::Put(_))) {
            // All pieces in the buffer have the same value of `preemptible`.
            let fragment = self.fragment(now);
            self.played(&fragment);
            if let Some(playing) = &mut self.playing {
                playing.text.push_str(&fragment);
            }
            self.outputs.push_back(TurnOutput::Clear);
        }
        let (cut, kept): (VecDeque<_>, _) =
            std::mem::take(&mut self.queue).into_iter().partition(|piece| piece.preemptible);
        self.queue = kept;
        self.forget(cut);
        self.log_heard_reply();
        self.fall_silent_if_done();
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

    /// Drops the pieces that are not in the buffer yet.
    fn withdraw(&mut self) {
        let (kept, cut): (VecDeque<_>, _) =
            std::mem::take(&mut self.queue).into_iter().partition(|piece| matches!(piece.state, PieceState::Put(_)));
        self.queue = kept;
        self.forget(cut);
        self.phrases = Phrases::default();
        self.writing = None;
        self.turns.withdrawn();
        self.log_heard_reply();
    }

    /// Returns the part of the current text that the caller has heard. The length of this part is proportional to the
    /// elapsed time. The part ends at a word boundary.
    fn fragment(&self, now: Instant) -> String {
        let Some((piece, playing)) = self.queue.front().zip(self.playing.as_ref()) else { return String::new() };
        let (Content::Text(text, _), PieceState::Put(length)) = (&piece.content, piece.state) else {
            return String::new();
        };
        let elapsed = self.stopped_at.unwrap_or(now).saturating_duration_since(playing.piece_began);
        if elapsed >= length && !piece.is_growing {
            return text.clone();
        }
        // The length of audio that is still being made is an estimate, and the last words are not heard yet.
        let most = if piece.is_growing { 0.9 } else { 1.0 };
        let part = (elapsed.as_secs_f64() / length.as_secs_f64().max(0.001)).min(most);
        let characters = (text.chars().count() as f64 * part) as usize;
        let end = text.char_indices().nth(characters).map_or(text.len(), |(at, _)| at);
        let heard = text.get(..end).unwrap_or_default();
        let word = heard.rfind(char::is_whitespace).unwrap_or_default();
        heard.get(..word).unwrap_or_default().to_owned()
    }

    fn forget(&mut self, pieces: VecDeque<Piece>) {
        self.outputs.extend(pieces.into_iter().map(|piece| TurnOutput::Forget { piece: piece.id }));
    }

    /// Prepares and plays the next pieces.
    fn advance(&mut self, now: Instant) {
        self.make();
        self.put(now);
        self.fall_silent_if_done();
    }

    fn make(&mut self) {
        let ready = self
            .queue
            .iter()
            .map(|piece| if let PieceState::Made(length) = piece.state { length } else { Duration::ZERO });
        if ready.sum::<Duration>() >= MAX_READY_AUDIO {
            return;
        }
        let is_making = |piece: &&Piece| piece.state == PieceState::Making || piece.is_growing;
        let making = self.queue.iter().filter(is_making).count();
        let waiting = self.queue.iter_mut().filter(|piece| piece.state == PieceState::Waiting);
        for piece in waiting.take(MAX_MAKING.saturating_sub(making)) {
            let source = match &piece.content {
                Content::Text(text, language) => AudioSource::Speech(Speech {
                    text: spoken(text, &self.pronunciations),
                    ssml: is_markup(text),
                    voice: self.spec.language_settings(language).voice.clone(),
                    language: Some(language.clone()),
                }),
                Content::File(url, _) => AudioSource::Url(url.clone()),
                Content::Digits(_) => {
                    piece.state = PieceState::Made(Duration::ZERO);
                    continue;
                }
            };
            piece.state = PieceState::Making;
            self.outputs.push_back(TurnOutput::Make { piece: piece.id, source });
        }
    }

    fn put(&mut self, now: Instant) {
        loop {
            // If words decide about interruptions, the agent does not start to speak while the caller speaks.
            let caller_first = self.spec.words_decide_interruption && self.caller_speaks && !self.agent_speaks;
            if self.held_back || caller_first {
                return;
            }
            let put = self.queue.iter().take_while(|piece| matches!(piece.state, PieceState::Put(_))).count();
            let alike = self.queue.front().map(|first| first.preemptible);
            let Some(piece) = self.queue.get_mut(put) else { return };
            let PieceState::Made(length) = piece.state else { return };
            if let Content::Digits(digits) = &piece.content {
                if put > 0 {
                    return;
                }
                let digits = digits.clone();
                // Audio that is put into the buffer after the digits waits by itself until the digits end.
                self.outputs.push_back(TurnOutput::SendDigits(digits.clone()));
                self.played(&digits);
                self.queue.pop_front();
                self.make();
                continue;
            }
            if put > MAX_AHEAD || (put > 0 && alike != Some(piece.preemptible)) {
                return;
            }
            piece.state = PieceState::Put(length);
            let (id, reply) = (piece.id, piece.reply);
            self.outputs.push_back(TurnOutput::Put { piece: id });
            if put == 0 {
                self.begins(now, reply);
            }
        }
    }

    /// Handles the start of a piece of this reply.
    fn begins(&mut self, now: Instant, reply: u64) {
        match &mut self.playing {
            Some(playing) if playing.reply == reply => playing.piece_began = now,
            playing => *playing = Some(PlayingReply { reply, text: String::new(), began: now, piece_began: now }),
        }
        self.first_audio(now, reply);
        if !std::mem::replace(&mut self.agent_speaks, true) && self.spec.reports_speakers {
            self.send_event(ConversationEvent::AgentSpeaking(true));
        }
    }

    fn fall_silent_if_done(&mut self) {
        if self.queue.is_empty() && std::mem::take(&mut self.agent_speaks) && self.spec.reports_speakers {
            self.send_event(ConversationEvent::AgentSpeaking(false));
        }
        if self.queue.is_empty()
            && self.writing.is_none()
            && let Some(pending_end) = self.pending_end.take()
            && !std::mem::replace(&mut self.over, true)
        {
            self.outputs.push_back(TurnOutput::End(pending_end));
        }
        // The piece that plays next may belong to another reply.
        if let (Some(playing), Some(front)) = (&mut self.playing, self.queue.front())
            && matches!(front.state, PieceState::Put(_))
            && playing.reply != front.reply
        {
            let (now, reply) = (playing.piece_began, front.reply);
            *playing = PlayingReply { reply, text: String::new(), began: now, piece_began: now };
            self.first_audio(now, reply);
        }
    }

    /// Handles the start of a reply's playout.
    fn first_audio(&mut self, now: Instant, reply: u64) {
        if let Some(turn) = self.turns.spoke(now, reply) {
            self.note(ConversationFact::Turn(turn));
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

impl Content {
    /// The usual duration of the audio. The result is exact only for digits, which have no audio.
    fn estimated_length(&self) -> Duration {
        match self {
            Self::Text(text, _) => LETTER * u32::try_from(text.chars().count()).unwrap_or(u32::MAX),
            Self::File(..) | Self::Digits(_) => Duration::ZERO,
        }
    }

    fn octets(&self) -> usize {
        match self {
            Self::Text(text, _) | Self::File(text, _) | Self::Digits(text) => text.len(),
        }
    }
}

#[cfg(test)]
#[path = "turn_taking_tests.rs"]
mod tests;
