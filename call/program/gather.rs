//! The gather instruction. It plays prompts, then collects digits. Enough digits, a terminator or silence ends the
//! collection. A gather can also recognise speech. The first input of the caller decides between digits and speech.

use serde::{Deserialize, Serialize};

use crate::call::Abort;
use crate::event::{EventKind, GatherEnd};
use crate::fetch::FetchReason;
use crate::leg_cx::LegCx;
use crate::program::instruction::Gather;
use crate::program::play::Playing;
use crate::program::speech_gather::{SpeechGather, SpeechProgress};
use crate::program::{Input, Running, Step};
use crate::recognition::RecognisedText;
use crate::resume::Standing;
use tandem_id::OpId;

/// Maximum number of digits if the application sets no limit. The gather ends at this number.
const MAX_DIGITS: usize = 1000;

/// A running gather.
#[derive(Serialize, Deserialize)]
pub(crate) struct Gathering {
    gather: Gather,
    digits: String,
    attempt: u32,
    prompt: Option<(usize, Playing)>,
    /// Whether the timer for the silence before the first digit waits for a command.
    holds_timers: bool,
    /// Timer for silence. Every digit restarts this timer. A noise without words does not, so the noises of a street
    /// do not keep a gather open.
    silence: Option<OpId>,
    /// Whether `silence` expired while the caller was speaking. If the recogniser then finds no words, the gather ends.
    silence_expired: bool,
    /// Timer for the maximum duration of an attempt.
    total: Option<OpId>,
    recognition: SpeechState,
}

/// State of the speech recognition of a gather.
#[derive(Serialize, Deserialize)]
enum SpeechState {
    /// The gather has no speech recognition. It collects only digits.
    None,
    /// The recognition starts when the prompts have ended.
    Closed,
    /// The recognition runs. As soon as it has words, digits are ignored.
    Open(Box<SpeechGather>),
    /// The recognition ended with this text.
    Done(RecognisedText),
}

/// Result of a gather.
struct Outcome {
    end: GatherEnd,
    terminator: Option<char>,
}

impl Gathering {
    pub(crate) fn begin(cx: &mut LegCx<'_>, gather: Gather) -> Self {
        let recognition = Self::recognition(cx, &gather);
        let mut this = Self {
            digits: String::new(),
            attempt: 1,
            prompt: None,
            holds_timers: gather.holds_timers,
            gather,
            silence: None,
            silence_expired: false,
            total: None,
            recognition,
        };
        this.prompt_from(cx, 0);
        this
    }

    /// Returns the speech recognition at the beginning of an attempt.
    fn recognition(cx: &mut LegCx<'_>, gather: &Gather) -> SpeechState {
        match &gather.speech {
            None => SpeechState::None,
            Some(speech) if gather.barge_in => SpeechState::Open(Box::new(SpeechGather::begin(cx, speech.clone()))),
            Some(_) => SpeechState::Closed,
        }
    }

    pub(crate) fn handle_in_runner(mut self: Box<Self>, cx: &mut LegCx<'_>, input: &Input) -> Step {
        let Some(outcome) = self.handle_input(cx, input) else { return Step::Stay(Running::Gather(self)) };
        let Self { gather, digits, recognition, .. } = self.report(cx, &outcome);
        let words_alone = gather.speech.as_ref().is_some_and(|speech| !speech.digits);
        match (gather.action, recognition) {
            (Some(action), SpeechState::Done(words)) if !words.stable.is_empty() => {
                Step::Fetch(action, FetchReason::GatheredSpeech(words))
            }
            (Some(action), _) if words_alone && gather.action_on_empty => {
                Step::Fetch(action, FetchReason::GatheredSpeech(RecognisedText::default()))
            }
            (Some(action), _) if !digits.is_empty() || gather.action_on_empty => {
                Step::Fetch(action, FetchReason::Gathered { digits, terminator: outcome.terminator })
            }
            _ => Step::Next,
        }
    }

