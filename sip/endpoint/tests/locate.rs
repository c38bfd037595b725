//! Tests of lookups by the shell, and of the targets that are tried after the first target.

use std::io::ErrorKind;

use tandem_id::AccountName;

use super::*;
use crate::digest::Credentials;

const LEG: LegId = LegId(1);

impl Bench {
    /// Creates a call to a host name. The shell has found these targets for the name.
    fn found(hops: &[&str]) -> Self {
        let mut bench = Self::new();
        let mut call = outgoing("sip:x@carrier.example");
        call.credentials = Some(Credentials { username: "u".into(), password: "p".into() });
        bench.command(Command::Invite { leg: LEG, invite: call });
        bench.silent();
        let (lookup, uri, _) = bench.asked.pop_front().expect("the shell was asked");
        assert_eq!(uri, "sip:x@carrier.example");
        let hops = hops.iter().map(|hop| {
            let (transport, address) = parse_listen(hop).unwrap();
            Target { transport, address, identity: None }
        });
        bench.endpoint.handle_resolved(bench.now, lookup, Ok(hops.collect()));
        bench.collect();
        bench
    }

    /// Returns the oldest sent message that the test has not read yet, with its transport and destination.
    #[track_caller]
    fn sent_to(&mut self) -> (String, String) {
        let way = self.ways.pop_front().expect("a message was sent");
        (way, self.sent())
    }
}

#[test]
fn a_name_without_address_ends_the_call_and_a_hangup_ends_the_lookup() {
    for found in [Err(EndCause::Unresolved), Ok(Vec::new())] {
        let mut bench = Bench::new();
        bench.command(Command::Invite { leg: LEG, invite: outgoing("sip:x@carrier.example") });
        let (lookup, ..) = bench.asked.pop_front().unwrap();
        let cause = found.as_ref().err().copied().unwrap_or(EndCause::NoSocket);
        bench.endpoint.handle_resolved(bench.now, lookup, found);
        bench.collect();
        assert_eq!(bench.ended().0, cause);
        bench.empty();
    }
    let mut bench = Bench::new();
    bench.command(Command::Invite { leg: LEG, invite: outgoing("sip:x@carrier.example") });
    bench.command(hangup(LEG));
    assert_eq!(bench.ended().0, EndCause::LocalHangup);
    let (lookup, ..) = bench.asked.pop_front().unwrap();
    bench.endpoint.handle_resolved(bench.now, lookup, Err(EndCause::Unresolved));
    bench.collect();
    assert!(bench.events.is_empty());
    bench.empty();
}

#[test]
fn the_next_hop_is_tried_after_a_503_a_broken_connection_and_silence() {
    let mut bench = Bench::found(&[
        "udp://127.0.0.2:5060",
        "tls://127.0.0.3:5061",
        "tcp://127.0.0.4:5060",
        "udp://127.0.0.5:5060",
        "udp://127.0.0.6:5060",
    ]);
    let (way, first) = bench.sent_to();
    assert_eq!(way, "udp://127.0.0.2:5060");
    bench.receive(response_to(&first, 503, "a", ""));
    assert!(bench.expect("ACK ").contains(field(&first, "Via")));
    assert_eq!(bench.ways.pop_front().unwrap(), "udp://127.0.0.2:5060");
    // The target over TLS is skipped, because there is no socket for TLS.
    let (way, second) = bench.sent_to();
    assert_eq!(way, "tcp://127.0.0.4:5060");
    assert!(field(&second, "Via").starts_with("SIP/2.0/TCP 127.0.0.1:5060;rport;branch="));
    assert_eq!(field(&second, "Contact"), "<sip:127.0.0.1:5060;transport=tcp>");
    assert_ne!(parameter(field(&second, "Via"), "branch"), parameter(field(&first, "Via"), "branch"));
    for same in ["From", "To", "Call-ID", "CSeq"] {
        assert_eq!(field(&second, same), field(&first, same));
    }
    bench.endpoint.handle_transport_error(
        bench.now,
        Transport::Tcp,
        "127.0.0.4:5060".parse().unwrap(),
        ErrorKind::ConnectionRefused,
    );
    bench.collect();
    let (way, third) = bench.sent_to();
    assert_eq!(way, "udp://127.0.0.5:5060");
    // After a challenge, the INVITE with credentials also goes to the next target if necessary.
    bench.receive(response_to(&third, 401, "b", "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\""));
    bench.expect("ACK ");
    let fourth = bench.expect("INVITE ");
    assert!(fourth.contains("\r\nAuthorization: "));
    bench.wait(3_001);
    let last = std::iter::from_fn(|| bench.sent.pop_back()).next().unwrap();
    assert_eq!(bench.ways.pop_back().unwrap(), "udp://127.0.0.6:5060");
    bench.sent.clear();
    bench.receive(response_to(&last, 503, "c", ""));
    bench.expect("ACK ");
    assert_eq!(bench.ended(), (EndCause::Rejected, Some(503), Some("Status 503".into())));
    bench.empty();
}

