//! Passes on header fields from a caller's INVITE to the outbound INVITE of a direct bridge: `X-*`, User-to-User (RFC
//! 7433), and the other fields in the settings of the trunk.
//!
//! Only names and values are copied, and never whole lines. `sip` does not send a value that could end a line or begin
//! another line. The fields of SIP itself are never passed on here. [`super::identity`] handles the identity of the
//! caller.

use tandem_call::header_fields::HeaderFields;
use tandem_settings::header_pattern::{HeaderPattern, is_made_here};

/// Maximum number of fields that are passed on. Further fields are dropped.
const MAX_FIELDS: usize = 20;
/// Maximum total size in octets of the names and values that are passed on. The limit exists because a datagram has no
/// space for more.
const MAX_OCTETS: usize = 4_096;

/// Returns the fields to pass on, in their original order.
pub fn passed(patterns: &[HeaderPattern], headers: &HeaderFields) -> HeaderFields {
    let mut room = MAX_OCTETS;
    let fitting = headers.iter().filter(|(name, _)| patterns.iter().any(|pattern| pattern.fits(name)));
    let foreign = fitting.filter(|(name, _)| !is_made_here(name));
    let within = foreign.filter(|(name, value)| {
        let left = room.checked_sub(name.len() + value.len());
        room = left.unwrap_or(room);
        left.is_some()
    });
    within.take(MAX_FIELDS).cloned().collect()
}

#[cfg(test)]
mod tests {
    use tandem_settings::header_pattern::usual;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderFields {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn names(patterns: &[HeaderPattern], pairs: &[(&str, &str)]) -> Vec<String> {
        passed(patterns, &headers(pairs)).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn x_headers_and_user_to_user_are_passed_on_but_no_identity_headers() {
        let received = [
            ("X-Account", "42"),
            ("P-Asserted-Identity", "<sip:forged@h>"),
            ("x-lower", "1"),
            ("USER-TO-USER", "56a390f3d2b7310023a2;encoding=hex"),
            ("User-to-User", "second"),
            ("Subject", "hello"),
            ("X", "not quite"),
        ];
        assert_eq!(names(&usual(), &received), ["X-Account", "x-lower", "USER-TO-USER", "User-to-User"]);
        let all = ["P-*", "Subject"].map(|text| HeaderPattern::try_from(text.to_owned()).unwrap());
        assert_eq!(names(&all, &received), ["Subject"]);
        assert_eq!(names(&[], &received), [""; 0]);
    }

    #[test]
    fn the_number_and_size_of_passed_headers_are_limited() {
        let many: HeaderFields = (0..100).map(|n| (format!("X-{n}"), String::new())).collect();
        assert_eq!(passed(&usual(), &many).len(), MAX_FIELDS);
        let (large, larger) = ("a".repeat(4_000), "b".repeat(5_000));
        let received = [("X-Larger", &*larger), ("X-Large", &*large), ("X-Medium", &large[..200]), ("X-Small", "c")];
        assert_eq!(
            names(&usual(), &received),
            ["X-Large", "X-Small"],
            "what does not fit stays behind, the rest goes on"
        );
    }

    #[test]
    fn a_header_pattern_is_a_name_or_a_prefix() {
        for wrong in ["", "*", "X Y", "X-*-Y", "Via:", "P-Asserted-Identity", "diversion"] {
            assert!(HeaderPattern::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
