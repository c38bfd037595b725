//! Tests with the complete parameter list of each kind of request.

use std::sync::Arc;
use std::time::Duration;

use tandem_call::fetch::{FailureKind, FetchFailure, Scope};
use tandem_call::header_fields::HeaderFields;
use tandem_call::internal_call::InternalCall;
use tandem_call::leg::{Attestation, CallerIdentity, EndCause, EndedBy, LegEnd, LegOwner, SipFacts, Status, Verstat};
use tandem_call::machine_detection::{AnsweredBy, DetectionResult, GreetingEnd, MachineDetection, Until};
use tandem_call::output::Invite;
use tandem_call::recognition::{RecognisedText, RecognitionSpec};
use tandem_call::recording::{RecordingFormat, RecordingSource, RecordingSpec, Track};
use tandem_call::siprec::{SiprecFacts, SiprecFault, SiprecSpec, SiprecStatus};
use tandem_call::stream::{ConnectTiming, StreamFault, StreamSpec, StreamTransport};
use tandem_call::transcription::{TranscriptionFacts, TranscriptionSpec, TranscriptionStatus};
use tandem_call::{Method, Target};
use tandem_id::{
    AccountName, CallId, ConversationId, FetchId, LegId, QueueId, RecordingId, SiprecId, StreamId, TranscriptionId,
};

use super::*;

const ACCOUNT: &str = "AC00000000000000000000000000000001";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn target(url: &str) -> Target {
    Target { url: url.into(), method: Method::Post }
}

fn leg() -> LegInfo {
    let invite = Invite::new(Address::from("+15550002222"), Address::from("+15550001111"));
    let owner = LegOwner::new(AccountName::new("acme"), "twilio");
    LegInfo {
        status: Status::Ringing,
        status_callback: Some(Callback::new(
            target("http://app/status"),
            vec![StatusEvent::Initiated, StatusEvent::Ringing, StatusEvent::Answered, StatusEvent::Completed],
        )),
        ..LegInfo::outbound(LegId(0xa), CallId(1), owner, &invite, at("2018-03-25T09:53:00Z"))
    }
}

fn ended(status: Status, answered: Option<&str>, sip_status: Option<u16>) -> LegInfo {
    let cause = EndCause::Unspecified;
    LegInfo {
        status,
        answered_at: answered.map(at),
        end: Some(LegEnd {
            at: at("2018-03-25T09:54:31Z"),
            cause,
            by: EndedBy::FarEnd,
            sip_status,
            detail: None,
            failure: None,
        }),
        ..leg()
    }
}

fn context(sequence: u32) -> Context {
    Context { public_url: "http://127.0.0.1:8080".into(), sequence, recording: None, queue: None }
}

fn webhook_of(leg: LegInfo, kind: EventKind, sequence: u32) -> Option<(Notice, Parameters)> {
    let event = CallEvent { at: at("2018-03-25T09:54:31Z"), leg: Arc::new(leg), kind };
    let mut notices = webhook(crate::owner(ACCOUNT), &event, &context(sequence));
    assert!(notices.len() <= 1);
    let notice = notices.pop()?;
    let Body::Form(parameters) = notice.body.clone() else { panic!() };
    Some((notice, parameters))
}

fn get<'a>(parameters: &'a Parameters, name: &str) -> Option<&'a str> {
    let mut values = parameters.iter().filter(|(key, _)| key == name);
    let value = values.next().map(|(_, value)| value.as_str());
    assert!(values.next().is_none(), "{name} is there twice");
    value
}

fn requested(leg: LegInfo, reason: FetchReason) -> Parameters {
    let fetch = Fetch {
        id: FetchId(1),
        leg: Arc::new(leg),
        target: target("http://app/voice"),
        reason,
        scope: Scope::Leg,
        first_method: Method::Post,
    };
    let Body::Form(parameters) = super::fetch(crate::owner(ACCOUNT), &fetch, &context(0)).body else { panic!() };
    parameters
}

