//! Reports about clients that get a challenge and never send credentials.

use super::*;
use crate::endpoint::phones::unanswered::MAX_UNANSWERED;

const CARRIER: &str = "203.0.113.9:5070";
const URI: &str = "sip:804@tandem";
/// The time for which the server waits for credentials.
const WAIT: Duration = Duration::from_secs(5);

/// Returns an INVITE without credentials of this caller. The Call-ID is the URI of the caller.
fn invite(exchange: &mut Exchange, caller: &str) -> String {
    let sdp = std::str::from_utf8(SDP).unwrap();
    exchange.request("INVITE", URI, caller, URI, "Contact: <sip:gw@10.0.0.1>\r\n", sdp)
}

/// Sends an INVITE without credentials from this address, and expects a challenge.
fn call(exchange: &mut Exchange, from: &str, caller: &str) {
    let invite = invite(exchange, caller);
    exchange.receive(from, invite);
    let challenge = exchange.next().text;
    assert!(challenge.starts_with("SIP/2.0 401 "), "{challenge}");
}

/// The reported requests: the source, the called user, the number of suppressed lines, and whether the source is known.
fn reports(exchange: &mut Exchange) -> Vec<(String, String, Option<u64>, bool)> {
    let read = |event| match event {
        Event::ChallengeUnanswered { request, is_known } => {
            Some((request.source.to_string(), request.to, request.line, is_known))
        }
        _ => None,
    };
    exchange.events.drain(..).filter_map(read).collect()
}

#[test]
fn an_invite_whose_caller_sends_no_credentials_is_reported_once_after_5_seconds() {
    let mut exchange = Exchange::new();
    let first = invite(&mut exchange, "sip:+15550100@carrier");
    exchange.receive(CARRIER, first.clone());
    exchange.wait(WAIT - Duration::from_millis(1));
    exchange.receive(CARRIER, first);
    assert!(exchange.events.is_empty(), "{:?}", exchange.events);
    exchange.wait(Duration::from_millis(1));
    let Some(Event::ChallengeUnanswered { request, is_known: false }) = exchange.events.pop_front() else {
        panic!("no report")
    };
    assert_eq!((&*request.method, &*request.from, &*request.to), ("INVITE", "+15550100", "804"));
    assert_eq!((request.source.to_string().as_str(), &*request.sip_call_id), (CARRIER, "sip:+15550100@carrier"));
    assert_eq!(request.line, Some(0));
    exchange.wait(Duration::from_secs(100));
    assert!(exchange.events.is_empty() && exchange.endpoint.poll_timeout().is_none());
}

#[test]
fn a_client_that_sends_credentials_is_not_reported_whatever_they_are() {
    for password in ["secret", "guess"] {
        let mut exchange = Exchange::new();
        exchange.authenticated(ALICE, "INVITE", URI, "alice", "Contact: <sip:a@h>\r\n", password);
        exchange.authenticated("192.0.2.2:5060", "REGISTER", "sip:tandem", "bob", "Contact: <sip:b@h>\r\n", password);
        exchange.events.clear();
        exchange.wait(Duration::from_secs(100));
        assert!(reports(&mut exchange).is_empty(), "{password}");
    }
}

#[test]
fn a_client_that_sends_its_credentials_with_another_call_id_is_not_reported() {
    let mut exchange = Exchange::new();
    let first = invite(&mut exchange, "sip:alice@tandem");
    exchange.receive(ALICE, first);
    let challenge = exchange.next().text;
    let authorization = answer(&challenge, "INVITE", URI, "alice", "secret");
    let sdp = std::str::from_utf8(SDP).unwrap();
    let lines = format!("Contact: <sip:a@h>\r\n{authorization}");
    let second = exchange.request("INVITE", URI, "sip:alice@tandem", URI, &lines, sdp);
    exchange.receive(ALICE, second.replace("Call-ID: sip:alice@tandem", "Call-ID: another"));
    exchange.wait(WAIT);
    assert!(reports(&mut exchange).is_empty());
}

#[test]
fn a_register_without_credentials_is_reported_and_a_registered_phone_is_known() {
    let mut exchange = Exchange::new();
    let register = exchange.request("REGISTER", "sip:tandem", "sip:bob@tandem", "sip:bob@tandem", "", "");
    exchange.receive(CARRIER, register);
    exchange.register(ALICE, "alice", "Contact: <sip:alice@10.0.0.1>\r\n");
    exchange.sent.clear();
    call(&mut exchange, ALICE, "sip:other@tandem");
    exchange.wait(WAIT);
    let expected = [(CARRIER, "bob", false), (ALICE, "804", true)];
    let expected = expected.map(|(source, to, is_known)| (source.to_owned(), to.to_owned(), Some(0), is_known));
    assert_eq!(reports(&mut exchange), expected);
}

#[test]
fn a_flood_of_one_source_is_one_report_in_10_seconds_with_a_count() {
    let mut exchange = Exchange::new();
    guarded(&mut exchange);
    for n in 0..20 {
        call(&mut exchange, CARRIER, &format!("sip:{n}@carrier"));
    }
    exchange.wait(WAIT);
    let report = |held_back| (CARRIER.to_owned(), "804".to_owned(), Some(held_back), false);
    assert_eq!(reports(&mut exchange), [report(0)]);
    exchange.wait(Duration::from_secs(10));
    call(&mut exchange, CARRIER, "sip:again@carrier");
    exchange.wait(WAIT);
    assert_eq!(reports(&mut exchange), [report(19)]);
}

#[test]
fn a_flood_of_many_sources_is_counted_above_the_limit_of_the_table() {
    let mut exchange = Exchange::new();
    guarded(&mut exchange);
    let above = 500;
    for n in 0..MAX_UNANSWERED + above {
        call(&mut exchange, &format!("10.1.{}.{}:5060", n / 250, n % 250), &format!("sip:{n}@carrier"));
    }
    exchange.wait(WAIT);
    let reported = reports(&mut exchange);
    assert_eq!(reported.len(), 3, "{reported:?}");
    assert_eq!(reported[0].2, Some(above as u64));
    assert!(exchange.endpoint.poll_timeout().is_none());
}
