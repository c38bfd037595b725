mod bindings;
mod trunks;
mod unanswered;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tandem_id::AccountName;
use tandem_net::digest::parse_challenges;

use super::*;
use crate::digest::{Attempts, Credentials, Session};
use crate::directory::{Domain, Ha1};
use crate::endpoint::Output;
use crate::endpoint::tests::response_to;
use crate::flow::{ConnectionId, Transport};
use crate::leg::{Command, EndCause, LegId};
use crate::testing::{self, SDP, instant, outgoing};
use crate::trunk_acl::TrunkAcl;

pub(in crate::endpoint) const ALICE: &str = "192.0.2.1:40000";

/// A sent message, with its destination and its connection.
pub(in crate::endpoint) struct Sent {
    pub(in crate::endpoint) to: SocketAddr,
    pub(in crate::endpoint) connection: Option<ConnectionId>,
    pub(in crate::endpoint) text: String,
}

/// An endpoint for tests. The account acme has the users alice and bob, both with the password `secret`. Phones may
/// have any address.
pub(in crate::endpoint) struct Exchange {
    pub(in crate::endpoint) endpoint: Endpoint,
    pub(in crate::endpoint) now: Instant,
    pub(in crate::endpoint) sent: VecDeque<Sent>,
    pub(in crate::endpoint) events: VecDeque<Event>,
    /// The bindings that were reported, also if they have ended.
    bindings: Vec<Binding>,
    trusted: Vec<ConnectionId>,
    number: u32,
    transport: Transport,
}

pub(crate) fn user(username: &str, domain: Option<&str>) -> User {
    User {
        account: AccountName::new("acme"),
        username: username.into(),
        ha1: Ha1::of(username, "tandem", "secret"),
        domain: domain.map(Into::into),
        trunk: None,
        registers: true,
        calls: true,
    }
}

impl Exchange {
    pub(in crate::endpoint) fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut crate::Config)) -> Self {
        let mut endpoint = testing::endpoint("127.0.0.1:5060", 7, |config| {
            config.trunks.clear();
            change(config);
        });
        let users = [user("alice", None), user("bob", None)];
        endpoint.set_directory(Arc::new(Directory::new("tandem", users, [])));
        let (now, transport) = (instant(), Transport::Udp);
        let (sent, events) = (VecDeque::new(), VecDeque::new());
        Self { endpoint, now, sent, events, bindings: Vec::new(), trusted: Vec::new(), number: 0, transport }
    }

    fn collect(&mut self) {
        while let Some(output) = self.endpoint.poll_output() {
            match output {
                Output::Transmit { destination, connection, data, .. } => {
                    let text = String::from_utf8(data.to_vec()).unwrap();
                    self.sent.push_back(Sent { to: destination, connection, text });
                }
                Output::Trust(connection) => self.trusted.push(connection),
                Output::Resolve { .. } | Output::Alias { .. } => {}
                Output::Event(event) => {
                    if let Event::Binding(Change::Bound(binding) | Change::Refreshed(binding)) = &event {
                        self.bindings.push((**binding).clone());
                    }
                    self.events.push_back(event);
                }
            }
        }
    }

    /// Returns a call to the binding that was reported last. With `gr`, the binding must be of this instance.
    fn call_of_phone(&self, leg: u128, gr: Option<&str>) -> Command {
        let of_instance = |binding: &&Binding| gr.is_none_or(|gr| binding.is_of(gr));
        let binding = self.bindings.iter().rfind(of_instance).expect("a phone has registered");
        let reference = BindingRef { aor: binding.aor.clone(), id: binding.id };
        let to = outgoing(&format!("sip:{}@tandem", binding.aor.username));
        let invite = Box::new(crate::Outgoing { binding: Some(reference), ..*to });
        Command::Invite { leg: LegId(leg), invite }
    }

    pub(in crate::endpoint) fn receive(&mut self, from: &str, message: String) {
        let arrival = Arrival {
            source: from.parse().unwrap(),
            local: "127.0.0.1:5060".parse().unwrap(),
            transport: self.transport,
            connection: self.transport.is_reliable().then_some(ConnectionId(5)),
            certified_trunk: None,
            from_page: false,
            data: message.into(),
        };
        self.endpoint.handle_datagram(self.now, arrival);
        self.collect();
    }

    pub(in crate::endpoint) fn command(&mut self, command: Command) {
        self.endpoint.handle_command(self.now, command);
        self.collect();
    }

    pub(in crate::endpoint) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.endpoint.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.endpoint.handle_timeout(self.now);
            self.collect();
        }
        self.now = end;
    }

    pub(in crate::endpoint) fn next(&mut self) -> Sent {
        self.sent.pop_front().expect("something was sent")
    }

    /// Returns a request of a phone. Each line in `lines` ends with CRLF.
    fn request(&mut self, method: &str, uri: &str, from: &str, to: &str, lines: &str, body: &str) -> String {
        self.number += 1;
        let (number, transport) = (self.number, self.transport.token());
        let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{transport} 10.0.0.1:5060;rport;branch=z9hG4bK{number}\r\nMax-Forwards: 70\r\n\
             From: <{from}>;tag=f\r\nTo: <{to}>\r\nCall-ID: {from}\r\nCSeq: {number} {method}\r\n{lines}{kind}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    /// Sends a request without credentials, then sends it again with the answer to the challenge. Returns the last
    /// response.
    fn authenticated(
        &mut self,
        from: &str,
        method: &str,
        uri: &str,
        party: &str,
        lines: &str,
        password: &str,
    ) -> String {
        let (own, to) =
            (format!("sip:{party}@tandem"), if method == "INVITE" { uri } else { &format!("sip:{party}@tandem") });
        let body = if method == "INVITE" { std::str::from_utf8(SDP).unwrap() } else { "" };
        let first = self.request(method, uri, &own, to, lines, body);
        self.receive(from, first);
        let challenge = self.next().text;
        assert!(challenge.starts_with("SIP/2.0 401 "), "{challenge}");
        let authorization = answer(&challenge, method, uri, party, password);
        let second = self.request(method, uri, &own, to, &format!("{lines}{authorization}"), body);
        self.receive(from, second);
        self.next().text
    }

    pub(in crate::endpoint) fn register(&mut self, from: &str, party: &str, lines: &str) -> String {
        self.authenticated(from, "REGISTER", "sip:tandem", party, lines, "secret")
    }
}

