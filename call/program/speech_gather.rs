//! Speech recognition of a gather. It collects the words and detects the end of the speech.
//!
//! ```text
//!   listening --Began--> speaking --Paused--> pausing --the pause is long enough--> finishing --Ended--> over
//!     ^    \                ^---- Began ---------/ ^\---- Final, if that is sufficient ---------------------> over
//!     |     \------------------- words -----------/
//!     \------------------- no words were recognised ------------------------------------/
//! ```
//!
//! The detector of speech (`Began`, `Paused`) and the recogniser (words) work independently. The recogniser may find
//! words in a sound that the detector does not report, and the detector may report a sound that has no words. So words
//! count as speech whether or not the detector reported speech, and each state except `listening` has a timer.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, EngineFailure};
use crate::event::EventKind;
use crate::leg_cx::LegCx;
use crate::output::LegCommand;
use crate::program::Input;
use crate::program::instruction::GatherSpeech;
use crate::recognition::{RecognisedText, RecognitionEvent, joined};
use crate::resume::Standing;
use tandem_id::OpId;

/// Maximum pause after speech if the recogniser decides where an utterance ends. The limit is necessary, because the
/// recogniser may have received only noise.
const MAX_UTTERANCE_PAUSE: Duration = Duration::from_secs(2);
/// Maximum time for which the gather waits for the last results of the recogniser.
const FINAL_RESULTS_TIMEOUT: Duration = Duration::from_secs(15);

/// The speech recognition of a running gather.
#[derive(Serialize, Deserialize)]
pub(crate) struct SpeechGather {
    speech: Box<GatherSpeech>,
    /// Id of the running recognition; `None` if it has ended.
    op: Option<OpId>,
    /// The final words recognised so far.
    words: RecognisedText,
    /// The last words of the current utterance that may still change.
    unfinished: String,
    /// Number of utterances that have a confidence value. The mean confidence is computed with this number.
    confidence_count: u16,
    speaking: bool,
    finishing: bool,
    /// Number of partial results that were reported.
    partial_count: u32,
    /// Timer for the pause after speech. If `finishing` is true, this is the timer for the last results.
    pause: Option<OpId>,
    /// Timer for the maximum duration of the speech.
    max_duration: Option<OpId>,
}

/// The effect of an input on the gather.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SpeechProgress {
    Nothing,
    /// Speech started.
    Voice,
    /// Words were recognised.
    Words,
    /// The sound was not speech, the recogniser withdrew its words, or the recognition failed.
    Silence,
    /// The speech is complete.
    Over,
}

impl SpeechGather {
    pub(crate) fn begin(cx: &mut LegCx<'_>, speech: Box<GatherSpeech>) -> Self {
        let mut this = Self {
            speech,
            op: None,
            words: RecognisedText::default(),
            unfinished: String::new(),
            confidence_count: 0,
            speaking: false,
            finishing: false,
            partial_count: 0,
            pause: None,
            max_duration: None,
        };
        this.listen(cx);
        this
    }

    fn listen(&mut self, cx: &mut LegCx<'_>) {
        let op = cx.new_op();
        cx.command(LegCommand::StartRecognition { op, spec: Box::new(self.speech.recognition.clone()) });
        (self.op, self.speaking, self.finishing) = (Some(op), false, false);
    }

    pub(crate) fn resume(&self, standing: &mut Standing<'_>) {
        let Some(op) = self.op else { return };
        let spec = Box::new(self.speech.recognition.clone());
        standing.command(LegCommand::StartRecognition { op, spec });
        if self.finishing {
            standing.command(LegCommand::FinishRecognition { op });
        }
    }

    /// Returns whether the recognition has words, final or not.
    pub(crate) fn has_words(&self) -> bool {
        !self.words.stable.is_empty() || !self.unfinished.is_empty()
    }

    /// Returns whether the caller speaks, or speech ended so recently that its end is not certain or its words are not
    /// known. A timer of this recognition then limits this state.
    pub(crate) fn is_busy(&self) -> bool {
        self.op.is_some() && (self.speaking || self.pause.is_some())
    }

    pub(crate) fn handle(&mut self, cx: &mut LegCx<'_>, input: &Input) -> SpeechProgress {
        match input {
            Input::Recognition { op, event } if self.op == Some(*op) => self.handle_event(cx, event),
            Input::RecognitionEnded { op, failed } if self.op == Some(*op) => {
                self.op = None;
                self.cancel_timers(cx);
                if let Some(why) = failed {
                    cx.emit(EventKind::EngineFailed(EngineFailure::new(Engine::Recogniser, why)));
                }
                match (self.has_words(), failed) {
                    (true, _) => SpeechProgress::Over,
                    (false, Some(_)) => SpeechProgress::Silence,
                    (false, None) => {
                        self.listen(cx);
                        SpeechProgress::Silence
                    }
                }
            }
            Input::Timer(op) if self.pause == Some(*op) => {
                self.pause = None;
                if self.finishing { SpeechProgress::Over } else { self.finish(cx) }
            }
            Input::Timer(op) if self.max_duration == Some(*op) => {
                self.max_duration = None;
                self.finish(cx)
            }
            _ => SpeechProgress::Nothing,
        }
    }

