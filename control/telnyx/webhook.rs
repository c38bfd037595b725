//! Webhooks: a call event in Telnyx's format, and one signed attempt to deliver a webhook.
//!
//! `notice` builds the `data` object without its `id`. [`sign()`] adds the `id` and the `meta` object of the attempt.
//! So the signed bytes are exactly the bytes that are sent.

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tandem_accounts::Account;
use tandem_call::Method;
use tandem_call::address::Address;
use tandem_call::event::{CallEvent, EventKind, GatherEnd, Playback, PlaybackEnd, ReferState};
use tandem_call::leg::{Attestation, Direction, EndCause, EndedBy, LegEnd, LegInfo, Quality, Verstat};
use tandem_call::program::instruction::AudioSource;
use tandem_call::queue::{QueueOutcome, QueuePosition, QueueResult};
use tandem_call::recognition::RecognisedText;
use tandem_call::recording::{Recording, RecordingChannels, RecordingFormat, RecordingStatus, Track};
use tandem_call::siprec::SiprecStatus;
use tandem_call::stream::{StreamFacts, StreamSpec, StreamStatus, StreamTransport};
use tandem_call::transcription::{Transcript, TranscriptState, TranscriptionStatus};
use tandem_dialect::form::{encoded, with_query};
use tandem_dialect::{Context, Notice, Signing};
use tandem_webhooks::{Body, SignInput, SignedRequest};

use super::{agent, id, machine_detection, sign, time};

/// The codecs of this server, in the order of this server's SDP offers.
const OUR_CODECS: &str = "PCMU,PCMA";

/// The webhooks for a call event. The list is empty if Telnyx has no webhook for this event, or if the leg has no webhook
/// URL.
pub(super) fn notices(event: &CallEvent, context: &Context) -> Vec<Notice> {
    let notice = |(event_type, payload)| of_leg(&event.leg, event_type, event.at, payload);
    payloads(event, context).into_iter().filter_map(notice).collect()
}

/// The webhook for a leg whose far end holds the call, or takes it up again.
pub(super) fn held(leg: &LegInfo, held: bool, at: Timestamp) -> Option<Notice> {
    let event_type = if held { "call.hold" } else { "call.unhold" };
    of_leg(leg, event_type, at, merged(common(leg), parties(leg, json!({}))))
}

/// The webhook for an event of a leg. The webhook goes to the webhook URL of the leg. `None` if the leg has no webhook
/// URL.
pub(super) fn of_leg(leg: &LegInfo, event_type: &'static str, at: Timestamp, payload: Value) -> Option<Notice> {
    let callback = leg.status_callback.as_ref()?;
    let data = json!({
        "record_type": "event",
        "event_type": event_type,
        "occurred_at": time(at),
        "payload": payload,
    });
    Some(Notice {
        event: event_type.into(),
        target: callback.target_of(event_type).clone(),
        failover: callback.failover.clone(),
        body: Body::Json(data),
        numbered: false,
    })
}

/// Builds one attempt: the envelope as bytes, and the signature of the envelope. A GET has the payload in the query,
/// and the signature covers an empty body. Webhooks of an account without a valid seed are not signed. The applications
/// of such an account refuse these webhooks and report why.
pub fn sign(account: &Account, notice: &SignInput<'_>) -> SignedRequest {
    let url = notice.url.split('#').next().unwrap_or(notice.url);
    let (url, content_type, body) = match (notice.method, notice.body) {
        (Method::Get, Body::Json(data)) => (with_query(url, &flattened(data, notice.id)), None, Vec::new()),
        (Method::Get, Body::Form(pairs)) => (with_query(url, pairs), None, Vec::new()),
        (Method::Post, Body::Json(data)) => (url.to_owned(), Some("application/json"), envelope(data, notice)),
        (Method::Post, Body::Form(pairs)) => {
            (url.to_owned(), Some("application/x-www-form-urlencoded"), encoded(pairs).into_bytes())
        }
    };
    let mut headers = vec![("User-Agent".to_owned(), "telnyx-webhooks".to_owned())];
    headers.extend(content_type.map(|content_type| ("Content-Type".to_owned(), content_type.to_owned())));
    match account.telnyx.as_ref().map(|credentials| sign::headers(credentials, notice.now, &body)) {
        Some(Ok(signature)) => headers.extend(signature),
        Some(Err(error)) => tracing::error!(account = %account.name, %error, "webhook sent unsigned"),
        None => {
            tracing::error!(account = %account.name, "webhook sent unsigned: the account has no Telnyx credentials");
        }
    }
    SignedRequest { url, headers, body: Bytes::from(body) }
}

