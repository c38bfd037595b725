//! `/v1/Alerts` and `/v1/Events` (Monitor): errors and warnings about an account's calls, as Twilio's debugger lists
//! them.

use serde_json::{Value, json};
use tandem_history::notification::{Level, NOTIFICATIONS, Notification};
use tandem_id::LegId;
use tandem_store::TimeRange;
use tandem_store::resources::{self, Filter, Resource};

use super::super::error::{ApiError, allow};
use super::super::list::{self};
use super::super::path::VERSION;
use super::super::sid;
use super::notifications::{encoded, message};
use super::v1::{base, date, envelope};
use super::{Answer, Request, RestContext, Verb, ok};

/// Prefix of an alert's SID. The alert and the notification of one error have the same SID.
const PREFIX: &str = "NO";
const ALERTS: &str = "/v1/Alerts";
const EVENTS: &str = "/v1/Events";

pub(super) async fn alerts(request: &Request<'_>, below: &[&str]) -> Answer {
    let x = request.about_itself()?;
    let base = base(request.host(), &x.app.public_url);
    match (below, x.verb) {
        ([], Verb::Get) => all(&x, &base).await,
        ([name], Verb::Get) => one(&x, &base, name).await,
        ([] | [_], _) => Err(ApiError::method_not_allowed(allow::GET)),
        _ => Err(x.not_found()),
    }
}

/// The list of an account's changes. The list is always empty, because this server does not log these changes.
pub(super) fn events(request: &Request<'_>) -> Answer {
    let x = request.about_itself()?;
    if x.verb != Verb::Get {
        return Err(ApiError::method_not_allowed(allow::GET));
    }
    let paging = x.paging("AE")?;
    let place = format!("{}{EVENTS}", base(request.host(), &x.app.public_url));
    let page = paging.envelope("events", &place, x.parameters, Vec::new());
    Ok(ok(envelope("events", &page)))
}

async fn all(x: &RestContext<'_>, base: &str) -> Answer {
    let level = match x.parameters.given("LogLevel") {
        None => None,
        Some("error") => Some(Level::Error.word()),
        Some("warning") => Some(Level::Warning.word()),
        // This server has no alerts with these levels.
        Some("notice" | "debug") => Some(""),
        Some(other) => return Err(ApiError::bad(20001, format!("LogLevel is not valid: {other}"))),
    };
    // Both bounds are inclusive, and the resource shows whole seconds.
    let before = list::time(x.parameters, "EndDate")?.map(list::second_after);
    let created = TimeRange { since: list::time(x.parameters, "StartDate")?, before };
    let filter = Filter { name: level, created, ..Filter::default() };
    let paging = x.paging(PREFIX)?;
    let (store, page) = (x.store(), paging.page());
    let after = match page.after {
        Some(id) => resources::cursor(store, &x.account.name, id).await?,
        None => None,
    };
    let rows = resources::list(store, NOTIFICATIONS, &x.account.name, &filter, &page.after(after)).await?;
    let items = rows.iter().map(|row| (sid::spell(PREFIX, row.id), alert(x, base, row))).collect();
    let page = paging.envelope("alerts", &format!("{base}{ALERTS}"), x.parameters, items);
    Ok(ok(envelope("alerts", &page)))
}

async fn one(x: &RestContext<'_>, base: &str, name: &str) -> Answer {
    let id = sid::parse(PREFIX, name).ok_or_else(|| x.not_found())?;
    let row = resources::get(x.store(), NOTIFICATIONS, &x.account.name, id).await?.ok_or_else(|| x.not_found())?;
    let mut body = alert(x, base, &row);
    let exchange = row.details.exchange.as_ref();
    let answer = exchange.and_then(|exchange| exchange.answer.as_ref());
    if let Some(fields) = body.as_object_mut() {
        let variables = exchange.map(|exchange| encoded(&exchange.parameters)).unwrap_or_default();
        fields.insert("request_variables".into(), variables.into());
        // The header fields of this server's requests are not stored.
        fields.insert("request_headers".into(), Value::Null);
        fields.insert("response_body".into(), answer.map_or("", |answer| &answer.body).into());
        let headers = answer.map(|answer| encoded(&answer.headers)).unwrap_or_default();
        fields.insert("response_headers".into(), headers.into());
    }
    Ok(ok(body))
}

/// The Alert resource in the format for lists.
fn alert(x: &RestContext<'_>, base: &str, row: &Resource<Notification>) -> Value {
    let Notification { code, exchange, .. } = &row.details;
    let (sid, is_error) = (sid::spell(PREFIX, row.id), row.name == Level::Error.word());
    json!({
        "account_sid": x.account_sid(),
        "alert_text": message(row, is_error),
        "api_version": VERSION,
        "date_created": date(row.created_at),
        "date_generated": date(row.created_at),
        "date_updated": date(row.updated_at),
        "error_code": code.to_string(),
        "log_level": row.name,
        "more_info": format!("https://www.twilio.com/docs/errors/{code}"),
        "request_method": exchange.as_ref().map(|exchange| &exchange.method),
        "request_url": exchange.as_ref().map(|exchange| &exchange.url),
        "resource_sid": row.parent.map(|leg| x.ids().call(LegId(leg))),
        "service_sid": null,
        "sid": sid,
        "url": format!("{base}{ALERTS}/{sid}"),
    })
}
