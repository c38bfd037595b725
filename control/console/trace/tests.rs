use std::time::Duration;

use bytes::Bytes;
use tandem_sip::{TracedMessage, Transport};

use super::*;

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/SAVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0\r\na=sendonly\r\n";

fn seen(now: Now, after: u64, sent: bool, peer: &str, data: String) -> TracedMessage {
    TracedMessage {
        at: now.instant + Duration::from_millis(after),
        sent,
        transport: Transport::Udp,
        local: "192.0.2.100:5060".parse().unwrap(),
        peer: peer.parse().unwrap(),
        data: Bytes::from(data),
    }
}

fn request(line: &str, to: &str, body: &str) -> String {
    format!("{line} SIP/2.0\r\nTo: {to}\r\nCall-ID: a\r\nCSeq: 1 {}\r\n\r\n{body}", line.split(' ').next().unwrap())
}

fn response(status: &str, method: &str) -> String {
    format!("SIP/2.0 {status}\r\nTo: <sip:600@x>;tag=2\r\nCall-ID: a\r\nCSeq: 1 {method}\r\n\r\n")
}

fn party(name: &str) -> Party {
    Party {
        name: name.into(),
        id: None,
        direction: None,
        from: None,
        to: None,
        trunk: None,
        sip_call_ids: vec![],
        outcome: None,
        is_over: false,
    }
}

fn call() -> CallTrace {
    let now = clock::now();
    let (caller, callee) = ("192.0.2.1:5060", "192.0.2.2:5070");
    let invite = request("INVITE sip:600@x", "<sip:600@x>", SDP);
    let out = request("INVITE sip:700@y", "<sip:700@y>", "");
    let seen = vec![
        (0, seen(now, 0, false, caller, invite)),
        (1, seen(now, 2, true, callee, out.clone())),
        (1, seen(now, 502, true, callee, out)),
        (1, seen(now, 510, false, callee, response("200 OK", "INVITE"))),
        (1, seen(now, 511, true, callee, request("ACK sip:700@y", "<sip:700@y>;tag=2", ""))),
        (0, seen(now, 512, true, caller, response("200 OK", "INVITE"))),
        (0, seen(now, 513, false, "192.0.2.9:5060", request("BYE sip:x", "<sip:600@x>;tag=2", ""))),
    ];
    CallTrace {
        session: None,
        parties: vec![party("caller"), party("callee")],
        messages: messages(seen, now),
        left_out: 3,
    }
}

