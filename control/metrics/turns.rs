//! The turns between a caller and an application, and the response times of the application. This module performs no
//! I/O.
//!
//! ```text
//!   caller speaks ─► end of speech ─► words ─► first token ─► first audio      a conversation's turn
//!                    end of speech ───────────────────────► first audio        a stream's turn
//! ```
//!
//! All times of a turn count from the end of the caller's speech.

use std::fmt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A turn whose reply has started to play.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turn {
    /// Number of the turn. The first turn has the number 1.
    pub number: u32,
    /// Time until the final words were recognised. `None` for a stream, because the stream's application recognises the
    /// words itself.
    pub words: Option<Duration>,
    /// Time until the first message of the application's reply. `None` for a stream.
    pub token: Option<Duration>,
    /// Time until the reply's first audio was passed to the media engine. The engine sends the audio within 20 ms.
    pub audio: Duration,
}

/// The turns of a conversation or a stream.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    /// The last time at which the caller stopped speaking. `None` after the words of the caller are recognised or the
    /// audio of the reply starts.
    paused: Option<Instant>,
    open: Option<Open>,
    totals: Totals,
}

/// The totals of all turns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Number of turns whose reply started to play.
    pub turns: u32,
    /// Number of interrupted replies.
    pub interruptions: u32,
    /// Sum of the times to the first audio, over all turns.
    pub audio: Duration,
    /// Longest time to the first audio of a turn.
    pub longest: Duration,
}

/// An open turn. The words of the turn are recognised, and the reply has not started to play.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// The end of the caller's speech. `None` until the voice detector reports the end.
    ended: Option<Instant>,
    words: Instant,
    /// The time at which the reply started, and the number of the reply.
    token: Option<(Instant, u64)>,
}

impl Turns {
    /// Handles a pause of the caller that began at this time.
    pub fn caller_paused(&mut self, at: Instant) {
        match &mut self.open {
            // A streaming recogniser may report the words before the voice detector reports the pause.
            Some(open) if open.ended.is_none() => open.ended = Some(at),
            _ => self.paused = Some(at),
        }
    }

    /// Handles the recognition of the caller's final words.
    pub fn heard(&mut self, now: Instant) {
        // Further words before the reply belong to the same turn. The times of this turn count from the latest end of
        // speech.
        let earlier = self.open.filter(|open| open.token.is_none()).and_then(|open| open.ended);
        self.open = Some(Open { ended: self.paused.take().or(earlier), words: now, token: None });
    }

    /// Handles the start of a reply of the application.
    pub fn replied(&mut self, now: Instant, reply: u64) {
        if let Some(open) = &mut self.open {
            open.token.get_or_insert((now, reply));
        }
    }

    /// Handles the first audio of a reply. Returns the turn that is complete now. Returns `None` if the reply belongs
    /// to no turn, or if the end of speech is unknown.
    pub fn spoke(&mut self, now: Instant, reply: u64) -> Option<Turn> {
        let (token, of) = self.open?.token?;
        if reply < of {
            return None;
        }
        let open = self.open.take()?;
        // A pause after the start of the turn was a noise without words. The next audio is not a reply to this noise.
        self.paused = None;
        let ended = open.ended?;
        let since = |at: Instant| at.saturating_duration_since(ended);
        Some(self.close(Some(since(open.words)), Some(since(token)), since(now)))
    }

    /// Handles the first audio of a stream's application after a silence. Returns the turn that is complete now.
    /// Returns `None` if the caller has not spoken before.
    pub fn spoke_at_last(&mut self, now: Instant) -> Option<Turn> {
        let ended = self.paused.take()?;
        Some(self.close(None, None, now.saturating_duration_since(ended)))
    }

    /// Handles an interruption of the application's audio. If the audio was the reply of an open turn, this turn ends.
    pub fn interrupted(&mut self) {
        self.open = None;
        self.totals.interruptions = self.totals.interruptions.saturating_add(1);
    }

    /// Cancels the reply that has started. The caller continues to speak, and the turn stays open.
    pub fn withdrawn(&mut self) {
        if let Some(open) = &mut self.open {
            open.token = None;
        }
    }

    /// Returns the totals of all turns so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    fn close(&mut self, words: Option<Duration>, token: Option<Duration>, audio: Duration) -> Turn {
        let totals = &mut self.totals;
        totals.turns = totals.turns.saturating_add(1);
        totals.audio = totals.audio.saturating_add(audio);
        totals.longest = totals.longest.max(audio);
        Turn { number: totals.turns, words, token, audio }
    }
}

impl Turn {
    /// Returns the turn as JSON for a call's log, with times in milliseconds.
    pub fn json(&self) -> Value {
        let ms = |time: Option<Duration>| time.map(|time| time.as_millis() as u64);
        let Self { number, words, token, audio } = self;
        json!({
            "event": "turn", "turn": number, "words_ms": ms(*words), "token_ms": ms(*token), "audio_ms": ms(Some(*audio)),
        })
    }
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "turn {}: from the end of speech", self.number)?;
        if let Some(words) = self.words {
            write!(f, " {} ms to the words,", words.as_millis())?;
        }
        if let Some(token) = self.token {
            write!(f, " {} ms to the first token,", token.as_millis())?;
        }
        write!(f, " {} ms to the first audio", self.audio.as_millis())
    }
}