pub(crate) fn answer(challenge: &str, method: &str, uri: &str, username: &str, password: &str) -> String {
    let values = challenge.lines().filter_map(|line| line.strip_prefix("WWW-Authenticate: "));
    let challenges = values.flat_map(|value| parse_challenges(value, false)).collect();
    let mut session = Session::new(Credentials { username: username.into(), password: password.into() });
    assert!(session.learn(challenges, &mut Attempts::default()));
    session.lines(method, uri, b"", &mut StdRng::from_seed([3; 32]))
}

/// Returns the header lines, followed by an SDP body.
pub(in crate::endpoint) fn with_sdp(lines: &str) -> String {
    format!("{lines}Content-Type: application/sdp\r\n\r\n{}", std::str::from_utf8(SDP).unwrap())
}

#[test]
fn a_phone_registers_with_its_password_and_is_called_at_its_source_address() {
    let mut exchange = Exchange::new();
    let answer = exchange.register(ALICE, "alice", "Contact: <sip:alice@10.0.0.1:5060>\r\nExpires: 600\r\n");
    assert!(
        answer.starts_with("SIP/2.0 200 ") && answer.contains("Contact: <sip:alice@10.0.0.1:5060>;expires=600\r\n"),
        "{answer}"
    );
    let Some(Event::Binding(Change::Bound(binding))) = exchange.events.pop_front() else { panic!("no binding told") };
    assert_eq!((&*binding.aor.username, binding.expires_in), ("alice", Duration::from_secs(600)));
    let call = exchange.call_of_phone(1, None);
    exchange.command(call);
    let invite = exchange.next();
    assert_eq!(invite.to.to_string(), ALICE);
    assert!(invite.text.starts_with("INVITE sip:alice@10.0.0.1:5060 SIP/2.0\r\n"), "{}", invite.text);
    assert!(invite.text.contains("To: <sip:alice@tandem>\r\n"), "{}", invite.text);
}

#[test]
fn a_register_without_contact_gets_the_bindings() {
    let mut exchange = Exchange::new();
    exchange.register(ALICE, "alice", "Contact: <sip:alice@10.0.0.1>;q=0.5\r\n");
    let answer = exchange.register(ALICE, "alice", "");
    assert!(answer.contains("Contact: <sip:alice@10.0.0.1>;expires=3600;q=0.500\r\n"), "{answer}");
    let brief = exchange.register(ALICE, "alice", "Contact: <sip:alice@10.0.0.1>\r\nExpires: 5\r\n");
    assert!(brief.starts_with("SIP/2.0 423 ") && brief.contains("Min-Expires: 60\r\n"), "{brief}");
    let demanding =
        exchange.request("REGISTER", "sip:tandem", "sip:alice@h", "sip:alice@h", "Require: path, gruu, pref\r\n", "");
    exchange.receive(ALICE, demanding);
    let refused = exchange.next().text;
    assert!(refused.starts_with("SIP/2.0 420 ") && refused.contains("Unsupported: pref\r\n"), "{refused}");
}

#[test]
fn a_register_with_outbound_gets_a_response_with_outbound() {
    let mut exchange = Exchange::new();
    let contact = "Contact: <sip:alice@10.0.0.1>;+sip.instance=\"<urn:uuid:1>\";reg-id=1\r\n";
    let response = exchange.register(ALICE, "alice", &format!("{contact}Supported: path, outbound\r\n"));
    assert!(response.contains("Require: outbound\r\n"), "{response}");
    let response = exchange.register(ALICE, "alice", contact);
    assert!(!response.contains("outbound"), "{response}");
}

#[test]
fn a_wrong_password_is_refused_and_reported() {
    let mut exchange = Exchange::new();
    let answer = exchange.authenticated(ALICE, "REGISTER", "sip:tandem", "alice", "Contact: <sip:a@h>\r\n", "guess");
    assert!(answer.starts_with("SIP/2.0 403 "), "{answer}");
    assert!(matches!(&exchange.events[0], Event::AuthenticationFailed(refused) if refused.username == "alice"));
    assert_eq!(exchange.endpoint.bindings(), 0);
    // Bob may not register a contact for alice.
    let request = exchange.request("REGISTER", "sip:tandem", "sip:bob@tandem", "sip:alice@tandem", "", "");
    exchange.receive(ALICE, request);
    let challenge = exchange.next().text;
    let authorization = super::tests::answer(&challenge, "REGISTER", "sip:tandem", "bob", "secret");
    let request = exchange.request("REGISTER", "sip:tandem", "sip:bob@tandem", "sip:alice@tandem", &authorization, "");
    exchange.receive(ALICE, request);
    assert!(exchange.next().text.starts_with("SIP/2.0 403 "));
}

