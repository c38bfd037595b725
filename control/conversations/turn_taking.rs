//! The course of a conversation: who speaks, what the caller hears, and which inputs interrupt the agent. Pure.
//!
//! ```text
//!   application ──Ask──► phrases ──► queue ──Make──► made ──Put──► playout ──► reached (its mark came back)
//!   caller ──digits, voice, words──► Tell; and, if the rules allow an interruption, Clear: the whole queue is dropped
//! ```
//!
//! A single piece cannot be removed from the buffer of the media session. So only a few pieces are put into the buffer
//! in advance, and only pieces that would be removed together.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tandem_agent::words;
use tandem_call::conversation::{ConversationSpec, ConversationStatus, Inputs, Sensitivity};
use tandem_call::program::instruction::{AudioSource, Speech};
use tandem_call::recognition::RecognitionEvent;
use tandem_call::stream::StreamFault;
use tandem_dialect::conversation::{ConversationCommand, ConversationEnd, ConversationEvent, InterruptPolicy};
use tandem_metrics::turns::{Totals, Turn, Turns};
use tandem_speech::recognise::PAUSE;

use super::phrases::{Phrases, is_markup};

/// Maximum number of waiting pieces. Further pieces are dropped, and the application receives an error.
const MOST_PIECES: usize = 512;
/// Maximum length of the waiting text in octets. Further pieces are dropped, and the application receives an error.
const MOST_TEXT: usize = 64 * 1024;
/// Maximum number of pieces whose audio is prepared at the same time.
const MAKING: usize = 2;
/// Duration of finished audio at which no more audio is prepared. One second of audio takes as much memory as one page
/// of text.
const ENOUGH: Duration = Duration::from_secs(20);
/// Maximum number of pieces that wait in the buffer behind the current piece.
const AHEAD: usize = 2;
/// Duration after which a voice counts as an interruption, if words decide about interruptions and no words are
/// recognised yet.
const LONG_VOICE: Duration = Duration::from_millis(700);
/// Time after a pause of the caller at which paused playout resumes, if no words are recognised.
const NO_WORDS: Duration = Duration::from_millis(600);
/// Time after a sound at which paused playout resumes, if no voice was detected.
const NO_VOICE: Duration = Duration::from_millis(200);
/// Number of consecutive invalid messages after which the conversation ends.
const MOST_MALFORMED: u32 = 10;

/// The state of one conversation.
#[derive(Debug)]
pub(super) struct TurnTaking {
    spec: ConversationSpec,
    speaks: String,
    hears: String,
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
    said: Option<Said>,
    agent_speaks: bool,
    caller_speaks: bool,
    /// The time at which the caller's voice counts as an interruption.
    interrupts_at: Option<Instant>,
    /// The time at which playout was paused. Used only if words decide about interruptions.
    stopped_at: Option<Instant>,
    /// The time at which paused playout resumes, if nothing changes.
    resumes_at: Option<Instant>,
    /// Whether no further pieces may be played at present.
    held_back: bool,
    /// The way in which the conversation ends after all audio is played.
    parting: Option<ConversationEnd>,
    malformed: u32,
    over: bool,
    turns: Turns,
    orders: VecDeque<TurnOutput>,
}

/// An action that the shell performs.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum TurnOutput {
    /// Prepare the audio of a piece. [`TurnTaking::made`] takes the result.
    Make {
        /// The id of the piece.
        piece: u64,
        /// The source of the audio.
        source: AudioSource,
    },
    /// Append the audio of a piece to playout, with a mark behind it.
    Put {
        /// The id of the piece.
        piece: u64,
    },
    /// Drop the audio of a piece, or abort its preparation.
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
    Press(String),
    /// Send this event to the application.
    Tell(ConversationEvent),
    /// Write this fact to the log.
    Note(ConversationFact),
    /// Recognise this language from now on.
    Listen(String),
    /// End the conversation in this way.
    Part(ConversationEnd),
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
    /// The caller said something.
    Heard {
        /// The recognised words.
        text: String,
        /// Whether the words were reported to the application. The words are not reported during a reply that speech
        /// must not interrupt, or if they only show agreement.
        told: bool,
    },
    /// The part of a finished reply that the caller heard.
    Said(String),
    /// The URL of a file that the caller heard.
    Played(String),
    /// A piece of a reply could not be spoken or played, for this reason.
    NotSaid(String),
    /// The caller interrupted a reply.
    Interrupted {
        /// The kind of interruption: `speech` or `a key`.
        by: &'static str,
        /// Time for which the reply had been played.
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
    what: What,
    by: Inputs,
    preemptible: bool,
    state: State,
}

