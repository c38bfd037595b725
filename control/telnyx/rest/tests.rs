use std::time::Duration;

use axum::http::StatusCode;
use rand::{RngExt, SeedableRng};
use tandem_call::Target;
use tandem_call::address::Address;
use tandem_call::command::{Command, Interrupt};
use tandem_call::header_fields::HeaderFields;
use tandem_call::leg::{EndCause, EndedBy, LegEnd, LegOwner, TargetLegs};
use tandem_call::machine_detection::Until;
use tandem_call::new_leg::OnAnswer;
use tandem_call::program::instruction::{AfterBridge, AudioSource, Play, RejectReason, SendDigits};
use tandem_call::recording::{RecordingChannels, RecordingFormat, RecordingSource, Track};
use tandem_call::stream::{BidirectionalMode, SampleRate, StreamCodec};
use tandem_call::supervision::SupervisorRole;
use tandem_id::AccountName;

mod conversations;
mod parameters;

use super::*;
use crate::fixture::{self, LEG, SESSION};
use tandem_routing::new_call::NewCall;
use tandem_settings::Application;
use tandem_settings::ApplicationKind;

fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => panic!("{other} is no object"),
    }
}

fn merged(mut value: Value, more: Value) -> Value {
    value.as_object_mut().unwrap().extend(members(more));
    value
}

fn applications() -> Vec<Application> {
    let application = |id: &str, provider: &str, account: &str| Application {
        id: id.into(),
        account: AccountName::new(account),
        provider: provider.into(),
        works_by: ApplicationKind::of(provider),
        webhook_url: "http://127.0.0.1:9000/telnyx".into(),
        webhook_failover_url: Some("http://127.0.0.1:9001/telnyx".into()),
        webhook_method: tandem_call::Method::Post,
        webhook_timeout_secs: None,
        first_command_within: None,
        status_callback: None,
    };
    vec![application("1", "telnyx", "acme"), application("2", "twilio", "acme"), application("3", "telnyx", "other")]
}

fn application(id: &str) -> Option<Application> {
    applications().into_iter().find(|app| &*app.id == id && &app.account == "acme")
}

fn new_call(more: Value) -> Result<NewCall, ApiError> {
    let body = merged(json!({"connection_id": "1", "to": "+15551230002", "from": "+15551230001"}), more);
    dial::new_call(Parameters(&members(body)), &AccountName::new("acme"), application)
}

fn planned(action: &str, body: Value) -> Result<action::Plan, ApiError> {
    let body = members(body);
    action::plan(Action::parse(action)?, Parameters(&body), &fixture::leg(), None)
}

fn command(action: &str, body: Value) -> Command {
    let mut plan = planned(action, body).unwrap();
    assert_eq!(plan.commands.len(), 1);
    plan.commands.remove(0)
}

#[test]
fn a_dial_has_the_documented_defaults() {
    let call = new_call(json!({})).unwrap();
    assert_eq!(
        call.owner,
        LegOwner { application: Some("1".into()), ..LegOwner::new(AccountName::new("acme"), "telnyx") }
    );
    assert_eq!(
        (call.invite.to.to_string(), call.invite.from.to_string()),
        ("+15551230002".into(), "+15551230001".into())
    );
    assert_eq!((call.plan.timeout, call.plan.time_limit), (Duration::from_secs(30), Some(Duration::from_secs(14_400))));
    assert_eq!(call.plan.then, OnAnswer::Wait);
    assert!(
        call.record.is_none() && call.plan.stream.is_none() && call.link_to.is_none() && call.plan.bridge_to.is_none()
    );
    let status = call.status.unwrap();
    assert_eq!(&*status.target.url, "http://127.0.0.1:9000/telnyx");
    assert_eq!(&*status.failover.unwrap().url, "http://127.0.0.1:9001/telnyx");
    assert_eq!(status.events.len(), 6);
}

#[test]
fn a_stream_has_a_codec_and_sample_rate_for_each_direction() {
    let read = |more: serde_json::Value| {
        let mut members = json!({"stream_url": "ws://a/", "stream_bidirectional_mode": "rtp"});
        members.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        new_call(members).map(|call| call.plan.stream.map(|stream| (stream.codec, stream.bidirectional_mode)))
    };
    let stream = read(json!({"stream_codec": "L16", "stream_bidirectional_codec": "L16"})).unwrap().unwrap();
    let narrow = BidirectionalMode::Payload(StreamCodec::L16(SampleRate::Hz8000));
    assert_eq!(stream, (Some(StreamCodec::L16(SampleRate::Hz16000)), Some(narrow)));
    let rate = |rate: u32| json!({"stream_bidirectional_codec": "L16", "stream_bidirectional_sampling_rate": rate});
    for (hertz, published) in [
        (8_000, SampleRate::Hz8000),
        (16_000, SampleRate::Hz16000),
        (22_050, SampleRate::Hz22050),
        (24_000, SampleRate::Hz24000),
        (48_000, SampleRate::Hz48000),
    ] {
        let spoken = BidirectionalMode::Payload(StreamCodec::L16(published));
        assert_eq!(read(rate(hertz)).unwrap().unwrap(), (None, Some(spoken)));
    }
    assert_eq!(read(rate(44_100)).unwrap_err().code, 10032);
    assert_eq!(read(json!({"stream_bidirectional_sampling_rate": 16_000})).unwrap_err().code, 10032);
}

