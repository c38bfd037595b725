//! Entry points for fuzzing: whole conversations made of arbitrary bytes. Pure, and the same every time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::config::Config;
use crate::endpoint::{Arrival, ConnectionId, Endpoint, Output};
use crate::leg::{Command, Credentials, Event, LegKey, Outgoing, Transport};
use crate::trunk::TrunkAcl;

pub use crate::message::fuzz_message;

/// Feeds the bytes, cut at each `0xFF`, to an endpoint with a call out and an application that answers everything; time
/// passes in between. `now` is where the virtual clock starts. Gives how many calls were answered, so that a corpus can be
/// seen to reach that far.
///
/// # Panics
/// If the endpoint breaks its word: an event after the end of a leg, or a table that never empties.
pub fn fuzz_endpoint(now: Instant, data: &[u8]) -> usize {
    let everyone = ipnet::IpNet::from(std::net::IpAddr::from([0, 0, 0, 0]));
    let networks = ipnet::IpNet::new(everyone.addr(), 0).into_iter().collect();
    let config = Config { trunks: vec![TrunkAcl { name: "fuzz".into(), networks }], ..Config::default() };
    let source = SocketAddr::from(([127, 0, 0, 2], 5060));
    let mut endpoint = Endpoint::new(config, [0; 32]);
    let mut now = now;
    let mut ended = std::collections::HashSet::new();
    let mut answered = 0;
    endpoint.handle_command(now, Command::Invite { leg: LegKey(1), invite: call() });
    let mut settle = |endpoint: &mut Endpoint, now: Instant| {
        while let Some(output) = endpoint.poll_output() {
            let Output::Event(event) = output else { continue };
            let leg = event.leg();
            assert!(!ended.contains(&leg), "an event after the end");
            let sdp = Bytes::from_static(b"v=0\r\n");
            match event {
                Event::Incoming { .. } => {
                    endpoint.handle_command(now, Command::Answer { leg, sdp, headers: Vec::new() })
                }
                Event::Answered { .. } => answered += 1,
                Event::Offered { .. } => endpoint.handle_command(now, Command::AnswerOffer { leg, sdp }),
                Event::Acknowledged { .. } => endpoint.handle_command(now, Command::Offer { leg, sdp }),
                Event::Ended { .. } => {
                    ended.insert(leg);
                }
                _ => {}
            }
        }
    };
    settle(&mut endpoint, now);
    for (number, part) in data.split(|&byte| byte == 0xff).take(64).enumerate() {
        let transport = if number % 4 == 3 { Transport::Tcp } else { Transport::Udp };
        let connection = transport.is_reliable().then_some(ConnectionId(1));
        let data = Bytes::copy_from_slice(part);
        endpoint.handle_datagram(now, Arrival { source, local: source, transport, connection, proven: None, data });
        settle(&mut endpoint, now);
        now += Duration::from_millis(400);
        endpoint.handle_timeout(now);
        settle(&mut endpoint, now);
    }
    let legs: Vec<LegKey> = endpoint.leg_keys().collect();
    for leg in legs {
        endpoint.handle_command(now, Command::Hangup { leg, status: 480, reason: None, headers: Vec::new() });
    }
    settle(&mut endpoint, now);
    while let Some(at) = endpoint.poll_timeout() {
        now = now.max(at);
        endpoint.handle_timeout(now);
        settle(&mut endpoint, now);
    }
    assert_eq!((endpoint.legs(), endpoint.transactions()), (0, 0), "nothing is left behind");
    answered
}

fn call() -> Box<Outgoing> {
    Box::new(Outgoing {
        request_uri: "sip:x@127.0.0.2".to_owned(),
        next_hop: None,
        from_user: "y".to_owned(),
        from_display: None,
        from_host: None,
        to: None,
        on_behalf_of: None,
        replaces: None,
        prack: None,
        impatient: false,
        call_id: None,
        headers: Vec::new(),
        trunk: None,
        credentials: Some(Credentials { username: "u".to_owned(), password: "p".to_owned() }),
        sdp: Bytes::from_static(b"v=0\r\n"),
    })
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;
    use crate::testing::instant;

    const TALK: &str = "INVITE sip:a@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.2;branch=z9hG4bKi\r\nFrom: <sip:b@c>;tag=t\r\n\
        To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\nContact: <sip:b@127.0.0.2>\r\nContent-Type: application/sdp\r\n\
        Content-Length: 5\r\n\r\nv=0\r\n";

    /// What a peer of that endpoint would send, learnt by listening to it: responses of these statuses to its INVITE, then
    /// requests in that dialog, and a call of its own.
    fn conversation(statuses: &[u16]) -> Vec<u8> {
        let mut endpoint = crate::testing::endpoint("127.0.0.1:5060", 0, |_| {});
        let now = instant();
        endpoint.handle_command(now, Command::Invite { leg: LegKey(1), invite: call() });
        let Some(Output::Transmit { data, .. }) = endpoint.poll_output() else { panic!("an INVITE") };
        let invite = String::from_utf8(data.to_vec()).unwrap();
        let line = |name: &str| invite.split("\r\n").find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        let mut parts = Vec::new();
        for status in statuses {
            parts.push(
                invite
                    .replace("INVITE sip:x@127.0.0.2 SIP/2.0", &format!("SIP/2.0 {status} Status"))
                    .replace("To: <sip:x@127.0.0.2>", "To: <sip:x@127.0.0.2>;tag=z")
                    .replace("User-Agent: ", "WWW-Authenticate: Digest realm=\"r\",nonce=\"n\"\r\nUser-Agent: "),
            );
        }
        parts.push(TALK.to_owned());
        for (number, method) in ["INFO", "UPDATE", "INVITE", "OPTIONS", "CANCEL", "BYE"].iter().enumerate() {
            let inside = TALK
                .replace("INVITE", method)
                .replace("bKi", &format!("bKi{number}"))
                .replace("CSeq: 1", &format!("CSeq: {}", number + 1))
                .replace("From: <sip:b@c>;tag=t", "From: <sip:x@127.0.0.2>;tag=z")
                .replace("To: <sip:a@b>", &format!("To: {}", line("From: ")))
                .replace("Call-ID: 1", &format!("Call-ID: {}", line("Call-ID: ")));
            parts.push(inside);
            parts.push(TALK.replace("INVITE", method));
        }
        let parts: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
        parts.join(&0xff)
    }

    #[test]
    fn mutated_conversations_neither_panic_nor_leave_anything_behind() {
        let good = [conversation(&[180, 200]), conversation(&[180, 401]), conversation(&[302])];
        let mut rng = StdRng::from_seed([3; 32]);
        assert_eq!(fuzz_endpoint(instant(), &good[0]), 1, "the good one gets through");
        for round in 0..400 {
            let mut data = good[round % good.len()].clone();
            for _ in 0..1 + rng.next_u32() % 12 {
                let at = usize::try_from(rng.next_u64()).unwrap_or(0) % data.len();
                match rng.next_u32() % 4 {
                    0 => data[at] = rng.next_u32() as u8,
                    1 => drop(data.remove(at)),
                    2 => data.insert(at, b"\r\n\0\";,<>:= "[rng.next_u32() as usize % 11]),
                    _ => {
                        let end = (at + rng.next_u32() as usize % 40).min(data.len());
                        let copy = data[at..end].to_vec();
                        data.splice(at..at, copy);
                    }
                }
            }
            fuzz_endpoint(instant(), &data);
            fuzz_message(&data);
        }
    }
}
