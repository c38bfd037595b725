//! Telnyx's envelope for errors: `{"errors":[{code, title, detail, source, meta}]}`. The code is a string of digits.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tandem_call::command::Refused;
use tandem_causes::Cause;
use tandem_history::report::Refusal;
use tandem_routing::channels::{Barred, Channel};
use tandem_routing::new_call::CreateError;
use tandem_store::StoreFailed;

use super::action::Action;

/// One error answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ApiError {
    /// The HTTP status.
    pub(super) status: StatusCode,
    /// Telnyx's error number.
    pub(super) code: u32,
    title: String,
    pub(super) detail: String,
    source: Option<Source>,
    /// The cause of the refusal, if the request itself was correct.
    cause: Option<Cause>,
}

/// The part of the request that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Source {
    /// A member of the body, as a JSON pointer (RFC 6901).
    Pointer(String),
    /// A query parameter.
    Parameter(String),
}

/// Parameters for which Telnyx has a special error number for "Invalid value for ...".
const INVALID_VALUE: &[(&str, u32)] = &[
    ("terminating_digit", 90007),
    ("valid_digits", 90008),
    ("loop", 90009),
    ("payload", 90010),
    ("invalid_payload", 90010),
    ("payload_type", 90011),
    ("voice", 90012),
    ("language", 90013),
    ("digits", 90014),
    ("send_digits_on_answer", 90014),
    ("stop", 90016),
    ("client_state", 90017),
    ("target_leg_client_state", 90017),
    ("minimum_digits", 90022),
    ("maximum_digits", 90023),
    ("maximum_tries", 90024),
    ("timeout_millis", 90025),
    ("inter_digit_timeout_millis", 90026),
    ("duration_millis", 90027),
    ("timeout_secs", 90028),
    ("time_limit_secs", 90029),
    ("service_level", 90030),
    ("record_timeout_secs", 90049),
    ("initial_timeout_millis", 90056),
    ("webhook_urls", 90057),
    ("recording_track", 90059),
    ("record_track", 90059),
];

impl ApiError {
    fn new(status: StatusCode, code: u32, title: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { status, code, title: title.into(), detail: detail.into(), source: None, cause: None }
    }

