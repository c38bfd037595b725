//! `/console/conferences`: the live conferences, and what a person does to them.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tandem_call::address::Address;
use tandem_call::conference::event::{ConferenceStatus, ParticipantInfo, ParticipantStatus};
use tandem_call::conference::{Beep, Change as ParticipantChange, Coaching, Participation};
use tandem_call::leg::LegOwner;
use tandem_call::new_leg::OnAnswer;
use tandem_call::program::instruction::Wait;
use tandem_conferences::ConferenceSnapshot;
use tandem_events::{Event, Kind};
use tandem_id::{AccountName, ConferenceId, LegId};
use tandem_operations::conferences::{self as operations, ChangeError};
use tandem_routing::new_call::NewCall;
use tandem_runtime::app::App;
use tandem_softphone::Desk;

use super::legs::{Listen, Parties, Party, answered, not_rung};
use super::list::{Change, Held, List, Page};
use super::{ListQuery, QueryError, Scope, list_route, phone};
use crate::access::Changer;
use crate::session::refused;

pub(super) fn routes(desk: Desk) -> Router<App> {
    list_route::of::<Conferences>()
        .route("/console/conferences/{id}", post(act))
        .route("/console/conferences/{id}/participants/{leg}", post(act_on_participant))
        .route("/console/conferences/{id}/listen", post(listen).layer(Extension(desk)))
}

/// The list of live conferences.
pub(super) struct Conferences;

#[derive(Serialize)]
pub(super) struct ConferenceRow {
    /// The id, for the requests of the console.
    id: String,
    account: AccountName,
    name: Arc<str>,
    /// `waiting`, `gathering` or `in-progress`.
    status: &'static str,
    created_at: Timestamp,
    participants: Vec<ParticipantRow>,
}

#[derive(Serialize)]
struct ParticipantRow {
    #[serde(flatten)]
    party: Party,
    /// The name that the application uses for the participant.
    label: Option<Arc<str>>,
    /// Whether the participant is still being called.
    is_expected: bool,
    muted: bool,
    on_hold: bool,
    /// The ids of the legs that alone hear this participant. `None` if all hear it. An empty list: the participant only
    /// listens.
    coaches: Option<Vec<String>>,
    since: Timestamp,
}

impl ConferenceRow {
    fn of(app: &App, parties: &Parties, snapshot: ConferenceSnapshot) -> Self {
        let ConferenceSnapshot { info, participants } = snapshot;
        let participants = participants.iter().filter(|one| is_live(one));
        Self {
            id: key_of(info.id),
            account: info.account.clone(),
            name: Arc::clone(&info.name),
            status: match info.status {
                ConferenceStatus::Waiting => "waiting",
                ConferenceStatus::Gathering => "gathering",
                ConferenceStatus::InProgress => "in-progress",
                ConferenceStatus::Completed => "completed",
            },
            created_at: info.created_at,
            participants: participants.map(|one| ParticipantRow::of(app, parties, one)).collect(),
        }
    }
}

impl ParticipantRow {
    fn of(app: &App, parties: &Parties, one: &ParticipantInfo) -> Self {
        let own = &one.participation;
        let id = |leg: &LegId| parties.get(app, *leg).leg;
        Self {
            party: parties.get(app, one.leg),
            label: own.label.clone(),
            is_expected: one.status == ParticipantStatus::Expected,
            muted: own.muted,
            on_hold: own.hold.is_some(),
            coaches: own.coach.as_ref().filter(|coach| coach.on).map(|coach| coach.legs.iter().map(id).collect()),
            since: one.created_at,
        }
    }
}

fn is_live(one: &ParticipantInfo) -> bool {
    matches!(one.status, ParticipantStatus::Expected | ParticipantStatus::Connected)
}

fn key_of(id: ConferenceId) -> String {
    format!("{:032x}", id.0)
}

impl List for Conferences {
    type Row = ConferenceRow;
    const PATH: &'static str = "/console/conferences";
    const ROWS: &'static str = "conferences";
    const ROW: &'static str = "conference";
    const KINDS: &'static [Kind] = &[Kind::Conference];
    const HELD: Held = Held::ByOwner;

    fn key(row: &ConferenceRow) -> String {
        row.id.clone()
    }

    async fn page(app: &App, scope: &Scope, query: &ListQuery) -> Result<Page<ConferenceRow>, QueryError> {
        let selects = |account: &AccountName| scope.sees(account) && query.selects_account(account);
        let all = app.calls.services().conferences.of(selects);
        let legs = all.iter().flat_map(|one| &one.participants).filter(|one| is_live(one)).map(|one| one.leg);
        let parties = Parties::find(app, legs).await;
        Ok(Page::whole(all.into_iter().map(|one| ConferenceRow::of(app, &parties, one)).collect()))
    }

