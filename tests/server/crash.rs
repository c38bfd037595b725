//! The process is killed during a call. The next process completes the records, recordings and webhooks of the call.

use jiff::fmt::rfc2822;
use jiff::{Timestamp, ToSpan};
use tempfile::TempDir;

use crate::app::{App, AppRequest};
use crate::audio::{holds, noise, parts, read_wav};
use crate::bridge::through;
use crate::phone::{Phone, SipEvent};
use crate::program::Program;
use crate::test_server::{asks, inline, settings};

fn timestamp(value: &serde_json::Value) -> Timestamp {
    rfc2822::parse(value.as_str().unwrap()).unwrap().timestamp()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_recorded_call_ends_with_its_real_times_and_one_webhook() {
    let app = App::start(|request: &AppRequest| match request.path.as_str() {
        "/voice" => "<Response><Record playBeep=\"false\" timeout=\"0\" trim=\"do-not-trim\" maxLength=\"60\" \
                     recordingStatusCallback=\"/recording\"/></Response>"
            .to_owned(),
        _ => String::new(),
    })
    .await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tandem.toml");
    std::fs::write(
        &file,
        settings(folder.path(), &(asks("100", app.address) + &inline("101", "<Response><Hangup/></Response>"))),
    )
    .unwrap();

    let program = Program::start(&file).await;
    let mut phone = Phone::new().await;
    phone.call(program.udp, "100").await;
    let call_sid = app.request("/voice").await.field("CallSid");
    let audio = noise(10_000, 11);
    phone.audio.say(&audio);
    // Waits for 4 s of speech. The packets that the server sends during this time are the clock.
    phone.audio.heard().reach(200, "4 s of RTP").await;
    let (killed, spoken) = (Timestamp::now(), phone.audio.spoken());
    program.kill().await;
    assert!(spoken >= 150, "{spoken} frames were spoken");
    let restarted = Timestamp::now();
    let program = Program::start(&file).await;

    let callback = app.request("/recording").await;
    let ended = app.request("/status").await;
    assert!(callback.is_signed() && ended.is_signed());
    assert_eq!(
        (callback.field("CallSid"), callback.field("RecordingStatus")),
        (call_sid.clone(), "completed".to_owned())
    );
    assert_eq!((ended.field("CallSid"), ended.field("CallStatus")), (call_sid.clone(), "completed".to_owned()));

    assert_eq!(ended.field("SequenceNumber"), "0");

    let recording = program.api.recordings().await.remove(0);
    assert_eq!(
        (recording["status"].as_str(), recording["sid"].as_str()),
        (Some("completed"), Some(&*callback.field("RecordingSid")))
    );
    let mut channels = read_wav(&program.api.wav(recording["sid"].as_str().unwrap()).await);
    let recorded = channels.remove(0);
    let seconds = recorded.len() as f64 / 8_000.0;
    let length: f64 = callback.field("RecordingDuration").parse().unwrap();
    assert!((seconds - length).abs() <= 1.0, "{seconds} s in the file, {length} s reported");
    assert_eq!(recording["duration"].as_str(), Some(&*callback.field("RecordingDuration")));
    // The recording contains all audio until one second before the kill, including the last 600 ms of this audio.
    let until = 160 * (spoken - 50);
    assert!(holds(&audio[..until], &recorded), "{} samples recorded", recorded.len());
    assert!(parts(&audio[until - 4_800..until], &recorded).contains(&true), "{} samples recorded", recorded.len());

    let call = program.api.calls().await.into_iter().find(|call| call["sid"] == call_sid.as_str()).unwrap();
    assert_eq!(call["status"], "completed");
    let end = timestamp(&call["end_time"]);
    // The times of the REST API have whole seconds. The console shows the end with microseconds, so that the test
    // distinguishes the end of the call from the restart.
    let calls = program.api.get("/console/calls").await.json();
    let ended_at: Timestamp = calls["calls"][0]["ended_at"].as_str().unwrap().parse().unwrap();
    assert!(
        ended_at >= killed - 3.seconds() && ended_at <= restarted,
        "ended {ended_at}, killed {killed}, restarted {restarted}"
    );
    let errors = program.api.get("/console/errors?cause=crash").await.json();
    assert_eq!(errors["errors"][0]["call"], call_sid.as_str(), "{errors}");
    let length = (end - timestamp(&call["start_time"])).total(jiff::Unit::Second).unwrap();
    let duration: f64 = call["duration"].as_str().unwrap().parse().unwrap();
    assert!((duration - length).abs() <= 1.0, "{duration} s reported, {length} s between its times");

    // The server accepts further calls. It sends each webhook of the killed call only once.
    let mut phone = Phone::new().await;
    phone.call(program.udp, "100").await;
    phone.hangup().await;
    app.requests
        .find("the next call's end", |request| request.path == "/status" && request.field("CallSid") != call_sid)
        .await;
    let of_call = |path: &str| {
        app.requests.all().iter().filter(|request| request.path == path && request.field("CallSid") == call_sid).count()
    };
    assert_eq!((of_call("/status"), of_call("/recording")), (1, 1));
    let mut phone = Phone::new().await;
    phone.call(program.udp, "101").await;
    phone.until(SipEvent::Bye).await;
    program.terminate();
    assert!(program.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_conference_has_ended_and_its_recording_is_complete() {
    let app = App::start(|_| String::new()).await;
    let callback = format!(
        "statusCallback=\"{}\" statusCallbackEvent=\"start end leave\" record=\"record-from-start\" trim=\"do-not-trim\" \
         recordingStatusCallback=\"{}\"",
        app.url("/told"),
        app.url("/recording")
    );
    let conference = |number: &str, attributes: &str| {
        let document =
            format!("<Response><Dial><Conference waitUrl=\"\" {attributes}>room</Conference></Dial></Response>");
        inline(number, &document)
    };
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tandem.toml");
    std::fs::write(&file, settings(folder.path(), &(conference("100", &callback) + &conference("101", "")))).unwrap();
    let program = Program::start(&file).await;
    let (mut one, mut other) = (Phone::new().await, Phone::new().await);
    one.call(program.udp, "100").await;
    other.call(program.udp, "101").await;
    let event = |name: &'static str| move |request: &AppRequest| request.field("StatusCallbackEvent") == name;
    let started = app.requests.find("conference-start", event("conference-start")).await;
    one.audio.say(&noise(4_000, 12));
    other.audio.heard().reach(other.audio.heard().len() + 150, "3 s of RTP").await;
    program.kill().await;
    let program = Program::start(&file).await;
    let ended = app.requests.find("conference-end", event("conference-end")).await;
    let sid = started.field("ConferenceSid");
    assert_eq!((ended.field("ConferenceSid"), ended.field("SequenceNumber")), (sid.clone(), "4".to_owned()));
    // Both participants left before the conference ended.
    let events: Vec<String> = app.requests.all().iter().map(|request| request.field("StatusCallbackEvent")).collect();
    let events: Vec<&str> = events.iter().map(|event| &**event).filter(|event| !event.is_empty()).collect();
    assert_eq!(events, ["conference-start", "participant-leave", "participant-leave", "conference-end"]);
    let recorded = app.request("/recording").await;
    assert_eq!((recorded.field("ConferenceSid"), recorded.field("RecordingStatus")), (sid, "completed".to_owned()));
    assert!(recorded.is_signed() && ended.is_signed());
    let channels = read_wav(&program.api.wav(&recorded.field("RecordingSid")).await);
    assert!(channels.len() == 1 && channels[0].len() >= 8_000, "{} samples", channels[0].len());
    program.terminate();
    assert!(program.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_far_ends_of_a_killed_call_get_a_bye_from_the_next_process() {
    let (mut caller, mut called) = (Phone::new().await, Phone::new().await);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tandem.toml");
    std::fs::write(&file, settings(folder.path(), &through("700", &called, "off"))).unwrap();
    let program = Program::start(&file).await;
    caller.invite(program.udp, "700").await;
    called.until(SipEvent::Invited).await;
    called.pick_up().await;
    assert_eq!(caller.outcome().await, 200);
    // The server stores both answers with its next batch of rows. This needs much less than 2 s.
    caller.audio.heard().reach(100, "2 s of RTP").await;
    program.kill().await;
    let program = Program::start(&file).await;
    caller.until(SipEvent::Bye).await;
    called.until(SipEvent::Bye).await;
    program.terminate();
    assert!(program.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_created_right_before_the_kill_is_stored_and_its_end_is_reported() {
    let app = App::start(|_| String::new()).await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tandem.toml");
    std::fs::write(&file, settings(folder.path(), "")).unwrap();
    // A socket that never answers.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let program = Program::start(&file).await;
    let form = format!(
        "To=sip:somebody@{}&From=%2B15550001&Url={}&StatusCallback={}",
        silent.local_addr().unwrap(),
        app.url("/voice"),
        app.url("/status")
    );
    let made = program.api.post("/Calls.json", &form).await;
    program.kill().await;
    assert_eq!(made.status, 201);
    let sid = made.json()["sid"].as_str().unwrap().to_owned();
    let program = Program::start(&file).await;
    let ended = app.request("/status").await;
    assert_eq!((ended.field("CallSid"), ended.field("CallStatus")), (sid.clone(), "failed".to_owned()));
    let calls = program.api.calls().await;
    assert_eq!((calls[0]["sid"].as_str(), calls[0]["status"].as_str()), (Some(&*sid), Some("failed")));
    program.terminate();
    assert!(program.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_stored_before_the_request_to_its_application() {
    let app = App::start(|_| "<Response><Pause length=\"60\"/></Response>".to_owned()).await;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tandem.toml");
    std::fs::write(&file, settings(folder.path(), &asks("100", app.address))).unwrap();
    let program = Program::start(&file).await;
    let phone = Phone::new().await;
    phone.invite(program.udp, "100").await;
    let request = app.request("/voice").await;
    program.kill().await;
    let program = Program::start(&file).await;
    let ended = app.request("/status").await;
    assert_eq!(ended.field("CallSid"), request.field("CallSid"));
    let calls = program.api.calls().await;
    assert_eq!(calls[0]["sid"].as_str(), Some(&*request.field("CallSid")));
    program.terminate();
    assert!(program.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_without_a_row_is_found_after_a_kill_and_an_old_file_stays() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tandem.toml");
    std::fs::write(&file, settings(folder.path(), "")).unwrap();
    let program = Program::start(&file).await;
    program.kill().await;
    // One second of two channels, in the form that a killed recorder leaves: the header has no lengths yet.
    let mut wav = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x02\0".to_vec();
    wav.extend(8_000_u32.to_le_bytes());
    wav.extend(32_000_u32.to_le_bytes());
    wav.extend(b"\x04\0\x10\0data\0\0\0\0");
    wav.extend((0..16_000_i16).flat_map(i16::to_le_bytes));
    let named = |milliseconds: i64| {
        let id = (milliseconds as u128) << 80 | 0x5eed;
        folder.path().join(format!("data/recordings/{id:032x}.wav"))
    };
    let now = Timestamp::now().as_millisecond();
    let (new, old) = (named(now), named(now - 3_600_000));
    for path in [&new, &old] {
        std::fs::write(path, &wav).unwrap();
    }
    let program = Program::start(&file).await;
    let recordings = program.api.recordings().await;
    assert_eq!(recordings.len(), 1);
    let recording = &recordings[0];
    assert_eq!((recording["status"].as_str(), recording["channels"].as_i64()), (Some("completed"), Some(2)));
    assert_eq!(recording["duration"].as_str(), Some("1"));
    let channels = read_wav(&program.api.wav(recording["sid"].as_str().unwrap()).await);
    assert_eq!(channels.iter().map(Vec::len).collect::<Vec<_>>(), [8_000, 8_000]);
    assert_eq!(std::fs::read(&old).unwrap(), wav, "what a deletion left is not brought back");
    program.terminate();
    assert!(program.ended().await.success());
}