#[test]
fn a_wait_request_has_the_callers_position_and_the_queues_figures() {
    let position = QueuePosition {
        queue: QueueId(0xc),
        position: 2,
        size: 5,
        max_size: 100,
        waited: Duration::from_millis(7_400),
        average: Duration::from_secs(3),
    };
    let fetch = Fetch {
        id: FetchId(1),
        leg: Arc::new(leg()),
        target: target("http://app/wait"),
        reason: FetchReason::Wait,
        scope: Scope::Queue,
        first_method: Method::Post,
    };
    let context = Context { queue: Some(position), ..context(0) };
    let Body::Form(parameters) = super::fetch(crate::owner(ACCOUNT), &fetch, &context).body else { panic!() };
    for (name, value) in [
        ("QueueSid", "QU0000000000000000000000000000000c"),
        ("QueuePosition", "2"),
        ("QueueTime", "7"),
        ("AvgQueueTime", "3"),
        ("CurrentQueueSize", "5"),
        ("MaxQueueSize", "100"),
    ] {
        assert_eq!(get(&parameters, name), Some(value), "{name}");
    }
}

#[test]
fn the_action_of_enqueue_gets_twilios_queue_result() {
    for (result, word) in [
        (QueueResult::Bridged, "bridged"),
        (QueueResult::Bridging, "bridging-in-process"),
        (QueueResult::Left, "leave"),
        (QueueResult::Redirected, "redirected"),
        (QueueResult::RedirectedFromBridge, "redirected-from-bridged"),
        (QueueResult::Hangup, "hangup"),
    ] {
        let waited = Some((QueueId(0xc), Duration::from_secs(9)));
        let request = requested(leg(), FetchReason::Queued(QueueOutcome { name: "q".into(), waited, result }));
        assert_eq!(get(&request, "QueueResult"), Some(word));
        assert_eq!(get(&request, "QueueTime"), Some("9"));
        assert_eq!(get(&request, "QueueSid"), Some("QU0000000000000000000000000000000c"));
    }
    for (result, word) in [(QueueResult::Full, "queue-full"), (QueueResult::Failed, "system-error")] {
        let request = requested(leg(), FetchReason::Queued(QueueOutcome { name: "q".into(), waited: None, result }));
        assert_eq!((get(&request, "QueueResult"), get(&request, "QueueSid")), (Some(word), None));
    }
    let reason = FetchReason::Called { queue: QueueId(0xc), waited: Duration::from_secs(9), by: LegId(0xd) };
    let request = requested(leg(), reason);
    assert_eq!(get(&request, "DequeingCallSid"), Some("CA0000000000000000000000000000000d"));
    assert_eq!(get(&request, "QueueTime"), Some("9"));
}

fn recording(status: RecordingStatus) -> Recording {
    Recording {
        id: RecordingId(0xb),
        leg: LegId(0xa),
        conference: None,
        spec: RecordingSpec {
            transcribe: false,
            source: RecordingSource::Record,
            channels: RecordingChannels::Mono,
            track: Track::Inbound,
            format: RecordingFormat::Wav,
            trim: true,
            max_length: None,
            silence_timeout: None,
            beep: false,
            callback: Some(Callback::new(target("http://app/rec"), vec![StatusEvent::Completed])),
        },
        started_at: at("2018-03-25T09:53:20Z"),
        ended_at: Some(at("2018-03-25T09:53:25Z")),
        duration: Some(Duration::from_millis(4600)),
        limit: None,
        status,
    }
}

