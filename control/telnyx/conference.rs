//! Webhooks of conferences. An event of a participant goes to the webhook URL of the participant's leg. An event of the
//! whole conference goes to the webhook URL of the first participant.

use serde_json::{Value, json};
use tandem_call::conference::event::{ConferenceEvent, ConferenceEventKind, EndCause, LeftReason, RoomAudio};
use tandem_call::leg::LegInfo;
use tandem_call::program::instruction::AudioSource;
use tandem_dialect::{Context, Notice};

use super::webhook::{common, merged, of_leg, recording_saved};
use super::{NAME, id, time};

/// The webhook for a conference event. `None` if Telnyx has no webhook for this event, or if the leg has no webhook
/// URL.
pub(super) fn notice(event: &ConferenceEvent, context: &Context) -> Option<Notice> {
    // A participant's leg may belong to an application of another provider.
    let leg = event.leg.as_deref().filter(|leg| &*leg.dialect == NAME)?;
    let conference = json!({ "conference_id": id::uuid(event.conference.id.0) });
    let occurred = json!({ "occurred_at": time(event.at) });
    let of_call = || merged(common(leg), conference.clone());
    let (event_type, payload) = match &event.kind {
        ConferenceEventKind::Entered => ("conference.created", merged(of_call(), occurred)),
        ConferenceEventKind::Joined(_) => ("conference.participant.joined", of_call()),
        // A participant that was never connected cannot leave.
        ConferenceEventKind::Left { why: LeftReason::NotReached, .. } => return None,
        ConferenceEventKind::Left { .. } => ("conference.participant.left", of_call()),
        ConferenceEventKind::Ended => {
            let cause = event.conference.end.as_ref().map(|end| end.cause);
            let payload = merged(merged(of_call(), occurred), json!({ "reason": reason(cause) }));
            ("conference.ended", payload)
        }
        ConferenceEventKind::ActiveSpeaker(_) => ("conference.floor.changed", merged(of_call(), occurred)),
        ConferenceEventKind::Played(audio) => {
            let about = if audio.to.is_some() { of_call() } else { merged(whole(leg), conference) };
            let creator = event.first.as_deref().map(|first| id::uuid(first.session.0));
            let about = merged(merged(about, occurred), json!({ "creator_call_session_id": creator }));
            (played(audio)?, merged(about, file(&audio.source)))
        }
        ConferenceEventKind::Recording(recording) if recording.has_audio() => {
            let mut payload = merged(of_call(), recording_saved(recording, context));
            if let Some(payload) = payload.as_object_mut() {
                payload.remove("call_leg_id");
            }
            ("conference.recording.saved", payload)
        }
        ConferenceEventKind::Opened
        | ConferenceEventKind::Expected(_)
        | ConferenceEventKind::Started
        | ConferenceEventKind::Muted(_)
        | ConferenceEventKind::Held(_)
        | ConferenceEventKind::Modified(_)
        | ConferenceEventKind::Speaks { .. }
        | ConferenceEventKind::Announced { .. }
        | ConferenceEventKind::Stream(_)
        | ConferenceEventKind::Recording(_) => return None,
    };
    of_leg(leg, event_type, event.at, payload)
}

/// The payload of an event that concerns the whole conference and not a single call.
fn whole(leg: &LegInfo) -> Value {
    json!({ "connection_id": leg.application })
}

/// The value of `reason` in `conference.ended`. Telnyx has no value for a conference that a request ended. Such a
/// conference has the reason `all_left`.
fn reason(cause: Option<EndCause>) -> &'static str {
    match cause {
        Some(EndCause::HostLeft | EndCause::HostRemoved) => "host_left",
        Some(EndCause::TimeUp) => "time_exceeded",
        Some(EndCause::Request | EndCause::LastLeft | EndCause::LastRemoved | EndCause::Failed) | None => "all_left",
    }
}