#[test]
fn a_digest_answer_for_another_uri_cannot_place_a_call() {
    let mut exchange = Exchange::new();
    // A phone calls the attacker. The attacker passes this server's challenge to the phone, and uses the phone's answer
    // for another call.
    let contact = "Contact: <sip:alice@198.51.100.7:5060>\r\n";
    let sdp = std::str::from_utf8(SDP).unwrap();
    let ask = |exchange: &mut Exchange, lines: &str| {
        let (uri, from) = ("sip:+19005550001@tandem", "sip:alice@tandem");
        let request = exchange.request("INVITE", uri, from, uri, &format!("{contact}{lines}"), sdp);
        exchange.receive("198.51.100.7:5060", request);
        exchange.next().text
    };
    let challenge = ask(&mut exchange, "");
    for lured in ["sip:friend@attacker.example", "sip:+15550001@tandem", "sip:attacker.example"] {
        let answer = ask(&mut exchange, &super::tests::answer(&challenge, "INVITE", lured, "alice", "secret"));
        assert!(answer.starts_with("SIP/2.0 400 "), "{lured}: {answer}");
        let failed = exchange.events.pop_front();
        assert!(matches!(failed, Some(Event::AuthenticationFailed(refused)) if refused.username == "alice"));
    }
    let own = super::tests::answer(&challenge, "INVITE", "sip:+19005550001@TANDEM:5060;user=phone", "alice", "secret");
    assert!(ask(&mut exchange, &own).starts_with("SIP/2.0 100 "));
}

#[test]
fn a_phone_needs_its_password_for_a_call_but_not_for_bye() {
    let mut exchange = Exchange::new();
    let answer = exchange.authenticated(
        ALICE,
        "INVITE",
        "sip:bob@tandem",
        "alice",
        "Contact: <sip:alice@10.0.0.1:5060>\r\n",
        "secret",
    );
    assert!(answer.starts_with("SIP/2.0 100 "), "{answer}");
    let Some(Event::Incoming { leg, incoming }) = exchange.events.pop_front() else { panic!("no call") };
    let caller = incoming.caller.clone().unwrap();
    assert_eq!((caller.account.as_str(), caller.username.as_deref(), &incoming.trunk), ("acme", Some("alice"), &None));
    exchange.command(testing::answer(leg));
    let ok = exchange.next().text;
    let tag = ok.split(";tag=").nth(2).and_then(|rest| rest.split("\r\n").next()).unwrap().to_owned();
    let ack = exchange.request("ACK", "sip:127.0.0.1:5060", "sip:alice@tandem", "sip:bob@tandem", "", "");
    let cseq = exchange.number - 1;
    let ack = ack.replace("To: <sip:bob@tandem>", &format!("To: <sip:bob@tandem>;tag={tag}"));
    exchange.receive(ALICE, ack.replace(&format!("CSeq: {} ACK", cseq + 1), &format!("CSeq: {cseq} ACK")));
    exchange.command(testing::hangup(leg));
    let bye = exchange.next();
    assert!(bye.text.starts_with("BYE sip:alice@10.0.0.1:5060 "), "{}", bye.text);
    assert_eq!(bye.to.to_string(), ALICE, "through its NAT");
}

/// Creates an exchange in which 127.0.0.1 belongs to a trunk. The account acme may call with its own name.
fn with_an_account() -> Exchange {
    let here = |config: &mut crate::Config| {
        config.trunks = vec![TrunkAcl { name: "pbx".into(), networks: vec!["127.0.0.1/32".parse().unwrap()] }];
    };
    let mut exchange = Exchange::with(here);
    let directory = Directory::new("tandem", [user("alice", None)], []).with_accounts([user("AC1", None)]);
    exchange.endpoint.set_directory(Arc::new(directory));
    exchange
}

/// Returns the first INVITE of an account, as the server's own client sends it. This INVITE names the account, but does
/// not prove that the sender knows the password.
fn as_account(exchange: &mut Exchange, name: &str) -> String {
    let credentials = Credentials { username: name.into(), password: "secret".into() };
    let mut session = Session::new(credentials).expecting("tandem");
    let lines = session.lines("INVITE", "sip:600@tandem", b"", &mut StdRng::from_seed([3; 32]));
    let lines = format!("Contact: <sip:a@10.0.0.1>\r\n{lines}");
    let sdp = std::str::from_utf8(SDP).unwrap();
    exchange.request("INVITE", "sip:600@tandem", "sip:+15550109999@h", "sip:600@tandem", &lines, sdp)
}

#[test]
fn the_credentials_of_an_account_identify_the_account_at_the_address_of_a_trunk() {
    let mut exchange = with_an_account();
    let first = as_account(&mut exchange, "AC1");
    exchange.receive("127.0.0.1:9", first);
    let challenge = exchange.next().text;
    assert!(challenge.starts_with("SIP/2.0 401 "), "{challenge}");
    let lines = super::tests::answer(&challenge, "INVITE", "sip:600@tandem", "AC1", "secret");
    let lines = format!("Contact: <sip:a@10.0.0.1>\r\n{lines}");
    let sdp = std::str::from_utf8(SDP).unwrap();
    let again = exchange.request("INVITE", "sip:600@tandem", "sip:+15550109999@h", "sip:600@tandem", &lines, sdp);
    exchange.receive("127.0.0.1:9", again);
    assert!(exchange.next().text.starts_with("SIP/2.0 100 "));
    let Some(Event::Incoming { incoming, .. }) = exchange.events.pop_front() else { panic!("no call") };
    let caller = Caller { account: AccountName::new("acme"), username: None, domain: None };
    assert_eq!((incoming.caller, incoming.trunk), (Some(caller), None));
}

#[test]
fn an_account_with_a_wrong_secret_or_from_another_host_is_refused() {
    let mut exchange = with_an_account();
    let guess = as_account(&mut exchange, "AC1").replace("response=\"", "response=\"0");
    exchange.receive("127.0.0.1:9", guess);
    assert!(exchange.next().text.starts_with("SIP/2.0 403 "));
    assert!(matches!(&exchange.events[0], Event::AuthenticationFailed(refused) if refused.username == "AC1"));
    // On another computer, no user has this name.
    let elsewhere = as_account(&mut exchange, "AC1");
    exchange.receive("10.0.0.9:5060", elsewhere);
    assert!(exchange.next().text.starts_with("SIP/2.0 403 "));
}

