//! `/v2/conferences`: opened by a call, joined, left, muted. What is over is forgotten; lists, music, recording and the rest of
//! Telnyx's actions are not there yet.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use tandem_call::command::{Command, Refused, Request};
use tandem_call::conference::event::{ConferenceInfo, ConferenceStatus};
use tandem_call::conference::state::{self, Wanted};
use tandem_call::conference::{Beep, Coaching, Opening, Participation};
use tandem_call::id::{ConferenceId, LegId};
use tandem_call::program::instruction::{AudioSource, Wait};
use tandem_call::supervision::SupervisorRole;

use super::action::Action;
use super::error::ApiError;
use super::parameters::Parameters;
use super::{Caller, Payload, Segments, dial, leg};
use crate::account::Account;
use crate::app::App;
use crate::conferences::seat::{NoSeat, Seat};
use crate::dialect::telnyx::{NAME, id, time};
use crate::new_call::{First, NewCall};

const BEEPS: &[(&str, Beep)] =
    &[("always", Beep::Both), ("never", Beep::None), ("on_enter", Beep::Enter), ("on_exit", Beep::Exit)];

const REGIONS: &[&str] = &["Australia", "Europe", "Middle East", "US"];

/// What is done to a conference by name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Join,
    Leave,
    Mute(bool),
}

const ORDERS: &[(&str, Order)] =
    &[("join", Order::Join), ("leave", Order::Leave), ("mute", Order::Mute(true)), ("unmute", Order::Mute(false))];
const NOT_PERMITTED: &[&str] = &[
    "end",
    "gather_using_audio",
    "hold",
    "play",
    "record_pause",
    "record_resume",
    "record_start",
    "record_stop",
    "send_dtmf",
    "speak",
    "stop",
    "unhold",
    "update",
];

/// `POST /v2/conferences`: a call opens one and is its first participant.
pub(super) async fn create(
    State(app): State<App>,
    Caller(account): Caller,
    Payload(body): Payload,
) -> Result<Json<Value>, ApiError> {
    let parameters = Parameters(&body);
    let leg = participant(&app, &account, parameters).await?;
    parameters.required("name")?;
    let name = parameters.sized("name", 1..=128)?.unwrap_or_default();
    let opening = opening(parameters)?;
    let participation = Participation {
        beep: opening.beep.unwrap_or(Beep::None),
        wait: opening.wait.clone().unwrap_or(Wait::Silence),
        most: most(parameters)?,
        waits: !parameters.flag_or("start_conference_on_create", true)?,
        opening: Some(Arc::new(opening)),
        ..Participation::new(name)
    };
    let conferences = &app.calls.services().conferences;
    if conferences.find(&account.name, name).is_some() {
        return Err(ApiError::conference_name_in_use());
    }
    ask(&app, leg, parameters, Command::Confer(participation)).await?;
    let id = conferences.find(&account.name, name).ok_or_else(ApiError::conference_over)?;
    let made = conferences.get(&account.name, ConferenceId(id)).ok_or_else(ApiError::conference_over)?;
    Ok(Json(json!({ "data": resource(&made.info) })))
}

/// `GET /v2/conferences/{id}`.
pub(super) async fn get(
    State(app): State<App>,
    Caller(account): Caller,
    Segments(conference): Segments<String>,
) -> Result<Json<Value>, ApiError> {
    let id = id::parse_uuid(&conference).map(ConferenceId).ok_or_else(ApiError::no_conference)?;
    let seen = app.calls.services().conferences.get(&account.name, id).ok_or_else(ApiError::no_conference)?;
    Ok(Json(json!({ "data": resource(&seen.info) })))
}

/// A conference as it is now. It expires with its last participant and at no time that is known before.
fn resource(info: &ConferenceInfo) -> Value {
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
        "expires_at": null,
    })
}

/// `POST /v2/conferences/{id}/actions/{action}`.
pub(super) async fn command(
    State(app): State<App>,
    Caller(account): Caller,
    Segments((conference, action)): Segments<(String, String)>,
    Payload(body): Payload,
) -> Result<Json<Value>, ApiError> {
    let parameters = Parameters(&body);
    let order = match ORDERS.iter().find(|(known, _)| *known == action) {
        Some((_, order)) => *order,
        None if NOT_PERMITTED.contains(&action.as_str()) => return Err(ApiError::action_not_permitted(&action)),
        None => return Err(ApiError::no_resource()),
    };
    let (conference, info) = known(&app, &account, &conference)?;
    let members = app.calls.services().conferences.members(&account.name, conference);
    match order {
        Order::Join => {
            let leg = participant(&app, &account, parameters).await?;
            let participation = participation(parameters, Arc::clone(&info.name), &info.opening)?;
            ask(&app, leg, parameters, Command::Confer(participation)).await?;
        }
        Order::Leave => {
            let leg = participant(&app, &account, parameters).await?;
            if !members.contains(&leg) {
                return Err(ApiError::no_such_call("call_control_id"));
            }
            ask(&app, leg, parameters, Command::LeaveConference).await?;
        }
        Order::Mute(muted) => {
            // All of them, unless some are named.
            let named = parameters.legs("call_control_ids")?;
            for leg in members.into_iter().filter(|leg| named.as_ref().is_none_or(|named| named.contains(leg))) {
                match app.calls.request(leg, asked(parameters, Command::MuteInConference(muted))?).await {
                    // One that is just leaving is not heard either.
                    Ok(_) | Err(Refused::NoSuchLeg | Refused::Ended | Refused::NotRunning) => {}
                    Err(refused) => return Err(refusal(refused)),
                }
            }
        }
    }
    Ok(Json(json!({ "data": { "result": "ok" } })))
}

