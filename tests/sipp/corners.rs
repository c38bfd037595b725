//! Unusual behaviour of some carriers and PBXs.

use crate::sipp::{Sipp, is_missing};
use crate::straight::straight_through;
use crate::test_server::{TestServer, inline};

const ECHO: &str = "<Response><Echo/></Response>";

#[tokio::test(flavor = "multi_thread")]
async fn unsupported_requests_within_a_call_are_refused_and_the_call_continues() {
    if is_missing() {
        return;
    }
    let caller = Sipp::new("asks_within");
    let server = TestServer::start(&(caller.trunk("caller", "") + &inline("100", ECHO))).await;
    caller.to("100").call(server.udp).succeed().await;
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invite_with_unusual_header_forms_is_answered() {
    if is_missing() {
        return;
    }
    let caller = Sipp::new("odd_forms");
    let server = TestServer::start(&(caller.trunk("caller", "") + &inline("+15551234567", ECHO))).await;
    caller.to("+15551234567").key("far", "[2001:db8::9]:5061").call(server.udp).succeed().await;
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_a_ringing_phone_before_its_answer_are_handled() {
    if is_missing() {
        return;
    }
    straight_through((Sipp::new("call"), ""), (Sipp::new("early_requests"), "")).await;
}
