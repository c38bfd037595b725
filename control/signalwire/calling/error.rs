//! Errors of the Calling API, in its own format.

use serde_json::{Value as Json, json};
use tandem_call::command::Refused;

/// Base URL of SignalWire's explanations of error codes.
const EXPLAINED: &str = "https://developer.signalwire.com/rest/overview/error-codes/";

/// An error answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ApiError {
    /// 400: the body is not JSON, or not an object.
    BadRequest,
    /// 401: the project or token is unknown.
    Unauthorized,
    /// 404: there is no such call.
    NotFound,
    /// 409: such a job is running already, and there can be only one.
    Conflict,
    /// 500: the server cannot serve the request at the moment.
    Unavailable,
    /// 422: a parameter or the call's state is wrong.
    Invalid { code: &'static str, message: String, attribute: Option<String> },
}

impl ApiError {
    /// 422 that names this parameter.
    pub(super) fn invalid(code: &'static str, attribute: &str, message: impl Into<String>) -> Self {
        Self::Invalid { code, message: message.into(), attribute: Some(attribute.to_owned()) }
    }

    pub(super) fn missing(attribute: &str) -> Self {
        Self::invalid("missing_required_parameter", attribute, format!("{attribute} is missing"))
    }

    /// 422: the call's state does not allow the request.
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

    /// The HTTP status and body.
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
