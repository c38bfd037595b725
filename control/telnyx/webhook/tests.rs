use std::time::Duration;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tandem_call::event::{DialResult, DialStatus, MachineFacts};
use tandem_call::fetch::{FailureKind, FetchFailure};
use tandem_call::header_fields::HeaderFields;
use tandem_call::leg::{CallerIdentity, Status};
use tandem_call::machine_detection::{DetectionResult, MachineDetection, Until};
use tandem_call::program::instruction::{Speech, Tone, Warning};
use tandem_call::recording::{RecordingSource, RecordingSpec};
use tandem_call::stream::{ConnectTiming, StreamFault, StreamSpec, StreamTransport};
use tandem_id::{OpId, QueueId, RecordingId, StreamId};

use super::*;
use crate::fixture::{self, LEG, account, leg, shared};

const AT: &str = "2026-11-21T02:00:05.5Z";

fn context() -> Context {
    Context { public_url: "http://127.0.0.1:8080".into(), sequence: 0, recording: None, queue: None }
}

/// The only webhook for an event.
fn notice(event: &CallEvent, context: &Context) -> Option<Notice> {
    let mut all = notices(event, context);
    assert!(all.len() <= 1, "{all:?}");
    all.pop()
}

fn webhook(leg: LegInfo, kind: EventKind) -> Option<Value> {
    let event = CallEvent { at: AT.parse().unwrap(), leg: shared(leg), kind };
    match notice(&event, &context())?.body {
        Body::Json(data) => Some(data),
        Body::Form(_) => panic!("webhooks are JSON"),
    }
}

/// The event type, and the payload without the common members. The function checks the common members.
fn golden(leg: LegInfo, kind: EventKind) -> (String, Value) {
    let mut data = webhook(leg, kind).expect("a webhook");
    assert_eq!(data["record_type"], "event");
    assert_eq!(data["occurred_at"], "2026-11-21T02:00:05.500000Z");
    let payload = data["payload"].as_object_mut().unwrap();
    assert_eq!(payload.remove("call_control_id"), Some(json!(id::call_control_id(LEG))));
    assert_eq!(payload.remove("call_leg_id"), Some(json!("1af5aabe-a9b8-11f0-bb0d-02420a1f0a69")));
    assert_eq!(payload.remove("call_session_id"), Some(json!("1af5a4ce-a9b8-11f0-8e2d-02420a1f0a69")));
    assert_eq!(payload.remove("connection_id"), Some(json!("1000000000000000001")));
    assert_eq!(payload.remove("client_state"), Some(Value::Null), "null, not absent");
    (data["event_type"].as_str().unwrap().into(), data["payload"].take())
}

fn playback(source: AudioSource, prompt: bool) -> Playback {
    Playback { op: OpId(1), source, prompt, callback: None }
}

fn speech() -> AudioSource {
    AudioSource::Speech(Speech { text: "Hi".into(), ssml: false, voice: None, language: None })
}

fn url() -> AudioSource {
    AudioSource::Url("http://127.0.0.1:9000/a.wav".into())
}

fn recording(status: RecordingStatus) -> Recording {
    Recording {
        id: RecordingId(LEG.0 + 1),
        leg: LEG,
        conference: None,
        spec: RecordingSpec {
            transcribe: false,
            format: RecordingFormat::Mp3,
            ..RecordingSpec::new(RecordingSource::Request, RecordingChannels::Dual)
        },
        started_at: "2026-11-21T02:00:01Z".parse().unwrap(),
        ended_at: Some("2026-11-21T02:00:04Z".parse().unwrap()),
        duration: Some(Duration::from_secs(3)),
        limit: None,
        status,
    }
}

fn stream(status: StreamStatus) -> StreamFacts {
    let spec = StreamSpec {
        url: "ws://127.0.0.1:9000/audio".into(),
        name: None,
        track: Track::Both,
        codec: None,
        bidirectional_mode: None,
        parameters: Vec::new(),
        callback: None,
        target_legs: tandem_call::leg::TargetLegs::Own,
        auth_token: None,
        connect_timing: ConnectTiming::default(),
        transport: StreamTransport::Messages,
    };
    StreamFacts { id: StreamId(LEG.0 + 2), spec, status }
}

