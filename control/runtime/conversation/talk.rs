//! What happens in a conversation: who speaks, what is heard of it, what cuts it short. Pure.
//!
//! ```text
//!   application ──Ask──► phrases ──► queue ──Make──► made ──Put──► heard ──► reached (its mark came back)
//!   caller ──keys, voice, words──► Tell; and, as far as the rules let him, Clear: all that waits is forgotten
//! ```
//!
//! What is in the media's own buffer cannot be taken back piece by piece, so that few pieces are put there ahead, and none whose
//! fate may differ from that of the ones before it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tandem_call::conversation::{ConversationSpec, ConversationStatus, Inputs, Sensitivity};
use tandem_call::hearing::Heard;
use tandem_call::program::instruction::{AudioSource, Speech};
use tandem_call::stream::StreamFault;
use tandem_dialect::conversation::{Ask, Cutting, Parting, Told};
use tandem_speech::recognise::PAUSE;

use super::phrases::{Phrases, is_markup};
use super::words;
use crate::turns::{Totals, Turn, Turns};

/// Pieces that wait; beyond them the application is told that it is too far ahead.
const MOST_PIECES: usize = 512;
/// Text that waits, octets; likewise.
const MOST_TEXT: usize = 64 * 1024;
/// Pieces being made at a time.
const MAKING: usize = 2;
/// Audio that was made and waits for its turn; beyond it no more is made, for a second of it takes as much room as a page of text.
const ENOUGH: Duration = Duration::from_secs(20);
/// Pieces put ahead of the one that is heard.
const AHEAD: usize = 2;
/// A voice that lasts so long is an interruption, where words decide and none are known yet.
const LONG_VOICE: Duration = Duration::from_millis(700);
/// From a pause until what was stopped goes on, where no words are known by then.
const NO_WORDS: Duration = Duration::from_millis(600);
/// From a sound to the time that a voice must be known by.
const NO_VOICE: Duration = Duration::from_millis(200);
/// Messages in a row that meant nothing before the application is given up.
const MOST_MALFORMED: u32 = 10;

/// One conversation.
#[derive(Debug)]
pub(super) struct Talk {
    spec: ConversationSpec,
    speaks: String,
    hears: String,
    phrases: Phrases,
    /// How the phrase that is being written is to be cut, and spoken.
    writing: Option<Writing>,
    queue: VecDeque<Piece>,
    /// The last one found no room, and the application was told so.
    full: bool,
    next_piece: u64,
    next_reply: u64,
    /// What is heard of the reply that is being said.
    said: Option<Said>,
    agent_speaks: bool,
    caller_speaks: bool,
    /// When the caller's voice counts as an interruption.
    interrupts_at: Option<Instant>,
    /// Where words decide: what is said has stopped, since then.
    stopped_at: Option<Instant>,
    /// When it goes on if nothing speaks against it.
    resumes_at: Option<Instant>,
    /// Nothing further is put for now.
    held_back: bool,
    /// How the conversation ends once all has been heard.
    parting: Option<Parting>,
    malformed: u32,
    over: bool,
    turns: Turns,
    orders: VecDeque<Order>,
}

/// Something to be done.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Order {
    /// Make the audio of a piece; answered by [`Talk::made`].
    Make {
        /// Which.
        piece: u64,
        /// What.
        source: AudioSource,
    },
    /// Append the audio of a piece to what is heard, and a mark behind it.
    Put {
        /// Which.
        piece: u64,
    },
    /// Forget the audio of a piece, or never make it.
    Forget {
        /// Which.
        piece: u64,
    },
    /// Cut what is put and not heard yet. Marks of such pieces mean nothing any more.
    Clear,
    /// Stop what is heard where it is.
    Pause,
    /// Go on with it.
    Resume,
    /// Send DTMF.
    Press(String),
    /// Tell the application.
    Tell(Told),
    /// Write down what happened.
    Note(Fact),
    /// Understand this language from now on.
    Listen(String),
    /// It is over in this way.
    Part(Parting),
    /// It is over: how the leg hears of it, and whether the application is to hear that it cannot be understood.
    Over {
        /// How.
        status: ConversationStatus,
        /// It is closed for that.
        malformed: bool,
    },
}

