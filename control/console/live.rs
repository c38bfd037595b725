//! `/console/live`: the live calls with their legs, and what each leg does now. `/console/now` follows the live calls, the
//! conferences and the queues in one response, because a browser has few connections to a server.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use jiff::Timestamp;
use serde::Serialize;
use tandem_call::engine::Engine;
use tandem_call::leg::{LegInfo, Quality};
use tandem_call::recording::Track;
use tandem_conversations::{ConversationState, LiveConversation};
use tandem_events::{Event, Kind, LegQuality, ProblemEvent};
use tandem_history::query::cursor;
use tandem_history::report::Report;
use tandem_host::clock;
use tandem_id::{AccountName, CallId, LegId};
use tandem_runtime::app::App;
use tandem_runtime::observation::{CallView, Inspection, LegView};
use tandem_store::calls::CallFilter;
use tandem_streams::StreamFigures;

use super::call_row::CallRow;
use super::conferences::Conferences;
use super::list::{Change, Held, List, Page};
use super::queues::Queues;
use super::{ListQuery, QueryError, Scope, follow, list_route, names};

pub(super) fn routes() -> Router<App> {
    list_route::of::<LiveCalls>().route("/console/now", get(now))
}

/// `GET /console/now`: follows all that happens now.
async fn now(State(app): State<App>, scope: Scope, headers: HeaderMap, Query(query): Query<ListQuery>) -> Response {
    let query = Arc::new(ListQuery { follow: true, ..query });
    follow::three::<LiveCalls, Conferences, Queues>(app, scope, query, &headers)
}

/// The list of live calls.
pub(super) struct LiveCalls;

/// A live call.
#[derive(Serialize)]
pub(super) struct LiveCall {
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
    /// The last measurement of the audio quality, at most 2 s old.
    quality: Option<Quality>,
    /// Whether a request has muted the far end.
    muted: bool,
    /// Whether the leg is on hold: in its conference, or by the far end.
    on_hold: bool,
    /// The name of the leg's conference.
    conference: Option<Arc<str>>,
    /// The id of the leg to which this leg listens, as a supervisor.
    listens_to: Option<String>,
    streams: Vec<StreamRow>,
    conversation: Option<ConversationRow>,
}

/// A running media stream.
#[derive(Serialize)]
struct StreamRow {
    id: String,
    /// The URL of the application, without credentials.
    url: String,
    /// The audio that the application receives: `inbound`, `outbound` or `both`.
    track: &'static str,
    since: Timestamp,
    seconds: f64,
    frames_out: u64,
    octets_out: u64,
    octets_in: u64,
    frames_dropped: u64,
}

impl StreamRow {
    fn of(stream: &StreamFigures, now: Timestamp) -> Self {
        let counts = stream.counts();
        Self {
            id: stream.name.clone(),
            url: stream.url.clone(),
            track: match stream.track {
                Track::Inbound => "inbound",
                Track::Outbound => "outbound",
                Track::Both => "both",
            },
            since: stream.since,
            seconds: now.duration_since(stream.since).as_secs_f64().max(0.0),
            frames_out: counts.frames_out,
            octets_out: counts.octets_out,
            octets_in: counts.octets_in,
            frames_dropped: counts.dropped,
        }
    }
}

/// A running conversation with an agent, or with an application that reads and writes text.
#[derive(Serialize)]
struct ConversationRow {
    /// The name of the agent, or the URL of the application.
    with: String,
    is_agent: bool,
    /// `listening`, `caller-speaks`, `thinking` or `speaking`. `None` if the server does not know.
    state: Option<&'static str>,
    turns: u32,
    interruptions: u32,
    engines: Vec<EngineRow>,
    last_error: Option<String>,
}

/// An engine of a conversation.
#[derive(Serialize)]
struct EngineRow {
    /// `STT`, `LLM` or `TTS`.
    name: &'static str,
    /// Whether the engine has not failed since it last worked.
    ok: bool,
    /// The reason of the failure.
    detail: Option<String>,
}

