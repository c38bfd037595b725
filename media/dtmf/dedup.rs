//! Reports each digit once. Some gateways send a digit both as a telephone-event and as a tone in the audio. Some
//! gateways also send a SIP INFO request.

use std::time::{Duration, Instant};

/// The method by which a digit arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtmfMethod {
    /// A telephone-event (RFC 4733).
    Event,
    /// Tones in the audio (ITU-T Q.23).
    Tone,
    /// A SIP INFO request (application/dtmf-relay, application/dtmf).
    Info,
}

/// The number of digits that are remembered. More than one is necessary, because the slower method may deliver a digit
/// after the next digit has begun.
const REMEMBERED: usize = 4;
/// The time after a telephone-event (or after its last packet) during which a tone is the same digit. The detection of
/// a tone is late by 40 ms, by the delay of the jitter buffer, and by the gateway's delay.
const TONE_AFTER: Duration = Duration::from_millis(300);
/// The time after a tone during which a telephone-event is the same digit. A gateway passes some of the tone before the
/// gateway detects the digit.
const EVENT_AFTER: Duration = Duration::from_millis(200);
/// The largest time between an INFO and another report of the same digit. A phone sends the INFO when the digit is
/// released, and the INFO takes another path.
const INFO_APART: Duration = Duration::from_millis(500);

/// Removes the duplicates of one leg's digits.
#[derive(Debug, Default)]
pub struct DigitDedup {
    latest: [Option<Press>; REMEMBERED],
}

#[derive(Debug, Clone, Copy)]
struct Press {
    key: char,
    /// The strongest method by which the digit has arrived.
    form: DtmfMethod,
    at: Instant,
    /// Whether an INFO has arrived for this digit. A further INFO is then another digit.
    info: bool,
}

impl DigitDedup {
    /// Handles a digit. Returns false if the same digit has already arrived by another method. A telephone-event has
    /// priority over tones: a tone during the event or shortly after it is the same digit.
    pub fn handle(&mut self, now: Instant, key: char, form: DtmfMethod) -> bool {
        let same = self.latest.iter_mut().flatten().find(|before| {
            let window = match (before.form, form) {
                (DtmfMethod::Event, DtmfMethod::Tone) => TONE_AFTER,
                (DtmfMethod::Tone, DtmfMethod::Event) => EVENT_AFTER,
                (DtmfMethod::Info, DtmfMethod::Event | DtmfMethod::Tone) => INFO_APART,
                (DtmfMethod::Event | DtmfMethod::Tone, DtmfMethod::Info) if !before.info => INFO_APART,
                _ => return false,
            };
            before.key == key && now.saturating_duration_since(before.at) <= window
        });
        if let Some(before) = same {
            if form == DtmfMethod::Info || before.form == DtmfMethod::Info {
                before.info = true;
            }
            if before.form == DtmfMethod::Info || form == DtmfMethod::Event {
                // From now on, the new method decides how long the digit lasts.
                (before.form, before.at) = (form, now);
            }
            return false;
        }
        self.latest.rotate_right(1);
        if let Some(first) = self.latest.first_mut() {
            *first = Some(Press { key, form, at: now, info: false });
        }
        true
    }

    /// Handles another packet of the latest telephone-event. The packet shows that the digit continues.
    pub fn handle_event_packet(&mut self, now: Instant) {
        let event = self.latest.iter_mut().flatten().find(|press| press.form == DtmfMethod::Event);
        if let Some(event) = event {
            event.at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        presses: DigitDedup,
        origin: Instant,
    }

    impl Bench {
        #[expect(clippy::disallowed_methods, reason = "a virtual clock needs some origin")]
        fn new() -> Bench {
            Bench { presses: DigitDedup::default(), origin: Instant::now() }
        }

        fn at(&mut self, milliseconds: u64, key: char, form: DtmfMethod) -> bool {
            self.presses.handle(self.origin + Duration::from_millis(milliseconds), key, form)
        }
    }

    #[test]
    fn a_tone_that_accompanies_an_event_is_told_once_whichever_is_first() {
        let mut bench = Bench::new();
        assert!(bench.at(0, '5', DtmfMethod::Event));
        assert!(!bench.at(120, '5', DtmfMethod::Tone));
        assert!(bench.at(1_000, '6', DtmfMethod::Tone));
        assert!(!bench.at(1_060, '6', DtmfMethod::Event));
        assert!(!bench.at(1_200, '6', DtmfMethod::Tone));
    }

    #[test]
    fn a_key_pressed_twice_in_one_form_is_two_presses() {
        for form in [DtmfMethod::Event, DtmfMethod::Tone, DtmfMethod::Info] {
            let mut bench = Bench::new();
            assert!((0..10).all(|press| bench.at(press * 80, '5', form)), "{form:?}");
        }
    }

    #[test]
    fn a_key_pressed_twice_in_both_forms_is_two_presses() {
        let mut bench = Bench::new();
        let told = [(0, DtmfMethod::Event), (110, DtmfMethod::Tone), (120, DtmfMethod::Event), (230, DtmfMethod::Tone)];
        assert_eq!(told.map(|(at, form)| bench.at(at, '7', form)), [true, false, true, false]);
        let told = [
            (2_000, DtmfMethod::Tone),
            (2_050, DtmfMethod::Event),
            (2_150, DtmfMethod::Tone),
            (2_180, DtmfMethod::Event),
        ];
        // The second tone arrives within the time of the first event and is a duplicate. So the second event has no
        // tone and is reported.
        assert_eq!(told.map(|(at, form)| bench.at(at, '7', form)), [true, false, false, true]);
    }

    #[test]
    fn tones_found_again_while_the_event_lasts_are_the_same_press() {
        let mut bench = Bench::new();
        assert!(bench.at(0, '5', DtmfMethod::Event));
        for packet in 0..100 {
            bench.presses.handle_event_packet(bench.origin + Duration::from_millis(packet * 20));
        }
        assert!(!bench.at(2_100, '5', DtmfMethod::Tone));
        assert!(bench.at(2_700, '5', DtmfMethod::Tone));
    }

    #[test]
    fn other_keys_are_other_presses() {
        let mut bench = Bench::new();
        assert!(bench.at(0, '1', DtmfMethod::Event));
        assert!(bench.at(50, '2', DtmfMethod::Tone));
        assert!(bench.at(60, '3', DtmfMethod::Info));
    }

    #[test]
    fn an_info_for_each_event_adds_nothing_even_when_keys_are_repeated() {
        let mut bench = Bench::new();
        let told = [
            (0, DtmfMethod::Event),
            (150, DtmfMethod::Event),
            (210, DtmfMethod::Info),
            (330, DtmfMethod::Info),
            (400, DtmfMethod::Event),
        ];
        assert_eq!(told.map(|(at, form)| bench.at(at, '0', form)), [true, true, false, false, true]);
    }
}
