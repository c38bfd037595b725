//! `Queues` and their `Members`. A path names a queue by the queue's SID. A path names a member by the SID of the
//! member's call, or by `Front`.

use axum::Json;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use jiff::Timestamp;
use serde_json::{Value, json};
use tandem_id::{LegId, QueueId};
use tandem_operations::queues::{self, QueueFailure};
use tandem_queues::{DEFAULT_QUEUE_SIZE, MAX_QUEUE_SIZE, Member, QueueError, QueueSnapshot, Queues};

use super::super::error::{ApiError, allow};
use super::super::family::Owner;
use super::super::format;
use super::super::list::{self, Paging};
use super::{Answer, RestContext, Verb, ok};

/// Maximum length of a `FriendlyName`, in characters.
const MAX_NAME: usize = 64;
// Twilio's reference publishes the range of these error numbers, but not the meaning of each number.
const BAD_NAME: u32 = 22001;
const BAD_SIZE: u32 = 22002;
const NAME_TAKEN: u32 = 22003;
const NOT_EMPTY: u32 = 22004;
const TOO_MANY: u32 = 22006;

pub(super) async fn answer(x: &RestContext<'_>, below: &[&str]) -> Answer {
    let Some((name, below)) = below.split_first() else {
        return match x.verb {
            Verb::Get => list(x).await,
            Verb::Post => create(x).await,
            _ => Err(ApiError::method_not_allowed(allow::GET_POST)),
        };
    };
    let id = id(x, name).ok_or_else(|| x.not_found())?;
    match (below, x.verb) {
        ([], Verb::Get) => Ok(ok(queue(x.owner(), &find(x, id)?))),
        ([], Verb::Post) => update(x, id).await,
        ([], Verb::Delete) => delete(x, id).await,
        (["Members"], Verb::Get) => members(x, &find(x, id)?),
        (["Members", which], Verb::Get) => {
            let snapshot = find(x, id)?;
            let which = member_id(x, which)?;
            let found = snapshot.members.iter().find(|member| which.is_none_or(|leg| leg == member.leg));
            let found = found.ok_or_else(|| x.not_found())?;
            Ok(ok(member(x.owner(), id, found, Timestamp::now())))
        }
        (["Members", which], Verb::Post) => dequeue(x, id, member_id(x, which)?).await,
        ([], _) => Err(ApiError::method_not_allowed(allow::GET_POST_DELETE)),
        (["Members"], _) => Err(ApiError::method_not_allowed(allow::GET)),
        (["Members", _], _) => Err(ApiError::method_not_allowed(allow::GET_POST)),
        _ => Err(x.not_found()),
    }
}

fn all<'a>(x: &'a RestContext<'_>) -> &'a Queues {
    &x.app.calls.services().queues
}

/// Finds a queue by its SID. If the queue names of this provider are also SIDs, the function finds a queue by its name
/// too.
fn id(x: &RestContext<'_>, name: &str) -> Option<QueueId> {
    let named = || all(x).named(&x.account.name, name, Timestamp::now()).map(|one| one.queue.id);
    x.ids().parse_queue(name).or_else(|| x.provider.names_queues().then(named).flatten())
}

fn find(x: &RestContext<'_>, id: QueueId) -> Result<QueueSnapshot, ApiError> {
    all(x).get(&x.account.name, id, Timestamp::now()).ok_or_else(|| x.not_found())
}

async fn list(x: &RestContext<'_>) -> Answer {
    let paging = x.paging("QU")?;
    let (created, updated) = match x.provider.filters_queues() {
        true => (list::range_to(x.parameters, "DateCreated")?, list::range_to(x.parameters, "DateUpdated")?),
        false => Default::default(),
    };
    let items = all(x).list_everywhere(&x.account.name, Timestamp::now()).await.into_iter();
    let items = items.filter(|one| created.contains(one.queue.created_at) && updated.contains(one.queue.updated_at));
    let items = items.map(|one| (one.queue.id.0, x.ids().queue(one.queue.id), queue(x.owner(), &one))).collect();
    Ok(ok(x.list("queues", "Queues", &paging, page(&paging, items))))
}

async fn create(x: &RestContext<'_>) -> Answer {
    let name = name(x)?.ok_or_else(|| ApiError::bad(BAD_NAME, "FriendlyName is required"))?;
    let max_size = max_size(x)?.unwrap_or(DEFAULT_QUEUE_SIZE);
    let created = queues::create(&x.app.calls, &x.account.name, name, max_size).await.map_err(|why| unfit(x, why))?;
    Ok((StatusCode::CREATED, Json(queue(x.owner(), &created))).into_response())
}

async fn update(x: &RestContext<'_>, id: QueueId) -> Answer {
    let (name, max_size) = (name(x)?, max_size(x)?);
    let changed = queues::change(&x.app.calls, &x.account.name, id, name, max_size).await;
    Ok(ok(queue(x.owner(), &changed.map_err(|why| unfit(x, why))?)))
}

