//! What is wrong with a request of the Calling API, in its own shape.

use serde_json::{Value as Json, json};
use tandem_call::command::Refused;

/// Where the provider explains its errors.
const EXPLAINED: &str = "https://developer.signalwire.com/rest/overview/error-codes/";

/// An answer that is no call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ApiError {
    /// Not JSON, or no object.
    BadRequest,
    /// No project of this token.
    Unauthorized,
    /// No such call.
    NotFound,
    /// One runs already, and there can be only one.
    Conflict,
    /// The server cannot at the moment.
    Unavailable,
    /// Something about a parameter.
    Invalid { code: &'static str, message: String, attribute: Option<String> },
}

impl ApiError {
    /// Something about this parameter.
    pub(super) fn invalid(code: &'static str, attribute: &str, message: impl Into<String>) -> Self {
        Self::Invalid { code, message: message.into(), attribute: Some(attribute.to_owned()) }
    }

    pub(super) fn missing(attribute: &str) -> Self {
        Self::invalid("missing_required_parameter", attribute, format!("{attribute} is missing"))
    }

    /// The call's state does not allow it.
    pub(super) fn state(code: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { code, message: message.into(), attribute: None }
    }

    pub(super) fn refused(refused: Refused) -> Self {
        match refused {
            Refused::NoSuchLeg => Self::NotFound,
            Refused::AlreadyRunning => Self::Conflict,
            other => Self::state("invalid_state", other.to_string()),
        }
    }

    /// HTTP status and body.
    pub(super) fn answer(&self) -> (u16, Json) {
        match self {
            Self::BadRequest => (400, json!({ "error": "Bad Request" })),
            Self::Unauthorized => (401, json!({ "error": "Unauthorized" })),
            Self::NotFound => (404, json!({ "error": "Not Found" })),
            Self::Conflict => (409, json!({ "error": "Conflict" })),
            Self::Unavailable => (500, json!({ "error": "Internal Server Error" })),
            Self::Invalid { code, message, attribute } => {
                let url = format!("{EXPLAINED}{code}");
                let error = json!({
                    "type": "validation_error", "code": code, "message": message, "attribute": attribute, "url": url,
                });
                (422, json!({ "errors": [error] }))
            }
        }
    }
}
