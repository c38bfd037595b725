//! `/console/calls`: live and recent calls, and all data of one call.

use std::collections::HashSet;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use tandem_events::{Event, Kind, ProblemEvent};
use tandem_history::query::{cursor, selects};
use tandem_host::clock;
use tandem_id::CallId;
use tandem_runtime::app::App;
use tandem_store::calls::{CallFilter, Parts, SEARCHED};
use tandem_store::{self as store, StoreFailed, TimeRange};

use super::call_row::CallRow;
use super::list::{Change, List, Page};
use super::story::Story;
use super::{ListQuery, MIN_ID_DIGITS, NamedLeg, QueryError, Scope, archive, follow_story, json, list_route};

pub(super) fn routes() -> Router<App> {
    list_route::of::<Calls>()
        .route("/console/calls/{id}", get(story))
        .route("/console/calls/{id}/archive", get(archive::answer))
}

/// The list of calls.
struct Calls;

impl List for Calls {
    type Row = CallRow;
    const PATH: &'static str = "/console/calls";
    const ROWS: &'static str = "calls";
    const ROW: &'static str = "call";
    // A problem may say that no audio arrives.
    const KINDS: &'static [Kind] = &[Kind::Call, Kind::Problem];

    fn key(row: &CallRow) -> String {
        row.id().to_owned()
    }

    async fn page(app: &App, scope: &Scope, query: &ListQuery) -> Result<Page<CallRow>, QueryError> {
        let filter = filter(query)?;
        let page = query.page()?;
        let accounts = scope.accounts(app, query.account.as_ref());
        let search = query.search();
        if let Some(id) = search.as_deref().and_then(|text| app.calls.services().dialects.parse_call_id(text)) {
            let leg = app.calls.find(id).await?.filter(|leg| selects(&filter, &accounts, leg));
            let legs = leg.iter().map(|leg| &**leg);
            let rows = CallRow::listed(app.calls.services(), legs, clock::time()).await?;
            return Ok(Page { next: Some(None), ..Page::whole(rows) });
        }
        let filters = match &search {
            Some(text) => whole_number(&filter, text),
            None => spellings(&filter),
        };
        // A party is either the whole text, or a part of it. Only whole texts have an index.
        let mut is_part = search.is_some() || query.has_party();
        for filter in filters.iter().filter(|_| search.is_some() || query.has_party()) {
            is_part &= app.calls.page(&accounts, filter, &store::Page::first(1)).await?.is_empty();
        }
        let mut legs = Vec::new();
        if is_part {
            let parts = parts(query, search.as_deref());
            legs = app.calls.search(&accounts, &filter, parts, &page).await?;
        } else {
            for filter in &filters {
                legs.extend(app.calls.page(&accounts, filter, &page).await?);
            }
            // A call from a number to itself has this number twice.
            let mut seen = HashSet::new();
            legs.retain(|leg| seen.insert(leg.id));
        }
        let (legs, next) = query.cut(legs, |leg| cursor(&filter, leg));
        let rows = CallRow::listed(app.calls.services(), legs.iter().map(|leg| &**leg), clock::time()).await?;
        Ok(Page { next: Some(next), searched: is_part.then_some(SEARCHED), ..Page::whole(rows) })
    }

    fn change(app: &App, scope: &Scope, query: &ListQuery, event: &Event) -> Change<CallRow> {
        let live = match event {
            Event::Problem(problem) => problem.leg.and_then(|leg| app.calls.live_leg(leg)),
            _ => None,
        };
        let leg = match event {
            Event::Call(event) => Some(&event.leg),
            Event::Problem(ProblemEvent { leg: Some(leg), report }) if is_elsewhere(app, leg.0) => {
                let is_visible = scope.sees(&report.account) && query.selects_account(&report.account);
                return if is_visible { Change::List } else { Change::Nothing };
            }
            _ => live.as_ref(),
        };
        let Some(leg) = leg.filter(|leg| scope.sees(&leg.account) && query.selects_account(&leg.account)) else {
            return Change::Nothing;
        };
        if query.has_party() || query.search.is_some() {
            // The party may be a part of a number, so only a search knows whether the leg is in the list.
            return Change::List;
        }
        match filter(query) {
            Ok(filter) if selects(&filter, std::slice::from_ref(&leg.account), leg) => {
                Change::Row(CallRow::of(app.calls.services(), leg, clock::time()))
            }
            Ok(_) => Change::Gone(app.calls.services().call_id(leg)),
            Err(_) => Change::Nothing,
        }
    }
}

