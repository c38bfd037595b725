//! The webhooks about calls and jobs. A webhook is JSON for the status URL of an application.

use serde_json::{Value as Json, json};
use tandem_accounts::Account;
use tandem_call::conference::event::{ConferenceEvent, ConferenceEventKind, LeftReason};
use tandem_call::event::{CallEvent, EventKind, GatherEnd, MachineFacts, PlaybackEnd};
use tandem_call::leg::{Direction, LegInfo};
use tandem_call::machine_detection::{DetectionResult, GreetingEnd};
use tandem_call::recognition::RecognisedText;
use tandem_call::recording::{Recording, RecordingChannels, RecordingFormat, RecordingStatus, Track};
use tandem_call::stream::{StreamFacts, StreamStatus, StreamTransport};
use tandem_call::transcription::{TranscriptionFacts, TranscriptionStatus};
use tandem_call::{Callback, StatusEvent};
use tandem_dialect::{Context, Notice};
use tandem_history::recordings::file_octets;
use tandem_webhooks::Body;

use super::facts;
use super::media::{self, direction};
use super::parameters::target_and_control_id;

/// The notices of a call event. Empty if no application has subscribed to this event.
pub(super) fn notices(account: &Account, event: &CallEvent, context: &Context) -> Vec<Notice> {
    let teller = NoticeBuilder { account, event, context };
    let one = match &event.kind {
        EventKind::Initiated => teller.state(StatusEvent::Initiated),
        EventKind::Ringing { .. } => teller.state(StatusEvent::Ringing),
        EventKind::Answered { .. } => teller.state(StatusEvent::Answered),
        EventKind::Ended => teller.state(StatusEvent::Completed),
        EventKind::PlaybackStarted(playback) => playback
            .callback
            .as_deref()
            .filter(|callback| callback.wants(StatusEvent::Initiated))
            .map(|callback| teller.notice(callback, "calling.call.play", json!({ "state": "playing" }))),
        EventKind::PlaybackEnded(playback, end) => {
            let failed = matches!(end, PlaybackEnd::Missing(_) | PlaybackEnd::Failed(_));
            let state = if failed { "error" } else { "finished" };
            let callback = playback.callback.as_deref().filter(|callback| callback.wants(StatusEvent::Completed));
            callback.map(|callback| teller.notice(callback, "calling.call.play", json!({ "state": state })))
        }
        EventKind::GatherEnded { digits, end, terminator, words, callback, .. } => {
            callback.as_deref().map(|callback| {
                let result = collected(digits, *end, *terminator, words.as_deref());
                teller.notice(callback, "calling.call.collect", json!({ "result": result, "final": true }))
            })
        }
        EventKind::Recording(facts) => recording_event(&facts.status).and_then(|status_event| {
            let callback = facts.spec.callback.as_ref().filter(|callback| callback.wants(status_event))?;
            Some(teller.notice(callback, "calling.call.record", recording(account, facts, context)))
        }),
        EventKind::Stream(facts) => facts.spec.callback.as_ref().map(|callback| match facts.spec.transport {
            StreamTransport::Messages => teller.notice(callback, "calling.call.stream", stream(facts)),
            StreamTransport::Octets | StreamTransport::Rtp(_) => {
                teller.notice(callback, "calling.call.tap", tap(facts))
            }
        }),
        EventKind::MachineDetected(facts) => facts
            .spec
            .callback
            .as_ref()
            .map(|callback| teller.notice(callback, "calling.call.detect", json!({ "detect": detected(facts) }))),
        EventKind::Transcription(facts) => facts.spec.callback.as_ref().map(|callback| {
            let (event, body) = transcription(facts);
            teller.notice(callback, event, body)
        }),
        _ => None,
    };
    one.into_iter().collect()
}

struct NoticeBuilder<'a> {
    account: &'a Account,
    event: &'a CallEvent,
    context: &'a Context,
}

