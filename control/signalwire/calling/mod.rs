//! SignalWire's Calling API: `POST /api/calling/calls` creates and controls calls. The server sends events to status
//! URLs.
//!
//! ```text
//!   JSON ──command──► NewCall, Command ──► the call        LegInfo ──► JSON        error: error answers
//! ```

mod command;
mod error;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Extension, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use moka::future::Cache;
use serde_json::{Value as Body, json};
use tandem_accounts::Account;
use tandem_call::address::Address;
use tandem_call::command::{Accepted, Command, Request};
use tandem_call::leg::{Direction, LegInfo, Status};
use tandem_history::report::Unused;
use tandem_id::{LegId, RecordingId, StreamId};
use tandem_routing::new_call::CreateError;
use tandem_runtime::app::App;

use self::command::{Control, Kind, Plan, plan};
use self::error::ApiError;
use super::swml::text;

/// Maximum number of stored job ids. If there are more ids, the id that was used least recently is dropped.
const MAX_JOBS: u64 = 100_000;
/// Time for which a job's id is stored. This time is longer than the duration of any call.
const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 3_600);

/// The jobs of all legs. The key consists of the leg, the kind of the job, and the id that the application gave to the
/// job.
type Jobs = Cache<(LegId, Kind, String), Job>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Job {
    Recording(RecordingId),
    Stream(StreamId),
    /// A job without an id in this server. The leg has no other job of this kind.
    Only,
}

/// The routes of the API, including the routes of the API's older names.
pub(super) fn routes() -> Router<App> {
    let jobs: Jobs = Cache::builder().max_capacity(MAX_JOBS).time_to_live(REMEMBERED_FOR).build();
    Router::new()
        .route("/api/calling/calls", post(serve).put(serve))
        .route("/api/calling/rpc", post(serve).put(serve))
        .route("/api/calling", any(nothing))
        .route("/api/calling/{*path}", any(nothing))
        .layer(DefaultBodyLimit::max(text::LONGEST))
        .layer(Extension(jobs))
}

async fn nothing() -> Response {
    ApiError::NotFound("the Calling API has only the path /api/calling/calls".to_owned()).into_response()
}

async fn serve(State(app): State<App>, Extension(jobs): Extension<Jobs>, headers: HeaderMap, body: Bytes) -> Response {
    match answer(&app, &jobs, &headers, &body).await {
        Ok((call, unused)) => (Extension(unused), Json(call)).into_response(),
        Err(error) => error.into_response(),
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, body) = self.answer();
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(body)).into_response();
        response.extensions_mut().insert(self.refusal());
        response
    }
}

async fn answer(app: &App, jobs: &Jobs, headers: &HeaderMap, body: &[u8]) -> Result<(Body, Unused), ApiError> {
    let account = super::rest::account(&app.accounts, headers).ok_or(ApiError::Unauthorized)?;
    let read = || {
        let body = serde_json::from_slice(body)
            .map_err(|error| ApiError::BadRequest(format!("the body is not JSON: {error}")))?;
        plan(&body, &account.name)
    };
    // A request may contain a document.
    let (plan, unused) = app.calls.services().turns.work(&account.name, read).await?;
    let call = match plan {
        Plan::Dial(call) => {
            let url = match &call.plan.then {
                tandem_call::new_leg::OnAnswer::Document(target) => Some(target.url.to_string()),
                _ => None,
            };
            let created = app.calls.create(*call).await.map_err(not_created)?;
            shown(&created.leg, url.as_deref())
        }
        Plan::Leg { leg, commands, job, allowed } => {
            let info = known(app, &account, leg).await?;
            allowed(&info)?;
            for command in commands {
                let optional = matches!(command, Command::Reject(_));
                match app.calls.request(leg, Request { client_state: None, command }).await {
                    Ok(accepted) => remember(jobs, leg, job.as_ref(), &accepted).await,
                    Err(_) if optional => {}
                    Err(refused) => return Err(ApiError::refused(refused)),
                }
            }
            let info = known(app, &account, leg).await?;
            shown(&info, None)
        }
        Plan::Job { leg, kind, control_id, control } => {
            let info = known(app, &account, leg).await?;
            let key = (leg, kind, control_id);
            let job = jobs.get(&key).await;
            let job = job.ok_or_else(|| {
                ApiError::invalid(
                    "invalid_parameter",
                    "control_id",
                    format!("the call has no {kind} with the control_id {:?}", key.2),
                )
            })?;
            let command = controlled(kind, job, control).ok_or_else(|| {
                ApiError::state("invalid_command_attempted", "this server cannot do this with the running job")
            })?;
            app.calls.request(leg, Request { client_state: None, command }).await.map_err(ApiError::refused)?;
            shown(&info, None)
        }
    };
    Ok((call, unused))
}