/// The leg that is to take part, or does.
async fn participant(app: &App, account: &Account, parameters: Parameters<'_>) -> Result<LegId, ApiError> {
    let leg = leg(app, account, parameters.required("call_control_id")?).await?;
    if leg.status.is_final() { Err(ApiError::call_ended()) } else { Ok(leg.id) }
}

/// A conference of this account.
fn known(app: &App, account: &Account, conference: &str) -> Result<(u128, Arc<ConferenceInfo>), ApiError> {
    let id = id::parse_uuid(conference).ok_or_else(ApiError::no_conference)?;
    let seen = app.calls.services().conferences.get(&account.name, ConferenceId(id));
    Ok((id, seen.ok_or_else(ApiError::no_conference)?.info))
}

/// What the first participant says of the whole conference.
fn opening(parameters: Parameters<'_>) -> Result<Opening, ApiError> {
    parameters.flag("comfort_noise")?;
    let lasts = parameters.integer("duration_minutes", 1..=100_000)?;
    Ok(Opening {
        region: parameters.check("region", REGIONS)?.map(Into::into),
        starts_alone: true,
        wait: held(parameters, "hold_audio_url", "hold_media_name")?,
        beep: parameters.word("beep_enabled", BEEPS)?,
        lasts: lasts.map(|minutes| Duration::from_secs(u64::from(minutes) * 60)),
        ..Opening::default()
    })
}

/// `max_participants`, of at most 250 here.
fn most(parameters: Parameters<'_>) -> Result<u16, ApiError> {
    let most = parameters.integer("max_participants", 2..=800)?.unwrap_or(250);
    Ok(u16::try_from(most.min(250)).unwrap_or(250))
}

/// How somebody takes part in a conference that was opened like this.
fn participation(parameters: Parameters<'_>, name: Arc<str>, opening: &Opening) -> Result<Participation, ApiError> {
    let hold = held(parameters, "hold_audio_url", "hold_media_name")?;
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

/// `supervisor_role` and `whisper_call_control_ids`; `None` if nothing is said of it.
fn supervises(parameters: Parameters<'_>) -> Result<Option<Option<Coaching>>, ApiError> {
    let whom = parameters.legs("whisper_call_control_ids")?.unwrap_or_default();
    let roles = [
        ("none", SupervisorRole::Barge),
        ("barge", SupervisorRole::Barge),
        ("whisper", SupervisorRole::Whisper),
        ("monitor", SupervisorRole::Monitor),
    ];
    Ok(parameters.word("supervisor_role", &roles)?.map(|role| role.coaching(whom)))
}

/// A file that is heard over and over.
fn held(parameters: Parameters<'_>, url: &str, stored: &str) -> Result<Option<Wait>, ApiError> {
    Ok(match dial::file(parameters, url, stored)? {
        Some(AudioSource::Url(url)) => Some(Wait::File(url.into())),
        Some(AudioSource::Stored(name)) => Some(Wait::Stored(name.into())),
        _ => None,
    })
}

/// Has a call that is to be dialled take part in a conference, by `conference_config`: its seat, until it is called.
pub(super) fn seat(
    app: &App,
    account: &Account,
    parameters: Parameters<'_>,
    call: &mut NewCall,
) -> Result<Option<Seat>, ApiError> {
    if parameters.get("conference_config").is_none() {
        return Ok(None);
    }
    if call.first != First::Commands {
        let detail = "A call that takes part in a conference can begin with nothing else.";
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
            (name, Arc::new(Opening { starts_alone: true, ..Opening::default() }), !starts)
        }
    };
    let own = participation(parameters, Arc::clone(&name), &opening)?;
    let own = Participation { waits: own.waits && waits, opening: Some(Arc::clone(&opening)), ..own };
    let (account, dialect) = (&account.name, &NAME.into());
    let wanted = Wanted { account, dialect, name: &name, most: own.most, opening: Some(opening) };
    let seat = services.conferences.seat(services, wanted, own.clone())?;
    call.first = First::Confer(Box::new(own));
    Ok(Some(seat))
}

impl From<NoSeat> for ApiError {
    fn from(why: NoSeat) -> Self {
        match why {
            NoSeat::Refused(state::Refused::Full) => Self::conference_full(),
            NoSeat::NoRoom(_) | NoSeat::Refused(_) => Self::conference_over(),
            NoSeat::NobodyToCoach | NoSeat::CoachedIsOnHold => Self::no_such_call("whisper_call_control_ids"),
        }
    }
}

fn asked(parameters: Parameters<'_>, command: Command) -> Result<Request, ApiError> {
    Ok(Request { client_state: parameters.client_state("client_state")?, command })
}

async fn ask(app: &App, leg: LegId, parameters: Parameters<'_>, command: Command) -> Result<(), ApiError> {
    app.calls.request(leg, asked(parameters, command)?).await.map(drop).map_err(refusal)
}

fn refusal(refused: Refused) -> ApiError {
    ApiError::refusal(Action::Bridge, refused).unwrap_or_else(ApiError::conference_over)
}
