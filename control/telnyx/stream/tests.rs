use rand::{Rng, RngExt, SeedableRng};
use serde_json::json;
use tandem_call::stream::{ConnectTiming, SampleRate, StreamTransport};
use tandem_id::AccountName;

use super::*;
use crate::fixture::{LEG, account, leg};

const STREAM: &str = "1af5aabe-a9b8-11f0-bb0d-02420a1f0a70";

fn spec() -> StreamSpec {
    StreamSpec {
        url: "ws://127.0.0.1:9000/audio".into(),
        name: None,
        track: Track::Both,
        codec: None,
        bidirectional_mode: Some(BidirectionalMode::Payload(StreamCodec::Pcmu)),
        parameters: Vec::new(),
        callback: None,
        target_legs: tandem_call::leg::TargetLegs::Own,
        auth_token: None,
        connect_timing: ConnectTiming::default(),
        transport: StreamTransport::Messages,
    }
}

fn wire(spec: &StreamSpec) -> Wire {
    Wire::new(&account(), &leg(), StreamId(LEG.0 + 7), spec)
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn media(wire: &mut Wire, track: Track, rtp_timestamp: u32) -> Value {
    let mut out = String::new();
    wire.media(&MediaFrame { track, timestamp_ms: 20, rtp_timestamp, payload: &[0xff; 160] }, &mut out);
    parsed(&out)
}

#[test]
fn a_streams_frames_are_numbered_from_its_start() {
    let mut wire = wire(&spec());
    assert_eq!(wire.connected(), r#"{"event":"connected","version":"1.0.0"}"#);
    let expected = json!({
        "event": "start", "sequence_number": "1", "stream_id": STREAM,
        "start": {
            "user_id": id::user_id(&AccountName::new("acme")), "call_control_id": id::call_control_id(LEG),
            "call_session_id": "1af5a4ce-a9b8-11f0-8e2d-02420a1f0a69",
            "from": "+15551230001", "to": "+15551230002", "tags": [], "client_state": null, "custom_parameters": {},
            "media_format": {"encoding": "PCMU", "sample_rate": 8000, "channels": 1},
        },
    });
    assert_eq!(parsed(&wire.start()), expected);
    let payload = STANDARD.encode([0xff; 160]);
    let expected = |sequence: &str, track: &str, chunk: &str, timestamp: &str| {
        json!({
            "event": "media", "sequence_number": sequence, "stream_id": STREAM,
            "media": {"track": track, "chunk": chunk, "timestamp": timestamp, "payload": payload},
        })
    };
    assert_eq!(media(&mut wire, Track::Inbound, 20_800), expected("2", "inbound", "1", "20800"));
    assert_eq!(media(&mut wire, Track::Outbound, 160), expected("3", "outbound", "1", "160"));
    assert_eq!(media(&mut wire, Track::Inbound, 20_960), expected("4", "inbound", "2", "20960"));
    let dtmf = wire.dtmf('1', "2026-11-21T02:00:05Z".parse().unwrap()).unwrap();
    let expected = json!({
        "event": "dtmf", "stream_id": STREAM, "occurred_at": "2026-11-21T02:00:05.000000Z", "sequence_number": "5",
        "dtmf": {"digit": "1"},
    });
    assert_eq!(parsed(&dtmf), expected);
    let expected = json!({"event": "mark", "stream_id": STREAM, "sequence_number": "6", "mark": {"name": "a\"b"}});
    assert_eq!(parsed(&wire.mark("a\"b")), expected);
    let expected = json!({
        "event": "stop", "sequence_number": "7", "stream_id": STREAM,
        "stop": {"user_id": id::user_id(&AccountName::new("acme")), "call_control_id": id::call_control_id(LEG)},
    });
    assert_eq!(parsed(&wire.stop()), expected);
}

#[test]
fn the_start_message_has_the_codec_the_client_state_and_the_parameters() {
    let codec_spec =
        StreamSpec { codec: Some(StreamCodec::Pcma), parameters: vec![("bot".into(), "7".into())], ..spec() };
    let leg = LegInfo { client_state: Some("c3RhdGU=".into()), ..leg() };
    let start = parsed(&Wire::new(&account(), &leg, StreamId(1), &codec_spec).start());
    assert_eq!(start["start"]["media_format"]["encoding"], "PCMA");
    assert_eq!(start["start"]["client_state"], "c3RhdGU=");
    assert_eq!(start["start"]["custom_parameters"], json!({"bot": "7"}));
    let mut european = leg;
    european.sip.codec = Some("PCMA".into());
    let start = parsed(&Wire::new(&account(), &european, StreamId(1), &spec()).start());
    assert_eq!(start["start"]["media_format"]["encoding"], "PCMA", "the call's own codec, told truthfully");
}

#[test]
fn l16_audio_has_its_sample_rate_and_is_limited_to_30_seconds() {
    let linear = StreamCodec::L16(SampleRate::Hz16000);
    let codec_spec =
        StreamSpec { codec: Some(linear), bidirectional_mode: Some(BidirectionalMode::Payload(linear)), ..spec() };
    let mut wire = wire(&codec_spec);
    let format = json!({"encoding": "L16", "sample_rate": 16_000, "channels": 1});
    assert_eq!(parsed(&wire.start())["start"]["media_format"], format);
    let mut media = |octets: usize| {
        let payload = STANDARD.encode(vec![0; octets]);
        wire.decode(&json!({"event": "media", "media": {"payload": payload}}).to_string())
    };
    assert!(media(30 * 32_000).is_ok() && media(30 * 32_000 + 1).is_err());
}

#[test]
fn the_handshake_has_telnyxs_user_agent_and_the_auth_token() {
    assert_eq!(wire(&spec()).handshake(), [("User-Agent".to_owned(), "Telnyx/Tandem".to_owned())]);
    let mut wire = wire(&StreamSpec { auth_token: Some("secret".into()), ..spec() });
    assert!(wire.handshake().contains(&("x-telnyx-streaming-auth-token".into(), "secret".into())));
    let expected = json!({"event": "connected", "version": "1.0.0", "x-telnyx-streaming-auth-token": "secret"});
    assert_eq!(parsed(&wire.connected()), expected);
}

#[test]
fn a_media_message_reuses_the_capacity_of_its_buffer() {
    let mut wire = wire(&spec());
    let mut out = String::with_capacity(512);
    let (pointer, capacity) = (out.as_ptr(), out.capacity());
    for timestamp in 0..100 {
        out.clear();
        let frame =
            MediaFrame { track: Track::Inbound, timestamp_ms: 0, rtp_timestamp: timestamp * 160, payload: &[1; 160] };
        wire.media(&frame, &mut out);
    }
    assert_eq!((out.as_ptr(), out.capacity()), (pointer, capacity));
}

#[test]
fn media_mark_and_clear_messages_are_parsed_and_others_ignored() {
    let mut wire = wire(&spec());
    let audio = |bytes: &[u8]| Ok(StreamMessage::Media(Bytes::copy_from_slice(bytes)));
    assert_eq!(wire.decode(r#"{"event":"media","media":{"payload":"AQID"}}"#), audio(&[1, 2, 3]));
    assert_eq!(wire.decode(r#"{"event":"media","stream_id":7,"media":{"payload":"AQI","track":[]}}"#), audio(&[1, 2]));
    assert_eq!(wire.decode(r#"{"media":{"payload":"\/\/8="},"event":"media"}"#), audio(&[255, 255]));
    assert_eq!(wire.decode(r#"{"event":"mark","mark":{"name":"m"}}"#), Ok(StreamMessage::Mark("m".into())));
    assert_eq!(wire.decode(r#"{"event":"clear"}"#), Ok(StreamMessage::Clear));
    for ignored in [
        r#"{"event":"connected","version":"1.0.0"}"#,
        r#"{"event":"whatever","media":3}"#,
        r#"{"event":7}"#,
        r#"{"no":"event"}"#,
        r#"{"event":"media","media":{"payload":""}}"#,
    ] {
        assert_eq!(wire.decode(ignored), Ok(StreamMessage::Ignored), "{ignored}");
    }
}

#[test]
fn an_invalid_message_is_answered_with_an_error_frame() {
    let mut wire = wire(&spec());
    let rows = [
        ("", 100_003, "malformed_frame"),
        ("[1]", 100_003, "malformed_frame"),
        ("{\"event\":", 100_003, "malformed_frame"),
        (r#"{"event":"media"}"#, 100_003, "malformed_frame"),
        (r#"{"event":"media","media":{}}"#, 100_003, "malformed_frame"),
        (r#"{"event":"media","media":{"payload":1}}"#, 100_003, "malformed_frame"),
        (r#"{"event":"mark","mark":{}}"#, 100_003, "malformed_frame"),
        (r#"{"event":"media","media":{"payload":"*"}}"#, 100_004, "invalid_media"),
    ];
    for (message, code, title) in rows {
        let problem = wire.decode(message).unwrap_err();
        assert_eq!(problem.code, code, "{message}");
        let answer = parsed(&problem.answer.unwrap());
        let payload = json!({"code": code, "title": title, "detail": problem.detail});
        assert_eq!(answer, json!({"event": "error", "stream_id": STREAM, "payload": payload}));
    }
    let long = STANDARD.encode(vec![0; LONGEST_PAYLOAD * 8_000 + 1]);
    let message = json!({"event": "media", "media": {"payload": long}}).to_string();
    assert_eq!(wire.decode(&message).unwrap_err().code, 100_004);
}

#[test]
fn rtp_headers_in_payloads_are_removed_from_the_third_packet_on() {
    let packet = |sequence: u16, payload_type: u8| {
        let mut packet = vec![0x80, payload_type];
        packet.extend_from_slice(&sequence.to_be_bytes());
        packet.extend_from_slice(&[0; 8]);
        packet.extend_from_slice(&[0x55; 160]);
        json!({"event": "media", "media": {"payload": STANDARD.encode(packet)}}).to_string()
    };
    let length = |wire: &mut Wire, message: &str| match wire.decode(message) {
        Ok(StreamMessage::Media(audio)) => audio.len(),
        other => panic!("{other:?}"),
    };
    let mut first = wire(&spec());
    let lengths = [65_534, 65_535, 0, 1].map(|sequence| length(&mut first, &packet(sequence, 0)));
    assert_eq!(lengths, [172, 172, 160, 160]);
    let mut other = wire(&spec());
    assert_eq!([7, 8, 9].map(|sequence| length(&mut other, &packet(sequence, 8))), [172; 3], "another codec's type");
    assert_eq!([7, 7, 7].map(|sequence| length(&mut other, &packet(sequence, 0))), [172; 3], "not rising");
}

#[test]
fn a_file_is_passed_on_whole_and_a_unidirectional_stream_ignores_audio() {
    let file = vec![9; LONGEST_PAYLOAD * 2];
    let message = json!({"event": "media", "media": {"payload": STANDARD.encode(&file)}}).to_string();
    let mut files = wire(&StreamSpec { bidirectional_mode: Some(BidirectionalMode::Files), ..spec() });
    assert_eq!(files.decode(&message), Ok(StreamMessage::Media(file.into())));
    let mut one_way = wire(&StreamSpec { bidirectional_mode: None, ..spec() });
    assert_eq!(one_way.decode(&message), Ok(StreamMessage::Ignored));
}

#[test]
fn arbitrary_messages_never_panic() {
    let mut rng = rand::rngs::StdRng::seed_from_u64(4);
    let mut wire = wire(&spec());
    let seeds =
        [r#"{"event":"media","media":{"payload":"gAAAAQAAAAAAAAAA"}}"#, r#"{"event":"mark","mark":{"name":"x"}}"#];
    for round in 0..20_000 {
        let mut bytes = seeds[round % seeds.len()].as_bytes().to_vec();
        for _ in 0..rng.random_range(0..4) {
            let at = rng.random_range(0..bytes.len());
            bytes[at] = (rng.next_u32() & 0x7f) as u8;
        }
        bytes.truncate(rng.random_range(0..=bytes.len()));
        let _ = wire.decode(&String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn an_unplayable_file_is_answered_with_an_error_frame() {
    let files = wire(&StreamSpec { bidirectional_mode: Some(BidirectionalMode::Files), ..spec() });
    let rows = [
        (Unplayable::Undecodable("so it is".into()), 100_004, "invalid_media"),
        (Unplayable::TooSoon, 100_005, "rate_limit_reached"),
    ];
    for (why, code, title) in rows {
        let problem = files.unplayable(why.clone());
        let payload = json!({"code": code, "title": title, "detail": why.to_string()});
        let expected = json!({"event": "error", "stream_id": STREAM, "payload": payload});
        assert_eq!((problem.code, parsed(&problem.answer.unwrap())), (code, expected));
    }
}