/// Describes the signatures of [`sign()`].
pub fn signing(account: &Account) -> Option<Signing> {
    let key = sign::public_key(account.telnyx.as_ref()?).ok()?;
    let check = format!(
        "telnyx-signature-ed25519 is the base64 of the Ed25519 signature of `timestamp|body`. The URL is not signed. Your \
         application must check the body as received, before it parses the JSON, with the public key {key}: compare \
         TELNYX_PUBLIC_KEY. Telnyx's Python library needs PyNaCl for the check: pip install 'telnyx[webhooks]'."
    );
    Some(Signing { key: format!("the Ed25519 key whose public key is {key}"), covers_url: false, check })
}

/// The URL of a recording's audio. A download needs no credentials, because the URL itself is secret.
pub(super) fn download_url(public_url: &str, recording: &Recording) -> String {
    format!("{public_url}/v2/recordings/{}/download.{}", id::uuid(recording.id.0), format(recording.spec.format))
}

/// Telnyx's word for a recording's file format.
pub(super) fn format(format: RecordingFormat) -> &'static str {
    match format {
        RecordingFormat::Wav => "wav",
        RecordingFormat::Mp3 => "mp3",
    }
}

/// Telnyx's word for a recording's channels.
pub(super) fn channels(channels: RecordingChannels) -> &'static str {
    match channels {
        RecordingChannels::Mono => "single",
        RecordingChannels::Dual => "dual",
    }
}

/// The event types and the payloads of the webhooks for a call event.
pub(super) fn payloads(event: &CallEvent, context: &Context) -> Vec<(&'static str, Value)> {
    let all = match &event.kind {
        EventKind::Conversation(facts) => agent::event_types_and_payloads(&event.leg, facts),
        _ => payload(event, context).into_iter().collect(),
    };
    all.into_iter().map(|(event_type, extra)| (event_type, merged(common(&event.leg), extra))).collect()
}