fn ended(end: LegEnd) -> LegInfo {
    LegInfo {
        status: Status::Completed,
        answered_at: Some("2026-11-21T02:00:02Z".parse().unwrap()),
        end: Some(end),
        ..leg()
    }
}

fn end(cause: EndCause, by: EndedBy, sip_status: Option<u16>) -> LegEnd {
    LegEnd { at: "2026-11-21T02:00:05.5Z".parse().unwrap(), cause, by, sip_status, detail: None, failure: None }
}

#[test]
fn call_initiated_of_an_inbound_leg_is_incoming_and_parked() {
    let (event, extra) = golden(leg(), EventKind::Initiated);
    assert_eq!(event, "call.initiated");
    let expected = json!({
        "from": "+15551230001", "to": "+15551230002", "direction": "incoming", "state": "parked",
        "start_time": "2026-11-21T02:00:00.000001Z", "caller_id_name": "Alice",
        "custom_headers": [{"name": "X-Ticket", "value": "42"}],
        "sip_headers": [{"name": "User-to-User", "value": "1234"}],
        "tags": [], "offered_codecs": "PCMU,PCMA", "connection_codecs": "PCMU,PCMA",
        "shaken_stir_attestation": null, "shaken_stir_validated": false, "call_screening_result": null,
    });
    assert_eq!(extra, expected);
}

#[test]
fn call_initiated_has_the_attestation_and_its_validation() {
    for (verstat, valid) in [(Verstat::Passed, true), (Verstat::Failed, false), (Verstat::Unknown, false)] {
        let attestation = Some(Attestation::B);
        let identity = CallerIdentity { verstat, attestation, token: None, detail: None };
        let mut leg = leg();
        leg.sip.identity = Some(Box::new(identity));
        let (_, payload) = golden(leg, EventKind::Initiated);
        assert_eq!(
            (&payload["shaken_stir_attestation"], &payload["shaken_stir_validated"]),
            (&json!("B"), &json!(valid))
        );
    }
}

#[test]
fn call_initiated_of_an_outbound_leg_is_outgoing_and_bridging() {
    for direction in [Direction::OutboundApi, Direction::OutboundDial] {
        let (_, extra) = golden(LegInfo { direction, caller_name: None, ..leg() }, EventKind::Initiated);
        assert_eq!((&extra["direction"], &extra["state"]), (&json!("outgoing"), &json!("bridging")));
        assert_eq!(extra["caller_id_name"], "+15551230001");
    }
}

#[test]
fn call_answered_and_call_bridged_have_the_published_payload() {
    let (event, extra) = golden(leg(), EventKind::Answered { stream: None });
    assert_eq!(event, "call.answered");
    let expected = json!({
        "from": "+15551230001", "to": "+15551230002", "state": "answered", "start_time": "2026-11-21T02:00:00.000001Z",
        "custom_headers": [{"name": "X-Ticket", "value": "42"}],
        "sip_headers": [{"name": "User-to-User", "value": "1234"}], "tags": [],
    });
    assert_eq!(extra, expected);
    let stream = Some(Box::new(stream(StreamStatus::Started).spec));
    let (_, extra) = golden(leg(), EventKind::Answered { stream });
    assert_eq!(
        (&extra["stream_url"], &extra["stream_track"]),
        (&json!("ws://127.0.0.1:9000/audio"), &json!("both_tracks"))
    );
    let bridged = golden(leg(), EventKind::Bridged { with: shared(leg()) });
    assert_eq!(bridged, ("call.bridged".into(), json!({"from": "+15551230001", "to": "+15551230002"})));
}

