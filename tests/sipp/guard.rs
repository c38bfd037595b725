//! Sources that misbehave are banned. Legitimate callers still reach the server.

use serde_json::Value;
use tandem_test_support::wait_until;
use tokio::net::UdpSocket;

use crate::log::PATIENCE;
use crate::sipp::{Sipp, is_missing};
use crate::test_server::{TestServer, inline};

async fn bans(server: &TestServer) -> Vec<Value> {
    server.api.get("/console/sip/bans").await.json().as_array().unwrap().clone()
}

async fn metric(server: &TestServer, name: &str) -> u64 {
    let metrics = String::from_utf8(server.api.get("/metrics").await.body).unwrap();
    let line = metrics.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{name}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_guesser_is_banned_while_calls_of_a_trunk_at_the_same_address_succeed() {
    if is_missing() {
        return;
    }
    let (scanner, caller) = (Sipp::new("scan"), Sipp::new("call"));
    let address = scanner.address();
    let more = "[sip.bans]\nrefused = 5\n".to_owned() + &inline("600", "<Response><Pause length=\"5\"/></Response>");
    let server = TestServer::start(&(caller.trunk("caller", "") + &more)).await;
    assert_eq!(server.api.get("/console/sip/bans?format=text").await.body, b"no bans\n");
    scanner.calls(5).call(server.udp).succeed().await;
    Sipp::new("unheard").at(address).calls(3).to("600").call(server.udp).succeed().await;
    caller.calls(3).to("600").call(server.udp).succeed().await;

    let ban = bans(&server).await.remove(0);
    assert_eq!(ban["source"], address.ip().to_string());
    assert_eq!((ban["limit"].as_str(), ban["times"].as_u64()), (Some("refused"), Some(1)));
    assert_eq!(ban["why"], "5 refused requests within a minute");
    assert_eq!(ban["dropped"], 3);
    let text = String::from_utf8(server.api.get("/console/sip/bans?format=text").await.body).unwrap();
    assert!(
        text.starts_with(&address.ip().to_string()) && text.contains(": 5 refused requests within a minute"),
        "{text}"
    );
    assert_eq!(metric(&server, "tandem_sip_bans").await, 1);
    assert_eq!(metric(&server, "tandem_sip_banned_dropped_total").await, 3);

    // An operator can read the messages before the ban. The digest responses in the messages are masked.
    let messages = server.api.get("/console/sip/strangers?format=text").await;
    let messages = String::from_utf8(messages.body).unwrap();
    assert_eq!(messages.matches("403 Forbidden (REGISTER)").count(), 5, "{messages}");
    let whole = String::from_utf8(server.api.get("/console/sip/strangers").await.body).unwrap();
    assert!(whole.contains("Digest username") && !whole.contains("0123456789abcdef"), "{whole}");

    let path = format!("/console/sip/bans/{}", address.ip());
    assert_eq!(server.api.delete(&path).await.status, 204);
    assert_eq!(server.api.delete(&path).await.status, 404);
    assert!(bans(&server).await.is_empty());
    Sipp::new("scan").at(address).call(server.udp).succeed().await;
    server.quiet().await;
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_source_gets_only_its_refusal() {
    let server = TestServer::start("").await;
    // An address that does not belong to the trunk.
    let unknown = UdpSocket::bind("127.0.0.77:0").await.unwrap();
    let at = unknown.local_addr().unwrap();
    let mut answers = Vec::new();
    for line in ["INVITE sip:600@x", "INVITE sip:nobody@x", "OPTIONS sip:x", "REGISTER sip:x", "INVITE  sip:x"] {
        let method = line.split(' ').next().unwrap();
        let request = format!(
            "{line} SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bKs\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\n\
             Call-ID: {}\r\nCSeq: 1 {method}\r\nContact: <sip:a@{at}>\r\nContent-Length: 0\r\n\r\n",
            answers.len()
        );
        unknown.send_to(request.as_bytes(), server.udp).await.unwrap();
        let mut answer = [0; 2_048];
        let length = tokio::time::timeout(PATIENCE, unknown.recv(&mut answer)).await.expect("an answer").unwrap();
        let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
        let own = ["SIP/2.0", "Via", "From", "To", "Call-ID", "CSeq", "Content-Length"];
        let telling = answer.lines().filter(|line| !line.is_empty() && !own.iter().any(|own| line.starts_with(own)));
        assert_eq!(telling.collect::<Vec<_>>(), [""; 0], "{answer}");
        answers.push(answer.lines().next().unwrap().to_owned());
    }
    assert_eq!(
        answers,
        [
            "SIP/2.0 403 Forbidden",
            "SIP/2.0 403 Forbidden",
            "SIP/2.0 403 Forbidden",
            "SIP/2.0 403 Forbidden",
            "SIP/2.0 400 Bad Request"
        ]
    );
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_calls_gets_503_and_the_live_call_continues() {
    if is_missing() {
        return;
    }
    const BURST: usize = 500;
    let (held, flood) = (Sipp::new("held"), Sipp::new("call"));
    let at = flood.address();
    let more =
        "[[numbers]]\nnumber = \"600\"\naccount = \"acme\"\ntwiml = '<Response><Pause length=\"9\"/></Response>'\n";
    let trunks = held.trunk("held", "") + &flood.trunk("flood", "") + more;
    let server = TestServer::start_under(&[("TANDEM_SIP__OVERLOAD_MS", "20")], &trunks).await;
    let held = held.to("600").call(server.udp);
    wait_until(PATIENCE, "the first call", async || server.live_legs() > 0).await;

    let socket = UdpSocket::bind(at).await.unwrap();
    let flood = async {
        let (mut answer, mut number) = ([0; 2_048], 0);
        loop {
            for _ in 0..BURST {
                number += 1;
                let invite = format!(
                    "INVITE sip:nobody@x SIP/2.0\r\nVia: SIP/2.0/UDP {at};branch=z9hG4bKf{number}\r\nFrom: <sip:a@b>;tag={number}\r\n\
                     To: <sip:nobody@x>\r\nCall-ID: flood{number}\r\nCSeq: 1 INVITE\r\nContact: <sip:a@{at}>\r\nMax-Forwards: 70\r\n\
                     Content-Length: 0\r\n\r\n"
                );
                socket.send_to(invite.as_bytes(), server.udp).await.unwrap();
                // The test reads pending responses, so that the socket's buffer has room for the refusals.
                while let Ok(length) = socket.try_recv(&mut answer) {
                    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
                    if answer.starts_with("SIP/2.0 503 ") {
                        return answer;
                    }
                }
            }
            tokio::task::yield_now().await;
        }
    };
    let refusal = tokio::time::timeout(PATIENCE, flood).await.expect("a 503");
    assert!(refusal.contains("\r\nRetry-After: "), "{refusal}");
    held.succeed().await;
    assert!(metric(&server, "tandem_sip_requests_shed_total").await > 0);
    assert_eq!(metric(&server, "tandem_sip_overloaded").await, 0);
    server.quiet().await;
    server.end().await;
}
