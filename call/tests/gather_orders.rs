//! Gathers in every order of words, sound, silence and digits. A small model in this file says which result is right.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a broken expectation ends the test"
)]

use std::time::Duration;

use tandem_call::fetch::FetchReason;
use tandem_call::output::LegCommand;
use tandem_call::program::instruction::{Gather, Instruction};
use tandem_call::recognition::{RecognisedText, RecognitionEvent};
use tandem_call::route::Decision;
use tandem_call::testing::*;
use tandem_id::LegId;

/// Something that happens while a gather runs.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Input {
    SpeechStarts,
    SpeechEnds,
    PartialWords,
    FinalWords,
    /// The recogniser found no words.
    NoWords,
    /// The recogniser withdraws its words that may still change. The utterance continues.
    WordsWithdrawn,
    /// One of the digits. If the gather has its number of digits, a further one.
    Key,
    FinishKey,
    /// A silence that is longer than each timeout of the gather, except the maximum duration of speech.
    Silence,
    PromptEnds,
}

use Input::*;

const INPUTS: [Input; 9] =
    [SpeechStarts, SpeechEnds, PartialWords, FinalWords, NoWords, WordsWithdrawn, Key, FinishKey, Silence];
const SILENCE: Duration = Duration::from_secs(12);
const MAX_SPEECH: Duration = Duration::from_secs(120);
/// The time within which every gather ends: the longest speech, the time for the last results of the recogniser, and
/// the silence that may follow if they have no words.
const BOUND: Duration = Duration::from_secs(120 + 15 + 5);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Result {
    Digits(String),
    Words(String),
    Nothing,
}

/// Says what a gather should do, without timers.
#[derive(Default)]
struct Model {
    /// Number of digits at which the gather ends.
    max_digits: Option<usize>,
    has_finish_key: bool,
    takes_digits: bool,
    prompting: bool,
    barge_in: bool,
    /// Whether the silence counts. It counts after the prompt. After a noise that stopped the prompt, it counts when
    /// the recogniser has found no words.
    counting: bool,
    /// Whether the silence lasted long enough while the detector reported speech.
    expired: bool,
    /// Whether the recogniser decides where an utterance ends.
    auto: bool,
    speaking: bool,
    words: Vec<&'static str>,
    partial: Option<&'static str>,
    digits: String,
    result: Option<Result>,
}

impl Model {
    fn handle(&mut self, input: Input) {
        let deaf = self.prompting && !self.barge_in;
        if self.result.is_some() || (deaf && input != PromptEnds) {
            return;
        }
        let spoken = !self.words.is_empty() || self.partial.is_some();
        let keyed = !self.digits.is_empty();
        match input {
            Key | FinishKey if !self.takes_digits => {}
            PromptEnds => {
                self.counting |= self.prompting;
                self.prompting = false;
            }
            Key if spoken => {}
            FinishKey if spoken => {}
            Key | FinishKey if input == Key || !self.has_finish_key => {
                self.prompting = false;
                self.digits.push(if input == Key { '1' } else { '#' });
                if Some(self.digits.len()) == self.max_digits {
                    self.result = Some(Result::Digits(self.digits.clone()));
                }
            }
            Key => {}
            FinishKey if keyed => self.result = Some(Result::Digits(self.digits.clone())),
            FinishKey => self.result = Some(Result::Nothing),
            Silence if self.prompting => {}
            Silence if self.speaking && !keyed => self.expired |= self.counting,
            Silence => self.result = Some(self.collected()),
            // The first key ended the recognition.
            _ if keyed => {}
            SpeechStarts => (self.speaking, self.prompting) = (true, false),
            SpeechEnds => self.speaking = false,
            PartialWords => (self.partial, self.prompting) = (Some("p"), false),
            WordsWithdrawn if self.partial.is_none() => {}
            NoWords | WordsWithdrawn => {
                self.partial = None;
                if !self.speaking && self.words.is_empty() {
                    match self.expired {
                        true => self.result = Some(Result::Nothing),
                        false => self.counting |= !self.prompting,
                    }
                }
            }
            FinalWords => {
                (self.partial, self.prompting) = (None, false);
                self.words.push("w");
                if self.auto && !self.speaking {
                    self.result = Some(self.collected());
                }
            }
        }
    }