#[derive(Debug)]
enum What {
    /// The text, and the language of its speech.
    Text(String, String),
    /// The URL of a file, and the number of times that the file is still to be played.
    File(String, u32),
    /// DTMF digits.
    Keys(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Making,
    Made(Duration),
    /// The piece is in the buffer of the media session. The duration is the length of its audio.
    Put(Duration),
}

/// The part of a reply that the caller has heard.
#[derive(Debug)]
struct Said {
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
            speaks: spec.speaks.clone(),
            hears: spec.hears.clone(),
            spec,
            phrases: Phrases::default(),
            writing: None,
            queue: VecDeque::new(),
            full: false,
            next_piece: 1,
            next_reply: 1,
            said: None,
            agent_speaks: false,
            caller_speaks: false,
            interrupts_at: None,
            stopped_at: None,
            resumes_at: None,
            held_back: false,
            parting: None,
            malformed: 0,
            over: false,
            turns: Turns::default(),
            orders: VecDeque::new(),
        }
    }

    /// Returns the recogniser's hints (likely phrases) and the recogniser's model for a language.
    pub(super) fn ears_for(&self, language: &str) -> (Vec<String>, Option<String>) {
        let manner = self.spec.manner(language);
        (manner.hints.clone(), manner.model.clone())
    }

    /// Returns the next action.
    pub(super) fn poll_order(&mut self) -> Option<TurnOutput> {
        self.orders.pop_front()
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
            let cutting = InterruptPolicy { by: Some(self.spec.greeting_cut_by), preemptible: None };
            self.say(now, &greeting, true, None, cutting);
        }
    }

    /// Handles a request of the application.
    pub(super) fn ask(&mut self, now: Instant, ask: ConversationCommand) {
        self.malformed = 0;
        match ask {
            ConversationCommand::Say { token, last, language, cutting } => {
                self.say(now, &token, last, language, cutting);
            }
            ConversationCommand::Play { url, times, cutting } => {
                self.finish_writing();
                self.preempt(now);
                let reply = self.new_reply();
                self.turns.replied(now, reply);
                self.enqueue(reply, What::File(url, times.max(1)), self.by(cutting), self.is_preemptible(cutting));
            }
            ConversationCommand::Press(digits) => {
                self.finish_writing();
                let reply = self.new_reply();
                self.enqueue(reply, What::Keys(digits), self.spec.cut_by, self.spec.preemptible);
            }
            ConversationCommand::Language { speaks, hears } => {
                self.finish_writing();
                if let Some(speaks) = speaks {
                    self.speaks = speaks;
                }
                if let Some(hears) = hears.filter(|hears| *hears != self.hears) {
                    self.hears.clone_from(&hears);
                    self.orders.push_back(TurnOutput::Listen(hears));
                }
            }
            ConversationCommand::End { handoff } => return self.end(ConversationStatus::Ended(handoff), false),
            ConversationCommand::Fill(text) => {
                let (reply, language) = (self.new_reply(), self.speaks.clone());
                self.enqueue(reply, What::Text(text, language), self.spec.cut_by, true);
            }
            ConversationCommand::HoldBack(held) => self.held_back = held,
            ConversationCommand::Withdraw => self.withdraw(),
            ConversationCommand::EndAfter(parting) => {
                self.finish_writing();
                self.parting = Some(parting);
            }
        }
        self.go_on(now);
    }

    /// Handles an invalid message of the application. `why` is the error text for the application.
    pub(super) fn malformed(&mut self, why: String) {
        self.tell(ConversationEvent::Problem(why));
        self.malformed += 1;
        if self.malformed >= MOST_MALFORMED {
            let why = StreamFault::Protocol.because("too many invalid messages in a row");
            self.end(ConversationStatus::Failed { after_start: true, why }, true);
        }
    }

    /// Takes the duration of a piece's audio, or the reason why there is no audio.
    pub(super) fn made(&mut self, now: Instant, id: u64, made: Result<Duration, String>) {
        let Some(index) = self.queue.iter().position(|piece| piece.id == id) else { return };
        match made {
            Ok(length) => {
                if let Some(piece) = self.queue.get_mut(index) {
                    piece.state = State::Made(length);
                }
            }
            Err(why) => {
                self.queue.remove(index);
                self.note(ConversationFact::NotSaid(why.clone()));
                self.tell(ConversationEvent::Problem(why));
                self.settle_said();
            }
        }
        self.go_on(now);
    }

    /// Handles the arrival of the playout at the mark behind a piece.
    pub(super) fn reached(&mut self, now: Instant, id: u64) {
        let Some(front) = self.queue.front_mut() else { return };
        let State::Put(length) = front.state else { return };
        if front.id != id {
            return;
        }
        let reply = front.reply;
        match &mut front.what {
            What::File(_, times) if *times > 1 => {
                *times -= 1;
                front.state = State::Made(length);
            }
            _ => self.heard_whole(reply),
        }
        if let Some(said) = &mut self.said {
            said.piece_began = now;
        }
        self.go_on(now);
    }

    /// Handles the end of the first piece in the queue, which the caller has heard completely.
    fn heard_whole(&mut self, reply: u64) {
        let Some(piece) = self.queue.pop_front() else { return };
        self.orders.push_back(TurnOutput::Forget { piece: piece.id });
        match piece.what {
            What::Text(text, _) => {
                if let Some(said) = self.said.as_mut().filter(|said| said.reply == reply) {
                    said.text.push_str(&text);
                }
                self.played(&text);
            }
            What::File(url, _) => self.note(ConversationFact::Played(url)),
            What::Keys(_) => {}
        }
        self.settle_said();
    }

    /// Logs the heard part of a reply if no other piece of this reply follows.
    fn settle_said(&mut self) {
        let Some(said) = &mut self.said else { return };
        let goes_on = self.queue.iter().any(|piece| piece.reply == said.reply)
            || self.writing.as_ref().is_some_and(|writing| writing.reply == said.reply);
        if !goes_on && !said.text.trim().is_empty() {
            let text = std::mem::take(&mut said.text);
            self.note(ConversationFact::Said(text.trim().to_owned()));
        }
    }

    /// Handles a DTMF digit from the caller.
    pub(super) fn key(&mut self, now: Instant, key: char) {
        if !self.spec.keys {
            return;
        }
        let speaking = self.cut_by();
        if speaking.is_some_and(|by| by.keys) {
            self.interrupt(now, "a key");
        } else if speaking.is_some() && !self.spec.reports.keys {
            return;
        }
        self.tell(ConversationEvent::Key(key));
    }

    /// Handles a sound that may be the caller's voice, before the recogniser has detected a voice.
    pub(super) fn sounds(&mut self, now: Instant) {
        if self.spec.words_decide && !self.caller_speaks && self.cut_by().is_some_and(|by| by.speech) {
            self.stop(now);
            self.resumes_at = Some(now + NO_VOICE);
        }
    }

    /// Handles an event of the recogniser.
    pub(super) fn heard(&mut self, now: Instant, heard: RecognitionEvent) {
        match heard {
            RecognitionEvent::Began => {
                self.caller_speaks = true;
                if self.spec.tells_speakers {
                    self.tell(ConversationEvent::CallerSpeaking(true));
                }
                if self.cut_by().is_some_and(|by| by.speech) {
                    if self.spec.words_decide {
                        self.stop(now);
                        self.resumes_at = None;
                    }
                    self.interrupts_at = Some(now + self.patience());
                    self.handle_timeout(now);
                }
            }
            RecognitionEvent::Paused => {
                self.turns.caller_paused(now.checked_sub(PAUSE).unwrap_or(now));
                self.caller_speaks = false;
                self.interrupts_at = None;
                self.resumes_at = self.stopped_at.map(|_| now + NO_WORDS);
                if self.spec.tells_speakers {
                    self.tell(ConversationEvent::CallerSpeaking(false));
                }
                self.go_on(now);
            }
            RecognitionEvent::Partial(words) => {
                let language = words.language.clone();
                self.prompt(now, words.text(), language, false);
            }
            RecognitionEvent::Final(words) => {
                let language = words.language.clone();
                self.prompt(now, words.text(), language, true);
            }
        }
    }

    /// Pauses the playout until recognised words decide about the interruption.
    fn stop(&mut self, now: Instant) {
        if self.stopped_at.is_none() {
            self.stopped_at = Some(now);
            self.orders.push_back(TurnOutput::Pause);
        }
    }

    /// Resumes paused playout.
    fn resume(&mut self, now: Instant) {
        self.resumes_at = None;
        let Some(stopped) = self.stopped_at.take() else { return };
        let lost = now.saturating_duration_since(stopped);
        if let Some(said) = &mut self.said {
            said.began += lost;
            said.piece_began += lost;
        }
        self.orders.push_back(TurnOutput::Resume);
        self.go_on(now);
    }

    /// Whether the playout continues although the caller spoke these words. Such words only show agreement, or they are
    /// an echo of the reply.
    fn lets_go_on(&self, text: &str) -> bool {
        let says = self.queue.iter().take(AHEAD + 1).filter_map(|piece| match &piece.what {
            What::Text(text, _) => Some(text.as_str()),
            _ => None,
        });
        words::is_agreement(text) || words::is_echo(text, says)
    }

    fn prompt(&mut self, now: Instant, text: String, language: Option<String>, last: bool) {
        if text.trim().is_empty() {
            if self.spec.words_decide && last {
                // The recogniser found no words, so the sound was a noise.
                if !self.caller_speaks {
                    self.resume(now);
                }
                self.tell(ConversationEvent::Prompt { text: String::new(), language: self.hears.clone(), last });
            }
            return;
        }
        let speaking = self.cut_by();
        if speaking.is_some_and(|by| by.speech) && self.spec.words_decide && self.lets_go_on(&text) {
            if last {
                self.note(ConversationFact::Heard { text, told: false });
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
                self.note(ConversationFact::Heard { text, told: false });
            }
            return;
        }
        if last {
            self.note(ConversationFact::Heard { text: text.clone(), told: true });
            self.turns.heard(now);
        }
        if last || self.spec.partials {
            let language = language.unwrap_or_else(|| self.hears.clone());
            self.tell(ConversationEvent::Prompt { text, language, last });
        }
    }

    /// Handles the timeouts that are due at `now`.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.interrupts_at.take_if(|at| *at <= now).is_some() && self.cut_by().is_some_and(|by| by.speech) {
            self.interrupt(now, "speech");
        }
        if self.resumes_at.is_some_and(|at| at <= now) {
            self.resume(now);
        }
    }

    /// Returns the duration after which a voice counts as an interruption.
    fn patience(&self) -> Duration {
        if self.spec.words_decide {
            return LONG_VOICE;
        }
        Duration::from_millis(match self.spec.sensitivity {
            Sensitivity::High => 0,
            Sensitivity::Medium => 300,
            Sensitivity::Low => 700,
        })
    }

    /// Returns the inputs that may interrupt the current piece. Returns `None` if no piece plays.
    fn cut_by(&self) -> Option<Inputs> {
        self.queue.front().filter(|piece| matches!(piece.state, State::Put(_))).map(|piece| piece.by)
    }

    fn by(&self, cutting: InterruptPolicy) -> Inputs {
        cutting.by.unwrap_or(self.spec.cut_by)
    }

    fn is_preemptible(&self, cutting: InterruptPolicy) -> bool {
        cutting.preemptible.unwrap_or(self.spec.preemptible)
    }

    fn new_reply(&mut self) -> u64 {
        self.next_reply += 1;
        self.next_reply
    }

    fn say(&mut self, now: Instant, token: &str, last: bool, language: Option<String>, cutting: InterruptPolicy) {
        if self.writing.is_none() {
            self.preempt(now);
        }
        let language = language.unwrap_or_else(|| self.speaks.clone());
        let (by, preemptible) = (self.by(cutting), self.is_preemptible(cutting));
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
                self.turns.replied(now, reply);
                self.writing = Some(Writing { reply, by, preemptible, language });
            }
        }
        for phrase in self.phrases.push(token) {
            self.enqueue_phrase(phrase);
        }
        if last {
            self.finish_writing();
        }
        self.go_on(now);
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
        self.settle_said();
    }

    fn enqueue_phrase(&mut self, phrase: String) {
        if let Some(Writing { reply, by, preemptible, language }) = self.writing.clone() {
            self.enqueue(reply, What::Text(phrase, language), by, preemptible);
        }
    }

    fn enqueue(&mut self, reply: u64, what: What, by: Inputs, preemptible: bool) {
        let waiting: usize = self.queue.iter().map(|piece| piece.what.octets()).sum();
        if self.queue.len() >= MOST_PIECES || waiting + what.octets() > MOST_TEXT {
            // Thousands of pieces may be dropped. So the error is reported once, and again only after the queue had
            // room.
            if !std::mem::replace(&mut self.full, true) {
                self.tell(ConversationEvent::Problem(
                    "too much text waits to be spoken: this text and what follows are dropped until there is room"
                        .to_owned(),
                ));
            }
            return;
        }
        self.full = false;
        let id = self.next_piece;
        self.next_piece += 1;
        self.queue.push_back(Piece { id, reply, what, by, preemptible, state: State::Waiting });
    }

    /// Drops the preemptible pieces when a new reply starts.
    fn preempt(&mut self, now: Instant) {
        if self.queue.front().is_some_and(|piece| piece.preemptible && matches!(piece.state, State::Put(_))) {
            // All pieces in the buffer have the same value of `preemptible`.
            let fragment = self.fragment(now);
            self.played(&fragment);
            if let Some(said) = &mut self.said {
                said.text.push_str(&fragment);
            }
            self.orders.push_back(TurnOutput::Clear);
        }
        let (cut, kept): (VecDeque<_>, _) =
            std::mem::take(&mut self.queue).into_iter().partition(|piece| piece.preemptible);
        self.queue = kept;
        self.forget(cut);
        self.settle_said();
        self.fall_silent_if_done();
    }

    /// Handles an interruption by the caller: drops all pieces in the queue.
    fn interrupt(&mut self, now: Instant, by: &'static str) {
        let fragment = self.fragment(now);
        let (mut heard, after) = self
            .said
            .take()
            .map_or_else(Default::default, |said| (said.text, now.saturating_duration_since(said.began)));
        heard.push_str(&fragment);
        self.played(&fragment);
        self.orders.push_back(TurnOutput::Clear);
        let heard = heard.trim_end().to_owned();
        self.turns.interrupted();
        self.note(ConversationFact::Interrupted { by, after, heard: heard.clone() });
        self.tell(ConversationEvent::Interrupted { heard, after });
        let cut = std::mem::take(&mut self.queue);
        self.forget(cut);
        self.phrases = Phrases::default();
        self.writing = None;
        self.interrupts_at = None;
        self.resumes_at = None;
        if self.stopped_at.take().is_some() {
            self.orders.push_back(TurnOutput::Resume);
        }
        self.fall_silent_if_done();
    }

    /// Drops the pieces that are not in the buffer yet.
    fn withdraw(&mut self) {
        let (kept, cut): (VecDeque<_>, _) =
            std::mem::take(&mut self.queue).into_iter().partition(|piece| matches!(piece.state, State::Put(_)));
        self.queue = kept;
        self.forget(cut);
        self.phrases = Phrases::default();
        self.writing = None;
        self.turns.withdrawn();
        self.settle_said();
    }

    /// Returns the heard part of the text that now plays. The length of this part is proportional to the elapsed time.
    /// The part ends at a word boundary.
    fn fragment(&self, now: Instant) -> String {
        let Some((piece, said)) = self.queue.front().zip(self.said.as_ref()) else { return String::new() };
        let (What::Text(text, _), State::Put(length)) = (&piece.what, piece.state) else { return String::new() };
        let gone = self.stopped_at.unwrap_or(now).saturating_duration_since(said.piece_began);
        if gone >= length {
            return text.clone();
        }
        let part = gone.as_secs_f64() / length.as_secs_f64().max(0.001);
        let characters = (text.chars().count() as f64 * part) as usize;
        let end = text.char_indices().nth(characters).map_or(text.len(), |(at, _)| at);
        let heard = text.get(..end).unwrap_or_default();
        let word = heard.rfind(char::is_whitespace).unwrap_or_default();
        heard.get(..word).unwrap_or_default().to_owned()
    }

    fn forget(&mut self, pieces: VecDeque<Piece>) {
        self.orders.extend(pieces.into_iter().map(|piece| TurnOutput::Forget { piece: piece.id }));
    }

    /// Prepares and plays the next pieces.
    fn go_on(&mut self, now: Instant) {
        self.make();
        self.put(now);
        self.fall_silent_if_done();
    }

    fn make(&mut self) {
        let ready =
            self.queue.iter().map(|piece| if let State::Made(length) = piece.state { length } else { Duration::ZERO });
        if ready.sum::<Duration>() >= ENOUGH {
            return;
        }
        let making = self.queue.iter().filter(|piece| piece.state == State::Making).count();
        let waiting = self.queue.iter_mut().filter(|piece| piece.state == State::Waiting);
        for piece in waiting.take(MAKING.saturating_sub(making)) {
            let source = match &piece.what {
                What::Text(text, language) => AudioSource::Speech(Speech {
                    text: text.clone(),
                    ssml: is_markup(text),
                    voice: self.spec.manner(language).voice.clone(),
                    language: Some(language.clone()),
                }),
                What::File(url, _) => AudioSource::Url(url.clone()),
                What::Keys(_) => {
                    piece.state = State::Made(Duration::ZERO);
                    continue;
                }
            };
            piece.state = State::Making;
            self.orders.push_back(TurnOutput::Make { piece: piece.id, source });
        }
    }

    fn put(&mut self, now: Instant) {
        loop {
            // If words decide about interruptions, the agent does not start to speak while the caller speaks.
            let caller_first = self.spec.words_decide && self.caller_speaks && !self.agent_speaks;
            if self.held_back || caller_first {
                return;
            }
            let put = self.queue.iter().take_while(|piece| matches!(piece.state, State::Put(_))).count();
            let alike = self.queue.front().map(|first| first.preemptible);
            let Some(piece) = self.queue.get_mut(put) else { return };
            let State::Made(length) = piece.state else { return };
            if let What::Keys(digits) = &piece.what {
                if put > 0 {
                    return;
                }
                let digits = digits.clone();
                // Audio that is put into the buffer after the digits waits by itself until the digits end.
                self.orders.push_back(TurnOutput::Press(digits.clone()));
                self.played(&digits);
                self.queue.pop_front();
                self.make();
                continue;
            }
            if put > AHEAD || (put > 0 && alike != Some(piece.preemptible)) {
                return;
            }
            piece.state = State::Put(length);
            let (id, reply) = (piece.id, piece.reply);
            self.orders.push_back(TurnOutput::Put { piece: id });
            if put == 0 {
                self.begins(now, reply);
            }
        }
    }

    /// Handles the start of a piece of this reply.
    fn begins(&mut self, now: Instant, reply: u64) {
        match &mut self.said {
            Some(said) if said.reply == reply => said.piece_began = now,
            said => *said = Some(Said { reply, text: String::new(), began: now, piece_began: now }),
        }
        self.first_audio(now, reply);
        if !std::mem::replace(&mut self.agent_speaks, true) && self.spec.tells_speakers {
            self.tell(ConversationEvent::AgentSpeaking(true));
        }
    }

    fn fall_silent_if_done(&mut self) {
        if self.queue.is_empty() && std::mem::take(&mut self.agent_speaks) && self.spec.tells_speakers {
            self.tell(ConversationEvent::AgentSpeaking(false));
        }
        if self.queue.is_empty()
            && self.writing.is_none()
            && let Some(parting) = self.parting.take()
            && !std::mem::replace(&mut self.over, true)
        {
            self.orders.push_back(TurnOutput::Part(parting));
        }
        // The piece that plays next may belong to another reply.
        if let (Some(said), Some(front)) = (&mut self.said, self.queue.front())
            && matches!(front.state, State::Put(_))
            && said.reply != front.reply
        {
            let (now, reply) = (said.piece_began, front.reply);
            *said = Said { reply, text: String::new(), began: now, piece_began: now };
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
        if self.spec.tells_played && !text.trim().is_empty() {
            self.tell(ConversationEvent::Played(text.trim().to_owned()));
        }
    }

    fn note(&mut self, fact: ConversationFact) {
        self.orders.push_back(TurnOutput::Note(fact));
    }

    fn tell(&mut self, told: ConversationEvent) {
        self.orders.push_back(TurnOutput::Tell(told));
    }

    fn end(&mut self, status: ConversationStatus, malformed: bool) {
        if !std::mem::replace(&mut self.over, true) {
            self.orders.push_back(TurnOutput::Over { status, malformed });
        }
    }
}

impl What {
    fn octets(&self) -> usize {
        match self {
            Self::Text(text, _) | Self::File(text, _) | Self::Keys(text) => text.len(),
        }
    }
}

#[cfg(test)]
#[path = "turn_taking_tests.rs"]
mod tests;