#[test]
fn call_hangup_has_its_cause_its_source_and_the_call_quality() {
    let mut leg = ended(end(EndCause::NormalClearing, EndedBy::FarEnd, None));
    leg.sip.quality = Some(Quality {
        packets_in: 591,
        packets_out: 590,
        lost: 9,
        jitter_ms: 2.74,
        round_trip_ms: None,
        mos: Some(4.5),
        ..Quality::default()
    });
    let (event, extra) = golden(leg, EventKind::Ended);
    assert_eq!(event, "call.hangup");
    let expected = json!({
        "from": "+15551230001", "to": "+15551230002", "state": "hangup", "start_time": "2026-11-21T02:00:00.000001Z",
        "custom_headers": [{"name": "X-Ticket", "value": "42"}],
        "sip_headers": [{"name": "User-to-User", "value": "1234"}], "tags": [],
        "hangup_cause": "normal_clearing", "hangup_source": "caller", "sip_hangup_cause": "200", "duration_seconds": 3,
        "call_quality_stats": {
            "inbound": {"jitter_max_variance": "2.74", "jitter_packet_count": "0", "mos": "4.50", "packet_count": "591",
                        "skip_packet_count": "9"},
            "outbound": {"packet_count": "590", "skip_packet_count": "0"},
        },
    });
    assert_eq!(extra, expected);
    let never_answered = LegInfo { answered_at: None, ..ended(end(EndCause::Timeout, EndedBy::Server, None)) };
    let (_, extra) = golden(never_answered, EventKind::Ended);
    assert_eq!((&extra["duration_seconds"], &extra["call_quality_stats"]), (&json!(0), &Value::Null));
}

#[test]
fn hangup_cause_and_source_follow_from_the_end_and_the_direction() {
    use Direction::{Inbound, OutboundApi};
    let rows = [
        (Inbound, EndCause::OriginatorCancel, EndedBy::FarEnd, None, "originator_cancel", "caller", "487"),
        (Inbound, EndCause::NormalClearing, EndedBy::Application, None, "normal_clearing", "callee", "200"),
        (Inbound, EndCause::NormalClearing, EndedBy::Application, Some(480), "normal_clearing", "callee", "480"),
        (Inbound, EndCause::Rejected, EndedBy::Application, Some(603), "call_rejected", "callee", "603"),
        (OutboundApi, EndCause::Busy, EndedBy::FarEnd, Some(486), "user_busy", "callee", "486"),
        (OutboundApi, EndCause::NoAnswer, EndedBy::FarEnd, Some(480), "no_answer", "callee", "480"),
        (OutboundApi, EndCause::NotFound, EndedBy::FarEnd, Some(404), "not_found", "callee", "404"),
        (OutboundApi, EndCause::Timeout, EndedBy::Server, None, "timeout", "unknown", "unspecified"),
        (OutboundApi, EndCause::TimeLimit, EndedBy::Server, None, "time_limit", "unknown", "unspecified"),
        (OutboundApi, EndCause::NormalClearing, EndedBy::OtherLeg, None, "normal_clearing", "caller", "200"),
        (OutboundApi, EndCause::Failed, EndedBy::Server, Some(503), "unspecified", "unknown", "503"),
        (OutboundApi, EndCause::Unspecified, EndedBy::FarEnd, None, "unspecified", "callee", "unspecified"),
    ];
    for (direction, cause, by, sip, hangup_cause, source, sip_hangup_cause) in rows {
        let leg = LegInfo { direction, ..ended(end(cause, by, sip)) };
        let (_, extra) = golden(leg, EventKind::Ended);
        let found =
            (extra["hangup_cause"].as_str(), extra["hangup_source"].as_str(), extra["sip_hangup_cause"].as_str());
        assert_eq!(found, (Some(hangup_cause), Some(source), Some(sip_hangup_cause)), "{direction:?} {cause:?} {by:?}");
    }
}

