//! Numbers of the problems a document can have. They are Twilio's, which the other flavours of the grammar took over.

/// A URL is none, or of a scheme that is not allowed here.
pub const BAD_URL: u32 = 11100;
/// Not well-formed XML.
pub const NOT_XML: u32 = 12100;
/// The root element is another one.
pub const WRONG_ROOT: u32 = 12102;
/// An element, attribute or value that is not known, or not served here.
pub const SCHEMA: u32 = 12200;
/// A relative URL in a document that has no URL of its own.
pub const NO_BASE: u32 = 15004;