    fn collected(&self) -> Result {
        let words: Vec<&str> = self.words.iter().copied().chain(self.partial).collect();
        match (self.digits.is_empty(), words.is_empty()) {
            (false, _) => Result::Digits(self.digits.clone()),
            (true, false) => Result::Words(words.join(" ")),
            (true, true) => Result::Nothing,
        }
    }
}

struct Run {
    script: CallScript,
    /// Whether the recogniser answers the request for its last results. If not, the gather waits 15 s.
    recogniser_answers: bool,
}

/// Creates a call that runs these instructions. Its state is not written after each input, because the tests of this file
/// have many thousand inputs.
fn without_rewrites(instructions: Vec<Instruction>) -> CallScript {
    let mut script = CallScript::new(7);
    script.rewrites = false;
    script.incoming(LegId(1), Decision::Program(program(instructions)));
    script
}

impl Run {
    fn result(&self) -> Option<Result> {
        let script = &self.script;
        let fetched = script.document_requests().find_map(|fetch| match &fetch.reason {
            FetchReason::GatheredSpeech(words) if words.stable.is_empty() => Some(Result::Nothing),
            FetchReason::GatheredSpeech(words) => Some(Result::Words(words.stable.clone())),
            FetchReason::Gathered { digits, .. } if digits.is_empty() => Some(Result::Nothing),
            FetchReason::Gathered { digits, .. } => Some(Result::Digits(digits.clone())),
            _ => None,
        });
        let next = |command: &LegCommand| matches!(command, LegCommand::Play { play, .. } if *play == file("next"));
        fetched.or_else(|| script.has_command(script.leg(), next).then_some(Result::Nothing))
    }

    fn handle(&mut self, input: Input) {
        let text = |text: &str| RecognisedText { stable: text.to_owned(), ..RecognisedText::default() };
        let event = match input {
            SpeechStarts => RecognitionEvent::Began,
            SpeechEnds => RecognitionEvent::Paused,
            PartialWords => RecognitionEvent::Partial(text("p")),
            FinalWords => RecognitionEvent::Final(text("w")),
            NoWords => RecognitionEvent::Final(text("")),
            WordsWithdrawn => RecognitionEvent::Partial(text("")),
            Key => return self.script.sends_digits("1"),
            FinishKey => return self.script.sends_digits("#"),
            Silence => return self.pass(SILENCE),
            PromptEnds => {
                if !self.script.plays.is_empty() && self.result().is_none() {
                    self.script.play_ends(self.script.leg());
                }
                return;
            }
        };
        if !self.script.recognitions.is_empty() {
            self.script.recognises(event);
        }
    }

    /// Lets time pass. The recogniser has no words other than those that it has reported.
    fn pass(&mut self, time: Duration) {
        let end = self.script.now.instant + time;
        while self.script.now.instant < end && self.result().is_none() {
            let now = self.script.now.instant;
            let next = self.script.call.poll_timeout().map_or(end, |at| at.clamp(now, end));
            self.script.advance(next - now);
            let newest = self.script.recognitions.iter().next_back().map(|(_, op)| *op);
            let is_finish =
                |command: &LegCommand| matches!(command, LegCommand::FinishRecognition { op } if Some(*op) == newest);
            if self.recogniser_answers && self.script.has_command(self.script.leg(), is_finish) {
                self.script.recognition_ends(None);
            }
        }
    }
}

