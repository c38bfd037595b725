//! Trunks that are recognised by a password.

use tandem_id::AccountName;

use super::*;
use crate::registrar::DigestAlgorithm;
use crate::trunk::Trunk;
use crate::trunk_acl::TrunkAcl;

/// An address that is not in the trunk's networks.
const CARRIER: &str = "203.0.113.9:5070";
/// An address in the trunk's networks.
const OFFICE: &str = "10.0.0.9:5070";
const URI: &str = "sip:600@127.0.0.1";

impl Exchange {
    /// Creates an exchange with a trunk that has the network 10.0.0.0/8 and the password `secret`.
    fn with_carrier(known_by: KnownBy, change: impl FnOnce(&mut crate::Config)) -> Self {
        let mut exchange = Self::with(|config| {
            config.trunks = vec![TrunkAcl { name: "carrier".into(), networks: vec!["10.0.0.0/8".parse().unwrap()] }];
            let credentials = Some(Credentials { username: "us".into(), password: "ours".into() });
            config.trunk_settings = vec![Trunk { known_by, credentials, ..Trunk::new("carrier".into()) }];
            change(config);
        });
        let carrier = User {
            account: AccountName::server(),
            trunk: Some("carrier".into()),
            registers: false,
            ..user("carrier", None)
        };
        let users = [user("alice", None), carrier];
        exchange.endpoint.set_directory(Arc::new(Directory::new("tandem", users, [])));
        exchange.endpoint.start_trunks(exchange.now);
        exchange
    }

    /// Sends an INVITE of an unspecified caller from this address.
    fn call(&mut self, from: &str, lines: &str) {
        let lines = format!("Contact: <sip:gw@10.0.0.1>\r\n{lines}");
        let invite = self.request(
            "INVITE",
            URI,
            "sip:+15550100@carrier.example",
            URI,
            &lines,
            std::str::from_utf8(SDP).unwrap(),
        );
        self.receive(from, invite);
    }

    /// Sends an INVITE, then sends it again with a password after the challenge.
    fn call_with(&mut self, from: &str, username: &str, password: &str) {
        self.call(from, "");
        let challenge = self.next().text;
        assert!(challenge.starts_with("SIP/2.0 401 "), "{challenge}");
        self.call(from, &answer(&challenge, "INVITE", URI, username, password));
    }

    #[track_caller]
    fn expect(&mut self, start: &str) -> Sent {
        let sent = self.next();
        assert!(sent.text.starts_with(start), "{}", sent.text);
        sent
    }

    #[track_caller]
    fn called(&mut self) -> (LegId, Option<String>) {
        self.expect("SIP/2.0 100 ");
        let Some(Event::Incoming { leg, incoming }) = self.events.pop_back() else { panic!("no call") };
        assert!(incoming.caller.is_none(), "no phone");
        (leg, incoming.trunk.map(|trunk| trunk.to_string()))
    }
}

#[test]
fn a_trunk_calls_from_anywhere_with_its_password() {
    for algorithms in [vec![DigestAlgorithm::Md5], vec![DigestAlgorithm::Sha256, DigestAlgorithm::Md5]] {
        let mut exchange =
            Exchange::with_carrier(KnownBy::Either, |config| config.registrar.algorithms = algorithms.clone());
        exchange.call_with(CARRIER, "carrier", "secret");
        assert_eq!(exchange.called().1.as_deref(), Some("carrier"));
        exchange.call(OFFICE, "");
        assert_eq!(exchange.called().1.as_deref(), Some("carrier"), "its network is enough");
        exchange.call_with(CARRIER, "carrier", "guess");
        exchange.expect("SIP/2.0 403 ");
        assert!(
            matches!(exchange.events.pop_front(), Some(Event::AuthenticationFailed(refused)) if refused.username == "carrier")
        );
    }
}