/// The event type and the payload of the only webhook for a call event. The payload has only the members that are specific
/// to the event.
fn payload(event: &CallEvent, context: &Context) -> Option<(&'static str, Value)> {
    let leg = &*event.leg;
    let (event_type, extra) = match &event.kind {
        EventKind::Initiated => ("call.initiated", initiated(leg)),
        EventKind::Answered { stream } => ("call.answered", answered(leg, stream.as_deref())),
        EventKind::Ended => ("call.hangup", hangup(leg)),
        EventKind::DtmfReceived { digit } => {
            ("call.dtmf.received", parties(leg, json!({ "digit": digit.to_string() })))
        }
        EventKind::PlaybackStarted(playback) => match kind(playback)? {
            Audio::Speech => ("call.speak.started", json!({})),
            Audio::File => ("call.playback.started", file(playback)),
        },
        EventKind::PlaybackEnded(playback, end) => match kind(playback)? {
            Audio::Speech => ("call.speak.ended", speak_ended(end)),
            Audio::File => ("call.playback.ended", merged(file(playback), playback_ended(end))),
        },
        EventKind::GatherEnded { digits, end, id, .. } => {
            let mut extra = parties(leg, json!({ "digits": digits, "status": gather_status(*end) }));
            if let (Some(id), Some(extra)) = (id, extra.as_object_mut()) {
                extra.insert("gather_id".into(), json!(id));
            }
            ("call.gather.ended", extra)
        }
        EventKind::Bridged { .. } => ("call.bridged", parties(leg, json!({}))),
        EventKind::Recording(recording) => match &recording.status {
            _ if recording.has_audio() => ("call.recording.saved", recording_saved(recording, context)),
            RecordingStatus::Completed => ("call.recording.saved", recording_saved(recording, context)),
            RecordingStatus::Failed(_) => ("call.recording.error", json!({ "reason": "Internal server error" })),
            RecordingStatus::InProgress | RecordingStatus::Paused | RecordingStatus::Absent => return None,
        },
        EventKind::Stream(facts) => streaming(facts),
        EventKind::Refer(facts) => {
            let event_type = match facts.state {
                ReferState::Started => "call.refer.started",
                ReferState::Completed => "call.refer.completed",
                ReferState::Failed => "call.refer.failed",
            };
            let status = facts.progress.or(facts.answer).unwrap_or(100);
            (event_type, parties(leg, json!({ "sip_notify_response": status })))
        }
        EventKind::Enqueued { queue, .. } => ("call.enqueued", enqueued(queue, context.queue.as_ref())),
        EventKind::Dequeued(outcome) => ("call.dequeued", dequeued(outcome, context.queue.as_ref())?),
        EventKind::MachineDetected(facts) => {
            let (event_type, result) = machine_detection::event_type_and_result(facts)?;
            (event_type, parties(leg, json!({ "result": result })))
        }
        EventKind::Siprec(facts) => match &facts.status {
            SiprecStatus::Started => ("siprec.started", json!({})),
            SiprecStatus::Stopped => ("siprec.stopped", json!({ "hangup_cause": "normal_clearing" })),
            SiprecStatus::Failed(why) => ("siprec.failed", json!({ "failure_cause": why.detail })),
            SiprecStatus::Paused | SiprecStatus::Resumed => return None,
        },
        EventKind::Transcription(facts) => match &facts.status {
            TranscriptionStatus::Recognised { track, words, is_final } => {
                ("call.transcription", transcription_payload(*track, words, *is_final))
            }
            _ => return None,
        },
        EventKind::Transcribed(transcript) => ("call.recording.transcription.saved", transcribed(leg, transcript)?),
        EventKind::Ringing { .. }
        | EventKind::Unbridged
        | EventKind::ConferenceJoined(_)
        | EventKind::ConferenceLeft(_)
        | EventKind::Conversation(_)
        | EventKind::Dialed(_)
        | EventKind::FetchFailed { .. }
        | EventKind::GatherPartial { .. }
        | EventKind::EngineFailed(_)
        | EventKind::Apologised
        | EventKind::Unsupported(_)
        | EventKind::Warned(_) => return None,
    };
    Some((event_type, extra))
}

pub(super) fn common(leg: &LegInfo) -> Value {
    json!({
        "call_control_id": id::call_control_id(leg.id),
        "call_leg_id": id::uuid(leg.id.0),
        "call_session_id": id::uuid(leg.session.0),
        "client_state": leg.client_state,
        "connection_id": leg.application,
    })
}

pub(super) fn parties(leg: &LegInfo, extra: Value) -> Value {
    merged(json!({ "from": leg.from.to_string(), "to": leg.to.to_string() }), extra)
}

/// The standard SIP header fields that applications receive. If an event contained any other standard header field, a
/// client library of Telnyx would parse the event as another type.
const SIP_HEADERS: [&str; 2] = ["User-to-User", "Diversion"];

/// The members that the events `call.initiated`, `call.answered` and `call.hangup` share.
fn signalled(leg: &LegInfo, state: &str) -> Value {
    let named = |name_of: fn(&str) -> Option<&str>| -> Vec<Value> {
        let own = leg.sip.headers.iter().filter_map(|(name, value)| Some((name_of(name)?, value)));
        own.map(|(name, value)| json!({ "name": name, "value": value })).collect()
    };
    let extra = json!({
        "state": state,
        "start_time": time(leg.created_at),
        "custom_headers": named(|name| name.get(..2).filter(|head| head.eq_ignore_ascii_case("x-")).and(Some(name))),
        "sip_headers": named(|name| SIP_HEADERS.into_iter().find(|known| name.eq_ignore_ascii_case(known))),
        "tags": [],
    });
    parties(leg, extra)
}

