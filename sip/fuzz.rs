//! Entry points for fuzzing. Arbitrary bytes are used as the messages of a conversation. The functions do no I/O and
//! are deterministic.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::config::Config;
use crate::digest::{Attempts, Credentials, Session};
use crate::directory::{Directory, Ha1, User};
use crate::endpoint::{Arrival, Endpoint, Output};
use crate::flow::{ConnectionId, Transport};
use crate::leg::{Command, Event, LegId, Outgoing};
use crate::registrar::{BindingRef, Change};
use crate::trunk_acl::TrunkAcl;
use tandem_id::AccountName;
use tandem_net::digest::parse_challenges;

pub use crate::message::fuzz_message;

/// Splits the bytes at each `0xFF`. Passes each part as a message to an endpoint. The endpoint has an outgoing call,
/// and its application answers every event. Time passes between the messages. `now` is the start of the virtual clock.
/// Returns the number of answered calls. This number shows how much of the endpoint a corpus of inputs reaches.
///
/// # Panics
/// Panics if the endpoint breaks its contract: it emits an event after the end of a leg, or one of its tables never
/// becomes empty.
pub fn fuzz_endpoint(now: Instant, data: &[u8]) -> usize {
    let everyone = ipnet::IpNet::from(std::net::IpAddr::from([0, 0, 0, 0]));
    let networks = ipnet::IpNet::new(everyone.addr(), 0).into_iter().collect();
    let config = Config { trunks: vec![TrunkAcl { name: "fuzz".into(), networks }], ..Config::default() };
    let mut office = Office::new(now, config);
    office.command(Command::Invite { leg: LegId(1), invite: call() });
    for (number, part) in data.split(|&byte| byte == 0xff).take(MAX_PARTS).enumerate() {
        office.receive(number, Bytes::copy_from_slice(part));
    }
    office.close().answered
}

/// Does the same as `fuzz_endpoint`, but with two phone users (alice and bob) and without a trunk. After the endpoint
/// has sent a challenge, each request is signed with alice's password. If a phone registers, the application calls this
/// phone. So the input reaches the registrar, and the code for calls to and from phones. Returns the number of
/// bindings that were made.
///
/// The endpoint is a node of a cluster. In the input, `flow-phone` and `flow-node` stand for the flow of the binding that
/// was made last. A message with `flow-node` comes from the other node. A request that the endpoint forwards is answered.
///
/// # Panics
/// Panics in the same cases as [`fuzz_endpoint`].
pub fn fuzz_phones(now: Instant, data: &[u8]) -> usize {
    talk_of_phones(now, data).bound
}

fn talk_of_phones(now: Instant, data: &[u8]) -> Office {
    let mut office = Office::new(now, Config::default());
    let users = ["alice", "bob"].map(|name| User {
        account: AccountName::new("fuzz"),
        username: name.into(),
        ha1: Ha1::of(name, "fuzz", "secret"),
        domain: None,
        trunk: None,
        registers: true,
        calls: true,
    });
    office.endpoint.set_directory(Arc::new(Directory::new("fuzz", users, [])));
    office.command(Command::Nodes(vec![NODE]));
    for (number, part) in data.split(|&byte| byte == 0xff).take(MAX_PARTS).enumerate() {
        let signed = office.sign(part);
        office.receive(number, signed);
    }
    office.close()
}

/// Maximum number of messages in one conversation.
const MAX_PARTS: usize = 64;
/// The address of the far end, which is also the phone.
const FAR_END: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), 5060);
/// The address of the other node.
const NODE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3)), 5060);
/// Maximum number of calls to phones in one conversation.
const MAX_CALLS: u64 = 8;

/// A test endpoint whose application answers every event.
struct Office {
    endpoint: Endpoint,
    now: Instant,
    ended: HashSet<LegId>,
    answered: usize,
    bound: usize,
    /// The user part that names the flow of the binding that was made last.
    flow: String,
    forwarded: usize,
    calls: u64,
    alice: Session,
    rng: StdRng,
}

impl Office {
    fn new(now: Instant, config: Config) -> Self {
        let credentials = Credentials { username: "alice".to_owned(), password: "secret".to_owned() };
        Self {
            endpoint: Endpoint::new(config, [0; 32]),
            now,
            ended: HashSet::new(),
            answered: 0,
            bound: 0,
            flow: String::new(),
            forwarded: 0,
            calls: 0,
            alice: Session::new(credentials),
            rng: StdRng::from_seed([0; 32]),
        }
    }

    fn command(&mut self, command: Command) {
        self.endpoint.handle_command(self.now, command);
        self.settle();
    }

