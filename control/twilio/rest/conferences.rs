//! `Conferences`, their participants and recordings. A path names a conference by its SID or, while the conference is
//! live, by its friendly name. A path names a participant by the SID of the participant's call or by the participant's
//! label.
//!
//! Three operations are extensions of this server. `POST Conferences.json` opens a conference without participants.
//! `POST .../Recordings.json` starts a recording. `Status=completed` lists the participants who have left.

use std::fmt::Display;
use std::sync::Arc;

use axum::Json;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use jiff::Timestamp;
use serde_json::Value;
use tandem_call::command;
use tandem_call::conference::event::{
    ConferenceEnd, ConferenceInfo, ConferenceStatus, EndCause, ParticipantInfo, ParticipantStatus,
};
use tandem_call::conference::state::{ConferenceSpec, Refused};
use tandem_call::conference::{Change, Coaching, ConferenceSettings, Participation};
use tandem_call::program::instruction::{Conference, Instruction, Program, Wait};
use tandem_call::recording::{Recording, RecordingSource, RecordingStatus, Track};
use tandem_call::stream::StreamSpec;
use tandem_conferences::JoinRefusal;
use tandem_conferences::history::{self, ConferenceFilter};
use tandem_history::query::RecordingFilter;
use tandem_id::CallId;
use tandem_operations::conferences::{self as operations, ChangeError, InviteError, OpenError};
use tandem_runtime::reporting::ProblemOwner;

use super::super::error::{ApiError, allow};
use super::super::form::Parameters;
use super::super::list::{self};
use super::super::request::{self, RecordingUpdate};
use super::super::{conference, recording};
use super::{Answer, RestContext, StartOrStop, Verb, ok, recordings};

/// Error number: the conference has ended, or does not exist.
const NO_CONFERENCE: u32 = 16022;
const FULL: u32 = 16020;
const BAD_LABEL: u32 = 16023;
const LABEL_IN_USE: u32 = 16026;
const COACHED_IS_HELD: u32 = 16027;
const COACHED_IS_ABSENT: u32 = 16028;

pub(super) async fn answer(x: &RestContext<'_>, below: &[&str]) -> Answer {
    let Some((name, below)) = below.split_first() else {
        return match x.verb {
            Verb::Get => list(x).await,
            Verb::Post => open(x).await,
            _ => Err(ApiError::method_not_allowed(allow::GET_POST)),
        };
    };
    if let (["Participants"], Verb::Post) = (below, x.verb) {
        return add(x, name).await;
    }
    let info = found(x, name).await?;
    match (below, x.verb) {
        ([], Verb::Get) => Ok(ok(conference::conference(x.owner(), &info))),
        ([], Verb::Post) => update(x, &info).await,
        (["Participants"], Verb::Get) => participants(x, &info).await,
        (["Participants", member], verb) => participant(x, &info, member, verb).await,
        (["Recordings", below @ ..], _) => recordings(x, &info, below).await,
        (["Streams", below @ ..], _) if x.provider.streams_conferences() => streams(x, &info, below),
        ([], _) => Err(ApiError::method_not_allowed(allow::GET_POST)),
        (["Participants"], _) => Err(ApiError::method_not_allowed(allow::GET_POST)),
        _ => Err(x.not_found()),
    }
}

/// Finds a conference by its SID or its name.
async fn found(x: &RestContext<'_>, name: &str) -> Result<Arc<ConferenceInfo>, ApiError> {
    let (services, account) = (x.services(), &x.account.name);
    let known = match x.ids().parse_conference(name) {
        Some(id) => history::get(&services.conferences, account, id).await?,
        None => history::named(&services.conferences, account, name).await?,
    };
    known.ok_or_else(|| x.not_found())
}

fn live(info: &ConferenceInfo) -> Result<(), ApiError> {
    match info.status {
        ConferenceStatus::Completed => Err(ApiError::bad(NO_CONFERENCE, "The conference has ended")),
        _ => Ok(()),
    }
}

