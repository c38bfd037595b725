//! Provisional responses of the called phone, and recording servers that do not answer.

use std::net::UdpSocket;

use crate::audio::{FRAME, Packet, encode, noise};
use crate::bridge::through;
use crate::phone::{Phone, SipEvent};
use crate::test_server::{ACCOUNT_SID, TestServer, inline};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_180_after_silent_early_media_reaches_an_unanswered_caller() {
    let (mut caller, mut called) = (Phone::new().await, Phone::new().await);
    called.audio.pause();
    let server = TestServer::start(&through("700", &called, "off")).await;
    caller.invite(server.udp, "700").await;
    called.until(SipEvent::Invited).await;
    called.progress().await;
    caller.until(SipEvent::Status(183)).await;
    called.ring().await;
    caller.until(SipEvent::Status(180)).await;
    assert_eq!(caller.audio.heard().len(), 0, "RTP would silence the ringback tone of the caller's phone");
    called.pick_up().await;
    assert_eq!(caller.outcome().await, 200);
    caller.hangup().await;
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answered_caller_hears_ringback_until_early_media_has_audio() {
    let (mut caller, mut called) = (Phone::new().await, Phone::new().await);
    called.audio.pause();
    let dial = format!("<Response><Dial ringTone=\"us\"><Sip>{}</Sip></Dial></Response>", called.uri());
    let server = TestServer::start(&inline("600", &dial)).await;
    caller.call(server.udp, "600").await;
    called.until(SipEvent::Invited).await;
    called.progress().await;
    called.ring().await;
    caller.audio.heard().find("ringback", Packet::is_loud).await;
    let announcement = noise(1_000, 31);
    called.audio.say(&announcement);
    let last = encode(&announcement)[announcement.len() - FRAME..].to_vec();
    caller.audio.heard().find("the end of the announcement", |packet| packet.payload == last).await;
    caller.hangup().await;
    called.until(SipEvent::Cancelled).await;
    server.quiet().await;
    server.end().await;
}

/// Returns a SIP URI at which nothing listens.
fn closed() -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    format!("sip:srs@{}", socket.local_addr().unwrap())
}

const RECORDED: &str = "<Response><Start><Siprec connectorName=\"r\"/></Start><Echo/></Response>";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_call_without_its_mandatory_siprec_session_is_a_reported_failure() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let uri = format!("sip:srs@{}", silent.local_addr().unwrap());
    let recorders = format!("[[siprec]]\nname = \"r\"\nuri = \"{uri}\"\n");
    let server = TestServer::start(&(recorders + &inline("600", RECORDED))).await;
    let mut caller = Phone::new().await;
    caller.call(server.udp, "600").await;
    caller.audio.say(&noise(200, 41));
    caller.audio.heard().reach(5, "the echo").await;
    caller.hangup().await;
    server.quiet().await;
    let path = format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Notifications.json");
    let notifications = server.api.get(&path).await.json()["notifications"].as_array().unwrap().clone();
    assert!(notifications.iter().any(|one| one["error_code"] == "31901"), "{notifications:?}");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_recording_server_is_replaced_by_the_next() {
    let (mut caller, mut recorder) = (Phone::new().await, Phone::new().await);
    let recorders = format!("[[siprec]]\nname = \"r\"\nuri = [\"{}\", \"{}\"]\n", closed(), recorder.uri());
    let server = TestServer::start(&(recorders + &inline("600", RECORDED))).await;
    caller.call(server.udp, "600").await;
    recorder.until(SipEvent::Invited).await;
    recorder.pick_up().await;
    caller.hangup().await;
    recorder.until(SipEvent::Bye).await;
    server.quiet().await;
    server.end().await;
}