    /// Passes a message to the endpoint. Every fourth message comes over TCP.
    fn receive(&mut self, number: usize, data: Bytes) {
        let (source, data) = self.addressed(&data);
        let transport = if number % 4 == 3 { Transport::Tcp } else { Transport::Udp };
        let connection = transport.is_reliable().then_some(ConnectionId(1));
        let arrival =
            Arrival { source, local: source, transport, connection, certified_trunk: None, from_page: false, data };
        self.endpoint.handle_datagram(self.now, arrival);
        self.settle();
        self.now += Duration::from_millis(400);
        self.endpoint.handle_timeout(self.now);
        self.settle();
    }

    /// Returns the source of a message, and the message with the name of a flow.
    fn addressed(&self, data: &[u8]) -> (SocketAddr, Bytes) {
        for (name, source) in [(b"flow-phone".as_slice(), FAR_END), (b"flow-node", NODE)] {
            if let Some(at) = data.windows(name.len()).position(|window| window == name) {
                let (before, rest) = data.split_at(at);
                let rest = rest.get(name.len()..).unwrap_or_default();
                return (source, Bytes::from([before, self.flow.as_bytes(), rest].concat()));
            }
        }
        (FAR_END, Bytes::copy_from_slice(data))
    }

    /// Answers a request that the endpoint has forwarded.
    fn answer_forwarded(&mut self, data: &[u8]) {
        let line = data.windows(2).position(|two| two == b"\r\n").unwrap_or_default();
        let (first, rest) = data.split_at(line);
        if first.starts_with(b"SIP/2.0 ") || rest.windows(6).filter(|window| window == b"\nVia: ").count() < 2 {
            return;
        }
        self.forwarded += 1;
        let data = Bytes::from([b"SIP/2.0 200 OK", rest].concat());
        let (source, transport, connection) = (FAR_END, Transport::Udp, None);
        let arrival =
            Arrival { source, local: source, transport, connection, certified_trunk: None, from_page: false, data };
        self.endpoint.handle_datagram(self.now, arrival);
    }

    /// Inserts alice's answer to the latest challenge after the first line of a request. Changes nothing if there was
    /// no challenge.
    fn sign(&mut self, part: &[u8]) -> Bytes {
        let end = part.windows(2).position(|two| two == b"\r\n").map_or(part.len(), |at| at + 2);
        let (first, rest) = part.split_at_checked(end).unwrap_or((part, &[]));
        let mut words = first.split(|&octet| octet == b' ').map(String::from_utf8_lossy);
        let (method, uri) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let lines = if method.starts_with("SIP/") {
            String::new()
        } else {
            self.alice.lines(&method, &uri, &[], &mut self.rng)
        };
        Bytes::from([first, lines.as_bytes(), rest].concat())
    }

    fn settle(&mut self) {
        while let Some(output) = self.endpoint.poll_output() {
            match output {
                Output::Event(event) => self.on_event(event),
                Output::Transmit { data, .. } => {
                    self.on_response(&data);
                    self.answer_forwarded(&data);
                }
                _ => {}
            }
        }
    }

    fn on_response(&mut self, data: &[u8]) {
        if !data.starts_with(b"SIP/2.0 401 ") {
            return;
        }
        let text = String::from_utf8_lossy(data);
        if let Some(value) = text.split("\r\n").find_map(|line| line.strip_prefix("WWW-Authenticate: ")) {
            self.alice.learn(parse_challenges(value, false), &mut Attempts::default());
        }
    }

    fn on_event(&mut self, event: Event) {
        if let Event::Binding(change) = event {
            if let (Change::Bound(binding) | Change::Refreshed(binding), true) = (change, self.calls < MAX_CALLS) {
                self.bound += 1;
                self.flow = binding.id.flow_user();
                self.calls += 1;
                let leg = LegId(u128::from(1_000 + self.calls));
                let invite = Outgoing { binding: Some(BindingRef { aor: binding.aor, id: binding.id }), ..*call() };
                self.endpoint.handle_command(self.now, Command::Invite { leg, invite: Box::new(invite) });
            }
            return;
        }
        let Some(leg) = event.leg() else { return };
        assert!(!self.ended.contains(&leg), "an event after the end");
        let (now, sdp) = (self.now, Bytes::from_static(b"v=0\r\n"));
        match event {
            Event::Incoming { .. } => {
                self.endpoint.handle_command(now, Command::Answer { leg, sdp, headers: Vec::new() });
            }
            Event::Answered { .. } => self.answered += 1,
            Event::Offered { .. } => self.endpoint.handle_command(now, Command::AnswerOffer { leg, sdp }),
            Event::Acknowledged { .. } => self.endpoint.handle_command(now, Command::Offer { leg, sdp }),
            Event::Ended { .. } => {
                self.ended.insert(leg);
            }
            _ => {}
        }
    }

