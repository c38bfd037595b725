//! Speech recognition of a gather: collects the words and detects the end of the speech.
//!
//! ```text
//!   listening --Began--> speaking --Paused--> pausing --the pause is long enough--> finishing --Ended--> over
//!       ^                   ^---- Began ---------/ \---- Final, if that is sufficient ----------------------> over
//!       \------------------- no words were recognised ------------------------------------/
//! ```

use std::time::Duration;

use crate::call::Call;
use crate::event::EventKind;
use crate::id::{LegId, OpId};
use crate::output::LegCommand;
use crate::program::Signal;
use crate::program::instruction::GatherSpeech;
use crate::recognition::{RecognisedText, RecognitionEvent, joined};

/// Maximum pause if the recogniser decides where an utterance ends. After this pause the recogniser may have received
/// only noise.
const UNDECIDED: Duration = Duration::from_secs(2);
/// Maximum time for the last results of the recogniser.
const LAST_WORDS: Duration = Duration::from_secs(15);

/// The speech recognition of a running gather.
pub(crate) struct SpeechGather {
    speech: Box<GatherSpeech>,
    /// Id of the running recognition; `None` if it has ended.
    op: Option<OpId>,
    /// The final words recognised so far.
    words: RecognisedText,
    /// Number of utterances with a confidence value; needed for the mean.
    sure: u16,
    speaking: bool,
    finishing: bool,
    /// Number of partial results that were reported.
    told: u32,
    /// Timer for the pause after speech. If `finishing` is true, timer for the last results.
    pause: Option<OpId>,
    /// Timer for the maximum duration of the speech.
    longest: Option<OpId>,
}

/// The meaning of a signal for the gather.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SpeechProgress {
    Nothing,
    /// Speech started.
    Voice,
    /// Words were recognised.
    Words,
    /// The sound was not speech, or the recognition failed.
    Silence,
    /// The speech is complete.
    Over,
}

impl SpeechGather {
    pub(crate) fn begin(call: &mut Call, leg: LegId, speech: Box<GatherSpeech>) -> Self {
        let mut this = Self {
            speech,
            op: None,
            words: RecognisedText::default(),
            sure: 0,
            speaking: false,
            finishing: false,
            told: 0,
            pause: None,
            longest: None,
        };
        this.listen(call, leg);
        this
    }

    fn listen(&mut self, call: &mut Call, leg: LegId) {
        let op = call.new_op();
        call.order(leg, LegCommand::Listen { op, how: Box::new(self.speech.listening.clone()) });
        (self.op, self.speaking, self.finishing) = (Some(op), false, false);
    }

    /// Returns whether the recognition has final words.
    pub(crate) fn has_words(&self) -> bool {
        !self.words.stable.is_empty()
    }

    pub(crate) fn handle(&mut self, call: &mut Call, leg: LegId, signal: &Signal) -> SpeechProgress {
        match signal {
            Signal::Heard { op, heard } if self.op == Some(*op) => self.hear(call, leg, heard),
            Signal::RecognitionEnded { op, failed } if self.op == Some(*op) => {
                self.op = None;
                self.cancel_timers(call, leg);
                if let Some(why) = failed {
                    call.emit(leg, EventKind::RecognitionFailed { why: why.clone() });
                }
                match (self.has_words(), failed) {
                    (true, _) => SpeechProgress::Over,
                    (false, Some(_)) => SpeechProgress::Silence,
                    (false, None) => {
                        self.listen(call, leg);
                        SpeechProgress::Silence
                    }
                }
            }
            Signal::Timer(op) if self.pause == Some(*op) => {
                self.pause = None;
                if self.finishing { SpeechProgress::Over } else { self.finish(call, leg) }
            }
            Signal::Timer(op) if self.longest == Some(*op) => {
                self.longest = None;
                if self.finishing { SpeechProgress::Nothing } else { self.finish(call, leg) }
            }
            _ => SpeechProgress::Nothing,
        }
    }

    fn hear(&mut self, call: &mut Call, leg: LegId, heard: &RecognitionEvent) -> SpeechProgress {
        match heard {
            RecognitionEvent::Began => {
                self.speaking = true;
                if !self.finishing {
                    self.cancel(call, leg, self.pause);
                    self.pause = None;
                }
                if self.longest.is_none() {
                    self.longest = Some(call.timer(leg, self.speech.longest));
                }
                SpeechProgress::Voice
            }
            RecognitionEvent::Paused => {
                self.speaking = false;
                if !self.finishing {
                    self.cancel(call, leg, self.pause);
                    self.pause = Some(call.timer(leg, self.speech.pause.unwrap_or(UNDECIDED)));
                }
                SpeechProgress::Nothing
            }
            RecognitionEvent::Partial(words) => {
                self.tell(call, leg, words);
                SpeechProgress::Words
            }
            RecognitionEvent::Final(words) if words.text().is_empty() => {
                let idle = !self.speaking && !self.finishing && !self.has_words();
                if !idle {
                    return SpeechProgress::Nothing;
                }
                self.cancel_timers(call, leg);
                SpeechProgress::Silence
            }
            RecognitionEvent::Final(words) => {
                self.tell(call, leg, words);
                self.add(words);
                let enough = self.speech.pause.is_none() && !self.speaking && !self.finishing;
                if enough { SpeechProgress::Over } else { SpeechProgress::Words }
            }
        }
    }

    fn add(&mut self, words: &RecognisedText) {
        if let Some(confidence) = words.confidence {
            let before = self.words.confidence.unwrap_or_default() * f32::from(self.sure);
            self.sure = self.sure.saturating_add(1);
            self.words.confidence = Some((before + confidence) / f32::from(self.sure));
        }
        self.words.stable = joined(&self.words.stable, &words.text());
        self.words.language = words.language.clone().or(self.words.language.take());
    }

    /// Reports the words recognised so far to the callback for partial results, if there is a callback.
    fn tell(&mut self, call: &mut Call, leg: LegId, words: &RecognisedText) {
        let Some(callback) = self.speech.partials.clone() else { return };
        let so_far = RecognisedText { stable: joined(&self.words.stable, &words.stable), ..words.clone() };
        let sequence = self.told;
        self.told += 1;
        call.emit(leg, EventKind::GatherPartial { words: so_far, sequence, callback });
    }

    /// Stops the recognition of new speech and waits for the last results of the recogniser.
    fn finish(&mut self, call: &mut Call, leg: LegId) -> SpeechProgress {
        let Some(op) = self.op else { return SpeechProgress::Over };
        call.order(leg, LegCommand::FinishRecognition { op });
        self.cancel_timers(call, leg);
        self.finishing = true;
        self.pause = Some(call.timer(leg, LAST_WORDS));
        SpeechProgress::Nothing
    }

    fn cancel_timers(&mut self, call: &mut Call, leg: LegId) {
        self.cancel(call, leg, self.pause);
        self.cancel(call, leg, self.longest);
        (self.pause, self.longest) = (None, None);
    }

    fn cancel(&self, call: &mut Call, leg: LegId, timer: Option<OpId>) {
        if let Some(op) = timer {
            call.timers.cancel(leg, op);
        }
    }

    /// Ends the recognition and returns the final words.
    pub(crate) fn end(mut self, call: &mut Call, leg: LegId) -> RecognisedText {
        self.cancel_timers(call, leg);
        if let Some(op) = self.op {
            call.order(leg, LegCommand::StopRecognition { op });
        }
        self.words
    }
}
