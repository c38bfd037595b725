//! Tests of trunks: registrations, OPTIONS, limits and health.

use super::*;
use crate::digest::Credentials;
use crate::tls_fault::{TlsFault, TransportFault};
use crate::trunk::{Health, Register, Registered, Trunk, TrunkFault, TrunkSlice, TrunkStatus, TrunkTrouble};

const LEG: LegId = LegId(1);
const PEER: &str = "127.0.0.2:5060";

impl Bench {
    /// Creates an endpoint with this trunk, and starts the registration and the probe of the trunk. The trunk's sources
    /// are `10.0.0.0/8`, so the far end of the test is an unknown source.
    fn with_trunk(change: impl FnOnce(&mut Trunk)) -> Self {
        let mut trunk = Trunk::new("carrier".into());
        trunk.uri = Some(format!("sip:{PEER}"));
        change(&mut trunk);
        let mut bench = Self::with(|config| {
            config.trunks = vec![crate::trunk_acl::TrunkAcl {
                name: "carrier".into(),
                networks: vec!["10.0.0.0/8".parse().unwrap()],
            }];
            config.trunk_settings = vec![trunk];
        });
        bench.endpoint.start_trunks(bench.now);
        bench
    }

    /// Creates an endpoint that registers at a trunk. Returns the first REGISTER.
    fn registering() -> (Self, String) {
        let mut bench = Self::with_trunk(|trunk| {
            trunk.credentials = Some(Credentials { username: "tandem".into(), password: "secret".into() });
            trunk.register = Some(Register {
                registrar: "sip:carrier.example".into(),
                address: "sip:tandem@carrier.example".into(),
                contact_user: "tandem".into(),
                expires: Duration::from_secs(600),
            });
        });
        bench.wait(1_000);
        bench.locate();
        let register = bench.expect("REGISTER sip:carrier.example SIP/2.0\r\n");
        (bench, register)
    }

    /// Answers the open lookup with the trunk's address.
    fn locate(&mut self) {
        self.locate_over(Transport::Udp);
    }

    fn locate_over(&mut self, transport: Transport) {
        let (lookup, _, trunk) = self.asked.pop_front().expect("an address is wanted");
        assert_eq!(trunk.as_deref(), Some("carrier"));
        let target = Target { transport, address: PEER.parse().unwrap(), identity: None };
        self.endpoint.handle_resolved(self.now, lookup, Ok(vec![target]));
        self.collect();
    }

    /// Returns the last trouble of a trunk that was reported.
    fn trouble(&mut self) -> TrunkTrouble {
        let troubled = |event| match event {
            Event::TrunkTroubled(trouble) => Some(*trouble),
            _ => None,
        };
        self.events.drain(..).filter_map(troubled).next_back().expect("a trouble of a trunk")
    }

    fn trunk_status(&self) -> TrunkStatus {
        self.endpoint.trunks.status(0).unwrap()
    }
}

fn invite(uri: &str, call: u32) -> String {
    format!(
        "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {PEER};branch=z9hG4bKcall{call}\r\nMax-Forwards: 70\r\n\
         From: <sip:+15550009@carrier.example>;tag=them{call}\r\nTo: <sip:+15551230001@carrier.example>\r\nCall-ID: call{call}\r\n\
         CSeq: 1 INVITE\r\nContact: <sip:peer@{PEER}>\r\nContent-Length: 0\r\n\r\n"
    )
}

fn contact(register: &str) -> String {
    field(register, "Contact").trim_matches(['<', '>']).to_owned()
}