    fn unprocessable(code: u32, title: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, title, detail)
    }

    pub(super) fn at(self, parameter: &str) -> Self {
        Self { source: Some(Source::Pointer(format!("/{parameter}"))), ..self }
    }

    /// Adds the name of an object at the beginning of the error's JSON pointer. The wrong member is in this object of
    /// the body.
    pub(super) fn within(self, object: &str) -> Self {
        let source = match self.source {
            Some(Source::Pointer(place)) => Some(Source::Pointer(format!("/{object}{place}"))),
            other => other,
        };
        Self { source, ..self }
    }

    /// Sets the source of the error to a query parameter. This source replaces the JSON pointer into the body.
    pub(super) fn in_query(self, parameter: &str) -> Self {
        Self { source: Some(Source::Parameter(parameter.into())), ..self }
    }

    pub(super) fn unauthenticated() -> Self {
        let detail = "The required authentication headers were either invalid or not included in the request.";
        Self::new(StatusCode::UNAUTHORIZED, 10009, "Authentication failed", detail)
    }

    pub(super) fn no_resource() -> Self {
        let detail = "The requested resource or URL could not be found.";
        Self::new(StatusCode::NOT_FOUND, 10005, "Resource not found", detail)
    }

    pub(super) fn no_recording() -> Self {
        let detail = "The recording could not be found. Please check the recording_id and try again.";
        Self::new(StatusCode::NOT_FOUND, 10005, "Recording not found", detail).at("recording_id")
    }

    pub(super) fn method_not_allowed() -> Self {
        let detail = "The method is not allowed for this resource.";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, 10030, "Method not allowed", detail)
    }

    pub(super) fn not_json(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, 10023, "Invalid JSON", detail)
    }

    pub(super) fn not_an_object() -> Self {
        Self::new(StatusCode::BAD_REQUEST, 10029, "Expected JSON", "The request body must be a JSON object.")
    }

    pub(super) fn bad_encoding(position: usize) -> Self {
        let detail = format!("Error decoding request body at position {position}");
        Self::new(StatusCode::BAD_REQUEST, 10028, "Character encoding error", detail)
    }

    pub(super) fn unreadable_body(status: StatusCode) -> Self {
        Self::new(status, 10015, "Bad Request", "The request body could not be read, or is too large.")
    }

    pub(super) fn missing(parameter: &str) -> Self {
        let detail = format!("The '{parameter}' parameter is required and cannot be blank.");
        Self::unprocessable(10004, "Missing required parameter", detail).at(parameter)
    }

    pub(super) fn wrong_type(parameter: &str, expected: &str) -> Self {
        let detail = format!("The '{parameter}' parameter must be of type '{expected}'.");
        Self::unprocessable(10026, "Invalid parameter type", detail).at(parameter)
    }

    pub(super) fn not_one_of(parameter: &str, words: &[&str]) -> Self {
        Self::invalid(
            parameter,
            10032,
            "Invalid enumerated value",
            format!("The value must be one of: {}.", words.join(", ")),
        )
    }

    pub(super) fn out_of_range(parameter: &str, low: i64, high: i64) -> Self {
        let detail = format!("The value is outside of allowed range {low} to {high}");
        Self::invalid(parameter, 10033, "Value outside of range", detail)
    }

    pub(super) fn wrong_length(parameter: &str, low: usize, high: usize) -> Self {
        let detail = format!("The '{parameter}' parameter must be {low} to {high} characters long.");
        Self::invalid(parameter, 10025, "Invalid string length", detail)
    }

    /// The error for an invalid value of a parameter that has no special error number.
    pub(super) fn bad_value(parameter: &str, detail: impl Into<String>) -> Self {
        Self::invalid(parameter, 10015, "Bad Request", detail.into())
    }

    pub(super) fn too_long_client_state(parameter: &str, most: usize) -> Self {
        Self::bad_value(parameter, format!("The '{parameter}' parameter must be at most {most} characters long."))
    }

    pub(super) fn bad_client_state(parameter: &str) -> Self {
        Self::bad_value(parameter, format!("The '{parameter}' parameter must be a valid Base64 string."))
    }

    fn invalid(parameter: &str, code: u32, title: &str, detail: String) -> Self {
        let error = match INVALID_VALUE.iter().find(|(name, _)| *name == parameter) {
            Some((_, code)) => Self::unprocessable(*code, format!("Invalid value for {parameter}"), detail),
            None => Self::unprocessable(code, title, detail),
        };
        error.at(parameter)
    }

    pub(super) fn bad_url(parameter: &str) -> Self {
        let detail = format!("The '{parameter}' parameter must be a valid URL of at most 2000 characters.");
        Self::unprocessable(10003, "Invalid URL", detail).at(parameter)
    }

    pub(super) fn not_e164(parameter: &str) -> Self {
        let detail = format!("The '{parameter}' parameter must be in E164 format.");
        Self::unprocessable(10016, "Phone number must be in +E164 format", detail).at(parameter)
    }

    pub(super) fn bad_id(parameter: &str) -> Self {
        Self::unprocessable(10006, "Invalid ID", format!("The '{parameter}' provided was not valid.")).at(parameter)
    }

    pub(super) fn no_such_connection() -> Self {
        let detail = "The requested connection_id (Call Control App ID) is either invalid or does not exist. \
                      Only Call Control Apps with valid webhook URL are accepted.";
        Self::unprocessable(10015, "Invalid value for connection_id (Call Control App ID)", detail).at("connection_id")
    }

    pub(super) fn no_connection_of_number() -> Self {
        let detail = "The requested connection_id is either invalid or does not exist.";
        Self::unprocessable(10015, "Invalid value for connection_id", detail).at("connection_id")
    }

    /// The error for a feature of Telnyx that this server does not have. For an application, a clear error is better
    /// than a parameter without effect.
    pub(super) fn not_permitted(parameter: &str) -> Self {
        let detail = format!("'{parameter}' is not available on this server.");
        Self::unprocessable(10038, "Feature not permitted", detail).at(parameter)
    }

    pub(super) fn action_not_permitted(action: &str) -> Self {
        Self { source: None, ..Self::not_permitted(action) }
    }

    pub(super) fn no_such_call(parameter: &str) -> Self {
        let detail = "The call_control_id provided was not valid.";
        Self::unprocessable(90015, "Invalid Call Control ID", detail).at(parameter)
    }

    pub(super) fn no_conference() -> Self {
        let detail = "The conference could not be found. Please check its id and try again.";
        Self::new(StatusCode::NOT_FOUND, 90044, "Conference not found", detail).at("id")
    }

    pub(super) fn conference_name_in_use() -> Self {
        let detail = "A conference with this name is already active.";
        Self::unprocessable(90033, "Conference name already in use", detail).at("name")
    }

    pub(super) fn conference_over() -> Self {
        Self::unprocessable(90019, "Conference has already ended", "The conference has ended or could not be opened.")
    }

    pub(super) fn conference_full() -> Self {
        let detail = "The conference is full.";
        Self::unprocessable(90032, "Maximum number of participants reached", detail)
    }

    pub(super) fn no_queue() -> Self {
        let detail = "The queue, or the call in it, could not be found.";
        Self::new(StatusCode::NOT_FOUND, 10005, "Resource not found", detail)
    }

    pub(super) fn queue_empty() -> Self {
        Self::unprocessable(10027, "Unprocessable Entity", "The queue is empty.").at("queue")
    }

    pub(super) fn queue_name_in_use() -> Self {
        Self::unprocessable(10012, "Duplicate resource", "A queue with this name already exists.").at("queue_name")
    }

    pub(super) fn queue_full(name: &str) -> Self {
        let detail = format!("The '{name}' queue is full and can't accept more calls.");
        Self::unprocessable(90036, "Queue full", detail)
    }

    pub(super) fn queue_size_is_fixed() -> Self {
        let detail = "The size of an existing queue can't be changed by adding a call to it.";
        Self::unprocessable(90037, "Queue max_size can't be modified", detail).at("max_size")
    }

    pub(super) fn queue_not_empty() -> Self {
        let detail = "Only empty queues can be deleted.";
        Self::new(StatusCode::BAD_REQUEST, 90050, "Unable to delete queue", detail)
    }

    pub(super) fn duplicate(parameter: &str, detail: &str) -> Self {
        Self::unprocessable(10012, "Duplicate resource", detail).at(parameter)
    }

    /// The error for a resource that is in the configuration file. Only the operator can change such a resource, in the
    /// file.
    pub(super) fn in_the_file(name: &str) -> Self {
        let detail = format!("{name} is in the server's configuration file and can be changed only there.");
        Self::new(StatusCode::FORBIDDEN, 10010, "Authorization failed", detail)
    }

    pub(super) fn in_use(detail: impl Into<String>) -> Self {
        Self::unprocessable(10021, "Resource in use", detail)
    }

    pub(super) fn limit_reached(detail: impl Into<String>) -> Self {
        Self::unprocessable(10027, "Unprocessable Entity", detail)
    }

    pub(super) fn audio_download_failed(parameter: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, 90040, "Downloading audio file failed", detail).at(parameter)
    }

    pub(super) fn unavailable(detail: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, 10037, "Service unavailable", detail)
    }

    /// The audio exists and cannot be served now: the bucket of the recordings does not answer, or the disk has no space
    /// for the file that the request needs.
    pub(super) fn no_audio_now(cause: Cause) -> Self {
        let detail = match cause {
            Cause::BucketAway => "The bucket of the recordings does not answer.",
            _ => "The disk for recordings has no space for the MP3 file, but the WAV file exists.",
        };
        Self { cause: Some(cause), ..Self::unavailable(detail) }
    }

    pub(super) fn too_many_requests(detail: &str) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, 10011, "Too many requests", detail)
    }

    pub(super) fn too_many_queues() -> Self {
        Self::unprocessable(10027, "Unprocessable Entity", "The account has the maximum number of queues.")
    }

    pub(super) fn call_ended() -> Self {
        let detail = "This call is no longer active and can't receive commands.";
        Self::unprocessable(90018, "Call has already ended", detail)
    }

    /// The error for a command that the call refused. `None` if Telnyx answers 200 and does nothing.
    pub(super) fn refusal(action: Action, refused: Refused) -> Option<Self> {
        let unable = |detail: &str| Self::unprocessable(10027, "Unprocessable Entity", detail);
        match (refused, action) {
            (Refused::NoAnswer, _) => Some(Self::unavailable(&refused.to_string())),
            (Refused::NoSuchLeg, _) => Some(Self::no_such_call("call_control_id")),
            (Refused::Ended, _) => Some(Self::call_ended()),
            (Refused::NotAnswered, Action::RecordStart) => {
                let detail = "Call recording cannot be started until audio has commenced on the call.";
                Some(Self::unprocessable(90020, "Call recording triggered before audio started", detail))
            }
            (Refused::NotAnswered, _) => {
                let detail = "This call can't receive this command because it has not been answered yet.";
                Some(Self::unprocessable(90034, "Call not answered yet", detail))
            }
            (Refused::NotRunning, Action::LeaveQueue) => {
                Some(Self::unprocessable(90035, "Call not in queue", "Call can't leave a queue it isn't in."))
            }
            (Refused::AlreadyRunning, Action::Enqueue) => {
                let detail = "Call can't be added to a queue it's already in.";
                Some(Self::unprocessable(90038, "Call already in queue", detail))
            }
            (Refused::NotRunning, Action::ForkStop) => {
                let detail = "This call is not currently forked.";
                Some(Self::unprocessable(90031, "Call is not currently forked", detail))
            }
            (Refused::NotRunning, Action::SwitchSupervisorRole) => {
                Some(unable("This call does not supervise another call."))
            }
            (Refused::NotRunning, Action::AssistantAddMessages) => {
                Some(unable("This call has no conversation with an AI assistant."))
            }
            (Refused::AlreadyAnswered, Action::Answer) | (Refused::NotRunning, _) => None,
            (Refused::AlreadyAnswered, _) => Some(unable("This call can't receive this command any more.")),
            (Refused::AlreadyRunning, Action::StreamingStart | Action::ForkStart) => {
                let detail = "This command can't be issued when media streaming is used.";
                Some(Self::unprocessable(90045, "Media Streaming is used", detail))
            }
            (Refused::AlreadyRunning, Action::TranscriptionStart) => {
                let detail = "Transcription is already running on the call.";
                Some(Self::unprocessable(90054, "Transcription in progress", detail))
            }
            (
                Refused::AlreadyRunning,
                Action::AssistantStart | Action::GatherUsingAi | Action::RelayStart | Action::Answer,
            ) => {
                let detail = "AI Assistant cannot be started more than once.";
                Some(Self::unprocessable(90061, "AI Assistant is already in progress", detail))
            }
            (Refused::AlreadyRunning, _) => Some(unable("This is already in progress on the call.")),
            (Refused::NotJoined, _) => Some(unable("This call is not bridged with another one.").at("target_legs")),
            (Refused::ForbiddenAddress, _) => {
                Some(Self::bad_value("rx", format!("The audio can't be sent there: {refused}.")))
            }
            (Refused::TooMany, _) => Some(unable("The call has too many pending requests.")),
            (Refused::CannotBridge, _) => {
                Some(unable("The call can't be bridged with the given one.").at("call_control_id"))
            }
        }
    }
}