async fn list(x: &RestContext<'_>) -> Answer {
    let paging = x.paging("CF")?;
    let words = [
        ("init", [ConferenceStatus::Waiting].as_slice()),
        ("in-progress", &[ConferenceStatus::Gathering, ConferenceStatus::InProgress]),
        ("completed", &[ConferenceStatus::Completed]),
    ];
    let filter = ConferenceFilter {
        name: x.parameters.get("FriendlyName").map(str::to_owned),
        states: x.parameters.word("Status", &words, &[], 20001)?,
        created: list::range_to(x.parameters, "DateCreated")?,
        updated: list::range_to(x.parameters, "DateUpdated")?,
    };
    let found = history::list(&x.services().conferences, &x.account.name, &filter, paging.page()).await?;
    let represent = |info: &Arc<ConferenceInfo>| (x.ids().conference(info.id), conference::conference(x.owner(), info));
    Ok(ok(x.list("conferences", "Conferences", &paging, found.iter().map(represent).collect())))
}

/// Opens a conference without participants. The conference ends after a time limit if no participant joins.
async fn open(x: &RestContext<'_>) -> Answer {
    let parameters = x.parameters;
    let name = parameters.get("FriendlyName").ok_or_else(|| ApiError::bad(20001, "FriendlyName is required"))?;
    let name: Arc<str> = request::conference_name(name)?.into();
    let max_participants = parameters.number("MaxParticipants", 2..=250, 20001)?.unwrap_or(250);
    let opening = request::conference_opening(parameters, "")?;
    let spec = ConferenceSpec {
        account: &x.account.name,
        dialect: &x.provider.name().into(),
        name: &name,
        max_participants: u16::try_from(max_participants).unwrap_or(250),
        opening: Some(Arc::new(opening)),
    };
    let opened = operations::open(&x.app.calls, spec).await.map_err(|why| match why {
        OpenError::NameInUse => {
            let message = format!("A conference named {name} already exists");
            ApiError::new(StatusCode::CONFLICT, 20409, message)
        }
        why => unavailable(&why),
    });
    let opened = opened?;
    x.warn(ProblemOwner::Account(&x.account.name), None, request::conference_warnings(parameters));
    Ok((StatusCode::CREATED, Json(conference::conference(x.owner(), &opened.info))).into_response())
}

/// Another node of the cluster does not answer.
pub(super) fn no_answer(why: &dyn Display) -> ApiError {
    tracing::warn!(%why, "the request could not be sent to another node");
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, 20503, "Another node of the cluster does not answer")
}

fn unavailable(why: &dyn Display) -> ApiError {
    tracing::warn!(%why, "the conference could not be opened");
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, 20503, "Too many conferences are open")
}

async fn update(x: &RestContext<'_>, info: &ConferenceInfo) -> Answer {
    let (parameters, conferences) = (x.parameters, &x.services().conferences);
    let ends = parameters.word("Status", &[("completed", true)], false, 20001)?;
    let announcement = parameters.target("AnnounceUrl", "AnnounceMethod", 20001)?;
    let mut info = info.clone();
    if let Some(target) = announcement {
        live(&info)?;
        if !conferences.announce(info.id, None, target) {
            return Err(ApiError::bad(NO_CONFERENCE, "The conference has no participant to hear the announcement"));
        }
    }
    if ends && info.status != ConferenceStatus::Completed {
        operations::end(&x.app.calls, info.id, false, None).await;
        // The room still has to release the participants. Nevertheless, from now on the conference has the status
        // `completed`.
        info.status = ConferenceStatus::Completed;
        info.end = Some(ConferenceEnd { cause: EndCause::Request, by: None, label: None });
    }
    Ok(ok(conference::conference(x.owner(), &info)))
}

// ----- participants ---------------------------------------------------------------------------------------------------