#[test]
fn a_trunk_is_registered_with_credentials_and_refreshed() {
    let (mut bench, register) = Bench::registering();
    assert_eq!(field(&register, "To"), "<sip:tandem@carrier.example>");
    assert!(field(&register, "From").starts_with("<sip:tandem@carrier.example>;tag="));
    assert_eq!(field(&register, "Expires"), "600");
    assert!(contact(&register).starts_with("sip:tandem@127.0.0.1:5060;line="), "{register}");
    bench.receive(response_to(&register, 401, "reg", "WWW-Authenticate: Digest realm=\"c\",nonce=\"n\",qop=\"auth\""));
    let again = bench.expect("REGISTER ");
    assert!(field(&again, "Authorization").starts_with("Digest username=\"tandem\",realm=\"c\""));
    assert_eq!(field(&again, "Call-ID"), field(&register, "Call-ID"));
    let number = |message: &str| field(message, "CSeq").split(' ').next().unwrap().parse::<u32>().unwrap();
    assert_eq!(number(&again), number(&register) + 1);
    let granted = format!("Contact: <{}>;expires=120", contact(&again));
    bench.receive(response_to(&again, 200, "reg", &granted));
    assert_eq!(bench.trunk_status().registered, Registered::Yes);
    assert_eq!(
        bench.endpoint.poll_trunk_status().map(|(index, status)| (index, status.registered)),
        Some((0, Registered::Yes))
    );
    bench.wait(91_000);
    bench.locate();
    let refresh = bench.expect("REGISTER ");
    assert!(field(&refresh, "Authorization").contains("nc=00000002"), "the nonce goes on");
    assert!(bench.events.is_empty(), "no leg's business");
}

#[test]
fn a_call_to_the_registered_contact_belongs_to_the_trunk_from_any_source() {
    let (mut bench, register) = Bench::registering();
    bench.receive(response_to(&register, 200, "reg", ""));
    bench.receive(invite("sip:+15551230001@127.0.0.1", 1));
    bench.expect("SIP/2.0 403 ");
    let Event::UnknownSource(refused) = bench.event() else { panic!("nobody is told") };
    assert_eq!((&*refused.method, &*refused.to, refused.line), ("INVITE", "+15551230001", Some(0)));
    assert!(!refused.sip_call_id.is_empty(), "{refused:?}");
    bench.receive(invite(&contact(&register), 2));
    bench.expect("SIP/2.0 100 ");
    let Event::Incoming { incoming, .. } = bench.event() else { panic!("no call") };
    assert_eq!((incoming.trunk.as_deref(), &*incoming.to_user), (Some("carrier"), "+15551230001"));
    let cancel = invite(&contact(&register), 2).replace("INVITE", "CANCEL");
    bench.receive(cancel);
    bench.expect("SIP/2.0 200 ");
    bench.expect("SIP/2.0 487 ");
    let named = contact(&register).replace("tandem@", "+15551230077@");
    bench.receive(invite(&named, 3));
    bench.expect("SIP/2.0 100 ");
    let Some(Event::Incoming { incoming, .. }) = bench.events.pop_back() else { panic!("no call") };
    assert_eq!(incoming.to_user, "+15551230077", "the registrar put the number in the Contact's place");
}

#[test]
fn a_refused_certificate_of_a_registrar_is_reported_with_its_tls_reason() {
    let (mut bench, _) = Bench::registering();
    // The next REGISTER goes over a connection.
    bench.wait(32_000);
    bench.sent.clear();
    bench.wait(5_000);
    bench.locate_over(Transport::Tcp);
    bench.expect("REGISTER ");
    let fault = TlsFault::Expired;
    let peer = PEER.parse().unwrap();
    bench.endpoint.handle_transport_error(bench.now, Transport::Tcp, peer, TransportFault::Tls(fault));
    bench.collect();
    assert_eq!(bench.trunk_status().tls_fault, Some(fault));
    // A response ends the fault.
    bench.sent.clear();
    bench.wait(600_000);
    bench.locate();
    let again = bench.expect("REGISTER ");
    bench.receive(response_to(&again, 200, "reg", ""));
    assert_eq!((bench.trunk_status().registered, bench.trunk_status().tls_fault), (Registered::Yes, None));
}

#[test]
fn a_trunk_whose_options_fail_in_tls_is_down_with_the_tls_reason() {
    let mut bench = Bench::with_trunk(|trunk| {
        trunk.uri = Some("sip:carrier.example".into());
        trunk.options_interval = Some(Duration::from_secs(30));
    });
    let fault = TlsFault::WrongName;
    while bench.trunk_status().health != Health::Down {
        bench.wait(60_000);
        bench.locate_over(Transport::Tcp);
        bench.expect("OPTIONS ");
        let peer = PEER.parse().unwrap();
        bench.endpoint.handle_transport_error(bench.now, Transport::Tcp, peer, TransportFault::Tls(fault));
        bench.collect();
        bench.sent.clear();
    }
    let trouble = bench.trouble();
    assert_eq!((&*trouble.trunk, trouble.fault), ("carrier", TrunkFault::Tls));
    assert!(trouble.why.contains("the certificate of the far end is for another name"), "{trouble:?}");
}

