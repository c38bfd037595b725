use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use tandem_id::AccountName;

use super::*;
use crate::digest::Credentials;
use crate::endpoint::{Arrival, Output};
use crate::flow::Transport;
use crate::leg::{Command, Event};
use crate::testing::{self, SDP, instant};
use crate::trunk::Trunk;
use crate::trunk::{Register, Registered};
use crate::trunk_acl::TrunkAcl;

const CARRIER: &str = "192.0.2.1:5060";

/// An endpoint with trunks, with the messages and events that it has produced.
struct Bench {
    endpoint: Endpoint,
    now: Instant,
    sent: VecDeque<String>,
    /// The destination of each sent message.
    ways: VecDeque<SocketAddr>,
    events: VecDeque<Event>,
    /// The address in the Via of a call.
    via: &'static str,
}

fn settings(trunk_settings: Vec<Trunk>) -> Config {
    let acl = |trunk: &Trunk| TrunkAcl { name: trunk.trunk.clone(), networks: vec!["192.0.2.0/24".parse().unwrap()] };
    Config { trunks: trunk_settings.iter().map(acl).collect(), trunk_settings, trace: false, ..Config::default() }
}

fn trunk(name: &str, change: impl FnOnce(&mut Trunk)) -> Trunk {
    let mut trunk = Trunk { uri: Some(format!("sip:{CARRIER}")), ..Trunk::new(name.into()) };
    change(&mut trunk);
    trunk
}

fn registering(name: &str, password: &str) -> Trunk {
    trunk(name, |trunk| {
        trunk.credentials = Some(Credentials { username: "us".into(), password: password.into() });
        trunk.register = Some(Register {
            registrar: format!("sip:{CARRIER}"),
            address: "sip:us@carrier.example".into(),
            contact_user: "us".into(),
            expires: Duration::from_secs(600),
        });
    })
}

impl Bench {
    fn new(trunk_settings: Vec<Trunk>) -> Self {
        let config = settings(trunk_settings);
        let mut endpoint = testing::endpoint("127.0.0.1:5060", 3, |own| {
            (own.trunks, own.trunk_settings) = (config.trunks.clone(), config.trunk_settings.clone());
        });
        let now = instant();
        endpoint.start_trunks(now);
        Self { endpoint, now, sent: VecDeque::new(), ways: VecDeque::new(), events: VecDeque::new(), via: CARRIER }
    }

    fn collect(&mut self) {
        while let Some(output) = self.endpoint.poll_output() {
            match output {
                Output::Transmit { data, destination, .. } => {
                    self.sent.push_back(String::from_utf8(data.to_vec()).unwrap());
                    self.ways.push_back(destination);
                }
                Output::Event(event) => self.events.push_back(event),
                _ => {}
            }
        }
    }

    fn reconfigure(&mut self, trunk_settings: Vec<Trunk>) {
        self.endpoint.reconfigure(self.now, settings(trunk_settings));
        self.collect();
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.endpoint.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.endpoint.handle_timeout(self.now);
            self.collect();
        }
        self.now = end;
    }

    fn receive(&mut self, message: String) {
        let arrival = Arrival {
            source: CARRIER.parse().unwrap(),
            local: "127.0.0.1:5060".parse().unwrap(),
            transport: Transport::Udp,
            connection: None,
            certified_trunk: None,
            from_page: false,
            data: message.into(),
        };
        self.endpoint.handle_datagram(self.now, arrival);
        self.collect();
    }

    #[track_caller]
    fn expect(&mut self, start: &str) -> String {
        let sent = self.sent.pop_front().expect("something is sent");
        assert!(sent.starts_with(start), "{sent}");
        sent
    }

    fn answer(&mut self, request: &str, status: u16, lines: &str) {
        let copied: String =
            ["Via", "From", "Call-ID", "CSeq"].map(|name| format!("{name}: {}\r\n", field(request, name))).concat();
        let to = field(request, "To");
        self.receive(format!("SIP/2.0 {status} X\r\n{copied}To: {to};tag=t\r\n{lines}Content-Length: 0\r\n\r\n"));
    }

    fn call(&mut self, number: u32) {
        let via = self.via;
        self.receive(format!(
            "INVITE sip:600@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {via};branch=z9hG4bK{number}\r\nMax-Forwards: 70\r\n\
             From: <sip:c@h>;tag=f{number}\r\nTo: <sip:600@127.0.0.1>\r\nCall-ID: call{number}\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:c@{CARRIER}>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{}",
            SDP.len(),
            std::str::from_utf8(SDP).unwrap()
        ));
    }
}

fn field<'a>(message: &'a str, name: &str) -> &'a str {
    message
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name}: ")))
        .unwrap_or_else(|| panic!("{name} in {message}"))
}