#[test]
fn a_ladder_has_a_column_for_each_party_and_a_row_for_each_message() {
    let text = call().text(100);
    let rows: Vec<&str> = text.lines().skip(5).collect();
    assert!(
        rows[0].starts_with("          caller") && rows[0].contains("tandem") && rows[0].ends_with("callee"),
        "{text}"
    );
    assert!(rows[2].contains("│── INVITE sip:600@x ──") && rows[2].contains("▶│"), "{text}");
    assert!(rows[3].contains("│   SDP PCMU PCMA keys, 192.0.2.1:4000,"), "{text}");
    assert!(rows[4].contains("│   sendonly, encrypted "), "{text}");
    assert!(rows[6].contains(" INVITE sip:700@y again ") && rows[6].starts_with("    0.502"), "{text}");
    assert!(rows[7].contains("│◀─ 200 OK (INVITE) ─"), "{text}");
    assert!(rows[10].contains("│── BYE ──") && rows[11].contains("from 192.0.2.9:5060 UDP"), "{text}");
    assert!(text.ends_with("\n\n3 more messages of this call were not kept\n"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}

#[test]
fn a_ladder_fits_any_width_and_any_number_of_parties() {
    let mut trace = call();
    for parties in 1..12 {
        trace.parties = (0..parties).map(|number| party(&format!("callee {number}"))).collect();
        let last = trace.messages.len() - 1;
        for (number, message) in trace.messages.iter_mut().enumerate() {
            message.party = if number == last { parties - 1 } else { number % parties };
        }
        for columns in [0, 61, 80, 100, 132, 400] {
            let text = trace.text(columns);
            let widest = text.lines().skip(parties + 2).map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= columns.max(60), "{parties} parties, {columns} columns: {widest}\n{text}");
            assert!(text.contains(&format!("callee {}", parties - 1)), "{parties} {columns}\n{text}");
        }
    }
}

#[test]
fn no_form_of_a_trace_contains_secrets() {
    let trace = call();
    let shown = [serde_json::to_vec(&trace).unwrap(), trace.text(400).into_bytes(), trace.pcap()];
    for shown in shown {
        assert!(!shown.windows(8).any(|window| window == b"c2VjcmV0"));
    }
}

#[test]
fn data_that_is_no_sip_is_shown_escaped() {
    assert_eq!(summary::line(b"\x16\x03\x01\x1b[31m"), "not SIP: \\u{16}\\u{3}\\u{1}\\u{1b}[31m");
    assert_eq!(summary::line(b""), "not SIP: ");
    assert_eq!(summary::line(b"SIP/2.0 200"), "200");
    assert_eq!(summary::line(b"SIP/2.0 486 Busy Here\r\n\r\n"), "486 Busy Here");
    assert_eq!(summary::line(request("INVITE sip:a", "<sip:b>;tag=1", "").as_bytes()), "INVITE (within the call)");
}

#[test]
fn the_summary_of_sdp_has_each_media_stream() {
    let sum = |sdp: &str| summary::sdp(format!("INVITE\r\n\r\n{sdp}").as_bytes());
    assert_eq!(sum(SDP).as_deref(), Some("PCMU PCMA keys, 192.0.2.1:4000, sendonly, encrypted"));
    let two = "v=0\r\nm=audio 4000 RTP/AVP 96\r\nc=IN IP6 2001:db8::1\r\na=rtpmap:96 opus/48000/2\r\nm=video 0 RTP/AVP 34\r\n";
    assert_eq!(sum(two).as_deref(), Some("opus, [2001:db8::1]:4000; video 34, refused"));
    assert_eq!(sum("--x\r\n\r\nv=0\r\nm=audio 1 RTP/AVP 0\r\n").as_deref(), Some("PCMU, ?:1"));
    assert_eq!((sum("v=0\r\n").as_deref(), sum("Signal=1")), (Some("SDP without media"), None));
}

#[test]
fn a_capture_has_a_packet_with_correct_checksums_for_each_message() {
    let mut trace = call();
    for message in trace.messages.iter_mut().skip(3) {
        message.transport = "TCP";
        message.local = "[2001:db8::1]:5060".parse().unwrap();
        message.peer = "[2001:db8::2]:5061".parse().unwrap();
    }
    let file = trace.pcap();
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    assert_eq!((word(0), word(20)), (0xa1b2_c3d4, 101));
    let (mut at, mut packets) = (24, 0);
    while at < file.len() {
        let length = word(at + 8) as usize;
        let packet = &file[at + 16..at + 16 + length];
        assert!(packet.ends_with(trace.messages[packets].octets.as_slice()));
        assert_eq!(packet[0] >> 4, if packets < 3 { 4 } else { 6 });
        (at, packets) = (at + 16 + length, packets + 1);
    }
    assert_eq!(packets, trace.messages.len());
}

#[test]
fn the_heading_of_a_column_has_the_address_of_the_final_far_end() {
    let now = clock::now();
    let (dead, alive) = ("192.0.2.2:5070", "192.0.2.3:5080");
    let invite = |host: &str| request(&format!("INVITE sip:700@{host}"), "<sip:700@y>", "");
    let seen = vec![
        (0, seen(now, 0, true, dead, invite("dead"))),
        (0, seen(now, 500, true, dead, invite("dead"))),
        (0, seen(now, 3_000, true, alive, invite("alive"))),
        (0, seen(now, 3_010, false, alive, response("200 OK", "INVITE"))),
        (0, seen(now, 3_020, true, alive, request("ACK sip:700@y", "<sip:700@y>;tag=2", ""))),
    ];
    let trace = CallTrace { session: None, parties: vec![party("callee")], messages: messages(seen, now), left_out: 0 };
    let text = trace.text(100);
    let heading = text.lines().find(|line| line.contains("192.0.2.100:5060")).unwrap();
    assert!(heading.contains(alive) && !heading.contains(dead), "{text}");
    assert_eq!(text.matches(&format!("to {dead} UDP")).count(), 2, "{text}");
}

#[test]
fn a_ladder_shows_a_long_uri_completely_if_the_width_permits() {
    let now = clock::now();
    let uri = "sip:+15551230001@trunk.carrier.example:5060;transport=tcp;user=phone";
    let mut trace = call();
    let invite = request(&format!("INVITE {uri}"), "<sip:600@x>", "");
    trace.messages = messages(vec![(0, seen(now, 0, false, "192.0.2.1:5060", invite))], now);
    assert!(trace.text(100).contains(&format!("│   INVITE {uri}")), "{}", trace.text(100));
    assert!(trace.text(400).contains(&format!("── INVITE {uri} ──")), "{}", trace.text(400));
    assert!(trace.text(60).lines().all(|line| line.chars().count() <= 62), "{}", trace.text(60));
}

#[test]
fn a_ladder_explains_a_silent_far_end_and_retransmissions_after_the_call() {
    let now = clock::now();
    let invite = request("INVITE sip:600@x", "<sip:600@x>", "");
    let sent = |after| (0, seen(now, after, true, "192.0.2.2:5060", invite.clone()));
    let mut trace = CallTrace {
        session: Some("s".into()),
        parties: vec![party("callee")],
        messages: messages(vec![sent(0), sent(500)], now),
        left_out: 0,
    };
    assert!(trace.text(100).ends_with("\ncallee: it sent nothing.\n"), "{}", trace.text(100));
    trace.parties[0].is_over = true;
    assert!(trace.text(100).contains("it sent nothing. The call is over. The INVITE is still retransmitted"));
    let trying = (0, seen(now, 600, false, "192.0.2.2:5060", response("100 Trying", "INVITE")));
    trace.messages = messages(vec![sent(0), sent(500), trying], now);
    assert!(!trace.text(100).contains("nothing was heard"));
}

#[test]
fn the_ladder_of_messages_without_a_leg_has_no_empty_heading() {
    let now = clock::now();
    let invite = request("INVITE sip:600@x", "<sip:600@x>", "");
    let messages = vec![seen(now, 0, false, "192.0.2.2:5060", invite)];
    let trace = CallTrace::of_no_leg(sip::Trace { messages, ..sip::Trace::default() }, now);
    assert!(!trace.text(100).contains("peer:"), "{}", trace.text(100));
    assert!(trace.text(100).contains("192.0.2.2:5060 UDP"), "{}", trace.text(100));
}
