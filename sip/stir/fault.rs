//! The reasons why the signature of a calling number is not valid.

use std::fmt;

/// The error of an Identity header. There is one variant for each error response of RFC 8224 §6.2.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The call has no Identity header but needs one.
    Absent,
    /// The PASSporT is too old, or its `iat` is in the future.
    Stale {
        /// Age of the PASSporT in seconds, from its `iat` to now. The age is negative if `iat` is in the future.
        age: i64,
    },
    /// The certificate cannot be fetched, or `info` and `x5u` contain different URLs of the certificate. This is not
    /// evidence against the caller.
    Unreachable(String),
    /// The PASSporT uses an unsupported algorithm, extension or form.
    Unsupported(String),
    /// The certificate is not valid, or is not valid for the number.
    Certificate(String),
    /// The PASSporT is malformed, was signed with another key, or belongs to another call.
    Invalid(String),
}

impl Fault {
    /// Returns the status of the response that refuses the call (RFC 8224 §6.2.2).
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

    /// Returns the reason phrase of the response that refuses the call.
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

    /// Returns one word for metrics: `absent`, `stale`, `unreachable`, `unsupported`, `certificate` or `invalid`.
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

    /// Returns whether the fault is evidence against the call. This is the case if the PASSporT was checked and is
    /// wrong.
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
