//! The trace of a call can be read after the call. Neither side of the call learns the address of the other side.

use serde_json::Value;

use crate::sipp::{Sipp, is_missing};
use crate::straight::through;
use crate::test_server::TestServer;

fn lines_of(trace: &Value, party: usize) -> Vec<(String, String)> {
    let messages = trace["messages"].as_array().unwrap().iter().filter(|message| message["party"] == party);
    let text = |message: &Value, key: &str| message[key].as_str().unwrap().to_owned();
    messages.map(|message| (text(message, "direction"), text(message, "summary"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sip_ladder_has_every_message_of_both_legs_in_order() {
    if is_missing() {
        return;
    }
    for transport in ["u1", "t1"] {
        let (caller, answerer) = (Sipp::new("call").over(transport), Sipp::new("answer").over(transport));
        let there = answerer.address();
        let server = TestServer::start(
            &(caller.trunk("caller", "") + &answerer.trunk("answerer", "") + &through("1", "answerer")),
        )
        .await;
        let answerer = answerer.answer().await;
        let target = if transport == "u1" { server.udp } else { server.tcp };
        caller.to("1234").call(target).succeed().await;
        let heard = answerer.succeed().await;
        server.quiet().await;

        let trace = server.api.get("/console/calls/last/trace").await.json();
        let expected = |rows: &[(&str, &str)]| rows.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect::<Vec<_>>();
        let caller = expected(&[
            ("received", &format!("INVITE sip:1234@{target}")),
            ("sent", "100 Trying (INVITE)"),
            ("sent", "180 Ringing (INVITE)"),
            ("sent", "200 OK (INVITE)"),
            ("received", "ACK"),
            ("received", "BYE"),
            ("sent", "200 OK (BYE)"),
        ]);
        assert_eq!(lines_of(&trace, 0), caller, "{trace}");
        let callee = lines_of(&trace, 1);
        let (direction, invite) = &callee[0];
        assert!(direction == "sent" && invite.starts_with(&format!("INVITE sip:1234@{there}")), "{invite}");
        let rest = expected(&[
            ("received", "180 Ringing (INVITE)"),
            ("received", "200 OK (INVITE)"),
            ("sent", "ACK"),
            ("sent", "BYE"),
            ("received", "200 OK (BYE)"),
        ]);
        assert_eq!(callee[1..], rest, "{trace}");
        // The trace has exactly the messages that SIPp received.
        let shown = trace["messages"].as_array().unwrap();
        let invite = shown.iter().find(|message| message["party"] == 1).unwrap()["message"].as_str().unwrap();
        assert!(heard.replace('\r', "").contains(&invite.replace('\r', "")), "{invite}\n{heard}");
        assert!(shown.windows(2).all(|pair| pair[0]["seconds"].as_f64() <= pair[1]["seconds"].as_f64()));

        let id = trace["parties"][1]["id"].as_str().unwrap();
        let call_id = trace["parties"][0]["sip_call_ids"][0].as_str().unwrap().replace('@', "%40");
        for id in [id, trace["session"].as_str().unwrap(), &call_id] {
            assert_eq!(
                server.api.get(&format!("/console/calls/{id}/trace")).await.json()["parties"],
                trace["parties"],
                "{id}"
            );
        }
        assert_eq!(server.api.get("/console/calls/nonsense/trace").await.status, 404);
        assert_eq!(server.api.get_as("", "/console/calls/last/trace").await.status, 401);
        let pcap = server.api.get("/console/calls/last/trace.pcap").await.body;
        assert_eq!(pcap[..4], 0xa1b2_c3d4_u32.to_le_bytes());
        server.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_far_end_learns_the_address_of_the_other() {
    if is_missing() {
        return;
    }
    let (caller, answerer) = (Sipp::new("from_within"), Sipp::new("answer"));
    let (here, there) = (caller.address(), answerer.address());
    let server =
        TestServer::start(&(caller.trunk("caller", "") + &answerer.trunk("answerer", "") + &through("1", "answerer")))
            .await;
    let answerer = answerer.answer().await;
    let messages = caller.to("1234").call(server.udp).succeed().await;
    let heard = answerer.succeed().await;
    let trace = server.api.get("/console/calls/last/trace").await.json();
    let call_id = |party: usize| trace["parties"][party]["sip_call_ids"][0].as_str().unwrap().to_owned();
    for secret in [here.ip().to_string(), "caller.invalid".into(), call_id(0)] {
        assert!(messages.contains(&secret), "{secret}");
        assert!(!heard.contains(&secret), "{secret} in {heard}");
    }
    for secret in [there.ip().to_string(), "answerer".into(), call_id(1)] {
        assert!(heard.contains(&secret), "{secret}");
        assert!(!messages.contains(&secret), "{secret} in {messages}");
    }
    server.quiet().await;
    server.end().await;
}
