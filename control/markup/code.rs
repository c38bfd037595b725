//! Error numbers for problems in a document. The numbers are Twilio's error numbers. The other flavours use the same
//! numbers.

/// A text is not a URL, or the scheme of a URL is not allowed here.
pub const BAD_URL: u32 = 11100;
/// The document is not well-formed XML.
pub const NOT_XML: u32 = 12100;
/// The document has the wrong root element.
pub const WRONG_ROOT: u32 = 12102;
/// An element, attribute or value is unknown or not supported here. An attribute that only this server has also has
/// this error number.
pub const SCHEMA: u32 = 12200;
/// A document contains a relative URL and has no base URL.
pub(crate) const NO_BASE: u32 = 15004;
/// The URL of a stream has a scheme other than `ws` and `wss`.
pub const STREAM_SCHEME: u32 = 31922;
/// The URL of a stream is not a URL.
pub const BAD_STREAM_URL: u32 = 31923;
