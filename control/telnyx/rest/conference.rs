//! `/v2/conferences`: creates conferences, and answers requests about live and ended conferences and their
//! participants. The module [`super::conference_action`] has the actions.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, RawQuery, State};
use serde_json::{Map, Value, json};
use tandem_accounts::Account;
use tandem_call::command::{Command, Refused, Request};
use tandem_call::conference::event::{ConferenceInfo, ConferenceStatus, EndCause, ParticipantInfo, ParticipantStatus};
use tandem_call::conference::state::{self, ConferenceSpec};
use tandem_call::conference::{Beep, Change, Coaching, ConferenceSettings, Participation};
use tandem_call::new_leg::OnAnswer;
use tandem_call::program::instruction::{AudioSource, Wait};
use tandem_call::supervision::SupervisorRole;
use tandem_conferences::JoinRefusal;
use tandem_conferences::history::{self, ConferenceFilter};
use tandem_history::query::Page;
use tandem_id::{ConferenceId, LegId};
use tandem_operations::conferences::{self as operations, InviteError, OpenError};
use tandem_routing::new_call::{Created, NewCall};
use tandem_runtime::app::App;
use tandem_store::StoreFailed;

use super::action::Action;
use super::error::ApiError;
use super::parameters::Parameters;
use super::repeat::Repeats;
use super::resources::listing::{ListFields, Listing};
use super::{Caller, Payload, Segments, dial, known as leg_of, leg, once_in_cluster};
use crate::{NAME, id, time};

pub(super) const BEEPS: &[(&str, Beep)] =
    &[("always", Beep::Both), ("never", Beep::None), ("on_enter", Beep::Enter), ("on_exit", Beep::Exit)];

/// Default maximum duration of a conference.
const MAX_DURATION: Duration = Duration::from_secs(4 * 60 * 60);
/// Maximum number of conferences that the server reads for a list.
const MAX_LISTED: usize = 1_000;
const REGIONS: &[&str] = &["Australia", "Europe", "Middle East", "US"];

/// `POST /v2/conferences`: a call opens a conference and becomes the first participant.
pub(super) async fn create(
    State(app): State<App>,
    Extension(repeats): Extension<Repeats>,
    Caller(account): Caller,
    Payload(body): Payload,
) -> Result<Json<Value>, ApiError> {
    let parameters = Parameters(&body);
    let scope = format!("{} conferences", account.name);
    once_in_cluster(&app, &repeats, &scope, parameters, open(&app, &account, parameters)).await
}

async fn open(app: &App, account: &Account, parameters: Parameters<'_>) -> Result<Value, ApiError> {
    let leg = participant(app, account, parameters).await?;
    parameters.required("name")?;
    let name = parameters.sized("name", 1..=128)?.unwrap_or_default();
    let opening = opening(parameters)?;
    let participation = Participation {
        beep: opening.beep.unwrap_or(Beep::None),
        wait: opening.wait.clone().unwrap_or(Wait::Silence),
        max_participants: max_participants(parameters)?,
        waits: !parameters.flag_or("start_conference_on_create", true)?,
        opening: Some(Arc::new(opening)),
        ..Participation::new(name)
    };
    let client_state = parameters.client_state("client_state")?;
    let opened = operations::open_with(&app.calls, &account.name, leg, participation, client_state).await;
    let opened = opened.map_err(|why| match why {
        OpenError::NameInUse => ApiError::conference_name_in_use(),
        OpenError::Refused(refused) => refusal(refused),
        OpenError::NotOpened(why) => why.into(),
        OpenError::Over => ApiError::conference_over(),
    })?;
    // The room reports the application only later, so the application comes from the leg.
    let application = leg_of(app, account, leg).await?.and_then(|leg| leg.application.clone());
    let info = ConferenceInfo { application, ..ConferenceInfo::clone(&opened) };
    Ok(json!({ "data": resource(&info, None) }))
}

