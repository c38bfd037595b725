//! DTMF digits in the three forms that far ends use: telephone-events (RFC 4733), SIP INFO, and tones in the audio.
//! This module converts digits between two bridged legs that use different forms.
//!
//! If both legs use telephone-events, the media engine passes the digits on. Tones are part of the audio. This module
//! handles all other cases.

use std::time::Duration;

use bytes::Bytes;
use tandem_media as media;
use tandem_settings::DtmfMode;
use tandem_sip as sip;

/// Duration, in milliseconds, of a digit that is passed on in another form.
pub(crate) const DIGIT_MS: u16 = 160;
/// Pause between two digits that this server sends.
const GAP: Duration = Duration::from_millis(100);
/// The operation id of digits that are passed on to the bridged leg. No code waits for the end of these digits.
pub(crate) const RELAYED_DIGIT: media::OpId = media::OpId(u64::MAX);

/// The way in which a digit is passed on to the bridged leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DtmfRelay {
    /// Do nothing, because the media engine has already passed the digit on.
    ByMedia,
    /// Send the digit as SIP INFO.
    AsInfo,
    /// Send the digit as a new telephone-event, or as tones.
    AsEvent,
}

/// Returns how a digit is passed on to the other leg. `received_by` is the form in which the digit arrived. `wanted` is the
/// setting of the other leg. `events` says whether the other leg has negotiated telephone-events.
pub(crate) fn relay_mode(wanted: DtmfMode, received_by: media::DtmfMethod, events: bool) -> DtmfRelay {
    match (wanted, received_by) {
        (DtmfMode::Info, _) => DtmfRelay::AsInfo,
        (_, media::DtmfMethod::Info) => DtmfRelay::AsEvent,
        (_, media::DtmfMethod::Event) if !events => DtmfRelay::AsEvent,
        (_, media::DtmfMethod::Event | media::DtmfMethod::Tone) => DtmfRelay::ByMedia,
    }
}

/// Creates the SIP INFO request for one digit.
pub fn info(leg: sip::LegKey, digit: char, milliseconds: u16) -> sip::Command {
    let body = format!("Signal={}\r\nDuration={milliseconds}\r\n", digit.to_ascii_uppercase());
    sip::Command::Info { leg, content_type: "application/dtmf-relay".to_owned(), body: Bytes::from(body) }
}

/// Returns the digits to send, each with its duration plus the pause after the digit. An entry with `None` instead of a
/// digit is a pause: 500 ms for `w`, 1 s for `W`. The result has at most 1,024 entries.
pub fn digit_schedule(digits: &str, tone: Duration) -> Vec<(Option<char>, Duration)> {
    let step = |digit: char| match digit {
        'w' => Some((None, Duration::from_millis(500))),
        'W' => Some((None, Duration::from_secs(1))),
        _ if "0123456789*#ABCDabcd".contains(digit) => Some((Some(digit), tone + GAP)),
        _ => None,
    };
    digits.chars().filter_map(step).take(1_024).collect()
}

/// Returns the digit in the body of a SIP INFO. The body is `Signal=5` (application/dtmf-relay), or only the digit
/// (application/dtmf), or the payload of a telephone-event (audio/telephone-event, RFC 4733 §2.3) as octets. Of the
/// payloads of one event, only the payload with the end bit counts.
pub(crate) fn parse_info(content_type: &str, body: &[u8]) -> Option<char> {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    let is_event = kind.eq_ignore_ascii_case("audio/telephone-event");
    if let (true, &[event, flags, _, _]) = (is_event, body) {
        return "0123456789*#ABCD".chars().nth(event.into()).filter(|_| flags & 0x80 != 0);
    }
    let text = std::str::from_utf8(body).ok()?;
    let word = if kind.eq_ignore_ascii_case("application/dtmf-relay") {
        let mut fields = text.lines().filter_map(|line| line.split_once('='));
        fields.find(|(name, _)| name.trim().eq_ignore_ascii_case("Signal"))?.1.trim()
    } else if is_event || kind.eq_ignore_ascii_case("application/dtmf") {
        text.trim()
    } else {
        return None;
    };
    // Some far ends send the event codes of RFC 4733. Code 16 is the hook flash and not a digit.
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
    use media::DtmfMethod;

    #[test]
    fn an_info_body_holds_one_key() {
        assert_eq!(parse_info("application/dtmf-relay", b"Signal=5\r\nDuration=160\r\n"), Some('5'));
        assert_eq!(parse_info("application/dtmf-relay", b"Signal= #\r\n"), Some('#'));
        assert_eq!(parse_info("application/dtmf-relay", b"signal = b\nDuration = 100"), Some('B'));
        assert_eq!(parse_info("application/dtmf", b"11"), Some('#'));
        assert_eq!(parse_info("Application/DTMF; charset=utf-8", b"5\r\n"), Some('5'));
        assert_eq!(parse_info("application/dtmf-relay", b"Signal=13\r\nDuration=160\r\n"), Some('B'));
        for no_key in [&b"Signal=16"[..], b"Signal=hf", b"Signal=", b"Signal=55", b"Duration=160", b""] {
            assert_eq!(parse_info("application/dtmf-relay", no_key), None);
        }
        assert_eq!(parse_info("text/plain", b"5"), None);
        assert_eq!(parse_info("audio/telephone-event", &[5, 0x8a, 0x03, 0x20]), Some('5'));
        assert_eq!(parse_info("Audio/Telephone-Event;rate=8000", &[11, 0x80, 0, 0]), Some('#'));
        assert_eq!(parse_info("audio/telephone-event", &[5, 0x0a, 0, 0]), None, "the key is still pressed");
        assert_eq!(parse_info("audio/telephone-event", &[16, 0x80, 0, 0]), None);
        assert_eq!(parse_info("audio/telephone-event", b"5"), Some('5'));
        assert_eq!(parse_info("application/dtmf", b"\xff"), None);
    }

    #[test]
    fn a_press_goes_on_once_in_the_form_that_the_other_leg_has() {
        for (wanted, events, expected) in [
            (DtmfMode::Rfc4733, true, [DtmfRelay::ByMedia, DtmfRelay::ByMedia, DtmfRelay::AsEvent]),
            (DtmfMode::Rfc4733, false, [DtmfRelay::AsEvent, DtmfRelay::ByMedia, DtmfRelay::AsEvent]),
            (DtmfMode::Inband, false, [DtmfRelay::AsEvent, DtmfRelay::ByMedia, DtmfRelay::AsEvent]),
            (DtmfMode::Info, false, [DtmfRelay::AsInfo; 3]),
        ] {
            assert_eq!(
                [DtmfMethod::Event, DtmfMethod::Tone, DtmfMethod::Info].map(|received_by| relay_mode(
                    wanted,
                    received_by,
                    events
                )),
                expected,
                "{wanted:?}"
            );
        }
    }

    #[test]
    fn keys_by_info_take_as_long_as_others() {
        let ms = Duration::from_millis;
        assert_eq!(
            digit_schedule("1wW?#", ms(200)),
            [(Some('1'), ms(300)), (None, ms(500)), (None, ms(1_000)), (Some('#'), ms(300))]
        );
        assert_eq!(digit_schedule(&"1".repeat(5_000), GAP).len(), 1_024);
        let sip::Command::Info { content_type, body, .. } = info(sip::LegKey(1), 'a', 160) else { panic!() };
        assert_eq!((&*content_type, &body[..]), ("application/dtmf-relay", &b"Signal=A\r\nDuration=160\r\n"[..]));
        assert_eq!(parse_info(&content_type, &body), Some('A'));
    }
}
