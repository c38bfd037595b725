//! `Usage/Records`: the usage of an account and its subaccounts, by category and period. The server computes the usage
//! from the records of calls and recordings. Days are in UTC.

#[cfg(test)]
mod tests;
mod triggers;

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};
use tandem_accounts::usage::{self, Category, Usage};

use super::super::error::{ApiError, allow};
use super::super::form::Parameters;
use super::super::{path, sid};
use super::{Answer, RestContext, Verb, ok};

/// Maximum number of periods in a list, over all pages.
const MAX_PERIODS: usize = 4000;

/// The categories that this server counts. Each entry has the name, the description, the category, the unit of `count`,
/// and the unit of `usage`.
const CATEGORIES: [(&str, &str, Category, &str, &str); 10] = [
    ("calls", "Voice Minutes", Category::Calls, "calls", "minutes"),
    ("calls-inbound", "Inbound Voice Minutes", Category::Inbound, "calls", "minutes"),
    ("calls-outbound", "Outbound Voice Minutes", Category::Outbound, "calls", "minutes"),
    ("calls-client", "Client Minutes", Category::Client, "calls", "minutes"),
    ("calls-sip", "SIP Minutes", Category::Sip, "calls", "minutes"),
    ("calls-sip-inbound", "SIP Inbound Minutes", Category::SipInbound, "calls", "minutes"),
    ("calls-sip-outbound", "SIP Outbound Minutes", Category::SipOutbound, "calls", "minutes"),
    ("calls-recordings", "Call Recordings", Category::Recordings, "recordings", "minutes"),
    ("recordings", "Recordings", Category::Recordings, "recordings", "minutes"),
    ("totalprice", "Total Price", Category::Price, "", "usd"),
];

/// The periods of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Period {
    /// A single period that covers all time.
    Whole,
    Today,
    Yesterday,
    ThisMonth,
    LastMonth,
    Daily,
    Monthly,
    Yearly,
}

const PERIODS: [(&str, &str, Period); 8] = [
    ("all_time", "AllTime", Period::Whole),
    ("daily", "Daily", Period::Daily),
    ("last_month", "LastMonth", Period::LastMonth),
    ("monthly", "Monthly", Period::Monthly),
    ("this_month", "ThisMonth", Period::ThisMonth),
    ("today", "Today", Period::Today),
    ("yearly", "Yearly", Period::Yearly),
    ("yesterday", "Yesterday", Period::Yesterday),
];

pub(super) use triggers::notice;

pub(super) async fn answer(x: &RestContext<'_>, below: &[&str]) -> Answer {
    match below {
        ["Triggers", below @ ..] => triggers::answer(x, below).await,
        ["Records"] => records(x, "Usage/Records", Period::Whole).await,
        ["Records", name] => {
            let period = PERIODS.iter().find(|(_, word, _)| word == name).ok_or_else(|| x.not_found())?;
            records(x, &format!("Usage/Records/{name}"), period.2).await
        }
        _ => Err(x.not_found()),
    }
}

/// The category with this name. Any other valid category name has zero usage. Such a name is not an error, because
/// applications also request categories such as messages.
fn category(name: &str) -> Result<(&str, &str, Category, &str, &str), ApiError> {
    if let Some(known) = CATEGORIES.iter().find(|(known, ..)| *known == name) {
        return Ok(*known);
    }
    let named = name.len() <= 64
        && name.bytes().all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-');
    match named {
        true => Ok((name, name, Category::Other, "", "")),
        false => Err(ApiError::bad(20001, format!("Category is not valid: {name}"))),
    }
}

async fn records(x: &RestContext<'_>, place: &str, period: Period) -> Answer {
    if x.verb != Verb::Get {
        return Err(ApiError::method_not_allowed(allow::GET));
    }
    let paging = x.paging("UR")?;
    let today = usage::today();
    let range = (date(x.parameters, "StartDate", today)?, date(x.parameters, "EndDate", today)?);
    let categories = match x.parameters.get("Category") {
        Some(name) => vec![category(name)?],
        None => CATEGORIES.to_vec(),
    };
    let names = match x.parameters.flag("IncludeSubaccounts", true)? {
        true => usage::with_subaccounts(&x.app.accounts, &x.account.name),
        false => vec![x.account.name.clone()],
    };
    let open = matches!(period, Period::Whole | Period::Daily | Period::Monthly | Period::Yearly) && range.0.is_none();
    let bounds = match open {
        true => (None, range.1),
        false => {
            let spans = spans(period, range, None, today)?;
            (spans.last().map(|span| span.0), spans.first().map(|span| span.1))
        }
    };
    let used = Usage::read(x.store(), &names, bounds).await?;
    let spans = spans(period, range, used.first_day(), today)?;
    let as_of = Timestamp::now();
    let mut rows = Vec::with_capacity(spans.len() * categories.len());
    for span in spans {
        for category in &categories {
            let id = sid::spell("UR", rows.len() as u128);
            rows.push((id, record(x.account_sid(), place, category, &used, span, as_of)));
        }
    }
    let items = paging.part(rows, |(id, _)| sid::parse("UR", id));
    Ok(ok(x.list("usage_records", place, &paging, items)))
}