#[test]
fn a_local_trunk_that_names_no_account_gets_no_challenge() {
    let mut exchange = with_an_account();
    let of_a_trunk = as_account(&mut exchange, "somebody");
    exchange.receive("127.0.0.1:9", of_a_trunk);
    assert!(exchange.next().text.starts_with("SIP/2.0 100 "));
    let Some(Event::Incoming { incoming, .. }) = exchange.events.pop_front() else { panic!("no call") };
    assert_eq!(incoming.trunk.as_deref(), Some("pbx"));
    // An account does not lead to challenges for other senders. If there are no phones, unknown sources are refused as
    // before.
    let directory = Directory::new("tandem", [], []).with_accounts([user("AC1", None)]);
    exchange.endpoint.set_directory(Arc::new(directory));
    let unknown = as_account(&mut exchange, "somebody");
    exchange.receive("10.0.0.9:5060", unknown);
    assert!(exchange.next().text.starts_with("SIP/2.0 403 "));
}

#[test]
fn callers_without_password_use_no_memory_and_may_cancel() {
    let mut exchange = Exchange::new();
    for _ in 0..1_000 {
        let invite =
            exchange.request("INVITE", "sip:bob@tandem", "sip:x@y", "sip:bob@tandem", "Contact: <sip:x@y>\r\n", "");
        exchange.receive("198.51.100.7:5060", invite);
        assert!(exchange.next().text.starts_with("SIP/2.0 401 "));
    }
    assert_eq!((exchange.endpoint.transactions(), exchange.endpoint.legs()), (0, 0));
    exchange.authenticated(ALICE, "INVITE", "sip:bob@tandem", "alice", "Contact: <sip:alice@10.0.0.1>\r\n", "secret");
    let number = exchange.number;
    let cancel = exchange.request("CANCEL", "sip:bob@tandem", "sip:alice@tandem", "sip:bob@tandem", "", "");
    let cancel = cancel.replace(&format!("z9hG4bK{}", number + 1), &format!("z9hG4bK{number}"));
    exchange.receive(ALICE, cancel.replace(&format!("CSeq: {}", number + 1), &format!("CSeq: {number}")));
    assert!(exchange.next().text.starts_with("SIP/2.0 200 "));
    assert!(exchange.next().text.starts_with("SIP/2.0 487 "));
}

#[test]
fn silent_servers_challenge_unknown_sources_only_for_existing_users() {
    let mut exchange = Exchange::with(|config| config.unknown_sources = UnknownSources::Silent);
    for (name, heard) in [("mallory", 0), ("alice", 1)] {
        let own = format!("sip:{name}@tandem");
        let request = exchange.request("REGISTER", "sip:tandem", &own, &own, "", "");
        exchange.receive(ALICE, request);
        assert_eq!(exchange.sent.drain(..).count(), heard, "{name}");
    }
    let options = exchange.request("OPTIONS", "sip:tandem", "sip:alice@tandem", "sip:tandem", "", "");
    exchange.receive(ALICE, options);
    assert!(exchange.sent.is_empty());
}

#[test]
fn a_server_without_users_refuses_register() {
    let mut exchange = Exchange::new();
    exchange.endpoint.set_directory(Arc::default());
    let request = exchange.request("REGISTER", "sip:tandem", "sip:alice@tandem", "sip:alice@tandem", "", "");
    exchange.receive(ALICE, request);
    assert!(exchange.next().text.starts_with("SIP/2.0 403 "));
}

#[test]
fn a_phone_at_the_address_of_a_trunk_needs_its_password_and_the_trunk_does_not() {
    let mut exchange = Exchange::new();
    exchange.endpoint.core.config.trunks =
        vec![crate::TrunkAcl { name: "office".into(), networks: vec!["192.0.2.0/24".parse().unwrap()] }];
    exchange.register(ALICE, "alice", "Contact: <sip:alice@10.0.0.1>\r\n");
    exchange.events.clear();
    let invite = |exchange: &mut Exchange, from: &str, who: &str| {
        let sdp = std::str::from_utf8(SDP).unwrap();
        let who = format!("sip:{who}@tandem");
        let invite =
            exchange.request("INVITE", "sip:1@tandem", &who, "sip:1@tandem", "Contact: <sip:x@192.0.2.1>\r\n", sdp);
        exchange.receive(from, invite);
        exchange.next().text[8..11].to_owned()
    };
    assert_eq!(invite(&mut exchange, ALICE, "alice"), "401");
    assert_eq!(invite(&mut exchange, ALICE, "+15550001"), "100");
    assert_eq!(invite(&mut exchange, "192.0.2.1:5060", "alice"), "100");
}

#[test]
fn networks_of_a_domain_admit_callers_and_its_users_belong_to_it_alone() {
    let mut exchange = Exchange::new();
    let domain = |name: &str, networks: &[&str]| Domain {
        name: name.into(),
        account: AccountName::new("acme"),
        networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
        for_any_host: false,
    };
    let domains = [domain("open.example", &["192.0.2.0/24"]), domain("both.example", &["192.0.2.0/24"])];
    let users = [user("alice", Some("both.example"))];
    exchange.endpoint.set_directory(Arc::new(Directory::new("tandem", users, domains)));
    let invite = |exchange: &mut Exchange, from: &str, host: &str| {
        let sdp = std::str::from_utf8(SDP).unwrap();
        let uri = format!("sip:1@{host}");
        let invite = exchange.request("INVITE", &uri, "sip:x@y", &uri, "Contact: <sip:x@192.0.2.1>\r\n", sdp);
        exchange.receive(from, invite);
        exchange.next().text[8..11].to_owned()
    };
    assert_eq!(invite(&mut exchange, ALICE, "OPEN.example"), "100");
    let Some(Event::Incoming { incoming, .. }) = exchange.events.pop_front() else { panic!("no call") };
    let caller = incoming.caller.clone().unwrap();
    assert_eq!((caller.username, caller.domain.as_deref()), (None, Some("open.example")));
    assert_eq!(invite(&mut exchange, "198.51.100.1:5060", "open.example"), "403");
    assert_eq!(invite(&mut exchange, ALICE, "both.example"), "401", "its networks are not enough");
    assert_eq!(invite(&mut exchange, "198.51.100.1:5060", "both.example"), "403");
}

