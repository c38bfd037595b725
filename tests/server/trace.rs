//! The trace of a call has the messages of each leg, also of a leg that did not answer.

use serde_json::Value;

use crate::bridge::through;
use crate::browser::{ALICE, Browser};
use crate::phone::{Phone, SipEvent};
use crate::test_server::{TestServer, inline};

/// The document that calls the phones of alice.
const TO_ALICE: &str = "<Response><Dial answerOnBridge=\"true\"><Client>alice</Client></Dial></Response>";

/// The trace of the last call.
async fn trace(server: &TestServer) -> Value {
    server.quiet().await;
    server.api.get("/console/calls/last/trace").await.json()
}

/// The messages with the called party of the last call, one list for each address of the party: `>` before a sent message,
/// `<` before a received one. A repeated message is left out.
async fn of_callee(server: &TestServer) -> Vec<Vec<String>> {
    let trace = trace(server).await;
    let callee = &trace["parties"][1];
    assert_eq!(callee["name"], "callee", "{trace}");
    // All branches and routes of a leg have the same Call-ID.
    let call_id = format!("Call-ID: {}\r\n", callee["sip_call_ids"][0].as_str().unwrap());
    assert_eq!(callee["sip_call_ids"].as_array().unwrap().len(), 1, "{trace}");
    let mut lists: Vec<(Value, Vec<String>)> = Vec::new();
    let all = trace["messages"].as_array().unwrap().iter();
    for message in all.filter(|message| message["party"] == 1 && message["again"] == false) {
        assert!(message["message"].as_str().unwrap().contains(&call_id), "{message}");
        let arrow = if message["direction"] == "sent" { '>' } else { '<' };
        let summary = message["summary"].as_str().unwrap();
        let text = format!("{arrow} {}", summary.split(" sip:").next().unwrap());
        match lists.iter_mut().find(|(peer, _)| *peer == message["peer"]) {
            Some((_, list)) => list.push(text),
            None => lists.push((message["peer"].clone(), vec![text])),
        }
    }
    lists.into_iter().map(|(_, list)| list).collect()
}

/// The messages of a branch that this server has cancelled.
const CANCELLED: [&str; 6] = [
    "> INVITE",
    "< 180 Ringing (INVITE)",
    "> CANCEL",
    "< 200 OK (CANCEL)",
    "< 487 Request Terminated (INVITE)",
    "> ACK",
];

/// Gives the responses the reason phrase of the phones of these tests, which have only one.
fn expected(rows: &[&str]) -> Vec<String> {
    let row = |row: &&str| match row.strip_prefix("< ") {
        Some(response) => {
            let (status, method) = (&response[..3], response.rsplit(' ').next().unwrap());
            format!("< {status} Status {method}")
        }
        None => (*row).to_owned(),
    };
    rows.iter().map(row).collect()
}