/// Whether a leg belongs to another living node.
fn is_elsewhere(app: &App, leg: u128) -> bool {
    app.calls.services().cluster.other_owner_of(leg).is_some()
}

fn filter(query: &ListQuery) -> Result<CallFilter, QueryError> {
    const LIVE: [&str; 4] = ["queued", "initiated", "ringing", "in-progress"];
    const ENDED: [&str; 5] = ["completed", "busy", "failed", "no-answer", "canceled"];
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let live = query.status.as_deref() == Some("live");
    let status = match query.status.as_deref() {
        None | Some("live") => Vec::new(),
        Some("ended") => words(&ENDED),
        Some(word) if LIVE.contains(&word) || ENDED.contains(&word) => words(&[word]),
        Some(_) => return Err(QueryError::Status),
    };
    if query.direction.as_deref().is_some_and(|word| !["inbound", "outbound-api", "outbound-dial"].contains(&word)) {
        return Err(QueryError::Direction);
    }
    Ok(CallFilter {
        to: query.to.clone(),
        from: query.from.clone(),
        direction: query.direction.clone(),
        status,
        live,
        created: TimeRange { since: query.since, before: None },
        ..CallFilter::default()
    })
}

/// Returns the parts that a search looks for. A few digits are a part of a number: almost each id has them too.
fn parts<'a>(query: &'a ListQuery, search: Option<&'a str>) -> Parts<'a> {
    let few_digits = |text: &&str| text.len() < MIN_ID_DIGITS && text.bytes().all(|octet| octet.is_ascii_digit());
    Parts {
        from: query.from.as_deref(),
        to: query.to.as_deref(),
        party: search.filter(few_digits),
        anywhere: search.filter(|text| !few_digits(text)),
        any: None,
    }
}

/// Returns the filters for the calls from and to this number. The list is empty if the text is no number, or if the filter
/// already has a party.
fn whole_number(filter: &CallFilter, text: &str) -> Vec<CallFilter> {
    if filter.from.is_some() || filter.to.is_some() {
        return Vec::new();
    }
    let is_number = text.len() >= 5 && text.bytes().all(|octet| octet.is_ascii_digit());
    let numbers = [format!("+{text}"), text.to_owned()].into_iter().filter(|_| is_number);
    let both = |number: String| {
        let from = CallFilter { from: Some(number.clone()), ..filter.clone() };
        [from, CallFilter { to: Some(number), ..filter.clone() }]
    };
    numbers.flat_map(both).collect()
}

/// Returns the filter, and the same filter with `+` before each number that has no `+`. People leave out the `+`.
fn spellings(filter: &CallFilter) -> Vec<CallFilter> {
    let is_number = |text: &String| text.len() >= 5 && text.bytes().all(|octet| octet.is_ascii_digit());
    let mut all = vec![filter.clone()];
    let keys: [fn(&mut CallFilter) -> &mut Option<String>; 2] = [|filter| &mut filter.from, |filter| &mut filter.to];
    for key in keys {
        for mut other in all.clone() {
            if let Some(text) = key(&mut other).as_mut().filter(|text| is_number(text)) {
                text.insert(0, '+');
                all.push(other);
            }
        }
    }
    all
}

/// The query parameters of a report.
#[derive(Deserialize, Default)]
#[serde(default)]
struct StoryQuery {
    /// Whether to follow the call until its end.
    follow: bool,
}

