//! `GET /v2/connections/{id}/active_calls`: the live calls of an application. The newest call comes first. The page
//! parameters `page[after]` and `page[before]` are call ids, and `page[limit]` is a number.

use axum::Json;
use axum::extract::{RawQuery, State};
use jiff::Timestamp;
use serde_json::{Value, json};
use tandem_call::leg::LegInfo;
use tandem_history::query::{LegFilter, Page};
use tandem_runtime::app::App;

use super::error::ApiError;
use super::{Caller, Segments};
use crate::{NAME, id};

/// Maximum number of calls that the server reads for a list.
const MAX_CALLS: usize = 1_000;
const DEFAULT_PAGE_SIZE: usize = 20;
const MAX_PAGE_SIZE: usize = 250;

pub(super) async fn list(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(connection): Segments<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let pages = Pages::parse(query.as_deref().unwrap_or_default())?;
    app.calls
        .services()
        .routing
        .load_full()
        .commanding(&account.name, &connection)
        .ok_or_else(ApiError::no_resource)?;
    let filter = LegFilter { application: Some(connection), live: true, ..LegFilter::default() };
    let legs = app.calls.list(&account.name, &filter, Page { limit: MAX_CALLS, after: None, offset: 0 }).await?;
    let now = Timestamp::now();
    let rows = legs.iter().filter(|leg| &*leg.dialect == NAME).map(|leg| row(leg, now)).collect();
    Ok(Json(pages.answer(rows)))
}

fn row(leg: &LegInfo, now: Timestamp) -> Value {
    json!({
        "record_type": "call",
        "call_control_id": id::call_control_id(leg.id),
        "call_leg_id": id::uuid(leg.id.0),
        "call_session_id": id::uuid(leg.session.0),
        "client_state": leg.client_state,
        "call_duration": leg.duration(now).as_secs(),
    })
}

/// The requested page.
#[derive(Debug, Default)]
struct Pages {
    after: Option<String>,
    before: Option<String>,
    limit: Option<usize>,
}

impl Pages {
    fn parse(query: &str) -> Result<Self, ApiError> {
        let mut pages = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "page[after]" => pages.after = Some(value.into_owned()),
                "page[before]" => pages.before = Some(value.into_owned()),
                "page[limit]" | "page[size]" => {
                    let limit = value.parse().ok().filter(|limit| (1..=MAX_PAGE_SIZE).contains(limit));
                    let wrong = || ApiError::out_of_range(&name, 1, 250).in_query(&name);
                    pages.limit = Some(limit.ok_or_else(wrong)?);
                }
                _ => {}
            }
        }
        Ok(pages)
    }

    fn answer(&self, rows: Vec<Value>) -> Value {
        let total = rows.len();
        let place = |id: &Option<String>| {
            let id = id.as_deref()?;
            rows.iter().position(|row| row["call_control_id"] == *id)
        };
        let limit = self.limit.unwrap_or(DEFAULT_PAGE_SIZE);
        let (first, end) = match (place(&self.after), place(&self.before)) {
            (Some(after), _) => (after + 1, after + 1 + limit),
            (None, Some(before)) => (before.saturating_sub(limit), before),
            (None, None) => (0, limit),
        };
        let end = end.min(total);
        let page: Vec<Value> = rows.into_iter().take(end).skip(first).collect();
        let cursor = |row: Option<&Value>| row.map(|row| row["call_control_id"].clone());
        let (before, after) = (cursor(page.first()), cursor(page.last()));
        json!({
            "meta": {
                "total_items": total,
                "cursors": { "before": before, "after": after },
                "previous": before.filter(|_| first > 0),
                "next": after.filter(|_| end < total),
            },
            "data": page,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_active_calls_begin_after_or_before_a_call_control_id() {
        let rows = || ["a", "b", "c", "d", "e"].map(|id| json!({ "call_control_id": id })).to_vec();
        for (query, ids, previous, next) in [
            ("", vec!["a", "b", "c", "d", "e"], Value::Null, Value::Null),
            ("page[limit]=2", vec!["a", "b"], Value::Null, "b".into()),
            ("page[limit]=2&page[after]=b", vec!["c", "d"], "c".into(), "d".into()),
            ("page[limit]=2&page[after]=d", vec!["e"], "e".into(), Value::Null),
            ("page[limit]=2&page[before]=c", vec!["a", "b"], Value::Null, "b".into()),
        ] {
            let answer = Pages::parse(query).unwrap().answer(rows());
            let found: Vec<_> = answer["data"].as_array().unwrap().iter().map(|row| &row["call_control_id"]).collect();
            assert_eq!(found, ids, "{query}");
            assert_eq!((&answer["meta"]["previous"], &answer["meta"]["next"]), (&previous, &next), "{query}");
            assert_eq!(answer["meta"]["total_items"], 5);
        }
        assert_eq!(Pages::parse("page[limit]=251").unwrap_err().code, 10033);
    }
}
