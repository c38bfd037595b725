//! `UserDefinedMessages` of a call, and the subscriptions to these messages. Each subscriber's callback receives each
//! message as a webhook, in order.
//!
//! At Twilio, these messages go between applications and Twilio's own phones in browsers. This server has no such
//! phones. Here a message goes from a REST client to the subscribers.

use axum::Json;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use jiff::Timestamp;
use serde_json::{Value, json};
use tandem_call::Target;
use tandem_call::command::Refused;
use tandem_dialect::Notice;
use tandem_id::LegId;
use tandem_operations::messages::{self, CallMessages, MessageError};
use tandem_store::resources::Resource;
use tandem_webhooks::Body;

use super::super::error::{ApiError, allow};
use super::super::{format, path, sid};
use super::{Answer, RestContext, Verb};

/// Maximum size of a message's content, in octets.
const LONGEST: usize = 10 * 1024;
/// Maximum length of an idempotency key, in octets.
const LONGEST_KEY: usize = 256;

pub(super) async fn messages(x: &RestContext<'_>, leg: LegId, below: &[&str]) -> Answer {
    match (below, x.verb) {
        ([], Verb::Post) => send(x, leg).await,
        ([], _) => Err(ApiError::method_not_allowed(allow::POST)),
        _ => Err(x.not_found()),
    }
}

pub(super) async fn subscriptions(x: &RestContext<'_>, leg: LegId, below: &[&str]) -> Answer {
    match (below, x.verb) {
        ([], Verb::Post) => subscribe(x, leg).await,
        ([name], Verb::Delete) => {
            let id = sid::parse("ZY", name).ok_or_else(|| x.not_found())?;
            match messages::unsubscribe(&x.app.calls, &x.account.name, leg, id).await? {
                true => Ok(StatusCode::NO_CONTENT.into_response()),
                false => Err(x.not_found()),
            }
        }
        ([], _) => Err(ApiError::method_not_allowed(allow::POST)),
        ([_], _) => Err(ApiError::method_not_allowed(allow::DELETE)),
        _ => Err(x.not_found()),
    }
}

async fn send(x: &RestContext<'_>, id: LegId) -> Answer {
    let call = call(x, id).await?;
    let content = x.parameters.get("Content").ok_or_else(|| ApiError::bad(20001, "Content is required"))?;
    if content.len() > LONGEST || serde_json::from_str::<serde::de::IgnoredAny>(content).is_err() {
        return Err(ApiError::bad(20001, format!("Content is not JSON of at most {LONGEST} octets")));
    }
    let sent = call.send(key(x)?, |callback, number| notice(x, id, content, callback, number)).await;
    let message = sent.map_err(|why| unsent(x, why))?;
    Ok((StatusCode::CREATED, Json(common(x, id, "KX", &message))).into_response())
}

async fn subscribe(x: &RestContext<'_>, id: LegId) -> Answer {
    let call = call(x, id).await?;
    let callback = x.parameters.target("Callback", "Method", 21502)?;
    let callback = callback.ok_or_else(|| ApiError::bad(20001, "Callback is required"))?;
    let subscription = call.subscribe(key(x)?, callback).await.map_err(|why| unsent(x, why))?;
    let mut body = common(x, id, "ZY", &subscription);
    let (account, call, own) = (x.account_sid(), x.ids().call(id), sid::spell("ZY", subscription.id));
    let uri = format!("/{}/Accounts/{account}/Calls/{call}/UserDefinedMessageSubscriptions/{own}.json", path::VERSION);
    if let Some(fields) = body.as_object_mut() {
        fields.insert("uri".into(), uri.into());
    }
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

async fn call<'a>(x: &'a RestContext<'_>, id: LegId) -> Result<CallMessages<'a>, ApiError> {
    CallMessages::of(&x.app.calls, &x.account.name, id).await.map_err(|why| unsent(x, why))
}

fn key<'a>(x: &'a RestContext<'_>) -> Result<&'a str, ApiError> {
    let key = x.parameters.get("IdempotencyKey").unwrap_or_default();
    match key.len() <= LONGEST_KEY {
        true => Ok(key),
        false => Err(ApiError::bad(20001, format!("IdempotencyKey is longer than {LONGEST_KEY} octets"))),
    }
}

fn unsent(x: &RestContext<'_>, why: MessageError) -> ApiError {
    match why {
        MessageError::NoCall => x.not_found(),
        MessageError::NotInProgress => ApiError::bad(21220, "Call is not in-progress."),
        MessageError::TooMany => x.refused(Refused::TooMany),
        MessageError::Internal => ApiError::internal(),
        MessageError::Store(failed) => failed.into(),
    }
}

fn notice(x: &RestContext<'_>, call: LegId, content: &str, target: Target, number: u64) -> Notice {
    let parameters = [
        ("AccountSid", x.account_sid().to_owned()),
        ("CallSid", x.ids().call(call)),
        ("Content", content.to_owned()),
        ("SequenceNumber", number.to_string()),
        ("Timestamp", format::iso8601(Timestamp::now())),
    ];
    let body = Body::Form(parameters.map(|(name, value)| (name.to_owned(), value)).into());
    Notice { event: "user-defined-message".into(), target, failover: None, body, numbered: false }
}

fn common<T>(x: &RestContext<'_>, call: LegId, prefix: &str, resource: &Resource<T>) -> Value {
    json!({
        "account_sid": x.account_sid(),
        "call_sid": x.ids().call(call),
        "sid": sid::spell(prefix, resource.id),
        "date_created": format::rfc2822(resource.created_at),
    })
}