#[test]
fn a_call_that_is_hung_up_tries_no_further_target() {
    let mut bench = Bench::found(&["udp://127.0.0.2:5060", "udp://127.0.0.3:5060"]);
    let invite = bench.sent();
    bench.command(hangup(LEG));
    bench.receive(response_to(&invite, 503, "a", ""));
    bench.expect("ACK ");
    bench.silent();
    assert_eq!(bench.ended().0, EndCause::LocalHangup);
    bench.empty();
}

#[test]
fn a_long_request_goes_over_tcp_and_back_to_udp_when_tcp_is_refused() {
    let mut bench = Bench::new();
    let long = |leg| {
        let mut call = outgoing("sip:x@127.0.0.2");
        call.headers.push(Header { name: "X-Long".into(), value: "x".repeat(1_000) });
        Command::Invite { leg: LegId(leg), invite: call }
    };
    bench.command(long(1));
    let (way, invite) = bench.sent_to();
    assert_eq!(way, "tcp://127.0.0.2:5060");
    assert!(field(&invite, "Via").starts_with("SIP/2.0/TCP 127.0.0.1:5060;rport;branch=z9hG4bK"));
    assert_eq!(field(&invite, "Contact"), "<sip:127.0.0.1:5060>");
    bench.endpoint.handle_transport_error(
        bench.now,
        Transport::Tcp,
        "127.0.0.2:5060".parse().unwrap(),
        ErrorKind::ConnectionReset,
    );
    bench.collect();
    let (way, invite) = bench.sent_to();
    assert_eq!(way, "udp://127.0.0.2:5060");
    assert!(field(&invite, "Via").starts_with("SIP/2.0/UDP "));
    bench.receive(response_to(&invite, 486, "them", ""));
    bench.sent_to();
    assert_eq!(bench.ended().1, Some(486));
    // For an hour the server remembers that the far end refuses TCP.
    for (leg, after, expected) in [(2, 0, "udp://127.0.0.2:5060"), (3, 3_600_000, "tcp://127.0.0.2:5060")] {
        bench.wait(after);
        bench.ways.clear();
        bench.sent.clear();
        bench.command(long(leg));
        assert_eq!(bench.ways.front().unwrap(), expected);
    }
    bench.wait(64_000);
    bench.empty();
}

#[test]
fn alternatives_shorten_the_wait_for_a_first_response_but_not_for_an_answer() {
    for (has_alternatives, rings) in [(true, false), (false, false), (true, true)] {
        let mut bench = Bench::new();
        let mut call = outgoing("sip:x@127.0.0.2");
        call.has_alternatives = has_alternatives;
        bench.command(Command::Invite { leg: LEG, invite: call });
        let invite = bench.expect("INVITE ");
        if rings {
            bench.receive(response_to(&invite, 100, "", ""));
        }
        bench.wait(2_900);
        assert!(bench.events.is_empty(), "too early");
        bench.wait(200);
        let over = has_alternatives && !rings;
        assert_eq!(bench.events.is_empty(), !over, "has_alternatives: {has_alternatives}, rings: {rings}");
        if over {
            assert_eq!(bench.ended().0, EndCause::Timeout);
        }
    }
}