/// Runs every sequence of up to `length` inputs.
fn every_order(length: usize, inputs: &[Input], gather: &Gather, recogniser_answers: bool) {
    let mut sequences: Vec<Vec<Input>> = vec![Vec::new()];
    let mut start = 0;
    for _ in 0..length {
        let end = sequences.len();
        for index in start..end {
            for input in inputs {
                let longer = sequences[index].iter().chain([input]).copied().collect();
                sequences.push(longer);
            }
        }
        start = end;
    }
    for sequence in &sequences {
        let program = vec![Instruction::Gather(gather.clone()), Instruction::Play(file("next"))];
        let mut run = Run { script: without_rewrites(program), recogniser_answers };
        let speech = gather.speech.as_ref().unwrap();
        let mut model = Model {
            max_digits: gather.max_digits.map(|digits| digits as usize),
            has_finish_key: !gather.terminators.is_empty(),
            takes_digits: speech.digits,
            prompting: !gather.prompts.is_empty(),
            counting: gather.prompts.is_empty(),
            barge_in: gather.barge_in,
            auto: speech.pause.is_none(),
            ..Model::default()
        };
        for input in sequence {
            run.handle(*input);
            model.handle(*input);
            if recogniser_answers {
                assert_eq!(run.result(), model.result, "after {input:?} of {sequence:?}");
            }
        }
        // Without a prompt, silence ends every gather within the bound.
        run.handle(PromptEnds);
        model.handle(PromptEnds);
        run.pass(BOUND);
        let expected = model.result.clone().unwrap_or_else(|| model.collected());
        assert_eq!(run.result(), Some(expected), "at the end of {sequence:?}");
    }
}

fn spoken(pause: Option<u64>) -> Gather {
    let mut gather = Gather { max_digits: Some(2), ..spoken_gather() };
    let speech = gather.speech.as_mut().unwrap();
    (speech.pause, speech.max_duration) = (pause.map(Duration::from_secs), MAX_SPEECH);
    gather
}

#[test]
fn each_order_of_words_sound_silence_and_digits_ends_with_the_right_result() {
    // The pauses of a Gather without `speechTimeout`, with one, and with `speechTimeout="auto"`.
    every_order(5, &INPUTS, &spoken(Some(5)), true);
    every_order(4, &INPUTS, &spoken(Some(1)), true);
    every_order(4, &INPUTS, &spoken(None), true);
}

#[test]
fn each_order_is_right_with_the_parameters_of_every_provider() {
    // A prompt of SWML: one digit, no terminator, and the recogniser decides where the speech ends.
    let prompt = Gather { max_digits: Some(1), terminators: String::new(), action_on_empty: true, ..spoken(None) };
    every_order(4, &INPUTS, &prompt, true);
    // Collect of the Calling API: no limit of digits, no terminator.
    let collect = Gather { max_digits: None, terminators: String::new(), ..spoken(Some(1)) };
    every_order(4, &INPUTS, &collect, true);
    // The document of the report: `<Gather input="speech dtmf" timeout="5" numDigits="1">`.
    every_order(4, &INPUTS, &Gather { max_digits: Some(1), ..spoken(Some(5)) }, true);
    // Only speech.
    let mut words = Gather { action_on_empty: true, ..spoken(Some(1)) };
    words.speech.as_mut().unwrap().digits = false;
    every_order(4, &INPUTS, &words, true);
    // A set of digits.
    every_order(4, &INPUTS, &Gather { terminators: "*#".to_owned(), ..spoken(Some(1)) }, true);
}

#[test]
fn a_gather_with_timeouts_of_zero_ends() {
    let nothing = Duration::ZERO;
    for pause in [Some(0), None] {
        let mut gather = Gather { first_digit_timeout: nothing, inter_digit_timeout: nothing, ..spoken(pause) };
        gather.speech.as_mut().unwrap().max_duration = nothing;
        let mut run = Run { script: without_rewrites(vec![Instruction::Gather(gather)]), recogniser_answers: true };
        run.handle(SpeechStarts);
        run.pass(BOUND);
        assert!(run.script.recognitions.is_empty(), "{pause:?}");
    }
}

#[test]
fn each_order_also_ends_if_the_recogniser_never_sends_its_last_results() {
    for pause in [Some(5), Some(1), None] {
        every_order(
            4,
            &[SpeechStarts, SpeechEnds, PartialWords, FinalWords, NoWords, WordsWithdrawn],
            &spoken(pause),
            false,
        );
    }
}

#[test]
fn each_order_during_a_prompt_ends_with_the_right_result() {
    let inputs: Vec<Input> = INPUTS.into_iter().chain([PromptEnds]).collect();
    for barge_in in [true, false] {
        every_order(4, &inputs, &Gather { prompts: vec![file("ask")], barge_in, ..spoken(Some(1)) }, true);
    }
}