/// `GET /console/calls/{id}`: the report of a call. With `follow=true`, its events until its end.
async fn story(
    State(app): State<App>,
    scope: Scope,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(query): Query<StoryQuery>,
) -> Response {
    match find(&app, &scope, &id).await {
        Ok(Some((session, _))) if query.follow => follow_story::answer(app, scope, session, &headers),
        Ok(Some((session, legs))) => {
            let legs: Vec<_> = legs.into_iter().map(|(_, leg)| leg).collect();
            match Story::read(&app, &scope, session, &legs).await {
                Ok(story) => json(&story),
                Err(wrong) => wrong.into_response(),
            }
        }
        Ok(None) => unknown(&app, &scope, &id).await,
        Err(wrong) => QueryError::from(wrong).into_response(),
    }
}

/// Finds a call by any id, also by its SIP Call-ID.
pub(super) async fn find(app: &App, scope: &Scope, id: &str) -> Result<Option<(CallId, Vec<NamedLeg>)>, StoreFailed> {
    match scope.session(app, id).await? {
        None => match session_of_call_id(app, id) {
            Some(session) => scope.session(app, &session).await,
            None => Ok(None),
        },
        found => Ok(found),
    }
}

/// The answer for an id that no visible call has.
pub(super) async fn unknown(app: &App, scope: &Scope, id: &str) -> Response {
    match no_such_call(app, scope, id).await {
        Ok(text) => (StatusCode::NOT_FOUND, text).into_response(),
        Err(wrong) => QueryError::from(wrong).into_response(),
    }
}

/// Returns the id of a leg whose SIP messages have this Call-ID, as 32 hex digits.
fn session_of_call_id(app: &App, id: &str) -> Option<String> {
    let trace = app.calls.services().sip.ladder()?.of_call_id(id)?;
    trace.legs.first().map(|leg| format!("{:032x}", leg.0))
}

/// Returns the error text for an unknown id. The id may be the Call-ID of a request that did not become a call, or a
/// telephone number. In these cases the text names a command that accepts the id.
async fn no_such_call(app: &App, scope: &Scope, id: &str) -> Result<String, StoreFailed> {
    if id == "last" {
        return Ok(match scope.refused_call(app).await? {
            Some(_) => {
                "there has been no call yet, only refused ones: `tandem errors` says why, and `tandem trace last` \
                        shows the messages of the last one\n"
            }
            None => "there has been no call yet\n",
        }
        .to_owned());
    }
    let hex = id.strip_prefix("CA").unwrap_or(id);
    let is_hex = !hex.is_empty() && hex.bytes().all(|octet| octet.is_ascii_hexdigit());
    let abbreviated = scope.starting_with(app, id).await?.len();
    if abbreviated > 1 {
        return Ok(format!("{abbreviated} or more calls begin with {id}; give more digits of the id\n"));
    }
    if is_hex && hex.len() < MIN_ID_DIGITS && id.starts_with("CA") {
        return Ok(format!("no such call; the beginning of an id needs at least {MIN_ID_DIGITS} digits after CA\n"));
    }
    Ok(other_id(app, scope, id))
}

fn other_id(app: &App, scope: &Scope, id: &str) -> String {
    let traced = || app.calls.services().sip.ladder().and_then(|ladder| ladder.of_call_id(id)).is_some();
    if scope.is_operator() && traced() {
        return format!("no such call; `tandem trace {id}` shows the messages of this Call-ID\n");
    }
    let digits = id.strip_prefix('+').unwrap_or(id);
    if (1..=15).contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_digit()) {
        return format!("no such call; `tandem calls --to {id}` lists the calls to this number\n");
    }
    if id.contains('@') {
        return format!("no such call; `tandem trace {id}` has the messages of this Call-ID, if they are still kept\n");
    }
    "no such call\n".to_owned()
}
