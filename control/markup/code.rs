//! Error numbers for problems in a document. They are Twilio's numbers; the other flavours of the grammar use the same
//! ones.

/// A text that is not a URL, or a URL whose scheme is not allowed here.
pub const BAD_URL: u32 = 11100;
/// The document is not well-formed XML.
pub const NOT_XML: u32 = 12100;
/// The document has the wrong root element.
pub const WRONG_ROOT: u32 = 12102;
/// An element, attribute or value that is unknown or not supported here.
pub const SCHEMA: u32 = 12200;
/// A relative URL in a document without a URL of its own.
pub const NO_BASE: u32 = 15004;
