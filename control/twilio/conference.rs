//! Conferences and participants: their webhooks (notices) and their REST resources.

use jiff::Timestamp;
use serde_json::{Value, json};
use tandem_call::conference::event::{
    ConferenceEnd, ConferenceEvent, ConferenceEventKind, ConferenceInfo, ConferenceStatus, EndCause, LeftReason,
    ParticipantInfo, ParticipantStatus,
};
use tandem_call::leg::Status;
use tandem_call::recording::Recording;
use tandem_call::{Callback, StatusEvent};
use tandem_dialect::{Context, Notice};
use tandem_history::recordings::file_octets;
use tandem_webhooks::Body;

use super::family::Owner;
use super::path::VERSION;
use super::{format, webhook};

type Parameters = Vec<(String, String)>;

/// The notices of a conference event. Empty if the application did not subscribe to this event.
pub(super) fn notices(owner: Owner<'_>, event: &ConferenceEvent, context: &Context) -> Vec<Notice> {
    let info = &event.conference;
    if let ConferenceEventKind::Recording(facts) = &event.kind {
        let own = webhook::recording(owner, facts, context);
        return own.or_else(|| recorded(owner, info, facts, event.at, context)).into_iter().collect();
    }
    if let ConferenceEventKind::Stream(facts) = &event.kind {
        return webhook::conference_stream(owner, info, facts, event.at).into_iter().collect();
    }
    let Some((status_event, name)) = named(&event.kind) else { return Vec::new() };
    let Some(callback) = info.opening.callback.as_ref().filter(|callback| callback.wants(status_event)) else {
        return Vec::new();
    };
    vec![status(owner, callback, event, name, context)]
}

fn named(kind: &ConferenceEventKind) -> Option<(StatusEvent, &'static str)> {
    Some(match kind {
        ConferenceEventKind::Opened
        | ConferenceEventKind::Entered
        | ConferenceEventKind::Expected(_)
        | ConferenceEventKind::ActiveSpeaker(_)
        | ConferenceEventKind::Played(_)
        | ConferenceEventKind::Recording(_)
        | ConferenceEventKind::Stream(_) => return None,
        ConferenceEventKind::Started => (StatusEvent::Started, "conference-start"),
        ConferenceEventKind::Ended => (StatusEvent::Over, "conference-end"),
        ConferenceEventKind::Joined(_) => (StatusEvent::Joined, "participant-join"),
        ConferenceEventKind::Left { .. } => (StatusEvent::Left, "participant-leave"),
        ConferenceEventKind::Muted(member) if member.participation.muted => (StatusEvent::Muted, "participant-mute"),
        ConferenceEventKind::Muted(_) => (StatusEvent::Muted, "participant-unmute"),
        ConferenceEventKind::Held(member) if member.participation.hold.is_some() => {
            (StatusEvent::Held, "participant-hold")
        }
        ConferenceEventKind::Held(_) => (StatusEvent::Held, "participant-unhold"),
        ConferenceEventKind::Modified(_) => (StatusEvent::Modified, "participant-modify"),
        ConferenceEventKind::Speaks { speaks: true, .. } => (StatusEvent::Speaks, "participant-speech-start"),
        ConferenceEventKind::Speaks { speaks: false, .. } => (StatusEvent::Speaks, "participant-speech-stop"),
        ConferenceEventKind::Announced { failure: None, .. } => (StatusEvent::Announced, "announcement-end"),
        ConferenceEventKind::Announced { .. } => (StatusEvent::Announced, "announcement-fail"),
    })
}

