//! `Notifications` of an account or a call: errors and warnings with their numbers. The newest notification comes
//! first.

use serde_json::{Value, json};
use tandem_history::notification::{Level, NOTIFICATIONS, Notification};
use tandem_http::exchange::HttpExchange;
use tandem_id::LegId;
use tandem_store::TimeRange;
use tandem_store::resources::{self, Filter, Resource};

use super::super::error::{ApiError, allow};
use super::super::path::VERSION;
use super::super::{format, list, sid};
use super::{Answer, RestContext as Request, Verb, ok};

const PREFIX: &str = "NO";

/// Answers requests for the notifications of the account. If `call` is given, the answer has only the notifications of
/// this call.
pub(super) async fn answer(x: &Request<'_>, call: Option<LegId>, below: &[&str]) -> Answer {
    match (below, x.verb) {
        ([], Verb::Get) => list(x, call).await,
        ([name], Verb::Get) => fetch(x, call, name).await,
        ([] | [_], _) => Err(ApiError::method_not_allowed(allow::GET)),
        _ => Err(x.not_found()),
    }
}

async fn list(x: &Request<'_>, call: Option<LegId>) -> Answer {
    let name = match call {
        Some(call) => format!("Calls/{}/Notifications", x.ids().call(x.leg(call).await?.id)),
        None => "Notifications".into(),
    };
    let level = match x.parameters.get("Log") {
        None => None,
        Some("0") => Some(Level::Error.word()),
        Some("1") => Some(Level::Warning.word()),
        Some(other) => return Err(ApiError::bad(20001, format!("Log is not valid: {other}"))),
    };
    let range = list::range_to(x.parameters, "MessageDate")?;
    let created = TimeRange { since: range.from, before: range.until };
    let filter = Filter { parent: call.map(|call| call.0), name: level, created, ..Filter::default() };
    x.resources(NOTIFICATIONS, ("notifications", &name, PREFIX), &filter, |row| notification(x, call, row)).await
}

async fn fetch(x: &Request<'_>, call: Option<LegId>, name: &str) -> Answer {
    let id = sid::parse(PREFIX, name).ok_or_else(|| x.not_found())?;
    let row = resources::get(x.store(), NOTIFICATIONS, &x.account.name, id).await?;
    let here = |row: &Resource<Notification>| call.is_none_or(|call| row.parent == Some(call.0));
    let row = row.filter(here).ok_or_else(|| x.not_found())?;
    let mut body = notification(x, call, &row);
    let exchange = row.details.exchange.as_ref();
    let answer = exchange.and_then(|exchange| exchange.answer.as_ref());
    if let Some(fields) = body.as_object_mut() {
        let variables = exchange.map(|exchange| encoded(&exchange.parameters)).unwrap_or_default();
        fields.insert("request_variables".into(), variables.into());
        fields.insert("response_body".into(), answer.map_or("", |answer| &answer.body).into());
        let headers = answer.map(|answer| encoded(&answer.headers)).unwrap_or_default();
        fields.insert("response_headers".into(), headers.into());
    }
    Ok(ok(body))
}

/// The Notification resource in the format for lists.
fn notification(x: &Request<'_>, call: Option<LegId>, row: &Resource<Notification>) -> Value {
    let Notification { code, exchange, .. } = &row.details;
    let (sid, error) = (sid::spell(PREFIX, row.id), row.name == Level::Error.word());
    let below = call.map(|call| format!("Calls/{}/", x.ids().call(call))).unwrap_or_default();
    let date = format::rfc2822(row.created_at);
    json!({
        "account_sid": x.account_sid(),
        "api_version": VERSION,
        "call_sid": row.parent.map(|leg| x.ids().call(LegId(leg))),
        "date_created": date,
        "date_updated": format::rfc2822(row.updated_at),
        "error_code": code.to_string(),
        "log": if error { "0" } else { "1" },
        "message_date": date,
        "message_text": message(row, error),
        "more_info": format!("https://www.twilio.com/docs/errors/{code}"),
        "request_method": exchange.as_ref().map(|exchange| &exchange.method),
        "request_url": exchange.as_ref().map_or("", |exchange| &exchange.url),
        "sid": sid,
        "uri": format!("/{VERSION}/Accounts/{}/{below}Notifications/{sid}.json", x.account_sid()),
    })
}

/// The value of `message_text`. The text is URL-encoded like a form, as at Twilio.
pub(super) fn message(row: &Resource<Notification>, error: bool) -> String {
    let Notification { code, message, cause, exchange } = &row.details;
    let mut text = form_urlencoded::Serializer::new(String::new());
    text.append_pair("LogLevel", if error { "ERROR" } else { "WARN" }).append_pair("ErrorCode", &code.to_string());
    text.append_pair("Msg", message).append_pair("EmailNotification", "false");
    if let Some(cause) = cause {
        text.append_pair("cause", cause.id()).append_pair("advice", &cause.line());
    }
    if let Some(HttpExchange { url, answer, .. }) = exchange {
        text.append_pair("url", url);
        if let Some(answer) = answer {
            text.append_pair("httpResponse", &answer.status.to_string());
        }
    }
    text.finish()
}

pub(super) fn encoded(pairs: &[(String, String)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}