#[test]
fn a_sip_uri_reaches_no_private_network_and_no_trunk_of_another_account() {
    let trunk = |name: &str, account: Option<&str>, uri: &str| crate::Trunk {
        account: account.map(AccountName::new),
        uri: Some(uri.to_owned()),
        ..crate::Trunk::new(name.into())
    };
    let mut bench = Bench::with(|config| {
        config.listen = vec!["udp://192.0.2.50:5060".into(), "tcp://192.0.2.50:5060".into()];
        config.allow_networks = Some(vec!["10.1.0.0/16".parse().unwrap()]);
        config.trunk_settings = vec![
            trunk("theirs", Some("other"), "sip:9.9.9.1"),
            trunk("ours", Some("acme"), "sip:10.2.0.1"),
            trunk("everybodys", None, "sip:10.3.0.1"),
        ];
    });
    bench.endpoint.start_trunks(bench.now);
    bench.collect();
    let mut leg = 0;
    let mut call = |bench: &mut Bench, uri: &str, change: &dyn Fn(&mut crate::Outgoing)| {
        leg += 1;
        let mut invite = outgoing(uri);
        invite.accounts = vec![AccountName::new("acme")];
        change(&mut invite);
        bench.command(Command::Invite { leg: LegId(leg), invite });
        if let Some((lookup, ..)) = bench.asked.pop_front() {
            let address = "127.0.0.1:25".parse().unwrap();
            let target = Target { transport: Transport::Tcp, address, identity: None };
            bench.endpoint.handle_resolved(bench.now, lookup, Ok(vec![target]));
            bench.collect();
        }
        let refused =
            bench.events.drain(..).any(|event| matches!(event, Event::Ended { cause: EndCause::Forbidden, .. }));
        assert_eq!(bench.sent.drain(..).count(), usize::from(!refused), "{uri}");
        !refused
    };
    for (uri, may) in [
        ("sip:x@127.0.0.1:6379;transport=tcp", false),
        ("sip:x@10.0.0.1", false),
        ("sip:x@169.254.169.254:80;transport=tcp", false),
        ("sip:x@inner.example;transport=tcp", false),
        ("sip:x@10.1.2.3", true),
        ("sip:x@9.9.9.2", true),
        ("sip:+19005550001@9.9.9.1", false),
        ("sip:x@10.2.0.1:5080", true),
        ("sip:x@10.3.0.1", true),
    ] {
        assert_eq!(call(&mut bench, uri, &|_| {}), may, "{uri}");
    }
    assert!(call(&mut bench, "sip:x@127.0.0.1", &|invite| invite.accounts.clear()), "the operator's own");
    let over = |invite: &mut crate::Outgoing| {
        (invite.trunk, invite.next_hop) = (Some("theirs".into()), Some("sip:9.9.9.1".into()));
    };
    assert!(call(&mut bench, "sip:x@9.9.9.1", &over), "over a trunk it goes where the operator wrote");
    let redirected = |invite: &mut crate::Outgoing| invite.trunk = Some("ours".into());
    assert!(!call(&mut bench, "sip:x@127.0.0.1", &redirected), "where a redirection leads");
}

#[test]
fn loopback_targets_are_allowed_if_all_sockets_are_loopback() {
    for (listen, may) in [("udp://127.0.0.1:5060", true), ("udp://0.0.0.0:5060", false)] {
        let mut bench = Bench::with(|config| config.listen = vec![listen.into()]);
        let mut invite = outgoing("sip:100@127.0.0.1:5070");
        invite.accounts = vec![AccountName::new("acme")];
        bench.command(Command::Invite { leg: LegId(1), invite });
        assert_eq!(!bench.sent.is_empty(), may, "{listen}");
    }
}