/// The text of a failure as a sentence, as all details of errors are.
pub(super) fn sentence(failed: impl std::fmt::Display) -> String {
    let text = failed.to_string();
    let first: String = text.chars().take(1).flat_map(char::to_uppercase).collect();
    format!("{first}{}.", text.get(1..).unwrap_or_default())
}

impl From<StoreFailed> for ApiError {
    fn from(failed: StoreFailed) -> Self {
        match failed {
            StoreFailed::TooManyReads => Self::too_many_requests(&sentence(failed)),
            StoreFailed::Away | StoreFailed::ReadTooSlow => Self::unavailable(&sentence(failed)),
        }
    }
}

impl From<CreateError> for ApiError {
    fn from(error: CreateError) -> Self {
        let cause = error.cause();
        let answer = match error {
            CreateError::NoRoute(_) | CreateError::ForbiddenTarget { .. } => {
                Self::unprocessable(10002, "Invalid phone number", error.to_string()).at("to")
            }
            CreateError::ForeignCaller(_) => {
                Self::unprocessable(10002, "Invalid phone number", error.to_string()).at("from")
            }
            CreateError::IdentityHeader(_) => Self::bad_value("custom_headers", error.to_string()),
            CreateError::NoSuchLeg => Self::no_such_call("link_to"),
            CreateError::Draining => Self::unavailable("The server is shutting down."),
            CreateError::NoMedia(shortage) => Self::unavailable(&format!("Media: {shortage}.")),
            CreateError::Full => Self::unprocessable(90041, "User channel limit exceeded", error.to_string()),
            CreateError::Barred(barred) => barred.into(),
            CreateError::Store(failed) => failed.into(),
        };
        Self { cause, ..answer }
    }
}

