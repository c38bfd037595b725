//! `/v2`: calls, their actions, conferences, queues, recordings and the public key. Clients use bearer authentication.
//! Requests and answers are JSON.
//!
//! ```text
//!   request ──► Caller (401) ──► object (400) ──► plan / new_call (422) ──► Calls ──► 200, or refusal (422)
//!                                  parameters, media, dial, action: pure
//! ```

mod action;
mod active_calls;
mod agent;
mod assistant_telephony;
mod assistants;
mod call_events;
mod completions;
mod conference;
mod conference_action;
mod dial;
mod error;
mod machine_detection;
mod media;
mod paging;
mod parameters;
mod published;
mod queue;
mod recording;
mod recording_transcription;
mod relay;
mod repeat;
mod resources;

use std::sync::Arc;

use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Extension, FromRequest, FromRequestParts, Path, Request as HttpRequest, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::routing::{MethodRouter, any, get, post};
use axum::{Json, Router};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tandem_accounts::{Account, Accounts};
use tandem_call::command::{Accepted, Command, Refused, Request};
use tandem_call::leg::{Direction, LegInfo, Status};
use tandem_call::new_leg::OnAnswer;
use tandem_history::report::Unused;
use tandem_id::LegId;
use tandem_operations::calls;
use tandem_queues::Reservation;
use tandem_routing::new_call::{CreateError, Created};
use tandem_runtime::app::App;

use self::action::Action;
use self::error::ApiError;
use self::parameters::Parameters;
use self::repeat::Repeats;
use super::{NAME, id, sign, time};

/// Maximum size of a request body, in octets. The size is this large only because `playback_content` contains whole
/// audio files.
const LARGEST_BODY: usize = 8 * 1_024 * 1_024;
/// The time for which a client can still fetch an ended call.
const SHOWN_FOR: SignedDuration = SignedDuration::from_mins(10);

/// All routes below `/v2`.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/v2/call_events", only(get(call_events::list)))
        .route("/v2/calls", only(post(dial)))
        .route("/v2/calls/{call}", only(get(call)))
        .route("/v2/calls/{call}/actions/{action}", only(post(command).put(command)))
        .route("/v2/connections/{connection}/active_calls", only(get(active_calls::list)))
        .route("/v2/conferences", only(get(conference::list).post(conference::create)))
        .route("/v2/conferences/{conference}", only(get(conference::get)))
        .route("/v2/conferences/{conference}/actions/{action}", only(post(conference_action::command)))
        .route("/v2/conferences/{conference}/participants", only(get(conference::participants)))
        .route(
            "/v2/conferences/{conference}/participants/{participant}",
            only(get(conference::one_participant).patch(conference::update_participant)),
        )
        .route("/v2/queues", only(get(queue::list).post(queue::create)))
        .route("/v2/queues/{queue}", only(get(queue::get).post(queue::update).delete(queue::delete)))
        .route("/v2/queues/{queue}/calls", only(get(queue::calls)))
        .route(
            "/v2/queues/{queue}/calls/{call}",
            only(get(queue::call).patch(queue::update_call).delete(queue::remove_call)),
        )
        .route("/v2/recording_transcriptions", only(get(recording_transcription::list)))
        .route(
            "/v2/recording_transcriptions/{transcription}",
            only(get(recording_transcription::get).delete(recording_transcription::delete)),
        )
        .route("/v2/recordings", only(get(recording::list)))
        .route("/v2/recordings/{recording}", only(get(recording::get).delete(recording::delete)))
        .route("/v2/recordings/actions/delete", only(post(recording::delete_several)))
        .route("/v2/recordings/{recording}/{file}", only(get(recording::download)))
        .route("/v2/custom_storage_credentials/{connection}", any(hosted))
        .route("/v2/public_key", only(get(public_key)))
        .route("/v2", any(not_found))
        .route("/v2/{*rest}", any(not_found))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .merge(resources::routes())
        .merge(assistants::routes())
        .merge(completions::routes())
        .layer(Extension(Repeats::default()))
}

/// A route for only these methods. A request with another method gets Telnyx's error for this case.
fn only(methods: MethodRouter<App>) -> MethodRouter<App> {
    methods.fallback(method_not_allowed)
}