async fn delete(x: &RestContext<'_>, id: QueueId) -> Answer {
    queues::delete(&x.app.calls, &x.account.name, id).await.map_err(|why| unfit(x, why))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn members(x: &RestContext<'_>, snapshot: &QueueSnapshot) -> Answer {
    let paging = x.paging("CA")?;
    let (id, now) = (snapshot.queue.id, Timestamp::now());
    let item = |one: &Member| (one.leg.0, x.ids().call(one.leg), member(x.owner(), id, one, now));
    let items = snapshot.members.iter().map(item).collect();
    let name = format!("Queues/{}/Members", x.ids().queue(id));
    Ok(ok(x.list("queue_members", &name, &paging, page(&paging, items))))
}

/// Redirects a member to another document. If `which` is `None`, the function redirects the first member that can be
/// redirected.
async fn dequeue(x: &RestContext<'_>, id: QueueId, which: Option<LegId>) -> Answer {
    find(x, id)?;
    let target = x.parameters.target("Url", "Method", 21205)?;
    let target = target.ok_or_else(|| ApiError::bad(21205, "Url is required"))?;
    let redirected = queues::redirect_member(&x.app.calls, &x.account.name, id, which, &target).await;
    let redirected = redirected.map_err(|refused| x.refused(refused))?.ok_or_else(|| x.not_found())?;
    Ok(ok(member(x.owner(), id, &redirected, Timestamp::now())))
}

/// Parses the id of a member. `None` means the first member (`Front`).
fn member_id(x: &RestContext<'_>, text: &str) -> Result<Option<LegId>, ApiError> {
    if text.eq_ignore_ascii_case("Front") {
        return Ok(None);
    }
    x.ids().parse_call(text).map(Some).ok_or_else(|| x.not_found())
}

fn name<'a>(x: &'a RestContext<'_>) -> Result<Option<&'a str>, ApiError> {
    let Some(name) = x.parameters.get("FriendlyName") else { return Ok(None) };
    if name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(ApiError::bad(BAD_NAME, format!("FriendlyName must have at most {MAX_NAME} characters")));
    }
    Ok(Some(name))
}

fn max_size(x: &RestContext<'_>) -> Result<Option<u32>, ApiError> {
    let max_size = x.parameters.number("MaxSize", 1..=u64::from(MAX_QUEUE_SIZE), BAD_SIZE)?;
    Ok(max_size.and_then(|max_size| u32::try_from(max_size).ok()))
}

fn unfit(x: &RestContext<'_>, why: QueueFailure) -> ApiError {
    let why = match why {
        QueueFailure::Refused(why) => why,
        QueueFailure::Store(failed) => return failed.into(),
    };
    match why {
        QueueError::Unknown => x.not_found(),
        QueueError::NameTaken => ApiError::bad(NAME_TAKEN, "Another queue of this account has this FriendlyName"),
        QueueError::TooMany => ApiError::bad(TOO_MANY, "This account has the maximum number of queues"),
        QueueError::InUse => ApiError::bad(NOT_EMPTY, "The queue is not empty"),
        QueueError::NoOwner => {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, 20503, format!("Service unavailable: {why}"))
        }
    }
}

/// One page of a list that is in memory. If there is a next page, the result has one item more than the page.
fn page(paging: &Paging, items: Vec<(u128, String, Value)>) -> Vec<(String, Value)> {
    let page = paging.page();
    let from = match page.after {
        Some(after) => items.iter().position(|(id, ..)| *id == after).map_or(items.len(), |place| place + 1),
        None => page.offset,
    };
    items.into_iter().skip(from).take(page.limit + 1).map(|(_, sid, item)| (sid, item)).collect()
}

fn queue(owner: Owner<'_>, snapshot: &QueueSnapshot) -> Value {
    let (queue, sid) = (&snapshot.queue, owner.ids.queue(snapshot.queue.id));
    json!({
        "account_sid": owner.sid,
        "average_wait_time": format::seconds(snapshot.average),
        "current_size": snapshot.waiting,
        "date_created": format::rfc2822(queue.created_at),
        "date_updated": format::rfc2822(queue.updated_at),
        "friendly_name": &*queue.name,
        "max_size": queue.max_size,
        "sid": sid,
        "uri": owner.uri(format_args!("Queues/{sid}")),
    })
}

fn member(owner: Owner<'_>, queue: QueueId, member: &Member, now: Timestamp) -> Value {
    let (queue, call) = (owner.ids.queue(queue), owner.ids.call(member.leg));
    json!({
        "call_sid": call,
        "date_enqueued": format::rfc2822(member.since),
        "position": member.position,
        "queue_sid": queue,
        "uri": owner.uri(format_args!("Queues/{queue}/Members/{call}")),
        "wait_time": format::seconds(member.waited(now)),
    })
}