#[test]
fn a_silent_registrar_gets_another_register_and_a_shutdown_unregisters() {
    let (mut bench, _) = Bench::registering();
    bench.wait(32_000);
    assert_eq!(bench.trunk_status().registered, Registered::Unanswered);
    let trouble = bench.trouble();
    assert_eq!((&*trouble.trunk, trouble.fault), ("carrier", TrunkFault::RegistrarSilent));
    assert!(trouble.why.contains("did not answer (RFC 3261 Timer F)"), "{trouble:?}");
    bench.sent.clear();
    bench.wait(5_000);
    bench.locate();
    let register = bench.expect("REGISTER ");
    bench.receive(response_to(&register, 200, "reg", "Expires: 300"));
    assert_eq!(bench.trunk_status().registered, Registered::Yes);
    bench.endpoint.withdraw(bench.now);
    bench.collect();
    let last = bench.expect("REGISTER ");
    assert_eq!(field(&last, "Expires"), "0");
    assert!(bench.endpoint.is_withdrawing());
    bench.receive(response_to(&last, 200, "reg", ""));
    assert!(!bench.endpoint.is_withdrawing());
    bench.empty();
}

#[test]
fn a_trunk_is_down_from_an_unanswered_options_to_the_next_answer() {
    let mut bench = Bench::with_trunk(|trunk| trunk.options_interval = Some(Duration::from_secs(30)));
    let ask = |bench: &mut Bench, wait: u64| {
        bench.sent.clear();
        bench.wait(wait);
        bench.expect("OPTIONS sip:127.0.0.2:5060 SIP/2.0\r\n")
    };
    let options = ask(&mut bench, 1_000);
    bench.receive(response_to(&options, 404, "x", ""));
    assert_eq!(bench.trunk_status().health, Health::Up, "whoever refuses is there");
    for (wait, health) in [(30_000, Health::Up), (10_000, Health::Down)] {
        ask(&mut bench, wait);
        bench.wait(3_000);
        assert_eq!(bench.trunk_status().health, health);
    }
    let trouble = bench.trouble();
    assert_eq!((trouble.fault, trouble.why.as_str()), (TrunkFault::Down, "OPTIONS got no answer"));
    for health in [Health::Down, Health::Up] {
        let options = ask(&mut bench, 10_000);
        bench.receive(response_to(&options, 200, "x", ""));
        assert_eq!(bench.trunk_status().health, health);
    }
}

#[test]
fn calls_above_the_limit_of_a_trunk_are_refused_until_a_call_ends() {
    let mut bench = Bench::with_trunk(|trunk| trunk.max_calls = Some(1));
    bench.endpoint.core.config.trunks[0].networks = vec!["127.0.0.0/8".parse().unwrap()];
    let mut call = outgoing("sip:+15551230002@127.0.0.2");
    call.trunk = Some("carrier".into());
    bench.command(Command::Invite { leg: LEG, invite: call.clone() });
    let sent = bench.expect("INVITE ");
    bench.receive(invite("sip:+15551230001@127.0.0.1", 1));
    let refused = bench.expect("SIP/2.0 503 ");
    assert!((5..=15).contains(&retry_after(&refused)), "a call has to end");
    bench.command(Command::Invite { leg: LegId(2), invite: call });
    assert_eq!(bench.ended().0, EndCause::TrunkFull);
    assert_eq!((bench.trunk_status().calls, bench.trunk_status().limited), (1, 2));
    bench.receive(response_to(&sent, 486, "them", ""));
    bench.expect("ACK ");
    assert_eq!((bench.ended().1, bench.trunk_status().calls), (Some(486), 0));
    bench.receive(invite("sip:+15551230001@127.0.0.1", 2));
    bench.expect("SIP/2.0 100 ");
}

