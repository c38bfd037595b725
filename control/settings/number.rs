//! `[[numbers]]`: who decides about the calls to one number, or to all that begin with the same digits.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;

use super::bridge::{Bridge, RecordBridge};

/// `[[numbers]]`: who decides about the calls to one number, or to all that begin with the same digits.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumberConfig {
    /// What the request URI's user must be.
    pub number: NumberPattern,
    /// Whose it is.
    pub account: Arc<str>,
    /// Whose words its web application speaks, one of [`PROVIDERS`](super::PROVIDERS); taken from `application` when that is set,
    /// else Twilio's when left out.
    #[serde(default)]
    pub provider: Option<Arc<str>>,
    /// Document of an incoming call.
    #[serde(default)]
    pub voice_url: Option<Arc<str>>,
    /// `GET` or `POST`.
    #[serde(default)]
    pub voice_method: HttpMethod,
    /// Document when `voice_url` fails.
    #[serde(default)]
    pub fallback_url: Option<Arc<str>>,
    /// `GET` or `POST`.
    #[serde(default)]
    pub fallback_method: HttpMethod,
    /// Told when a call has ended.
    #[serde(default)]
    pub status_callback: Option<Arc<str>>,
    /// `GET` or `POST`.
    #[serde(default)]
    pub status_callback_method: HttpMethod,
    /// Instead of `voice_url`: the id of an application.
    #[serde(default)]
    pub application: Option<Arc<str>>,
    /// Instead of `voice_url`: the document itself.
    #[serde(default)]
    pub twiml: Option<Arc<str>>,
    /// Instead of `voice_url`: straight through to another peer.
    #[serde(default)]
    pub bridge: Option<Bridge>,
    /// Instead of `voice_url`: one of `[[agents]]`, by name.
    #[serde(default)]
    pub agent: Option<Arc<str>>,
    /// With `bridge`: what is recorded.
    #[serde(default)]
    pub record: RecordBridge,
}

/// HTTP methods as the file spells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    /// Parameters in the query.
    Get,
    /// Parameters in the body.
    #[default]
    Post,
}

impl From<HttpMethod> for tandem_call::Method {
    fn from(method: HttpMethod) -> Self {
        match method {
            HttpMethod::Get => Self::Get,
            HttpMethod::Post => Self::Post,
        }
    }
}

/// A dialled number, or with a `*` at its end every number that begins so.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct NumberPattern {
    text: Arc<str>,
    prefix: bool,
}

impl NumberPattern {
    /// How well `user` fits: the count of octets that had to match, one more for the whole number; `None` if it does not.
    /// Of several patterns the highest wins.
    pub fn fits(&self, user: &str) -> Option<usize> {
        match self.prefix {
            true => user.starts_with(&*self.text).then_some(self.text.len()),
            false => (*self.text == *user).then_some(self.text.len() + 1),
        }
    }

    /// The digits that its numbers begin with; `None` for one number.
    pub fn prefix(&self) -> Option<&str> {
        self.prefix.then(|| self.text.trim_start_matches('+'))
    }

    /// The number; `None` for a prefix.
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
            "{text:?} is not a number: \"+\" and 2 to 15 digits (E.164), or an extension such as \"100\", or either's \
             beginning and a \"*\""
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
    fn the_longest_pattern_fits_best_and_the_whole_number_beats_its_prefix() {
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
    fn numbers_that_nobody_can_dial_are_refused() {
        for text in ["", "+", "+0123", "+1234567890123456", "+1 555", "a b", "+15x"] {
            assert!(text.parse::<NumberPattern>().is_err(), "{text}");
        }
    }
}
