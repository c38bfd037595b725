//! What is delivered, how it is signed, and what is told about it.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_call::id::LegId;
use tandem_causes::Cause;
use tandem_http::FetchError;
use tandem_http::exchange::Answer;
use tandem_store::deliveries::DeliveryState;

/// What to send where, in neutral words. Stored as JSON before the first attempt; it holds no secrets, for signing happens
/// at each attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// The same at every attempt, so that a receiver can tell a repetition.
    #[serde(with = "hexadecimal")]
    pub id: u128,
    /// Deliveries of one queue are sent strictly one after the other; usually one queue a call.
    pub queue: String,
    /// The call.
    #[serde(with = "hexadecimal")]
    pub session: u128,
    /// The owner's name in the configuration.
    pub account: String,
    /// Which dialect wrote it, and seals it.
    pub dialect: String,
    /// A label for logs.
    pub event: String,
    /// `http` or `https`.
    pub url: String,
    /// Tried once the attempts at `url` are used up, with the same retries.
    #[serde(default)]
    pub failover_url: Option<String>,
    /// How the body travels.
    pub method: DeliveryMethod,
    /// The body.
    pub body: DeliveryBody,
    /// For one attempt, ms, 1 to 120,000.
    pub timeout_ms: u64,
    /// For one connection, ms, 50 to 60,000.
    pub connect_timeout_ms: u64,
    /// When it fails.
    pub retries: Retry,
    /// Whether an answer 3xx is followed (each hop is sealed anew) or is a failure.
    #[serde(default)]
    pub follow_redirects: bool,
    /// The leg whose numbered notices it is one of.
    #[serde(default)]
    pub numbered: Option<String>,
    /// The leg it tells about.
    #[serde(default)]
    pub leg: Option<LegId>,
    /// The delivery that it repeats at somebody's wish, 32 hex digits.
    #[serde(default)]
    pub replay_of: Option<String>,
}

impl Delivery {
    /// By what a receiver tells a repetition: the id, of the first one if it was sent again at somebody's wish.
    pub fn token(&self) -> u128 {
        let original = self.replay_of.as_deref().and_then(|id| u128::from_str_radix(id, 16).ok());
        original.unwrap_or(self.id)
    }
}

/// How the body travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeliveryMethod {
    /// In the URL's query.
    Get,
    /// In the body.
    Post,
}

impl DeliveryMethod {
    /// As HTTP spells it.
    pub fn as_http(self) -> ::http::Method {
        match self {
            DeliveryMethod::Get => ::http::Method::GET,
            DeliveryMethod::Post => ::http::Method::POST,
        }
    }
}

/// The body before it is spelled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum DeliveryBody {
    /// Name and value, in order.
    Form(Vec<(String, String)>),
    /// One document.
    Json(serde_json::Value),
}

/// When a failed attempt is repeated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Pauses before the second, third, ... attempt at one URL, ms; empty: one attempt only.
    #[serde(default)]
    pub delays_ms: Vec<u64>,
    /// Which failures are repeated.
    #[serde(default)]
    pub on: RetryOn,
    /// All attempts together, pauses included, ms; an attempt is cut off there, and none starts after it.
    #[serde(default)]
    pub total_ms: Option<u64>,
}

/// Which failures are repeated. Others are final: an application that answers 400 will do so again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryOn {
    /// No connection: name, TCP, TLS, or their timeout.
    #[serde(default)]
    pub connect: bool,
    /// Connected, but no complete answer, or none in time.
    #[serde(default)]
    pub response: bool,
    /// An answer with one of these.
    #[serde(default)]
    pub statuses: Vec<StatusRange>,
}

impl RetryOn {
    /// Whether an attempt with this answer, or this failure, is one of them.
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

/// HTTP statuses from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRange {
    /// 100 to 999.
    pub first: u16,
    /// 100 to 999.
    pub last: u16,
}

impl From<(u16, u16)> for StatusRange {
    fn from((first, last): (u16, u16)) -> Self {
        Self { first, last }
    }
}

/// Spells and signs. Pure: the time is an argument.
pub trait Seal: Send + Sync {
    /// What attempt number `attempt` (from 1) at `url` sends at `now`. `url` is the delivery's, its failover's or a
    /// redirect's target; for a GET the form belongs into the returned URL's query.
    fn seal(&self, delivery: &Delivery, attempt: u32, url: &str, now: Timestamp) -> Sealed;
}

/// A request ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// With its query.
    pub url: String,
    /// All but `Host` and `Content-Length`.
    pub headers: Vec<(String, String)>,
    /// Exactly the octets that were signed.
    pub body: Bytes,
}

/// One attempt and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptReport {
    /// The attempt.
    pub attempt: Attempt,
    /// Where the delivery stands.
    pub state: DeliveryState,
    /// What follows.
    pub next: Next,
}

/// `URL 503 (12 ms); again in 4 s`.
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

/// One attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// As configured, without user and password.
    pub url: String,
    /// Whether that was the failover URL.
    pub failover: bool,
    /// When it began.
    pub at: Timestamp,
    /// Its length.
    pub elapsed: Duration,
    /// The answer's.
    pub status: Option<u16>,
    /// Why it failed; `None`: it did not.
    pub error: Option<String>,
    /// What that means.
    pub cause: Option<Cause>,
    /// What was answered, whether it was accepted or not.
    pub answer: Option<Answer>,
}

/// What follows an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it was delivered or given up.
    Done,
    /// The same URL again.
    Retry {
        /// From now.
        after: Duration,
    },
    /// The failover URL, at once.
    Failover,
}

/// Ids in JSON: a string of 32 hex digits, for JSON's numbers are too small.
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