#[test]
fn requests_to_a_trunk_known_by_its_password_go_to_the_source_of_its_call() {
    let mut exchange = Exchange::with_carrier(KnownBy::Either, |_| {});
    exchange.call_with(CARRIER, "carrier", "secret");
    let (leg, _) = exchange.called();
    exchange.command(testing::answer(leg));
    exchange.expect("SIP/2.0 200 ");
    let ack = exchange.request("ACK", URI, "sip:+15550100@carrier.example", URI, "", "");
    assert!(ack.contains("CSeq: 3 ACK"));
    exchange.command(testing::hangup(leg));
    // The BYE must wait for the ACK. No ACK comes, so the BYE is sent after 64*T1 (32 s).
    exchange.wait(Duration::from_secs(33));
    let bye =
        std::iter::from_fn(|| exchange.sent.pop_front()).find(|sent| sent.text.starts_with("BYE ")).expect("a BYE");
    assert_eq!(bye.to.to_string(), CARRIER);
    assert!(bye.text.starts_with("BYE sip:gw@10.0.0.1 "), "{}", bye.text);
    // This server sends its own password only to the trunk's addresses. A caller that knows the trunk's password does
    // not get this server's password.
    let field = |name: &str| bye.text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    let challenge = format!(
        "SIP/2.0 401 Unauthorized\r\n{}\r\n{}\r\n{}\r\n{}\r\n{}\r\nWWW-Authenticate: Digest realm=\"r\",nonce=\"n\"\r\nContent-Length: 0\r\n\r\n",
        field("Via: "),
        field("From: "),
        field("To: "),
        field("Call-ID: "),
        field("CSeq: ")
    );
    exchange.sent.clear();
    exchange.receive(CARRIER, challenge);
    assert!(exchange.sent.iter().all(|sent| !sent.text.contains("Authorization")), "not to there");
}

#[test]
fn an_old_nonce_is_stale_and_a_nonce_count_is_accepted_once() {
    let mut exchange = Exchange::with_carrier(KnownBy::Either, |_| {});
    exchange.call(CARRIER, "");
    let challenge = exchange.expect("SIP/2.0 401 ").text;
    assert!(!challenge.contains("stale"));
    let authorization = answer(&challenge, "INVITE", URI, "carrier", "secret");
    exchange.wait(Duration::from_secs(301));
    exchange.call(CARRIER, &authorization);
    let stale = exchange.expect("SIP/2.0 401 ").text;
    assert!(stale.contains("stale=true"), "{stale}");
    let authorization = answer(&stale, "INVITE", URI, "carrier", "secret");
    exchange.call(CARRIER, &authorization);
    exchange.called();
    exchange.call(CARRIER, &authorization);
    assert!(exchange.expect("SIP/2.0 401 ").text.contains("stale=true"), "overheard");
}

#[test]
fn a_trunk_may_need_both_its_network_and_its_password() {
    let mut exchange = Exchange::with_carrier(KnownBy::Both, |_| {});
    exchange.call_with(OFFICE, "carrier", "secret");
    assert_eq!(exchange.called().1.as_deref(), Some("carrier"));
    exchange.call_with(CARRIER, "carrier", "secret");
    exchange.expect("SIP/2.0 403 ");
    exchange.call_with(OFFICE, "alice", "secret");
    exchange.expect("SIP/2.0 403 ");
    assert!(exchange.events.is_empty(), "no calls");
}

#[test]
fn a_trunks_password_registers_no_phone() {
    let mut exchange = Exchange::with_carrier(KnownBy::Either, |_| {});
    let response =
        exchange.authenticated(CARRIER, "REGISTER", "sip:tandem", "carrier", "Contact: <sip:c@h>\r\n", "secret");
    assert!(response.starts_with("SIP/2.0 403 "), "{response}");
    assert!(!exchange.endpoint.phones.directory.has(&AccountName::server(), "carrier", None), "nor is it rung");
}

#[test]
fn with_silent_unknown_sources_calls_are_challenged_if_a_trunk_may_have_any_address() {
    let silent = |config: &mut crate::Config| config.unknown_sources = UnknownSources::Silent;
    let mut exchange = Exchange::with_carrier(KnownBy::Either, silent);
    exchange.call_with(CARRIER, "carrier", "secret");
    exchange.called();
    let options = exchange.request("OPTIONS", URI, "sip:x@h", URI, "", "");
    exchange.receive("203.0.113.10:5060", options);
    assert!(exchange.sent.is_empty());
    let mut exchange = Exchange::with_carrier(KnownBy::Both, silent);
    exchange.call(CARRIER, "");
    assert!(exchange.sent.is_empty());
}

#[test]
fn wrong_passwords_ban_their_source() {
    let mut exchange = Exchange::with_carrier(KnownBy::Either, |_| {});
    let guard = Arc::new(crate::guard::Guard::new(crate::Bans::default(), Vec::new(), 1, exchange.now));
    exchange.endpoint.set_guard(Arc::clone(&guard));
    for _ in 0..10 {
        exchange.call_with(CARRIER, "carrier", "guess");
        exchange.expect("SIP/2.0 403 ");
    }
    let bans = guard.bans(exchange.now);
    assert_eq!((bans.len(), bans[0].why), (1, Offence::Credentials));
}
