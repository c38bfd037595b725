//! Timeouts and retries of the requests to an application.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tandem_http::FetchError;

/// The pause before the first retry.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// A provider's timeouts and retries for requests to an application. A stored delivery has the policy with the names
/// and units of the attributes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Timeout of one connection attempt, 50 ms to 60 s.
    #[serde(rename = "connect_timeout_ms", with = "milliseconds")]
    pub connect: Duration,
    /// Timeout of one complete attempt, 1 ms to 120 s.
    #[serde(rename = "timeout_ms", with = "milliseconds")]
    pub total: Duration,
    /// The further attempts after a failure.
    pub retries: Retries,
    /// Whether the server follows a 3xx answer. Each hop gets a new signature. If the server does not follow 3xx
    /// answers, a 3xx answer is a failure.
    #[serde(rename = "follow_redirects", default)]
    pub redirects: bool,
}

impl Default for RetryPolicy {
    /// Returns the default policy: 5 s for a connection attempt, one retry after a failed connection, and 15 s for a
    /// complete attempt. Redirects are followed. Every response is final.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            total: Duration::from_secs(15),
            retries: Retries {
                pauses: pauses(1),
                on: RetryOn { connect: true, ..RetryOn::default() },
                ..Retries::default()
            },
            redirects: true,
        }
    }
}

/// The further attempts after a failure. By default, there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retries {
    /// Pauses before the second, third and further attempts at one URL. Empty if there is only one attempt.
    #[serde(rename = "delays_ms", default, with = "milliseconds::list")]
    pub pauses: Vec<Duration>,
    /// The failures after which the server makes another attempt.
    #[serde(default)]
    pub on: RetryOn,
    /// Time limit for all attempts together, including the pauses. When the limit is reached, a running attempt is
    /// aborted, and no further attempt starts. `None` means no limit.
    #[serde(rename = "total_ms", default, with = "milliseconds::option")]
    pub overall: Option<Duration>,
}

/// Returns the pauses before this number of retries: 250 ms, and then each pause twice as long as the pause before. An
/// application that restarts or is overloaded needs this time. Five retries take 7.75 s.
pub fn pauses(retries: usize) -> Vec<Duration> {
    (0..u32::try_from(retries).unwrap_or(u32::MAX).min(16)).map(|retry| FIRST_PAUSE * (1 << retry)).collect()
}

/// The failures after which the server makes another attempt. All other failures are final. For example, an application
/// that answers 400 will probably answer 400 again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryOn {
    /// The connection was not established. The name lookup, TCP or TLS failed, or one of these steps timed out.
    #[serde(default)]
    pub connect: bool,
    /// The connection was established, but the complete answer did not arrive within the time limit.
    #[serde(default)]
    pub response: bool,
    /// The answer has one of these statuses.
    #[serde(default)]
    pub statuses: Vec<StatusRange>,
}

impl RetryOn {
    /// Whether the server makes another attempt after an attempt with this answer or failure.
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

/// A range of HTTP statuses, including both ends.
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

/// Serialises a duration as a whole number of milliseconds.
mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    fn count(duration: Duration) -> u64 {
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(count(*duration))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }

    pub(super) mod list {
        use super::{Deserialize, Deserializer, Duration, Serializer, count};

        pub(in super::super) fn serialize<S: Serializer>(list: &[Duration], serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(list.iter().copied().map(count))
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Vec<Duration>, D::Error> {
            let list = Vec::<u64>::deserialize(deserializer)?;
            Ok(list.into_iter().map(Duration::from_millis).collect())
        }
    }

    pub(super) mod option {
        use super::{Deserialize, Deserializer, Duration, Serializer, count};

        pub(in super::super) fn serialize<S: Serializer>(
            duration: &Option<Duration>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match duration {
                Some(duration) => serializer.serialize_some(&count(*duration)),
                None => serializer.serialize_none(),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Duration>, D::Error> {
            Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_millis))
        }
    }
}
