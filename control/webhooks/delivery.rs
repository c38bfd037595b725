//! The types of a delivery, of its signing, and of the report about an attempt.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_call::id::LegId;
use tandem_causes::Cause;
use tandem_http::FetchError;
use tandem_http::exchange::HttpAnswer;
use tandem_store::deliveries::DeliveryState;

/// A webhook request in provider-neutral form, with its retry policy. It is stored as JSON before the first attempt. It
/// contains no secrets, because each attempt is signed anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// Id of the delivery, the same at every attempt, so that a receiver recognises a repetition.
    #[serde(with = "hexadecimal")]
    pub id: u128,
    /// Name of the queue. Deliveries of a queue are sent strictly one after the other; usually each call has one queue.
    pub queue: String,
    /// The call (session) that the delivery reports on.
    #[serde(with = "hexadecimal")]
    pub session: u128,
    /// Name of the account.
    pub account: String,
    /// Name of the dialect that wrote the delivery and signs it.
    pub dialect: String,
    /// Label for logs.
    pub event: String,
    /// The URL, `http` or `https`.
    pub url: String,
    /// URL for when all attempts at `url` have failed; it gets the same number of attempts.
    #[serde(default)]
    pub failover_url: Option<String>,
    /// HTTP method, which decides where the body is sent.
    pub method: DeliveryMethod,
    /// The content.
    pub body: DeliveryBody,
    /// Time limit for one attempt in ms, 1 to 120,000.
    pub timeout_ms: u64,
    /// Time limit for one connection in ms, 50 to 60,000.
    pub connect_timeout_ms: u64,
    /// Retry policy.
    pub retries: Retry,
    /// Whether a 3xx answer is followed, with a new signature for each hop. If not, it is a failure.
    #[serde(default)]
    pub follow_redirects: bool,
    /// Id of the leg, if the notice is one of the leg's numbered notices.
    #[serde(default)]
    pub numbered: Option<String>,
    /// The leg that the delivery reports on.
    #[serde(default)]
    pub leg: Option<LegId>,
    /// Id of the delivery that this one repeats on request, as 32 hexadecimal digits.
    #[serde(default)]
    pub replay_of: Option<String>,
}

impl Delivery {
    /// Returns the id by which a receiver recognises a repetition. For a delivery that was repeated on request, it is
    /// the id of the original.
    pub fn token(&self) -> u128 {
        let original = self.replay_of.as_deref().and_then(|id| u128::from_str_radix(id, 16).ok());
        original.unwrap_or(self.id)
    }
}

/// The HTTP method of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeliveryMethod {
    /// GET; the content is in the URL's query.
    Get,
    /// POST; the content is in the body.
    Post,
}

impl DeliveryMethod {
    /// Returns the method for an HTTP request.
    pub fn as_http(self) -> ::http::Method {
        match self {
            DeliveryMethod::Get => ::http::Method::GET,
            DeliveryMethod::Post => ::http::Method::POST,
        }
    }
}

/// The content before serialisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum DeliveryBody {
    /// A form: names and values, in order.
    Form(Vec<(String, String)>),
    /// A JSON document.
    Json(serde_json::Value),
}

/// The retry policy of a delivery.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Pauses before the second, third, ... attempt at one URL, in ms. Empty for a single attempt.
    #[serde(default)]
    pub delays_ms: Vec<u64>,
    /// The failures that are retried.
    #[serde(default)]
    pub on: RetryOn,
    /// Time limit for all attempts together, including pauses, in ms. A running attempt is cut off then, and no other
    /// starts.
    #[serde(default)]
    pub total_ms: Option<u64>,
}

/// The failures that are retried. All others are final, because an application that answers 400 will do so again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryOn {
    /// No connection: failed name lookup, TCP or TLS, or a timeout of these.
    #[serde(default)]
    pub connect: bool,
    /// A connection, but no complete answer in time.
    #[serde(default)]
    pub response: bool,
    /// An answer with one of these statuses.
    #[serde(default)]
    pub statuses: Vec<StatusRange>,
}

impl RetryOn {
    /// Whether an attempt with this answer or failure is retried.
    pub fn covers(&self, status: Option<u16>, error: Option<&FetchError>) -> bool {
        match (status, error) {
            (Some(status), _) => self.statuses.iter().any(|range| (range.first..=range.last).contains(&status)),
            (None, Some(error)) => match error {
                FetchError::Dns(_)
                | FetchError::ConnectTimeout(_)
                | FetchError::ConnectRefused(_)
                | FetchError::Tls(_) => self.connect,
                FetchError::Timeout(_) | FetchError::Broken(_) | FetchError::Protocol(_) => self.response,
                FetchError::Url(_)
                | FetchError::Refused(_)
                | FetchError::TooLarge { .. }
                | FetchError::TooManyRedirects(_) => false,
            },
            (None, None) => false,
        }
    }
}