/// The account that the API key in the request belongs to.
struct Caller(Arc<Account>);

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        caller(&app.accounts, &parts.headers).map(Self).ok_or_else(ApiError::unauthenticated)
    }
}

/// The account that the API key in a request belongs to.
pub fn caller(accounts: &Accounts, headers: &HeaderMap) -> Option<Arc<Account>> {
    let header = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    accounts.by_telnyx_key(bearer(header)?)
}

/// The token of `Bearer ...`. The scheme is case-insensitive (RFC 9110 §11.1).
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim()).filter(|token| !token.is_empty())
}

/// A request body: a JSON object.
struct Payload(Map<String, Value>);

impl FromRequest<App> for Payload {
    type Rejection = ApiError;

    async fn from_request(request: HttpRequest, app: &App) -> Result<Self, ApiError> {
        let unreadable = |rejection: BytesRejection| ApiError::unreadable_body(rejection.status());
        let body = Bytes::from_request(request, app).await.map_err(unreadable);
        let refused = |_: &ApiError| app.calls.services().counters.body_refused();
        body.and_then(|body| object(&body)).map(Self).inspect_err(refused)
    }
}

/// The parameters of the path after percent-decoding (`v3%3A...`). The answer is 404 if a parameter is not UTF-8.
struct Segments<T>(T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Segments<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        Path::from_request_parts(parts, app)
            .await
            .map(|Path(segments)| Self(segments))
            .map_err(|_| ApiError::no_resource())
    }
}

/// Parses the body as an object. An absent body is an empty object.
fn object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let text = std::str::from_utf8(body).map_err(|error| ApiError::bad_encoding(error.valid_up_to()))?;
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(_) => Err(ApiError::not_an_object()),
        Err(error) => Err(ApiError::not_json(format!("The request body is not valid JSON: {error}"))),
    }
}

async fn not_found(_: Caller) -> ApiError {
    ApiError::no_resource()
}

/// Refuses a request for a service that only Telnyx hosts and that this server does not have.
async fn hosted(_: Caller) -> ApiError {
    ApiError::action_not_permitted("custom_storage_credentials")
}

async fn method_not_allowed(_: Caller) -> ApiError {
    ApiError::method_not_allowed()
}

/// Returns the public key. This path is an extension of this server, because Telnyx shows the public key only in its
/// portal.
async fn public_key(Caller(account): Caller) -> Result<String, ApiError> {
    let credentials = account.telnyx.as_ref().ok_or_else(ApiError::no_resource)?;
    sign::public_key(credentials).map_err(|_| ApiError::no_resource())
}

async fn dial(
    State(app): State<App>,
    Extension(repeats): Extension<Repeats>,
    Caller(account): Caller,
    Payload(body): Payload,
) -> Result<(Extension<Unused>, Json<Value>), ApiError> {
    let parameters = Parameters(&body);
    let execute = async {
        let routing = app.calls.services().routing.load_full();
        let mut call = dial::new_call(parameters, &account.name, |id| routing.commanding(&account.name, id))?;
        if let OnAnswer::Converse(spec) = &mut call.plan.then {
            let agents = app.calls.services().conversations.agents.load_full();
            let inventory = routing.inventory();
            let own = agent::Own { account: &account.name, agents: &agents, inventory, model: None };
            agent::settle_spec(spec, &own, rand::random())?;
        }
        if let Some(other) = call.link_to {
            let supervises = matches!(call.plan.then, OnAnswer::Supervise(_));
            let name = if supervises { "supervise_call_control_id" } else { "link_to" };
            let other = known(&app, &account, other).await?.ok_or_else(|| ApiError::no_such_call(name))?;
            if supervises && other.status.is_final() {
                return Err(ApiError::call_ended().at(name));
            }
        }
        let created = match conference::invitation(&app, &account, parameters, &mut call)? {
            Some(invitation) => invitation.send(&app, &account, call).await?,
            None => calls::place(&app.calls, call, None).await?,
        };
        Ok(json!({ "data": dialled(&created) }))
    };
    let answer = once_in_cluster(&app, &repeats, account.name.as_str(), parameters, execute).await?;
    Ok((Extension(published::unused("dial", &body)), answer))
}

