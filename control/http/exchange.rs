//! HTTP requests with their answers, for people who want to see the behaviour of an application. The size of a stored
//! exchange is limited, and an exchange contains no credentials.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Response, without_credentials};

/// Maximum number of parameters that are kept for a request.
const MAX_PARAMETERS: usize = 200;
/// Maximum number of characters that are kept of a parameter's name or value.
const LONGEST_VALUE: usize = 1_024;
/// Maximum number of headers that are kept of an answer. `LONGEST_HEADER` is the maximum number of characters that are
/// kept of one header.
const MAX_HEADERS: usize = 30;
const LONGEST_HEADER: usize = 256;
/// Maximum number of characters that are kept of an answer's body.
const LONGEST_BODY: usize = 4_096;

/// A request with its answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HttpExchange {
    /// The time at which the request was sent.
    pub at: Timestamp,
    /// The side that sent the request.
    #[serde(default)]
    pub direction: ExchangeDirection,
    /// The HTTP method, such as `GET` or `POST`.
    pub method: Cow<'static, str>,
    /// The URL without user name and password.
    pub url: String,
    /// The names and values of the parameters, in order. A GET request has parameters too.
    pub parameters: Vec<(String, String)>,
    /// The body of the request, if it is JSON. Only the start of a long body is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The signature of the request. `None` if the request was not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<SentSignature>,
    /// Duration until the answer or the failure, in milliseconds.
    pub elapsed_ms: u64,
    /// The answer. `None` if there was no answer.
    pub answer: Option<HttpAnswer>,
    /// The reason of a failure.
    pub error: Option<String>,
    /// The id (32 hex digits) and the event of the webhook that this request delivers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
}

/// The signature of a request, as this server sent the signature.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SentSignature {
    /// The URL of the signed request, without user name and password. In a GET request, this URL has the parameters.
    /// After redirects, this is the URL of the last request.
    pub url: String,
    /// The header fields of the signature: their names and values.
    pub headers: Vec<(String, String)>,
}

impl SentSignature {
    /// Finds the signature in the header fields of a request to `url`. `None` if the request has no signature.
    pub fn of(url: &str, headers: &[(String, String)]) -> Option<Self> {
        let names = |name: &str, word: &str| name.to_ascii_lowercase().contains(word);
        headers.iter().any(|(name, _)| names(name, "signature")).then(|| Self {
            url: without_credentials(url),
            // A signature may cover a time. The time is then in a header field too.
            headers: headers
                .iter()
                .filter(|(name, _)| names(name, "signature") || names(name, "timestamp"))
                .map(|(name, value)| (cut(name, LONGEST_HEADER), cut(value, LONGEST_HEADER)))
                .collect(),
        })
    }
}

/// The side that sent a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExchangeDirection {
    /// This server sent the request to an application.
    #[default]
    Sent,
    /// An application sent the request to this server.
    Received,
}

/// The answer to a request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HttpAnswer {
    pub status: u16,
    /// The content type, as received.
    pub content_type: Option<String>,
    /// The headers, without `Set-Cookie`.
    pub headers: Vec<(String, String)>,
    /// The body as text. Only the start of a long body is kept.
    pub body: String,
    /// The redirects that led to this answer, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redirects: Vec<FollowedRedirect>,
}

/// A redirect that the server followed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FollowedRedirect {
    pub status: u16,
    /// The method of the next request.
    pub method: String,
    /// The URL of the next request, without user name and password.
    pub url: String,
}

impl HttpExchange {
    /// Creates an exchange with this duration. The calling function then sets `answer` or `error`.
    pub fn new(
        at: Timestamp,
        method: impl Into<Cow<'static, str>>,
        url: &str,
        parameters: &[(String, String)],
        elapsed: Duration,
    ) -> Self {
        let kept = parameters.iter().take(MAX_PARAMETERS);
        Self {
            at,
            direction: ExchangeDirection::Sent,
            method: method.into(),
            url: without_credentials(url),
            parameters: kept.map(|(name, value)| (cut(name, LONGEST_VALUE), cut(value, LONGEST_VALUE))).collect(),
            body: None,
            signature: None,
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            answer: None,
            error: None,
            webhook_id: None,
            event: None,
        }
    }

