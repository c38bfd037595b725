//! Addresses of callers and called parties.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

/// A dialled telephone number: an optional `+`, then 1 to 32 characters of `0-9 * #`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PhoneNumber(Arc<str>);

impl PhoneNumber {
    /// Returns the number as written, including `+`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the number is in international form (`+` and 2 to 15 digits, ITU-T E.164).
    pub fn is_e164(&self) -> bool {
        self.0.strip_prefix('+').is_some_and(|digits| {
            (2..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0')
        })
    }
}

impl FromStr for PhoneNumber {
    type Err = NotAPhoneNumber;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix('+').unwrap_or(text);
        let fits =
            (1..=32).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit() || b == b'*' || b == b'#');
        if fits { Ok(Self(text.into())) } else { Err(NotAPhoneNumber) }
    }
}

impl TryFrom<String> for PhoneNumber {
    type Error = NotAPhoneNumber;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PhoneNumber> for String {
    fn from(number: PhoneNumber) -> Self {
        number.0.as_ref().into()
    }
}

impl fmt::Display for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The error for a text that is not a telephone number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAPhoneNumber;

impl fmt::Display for NotAPhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a telephone number")
    }
}

impl std::error::Error for NotAPhoneNumber {}

/// The address of one end of a leg.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Deserialize)]
#[serde(from = "String")]
pub enum Address {
    /// A telephone number, which is called over a trunk.
    Phone(PhoneNumber),
    /// A SIP URI (`sip:` or `sips:`), stored exactly as written.
    Sip(Arc<str>),
    /// The name of a registered endpoint.
    Client(Arc<str>),
    /// The id of an application of this server.
    Application(Arc<str>),
    /// Any other name of a caller, for example `anonymous` or a single word.
    Name(Arc<str>),
}

impl Address {
    /// Returns the address as text, for example `client:alice`.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Phone(number) => number.as_str().into(),
            Self::Sip(text) | Self::Name(text) => (&**text).into(),
            Self::Client(name) => format!("client:{name}").into(),
            Self::Application(id) => format!("app:{id}").into(),
        }
    }

    /// Returns the user part of the address: the number, the SIP user with decoded percent escapes, or the name.
    pub fn user(&self) -> Cow<'_, str> {
        match self {
            Self::Phone(number) => number.as_str().into(),
            Self::Client(name) | Self::Application(name) | Self::Name(name) => (&**name).into(),
            Self::Sip(uri) => {
                let rest = uri.split_once(':').map_or(&**uri, |(_, rest)| rest);
                let (user, _) = rest.split_once('@').unwrap_or((rest, ""));
                decoded(user.split([':', ';']).next().unwrap_or(user))
            }
        }
    }
}

impl From<String> for Address {
    /// Never fails. Text that is not a telephone number, a SIP URI, a `client:` address or an `app:` address becomes a
    /// name.
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<&str> for Address {
    fn from(text: &str) -> Self {
        let has_scheme = |scheme: &str| text.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme));
        if let Ok(number) = text.parse() {
            Self::Phone(number)
        } else if has_scheme("sip:") || has_scheme("sips:") {
            Self::Sip(text.into())
        } else if has_scheme("client:") {
            Self::Client(text.get("client:".len()..).unwrap_or_default().into())
        } else if has_scheme("app:") {
            Self::Application(text.get("app:".len()..).unwrap_or_default().into())
        } else {
            Self::Name(text.into())
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// Decodes the percent escapes of a user part (RFC 3261 §19.1.2). A `%` without two hexadecimal digits stays.
fn decoded(user: &str) -> Cow<'_, str> {
    let mut parts = user.split('%');
    let first = parts.next().unwrap_or_default();
    if first.len() == user.len() {
        return user.into();
    }
    let mut octets = first.as_bytes().to_vec();
    for part in parts {
        let escape = part.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(octet) => {
                octets.push(octet);
                octets.extend_from_slice(part.get(2..).unwrap_or_default().as_bytes());
            }
            None => {
                octets.push(b'%');
                octets.extend_from_slice(part.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&octets).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_the_kind_of_its_form_and_the_same_text() {
        for text in
            ["+15551230001", "100", "sip:alice@127.0.0.1:5080;transport=tcp", "client:alice", "app:7", "anonymous"]
        {
            assert_eq!(Address::from(text).to_string(), text);
        }
        assert!(matches!(Address::from("+15551230001"), Address::Phone(n) if n.is_e164()));
        assert!(matches!(Address::from("SIP:a@b"), Address::Sip(_)));
    }

    #[test]
    fn the_user_of_a_sip_address_is_its_user_part() {
        assert_eq!(Address::from("sip:alice:pw@host;x=1").user(), "alice");
        assert_eq!(Address::from("sip:host").user(), "host");
        for (user, decoded) in [
            ("+1800%231", "+1800#1"),
            ("+1800%2523", "+1800%23"),
            ("+1800#1", "+1800#1"),
            ("%c3%A9", "é"),
            ("100%", "100%"),
            ("1%é", "1%é"),
            ("%%32%4", "%2%4"),
        ] {
            assert_eq!(Address::from(format!("sip:{user}@host")).user(), decoded, "{user}");
        }
    }
}