async fn participants(x: &RestContext<'_>, info: &ConferenceInfo) -> Answer {
    let paging = x.paging("CA")?;
    let flag = |name| x.parameters.word(name, &[("true", Some(true)), ("false", Some(false))], None, 20001);
    let (muted, hold, coaching) = (flag("Muted")?, flag("Hold")?, flag("Coaching")?);
    let completed = x.parameters.word("Status", &[("completed", true)], false, 20001)?;
    let mut all = match completed {
        true => history::participants(&x.services().conferences, &x.account.name, info.id).await?,
        false => {
            x.services().conferences.get(&x.account.name, info.id).map(|seen| seen.participants).unwrap_or_default()
        }
    };
    let left = |member: &ParticipantInfo| matches!(member.status, ParticipantStatus::Left | ParticipantStatus::Failed);
    all.retain(|member| {
        let how = &member.participation;
        left(member) == completed
            && muted.is_none_or(|muted| how.muted == muted)
            && hold.is_none_or(|hold| how.hold.is_some() == hold)
            && coaching.is_none_or(|coaching| how.coach.as_ref().is_some_and(|one| one.on) == coaching)
    });
    // The newest participant comes first.
    all.reverse();
    let page = paging.page();
    if let Some(after) = page.after {
        let behind = all.iter().position(|member| member.leg.0 == after).map_or(all.len(), |place| place + 1);
        all.drain(..behind);
    }
    let mut items = Vec::new();
    for member in all.iter().skip(page.offset).take(page.limit.saturating_add(1)) {
        items.push((x.ids().call(member.leg), represent(x, info, member).await?));
    }
    let name = format!("Conferences/{}/Participants", x.ids().conference(info.id));
    Ok(ok(x.list("participants", &name, &paging, items)))
}

async fn represent(x: &RestContext<'_>, info: &ConferenceInfo, member: &ParticipantInfo) -> Result<Value, ApiError> {
    let call = match member.status {
        ParticipantStatus::Expected => x.app.calls.get(&x.account.name, member.leg).await?.map(|leg| leg.status),
        _ => None,
    };
    Ok(conference::participant(x.owner(), info, member, call))
}