    fn handle_event(&mut self, cx: &mut LegCx<'_>, event: &RecognitionEvent) -> SpeechProgress {
        match event {
            RecognitionEvent::Began => {
                self.speaking = true;
                if !self.finishing {
                    cx.cancel_timer(self.pause);
                    self.pause = None;
                }
                self.limit_duration(cx);
                SpeechProgress::Voice
            }
            RecognitionEvent::Paused => {
                self.speaking = false;
                self.await_pause(cx);
                SpeechProgress::Nothing
            }
            RecognitionEvent::Partial(words) if words.text().is_empty() && self.unfinished.is_empty() => {
                SpeechProgress::Nothing
            }
            // The sound had no words, or the recogniser withdraws its words.
            RecognitionEvent::Partial(words) | RecognitionEvent::Final(words) if words.text().is_empty() => {
                self.unfinished.clear();
                let idle = !self.speaking && !self.finishing && !self.has_words();
                if !idle {
                    return SpeechProgress::Nothing;
                }
                self.cancel_timers(cx);
                SpeechProgress::Silence
            }
            RecognitionEvent::Partial(words) => {
                self.report_partial(cx, words);
                let text = words.text();
                if text == self.unfinished {
                    return SpeechProgress::Words;
                }
                self.unfinished = text;
                self.limit_duration(cx);
                if !self.speaking {
                    self.await_pause(cx);
                }
                SpeechProgress::Words
            }
            RecognitionEvent::Final(words) => {
                self.report_partial(cx, words);
                self.unfinished.clear();
                self.add(words);
                if self.speech.pause.is_none() && !self.speaking && !self.finishing {
                    return SpeechProgress::Over;
                }
                self.limit_duration(cx);
                if !self.speaking && self.pause.is_none() {
                    self.await_pause(cx);
                }
                SpeechProgress::Words
            }
        }
    }

    /// Starts the timer for the maximum duration of the speech, unless the timer runs.
    fn limit_duration(&mut self, cx: &mut LegCx<'_>) {
        if self.max_duration.is_none() && !self.finishing {
            self.max_duration = Some(cx.timer(self.speech.max_duration));
        }
    }

    /// Starts the timer for the pause after speech anew.
    fn await_pause(&mut self, cx: &mut LegCx<'_>) {
        if !self.finishing {
            cx.cancel_timer(self.pause);
            self.pause = Some(cx.timer(self.speech.pause.unwrap_or(MAX_UTTERANCE_PAUSE)));
        }
    }

    fn add(&mut self, words: &RecognisedText) {
        if let Some(confidence) = words.confidence {
            let before = self.words.confidence.unwrap_or_default() * f32::from(self.confidence_count);
            self.confidence_count = self.confidence_count.saturating_add(1);
            self.words.confidence = Some((before + confidence) / f32::from(self.confidence_count));
        }
        self.words.stable = joined(&self.words.stable, &words.text());
        self.words.language = words.language.clone().or(self.words.language.take());
    }

    /// Reports the words recognised so far to the callback for partial results, if there is a callback.
    fn report_partial(&mut self, cx: &mut LegCx<'_>, words: &RecognisedText) {
        let Some(callback) = self.speech.partials.clone() else { return };
        let so_far = RecognisedText { stable: joined(&self.words.stable, &words.stable), ..words.clone() };
        let sequence = self.partial_count;
        self.partial_count += 1;
        cx.emit(EventKind::GatherPartial { words: so_far, sequence, callback });
    }

    /// Stops the recognition of new speech and waits for the last results of the recogniser.
    fn finish(&mut self, cx: &mut LegCx<'_>) -> SpeechProgress {
        let Some(op) = self.op else { return SpeechProgress::Over };
        cx.command(LegCommand::FinishRecognition { op });
        self.cancel_timers(cx);
        self.finishing = true;
        self.pause = Some(cx.timer(FINAL_RESULTS_TIMEOUT));
        SpeechProgress::Nothing
    }

    fn cancel_timers(&mut self, cx: &mut LegCx<'_>) {
        cx.cancel_timer(self.pause);
        cx.cancel_timer(self.max_duration);
        (self.pause, self.max_duration) = (None, None);
    }

    /// Ends the recognition and returns the words. The last words of a recogniser that did not complete its utterance
    /// count too, because the caller said them.
    pub(crate) fn end(mut self, cx: &mut LegCx<'_>) -> RecognisedText {
        self.cancel_timers(cx);
        if let Some(op) = self.op {
            cx.command(LegCommand::StopRecognition { op });
        }
        self.words.stable = joined(&self.words.stable, &self.unfinished);
        self.words
    }
}
