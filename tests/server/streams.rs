//! Audio to and from a WebSocket application, in both dialects. The tests check the audio that the caller hears.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::app::{App, AppRequest, Frame, Stream};
use crate::audio::{decode, holds, noise, tone};
use crate::phone::{Phone, SipEvent};
use crate::test_server::{ACCOUNT_SID, AUTH_TOKEN, TestServer, asks, commanded};

/// The differences between the messages of the two dialects.
struct Wire {
    sequence: &'static str,
    /// The increment of `timestamp` between two media messages: 20 ms for Twilio, 160 samples for Telnyx.
    step: u64,
}

const TWILIO: Wire = Wire { sequence: "sequenceNumber", step: 20 };
const TELNYX: Wire = Wire { sequence: "sequence_number", step: 160 };

/// The maximum number of attempts. A busy computer is sometimes late, but a wrong program fails in every attempt.
const TRIES: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connected_stream_receives_and_sends_audio_and_then_the_document_continues() {
    let mut app = App::start(|request: &AppRequest| {
        let stream = format!("ws://{}/stream", request.headers["host"].to_str().unwrap());
        match request.path.as_str() {
            "/voice" => format!(
                "<Response><Connect action=\"/after\"><Stream url=\"{stream}\">\
                 <Parameter name=\"who\" value=\"me\"/></Stream></Connect></Response>"
            ),
            "/after" => "<Response><Hangup/></Response>".to_owned(),
            _ => String::new(),
        }
    })
    .await;
    let server = TestServer::start(&asks("100", app.address)).await;
    let mut phone = Phone::new().await;
    phone.call(server.udp, "100").await;
    let stream = app.stream().await;
    let signature = tandem_twilio::sign::signature(AUTH_TOKEN, &app.stream_url(), []);
    assert_eq!(stream.headers["x-twilio-signature"], signature.as_str());
    assert!(!stream.headers.contains_key("origin"));

    let call_sid = app.request("/voice").await.field("CallSid");
    let (_, start) = stream.event("start").await;
    let stream_sid = start["streamSid"].as_str().unwrap();
    assert!(stream_sid.starts_with("MZ") && stream_sid.len() == 34);
    assert_eq!(stream.frames.all()[0].1, json!({ "event": "connected", "protocol": "Call", "version": "1.0.0" }));
    let expected = json!({
        "event": "start",
        "sequenceNumber": "1",
        "streamSid": stream_sid,
        "start": {
            "accountSid": ACCOUNT_SID,
            "callSid": call_sid,
            "streamSid": stream_sid,
            "tracks": ["inbound"],
            "mediaFormat": { "encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1 },
            "customParameters": { "who": "me" },
        },
    });
    assert_eq!(start, expected);

    converse(&stream, &phone, &TWILIO).await;
    let keys: Vec<Value> = stream.events("dtmf").into_iter().map(|(_, mut frame)| frame["dtmf"].take()).collect();
    let key = |digit: &str| json!({ "track": "inbound_track", "digit": digit });
    assert_eq!(keys, [key("7"), key("#")]);

    // The application closes the stream, so the document continues.
    stream.close();
    phone.until(SipEvent::Bye).await;
    stream.closed().await;
    let after = app.request("/after").await;
    assert_eq!((after.field("StreamSid").as_str(), after.is_signed()), (stream_sid, true));
    assert_eq!(app.request("/status").await.field("CallStatus"), "completed");
    server.quiet().await;
    let lines = server.api.get(&format!("/console/sessions/{call_sid}/events")).await.json();
    assert_timeline(lines.as_array().unwrap(), stream_sid);
    let metrics = String::from_utf8(server.api.get("/metrics").await.body).unwrap();
    for series in ["tandem_stream_connect_seconds_count{kind=\"stream\"}", "tandem_stream_first_audio_seconds_count"] {
        assert!(metrics.contains(&format!("\n{series} 1\n")), "{metrics}");
    }
    server.end().await;
}

/// Asserts the lines of a stream in the log of a call: the start of the stream, its first audio, and its counters at
/// the end.
fn assert_timeline(lines: &[Value], stream_sid: &str) {
    let is_logged = |text: &str| lines.iter().any(|line| line["text"] == text);
    assert!(is_logged(&format!("stream {stream_sid} started")), "{lines:?}");
    let figures = |event: &str| {
        let of = |line: &&Value| line["kind"] == "stream" && line["data"]["event"] == event;
        lines.iter().find(of).unwrap_or_else(|| panic!("no {event} in {lines:?}"))
    };
    assert!(figures("first_audio")["text"].as_str().unwrap().starts_with("first audio of the application, "));
    let end = figures("stream");
    assert!(end["text"].as_str().unwrap().starts_with(&format!("stream {stream_sid}: ")), "{end}");
    let (data, at_least) = (&end["data"], |name: &str, least: u64| end["data"][name].as_u64().unwrap() >= least);
    assert_eq!((&data["id"], &data["refused"]), (&Value::from(stream_sid), &Value::from(0)), "{end}");
    assert!(at_least("frames_out", 200) && at_least("messages_in", 100), "{end}");
    assert!(at_least("marks", 4) && at_least("clears", 1) && at_least("interruptions", 1), "{end}");
    assert!(at_least("audio_in_ms", 2_000), "{end}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_started_by_command_receives_and_sends_audio_until_the_hangup() {
    let mut app = App::start(|_| String::new()).await;
    let application = commanded("200", &app.url("/telnyx"));
    let server = TestServer::start(&application).await;
    let mut phone = Phone::new().await;
    phone.invite(server.udp, "200").await;
    let leg = app.event("call.initiated").await;
    let control = leg["call_control_id"].as_str().unwrap();
    server.api.command(control, "answer", &json!({})).await;
    assert_eq!(phone.outcome().await, 200);
    app.event("call.answered").await;
    let order = json!({
        "stream_url": app.stream_url(),
        "stream_track": "inbound_track",
        "stream_bidirectional_mode": "rtp",
        "stream_bidirectional_codec": "PCMU",
        "client_state": "YWJj",
    });
    server.api.command(control, "streaming_start", &order).await;
    let stream = app.stream().await;
    assert!(stream.headers["user-agent"].to_str().unwrap().to_lowercase().contains("telnyx"));
    app.event("streaming.started").await;

    let (_, start) = stream.event("start").await;
    assert_eq!(stream.frames.all()[0].1, json!({ "event": "connected", "version": "1.0.0" }));
    let user = start["start"]["user_id"].clone();
    let expected = json!({
        "event": "start",
        "sequence_number": "1",
        "stream_id": start["stream_id"],
        "start": {
            "user_id": user,
            "call_control_id": control,
            "call_session_id": leg["call_session_id"],
            "from": "+15550001111",
            "to": "200",
            "tags": [],
            "client_state": "YWJj",
            "custom_parameters": {},
            "media_format": { "encoding": "PCMU", "sample_rate": 8000, "channels": 1 },
        },
    });
    assert_eq!(start, expected);
    assert!(user.is_string() && start["stream_id"].is_string());

    converse(&stream, &phone, &TELNYX).await;
    let keys: Vec<Value> =
        stream.events("dtmf").into_iter().map(|(_, mut frame)| frame["dtmf"]["digit"].take()).collect();
    assert_eq!(keys, ["7", "#"]);

    phone.hangup().await;
    let (_, stop) = stream.event("stop").await;
    stream.closed().await;
    assert_eq!(stop["stop"], json!({ "user_id": user, "call_control_id": control }));
    assert_counted(&stream, &TELNYX);
    app.event("streaming.stopped").await;
    app.event("call.hangup").await;
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_background_stream_receives_both_tracks_until_stop() {
    let mut app = App::start(|request: &AppRequest| match request.path.as_str() {
        "/voice" => format!(
            "<Response><Start><Stream name=\"fork\" track=\"both_tracks\" url=\"ws://{}/stream\"/></Start>\
             <Say>One two three four five six seven</Say><Stop><Stream name=\"fork\"/></Stop><Hangup/></Response>",
            request.headers["host"].to_str().unwrap()
        ),
        _ => String::new(),
    })
    .await;
    let server = TestServer::start(&asks("101", app.address)).await;
    let mut phone = Phone::new().await;
    let audio = noise(4_000, 3);
    phone.audio.say(&audio);
    phone.call(server.udp, "101").await;
    let stream = app.stream().await;
    let (_, stop) = stream.event("stop").await;
    stream.closed().await;
    phone.until(SipEvent::Bye).await;

    assert_eq!(stream.event("start").await.1["start"]["tracks"], json!(["inbound", "outbound"]));
    let call_sid = app.request("/voice").await.field("CallSid");
    assert_eq!(stop["stop"], json!({ "accountSid": ACCOUNT_SID, "callSid": call_sid }));
    assert_counted(&stream, &TWILIO);
    // The beginning of the speech may be before the stream, and the end of the speech may be after it.
    let inbound = track(&stream, "inbound");
    assert!(audio.chunks_exact(4_000).any(|audio| holds(audio, &inbound)));
    let spoken = track(&stream, "outbound");
    let heard = phone.audio.samples();
    // The stream contains the same speech that the caller heard, from the first loud sample of the speech.
    let begin = spoken.iter().position(|sample| sample.unsigned_abs() > 2_000).expect("speech");
    assert!(spoken[begin..].chunks_exact(4_000).any(|spoken| holds(spoken, &heard)));
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_suppression_before_the_answer_affects_the_stream_until_it_is_stopped() {
    let mut app = App::start(|_| String::new()).await;
    let application = commanded("201", &app.url("/telnyx"));
    let server = TestServer::start(&application).await;
    let mut phone = Phone::new().await;
    phone.invite(server.udp, "201").await;
    let leg = app.event("call.initiated").await;
    let control = leg["call_control_id"].as_str().unwrap();
    server.api.command(control, "suppression_start", &json!({ "direction": "both" })).await;
    let order = json!({ "stream_url": app.stream_url(), "stream_track": "inbound_track" });
    server.api.command(control, "answer", &order).await;
    assert_eq!(phone.outcome().await, 200);
    let stream = app.stream().await;
    let hiss: Vec<i16> = noise(20_000, 5).into_iter().map(|sample| sample / 8).collect();
    phone.audio.say(&hiss);
    stream.event("start").await;
    // If a media thread is late, it skips noise suppression for some time.
    let mut cleaned = Vec::new();
    while cleaned.len() < TRIES && !cleaned.last().is_some_and(|level| *level < 60.0) {
        stream.listen(3_000).await;
        cleaned.push(loudness(&track(&stream, "inbound")));
    }
    server.api.command(control, "suppression_stop", &json!({})).await;
    stream.listen(2_000).await;
    let plain = loudness(&track(&stream, "inbound"));
    assert!(plain > 400.0 && cleaned.last() < Some(&(plain / 8.0)), "{cleaned:?} when cleaned, {plain} when not");
    phone.hangup().await;
    stream.closed().await;
    app.event("call.hangup").await;
    server.quiet().await;
    server.end().await;
}

/// The root mean square of the last second of audio.
fn loudness(samples: &[i16]) -> f64 {
    let last = &samples[samples.len().saturating_sub(8_000)..];
    (last.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / last.len().max(1) as f64).sqrt()
}

/// Asserts the behaviour of every bidirectional stream: the pace, the echo of the caller's audio, marks, clear and
/// digits.
async fn converse(stream: &Stream, phone: &Phone, wire: &Wire) {
    stream.echo(true);
    stream.listen(200).await;
    let mut turns = Vec::new();
    for turn in 0..TRIES {
        let audio = noise(2_000, 7 + turn as u64);
        let frames = stream.frames.len();
        phone.audio.say(&audio);
        stream.listen(2_400).await;
        let media: Vec<Frame> =
            stream.frames.all()[frames..].iter().filter(|(_, frame)| frame["event"] == "media").cloned().collect();
        let seconds = (media[media.len() - 1].0 - media[0].0).as_secs_f64();
        let pace = (media.len() - 1) as f64 / seconds;
        // The second value says whether the caller hears its own audio again.
        turns.push((pace, holds(&audio, &phone.audio.samples())));
        if (48.0..52.0).contains(&pace) && turns[turn].1 {
            break;
        }
    }
    assert!(
        turns.iter().any(|(pace, heard)| *heard && (48.0..52.0).contains(pace)),
        "messages a second, and whether the caller heard itself: {turns:?}"
    );
    stream.echo(false);
    stream.listen(200).await;

    marks_come_back_when_their_audio_was_played(stream).await;
    clear_cuts(stream, phone).await;
    phone.audio.press("7#");
    stream.frames.find("the second key", |(_, frame)| frame["event"] == "dtmf" && frame["dtmf"]["digit"] == "#").await;
    assert_counted(stream, wire);
}

async fn marks_come_back_when_their_audio_was_played(stream: &Stream) {
    let mut late = Vec::new();
    for turn in 0..TRIES {
        let (short, long) = (format!("short {turn}"), format!("long {turn}"));
        let began = Instant::now();
        stream.play(&tone(150));
        stream.mark(&short);
        stream.play(&tone(250));
        stream.mark(&long);
        let (first, second) = (stream.marked(&short).await - began, stream.marked(&long).await - began);
        assert!(first >= Duration::from_millis(150), "back after {first:?}, before 150 ms were played");
        assert!(second >= Duration::from_millis(400), "back after {second:?}, before 400 ms were played");
        late.push((first - Duration::from_millis(150)).max(second - Duration::from_millis(400)));
    }
    assert!(late.iter().min() < Some(&Duration::from_millis(60)), "late by {late:?}");
    let mut waited = Vec::new();
    for turn in 0..TRIES {
        let name = format!("idle {turn}");
        let began = Instant::now();
        stream.mark(&name);
        waited.push(stream.marked(&name).await - began);
    }
    assert!(waited.iter().min() < Some(&Duration::from_millis(40)), "with nothing to play, back after {waited:?}");
}

async fn clear_cuts(stream: &Stream, phone: &Phone) {
    let mut rests = Vec::new();
    for turn in 0..TRIES {
        let (from, marked) = (phone.audio.heard().len(), stream.events("mark").len());
        for _ in 0..4 {
            stream.play(&tone(1_000));
        }
        let names = [format!("one {turn}"), format!("two {turn}")];
        names.iter().for_each(|name| stream.mark(name));
        phone.audio.heard().find_after(from, "the tone", super::audio::Packet::is_loud).await;
        stream.listen(200).await;
        assert_eq!(stream.events("mark").len(), marked, "marks before their audio");
        let cleared = Instant::now();
        stream.clear();
        stream.marked(&names[1]).await;
        stream.listen(300).await;
        let back: Vec<Value> =
            stream.events("mark")[marked..].iter().map(|(_, frame)| frame["mark"]["name"].clone()).collect();
        assert_eq!(back, names);
        let packets = phone.audio.heard().all();
        assert!(packets[from..].iter().filter(|packet| packet.is_loud()).count() >= 8, "the tone was not played");
        rests.push(packets[from..].iter().filter(|packet| packet.at > cleared && packet.is_loud()).count() * 20);
    }
    assert!(rests.iter().min() <= Some(&40), "milliseconds of audio after clear: {rests:?}");
    assert!(rests.iter().all(|rest| *rest < 300), "milliseconds of audio after clear: {rests:?}");
}

/// Asserts that sequence numbers, chunks and timestamps have no gaps, and that each media message has 20 ms of audio.
fn assert_counted(stream: &Stream, wire: &Wire) {
    let text = |value: &Value| value.as_str().map(|text| text.parse::<u64>().unwrap());
    let frames: Vec<Value> =
        stream.frames.all().into_iter().map(|(_, frame)| frame).filter(|frame| !frame.is_null()).collect();
    let numbers: Vec<u64> = frames.iter().filter_map(|frame| text(&frame[wire.sequence])).collect();
    assert_eq!(numbers, (1..frames.len() as u64).collect::<Vec<_>>());
    for track in ["inbound", "outbound"] {
        let media: Vec<&Value> =
            frames.iter().map(|frame| &frame["media"]).filter(|media| media["track"] == track).collect();
        for (place, pair) in media.windows(2).enumerate() {
            assert_eq!(text(&pair[0]["chunk"]), Some(place as u64 + 1));
            assert_eq!(text(&pair[1]["timestamp"]).unwrap() - text(&pair[0]["timestamp"]).unwrap(), wire.step);
        }
        assert!(media.iter().all(|media| STANDARD.decode(media["payload"].as_str().unwrap()).unwrap().len() == 160));
    }
}

/// The audio of a track, in samples.
fn track(stream: &Stream, name: &str) -> Vec<i16> {
    let frames = stream.frames.all();
    let payloads = frames.iter().map(|(_, frame)| &frame["media"]).filter(|media| media["track"] == name);
    decode(
        &payloads.flat_map(|media| STANDARD.decode(media["payload"].as_str().unwrap()).unwrap()).collect::<Vec<u8>>(),
    )
}
