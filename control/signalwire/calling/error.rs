//! Errors of the Calling API, in the format of this API.

use serde_json::{Value as Json, json};
use tandem_call::command::Refused;
use tandem_causes::Cause;
use tandem_history::report::Refusal;

/// Base URL of SignalWire's pages about error codes.
const EXPLAINED: &str = "https://developer.signalwire.com/rest/overview/error-codes/";

/// An error answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum ApiError {
    /// HTTP status 400: the body is not JSON, or is not an object. The text is the reason.
    BadRequest(String),
    /// HTTP status 401: the project or token is unknown.
    Unauthorized,
    /// HTTP status 404: there is no such call, or no such path. The text is the reason.
    NotFound(String),
    /// HTTP status 409: a job of this kind is already running, and the leg can have only one such job.
    Conflict,
    /// HTTP status 500: the server cannot answer the request at the moment.
    Unavailable,
    /// HTTP status 422: a parameter or the state of the call is wrong.
    Invalid { code: &'static str, message: String, attribute: Option<String>, cause: Option<Cause> },
}

impl ApiError {
    /// HTTP status 422 for a wrong parameter. `attribute` is the parameter's name.
    pub(super) fn invalid(code: &'static str, attribute: &str, message: impl Into<String>) -> Self {
        Self::Invalid { code, message: message.into(), attribute: Some(attribute.to_owned()), cause: None }
    }

    pub(super) fn missing(attribute: &str) -> Self {
        Self::invalid("missing_required_parameter", attribute, format!("{attribute} is missing"))
    }

    /// HTTP status 422: the state of the call does not allow the request.
    pub(super) fn state(code: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { code, message: message.into(), attribute: None, cause: None }
    }

    pub(super) fn refused(refused: Refused) -> Self {
        match refused {
            Refused::NoSuchLeg => Self::over(),
            Refused::AlreadyRunning => Self::Conflict,
            Refused::ForbiddenAddress => Self::invalid("invalid_parameter", "addr", refused.to_string()),
            other => Self::state("invalid_state", other.to_string()),
        }
    }

    /// HTTP status 404: the call has ended.
    pub(super) fn over() -> Self {
        Self::NotFound("the call has ended".to_owned())
    }

    /// Adds the cause of the refusal. The request itself was correct.
    pub(super) fn because(self, because: Option<Cause>) -> Self {
        match self {
            Self::Invalid { code, message, attribute, .. } => {
                Self::Invalid { code, message, attribute, cause: because }
            }
            other => other,
        }
    }

    /// The reason for people.
    pub(super) fn refusal(&self) -> Refusal {
        match self {
            Self::BadRequest(why) | Self::NotFound(why) => Refusal::new(why.as_str(), None, None),
            Self::Unauthorized => Refusal::new("unknown project or token", None, None),
            Self::Conflict => Refusal::new("a job of this kind already runs on the call", None, None),
            Self::Unavailable => Refusal::new("the server cannot answer at the moment", None, None),
            Self::Invalid { code, message, cause, .. } => Refusal::new(format!("{message} ({code})"), None, *cause),
        }
    }

    /// The HTTP status and the body.
    pub(super) fn answer(&self) -> (u16, Json) {
        match self {
            Self::BadRequest(why) => (400, json!({ "error": "Bad Request", "message": why })),
            Self::Unauthorized => (401, json!({ "error": "Unauthorized" })),
            Self::NotFound(why) => (404, json!({ "error": "Not Found", "message": why })),
            Self::Conflict => (409, json!({ "error": "Conflict" })),
            Self::Unavailable => (500, json!({ "error": "Internal Server Error" })),
            Self::Invalid { code, message, attribute, .. } => {
                let url = format!("{EXPLAINED}{code}");
                let error = json!({
                    "type": "validation_error", "code": code, "message": message, "attribute": attribute, "url": url,
                });
                (422, json!({ "errors": [error] }))
            }
        }
    }
}
