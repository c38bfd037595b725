//! Reports each digit once. Some gateways send a digit both as a telephone-event and as a tone in the audio.

use serde::{Deserialize, Serialize};

use std::time::{Duration, Instant};

/// The method by which a digit arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DtmfMethod {
    /// A telephone-event (RFC 4733).
    Event,
    /// Tones in the audio (ITU-T Q.23).
    Tone,
}

/// The number of digits that are remembered. One digit is not enough, because the slower method may deliver a digit
/// after the next digit has begun.
const REMEMBERED: usize = 4;
/// The time after the last packet of a telephone-event during which a tone is the same digit. The report of a tone is
/// late for three reasons: the detection takes 40 ms, the jitter buffer has a delay, and the gateway has a delay.
const TONE_AFTER: Duration = Duration::from_millis(300);
/// The time after a tone during which a telephone-event is the same digit. The tone comes first, because a gateway
/// passes some of the tone before it detects the digit.
const EVENT_AFTER: Duration = Duration::from_millis(200);

/// Removes the duplicates of one leg's digits.
#[derive(Debug, Default)]
pub(super) struct DigitDedup {
    recent: [Option<SeenDigit>; REMEMBERED],
}

#[derive(Debug, Clone, Copy)]
struct SeenDigit {
    digit: char,
    /// The method by which the digit has arrived. If the digit has arrived by several methods, this is the strongest
    /// method.
    method: DtmfMethod,
    at: Instant,
}

/// The remembered digits as data. The age is the time from the digit to the moment of the snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DedupState {
    recent: Vec<(char, DtmfMethod, Duration)>,
}

impl DigitDedup {
    pub(super) fn state(&self, now: Instant) -> DedupState {
        let state = |seen: &SeenDigit| (seen.digit, seen.method, now.saturating_duration_since(seen.at));
        DedupState { recent: self.recent.iter().flatten().map(state).collect() }
    }

    /// Creates the memory from data. `taken` is the moment of the snapshot.
    pub(super) fn resume(state: DedupState, taken: Instant) -> DigitDedup {
        let mut recent = [None; REMEMBERED];
        for (place, (digit, method, age)) in recent.iter_mut().zip(state.recent) {
            *place = Some(SeenDigit { digit, method, at: taken.checked_sub(age).unwrap_or(taken) });
        }
        DigitDedup { recent }
    }

    /// Handles a digit. Returns false if the same digit has already arrived by another method. A telephone-event has
    /// priority over tones: a tone during the event or shortly after it is the same digit.
    pub(super) fn handle(&mut self, now: Instant, digit: char, method: DtmfMethod) -> bool {
        let same = self.recent.iter_mut().flatten().find(|before| {
            let window = match (before.method, method) {
                (DtmfMethod::Event, DtmfMethod::Tone) => TONE_AFTER,
                (DtmfMethod::Tone, DtmfMethod::Event) => EVENT_AFTER,
                (DtmfMethod::Event, DtmfMethod::Event) | (DtmfMethod::Tone, DtmfMethod::Tone) => return false,
            };
            before.digit == digit && now.saturating_duration_since(before.at) <= window
        });
        if let Some(before) = same {
            if method == DtmfMethod::Event {
                // From now on, the new method decides how long the digit lasts.
                (before.method, before.at) = (method, now);
            }
            return false;
        }
        self.recent.rotate_right(1);
        if let Some(first) = self.recent.first_mut() {
            *first = Some(SeenDigit { digit, method, at: now });
        }
        true
    }

    /// Handles another packet of the latest telephone-event. The packet shows that the digit continues.
    pub(super) fn handle_event_packet(&mut self, now: Instant) {
        let event = self.recent.iter_mut().flatten().find(|seen| seen.method == DtmfMethod::Event);
        if let Some(event) = event {
            event.at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        dedup: DigitDedup,
        origin: Instant,
    }

    impl Bench {
        #[expect(clippy::disallowed_methods, reason = "a virtual clock needs some origin")]
        fn new() -> Bench {
            Bench { dedup: DigitDedup::default(), origin: Instant::now() }
        }

        fn at(&mut self, milliseconds: u64, digit: char, method: DtmfMethod) -> bool {
            self.dedup.handle(self.origin + Duration::from_millis(milliseconds), digit, method)
        }
    }

    #[test]
    fn a_digit_sent_as_event_and_tone_is_reported_once_in_either_order() {
        let mut bench = Bench::new();
        assert!(bench.at(0, '5', DtmfMethod::Event));
        assert!(!bench.at(120, '5', DtmfMethod::Tone));
        assert!(bench.at(1_000, '6', DtmfMethod::Tone));
        assert!(!bench.at(1_060, '6', DtmfMethod::Event));
        assert!(!bench.at(1_200, '6', DtmfMethod::Tone));
    }

    #[test]
    fn a_digit_pressed_twice_and_sent_by_one_method_is_reported_twice() {
        for method in [DtmfMethod::Event, DtmfMethod::Tone] {
            let mut bench = Bench::new();
            assert!((0..10).all(|seen| bench.at(seen * 80, '5', method)), "{method:?}");
        }
    }

    #[test]
    fn a_digit_pressed_twice_and_sent_by_two_methods_is_reported_twice() {
        let mut bench = Bench::new();
        let detections =
            [(0, DtmfMethod::Event), (110, DtmfMethod::Tone), (120, DtmfMethod::Event), (230, DtmfMethod::Tone)];
        assert_eq!(detections.map(|(at, method)| bench.at(at, '7', method)), [true, false, true, false]);
        let detections = [
            (2_000, DtmfMethod::Tone),
            (2_050, DtmfMethod::Event),
            (2_150, DtmfMethod::Tone),
            (2_180, DtmfMethod::Event),
        ];
        // The second tone arrives within the time of the first event and is a duplicate. So the second event has no
        // tone and is reported.
        assert_eq!(detections.map(|(at, method)| bench.at(at, '7', method)), [true, false, false, true]);
    }

    #[test]
    fn a_tone_detected_again_during_its_event_is_the_same_digit() {
        let mut bench = Bench::new();
        assert!(bench.at(0, '5', DtmfMethod::Event));
        for packet in 0..100 {
            bench.dedup.handle_event_packet(bench.origin + Duration::from_millis(packet * 20));
        }
        assert!(!bench.at(2_100, '5', DtmfMethod::Tone));
        assert!(bench.at(2_700, '5', DtmfMethod::Tone));
    }

    #[test]
    fn different_digits_are_reported_separately() {
        let mut bench = Bench::new();
        assert!(bench.at(0, '1', DtmfMethod::Event));
        assert!(bench.at(50, '2', DtmfMethod::Tone));
        assert!(bench.at(60, '3', DtmfMethod::Event));
    }
}