/// Something that happened, for the call's log.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Fact {
    /// The caller said this.
    Heard {
        /// The words.
        text: String,
        /// Whether the application was told; it is not while it speaks and may not be interrupted, nor of words of agreement
        /// meanwhile.
        told: bool,
    },
    /// The caller heard this of a reply, which is over.
    Said(String),
    /// The caller heard a file.
    Played(String),
    /// A piece of a reply could not be spoken or played.
    NotSaid(String),
    /// The caller cut a reply short.
    Interrupted {
        /// How: `speech`, `a key`.
        by: &'static str,
        /// How long the reply had been heard.
        after: Duration,
        /// What was heard of it.
        heard: String,
    },
    /// A reply to the caller began to be heard.
    Turn(Turn),
}

/// The application's reply that is being written.
#[derive(Debug, Clone)]
struct Writing {
    reply: u64,
    by: Inputs,
    preemptible: bool,
    language: String,
}

/// Something to be heard.
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
    /// Text and the language it is spoken in.
    Text(String, String),
    /// A file, and how often it is still to be heard.
    File(String, u32),
    /// Keys.
    Keys(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Making,
    Made(Duration),
    /// In the media's buffer.
    Put(Duration),
}

/// What is heard of a reply.
#[derive(Debug)]
struct Said {
    reply: u64,
    /// The pieces of it that were heard whole.
    text: String,
    began: Instant,
    /// When the piece that is heard now began.
    piece_began: Instant,
}

impl Talk {
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

    /// What is likely to be said in a language, and the recogniser's model for it.
    pub(super) fn ears_for(&self, language: &str) -> (Vec<String>, Option<String>) {
        let manner = self.spec.manner(language);
        (manner.hints.clone(), manner.model.clone())
    }

