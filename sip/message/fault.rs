//! What can be wrong with a message.

use super::uri::UriFault;

/// Why a message is refused. Its text is fit for a reason phrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("Empty Start Line")]
    NoStartLine,
    #[error("Start Line Is Folded")]
    FoldedStartLine,
    #[error("Request-URI Too Long")]
    StartLineTooLong,
    /// Not three words with one space between them (RFC 4475 §3.1.2.9, §3.1.2.10).
    #[error("Malformed Request Line")]
    RequestLine,
    #[error("Malformed Method")]
    Method,
    #[error("Malformed Request-URI: {0}")]
    Uri(UriFault),
    /// RFC 3261 §19.1.1 forbids headers there (RFC 4475 §3.1.2.11).
    #[error("Request-URI has headers")]
    UriHeaders,
    /// Only `sip`, `sips` and `tel` can be called.
    #[error("Unsupported URI Scheme")]
    Scheme,
    #[error("Version Not Supported")]
    Version,
    /// Not three digits from 100 to 699.
    #[error("Malformed Status Code")]
    StatusCode,
    /// There is no empty line after the header fields.
    #[error("Header Fields Do Not End")]
    NoEndOfHead,
    /// RFC 3261 §7: every line ends with CRLF. Two servers that disagree about where a line ends can be played off against
    /// each other.
    #[error("CR or LF Alone")]
    BareLineBreak,
    #[error("Too Many Header Fields")]
    TooManyFields,
    #[error("Header Field Too Long")]
    FieldTooLong,
    #[error("Header Field Has Too Many Lines")]
    TooManyFolds,
    /// No colon, or something other than a token before it.
    #[error("Malformed Header Field Name")]
    FieldName,
    /// The header field is required.
    #[error("Missing {0}")]
    Missing(&'static str),
    #[error("Malformed {0}")]
    Malformed(&'static str),
    /// The header field may be there once only (RFC 4475 §3.3.8).
    #[error("Repeated {0}")]
    Repeated(&'static str),
    /// CSeq has another method than the request line (RFC 4475 §3.1.2.17).
    #[error("CSeq method does not match")]
    CSeqMethod,
    /// Longer than [`super::MAX_MESSAGE`].
    #[error("Message Too Large")]
    TooLarge,
    /// Content-Length exceeds what is there (RFC 4475 §3.1.2.2).
    #[error("Body Shorter Than Content-Length")]
    BodyTooShort,
}

impl Fault {
    /// The status of the response that says so.
    pub(super) fn status(self) -> u16 {
        match self {
            Self::TooLarge => 413,
            Self::StartLineTooLong => 414,
            Self::Scheme => 416,
            Self::Version => 505,
            _ => 400,
        }
    }
}
