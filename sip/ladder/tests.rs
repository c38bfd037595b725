use std::time::Duration;

use super::*;
use crate::testing::instant;

fn message(at: Instant, id: &str, text: &str) -> TracedMessage {
    let address = "192.0.2.1:5060".parse().unwrap();
    let data = Bytes::from(format!("{text} SIP/2.0\r\nVia: SIP/2.0/UDP x\r\nCall-ID: {id}\r\nCSeq: 1 INVITE\r\n\r\n"));
    TracedMessage { at, sent: false, transport: Transport::Udp, local: address, peer: address, data }
}

fn texts(trace: &[TracedMessage]) -> Vec<String> {
    trace.iter().map(|message| String::from_utf8_lossy(&message.data).split(' ').next().unwrap().to_owned()).collect()
}

fn of(ladder: &Ladder, leg: u128) -> Vec<String> {
    ladder.of_legs(&[LegId(leg)]).iter().flat_map(|trace| texts(&trace.messages)).collect()
}

#[test]
fn a_call_id_is_found_in_either_form_and_case_and_not_in_the_body() {
    assert_eq!(call_id(b"INVITE sip:a SIP/2.0\r\nVia: x\r\ncall-id :  a@b \r\n\r\n"), Some(&b"a@b"[..]));
    assert_eq!(call_id(b"BYE sip:a SIP/2.0\nI:x\n\n"), Some(&b"x"[..]));
    assert_eq!(call_id(b"BYE sip:a SIP/2.0\r\nContact: <sip:x>\r\n\r\nCall-ID: body\r\n"), None);
    for nothing in [&b""[..], b"i", b"Call-ID", b"\r\n\r\n", b"\0"] {
        assert_eq!(call_id(nothing), None);
    }
}

#[test]
fn a_leg_has_its_messages_from_the_invite_on_and_those_after_its_end() {
    let (ladder, start) = (Ladder::new(1 << 20), instant());
    ladder.record(message(start, "x", "OPTIONS"), || false);
    ladder.record(message(start, "a", "INVITE"), || true);
    ladder.begin(LegId(1), b"a");
    ladder.record(message(start + Duration::from_millis(1), "a", "ACK"), || panic!("it is a leg's"));
    ladder.end(b"a");
    ladder.record(message(start + Duration::from_millis(2), "a", "BYE"), || panic!("it is a leg's"));
    assert_eq!(of(&ladder, 1), ["INVITE", "ACK", "BYE"]);
    assert_eq!(texts(&ladder.of_call_id("a").unwrap().messages), ["INVITE", "ACK", "BYE"]);
    assert_eq!(ladder.of_call_id("a").unwrap().legs, [LegId(1)]);
    assert_eq!(texts(&ladder.of_call_id("x").unwrap().messages), ["OPTIONS"]);
    assert!(ladder.from_unknown_sources().is_empty());
    assert!(of(&ladder, 2).is_empty());
}

#[test]
fn the_ladder_drops_ended_calls_first_and_live_calls_last() {
    let (ladder, start) = (Ladder::new(64 * 1024), instant());
    for number in 0..1_000_u32 {
        let id = format!("call{number}");
        ladder.record(message(start, &id, "INVITE"), || false);
        ladder.begin(LegId(number.into()), id.as_bytes());
        ladder.record(message(start, &id, "ACK"), || false);
        if number > 0 {
            ladder.end(id.as_bytes());
        }
        let fill = ladder.fill();
        assert!(fill.octets <= 64 * 1024, "{fill:?}");
    }
    assert_eq!(of(&ladder, 0), ["INVITE", "ACK"], "it lives");
    assert!(of(&ladder, 1).is_empty());
    assert_eq!(of(&ladder, 999), ["INVITE", "ACK"]);
    let fill = ladder.fill();
    assert!(fill.calls > 50 && fill.messages >= 2 * fill.calls, "{fill:?}");
}

