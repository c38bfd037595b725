//! `POST /console/legs/{id}`: what a person does to a live call in the web console.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tandem_call::address::Address;
use tandem_call::command::{Command, Refused, Request};
use tandem_call::header_fields::HeaderFields;
use tandem_call::leg::{LegInfo, LegOwner};
use tandem_call::new_leg::OnAnswer;
use tandem_call::program::instruction::{AfterBridge, Dial, DialTarget};
use tandem_call::supervision::{Supervision, SupervisorRole};
use tandem_clients::User;
use tandem_cluster::Question;
use tandem_id::{CallId, LegId};
use tandem_routing::new_call::{CreateError, NewCall};
use tandem_runtime::app::App;
use tandem_softphone::{Desk, NotRung};
use tandem_store::nodes::NodeRow;

use super::{QueryError, Scope, phone};
use crate::access::Changer;
use crate::session::refused;

/// Maximum time for the answer of a node about its legs.
const PARTIES_TIME: Duration = Duration::from_millis(500);
/// Maximum time until the target of a transfer answers, and the maximum duration of the call with it.
const ANSWER: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(4 * 3_600);

pub(super) fn routes(desk: Desk) -> Router<App> {
    Router::new()
        .route("/console/legs/{id}", post(act))
        .route("/console/legs/{id}/listen", post(listen).layer(Extension(desk)))
}

/// A leg in a conference or a queue.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Party {
    /// The id of the leg in the provider's form.
    pub(super) leg: String,
    /// The call of the leg. `None` if the leg has just ended, or if its node does not answer.
    session: Option<CallId>,
    from: String,
    to: String,
}

impl Party {
    fn of(app: &App, leg: LegId) -> Self {
        match app.calls.live_leg(leg) {
            Some(info) => Self {
                leg: app.calls.services().call_id(&info),
                session: Some(info.session),
                from: info.from.to_string(),
                to: info.to.to_string(),
            },
            None => Self { leg: leg.to_string(), session: None, from: String::new(), to: String::new() },
        }
    }
}

/// Asks a node for its legs in the conferences and queues of other nodes.
#[derive(Serialize, Deserialize)]
struct PartiesOf {
    legs: Vec<LegId>,
}

impl Question for PartiesOf {
    const NAME: &'static str = "parties";
    /// In the order of the question.
    type Answer = Vec<Party>;
}

/// Answers the questions of other nodes.
pub(super) fn answer_other_nodes(app: &App) {
    let own = app.clone();
    app.calls.services().cluster.answer(move |asked: PartiesOf| {
        std::future::ready(asked.legs.into_iter().map(|leg| Party::of(&own, leg)).collect())
    });
}

/// The legs of conferences and queues, of all nodes.
pub(super) struct Parties(HashMap<LegId, Party>);

impl Parties {
    /// Finds these legs. Those of other nodes come from their nodes, with one question to each node.
    pub(super) async fn find(app: &App, legs: impl IntoIterator<Item = LegId>) -> Self {
        let cluster = &app.calls.services().cluster;
        let mut found = HashMap::new();
        let mut elsewhere: HashMap<i64, (NodeRow, Vec<LegId>)> = HashMap::new();
        for leg in legs {
            found.insert(leg, Party::of(app, leg));
            if let Some(node) = cluster.other_owner_of(leg.0) {
                elsewhere.entry(node.epoch).or_insert_with(|| (node, Vec::new())).1.push(leg);
            }
        }
        let asking = elsewhere.into_values().map(|(node, legs)| async move {
            let asked = PartiesOf { legs };
            let answer = cluster.ask_within(&node, &asked, PARTIES_TIME).await.unwrap_or_default();
            asked.legs.into_iter().zip(answer).collect::<Vec<_>>()
        });
        found.extend(join_all(asking).await.into_iter().flatten());
        Self(found)
    }

    /// Returns a leg. The result has only an id if the leg was not among those of [`Self::find`].
    pub(super) fn get(&self, app: &App, leg: LegId) -> Party {
        self.0.get(&leg).cloned().unwrap_or_else(|| Party::of(app, leg))
    }
}

/// An action on a live leg.
#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
enum Action {
    /// Ends the leg.
    HangUp,
    /// Nobody hears the far end.
    Mute,
    /// The others hear the far end again.
    Unmute,
    /// Calls a number or a user, and bridges the leg with it. The leg's document ends.
    Transfer { to: String },
}

