//! Events within calls: reliable provisional responses, UPDATE, session timers, transfers, redirection, refusals.

use tandem_test_support::wait_for;

use crate::log::PATIENCE;
use crate::sipp::{Running, Sipp, is_missing};
use crate::straight::{straight_through, through};
use crate::test_server::{TestServer, inline};

/// Waits until SIPp has logged this text.
async fn logged(running: &Running, what: &str) -> String {
    let messages = async || Some(running.messages()).filter(|messages| messages.contains(what));
    wait_for(PATIENCE, &format!("SIPp's log has {what}"), messages).await
}

/// Returns the dialog of a call that SIPp has made. The form is that of a Replaces header: the Call-ID, the server's
/// tag and SIPp's tag.
fn dialog(messages: &str) -> String {
    let field = |name: &str, of: &str| {
        let line = of.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}"));
        line.trim().to_owned()
    };
    let ack = messages.split("ACK sip:").nth(1).expect("an ACK");
    let tag = |value: &str| value.split(";tag=").nth(1).expect("a tag").trim().to_owned();
    format!("{};to-tag={};from-tag={}", field("Call-ID:", ack), tag(&field("To:", ack)), tag(&field("From:", ack)))
}

#[tokio::test(flavor = "multi_thread")]
async fn reliable_provisional_responses_and_update_work_on_both_legs() {
    if is_missing() {
        return;
    }
    straight_through((Sipp::new("prack_call"), ""), (Sipp::new("prack_answer"), "")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn session_timers_are_negotiated_in_both_roles() {
    if is_missing() {
        return;
    }
    straight_through((Sipp::new("timer_call"), ""), (Sipp::new("timer_answer"), "")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_called_party_transfers_its_caller_with_refer() {
    if is_missing() {
        return;
    }
    for (referrer, target, call) in
        [("refer_blind", "answer_one_second", "call_until_bye"), ("refer_busy", "busy", "call_until_bye")]
    {
        let (caller, first, second) = (Sipp::new(call), Sipp::new(referrer), Sipp::new(target));
        let trunks = caller.trunk("caller", "") + &first.trunk("first", "refer = true") + &second.trunk("second", "");
        let server = TestServer::start(&(trunks + &through("1", "first") + &through("2", "second"))).await;
        let second = second.answer().await;
        let first = first.key("target", "2000").key("server", &server.udp.to_string()).answer().await;
        let caller = caller.to("1234").call(server.udp);
        first.succeed().await;
        second.succeed().await;
        caller.succeed().await;
        server.quiet().await;
        server.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trunk_may_transfer_only_with_the_setting_refer() {
    if is_missing() {
        return;
    }
    let (caller, callee) = (Sipp::new("call_until_bye"), Sipp::new("refer_refused"));
    straight_through((caller, ""), (callee, "")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attended_transfer_merges_two_calls_and_an_invite_with_replaces_takes_over_a_dialog() {
    if is_missing() {
        return;
    }
    for attended in [true, false] {
        let (other, peer) = (Sipp::new("call_until_bye"), Sipp::new("answer"));
        let (caller, first) = (Sipp::new("call_two_seconds"), Sipp::new("refer_attended"));
        let newcomer = Sipp::new("replaces_call");
        let trunks = [("other", &other), ("peer", &peer), ("caller", &caller), ("first", &first), ("new", &newcomer)];
        let trunks: String = trunks.iter().map(|(name, sipp)| sipp.trunk(name, "refer = true")).collect();
        let server = TestServer::start(&(trunks + &through("1", "first") + &through("2", "peer"))).await;
        let peer = peer.answer().await;
        let other = other.to("2000").call(server.udp);
        let replaced = dialog(&logged(&other, "ACK sip:").await);
        if attended {
            let escaped = replaced.replace('@', "%40").replace(';', "%3B").replace('=', "%3D");
            let first = first.key("replaces", &escaped).key("server", &server.udp.to_string()).answer().await;
            let caller = caller.to("1234").call(server.udp);
            first.succeed().await;
            other.succeed().await;
            caller.succeed().await;
        } else {
            newcomer.key("replaces", &replaced).to("2000").call(server.udp).succeed().await;
            other.succeed().await;
        }
        peer.succeed().await;
        server.quiet().await;
        server.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirected_call_goes_to_its_contacts_unless_the_trunk_forbids_redirects() {
    if is_missing() {
        return;
    }
    let (caller, moved) = (Sipp::new("call"), Sipp::new("moved"));
    let (better, worse) = (Sipp::new("busy"), Sipp::new("answer"));
    let contact = |sipp: &Sipp| format!("x@{}", sipp.address());
    let keys = (contact(&better), contact(&worse));
    let trunks = caller.trunk("caller", "") + &moved.trunk("moved", "");
    let server = TestServer::start(&(trunks + &through("1", "moved"))).await;
    let (better, worse) = (better.answer().await, worse.answer().await);
    let moved = moved.key("better", &keys.0).key("worse", &keys.1).answer().await;
    caller.to("1234").call(server.udp).succeed().await;
    for sipp in [moved, better, worse] {
        sipp.succeed().await;
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unsupported_methods_and_extensions_are_refused_according_to_the_rfcs() {
    if is_missing() {
        return;
    }
    let caller = Sipp::new("refusals");
    let server =
        TestServer::start(&(caller.trunk("caller", "refer = true") + &inline("600", "<Response><Echo/></Response>")))
            .await;
    caller.to("600").call(server.udp).succeed().await;
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn digits_arrive_by_info_and_a_caller_is_transferred_with_refer() {
    if is_missing() {
        return;
    }
    let caller = Sipp::new("info_call");
    let gathers = r#"<Response><Gather numDigits="2" timeout="9"/><Echo/></Response>"#;
    let server = TestServer::start(&(caller.trunk("caller", "") + &inline("600", gathers))).await;
    caller.to("600").call(server.udp).succeed().await;
    server.end().await;

    let caller = Sipp::new("refer_asked");
    let refers = "<Response><Refer><Sip>sip:elsewhere@192.0.2.1?X-Why=because</Sip></Refer></Response>";
    let server = TestServer::start(&(caller.trunk("caller", "") + &inline("600", refers))).await;
    caller.to("600").call(server.udp).succeed().await;
    server.quiet().await;
    server.end().await;
}