/// A range of HTTP statuses; both ends are included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRange {
    /// First status, 100 to 999.
    pub first: u16,
    /// Last status, 100 to 999.
    pub last: u16,
}

impl From<(u16, u16)> for StatusRange {
    fn from((first, last): (u16, u16)) -> Self {
        Self { first, last }
    }
}

/// Builds and signs the request of a delivery. Pure: the time is an argument.
pub trait DeliverySigner: Send + Sync {
    /// Returns the request of attempt number `attempt` (from 1) to `url` at `now`. `url` is that of the delivery, its
    /// failover URL, or the target of a redirect. For GET, the form must be in the query of the returned URL.
    fn seal(&self, delivery: &Delivery, attempt: u32, url: &str, now: Timestamp) -> SignedRequest;
}

/// A signed request, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRequest {
    /// The URL with its query.
    pub url: String,
    /// All header fields except `Host` and `Content-Length`.
    pub headers: Vec<(String, String)>,
    /// The body, exactly as signed.
    pub body: Bytes,
}

/// The report of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptReport {
    /// The attempt that was made.
    pub attempt: Attempt,
    /// State of the delivery after the attempt.
    pub state: DeliveryState,
    /// The next step.
    pub next: Next,
}

/// Formats a report such as `URL 503 (12 ms); again in 4 s`.
impl fmt::Display for AttemptReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Attempt { number, url, elapsed, status, error, .. } = &self.attempt;
        match (status, error) {
            (Some(status), _) => write!(f, "{url} {status} ({} ms)", elapsed.as_millis())?,
            (None, Some(error)) => write!(f, "{url} failed: {error}")?,
            (None, None) => write!(f, "{url} failed")?,
        }
        match (self.next, self.state) {
            (Next::Retry { after }, _) if after < Duration::from_secs(1) => write!(f, "; again at once"),
            (Next::Retry { after }, _) => write!(f, "; again in {} s", after.as_secs()),
            (Next::Failover, _) => write!(f, "; now the failover URL"),
            (Next::Done, DeliveryState::Failed) if *number == 1 => write!(f, "; given up"),
            (Next::Done, DeliveryState::Failed) => write!(f, "; given up after {number} attempts"),
            (Next::Done, _) => Ok(()),
        }
    }
}

/// An attempt to send a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Number of the attempt, from 1.
    pub number: u32,
    /// The configured URL without user and password.
    pub url: String,
    /// Whether this is the failover URL.
    pub failover: bool,
    /// Time of the start.
    pub at: Timestamp,
    /// Duration of the attempt.
    pub elapsed: Duration,
    /// HTTP status of the answer.
    pub status: Option<u16>,
    /// Reason of the failure; `None` for a success.
    pub error: Option<String>,
    /// Cause of the failure, with advice.
    pub cause: Option<Cause>,
    /// The answer, whether it was a success or not.
    pub answer: Option<HttpAnswer>,
}

/// The step after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the delivery has succeeded or was given up.
    Done,
    /// Another attempt at the same URL.
    Retry {
        /// Pause before the attempt.
        after: Duration,
    },
    /// An attempt at the failover URL, at once.
    Failover,
}

/// Serialises ids as strings of 32 hexadecimal digits, because they do not fit into JSON numbers.
mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(id: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{id:032x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        let text = String::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_follows_the_attempt() {
        let told = |number, status, error: Option<&str>, state, next| {
            let (url, error) = ("http://a/b".to_owned(), error.map(str::to_owned));
            let elapsed = Duration::from_millis(12);
            let (at, failover) = (Timestamp::UNIX_EPOCH, false);
            let attempt = Attempt { number, url, failover, at, elapsed, status, error, cause: None, answer: None };
            AttemptReport { attempt, state, next }.to_string()
        };
        let again = |millis| Next::Retry { after: Duration::from_millis(millis) };
        let (pending, failed) = (DeliveryState::Pending, DeliveryState::Failed);
        assert_eq!(told(1, Some(200), None, DeliveryState::Delivered, Next::Done), "http://a/b 200 (12 ms)");
        assert_eq!(told(1, Some(503), None, pending, again(4_000)), "http://a/b 503 (12 ms); again in 4 s");
        assert_eq!(told(1, None, Some("refused"), pending, again(0)), "http://a/b failed: refused; again at once");
        assert_eq!(
            told(2, None, Some("late"), pending, Next::Failover),
            "http://a/b failed: late; now the failover URL"
        );
        assert_eq!(told(1, Some(404), None, failed, Next::Done), "http://a/b 404 (12 ms); given up");
        assert_eq!(told(3, Some(500), None, failed, Next::Done), "http://a/b 500 (12 ms); given up after 3 attempts");
    }
}