#[test]
fn a_document_request_has_the_standard_parameters() {
    let inbound = LegInfo {
        direction: Direction::Inbound,
        caller_name: Some("Ann".into()),
        parent: Some(LegId(0xc)),
        sip: SipFacts {
            call_id: Some("abc@h".into()),
            source_ip: Some("127.0.0.9".parse().unwrap()),
            headers: HeaderFields::from([("X-Order".into(), "7".into()), ("Server".into(), "x".into())]),
            ..SipFacts::default()
        },
        ..leg()
    };
    let parameters = requested(inbound, FetchReason::Start);
    for (name, value) in [
        ("CallSid", "CA0000000000000000000000000000000a"),
        ("AccountSid", ACCOUNT),
        ("ApiVersion", "2010-04-01"),
        ("CallStatus", "ringing"),
        ("Direction", "inbound"),
        ("From", "+15550001111"),
        ("Caller", "+15550001111"),
        ("To", "+15550002222"),
        ("Called", "+15550002222"),
        ("FromCity", ""),
        ("CalledCountry", "US"),
        ("CallerName", "Ann"),
        ("ParentCallSid", "CA0000000000000000000000000000000c"),
        ("SipCallId", "abc@h"),
        ("SipSourceIp", "127.0.0.9"),
        ("SipHeader_X-Order", "7"),
    ] {
        assert_eq!(get(&parameters, name), Some(value), "{name}");
    }
    assert_eq!(get(&parameters, "SipHeader_Server"), None);
    assert_eq!(get(&parameters, "SequenceNumber"), None);
}

#[test]
fn a_document_request_has_the_stir_verstat_of_a_signed_call() {
    let found = |verstat, attestation| {
        let identity = CallerIdentity { verstat, attestation, token: Some("a.b.c".into()), detail: None };
        let sip = SipFacts { identity: Some(Box::new(identity)), ..SipFacts::default() };
        requested(LegInfo { direction: Direction::Inbound, sip, ..leg() }, FetchReason::Start)
    };
    for (verstat, attestation, word) in [
        (Verstat::Passed, Some(Attestation::A), "TN-Validation-Passed-A"),
        (Verstat::Passed, Some(Attestation::C), "TN-Validation-Passed-C"),
        (Verstat::Failed, Some(Attestation::B), "TN-Validation-Failed-B"),
        (Verstat::Failed, None, "TN-Validation-Failed"),
        (Verstat::Unknown, Some(Attestation::A), "No-TN-Validation"),
    ] {
        let parameters = found(verstat, attestation);
        assert_eq!(get(&parameters, "StirVerstat"), Some(word));
        assert_eq!(get(&parameters, "StirPassportToken"), Some("a.b.c"));
    }
    assert_eq!(get(&requested(leg(), FetchReason::Start), "StirVerstat"), None);
}