async fn call(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(call): Segments<String>,
) -> Result<Json<Value>, ApiError> {
    let leg = leg(&app, &account, &call).await?;
    let now = Timestamp::now();
    let forgotten = leg.end.as_ref().is_some_and(|end| now.duration_since(end.at) > SHOWN_FOR);
    if forgotten {
        return Err(ApiError::no_such_call("call_control_id"));
    }
    Ok(Json(json!({ "data": shown(&leg, now) })))
}

async fn command(
    State(app): State<App>,
    Extension(repeats): Extension<Repeats>,
    Caller(account): Caller,
    method: Method,
    Segments((call, action)): Segments<(String, String)>,
    Payload(body): Payload,
) -> Result<(Extension<Unused>, Json<Value>), ApiError> {
    let unused = published::unused(&action, &body);
    let action = Action::parse(&action)?;
    if method == Method::PUT && action != Action::ClientStateUpdate {
        return Err(ApiError::method_not_allowed());
    }
    let parameters = Parameters(&body);
    let execute = async {
        let leg = leg(&app, &account, &call).await?;
        if leg.status.is_final() {
            return Err(ApiError::call_ended());
        }
        let taken = match action {
            Action::Bridge => queue::take_first(&app, &account, parameters).await?,
            _ => None,
        };
        let other = taken.as_ref().map(Reservation::leg);
        let done = carry_out(&app, &account, &leg, action, parameters, other).await;
        if let Some(taken) = taken {
            tandem_operations::queues::remove(&app.calls, taken).await;
        }
        done
    };
    let answer = once(&repeats, &format!("{} {call}", account.name), parameters, execute).await?;
    Ok((Extension(unused), answer))
}

/// Executes an action on a leg. `taken` is a leg that was taken from a queue and that will be bridged with this leg.
async fn carry_out(
    app: &App,
    account: &Account,
    leg: &LegInfo,
    action: Action,
    parameters: Parameters<'_>,
    taken: Option<LegId>,
) -> Result<Value, ApiError> {
    let mut plan = action::plan(action, parameters, leg, taken)?;
    let mut begun = None;
    for command in &mut plan.commands {
        let agents = app.calls.services().conversations.agents.load_full();
        let model = parameters.object("assistant")?.text("model")?;
        let routing = app.calls.services().routing.load_full();
        let own = agent::Own { account: &account.name, agents: &agents, inventory: routing.inventory(), model };
        begun = agent::settle(command, &own, rand::random())?.or(begun);
    }
    if action == Action::Enqueue && leg.answered_at.is_some() {
        queue::prepare(app, account, parameters).await?;
    }
    for command in &plan.commands {
        if let Command::Bridge { with, .. } = command {
            known(app, account, *with).await?.ok_or_else(|| ApiError::no_such_call("call_control_id"))?;
        }
    }
    let mut answer = perform(app, leg.id, action, plan).await?;
    if let (Some(begun), Some(Value::Object(data))) = (begun, answer.get_mut("data")) {
        begun.add_to(data);
    }
    Ok(answer)
}

/// Executes a request. If the application used the same `command_id` within the last minute in the same `scope`, the
/// function does not execute the request. In this case, it returns the first answer.
async fn once(
    repeats: &Repeats,
    scope: &str,
    parameters: Parameters<'_>,
    execute: impl Future<Output = Result<Value, ApiError>>,
) -> Result<Json<Value>, ApiError> {
    match parameters.text("command_id")? {
        None => execute.await.map(Json),
        Some(command_id) => {
            let answer = repeats.answer(scope, command_id, tokio::time::Instant::now());
            answer.get_or_try_init(|| execute).await.cloned().map(Json)
        }
    }
}

/// Does the same as [`once`] for a request that any node of a cluster may receive.
async fn once_in_cluster(
    app: &App,
    repeats: &Repeats,
    scope: &str,
    parameters: Parameters<'_>,
    execute: impl Future<Output = Result<Value, ApiError>> + Send,
) -> Result<Json<Value>, ApiError> {
    // The future of a new call is large. Without the box, the stack of a thread is too small for the futures around it.
    let execute = Box::pin(execute);
    let execute = async {
        match parameters.text("command_id")? {
            None => execute.await,
            Some(command_id) => repeat::in_cluster(app.calls.services(), scope, command_id, execute).await,
        }
    };
    once(repeats, scope, parameters, execute).await
}