impl ConversationRow {
    fn of(conversation: &LiveConversation) -> Self {
        let figures = conversation.figures();
        let engines = [("STT", Engine::Recogniser), ("LLM", Engine::Model), ("TTS", Engine::Voice)];
        // The application itself is the model of a conversation without an agent.
        let engines = engines.into_iter().filter(|(_, engine)| conversation.is_agent || *engine != Engine::Model);
        let engine = |(name, engine)| {
            let failed = figures.failures.iter().find(|failed| failed.engine == engine);
            EngineRow { name, ok: failed.is_none(), detail: failed.map(|failed| failed.detail.clone()) }
        };
        Self {
            with: conversation.with.clone(),
            is_agent: conversation.is_agent,
            state: figures.state.map(|state| match state {
                ConversationState::Listening => "listening",
                ConversationState::CallerSpeaks => "caller-speaks",
                ConversationState::Thinking => "thinking",
                ConversationState::Speaking => "speaking",
            }),
            turns: figures.turns,
            interruptions: figures.interruptions,
            engines: engines.map(engine).collect(),
            last_error: figures.last_error.clone(),
        }
    }
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
            bridged_with: leg_of(&view, leg.bridged_with).map(|other| services.call_id(other)),
            quality: leg.quality,
            muted: leg.is_muted,
            on_hold: leg.is_on_hold,
            conference: leg.conference.clone(),
            listens_to: leg_of(&view, leg.listens_to).map(|other| services.call_id(other)),
            streams: leg.streams.iter().map(|stream| StreamRow::of(stream, now)).collect(),
            conversation: leg.conversation.as_deref().map(ConversationRow::of),
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

/// Returns the leg of the call with this id.
fn leg_of(call: &CallView, id: Option<LegId>) -> Option<&LegInfo> {
    let other = id?;
    call.legs.iter().map(|view| &*view.leg).find(|leg| leg.id == other)
}

impl List for LiveCalls {
    type Row = LiveCall;
    const PATH: &'static str = "/console/live";
    const ROWS: &'static str = "live";
    const ROW: &'static str = "live";
    // A problem may say that no audio arrives.
    const KINDS: &'static [Kind] = &[Kind::Call, Kind::Verb, Kind::LegQuality, Kind::Problem];
    const HELD: Held = Held::ByOwner;

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
        if query.follow {
            // The live legs are in memory, and their number limits the list.
            let calls = app.calls.live_calls(|account| is_visible(scope, query, account));
            return Ok(Self::rows_of(app, scope, query, &calls).await);
        }
        let filter = CallFilter { live: true, ..CallFilter::default() };
        let accounts = scope.accounts(app, query.account.as_ref());
        let legs = app.calls.page(&accounts, &filter, &query.page()?).await?;
        let (legs, next) = query.cut(legs, |leg| cursor(&filter, leg));
        let cluster = &app.calls.services().cluster;
        let calls = legs.iter().map(|leg| leg.session);
        let (others, own) = calls.partition(|call| cluster.other_owner_of(call.0).is_some());
        Ok(Page { next: Some(next), others: Some(others), ..Self::rows_of(app, scope, query, &own).await })
    }

    async fn rows_of(app: &App, scope: &Scope, query: &ListQuery, calls: &BTreeSet<CallId>) -> Page<LiveCall> {
        if !query.follow {
            // A follower gets the measurements as events.
            let seen = app.calls.inspect(calls).await;
            let legs = seen.views.iter().flat_map(|call| &call.legs).map(|view| &view.leg);
            app.calls.measure(legs.filter(|leg| leg.answered_at.is_some()).map(|leg| leg.id)).await;
        }
        LiveCall::page(app, scope, query, app.calls.inspect(calls).await)
    }

    fn change(app: &App, scope: &Scope, query: &ListQuery, event: &Event) -> Change<LiveCall> {
        let is_visible = |account: &AccountName| is_visible(scope, query, account);
        let change = match event {
            Event::Call(event) => is_visible(&event.leg.account).then_some(Change::Call(event.leg.session)),
            Event::Verb(change) => is_visible(&change.account).then_some(Change::Call(change.session)),
            Event::Problem(ProblemEvent { leg: Some(_), report }) if is_visible(&report.account) => {
                call_of(&report.details).map(Change::Call)
            }
            Event::LegQuality(measured) => is_visible(&measured.account).then(|| measurement(app, measured)),
            _ => None,
        };
        change.unwrap_or(Change::Nothing)
    }
}

fn is_visible(scope: &Scope, query: &ListQuery, account: &AccountName) -> bool {
    scope.sees(account) && query.selects_account(account)
}

/// Returns the call of a report.
fn call_of(report: &Report) -> Option<CallId> {
    u128::from_str_radix(report.session.as_deref()?, 16).ok().map(CallId)
}

fn measurement(app: &App, measured: &LegQuality) -> Change<LiveCall> {
    let LegQuality { leg, dialect, quality, lacks_audio, .. } = measured;
    let dialect = app.calls.services().dialects.get(dialect);
    let leg = dialect.map_or_else(|| leg.to_string(), |dialect| dialect.call_id(*leg));
    let shown = Measured { quality: *quality, leg, lacks_audio: *lacks_audio };
    serde_json::to_string(&shown)
        .map_or(Change::Nothing, |json| Change::Part(json, measured.is_busy.then_some(measured.session)))
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
            LegView { bridged_with: Some(LegId(bridged_with)), ..LegView::idle(leg) }
        };
        let call =
            CallView { id: CallId(1), legs: vec![leg(1, "twilio", 2), leg(2, "telnyx", 1), leg(3, "twilio", 4)] };
        let dialects: Vec<_> =
            call.legs.iter().map(|leg| leg_of(&call, leg.bridged_with).map(|other| &*other.dialect)).collect();
        assert_eq!(dialects, [Some("telnyx"), Some("twilio"), None]);
    }
}