impl Action {
    fn command(self, leg: &LegInfo) -> Result<Command, &'static str> {
        Ok(match self {
            Self::HangUp => Command::Hangup { headers: HeaderFields::new() },
            Self::Mute => Command::Mute(true),
            Self::Unmute => Command::Mute(false),
            Self::Transfer { to } => {
                let to = Address::from(to.trim());
                if matches!(to, Address::Name(_)) {
                    return Err("not a number, a SIP URI or client:NAME");
                }
                Command::Transfer(Box::new(transfer(leg, to)))
            }
        })
    }
}

/// The dial of a transfer. The target sees the number that the far end has called, or from which it was called.
fn transfer(leg: &LegInfo, to: Address) -> Dial {
    Dial {
        time_limit: Some(LONGEST),
        caller_id: Some(leg.to.clone()),
        answer_on_bridge: true,
        ring_tone: Some("us".into()),
        after: AfterBridge::Hangup,
        ..Dial::new(vec![DialTarget::new(to)], ANSWER)
    }
}

/// `POST /console/legs/{id}`: mutes, unmutes, transfers or ends a live leg.
async fn act(
    State(app): State<App>,
    Changer(scope): Changer,
    Path(id): Path<String>,
    Json(action): Json<Action>,
) -> Response {
    let leg = match find(&app, &scope, &id).await {
        Ok(leg) => leg,
        Err(response) => return *response,
    };
    let command = match action.command(&leg) {
        Ok(command) => command,
        Err(text) => return refused(StatusCode::BAD_REQUEST, text),
    };
    answered(app.calls.request(leg.id, Request { client_state: None, command }).await.map(drop))
}

/// Returns the response to an action on a leg.
pub(super) fn answered(done: Result<(), Refused>) -> Response {
    match done {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(why @ (Refused::NoSuchLeg | Refused::Ended)) => refused(StatusCode::NOT_FOUND, &why.to_string()),
        Err(why) => refused(StatusCode::CONFLICT, &why.to_string()),
    }
}

/// The page whose softphone shall listen.
#[derive(Deserialize)]
pub(super) struct Listen {
    /// The id of the page's softphone.
    pub(super) phone: String,
}

/// `POST /console/legs/{id}/listen`: the client's softphone joins the call as a supervisor that nobody hears.
async fn listen(
    State(app): State<App>,
    Changer(scope): Changer,
    Extension(desk): Extension<Desk>,
    Path(id): Path<String>,
    Json(Listen { phone }): Json<Listen>,
) -> Response {
    if !phone::may_listen(&scope) {
        return refused(StatusCode::FORBIDDEN, "only an operator may listen to calls");
    }
    let leg = match find(&app, &scope, &id).await {
        Ok(leg) => leg,
        Err(response) => return *response,
    };
    let call = |user: &User| {
        let owner = LegOwner::new(leg.account.clone(), Arc::clone(&leg.dialect));
        let then = OnAnswer::Supervise(Supervision { of: leg.id, role: SupervisorRole::Monitor });
        let to = Address::Client(Arc::clone(&user.name));
        let call = NewCall::plain(owner, to, Address::Client("console".into()), then);
        NewCall { link_to: Some(leg.id), ..call }
    };
    match desk.ring(&phone, phone::listener(&leg.account, &phone), call).await {
        Ok(created) => {
            app.calls.note(&leg, &format!("{} listens to the call", scope.name()));
            Json(serde_json::json!({ "call": app.calls.services().call_id(&created.leg) })).into_response()
        }
        Err(why) => not_rung(&why),
    }
}

pub(super) fn not_rung(why: &NotRung) -> Response {
    let status = match why {
        NotRung::NoPhone | NotRung::NotCalled(CreateError::NoSuchLeg) => StatusCode::NOT_FOUND,
        NotRung::Busy => StatusCode::SERVICE_UNAVAILABLE,
        NotRung::NotCalled(_) => StatusCode::CONFLICT,
    };
    refused(status, &why.to_string())
}

/// Finds a live leg that the client sees.
async fn find(app: &App, scope: &Scope, id: &str) -> Result<Arc<LegInfo>, Box<Response>> {
    let leg = app.calls.services().dialects.parse_call_id(id);
    let leg = match leg {
        Some(leg) => app.calls.find(leg).await,
        None => Ok(None),
    };
    match leg {
        Ok(Some(leg)) if scope.sees(&leg.account) => Ok(leg),
        Ok(_) => Err(Box::new(refused(StatusCode::NOT_FOUND, "no such call"))),
        Err(failed) => Err(Box::new(QueryError::from(failed).into_response())),
    }
}
