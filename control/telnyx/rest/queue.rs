//! `/v2/queues`: the account's queues by name, and the calls in these queues.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use tandem_accounts::Account;
use tandem_call::leg::LegInfo;
use tandem_operations::queues::{self, NotAdmitted, QueueFailure};
use tandem_queues::{MAX_QUEUE_SIZE, Member, QueueError, QueueSnapshot, Reservation};
use tandem_runtime::app::App;

use super::error::{ApiError, sentence};
use super::paging::Paging;
use super::parameters::Parameters;
use super::{Caller, Payload, Segments, known};
use crate::{id, time};

/// Default of the maximum size of a queue that a request creates.
const DEFAULT_MAX_SIZE: u32 = 300;
/// Default of the maximum size of a queue that is created because a call enters it.
const DEFAULT_MAX_SIZE_OF_CALL: u32 = 100;

/// The value of `queue_name` in the request.
pub(super) fn name(parameters: Parameters<'_>) -> Result<&str, ApiError> {
    parameters.required("queue_name")?;
    Ok(parameters.sized("queue_name", 1..=255)?.unwrap_or_default())
}

fn max_size(parameters: Parameters<'_>) -> Result<Option<u32>, ApiError> {
    parameters.integer("max_size", 1..=MAX_QUEUE_SIZE)
}

fn find(app: &App, account: &Account, name: &str) -> Result<QueueSnapshot, ApiError> {
    app.calls.services().queues.named(&account.name, name, Timestamp::now()).ok_or_else(ApiError::no_queue)
}

/// `GET /v2/queues`: all queues. The newest queue comes first.
pub(super) async fn list(
    State(app): State<App>,
    Caller(account): Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let paging = Paging::parse(query.as_deref().unwrap_or_default())?;
    let all = app.calls.services().queues.list_everywhere(&account.name, Timestamp::now()).await;
    let data: Vec<_> = all.iter().skip(paging.offset()).take(paging.size).map(queue).collect();
    Ok(Json(json!({ "data": data, "meta": paging.meta(all.len()) })))
}

/// `POST /v2/queues`: creates a queue.
pub(super) async fn create(
    State(app): State<App>,
    Caller(account): Caller,
    Payload(body): Payload,
) -> Result<Json<Value>, ApiError> {
    let parameters = Parameters(&body);
    let (name, max_size) = (name(parameters)?, max_size(parameters)?.unwrap_or(DEFAULT_MAX_SIZE));
    let created = queues::create(&app.calls, &account.name, name, max_size).await.map_err(unfit)?;
    Ok(Json(json!({ "data": queue(&created) })))
}

/// `GET /v2/queues/{name}`: one queue.
pub(super) async fn get(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(name): Segments<String>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(json!({ "data": queue(&find(&app, &account, &name)?) })))
}

/// `POST /v2/queues/{name}`: changes the maximum size.
pub(super) async fn update(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(name): Segments<String>,
    Payload(body): Payload,
) -> Result<Json<Value>, ApiError> {
    let found = find(&app, &account, &name)?;
    let max_size = max_size(Parameters(&body))?.ok_or_else(|| ApiError::missing("max_size"))?;
    let changed = queues::change(&app.calls, &account.name, found.queue.id, None, Some(max_size)).await;
    Ok(Json(json!({ "data": queue(&changed.map_err(unfit)?) })))
}