    fn change(_app: &App, scope: &Scope, query: &ListQuery, event: &Event) -> Change<ConferenceRow> {
        match event {
            Event::Conference(event) => {
                let account = &event.conference.account;
                if scope.sees(account) && query.selects_account(account) { Change::List } else { Change::Nothing }
            }
            _ => Change::Nothing,
        }
    }
}

/// An action on a conference.
#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
enum Action {
    /// Ends the conference, and hangs up its participants.
    End,
}

/// An action on a participant.
#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
enum ParticipantAction {
    Mute,
    Unmute,
    /// The participant hears music, and the others do not hear the participant.
    Hold,
    Resume,
    /// Removes the participant from the conference. Its document goes on.
    Remove,
}

/// `POST /console/conferences/{id}` with the action `end`: ends a conference, and hangs up its participants.
async fn act(
    State(app): State<App>,
    Changer(scope): Changer,
    Path(id): Path<String>,
    Json(action): Json<Action>,
) -> Response {
    let Some(found) = find(&app, &scope, &id) else { return unknown() };
    match action {
        Action::End => operations::end(&app.calls, found.info.id, true, None).await,
    }
    StatusCode::NO_CONTENT.into_response()
}

/// `POST /console/conferences/{id}/participants/{leg}` with the action `mute`, `unmute`, `hold`, `resume` or `remove`: acts on a
/// participant.
async fn act_on_participant(
    State(app): State<App>,
    Changer(scope): Changer,
    Path((id, leg)): Path<(String, String)>,
    Json(action): Json<ParticipantAction>,
) -> Response {
    let Some(found) = find(&app, &scope, &id) else { return unknown() };
    let leg = app.calls.services().dialects.parse_call_id(&leg);
    let Some(one) = found.participants.iter().find(|one| Some(one.leg) == leg && is_live(one)) else {
        return refused(StatusCode::NOT_FOUND, "no such participant; it may have left");
    };
    let change = match action {
        ParticipantAction::Mute => ParticipantChange { muted: Some(true), ..ParticipantChange::default() },
        ParticipantAction::Unmute => ParticipantChange { muted: Some(false), ..ParticipantChange::default() },
        ParticipantAction::Hold => ParticipantChange { hold: Some(Some(Wait::Music)), ..ParticipantChange::default() },
        ParticipantAction::Resume => ParticipantChange { hold: Some(None), ..ParticipantChange::default() },
        ParticipantAction::Remove => return answered(operations::remove(&app.calls, one).await),
    };
    let changed = operations::change(&app.calls, &found.info.account, found.info.id, one.leg, change).await;
    match changed {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(ChangeError::Refused(why)) => answered(Err(why)),
        Err(why) => refused(StatusCode::CONFLICT, &why.to_string()),
    }
}

/// `POST /console/conferences/{id}/listen`: the client's softphone joins as a participant that nobody hears.
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
    let Some(ConferenceSnapshot { info, participants }) = find(&app, &scope, &id) else { return unknown() };
    let silent = Participation {
        muted: true,
        waits: true,
        beep: Beep::None,
        coach: Some(Coaching::of(Vec::new())),
        ..Participation::new(Arc::clone(&info.name))
    };
    let call = |user: &tandem_clients::User| {
        let owner = LegOwner::new(info.account.clone(), Arc::clone(&info.dialect));
        let to = Address::Client(Arc::clone(&user.name));
        NewCall::plain(owner, to, Address::Client("console".into()), OnAnswer::JoinConference(Box::new(silent)))
    };
    match desk.ring(&phone, phone::listener(&info.account, &phone), call).await {
        Ok(created) => {
            let text = format!("{} listens to the conference", scope.name());
            let legs = participants.iter().filter_map(|one| app.calls.live_leg(one.leg));
            legs.for_each(|leg| app.calls.note(&leg, &text));
            Json(serde_json::json!({ "call": app.calls.services().call_id(&created.leg) })).into_response()
        }
        Err(why) => not_rung(&why),
    }
}

/// Finds a live conference that the client sees.
fn find(app: &App, scope: &Scope, id: &str) -> Option<ConferenceSnapshot> {
    let all = app.calls.services().conferences.of(|account| scope.sees(account));
    all.into_iter().find(|one| key_of(one.info.id) == id)
}

fn unknown() -> Response {
    refused(StatusCode::NOT_FOUND, "no such conference; it may have ended")
}
