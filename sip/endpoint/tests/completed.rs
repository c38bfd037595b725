//! Tests of completed transactions, which only wait for retransmissions. A retransmission gets the same response, and
//! the memory of these transactions is limited.

use super::callee::{invite, request};
use super::*;

/// Creates an incoming call that the far end has hung up. Returns the BYE and the response to the BYE.
fn hung_up() -> (Bench, String, String) {
    let (mut bench, leg, tag) = Bench::talking();
    let bye = request("BYE", "b", 2, &tag, "");
    bench.receive(bye.clone());
    let ok = bench.expect("SIP/2.0 200 ");
    assert!(matches!(bench.event(), Event::Ended { leg: ended, .. } if ended == leg));
    (bench, bye, ok)
}

#[test]
fn a_bye_gets_the_same_response_as_long_as_it_may_be_retransmitted() {
    let (mut bench, bye, ok) = hung_up();
    for _ in 0..3 {
        bench.wait(10_600);
        bench.receive(bye.clone());
        assert_eq!(bench.sent(), ok, "octet by octet");
    }
    bench.wait(1_000);
    bench.receive(bye);
    bench.expect("SIP/2.0 481 ");
    bench.empty();
}

#[test]
fn an_answered_invite_is_stored_while_it_may_be_retransmitted() {
    let (mut bench, _, _) = hung_up();
    bench.wait(20_000);
    bench.receive(invite("i", ""));
    bench.silent();
    bench.receive(invite("another-path", ""));
    bench.expect("SIP/2.0 482 ");
    bench.receive(request("CANCEL", "i", 1, "", ""));
    bench.expect("SIP/2.0 200 ");
    bench.wait(13_000);
    bench.receive(invite("i", ""));
    bench.expect("SIP/2.0 100 ");
}

#[test]
fn timers_of_answered_requests_do_not_wake_the_shell() {
    let (mut bench, _, _) = hung_up();
    let mut woken = Vec::new();
    bench.endpoint.handle_datagram(
        bench.now,
        Arrival {
            source: "127.0.0.2:5060".parse().unwrap(),
            local: "127.0.0.1:5060".parse().unwrap(),
            transport: Transport::Udp,
            connection: None,
            certified_trunk: None,
            from_page: false,
            data: Bytes::from_static(b"SIP/2.0 200 OK\r\n\r\n"),
        },
    );
    while let Some(at) = bench.endpoint.poll_timeout() {
        woken.push((at - bench.start).as_millis());
        bench.endpoint.handle_timeout(at);
    }
    assert_eq!(woken, [32_000], "once, for the INVITE and the BYE");
    assert_eq!(bench.endpoint.transactions(), 0);
}

#[test]
fn completed_transactions_count_towards_the_limit_that_refuses_calls() {
    let mut bench = Bench::with(|config| config.max_transactions = 40);
    let mut taken = 0;
    let status = loop {
        bench.now += Duration::from_millis(10);
        let branch = format!("call{taken}");
        // Each call needs its own Call-ID. With the same Call-ID, the INVITEs would be merged requests of one call.
        let own = |message: String| message.replace("call-1", &branch);
        bench.receive(own(invite(&branch, "")));
        let first = bench.sent();
        if !first.starts_with("SIP/2.0 100 ") {
            break first;
        }
        taken += 1;
        let leg = bench.incoming();
        bench.command(answer(leg));
        let tag = parameter(field(&bench.expect("SIP/2.0 200 "), "To"), "tag").to_owned();
        bench.receive(own(request("ACK", &format!("a{branch}"), 1, &tag, "")));
        bench.receive(own(request("BYE", &format!("b{branch}"), 2, &tag, "")));
        bench.expect("SIP/2.0 200 ");
        bench.events.clear();
    };
    assert!(status.starts_with("SIP/2.0 503 ") && status.contains("Retry-After"), "{status}");
    assert_eq!((taken, bench.endpoint.transactions(), bench.endpoint.shed()), (20, 40, 1));
    bench.empty();
}
