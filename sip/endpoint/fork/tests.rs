use std::net::SocketAddr;

use super::*;
use crate::endpoint::phones::tests::{Exchange, Sent, ring, with_sdp};
use crate::endpoint::tests::response_to;
use crate::leg::Event;
use crate::testing::hangup as hang_up;

/// Registers phones of alice, each with its own address. Returns the addresses.
fn phones(exchange: &mut Exchange, qs: &[&str]) -> Vec<String> {
    let mut addresses = Vec::new();
    for (number, q) in qs.iter().enumerate() {
        let address = format!("192.0.2.{}:5060", number + 1);
        let answer = exchange.register(&address, "alice", &format!("Contact: <sip:alice@{address}>;q={q}\r\n"));
        assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
        addresses.push(address);
    }
    exchange.events.clear();
    addresses
}

/// Sends a response of the phone to a request.
fn respond(exchange: &mut Exchange, request: &Sent, status: u16, sdp: bool) {
    let tag = request.to.ip().to_string().replace('.', "");
    let contact = "Contact: <sip:alice@10.9.9.9>\r\n";
    let more = if sdp { with_sdp(contact) } else { contact.to_owned() };
    exchange.receive(&request.to.to_string(), response_to(&request.text, status, &tag, &more));
}

fn take(exchange: &mut Exchange, method: &str, to: &str) -> Sent {
    let to: SocketAddr = to.parse().unwrap();
    let at = exchange.sent.iter().position(|sent| sent.to == to && sent.text.starts_with(method));
    let Some(at) = at else {
        let sent: Vec<_> = exchange.sent.iter().map(|sent| (sent.to, sent.text.lines().next())).collect();
        panic!("no {method} to {to}: {sent:?}")
    };
    exchange.sent.remove(at).unwrap()
}

fn ended(exchange: &mut Exchange) -> (EndCause, Option<u16>) {
    match exchange.events.pop_front() {
        Some(Event::Ended { leg: LegId(9), cause, status, .. }) => (cause, status),
        other => panic!("no end but {other:?}"),
    }
}

fn nothing_is_left(exchange: &mut Exchange) {
    exchange.wait(Duration::from_secs(100));
    assert_eq!((exchange.endpoint.legs(), exchange.endpoint.transactions()), (0, 0));
    let forks = &exchange.endpoint.forks;
    assert!(
        forks.by_leg.is_empty()
            && exchange.endpoint.core.branches.is_empty()
            && forks.timers.is_empty()
            && exchange.endpoint.core.branch_events.is_empty()
    );
}

#[test]
fn the_first_answer_of_a_fork_wins_and_the_other_phones_get_the_reason() {
    let mut exchange = Exchange::new();
    let phones = phones(&mut exchange, &["1", "1", "1"]);
    exchange.command(ring(9, "alice"));
    let invites: Vec<Sent> = phones.iter().map(|phone| take(&mut exchange, "INVITE", phone)).collect();
    for invite in &invites {
        respond(&mut exchange, invite, 180, false);
    }
    assert_eq!(exchange.events.drain(..).filter(|event| event.leg() == Some(LegId(9))).count(), 3);
    respond(&mut exchange, &invites[1], 200, true);
    assert!(matches!(exchange.events.pop_front(), Some(Event::Answered { leg: LegId(9), sdp: Some(_), .. })));
    let ack = take(&mut exchange, "ACK", &phones[1]);
    assert!(ack.text.starts_with("ACK sip:alice@10.9.9.9 "), "to its Contact, the way it came: {}", ack.text);
    for loser in [0, 2] {
        let cancel = take(&mut exchange, "CANCEL", &phones[loser]);
        assert!(
            cancel.text.contains("\r\nReason: SIP;cause=200;text=\"Call completed elsewhere\"\r\n"),
            "{}",
            cancel.text
        );
        respond(&mut exchange, &cancel, 200, false);
        respond(&mut exchange, &invites[loser], 487, false);
        take(&mut exchange, "ACK", &phones[loser]);
    }
    assert!(exchange.events.is_empty(), "{:?}", exchange.events);
    exchange.command(hang_up(LegId(9)));
    let bye = take(&mut exchange, "BYE", &phones[1]);
    respond(&mut exchange, &bye, 200, false);
    assert_eq!(ended(&mut exchange), (EndCause::LocalHangup, None));
    nothing_is_left(&mut exchange);
}

#[test]
fn an_answer_that_crosses_its_cancel_is_acknowledged_and_hung_up() {
    let mut exchange = Exchange::new();
    let phones = phones(&mut exchange, &["1", "1"]);
    exchange.command(ring(9, "alice"));
    let invites: Vec<Sent> = phones.iter().map(|phone| take(&mut exchange, "INVITE", phone)).collect();
    for invite in &invites {
        respond(&mut exchange, invite, 180, false);
    }
    respond(&mut exchange, &invites[0], 200, true);
    respond(&mut exchange, &invites[1], 200, true);
    take(&mut exchange, "ACK", &phones[1]);
    let bye = take(&mut exchange, "BYE", &phones[1]);
    assert!(bye.text.contains("Call completed elsewhere"));
    respond(&mut exchange, &bye, 200, false);
    assert_eq!(exchange.events.iter().filter(|event| matches!(event, Event::Answered { .. })).count(), 1);
    assert!(!exchange.events.iter().any(|event| matches!(event, Event::Ended { .. })));
    exchange.events.clear();
    exchange.command(hang_up(LegId(9)));
    let bye = take(&mut exchange, "BYE", &phones[0]);
    respond(&mut exchange, &bye, 200, false);
    ended(&mut exchange);
    nothing_is_left(&mut exchange);
}

