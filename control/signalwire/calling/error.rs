//! Errors of the Calling API, in the format of this API.

use serde_json::{Value as Json, json};
use tandem_call::command::Refused;

/// Base URL of SignalWire's pages about error codes.
const EXPLAINED: &str = "https://developer.signalwire.com/rest/overview/error-codes/";

/// An error answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ApiError {
    /// HTTP status 400: the body is not JSON, or is not an object.
    BadRequest,
    /// HTTP status 401: the project or token is unknown.
    Unauthorized,
    /// HTTP status 404: there is no such call.
    NotFound,
    /// HTTP status 409: a job of this kind is already running, and the leg can have only one such job.
    Conflict,
    /// HTTP status 500: the server cannot answer the request at the moment.
    Unavailable,
    /// HTTP status 422: a parameter or the state of the call is wrong.
    Invalid { code: &'static str, message: String, attribute: Option<String> },
}

impl ApiError {
    /// HTTP status 422 for a wrong parameter. `attribute` is the parameter's name.
    pub(super) fn invalid(code: &'static str, attribute: &str, message: impl Into<String>) -> Self {
        Self::Invalid { code, message: message.into(), attribute: Some(attribute.to_owned()) }
    }

    pub(super) fn missing(attribute: &str) -> Self {
        Self::invalid("missing_required_parameter", attribute, format!("{attribute} is missing"))
    }

    /// HTTP status 422: the state of the call does not allow the request.
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

    /// The HTTP status and the body.
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