#[test]
fn a_trunk_with_shared_limits_refuses_calls_above_its_slice() {
    let mut bench = Bench::with_trunk(|trunk| trunk.max_calls = Some(5));
    bench.endpoint.core.config.trunks[0].networks = vec!["127.0.0.0/8".parse().unwrap()];
    let arrives = |bench: &mut Bench, call: u32, status: &str| {
        bench.receive(invite("sip:+15551230001@127.0.0.1", call));
        bench.expect(&format!("SIP/2.0 {status} "));
    };
    bench.command(Command::TrunkSlices(Vec::new()));
    assert_eq!(bench.trunk_status().slice, Some(TrunkSlice::default()));
    arrives(&mut bench, 1, "503");
    let slice = TrunkSlice { calls: 1, ..TrunkSlice::default() };
    bench.command(Command::TrunkSlices(vec![("other".into(), TrunkSlice::default()), ("carrier".into(), slice)]));
    arrives(&mut bench, 2, "100");
    arrives(&mut bench, 3, "503");
    // A command that does not name the trunk does not change its slice.
    bench.command(Command::TrunkSlices(Vec::new()));
    let TrunkStatus { calls, limited, attempts, slice: own, .. } = bench.trunk_status();
    assert_eq!((calls, limited, attempts, own), (1, 2, (3, 0), Some(slice)));
}

#[test]
fn a_trunk_whose_calls_fail_is_doubtful_for_a_limited_time() {
    let mut bench = Bench::with_trunk(|_| {});
    let place = |bench: &mut Bench, status: Option<u16>| {
        let mut call = outgoing("sip:+15551230002@127.0.0.2");
        call.trunk = Some("carrier".into());
        bench.command(Command::Invite { leg: LEG, invite: call });
        let sent = bench.expect("INVITE ");
        match status {
            Some(status) => bench.receive(response_to(&sent, status, "them", "")),
            None => bench.wait(32_000),
        }
        bench.sent.clear();
        bench.events.clear();
        bench.trunk_status().health
    };
    assert_eq!(place(&mut bench, Some(486)), Health::Up);
    assert_eq!(place(&mut bench, Some(503)), Health::Doubtful);
    assert_eq!(place(&mut bench, Some(486)), Health::Up, "it answers");
    assert_eq!(place(&mut bench, None), Health::Doubtful);
    bench.wait(60_000);
    assert_eq!(bench.trunk_status().health, Health::Unknown);
}

#[test]
fn a_trunk_is_also_doubtful_after_the_application_cancels_a_call_without_a_response() {
    let mut bench = Bench::with_trunk(|_| {});
    let mut place = |given_up_after: u64, provisional: bool| {
        let mut call = outgoing("sip:+15551230002@127.0.0.2");
        call.trunk = Some("carrier".into());
        bench.command(Command::Invite { leg: LEG, invite: call });
        let sent = bench.expect("INVITE ");
        if provisional {
            bench.receive(response_to(&sent, 100, "", ""));
        }
        bench.wait(given_up_after);
        bench.command(hangup(LEG));
        let health = bench.trunk_status().health;
        // Late responses to the abandoned INVITE arrive.
        bench.receive(response_to(&sent, 100, "", ""));
        let heard = bench.trunk_status().health;
        bench.receive(response_to(&sent, 487, "them", ""));
        bench.sent.clear();
        bench.events.clear();
        (health, heard)
    };
    assert_eq!(place(3_900, false).0, Health::Unknown, "too early to tell");
    assert_eq!(place(20_000, true).0, Health::Up, "it was heard of");
    assert_eq!(place(4_000, false), (Health::Doubtful, Health::Up), "until it answers after all");
}

#[test]
fn a_probe_that_is_not_answered_fails_within_seconds_and_unknown_is_not_up() {
    let trunk = crate::Trunk {
        uri: Some("sip:127.0.0.2".to_owned()),
        options_interval: Some(Duration::from_secs(10)),
        ..crate::Trunk::new("carrier".into())
    };
    let mut bench = Bench::with(|config| config.trunk_settings = vec![trunk]);
    bench.endpoint.start_trunks(bench.now);
    let health = |bench: &Bench| bench.endpoint.trunk_statuses()[0].as_ref().unwrap().1.health;
    assert_eq!(health(&bench), crate::Health::Unknown);
    bench.wait(4_000);
    assert_eq!(health(&bench), crate::Health::Unknown, "one silence is no outage");
    bench.wait(14_000);
    assert_eq!(health(&bench), crate::Health::Down);
    for _ in 0..2 {
        while bench.sent.len() > 1 {
            bench.sent();
        }
        bench.sent.clear();
        bench.wait(10_000);
        let options = bench.sent();
        bench.receive(response_to(&options, 200, "t", ""));
    }
    assert_eq!(health(&bench), crate::Health::Up);
}
