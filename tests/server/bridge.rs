//! Calls to a number that is directly connected to another phone.

use crate::audio::{FRAME, Packet, encode, holds, noise, read_wav};
use crate::phone::{Phone, SipEvent};
use crate::test_server::TestServer;

/// The configuration of a number. Calls to this number are bridged to the phone `to`.
pub(crate) fn through(number: &str, to: &Phone, record: &str) -> String {
    format!(
        "[[numbers]]\nnumber = \"{number}\"\naccount = \"acme\"\nbridge = \"{}\"\nrecord = \"{record}\"\n",
        to.uri()
    )
}

/// Starts a server and a call between two bridged phones. Waits until both phones receive RTP.
pub(crate) async fn live_call() -> (TestServer, Phone, Phone) {
    let (mut caller, mut called) = (Phone::new().await, Phone::new().await);
    let server = TestServer::start(&through("700", &called, "off")).await;
    caller.invite(server.udp, "700").await;
    called.until(SipEvent::Invited).await;
    called.pick_up().await;
    assert_eq!(caller.outcome().await, 200);
    caller.audio.heard().reach(10, "RTP to the caller").await;
    called.audio.heard().reach(10, "RTP to the called").await;
    (server, caller, called)
}

/// The indices of the frames of `said` that have arrived, in the order of their arrival.
pub(crate) fn arrived(sent: &[i16], heard: &[Packet]) -> Vec<usize> {
    let frames: std::collections::HashMap<Vec<u8>, usize> =
        encode(sent).chunks(FRAME).enumerate().map(|(place, frame)| (frame.to_vec(), place)).collect();
    heard.iter().filter_map(|packet| frames.get(&packet.payload).copied()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_loses_no_audio_and_is_recorded_in_two_channels() {
    let (mut caller, mut called) = (Phone::new().await, Phone::new().await);
    let server = TestServer::start(&through("700", &called, "dual")).await;
    caller.invite(server.udp, "700").await;
    called.until(SipEvent::Invited).await;
    called.ring().await;
    caller.until(SipEvent::Status(180)).await;
    called.pick_up().await;
    assert_eq!(caller.outcome().await, 200);
    // Waits until the relay works in both directions, because no frame may be lost.
    let (left, right) = (noise(3_000, 21), noise(3_000, 22));
    caller.audio.heard().reach(10, "RTP to the caller").await;
    called.audio.heard().reach(10, "RTP to the called").await;
    caller.audio.say(&left);
    called.audio.say(&right);
    let last = |sent: &[i16]| encode(sent)[sent.len() - FRAME..].to_vec();
    let (last_left, last_right) = (last(&left), last(&right));
    called.audio.heard().find("the caller's last word", |packet| packet.payload == last_left).await;
    caller.audio.heard().find("the called's last word", |packet| packet.payload == last_right).await;
    // The recorder writes later than the call, so the test waits until the recorder has written the last frame.
    let more = caller.audio.heard().len() + 10;
    caller.audio.heard().reach(more, "some more RTP").await;
    caller.hangup().await;
    called.until(SipEvent::Bye).await;
    server.quiet().await;

    let whole: Vec<usize> = (0..150).collect();
    assert_eq!(arrived(&left, &called.audio.heard().all()), whole);
    assert_eq!(arrived(&right, &caller.audio.heard().all()), whole);

    let calls = server.api.calls().await;
    assert_eq!(calls.len(), 2);
    assert!(calls.iter().all(|call| call["status"] == "completed" && call["end_time"].is_string()), "{calls:?}");
    let recordings = server.api.recordings().await;
    assert_eq!(
        (recordings.len(), &recordings[0]["status"], &recordings[0]["channels"]),
        (1, &"completed".into(), &2.into())
    );
    let channels = read_wav(&server.api.wav(recordings[0]["sid"].as_str().unwrap()).await);
    for (channel, sent) in channels.iter().zip([&left, &right]) {
        assert!(holds(sent, channel));
    }
    server.end().await;
}
