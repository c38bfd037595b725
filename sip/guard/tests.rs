use super::*;
use crate::testing::instant;

const SECOND: Duration = Duration::from_secs(1);

fn guard(config: Bans) -> (Guard, Instant) {
    let trunks = vec![TrunkAcl { name: "carrier".into(), networks: vec!["192.0.2.0/24".parse().unwrap()] }];
    let start = instant();
    (Guard::new(config, trunks, 7, start), start)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn an_address_of_this_host_is_banned_only_for_guesses() {
    let (guard, start) = guard(Bans::default());
    let guard = guard.with_own([ip("127.0.0.1"), ip("198.51.100.9")]);
    for own in ["127.0.0.1", "198.51.100.9", "::ffff:127.0.0.1"].map(ip) {
        for offence in [Offence::Malformed, Offence::Refused, Offence::Number, Offence::Flood] {
            for _ in 0..2_000 {
                assert!(!guard.record_offence(start, own, offence), "{own} {offence:?}");
            }
        }
    }
    let count = |address: &str| (1..=30).position(|_| guard.record_offence(start, ip(address), Offence::Malformed));
    assert_eq!((count("127.0.0.2"), count("127.0.0.1")), (Some(29), None));
    let guesses = (1..=10).position(|_| guard.record_wrong_password(start, Some(ip("127.0.0.1")), ("alice", "")));
    assert_eq!(guesses, Some(9));
}

#[test]
fn a_correct_password_clears_the_wrong_passwords_of_the_same_user_only() {
    let (guard, start) = guard(Bans::default());
    let source = ip("198.51.100.1");
    // An attacker owns bob and guesses the password of alice.
    for round in 1..=9 {
        assert!(!guard.record_wrong_password(start, Some(source), ("alice", "")), "{round}");
        guard.note_authenticated(start, source, ("bob", ""));
        guard.note_authenticated(start, source, ("alice", "b.example"));
    }
    assert!(guard.record_wrong_password(start, Some(source), ("alice", "")));
    assert_eq!(guard.admit(start, source), GuardDecision::Banned);
    // A user mistypes the own password again and again, and finds it.
    let phone = ip("198.51.100.2");
    for _ in 0..10 {
        for _ in 0..9 {
            assert!(!guard.record_wrong_password(start, Some(phone), ("alice", "")));
        }
        guard.note_authenticated(start, phone, ("alice", ""));
    }
    // Guesses for another user in between are not forgiven.
    assert!(!guard.record_wrong_password(start, Some(phone), ("carol", "")));
    for _ in 0..8 {
        assert!(!guard.record_wrong_password(start, Some(phone), ("alice", "")));
    }
    guard.note_authenticated(start, phone, ("alice", ""));
    for _ in 0..8 {
        assert!(!guard.record_wrong_password(start, Some(phone), ("alice", "")));
    }
    assert!(guard.record_wrong_password(start, Some(phone), ("alice", "")));
}

#[test]
fn an_address_that_the_server_has_called_is_banned_for_guesses_between_its_own_logins_too() {
    let (guard, start) = guard(Bans::default());
    let source = ip("198.51.100.1");
    guard.note_called(start, source);
    for _ in 0..9 {
        assert!(!guard.record_wrong_password(start, Some(source), ("alice", "")));
        guard.note_authenticated(start, source, ("bob", ""));
    }
    assert!(guard.record_wrong_password(start, Some(source), ("alice", "")));
}

#[test]
fn wrong_passwords_for_one_user_count_over_all_sources_for_a_minute() {
    let (guard, start) = guard(Bans { never: vec!["10.0.0.0/8".parse().unwrap()], ..Bans::default() });
    let alice = ("alice", "");
    // Ten sources send six each. One is never banned, and own requests have no source.
    for n in 0..59u32 {
        assert!(!guard.is_under_attack(start, alice), "{n}");
        let source = (n % 10 != 0).then(|| IpAddr::from((0x0a00_0000 + n).to_be_bytes()));
        guard.record_wrong_password(start, source, alice);
    }
    guard.note_authenticated(start, ip("198.51.100.9"), alice);
    guard.record_wrong_password(start, None, alice);
    assert!(guard.is_under_attack(start, alice) && !guard.is_under_attack(start, ("alice", "b.example")));
    assert!(!guard.is_under_attack(start, ("bob", "")));
    assert!(!guard.is_under_attack(start + 60 * SECOND, alice));
    let off = Bans { user_credentials: 0, ..Bans::default() };
    guard.reconfigure(off, Vec::new());
    assert!(!guard.is_under_attack(start, alice));
}

#[test]
fn messages_above_the_rate_and_the_burst_of_a_source_are_dropped_unread() {
    let (guard, start) = guard(Bans { source_rate: 10, floods: 0, ..Bans::default() });
    let taken = |at| (0..100).filter(|_| guard.admit(at, ip("198.51.100.1")) == GuardDecision::Accept).count();
    assert_eq!(taken(start), 20);
    assert_eq!(taken(start + SECOND), 10);
    assert_eq!(taken(start + 60 * SECOND), 20);
    assert_eq!(guard.admit(start, ip("198.51.100.2")), GuardDecision::Accept, "another source");
    assert_eq!(guard.counts(start).limited, 80 + 90 + 80);
}

#[test]
fn a_trunk_is_never_limited_or_banned() {
    let (guard, start) = guard(Bans { never: vec!["203.0.113.0/24".parse().unwrap()], ..Bans::default() });
    for source in ["192.0.2.9", "::ffff:192.0.2.9", "203.0.113.5"] {
        for _ in 0..10_000 {
            assert_eq!(guard.admit(start, ip(source)), GuardDecision::Accept);
            assert!(!guard.record_offence(start, ip(source), Offence::Credentials));
        }
    }
    assert!(guard.bans(start).is_empty());
}

#[test]
fn each_offence_has_its_own_limit_and_reason_of_a_ban() {
    for (number, offence) in Offence::ALL.into_iter().enumerate() {
        let (guard, start) = guard(Bans::default());
        let source = IpAddr::from([198, 51, 100, number as u8]);
        let limit = Bans::default().limit(offence);
        for _ in 1..limit {
            assert!(!guard.record_offence(start, source, offence));
        }
        assert_eq!(guard.admit(start, source), GuardDecision::Accept);
        assert!(guard.record_offence(start, source, offence));
        assert_eq!(guard.admit(start, source), GuardDecision::Banned);
        let until = start + Duration::from_millis(600_000);
        let bans = guard.bans(start);
        assert_eq!(bans.len(), 1);
        let ban = &bans[0];
        assert_eq!((ban.why, ban.count, ban.dropped, ban.times), (offence, limit, 1, 1));
        assert_eq!(ban.source.to_string(), format!("{source}/32"));
        assert!(ban.until >= until && ban.until <= until + SECOND);
    }
}

#[test]
fn only_offences_within_one_minute_are_added() {
    let (guard, start) = guard(Bans::default());
    for minute in 0..60 {
        for _ in 0..9 {
            assert!(!guard.record_offence(start + 60 * minute * SECOND, ip("198.51.100.1"), Offence::Credentials));
        }
    }
}

#[test]
fn a_ban_ends_a_second_ban_lasts_twice_as_long_and_an_operator_can_lift_a_ban() {
    let (guard, start) = guard(Bans { malformed: 1, seconds: 100, ..Bans::default() });
    let source = ip("198.51.100.1");
    assert!(guard.record_offence(start, source, Offence::Malformed));
    assert_eq!(guard.admit(start + 99 * SECOND, source), GuardDecision::Banned);
    let later = start + 101 * SECOND;
    assert_eq!(guard.admit(later, source), GuardDecision::Accept);
    assert!(guard.record_offence(later, source, Offence::Malformed));
    assert_eq!(guard.admit(later + 199 * SECOND, source), GuardDecision::Banned);
    assert_eq!(guard.bans(later)[0].times, 2);
    assert!(guard.unban(later, source));
    assert_eq!(guard.admit(later, source), GuardDecision::Accept);
    assert!(!guard.unban(later, source) && guard.bans(later).is_empty());
    assert_eq!(guard.counts(later).banned, 2);
}

#[test]
fn ipv6_sources_are_limited_by_their_64_bit_prefix() {
    let (guard, start) = guard(Bans { malformed: 2, ..Bans::default() });
    guard.record_offence(start, ip("2001:db8::1"), Offence::Malformed);
    assert!(guard.record_offence(start, ip("2001:db8::ffff:1"), Offence::Malformed));
    assert_eq!(guard.admit(start, ip("2001:db8::2")), GuardDecision::Banned);
    assert_eq!(guard.admit(start, ip("2001:db8:0:1::2")), GuardDecision::Accept);
    assert_eq!(guard.bans(start)[0].source.to_string(), "2001:db8::/64");
    assert!(guard.unban(start, ip("2001:db8::77")));
}

#[test]
fn an_authenticated_source_is_served_during_a_flood_of_unknown_sources() {
    let (guard, start) = guard(Bans { strangers_rate: 100, ..Bans::default() });
    let phone = ip("198.51.100.1");
    guard.note_authenticated(start, phone, ("alice", ""));
    let heard = (0..100_000_u32)
        .filter(|n| guard.admit(start, IpAddr::from((0x0a00_0000 + n).to_be_bytes())) == GuardDecision::Accept);
    assert_eq!(heard.count(), 200);
    assert_eq!(guard.admit(start, phone), GuardDecision::Accept);
    assert_eq!(guard.counts(start).limited_unknown, 99_800);
    assert_eq!(guard.admit(start + Duration::from_secs(3_601), phone), GuardDecision::Accept);
}

#[test]
fn a_called_source_has_no_rate_limit_but_may_not_guess_passwords() {
    let (guard, start) = guard(Bans { source_rate: 1, ..Bans::default() });
    let peer = ip("198.51.100.1");
    guard.note_called(start, peer);
    for _ in 0..10_000 {
        assert_eq!(guard.admit(start, peer), GuardDecision::Accept);
        assert!(!guard.record_offence(start, peer, Offence::Malformed));
    }
    for _ in 1..10 {
        assert!(!guard.record_offence(start, peer, Offence::Credentials));
    }
    assert!(guard.record_offence(start, peer, Offence::Credentials));
    assert_eq!(guard.admit(start, peer), GuardDecision::Banned);
}

#[test]
fn a_correct_password_clears_wrong_passwords() {
    let (guard, start) = guard(Bans::default());
    for _ in 0..100 {
        guard.record_offence(start, ip("198.51.100.1"), Offence::Challenge);
        guard.record_wrong_password(start, Some(ip("198.51.100.1")), ("alice", ""));
        guard.note_authenticated(start, ip("198.51.100.1"), ("alice", ""));
    }
    assert!(guard.bans(start).is_empty());
}

#[test]
fn a_million_sources_use_limited_memory_and_lift_no_ban() {
    let (guard, start) = guard(Bans { strangers_rate: 0, ..Bans::default() });
    let scanner = ip("198.51.100.1");
    for _ in 0..10 {
        guard.record_offence(start, scanner, Offence::Credentials);
    }
    let before = guard.lock().entries.capacity();
    for number in 0..1_000_000_u32 {
        guard.admit(start + Duration::from_micros(number.into()), IpAddr::from((0x0b00_0000 + number).to_be_bytes()));
    }
    assert_eq!(guard.lock().entries.capacity(), before);
    assert!(before * size_of::<Entry>() <= 8 << 20, "{} octets", before * size_of::<Entry>());
    assert_eq!(guard.admit(start + SECOND, scanner), GuardDecision::Banned);
}

#[test]
fn changed_bans_settings_apply_at_once_and_free_exempt_sources() {
    let now = instant();
    let guard = Guard::new(Bans { malformed: 1, ..Bans::default() }, Vec::new(), 1, now);
    let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
    for source in [one, other] {
        assert!(guard.record_offence(now, source, Offence::Malformed));
    }
    let trunk = TrunkAcl { name: "t".into(), networks: vec!["192.0.2.1/32".parse().unwrap()] };
    guard.reconfigure(Bans { malformed: 2, ..Bans::default() }, vec![trunk]);
    assert_eq!((guard.admit(now, one), guard.admit(now, other)), (GuardDecision::Accept, GuardDecision::Banned));
    guard.reconfigure(Bans { malformed: 2, ..Bans::default() }, Vec::new());
    assert!(!guard.record_offence(now, one, Offence::Malformed) && guard.record_offence(now, one, Offence::Malformed));
}

#[test]
fn another_node_of_the_cluster_is_never_limited_or_banned() {
    let (guard, start) = guard(Bans { malformed: 1, source_rate: 1, ..Bans::default() });
    let node = ip("10.0.0.2");
    assert!(guard.record_offence(start, node, Offence::Malformed));
    guard.set_nodes([node]);
    guard.reconfigure(Bans { malformed: 1, source_rate: 1, ..Bans::default() }, Vec::new());
    guard.set_hosts([ip("198.51.100.1")]);
    for _ in 0..10 {
        assert_eq!(guard.admit(start, node), GuardDecision::Accept);
        assert!(!guard.record_offence(start, node, Offence::Malformed));
    }
}

#[test]
fn the_host_of_a_trunk_is_never_banned_and_a_new_trunk_ends_the_ban_of_its_host() {
    let (guard, start) = guard(Bans { malformed: 1, ..Bans::default() });
    let carrier = ip("198.51.100.1");
    assert!(guard.record_offence(start, carrier, Offence::Malformed));
    guard.set_hosts([carrier]);
    assert_eq!(guard.admit(start, carrier), GuardDecision::Accept);
    for _ in 0..10_000 {
        assert!(!guard.record_offence(start, carrier, Offence::Credentials));
        assert_eq!(guard.admit(start, carrier), GuardDecision::Accept);
    }
    guard.reconfigure(Bans { malformed: 1, ..Bans::default() }, Vec::new());
    assert!(!guard.record_offence(start, carrier, Offence::Malformed), "other settings change no trunk's host");
    guard.set_hosts([]);
    assert!(guard.record_offence(start, carrier, Offence::Malformed), "it is no trunk's host any more");
}

#[test]
fn a_called_source_is_not_banned_unless_it_guessed_passwords() {
    for (offence, after) in [(Offence::Refused, GuardDecision::Accept), (Offence::Credentials, GuardDecision::Banned)] {
        let (guard, start) = guard(Bans { refused: 1, credentials: 1, ..Bans::default() });
        assert!(guard.record_offence(start, ip("198.51.100.1"), offence));
        guard.note_called(start, ip("198.51.100.1"));
        assert_eq!(guard.admit(start, ip("198.51.100.1")), after);
    }
}

#[test]
fn a_source_is_logged_once_in_ten_seconds_and_further_messages_are_counted() {
    let (guard, start) = guard(Bans::default());
    let lines = |at, source| (0..100).filter_map(|_| guard.take_log_line(at, ip(source))).collect::<Vec<_>>();
    assert_eq!(lines(start, "198.51.100.1"), [0]);
    assert_eq!(lines(start, "198.51.100.2"), [0], "another source");
    assert_eq!(lines(start + 9 * SECOND, "198.51.100.1"), [0; 0]);
    assert_eq!(lines(start + 10 * SECOND, "198.51.100.1"), [199]);
    let many =
        (0..1_000_u32).filter(|n| guard.take_log_line(start + 60 * SECOND, IpAddr::from(n.to_be_bytes())).is_some());
    assert_eq!(many.count(), 3, "of all sources together, a few a second");
}

#[test]
fn a_ban_of_another_node_holds_for_its_rest_and_spares_exempt_sources() {
    let (now, bans) = (instant(), Bans { never: vec!["192.0.2.0/24".parse().unwrap()], ..Bans::default() });
    let guard = Guard::new(bans, Vec::new(), 1, now);
    let (attacker, own) = ("198.51.100.7".parse().unwrap(), "192.0.2.9".parse().unwrap());
    for source in [attacker, own] {
        guard.ban(now, source, Offence::Credentials, Duration::from_secs(60));
    }
    assert_eq!(guard.admit(now, attacker), GuardDecision::Banned);
    assert_eq!(guard.admit(now, own), GuardDecision::Accept);
    let bans = guard.bans(now);
    assert_eq!(bans.iter().map(|ban| (ban.why, ban.count)).collect::<Vec<_>>(), [(Offence::Credentials, 0)]);
    // A later note does not make the ban longer.
    guard.ban(now, attacker, Offence::Flood, Duration::from_secs(600));
    assert_eq!(guard.admit(now + Duration::from_secs(61), attacker), GuardDecision::Accept);
}