#[test]
fn the_best_refusal_of_a_fork_is_reported() {
    for (refusals, reported) in [([486, 503], 486), ([408, 486], 486), ([404, 302], 302), ([480, 500], 480)] {
        let mut exchange = Exchange::new();
        let phones = phones(&mut exchange, &["1", "1"]);
        exchange.command(ring(9, "alice"));
        for (phone, refusal) in phones.iter().zip(refusals) {
            let invite = take(&mut exchange, "INVITE", phone);
            respond(&mut exchange, &invite, refusal, false);
        }
        assert_eq!(ended(&mut exchange), (EndCause::Rejected, Some(reported)));
        nothing_is_left(&mut exchange);
    }
}

#[test]
fn a_decline_ends_the_call_everywhere() {
    let mut exchange = Exchange::new();
    let phones = phones(&mut exchange, &["1", "1", "0.5"]);
    exchange.command(ring(9, "alice"));
    let invites: Vec<Sent> = phones[..2].iter().map(|phone| take(&mut exchange, "INVITE", phone)).collect();
    respond(&mut exchange, &invites[1], 180, false);
    exchange.events.clear();
    respond(&mut exchange, &invites[0], 603, false);
    let cancel = take(&mut exchange, "CANCEL", &phones[1]);
    assert!(!cancel.text.contains("Reason:"), "nobody has taken it: {}", cancel.text);
    respond(&mut exchange, &cancel, 200, false);
    respond(&mut exchange, &invites[1], 487, false);
    assert_eq!(ended(&mut exchange), (EndCause::Rejected, Some(603)));
    nothing_is_left(&mut exchange);
}

#[test]
fn phones_of_lower_preference_ring_after_the_others_refuse_or_ring_for_long() {
    let mut exchange = Exchange::new();
    let phones = phones(&mut exchange, &["0.3", "1", "0.5"]);
    exchange.command(ring(9, "alice"));
    let first = take(&mut exchange, "INVITE", &phones[1]);
    assert!(exchange.sent.is_empty(), "one after the other");
    respond(&mut exchange, &first, 486, false);
    let second = take(&mut exchange, "INVITE", &phones[2]);
    respond(&mut exchange, &second, 180, false);
    exchange.wait(GROUP_RING_TIME + Duration::from_secs(1));
    let cancel = take(&mut exchange, "CANCEL", &phones[2]);
    respond(&mut exchange, &cancel, 200, false);
    respond(&mut exchange, &second, 487, false);
    let third = take(&mut exchange, "INVITE", &phones[0]);
    respond(&mut exchange, &third, 200, true);
    assert!(exchange.events.iter().any(|event| matches!(event, Event::Answered { leg: LegId(9), .. })));
}

#[test]
fn a_hang_up_cancels_all_branches_of_a_fork() {
    let mut exchange = Exchange::new();
    let phones = phones(&mut exchange, &["1", "1", "0.1"]);
    exchange.command(ring(9, "alice"));
    let invites: Vec<Sent> = phones[..2].iter().map(|phone| take(&mut exchange, "INVITE", phone)).collect();
    respond(&mut exchange, &invites[0], 180, false);
    exchange.events.clear();
    exchange.command(hang_up(LegId(9)));
    let cancel = take(&mut exchange, "CANCEL", &phones[0]);
    respond(&mut exchange, &cancel, 200, false);
    respond(&mut exchange, &invites[0], 487, false);
    // The other phone has not responded yet, so the INVITE to this phone cannot be cancelled.
    respond(&mut exchange, &invites[1], 180, false);
    let cancel = take(&mut exchange, "CANCEL", &phones[1]);
    respond(&mut exchange, &cancel, 200, false);
    respond(&mut exchange, &invites[1], 487, false);
    assert_eq!(ended(&mut exchange), (EndCause::LocalHangup, None));
    nothing_is_left(&mut exchange);
}

#[test]
fn early_media_of_the_first_phone_only_is_passed_on() {
    let mut exchange = Exchange::new();
    let phones = phones(&mut exchange, &["1", "1"]);
    exchange.command(ring(9, "alice"));
    for phone in &phones {
        let invite = take(&mut exchange, "INVITE", phone);
        respond(&mut exchange, &invite, 183, true);
    }
    let heard: Vec<bool> = exchange
        .events
        .drain(..)
        .filter_map(|event| match event {
            Event::Provisional { sdp, .. } => Some(sdp.is_some()),
            _ => None,
        })
        .collect();
    assert_eq!(heard, [true, false]);
}