/// Trunks of the file at public, private and named hosts. All of them belong to the account `acme`.
fn with_trunks_of_acme() -> Bench {
    let trunk = |name: &str, uri: &str| crate::Trunk {
        account: Some(AccountName::new("acme")),
        uri: Some(uri.to_owned()),
        ..crate::Trunk::new(name.into())
    };
    let mut bench = Bench::with(|config| {
        config.listen = vec!["udp://192.0.2.50:5060".into(), "tcp://192.0.2.50:5060".into()];
        config.trunk_settings = vec![trunk("carrier", "sip:9.9.9.1"), trunk("named", "sip:gw.carrier.example")];
        let acl = |name: &str, networks: &[&str]| crate::TrunkAcl {
            name: name.into(),
            networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
        };
        config.trunks = vec![acl("carrier", &["9.8.0.0/22", "192.0.2.48/29"]), acl("named", &["0.0.0.0/0"])];
    });
    bench.endpoint.start_trunks(bench.now);
    bench.collect();
    let (lookup, ..) = bench.asked.pop_front().expect("the trunk's name");
    let target = Target { transport: Transport::Udp, address: "9.7.7.7:5060".parse().unwrap(), identity: None };
    bench.endpoint.handle_resolved(bench.now, lookup, Ok(vec![target]));
    bench.collect();
    bench
}

#[test]
fn a_trunk_created_by_rest_reaches_no_private_network_and_no_configured_trunk() {
    for (uri, answer, may) in [
        ("sip:5.5.5.5", None, true),
        ("sip:pbx.example", Some("5.5.5.5:5060"), true),
        ("sip:9.9.9.1", None, false),
        ("sip:9.9.9.1:5080;transport=tcp", None, false),
        ("sip:9.8.3.200", None, false),
        ("sip:9.7.7.7", None, false),
        ("sip:pbx.example", Some("9.9.9.1:5060"), false),
        ("sip:pbx.example", Some("9.7.7.7:5060"), false),
        ("sip:gw.carrier.example", Some("5.5.5.5:5060"), false),
        ("sip:GW.Carrier.Example.", Some("5.5.5.5:5060"), false),
        ("sip:pbx.example;transport=tcp", Some("127.0.0.1:6379"), false),
        ("sip:pbx.example", Some("[::ffff:169.254.169.254]:80"), false),
        ("sip:169.254.169.254:80;transport=tcp", None, false),
        ("sip:10.0.0.1", None, false),
        ("sip:[::1]", None, false),
        ("sip:[fd00::1]", None, false),
        ("sip:0.0.0.0", None, false),
        ("sip:192.0.2.50", None, false),
    ] {
        let mut bench = with_trunks_of_acme();
        let mut invite = outgoing(&uri.replacen("sip:", "sip:+19005550001@", 1));
        (invite.accounts, invite.trunk) =
            (vec![AccountName::new("other")], Some("pbx:00000000000000000000000000000007".into()));
        invite.next_hop = Some(uri.into());
        bench.command(Command::Invite { leg: LEG, invite });
        if let Some(answer) = answer {
            let (lookup, ..) = bench.asked.pop_front().unwrap();
            let target = Target { transport: Transport::Tcp, address: answer.parse().unwrap(), identity: None };
            bench.endpoint.handle_resolved(bench.now, lookup, Ok(vec![target]));
            bench.collect();
        }
        assert_eq!(!bench.sent.is_empty(), may, "{uri} {answer:?}");
        assert_eq!(bench.events.is_empty(), may, "{uri}: the refusal is reported");
        if answer.is_none() {
            assert_eq!(
                bench.endpoint.refusal_of(&[AccountName::new("other")], uri).is_none(),
                may,
                "{uri} at its creation"
            );
        }
    }
}

#[test]
fn a_stored_uri_is_refused_if_its_host_is_known_to_be_forbidden() {
    let bench = with_trunks_of_acme();
    let of = |account: &str, uri: &str| bench.endpoint.refusal_of(&[AccountName::new(account)], uri);
    for uri in
        ["sip:localhost", "sip:x@pbx.localhost:6379", "sips:GW.carrier.example", "sip:+1900@9.8.0.1", "sip:127.1.1.1"]
    {
        assert!(of("other", uri).is_some(), "{uri}");
    }
    for uri in ["sip:pbx.example", "sip:carrier.example", "sip:8.8.8.8", "tel:+15551230001", "no URI"] {
        assert_eq!(of("other", uri), None, "{uri}");
    }
    for uri in ["sip:9.9.9.1", "sip:gw.carrier.example", "sip:9.8.0.1"] {
        assert_eq!(of("acme", uri), None, "{uri}: the account's own");
    }
}