#[test]
fn digits_and_gather_results_have_the_published_payload() {
    let (event, extra) = golden(leg(), EventKind::DtmfReceived { digit: '#' });
    assert_eq!((event.as_str(), extra["digit"].as_str()), ("call.dtmf.received", Some("#")));
    let rows = [
        (GatherEnd::Valid, "valid"),
        (GatherEnd::Invalid, "invalid"),
        (GatherEnd::Timeout, "timeout"),
        (GatherEnd::Stopped, "cancelled"),
        (GatherEnd::Hangup, "call_hangup"),
    ];
    for (end, status) in rows {
        let gathered = |id: Option<&str>| EventKind::GatherEnded {
            digits: "5503".into(),
            end,
            terminator: Some('#'),
            id: id.map(Into::into),
            words: None,
            callback: None,
        };
        let mut expected = json!({"from": "+15551230001", "to": "+15551230002", "digits": "5503", "status": status});
        assert_eq!(golden(leg(), gathered(None)), ("call.gather.ended".into(), expected.clone()));
        expected["gather_id"] = json!("menu");
        assert_eq!(golden(leg(), gathered(Some("menu"))), ("call.gather.ended".into(), expected));
    }
}

#[test]
fn machine_detection_has_the_events_and_results_of_its_mode() {
    use tandem_call::machine_detection::GreetingEnd::{Beep, Silence, Time};
    let found = |mode: &'static str, verdict| {
        let second = Duration::from_secs(1);
        let spec = MachineDetection {
            mode: mode.into(),
            ..MachineDetection::new(Until::Beep, second, second, second, second)
        };
        let facts = MachineFacts { result: verdict, after: second, spec: Box::new(spec) };
        webhook(leg(), EventKind::MachineDetected(facts))
    };
    let (standard, premium) = ("call.machine.detection.ended", "call.machine.premium.detection.ended");
    let (ended, premium_ended) = ("call.machine.greeting.ended", "call.machine.premium.greeting.ended");
    for (mode, verdict, event, result) in [
        ("detect", DetectionResult::Human, standard, "human"),
        ("detect", DetectionResult::Machine, standard, "machine"),
        ("detect", DetectionResult::Silence, standard, "not_sure"),
        ("detect_beep", DetectionResult::GreetingEnded(Beep), ended, "beep_detected"),
        ("detect_words", DetectionResult::GreetingEnded(Time), ended, "not_sure"),
        ("greeting_end", DetectionResult::GreetingEnded(Silence), ended, "ended"),
        ("premium", DetectionResult::Human, premium, "human_residence"),
        ("premium", DetectionResult::Fax, premium, "fax_detected"),
        ("premium", DetectionResult::Silence, premium, "silence"),
        ("premium", DetectionResult::GreetingEnded(Beep), premium_ended, "beep_detected"),
        ("premium", DetectionResult::GreetingEnded(Time), premium_ended, "no_beep_detected"),
    ] {
        let data = found(mode, verdict).expect("a webhook");
        let payload = &data["payload"];
        assert_eq!((data["event_type"].as_str(), payload["result"].as_str()), (Some(event), Some(result)), "{mode}");
        assert_eq!((&payload["from"], &payload["to"]), (&json!("+15551230001"), &json!("+15551230002")));
    }
    assert_eq!(found("detect_beep", DetectionResult::GreetingEnded(Time)), None);
}

#[test]
fn playback_and_speak_have_separate_events() {
    let file = json!({"media_url": "http://127.0.0.1:9000/a.wav", "overlay": false});
    let started = golden(leg(), EventKind::PlaybackStarted(playback(url(), false)));
    assert_eq!(started, ("call.playback.started".into(), file));
    let rows = [
        (PlaybackEnd::Completed, "completed", ""),
        (PlaybackEnd::Stopped, "cancelled", ""),
        (PlaybackEnd::Hangup, "call_hangup", ""),
        (PlaybackEnd::Missing("HTTP 404".into()), "file_not_found", "HTTP 404"),
        (PlaybackEnd::Failed("not audio".into()), "failed", "not audio"),
    ];
    for (end, status, detail) in rows {
        let (event, extra) = golden(leg(), EventKind::PlaybackEnded(playback(url(), true), end));
        assert_eq!(
            (event.as_str(), &extra["status"], &extra["status_detail"]),
            ("call.playback.ended", &json!(status), &json!(detail))
        );
    }
    let started = golden(leg(), EventKind::PlaybackStarted(playback(speech(), false)));
    assert_eq!(started, ("call.speak.started".into(), json!({})));
    for (end, status) in [(PlaybackEnd::Completed, "completed"), (PlaybackEnd::Hangup, "call_hangup")] {
        let webhook = golden(leg(), EventKind::PlaybackEnded(playback(speech(), false), end));
        assert_eq!(webhook, ("call.speak.ended".into(), json!({"status": status})));
    }
}