#[test]
fn machine_detection_has_the_defaults_of_its_mode() {
    let read = |members| new_call(members).unwrap().plan.detect;
    assert_eq!(read(json!({"answering_machine_detection": "disabled"})), None);
    let spec = read(json!({"answering_machine_detection": "greeting_end"})).unwrap();
    assert_eq!((spec.until, &*spec.mode, spec.holds), (Until::GreetingEnd, "greeting_end", false));
    assert_eq!((spec.first_result_timeout, spec.words), (Duration::from_millis(3_500), Some(5)));
    assert!(spec.silence_is_machine);
    let config = json!({"total_analysis_time_millis": 5_000, "maximum_number_of_words": 3, "silence_threshold": 512});
    let members = json!({"answering_machine_detection": "detect", "answering_machine_detection_config": config});
    let spec = read(members).unwrap();
    assert_eq!((spec.until, spec.words, spec.silence_threshold), (Until::FirstResult, Some(3), 512));
    assert_eq!(spec.first_result_timeout, Duration::from_secs(5));
    let spec = read(json!({"answering_machine_detection": "premium"})).unwrap();
    assert_eq!((spec.until, spec.words, spec.silence_is_machine), (Until::Beep, None, false));
    assert_eq!(spec.first_result_timeout, Duration::from_secs(30));
}

