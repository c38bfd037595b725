//! Calls that are bridged from trunk to trunk.

use tandem_test_support::wait_until;

use crate::log::PATIENCE;
use crate::sipp::{Sipp, is_missing};
use crate::straight::through;
use crate::test_server::TestServer;

#[tokio::test(flavor = "multi_thread")]
async fn bridged_numbers_carry_calls_over_udp_and_tcp() {
    if is_missing() {
        return;
    }
    for transport in ["u1", "t1"] {
        let (caller, answerer) = (Sipp::new("call").over(transport), Sipp::new("answer").over(transport));
        let trunks = caller.trunk("caller", "") + &answerer.trunk("answerer", "");
        let server = TestServer::start(&(trunks + &through("1", "answerer"))).await;
        let answerer = answerer.calls(5).answer().await;
        let address = if transport == "u1" { server.udp } else { server.tcp };
        caller.calls(5).to("1234").call(address).succeed().await;
        answerer.succeed().await;
        server.quiet().await;
        server.end().await;
    }
}

/// Starts a server that routes calls to 1* over the first trunk. If this fails, the calls go over the second trunk.
async fn two_trunks(first: &Sipp, second: &Sipp, caller: &Sipp, of_first: &str) -> TestServer {
    let trunks = caller.trunk("caller", "") + &first.trunk("first", of_first) + &second.trunk("second", "");
    let number = "[[numbers]]\nnumber = \"1*\"\naccount = \"acme\"\nbridge = [\"trunk:first\", \"trunk:second\"]\n";
    TestServer::start(&(trunks + number)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridged_call_uses_the_next_trunk_after_a_failed_trunk() {
    if is_missing() {
        return;
    }
    let (caller, first, second) = (Sipp::new("call"), Sipp::new("unavailable"), Sipp::new("answer").calls(2));
    let server = two_trunks(&first, &second, &caller, "").await;
    let again = caller.at_its_place("call");
    let (first, second) = (first.answer().await, second.answer().await);
    caller.to("1234").call(server.udp).succeed().await;
    first.succeed().await;
    server.quiet().await;
    // The first trunk is now marked as doubtful, so the next call starts with the second trunk.
    again.to("1234").call(server.udp).succeed().await;
    let messages = second.succeed().await;
    assert_eq!(messages.matches("INVITE sip:1234@").count(), 2, "{messages}");
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridged_call_refused_by_the_callee_tries_no_other_trunk() {
    if is_missing() {
        return;
    }
    let (caller, first, second) = (Sipp::new("refused_486"), Sipp::new("busy"), Sipp::new("answer"));
    let server = two_trunks(&first, &second, &caller, "").await;
    let (first, second) = (first.answer().await, second.answer().await);
    caller.to("1234").call(server.udp).succeed().await;
    first.succeed().await;
    assert_eq!(second.messages(), "");
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridged_call_uses_the_next_trunk_after_a_full_trunk() {
    if is_missing() {
        return;
    }
    let (long, caller) = (Sipp::new("call_two_seconds"), Sipp::new("call"));
    let (first, second) = (Sipp::new("answer"), Sipp::new("answer"));
    let server =
        two_trunks(&first, &second, &long, &format!("max_calls = 1\n{}", caller.trunk("other", "").trim())).await;
    let (first, second) = (first.answer().await, second.answer().await);
    let long = long.to("1234").call(server.udp);
    let is_full = async || server.calls().services().sip.trunk_status("first").calls > 0;
    wait_until(PATIENCE, "the call over the first trunk", is_full).await;
    caller.to("1235").call(server.udp).succeed().await;
    assert!(second.succeed().await.contains("INVITE sip:1235@"));
    long.succeed().await;
    first.succeed().await;
    server.quiet().await;
    server.end().await;
}