/// `GET /v2/conferences`: live and ended conferences.
pub(super) async fn list(
    State(app): State<App>,
    Caller(account): Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let listing = Listing::parse(query.as_deref().unwrap_or_default())?;
    let page = Page { limit: MAX_LISTED, after: None, offset: 0 };
    let all = history::list(&app.calls.services().conferences, &account.name, &ConferenceFilter::default(), page).await;
    let mut rows = Vec::new();
    for info in all.map_err(StoreFailed::from)?.iter().take(MAX_LISTED) {
        rows.push(resource(info, ended_by(&app, &account, info).await?));
    }
    listing.answer(rows, &CONFERENCES)
}

const CONFERENCES: ListFields = ListFields {
    filters: &[("name", "/name"), ("status", "/status"), ("connection_id", "/connection_id")],
    sorts: &[("-created_at", "/created_at")],
};

const PARTICIPANTS: ListFields = ListFields {
    filters: &[("muted", "/muted"), ("on_hold", "/on_hold"), ("whispering", "/whispering")],
    sorts: &[("created_at", "/created_at")],
};

/// `GET /v2/conferences/{id}/participants`: the current participants of a live conference, or the former participants
/// of an ended conference.
pub(super) async fn participants(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(conference): Segments<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, ApiError> {
    let listing = Listing::parse(query.as_deref().unwrap_or_default())?;
    let info = found(&app, &account, &conference).await?;
    let rows = everybody(&app, &account, &info).await?;
    let whispers = |one: &ParticipantInfo| one.participation.coach.as_ref().is_some_and(|one| !one.legs.is_empty());
    let row = |one: &ParticipantInfo| {
        let mut row = participant_of(one);
        row.insert("conference".into(), json!({ "id": id::uuid(info.id.0), "name": info.name }));
        row.insert("whispering".into(), whispers(one).into());
        Value::Object(row)
    };
    let Json(mut answer) = listing.answer(rows.iter().map(row).collect(), &PARTICIPANTS)?;
    for row in
        answer.get_mut("data").and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
    {
        row.remove("whispering");
    }
    Ok(Json(answer))
}

async fn everybody(app: &App, account: &Account, info: &ConferenceInfo) -> Result<Vec<ParticipantInfo>, ApiError> {
    match app.calls.services().conferences.get(&account.name, info.id) {
        Some(seen) => Ok(seen.participants),
        None => {
            let gone = history::participants(&app.calls.services().conferences, &account.name, info.id).await;
            Ok(gone.map_err(StoreFailed::from)?)
        }
    }
}

/// `GET /v2/conferences/{id}/participants/{participant}`: one participant.
pub(super) async fn one_participant(
    State(app): State<App>,
    Caller(account): Caller,
    Segments((conference, who)): Segments<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let info = found(&app, &account, &conference).await?;
    let one = named(&app, &account, &info, &who).await?;
    Ok(Json(json!({ "data": alone(&info, &one) })))
}

/// `PATCH /v2/conferences/{id}/participants/{participant}`: changes a participant.
pub(super) async fn update_participant(
    State(app): State<App>,
    Caller(account): Caller,
    Segments((conference, who)): Segments<(String, String)>,
    Payload(body): Payload,
) -> Result<Json<Value>, ApiError> {
    let parameters = Parameters(&body);
    let info = found(&app, &account, &conference).await?;
    let one = named(&app, &account, &info, &who).await?;
    let optional_flag = |name| parameters.get(name).map(|_| parameters.flag(name)).transpose();
    let (ends, softly) = (optional_flag("end_conference_on_exit")?, optional_flag("soft_end_conference_on_exit")?);
    let before = &one.participation;
    let clears = ends.unwrap_or(before.clears);
    let change = Change {
        ends: Some(clears || softly.unwrap_or(before.ends && !before.clears)),
        clears: Some(clears),
        beep: parameters.word("beep_enabled", BEEPS)?,
        ..Change::default()
    };
    let request = Request { client_state: None, command: Command::ChangeInConference(Box::new(change)) };
    app.calls.request(one.leg, request).await.map_err(refusal)?;
    let after = named(&app, &account, &info, &who).await?;
    Ok(Json(json!({ "data": alone(&info, &after) })))
}

/// Finds a participant. `who` is the control id of the participant's call, the id of the participant, or the label of
/// the participant.
async fn named(app: &App, account: &Account, info: &ConferenceInfo, who: &str) -> Result<ParticipantInfo, ApiError> {
    let leg = id::parse_call_control_id(who).or_else(|| id::parse_uuid(who).map(LegId));
    let is_meant = |one: &ParticipantInfo| match leg {
        Some(leg) => one.leg == leg,
        None => one.participation.label.as_deref() == Some(who),
    };
    everybody(app, account, info).await?.into_iter().find(is_meant).ok_or_else(ApiError::no_resource)
}

fn participant_of(one: &ParticipantInfo) -> Map<String, Value> {
    let how = &one.participation;
    let legs = how.coach.iter().flat_map(|coaching| &coaching.legs).map(|leg| id::call_control_id(*leg).into());
    let members = [
        ("id", id::uuid(one.leg.0).into()),
        ("record_type", "participant".into()),
        ("call_control_id", id::call_control_id(one.leg).into()),
        ("call_leg_id", id::uuid(one.leg.0).into()),
        ("muted", how.muted.into()),
        ("on_hold", how.hold.is_some().into()),
        ("end_conference_on_exit", how.clears.into()),
        ("soft_end_conference_on_exit", (how.ends && !how.clears).into()),
        ("whisper_call_control_ids", Value::Array(legs.collect())),
        ("created_at", time(one.created_at).into()),
        ("updated_at", time(one.updated_at).into()),
    ];
    let status = match one.status {
        ParticipantStatus::Expected => "joining",
        ParticipantStatus::Connected => "joined",
        ParticipantStatus::Left | ParticipantStatus::Failed => "left",
    };
    let mut row: Map<String, Value> = members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    row.insert("status".into(), status.into());
    row
}

/// The resource of a participant in an answer with only this participant. In a list, the resource of a participant is
/// different.
fn alone(info: &ConferenceInfo, one: &ParticipantInfo) -> Value {
    let mut row = participant_of(one);
    row.remove("record_type");
    row.insert("conference_id".into(), id::uuid(info.id.0).into());
    row.insert("label".into(), one.participation.label.as_deref().into());
    Value::Object(row)
}

/// `GET /v2/conferences/{id}`: one conference.
pub(super) async fn get(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(conference): Segments<String>,
) -> Result<Json<Value>, ApiError> {
    let info = found(&app, &account, &conference).await?;
    Ok(Json(json!({ "data": resource(&info, ended_by(&app, &account, &info).await?) })))
}

/// Finds a live or ended conference.
async fn found(app: &App, account: &Account, conference: &str) -> Result<Arc<ConferenceInfo>, ApiError> {
    let id = id::parse_uuid(conference).map(ConferenceId).ok_or_else(ApiError::no_conference)?;
    let known = history::get(&app.calls.services().conferences, &account.name, id).await.map_err(StoreFailed::from)?;
    known.ok_or_else(ApiError::no_conference)
}

/// The value of `ended_by`: the leg that left the conference and thereby ended it.
async fn ended_by(app: &App, account: &Account, info: &ConferenceInfo) -> Result<Option<Value>, ApiError> {
    let Some(leg) = info.end.as_ref().and_then(|end| end.by) else { return Ok(None) };
    let known = leg_of(app, account, leg).await?;
    Ok(known.map(
        |leg| json!({ "call_control_id": id::call_control_id(leg.id), "call_session_id": id::uuid(leg.session.0) }),
    ))
}

fn resource(info: &ConferenceInfo, ended_by: Option<Value>) -> Value {
    let lasts = info.opening.lasts.unwrap_or(MAX_DURATION);
    let reason = info.end.as_ref().map(|end| match end.cause {
        EndCause::Request => "ended_via_api",
        EndCause::HostLeft | EndCause::HostRemoved => "host_left",
        EndCause::TimeUp => "time_exceeded",
        EndCause::LastLeft | EndCause::LastRemoved | EndCause::Failed => "all_left",
    });
    json!({
        "id": id::uuid(info.id.0),
        "record_type": "conference",
        "name": info.name,
        "status": match info.status {
            ConferenceStatus::Waiting | ConferenceStatus::Gathering => "init",
            ConferenceStatus::InProgress => "in_progress",
            ConferenceStatus::Completed => "completed",
        },
        "created_at": time(info.created_at),
        "updated_at": time(info.updated_at),
        "expires_at": info.created_at.checked_add(lasts).map(time).ok(),
        "connection_id": info.application,
        "region": info.opening.region,
        "end_reason": reason,
        "ended_by": ended_by,
    })
}

/// The live leg that `call_control_id` names.
pub(super) async fn participant(app: &App, account: &Account, parameters: Parameters<'_>) -> Result<LegId, ApiError> {
    let leg = leg(app, account, parameters.required("call_control_id")?).await?;
    if leg.status.is_final() { Err(ApiError::call_ended()) } else { Ok(leg.id) }
}

/// Finds a live conference of this account.
pub(super) fn known(app: &App, account: &Account, conference: &str) -> Result<(u128, Arc<ConferenceInfo>), ApiError> {
    let id = id::parse_uuid(conference).ok_or_else(ApiError::no_conference)?;
    let seen = app.calls.services().conferences.get(&account.name, ConferenceId(id));
    Ok((id, seen.ok_or_else(ApiError::no_conference)?.info))
}

/// The settings of the whole conference. The request that creates the conference contains these settings.
fn opening(parameters: Parameters<'_>) -> Result<ConferenceSettings, ApiError> {
    parameters.flag("comfort_noise")?;
    let lasts = parameters.integer("duration_minutes", 1..=100_000)?;
    Ok(ConferenceSettings {
        region: parameters.check("region", REGIONS)?.map(Into::into),
        starts_alone: true,
        wait: hold_audio(parameters, "hold_audio_url", "hold_media_name")?,
        beep: parameters.word("beep_enabled", BEEPS)?,
        lasts: Some(lasts.map_or(MAX_DURATION, |minutes| Duration::from_secs(u64::from(minutes) * 60))),
        ..ConferenceSettings::default()
    })
}

/// The value of `max_participants`. This server allows at most 250 participants.
fn max_participants(parameters: Parameters<'_>) -> Result<u16, ApiError> {
    let max_participants = parameters.integer("max_participants", 2..=800)?.unwrap_or(250);
    Ok(u16::try_from(max_participants.min(250)).unwrap_or(250))
}

/// The settings of a participant. Some defaults come from `opening`, the settings of the conference.
pub(super) fn participation(
    parameters: Parameters<'_>,
    name: Arc<str>,
    opening: &ConferenceSettings,
) -> Result<Participation, ApiError> {
    let hold = hold_audio(parameters, "hold_audio_url", "hold_media_name")?;
    let softly = parameters.flag("soft_end_conference_on_exit")?;
    let clears = parameters.flag("end_conference_on_exit")?;
    parameters.check("region", REGIONS)?;
    Ok(Participation {
        muted: parameters.flag("mute")?,
        hold: parameters.flag("hold")?.then(|| hold.unwrap_or(Wait::Silence)),
        wait: opening.wait.clone().unwrap_or(Wait::Silence),
        waits: !parameters.flag("start_conference_on_enter")?,
        ends: softly || clears,
        clears,
        beep: parameters.word("beep_enabled", BEEPS)?.or(opening.beep).unwrap_or(Beep::None),
        coach: supervises(parameters)?.flatten(),
        ..Participation::new(name)
    })
}

/// The values of `supervisor_role` and `whisper_call_control_ids`. `None` if the request has no role.
pub(super) fn supervises(parameters: Parameters<'_>) -> Result<Option<Option<Coaching>>, ApiError> {
    let legs = parameters.legs("whisper_call_control_ids")?.unwrap_or_default();
    let roles = [
        ("none", SupervisorRole::Barge),
        ("barge", SupervisorRole::Barge),
        ("whisper", SupervisorRole::Whisper),
        ("monitor", SupervisorRole::Monitor),
    ];
    Ok(parameters.word("supervisor_role", &roles)?.map(|role| role.coaching(legs)))
}

/// The audio file that a waiting leg hears in a loop.
pub(super) fn hold_audio(parameters: Parameters<'_>, url: &str, stored: &str) -> Result<Option<Wait>, ApiError> {
    Ok(match dial::file(parameters, url, stored)? {
        Some(AudioSource::Url(url)) => Some(Wait::File(url.into())),
        Some(AudioSource::Stored(name)) => Some(Wait::Stored(name.into())),
        _ => None,
    })
}

/// An invitation: the conference that a new call will join, and the settings of the new participant.
pub(super) struct Invitation {
    name: Arc<str>,
    opening: Arc<ConferenceSettings>,
    participation: Participation,
}

impl Invitation {
    /// Makes the call that will join the conference.
    pub(super) async fn send(self, app: &App, account: &Account, call: NewCall) -> Result<Created, ApiError> {
        let Self { name, opening, participation } = self;
        let (account, dialect) = (&account.name, &NAME.into());
        let spec = ConferenceSpec {
            account,
            dialect,
            name: &name,
            max_participants: participation.max_participants,
            opening: Some(opening),
        };
        let invited = operations::invite(&app.calls, spec, participation, call, None).await;
        invited.map(|invited| invited.created).map_err(|why| match why {
            InviteError::JoinRefusal(why) => why.into(),
            InviteError::NotCalled(why) => why.into(),
            InviteError::Store(failed) => failed.into(),
        })
    }
}

/// Parses `conference_config`. With this parameter, the new call joins a conference. The function sets the first action
/// of the call.
pub(super) fn invitation(
    app: &App,
    account: &Account,
    parameters: Parameters<'_>,
    call: &mut NewCall,
) -> Result<Option<Invitation>, ApiError> {
    if parameters.get("conference_config").is_none() {
        return Ok(None);
    }
    if call.plan.then != OnAnswer::Wait {
        let detail = "A call with conference_config cannot have another first action.";
        return Err(ApiError::bad_value("conference_config", detail));
    }
    let parameters = parameters.object("conference_config")?;
    parameters.flag("early_media")?;
    let services = app.calls.services();
    let by_id = match parameters.text("id")? {
        Some(id) => Some(known(app, account, id)?.1),
        None => {
            let name =
                parameters.sized("conference_name", 1..=128)?.ok_or_else(|| ApiError::missing("conference_name"))?;
            services
                .conferences
                .find(&account.name, name)
                .and_then(|id| services.conferences.get(&account.name, ConferenceId(id)))
                .map(|seen| seen.info)
        }
    };
    let starts = parameters.flag_or("start_conference_on_create", true)?;
    let (name, opening, waits) = match by_id {
        Some(info) => (Arc::clone(&info.name), Arc::clone(&info.opening), true),
        None => {
            let name = parameters.text("conference_name")?.unwrap_or_default().into();
            (
                name,
                Arc::new(ConferenceSettings {
                    starts_alone: true,
                    lasts: Some(MAX_DURATION),
                    ..ConferenceSettings::default()
                }),
                !starts,
            )
        }
    };
    let own = participation(parameters, Arc::clone(&name), &opening)?;
    let own = Participation { waits: own.waits && waits, opening: Some(Arc::clone(&opening)), ..own };
    call.plan.then = OnAnswer::JoinConference(Box::new(own.clone()));
    Ok(Some(Invitation { name, opening, participation: own }))
}

impl From<JoinRefusal> for ApiError {
    fn from(why: JoinRefusal) -> Self {
        match why {
            JoinRefusal::Refused(state::Refused::Full) => Self::conference_full(),
            JoinRefusal::NoRoom(_) | JoinRefusal::Refused(_) => Self::conference_over(),
            JoinRefusal::Elsewhere(_) | JoinRefusal::NoOwner(_) | JoinRefusal::NoName(_) => {
                Self::unavailable(&why.to_string())
            }
            JoinRefusal::NoLegToCoach | JoinRefusal::CoachedIsOnHold => Self::no_such_call("whisper_call_control_ids"),
        }
    }
}

pub(super) fn with_client_state(parameters: Parameters<'_>, command: Command) -> Result<Request, ApiError> {
    Ok(Request { client_state: parameters.client_state("client_state")?, command })
}

pub(super) async fn ask(app: &App, leg: LegId, parameters: Parameters<'_>, command: Command) -> Result<(), ApiError> {
    app.calls.request(leg, with_client_state(parameters, command)?).await.map(drop).map_err(refusal)
}

pub(super) fn refusal(refused: Refused) -> ApiError {
    ApiError::refusal(Action::Bridge, refused).unwrap_or_else(ApiError::conference_over)
}