    /// Does the same as [`Self::handle_in_runner`] for a gather that runs at the same time as the leg's program.
    /// Returns `None` if the gather has ended.
    pub(crate) fn handle(mut self: Box<Self>, cx: &mut LegCx<'_>, input: &Input) -> Option<Box<Self>> {
        match self.handle_input(cx, input) {
            Some(outcome) => {
                self.report(cx, &outcome);
                None
            }
            None => Some(self),
        }
    }

    pub(crate) fn abort(mut self, cx: &mut LegCx<'_>, why: Abort) {
        let end = if why == Abort::Hangup { GatherEnd::Hangup } else { GatherEnd::Stopped };
        if let Some((_, playing)) = self.prompt.take() {
            playing.abort(cx, why);
        }
        self.report(cx, &Outcome { end, terminator: None });
    }

    pub(crate) fn resume(&self, standing: &mut Standing<'_>) {
        if let Some((_, playing)) = &self.prompt {
            playing.resume(standing);
        }
        if let SpeechState::Open(speech_gather) = &self.recognition {
            speech_gather.resume(standing);
        }
    }

    fn handle_input(&mut self, cx: &mut LegCx<'_>, input: &Input) -> Option<Outcome> {
        if let Some(outcome) = self.listen(cx, input) {
            return Some(outcome);
        }
        match input {
            Input::Dtmf(digit) => self.pressed(cx, *digit),
            Input::Timer(op) if self.silence == Some(*op) && self.speaks() => {
                (self.silence, self.silence_expired) = (None, true);
                None
            }
            Input::Timer(op) if self.silence == Some(*op) || self.total == Some(*op) => self.timed_out(cx),
            input => {
                let (index, playing) = self.prompt.take()?;
                match playing.finished(cx, input) {
                    Some(playing) => self.prompt = Some((index, playing)),
                    None => self.prompt_from(cx, index + 1),
                }
                None
            }
        }
    }

    /// Passes an input to the speech recognition. Returns the result if this input ends the gather.
    fn listen(&mut self, cx: &mut LegCx<'_>, input: &Input) -> Option<Outcome> {
        let SpeechState::Open(speech_gather) = &mut self.recognition else { return None };
        match speech_gather.handle(cx, input) {
            SpeechProgress::Nothing => None,
            SpeechProgress::Voice | SpeechProgress::Words => {
                self.interrupt_prompt(cx);
                None
            }
            SpeechProgress::Silence if self.silence_expired => self.timed_out(cx),
            SpeechProgress::Silence => {
                self.start_silence(cx);
                None
            }
            SpeechProgress::Over => Some(Outcome { end: GatherEnd::Valid, terminator: None }),
        }
    }

    /// Returns whether the caller speaks, or has spoken and the words are not complete.
    fn speaks(&self) -> bool {
        matches!(&self.recognition, SpeechState::Open(speech_gather) if speech_gather.is_busy())
    }

    fn has_words(&self) -> bool {
        matches!(&self.recognition, SpeechState::Open(speech_gather) if speech_gather.has_words())
    }

    /// Ends the attempt, because a timer expired.
    fn timed_out(&mut self, cx: &mut LegCx<'_>) -> Option<Outcome> {
        let digits = self.digits.len() >= self.gather.min_digits as usize && !self.digits.is_empty();
        let end = if digits || self.has_words() { GatherEnd::Valid } else { GatherEnd::Timeout };
        self.finish_or_retry(cx, end, None)
    }

    /// Stops the prompts because the caller pressed a digit or spoke.
    fn interrupt_prompt(&mut self, cx: &mut LegCx<'_>) {
        if let Some((_, playing)) = self.prompt.take() {
            playing.abort(cx, Abort::Stopped);
            self.start_total(cx);
        }
    }