#[test]
fn calls_from_the_network_of_a_domain_belong_to_it_at_any_host() {
    let mut exchange = Exchange::new();
    let domain = Domain {
        name: "pbx.invalid".into(),
        account: AccountName::new("acme"),
        networks: vec!["192.0.2.1/32".parse().unwrap()],
        for_any_host: true,
    };
    let directory = Directory::new("tandem", [user("alice", None)], [domain]);
    exchange.endpoint.set_directory(Arc::new(directory));
    let invite = |exchange: &mut Exchange, from: &str| {
        let sdp = std::str::from_utf8(SDP).unwrap();
        let uri = "sip:1@tandem";
        let invite = exchange.request("INVITE", uri, "sip:x@y", uri, "Contact: <sip:x@192.0.2.1>\r\n", sdp);
        exchange.receive(from, invite);
        exchange.next().text[8..11].to_owned()
    };
    assert_eq!(invite(&mut exchange, "192.0.2.1:5080"), "100");
    let Some(Event::Incoming { incoming, .. }) = exchange.events.pop_front() else { panic!("no call") };
    let caller = incoming.caller.clone().unwrap();
    assert_eq!((caller.username, caller.domain.as_deref()), (None, Some("pbx.invalid")));
    assert_eq!(invite(&mut exchange, "192.0.2.2:5080"), "401", "a stranger is asked for a password");
}

#[test]
fn a_phone_is_called_over_its_connection_which_is_then_trusted() {
    let mut exchange = Exchange::new();
    exchange.transport = Transport::Tcp;
    exchange.register(ALICE, "alice", "Contact: <sip:alice@192.0.2.1:5070;transport=tcp>\r\n");
    assert_eq!(exchange.trusted, [ConnectionId(5)]);
    let call = exchange.call_of_phone(1, None);
    exchange.command(call);
    let invite = exchange.next();
    assert_eq!((invite.to.to_string().as_str(), invite.connection), (ALICE, Some(ConnectionId(5))));
    let broken = std::io::ErrorKind::ConnectionReset;
    exchange.endpoint.handle_transport_error(exchange.now, Transport::Tcp, ALICE.parse().unwrap(), broken);
    exchange.collect();
    exchange.sent.clear();
    let call = exchange.call_of_phone(2, None);
    exchange.command(call);
    let invite = exchange.next();
    assert_eq!((invite.to.to_string().as_str(), invite.connection), ("192.0.2.1:5070", None));
}

#[test]
fn registered_phones_get_keep_alives_until_their_bindings_expire() {
    let mut exchange = Exchange::with(|config| config.registrar.keep_alive_seconds = 20);
    exchange.register(ALICE, "alice", "Contact: <sip:alice@10.0.0.1>\r\nExpires: 60\r\n");
    exchange.wait(Duration::from_secs(59));
    let kept: Vec<String> = exchange.sent.drain(..).map(|sent| format!("{} {:?}", sent.to, sent.text)).collect();
    assert_eq!(kept, [format!("{ALICE} \"\\r\\n\\r\\n\""), format!("{ALICE} \"\\r\\n\\r\\n\"")]);
    exchange.events.clear();
    exchange.wait(Duration::from_secs(40));
    assert!(matches!(exchange.events.pop_front(), Some(Event::Binding(Change::Unbound(_)))));
    let call = exchange.call_of_phone(1, None);
    exchange.command(call);
    assert!(matches!(exchange.events.pop_front(), Some(Event::Ended { status: Some(480), .. })));
    assert_eq!(exchange.endpoint.transactions(), 0);
}

#[test]
fn a_phone_may_get_options_as_its_keep_alive() {
    let mut exchange = Exchange::with(|config| config.registrar.keep_alive = KeepAlive::Options);
    exchange.register(ALICE, "alice", "Contact: <sip:alice@10.0.0.1>\r\nExpires: 600\r\n");
    exchange.wait(Duration::from_secs(26));
    let options = exchange.next();
    assert!(options.text.starts_with("OPTIONS sip:alice@10.0.0.1 SIP/2.0\r\n"), "{}", options.text);
    exchange.wait(Duration::from_secs(1_000));
    assert_eq!(exchange.endpoint.transactions(), 0, "nobody answers, and nothing stays");
}

#[test]
fn wrong_passwords_for_any_user_ban_the_source_and_a_correct_one_clears_them() {
    use crate::guard::{Bans, Guard, GuardDecision, Offence};
    for name in ["alice", "nobody"] {
        let mut exchange = Exchange::new();
        let guard = Arc::new(Guard::new(Bans::default(), Vec::new(), 1, exchange.now));
        exchange.endpoint.set_guard(Arc::clone(&guard));
        let mut answers = Vec::new();
        for _ in 0..9 {
            answers.push(exchange.authenticated(
                ALICE,
                "REGISTER",
                "sip:tandem",
                name,
                "Contact: <sip:a@h>\r\n",
                "guess",
            ));
        }
        let status = |answer: &String| answer.lines().next().unwrap().to_owned();
        assert!(answers.iter().all(|answer| status(answer) == "SIP/2.0 403 Forbidden" && !answer.contains("Server:")));
        let source = ALICE.parse::<SocketAddr>().unwrap().ip();
        if name == "alice" {
            assert!(exchange.register(ALICE, name, "Contact: <sip:a@h>\r\n").starts_with("SIP/2.0 200 "));
            exchange.authenticated(ALICE, "REGISTER", "sip:tandem", name, "Contact: <sip:a@h>\r\n", "guess");
            assert_eq!(guard.admit(exchange.now, source), GuardDecision::Accept);
        } else {
            exchange.authenticated(ALICE, "REGISTER", "sip:tandem", name, "Contact: <sip:a@h>\r\n", "guess");
            assert_eq!(guard.admit(exchange.now, source), GuardDecision::Banned);
            let ban = guard.bans(exchange.now).remove(0);
            assert_eq!((ban.why, ban.count), (Offence::Credentials, 10));
        }
    }
}