#[test]
fn action_requests_have_the_results_of_their_verbs() {
    let gathered = requested(leg(), FetchReason::Gathered { digits: "12".into(), terminator: Some('#') });
    assert_eq!(get(&gathered, "Digits"), Some("12"));
    assert_eq!(get(&gathered, "FinishedOnKey"), Some("#"));

    let done = recording(RecordingStatus::Completed);
    let recorded = Duration::from_secs(7);
    let hung_up =
        requested(leg(), FetchReason::Recorded { recording: done.clone(), recorded, key: None, hangup: true });
    let recorded =
        requested(leg(), FetchReason::Recorded { recording: done.clone(), recorded, key: Some('*'), hangup: false });
    let url =
        format!("http://127.0.0.1:8080/2010-04-01/Accounts/{ACCOUNT}/Recordings/RE0000000000000000000000000000000b");
    assert_eq!(get(&recorded, "RecordingUrl"), Some(url.as_str()));
    assert_eq!(get(&recorded, "RecordingDuration"), Some("7"));
    assert_eq!(get(&recorded, "Digits"), Some("*"));
    assert_eq!((get(&hung_up, "Digits"), get(&hung_up, "CallStatus")), (Some("hangup"), Some("completed")));

    let result = DialResult {
        status: DialStatus::Completed,
        child: Some(LegId(0xd)),
        duration: Duration::from_secs(12),
        called_uri: true,
        answered: true,
        bridged: true,
        taken: false,
        sip_status: Some(200),
        sip_call_id: Some("x".into()),
        sip_headers: HeaderFields::from([("X-Agent".into(), "7".into()), ("Server".into(), "phone".into())]),
        returned: Vec::new(),
        recording: Some(done),
    };
    let dialed = requested(leg(), FetchReason::Dialed(result.clone()));
    for (name, value) in [
        ("DialCallStatus", "completed"),
        ("DialCallSid", "CA0000000000000000000000000000000d"),
        ("DialCallDuration", "12"),
        ("DialBridged", "true"),
        ("DialSipResponseCode", "200"),
        ("DialSipCallId", "x"),
        ("DialSipHeader_X-Agent", "7"),
        ("RecordingUrl", url.as_str()),
    ] {
        assert_eq!(get(&dialed, name), Some(value), "{name}");
    }
    assert_eq!(get(&dialed, "DialSipHeader_Server"), None);

    // An unanswered call has no duration. A dialled number has no facts about SIP.
    let unanswered = DialResult { answered: false, status: DialStatus::Busy, sip_status: Some(486), ..result.clone() };
    let dialed = requested(leg(), FetchReason::Dialed(unanswered));
    assert_eq!(get(&dialed, "DialCallDuration"), None);
    assert_eq!(get(&dialed, "DialSipResponseCode"), Some("486"));
    let dialed = requested(leg(), FetchReason::Dialed(DialResult { called_uri: false, ..result }));
    assert_eq!(get(&dialed, "DialCallDuration"), Some("12"));
    for name in ["DialSipResponseCode", "DialSipCallId", "DialSipHeader_X-Agent"] {
        assert_eq!(get(&dialed, name), None, "{name}");
    }
}

#[test]
fn a_fallback_request_has_the_error_and_the_failed_url() {
    let failure = FetchFailure { kind: FailureKind::Status(500), detail: String::new() };
    let parameters = requested(leg(), FetchReason::Fallback { failure, url: Some("http://app/voice".into()) });
    assert_eq!(get(&parameters, "ErrorCode"), Some("11200"));
    assert_eq!(get(&parameters, "ErrorUrl"), Some("http://app/voice"));
}

#[test]
fn status_callbacks_have_twilios_status_and_a_sequence_number() {
    let (notice, initiated) =
        webhook_of(LegInfo { status: Status::Initiated, ..leg() }, EventKind::Initiated, 0).unwrap();
    assert!(notice.numbered);
    assert_eq!(notice.target.url.as_ref(), "http://app/status");
    assert_eq!(get(&initiated, "CallStatus"), Some("initiated"));
    assert_eq!(get(&initiated, "Timestamp"), Some("Sun, 25 Mar 2018 09:54:31 +0000"));
    assert_eq!(get(&initiated, "CallbackSource"), Some("call-progress-events"));
    assert_eq!(get(&initiated, "SequenceNumber"), Some("0"));
    assert_eq!(get(&initiated, "CallDuration"), None);
    let (_, ringing) = webhook_of(leg(), EventKind::Ringing { early_media: true }, 1).unwrap();
    assert_eq!(get(&ringing, "CallStatus"), Some("ringing"));
    let answered = LegInfo { status: Status::InProgress, ..leg() };
    let (_, answered) = webhook_of(answered, EventKind::Answered { stream: None }, 2).unwrap();
    assert_eq!((get(&answered, "CallStatus"), get(&answered, "SequenceNumber")), (Some("in-progress"), Some("2")));
}

