//! `[[numbers]]`: the numbers, and the destination of the calls to each number.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;
use tandem_call::Method;
use tandem_id::AccountName;

use super::bridge::{Bridge, RecordBridge};
use super::method;

/// An entry of `[[numbers]]`: one number, or all numbers with a prefix, and the destination of their calls.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumberConfig {
    /// The number or prefix. The user part of the request URI of a call must match this pattern.
    pub number: NumberPattern,
    /// The account that owns the number. If there is only one account, the key may be left out.
    #[serde(default)]
    pub account: AccountName,
    /// The dialect of the number's web application, one of [`PROVIDERS`](super::PROVIDERS). If `application` is set,
    /// the dialect comes from the application. The default is `twilio`.
    #[serde(default)]
    pub provider: Option<Arc<str>>,
    /// The URL of the document for an inbound call.
    #[serde(default)]
    pub voice_url: Option<Arc<str>>,
    /// The HTTP method of `voice_url`.
    #[serde(default, deserialize_with = "method")]
    pub voice_method: Method,
    /// The URL of the document if `voice_url` fails.
    #[serde(default)]
    pub fallback_url: Option<Arc<str>>,
    /// The HTTP method of `fallback_url`.
    #[serde(default, deserialize_with = "method")]
    pub fallback_method: Method,
    /// The URL for the notice of a call's end.
    #[serde(default)]
    pub status_callback: Option<Arc<str>>,
    /// The HTTP method of `status_callback`.
    #[serde(default, deserialize_with = "method")]
    pub status_callback_method: Method,
    /// The id of an application, as an alternative to `voice_url`.
    #[serde(default)]
    pub application: Option<Arc<str>>,
    /// The document itself, as an alternative to `voice_url`.
    #[serde(default)]
    pub twiml: Option<Arc<str>>,
    /// A destination to which calls are connected directly, as an alternative to `voice_url`.
    #[serde(default)]
    pub bridge: Option<Bridge>,
    /// The name of an agent from `[[agents]]`, as an alternative to `voice_url`.
    #[serde(default)]
    pub agent: Option<Arc<str>>,
    /// The recording of calls. This setting has an effect only together with `bridge`.
    #[serde(default)]
    pub record: RecordBridge,
}

/// A dialled number, or all numbers with a prefix. In the configuration file, a prefix has `*` at its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct NumberPattern {
    text: Arc<str>,
    prefix: bool,
}

impl NumberPattern {
    /// Returns how well the pattern matches `user`: the number of matching octets, plus one for an exact match. Returns
    /// `None` if the pattern does not match. If several patterns match, the server uses the pattern with the highest
    /// value.
    pub fn fits(&self, user: &str) -> Option<usize> {
        match self.prefix {
            true => user.starts_with(&*self.text).then_some(self.text.len()),
            false => (*self.text == *user).then_some(self.text.len() + 1),
        }
    }

    /// Returns the prefix without `+`. Returns `None` if the pattern is one number.
    pub fn prefix(&self) -> Option<&str> {
        self.prefix.then(|| self.text.trim_start_matches('+'))
    }

    /// Returns the number, or the prefix without the `*` at its end.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Returns the number. Returns `None` if the pattern is a prefix.
    pub fn exact(&self) -> Option<&str> {
        (!self.prefix).then_some(&self.text)
    }
}

impl fmt::Display for NumberPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text, if self.prefix { "*" } else { "" })
    }
}

impl FromStr for NumberPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (start, prefix) = text.strip_suffix('*').map_or((text, false), |start| (start, true));
        let shortest = if prefix { 0 } else { 2 };
        let fits = match start.strip_prefix('+') {
            Some(digits) => {
                (shortest..=15).contains(&digits.len())
                    && digits.bytes().all(|octet| octet.is_ascii_digit())
                    && !digits.starts_with('0')
            }
            None => {
                (prefix || !start.is_empty())
                    && start.len() <= 64
                    && start.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"*#._-".contains(&octet))
            }
        };
        if fits {
            return Ok(Self { text: start.into(), prefix });
        }
        Err(format!(
            "{text:?} is not a number: \"+\" and 2 to 15 digits (E.164), or an extension such as \"100\", or the \
             beginning of one of these and a \"*\""
        ))
    }
}

impl TryFrom<String> for NumberPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> NumberPattern {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_number_pattern_matches_and_an_exact_number_has_precedence() {
        let patterns = ["*", "+1*", "+1555*", "+15551230001", "+15551230001*", "100"].map(pattern);
        let best = |user: &str| {
            patterns.iter().filter_map(|p| Some((p.fits(user)?, p.to_string()))).max().map(|(_, text)| text).unwrap()
        };
        assert_eq!(best("+15551230001"), "+15551230001");
        assert_eq!(best("+155512300012"), "+15551230001*");
        assert_eq!(best("+15559"), "+1555*");
        assert_eq!(best("+14"), "+1*");
        assert_eq!(best("100"), "100");
        assert_eq!(best("1000"), "*");
    }

    #[test]
    fn number_patterns_that_cannot_be_dialled_are_refused() {
        for text in ["", "+", "+0123", "+1234567890123456", "+1 555", "a b", "+15x"] {
            assert!(text.parse::<NumberPattern>().is_err(), "{text}");
        }
    }
}