/// Adds a guard with the default limits.
fn guarded(exchange: &mut Exchange) -> Arc<crate::guard::Guard> {
    let guard = Arc::new(crate::guard::Guard::new(crate::guard::Bans::default(), Vec::new(), 1, exchange.now));
    exchange.endpoint.set_guard(Arc::clone(&guard));
    guard
}

const CONTACT: &str = "Contact: <sip:a@h>\r\n";

#[test]
fn a_correct_login_clears_no_wrong_passwords_of_another_user() {
    let mut exchange = Exchange::new();
    let guard = guarded(&mut exchange);
    for guess in 1..=10 {
        assert!(guard.bans(exchange.now).is_empty(), "{guess}");
        let answer = exchange.authenticated(ALICE, "REGISTER", "sip:tandem", "alice", CONTACT, "guess");
        assert!(answer.starts_with("SIP/2.0 403 "), "{answer}");
        if guess < 10 {
            assert!(exchange.register(ALICE, "bob", CONTACT).starts_with("SIP/2.0 200 "));
        }
    }
    assert_eq!(guard.bans(exchange.now).len(), 1);
}

#[test]
fn a_user_whose_password_many_sources_guess_is_served_only_where_it_is_registered() {
    let mut exchange = Exchange::new();
    let guard = guarded(&mut exchange);
    assert!(exchange.register(ALICE, "alice", CONTACT).starts_with("SIP/2.0 200 "));
    for n in 0..60 {
        let from = format!("198.51.100.{n}:5060");
        exchange.authenticated(&from, "REGISTER", "sip:tandem", "alice", CONTACT, "guess");
    }
    let elsewhere = "203.0.113.7:5060";
    let answer = exchange.register(elsewhere, "alice", CONTACT);
    assert!(answer.starts_with("SIP/2.0 403 "), "the right password tells nothing: {answer}");
    assert!(exchange.register(elsewhere, "bob", CONTACT).starts_with("SIP/2.0 200 "));
    assert!(exchange.register("192.0.2.1:40001", "alice", CONTACT).starts_with("SIP/2.0 200 "), "the phone itself");
    exchange.wait(Duration::from_secs(60));
    exchange.sent.clear();
    assert!(exchange.register(elsewhere, "alice", CONTACT).starts_with("SIP/2.0 200 "));
    assert!(guard.bans(exchange.now).is_empty());
}

#[test]
fn a_source_that_continues_to_guess_the_password_of_a_protected_user_is_banned() {
    let mut exchange = Exchange::new();
    let guard = guarded(&mut exchange);
    for n in 0..60 {
        let from = format!("198.51.100.{n}:5060");
        exchange.authenticated(&from, "REGISTER", "sip:tandem", "alice", CONTACT, "guess");
    }
    let elsewhere = "203.0.113.7:5060";
    for attempt in 1..=30 {
        assert!(guard.bans(exchange.now).is_empty(), "attempt {attempt}");
        let answer = exchange.authenticated(elsewhere, "REGISTER", "sip:tandem", "alice", CONTACT, "guess");
        assert!(answer.starts_with("SIP/2.0 403 "), "{answer}");
    }
    assert_eq!(guard.bans(exchange.now).len(), 1);
}

#[test]
fn a_call_of_this_server_to_its_own_socket_causes_no_ban_and_checks_no_password() {
    const OWN: &str = "127.0.0.1:5060";
    let mut exchange = Exchange::new();
    let guard = guarded(&mut exchange);
    for call in 0..100 {
        let mut invite = outgoing("sip:q1@127.0.0.1:5060");
        invite.accounts = vec![AccountName::new("acme")];
        // An application may also choose the credentials.
        let password = ["guess", "secret"][call % 2];
        invite.credentials = Some(Credentials { username: "alice".into(), password: password.into() });
        exchange.command(Command::Invite { leg: LegId(call as u128), invite });
        // Everything that the server sends comes back to it, until nothing is sent any more.
        while let Some(sent) = exchange.sent.pop_front() {
            assert_eq!(sent.to.to_string(), OWN);
            exchange.receive(OWN, sent.text);
        }
        let is_end = |event: &Event| matches!(event, Event::Ended { status: Some(403), .. });
        assert!(exchange.events.drain(..).any(|event| is_end(&event)), "{password}: neither 401 nor a call");
    }
    assert!(guard.bans(exchange.now).is_empty(), "{:?}", guard.bans(exchange.now));
    // Another program on this host, which only repeats a branch of the server, is a stranger like any other.
    exchange.command(Command::Invite { leg: LegId(1_000), invite: outgoing("sip:q1@127.0.0.1:5060") });
    let invite = exchange.sent.pop_front().unwrap().text;
    for n in 0..60 {
        exchange.receive(OWN, invite.replace("CSeq: 1 ", &format!("CSeq: {} ", 2 + n)).replace("sip:q1@", "sip:q2@"));
    }
    assert_eq!(guard.bans(exchange.now).len(), 1);
}