#[test]
fn a_recording_sends_saved_or_error_at_its_end() {
    let (event, extra) = golden(leg(), EventKind::Recording(recording(RecordingStatus::Completed)));
    assert_eq!(event, "call.recording.saved");
    let url = "http://127.0.0.1:8080/v2/recordings/1af5aabe-a9b8-11f0-bb0d-02420a1f0a6a/download.mp3";
    let expected = json!({
        "recording_id": "1af5aabe-a9b8-11f0-bb0d-02420a1f0a6a", "channels": "dual", "format": "mp3",
        "recording_started_at": "2026-11-21T02:00:01.000000Z", "recording_ended_at": "2026-11-21T02:00:04.000000Z",
        "recording_urls": {"mp3": url}, "public_recording_urls": {"mp3": url},
    });
    assert_eq!(extra, expected);
    let failed = recording(RecordingStatus::Failed("disk full".into()));
    let (event, extra) = golden(leg(), EventKind::Recording(failed.clone()));
    assert_eq!(
        (event.as_str(), extra),
        ("call.recording.saved", expected),
        "3 s were written before the disk was full"
    );
    let mut nothing = failed;
    nothing.duration = None;
    let nothing = golden(leg(), EventKind::Recording(nothing));
    assert_eq!(nothing, ("call.recording.error".into(), json!({"reason": "Internal server error"})));
}

#[test]
fn stream_events_have_no_call_prefix() {
    let url = json!({"stream_url": "ws://127.0.0.1:9000/audio"});
    let webhook = |status| golden(leg(), EventKind::Stream(stream(status)));
    assert_eq!(webhook(StreamStatus::Started), ("streaming.started".into(), url.clone()));
    assert_eq!(webhook(StreamStatus::Stopped), ("streaming.stopped".into(), url));
    let failed = json!({
        "failure_reason": "connection_failed", "stream_id": "1af5aabe-a9b8-11f0-bb0d-02420a1f0a6b",
        "stream_params": {"stream_url": "ws://127.0.0.1:9000/audio", "track": "both_tracks"}, "stream_type": "websocket",
    });
    assert_eq!(
        webhook(StreamStatus::Failed(StreamFault::Refused.because("refused"))),
        ("streaming.failed".into(), failed)
    );
}

#[test]
fn events_unknown_to_telnyx_send_no_webhook() {
    let failure = FetchFailure { kind: FailureKind::Timeout, detail: String::new() };
    let dialed = DialResult {
        called_uri: true,
        answered: true,
        status: DialStatus::Busy,
        child: None,
        duration: Duration::ZERO,
        bridged: false,
        taken: false,
        sip_status: None,
        sip_headers: HeaderFields::new(),
        returned: Vec::new(),
        sip_call_id: None,
        recording: None,
    };
    let kinds = [
        EventKind::Ringing { early_media: false },
        EventKind::Unbridged,
        EventKind::Dialed(dialed),
        EventKind::FetchFailed { failure },
        EventKind::Warned(Warning { code: 1, message: String::new() }),
        EventKind::PlaybackStarted(playback(speech(), true)),
        EventKind::PlaybackEnded(playback(speech(), true), PlaybackEnd::Completed),
        EventKind::PlaybackStarted(playback(AudioSource::Tone(Tone::Beep), false)),
        EventKind::PlaybackStarted(playback(AudioSource::Silence(Duration::ZERO), false)),
        EventKind::Recording(recording(RecordingStatus::InProgress)),
        EventKind::Recording(recording(RecordingStatus::Absent)),
    ];
    for kind in kinds {
        assert_eq!(webhook(leg(), kind), None);
    }
    assert_eq!(webhook(LegInfo { status_callback: None, ..leg() }, EventKind::Initiated), None);
}

