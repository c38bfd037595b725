//! Finds DTMF digits in a leg's audio, at any sample rate, and compares them with the leg's telephone-events.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::dedup::DedupState;
use super::dedup::DigitDedup;
use super::tone_detector::CurrentDigit;
use super::{DtmfMethod, ToneDetector};
use crate::codec::SampleRate;
use crate::resample::Resampler;
use crate::rtp::FRAME;

/// Detects the tones of a leg's digits. The detector exists only while the leg's audio is searched for digits.
pub(crate) struct InbandDetector {
    detector: ToneDetector,
    /// The sample rate of the newest frame that was not at 8,000 Hz, and a resampler from this rate to 8,000 Hz.
    narrower: Option<(SampleRate, Box<Resampler>)>,
    dedup: DigitDedup,
}

/// A detector as data: the digits that it has already reported. A digit that began in the last 40 ms before the snapshot
/// is detected again from its next 40 ms.
#[derive(Serialize, Deserialize)]
pub(crate) struct InbandState {
    current: Option<CurrentDigit>,
    recent: DedupState,
}

impl InbandDetector {
    pub(crate) fn state(&self, now: Instant) -> InbandState {
        InbandState { current: self.detector.current(), recent: self.dedup.state(now) }
    }

    /// Creates a detector from data. `taken` is the moment of the snapshot.
    pub(crate) fn resume(state: InbandState, taken: Instant) -> InbandDetector {
        let InbandState { current, recent } = state;
        let (detector, dedup) = (ToneDetector::resume(current), DigitDedup::resume(recent, taken));
        InbandDetector { detector, narrower: None, dedup }
    }

    pub(crate) fn new() -> InbandDetector {
        InbandDetector { detector: ToneDetector::default(), narrower: None, dedup: DigitDedup::default() }
    }

    /// Handles an inbound frame. Returns the digit that begins in this frame, unless a telephone-event has reported the
    /// digit.
    pub(crate) fn handle_frame(&mut self, now: Instant, samples: &[i16], rate: SampleRate) -> Option<char> {
        let mut narrow = [0; FRAME];
        let samples = if rate == SampleRate::Hz8000 {
            samples
        } else {
            if self.narrower.as_ref().is_none_or(|(known, _)| *known != rate) {
                self.narrower = Some((rate, Box::new(Resampler::new(rate, SampleRate::Hz8000))));
            }
            let (_, narrower) = self.narrower.as_mut()?;
            narrower.process(samples, &mut narrow);
            &narrow
        };
        let digit = self.detector.handle_frame(samples)?;
        self.dedup.handle(now, digit, DtmfMethod::Tone).then_some(digit)
    }

    /// Handles a telephone-event packet. `begins` is the digit that begins with this packet
    /// ([`crate::rtp::dtmf::Detector`]). Returns false if a tone has already reported this digit.
    pub(crate) fn handle_event(&mut self, now: Instant, begins: Option<char>) -> bool {
        match begins {
            Some(digit) => self.dedup.handle(now, digit, DtmfMethod::Event),
            None => {
                self.dedup.handle_event_packet(now);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tone::{Tone, ToneGenerator};

    /// Returns the frames of a digit. The digit lasts 60 ms, and 200 ms of silence follow.
    fn digit(digit: char, rate: SampleRate) -> Vec<Vec<i16>> {
        let mut generator = ToneGenerator::at(Tone::Digit { digit, milliseconds: 60 }, rate);
        let sound = |_| {
            let mut frame = vec![0; rate.frame()];
            generator.next_frame(&mut frame);
            frame
        };
        (0..13).map(sound).collect()
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a virtual clock needs some origin")]
    fn digits_are_detected_at_every_sample_rate_unless_an_event_reported_them() {
        let mut detector = InbandDetector::new();
        let mut now = Instant::now();
        for rate in [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz48000] {
            for (letter, with_event) in [('1', false), ('D', false), ('5', true), ('5', false)] {
                assert!(!with_event || detector.handle_event(now, Some(letter)));
                let mut found = Vec::new();
                for frame in digit(letter, rate) {
                    found.extend(detector.handle_frame(now, &frame, rate));
                    now += Duration::from_millis(20);
                }
                assert_eq!(found, if with_event { vec![] } else { vec![letter] }, "{rate:?}");
                now += Duration::from_millis(300);
            }
        }
    }
}