fn initiated(leg: &LegInfo) -> Value {
    let (direction, state) = match leg.direction {
        Direction::Inbound => ("incoming", "parked"),
        Direction::OutboundApi | Direction::OutboundDial => ("outgoing", "bridging"),
    };
    let offered = match leg.direction {
        Direction::Inbound => leg.sip.offered_codecs.join(",").to_uppercase(),
        Direction::OutboundApi | Direction::OutboundDial => OUR_CODECS.to_owned(),
    };
    let caller_name = leg.caller_name.clone().unwrap_or_else(|| leg.from.user().into_owned());
    let identity = leg.sip.identity.as_deref();
    let extra = json!({
        "direction": direction,
        "caller_id_name": caller_name,
        "offered_codecs": offered,
        "connection_codecs": OUR_CODECS,
        "shaken_stir_attestation": identity.and_then(|one| one.attestation).map(Attestation::letter),
        "shaken_stir_validated": identity.is_some_and(|one| one.verstat == Verstat::Passed),
        "call_screening_result": null,
    });
    merged(signalled(leg, state), extra)
}

/// The payload of `call.answered`. If the answer starts a stream, the payload has the stream's URL and track.
fn answered(leg: &LegInfo, stream: Option<&StreamSpec>) -> Value {
    let stream = stream.map(|spec| json!({ "stream_url": spec.url, "stream_track": track(spec.track) }));
    merged(signalled(leg, "answered"), stream.unwrap_or(Value::Null))
}

fn track(track: Track) -> &'static str {
    match track {
        Track::Inbound => "inbound_track",
        Track::Outbound => "outbound_track",
        Track::Both => "both_tracks",
    }
}

fn hangup(leg: &LegInfo) -> Value {
    let end = leg.end.as_ref();
    let extra = json!({
        "hangup_cause": end.map_or("unspecified", |end| hangup_cause(end.cause)),
        "hangup_source": end.map_or("unknown", |end| hangup_source(leg.direction, end.by)),
        "sip_hangup_cause": end.map_or_else(|| "unspecified".into(), |end| sip_hangup_cause(end, leg.answered_at.is_some())),
        "call_quality_stats": leg.sip.quality.as_ref().map(quality),
        "duration_seconds": end.map_or(0, |end| leg.duration(end.at).as_secs()),
    });
    merged(signalled(leg, "hangup"), extra)
}

/// Telnyx's word for the cause of a call's end.
pub fn hangup_cause(cause: EndCause) -> &'static str {
    match cause {
        EndCause::NormalClearing => "normal_clearing",
        EndCause::OriginatorCancel => "originator_cancel",
        EndCause::Rejected => "call_rejected",
        EndCause::Busy => "user_busy",
        EndCause::Timeout => "timeout",
        EndCause::NoAnswer => "no_answer",
        EndCause::NotFound => "not_found",
        EndCause::TimeLimit => "time_limit",
        EndCause::Failed | EndCause::Unspecified => "unspecified",
    }
}

/// Telnyx's word for the party that ended the call. For an inbound leg, the far end is the caller. For an outbound leg,
/// the far end is the callee.
pub fn hangup_source(direction: Direction, by: EndedBy) -> &'static str {
    let inbound = direction == Direction::Inbound;
    match by {
        EndedBy::FarEnd if inbound => "caller",
        EndedBy::FarEnd => "callee",
        EndedBy::Application | EndedBy::OtherLeg if inbound => "callee",
        EndedBy::Application | EndedBy::OtherLeg => "caller",
        EndedBy::Server => "unknown",
    }
}

/// The SIP status in digits. The end of an answered call has no SIP status, so the value is 200, the status of the
/// answer. A call that was cancelled before the answer has the status 487 (RFC 3261 §9.2).
pub fn sip_hangup_cause(end: &LegEnd, answered: bool) -> String {
    match (end.sip_status, end.cause) {
        (Some(status), _) => status.to_string(),
        (None, EndCause::NormalClearing) if answered => "200".into(),
        (None, EndCause::NormalClearing | EndCause::OriginatorCancel) => "487".into(),
        (None, _) => "unspecified".into(),
    }
}

/// `call_quality_stats`: the measured quality of the call's audio.
pub fn quality(quality: &Quality) -> Value {
    json!({
        "inbound": {
            "jitter_max_variance": format!("{:.2}", quality.jitter_ms),
            "jitter_packet_count": "0",
            "mos": quality.mos.map(|mos| format!("{mos:.2}")),
            "packet_count": quality.packets_in.to_string(),
            "skip_packet_count": quality.lost.to_string(),
        },
        "outbound": {
            "packet_count": quality.packets_out.to_string(),
            "skip_packet_count": "0",
        },
    })
}