    /// The next thing to do.
    pub(super) fn poll_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// When [`Self::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.interrupts_at.into_iter().chain(self.resumes_at).min()
    }

    /// The turns so far.
    pub(super) fn totals(&self) -> Totals {
        self.turns.totals()
    }

    /// The application is there: it is greeted for.
    pub(super) fn begin(&mut self, now: Instant) {
        if let Some(greeting) = self.spec.greeting.clone() {
            let cutting = Cutting { by: Some(self.spec.greeting_cut_by), preemptible: None };
            self.say(now, &greeting, true, None, cutting);
        }
    }

    /// The application asks.
    pub(super) fn ask(&mut self, now: Instant, ask: Ask) {
        self.malformed = 0;
        match ask {
            Ask::Say { token, last, language, cutting } => self.say(now, &token, last, language, cutting),
            Ask::Play { url, times, cutting } => {
                self.finish_writing();
                self.preempt(now);
                let reply = self.new_reply();
                self.turns.replied(now, reply);
                self.enqueue(reply, What::File(url, times.max(1)), self.by(cutting), self.is_preemptible(cutting));
            }
            Ask::Press(digits) => {
                self.finish_writing();
                let reply = self.new_reply();
                self.enqueue(reply, What::Keys(digits), self.spec.cut_by, self.spec.preemptible);
            }
            Ask::Language { speaks, hears } => {
                self.finish_writing();
                if let Some(speaks) = speaks {
                    self.speaks = speaks;
                }
                if let Some(hears) = hears.filter(|hears| *hears != self.hears) {
                    self.hears.clone_from(&hears);
                    self.orders.push_back(Order::Listen(hears));
                }
            }
            Ask::End { handoff } => return self.end(ConversationStatus::Ended(handoff), false),
            Ask::Fill(text) => {
                let (reply, language) = (self.new_reply(), self.speaks.clone());
                self.enqueue(reply, What::Text(text, language), self.spec.cut_by, true);
            }
            Ask::HoldBack(held) => self.held_back = held,
            Ask::Withdraw => self.withdraw(),
            Ask::EndAfter(parting) => {
                self.finish_writing();
                self.parting = Some(parting);
            }
        }
        self.go_on(now);
    }

    /// A message of the application meant nothing; this is why.
    pub(super) fn malformed(&mut self, why: String) {
        self.tell(Told::Problem(why));
        self.malformed += 1;
        if self.malformed >= MOST_MALFORMED {
            let why = StreamFault::Protocol.because("too many messages in a row that mean nothing");
            self.end(ConversationStatus::Failed { after_start: true, why }, true);
        }
    }

    /// The audio of a piece is there, or why it is not.
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
                self.note(Fact::NotSaid(why.clone()));
                self.tell(Told::Problem(why));
                self.settle_said();
            }
        }
        self.go_on(now);
    }

    /// The mark behind a piece came back.
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

    /// The piece in front was heard to its end.
    fn heard_whole(&mut self, reply: u64) {
        let Some(piece) = self.queue.pop_front() else { return };
        self.orders.push_back(Order::Forget { piece: piece.id });
        match piece.what {
            What::Text(text, _) => {
                if let Some(said) = self.said.as_mut().filter(|said| said.reply == reply) {
                    said.text.push_str(&text);
                }
                self.played(&text);
            }
            What::File(url, _) => self.note(Fact::Played(url)),
            What::Keys(_) => {}
        }
        self.settle_said();
    }

    /// Writes down what was heard of a reply once nothing more of it follows.
    fn settle_said(&mut self) {
        let Some(said) = &mut self.said else { return };
        let goes_on = self.queue.iter().any(|piece| piece.reply == said.reply)
            || self.writing.as_ref().is_some_and(|writing| writing.reply == said.reply);
        if !goes_on && !said.text.trim().is_empty() {
            let text = std::mem::take(&mut said.text);
            self.note(Fact::Said(text.trim().to_owned()));
        }
    }

    /// The caller pressed a key.
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
        self.tell(Told::Key(key));
    }

    /// Something sounds like the caller's voice, before a recogniser is sure of it.
    pub(super) fn sounds(&mut self, now: Instant) {
        if self.spec.words_decide && !self.caller_speaks && self.cut_by().is_some_and(|by| by.speech) {
            self.stop(now);
            self.resumes_at = Some(now + NO_VOICE);
        }
    }

    /// Something of the caller's voice was heard.
    pub(super) fn heard(&mut self, now: Instant, heard: Heard) {
        match heard {
            Heard::Began => {
                self.caller_speaks = true;
                if self.spec.tells_speakers {
                    self.tell(Told::CallerSpeaking(true));
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
            Heard::Paused => {
                self.turns.caller_paused(now.checked_sub(PAUSE).unwrap_or(now));
                self.caller_speaks = false;
                self.interrupts_at = None;
                self.resumes_at = self.stopped_at.map(|_| now + NO_WORDS);
                if self.spec.tells_speakers {
                    self.tell(Told::CallerSpeaking(false));
                }
                self.go_on(now);
            }
            Heard::Partial(words) => {
                let language = words.language.clone();
                self.prompt(now, words.text(), language, false);
            }
            Heard::Final(words) => {
                let language = words.language.clone();
                self.prompt(now, words.text(), language, true);
            }
        }
    }

    /// What is heard stops, until words decide.
    fn stop(&mut self, now: Instant) {
        if self.stopped_at.is_none() {
            self.stopped_at = Some(now);
            self.orders.push_back(Order::Pause);
        }
    }

    /// What was stopped goes on.
    fn resume(&mut self, now: Instant) {
        self.resumes_at = None;
        let Some(stopped) = self.stopped_at.take() else { return };
        let lost = now.saturating_duration_since(stopped);
        if let Some(said) = &mut self.said {
            said.began += lost;
            said.piece_began += lost;
        }
        self.orders.push_back(Order::Resume);
        self.go_on(now);
    }

    /// Whether words that came while something is heard are no reason to stop it: agreement, or what it says itself.
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
                // There were no words: a noise.
                if !self.caller_speaks {
                    self.resume(now);
                }
                self.tell(Told::Prompt { text: String::new(), language: self.hears.clone(), last });
            }
            return;
        }
        let speaking = self.cut_by();
        if speaking.is_some_and(|by| by.speech) && self.spec.words_decide && self.lets_go_on(&text) {
            if last {
                self.note(Fact::Heard { text, told: false });
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
                self.note(Fact::Heard { text, told: false });
            }
            return;
        }
        if last {
            self.note(Fact::Heard { text: text.clone(), told: true });
            self.turns.heard(now);
        }
        if last || self.spec.partials {
            let language = language.unwrap_or_else(|| self.hears.clone());
            self.tell(Told::Prompt { text, language, last });
        }
    }

    /// Time has come to `now`.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.interrupts_at.take_if(|at| *at <= now).is_some() && self.cut_by().is_some_and(|by| by.speech) {
            self.interrupt(now, "speech");
        }
        if self.resumes_at.is_some_and(|at| at <= now) {
            self.resume(now);
        }
    }

    /// How long a voice must last to be an interruption.
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

    /// What cuts short what is heard now; `None` if nothing is.
    fn cut_by(&self) -> Option<Inputs> {
        self.queue.front().filter(|piece| matches!(piece.state, State::Put(_))).map(|piece| piece.by)
    }

    fn by(&self, cutting: Cutting) -> Inputs {
        cutting.by.unwrap_or(self.spec.cut_by)
    }

    fn is_preemptible(&self, cutting: Cutting) -> bool {
        cutting.preemptible.unwrap_or(self.spec.preemptible)
    }

    fn new_reply(&mut self) -> u64 {
        self.next_reply += 1;
        self.next_reply
    }

    fn say(&mut self, now: Instant, token: &str, last: bool, language: Option<String>, cutting: Cutting) {
        if self.writing.is_none() {
            self.preempt(now);
        }
        let language = language.unwrap_or_else(|| self.speaks.clone());
        let (by, preemptible) = (self.by(cutting), self.is_preemptible(cutting));
        match &mut self.writing {
            Some(writing) if (writing.by, writing.preemptible) == (by, preemptible) && writing.language == language => {
            }
            writing => {
                // What was written until now is a phrase of its own, of the same reply.
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

    /// Nothing more of this reply follows.
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
            // Once until there is room again: it may be thousands.
            if !std::mem::replace(&mut self.full, true) {
                self.tell(Told::Problem(
                    "too much waits to be said: this and what follows is dropped until there is room".to_owned(),
                ));
            }
            return;
        }
        self.full = false;
        let id = self.next_piece;
        self.next_piece += 1;
        self.queue.push_back(Piece { id, reply, what, by, preemptible, state: State::Waiting });
    }

    /// Something else is to be said: what may be cut short for that, is.
    fn preempt(&mut self, now: Instant) {
        if self.queue.front().is_some_and(|piece| piece.preemptible && matches!(piece.state, State::Put(_))) {
            // All that is put is alike.
            let fragment = self.fragment(now);
            self.played(&fragment);
            if let Some(said) = &mut self.said {
                said.text.push_str(&fragment);
            }
            self.orders.push_back(Order::Clear);
        }
        let (cut, kept): (VecDeque<_>, _) =
            std::mem::take(&mut self.queue).into_iter().partition(|piece| piece.preemptible);
        self.queue = kept;
        self.forget(cut);
        self.settle_said();
        self.fall_silent_if_done();
    }

    /// The caller interrupts: nothing of what waits is said.
    fn interrupt(&mut self, now: Instant, by: &'static str) {
        let fragment = self.fragment(now);
        let (mut heard, after) = self
            .said
            .take()
            .map_or_else(Default::default, |said| (said.text, now.saturating_duration_since(said.began)));
        heard.push_str(&fragment);
        self.played(&fragment);
        self.orders.push_back(Order::Clear);
        let heard = heard.trim_end().to_owned();
        self.turns.interrupted();
        self.note(Fact::Interrupted { by, after, heard: heard.clone() });
        self.tell(Told::Interrupted { heard, after });
        let cut = std::mem::take(&mut self.queue);
        self.forget(cut);
        self.phrases = Phrases::default();
        self.writing = None;
        self.interrupts_at = None;
        self.resumes_at = None;
        if self.stopped_at.take().is_some() {
            self.orders.push_back(Order::Resume);
        }
        self.fall_silent_if_done();
    }

    /// What is not heard yet is forgotten.
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

    /// What was heard of the piece that is heard now: as much of its text as of its time, to the last whole word.
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
        self.orders.extend(pieces.into_iter().map(|piece| Order::Forget { piece: piece.id }));
    }

    /// Makes what is to be made, puts what can be put.
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
            self.orders.push_back(Order::Make { piece: piece.id, source });
        }
    }

    fn put(&mut self, now: Instant) {
        loop {
            // Nobody begins to speak while the caller does, if what he says decides.
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
                // What is put after them waits for them by itself.
                self.orders.push_back(Order::Press(digits.clone()));
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
            self.orders.push_back(Order::Put { piece: id });
            if put == 0 {
                self.begins(now, reply);
            }
        }
    }

    /// A piece of this reply is the one that is heard.
    fn begins(&mut self, now: Instant, reply: u64) {
        match &mut self.said {
            Some(said) if said.reply == reply => said.piece_began = now,
            said => *said = Some(Said { reply, text: String::new(), began: now, piece_began: now }),
        }
        self.first_audio(now, reply);
        if !std::mem::replace(&mut self.agent_speaks, true) && self.spec.tells_speakers {
            self.tell(Told::AgentSpeaking(true));
        }
    }

    fn fall_silent_if_done(&mut self) {
        if self.queue.is_empty() && std::mem::take(&mut self.agent_speaks) && self.spec.tells_speakers {
            self.tell(Told::AgentSpeaking(false));
        }
        if self.queue.is_empty()
            && self.writing.is_none()
            && let Some(parting) = self.parting.take()
            && !std::mem::replace(&mut self.over, true)
        {
            self.orders.push_back(Order::Part(parting));
        }
        // The next piece that is heard may be another reply's.
        if let (Some(said), Some(front)) = (&mut self.said, self.queue.front())
            && matches!(front.state, State::Put(_))
            && said.reply != front.reply
        {
            let (now, reply) = (said.piece_began, front.reply);
            *said = Said { reply, text: String::new(), began: now, piece_began: now };
            self.first_audio(now, reply);
        }
    }

    /// A reply is heard from now on.
    fn first_audio(&mut self, now: Instant, reply: u64) {
        if let Some(turn) = self.turns.spoke(now, reply) {
            self.note(Fact::Turn(turn));
        }
    }

    fn played(&mut self, text: &str) {
        if self.spec.tells_played && !text.trim().is_empty() {
            self.tell(Told::Played(text.trim().to_owned()));
        }
    }

    fn note(&mut self, fact: Fact) {
        self.orders.push_back(Order::Note(fact));
    }

    fn tell(&mut self, told: Told) {
        self.orders.push_back(Order::Tell(told));
    }

    fn end(&mut self, status: ConversationStatus, malformed: bool) {
        if !std::mem::replace(&mut self.over, true) {
            self.orders.push_back(Order::Over { status, malformed });
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
#[path = "talk_tests.rs"]
mod tests;
