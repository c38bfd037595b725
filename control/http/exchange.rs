//! Requests and their answers, as they are shown to whoever looks for what an application did: bounded, without credentials.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Response, without_credentials};

/// Parameters kept of a request.
const MOST_PARAMETERS: usize = 200;
/// Characters kept of a parameter's value.
const LONGEST_VALUE: usize = 1_024;
/// Headers kept of an answer, and characters of each.
const MOST_HEADERS: usize = 30;
const LONGEST_HEADER: usize = 256;
/// Characters kept of an answer's body.
const LONGEST_BODY: usize = 4_096;

/// One request and what came of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Exchange {
    /// When it began.
    pub at: Timestamp,
    /// `GET`, `POST`.
    pub method: Cow<'static, str>,
    /// Without user and password.
    pub url: String,
    /// Name and value, in order; those of a GET too.
    pub parameters: Vec<(String, String)>,
    /// How long it took, ms.
    pub elapsed_ms: u64,
    /// `None`: there was none.
    pub answer: Option<Answer>,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// As received.
    pub content_type: Option<String>,
    /// Without cookies.
    pub headers: Vec<(String, String)>,
    /// As text; its beginning if it is long.
    pub body: String,
}

impl Exchange {
    /// One that took so long; what came of it is filled in by whoever knows.
    pub fn new(
        at: Timestamp,
        method: impl Into<Cow<'static, str>>,
        url: &str,
        parameters: &[(String, String)],
        elapsed: Duration,
    ) -> Self {
        let kept = parameters.iter().take(MOST_PARAMETERS);
        Self {
            at,
            method: method.into(),
            url: without_credentials(url),
            parameters: kept.map(|(name, value)| (cut(name, LONGEST_VALUE), cut(value, LONGEST_VALUE))).collect(),
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            answer: None,
            error: None,
        }
    }

    /// About the memory it takes, octets.
    pub fn size(&self) -> usize {
        let pairs = |pairs: &[(String, String)]| pairs.iter().map(|(name, value)| name.len() + value.len() + 48).sum();
        let (asked, answered): (usize, usize) = (
            pairs(&self.parameters),
            self.answer.as_ref().map_or(0, |answer| pairs(&answer.headers) + answer.body.len()),
        );
        200 + self.url.len() + asked + answered
    }
}

impl Answer {
    /// One that was received.
    pub fn of(response: &Response) -> Self {
        let headers =
            response.headers.iter().filter(|(name, _)| *name != ::http::header::SET_COOKIE).take(MOST_HEADERS);
        Self {
            status: response.status,
            content_type: response.header("content-type").map(|text| cut(text, LONGEST_HEADER)),
            headers: headers
                .map(|(name, value)| {
                    (name.as_str().to_owned(), cut(&String::from_utf8_lossy(value.as_bytes()), LONGEST_HEADER))
                })
                .collect(),
            body: body(&response.body),
        }
    }

    /// One of ours.
    pub fn ours(status: u16, content_type: &str, text: &str) -> Self {
        let content_type = Some(content_type.to_owned());
        Self { status, content_type, headers: Vec::new(), body: cut(text, LONGEST_BODY) }
    }
}

/// The beginning of a body, as text.
fn body(octets: &[u8]) -> String {
    let most = octets.len().min(LONGEST_BODY * 4);
    cut(&String::from_utf8_lossy(octets.get(..most).unwrap_or_default()), LONGEST_BODY)
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_is_bounded_and_says_no_password() {
        let long = vec![("Digits".to_owned(), "1".repeat(5_000)); 300];
        let exchange =
            Exchange::new(Timestamp::UNIX_EPOCH, "POST", "http://user:secret@h/voice", &long, Duration::from_secs(1));
        assert_eq!(exchange.url, "http://h/voice");
        assert_eq!((exchange.parameters.len(), exchange.parameters[0].1.len()), (MOST_PARAMETERS, LONGEST_VALUE));
        assert_eq!(Answer::ours(200, "text/xml", &"x".repeat(9_000)).body.len(), LONGEST_BODY);
        assert!(exchange.size() > MOST_PARAMETERS * LONGEST_VALUE);
    }
}
