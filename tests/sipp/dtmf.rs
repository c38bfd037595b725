//! DTMF by INFO. The server sends INFO over a trunk, and converts DTMF between bridged legs with different methods.

use std::net::SocketAddr;

use crate::sipp::{Sipp, is_missing};
use crate::straight::straight_through;
use crate::test_server::{TestServer, inline};

/// Returns a configuration that bridges calls to 1* to another server.
fn far(address: SocketAddr) -> String {
    format!("[[numbers]]\nnumber = \"1*\"\naccount = \"acme\"\nbridge = \"sip:{{number}}@{address}\"\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn digits_are_sent_by_info_on_a_trunk_with_dtmf_info() {
    if is_missing() {
        return;
    }
    let (caller, carrier) = (Sipp::new("call_until_bye"), Sipp::new("pressed_answer"));
    let settings = "prefixes = [\"+\"]\ndtmf = \"info\"";
    let dials = "<Response><Dial><Number sendDigits=\"w5\">+15551230002</Number></Dial></Response>";
    let trunks = caller.trunk("caller", "") + &carrier.trunk("carrier", settings);
    let server = TestServer::start(&(trunks + &inline("100", dials))).await;
    let carrier = carrier.answer().await;
    let caller = caller.to("100").call(server.udp);
    carrier.succeed().await;
    caller.succeed().await;
    server.quiet().await;
    server.end().await;
    // Now the digits go from one leg to the other leg.
    straight_through((Sipp::new("press_and_bye"), ""), (Sipp::new("pressed_answer_bye"), "dtmf = \"info\"")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn digits_are_converted_between_info_and_telephone_events() {
    if is_missing() {
        return;
    }
    let gathers = "<Response><Gather numDigits=\"1\" timeout=\"20\"/><Hangup/></Response>";
    let presses = "<Response><Play digits=\"w5\"/><Pause length=\"20\"/></Response>";
    for (scenario, document, settings) in [("press_call", gathers, ""), ("pressed_call", presses, "dtmf = \"info\"")] {
        let other = TestServer::start(&inline("1600", document)).await;
        let caller = Sipp::new(scenario);
        let server = TestServer::start(&(caller.trunk("caller", settings) + &far(other.udp))).await;
        caller.to("1600").call(server.udp).succeed().await;
        for server in [server, other] {
            server.quiet().await;
            server.end().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_info_package_gets_469() {
    if is_missing() {
        return;
    }
    let caller = Sipp::new("info_package");
    let server =
        TestServer::start(&(caller.trunk("caller", "") + &inline("600", "<Response><Echo/></Response>"))).await;
    caller.to("600").call(server.udp).succeed().await;
    server.end().await;
}
