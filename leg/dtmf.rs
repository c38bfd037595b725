//! The digits of a leg. A far end sends a digit as telephone-event (RFC 4733), as tones, or in the signalling, and some
//! gateways send it in two of these forms. This module reports each digit once, and decides how a digit is passed on to
//! the bridged leg.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The form in which a digit arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DigitForm {
    /// A telephone-event.
    Event,
    /// Tones in the audio.
    Tone,
    /// A message of the signalling (SIP INFO).
    Signal,
}

impl DigitForm {
    fn is_signal(self) -> bool {
        self == Self::Signal
    }
}

/// The form in which a far end wants digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WantedForm {
    /// Telephone-events, or tones if telephone-events are not agreed.
    #[default]
    Media,
    /// Messages of the signalling.
    Signal,
}

/// The way in which a digit is passed on to the bridged leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relay {
    /// The media engine has already passed the digit on.
    ByMedia,
    /// A message of the signalling.
    AsSignal,
    /// A new telephone-event, or tones.
    AsEvent,
}

/// Returns how a digit is passed on to a leg. `wanted` is the form that the leg's far end wants, `received_by` is the form
/// in which the digit arrived, and `events` says whether the leg has agreed on telephone-events.
pub fn relay(wanted: WantedForm, received_by: DigitForm, events: bool) -> Relay {
    match (wanted, received_by) {
        (WantedForm::Signal, _) => Relay::AsSignal,
        (WantedForm::Media, DigitForm::Signal) => Relay::AsEvent,
        (WantedForm::Media, DigitForm::Event) if !events => Relay::AsEvent,
        (WantedForm::Media, DigitForm::Event | DigitForm::Tone) => Relay::ByMedia,
    }
}

/// The number of digits that are remembered. One is not enough, because the slower form may bring a digit after the next
/// digit has begun.
const REMEMBERED: usize = 4;
/// The largest time between a message of the signalling and the same digit in the media. A phone sends the message when
/// the digit is released, and the message takes another path.
const APART: Duration = Duration::from_millis(500);

/// Removes the duplicates of digits that arrive both in the media and in the signalling. The media engine has already
/// removed those between telephone-events and tones.
#[derive(Clone, Debug, Default)]
pub struct DigitDedup {
    recent: [Option<Seen>; REMEMBERED],
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    digit: char,
    at: Instant,
    /// The forms in which the digit has arrived. A second arrival in the same form is another digit.
    by_signal: bool,
    by_media: bool,
}

impl DigitDedup {
    /// Handles a digit. Returns `false` if the digit has already arrived in the other form.
    pub fn handle(&mut self, now: Instant, digit: char, form: DigitForm) -> bool {
        let signal = form.is_signal();
        let same = self.recent.iter_mut().flatten().find(|before| {
            let other_form =
                if signal { before.by_media && !before.by_signal } else { before.by_signal && !before.by_media };
            other_form && before.digit == digit && now.saturating_duration_since(before.at) <= APART
        });
        if let Some(before) = same {
            (before.by_signal, before.by_media) = (true, true);
            return false;
        }
        self.recent.rotate_right(1);
        if let Some(first) = self.recent.first_mut() {
            *first = Some(Seen { digit, at: now, by_signal: signal, by_media: !signal });
        }
        true
    }
}

/// Pause between two digits that this server sends in the signalling.
const GAP: Duration = Duration::from_millis(100);

/// Returns the digits to send, each with its duration plus the pause after the digit. An entry with `None` instead of a
/// digit is a pause: 500 ms for `w`, 1 s for `W`. The result has at most 1,024 entries.
pub fn schedule(digits: &str, tone: Duration) -> Vec<(Option<char>, Duration)> {
    let step = |digit: char| match digit {
        'w' => Some((None, Duration::from_millis(500))),
        'W' => Some((None, Duration::from_secs(1))),
        _ if "0123456789*#ABCDabcd".contains(digit) => Some((Some(digit), tone + GAP)),
        _ => None,
    };
    digits.chars().filter_map(step).take(1_024).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use DigitForm::{Event, Signal, Tone};

    #[test]
    fn a_digit_is_sent_to_the_bridged_leg_once_and_in_the_form_of_that_leg() {
        for (wanted, events, expected) in [
            (WantedForm::Media, true, [Relay::ByMedia, Relay::ByMedia, Relay::AsEvent]),
            (WantedForm::Media, false, [Relay::AsEvent, Relay::ByMedia, Relay::AsEvent]),
            (WantedForm::Signal, false, [Relay::AsSignal; 3]),
            (WantedForm::Signal, true, [Relay::AsSignal; 3]),
        ] {
            assert_eq!([Event, Tone, Signal].map(|form| relay(wanted, form, events)), expected, "{wanted:?} {events}");
        }
    }

    struct Bench {
        dedup: DigitDedup,
        origin: Instant,
    }

    impl Bench {
        #[expect(clippy::disallowed_methods, reason = "a virtual clock needs some origin")]
        fn new() -> Self {
            Self { dedup: DigitDedup::default(), origin: Instant::now() }
        }

        fn at(&mut self, milliseconds: u64, digit: char, form: DigitForm) -> bool {
            self.dedup.handle(self.origin + Duration::from_millis(milliseconds), digit, form)
        }
    }

    #[test]
    fn a_digit_in_two_forms_is_reported_once_in_either_order() {
        for media in [Event, Tone] {
            let mut bench = Bench::new();
            assert!(bench.at(0, '5', media));
            assert!(!bench.at(180, '5', Signal));
            assert!(bench.at(2_000, '6', Signal));
            assert!(!bench.at(2_060, '6', media));
        }
    }

    #[test]
    fn a_digit_pressed_twice_in_one_form_is_two_digits() {
        for form in [Event, Tone, Signal] {
            let mut bench = Bench::new();
            assert!((0..10).all(|press| bench.at(press * 80, '5', form)), "{form:?}");
        }
    }

    #[test]
    fn an_info_message_for_each_event_adds_no_digit_even_when_digits_are_repeated() {
        let mut bench = Bench::new();
        let arrivals = [(0, Event), (150, Event), (210, Signal), (330, Signal), (400, Event)];
        assert_eq!(arrivals.map(|(at, form)| bench.at(at, '0', form)), [true, true, false, false, true]);
    }

    #[test]
    fn an_info_message_after_half_a_second_is_another_digit() {
        let mut bench = Bench::new();
        assert!(bench.at(0, '5', Event));
        assert!(bench.at(501, '5', Signal));
    }

    #[test]
    fn different_digits_are_never_duplicates() {
        let mut bench = Bench::new();
        assert!(bench.at(0, '1', Event) && bench.at(50, '2', Signal) && bench.at(60, '3', Tone));
    }

    #[test]
    fn a_schedule_has_pauses_and_skips_other_characters() {
        let ms = Duration::from_millis;
        let expected = [(Some('1'), ms(300)), (None, ms(500)), (None, ms(1_000)), (Some('#'), ms(300))];
        assert_eq!(schedule("1wW?#", ms(200)), expected);
        assert_eq!(schedule(&"1".repeat(5_000), GAP).len(), 1_024);
    }
}
