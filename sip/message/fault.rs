//! The errors for which a message is refused.

use super::uri::UriFault;

/// The reason why a message is refused. The text of the reason is suitable as a reason phrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("Empty Start Line")]
    NoStartLine,
    #[error("Start Line Is Folded")]
    FoldedStartLine,
    #[error("Request-URI Too Long")]
    StartLineTooLong,
    /// The request line does not consist of three words with one space between them (RFC 4475 §3.1.2.9, §3.1.2.10).
    #[error("Malformed Request Line")]
    RequestLine,
    #[error("Malformed Method")]
    Method,
    #[error("Malformed Request-URI: {0}")]
    Uri(UriFault),
    /// The Request-URI has headers, which RFC 3261 §19.1.1 forbids (RFC 4475 §3.1.2.11).
    #[error("Request-URI has headers")]
    UriHeaders,
    /// The scheme of the Request-URI is not `sip`, `sips` or `tel`.
    #[error("Unsupported URI Scheme")]
    Scheme,
    #[error("Version Not Supported")]
    Version,
    /// The status code is not three digits from 100 to 699.
    #[error("Malformed Status Code")]
    StatusCode,
    /// The message has no empty line after the header fields.
    #[error("Header Fields Do Not End")]
    NoEndOfHead,
    /// A line does not end with CRLF (RFC 3261 §7). If two servers disagreed about the end of a line, an attacker could
    /// exploit the difference.
    #[error("CR or LF Alone")]
    BareLineBreak,
    #[error("Too Many Header Fields")]
    TooManyFields,
    #[error("Header Field Too Long")]
    FieldTooLong,
    #[error("Header Field Has Too Many Lines")]
    TooManyFolds,
    /// A header line has no colon, or the text before the colon is not a token.
    #[error("Malformed Header Field Name")]
    FieldName,
    /// This required header field is missing in the message.
    #[error("Missing {0}")]
    Missing(&'static str),
    #[error("Malformed {0}")]
    Malformed(&'static str),
    /// This header field occurs twice, but only one is allowed (RFC 4475 §3.3.8).
    #[error("Repeated {0}")]
    Repeated(&'static str),
    /// The method in CSeq differs from the method in the request line (RFC 4475 §3.1.2.17).
    #[error("CSeq method does not match")]
    CSeqMethod,
    /// The message is longer than [`super::MAX_MESSAGE`].
    #[error("Message Too Large")]
    TooLarge,
    /// Content-Length is greater than the length of the body (RFC 4475 §3.1.2.2).
    #[error("Body Shorter Than Content-Length")]
    BodyTooShort,
}

impl Fault {
    /// Returns the status code of the response to this error.
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
