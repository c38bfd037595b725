//! The caller hangs up in each phase of a call. The server must release everything and record the end.

use serde_json::Value;
use tandem_test_support::wait_until;

use crate::bridge::through;
use crate::log::PATIENCE;
use crate::phone::{Phone, SipEvent};
use crate::test_server::{TestServer, inline};

async fn assert_over(server: &TestServer, statuses: &[&str]) {
    server.quiet().await;
    let calls = server.api.calls().await;
    let mut found: Vec<&str> = calls.iter().filter_map(|call| call["status"].as_str()).collect();
    found.sort_unstable();
    assert_eq!(found, statuses);
    assert!(calls.iter().all(|call| call["end_time"] != Value::Null), "{calls:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hangup_while_ringing_cancels_the_called_phone() {
    let (mut caller, mut called) = (Phone::new().await, Phone::new().await);
    let server = TestServer::start(&through("700", &called, "off")).await;
    caller.invite(server.udp, "700").await;
    caller.cancel_while_ringing(&mut called).await;
    assert_over(&server, &["canceled", "canceled"]).await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hangup_during_a_prompt_ends_the_call() {
    let server = TestServer::start(&inline("600", "<Response><Say loop=\"0\">This never ends.</Say></Response>")).await;
    let mut caller = Phone::new().await;
    caller.call(server.udp, "600").await;
    caller.audio.heard().find("the prompt", super::audio::Packet::is_loud).await;
    caller.hangup().await;
    assert_over(&server, &["completed"]).await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hangup_within_a_bridge_hangs_up_the_bridged_leg() {
    let (mut caller, mut called) = (Phone::new().await, Phone::new().await);
    let dial = format!("<Response><Dial><Sip>{}</Sip></Dial></Response>", called.uri());
    let server = TestServer::start(&inline("600", &dial)).await;
    caller.call(server.udp, "600").await;
    called.until(SipEvent::Invited).await;
    called.pick_up().await;
    called.audio.heard().reach(5, "RTP to the called").await;
    wait_until(PATIENCE, "the media of both legs", async || server.live_legs() == 2).await;
    caller.hangup().await;
    called.until(SipEvent::Bye).await;
    assert_over(&server, &["completed", "completed"]).await;
    server.end().await;
}
