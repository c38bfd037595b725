//! Calls to one registered contact, and the key of the leg that was answered.

use super::*;
use crate::leg::{EndCause, Event};
use crate::registrar::BindingId;
use crate::testing::hangup as hang_up;
use crate::{Ladder, Outgoing};

/// Registers a phone of alice at this address. Returns its binding.
fn bind(exchange: &mut Exchange, address: &str) -> BindingRef {
    let response = exchange.register(address, "alice", &format!("Contact: <sip:alice@{address}>\r\n"));
    assert!(response.starts_with("SIP/2.0 200 "), "{response}");
    match exchange.events.pop_front() {
        Some(Event::Binding(Change::Bound(binding))) => BindingRef { aor: binding.aor, id: binding.id },
        other => panic!("no binding but {other:?}"),
    }
}

fn call(leg: u128, binding: &BindingRef) -> Command {
    let invite = Outgoing { binding: Some(binding.clone()), ..*outgoing("sip:alice@tandem") };
    Command::Invite { leg: LegId(leg), invite: Box::new(invite) }
}

/// Sends a response of the phone to a request.
fn respond(exchange: &mut Exchange, request: &Sent, status: u16) {
    let tag = format!("t{}", request.to.port());
    let more = with_sdp("Contact: <sip:alice@10.9.9.9>\r\n");
    exchange.receive(&request.to.to_string(), response_to(&request.text, status, &tag, &more));
}

#[test]
fn an_invite_to_a_binding_goes_to_its_contact_along_the_path_of_the_register() {
    let mut exchange = Exchange::new();
    bind(&mut exchange, "192.0.2.1:40001");
    let second = bind(&mut exchange, "192.0.2.1:40002");
    exchange.command(call(1, &second));
    let invite = exchange.next();
    assert_eq!(invite.to.to_string(), "192.0.2.1:40002");
    assert!(invite.text.starts_with("INVITE sip:alice@192.0.2.1:40002 SIP/2.0\r\n"), "{}", invite.text);
    assert!(invite.text.contains("\r\nTo: <sip:alice@tandem>\r\n"), "{}", invite.text);
    assert!(exchange.sent.is_empty(), "the other phone does not ring");
}

#[test]
fn an_invite_to_an_ended_binding_ends_with_480() {
    let mut exchange = Exchange::new();
    let binding = bind(&mut exchange, "192.0.2.1:40001");
    exchange.register("192.0.2.1:40001", "alice", "Contact: *\r\nExpires: 0\r\n");
    exchange.events.clear();
    exchange.command(call(1, &binding));
    let Some(Event::Ended { leg, cause, status, reason, .. }) = exchange.events.pop_front() else { panic!("no end") };
    assert_eq!((leg, cause, status), (LegId(1), EndCause::Rejected, Some(480)));
    assert_eq!(reason.as_deref(), Some("alice is not registered"));
    assert!(exchange.sent.is_empty() && exchange.events.is_empty());
}

#[test]
fn the_answered_branch_gets_the_key_of_the_leg_in_events_trace_and_ladder() {
    let mut exchange = Exchange::with(|config| config.trace = true);
    let ladder = Arc::new(Ladder::new(1 << 20));
    exchange.endpoint.set_ladder(Arc::clone(&ladder));
    let bindings = ["192.0.2.1:40001", "192.0.2.2:40002"].map(|address| bind(&mut exchange, address));
    let invites = [21, 22].map(|branch| {
        exchange.command(call(branch, &bindings[usize::from(branch == 22)]));
        exchange.next()
    });
    respond(&mut exchange, &invites[0], 180);
    respond(&mut exchange, &invites[1], 200);
    let answered = exchange.events.iter().any(|event| matches!(event, Event::Answered { leg: LegId(22), .. }));
    assert!(answered, "{:?}", exchange.events);
    exchange.command(Command::Rename { branch: LegId(22), leg: LegId(9) });
    exchange.command(hang_up(LegId(21)));
    exchange.events.clear();
    exchange.sent.clear();
    exchange.command(hang_up(LegId(22)));
    assert!(exchange.sent.is_empty(), "no leg has the old key any more");
    exchange.command(hang_up(LegId(9)));
    let bye = exchange.next();
    assert!(bye.text.starts_with("BYE ") && bye.to.port() == 40_002, "{}", bye.text);
    respond(&mut exchange, &bye, 200);
    let events: Vec<Event> = exchange.events.drain(..).collect();
    assert!(events.iter().all(|event| event.leg() == Some(LegId(9))), "{events:?}");
    assert!(matches!(events[..], [Event::Trace { .. }, Event::Trace { .. }, Event::Ended { .. }]), "{events:?}");
    assert_eq!((ladder.of_legs(&[LegId(9)]).len(), ladder.of_legs(&[LegId(22)]).len()), (1, 0));
}

