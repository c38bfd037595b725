//! The setting for reliable provisional responses (RFC 3262).

/// Whether the endpoint uses reliable provisional responses (RFC 3262).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prack {
    /// Reliable provisional responses are neither offered nor accepted. A request with `Require: 100rel` gets 420.
    Off,
    /// The endpoint offers reliable provisional responses to called parties (Supported header). It uses them with
    /// callers that require them.
    #[default]
    Supported,
    /// The endpoint requires reliable provisional responses of called parties. It uses them with every caller that
    /// supports them.
    Required,
}
