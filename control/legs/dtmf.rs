//! DTMF digits in the three forms that far ends use: telephone-events (RFC 4733), SIP INFO, and tones in the audio.
//! This module converts digits between two bridged legs that use different forms.
//!
//! If both legs use telephone-events, the media engine passes the digits on. Tones are part of the audio. This module
//! handles all other cases.

use std::time::Duration;

use bytes::Bytes;
use tandem_id::{LegId, OpId};
use tandem_media as media;
use tandem_settings::DtmfMode;
use tandem_sip as sip;

/// Duration, in milliseconds, of a digit that is passed on in another form.
pub(crate) const DIGIT_MS: u16 = 160;
/// Pause between two digits that this server sends.
const GAP: Duration = Duration::from_millis(100);
/// The operation id of digits that are passed on to the bridged leg. No code waits for the end of these digits.
pub(crate) const RELAYED_DIGIT: OpId = OpId(u64::MAX);

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
pub(crate) fn relay_mode(mode: DtmfMode, received_by: media::DtmfMethod, events: bool) -> DtmfRelay {
    match (mode, received_by) {
        (DtmfMode::Info, _) => DtmfRelay::AsInfo,
        (_, media::DtmfMethod::Info) => DtmfRelay::AsEvent,
        (_, media::DtmfMethod::Event) if !events => DtmfRelay::AsEvent,
        (_, media::DtmfMethod::Event | media::DtmfMethod::Tone) => DtmfRelay::ByMedia,
    }
}

/// Creates the SIP INFO request for one digit.
pub fn info(leg: LegId, digit: char, milliseconds: u16) -> sip::Command {
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

#[cfg(test)]
mod tests {
    use super::*;
    use media::DtmfMethod;

    #[test]
    fn a_press_goes_on_once_in_the_form_that_the_other_leg_has() {
        for (mode, events, expected) in [
            (DtmfMode::Rfc4733, true, [DtmfRelay::ByMedia, DtmfRelay::ByMedia, DtmfRelay::AsEvent]),
            (DtmfMode::Rfc4733, false, [DtmfRelay::AsEvent, DtmfRelay::ByMedia, DtmfRelay::AsEvent]),
            (DtmfMode::Inband, false, [DtmfRelay::AsEvent, DtmfRelay::ByMedia, DtmfRelay::AsEvent]),
            (DtmfMode::Info, false, [DtmfRelay::AsInfo; 3]),
        ] {
            assert_eq!(
                [DtmfMethod::Event, DtmfMethod::Tone, DtmfMethod::Info].map(|received_by| relay_mode(
                    mode,
                    received_by,
                    events
                )),
                expected,
                "{mode:?}"
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
        let sip::Command::Info { content_type, body, .. } = info(LegId(1), 'a', 160) else { panic!() };
        assert_eq!((&*content_type, &body[..]), ("application/dtmf-relay", &b"Signal=A\r\nDuration=160\r\n"[..]));
        assert_eq!(sip::Info::read(&content_type, &body), sip::Info::Digit('A'));
    }
}
