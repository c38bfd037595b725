//! `/console/live`: the live calls with their legs, and what each leg does now.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use serde::Serialize;
use tandem_call::leg::{LegInfo, Quality};
use tandem_events::{Event, Kind, LegQuality};
use tandem_history::query::cursor;
use tandem_host::clock;
use tandem_id::{AccountName, CallId, LegId};
use tandem_runtime::app::App;
use tandem_runtime::observation::{CallView, Inspection, LegView};
use tandem_store as store;
use tandem_store::calls::CallFilter;

use super::call_row::CallRow;
use super::list::{Change, List, Page};
use super::{ListQuery, QueryError, Scope, list_route, names};

pub(super) fn routes() -> Router<App> {
    list_route::of::<LiveCalls>()
}

/// The list of live calls.
struct LiveCalls;

/// A live call.
#[derive(Serialize)]
struct LiveCall {
    session: CallId,
    legs: Vec<LiveLeg>,
}

/// A live leg, with what the leg does now.
#[derive(Serialize)]
struct LiveLeg {
    /// The name of the leg among the live legs of the call: `caller`, `callee`, `callee 2`, ...
    name: String,
    #[serde(flatten)]
    row: CallRow,
    /// The running verb. `None` if the leg runs none, for example because commands control the leg.
    verb: Option<&'static str>,
    /// The id of the bridged leg, as the provider of the bridged leg writes it.
    bridged_with: Option<String>,
    /// The last measurement of the audio quality, at most 5 s old.
    quality: Option<Quality>,
}

/// A new measurement of a live leg, for the followers.
#[derive(Serialize)]
struct Measured {
    quality: Quality,
    /// The id of the leg.
    leg: String,
    /// As in [`CallRow`]. No event says that audio arrives again.
    lacks_audio: bool,
}

impl LiveCall {
    /// Returns the visible legs of a call. Returns `None` if no leg is visible.
    fn of(app: &App, scope: &Scope, query: &ListQuery, view: CallView) -> Option<Self> {
        let services = app.calls.services();
        let now = clock::time();
        let names = names(view.legs.iter().map(|view| &*view.leg));
        let is_visible = |view: &LegView| scope.sees(&view.leg.account) && query.selects_account(&view.leg.account);
        let legs = view.legs.iter().filter(|leg| is_visible(leg)).map(|leg| LiveLeg {
            name: names.get(&leg.leg.id).cloned().unwrap_or_default(),
            row: CallRow::of(services, &leg.leg, now),
            verb: leg.verb,
            bridged_with: bridged_leg(&view, leg).map(|other| services.call_id(other)),
            quality: leg.quality,
        });
        let legs: Vec<_> = legs.collect();
        (!legs.is_empty()).then_some(Self { session: view.id, legs })
    }

    /// Returns a page of the visible calls, newest call first.
    fn page(app: &App, scope: &Scope, query: &ListQuery, calls: Inspection) -> Page<Self> {
        let Inspection { mut views, is_partial } = calls;
        views.sort_by_key(|view| Reverse(view.legs.first().map(|leg| (leg.leg.created_at, leg.leg.id))));
        let rows = views.into_iter().filter_map(|view| Self::of(app, scope, query, view)).collect();
        Page { is_partial, ..Page::whole(rows) }
    }
}

/// Returns the leg that is bridged with this leg of the call.
fn bridged_leg<'a>(call: &'a CallView, leg: &LegView) -> Option<&'a LegInfo> {
    let other = leg.bridged_with?;
    call.legs.iter().map(|view| &*view.leg).find(|leg| leg.id == other)
}

impl List for LiveCalls {
    type Row = LiveCall;
    const PATH: &'static str = "/console/live";
    const ROWS: &'static str = "live";
    const ROW: &'static str = "live";
    // A problem may say that no audio arrives.
    const KINDS: &'static [Kind] = &[Kind::Call, Kind::Verb, Kind::LegQuality, Kind::Problem];

    fn key(row: &LiveCall) -> String {
        row.session.to_string()
    }

