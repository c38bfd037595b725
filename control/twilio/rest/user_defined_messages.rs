//! `UserDefinedMessages` of a call, and the subscriptions to these messages. Each subscriber's callback receives each
//! message as a webhook, in order.
//!
//! Messages go between applications and pages with Twilio's Voice SDK. A message of a REST client goes to the subscribers,
//! and to the page, if the far end of the call is a page. A message of a page goes to the subscribers.

use axum::Json;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use jiff::Timestamp;
use serde_json::{Value, json};
use tandem_call::Target;
use tandem_call::command::Refused;
use tandem_dialect::Notice;
use tandem_id::LegId;
use tandem_leg::signal::SignalCommand;
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
    let of = (x.account_sid(), x.ids().call(id));
    let sent = call.send(key(x)?, |callback, number| notice((of.0, &of.1), content, callback, number)).await;
    let message = sent.map_err(|why| unsent(x, why))?;
    if let Some(page) = x.app.calls.services().pages.call(id) {
        let (content_type, body) = ("application/json".to_owned(), content.to_owned().into());
        page.send(SignalCommand::Message { content_type, body });
    }
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

/// Passes a message of a page on to the subscribers of the call's messages. `of` has the SIDs of the account and the call.
pub(crate) async fn pass_on(call: &CallMessages<'_>, of: (&str, &str), content: &str) -> Result<(), MessageError> {
    call.send("", |callback, number| notice(of, content, callback, number)).await.map(drop)
}

fn notice((account, call): (&str, &str), content: &str, target: Target, number: u64) -> Notice {
    let parameters = [
        ("AccountSid", account.to_owned()),
        ("CallSid", call.to_owned()),
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