#[test]
fn a_call_continues_after_its_trunk_is_removed_and_the_next_call_is_refused() {
    let mut bench = Bench::new(vec![trunk("a", |_| {})]);
    bench.call(1);
    bench.expect("SIP/2.0 100 ");
    let Some(Event::Incoming { leg, .. }) = bench.events.pop_front() else { panic!("no call") };
    bench.reconfigure(vec![Trunk { uri: None, ..trunk("b", |_| {}) }]);
    assert_eq!(bench.endpoint.trunk_statuses().iter().flatten().map(|(name, _)| &**name).collect::<Vec<_>>(), ["b"]);
    bench.command_answer(leg);
    assert!(bench.expect("SIP/2.0 200 ").contains("Contact: <sip:127.0.0.1:5060>"));
    bench.endpoint.reconfigure(bench.now, Config { trunks: Vec::new(), ..settings(Vec::new()) });
    bench.call(2);
    bench.expect("SIP/2.0 403 ");
}

impl Bench {
    fn command_answer(&mut self, leg: crate::leg::LegId) {
        self.endpoint.handle_command(self.now, Command::Answer { leg, sdp: SDP.into(), headers: Vec::new() });
        self.collect();
    }
}

#[test]
fn changed_trunk_limits_count_existing_calls() {
    let mut bench = Bench::new(vec![trunk("a", |_| {})]);
    bench.call(1);
    bench.expect("SIP/2.0 100 ");
    bench.reconfigure(vec![trunk("a", |trunk| trunk.max_calls = Some(1))]);
    bench.call(2);
    bench.expect("SIP/2.0 503 ");
    bench.reconfigure(vec![trunk("a", |trunk| trunk.max_calls = Some(2))]);
    bench.call(3);
    bench.expect("SIP/2.0 100 ");
}

#[test]
fn a_reload_sets_the_nat_setting_of_a_trunk() {
    let mut bench = Bench::new(vec![trunk("a", |_| {})]);
    let sent_to = |bench: &mut Bench, number: u32| {
        bench.ways.clear();
        bench.via = "10.9.9.9:5070";
        bench.call(number);
        bench.expect("SIP/2.0 100 ");
        bench.ways.pop_front().expect("something is sent")
    };
    for (number, nat) in [(1, false), (2, true), (3, true), (4, false)] {
        bench.reconfigure(vec![trunk("a", |trunk| trunk.nat = nat)]);
        assert_eq!(sent_to(&mut bench, number), if nat { CARRIER } else { "192.0.2.1:5070" }.parse().unwrap(), "{nat}");
    }
}

#[test]
fn a_reload_keeps_an_unchanged_registration_and_renews_a_changed_one() {
    let mut bench = Bench::new(vec![registering("a", "old")]);
    bench.wait(Duration::from_secs(1));
    let first = bench.expect("REGISTER ");
    bench.answer(&first, 200, "Expires: 600\r\n");
    assert_eq!(bench.endpoint.trunk_statuses()[0].as_ref().unwrap().1.registered, Registered::Yes);
    bench.reconfigure(vec![registering("a", "old")]);
    bench.wait(Duration::from_secs(5));
    assert!(bench.sent.is_empty());
    assert_eq!(bench.endpoint.trunk_statuses()[0].as_ref().unwrap().1.registered, Registered::Yes);

    bench.reconfigure(vec![registering("a", "new")]);
    let gone = bench.expect("REGISTER ");
    assert_eq!((field(&gone, "Expires"), field(&gone, "Call-ID")), ("0", field(&first, "Call-ID")));
    bench.wait(Duration::from_secs(1));
    let again =
        bench.sent.drain(..).find(|sent| field(sent, "Call-ID") != field(&first, "Call-ID")).expect("a new one");
    bench.answer(&gone, 200, "");
    assert_eq!(
        bench.endpoint.trunk_statuses()[0].as_ref().unwrap().1.registered,
        Registered::Pending,
        "that was the old one's"
    );
    bench.answer(&again, 200, "Expires: 600\r\n");
    assert_eq!(bench.endpoint.trunk_statuses()[0].as_ref().unwrap().1.registered, Registered::Yes);

    bench.reconfigure(vec![]);
    assert_eq!(field(&bench.expect("REGISTER "), "Expires"), "0");
    assert!(bench.endpoint.trunk_statuses().iter().all(Option::is_none));
    bench.reconfigure(vec![registering("a", "new")]);
    bench.wait(Duration::from_secs(1));
    assert!(bench.sent.iter().any(|sent| field(sent, "Expires") == "600"), "it is back, in its place");
    assert_eq!(bench.endpoint.trunk_statuses().len(), 1);
}

#[test]
fn a_reload_with_users_challenges_unknown_callers() {
    let mut bench = Bench::new(vec![trunk("a", |_| {})]);
    let user = crate::directory::User {
        account: AccountName::new("acme"),
        username: "alice".into(),
        ha1: crate::directory::Ha1::of("alice", "elsewhere", "secret"),
        domain: None,
        trunk: None,
        registers: true,
        calls: true,
    };
    let directory = Arc::new(crate::directory::Directory::new("elsewhere", [user], []));
    bench.endpoint.reconfigure(bench.now, Config { trunks: Vec::new(), directory, ..settings(Vec::new()) });
    bench.call(1);
    let challenge = bench.expect("SIP/2.0 401 ");
    assert!(challenge.contains("realm=\"elsewhere\""));
}
