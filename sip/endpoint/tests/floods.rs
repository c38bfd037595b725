//! Tests of floods: messages of unknown sources cost time but no memory.

use std::net::Ipv4Addr;

use super::*;

/// Number of source addresses.
const SOURCES: u32 = 1_000_000;
/// Ratio of all messages to well-formed messages: one message in 500 is well formed.
const FORMED: u32 = 500;

#[test]
fn a_million_sources_leave_no_legs_and_no_transactions() {
    let networks = vec!["10.0.0.0/8".parse().unwrap()];
    let mut bench = Bench::with(|config| config.trunks = vec![crate::TrunkAcl { name: "t".into(), networks }]);
    let rubbish = Bytes::from_static(b"\xffnot SIP at all\r\n\r\n");
    let mut answers = 0;
    for number in 0..SOURCES {
        // The addresses begin at 32.0.0.0. No address is in the trunk's network.
        let source = Ipv4Addr::from(0x2000_0000 + number * 401);
        let data = if number.is_multiple_of(FORMED) {
            Bytes::from(format!(
                "INVITE sip:1@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {source};rport;branch=z9hG4bK{number}\r\nMax-Forwards: 70\r\n\
                 From: <sip:a@{source}>;tag={number}\r\nTo: <sip:1@127.0.0.1>\r\nCall-ID: {number}\r\nCSeq: 1 INVITE\r\n\r\n"
            ))
        } else {
            rubbish.clone()
        };
        let arrival = Arrival {
            source: (source, 5060).into(),
            local: "127.0.0.1:5060".parse().unwrap(),
            transport: Transport::Udp,
            connection: None,
            certified_trunk: None,
            from_page: false,
            data,
        };
        bench.endpoint.handle_datagram(bench.now, arrival);
        while let Some(output) = bench.endpoint.poll_output() {
            answers += usize::from(matches!(output, Output::Transmit { .. }));
        }
    }
    let endpoint = &bench.endpoint;
    assert_eq!((endpoint.legs(), endpoint.transactions()), (0, 0));
    assert!(endpoint.table_sizes().iter().all(|size| *size == 0), "{:?}", endpoint.table_sizes());
    assert_eq!(endpoint.unknown_source_requests(), u64::from(SOURCES / FORMED));
    assert_eq!(endpoint.malformed(), u64::from(SOURCES - SOURCES / FORMED));
    assert!(answers <= SOURCES as usize, "none is answered twice: {answers}");
}

#[test]
fn requests_of_lost_dialogs_get_481_and_cause_no_ban() {
    let mut bench = Bench::with(|config| config.trunks.clear());
    let guard = Arc::new(crate::guard::Guard::new(crate::guard::Bans::default(), Vec::new(), 7, bench.now));
    bench.endpoint.set_guard(Arc::clone(&guard));
    let request = |method: &str, number: u32, tag: &str| {
        format!(
            "{method} sip:1@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.2;rport;branch=z9hG4bK{number}\r\nMax-Forwards: 70\r\n\
             From: <sip:a@127.0.0.2>;tag={number}\r\nTo: <sip:1@127.0.0.1>{tag}\r\nCall-ID: {number}\r\nCSeq: 2 {method}\r\n\r\n"
        )
    };
    for number in 0..40 {
        for (at, method) in ["BYE", "INVITE", "INFO"].into_iter().enumerate() {
            bench.receive(request(method, 10 * number + at as u32, ";tag=lost"));
            bench.expect("SIP/2.0 481 ");
        }
    }
    assert!(guard.bans(bench.now).is_empty());
    for number in 0..40 {
        bench.receive(request("OPTIONS", 1_000 + number, ""));
        bench.expect("SIP/2.0 403 ");
    }
    assert_eq!(guard.bans(bench.now).len(), 1, "a scanner is banned all the same");
}
