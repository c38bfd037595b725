//! Addresses in header fields that the application reads: P-Asserted-Identity, Remote-Party-ID, Diversion, History-Info,
//! and the Contact of a redirection.

use super::address::Address;
use super::grammar::Parameters;
use super::uri::Parts;
use super::{Uri, lossy};
use crate::header::split_list;

/// Maximum number of addresses that are read from one header field.
const MAX_PARTIES: usize = 16;

/// One address of a header field (`name-addr` or `addr-spec`, RFC 3261 §20.10), or a URI alone.
#[derive(Debug, Clone)]
pub struct Party {
    display: Option<String>,
    uri: Uri,
    /// The parameters of the header field: the text after the URI.
    parameters: Vec<u8>,
}

impl Party {
    /// Reads the first address of a header field.
    #[must_use]
    pub fn first(value: &str) -> Option<Self> {
        Self::all(value).next()
    }

    /// Reads the addresses of a comma-separated list, at most 16. Values that are no address are left out.
    pub fn all(value: &str) -> impl Iterator<Item = Self> {
        split_list(value.as_bytes()).filter_map(Self::read).take(MAX_PARTIES)
    }

    /// Reads a URI without angle brackets.
    #[must_use]
    pub fn of_uri(uri: &str) -> Option<Self> {
        Some(Self { display: None, uri: Uri::parse(uri.as_bytes())?, parameters: Vec::new() })
    }

    fn read(value: &[u8]) -> Option<Self> {
        if let Some(address) = Address::read(value) {
            return Some(Self::of(&address, &address.display));
        }
        // Many networks send display names without quotes that contain other characters than tokens.
        let start = value.iter().rposition(|&byte| byte == b'<')?;
        let (display, address) = value.split_at_checked(start).filter(|(display, _)| !display.contains(&b'"'))?;
        Address::read(address).map(|address| Self::of(&address, display))
    }

    fn of(address: &Address<'_>, display: &[u8]) -> Self {
        let display = lossy(display.trim_ascii());
        Self {
            display: Some(display).filter(|display| !display.is_empty()),
            uri: Uri::copied(address.uri),
            parameters: address.parameters.to_vec(),
        }
    }

    /// Returns the display name without quotes and escapes.
    #[must_use]
    pub fn display(&self) -> Option<&str> {
        self.display.as_deref()
    }

    /// Returns the URI as it was received.
    #[must_use]
    pub fn uri(&self) -> String {
        lossy(self.uri.text())
    }

    /// Returns the URI without the headers after `?`.
    #[must_use]
    pub fn uri_without_headers(&self) -> String {
        let uri = self.uri();
        uri.split_once('?').map_or(uri.clone(), |(uri, _)| uri.to_owned())
    }

    /// Returns whether the scheme is `sip` or `sips`.
    #[must_use]
    pub fn is_sip(&self) -> bool {
        self.uri.is_sip()
    }

    /// Returns whether the URI is a telephone number (`tel:`, RFC 3966).
    #[must_use]
    pub fn is_tel(&self) -> bool {
        matches!(Parts::read(self.uri.text()), Ok(Parts::Tel(_)))
    }

    /// Returns the user or the telephone number. Percent escapes are decoded. The parameters and the visual separators
    /// of a telephone number are removed, and a local number gets the prefix in its `phone-context` (RFC 3966 §5.1). The
    /// result is empty if the URI has no user.
    #[must_use]
    pub fn user(&self) -> String {
        self.uri.number()
    }

    /// Returns the host of a SIP URI without brackets. The result is empty for other schemes.
    #[must_use]
    pub fn host(&self) -> String {
        self.uri.host_text()
    }

    /// Returns the value of a parameter of the header field, without quotes. The name is compared without case.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<String> {
        Parameters::of(&self.parameters).value(name).map(|value| lossy(&value))
    }
}

/// Returns the values of a comma-separated header field. A comma in quotes or in angle brackets is not a separator.
pub fn header_values(value: &str) -> impl Iterator<Item = &str> {
    split_list(value.as_bytes()).filter_map(|item| std::str::from_utf8(item).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<(Option<String>, String)> {
        Party::first(value).map(|party| (party.display.clone(), party.user()))
    }

    #[test]
    fn an_address_has_a_display_name_and_a_user_in_every_form() {
        for (value, display, user) in [
            (r#""<0041222>" <sip:+41223334455@h>"#, Some("<0041222>"), "+41223334455"),
            (r#""a \"b\", <sip:x@y>" <sip:+1555@h;user=phone>;tag=1"#, Some("a \"b\", <sip:x@y>"), "+1555"),
            ("tel:+41-22-333.44(55)", None, "+41223334455"),
            ("<tel:+41-22-333-44-55;ext=7>", None, "+41223334455"),
            ("<tel:2345-678;phone-context=+1-415>", None, "+14152345678"),
            ("<sip:2345678;phone-context=+1415@h;user=phone>", None, "+14152345678"),
            ("<tel:911;phone-context=example.com>", None, "911"),
            ("<tel:911;phone-context=+1>", None, "911"),
            ("<tel:5551234567;phone-context=+1>", None, "+15551234567"),
            ("<tel:030123456;phone-context=+49>", None, "030123456"),
            ("Ann Lee <sip:ann@h>", Some("Ann Lee"), "ann"),
            ("José (Büro), Ext. 5 <sip:5@h>", Some("Ext. 5"), "5"),
            ("Büro @ Zürich: <sip:5@h>", Some("Büro @ Zürich:"), "5"),
            ("sip:a%40b@h;x=1", None, "a@b"),
            ("<sips:h>", None, ""),
            ("<sip:030-1234@h>", None, "0301234"),
            ("<sip:*21#@h>", None, "*21#"),
            (", <sip:first@h>, <sip:second@h>", None, "first"),
        ] {
            assert_eq!(read(value), Some((display.map(str::to_owned), user.to_owned())), "{value}");
        }
        for value in ["", "anonymous", "<>", "\"<sip:a@b>", "<sip:a@b", "\"x\" sip:a@b", "<tel:>", "<sip:a b@h>"] {
            assert!(read(value).is_none(), "{value:?}");
        }
    }

    #[test]
    fn parameters_of_a_header_field_are_not_parameters_of_its_uri() {
        let party = Party::first("\"q=0\" <sip:a@h;q=1?X=2>;Q=0.5;reason=\"user-busy\"").unwrap();
        assert_eq!(
            (party.parameter("q").unwrap(), party.parameter("reason").unwrap()),
            ("0.5".into(), "user-busy".into())
        );
        assert_eq!((&*party.uri_without_headers(), &*party.host()), ("sip:a@h;q=1", "h"));
    }
}
