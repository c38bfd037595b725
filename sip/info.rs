//! The digit in the body of a received INFO. Three types of body carry a digit: `application/dtmf-relay`,
//! `application/dtmf` and `audio/telephone-event`. None of these types has a standard, and far ends put the body of one
//! type under the name of another. So each body is read in every form.

/// All digits, in the order of their event codes (RFC 4733 §3.2).
const DIGITS: &str = "0123456789*#ABCD";
/// The other signals of dtmf-relay: the hook flash has the event code 16.
const HOOK_FLASH: [&str; 4] = ["16", "hf", "flash", "!"];

/// The types of bodies with a digit, for the Accept header of a 415.
pub(crate) const ACCEPT: &str = "Accept: application/dtmf-relay, application/dtmf, audio/telephone-event\r\n";

/// The content of an INFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Info {
    /// A digit that was pressed: `0` to `9`, `*`, `#`, or `A` to `D`.
    Digit(char),
    /// No digit: a hook flash, a key that is still pressed, or no body.
    Nothing,
    /// The type may contain a digit, but the body has no form of a digit.
    Unreadable,
    /// Another type.
    OtherType,
}

impl Info {
    /// Reads the body of an INFO. An INFO without a Content-Type may contain a digit.
    #[must_use]
    pub fn read(content_type: &str, body: &[u8]) -> Self {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        let is = |name: &str| kind.eq_ignore_ascii_case(name);
        let is_event = is("audio/telephone-event");
        if !is_event && !kind.is_empty() && !is("application/dtmf-relay") && !is("application/dtmf") {
            return Self::OtherType;
        }
        // The payload of a telephone-event (RFC 4733 §2.3). Only the payload with the end bit counts. The number of an
        // event is below 32, where no printable character is.
        if let (true, &[event @ 0..32, flags, _, _]) = (is_event, body) {
            let ended = flags & 0x80 != 0;
            return DIGITS.chars().nth(event.into()).filter(|_| ended).map_or(Self::Nothing, Self::Digit);
        }
        let Ok(text) = std::str::from_utf8(body) else { return Self::Unreadable };
        let text = text.trim();
        if text.is_empty() {
            return if kind.is_empty() { Self::Nothing } else { Self::Unreadable };
        }
        let mut fields = text.lines().filter_map(|line| line.split_once('='));
        let is_signal = |name: &str| ["Signal", "d"].iter().any(|known| name.trim().eq_ignore_ascii_case(known));
        Self::of_word(fields.find(|(name, _)| is_signal(name)).map_or(text, |(_, value)| value.trim()))
    }

    fn of_word(word: &str) -> Self {
        if HOOK_FLASH.iter().any(|known| word.eq_ignore_ascii_case(known)) {
            return Self::Nothing;
        }
        let code = word.parse().ok().filter(|code| (10..16).contains(code));
        if let Some(digit) = code.and_then(|code: usize| DIGITS.chars().nth(code)) {
            return Self::Digit(digit);
        }
        let mut letters = word.chars().map(|letter| letter.to_ascii_uppercase());
        match (letters.next(), letters.next()) {
            (Some(digit), None) if DIGITS.contains(digit) => Self::Digit(digit),
            _ => Self::Unreadable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELAY: &str = "application/dtmf-relay";
    const EVENT: &str = "audio/telephone-event";

    #[test]
    fn an_info_body_has_one_digit_in_each_form_and_type() {
        for kind in [RELAY, "application/dtmf", EVENT, "Audio/Telephone-Event;rate=8000", ""] {
            for (body, digit) in [
                ("Signal=5\r\nDuration=160\r\n", '5'),
                ("Signal= #\r\n", '#'),
                ("signal = b\nDuration = 100", 'B'),
                ("Signal=13\r\nDuration=160\r\n", 'B'),
                ("d=5", '5'),
                ("5\r\n", '5'),
                ("11", '#'),
            ] {
                assert_eq!(Info::read(kind, body.as_bytes()), Info::Digit(digit), "{kind}: {body}");
            }
            for body in ["Signal=", "Signal=55", "Duration=160", "five", "d=", "5\r\n6"] {
                assert_eq!(Info::read(kind, body.as_bytes()), Info::Unreadable, "{kind}: {body}");
            }
            assert_eq!(Info::read(kind, b"\xff"), Info::Unreadable, "{kind}");
        }
        assert_eq!(Info::read("Application/DTMF; charset=utf-8", b"5\r\n"), Info::Digit('5'));
        assert_eq!(Info::read("text/plain", b"5"), Info::OtherType);
        assert_eq!((Info::read(RELAY, b""), Info::read("", b"")), (Info::Unreadable, Info::Nothing));
    }

    #[test]
    fn a_hook_flash_and_the_start_of_an_event_are_no_digits() {
        for body in [&b"Signal=16"[..], b"Signal=hf", b"Signal=!"] {
            assert_eq!(Info::read(RELAY, body), Info::Nothing);
        }
        for (payload, read) in [
            ([5, 0x8a, 0x03, 0x20], Info::Digit('5')),
            ([11, 0x80, 0, 0], Info::Digit('#')),
            ([5, 0x0a, 0, 0], Info::Nothing),
            ([16, 0x80, 0, 0], Info::Nothing),
        ] {
            assert_eq!(Info::read(EVENT, &payload), read, "{payload:?}");
        }
    }
}