    fn pressed(&mut self, cx: &mut LegCx<'_>, digit: char) -> Option<Outcome> {
        let digits = self.gather.speech.as_ref().is_none_or(|speech| speech.digits);
        if !digits || self.has_words() || (self.prompt.is_some() && !self.gather.barge_in) {
            return None;
        }
        self.interrupt_prompt(cx);
        self.stop_recognition(cx);
        cx.cancel_timer(self.silence);
        self.silence = None;
        if self.gather.terminators.contains(digit) {
            let enough = self.digits.len() >= self.gather.min_digits as usize;
            let end = match (enough, self.digits.is_empty()) {
                (_, true) => GatherEnd::Timeout,
                (true, false) => GatherEnd::Valid,
                (false, false) => GatherEnd::Invalid,
            };
            return self.finish_or_retry(cx, end, Some(digit));
        }
        if self.gather.valid_digits.as_ref().is_some_and(|valid| !valid.contains(digit)) {
            self.digits.push(digit);
            return self.finish_or_retry(cx, GatherEnd::Invalid, None);
        }
        self.digits.push(digit);
        if self.digits.len() >= self.gather.max_digits.map_or(MAX_DIGITS, |max| max as usize) {
            return Some(Outcome { end: GatherEnd::Valid, terminator: None });
        }
        self.silence = Some(cx.timer(self.gather.inter_digit_timeout));
        None
    }

    fn finish_or_retry(&mut self, cx: &mut LegCx<'_>, end: GatherEnd, key: Option<char>) -> Option<Outcome> {
        if end == GatherEnd::Valid || self.attempt >= self.gather.tries {
            return Some(Outcome { end, terminator: key });
        }
        self.attempt += 1;
        self.digits.clear();
        cx.cancel_timer(self.silence);
        cx.cancel_timer(self.total);
        (self.silence, self.silence_expired, self.total) = (None, false, None);
        self.stop_recognition(cx);
        self.recognition = Self::recognition(cx, &self.gather);
        self.prompt_from(cx, 0);
        None
    }

    /// Plays the prompt with this index. If there is no such prompt, starts the timers.
    fn prompt_from(&mut self, cx: &mut LegCx<'_>, index: usize) {
        let retry = self.attempt > 1 && !self.gather.retry_prompts.is_empty();
        let prompts = if retry { &self.gather.retry_prompts } else { &self.gather.prompts };
        match prompts.get(index).cloned() {
            Some(play) => self.prompt = Some((index, Playing::start(cx, play, true))),
            None => {
                if let (SpeechState::Closed, Some(speech)) = (&self.recognition, &self.gather.speech) {
                    self.recognition = SpeechState::Open(Box::new(SpeechGather::begin(cx, speech.clone())));
                }
                self.start_total(cx);
                self.start_silence(cx);
            }
        }
    }

    /// Starts the timer for the silence before the first digit, if the prompts have ended and no command must come
    /// first.
    fn start_silence(&mut self, cx: &mut LegCx<'_>) {
        if self.prompt.is_none() && self.silence.is_none() && !self.holds_timers {
            self.silence = Some(cx.timer(self.gather.first_digit_timeout));
        }
    }

    /// Starts the timer that waits for a command. If the caller has pressed a digit or speaks, another timer runs
    /// already, or the end of the speech starts the timer.
    pub(crate) fn start_timers(&mut self, cx: &mut LegCx<'_>) {
        self.holds_timers = false;
        if self.digits.is_empty() && !self.speaks() && !self.has_words() {
            self.start_silence(cx);
        }
    }

    fn start_total(&mut self, cx: &mut LegCx<'_>) {
        if self.total.is_none() {
            self.total = self.gather.total_timeout.map(|timeout| cx.timer(timeout));
        }
    }

    /// Ends the speech recognition, and stores the words that were recognised so far.
    fn stop_recognition(&mut self, cx: &mut LegCx<'_>) {
        self.recognition = match std::mem::replace(&mut self.recognition, SpeechState::None) {
            SpeechState::Open(speech_gather) => SpeechState::Done(speech_gather.end(cx)),
            other => other,
        };
    }

    fn report(mut self, cx: &mut LegCx<'_>, outcome: &Outcome) -> Self {
        self.stop_recognition(cx);
        cx.cancel_timer(self.silence);
        cx.cancel_timer(self.total);
        let (digits, id) = (self.digits.clone(), self.gather.id.clone());
        let words = match &self.recognition {
            SpeechState::Done(words) if !words.stable.is_empty() => Some(Box::new(words.clone())),
            _ => None,
        };
        let (end, terminator, callback) = (outcome.end, outcome.terminator, self.gather.callback.clone());
        cx.emit(EventKind::GatherEnded { digits, end, terminator, id, words, callback });
        self
    }
}