#[test]
fn answered_by_is_in_the_first_request_the_last_status_callback_and_the_amd_callback() {
    let answered_by = Some(AnsweredBy { verdict: DetectionResult::Machine, after: Duration::from_millis(2_340) });
    let parameters = requested(LegInfo { answered_by, ..leg() }, FetchReason::Start);
    assert_eq!(get(&parameters, "AnsweredBy"), Some("machine_start"));
    assert_eq!(get(&parameters, "MachineDetectionDuration"), Some("2340"));
    assert_eq!(get(&requested(leg(), FetchReason::Start), "AnsweredBy"), None);
    let over = ended(Status::Completed, Some("2018-03-25T09:53:30Z"), None);
    let (_, completed) = webhook_of(LegInfo { answered_by, ..over }, EventKind::Ended, 3).unwrap();
    assert_eq!(get(&completed, "AnsweredBy"), Some("machine_start"));
    let second = Duration::from_secs(1);
    let callback = leg().status_callback;
    let spec = MachineDetection::new(Until::GreetingEnd, second, second, second, second);
    let spec = Box::new(MachineDetection { callback, ..spec });
    let facts = |verdict| MachineFacts { result: verdict, after: second, spec: spec.clone() };
    assert!(
        webhook_of(leg(), EventKind::MachineDetected(facts(DetectionResult::Machine)), 0).is_none(),
        "more follows"
    );
    let beep = facts(DetectionResult::GreetingEnded(GreetingEnd::Beep));
    let (notice, parameters) = webhook_of(leg(), EventKind::MachineDetected(beep), 0).unwrap();
    assert!(!notice.numbered);
    assert_eq!(get(&parameters, "AnsweredBy"), Some("machine_end_beep"));
    assert_eq!((get(&parameters, "MachineDetectionDuration"), parameters.len()), (Some("1000"), 4));
}

#[test]
fn the_completed_callback_has_seconds_and_started_minutes() {
    let leg = ended(Status::Completed, Some("2018-03-25T09:53:30Z"), None);
    let (_, completed) = webhook_of(leg, EventKind::Ended, 3).unwrap();
    assert_eq!(get(&completed, "CallStatus"), Some("completed"));
    assert_eq!((get(&completed, "CallDuration"), get(&completed, "Duration")), (Some("61"), Some("2")));
    assert_eq!(get(&completed, "SipResponseCode"), Some("200"));
    let (_, busy) = webhook_of(ended(Status::Busy, None, Some(486)), EventKind::Ended, 2).unwrap();
    assert_eq!((get(&busy, "CallDuration"), get(&busy, "Duration")), (Some("0"), Some("0")));
    assert_eq!((get(&busy, "CallStatus"), get(&busy, "SipResponseCode")), (Some("busy"), Some("486")));
    for (status, own, expected) in [
        (Status::NoAnswer, None, Some("487")),
        (Status::NoAnswer, Some(480), Some("480")),
        (Status::Canceled, None, Some("487")),
        (Status::Failed, None, None),
    ] {
        let (_, ended) = webhook_of(ended(status, None, own), EventKind::Ended, 2).unwrap();
        assert_eq!(get(&ended, "SipResponseCode"), expected, "{status:?}");
    }
}

#[test]
fn the_completed_callback_names_the_recording_of_the_call_request() {
    let event = CallEvent {
        at: "2018-03-25T09:54:31Z".parse().unwrap(),
        leg: Arc::new(ended(Status::Completed, Some("2018-03-25T09:53:30Z"), None)),
        kind: EventKind::Ended,
    };
    let recording_of = |status| {
        let context = Context { recording: Some(recording(status)), ..context(3) };
        let [notice] = &webhook(crate::owner(ACCOUNT), &event, &context)[..] else { panic!() };
        let Body::Form(parameters) = &notice.body else { panic!() };
        let get = |name| get(parameters, name).map(str::to_owned);
        [get("RecordingSid"), get("RecordingUrl").map(|url| url[url.len() - 34..].to_owned()), get("RecordingDuration")]
    };
    let sid = Some("RE0000000000000000000000000000000b".to_owned());
    assert_eq!(recording_of(RecordingStatus::Completed), [sid.clone(), sid, Some("5".to_owned())]);
    assert_eq!(recording_of(RecordingStatus::Absent), [None, None, None]);
}