/// The event type for played audio. `None` for tones, silence and music, because this server generates such audio.
fn played(audio: &RoomAudio) -> Option<&'static str> {
    let speech = match audio.source {
        AudioSource::Speech(_) => true,
        AudioSource::Url(_) | AudioSource::UncachedUrl(_) | AudioSource::Stored(_) | AudioSource::Inline(_) => false,
        AudioSource::Tone(_) | AudioSource::Silence(_) | AudioSource::Music => return None,
    };
    Some(match (audio.to.is_some(), speech, audio.over) {
        (false, false, false) => "conference.playback.started",
        (false, false, true) => "conference.playback.ended",
        (false, true, false) => "conference.speak.started",
        (false, true, true) => "conference.speak.ended",
        (true, false, false) => "conference.participant.playback.started",
        (true, false, true) => "conference.participant.playback.ended",
        (true, true, false) => "conference.participant.speak.started",
        (true, true, true) => "conference.participant.speak.ended",
    })
}

fn file(source: &AudioSource) -> Value {
    match source {
        AudioSource::Url(url) | AudioSource::UncachedUrl(url) => json!({ "media_url": url }),
        AudioSource::Stored(name) => json!({ "media_name": name }),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tandem_call::conference::ConferenceSettings;
    use tandem_call::conference::event::{ConferenceEnd, ConferenceInfo, ConferenceStatus};
    use tandem_id::ConferenceId;

    use super::*;
    use crate::fixture;
    use tandem_id::AccountName;
    use tandem_webhooks::Body;

    fn webhook_data(leg: LegInfo, kind: ConferenceEventKind, cause: Option<EndCause>) -> Option<(String, Value)> {
        let at = "2026-11-21T02:00:00Z".parse().unwrap();
        let info = ConferenceInfo {
            id: ConferenceId(9),
            account: AccountName::new("acme"),
            dialect: NAME.into(),
            name: "room".into(),
            status: ConferenceStatus::InProgress,
            opening: Arc::new(ConferenceSettings::default()),
            created_at: at,
            updated_at: at,
            end: cause.map(|cause| ConferenceEnd { cause, by: None, label: None }),
            application: None,
        };
        let leg = Some(Arc::new(leg));
        let event = ConferenceEvent { at, conference: Arc::new(info), leg: leg.clone(), first: leg, kind };
        let context = Context { public_url: "http://127.0.0.1".into(), sequence: 0, recording: None, queue: None };
        let notice = notice(&event, &context)?;
        let Body::Json(data) = notice.body else { panic!("JSON") };
        Some((notice.event.clone(), data["payload"].clone()))
    }

    #[test]
    fn the_webhook_of_a_conferences_end_has_its_reason() {
        for (cause, reason) in [
            (EndCause::HostLeft, "host_left"),
            (EndCause::TimeUp, "time_exceeded"),
            (EndCause::LastLeft, "all_left"),
            (EndCause::Request, "all_left"),
        ] {
            let (event, payload) = webhook_data(fixture::leg(), ConferenceEventKind::Ended, Some(cause)).unwrap();
            assert_eq!((&*event, &payload["reason"]), ("conference.ended", &Value::from(reason)));
            assert_eq!(payload["call_control_id"], id::call_control_id(fixture::LEG));
        }
    }

    #[test]
    fn audio_for_all_participants_names_no_call() {
        let source = AudioSource::Url("http://a.test/b.wav".into());
        let audio = RoomAudio { source, to: None, over: false };
        let (event, payload) = webhook_data(fixture::leg(), ConferenceEventKind::Played(audio), None).unwrap();
        assert_eq!((&*event, &payload["media_url"]), ("conference.playback.started", &"http://a.test/b.wav".into()));
        assert_eq!(payload["creator_call_session_id"], id::uuid(fixture::SESSION.0));
        assert!(payload.get("call_control_id").is_none());
    }

    #[test]
    fn a_participant_of_another_dialect_causes_no_telnyx_webhook() {
        let leg = LegInfo { dialect: "other".into(), ..fixture::leg() };
        assert_eq!(webhook_data(leg, ConferenceEventKind::Entered, None), None);
    }
}