#[test]
fn a_phone_that_supports_gruu_gets_one_and_a_call_to_it_rings_this_phone_only() {
    let mut exchange = Exchange::new();
    let contact = |user: &str, id: &str| {
        format!("Supported: path, gruu\r\nContact: <sip:{user}@10.0.0.1:5060>;+sip.instance=\"<urn:uuid:{id}>\"\r\n")
    };
    let answer = exchange.register(ALICE, "alice", &contact("desk", "d"));
    assert!(answer.contains(";pub-gruu=\"sip:alice@tandem;gr=urn:uuid:d\"\r\n"), "{answer}");
    let answer = exchange.register(ALICE, "alice", &contact("cell", "c").replace("path, gruu", "path"));
    assert!(answer.starts_with("SIP/2.0 200 ") && !answer.contains("pub-gruu"), "{answer}");
    let call = exchange.call_of_phone(1, Some("urn:uuid:c"));
    exchange.command(call);
    let invite = exchange.next();
    assert!(invite.text.starts_with("INVITE sip:cell@10.0.0.1:5060 SIP/2.0\r\n"), "{}", invite.text);
    assert!(exchange.sent.is_empty(), "the other phone does not ring");
    assert!(!exchange.bindings.iter().any(|binding| binding.is_of("urn:uuid:gone")));
}

#[test]
fn a_phone_behind_a_proxy_that_answers_by_its_gruu_is_addressed_by_its_contact() {
    const EDGE: &str = "192.0.2.9:5060";
    let register = |exchange: &mut Exchange, port: u16| {
        let contact = format!("Contact: <sip:alice@10.0.0.1:{port}>;+sip.instance=\"<urn:uuid:a>\";reg-id=1\r\n");
        let answer =
            exchange.register(EDGE, "alice", &format!("{contact}Supported: path, gruu\r\nPath: <sip:{EDGE};lr>\r\n"));
        assert!(answer.contains("pub-gruu=\"sip:alice@tandem;gr=urn:uuid:a\""), "{answer}");
    };
    let called = |exchange: &mut Exchange, leg: u128, contact: &str| {
        let call = exchange.call_of_phone(leg, None);
        exchange.command(call);
        let invite = exchange.next().text;
        let more = format!("Record-Route: <sip:{EDGE};lr>\r\nContact: <{contact}>\r\n");
        exchange.receive(EDGE, response_to(&invite, 200, "a", &with_sdp(&more)));
        exchange.next()
    };
    let mut exchange = Exchange::new();
    register(&mut exchange, 5060);
    let ack = called(&mut exchange, 1, "sip:alice@tandem;gr=urn:uuid:a");
    assert!(ack.text.starts_with("ACK sip:alice@10.0.0.1:5060 SIP/2.0\r\n"), "{}", ack.text);
    assert!(ack.text.contains(&format!("Route: <sip:{EDGE};lr>\r\n")) && ack.to.to_string() == EDGE, "{}", ack.text);
    // The phone registers again, from another port.
    register(&mut exchange, 5062);
    exchange.command(testing::hangup(LegId(1)));
    let bye = exchange.next().text;
    assert!(bye.starts_with("BYE sip:alice@10.0.0.1:5062 SIP/2.0\r\n"), "{bye}");
    // Three kinds of GRUUs are not replaced: a GRUU with parameters of a proxy, the GRUU of another phone, and the GRUU
    // of an unknown user.
    for (leg, contact) in [
        (2, "sip:alice@tandem;gr=urn:uuid:a;alias=192.0.2.77~5060~1"),
        (3, "sip:alice@tandem;gr=urn:uuid:b"),
        (4, "sip:mallory@tandem;gr=urn:uuid:a"),
    ] {
        let ack = called(&mut exchange, leg, contact);
        assert!(ack.text.starts_with(&format!("ACK {contact} SIP/2.0\r\n")), "{}", ack.text);
    }
}

#[test]
fn a_request_in_a_call_goes_over_the_connection_with_which_the_browser_registered_last() {
    let register = |exchange: &mut Exchange, from: &str| {
        let contact = "Contact: <sip:x7@browser.invalid;transport=ws>;+sip.instance=\"<urn:uuid:a>\";reg-id=1\r\n";
        exchange.register(from, "alice", &format!("{contact}Supported: path, gruu, outbound\r\n"));
    };
    // A browser's Contact in a call is its GRUU, or the Contact that it registered.
    for contact in ["sip:alice@tandem;gr=urn:uuid:a", "sip:x7@browser.invalid;transport=ws;ob"] {
        let mut exchange = Exchange::new();
        exchange.transport = Transport::Ws;
        register(&mut exchange, ALICE);
        let call = exchange.call_of_phone(1, None);
        exchange.command(call);
        let invite = exchange.next();
        assert_eq!(invite.to.to_string(), ALICE);
        let answer = with_sdp(&format!("Contact: <{contact}>\r\n"));
        exchange.receive(ALICE, response_to(&invite.text, 200, "a", &answer));
        assert_eq!(exchange.next().to.to_string(), ALICE, "the ACK");
        let broken = std::io::ErrorKind::ConnectionReset;
        exchange.endpoint.handle_transport_error(exchange.now, Transport::Ws, ALICE.parse().unwrap(), broken);
        exchange.collect();
        exchange.sent.clear();
        let elsewhere = "192.0.2.1:40444";
        register(&mut exchange, elsewhere);
        exchange.command(testing::hangup(LegId(1)));
        let bye = exchange.next();
        assert!(bye.text.starts_with("BYE sip:x7@browser.invalid;transport=ws"), "{}", bye.text);
        assert_eq!(bye.to.to_string(), elsewhere);
    }
}

const ELSEWHERE: &str = "192.0.2.1:40444";
const PAGE: &str = "Contact: <sip:x7@browser.invalid;transport=ws>;+sip.instance=\"<urn:uuid:a>\";reg-id=1\r\n";