#[test]
fn events_without_a_subscription_send_no_webhook() {
    let mut quiet = leg();
    quiet.status_callback.as_mut().unwrap().events = vec![StatusEvent::Completed];
    assert!(webhook_of(quiet.clone(), EventKind::Initiated, 0).is_none());
    assert!(webhook_of(quiet.clone(), EventKind::DtmfReceived { digit: '1' }, 0).is_none());
    assert!(webhook_of(quiet, EventKind::Recording(recording(RecordingStatus::InProgress)), 0).is_none());
    assert!(webhook_of(LegInfo { status_callback: None, ..leg() }, EventKind::Ended, 0).is_none());
}

#[test]
fn a_recording_reports_its_end_to_its_own_callback() {
    let (notice, parameters) =
        webhook_of(leg(), EventKind::Recording(recording(RecordingStatus::Completed)), 0).unwrap();
    assert!(!notice.numbered);
    assert_eq!(notice.target.url.as_ref(), "http://app/rec");
    for (name, value) in [
        ("RecordingSource", "RecordVerb"),
        ("RecordingStatus", "completed"),
        ("RecordingChannels", "1"),
        ("RecordingDuration", "5"),
        ("ErrorCode", "0"),
        ("RecordingStartTime", "Sun, 25 Mar 2018 09:53:20 +0000"),
        ("CallSid", "CA0000000000000000000000000000000a"),
        ("AccountSid", ACCOUNT),
        ("RecordingTrack", "inbound"),
    ] {
        assert_eq!(get(&parameters, name), Some(value), "{name}");
    }
}

#[test]
fn a_stream_reports_its_states_to_its_own_callback() {
    let spec = StreamSpec {
        url: "ws://x/".into(),
        name: None,
        track: Track::Inbound,
        codec: None,
        bidirectional_mode: None,
        parameters: Vec::new(),
        callback: Some(Callback::new(target("http://app/stream"), Vec::new())),
        target_legs: tandem_call::leg::TargetLegs::Own,
        auth_token: None,
        connect_timing: ConnectTiming::default(),
        transport: StreamTransport::Messages,
    };
    let facts = |status| StreamFacts { id: StreamId(0xe), spec: spec.clone(), status };
    let (_, started) = webhook_of(leg(), EventKind::Stream(facts(StreamStatus::Started)), 0).unwrap();
    assert_eq!(get(&started, "StreamEvent"), Some("stream-started"));
    assert_eq!(get(&started, "StreamName"), Some("MZ0000000000000000000000000000000e"));
    assert_eq!(get(&started, "Timestamp"), Some("2018-03-25T09:54:31.000Z"));
    let (_, failed) =
        webhook_of(leg(), EventKind::Stream(facts(StreamStatus::Failed(StreamFault::Closed.because("gone")))), 0)
            .unwrap();
    assert_eq!((get(&failed, "StreamEvent"), get(&failed, "StreamError")), (Some("stream-error"), Some("gone")));
}

#[test]
fn a_siprec_session_reports_its_states_to_its_own_callback() {
    let callback = Callback::new(target("http://app/siprec"), Vec::new());
    let spec = |name: Option<&str>| {
        Box::new(SiprecSpec {
            connector: "recorder".into(),
            name: name.map(str::to_owned),
            track: Track::Both,
            parameters: Vec::new(),
            callback: Some(callback.clone()),
        })
    };
    let facts = |name, status| EventKind::Siprec(SiprecFacts { id: SiprecId(0xd), spec: spec(name), status });
    let (_, started) = webhook_of(leg(), facts(None, SiprecStatus::Started), 0).unwrap();
    assert_eq!(get(&started, "SiprecEvent"), Some("siprec-started"));
    assert_eq!(get(&started, "SiprecName"), Some("SR0000000000000000000000000000000d"));
    assert_eq!(get(&started, "Timestamp"), Some("2018-03-25T09:54:31.000Z"));
    let why = SiprecFault::Refused(503).because("busy");
    let (_, failed) = webhook_of(leg(), facts(Some("mine"), SiprecStatus::Failed(why)), 0).unwrap();
    assert_eq!((get(&failed, "SiprecEvent"), get(&failed, "SiprecName")), (Some("siprec-error"), Some("mine")));
    assert_eq!((get(&failed, "SiprecErrorCode"), get(&failed, "SiprecError")), (Some("31902"), Some("busy")));
    assert!(webhook_of(leg(), facts(None, SiprecStatus::Paused), 0).is_none(), "there is no word for it");
}