fn status(owner: Owner<'_>, callback: &Callback, event: &ConferenceEvent, name: &str, context: &Context) -> Notice {
    let info = &event.conference;
    let mut parameters: Parameters = [
        ("ConferenceSid", owner.ids.conference(info.id)),
        ("FriendlyName", info.name.to_string()),
        ("AccountSid", owner.sid.into()),
        ("SequenceNumber", context.sequence.to_string()),
        ("Timestamp", format::rfc2822(event.at)),
        ("StatusCallbackEvent", name.into()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let mut push = |name: &str, value: String| parameters.push((name.into(), value));
    match &event.kind {
        ConferenceEventKind::Ended => ended(owner, info.end.as_ref(), &mut push),
        ConferenceEventKind::Joined(member)
        | ConferenceEventKind::Muted(member)
        | ConferenceEventKind::Held(member)
        | ConferenceEventKind::Modified(member)
        | ConferenceEventKind::Speaks { participant: member, .. } => of_participant(owner, member, &mut push),
        ConferenceEventKind::Left { participant, why, call } => {
            of_participant(owner, participant, &mut push);
            push("ParticipantCallStatus", format::status(*call).into());
            push("ReasonParticipantLeft", why_left(*why).into());
        }
        ConferenceEventKind::Announced { url, to, failure } => {
            if let Some(member) = to {
                of_participant(owner, member, &mut push);
            }
            push("AnnounceUrl", url.to_string());
            if let Some(failure) = failure {
                push("ReasonAnnouncementFailed", failure.clone());
            }
        }
        ConferenceEventKind::Opened
        | ConferenceEventKind::Entered
        | ConferenceEventKind::Expected(_)
        | ConferenceEventKind::ActiveSpeaker(_)
        | ConferenceEventKind::Played(_)
        | ConferenceEventKind::Started
        | ConferenceEventKind::Recording(_)
        | ConferenceEventKind::Stream(_) => {}
    }
    webhook::form(name, callback, parameters, true)
}

fn of_participant(owner: Owner<'_>, member: &ParticipantInfo, push: &mut impl FnMut(&str, String)) {
    let how = &member.participation;
    push("CallSid", owner.ids.call(member.leg));
    push("Muted", how.muted.to_string());
    push("Hold", how.hold.is_some().to_string());
    push("Coaching", how.coach.as_ref().is_some_and(|coaching| coaching.on).to_string());
    if let Some(leg) = how.coach.as_ref().and_then(|coaching| coaching.legs.first()) {
        push("CallSidToCoach", owner.ids.call(*leg));
    }
    push("EndConferenceOnExit", how.ends.to_string());
    push("StartConferenceOnEnter", (!how.waits).to_string());
    if let Some(label) = &how.label {
        push("ParticipantLabel", label.to_string());
    }
}

fn ended(owner: Owner<'_>, end: Option<&ConferenceEnd>, push: &mut impl FnMut(&str, String)) {
    let Some(end) = end else { return };
    if let Some(by) = end.by {
        push("CallSidEndingConference", owner.ids.call(by));
    }
    if let Some(label) = &end.label {
        push("ParticipantLabelEndingConference", label.to_string());
    }
    push("ReasonConferenceEnded", why_ended(end.cause).into());
    push(
        "Reason",
        match (end.cause, end.by) {
            (EndCause::Request, _) => "Conference ended via API".into(),
            (EndCause::HostLeft | EndCause::HostRemoved, Some(by)) => {
                format!("Participant {} with endConferenceOnExit=true left the conference", owner.ids.call(by))
            }
            (_, Some(by)) => format!("Last participant {} left the conference", owner.ids.call(by)),
            (_, None) => "Last participant left the conference".into(),
        },
    );
}

/// The `conference-record-end` notice to the conference's `eventCallbackUrl`. This kind of notice is older than
/// recording callbacks. If a recording has its own callback, this server does not send the notice.
fn recorded(
    owner: Owner<'_>,
    info: &ConferenceInfo,
    facts: &Recording,
    at: Timestamp,
    context: &Context,
) -> Option<Notice> {
    let target = info.opening.recorded.as_ref()?;
    if facts.spec.callback.is_some() || !facts.has_audio() {
        return None;
    }
    let recording_sid = owner.ids.recording(facts.id);
    let octets = file_octets(facts).unwrap_or_default();
    let parameters = [
        ("EventName", "conference-record-end".to_owned()),
        ("ConferenceSid", owner.ids.conference(info.id)),
        ("FriendlyName", info.name.to_string()),
        ("AccountSid", owner.sid.into()),
        ("RecordingUrl", owner.recording_url(&context.public_url, &recording_sid)),
        ("Duration", format::recording_seconds(facts).to_string()),
        ("RecordingFileSize", octets.to_string()),
        ("timestamp", format::rfc2822(at)),
    ];
    let body = Body::Form(parameters.map(|(name, value)| (name.to_owned(), value)).into());
    let event = "conference-record-end".into();
    Some(Notice { event, target: target.clone(), failover: None, body, numbered: false })
}

/// The parameters of a conference request that does not concern a call.
pub(super) fn standard(owner: Owner<'_>) -> Parameters {
    vec![("AccountSid".into(), owner.sid.into()), ("ApiVersion".into(), VERSION.into())]
}

/// The Conference resource's `status`.
pub(super) fn status_word(status: ConferenceStatus) -> &'static str {
    match status {
        ConferenceStatus::Waiting => "init",
        // Twilio reports a conference with a single waiting participant as in progress, although `conference-start` has
        // not been sent.
        ConferenceStatus::Gathering | ConferenceStatus::InProgress => "in-progress",
        ConferenceStatus::Completed => "completed",
    }
}

fn why_ended(cause: EndCause) -> &'static str {
    match cause {
        EndCause::Request | EndCause::TimeUp => "conference-ended-via-api",
        EndCause::HostLeft => "participant-with-end-conference-on-exit-left",
        EndCause::HostRemoved => "participant-with-end-conference-on-exit-kicked",
        EndCause::LastRemoved => "last-participant-kicked",
        EndCause::LastLeft | EndCause::Failed => "last-participant-left",
    }
}

