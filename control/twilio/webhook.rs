//! Webhooks about calls, recordings and streams: requests for documents, and callbacks.

use std::time::Duration;

use jiff::Timestamp;
use tandem_call::address::Address;
use tandem_call::conference::event::ConferenceInfo;
use tandem_call::conversation::{ConversationFacts, ConversationStatus};
use tandem_call::event::{CallEvent, DialResult, DialStatus, EventKind, MachineFacts, ReferFacts, ReferState};
use tandem_call::fetch::{Fetch, FetchReason};
use tandem_call::header_fields::HeaderFields;
use tandem_call::leg::{Direction, LegInfo, Status};
use tandem_call::program::instruction::Unsupported;
use tandem_call::queue::{QueueOutcome, QueuePosition, QueueResult};
use tandem_call::recording::{Recording, RecordingChannels, RecordingStatus};
use tandem_call::stream::{StreamFacts, StreamStatus};
use tandem_call::{Callback, StatusEvent, Target};
use tandem_dialect::{Context, Notice};
use tandem_routing::country;
use tandem_sip::Party;
use tandem_webhooks::Body;

use super::family::Owner;
use super::{conference, error, format, siprec, transcription};

/// Error number of a recording that could not be written.
pub(super) const RECORDING_FAILED: u32 = 12400;

pub(super) type Parameters = Vec<(String, String)>;

/// The request for a document.
pub(super) fn fetch(owner: Owner<'_>, fetch: &Fetch, context: &Context) -> Notice {
    let mut status = format::status(fetch.leg.status);
    if matches!(fetch.reason, FetchReason::Recorded { hangup: true, .. }) {
        status = "completed";
    }
    // A document for a whole conference does not concern a single call.
    let mut parameters = match &fetch.reason {
        FetchReason::Conference { all: true, .. } => conference::standard(owner),
        _ => standard(owner, &fetch.leg, status),
    };
    let mut push = |name: &str, value: String| parameters.push((name.into(), value));
    match &fetch.reason {
        FetchReason::Start => answered_by(&fetch.leg, true, &mut push),
        // Documents of these providers have no instructions with the results `CommandExecuted` or `Detected`.
        FetchReason::Redirect
        | FetchReason::Whisper
        | FetchReason::Wait
        | FetchReason::CommandExecuted(_)
        | FetchReason::Detected(_) => {}
        FetchReason::Called { queue, waited, by } => {
            push("QueueSid", owner.ids.queue(*queue));
            push("QueueTime", format::seconds(*waited).to_string());
            // Twilio spells "Dequeuing" like this.
            push("DequeingCallSid", owner.ids.call(*by));
        }
        FetchReason::Queued(outcome) => queued(owner, outcome, &mut push),
        FetchReason::Unsupported(outcome) => outcome.iter().for_each(|(name, value)| push(name, value.clone())),
        FetchReason::Conference { id, name, .. } => {
            push("ConferenceSid", owner.ids.conference(*id));
            push("FriendlyName", name.to_string());
        }
        FetchReason::Gathered { digits, terminator } => {
            push("msg", "Gather End".into());
            push("Digits", digits.clone());
            push("FinishedOnKey", terminator.map(String::from).unwrap_or_default());
            owner.provider.gathered("dtmf", &mut push);
        }
        FetchReason::GatheredSpeech(words) => {
            transcription::recognised(words, &mut push);
            owner.provider.gathered("speech", &mut push);
        }
        FetchReason::Recorded { recording, recorded, key, hangup } => {
            self::recorded(owner, recording, *recorded, context, &mut push);
            let key = key.map(String::from).unwrap_or_default();
            push("Digits", if *hangup { "hangup".into() } else { key });
        }
        FetchReason::Dialed(result) => dialed(owner, result, context, &mut push),
        FetchReason::Connected(facts) => {
            push("StreamSid", owner.ids.stream(facts.id));
            push("StreamName", stream_name(owner, facts));
            if let StreamStatus::Failed(why) = &facts.status {
                push("StreamErrorCode", error::stream_code(why.fault).to_string());
                push("StreamError", why.detail.clone());
            }
        }
        FetchReason::Conversed(facts) => conversed(owner, facts, &mut push),
        FetchReason::Refer(facts) => refer(facts, &mut push),
        FetchReason::Referred { uri, .. } => push("ReferTransferTarget", uri.clone()),
        FetchReason::Fallback { failure, url } => {
            push("ErrorCode", error::failure_code(failure).to_string());
            if let Some(url) = url {
                push("ErrorUrl", url.to_string());
            }
        }
    }
    if let Some(position) = &context.queue {
        stands(owner, position, &mut push);
    }
    Notice {
        event: reason_name(&fetch.reason).into(),
        target: fetch.target.clone(),
        failover: None,
        body: Body::Form(parameters),
        numbered: false,
    }
}