#[test]
fn every_parameter_of_a_dial_is_used() {
    let call = new_call(json!({
        "to": ["sip:bob@127.0.0.1:5080"], "sip_transport_protocol": "TCP", "from_display_name": "Alice A.",
        "timeout_secs": 10, "time_limit_secs": 60, "client_state": "c3RhdGU=", "command_id": "c",
        "link_to": id::call_control_id(LEG), "bridge_on_answer": true, "park_after_unbridge": "self",
        "webhook_url": "http://127.0.0.1:9002/x", "webhook_url_method": "GET",
        "custom_headers": [{"name": "X-A", "value": "1"}], "sip_headers": [{"name": "User-to-User", "value": "2"}],
        "privacy": "id", "sip_auth_username": "u", "sip_auth_password": "p", "send_digits_on_answer": "1w2W#",
        "record": "record-from-answer", "record_channels": "single", "record_format": "wav", "record_max_length": 9,
        "record_timeout_secs": 0, "record_track": "inbound", "record_trim": "trim-silence",
        "stream_url": "wss://127.0.0.1/a?b=c", "stream_track": "both_tracks", "stream_codec": "PCMA",
        "stream_bidirectional_mode": "rtp", "stream_bidirectional_codec": "PCMA",
        "stream_bidirectional_sampling_rate": 8000, "stream_auth_token": "t",
        "answering_machine_detection": "disabled", "media_encryption": "disabled", "preferred_codecs": "PCMU, G722",
        "deepfake_detection": {"enabled": false}, "transcription": false, "audio_url": null,
    }))
    .unwrap();
    assert_eq!(call.invite.to, Address::Sip("sip:bob@127.0.0.1:5080;transport=tcp".into()));
    assert_eq!(call.invite.caller_name.as_deref(), Some("Alice A."));
    assert_eq!((call.plan.timeout, call.plan.time_limit), (Duration::from_secs(10), Some(Duration::from_secs(60))));
    assert_eq!((call.link_to, call.plan.bridge_to), (Some(LEG), Some(LEG)));
    let status = call.status.unwrap();
    assert_eq!((&*status.target.url, status.target.method), ("http://127.0.0.1:9002/x", tandem_call::Method::Get));
    let headers = [("X-A", "1"), ("User-to-User", "2"), ("Privacy", "id")];
    assert_eq!(*call.invite.headers, headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(call.invite.credentials.unwrap().password, "p");
    assert_eq!(call.plan.send_digits, Some(SendDigits::new("1w2W#")));
    assert_eq!(call.client_state.as_deref(), Some("c3RhdGU="));
    let record = call.record.unwrap();
    assert_eq!((record.source, record.channels), (RecordingSource::Outbound, RecordingChannels::Mono));
    assert_eq!((record.format, record.track, record.trim), (RecordingFormat::Wav, Track::Inbound, true));
    assert_eq!((record.max_length, record.silence_timeout), (Some(Duration::from_secs(9)), None));
    let stream = call.plan.stream.unwrap();
    assert_eq!((stream.url.as_str(), stream.track), ("wss://127.0.0.1/a?b=c", Track::Both));
    assert_eq!(
        (stream.codec, stream.bidirectional_mode),
        (Some(StreamCodec::Pcma), Some(BidirectionalMode::Payload(StreamCodec::Pcma)))
    );
    assert_eq!(stream.auth_token.as_deref(), Some("t"));
}

#[test]
fn unknown_sample_rate_parameters_of_a_stream_are_ignored() {
    // Telnyx has no parameters `stream_sample_rate` and `stream_bidirectional_sample_rate`.
    let stream = new_call(json!({
        "stream_url": "ws://127.0.0.1:9000/audio-stream", "stream_track": "both_tracks", "stream_bidirectional_mode": "rtp",
        "stream_codec": "PCMU", "stream_sample_rate": "8000", "stream_bidirectional_codec": "PCMU",
        "stream_bidirectional_sample_rate": 8000,
    }))
    .unwrap()
    .plan.stream
    .unwrap();
    assert_eq!(stream.bidirectional_mode, Some(BidirectionalMode::Payload(StreamCodec::Pcmu)));
    let stream = new_call(json!({"stream_url": "ws://127.0.0.1:9000/"})).unwrap().plan.stream.unwrap();
    assert_eq!(
        (stream.track, stream.codec, stream.bidirectional_mode),
        (Track::Inbound, None, Some(BidirectionalMode::Files))
    );
}

#[test]
fn media_name_plays_a_stored_file() {
    let stored = || AudioSource::Stored("hello".into());
    assert_eq!(new_call(json!({"media_name": "hello"})).unwrap().plan.then, OnAnswer::Play(Play::once(stored())));
    let Command::Play { play, .. } = command("playback_start", json!({"media_name": "hello", "audio_url": null}))
    else {
        panic!()
    };
    assert_eq!(play.source, stored());
    let Command::Gather(gather) =
        command("gather_using_audio", json!({"media_name": "hello", "invalid_media_name": "hello"}))
    else {
        panic!()
    };
    assert_eq!((&gather.prompts[0].source, &gather.retry_prompts[0].source), (&stored(), &stored()));
}

#[test]
fn several_targets_are_called_at_once() {
    let call = new_call(json!({"to": ["+15551230002", "sip:b@c"], "sip_transport_protocol": "TCP"})).unwrap();
    assert_eq!((call.invite.to.to_string(), call.also), ("+15551230002".into(), vec!["sip:b@c;transport=tcp".into()]));
    let transfer = json!({"to": ["+15551230003", "+15551230004"], "audio_url": "http://127.0.0.1/hello.wav"});
    let Command::Transfer(dial) = command("transfer", transfer) else { panic!() };
    assert_eq!((dial.targets.len(), dial.sequential), (2, false));
    assert!(dial.targets.iter().all(|target| target.greeting.is_some()));
}

#[test]
fn retry_on_timeout_and_prevent_double_bridge_change_a_dial() {
    let call = new_call(json!({})).unwrap();
    assert_eq!((call.plan.unanswered, call.plan.if_free), (EndCause::Timeout, false));
    let more = json!({"retry_on_timeout": false, "prevent_double_bridge": true, "audio_url": "http://127.0.0.1/a.wav"});
    let call = new_call(more).unwrap();
    assert_eq!((call.plan.unanswered, call.plan.if_free), (EndCause::NoAnswer, true));
    assert!(
        matches!(call.plan.then, OnAnswer::Play(play) if play.source == AudioSource::Url("http://127.0.0.1/a.wav".into()))
    );
}

#[test]
fn answer_and_hangup_send_custom_headers() {
    let body = json!({"custom_headers": [{"name": "X-A", "value": "1"}], "sip_headers": [{"name": "User-to-User", "value": "2"}]});
    let given = [("X-A", "1"), ("User-to-User", "2")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let Command::Answer { headers, .. } = command("answer", body.clone()) else { panic!() };
    assert_eq!(*headers, given);
    assert_eq!(command("hangup", body), Command::Hangup { headers: given.into() });
}

#[test]
fn webhook_urls_sends_single_events_to_other_urls() {
    let urls = json!({"call.hangup": "http://127.0.0.1:9003/end", "call.bridge": "http://127.0.0.1:9003/"});
    let status = new_call(json!({"webhook_urls": urls, "webhook_urls_method": "GET"})).unwrap().status.unwrap();
    let end = Target { url: "http://127.0.0.1:9003/end".into(), method: tandem_call::Method::Get };
    assert_eq!(status.target_of("call.hangup"), &end);
    assert_eq!(&*status.target_of("call.answered").url, "http://127.0.0.1:9000/telnyx");
    assert_eq!(&*status.failover.unwrap().url, "http://127.0.0.1:9001/telnyx");
    let all_else = json!({"webhook_url": "http://127.0.0.1:9002/", "webhook_urls": {"call.hangup": &*end.url}});
    let plan = planned("answer", all_else).unwrap();
    let Command::SetCallback(Some(callback)) = &plan.commands[0] else { panic!("{plan:?}") };
    assert_eq!(&*callback.target_of("call.answered").url, "http://127.0.0.1:9002/");
    assert_eq!(callback.target_of("call.hangup").url, end.url);
}

#[test]
fn an_invalid_dial_gets_telnyxs_error_code_and_a_pointer() {
    let rows = [
        (json!({"connection_id": null}), 10004, "/connection_id"),
        (json!({"connection_id": 1}), 10026, "/connection_id"),
        (json!({"connection_id": "9"}), 10015, "/connection_id"),
        (json!({"connection_id": "2"}), 10015, "/connection_id"),
        (json!({"connection_id": "3"}), 10015, "/connection_id"),
        (json!({"to": null}), 10004, "/to"),
        (json!({"to": " "}), 10004, "/to"),
        (json!({"to": []}), 10004, "/to"),
        (json!({"to": 5}), 10026, "/to"),
        (json!({"to": "5551230002"}), 10016, "/to"),
        (json!({"to": "+0"}), 10016, "/to"),
        (json!({"to": "sip:a b@c"}), 10016, "/to"),
        (json!({"to": "sip:a@b\r\nX: y"}), 10016, "/to"),
        (json!({"to": ["+15551230002", 5]}), 10026, "/to"),
        (json!({"to": ["+15551230002", "5551230003"]}), 10016, "/to"),
        (json!({"to": vec!["+15551230002"; 33]}), 10015, "/to"),
        (json!({"to": "sip:a@b;secure=srtp"}), 10038, "/to"),
        (json!({"from": null}), 10004, "/from"),
        (json!({"from": "a\"b"}), 10016, "/from"),
        (json!({"from_display_name": "a<b"}), 10015, "/from_display_name"),
        (json!({"from_display_name": "x".repeat(129)}), 10025, "/from_display_name"),
        (json!({"timeout_secs": 4}), 90028, "/timeout_secs"),
        (json!({"timeout_secs": "x"}), 10026, "/timeout_secs"),
        (json!({"timeout_secs": 10.5}), 10026, "/timeout_secs"),
        (json!({"time_limit_secs": 14_401}), 90029, "/time_limit_secs"),
        (json!({"answering_machine_detection": "x"}), 10032, "/answering_machine_detection"),
        (
            json!({"answering_machine_detection_config": {"maximum_number_of_words": "x"}}),
            10026,
            "/answering_machine_detection_config/maximum_number_of_words",
        ),
        (json!({"audio_url": "nowhere"}), 10003, "/audio_url"),
        (json!({"audio_url": "http://a/b", "media_name": "hello"}), 10015, "/audio_url"),
        (json!({"client_state": "***"}), 90017, "/client_state"),
        (json!({"client_state": 1}), 90017, "/client_state"),
        (json!({"client_state": "QUFB".repeat(16_385)}), 90017, "/client_state"),
        (json!({"link_to": "v3:x"}), 90015, "/link_to"),
        (json!({"bridge_intent": true}), 10004, "/link_to"),
        (json!({"bridge_on_answer": true}), 10004, "/link_to"),
        (json!({"park_after_unbridge": "self"}), 10004, "/link_to"),
        (json!({"park_after_unbridge": "x"}), 10032, "/park_after_unbridge"),
        (json!({"webhook_url": "ftp://a/b"}), 10003, "/webhook_url"),
        (json!({"webhook_url": format!("http://a/{}", "x".repeat(2_000))}), 10003, "/webhook_url"),
        (json!({"webhook_url_method": "PUT"}), 10032, "/webhook_url_method"),
        (json!({"webhook_urls": "http://a"}), 10026, "/webhook_urls"),
        (json!({"webhook_urls": {"call.hangup": "ftp://a"}}), 10003, "/webhook_urls"),
        (json!({"webhook_urls": {"call.hangup": 1}}), 10003, "/webhook_urls"),
        (json!({"webhook_urls": {"hangup": "http://a"}}), 90057, "/webhook_urls"),
        (json!({"webhook_urls_method": "PUT"}), 10032, "/webhook_urls_method"),
        (json!({"custom_headers": {}}), 10026, "/custom_headers"),
        (json!({"custom_headers": [{"name": "X"}]}), 10015, "/custom_headers"),
        (json!({"custom_headers": [{"name": "Via", "value": "x"}]}), 10015, "/custom_headers"),
        (json!({"custom_headers": [{"name": "X-A", "value": "a\r\nVia: b"}]}), 10015, "/custom_headers"),
        (json!({"sip_transport_protocol": "SCTP"}), 10032, "/sip_transport_protocol"),
        (json!({"sip_region": "Mars"}), 10032, "/sip_region"),
        (json!({"media_encryption": "SRTP"}), 10038, "/media_encryption"),
        (json!({"preferred_codecs": "PCMU,XYZ"}), 10032, "/preferred_codecs"),
        (json!({"privacy": "x"}), 10032, "/privacy"),
        (json!({"send_digits_on_answer": "1x"}), 90014, "/send_digits_on_answer"),
        (json!({"record": "yes"}), 10032, "/record"),
        (json!({"record_channels": "stereo"}), 10032, "/record_channels"),
        (json!({"record_max_length": 43_201}), 10033, "/record_max_length"),
        (json!({"record_timeout_secs": -1}), 90049, "/record_timeout_secs"),
        (json!({"record_track": "x"}), 90059, "/record_track"),
        (json!({"record_custom_file_name": ""}), 10025, "/record_custom_file_name"),
        (json!({"stream_url": "http://a"}), 10003, "/stream_url"),
        (json!({"stream_track": "both"}), 10032, "/stream_track"),
        (json!({"stream_codec": "G722"}), 10032, "/stream_codec"),
        (json!({"stream_bidirectional_codec": "pcmu"}), 10032, "/stream_bidirectional_codec"),
        (json!({"stream_bidirectional_mode": "x"}), 10032, "/stream_bidirectional_mode"),
        (json!({"stream_bidirectional_sampling_rate": 16_000}), 10032, "/stream_bidirectional_sampling_rate"),
        (json!({"stream_bidirectional_target_legs": "x"}), 10032, "/stream_bidirectional_target_legs"),
        (json!({"supervise_call_control_id": "x"}), 90015, "/supervise_call_control_id"),
        (json!({"supervisor_role": "boss"}), 10032, "/supervisor_role"),
        (json!({"transcription": true}), 10038, "/transcription"),
        (json!({"retry_on_timeout": "yes"}), 10026, "/retry_on_timeout"),
    ];
    for (more, code, pointer) in rows {
        let error = new_call(more.clone()).expect_err(&more.to_string());
        assert_eq!((error.code, error.status), (code, StatusCode::UNPROCESSABLE_ENTITY), "{more}");
        assert_eq!(Value::from(&error)["errors"][0]["source"]["pointer"], pointer, "{more}");
    }
}

#[test]
fn every_action_becomes_its_command() {
    assert_eq!(
        command("answer", json!({})),
        Command::Answer { record: None, stream: None, headers: HeaderFields::new() }
    );
    assert_eq!(command("reject", json!({"cause": "USER_BUSY"})), Command::Reject(RejectReason::Busy));
    assert_eq!(command("reject", json!({"cause": "CALL_REJECTED"})), Command::Reject(RejectReason::Rejected));
    assert_eq!(command("hangup", json!({})), Command::Hangup { headers: HeaderFields::new() });
    let role = json!({"role": "whisper"});
    assert_eq!(command("switch_supervisor_role", role), Command::Supervise(SupervisorRole::Whisper));
    assert_eq!(command("mute", json!({"command_id": "1"})), Command::Mute(true));
    assert_eq!(command("unmute", json!({})), Command::Mute(false));
    assert_eq!(command("playback_stop", json!({})), Command::StopPlayback(Interrupt::All));
    assert_eq!(command("playback_stop", json!({"stop": "current"})), Command::StopPlayback(Interrupt::Current));
    assert_eq!(command("gather_stop", json!({})), Command::StopGather);
    assert_eq!(command("record_stop", json!({})), Command::StopRecording(None));
    let recording = json!({"recording_id": id::uuid(LEG.0)});
    assert_eq!(
        command("record_pause", recording.clone()),
        Command::PauseRecording {
            which: Some(tandem_id::RecordingId(LEG.0)),
            pause_behavior: tandem_call::recording::PauseBehavior::Skip
        }
    );
    assert_eq!(command("record_resume", recording), Command::ResumeRecording(Some(tandem_id::RecordingId(LEG.0))));
    assert_eq!(command("streaming_stop", json!({})), Command::StopStream(None));
    let Command::SendDigits(digits) = command("send_dtmf", json!({"digits": "1w#"})) else { panic!() };
    assert_eq!((digits.digits.as_str(), digits.tone), ("1w#", Duration::from_millis(250)));
    let plan = planned("client_state_update", json!({"client_state": "c3RhdGU="})).unwrap();
    assert_eq!(plan.client_state.as_deref(), Some("c3RhdGU="));
    assert_eq!(plan.commands, [Command::SetClientState]);
    let suppress = |track, on| Command::SuppressNoise { track, on };
    assert_eq!(command("suppression_start", json!({})), suppress(Track::Inbound, true));
    let engine = json!({"direction": "both", "noise_suppression_engine": "Krisp"});
    assert_eq!(command("suppression_start", engine), suppress(Track::Both, true));
    assert_eq!(command("suppression_stop", json!({})), suppress(Track::Both, false));
}

#[test]
fn an_answer_may_record_and_stream_and_change_the_webhook_url() {
    let plan = planned(
        "answer",
        json!({"record": "record-from-answer", "stream_url": "ws://127.0.0.1/", "webhook_url": "http://127.0.0.1/w"}),
    )
    .unwrap();
    let [Command::SetCallback(Some(callback)), Command::Answer { record: Some(record), stream: Some(_), .. }] =
        plan.commands.as_slice()
    else {
        panic!("{plan:?}")
    };
    assert_eq!(&*callback.target.url, "http://127.0.0.1/w");
    assert_eq!((record.channels, record.format), (RecordingChannels::Dual, RecordingFormat::Mp3));
}

#[test]
fn speech_and_files_are_played() {
    let body = json!({"payload": "<speak>Hi</speak>", "payload_type": "ssml", "voice": "Polly.Joanna", "language": "en-US",
        "loop": "infinity", "stop": "current"});
    let Command::Play { play, interrupt, .. } = command("speak", body) else { panic!() };
    let AudioSource::Speech(speech) = play.source else { panic!() };
    assert_eq!(
        (speech.ssml, speech.voice.as_deref(), speech.language.as_deref()),
        (true, Some("Polly.Joanna"), Some("en-US"))
    );
    assert_eq!((play.loops, interrupt), (None, Interrupt::Current));
    let Command::Play { play, interrupt, .. } =
        command("playback_start", json!({"audio_url": "http://127.0.0.1/a.wav", "loop": 3}))
    else {
        panic!()
    };
    assert_eq!(play.source, AudioSource::Url("http://127.0.0.1/a.wav".into()));
    assert_eq!((play.loops.map(Into::into), interrupt), (Some(3u32), Interrupt::None));
    let opposite = json!({"payload": "Hi", "voice": "female", "target_legs": "opposite"});
    assert!(matches!(command("speak", opposite), Command::Play { to: TargetLegs::Bridged, .. }));
    let Command::Play { play, .. } = command("playback_start", json!({"playback_content": "AQI="})) else { panic!() };
    assert_eq!(play.source, AudioSource::Inline(Bytes::from_static(&[1, 2])));
}

#[test]
fn gather_commands_have_their_defaults_and_prompts() {
    let Command::Gather(plain) = command("gather", json!({"maximum_digits": 4, "gather_id": "menu"})) else { panic!() };
    assert!(plain.prompts.is_empty());
    assert_eq!((plain.min_digits, plain.max_digits, plain.tries), (1, Some(4), 1));
    assert_eq!((plain.terminators.as_str(), plain.valid_digits.as_deref()), ("#", Some("0123456789#*")));
    assert_eq!(
        (plain.first_digit_timeout, plain.inter_digit_timeout),
        (Duration::from_secs(5), Duration::from_secs(5))
    );
    assert_eq!((plain.total_timeout, plain.id.as_deref()), (Some(Duration::from_secs(60)), Some("menu")));
    let body = json!({"payload": "Press", "voice": "female", "invalid_payload": "Again", "timeout_millis": 3_000});
    let Command::Gather(spoken) = command("gather_using_speak", body) else { panic!() };
    assert_eq!((spoken.prompts.len(), spoken.retry_prompts.len(), spoken.tries), (1, 1, 3));
    assert_eq!((spoken.first_digit_timeout, spoken.total_timeout), (Duration::from_secs(3), None));
    assert!(spoken.barge_in);
    let body = json!({"audio_url": "http://127.0.0.1/a.wav", "maximum_tries": 1});
    let Command::Gather(file) = command("gather_using_audio", body) else { panic!() };
    assert_eq!((file.prompts.len(), file.retry_prompts.len(), file.tries), (1, 0, 1));
    assert_eq!(file.first_digit_timeout, Duration::from_secs(60));
}

#[test]
fn a_transfer_has_the_called_number_as_caller_id_and_the_same_webhooks() {
    let Command::Transfer(dial) =
        command("transfer", json!({"to": "+15551230003", "target_leg_client_state": "c3RhdGU="}))
    else {
        panic!()
    };
    assert_eq!(dial.caller_id, Some(Address::from("+15551230002")));
    assert_eq!((dial.after, dial.answer_on_bridge, dial.timeout), (AfterBridge::Hangup, true, Duration::from_secs(30)));
    let target = &dial.targets[0];
    assert_eq!(target.status, fixture::leg().status_callback);
    assert_eq!(target.client_state.as_deref(), Some("c3RhdGU="));
    let body = json!({"to": "sip:b@127.0.0.1", "from": "+15551230009", "park_after_unbridge": "self",
        "record": "record-from-answer", "webhook_url": "http://127.0.0.1/w", "early_media": false});
    let Command::Transfer(dial) = command("transfer", body) else { panic!() };
    assert_eq!((dial.after, dial.ring_tone.as_deref()), (AfterBridge::Continue, None));
    assert_eq!(dial.caller_id, Some(Address::from("+15551230009")));
    assert!(dial.record.is_some());
    assert_eq!(&*dial.targets[0].status.as_ref().unwrap().target.url, "http://127.0.0.1/w");
}

#[test]
fn a_bridge_names_the_other_leg() {
    let other = id::call_control_id(LegId(9));
    assert_eq!(
        command("bridge", json!({"call_control_id": other})),
        Command::Bridge { with: LegId(9), after: AfterBridge::Hangup, if_free: false }
    );
    let body = json!({"call_control_id": other, "park_after_unbridge": "self", "record": "record-from-answer"});
    let plan = planned("bridge", body).unwrap();
    let [Command::Bridge { after: AfterBridge::Continue, .. }, Command::StartRecording(_)] = plan.commands.as_slice()
    else {
        panic!("{plan:?}")
    };
}

#[test]
fn record_start_and_streaming_start_read_their_parameters() {
    let body = json!({"format": "wav", "channels": "single", "play_beep": true, "max_length": 60, "timeout_secs": 5,
        "recording_track": "outbound", "trim": "trim-silence"});
    let Command::StartRecording(spec) = command("record_start", body) else { panic!() };
    assert_eq!((spec.source, spec.format), (RecordingSource::Request, RecordingFormat::Wav));
    assert_eq!(
        (spec.channels, spec.track, spec.beep, spec.trim),
        (RecordingChannels::Mono, Track::Outbound, true, true)
    );
    assert_eq!((spec.max_length, spec.silence_timeout), (Some(Duration::from_secs(60)), Some(Duration::from_secs(5))));
    let body = json!({"stream_url": "ws://127.0.0.1/", "custom_parameters": [{"name": "bot", "value": "7"}]});
    let Command::StartStream { spec, if_none_runs: true } = command("streaming_start", body) else { panic!() };
    assert_eq!(spec.parameters, [("bot".to_owned(), "7".to_owned())]);
}

#[test]
fn an_invalid_action_gets_telnyxs_error_code_and_a_pointer() {
    let speak = |more: Value| merged(json!({"payload": "Hi", "voice": "female"}), more);
    let rows = [
        ("hangup", json!({"client_state": "***"}), 90017, "/client_state"),
        ("reject", json!({}), 10004, "/cause"),
        ("reject", json!({"cause": "NO"}), 10032, "/cause"),
        ("bridge", json!({}), 10004, "/call_control_id"),
        ("bridge", json!({"call_control_id": "v3:nothing"}), 90015, "/call_control_id"),
        ("bridge", json!({"video_room_id": "room"}), 10038, "/video_room_id"),
        ("enqueue", json!({"max_wait_time_secs": 60}), 10004, "/queue_name"),
        ("enqueue", json!({"queue_name": "support", "max_wait_time_secs": 0}), 10033, "/max_wait_time_secs"),
        ("enqueue", json!({"queue_name": "support", "keep_after_hangup": true}), 10038, "/keep_after_hangup"),
        ("transfer", json!({}), 10004, "/to"),
        ("transfer", json!({"to": "5551"}), 10016, "/to"),
        ("transfer", json!({"to": "+15551230003", "target_leg_client_state": "*"}), 90017, "/target_leg_client_state"),
        ("speak", json!({"voice": "female"}), 10004, "/payload"),
        ("speak", json!({"payload": "Hi"}), 10004, "/voice"),
        ("speak", speak(json!({"payload": "x".repeat(3_001)})), 90010, "/payload"),
        ("speak", speak(json!({"payload_type": "html"})), 90011, "/payload_type"),
        ("speak", speak(json!({"service_level": "gold"})), 90030, "/service_level"),
        ("speak", speak(json!({"loop": 0})), 90009, "/loop"),
        ("speak", speak(json!({"loop": "often"})), 90009, "/loop"),
        ("speak", speak(json!({"stop": "now"})), 90016, "/stop"),
        ("speak", speak(json!({"target_legs": "everyone"})), 10032, "/target_legs"),
        ("playback_start", json!({}), 10004, "/audio_url"),
        ("playback_start", json!({"audio_url": "a.wav"}), 10003, "/audio_url"),
        ("playback_start", json!({"audio_url": "http://a/b", "media_name": "a"}), 10015, "/audio_url"),
        ("playback_start", json!({"media_name": "a", "playback_content": "AQ=="}), 10015, "/audio_url"),
        ("playback_start", json!({"audio_url": "http://a/b", "playback_content": "AQ=="}), 10015, "/audio_url"),
        ("playback_start", json!({"audio_url": "http://a/b", "overlay": true}), 10038, "/overlay"),
        ("playback_start", json!({"playback_content": "*"}), 10015, "/playback_content"),
        ("gather", json!({"minimum_digits": 0}), 90022, "/minimum_digits"),
        ("gather", json!({"minimum_digits": 5, "maximum_digits": 4}), 90022, "/minimum_digits"),
        ("gather", json!({"maximum_digits": 129}), 90023, "/maximum_digits"),
        ("gather", json!({"terminating_digit": "##"}), 90007, "/terminating_digit"),
        ("gather", json!({"valid_digits": "x"}), 90008, "/valid_digits"),
        ("gather", json!({"timeout_millis": 0}), 90025, "/timeout_millis"),
        ("gather", json!({"inter_digit_timeout_millis": 0}), 90026, "/inter_digit_timeout_millis"),
        ("gather", json!({"initial_timeout_millis": -1}), 90056, "/initial_timeout_millis"),
        ("gather", json!({"gather_id": "x".repeat(41)}), 10025, "/gather_id"),
        ("gather_using_speak", json!({"voice": "female"}), 10004, "/payload"),
        ("gather_using_speak", speak(json!({"maximum_tries": 0})), 90024, "/maximum_tries"),
        ("gather_using_audio", json!({}), 10004, "/audio_url"),
        ("send_dtmf", json!({}), 10004, "/digits"),
        ("send_dtmf", json!({"digits": "12e"}), 90014, "/digits"),
        ("send_dtmf", json!({"digits": "1", "duration_millis": 99}), 90027, "/duration_millis"),
        ("record_start", json!({"channels": "dual"}), 10004, "/format"),
        ("record_start", json!({"format": "wav"}), 10004, "/channels"),
        ("record_start", json!({"format": "ogg", "channels": "dual"}), 10032, "/format"),
        ("record_start", json!({"format": "wav", "channels": "dual", "max_length": 14_401}), 10033, "/max_length"),
        (
            "record_start",
            json!({"format": "wav", "channels": "dual", "recording_track": "x"}),
            90059,
            "/recording_track",
        ),
        ("record_start", json!({"format": "wav", "channels": "dual", "timeout_secs": "x"}), 10026, "/timeout_secs"),
        ("record_stop", json!({"recording_id": "x"}), 10006, "/recording_id"),
        ("streaming_start", json!({}), 10004, "/stream_url"),
        ("streaming_start", json!({"stream_url": "ws://a/", "stream_codec": "OPUS"}), 10032, "/stream_codec"),
        ("streaming_stop", json!({"stream_id": 5}), 10026, "/stream_id"),
        ("client_state_update", json!({}), 10004, "/client_state"),
        ("suppression_start", json!({"direction": "up"}), 10032, "/direction"),
    ];
    for (action, body, code, pointer) in rows {
        let error = planned(action, body.clone()).expect_err(&format!("{action} {body}"));
        assert_eq!(error.code, code, "{action} {body}");
        assert_eq!(Value::from(&error)["errors"][0]["source"]["pointer"], pointer, "{action} {body}");
    }
}

#[test]
fn an_unknown_action_gets_404_and_an_unsupported_action_422() {
    for (action, code, status) in
        [("fly", 10005, StatusCode::NOT_FOUND), ("ai_assistant_join", 10038, StatusCode::UNPROCESSABLE_ENTITY)]
    {
        let error = Action::parse(action).unwrap_err();
        assert_eq!((error.code, error.status), (code, status), "{action}");
    }
}

#[test]
fn every_published_action_is_known() {
    let Some(document) = fixture::published() else { return };
    let prefix = "/calls/{call_control_id}/actions/";
    for path in document["paths"].as_object().unwrap().keys() {
        let Some(action) = path.strip_prefix(prefix) else { continue };
        let known = Action::parse(action).map_or_else(|error| error.code == 10038, |_| true);
        assert!(known, "{action}");
    }
}

#[test]
fn a_call_has_the_published_fields() {
    let known = |data: &Value, schema: &str| {
        let Some(document) = fixture::published() else { return };
        let known = &document["components"]["schemas"][schema]["properties"];
        for member in
            data.as_object().unwrap().keys().filter(|member| !["status", "direction"].contains(&member.as_str()))
        {
            assert!(!known[member].is_null(), "{schema} has no {member}");
        }
    };
    let expected = json!({
        "record_type": "call", "call_control_id": id::call_control_id(LEG), "call_leg_id": id::uuid(LEG.0),
        "call_session_id": id::uuid(SESSION.0), "client_state": null, "is_alive": false, "status": "initiated",
        "direction": "outbound-dial",
    });
    let created = |recording| Created { leg: fixture::leg().into(), recording };
    let data = dialled(&created(None));
    assert_eq!(data, expected);
    let data = dialled(&created(Some(tandem_id::RecordingId(LEG.0))));
    assert_eq!(data["recording_id"], id::uuid(LEG.0));
    known(&data, "CallWithRecordingId");
    let now = "2026-11-21T02:01:00Z".parse().unwrap();
    let mut leg = fixture::leg();
    let data = shown(&leg, now);
    assert_eq!((&data["is_alive"], &data["call_duration"], &data["end_time"]), (&json!(true), &json!(0), &Value::Null));
    leg.status = Status::Completed;
    leg.answered_at = Some("2026-11-21T02:00:02Z".parse().unwrap());
    let at = "2026-11-21T02:00:12Z".parse().unwrap();
    leg.end = Some(LegEnd {
        at,
        cause: EndCause::NormalClearing,
        by: EndedBy::FarEnd,
        sip_status: None,
        detail: None,
        failure: None,
    });
    let data = shown(&leg, now);
    assert_eq!((&data["is_alive"], &data["call_duration"]), (&json!(false), &json!(10)));
    assert_eq!(data["end_time"], "2026-11-21T02:00:12.000000Z");
    known(&data, "CallWithRecordingId");
}

#[test]
fn only_the_command_answer_returns_a_recording_id() {
    let accepted = Accepted { recording: Some(tandem_id::RecordingId(LEG.0)), ..Accepted::default() };
    let mut result = json!({"result": "ok"});
    add_recording(&mut result, Action::RecordStart, &accepted);
    assert_eq!(result, json!({"result": "ok"}));
    add_recording(&mut result, Action::Answer, &accepted);
    assert_eq!(result, json!({"result": "ok", "recording_id": id::uuid(LEG.0)}));
}

#[test]
fn invalid_bodies_and_authorization_headers_are_refused() {
    assert!(
        object(b"").unwrap().is_empty() && object(b" \n").unwrap().is_empty() && object(b"null").unwrap().is_empty()
    );
    for (body, code) in [(&b"{"[..], 10023), (b"[]", 10029), (b"\"x\"", 10029), (b"{\"a\":\"\xff\"}", 10028)] {
        let error = object(body).unwrap_err();
        assert_eq!((error.code, error.status), (code, StatusCode::BAD_REQUEST));
    }
    assert_eq!(bearer("Bearer KEY1"), Some("KEY1"));
    assert_eq!(bearer("bearer  KEY1 "), Some("KEY1"));
    for header in ["", "Bearer", "Bearer ", "Basic KEY1", "KEY1"] {
        assert_eq!(bearer(header), None, "{header}");
    }
    let accounts = tandem_accounts::Accounts::new([fixture::account()]);
    assert!(accounts.by_telnyx_key("KEY1").is_some());
    assert!(accounts.by_telnyx_key("KEY2").is_none() && accounts.by_telnyx_key("").is_none());
}

#[test]
fn arbitrary_parameters_never_panic() {
    let document = fixture::published();
    let mut names: Vec<String> =
        ["to", "from", "loop", "stream_url", "custom_headers", "client_state", "call_control_id"]
            .map(Into::into)
            .into();
    if let Some(document) = &document {
        for schema in ["CallRequest", "DialRequest", "SpeakRequest", "GatherUsingSpeakRequest", "TransferCallRequest"] {
            names.extend(
                document["components"]["schemas"][schema]["properties"]
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(name, _)| name.clone()),
            );
        }
    }
    let values = [
        json!(""),
        json!("\u{0}é"),
        json!(-1),
        json!(1e300),
        json!(true),
        json!([]),
        json!({}),
        json!([[]]),
        json!("v3:"),
        json!("sip:"),
        json!("ws://"),
        json!([{"name": "", "value": ""}]),
        json!("AQID"),
        json!(null),
        json!(u64::MAX),
    ];
    let mut rng = rand::rngs::StdRng::seed_from_u64(5);
    for _ in 0..5_000 {
        let mut body =
            json!({"connection_id": "1", "to": "+15551230002", "from": "+15551230001", "voice": "v", "payload": "p"});
        for _ in 0..rng.random_range(0..6) {
            let name = names[rng.random_range(0..names.len())].clone();
            body[name] = values[rng.random_range(0..values.len())].clone();
        }
        let _ = new_call(body.clone());
        for action in [
            "answer",
            "bridge",
            "transfer",
            "speak",
            "gather_using_speak",
            "playback_start",
            "streaming_start",
            "record_start",
        ] {
            let _ = planned(action, body.clone());
        }
    }
}

#[tokio::test]
async fn a_repeated_command_id_executes_once_and_gets_the_same_answer() {
    let repeats = Repeats::default();
    let executed = std::sync::atomic::AtomicU32::new(0);
    let body = members(json!({"command_id": "c"}));
    let run = |scope: &'static str, fails: bool| {
        let (repeats, executed, body) = (&repeats, &executed, &body);
        async move {
            let execute = async {
                tokio::task::yield_now().await;
                let count = executed.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
                if fails { Err(ApiError::call_ended()) } else { Ok(json!(count)) }
            };
            once(repeats, scope, Parameters(body), execute).await.map(|Json(answer)| answer)
        }
    };
    assert_eq!(run("a", true).await, Err(ApiError::call_ended()), "a failure is not remembered");
    let (one, two) = tokio::join!(run("a", false), run("a", false));
    assert_eq!((one, two), (Ok(json!(2)), Ok(json!(2))), "the second waited for the first");
    assert_eq!(run("a", false).await, Ok(json!(2)));
    assert_eq!(run("b", false).await, Ok(json!(3)), "another call's ids are its own");
}