fn words(stable: &str, unstable: &str) -> RecognisedText {
    let (stable, unstable) = (stable.to_owned(), unstable.to_owned());
    RecognisedText { stable, unstable, stability: Some(0.8), confidence: Some(0.9), ..RecognisedText::default() }
}

#[test]
fn a_speech_gather_request_has_the_text_and_its_confidence() {
    let parameters = requested(leg(), FetchReason::GatheredSpeech(words("pay my bill", "")));
    assert_eq!(get(&parameters, "SpeechResult"), Some("pay my bill"));
    assert_eq!(get(&parameters, "Confidence"), Some("0.9"));
    assert_eq!(get(&parameters, "Digits"), None);
    let unsure = RecognisedText { confidence: None, ..words("yes", "") };
    assert_eq!(get(&requested(leg(), FetchReason::GatheredSpeech(unsure)), "Confidence"), Some("1.0"));
    let nothing = requested(leg(), FetchReason::GatheredSpeech(RecognisedText::default()));
    assert_eq!((get(&nothing, "SpeechResult"), get(&nothing, "Confidence")), (Some(""), Some("0.0")));
}

#[test]
fn a_partial_gather_callback_has_stable_and_unstable_text() {
    let callback = leg().status_callback.unwrap();
    let kind = EventKind::GatherPartial { words: words("pay", "my bell"), sequence: 3, callback };
    let (notice, parameters) = webhook_of(leg(), kind, 0).unwrap();
    assert_eq!((notice.event.as_ref(), &*notice.target.url), ("gather-partial", "http://app/status"));
    for (name, value) in [
        ("StableSpeechResult", "pay"),
        ("UnstableSpeechResult", "my bell"),
        ("Stability", "0.8"),
        ("SequenceNumber", "3"),
        ("Confidence", "0.9"),
        ("CallSid", "CA0000000000000000000000000000000a"),
    ] {
        assert_eq!(get(&parameters, name), Some(value), "{name}");
    }
}