#[test]
fn a_branch_that_is_not_answered_is_in_the_ladder_under_the_key_of_its_leg() {
    let mut exchange = Exchange::new();
    let ladder = Arc::new(Ladder::new(1 << 20));
    exchange.endpoint.set_ladder(Arc::clone(&ladder));
    let bindings = ["192.0.2.1:40001", "192.0.2.2:40002"].map(|address| bind(&mut exchange, address));
    let branch = |leg: u128, binding: &BindingRef| {
        let Command::Invite { leg, mut invite } = call(leg, binding) else { panic!("no INVITE") };
        invite.branch_of = Some(LegId(9));
        Command::Invite { leg, invite }
    };
    let invites = [21, 22].map(|key| {
        exchange.command(branch(key, &bindings[usize::from(key == 22)]));
        exchange.next()
    });
    respond(&mut exchange, &invites[0], 486);
    let traces = ladder.of_legs(&[LegId(9)]);
    assert_eq!(traces.len(), 2, "{traces:?}");
    assert!(traces.iter().all(|trace| trace.legs == [LegId(9)]), "{traces:?}");
    assert!(ladder.of_legs(&[LegId(21), LegId(22)]).is_empty());
    respond(&mut exchange, &invites[1], 200);
    exchange.command(Command::Rename { branch: LegId(22), leg: LegId(9) });
    let legs: Vec<_> = ladder.of_legs(&[LegId(9)]).into_iter().map(|trace| trace.legs).collect();
    assert_eq!(legs, [[LegId(9)], [LegId(9)]]);
}

#[test]
fn a_branch_keeps_its_key_if_another_leg_has_the_new_key() {
    let mut exchange = Exchange::new();
    let binding = bind(&mut exchange, "192.0.2.1:40001");
    for leg in [21, 9] {
        exchange.command(call(leg, &binding));
    }
    exchange.command(Command::Rename { branch: LegId(21), leg: LegId(9) });
    exchange.command(Command::Rename { branch: LegId(5), leg: LegId(6) });
    let mut keys: Vec<LegId> = exchange.endpoint.leg_keys().collect();
    keys.sort();
    assert_eq!(keys, [LegId(9), LegId(21)]);
}

#[test]
fn restored_bindings_are_reported_and_can_be_called() {
    let mut before = Exchange::new();
    let address = "192.0.2.1:40001";
    before.register(address, "alice", &format!("Contact: <sip:alice@{address}>\r\n"));
    let Some(Event::Binding(Change::Bound(binding))) = before.events.pop_front() else { panic!("no binding") };
    let expired = Binding { id: BindingId(1), expires_in: Duration::ZERO, ..(*binding).clone() };
    let mut after = Exchange::new();
    for binding in [expired, (*binding).clone()] {
        after.endpoint.restore(after.now, binding);
    }
    after.collect();
    let events: Vec<Event> = after.events.drain(..).collect();
    assert!(
        matches!(&events[..], [Event::Binding(Change::Restored(restored))] if restored.id == binding.id),
        "{events:?}"
    );
    after.command(call(1, &BindingRef { aor: binding.aor.clone(), id: binding.id }));
    assert_eq!(after.next().to.to_string(), address);
}