    /// After a merge, the legs of one call have been created in several calls.
    fn calls(row: &LiveCall) -> Vec<CallId> {
        let mut calls: Vec<_> = row.legs.iter().map(|leg| leg.row.session()).collect();
        calls.sort_unstable();
        calls.dedup();
        calls
    }

    /// The pages are pages of legs. A call is on each page that has one of its legs. A follower gets all live calls,
    /// because a call of another page would be in the list only after its next event.
    async fn page(app: &App, scope: &Scope, query: &ListQuery) -> Result<Page<LiveCall>, QueryError> {
        let accounts = scope.accounts(app, query.account.as_ref());
        let filter = CallFilter { live: true, ..CallFilter::default() };
        let sessions = |legs: &[Arc<LegInfo>]| legs.iter().map(|leg| leg.session).collect();
        if query.follow {
            // The live legs are in memory, and their number limits the list.
            let legs = app.calls.page(&accounts, &filter, &store::Page::first(u32::MAX)).await?;
            return Ok(LiveCall::page(app, scope, query, app.calls.inspect(&sessions(&legs)).await));
        }
        let legs = app.calls.page(&accounts, &filter, &query.page()?).await?;
        let (legs, next) = query.cut(legs, |leg| cursor(&filter, leg));
        // A follower gets the measurements as events.
        app.calls.measure(legs.iter().filter(|leg| leg.answered_at.is_some()).map(|leg| leg.id)).await;
        let page = LiveCall::page(app, scope, query, app.calls.inspect(&sessions(&legs)).await);
        Ok(Page { next: Some(next), ..page })
    }

    async fn rows_of(app: &App, scope: &Scope, query: &ListQuery, calls: &BTreeSet<CallId>) -> Page<LiveCall> {
        LiveCall::page(app, scope, query, app.calls.inspect(calls).await)
    }

    fn change(app: &App, scope: &Scope, query: &ListQuery, event: &Event) -> Change<LiveCall> {
        let is_visible = |account: &AccountName| scope.sees(account) && query.selects_account(account);
        let live = |leg: LegId| app.calls.live_leg(leg).filter(|leg| is_visible(&leg.account));
        let change = match event {
            Event::Call(event) => is_visible(&event.leg.account).then_some(Change::Call(event.leg.session)),
            Event::Verb(change) => is_visible(&change.account).then_some(Change::Call(change.session)),
            Event::Problem(problem) => problem.leg.and_then(live).map(|leg| Change::Call(leg.session)),
            Event::LegQuality(measured) => live(measured.leg).map(|leg| measurement(app, &leg, measured)),
            _ => None,
        };
        change.unwrap_or(Change::Nothing)
    }
}

fn measurement(app: &App, leg: &LegInfo, measured: &LegQuality) -> Change<LiveCall> {
    let services = app.calls.services();
    let lacks_audio = services.counters.lacks_audio(leg.id);
    let measured = Measured { quality: measured.quality, leg: services.call_id(leg), lacks_audio };
    serde_json::to_string(&measured).map_or(Change::Nothing, Change::Part)
}

#[cfg(test)]
mod tests {
    use tandem_call::testing::CallScript;

    use super::*;

    #[test]
    fn a_bridged_leg_is_shown_with_the_provider_of_this_leg() {
        let leg = |id: u128, dialect: &str, bridged_with: u128| {
            let info = CallScript::commanded().events().next().unwrap().leg.clone();
            let leg = Arc::new(LegInfo { id: LegId(id), dialect: dialect.into(), ..(*info).clone() });
            LegView { leg, verb: None, bridged_with: Some(LegId(bridged_with)), quality: None }
        };
        let call =
            CallView { id: CallId(1), legs: vec![leg(1, "twilio", 2), leg(2, "telnyx", 1), leg(3, "twilio", 4)] };
        let dialects: Vec<_> =
            call.legs.iter().map(|leg| bridged_leg(&call, leg).map(|other| &*other.dialect)).collect();
        assert_eq!(dialects, [Some("telnyx"), Some("twilio"), None]);
    }
}