    /// Returns the same exchange with a JSON body.
    #[must_use]
    pub fn with_body(self, json: Option<&str>) -> Self {
        Self { body: json.map(|json| cut(json, LONGEST_BODY)), ..self }
    }

    /// Returns the exchange as a request that an application sent to this server. `json` is the body, if it is JSON.
    #[must_use]
    pub fn received(self, json: Option<String>) -> Self {
        Self { direction: ExchangeDirection::Received, ..self.with_body(json.as_deref()) }
    }

    /// The approximate size of the exchange in memory, in octets.
    pub fn size(&self) -> usize {
        let pairs = |pairs: &[(String, String)]| pairs.iter().map(|(name, value)| name.len() + value.len() + 48).sum();
        let (request, answer): (usize, usize) = (
            pairs(&self.parameters),
            self.answer.as_ref().map_or(0, |answer| pairs(&answer.headers) + answer.body.len()),
        );
        let signed = self.signature.as_ref().map_or(0, |signature| signature.url.len() + pairs(&signature.headers));
        200 + signed + self.url.len() + self.body.as_ref().map_or(0, String::len) + request + answer
    }
}

impl HttpAnswer {
    /// Converts the answer of an application to the form that an exchange contains.
    pub fn of(response: &Response) -> Self {
        let headers = response.headers.iter().filter(|(name, _)| *name != ::http::header::SET_COOKIE).take(MAX_HEADERS);
        Self {
            status: response.status,
            content_type: response.header("content-type").map(|text| cut(text, LONGEST_HEADER)),
            headers: headers
                .map(|(name, value)| {
                    (name.as_str().to_owned(), cut(&String::from_utf8_lossy(value.as_bytes()), LONGEST_HEADER))
                })
                .collect(),
            body: body(&response.body),
            redirects: response
                .redirects
                .iter()
                .map(|next| FollowedRedirect {
                    status: next.status,
                    method: next.method.to_string(),
                    url: cut(&next.url, LONGEST_VALUE),
                })
                .collect(),
        }
    }

    /// Creates an answer that this server itself gives.
    pub fn ours(status: u16, content_type: &str, text: &str) -> Self {
        let content_type = Some(content_type.to_owned());
        Self { status, content_type, headers: Vec::new(), body: cut(text, LONGEST_BODY), redirects: Vec::new() }
    }
}

/// The start of a body, converted to text.
fn body(octets: &[u8]) -> String {
    let max = octets.len().min(LONGEST_BODY * 4);
    cut(&String::from_utf8_lossy(octets.get(..max).unwrap_or_default()), LONGEST_BODY)
}

fn cut(text: &str, max: usize) -> String {
    text.chars().take(max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_of_an_exchange_is_limited_and_has_no_password() {
        let long = vec![("Digits".to_owned(), "1".repeat(5_000)); 300];
        let exchange = HttpExchange::new(
            Timestamp::UNIX_EPOCH,
            "POST",
            "http://user:secret@h/voice",
            &long,
            Duration::from_secs(1),
        );
        assert_eq!(exchange.url, "http://h/voice");
        assert_eq!((exchange.parameters.len(), exchange.parameters[0].1.len()), (MAX_PARAMETERS, LONGEST_VALUE));
        assert_eq!(HttpAnswer::ours(200, "text/xml", &"x".repeat(9_000)).body.len(), LONGEST_BODY);
        assert!(exchange.size() > MAX_PARAMETERS * LONGEST_VALUE);
    }

    #[test]
    fn the_signature_headers_of_a_request_are_recorded() {
        let header = |name: &str| (name.to_owned(), "x".to_owned());
        let sent = [header("User-Agent"), header("telnyx-timestamp"), header("telnyx-signature-ed25519")];
        let signature = SentSignature::of("http://u:p@h/a", &sent).unwrap();
        assert_eq!((&*signature.url, &signature.headers[..]), ("http://h/a", &sent[1..]));
        assert_eq!(SentSignature::of("http://h/a", &sent[..2]), None);
    }
}