impl Exchange {
    fn register_page(&mut self, from: &str) {
        let answer = self.register(from, "alice", &format!("{PAGE}Supported: path, gruu, outbound\r\n"));
        assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
    }

    /// A registered page calls, and the called party rings. Returns the leg.
    fn call_of_page(&mut self) -> LegId {
        self.transport = Transport::Ws;
        self.register_page(ALICE);
        let contact = "Contact: <sip:x7@browser.invalid;transport=ws;ob>\r\n";
        assert!(self.authenticated(ALICE, "INVITE", "sip:600@tandem", "alice", contact, "secret").contains(" 100 "));
        let incoming = |event: &Event| if let Event::Incoming { leg, .. } = event { Some(*leg) } else { None };
        let leg = self.events.iter().find_map(incoming).expect("a call");
        self.command(Command::Provisional { leg, status: 180, sdp: None, headers: Vec::new() });
        assert!(self.next().text.starts_with("SIP/2.0 180 "));
        leg
    }

    fn lose_page(&mut self) {
        let broken = std::io::ErrorKind::ConnectionReset;
        self.endpoint.handle_transport_error(self.now, Transport::Ws, ALICE.parse().unwrap(), broken);
        self.collect();
        self.events.clear();
    }

    fn ended(&mut self) -> Option<(EndCause, Option<u16>, Option<String>)> {
        self.events.drain(..).find_map(|event| match event {
            Event::Ended { cause, status, reason, .. } => Some((cause, status, reason)),
            _ => None,
        })
    }
}

#[test]
fn the_answer_goes_over_the_websocket_that_a_page_has_opened_while_its_call_rang() {
    let mut exchange = Exchange::new();
    let leg = exchange.call_of_page();
    exchange.lose_page();
    exchange.wait(Duration::from_secs(9));
    exchange.register_page(ELSEWHERE);
    exchange.wait(Duration::from_secs(20));
    exchange.command(testing::answer(leg));
    let answer = exchange.next();
    assert_eq!((answer.to.to_string().as_str(), &answer.text[..12]), (ELSEWHERE, "SIP/2.0 200 "));
    assert_eq!(exchange.ended(), None);
    let tag = answer.text.lines().find_map(|line| line.strip_prefix("To: <sip:600@tandem>;tag=")).unwrap().to_owned();
    let ack = exchange.request("ACK", "sip:127.0.0.1:5060", "sip:alice@tandem", "sip:600@tandem", "", "");
    let number = exchange.number;
    let ack = ack.replace(&format!("CSeq: {number} "), &format!("CSeq: {} ", number - 3));
    exchange.receive(ELSEWHERE, ack.replace("To: <sip:600@tandem>", &format!("To: <sip:600@tandem>;tag={tag}")));
    assert!(matches!(exchange.events.pop_front(), Some(Event::Acknowledged { .. })), "{:?}", exchange.events);
    exchange.wait(Duration::from_secs(60));
    assert_eq!(exchange.ended(), None, "the call is up");
}

#[test]
fn an_answer_in_a_lost_websocket_is_repeated_at_once_over_the_next_and_a_page_that_gave_up_ends_the_call_early() {
    let mut exchange = Exchange::new();
    let leg = exchange.call_of_page();
    exchange.lose_page();
    exchange.command(testing::answer(leg));
    exchange.wait(Duration::from_secs(3));
    exchange.sent.clear();
    exchange.register_page(ELSEWHERE);
    exchange.wait(Duration::from_millis(1));
    let again = exchange.next();
    assert_eq!((again.to.to_string().as_str(), &again.text[..12]), (ELSEWHERE, "SIP/2.0 200 "));
    exchange.events.clear();
    exchange.wait(Duration::from_secs(9));
    assert_eq!(exchange.ended(), None);
    exchange.wait(Duration::from_secs(4));
    assert_eq!(exchange.ended(), Some((EndCause::AckTimeout, None, None)));
}

#[test]
fn a_call_whose_page_does_not_come_back_within_ten_seconds_is_cancelled_with_the_reason() {
    let mut exchange = Exchange::new();
    exchange.call_of_page();
    exchange.lose_page();
    exchange.wait(Duration::from_secs(9));
    assert_eq!(exchange.ended(), None);
    exchange.wait(Duration::from_secs(1));
    let (cause, status, reason) = exchange.ended().unwrap();
    assert_eq!((cause, status), (EndCause::Cancelled, Some(487)));
    assert!(reason.is_some_and(|reason| reason.contains("its WebSocket was lost")));
    exchange.wait(Duration::from_secs(60));
    assert_eq!(exchange.endpoint.transactions(), 0);
}

#[test]
fn an_answer_that_a_lost_page_never_gets_ends_the_call_within_ten_seconds_with_the_reason() {
    let mut exchange = Exchange::new();
    let leg = exchange.call_of_page();
    exchange.command(testing::answer(leg));
    exchange.lose_page();
    exchange.wait(Duration::from_secs(9));
    assert_eq!(exchange.ended(), None);
    exchange.wait(Duration::from_secs(4));
    assert_eq!(exchange.ended(), Some((EndCause::FlowLost, None, None)));
}

#[test]
fn another_page_of_the_same_user_does_not_get_the_answer_of_a_lost_page() {
    let mut exchange = Exchange::new();
    let leg = exchange.call_of_page();
    exchange.lose_page();
    let other = "Contact: <sip:y8@other.invalid;transport=ws>;+sip.instance=\"<urn:uuid:b>\";reg-id=1\r\n";
    exchange.register(ELSEWHERE, "alice", other);
    exchange.command(testing::answer(leg));
    assert_ne!(exchange.next().to.to_string(), ELSEWHERE);
}