/// `DELETE /v2/queues/{name}`: deletes an empty queue.
pub(super) async fn delete(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(name): Segments<String>,
) -> Result<StatusCode, ApiError> {
    let found = find(&app, &account, &name)?;
    queues::delete(&app.calls, &account.name, found.queue.id).await.map_err(unfit)?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /v2/queues/{name}/calls`: the calls, in the order of arrival.
pub(super) async fn calls(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(name): Segments<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let paging = Paging::parse(query.as_deref().unwrap_or_default())?;
    let found = find(&app, &account, &name)?;
    let mut data = Vec::new();
    for member in found.members.iter().skip(paging.offset()).take(paging.size) {
        // Skips a call that has just left the queue.
        if let Some(leg) = app.calls.get(&account.name, member.leg).await? {
            data.push(waiting(&found, member, &leg));
        }
    }
    Ok(Json(json!({ "data": data, "meta": paging.meta(found.members.len()) })))
}

/// `GET /v2/queues/{name}/calls/{call}`: one call in the queue.
pub(super) async fn call(
    State(app): State<App>,
    Caller(account): Caller,
    Segments((name, call)): Segments<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let found = find(&app, &account, &name)?;
    let (member, leg) = member(&app, &account, &found, &call).await?;
    Ok(Json(json!({ "data": waiting(&found, &member, &leg) })))
}

/// `PATCH /v2/queues/{name}/calls/{call}`: would change `keep_after_hangup`. This server does not support this
/// parameter.
pub(super) async fn update_call(
    State(app): State<App>,
    Caller(account): Caller,
    Segments((name, call)): Segments<(String, String)>,
    Payload(body): Payload,
) -> Result<StatusCode, ApiError> {
    let found = find(&app, &account, &name)?;
    member(&app, &account, &found, &call).await?;
    if Parameters(&body).flag("keep_after_hangup")? {
        return Err(ApiError::not_permitted("keep_after_hangup"));
    }
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /v2/queues/{name}/calls/{call}`: removes a call from the queue.
pub(super) async fn remove_call(
    State(app): State<App>,
    Caller(account): Caller,
    Segments((name, call)): Segments<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let found = find(&app, &account, &name)?;
    let (member, _) = member(&app, &account, &found, &call).await?;
    let removed = queues::remove_member(&app.calls, &account.name, found.queue.id, member.leg).await;
    removed.map_err(|refused| ApiError::unavailable(&refused.to_string()))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reserves the leg to bridge with, if the request names a queue. This leg is the first caller in the queue.
pub(super) async fn take_first(
    app: &App,
    account: &Account,
    parameters: Parameters<'_>,
) -> Result<Option<Reservation>, ApiError> {
    let Some(name) = parameters.text("queue")? else { return Ok(None) };
    // Some clients cannot omit the parameter and send an empty text instead.
    if parameters.text("call_control_id")?.is_some_and(|call| !call.is_empty()) {
        return Err(ApiError::bad_value("queue", "The 'queue' parameter can't be used with 'call_control_id'."));
    }
    let first = queues::reserve_first(&app.calls, &account.name, name).await;
    first.map_err(QueueFailure::from).map_err(unfit)?.map(Some).ok_or_else(ApiError::queue_empty)
}

/// Checks that a call can enter the queue that the request names. If the queue does not exist, the function creates it.
pub(super) async fn prepare(app: &App, account: &Account, parameters: Parameters<'_>) -> Result<(), ApiError> {
    let (name, max_size) = (name(parameters)?, max_size(parameters)?);
    let admitted = queues::admit(&app.calls, &account.name, name, max_size, DEFAULT_MAX_SIZE_OF_CALL).await;
    admitted.map_err(|why| match why {
        NotAdmitted::Full => ApiError::queue_full(name),
        NotAdmitted::OtherSize => ApiError::queue_size_is_fixed(),
        NotAdmitted::NotCreated(why) => unfit(why),
    })
}

async fn member(
    app: &App,
    account: &Account,
    found: &QueueSnapshot,
    call: &str,
) -> Result<(Member, Arc<LegInfo>), ApiError> {
    let leg = id::parse_call_control_id(call).ok_or_else(ApiError::no_queue)?;
    let member = found.members.iter().find(|member| member.leg == leg).ok_or_else(ApiError::no_queue)?;
    let leg = known(app, account, leg).await?.ok_or_else(ApiError::no_queue)?;
    Ok((*member, leg))
}

fn unfit(why: QueueFailure) -> ApiError {
    match why {
        QueueFailure::Refused(QueueError::Unknown) => ApiError::no_queue(),
        QueueFailure::Refused(QueueError::NameTaken) => ApiError::queue_name_in_use(),
        QueueFailure::Refused(QueueError::TooMany) => ApiError::too_many_queues(),
        QueueFailure::Refused(QueueError::InUse) => ApiError::queue_not_empty(),
        QueueFailure::Refused(why @ QueueError::NoOwner) => ApiError::unavailable(&sentence(why)),
        QueueFailure::Store(failed) => failed.into(),
    }
}

fn queue(snapshot: &QueueSnapshot) -> Value {
    let queue = &snapshot.queue;
    json!({
        "id": id::uuid(queue.id.0),
        "record_type": "queue",
        "name": queue.name,
        "max_size": queue.max_size,
        "current_size": snapshot.waiting,
        "average_wait_time_secs": snapshot.average.as_secs(),
        "created_at": time(queue.created_at),
        "updated_at": time(queue.updated_at),
    })
}

fn waiting(snapshot: &QueueSnapshot, member: &Member, leg: &LegInfo) -> Value {
    json!({
        "record_type": "queue_call",
        "call_control_id": id::call_control_id(leg.id),
        "call_leg_id": id::uuid(leg.id.0),
        "call_session_id": id::uuid(leg.session.0),
        "connection_id": leg.application,
        "from": leg.from.to_string(),
        "to": leg.to.to_string(),
        "is_alive": !leg.status.is_final(),
        "queue_id": id::uuid(snapshot.queue.id.0),
        "queue_position": member.position,
        "enqueued_at": time(member.since),
        "wait_time_secs": member.waited(Timestamp::now()).as_secs(),
    })
}