#[test]
fn if_all_calls_are_live_the_oldest_call_is_dropped() {
    let (ladder, start) = (Ladder::new(64 * 1024), instant());
    for number in 0..1_000_u32 {
        let id = format!("call{number}");
        ladder.begin(LegId(number.into()), id.as_bytes());
        ladder.record(message(start, &id, "INVITE"), || false);
    }
    assert!(of(&ladder, 0).is_empty());
    assert_eq!(of(&ladder, 999).len(), 1);
    assert!(ladder.fill().octets <= 64 * 1024);
}

#[test]
fn messages_of_unknown_sources_displace_only_each_other() {
    let (ladder, start) = (Ladder::new(256 * 1024), instant());
    ladder.record(message(start, "real", "INVITE"), || false);
    ladder.begin(LegId(7), b"real");
    ladder.record(message(start, "peer", "OPTIONS"), || false);
    for number in 0..5_000 {
        ladder.record(message(start, &format!("scan{number}"), "REGISTER"), || true);
    }
    assert_eq!(of(&ladder, 7).len(), 1);
    assert!(ladder.of_call_id("peer").is_some());
    assert!(ladder.of_call_id("scan0").is_none());
    assert!(ladder.of_call_id("scan4999").is_some());
    assert!(ladder.fill().octets <= 256 * 1024);
}

#[test]
fn a_call_with_too_many_messages_keeps_its_beginning_and_its_latest() {
    let (ladder, start) = (Ladder::new(16 << 20), instant());
    ladder.begin(LegId(1), b"a");
    for number in 0..1_000 {
        ladder.record(message(start, "a", &format!("M{number}")), || false);
    }
    let trace = ladder.of_legs(&[LegId(1)]).remove(0);
    let texts = texts(&trace.messages);
    assert_eq!((texts.len(), trace.left_out), (MAX_CALL_MESSAGES, 600));
    assert_eq!((&*texts[0], &*texts[199], &*texts[399]), ("M0", "M199", "M999"));
}

#[test]
fn messages_before_the_leg_belong_to_its_trace() {
    let (ladder, start) = (Ladder::new(1 << 20), instant());
    ladder.record(message(start, "a", "FIRST"), || true);
    for number in 0..50 {
        ladder.record(message(start, &format!("b{number}"), "OPTIONS"), || true);
    }
    ladder.record(message(start + Duration::from_secs(1), "a", "SECOND"), || true);
    ladder.begin(LegId(1), b"a");
    assert_eq!(of(&ladder, 1), ["FIRST", "SECOND"]);
    assert_eq!(texts(&ladder.of_call_id("a").unwrap().messages), ["FIRST", "SECOND"]);
}

#[test]
fn a_reused_call_id_uses_no_further_memory() {
    let (ladder, start) = (Ladder::new(1 << 20), instant());
    for number in 0..100_000_u32 {
        ladder.begin(LegId(number.into()), b"same");
        ladder.record(message(start, "same", "INVITE"), || false);
        ladder.end(b"same");
    }
    let rings = ladder.lock();
    assert_eq!((rings.calls.len(), rings.ended.len(), rings.by_call_id.len()), (1, 1, 1));
    assert_eq!(rings.calls.values().map(|call| call.legs.len()).sum::<usize>(), MAX_LEGS_PER_CALL_ID);
}

#[test]
fn the_ladder_truncates_long_messages_and_ignores_keep_alives() {
    let (ladder, start) = (Ladder::new(1 << 20), instant());
    ladder.begin(LegId(1), b"a");
    let mut long = message(start, "a", "INVITE");
    long.data = [&*long.data, &[b'x'; 60_000]].concat().into();
    ladder.record(long.clone(), || false);
    long.data = Bytes::from_static(b"\r\n\r\n");
    ladder.record(long, || panic!("not asked"));
    let trace = ladder.of_legs(&[LegId(1)]).remove(0);
    assert_eq!(trace.messages.iter().map(|message| message.data.len()).collect::<Vec<_>>(), [MAX_MESSAGE_OCTETS]);
    assert_eq!(ladder.fill().messages, 1);
}
