//! Key presses as peers have them: telephone-events (RFC 4733), SIP INFO, or tones in the audio; and from one to the other,
//! where two legs that are joined differ.
//!
//! Media passes events on by itself where both legs have them, and tones are part of the audio. What is left is done here.

use std::time::Duration;

use bytes::Bytes;
use tandem_media as media;
use tandem_settings::Dtmf;
use tandem_sip as sip;

/// How long a press lasts that is passed on in another form, milliseconds.
pub const PRESS_MS: u16 = 160;
/// Between two presses of ours.
const GAP: Duration = Duration::from_millis(100);
/// The operation that passed presses are; nobody waits for its end.
pub const PASSED: media::OpId = media::OpId(u64::MAX);

/// What becomes of a press on the joined leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// Nothing: media has passed it on.
    ByMedia,
    /// An INFO.
    AsInfo,
    /// An event of ours, or tones.
    Anew,
}

/// What becomes of a press that came in this form, on a leg that wants keys so. `events`: it has telephone-events.
pub fn pass(wanted: Dtmf, came: media::Form, events: bool) -> Passed {
    match (wanted, came) {
        (Dtmf::Info, _) => Passed::AsInfo,
        (_, media::Form::Info) => Passed::Anew,
        (_, media::Form::Event) if !events => Passed::Anew,
        (_, media::Form::Event | media::Form::Tone) => Passed::ByMedia,
    }
}

/// An INFO for one key.
pub fn info(leg: sip::LegKey, key: char, milliseconds: u16) -> sip::Command {
    let body = format!("Signal={}\r\nDuration={milliseconds}\r\n", key.to_ascii_uppercase());
    sip::Command::Info { leg, content_type: "application/dtmf-relay".to_owned(), body: Bytes::from(body) }
}

/// What is pressed and how long each takes, the gap behind it included; `None` is a wait (`w` 500 ms, `W` 1 s). At most 1,024.
pub fn steps(digits: &str, tone: Duration) -> Vec<(Option<char>, Duration)> {
    let step = |key: char| match key {
        'w' => Some((None, Duration::from_millis(500))),
        'W' => Some((None, Duration::from_secs(1))),
        _ if "0123456789*#ABCDabcd".contains(key) => Some((Some(key), tone + GAP)),
        _ => None,
    };
    digits.chars().filter_map(step).take(1_024).collect()
}

/// A key in an INFO body: `Signal=5` (application/dtmf-relay) or the bare digit (application/dtmf).
pub fn pressed(content_type: &str, body: &[u8]) -> Option<char> {
    let text = std::str::from_utf8(body).ok()?;
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    let word = if kind.eq_ignore_ascii_case("application/dtmf-relay") {
        let mut fields = text.lines().filter_map(|line| line.split_once('='));
        fields.find(|(name, _)| name.trim().eq_ignore_ascii_case("Signal"))?.1.trim()
    } else if kind.eq_ignore_ascii_case("application/dtmf") {
        text.trim()
    } else {
        return None;
    };
    // Some write the codes of RFC 4733; 16, the hook flash, is no key.
    let code = word.parse().ok().filter(|code: &usize| (10..16).contains(code));
    if let Some(code) = code {
        return "*#ABCD".chars().nth(code - 10);
    }
    let mut letters = word.chars().map(|letter| letter.to_ascii_uppercase());
    let digit = letters.next().filter(|digit| "0123456789*#ABCD".contains(*digit))?;
    letters.next().is_none().then_some(digit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use media::Form;

    #[test]
    fn an_info_body_holds_one_key() {
        assert_eq!(pressed("application/dtmf-relay", b"Signal=5\r\nDuration=160\r\n"), Some('5'));
        assert_eq!(pressed("application/dtmf-relay", b"Signal= #\r\n"), Some('#'));
        assert_eq!(pressed("application/dtmf-relay", b"signal = b\nDuration = 100"), Some('B'));
        assert_eq!(pressed("application/dtmf", b"11"), Some('#'));
        assert_eq!(pressed("Application/DTMF; charset=utf-8", b"5\r\n"), Some('5'));
        assert_eq!(pressed("application/dtmf-relay", b"Signal=13\r\nDuration=160\r\n"), Some('B'));
        for no_key in [&b"Signal=16"[..], b"Signal=hf", b"Signal=", b"Signal=55", b"Duration=160", b""] {
            assert_eq!(pressed("application/dtmf-relay", no_key), None);
        }
        assert_eq!(pressed("text/plain", b"5"), None);
        assert_eq!(pressed("application/dtmf", b"\xff"), None);
    }

    #[test]
    fn a_press_goes_on_once_in_the_form_that_the_other_leg_has() {
        for (wanted, events, expected) in [
            (Dtmf::Rfc4733, true, [Passed::ByMedia, Passed::ByMedia, Passed::Anew]),
            (Dtmf::Rfc4733, false, [Passed::Anew, Passed::ByMedia, Passed::Anew]),
            (Dtmf::Inband, false, [Passed::Anew, Passed::ByMedia, Passed::Anew]),
            (Dtmf::Info, false, [Passed::AsInfo; 3]),
        ] {
            assert_eq!(
                [Form::Event, Form::Tone, Form::Info].map(|came| pass(wanted, came, events)),
                expected,
                "{wanted:?}"
            );
        }
    }

    #[test]
    fn keys_by_info_take_as_long_as_others() {
        let ms = Duration::from_millis;
        assert_eq!(
            steps("1wW?#", ms(200)),
            [(Some('1'), ms(300)), (None, ms(500)), (None, ms(1_000)), (Some('#'), ms(300))]
        );
        assert_eq!(steps(&"1".repeat(5_000), GAP).len(), 1_024);
        let sip::Command::Info { content_type, body, .. } = info(sip::LegKey(1), 'a', 160) else { panic!() };
        assert_eq!((&*content_type, &body[..]), ("application/dtmf-relay", &b"Signal=A\r\nDuration=160\r\n"[..]));
        assert_eq!(pressed(&content_type, &body), Some('A'));
    }
}