async fn perform(app: &App, leg: LegId, action: Action, plan: action::Plan) -> Result<Value, ApiError> {
    let (mut client_state, mut given) = (plan.client_state.clone(), plan.client_state);
    let mut result = json!({ "result": "ok" });
    for command in plan.commands {
        let request = Request { client_state: client_state.take(), command };
        match app.calls.request(leg, request).await {
            Ok(accepted) => add_recording(&mut result, action, &accepted),
            Err(refused) => match ApiError::refusal(action, refused) {
                Some(error) => return Err(error),
                None => {
                    // The command had no effect, but the client state of the request is still set.
                    let request = Request { client_state: given.take(), command: Command::SetClientState };
                    let _ = app.calls.request(leg, request).await;
                    break;
                }
            },
        }
    }
    Ok(json!({ "data": result }))
}

/// Adds `recording_id` to the answer if the action `answer` has started a recording.
fn add_recording(result: &mut Value, action: Action, accepted: &Accepted) {
    if let (Action::Answer, Some(recording), Some(result)) = (action, accepted.recording, result.as_object_mut()) {
        result.insert("recording_id".into(), id::uuid(recording.0).into());
    }
}

/// The text `detail` of the error for a call that could not be created.
pub fn why_not_made(error: CreateError) -> String {
    ApiError::from(error).detail
}

/// The text `detail` of the error for a command that the call refused.
pub fn why_refused(refused: Refused) -> String {
    ApiError::refusal(Action::Hangup, refused).map(|error| error.detail).unwrap_or_default()
}

/// The account's leg with this control id. Returns an error if the leg belongs to another account or another dialect.
async fn leg(app: &App, account: &Account, control_id: &str) -> Result<Arc<LegInfo>, ApiError> {
    let unknown = || ApiError::no_such_call("call_control_id");
    let leg = id::parse_call_control_id(control_id).ok_or_else(unknown)?;
    known(app, account, leg).await?.ok_or_else(unknown)
}

async fn known(app: &App, account: &Account, leg: LegId) -> Result<Option<Arc<LegInfo>>, ApiError> {
    Ok(app.calls.get(&account.name, leg).await?.filter(|leg| &*leg.dialect == NAME))
}

/// The answer to a request that created a call. `is_alive` is false, as at Telnyx. `status` and `direction` are
/// extensions of this server, because some existing applications read these members.
fn dialled(created: &Created) -> Value {
    let mut data = identified(&created.leg);
    if let Some(data) = data.as_object_mut() {
        data.insert("is_alive".into(), false.into());
        data.insert("status".into(), "initiated".into());
        data.insert("direction".into(), "outbound-dial".into());
        if let Some(recording) = created.recording {
            data.insert("recording_id".into(), id::uuid(recording.0).into());
        }
    }
    data
}

/// The Call resource.
fn shown(leg: &LegInfo, now: Timestamp) -> Value {
    let mut data = identified(leg);
    if let Some(data) = data.as_object_mut() {
        data.insert("is_alive".into(), (!leg.status.is_final()).into());
        data.insert("start_time".into(), time(leg.created_at).into());
        if let Some(end) = &leg.end {
            data.insert("end_time".into(), time(end.at).into());
        }
        data.insert("call_duration".into(), leg.duration(now).as_secs().into());
        data.insert("status".into(), status(leg.status).into());
        let direction = if leg.direction == Direction::Inbound { "inbound" } else { "outbound-dial" };
        data.insert("direction".into(), direction.into());
    }
    data
}

fn identified(leg: &LegInfo) -> Value {
    json!({
        "record_type": "call",
        "call_control_id": id::call_control_id(leg.id),
        "call_leg_id": id::uuid(leg.id.0),
        "call_session_id": id::uuid(leg.session.0),
        "client_state": leg.client_state,
    })
}

fn status(status: Status) -> &'static str {
    match status {
        Status::Queued | Status::Initiated => "initiated",
        Status::Ringing => "ringing",
        Status::InProgress => "answered",
        Status::Completed => "completed",
        Status::Busy => "busy",
        Status::Failed => "failed",
        Status::NoAnswer => "no-answer",
        Status::Canceled => "canceled",
    }
}

#[cfg(test)]
mod tests;
