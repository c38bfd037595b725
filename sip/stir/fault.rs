//! Why a calling number is not vouched for.

use std::fmt;

/// What is wrong with an Identity header, by the response that RFC 8224 §6.2.2 has for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// There is none, and there should be.
    Absent,
    /// It is too old, or from the future.
    Stale {
        /// Seconds between its `iat` and now.
        age: i64,
    },
    /// Its certificate cannot be had, or is not where it should be. Says nothing against the caller.
    Unreachable(String),
    /// Of a kind that is not understood: another algorithm, another extension.
    Unsupported(String),
    /// Its certificate is not good for it.
    Certificate(String),
    /// It cannot be read, was signed by somebody else, or is about another call.
    Invalid(String),
}

impl Fault {
    /// The status of a refusal.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Absent => 428,
            Self::Stale { .. } => 403,
            Self::Unreachable(_) => 436,
            Self::Unsupported(_) | Self::Certificate(_) => 437,
            Self::Invalid(_) => 438,
        }
    }

    /// Its reason phrase.
    #[must_use]
    pub fn phrase(&self) -> &'static str {
        match self {
            Self::Absent => "Use Identity Header",
            Self::Stale { .. } => "Stale Date",
            Self::Unreachable(_) => "Bad Identity Info",
            Self::Unsupported(_) | Self::Certificate(_) => "Unsupported Credential",
            Self::Invalid(_) => "Invalid Identity Header",
        }
    }

    /// In one word, for counters.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Stale { .. } => "stale",
            Self::Unreachable(_) => "unreachable",
            Self::Unsupported(_) => "unsupported",
            Self::Certificate(_) => "certificate",
            Self::Invalid(_) => "invalid",
        }
    }

    /// Whether it speaks against the call: it was looked into, and is wrong.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        !matches!(self, Self::Absent | Self::Unreachable(_) | Self::Unsupported(_))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("no Identity header"),
            Self::Stale { age } if *age < 0 => write!(f, "issued {} s in the future", -age),
            Self::Stale { age } => write!(f, "issued {age} s ago"),
            Self::Unreachable(why) | Self::Unsupported(why) | Self::Certificate(why) | Self::Invalid(why) => {
                f.write_str(why)
            }
        }
    }
}

impl std::error::Error for Fault {}