impl NoticeBuilder<'_> {
    /// A notice for a callback, with the ids of the call and the job.
    fn notice(&self, callback: &Callback, event: &str, extra: Json) -> Notice {
        let (target, control_id) = target_and_control_id(callback);
        let mut params = facts::ids(&self.event.leg, &self.context.public_url);
        if let Some(control_id) = control_id {
            params.insert("control_id".into(), control_id.into());
        }
        if let Json::Object(extra) = extra {
            params.extend(extra);
        }
        let body = facts::envelope(self.account, Some(&self.event.leg), event, self.event.at, params.into());
        let failover = callback.failover.clone();
        Notice { event: event.to_owned(), target, failover, body: Body::Json(body), numbered: false }
    }

    fn state(&self, status_event: StatusEvent) -> Option<Notice> {
        let leg = &*self.event.leg;
        let callback = leg.status_callback.as_ref().filter(|callback| callback.wants(status_event))?;
        Some(self.notice(callback, "calling.call.state", state(leg, status_event)))
    }
}

fn state(leg: &LegInfo, status_event: StatusEvent) -> Json {
    let state = match status_event {
        StatusEvent::Ringing => "ringing",
        StatusEvent::Answered => "answered",
        StatusEvent::Completed => "ended",
        _ => "created",
    };
    let mut state = json!({
        "call_state": state,
        "direction": facts::direction(leg),
        "device": facts::device(leg),
        "created_by": match leg.direction {
            Direction::Inbound => "receive",
            Direction::OutboundApi => "dial",
            Direction::OutboundDial => "connect",
        },
        "start_time": leg.created_at.as_millisecond(),
        "answer_time": leg.answered_at.map(jiff::Timestamp::as_millisecond),
    });
    if let Some(members) = state.as_object_mut() {
        if let Some(parent) = leg.parent {
            members.insert("parent".into(), json!({ "call_id": super::ids().call(parent) }));
        }
        if let (Some(reason), Some(end), StatusEvent::Completed) = (facts::end_reason(leg), &leg.end, status_event) {
            members.insert("end_reason".into(), reason.into());
            members.insert("end_time".into(), end.at.as_millisecond().into());
        }
    }
    state
}

fn collected(digits: &str, end: GatherEnd, terminator: Option<char>, words: Option<&RecognisedText>) -> Json {
    if let Some(words) = words {
        let confidence = words.decimal_confidence().map(|confidence| (confidence * 1e6).round() / 1e4);
        return json!({ "type": "speech", "params": { "text": words.text(), "confidence": confidence } });
    }
    match end {
        GatherEnd::Valid => json!({
            "type": "digit",
            "params": { "digits": digits, "terminator": terminator.map(String::from).unwrap_or_default() },
        }),
        GatherEnd::Invalid => json!({ "type": "no_match" }),
        GatherEnd::Timeout => json!({ "type": "no_input" }),
        GatherEnd::Stopped | GatherEnd::Hangup => json!({ "type": "finished" }),
    }
}

fn recording_event(status: &RecordingStatus) -> Option<StatusEvent> {
    match status {
        RecordingStatus::InProgress | RecordingStatus::Paused => Some(StatusEvent::InProgress),
        RecordingStatus::Completed | RecordingStatus::Failed(_) => Some(StatusEvent::Completed),
        RecordingStatus::Absent => Some(StatusEvent::Absent),
    }
}

fn recording(account: &Account, recording: &Recording, context: &Context) -> Json {
    let state = match recording.status {
        RecordingStatus::InProgress => "recording",
        RecordingStatus::Paused => "paused",
        _ if recording.has_audio() => "finished",
        RecordingStatus::Completed => "finished",
        RecordingStatus::Absent => "no_input",
        RecordingStatus::Failed(_) => "error",
    };
    let spec = &recording.spec;
    let base = super::recordings(&context.public_url, account);
    let format = if spec.format == RecordingFormat::Mp3 { "mp3" } else { "wav" };
    let (url, id) = (super::recording_url(&base, recording.id, spec.format), super::uuid(recording.id.0));
    let duration = recording.duration.map(|duration| duration.as_secs_f64());
    let audio = json!({
        "format": format,
        "direction": direction(spec.track),
        "stereo": spec.channels == RecordingChannels::Dual,
    });
    let mut facts = json!({
        "state": state,
        "recording_id": id,
        "url": url,
        "start_time": facts::seconds(recording.started_at),
        "record": { "audio": audio, "url": url, "format": format },
    });
    if let (Some(duration), Some(facts)) = (duration, facts.as_object_mut()) {
        let size = file_octets(recording);
        facts.insert("duration".into(), duration.into());
        facts.insert("size".into(), size.into());
        facts.insert("end_time".into(), recording.ended_at.map(facts::seconds).into());
        if let Some(record) = facts.get_mut("record").and_then(Json::as_object_mut) {
            record.insert("duration".into(), duration.into());
            record.insert("size".into(), size.into());
        }
    }
    facts
}