enum Audio {
    Speech,
    File,
}

/// The kind of events that this audio causes. The spoken prompt of a gather has no events, but a prompt from a file has
/// events. Tones, silence and music have no events, because this server generates such audio.
fn kind(playback: &Playback) -> Option<Audio> {
    match playback.source {
        AudioSource::Speech(_) => (!playback.prompt).then_some(Audio::Speech),
        AudioSource::Url(_) | AudioSource::UncachedUrl(_) | AudioSource::Inline(_) | AudioSource::Stored(_) => {
            Some(Audio::File)
        }
        AudioSource::Tone(_) | AudioSource::Silence(_) | AudioSource::Music => None,
    }
}

fn file(playback: &Playback) -> Value {
    match &playback.source {
        AudioSource::Url(url) | AudioSource::UncachedUrl(url) => json!({ "media_url": url, "overlay": false }),
        AudioSource::Stored(name) => json!({ "media_name": name, "overlay": false }),
        _ => json!({ "overlay": false }),
    }
}

fn playback_ended(end: &PlaybackEnd) -> Value {
    match end {
        PlaybackEnd::Completed => json!({ "status": "completed", "status_detail": "" }),
        PlaybackEnd::Stopped => json!({ "status": "cancelled", "status_detail": "" }),
        PlaybackEnd::Hangup => json!({ "status": "call_hangup", "status_detail": "" }),
        PlaybackEnd::Missing(detail) => json!({ "status": "file_not_found", "status_detail": detail }),
        PlaybackEnd::Failed(detail) => json!({ "status": "failed", "status_detail": detail }),
    }
}

/// The status of `call.speak.ended`. Telnyx has no word for speech that a command stopped, and no word for speech that
/// could not be synthesised. For stopped speech, the status is `completed`, which is in the published enum. For failed
/// speech, the status is the word that Telnyx uses for files.
fn speak_ended(end: &PlaybackEnd) -> Value {
    match end {
        PlaybackEnd::Completed | PlaybackEnd::Stopped => json!({ "status": "completed" }),
        PlaybackEnd::Hangup => json!({ "status": "call_hangup" }),
        PlaybackEnd::Missing(detail) | PlaybackEnd::Failed(detail) => {
            json!({ "status": "failed", "status_detail": detail })
        }
    }
}

fn gather_status(end: GatherEnd) -> &'static str {
    match end {
        GatherEnd::Valid => "valid",
        GatherEnd::Invalid => "invalid",
        GatherEnd::Timeout => "timeout",
        GatherEnd::Stopped => "cancelled",
        GatherEnd::Hangup => "call_hangup",
    }
}

pub(super) fn recording_saved(recording: &Recording, context: &Context) -> Value {
    let url = download_url(&context.public_url, recording);
    let format = format(recording.spec.format);
    json!({
        "recording_id": id::uuid(recording.id.0),
        "channels": channels(recording.spec.channels),
        "format": format,
        "recording_started_at": time(recording.started_at),
        "recording_ended_at": recording.ended_at.map(time),
        "recording_urls": { format: url },
        "public_recording_urls": { format: url },
    })
}

fn enqueued(queue: &str, position: Option<&QueuePosition>) -> Value {
    json!({
        "queue": queue,
        "current_position": place(position),
        "queue_avg_wait_time_secs": position.map_or(0, |position| position.average.as_secs()),
    })
}

/// The payload of `call.dequeued`. `None` if the call was never in the queue.
fn dequeued(outcome: &QueueOutcome, position: Option<&QueuePosition>) -> Option<Value> {
    let (_, waited) = outcome.waited?;
    let reason = match outcome.result {
        QueueResult::Bridged | QueueResult::RedirectedFromBridge => "bridged",
        QueueResult::Bridging => "bridging-in-process",
        QueueResult::Hangup => "hangup",
        QueueResult::TimedOut => "timeout",
        QueueResult::Left | QueueResult::Redirected | QueueResult::Full | QueueResult::Failed => "leave",
    };
    Some(json!({
        "queue": outcome.name,
        "queue_position": place(position),
        "reason": reason,
        "wait_time_secs": waited.as_secs(),
    }))
}