#[test]
fn every_payload_has_the_client_state() {
    let data =
        webhook(LegInfo { client_state: Some("c3RhdGU=".into()), ..leg() }, EventKind::Answered { stream: None })
            .unwrap();
    assert_eq!(data["payload"]["client_state"], "c3RhdGU=");
}

#[test]
fn each_attempt_is_a_signed_envelope() {
    let event = CallEvent { at: AT.parse().unwrap(), leg: shared(leg()), kind: EventKind::Answered { stream: None } };
    let notice = notice(&event, &context()).unwrap();
    assert_eq!(&*notice.target.url, "http://127.0.0.1:9000/telnyx");
    assert_eq!(&*notice.failover.unwrap().url, "http://127.0.0.1:9001/telnyx");
    let input = SignInput {
        url: "http://127.0.0.1:9001/telnyx#f",
        method: Method::Post,
        body: &notice.body,
        id: 9,
        attempt: 2,
        now: "2026-11-21T02:00:06Z".parse().unwrap(),
    };
    let signed = sign(&account(), &input);
    assert_eq!(signed.url, "http://127.0.0.1:9001/telnyx");
    let header = |name: &str| signed.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()).unwrap();
    assert_eq!(header("Content-Type"), "application/json");
    assert_eq!(header("User-Agent"), "telnyx-webhooks");
    let envelope: Value = serde_json::from_slice(&signed.body).unwrap();
    assert_eq!(envelope["meta"], json!({"attempt": 2, "delivered_to": "http://127.0.0.1:9001/telnyx#f"}));
    assert_eq!(envelope["data"]["id"], "00000000-0000-4000-8000-000000000009");
    assert_eq!(envelope["data"]["event_type"], "call.answered");
    assert!(signed.body.starts_with(br#"{"data":{"record_type":"event","event_type":"call.answered","id":""#));
    let key = sign::public_key(account().telnyx.as_ref().unwrap()).unwrap();
    let signature = STANDARD.decode(header("telnyx-signature-ed25519")).unwrap();
    let signed = [header("telnyx-timestamp").as_bytes(), b"|", &signed.body].concat();
    UnparsedPublicKey::new(&ED25519, STANDARD.decode(key).unwrap()).verify(&signed, &signature).unwrap();
}

#[test]
fn a_get_webhook_has_the_payload_in_its_query() {
    let event = CallEvent { at: AT.parse().unwrap(), leg: shared(leg()), kind: EventKind::DtmfReceived { digit: '#' } };
    let notice = notice(&event, &context()).unwrap();
    let input = SignInput {
        url: "http://127.0.0.1:9001/telnyx?a=1",
        method: Method::Get,
        body: &notice.body,
        id: 9,
        attempt: 1,
        now: AT.parse().unwrap(),
    };
    let signed = sign(&account(), &input);
    assert!(signed.body.is_empty());
    let query = signed.url.strip_prefix("http://127.0.0.1:9001/telnyx?a=1&").unwrap();
    let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    for (name, value) in [("event_type", "call.dtmf.received"), ("digit", "#"), ("from", "+15551230001")] {
        assert!(pairs.contains(&(name.into(), value.into())), "{name} in {query}");
    }
}

#[test]
fn webhook_payloads_have_only_published_fields() {
    let Some(document) = fixture::published() else { return };
    let rows: [(&str, LegInfo, EventKind, &[&str]); 14] = [
        ("callInitiated", leg(), EventKind::Initiated, &[]),
        ("callAnswered", leg(), EventKind::Answered { stream: None }, &[]),
        ("callHangup", ended(end(EndCause::Busy, EndedBy::FarEnd, Some(486))), EventKind::Ended, &["duration_seconds"]),
        ("callDtmfReceived", leg(), EventKind::DtmfReceived { digit: '1' }, &[]),
        ("callBridged", leg(), EventKind::Bridged { with: shared(leg()) }, &[]),
        ("callPlaybackStarted", leg(), EventKind::PlaybackStarted(playback(url(), false)), &[]),
        ("callPlaybackEnded", leg(), EventKind::PlaybackEnded(playback(url(), false), PlaybackEnd::Completed), &[]),
        ("callSpeakStarted", leg(), EventKind::PlaybackStarted(playback(speech(), false)), &[]),
        ("callSpeakEnded", leg(), EventKind::PlaybackEnded(playback(speech(), false), PlaybackEnd::Completed), &[]),
        (
            "callGatherEnded",
            leg(),
            EventKind::GatherEnded {
                digits: "1".into(),
                end: GatherEnd::Valid,
                terminator: None,
                id: None,
                words: None,
                callback: None,
            },
            &[],
        ),
        (
            "callRecordingSaved",
            leg(),
            EventKind::Recording(recording(RecordingStatus::Completed)),
            &["call_control_id", "recording_id", "format"],
        ),
        ("callStreamingStarted", leg(), EventKind::Stream(stream(StreamStatus::Started)), &[]),
        ("callStreamingStopped", leg(), EventKind::Stream(stream(StreamStatus::Stopped)), &[]),
        (
            "callStreamingFailed",
            leg(),
            EventKind::Stream(stream(StreamStatus::Failed(StreamFault::Internal.because("")))),
            &[],
        ),
    ];
    for (name, leg, kind, ours) in rows {
        let data = webhook(leg, kind).unwrap();
        let schema = &document["webhooks"][name]["post"]["requestBody"]["content"]["application/json"]["schema"];
        let schema = fixture::resolve(&document, schema);
        let event = fixture::resolve(&document, &schema["properties"]["data"]);
        let types = fixture::resolve(&document, &event["properties"]["event_type"]);
        assert!(types["enum"].as_array().unwrap().contains(&data["event_type"]), "{name}");
        let payload = fixture::resolve(&document, &event["properties"]["payload"]);
        for (member, value) in data["payload"].as_object().unwrap() {
            let known = &payload["properties"][member];
            assert!(!known.is_null() || ours.contains(&member.as_str()), "{name} has no {member}");
            let words = &fixture::resolve(&document, known)["enum"];
            if let Some(words) = words.as_array() {
                assert!(words.contains(value), "{name}.{member}: {value}");
            }
        }
    }
}

#[test]
fn call_enqueued_and_call_dequeued_have_the_published_payload() {
    let queue = QueueId(LEG.0 + 2);
    let (kind, payload) = golden(leg(), EventKind::Enqueued { queue: "support".into(), id: queue });
    assert_eq!(kind, "call.enqueued");
    assert_eq!(payload, json!({ "queue": "support", "current_position": 1, "queue_avg_wait_time_secs": 0 }));
    let left = |result, waited| EventKind::Dequeued(QueueOutcome { name: "support".into(), waited, result });
    let waited = Some((queue, Duration::from_millis(60_900)));
    for (result, reason) in [
        (QueueResult::Bridged, "bridged"),
        (QueueResult::Bridging, "bridging-in-process"),
        (QueueResult::Hangup, "hangup"),
        (QueueResult::Left, "leave"),
        (QueueResult::TimedOut, "timeout"),
    ] {
        let (kind, payload) = golden(leg(), left(result, waited));
        assert_eq!(kind, "call.dequeued");
        let expected = json!({ "queue": "support", "queue_position": 1, "reason": reason, "wait_time_secs": 60 });
        assert_eq!(payload, expected);
    }
    assert_eq!(webhook(leg(), left(QueueResult::Full, None)), None, "it never was in line");
}