#[test]
fn a_live_transcription_numbers_its_callbacks_from_one() {
    let spec = TranscriptionSpec {
        name: Some("t".into()),
        track: Track::Both,
        recognition: RecognitionSpec {
            language: Some("en-US".into()),
            hints: vec!["a".into(), "b".into()],
            ..RecognitionSpec::default()
        },
        labels: (Some("customer".into()), None),
        engine: ("google".into(), "telephony".into()),
        at_end: false,
        if_none_runs: false,
        callback: leg().status_callback,
    };
    let facts = |sequence, status| {
        let spec = Box::new(spec.clone());
        EventKind::Transcription(TranscriptionFacts { id: TranscriptionId(0xb), spec, sequence, status })
    };
    let (_, started) = webhook_of(leg(), facts(0, TranscriptionStatus::Started), 0).unwrap();
    let configuration =
        r#"{"enableAutomaticPunctuation":"false","hints":"a, b","profanityFilter":"false","speechModel":"telephony"}"#;
    for (name, value) in [
        ("TranscriptionEvent", "transcription-started"),
        ("TranscriptionSid", "GT0000000000000000000000000000000b"),
        ("SequenceId", "1"),
        ("Timestamp", "2018-03-25T09:54:31.000Z"),
        ("Track", "both_tracks"),
        ("LanguageCode", "en-US"),
        ("TranscriptionEngine", "google"),
        ("ProviderConfiguration", configuration),
        ("Name", "t"),
        ("InboundTrackLabel", "customer"),
        ("PartialResults", "false"),
    ] {
        assert_eq!(get(&started, name), Some(value), "{name}");
    }
    assert_eq!(get(&started, "OutboundTrackLabel"), None);
    let content_of =
        |is_final| TranscriptionStatus::Recognised { track: Track::Outbound, words: words("hello", ""), is_final };
    let (_, content) = webhook_of(leg(), facts(1, content_of(true)), 0).unwrap();
    assert_eq!(get(&content, "TranscriptionData"), Some(r#"{"confidence":0.9,"transcript":"hello"}"#));
    assert_eq!((get(&content, "Track"), get(&content, "Final")), (Some("outbound_track"), Some("true")));
    assert_eq!((get(&content, "SequenceId"), get(&content, "Stability")), (Some("2"), None));
    let (_, partial) = webhook_of(leg(), facts(2, content_of(false)), 0).unwrap();
    assert_eq!((get(&partial, "Final"), get(&partial, "Stability")), (Some("false"), Some("0.8")));
    let (_, failed) = webhook_of(leg(), facts(3, TranscriptionStatus::Failed("gone".into())), 0).unwrap();
    assert_eq!(get(&failed, "TranscriptionEvent"), Some("transcription-error"));
    assert_eq!(get(&failed, "TranscriptionError"), Some("gone"));
}

#[test]
fn the_action_of_a_conversation_gets_its_status_and_error() {
    let parameters_of = |status| {
        let duration = Duration::from_millis(12_900);
        let facts = ConversationFacts { id: ConversationId(0xe), status, duration, agent: None };
        let request = requested(leg(), FetchReason::Conversed(Box::new(facts)));
        assert_eq!(get(&request, "SessionId"), Some("VX0000000000000000000000000000000e"));
        assert_eq!(get(&request, "SessionDuration"), Some("12"));
        let names = ["SessionStatus", "HandoffData", "ErrorCode", "ErrorMessage"];
        names.map(|name| get(&request, name).map(str::to_owned))
    };
    let word = |text: &str| Some(text.to_owned());
    assert_eq!(parameters_of(ConversationStatus::Completed), [word("completed"), None, None, None]);
    assert_eq!(parameters_of(ConversationStatus::Ended(None)), [word("ended"), None, None, None]);
    assert_eq!(parameters_of(ConversationStatus::Ended(word("{}"))), [word("ended"), word("{}"), None, None]);
    let failed = |after_start| ConversationStatus::Failed { after_start, why: StreamFault::Closed.because("gone") };
    assert_eq!(parameters_of(failed(true)), [word("failed"), None, word("64105"), word("Websocket ended")]);
    let unreachable = word("Unable to connect to websocket URL");
    assert_eq!(parameters_of(failed(false)), [word("failed"), None, word("64102"), unreachable]);
}

#[test]
fn an_internal_call_passes_its_parameters_and_customer_to_the_called_application() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let handover = InternalCall {
        parameters: vec![pair("Param_cart", "7"), pair("CallSid", "another"), pair("order", "9")],
        customer: Some("shop".into()),
        ..InternalCall::default()
    };
    let called = LegInfo { direction: Direction::Inbound, handover: Some(Box::new(handover)), ..leg() };
    let parameters = requested(called.clone(), FetchReason::Start);
    for (name, value) in [("Param_cart", "7"), ("order", "9"), ("CustomerId", "shop")] {
        assert_eq!(get(&parameters, name), Some(value), "{name}");
    }
    assert_eq!(parameters.iter().filter(|(name, _)| name == "CallSid").count(), 1);
    let calling = requested(LegInfo { direction: Direction::OutboundDial, ..called }, FetchReason::Start);
    assert_eq!(get(&calling, "Param_cart"), None);
}
