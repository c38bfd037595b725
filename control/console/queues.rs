//! `/console/queues`: the call queues with their waiting callers and agents, and what a person does to a caller.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tandem_call::{Method, Target};
use tandem_events::{Event, Kind};
use tandem_host::clock;
use tandem_id::{AccountName, LegId, QueueId};
use tandem_operations::queues as operations;
use tandem_queues::{Member, QueueSnapshot};
use tandem_runtime::app::App;

use super::legs::{Parties, Party};
use super::list::{self, Change, Held, List, Map, Page};
use super::{ListQuery, QueryError, Scope, list_route, phone};
use crate::access::Changer;
use crate::session::{advised, refused};

pub(super) fn routes() -> Router<App> {
    list_route::of::<Queues>().route("/console/queues/{id}/callers/{leg}", post(act))
}

/// The list of queues.
pub(super) struct Queues;

#[derive(Serialize)]
pub(super) struct QueueRow {
    /// The id, for the requests of the console.
    id: String,
    account: AccountName,
    name: Arc<str>,
    max_size: u32,
    /// The callers that wait, in the order of their arrival. A caller that is being connected to an agent is not here.
    callers: Vec<CallerRow>,
    /// The agents that wait for a caller.
    agents: Vec<Party>,
}

#[derive(Serialize)]
struct CallerRow {
    #[serde(flatten)]
    party: Party,
    position: usize,
    /// The time for which the caller has waited.
    seconds: f64,
}

impl QueueRow {
    fn of(app: &App, parties: &Parties, (snapshot, agents): (QueueSnapshot, Vec<LegId>)) -> Self {
        let QueueSnapshot { queue, members, .. } = snapshot;
        let now = clock::time();
        let caller = |member: &Member| CallerRow {
            party: parties.get(app, member.leg),
            position: member.position,
            seconds: member.waited(now).as_secs_f64(),
        };
        Self {
            id: key_of(queue.id),
            callers: members.iter().map(caller).collect(),
            agents: agents.into_iter().map(|leg| parties.get(app, leg)).collect(),
            account: queue.account,
            name: queue.name,
            max_size: queue.max_size,
        }
    }
}

fn key_of(id: QueueId) -> String {
    format!("{:032x}", id.0)
}

impl List for Queues {
    type Row = QueueRow;
    const PATH: &'static str = "/console/queues";
    const ROWS: &'static str = "queues";
    const ROW: &'static str = "queue";
    const KINDS: &'static [Kind] = &[Kind::Queue];
    const HELD: Held = Held::InParts;

    fn key(row: &QueueRow) -> String {
        row.id.clone()
    }

    fn has_part(row: &QueueRow) -> bool {
        !row.callers.is_empty() || !row.agents.is_empty()
    }

    fn join(row: &mut Map, part: Map) {
        list::append(row, part, &["callers", "agents"]);
    }

    async fn page(app: &App, scope: &Scope, query: &ListQuery) -> Result<Page<QueueRow>, QueryError> {
        let selects = |account: &AccountName| scope.sees(account) && query.selects_account(account);
        let queues = &app.calls.services().queues;
        let with_agents = |one: QueueSnapshot| {
            let agents = queues.agents(&one.queue.account, &one.queue.name);
            (one, agents)
        };
        let all: Vec<_> = queues.of(selects, clock::time()).into_iter().map(with_agents).collect();
        let callers = all.iter().flat_map(|(one, _)| &one.members).map(|member| member.leg);
        let legs: Vec<LegId> = callers.chain(all.iter().flat_map(|(_, agents)| agents.iter().copied())).collect();
        let parties = Parties::find(app, legs).await;
        Ok(Page::whole(all.into_iter().map(|one| QueueRow::of(app, &parties, one)).collect()))
    }

    fn change(_app: &App, scope: &Scope, query: &ListQuery, event: &Event) -> Change<QueueRow> {
        match event {
            Event::Queue(event) if scope.sees(&event.account) && query.selects_account(&event.account) => Change::List,
            _ => Change::Nothing,
        }
    }
}

/// An action on a caller that waits.
#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
enum Action {
    /// The caller leaves the queue, and its document goes on with the next instruction.
    TakeOut,
    /// The caller leaves the queue, and continues with the document at this URL.
    Redirect { url: String },
}

/// `POST /console/queues/{id}/callers/{leg}`: takes a caller out of a queue.
async fn act(
    State(app): State<App>,
    Changer(scope): Changer,
    Path((id, leg)): Path<(String, String)>,
    Json(action): Json<Action>,
) -> Response {
    let queues = app.calls.services().queues.of(|account| scope.sees(account), clock::time());
    let leg = app.calls.services().dialects.parse_call_id(&leg);
    let found = queues.into_iter().find(|one| key_of(one.queue.id) == id);
    let found = found.and_then(|one| Some((one.members.iter().find(|member| Some(member.leg) == leg)?.leg, one.queue)));
    let left = || refused(StatusCode::NOT_FOUND, "the caller does not wait in this queue any more");
    let Some((leg, queue)) = found else { return left() };
    match action {
        Action::TakeOut => {
            if let Err(why) = operations::remove_member(&app.calls, &queue.account, queue.id, leg).await {
                return refused(StatusCode::SERVICE_UNAVAILABLE, &why.to_string());
            }
        }
        Action::Redirect { url } => {
            let target = match phone::document_url(&url) {
                Ok(url) => Target { url: url.into(), method: Method::Post },
                Err((status, why, advice)) => return advised(status, &why, advice),
            };
            match operations::redirect_member(&app.calls, &queue.account, queue.id, Some(leg), &target).await {
                Ok(Some(_)) => {}
                Ok(None) => return left(),
                Err(why) => return refused(StatusCode::SERVICE_UNAVAILABLE, &why.to_string()),
            }
        }
    }
    StatusCode::NO_CONTENT.into_response()
}