/// Calls a new participant into a conference.
async fn add(x: &RestContext<'_>, name: &str) -> Answer {
    let (parameters, calls) = (x.parameters, &x.app.calls);
    let name: Arc<str> = match x.ids().parse_conference(name) {
        Some(_) => {
            let info = found(x, name).await?;
            live(&info)?;
            Arc::clone(&info.name)
        }
        None => request::conference_name(name)?.into(),
    };
    let (participation, max_participants) = participation(parameters, Arc::clone(&name))?;
    let instruction = Instruction::Conference(Conference {
        participation: participation.clone(),
        time_limit: None,
        hangup_on_star: false,
        action: None,
    });
    let program = Program { instructions: vec![instruction], warnings: Vec::new() };
    let new = request::participant_call(parameters, &x.account.name, program)?;
    let (account, dialect, opening) = (&x.account.name, &x.provider.name().into(), participation.opening.clone());
    let spec = ConferenceSpec { account, dialect, name: &name, max_participants, opening };
    let invited = operations::invite(calls, spec, participation, new, request::passed_on(parameters)).await;
    let invited = invited.map_err(|why| match why {
        InviteError::JoinRefusal(why) => why.into(),
        InviteError::NotCalled(why) => why.into(),
        InviteError::Store(failed) => ApiError::from(failed),
    })?;
    let (info, member) = invited.participant(calls, &x.account.name).await?.ok_or_else(|| x.not_found())?;
    let leg = x.leg(member.leg).await?;
    x.warn(ProblemOwner::from(&*leg), None, request::participant_warnings(parameters));
    let mut body = conference::participant(x.owner(), &info, &member, None);
    if let Some(fields) = body.as_object_mut() {
        fields.insert("queue_time".into(), "0".into());
    }
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

fn participation(parameters: &Parameters, name: Arc<str>) -> Result<(Participation, u16), ApiError> {
    let max_participants = parameters.number("MaxParticipants", 2..=250, 20001)?.unwrap_or(250);
    let max_participants = u16::try_from(max_participants).unwrap_or(250);
    let label = match parameters.get("Label") {
        None => None,
        Some(text) if request::is_participant_label(parameters.ids(), text) => Some(text.into()),
        Some(text) => return Err(ApiError::bad(BAD_LABEL, format!("Label is not valid: {text}"))),
    };
    let opening: ConferenceSettings = request::conference_opening(parameters, "Conference")?;
    let participation = Participation {
        label,
        muted: is_true(parameters, "Muted").unwrap_or_default(),
        wait: waits(parameters)?.unwrap_or(Wait::Music),
        waits: !parameters.flag("StartConferenceOnEnter", true)?,
        ends: parameters.flag("EndConferenceOnExit", false)?,
        beep: request::beep(parameters)?,
        coach: coach(parameters, None)?.flatten(),
        max_participants,
        opening: Some(Arc::new(opening)),
        ..Participation::new(name)
    };
    Ok((participation, max_participants))
}

/// A boolean parameter. The result is true for the text `true` in upper or lower case, and false for any other text.
/// `None` if the parameter is absent.
fn is_true(parameters: &Parameters, name: &str) -> Option<bool> {
    parameters.get(name).map(|text| text.eq_ignore_ascii_case("true"))
}

/// `WaitUrl`: the document that a waiting participant hears. An empty URL means silence.
fn waits(parameters: &Parameters) -> Result<Option<Wait>, ApiError> {
    let target = parameters.target("WaitUrl", "WaitMethod", 20001)?;
    let given = parameters.pairs().any(|(name, _)| name == "WaitUrl");
    Ok(match (target, given) {
        (Some(target), _) => Some(Wait::Document(target)),
        (None, true) => Some(Wait::Silence),
        (None, false) => None,
    })
}

/// `Coaching` and `CallSidToCoach`. `before` is the participant's previous coaching. Returns `None` if the request has
/// neither parameter. Returns `Some(None)` to remove the coaching.
fn coach(parameters: &Parameters, before: Option<&Coaching>) -> Result<Option<Option<Coaching>>, ApiError> {
    let on = is_true(parameters, "Coaching");
    let legs = match parameters.get("CallSidToCoach") {
        None => before.map(|before| before.legs.clone()),
        Some(text) => {
            let leg = parameters.ids().parse_call(text);
            Some(vec![leg.ok_or_else(|| ApiError::bad(13240, format!("CallSidToCoach is not valid: {text}")))?])
        }
    };
    match (on, legs, parameters.get("CallSidToCoach").is_some()) {
        (None, _, false) => Ok(None),
        (Some(true), None, _) => Err(ApiError::bad(13240, "CallSidToCoach is required to coach")),
        (on, Some(legs), _) => Ok(Some(Some(Coaching { legs, on: on.unwrap_or(true) }))),
        (_, None, _) => Ok(Some(None)),
    }
}

impl From<JoinRefusal> for ApiError {
    fn from(why: JoinRefusal) -> Self {
        match why {
            JoinRefusal::NoRoom(why) => unavailable(&why),
            JoinRefusal::Elsewhere(_) | JoinRefusal::NoOwner(_) | JoinRefusal::NoName(_) => no_answer(&why),
            JoinRefusal::Refused(Refused::Over | Refused::Unknown) => {
                Self::bad(NO_CONFERENCE, "The conference has ended")
            }
            JoinRefusal::Refused(Refused::Full) => Self::bad(FULL, "The conference is full"),
            JoinRefusal::Refused(Refused::LabelInUse) => Self::bad(LABEL_IN_USE, "Another participant has this label"),
            JoinRefusal::NoLegToCoach => Self::bad(COACHED_IS_ABSENT, "The call to coach is not in the conference"),
            JoinRefusal::CoachedIsOnHold => Self::bad(COACHED_IS_HELD, "The call to coach is on hold"),
        }
    }
}

async fn participant(x: &RestContext<'_>, info: &ConferenceInfo, name: &str, verb: Verb) -> Answer {
    let seen = x.services().conferences.get(&x.account.name, info.id);
    let there = seen.map(|seen| seen.participants).unwrap_or_default();
    let named = |member: &ParticipantInfo| match x.ids().parse_call(name) {
        Some(leg) => member.leg == leg,
        None => member.participation.label.as_deref() == Some(name),
    };
    let member = there.into_iter().find(named).ok_or_else(|| x.not_found())?;
    match verb {
        Verb::Get => Ok(ok(represent(x, info, &member).await?)),
        Verb::Post => change(x, info, &member).await,
        Verb::Delete => {
            operations::remove(&x.app.calls, &member).await.map_err(|refused| x.refused(refused))?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        Verb::Other => Err(ApiError::method_not_allowed(allow::GET_POST_DELETE)),
    }
}

async fn change(x: &RestContext<'_>, info: &ConferenceInfo, member: &ParticipantInfo) -> Answer {
    let parameters = x.parameters;
    let held = request::target_by_get(parameters, "HoldUrl", "HoldMethod")?;
    let change = Change {
        muted: is_true(parameters, "Muted"),
        hold: is_true(parameters, "Hold").map(|hold| hold.then(|| held.map_or(Wait::Music, Wait::Document))),
        wait: waits(parameters)?,
        ends: is_true(parameters, "EndConferenceOnExit"),
        beep_on_exit: is_true(parameters, "BeepOnExit"),
        coach: coach(parameters, member.participation.coach.as_ref())?,
        ..Change::default()
    };
    let announcement = parameters.target("AnnounceUrl", "AnnounceMethod", 20001)?;
    let changed = operations::change(&x.app.calls, &x.account.name, info.id, member.leg, change).await;
    changed.map_err(|why| match why {
        ChangeError::CannotCoach(why) => why.into(),
        ChangeError::Refused(refused) => x.refused(refused),
    })?;
    if let Some(target) = announcement
        && !x.services().conferences.announce(info.id, Some(member.leg), target)
    {
        return Err(ApiError::bad(NO_CONFERENCE, "The participant is not in the conference"));
    }
    let after = history::participant(&x.services().conferences, &x.account.name, info.id, member.leg).await?;
    Ok(ok(represent(x, info, after.as_ref().unwrap_or(member)).await?))
}

// ----- recordings -----------------------------------------------------------------------------------------------------

async fn recordings(x: &RestContext<'_>, info: &ConferenceInfo, below: &[&str]) -> Answer {
    let name = match below {
        [] => {
            return match x.verb {
                Verb::Get => list_recordings(x, info).await,
                Verb::Post => record(x, info),
                _ => Err(ApiError::method_not_allowed(allow::GET_POST)),
            };
        }
        [name] => *name,
        _ => return Err(x.not_found()),
    };
    let recording = of_conference(x, info, name).await?;
    match x.verb {
        Verb::Get => Ok(ok(recording::conference_recording(x.owner(), &x.app.public_url, &recording))),
        Verb::Post => update_recording(x, info, &recording),
        Verb::Delete => recordings::delete(x, &recording).await,
        Verb::Other => Err(ApiError::method_not_allowed(allow::GET_POST_DELETE)),
    }
}

fn streams(x: &RestContext<'_>, info: &ConferenceInfo, below: &[&str]) -> Answer {
    let conferences = &x.services().conferences;
    let ((id, name), status) = match x.started_or_stopped(below)? {
        StartOrStop::Start => {
            live(info)?;
            // The mix of a conference is a single track.
            let spec = StreamSpec { track: Track::Inbound, ..request::stream(x.parameters)? };
            let name = spec.name.clone();
            let id = conferences.stream(info.id, spec).map_err(|why| match why {
                Refused::Full => x.refused(command::Refused::TooMany),
                _ => ApiError::bad(NO_CONFERENCE, "The conference has ended"),
            })?;
            ((id, name), "in-progress")
        }
        StartOrStop::Stop(name) => {
            let which = x.ids().parse_stream(name).ok_or(name);
            (conferences.stop_stream(info.id, which).ok_or_else(|| x.not_found())?, "stopped")
        }
    };
    Ok(ok(recording::conference_stream(x.owner(), info.id, id, name.as_deref(), status, Timestamp::now())))
}

async fn list_recordings(x: &RestContext<'_>, info: &ConferenceInfo) -> Answer {
    let paging = x.paging("RE")?;
    let started = list::range_to(x.parameters, "DateCreated")?;
    let filter = RecordingFilter { session: Some(CallId(info.id.0)), started, ..RecordingFilter::default() };
    let found = x.app.recordings.list(&x.account.name, &filter, paging.page()).await?;
    let represent = |facts: &Recording| {
        (x.ids().recording(facts.id), recording::conference_recording(x.owner(), &x.app.public_url, facts))
    };
    let name = format!("Conferences/{}/Recordings", x.ids().conference(info.id));
    Ok(ok(x.list("recordings", &name, &paging, found.iter().map(represent).collect())))
}

fn record(x: &RestContext<'_>, info: &ConferenceInfo) -> Answer {
    live(info)?;
    let spec = request::recording(x.parameters, RecordingSource::ConferenceRequest, false)?;
    let recording = x.services().conferences.record(info.id, spec);
    let recording = recording.ok_or_else(|| ApiError::bad(21220, "The conference cannot be recorded now"))?;
    x.warn(ProblemOwner::Account(&x.account.name), None, request::recording_warnings(x.parameters));
    let body = recording::conference_recording(x.owner(), &x.app.public_url, &recording);
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// Finds a recording of the conference by its SID. `Twilio.CURRENT` means the only running recording. If several
/// recordings are running, the request fails with error 16108.
async fn of_conference(x: &RestContext<'_>, info: &ConferenceInfo, name: &str) -> Result<Recording, ApiError> {
    let mut running = x.services().conferences.recordings(info.id);
    if name == "Twilio.CURRENT" {
        return match (running.pop(), running.is_empty()) {
            (Some(recording), true) => Ok(recording),
            (Some(_), false) => Err(ApiError::bad(16108, "Several recordings of this conference are active")),
            (None, _) => Err(x.not_found()),
        };
    }
    let id = x.ids().parse_recording(name).ok_or_else(|| x.not_found())?;
    if let Some(recording) = running.into_iter().find(|one| one.id == id) {
        return Ok(recording);
    }
    let stored = x.app.recordings.get(&x.account.name, id).await?;
    stored.filter(|recording| recording.conference == Some(info.id)).ok_or_else(|| x.not_found())
}

fn update_recording(x: &RestContext<'_>, info: &ConferenceInfo, before: &Recording) -> Answer {
    let conferences = &x.services().conferences;
    let (after, status) = match request::recording_update(x.parameters)? {
        RecordingUpdate::Pause(gap) => (conferences.pause(info.id, before.id, Some(gap)), "paused"),
        RecordingUpdate::Resume => (conferences.pause(info.id, before.id, None), "in-progress"),
        RecordingUpdate::Stop => (conferences.stop(info.id, before.id), "stopped"),
    };
    let after = after.map_err(|_| ApiError::bad(21220, "The recording is not in progress."))?;
    let mut body = recording::conference_recording(x.owner(), &x.app.public_url, &after);
    // The answer has the requested status even if the recording's file is not closed yet.
    if let (RecordingStatus::InProgress | RecordingStatus::Paused, Some(fields)) = (&after.status, body.as_object_mut())
    {
        fields.insert("status".into(), status.into());
    }
    Ok(ok(body))
}
