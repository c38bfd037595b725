//! `UserDefinedMessages` of a call, and the subscriptions to them. A message is sent to the callback of every
//! subscriber, in order, as a webhook.
//!
//! Twilio exchanges these messages with its own phones in browsers. This server has no such phones: messages go from
//! REST clients to subscribers.

use axum::Json;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tandem_call::Target;
use tandem_call::id::LegId;
use tandem_call::leg::{LegInfo, Status};
use tandem_dialect::{Body, Notice, delivery};
use tandem_store::resources::{self, Filter, Kind, Resource};

use super::super::error::ApiError;
use super::super::{format, path, sid};
use super::{Answer, RestContext, Verb};

const MESSAGES: Kind<Sent> = Kind::new("user-defined-message");
const SUBSCRIPTIONS: Kind<Subscription> = Kind::new("user-defined-message-subscription");
/// Maximum number of messages of a call. Further ones are refused.
const MOST_MESSAGES: u64 = 1_000;
/// Maximum number of subscriptions to a call. Further ones are refused.
const MOST_SUBSCRIPTIONS: u64 = 10;
/// Maximum size of a message's content, in octets.
const LONGEST: usize = 10 * 1024;
/// Maximum length of an idempotency key, in octets.
const LONGEST_KEY: usize = 256;

/// A sent message. Its content is not stored.
#[derive(Clone, Serialize, Deserialize)]
struct Sent {}

#[derive(Clone, Serialize, Deserialize)]
struct Subscription {
    callback: Target,
}

pub(super) async fn messages(x: &RestContext<'_>, leg: LegId, below: &[&str]) -> Answer {
    match (below, x.verb) {
        ([], Verb::Post) => send(x, leg).await,
        ([], _) => Err(ApiError::method_not_allowed()),
        _ => Err(x.not_found()),
    }
}