impl Totals {
    /// Returns the mean time to the first audio, or `None` if there are no turns.
    pub fn mean(&self) -> Option<Duration> {
        self.audio.checked_div(self.turns)
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count: u32| if count == 1 { "" } else { "s" };
        let (turns, cut) = (self.turns, self.interruptions);
        write!(f, "{turns} turn{}, {cut} interruption{}", plural(turns), plural(cut))?;
        match self.mean() {
            Some(mean) => {
                let longest = self.longest.as_millis();
                write!(f, ", end of speech to first audio {} ms on average, {longest} ms at most", mean.as_millis())
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a virtual clock: a function from milliseconds after the start to an instant.
    fn clock() -> impl Fn(u64) -> Instant {
        #[expect(clippy::disallowed_methods, reason = "any Instant will do as the start of a virtual clock")]
        let start = Instant::now();
        move |ms| start + Duration::from_millis(ms)
    }

    fn ms(time: u64) -> Duration {
        Duration::from_millis(time)
    }

    #[test]
    fn each_step_of_a_turn_counts_from_the_end_of_speech() {
        let (at, mut turns) = (clock(), Turns::default());
        turns.caller_paused(at(1_000));
        turns.heard(at(1_380));
        turns.replied(at(1_500), 7);
        turns.replied(at(1_510), 8);
        assert_eq!(turns.spoke(at(1_520), 6), None, "the audio of an earlier reply");
        let turn = turns.spoke(at(1_560), 7).unwrap();
        assert_eq!(turn, Turn { number: 1, words: Some(ms(380)), token: Some(ms(500)), audio: ms(560) });
        assert_eq!(turns.spoke(at(1_700), 7), None, "a turn has its first audio once");
        assert_eq!(
            turn.to_string(),
            "turn 1: from the end of speech 380 ms to the words, 500 ms to the first token, 560 ms to the first audio"
        );
        assert_eq!(
            turn.json(),
            json!({ "event": "turn", "turn": 1, "words_ms": 380, "token_ms": 500, "audio_ms": 560 })
        );
    }

    #[test]
    fn words_recognised_before_the_pause_take_no_time() {
        let (at, mut turns) = (clock(), Turns::default());
        turns.heard(at(900));
        turns.caller_paused(at(1_000));
        turns.replied(at(1_100), 1);
        let turn = turns.spoke(at(1_200), 1).unwrap();
        assert_eq!((turn.words, turn.token, turn.audio), (Some(ms(0)), Some(ms(100)), ms(200)));
    }

    #[test]
    fn a_turn_counts_from_the_pause_before_the_last_words() {
        let (at, mut turns) = (clock(), Turns::default());
        turns.caller_paused(at(1_000));
        turns.heard(at(1_300));
        turns.caller_paused(at(2_000));
        turns.heard(at(2_200));
        turns.heard(at(2_250));
        // The caller coughs, without words.
        turns.caller_paused(at(2_600));
        turns.replied(at(2_700), 1);
        let turn = turns.spoke(at(2_800), 1).unwrap();
        assert_eq!((turn.words, turn.token, turn.audio), (Some(ms(250)), Some(ms(700)), ms(800)));
    }

    #[test]
    fn an_unprompted_reply_is_no_turn() {
        let (at, mut turns) = (clock(), Turns::default());
        turns.replied(at(0), 1);
        assert_eq!(turns.spoke(at(10), 1), None);
        turns.heard(at(500));
        turns.replied(at(600), 2);
        assert_eq!(turns.spoke(at(700), 2), None, "nobody knows when the caller stopped");
        assert_eq!(turns.totals(), Totals::default());
        assert_eq!(turns.totals().to_string(), "0 turns, 0 interruptions");
    }

    #[test]
    fn a_stream_has_a_turn_when_its_application_speaks_after_the_caller() {
        let (at, mut turns) = (clock(), Turns::default());
        assert_eq!(turns.spoke_at_last(at(10)), None);
        turns.caller_paused(at(1_000));
        let turn = turns.spoke_at_last(at(1_480)).unwrap();
        assert_eq!((turn.words, turn.token, turn.audio), (None, None, ms(480)));
        assert_eq!(turn.to_string(), "turn 1: from the end of speech 480 ms to the first audio");
        assert_eq!(turns.spoke_at_last(at(2_000)), None);
        turns.interrupted();
        turns.caller_paused(at(3_000));
        turns.spoke_at_last(at(3_520));
        assert_eq!(
            turns.totals().to_string(),
            "2 turns, 1 interruption, end of speech to first audio 500 ms on average, 520 ms at most"
        );
    }

    #[test]
    fn a_reply_interrupted_before_its_audio_is_no_turn() {
        let (at, mut turns) = (clock(), Turns::default());
        turns.caller_paused(at(0));
        turns.heard(at(100));
        turns.replied(at(200), 1);
        turns.interrupted();
        assert_eq!(turns.spoke(at(300), 1), None);
        assert_eq!((turns.totals().turns, turns.totals().interruptions), (0, 1));
    }
}