fn stream(facts: &StreamFacts) -> Json {
    let state = if facts.status == StreamStatus::Started { "streaming" } else { "finished" };
    let mut body = json!({ "state": state, "url": facts.spec.url, "name": facts.spec.name });
    if let (StreamStatus::Failed(why), Some(body)) = (&facts.status, body.as_object_mut()) {
        body.insert("error".into(), why.detail.clone().into());
    }
    body
}

fn tap(facts: &StreamFacts) -> Json {
    let spec = &facts.spec;
    let state = if facts.status == StreamStatus::Started { "tapping" } else { "finished" };
    let (codec, ptime) = media::tap_codec(spec);
    let device = match spec.transport {
        StreamTransport::Rtp(form) => {
            let to = form.inbound.or(form.outbound);
            let (addr, port) = (to.map(|to| to.ip().to_string()), to.map(|to| to.port()));
            json!({ "type": "rtp", "params": { "addr": addr, "port": port, "codec": codec, "ptime": ptime } })
        }
        _ => json!({ "type": "ws", "params": { "uri": spec.url, "codec": codec } }),
    };
    let mut body = json!({
        "state": state,
        "tap": { "type": "audio", "params": { "direction": direction(spec.track) } },
        "device": device,
    });
    if let (StreamStatus::Failed(why), Some(body)) = (&facts.status, body.as_object_mut()) {
        body.insert("error".into(), why.detail.clone().into());
    }
    body
}

fn detected(facts: &MachineFacts) -> Json {
    let (event, kind) = match facts.result {
        DetectionResult::Human => ("HUMAN", "machine"),
        DetectionResult::Machine => ("MACHINE", "machine"),
        DetectionResult::GreetingEnded(_) => ("READY", "machine"),
        DetectionResult::Fax => ("CED", "fax"),
        DetectionResult::Silence | DetectionResult::NotSure => ("UNKNOWN", "machine"),
    };
    let mut params = json!({ "event": event });
    if let (DetectionResult::GreetingEnded(GreetingEnd::Beep), Some(params)) = (facts.result, params.as_object_mut()) {
        params.insert("beep".into(), true.into());
    }
    json!({ "type": kind, "params": params })
}

/// The type of a transcription event, and the parameters of the event.
fn transcription(facts: &TranscriptionFacts) -> (&'static str, Json) {
    let role = |track| match track {
        Track::Outbound => "local-caller",
        _ => "remote-caller",
    };
    let id = super::uuid(facts.id.0);
    let body = match &facts.status {
        TranscriptionStatus::FullText(text) => {
            return ("calling.transcript.completed", json!({ "id": id, "text": text }));
        }
        TranscriptionStatus::Failed(why) if facts.spec.at_end => {
            return ("calling.transcript.failed", json!({ "id": id, "error": why }));
        }
        TranscriptionStatus::Started => json!({ "state": "started" }),
        TranscriptionStatus::Recognised { track, words, is_final } => json!({
            "state": "utterance",
            "role": role(*track),
            "text": words.text(),
            "confidence": words.decimal_confidence(),
            "final": is_final,
        }),
        TranscriptionStatus::Stopped => json!({ "state": "finished" }),
        TranscriptionStatus::Failed(why) => json!({ "state": "error", "error": why }),
    };
    ("calling.call.live_transcribe", body)
}