fn why_left(why: LeftReason) -> &'static str {
    match why {
        LeftReason::ConferenceEnded => "conference_ended_via_api",
        LeftReason::HostLeft => "moderator_ended_conference",
        LeftReason::Request => "participant_updated_via_api",
        LeftReason::Itself => "participant_hung_up",
        LeftReason::NotReached => "participant_add_failed",
    }
}

/// The Conference resource.
pub(super) fn conference(owner: Owner<'_>, info: &ConferenceInfo) -> Value {
    let sid = owner.ids.conference(info.id);
    let path = owner.path(format_args!("Conferences/{sid}"));
    let end = info.end.as_ref();
    json!({
        "sid": sid,
        "account_sid": owner.sid,
        "api_version": VERSION,
        "friendly_name": info.name,
        "region": info.opening.region.as_deref().unwrap_or("us1"),
        "status": status_word(info.status),
        "date_created": format::rfc2822(info.created_at),
        "date_updated": format::rfc2822(info.updated_at),
        "reason_conference_ended": end.map(|end| why_ended(end.cause)),
        "call_sid_ending_conference": end.and_then(|end| end.by).map(|id| owner.ids.call(id)),
        "uri": format!("{path}.json"),
        "subresource_uris": {
            "participants": format!("{path}/Participants.json"),
            "recordings": format!("{path}/Recordings.json"),
        },
    })
}

/// The Participant resource. `call` is the status of the participant's call, if the status is known.
pub(super) fn participant(
    owner: Owner<'_>,
    info: &ConferenceInfo,
    member: &ParticipantInfo,
    call: Option<Status>,
) -> Value {
    let (conference, call_sid) = (owner.ids.conference(info.id), owner.ids.call(member.leg));
    let path = owner.uri(format_args!("Conferences/{conference}/Participants/{call_sid}"));
    let how = &member.participation;
    let status = match (member.status, call) {
        (ParticipantStatus::Connected, _) => "connected",
        (ParticipantStatus::Left, _) => "complete",
        (ParticipantStatus::Failed, _) => "failed",
        (ParticipantStatus::Expected, Some(Status::Initiated)) => "connecting",
        (ParticipantStatus::Expected, Some(Status::Ringing)) => "ringing",
        (ParticipantStatus::Expected, Some(Status::InProgress)) => "connected",
        (ParticipantStatus::Expected, _) => "queued",
    };
    json!({
        "account_sid": owner.sid,
        "call_sid": call_sid,
        "conference_sid": conference,
        "label": how.label,
        "muted": how.muted,
        "hold": how.hold.is_some(),
        "coaching": how.coach.as_ref().is_some_and(|coaching| coaching.on),
        "call_sid_to_coach": how.coach.as_ref().and_then(|coaching| coaching.legs.first()).map(|leg| owner.ids.call(*leg)),
        "start_conference_on_enter": !how.waits,
        "end_conference_on_exit": how.ends,
        "status": status,
        "queue_time": null,
        "date_created": format::rfc2822(member.created_at),
        "date_updated": format::rfc2822(member.updated_at),
        "uri": path,
    })
}
