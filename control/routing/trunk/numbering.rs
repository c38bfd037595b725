//! Conversion of telephone numbers between the format of a trunk and our own format (ITU-T E.164).
//!
//! ```text
//!  in:   inbound_strip_prefix ─> inbound_add_prefix ─> number_format to E.164
//!  out:  E.164 to number_format ─> strip_prefix ─> add_prefix
//! ```
//!
//! Prefixes apply only to the called number. For the calling number, only the format is converted.

use std::sync::Arc;

use tandem_settings::{NumberFormat, TrunkConfig};

/// Minimum number of digits of a number that other networks can call. A shorter number is an extension or a service
/// number, and does not change.
const MIN_DIGITS: usize = 7;
/// Maximum number of digits of a number (ITU-T E.164 §6).
const MAX_DIGITS: usize = 15;

/// The rules of a trunk for telephone numbers.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Numbering {
    format: NumberFormat,
    country_code: Arc<str>,
    national_prefix: Arc<str>,
    international_prefix: Arc<str>,
    outbound: Rewrite,
    inbound: Rewrite,
}

/// A prefix to remove and a prefix to add.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
struct Rewrite {
    strip: Arc<str>,
    add: Arc<str>,
}

impl Rewrite {
    fn new(strip: Option<&Arc<str>>, add: Option<&Arc<str>>) -> Self {
        Self { strip: strip.cloned().unwrap_or_default(), add: add.cloned().unwrap_or_default() }
    }

    fn apply(&self, number: &str) -> String {
        format!("{}{}", self.add, number.strip_prefix(&*self.strip).unwrap_or(number))
    }
}

impl Numbering {
    /// Returns the number rules of a trunk.
    pub fn of(trunk: &TrunkConfig) -> Self {
        Self {
            format: trunk.number_format,
            country_code: trunk.country_code.clone().unwrap_or_default(),
            national_prefix: Arc::clone(&trunk.national_prefix),
            international_prefix: Arc::clone(&trunk.international_prefix),
            outbound: Rewrite::new(trunk.strip_prefix.as_ref(), trunk.add_prefix.as_ref()),
            inbound: Rewrite::new(trunk.inbound_strip_prefix.as_ref(), trunk.inbound_add_prefix.as_ref()),
        }
    }

    /// Converts a called number to the trunk's format.
    pub fn called_out(&self, number: &str) -> String {
        self.outbound.apply(&self.caller_out(number))
    }

    /// Converts a calling number to the trunk's format.
    pub fn caller_out(&self, number: &str) -> String {
        let Some(digits) = number.strip_prefix('+').filter(|digits| is_number(digits)) else {
            return number.to_owned();
        };
        match self.format {
            NumberFormat::AsIs | NumberFormat::E164 => number.to_owned(),
            NumberFormat::Digits => digits.to_owned(),
            NumberFormat::National => match digits.strip_prefix(&*self.country_code) {
                Some(rest) => format!("{}{rest}", self.national_prefix),
                None => format!("{}{digits}", self.international_prefix),
            },
        }
    }

    /// Converts a called number from the trunk's format to our own format.
    pub fn called_in(&self, number: &str) -> String {
        self.caller_in(&self.inbound.apply(number))
    }

    /// Converts a calling number from the trunk's format to our own format. A text that is not a number, and a number
    /// that is too short or too long, do not change.
    pub fn caller_in(&self, number: &str) -> String {
        if self.format == NumberFormat::AsIs || number.starts_with('+') {
            return number.to_owned();
        }
        let abroad = number.strip_prefix(&*self.international_prefix).filter(|_| !self.international_prefix.is_empty());
        let e164 = match (self.format, abroad) {
            (NumberFormat::AsIs, _) => None,
            (NumberFormat::Digits, _) => Some(number.to_owned()),
            (_, Some(digits)) => Some(digits.to_owned()),
            (NumberFormat::E164, None) if self.country_code.is_empty() => None,
            // If the national prefix is empty, every number without the international prefix belongs to the country of
            // the trunk.
            (NumberFormat::E164 | NumberFormat::National, None) => {
                number.strip_prefix(&*self.national_prefix).map(|rest| format!("{}{rest}", self.country_code))
            }
        };
        e164.filter(|digits| is_number(digits)).map_or_else(|| number.to_owned(), |digits| format!("+{digits}"))
    }
}

