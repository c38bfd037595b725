//! `/v2/conferences`: opened by a call, joined, left, muted. What is over is forgotten; lists, music, recording and the rest of
//! Telnyx's actions are not there yet.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use tandem_call::command::{Command, Refused, Request};
use tandem_call::conference::event::{ConferenceInfo, ConferenceStatus};
use tandem_call::conference::{Beep, Participation};
use tandem_call::id::{ConferenceId, LegId};

use super::action::Action;
use super::error::ApiError;
use super::parameters::Parameters;
use super::{Caller, Payload, Segments, leg};
use crate::account::Account;
use crate::app::App;
use crate::dialect::telnyx::{id, time};

const BEEPS: &[(&str, Beep)] =
    &[("always", Beep::Both), ("never", Beep::None), ("on_enter", Beep::Enter), ("on_exit", Beep::Exit)];

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
    parameters.refuse(&["hold_audio_url", "hold_media_name"])?;
    let waits =
        parameters.get("start_conference_on_create").is_some() && !parameters.flag("start_conference_on_create")?;
    let most = parameters.integer("max_participants", 2..=250)?.unwrap_or(250);
    let participation = Participation {
        beep: parameters.word("beep_enabled", BEEPS)?.unwrap_or(Beep::None),
        most: u16::try_from(most).unwrap_or(250),
        waits,
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
    let (conference, name) = known(&app, &account, &conference)?;
    let members = app.calls.services().conferences.members(&account.name, conference);
    match order {
        Order::Join => {
            let leg = participant(&app, &account, parameters).await?;
            parameters.refuse(&["hold", "hold_audio_url", "hold_media_name", "supervisor_role"])?;
            let starts = "start_conference_on_enter";
            let participation = Participation {
                muted: parameters.flag("mute")?,
                waits: parameters.get(starts).is_some() && !parameters.flag(starts)?,
                ends: parameters.flag("end_conference_on_exit")?,
                beep: parameters.word("beep_enabled", BEEPS)?.unwrap_or(Beep::None),
                ..Participation::new(name)
            };
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

/// A conference of this account, and its name.
fn known(app: &App, account: &Account, conference: &str) -> Result<(u128, std::sync::Arc<str>), ApiError> {
    let id = id::parse_uuid(conference).ok_or_else(ApiError::no_conference)?;
    let name = app.calls.services().conferences.name(&account.name, id).ok_or_else(ApiError::no_conference)?;
    Ok((id, name))
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