/// Answers the CANCEL of a phone's call with 200, and its INVITE with 487.
async fn end_cancelled(phone: &mut Browser, invite: &crate::phone::Message) {
    let cancel = phone.receive_request("CANCEL").await;
    phone.answer(&cancel, 200, "").await;
    phone.answer(invite, 487, "").await;
    phone.receive_request("ACK").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_has_the_messages_with_phones_that_ring_until_the_caller_cancels() {
    for count in [1, 2] {
        let server = TestServer::start(&(ALICE.to_owned() + &inline("600", TO_ALICE))).await;
        let mut phones = Vec::new();
        for _ in 0..count {
            let mut phone = Browser::desk_phone(&server).await;
            phone.register().await;
            phones.push(phone);
        }
        let mut caller = Phone::new().await;
        caller.invite(server.udp, "600").await;
        let mut invites = Vec::new();
        for phone in &mut phones {
            let invite = phone.receive_request("INVITE").await;
            phone.answer(&invite, 180, "").await;
            invites.push(invite);
        }
        caller.until(SipEvent::Status(180)).await;
        caller.cancel().await;
        for (phone, invite) in phones.iter_mut().zip(&invites) {
            end_cancelled(phone, invite).await;
        }
        assert_eq!(of_callee(&server).await, vec![expected(&CANCELLED); count], "{count} phones");
        let pcap = server.api.get("/console/calls/last/trace.pcap").await.body;
        let pcap = String::from_utf8_lossy(&pcap);
        assert_eq!(pcap.matches("CANCEL sip:alice@").count(), count);
        // The Call-ID of a leg that did not answer finds its call.
        let call_id = invites[0].get("Call-ID");
        let found = server.api.get(&format!("/console/calls/{call_id}/trace")).await.json();
        assert_eq!(found["session"], trace(&server).await["session"]);
        server.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_has_the_messages_with_phones_that_refuse_or_are_slower_than_another() {
    let server = TestServer::start(&(ALICE.to_owned() + &inline("600", TO_ALICE))).await;
    let mut phone = Browser::desk_phone(&server).await;
    phone.register().await;
    let mut caller = Phone::new().await;
    caller.invite(server.udp, "600").await;
    let invite = phone.receive_request("INVITE").await;
    phone.answer(&invite, 486, "").await;
    phone.receive_request("ACK").await;
    caller.outcome().await;
    let refused = ["> INVITE", "< 486 Busy Here (INVITE)", "> ACK"];
    assert_eq!(of_callee(&server).await, [expected(&refused)]);

    // A second phone answers, and the first phone stops ringing.
    let mut other = Browser::desk_phone(&server).await;
    other.register().await;
    let mut caller = Phone::new().await;
    caller.invite(server.udp, "600").await;
    let slow = phone.receive_request("INVITE").await;
    phone.answer(&slow, 180, "").await;
    let fast = other.receive_request("INVITE").await;
    caller.until(SipEvent::Status(180)).await;
    let sdp = fast.body.clone();
    other.answer(&fast, 200, &sdp).await;
    other.receive_request("ACK").await;
    end_cancelled(&mut phone, &slow).await;
    assert_eq!(caller.outcome().await, 200);
    caller.hangup().await;
    let bye = other.receive_request("BYE").await;
    other.answer(&bye, 200, "").await;
    let mut seen = of_callee(&server).await;
    seen.sort_by_key(Vec::len);
    let answered = ["> INVITE", "< 200 OK (INVITE)", "> ACK", "> BYE", "< 200 OK (BYE)"];
    assert_eq!(seen, [expected(&answered), expected(&CANCELLED)]);
    server.end().await;
}

/// The configuration of a trunk to a phone.
fn trunk(name: &str, to: &Phone, priority: u8) -> String {
    format!("[[trunks]]\nname = \"{name}\"\nuri = \"sip:{}\"\nprefixes = [\"+\"]\npriority = {priority}\n", to.address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_has_the_messages_with_each_trunk_that_does_not_answer() {
    let (mut first, mut second) = (Phone::at("127.0.17.21").await, Phone::at("127.0.17.22").await);
    let dial = "<Response><Dial answerOnBridge=\"true\" callerId=\"+15550100\">+441234</Dial></Response>";
    let number = "[[numbers]]\nnumber = \"+15550100\"\naccount = \"acme\"\nbridge = \"sip:x@127.0.0.1\"\n";
    let more = trunk("first", &first, 1) + &trunk("second", &second, 2) + number + &inline("600", dial);
    let server = TestServer::start(&more).await;
    let mut caller = Phone::new().await;
    caller.invite(server.udp, "600").await;
    caller.cancel_while_ringing(&mut first).await;
    let mut seen = of_callee(&server).await.concat();
    // The order of the two responses to INVITE and CANCEL is that of the phone.
    seen.sort();
    let mut all = expected(&CANCELLED);
    all.sort();
    assert_eq!(seen, all);

    let mut caller = Phone::new().await;
    caller.invite(server.udp, "600").await;
    first.until(SipEvent::Invited).await;
    first.refuse(503).await;
    second.until(SipEvent::Invited).await;
    second.refuse(486).await;
    caller.outcome().await;
    let refused = |status: &str| expected(&["> INVITE", &format!("< {status} (INVITE)"), "> ACK"]);
    assert_eq!(of_callee(&server).await, [refused("503 x"), refused("486 x")]);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_has_the_messages_with_a_sip_address_that_does_not_answer() {
    let mut called = Phone::new().await;
    let server = TestServer::start(&through("700", &called, "off")).await;
    let mut caller = Phone::new().await;
    caller.invite(server.udp, "700").await;
    caller.cancel_while_ringing(&mut called).await;
    let seen = of_callee(&server).await;
    assert_eq!(seen.len(), 1);
    assert!(seen[0].iter().any(|message| message == "> CANCEL"), "{seen:?}");
    server.end().await;
}
