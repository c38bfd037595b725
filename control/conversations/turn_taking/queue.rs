//! The pieces of the replies: their preparation, their playout, and the part that the caller has heard.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tandem_call::conversation::Inputs;
use tandem_call::engine::{Engine, EngineFailure};
use tandem_call::program::instruction::{AudioSource, Speech};
use tandem_dialect::conversation::ConversationEvent;

use super::super::phrases::{Phrases, is_markup};
use super::super::pronunciation::spoken;
use super::{ConversationFact, MAX_AHEAD, TurnOutput, TurnTaking};

/// Maximum number of waiting pieces. Further pieces are dropped, and the application receives an error.
pub(super) const MAX_PIECES: usize = 512;
/// Maximum length of the waiting text in octets. Further pieces are dropped, and the application receives an error.
const MAX_TEXT: usize = 64 * 1024;
/// Maximum number of pieces whose audio is prepared at the same time.
const MAX_MAKING: usize = 2;
/// If the queue contains this duration of prepared audio, no more audio is prepared. One second of audio takes as much
/// memory as one page of text.
pub(super) const MAX_READY_AUDIO: Duration = Duration::from_secs(20);
/// The time that a usual voice needs for a letter.
const LETTER: Duration = Duration::from_millis(66);

/// A piece of a reply.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) id: u64,
    pub(super) reply: u64,
    pub(super) content: Content,
    pub(super) by: Inputs,
    pub(super) preemptible: bool,
    pub(super) state: PieceState,
    /// Whether the audio of the piece is still being made, although the piece may already play. The length in `state` is
    /// then an estimate.
    pub(super) is_growing: bool,
}

#[derive(Debug)]
pub(super) enum Content {
    /// The text, and the language of its speech.
    Text(String, String),
    /// The URL of a file, and the number of times that the file is still to be played.
    File(String, u32),
    /// DTMF digits.
    Digits(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PieceState {
    Waiting,
    Making,
    Made(Duration),
    /// The piece is in the buffer of the media session. The duration is the length of its audio.
    Put(Duration),
}

/// The part of a reply that the caller has heard.
#[derive(Debug)]
pub(super) struct PlayingReply {
    pub(super) reply: u64,
    /// The text of the pieces that the caller heard completely.
    pub(super) text: String,
    pub(super) began: Instant,
    /// The time at which the current piece started to play.
    pub(super) piece_began: Instant,
}

impl TurnTaking {
    /// Handles the first audio of a piece whose audio is still being made. The piece can be played from now on.
    pub(in super::super) fn audio_began(&mut self, now: Instant, id: u64) {
        if let Some(piece) = self.queue.iter_mut().find(|piece| piece.id == id && piece.state == PieceState::Making) {
            piece.state = PieceState::Made(piece.content.estimated_length());
            piece.is_growing = true;
        }
        self.advance(now);
    }

    /// Handles the end of a piece whose remaining audio does not fit into the buffer.
    pub(in super::super) fn cut(&mut self, id: u64) {
        if let Some(piece) = self.queue.iter_mut().find(|piece| piece.id == id) {
            piece.is_growing = false;
        }
    }

    /// Takes the duration of a piece's audio, or the reason why there is no audio.
    pub(in super::super) fn made(&mut self, now: Instant, id: u64, made: Result<Duration, String>) {
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
                self.outputs.push_back(TurnOutput::Forget { piece: id });
                self.log_heard_reply();
            }
        }
        self.advance(now);
    }

    /// Handles the mark behind a piece. The playout has reached this mark.
    pub(in super::super) fn handle_mark(&mut self, now: Instant, id: u64) {
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
    pub(super) fn log_heard_reply(&mut self) {
        let Some(playing) = &mut self.playing else { return };
        let goes_on = self.queue.iter().any(|piece| piece.reply == playing.reply)
            || self.writing.as_ref().is_some_and(|writing| writing.reply == playing.reply);
        if !goes_on && !playing.text.trim().is_empty() {
            let text = std::mem::take(&mut playing.text);
            self.note(ConversationFact::Spoken(text.trim().to_owned()));
        }
    }

    pub(super) fn enqueue(&mut self, reply: u64, content: Content, by: Inputs, preemptible: bool) {
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
    pub(super) fn preempt(&mut self, now: Instant) {
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

    /// Drops the pieces that are not in the buffer yet.
    pub(super) fn withdraw(&mut self) {
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
    pub(super) fn fragment(&self, now: Instant) -> String {
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

    pub(super) fn forget(&mut self, pieces: VecDeque<Piece>) {
        self.outputs.extend(pieces.into_iter().map(|piece| TurnOutput::Forget { piece: piece.id }));
    }

    /// Prepares and plays the next pieces.
    pub(super) fn advance(&mut self, now: Instant) {
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
            // If words decide about interruptions, the agent does not start to speak while the caller speaks. The last words do
            // not wait: a noise without end would delay the end of the conversation without end.
            let is_last = self.pending_end.is_some();
            let caller_first =
                self.spec.words_decide_interruption && self.caller_speaks && !self.agent_speaks && !is_last;
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
            _ => self.start_reply(now, reply),
        }
        self.first_audio(now, reply);
        if !std::mem::replace(&mut self.agent_speaks, true) && self.spec.reports_speakers {
            self.send_event(ConversationEvent::AgentSpeaking(true));
        }
    }

    pub(super) fn fall_silent_if_done(&mut self) {
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
        if let (Some(playing), Some(front)) = (&self.playing, self.queue.front())
            && matches!(front.state, PieceState::Put(_))
            && playing.reply != front.reply
        {
            let (now, reply) = (playing.piece_began, front.reply);
            self.start_reply(now, reply);
            self.first_audio(now, reply);
        }
    }

    /// Makes this reply the current one. Another reply may continue later, so the log gets the part that the caller heard.
    fn start_reply(&mut self, now: Instant, reply: u64) {
        let next = PlayingReply { reply, text: String::new(), began: now, piece_began: now };
        let earlier = self.playing.replace(next).map(|playing| playing.text).unwrap_or_default();
        if !earlier.trim().is_empty() {
            self.note(ConversationFact::Spoken(earlier.trim().to_owned()));
        }
    }

    /// Handles the start of a reply's playout.
    fn first_audio(&mut self, now: Instant, reply: u64) {
        if let Some(turn) = self.turns.spoke(now, reply) {
            self.note(ConversationFact::Turn(turn));
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