    /// Ends all calls, and lets time pass until the endpoint has nothing left to do.
    fn close(mut self) -> Self {
        let legs: Vec<LegId> = self.endpoint.leg_keys().collect();
        for leg in legs {
            let hangup = Command::Hangup { leg, status: 480, reason: None, headers: Vec::new() };
            self.endpoint.handle_command(self.now, hangup);
        }
        self.settle();
        while let Some(at) = self.endpoint.poll_timeout() {
            self.now = self.now.max(at);
            self.endpoint.handle_timeout(self.now);
            self.settle();
        }
        assert_eq!((self.endpoint.legs(), self.endpoint.transactions()), (0, 0), "nothing is left behind");
        self
    }
}

fn call() -> Box<Outgoing> {
    Box::new(Outgoing {
        request_uri: "sip:x@127.0.0.2".to_owned(),
        from_user: "y".to_owned(),
        credentials: Some(Credentials { username: "u".to_owned(), password: "p".to_owned() }),
        sdp: Bytes::from_static(b"v=0\r\n"),
        ..Outgoing::default()
    })
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;
    use crate::testing::instant;

    const TALK: &str = "INVITE sip:a@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.2;branch=z9hG4bKi\r\nFrom: <sip:b@c>;tag=t\r\n\
        To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\nContact: <sip:b@127.0.0.2>\r\nContent-Type: application/sdp\r\n\
        Content-Length: 5\r\n\r\nv=0\r\n";

    /// Returns messages that the far end of a test endpoint would send. These are responses with these statuses to the
    /// endpoint's INVITE, requests in the dialog of this INVITE, and the INVITE and other requests of an incoming call.
    fn conversation(statuses: &[u16]) -> Vec<u8> {
        let mut endpoint = crate::testing::endpoint("127.0.0.1:5060", 0, |_| {});
        let now = instant();
        endpoint.handle_command(now, Command::Invite { leg: LegId(1), invite: call() });
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

    fn mutated(good: &[u8], rng: &mut StdRng) -> Vec<u8> {
        let mut data = good.to_vec();
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
        data
    }

    #[test]
    fn mutated_calls_cause_no_panic_and_leave_no_legs() {
        let good = [conversation(&[180, 200]), conversation(&[180, 401]), conversation(&[302])];
        let mut rng = StdRng::from_seed([3; 32]);
        assert_eq!(fuzz_endpoint(instant(), &good[0]), 1, "the good one gets through");
        for round in 0..400 {
            let data = mutated(&good[round % good.len()], &mut rng);
            fuzz_endpoint(instant(), &data);
            fuzz_message(&data);
        }
    }

    #[test]
    fn mutated_messages_of_phones_cause_no_panic_and_leave_no_bindings() {
        let good = include_bytes!("../fuzz/seeds/phones/registers_and_calls");
        assert_eq!(fuzz_phones(instant(), good), 3, "the good ones get through");
        let mut rng = StdRng::from_seed([4; 32]);
        for _ in 0..400 {
            fuzz_phones(instant(), &mutated(good, &mut rng));
        }
    }
    /// Returns a request of the other node to the phone, and one of the phone to the other node.
    fn forwarded_requests() -> Vec<u8> {
        let request = |method: &str, uri: &str, flow: &str| {
            let branch = format!("{method}{flow}");
            format!(
                "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.3;rport;branch=z9hG4bK{branch}\r\nMax-Forwards: 70\r\n\
                 Route: <sip:flow-{flow}@127.0.0.1;transport=udp;lr>, <sip:127.0.0.1;lr>\r\nFrom: <sip:b@c>;tag=t\r\n\
                 To: <sip:alice@127.0.0.2>;tag=u\r\nCall-ID: n\r\nCSeq: 1 {method}\r\nRecord-Route: <sip:127.0.0.9;lr>\r\n\
                 Content-Length: 0\r\n\r\n"
            )
        };
        let to_node = request("BYE", "sip:127.0.0.3:5060", "phone").replace(", <sip:127.0.0.1;lr>", "");
        let to_phone = request("INVITE", "sip:alice@127.0.0.2:5070", "node");
        [to_phone.as_bytes(), &[0xff], to_phone.replace("INVITE", "CANCEL").as_bytes(), &[0xff], to_node.as_bytes()]
            .concat()
    }

    #[test]
    fn mutated_requests_between_a_phone_and_another_node_cause_no_panic() {
        let register = include_bytes!("../fuzz/seeds/phones/registers_and_calls").split(|&octet| octet == 0xff).take(2);
        let register: Vec<&[u8]> = register.collect();
        let register = [register.join(&0xff), vec![0xff]].concat();
        let good = forwarded_requests();
        assert_eq!(talk_of_phones(instant(), &[&*register, &good].concat()).forwarded, 3, "the good ones get through");
        let mut rng = StdRng::from_seed([5; 32]);
        for _ in 0..400 {
            talk_of_phones(instant(), &[&*register, &mutated(&good, &mut rng)].concat());
        }
    }
}