async fn remember(jobs: &Jobs, leg: LegId, job: Option<&(Kind, String)>, accepted: &Accepted) {
    let Some((kind, control_id)) = job else { return };
    let job = match (accepted.recording, accepted.stream) {
        (Some(id), _) => Job::Recording(id),
        (None, Some(id)) => Job::Stream(id),
        (None, None) => Job::Only,
    };
    jobs.insert((leg, *kind, control_id.clone()), job).await;
}

/// The command that controls a job. `None` if the job does not support the operation.
fn controlled(kind: Kind, job: Job, control: Control) -> Option<Command> {
    Some(match (job, control, kind) {
        (Job::Recording(id), Control::Stop, _) => Command::StopRecording(Some(id)),
        (Job::Recording(id), Control::Pause(pause_behavior), _) => {
            Command::PauseRecording { which: Some(id), pause_behavior }
        }
        (Job::Recording(id), Control::Resume, _) => Command::ResumeRecording(Some(id)),
        (Job::Stream(id), Control::Stop, _) => Command::StopStream(Some(id)),
        (Job::Only, Control::Stop, Kind::Play) => Command::StopOverlay,
        (Job::Only, Control::Stop, Kind::Collect) => Command::StopGather,
        (Job::Only, Control::StartTimers, Kind::Collect) => Command::StartGatherTimers,
        (Job::Only, Control::Stop, Kind::Detect) => Command::StopDetecting,
        _ => return None,
    })
}

async fn known(app: &App, account: &Account, leg: LegId) -> Result<Arc<LegInfo>, ApiError> {
    let found = app.calls.get(&account.name, leg).await.map_err(|_| ApiError::Unavailable)?;
    found.ok_or_else(|| ApiError::NotFound("the project has no call with this id".to_owned()))
}

fn not_created(error: CreateError) -> ApiError {
    let cause = error.cause();
    let answer = match error {
        CreateError::NoRoute(to) => {
            ApiError::invalid("billing_route_not_found", "to", format!("no trunk, number or phone matches {to}"))
        }
        CreateError::ForbiddenTarget { .. } => ApiError::invalid("invalid_sip_destination", "to", error.to_string()),
        CreateError::ForeignCaller(from) => {
            ApiError::invalid("not_valid_for_caller_id", "from", format!("{from} is not a number of the project"))
        }
        CreateError::IdentityHeader(_) => ApiError::invalid("invalid_parameter", "headers", error.to_string()),
        CreateError::NoSuchLeg => ApiError::over(),
        CreateError::Draining | CreateError::NoMedia(_) | CreateError::Full | CreateError::Barred(_) => {
            ApiError::state("max_queued_calls_exceeded", error.to_string())
        }
        CreateError::Store(_) => ApiError::Unavailable,
    };
    answer.because(cause)
}

/// A call as JSON.
fn shown(leg: &LegInfo, url: Option<&str>) -> Body {
    let now = tandem_host::clock::time();
    let duration = leg.duration(now);
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let answered = leg.answered_at.is_some();
    json!({
        "id": super::swml::ids().call(leg.id),
        "from": super::swml::facts::party(&leg.from),
        "to": super::swml::facts::party(&leg.to),
        "direction": match leg.direction {
            Direction::Inbound => "inbound",
            Direction::OutboundApi => "outbound-api",
            Direction::OutboundDial => "outbound",
        },
        "status": status(leg.status),
        "duration": answered.then_some(duration.as_secs()),
        "duration_ms": milliseconds,
        "billing_ms": milliseconds,
        "source": "realtime_api",
        "type": if matches!(leg.to, Address::Phone(_)) { "relay_pstn_call" } else { "relay_sip_call" },
        "url": url.filter(|url| url.starts_with("http")),
        "parent_id": leg.parent.map(|parent| super::swml::ids().call(parent)),
        "charge": 0.0,
        "charge_details": [],
        "created_at": format!("{:.3}", leg.created_at),
    })
}

fn status(status: Status) -> &'static str {
    match status {
        Status::Queued => "queued",
        Status::Initiated => "created",
        Status::Ringing => "ringing",
        Status::InProgress => "answered",
        Status::Completed => "completed",
        Status::Canceled => "canceled",
        Status::Busy | Status::NoAnswer => "ended",
        Status::Failed => "failed",
    }
}