fn is_number(digits: &str) -> bool {
    (MIN_DIGITS..=MAX_DIGITS).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbering(more: serde_json::Value) -> Numbering {
        let mut trunk = serde_json::json!({ "name": "t", "uri": "sip:h" });
        for (key, value) in more.as_object().unwrap() {
            trunk[key] = value.clone();
        }
        Numbering::of(&serde_json::from_value(trunk).unwrap())
    }

    fn german(format: &str) -> Numbering {
        numbering(serde_json::json!({ "number_format": format, "country_code": "49" }))
    }

    #[test]
    fn outbound_numbers_have_the_format_of_the_trunk() {
        let home = "+493012345678";
        let abroad = "+15551230001";
        for (format, expected) in [
            ("as_is", [home, abroad, "600", "*21#"]),
            ("e164", [home, abroad, "600", "*21#"]),
            ("digits", ["493012345678", "15551230001", "600", "*21#"]),
            ("national", ["03012345678", "0015551230001", "600", "*21#"]),
        ] {
            let numbering = german(format);
            let sent = [home, abroad, "600", "*21#"].map(|number| numbering.called_out(number));
            assert_eq!(sent, expected, "{format}");
        }
    }

    #[test]
    fn inbound_numbers_in_the_format_of_the_trunk_become_e164() {
        let table = [
            ("e164", "+493012345678", "+493012345678"),
            ("e164", "00493012345678", "+493012345678"),
            ("e164", "03012345678", "+493012345678"),
            ("digits", "493012345678", "+493012345678"),
            ("national", "03012345678", "+493012345678"),
            ("national", "0015551230001", "+15551230001"),
            ("national", "+15551230001", "+15551230001"),
            ("national", "110", "110"),
            ("digits", "1234567890123456", "1234567890123456"),
            ("digits", "anonymous", "anonymous"),
            ("national", "alice", "alice"),
            ("as_is", "03012345678", "03012345678"),
        ];
        for (format, received, ours) in table {
            assert_eq!(german(format).caller_in(received), ours, "{format} {received}");
        }
    }

    #[test]
    fn without_a_national_prefix_all_other_numbers_are_national() {
        let american = numbering(serde_json::json!({
            "number_format": "national", "country_code": "1", "national_prefix": "", "international_prefix": "011"
        }));
        assert_eq!(american.caller_in("5551230001"), "+15551230001");
        assert_eq!(american.caller_in("011493012345678"), "+493012345678");
        assert_eq!(american.caller_in("911"), "911");
        assert_eq!(american.called_out("+15551230001"), "5551230001");
        assert_eq!(american.called_out("+493012345678"), "011493012345678");
    }

    #[test]
    fn an_outbound_number_converts_back_to_itself() {
        for format in ["as_is", "e164", "digits", "national"] {
            let numbering = german(format);
            for number in ["+493012345678", "+15551230001", "600", "+88213000000"] {
                assert_eq!(numbering.caller_in(&numbering.caller_out(number)), number, "{format}");
            }
        }
    }

    #[test]
    fn prefix_settings_apply_to_the_called_number_only() {
        let rules = numbering(serde_json::json!({
            "number_format": "digits", "strip_prefix": "49", "add_prefix": "777#",
            "inbound_strip_prefix": "99", "inbound_add_prefix": "49"
        }));
        assert_eq!(rules.called_out("+493012345678"), "777#3012345678");
        assert_eq!(rules.called_out("+15551230001"), "777#15551230001", "stripped where it is");
        assert_eq!(rules.caller_out("+493012345678"), "493012345678");
        assert_eq!(rules.called_in("993012345678"), "+493012345678");
        assert_eq!(rules.caller_in("993012345678"), "+993012345678");
    }

    #[test]
    fn numbering_without_settings_changes_nothing() {
        let plain = Numbering::default();
        for number in ["+493012345678", "0301234567", "600", "alice", ""] {
            assert_eq!((plain.called_in(number), plain.called_out(number)), (number.to_owned(), number.to_owned()));
        }
    }
}
