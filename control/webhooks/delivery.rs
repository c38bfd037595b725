//! The types for a delivery and for the report about an attempt.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_call::Method;
use tandem_causes::Cause;
use tandem_http::Redirect;
use tandem_http::exchange::{HttpAnswer, SentSignature};
use tandem_id::{AccountName, LegId};
use tandem_store::deliveries::DeliveryState;

use crate::request::Body;
use crate::retry::RetryPolicy;

/// A webhook request with its retry policy, in a form that is independent of the provider. The delivery is stored as
/// JSON before the first attempt. The delivery contains no secrets, because each attempt gets a new signature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// Id of the delivery. All attempts have the same id, so that a receiver recognises a repeated delivery.
    #[serde(with = "hexadecimal")]
    pub id: u128,
    /// Name of the queue. The deliveries of a queue are sent strictly in order. Usually each call has its own queue.
    pub queue: String,
    /// Id of the call that the delivery reports on.
    #[serde(with = "hexadecimal")]
    pub session: u128,
    /// Name of the account.
    pub account: AccountName,
    /// Name of the dialect that wrote the delivery. This dialect also signs the delivery.
    pub dialect: String,
    /// Event name for logs.
    pub event: String,
    /// The URL of the application. Its scheme is `http` or `https`.
    pub url: String,
    /// The URL for further attempts when all attempts at `url` have failed. The maximum number of attempts at this URL
    /// is the same as at `url`.
    #[serde(default)]
    pub failover_url: Option<String>,
    /// HTTP method. The method decides whether the content is in the body or in the query.
    pub method: Method,
    /// The content of the webhook.
    pub body: Body,
    /// Timeouts and retries.
    #[serde(flatten)]
    pub policy: RetryPolicy,
    /// Id of the leg whose notices are numbered. `None` if this notice has no sequence number.
    #[serde(default)]
    pub numbered: Option<String>,
    /// The leg that the delivery reports on.
    #[serde(default)]
    pub leg: Option<LegId>,
    /// Id of the original delivery, as 32 hexadecimal digits. It is set if a request asked to repeat the original
    /// delivery.
    #[serde(default)]
    pub replay_of: Option<String>,
}

impl Delivery {
    /// Returns the id by which the receiver recognises a repeated delivery. If a request asked for the repetition, this
    /// is the id of the original delivery.
    pub fn token(&self) -> u128 {
        let original = self.replay_of.as_deref().and_then(|id| u128::from_str_radix(id, 16).ok());
        original.unwrap_or(self.id)
    }
}

/// The report about an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptReport {
    pub attempt: Attempt,
    /// The state of the delivery after the attempt.
    pub state: DeliveryState,
    /// The next step.
    pub next: Next,
}

/// Formats a report, for example `URL 503 (12 ms); again in 4 s`.
impl fmt::Display for AttemptReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Attempt { number, url, redirects, elapsed, status, error, .. } = &self.attempt;
        let redirects: String = redirects.iter().map(|redirect| format!("{redirect} ")).collect();
        match (status, error) {
            (Some(status), _) => write!(f, "{url} {redirects}{status} ({} ms)", elapsed.as_millis())?,
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
    /// The configured URL, without user name and password.
    pub url: String,
    /// The redirects that the request followed.
    pub redirects: Vec<Redirect>,
    /// Whether the URL of this attempt is the failover URL.
    pub failover: bool,
    /// Time at which the attempt started.
    pub at: Timestamp,
    /// Duration of the attempt.
    pub elapsed: Duration,
    /// HTTP status of the answer.
    pub status: Option<u16>,
    /// The reason for the failure. `None` for a success.
    pub error: Option<String>,
    /// Cause of the failure, with advice.
    pub cause: Option<Cause>,
    /// The signature of the request. `None` if the request was not signed.
    pub signature: Option<SentSignature>,
    /// The answer of the receiver, after a success or a failure.
    pub answer: Option<HttpAnswer>,
}

/// The step after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// No further step. The delivery has succeeded or has failed finally.
    Done,
    /// Another attempt at the same URL.
    Retry {
        /// Pause before the attempt.
        after: Duration,
    },
    /// An attempt at the failover URL, without a pause.
    Failover,
}

/// Serialises an id as a string of 32 hexadecimal digits, because an id is too large for a JSON number.
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
    fn the_report_of_an_attempt_names_the_next_step() {
        let line = |number, status, error: Option<&str>, state, next| {
            let (url, error) = ("http://a/b".to_owned(), error.map(str::to_owned));
            let elapsed = Duration::from_millis(12);
            let (at, failover) = (Timestamp::UNIX_EPOCH, false);
            let redirects = Vec::new();
            let attempt = Attempt {
                number,
                url,
                redirects,
                failover,
                at,
                elapsed,
                status,
                error,
                cause: None,
                signature: None,
                answer: None,
            };
            AttemptReport { attempt, state, next }.to_string()
        };
        let again = |millis| Next::Retry { after: Duration::from_millis(millis) };
        let (pending, failed) = (DeliveryState::Pending, DeliveryState::Failed);
        assert_eq!(line(1, Some(200), None, DeliveryState::Delivered, Next::Done), "http://a/b 200 (12 ms)");
        assert_eq!(line(1, Some(503), None, pending, again(4_000)), "http://a/b 503 (12 ms); again in 4 s");
        assert_eq!(line(1, None, Some("refused"), pending, again(0)), "http://a/b failed: refused; again at once");
        assert_eq!(
            line(2, None, Some("late"), pending, Next::Failover),
            "http://a/b failed: late; now the failover URL"
        );
        assert_eq!(line(1, Some(404), None, failed, Next::Done), "http://a/b 404 (12 ms); given up");
        assert_eq!(line(3, Some(500), None, failed, Next::Done), "http://a/b 500 (12 ms); given up after 3 attempts");
    }
}