#[test]
fn paths_of_the_routes_do_not_conflict() {
    let _: Router<App> = routes();
}

#[test]
fn a_call_to_a_phone_number_needs_a_phone_number_as_caller_id() {
    let refused = |more| new_call(more).unwrap_err().code;
    assert_eq!(refused(json!({"from": "nobody"})), 10016);
    assert_eq!(refused(json!({"from": "nobody", "to": ["sip:a@h", "+15551230002"]})), 10016);
    assert!(new_call(json!({"from": "nobody", "to": "sip:a@h"})).is_ok());
}

#[test]
fn the_webhook_timeout_comes_from_the_call_or_its_application() {
    let timeout =
        |more: Value| new_call(more).map(|call| call.status.unwrap().timeout.map(|timeout| timeout.as_secs()));
    assert_eq!(timeout(json!({})).unwrap(), None);
    assert_eq!(timeout(json!({"webhook_timeout_secs": 25, "webhook_url": "http://a/"})).unwrap(), Some(25));
    assert_eq!(timeout(json!({"webhook_timeout_secs": 31})).unwrap_err().code, 10033);
    let slow = Application { webhook_timeout_secs: Some(20), ..applications().remove(0) };
    let body = json!({"connection_id": "1", "to": "sip:a@h", "from": "b", "webhook_url": "http://a/"});
    let call = dial::new_call(Parameters(&members(body)), &AccountName::new("acme"), |_| Some(slow)).unwrap();
    assert_eq!(call.status.unwrap().timeout, Some(Duration::from_secs(20)));
}