/// The callbacks for a call event. Empty if the application did not subscribe to the event.
pub(super) fn webhook(owner: Owner<'_>, event: &CallEvent, context: &Context) -> Vec<Notice> {
    let leg = &event.leg;
    let notice = match &event.kind {
        EventKind::Initiated => progress(owner, event, StatusEvent::Initiated, "initiated", context),
        EventKind::Ringing { .. } => progress(owner, event, StatusEvent::Ringing, "ringing", context),
        EventKind::Answered { .. } => {
            let words = owner.provider.answered_words().iter().zip(context.sequence..);
            let notice = |(word, sequence): (&&'static str, _)| {
                let context = Context { sequence, ..context.clone() };
                progress(owner, event, StatusEvent::Answered, word, &context)
            };
            return words.filter_map(notice).collect();
        }
        EventKind::Ended => progress(owner, event, StatusEvent::Completed, format::status(leg.status), context),
        EventKind::Recording(facts) => recording(owner, facts, context),
        EventKind::Stream(facts) => stream(owner, ("CallSid", owner.ids.call(leg.id)), facts, event.at),
        EventKind::GatherPartial { words, sequence, callback } => {
            Some(transcription::partial(owner, leg, words, *sequence, callback))
        }
        EventKind::Siprec(facts) => siprec::event(owner, leg, facts, event.at),
        EventKind::Transcription(facts) => transcription::live_event(owner, leg, facts, event.at),
        EventKind::Transcribed(transcript) => transcription::transcribed(owner, leg, transcript, context),
        EventKind::MachineDetected(facts) => machine_detected(owner, leg, facts),
        EventKind::Unsupported(unserved) => payment(owner, leg, unserved),
        _ => None,
    };
    notice.into_iter().collect()
}

/// The callback with the result of a verification call. `verified` is the id of the new verified caller. `None` if the
/// verification failed.
pub(super) fn verification(owner: Owner<'_>, leg: &LegInfo, target: Target, verified: Option<u128>) -> Notice {
    let mut parameters = standard(owner, leg, format::status(leg.status));
    let status = if verified.is_some() { "success" } else { "failed" };
    parameters.push(("VerificationStatus".into(), status.into()));
    parameters.extend(verified.map(|id| ("OutgoingCallerIdSid".into(), owner.ids.spell("PN", id))));
    let (event, body) = ("caller-id-verification".into(), Body::Form(parameters));
    Notice { event, target, failover: None, body, numbered: false }
}