impl From<Barred> for ApiError {
    fn from(barred: Barred) -> Self {
        let forbidden = |detail: String| Self::new(StatusCode::FORBIDDEN, 10010, "Authorization failed", detail);
        match barred {
            Barred::Full(Channel::Profile(_)) => {
                Self::unprocessable(90042, "Outbound profile channel limit exceeded", barred.to_string())
            }
            Barred::Full(_) => Self::unprocessable(90043, "Connection channel limit exceeded", barred.to_string()),
            Barred::Disabled => forbidden(barred.to_string()).at("connection_id"),
            Barred::Destination(number) => {
                forbidden(format!("Dialed number {number} is not included in whitelisted countries")).at("to")
            }
        }
    }
}

impl From<&ApiError> for Value {
    fn from(error: &ApiError) -> Self {
        let code = error.code.to_string();
        let url = format!("https://developers.telnyx.com/docs/overview/errors/{code}");
        let mut body = json!({ "code": code, "title": error.title, "detail": error.detail, "meta": { "url": url } });
        if let (Some(source), Some(body)) = (&error.source, body.as_object_mut()) {
            let source = match source {
                Source::Pointer(pointer) => json!({ "pointer": pointer }),
                Source::Parameter(parameter) => json!({ "parameter": parameter }),
            };
            body.insert("source".into(), source);
        }
        json!({ "errors": [body] })
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(Value::from(&self))).into_response();
        let at = match &self.source {
            Some(Source::Pointer(name) | Source::Parameter(name)) => format!("{}: ", name.trim_start_matches('/')),
            None => String::new(),
        };
        let why = format!("{at}{} ({})", self.detail, self.code);
        response.extensions_mut().insert(Refusal::new(why, Some(self.code), self.cause));
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        let wait = match self.status {
            StatusCode::SERVICE_UNAVAILABLE => Some("5"),
            StatusCode::TOO_MANY_REQUESTS => Some("1"),
            _ => None,
        };
        if let Some(seconds) = wait {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn errors_equal_the_published_examples() {
        let Some(document) = fixture::published() else { return };
        let rows = [
            ("UnprocessableEntityResponse", "call_already_ended", ApiError::call_ended()),
            ("UnprocessableEntityResponse", "invalid_call_control_id", ApiError::no_such_call("call_control_id")),
            ("UnprocessableEntityResponse", "invalid_connection_id", ApiError::no_such_connection()),
            ("UnprocessableEntityResponse", "missing_required_parameter", ApiError::missing("to")),
            ("UnprocessableEntityResponse", "invalid_phone_number_format", ApiError::not_e164("to")),
            (
                "UnprocessableEntityResponse",
                "invalid_enumerated_value",
                ApiError::not_one_of("record_channels", &["dual", "single"]),
            ),
            ("UnprocessableEntityResponse", "value_outside_range", ApiError::out_of_range("max_participants", 1, 5000)),
            (
                "UnprocessableEntityResponse",
                "call_not_answered",
                ApiError::refusal(Action::Speak, Refused::NotAnswered).unwrap(),
            ),
            (
                "UnprocessableEntityResponse",
                "cannot_record_before_audio_started",
                ApiError::refusal(Action::RecordStart, Refused::NotAnswered).unwrap(),
            ),
            (
                "UnprocessableEntityResponse",
                "media_streaming_used",
                ApiError::refusal(Action::StreamingStart, Refused::AlreadyRunning).unwrap(),
            ),
            ("NotFoundResponse", "recording_not_found", ApiError::no_recording()),
            ("UnprocessableEntityResponse", "queue_full", ApiError::queue_full("support")),
            (
                "UnprocessableEntityResponse",
                "call_already_in_queue",
                ApiError::refusal(Action::Enqueue, Refused::AlreadyRunning).unwrap(),
            ),
            ("BadRequestResponse", "queue_not_empty", ApiError::queue_not_empty()),
            (
                "UnprocessableEntityResponse",
                "ai_assistant_already_active",
                ApiError::refusal(Action::AssistantStart, Refused::AlreadyRunning).unwrap(),
            ),
        ];
        for (response, example, error) in rows {
            let published = &document["components"]["responses"][response]["content"]["application/json"]["examples"]
                [example]["value"]["errors"][0];
            let mut ours = Value::from(&error)["errors"][0].take();
            let meta = ours.as_object_mut().unwrap().remove("meta").unwrap();
            let url = format!("https://developers.telnyx.com/docs/overview/errors/{}", error.code);
            assert_eq!(meta, json!({ "url": url }));
            assert_eq!(&ours, published, "{example}");
        }
    }

    #[test]
    fn a_refused_command_gets_the_error_code_of_the_state_table() {
        let rows = [
            (Action::Hangup, Refused::NoSuchLeg, Some(90015)),
            (Action::Hangup, Refused::Ended, Some(90018)),
            (Action::Speak, Refused::NotAnswered, Some(90034)),
            (Action::StreamingStart, Refused::NotAnswered, Some(90034)),
            (Action::RecordStart, Refused::NotAnswered, Some(90020)),
            (Action::Answer, Refused::AlreadyAnswered, None),
            (Action::Reject, Refused::AlreadyAnswered, Some(10027)),
            (Action::RecordStop, Refused::NotRunning, None),
            (Action::StreamingStop, Refused::NotRunning, None),
            (Action::StreamingStart, Refused::AlreadyRunning, Some(90045)),
            (Action::TranscriptionStart, Refused::AlreadyRunning, Some(90054)),
            (Action::GatherUsingAi, Refused::AlreadyRunning, Some(90061)),
            (Action::RelayStart, Refused::AlreadyRunning, Some(90061)),
            (Action::Bridge, Refused::CannotBridge, Some(10027)),
            (Action::Enqueue, Refused::NotAnswered, Some(90034)),
            (Action::LeaveQueue, Refused::NotRunning, Some(90035)),
            (Action::ForkStart, Refused::ForbiddenAddress, Some(10015)),
        ];
        for (action, refused, code) in rows {
            let error = ApiError::refusal(action, refused);
            assert_eq!(error.as_ref().map(|error| error.code), code, "{action:?} {refused:?}");
            assert!(error.is_none_or(|error| error.status == StatusCode::UNPROCESSABLE_ENTITY));
        }
    }
}