/// The notice of a conference event. `None` if no application subscribed to this event.
pub(super) fn conference(account: &Account, event: &ConferenceEvent, context: &Context) -> Option<Notice> {
    let info = &event.conference;
    let (status_event, status, who) = match &event.kind {
        ConferenceEventKind::Opened
        | ConferenceEventKind::Entered
        | ConferenceEventKind::Expected(_)
        | ConferenceEventKind::ActiveSpeaker(_)
        | ConferenceEventKind::Played(_)
        | ConferenceEventKind::Announced { .. }
        | ConferenceEventKind::Stream(_) => return None,
        ConferenceEventKind::Recording(facts) => {
            let status_event = recording_event(&facts.status)?;
            let callback = facts.spec.callback.as_ref().filter(|callback| callback.wants(status_event))?;
            let mut params = recording(account, facts, context);
            if let Some(params) = params.as_object_mut() {
                let status = if facts.ended_at.is_some() { "record-stop" } else { "record-start" };
                params.insert("status".into(), status.into());
                params.insert("conference_id".into(), super::uuid(info.id.0).into());
                params.insert("name".into(), info.name.to_string().into());
            }
            return Some(conference_notice(account, callback, event, params));
        }
        ConferenceEventKind::Started => (StatusEvent::Started, "conference-start", None),
        ConferenceEventKind::Ended => (StatusEvent::Over, "conference-end", None),
        ConferenceEventKind::Joined(who) => (StatusEvent::Joined, "participant-join", Some(who)),
        ConferenceEventKind::Left { participant, .. } => (StatusEvent::Left, "participant-leave", Some(participant)),
        ConferenceEventKind::Muted(who) if who.participation.muted => {
            (StatusEvent::Muted, "participant-mute", Some(who))
        }
        ConferenceEventKind::Muted(who) => (StatusEvent::Muted, "participant-unmute", Some(who)),
        ConferenceEventKind::Held(who) if who.participation.hold.is_some() => {
            (StatusEvent::Held, "participant-hold", Some(who))
        }
        ConferenceEventKind::Held(who) => (StatusEvent::Held, "participant-unhold", Some(who)),
        ConferenceEventKind::Modified(who) => (StatusEvent::Modified, "participant-modify", Some(who)),
        ConferenceEventKind::Speaks { participant, speaks: true } => {
            (StatusEvent::Speaks, "participant-speech-start", Some(participant))
        }
        ConferenceEventKind::Speaks { participant, .. } => {
            (StatusEvent::Speaks, "participant-speech-stop", Some(participant))
        }
    };
    let callback = info.opening.callback.as_ref().filter(|callback| callback.wants(status_event))?;
    let mut params = json!({ "name": info.name, "conference_id": super::uuid(info.id.0), "status": status });
    if let Some(members) = params.as_object_mut() {
        if let Some(region) = &info.opening.region {
            members.insert("region".into(), region.to_string().into());
        }
        if let Some(who) = who {
            members.insert("call_id".into(), super::ids().call(who.leg).into());
            members.insert("muted".into(), who.participation.muted.into());
            members.insert("hold".into(), who.participation.hold.is_some().into());
            members.insert("start_on_join".into(), (!who.participation.waits).into());
            members.insert("end_on_leave".into(), who.participation.ends.into());
            members.insert("coaching".into(), who.participation.coach.is_some().into());
        }
        if let ConferenceEventKind::Left { why: LeftReason::HostLeft, participant, .. } = &event.kind {
            members.insert("call_id_ending_conf".into(), super::ids().call(participant.leg).into());
        }
        if matches!(event.kind, ConferenceEventKind::Ended) {
            members.insert("reason_ended".into(), "last-participant-left".into());
        }
    }
    Some(conference_notice(account, callback, event, params))
}

fn conference_notice(account: &Account, callback: &Callback, event: &ConferenceEvent, params: Json) -> Notice {
    let body = facts::envelope(account, None, "calling.conference", event.at, params);
    let (target, _) = target_and_control_id(callback);
    let failover = callback.failover.clone();
    Notice { event: "calling.conference".into(), target, failover, body: Body::Json(body), numbered: false }
}
