//! `/console/live`: the live calls with their legs, and what each leg does now.

use axum::Router;
use serde::Serialize;
use tandem_call::leg::Quality;
use tandem_events::{Event, Kind};
use tandem_history::query::cursor;
use tandem_host::clock;
use tandem_id::{CallId, LegId};
use tandem_runtime::app::App;
use tandem_runtime::observation::{CallView, LegView};
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
    /// The name of the leg in the call: `caller`, `callee`, `callee 2`, ...
    name: String,
    #[serde(flatten)]
    row: CallRow,
    /// The running verb. `None` if the leg runs none, for example because commands control the leg.
    verb: Option<&'static str>,
    /// The id of the bridged leg.
    bridged_with: Option<String>,
    /// The last measurement of the audio quality, at most 5 s old.
    quality: Option<Quality>,
}

impl LiveCall {
    /// Returns the visible legs of a call. Returns `None` if no leg is visible.
    fn of(app: &App, scope: &Scope, query: &ListQuery, view: CallView) -> Option<Self> {
        let services = app.calls.services();
        let now = clock::time();
        let names = names(view.legs.iter().map(|view| &*view.leg));
        let is_visible = |view: &LegView| scope.sees(&view.leg.account) && query.selects_account(&view.leg.account);
        let id = |leg: LegId, view: &LegView| {
            services.dialects.get(&view.leg.dialect).map_or_else(|| leg.to_string(), |dialect| dialect.call_id(leg))
        };
        let legs = view.legs.iter().filter(|view| is_visible(view)).map(|view| LiveLeg {
            name: names.get(&view.leg.id).cloned().unwrap_or_default(),
            row: CallRow::of(services, &view.leg, now),
            verb: view.verb,
            bridged_with: view.bridged_with.map(|other| id(other, view)),
            quality: view.quality,
        });
        let legs: Vec<_> = legs.collect();
        (!legs.is_empty()).then_some(Self { session: view.id, legs })
    }
}

impl List for LiveCalls {
    type Row = LiveCall;
    const PATH: &'static str = "/console/live";
    const ROWS: &'static str = "live";
    const ROW: &'static str = "live";
    const KINDS: &'static [Kind] = &[Kind::Call, Kind::LegQuality];

    fn key(row: &LiveCall) -> String {
        row.session.to_string()
    }

    /// The pages are pages of legs. A call is on each page that has one of its legs.
    async fn page(app: &App, scope: &Scope, query: &ListQuery) -> Result<Page<LiveCall>, QueryError> {
        let accounts = scope.accounts(app, query.account.as_ref());
        let filter = CallFilter { live: true, ..CallFilter::default() };
        let page: store::Page = query.page()?;
        let (legs, next) = query.cut(app.calls.page(&accounts, &filter, &page).await?, |leg| cursor(&filter, leg));
        if !query.follow {
            // A followed list gets the measurements as events.
            app.calls.measure(legs.iter().filter(|leg| leg.answered_at.is_some()).map(|leg| leg.id)).await;
        }
        let mut views = app.calls.inspect(&legs).await;
        views.sort_by_key(|view| std::cmp::Reverse(view.legs.first().map(|leg| (leg.leg.created_at, leg.leg.id))));
        let rows = views.into_iter().filter_map(|view| LiveCall::of(app, scope, query, view)).collect();
        Ok(Page { next: Some(next), ..Page::whole(rows) })
    }

    fn change(_app: &App, scope: &Scope, query: &ListQuery, event: &Event) -> Change<LiveCall> {
        let account = match event {
            Event::Call(event) => &event.leg.account,
            Event::LegQuality(measured) => &measured.account,
            _ => return Change::Nothing,
        };
        if scope.sees(account) && query.selects_account(account) { Change::List } else { Change::Nothing }
    }
}