/// The periods of a list. The newest period comes first. More than `MAX_PERIODS` periods are an error.
fn spans(
    period: Period,
    (start, end): (Option<Date>, Option<Date>),
    first: Option<Date>,
    today: Date,
) -> Result<Vec<(Date, Date)>, ApiError> {
    let (from, until) = (start.or(first).unwrap_or(today), end.unwrap_or(today));
    let back = |span: jiff::Span| today.checked_sub(span).unwrap_or(today);
    let of_month = |day: Date| (day.first_of_month(), day.last_of_month());
    let one = match period {
        Period::Whole => Some((from, until.max(from))),
        Period::Today => Some((today, today)),
        Period::Yesterday => Some((back(1.day()), back(1.day()))),
        Period::ThisMonth => Some((today.first_of_month(), today)),
        Period::LastMonth => Some(of_month(back(1.month()))),
        Period::Daily | Period::Monthly | Period::Yearly => None,
    };
    if let Some(one) = one {
        return Ok(vec![one]);
    }
    let (mut spans, mut last) = (Vec::new(), until);
    while last >= from {
        if spans.len() == MAX_PERIODS {
            return Err(ApiError::bad(20001, "StartDate and EndDate are too far apart"));
        }
        let begin = match period {
            Period::Monthly => last.first_of_month(),
            Period::Yearly => last.first_of_year(),
            _ => last,
        };
        spans.push((begin.max(from), last));
        let Ok(before) = begin.yesterday() else { break };
        last = before;
    }
    Ok(spans)
}

/// Parses `YYYY-MM-DD`, or a number of days relative to today, such as `-30days`.
fn date(parameters: &Parameters, name: &str, today: Date) -> Result<Option<Date>, ApiError> {
    let Some(text) = parameters.get(name) else { return Ok(None) };
    let bad = || ApiError::bad(20001, format!("{name} is not a date: {text}"));
    let offset = text.strip_suffix("days").or_else(|| text.strip_suffix("day"));
    if let Some(days) = offset {
        let days: i32 = days.trim().parse().map_err(|_| bad())?;
        let days = jiff::Span::new().try_days(days).map_err(|_| bad())?;
        return today.checked_add(days).map(Some).map_err(|_| bad());
    }
    // The parser would also accept a longer text and use only the date in the text.
    let day = text.get(..10).filter(|_| text.len() == 10 || text.as_bytes().get(10) == Some(&b'T')).ok_or_else(bad)?;
    day.parse().map(Some).map_err(|_| bad())
}

/// The UsageRecord resource.
fn record(
    account_sid: &str,
    place: &str,
    (name, description, category, count_unit, usage_unit): &(&str, &str, Category, &str, &str),
    used: &Usage,
    span: (Date, Date),
    as_of: Timestamp,
) -> Value {
    let total = used.total(*category, span);
    let of = |place: &str| format!("{}?Category={name}", path::uri(account_sid, place));
    let subresources: serde_json::Map<String, Value> =
        PERIODS.iter().map(|(key, word, _)| ((*key).to_owned(), json!(of(&format!("Usage/Records/{word}"))))).collect();
    json!({
        "account_sid": account_sid,
        "api_version": path::VERSION,
        "as_of": as_of.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string(),
        "category": name,
        "count": total.count.to_string(),
        "count_unit": count_unit,
        "description": description,
        "end_date": span.1.to_string(),
        "price": "0",
        "price_unit": "usd",
        "start_date": span.0.to_string(),
        "subresource_uris": subresources,
        "uri": format!("{}&StartDate={}&EndDate={}", of(place), span.0, span.1),
        "usage": total.minutes.to_string(),
        "usage_unit": usage_unit,
    })
}