/// The position in the queue, from 1. A call that is no longer in the queue has no position. For such a call, the
/// result is 1.
fn place(position: Option<&QueuePosition>) -> usize {
    position.map_or(1, |position| position.position)
}

fn transcription_payload(track: Track, words: &RecognisedText, is_final: bool) -> Value {
    let data = json!({
        "transcript": words.text(),
        // If the recogniser reports no confidence, the value is 1, because applications compare the confidence with a
        // threshold.
        "confidence": words.decimal_confidence().unwrap_or(1.0),
        "is_final": is_final,
        "transcription_track": if track == Track::Outbound { "outbound" } else { "inbound" },
    });
    json!({ "transcription_data": data })
}

/// The value of `calling_party_type`. It says whether the far end of the leg is on the telephone network.
pub(super) fn calling_party_type(leg: &LegInfo) -> &'static str {
    let party = if leg.direction == Direction::Inbound { &leg.from } else { &leg.to };
    if matches!(party, Address::Phone(_)) { "pstn" } else { "sip" }
}

/// The payload with the transcription of a recording. `None` if there is no text.
fn transcribed(leg: &LegInfo, transcript: &Transcript) -> Option<Value> {
    let TranscriptState::Completed(words) = &transcript.state else { return None };
    Some(json!({
        "calling_party_type": calling_party_type(leg),
        "recording_id": id::uuid(transcript.recording.id.0),
        "recording_transcription_id": id::uuid(transcript.id.0),
        "status": "completed",
        "transcription_text": words.text(),
    }))
}

fn streaming(facts: &StreamFacts) -> (&'static str, Value) {
    if let StreamTransport::Rtp(_) = facts.spec.transport {
        let event_type = match facts.status {
            StreamStatus::Started => "call.fork.started",
            StreamStatus::Stopped | StreamStatus::Failed(_) => "call.fork.stopped",
        };
        return (event_type, json!({ "stream_type": "decrypted" }));
    }
    match &facts.status {
        StreamStatus::Started => ("streaming.started", json!({ "stream_url": facts.spec.url })),
        StreamStatus::Stopped => ("streaming.stopped", json!({ "stream_url": facts.spec.url })),
        StreamStatus::Failed(why) => {
            tracing::debug!(why.detail, "stream failed");
            let extra = json!({
                "failure_reason": "connection_failed",
                "stream_id": id::uuid(facts.id.0),
                "stream_params": { "stream_url": facts.spec.url, "track": track(facts.spec.track) },
                "stream_type": "websocket",
            });
            ("streaming.failed", extra)
        }
    }
}

pub(super) fn merged(into: Value, extra: Value) -> Value {
    match (into, extra) {
        (Value::Object(mut into), Value::Object(extra)) => {
            into.extend(extra);
            Value::Object(into)
        }
        (into, _) => into,
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    data: Data<'a>,
    meta: Meta<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    record_type: &'a Value,
    event_type: &'a Value,
    id: String,
    occurred_at: &'a Value,
    payload: &'a Value,
}

#[derive(Serialize)]
struct Meta<'a> {
    attempt: u32,
    delivered_to: &'a str,
}

fn envelope(data: &Value, notice: &SignInput<'_>) -> Vec<u8> {
    let envelope = Envelope {
        data: Data {
            record_type: &data["record_type"],
            event_type: &data["event_type"],
            id: id::uuid_v4(notice.id),
            occurred_at: &data["occurred_at"],
            payload: &data["payload"],
        },
        meta: Meta { attempt: notice.attempt, delivered_to: notice.url },
    };
    serde_json::to_vec(&envelope).unwrap_or_default()
}

/// The query parameters of a GET. The members of the event come first, and the members of the payload follow. Objects
/// and lists are written as JSON.
fn flattened(data: &Value, notice: u128) -> Vec<(String, String)> {
    let mut pairs = vec![("id".to_owned(), id::uuid_v4(notice))];
    let mut add = |members: &Map<String, Value>| {
        for (name, value) in members.iter().filter(|(name, _)| *name != "payload") {
            let text = match value {
                Value::Null => continue,
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            pairs.push((name.clone(), text));
        }
    };
    data.as_object().into_iter().for_each(&mut add);
    data["payload"].as_object().into_iter().for_each(&mut add);
    pairs
}

#[cfg(test)]
mod tests;