/// The parameters that every request about a call contains.
pub(super) fn standard(owner: Owner<'_>, leg: &LegInfo, status: &str) -> Parameters {
    let (from, to) = (format::address(&leg.from), format::address(&leg.to));
    let mut parameters: Parameters = [
        ("CallSid", owner.ids.call(leg.id)),
        ("AccountSid", owner.sid.into()),
        ("ApiVersion", "2010-04-01".into()),
        ("CallStatus", status.into()),
        ("Direction", format::direction(leg.direction).into()),
        ("From", from.clone()),
        ("To", to.clone()),
        ("Caller", from),
        ("Called", to),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let mut push = |name: String, value: String| parameters.push((name, value));
    for (party, address) in [("From", &leg.from), ("To", &leg.to), ("Caller", &leg.from), ("Called", &leg.to)] {
        let (state, country) = place(address);
        // This server has no data about cities and postal codes, so these values are empty.
        for (part, value) in [("City", ""), ("State", state), ("Zip", ""), ("Country", country)] {
            push(format!("{party}{part}"), value.to_owned());
        }
    }
    if let Some(forwarded_from) = &leg.forwarded_from {
        push("ForwardedFrom".into(), forwarded_from.clone());
    }
    if let Some(caller_name) = &leg.caller_name {
        push("CallerName".into(), caller_name.clone());
    }
    if let Some(parent) = leg.parent {
        push("ParentCallSid".into(), owner.ids.call(parent));
    }
    if let Some(application) = leg.application.as_deref().filter(|id| id.starts_with("AP")) {
        push("ApplicationSid".into(), application.into());
    }
    sip(owner, leg, &mut push);
    handed_over(leg, &mut parameters);
    parameters
}

/// The state and country of a phone number, according to its digits. An unknown state or country is an empty text.
fn place(address: &Address) -> (&'static str, &'static str) {
    let Address::Phone(number) = address else { return ("", "") };
    let number = number.as_str();
    match country::of(number) {
        "ZZ" => ("", ""),
        country => (country::state(number).unwrap_or_default(), country),
    }
}

/// The parameters that this server adds to a request after those of the call. A caller cannot pass values with these
/// names, because many applications read the first value of a name.
const LATER: [&str; 41] = [
    "AnsweredBy",
    "CallDuration",
    "CallbackSource",
    "CallerName",
    "ConferenceSid",
    "Confidence",
    "DialBridged",
    "DialCallDuration",
    "DialCallSid",
    "DialCallStatus",
    "Digits",
    "Duration",
    "ErrorCode",
    "ErrorUrl",
    "FinishedOnKey",
    "ForwardedFrom",
    "MachineDetectionDuration",
    "ParentCallSid",
    "QueueResult",
    "QueueSid",
    "QueueTime",
    "RecordingChannels",
    "RecordingDuration",
    "RecordingSid",
    "RecordingSource",
    "RecordingStatus",
    "RecordingTrack",
    "RecordingUrl",
    "SequenceNumber",
    "SipCallId",
    "SipDomain",
    "SipDomainSid",
    "SipResponseCode",
    "SpeechResult",
    "StirPassportToken",
    "StirVerstat",
    "Timestamp",
    "TranscriptionSid",
    "TranscriptionStatus",
    "TranscriptionText",
    "TranscriptionUrl",
];

/// Adds the parameters that another application or a web page sent when it called this application. These parameters never
/// replace parameters of the call itself, or parameters that are added later.
fn handed_over(leg: &LegInfo, parameters: &mut Parameters) {
    let Some(handover) = leg.handover.as_deref().filter(|_| leg.direction == Direction::Inbound) else { return };
    let customer = handover.customer.iter().map(|customer| ("CustomerId".to_owned(), customer.clone()));
    for (name, value) in customer.chain(handover.parameters.iter().cloned()) {
        if !LATER.contains(&&*name) && !parameters.iter().any(|(known, _)| *known == name) {
            parameters.push((name, value));
        }
    }
}

fn sip(owner: Owner<'_>, leg: &LegInfo, push: &mut impl FnMut(String, String)) {
    if let Some(call_id) = &leg.sip.call_id {
        push("SipCallId".into(), call_id.to_string());
    }
    let ours = if leg.direction == Direction::Inbound { &leg.to } else { &leg.from };
    if let Address::Sip(uri) = ours
        && let Some(party) = Party::of_uri(uri)
    {
        push("SipDomain".into(), party.host());
    }
    if let Some(domain) = &leg.sip.domain {
        push("SipDomainSid".into(), format!("SD{domain}"));
    }
    if leg.direction == Direction::Inbound && matches!(leg.from, Address::Sip(_)) {
        push("SipUsername".into(), leg.from.user().into_owned());
    }
    if leg.direction == Direction::Inbound && matches!(leg.from, Address::Phone(_)) {
        push("CallToken".into(), call_token(owner, leg));
    }
    if let Some(identity) = &leg.sip.identity {
        push("StirVerstat".into(), format::stir_verstat(identity));
        if let Some(token) = &identity.token {
            push("StirPassportToken".into(), token.clone());
        }
    }
    if let Some(source) = leg.sip.source_ip {
        push("SipSourceIp".into(), source.to_string());
    }
    for (name, value) in passed_on(&leg.sip.headers) {
        push(format!("SipHeader_{name}"), value.clone());
    }
}

/// The `CallToken` of a call. An application that forwards the call sends this token. The token has the call's SID and
/// the caller's PASSporT.
fn call_token(owner: Owner<'_>, leg: &LegInfo) -> String {
    let identity = leg.sip.identity.as_deref().and_then(|identity| identity.token.as_deref());
    let tokens: Vec<&str> = identity.into_iter().collect();
    serde_json::json!({ "parentCallInfoToken": owner.ids.call(leg.id), "identityHeaderTokens": tokens }).to_string()
}

/// The SIP header fields that applications receive: `X-*` and `User-to-User`.
fn passed_on(headers: &HeaderFields) -> impl Iterator<Item = &(String, String)> {
    headers.iter().filter(|(name, _)| {
        name.get(..2).is_some_and(|head| head.eq_ignore_ascii_case("X-")) || name.eq_ignore_ascii_case("User-to-User")
    })
}

fn dialed(owner: Owner<'_>, result: &DialResult, context: &Context, push: &mut impl FnMut(&str, String)) {
    push(
        "DialCallStatus",
        match result.status {
            DialStatus::Completed => "completed",
            DialStatus::Answered => "answered",
            DialStatus::Busy => "busy",
            DialStatus::NoAnswer => "no-answer",
            DialStatus::Failed => "failed",
            DialStatus::Canceled => "canceled",
        }
        .into(),
    );
    push("DialBridged", result.bridged.to_string());
    if let Some(child) = result.child {
        push("DialCallSid", owner.ids.call(child));
        if result.answered && !result.taken {
            push("DialCallDuration", format::seconds(result.duration).to_string());
        }
    }
    // A dialled number has no facts about SIP.
    if result.called_uri {
        if let Some(call_id) = &result.sip_call_id {
            push("DialSipCallId", call_id.to_string());
        }
        if let Some(status) = result.sip_status {
            push("DialSipResponseCode", status.to_string());
        }
        for (name, value) in passed_on(&result.sip_headers) {
            push(&format!("DialSipHeader_{name}"), value.clone());
        }
    }
    for (name, value) in &result.returned {
        push(&format!("ReturnParam_{name}"), value.clone());
    }
    if let Some(recording) = &result.recording {
        recorded(owner, recording, recording.duration.unwrap_or_default(), context, push);
    }
}

fn queued(owner: Owner<'_>, outcome: &QueueOutcome, push: &mut impl FnMut(&str, String)) {
    let result = match outcome.result {
        QueueResult::Bridged => "bridged",
        QueueResult::Bridging => "bridging-in-process",
        // Documents of these providers cannot limit the time in a queue. A caller with a timeout is reported like a
        // caller who left the queue.
        QueueResult::Left | QueueResult::TimedOut => "leave",
        QueueResult::Redirected => "redirected",
        QueueResult::RedirectedFromBridge => "redirected-from-bridged",
        QueueResult::Hangup => "hangup",
        QueueResult::Full => "queue-full",
        QueueResult::Failed => "system-error",
    };
    push("QueueResult", result.into());
    if let Some((queue, waited)) = outcome.waited {
        push("QueueSid", owner.ids.queue(queue));
        push("QueueTime", format::seconds(waited).to_string());
    }
}

/// Adds the parameters that are in every request for a caller in a queue.
fn stands(owner: Owner<'_>, position: &QueuePosition, push: &mut impl FnMut(&str, String)) {
    push("QueueSid", owner.ids.queue(position.queue));
    push("QueueTime", format::seconds(position.waited).to_string());
    push("AvgQueueTime", format::seconds(position.average).to_string());
    push("QueuePosition", position.position.to_string());
    push("CurrentQueueSize", position.size.to_string());
    push("MaxQueueSize", position.max_size.to_string());
}

fn conversed(owner: Owner<'_>, facts: &ConversationFacts, push: &mut impl FnMut(&str, String)) {
    if let Some(own) = owner.provider.conversed(facts) {
        own.into_iter().for_each(|(name, value)| push(name, value));
        return;
    }
    let status = match facts.status {
        ConversationStatus::Ended(_) => "ended",
        ConversationStatus::Started
        | ConversationStatus::Utterance(_)
        | ConversationStatus::PartialResult(_)
        | ConversationStatus::Completed => "completed",
        ConversationStatus::Failed { .. } => "failed",
    };
    push("SessionId", owner.ids.conversation(facts.id));
    push("SessionStatus", status.into());
    push("SessionDuration", facts.duration.as_secs().to_string());
    match &facts.status {
        ConversationStatus::Ended(Some(handoff)) => push("HandoffData", handoff.clone()),
        ConversationStatus::Failed { after_start, .. } => {
            let (code, message) = error::conversation(*after_start);
            push("ErrorCode", code.to_string());
            push("ErrorMessage", message.into());
        }
        _ => {}
    }
}

fn refer(facts: &ReferFacts, push: &mut impl FnMut(&str, String)) {
    let status = match (facts.state, facts.progress.or(facts.answer)) {
        (ReferState::Completed | ReferState::Started, _) => "in-progress",
        (ReferState::Failed, Some(486 | 600)) => "busy",
        (ReferState::Failed, Some(408 | 480)) => "no-answer",
        (ReferState::Failed, Some(487)) => "canceled",
        (ReferState::Failed, _) => "failed",
    };
    push("ReferCallStatus", status.into());
    if let Some(answer) = facts.answer {
        push("ReferSipResponseCode", answer.to_string());
    }
    if let Some(progress) = facts.progress {
        push("NotifySipResponseCode", progress.to_string());
    }
}

fn recorded(
    owner: Owner<'_>,
    recording: &Recording,
    length: Duration,
    context: &Context,
    push: &mut impl FnMut(&str, String),
) {
    let sid = owner.ids.recording(recording.id);
    push("RecordingUrl", owner.recording_url(&context.public_url, &sid));
    push("RecordingSid", sid);
    push("RecordingDuration", format::seconds(length).to_string());
}

fn progress(
    owner: Owner<'_>,
    event: &CallEvent,
    status_event: StatusEvent,
    status: &'static str,
    context: &Context,
) -> Option<Notice> {
    let leg = &event.leg;
    let callback = leg.status_callback.as_ref().filter(|callback| callback.wants(status_event))?;
    let mut parameters = standard(owner, leg, status);
    let mut push = |name: &str, value: String| parameters.push((name.into(), value));
    push("Timestamp", format::rfc2822(event.at));
    push("CallbackSource", "call-progress-events".into());
    push("SequenceNumber", context.sequence.to_string());
    if status_event == StatusEvent::Completed {
        let duration = format::seconds(leg.duration(event.at));
        push("CallDuration", duration.to_string());
        push("Duration", duration.div_ceil(60).to_string());
        // Only an outbound leg has a final response to an INVITE of this server.
        if let Some(response) = final_response(leg).filter(|_| leg.direction != Direction::Inbound) {
            push("SipResponseCode", response.to_string());
        }
        answered_by(leg, false, &mut push);
        if let Some(facts) = context.recording.as_ref().filter(|facts| facts.has_audio()) {
            recorded(owner, facts, facts.duration.unwrap_or_default(), context, &mut push);
        }
    }
    owner.provider.progress(leg, status_event == StatusEvent::Completed, &mut push);
    Some(form(status, callback, parameters, true))
}

/// Returns the status of the final response to the INVITE of a leg. A leg that this server has cancelled gets 487, because
/// this is the response to a cancelled INVITE (RFC 3261 §9.2). The leg ends before this response arrives.
fn final_response(leg: &LegInfo) -> Option<u16> {
    let cancelled = matches!(leg.status, Status::NoAnswer | Status::Canceled);
    leg.final_response().or_else(|| cancelled.then_some(487))
}

pub(super) fn recording(owner: Owner<'_>, facts: &Recording, context: &Context) -> Option<Notice> {
    let (status_event, status) = match &facts.status {
        RecordingStatus::InProgress => (StatusEvent::InProgress, "in-progress"),
        RecordingStatus::Paused => return None,
        RecordingStatus::Completed => (StatusEvent::Completed, "completed"),
        RecordingStatus::Absent => (StatusEvent::Absent, "absent"),
        // The error code says that the rest of the audio is missing.
        RecordingStatus::Failed(_) if facts.has_audio() => (StatusEvent::Completed, "completed"),
        RecordingStatus::Failed(_) => (StatusEvent::Absent, "failed"),
    };
    // A failure also ends the wait of an application that waits only for `completed`.
    let is_subscribed = |callback: &&Callback| {
        callback.wants(status_event) || (status == "failed" && callback.wants(StatusEvent::Completed))
    };
    let callback = facts.spec.callback.as_ref().filter(is_subscribed)?;
    let failed = matches!(facts.status, RecordingStatus::Failed(_));
    let sid = owner.ids.recording(facts.id);
    let mut parameters: Parameters = [
        ("RecordingSource", format::recording_source(facts.spec.source).into()),
        ("RecordingUrl", owner.recording_url(&context.public_url, &sid)),
        ("RecordingSid", sid),
        ("RecordingStatus", status.into()),
        ("RecordingChannels", channels(facts).to_string()),
        ("RecordingTrack", format::track(facts.spec.track).into()),
        ("ErrorCode", if failed { RECORDING_FAILED } else { 0 }.to_string()),
        match facts.conference {
            Some(conference) => ("ConferenceSid", owner.ids.conference(conference)),
            None => ("CallSid", owner.ids.call(facts.leg)),
        },
        ("RecordingStartTime", format::rfc2822(facts.started_at)),
        ("AccountSid", owner.sid.into()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if status_event != StatusEvent::InProgress {
        parameters.push(("RecordingDuration".into(), format::recording_seconds(facts).to_string()));
    }
    Some(form(&format!("recording-{status}"), callback, parameters, false))
}

/// The callback for an event of a conference's stream.
pub(super) fn conference_stream(
    owner: Owner<'_>,
    conference: &ConferenceInfo,
    facts: &StreamFacts,
    at: Timestamp,
) -> Option<Notice> {
    stream(owner, ("ConferenceSid", owner.ids.conference(conference.id)), facts, at)
}

/// The callback for an event of a stream. `about` is the parameter that names the call or conference of the stream.
fn stream(owner: Owner<'_>, about: (&str, String), facts: &StreamFacts, at: Timestamp) -> Option<Notice> {
    let callback = facts.spec.callback.as_ref()?;
    let (event, problem) = match &facts.status {
        StreamStatus::Started => ("stream-started", None),
        StreamStatus::Stopped => ("stream-stopped", None),
        StreamStatus::Failed(why) => ("stream-error", Some(why)),
    };
    let mut parameters: Parameters = [
        ("AccountSid", owner.sid.into()),
        about,
        ("StreamSid", owner.ids.stream(facts.id)),
        ("StreamName", stream_name(owner, facts)),
        ("StreamEvent", event.into()),
        ("Timestamp", format::iso8601(at)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if let Some(why) = problem {
        parameters.push(("StreamErrorCode".into(), error::stream_code(why.fault).to_string()));
        parameters.push(("StreamError".into(), why.detail.clone()));
    }
    Some(form(event, callback, parameters, false))
}

/// Adds the result of answering machine detection, if the result is known. If `took` is true, the function also adds
/// the time that the detection took.
fn answered_by(leg: &LegInfo, took: bool, push: &mut impl FnMut(&str, String)) {
    if let Some(answered_by) = &leg.answered_by {
        push("AnsweredBy", format::detection_result(answered_by.verdict).into());
        if took {
            push("MachineDetectionDuration", answered_by.after.as_millis().to_string());
        }
    }
}

/// The callback of answering machine detection. The server sends one such callback for each detection, with the result
/// that ends the detection.
fn machine_detected(owner: Owner<'_>, leg: &LegInfo, facts: &MachineFacts) -> Option<Notice> {
    let callback = facts.spec.callback.as_ref().filter(|_| facts.spec.ends_with(facts.result))?;
    let parameters = [
        ("CallSid", owner.ids.call(leg.id)),
        ("AccountSid", owner.sid.to_owned()),
        ("AnsweredBy", format::detection_result(facts.result).to_owned()),
        ("MachineDetectionDuration", facts.after.as_millis().to_string()),
    ];
    let parameters = parameters.map(|(name, value)| (name.to_owned(), value)).into();
    Some(form("machine-detection", callback, parameters, false))
}

/// The callback of a `<Pay>` verb. The callback reports a result without a payment, because this server takes no
/// payments.
fn payment(owner: Owner<'_>, leg: &LegInfo, unserved: &Unsupported) -> Option<Notice> {
    let callback = unserved.callback.as_ref()?;
    let whose = [("AccountSid", owner.sid.to_owned()), ("CallSid", owner.ids.call(leg.id))];
    let whose = whose.map(|(name, value)| (name.to_owned(), value)).into_iter();
    Some(form("payment", callback, whose.chain(unserved.callback_parameters.iter().cloned()).collect(), false))
}

pub(super) fn form(event: &str, callback: &Callback, parameters: Parameters, numbered: bool) -> Notice {
    Notice {
        event: event.into(),
        target: callback.target.clone(),
        failover: callback.failover.clone(),
        body: Body::Form(parameters),
        numbered,
    }
}

/// Number of channels in a recording's file.
pub(super) fn channels(recording: &Recording) -> u8 {
    match recording.spec.channels {
        RecordingChannels::Mono => 1,
        RecordingChannels::Dual => 2,
    }
}

fn stream_name(owner: Owner<'_>, facts: &StreamFacts) -> String {
    facts.spec.name.clone().unwrap_or_else(|| owner.ids.stream(facts.id))
}

fn reason_name(reason: &FetchReason) -> &'static str {
    match reason {
        FetchReason::Start => "voice",
        FetchReason::Redirect => "redirect",
        FetchReason::Gathered { .. } | FetchReason::GatheredSpeech(_) => "gather",
        FetchReason::Recorded { .. } => "record",
        FetchReason::Dialed(_) => "dial",
        FetchReason::Connected(_) => "connect",
        FetchReason::Conversed(_) => "conversation",
        FetchReason::Refer(_) => "refer",
        FetchReason::Referred { .. } => "referred",
        FetchReason::Whisper | FetchReason::Called { .. } => "whisper",
        FetchReason::Wait => "wait",
        FetchReason::Queued(_) => "queue",
        FetchReason::Unsupported(_) => "pay",
        FetchReason::CommandExecuted(_) => "order",
        FetchReason::Detected(_) => "detection",
        FetchReason::Conference { .. } => "conference",
        FetchReason::Fallback { .. } => "fallback",
    }
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