#[test]
fn another_spelling_of_an_address_is_no_host_name() {
    let bench = with_trunks_of_acme();
    let of = |uri: &str| bench.endpoint.refusal_of(&[AccountName::new("other")], uri);
    for host in [
        "0177.0.0.1",
        "2130706433",
        "127.1",
        "9.9.7.7.",
        "0x7f000001",
        "0X7F.1",
        "8.8.8.8.",
        "08.8.8.8",
        "a.example.1",
        "1.",
    ] {
        for uri in [format!("sip:{host}"), format!("sip:x@{host}:5080;transport=tcp"), format!("sips:{host}")] {
            assert!(of(&uri).is_some(), "{uri}");
        }
    }
    for host in ["8.8.8.8", "0x.example", "1.example", "x8", "0xyz", "pbx-1.example."] {
        assert_eq!(of(&format!("sip:{host}")), None, "{host}");
    }
}

#[test]
fn a_call_reaches_no_listener_of_this_server_that_is_not_for_sip() {
    for (networks, loopback) in [(Some(Vec::new()), false), (None, true)] {
        let mut bench = Bench::with(|config| {
            config.listen = vec!["udp://127.0.0.1:5060".into(), "tcp://127.0.0.1:5060".into()];
            config.allow_networks = networks.clone();
        });
        let at = |port: u16| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        bench.endpoint.set_locals(&[
            (Transport::Udp, at(5060)),
            (Transport::Tcp, at(5060)),
            // The HTTP listener, where browsers open WebSockets.
            (Transport::Ws, at(8080)),
            (Transport::Wss, at(5061)),
        ]);
        let may = |uri: &str| bench.endpoint.refusal_of(&[AccountName::new("acme")], uri).is_none();
        assert!(may("sip:x@127.0.0.1") && may("sip:x@127.0.0.1;transport=tcp"));
        for uri in [
            "sip:x@127.0.0.1:8080;transport=tcp",
            "sip:x@127.0.0.1:8080;transport=ws",
            "sips:x@127.0.0.1:8080",
            "sip:x@localhost:8080;transport=tcp",
            "sips:x@127.0.0.1",
        ] {
            assert!(!may(uri), "{uri} {networks:?}");
        }
        // A UDP port of the same number is another socket.
        assert_eq!(may("sip:x@127.0.0.1:8080"), loopback);
        assert_eq!(may("sip:x@127.0.0.1:6379;transport=tcp"), loopback);
        let mut invite = outgoing("sip:x@127.0.0.1:8080;transport=tcp");
        invite.accounts = vec![AccountName::new("acme")];
        bench.command(Command::Invite { leg: LEG, invite });
        assert!(bench.sent.is_empty());
    }
}

#[test]
fn an_own_address_that_is_a_trunk_of_another_account_is_forbidden() {
    for (networks, may) in [(vec!["127.0.0.0/8"], false), (vec!["127.0.0.1/32"], false), (vec!["10.0.0.0/8"], true)] {
        for listen in ["udp://127.0.0.1:5060", "udp://0.0.0.0:5060"] {
            let mut bench = Bench::with(|config| {
                config.listen = vec![listen.into()];
                config.allow_networks = Some(vec!["127.0.0.0/8".parse().unwrap()]);
                let mut trunk = crate::Trunk::new("pbx".into());
                trunk.account = Some(AccountName::new("acme"));
                config.trunk_settings = vec![trunk];
                let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
                config.trunks = vec![crate::TrunkAcl { name: "pbx".into(), networks }];
            });
            bench.endpoint.start_trunks(bench.now);
            bench.collect();
            for (leg, account) in ["other", "acme"].into_iter().enumerate() {
                let mut invite = outgoing("sip:+19005550001@127.0.0.1:5060");
                invite.accounts = vec![AccountName::new(account)];
                bench.command(Command::Invite { leg: LegId(leg as u128), invite });
                let sent = bench.sent.drain(..).count() > 0;
                assert_eq!(sent, may || account == "acme", "{networks:?} {listen} {account}");
            }
        }
    }
}