pub(super) async fn subscriptions(x: &RestContext<'_>, leg: LegId, below: &[&str]) -> Answer {
    match (below, x.verb) {
        ([], Verb::Post) => subscribe(x, leg).await,
        ([name], Verb::Delete) => {
            let id = sid::parse("ZY", name).ok_or_else(|| x.not_found())?;
            let found = resources::get(x.store(), SUBSCRIPTIONS, &x.account.name, id).await?;
            if found.is_none_or(|found| found.parent != Some(leg.0)) {
                return Err(x.not_found());
            }
            resources::delete(x.store(), SUBSCRIPTIONS, &x.account.name, id).await?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        ([] | [_], _) => Err(ApiError::method_not_allowed()),
        _ => Err(x.not_found()),
    }
}

async fn send(x: &RestContext<'_>, id: LegId) -> Answer {
    let leg = live(x, id).await?;
    let content = x.parameters.get("Content").ok_or_else(|| ApiError::bad(20001, "Content is required"))?;
    if content.len() > LONGEST || serde_json::from_str::<serde::de::IgnoredAny>(content).is_err() {
        return Err(ApiError::bad(20001, format!("Content is not JSON of at most {LONGEST} octets")));
    }
    let (message, new) = keep(x, MESSAGES, id, Sent {}, MOST_MESSAGES).await?;
    if new {
        let sequence = count(x, MESSAGES, id).await?;
        let all = Filter { parent: Some(id.0), ..Filter::default() };
        let page = tandem_store::Page::first(MOST_SUBSCRIPTIONS as u32);
        for subscriber in resources::list(x.store(), SUBSCRIPTIONS, &x.account.name, &all, &page).await? {
            deliver(x, &leg, subscriber.details.callback, content, sequence).await?;
        }
    }
    Ok((StatusCode::CREATED, Json(common(x, id, "KX", &message))).into_response())
}

async fn subscribe(x: &RestContext<'_>, id: LegId) -> Answer {
    live(x, id).await?;
    let callback = x.parameters.target("Callback", "Method", 21502)?;
    let callback = callback.ok_or_else(|| ApiError::bad(20001, "Callback is required"))?;
    let (subscription, _) = keep(x, SUBSCRIPTIONS, id, Subscription { callback }, MOST_SUBSCRIPTIONS).await?;
    let mut body = common(x, id, "ZY", &subscription);
    let (account, call, own) = (x.account_sid(), x.ids().call(id), sid::spell("ZY", subscription.id));
    let uri = format!("/{}/Accounts/{account}/Calls/{call}/UserDefinedMessageSubscriptions/{own}.json", path::VERSION);
    if let Some(fields) = body.as_object_mut() {
        fields.insert("uri".into(), uri.into());
    }
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

async fn live(x: &RestContext<'_>, id: LegId) -> Result<std::sync::Arc<LegInfo>, ApiError> {
    let leg = x.leg(id).await?;
    if leg.status != Status::InProgress {
        return Err(ApiError::bad(21220, "Call is not in-progress."));
    }
    Ok(leg)
}

async fn count<T>(x: &RestContext<'_>, kind: Kind<T>, leg: LegId) -> Result<u64, ApiError> {
    let filter = Filter { parent: Some(leg.0), ..Filter::default() };
    Ok(resources::count(x.store(), kind, &x.account.name, &filter).await?)
}

/// Stores a new resource of a call and returns it with `true`. If the idempotency key was used before, returns the
/// existing resource with `false`.
async fn keep<T: Serialize + serde::de::DeserializeOwned>(
    x: &RestContext<'_>,
    kind: Kind<T>,
    leg: LegId,
    details: T,
    most: u64,
) -> Result<(Resource<T>, bool), ApiError> {
    let key = x.parameters.get("IdempotencyKey").unwrap_or_default();
    if key.len() > LONGEST_KEY {
        return Err(ApiError::bad(20001, format!("IdempotencyKey is longer than {LONGEST_KEY} octets")));
    }
    if count(x, kind, leg).await? >= most {
        let message = "This call already has the maximum number of these".into();
        return Err(ApiError { status: StatusCode::TOO_MANY_REQUESTS, code: 20429, message });
    }
    let mut resource = Resource::new(&x.account.name, key, details);
    resource.parent = Some(leg.0);
    resource.claim = (!key.is_empty()).then(|| format!("{} {leg} {key}", kind.word()));
    if resources::put(x.store(), kind, &resource).await? {
        return Ok((resource, true));
    }
    let filter = Filter { parent: Some(leg.0), name: Some(key), ..Filter::default() };
    let first = tandem_store::Page::first(1);
    let found = resources::list(x.store(), kind, &x.account.name, &filter, &first).await?.pop();
    found.map(|found| (found, false)).ok_or_else(ApiError::internal)
}

async fn deliver(
    x: &RestContext<'_>,
    leg: &LegInfo,
    target: Target,
    content: &str,
    sequence: u64,
) -> Result<(), ApiError> {
    let services = x.app.calls.services();
    let parameters = [
        ("AccountSid", x.account_sid().to_owned()),
        ("CallSid", x.ids().call(leg.id)),
        ("Content", content.to_owned()),
        ("SequenceNumber", sequence.to_string()),
        ("Timestamp", format::iso8601(Timestamp::now())),
    ];
    let body = Body::Form(parameters.map(|(name, value)| (name.to_owned(), value)).into());
    let notice = Notice { event: "user-defined-message".into(), target, failover: None, body, numbered: false };
    let dialect = services.dialects.get(&leg.dialect).ok_or_else(ApiError::internal)?;
    let delivery = delivery::of_leg(notice, dialect.as_ref(), leg, rand::random());
    Ok(services.deliveries.enqueue(delivery).await?)
}

fn common<T>(x: &RestContext<'_>, call: LegId, prefix: &str, resource: &Resource<T>) -> Value {
    json!({
        "account_sid": x.account_sid(),
        "call_sid": x.ids().call(call),
        "sid": sid::spell(prefix, resource.id),
        "date_created": format::rfc2822(resource.created_at),
    })
}
