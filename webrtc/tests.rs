//! Two connections, a virtual clock and a virtual link.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use super::*;

static OURS: LazyLock<Arc<Identity>> = LazyLock::new(|| Arc::new(Identity::generate().unwrap()));
static THEIRS: LazyLock<Arc<Identity>> = LazyLock::new(|| Arc::new(Identity::generate().unwrap()));

static RSA: LazyLock<Arc<Identity>> = LazyLock::new(|| Arc::new(Identity::generate_rsa().unwrap()));

/// The far end of the first side: its kind, its certificate, and the role of the first side.
#[derive(Clone, Copy)]
struct Setting {
    far_end: FarEnd,
    theirs: &'static LazyLock<Arc<Identity>>,
    role: Role,
}

const BROWSER: Setting = Setting { far_end: FarEnd::Browser, theirs: &THEIRS, role: Role::Server };
const SETTINGS: [Setting; 5] = [
    BROWSER,
    Setting { far_end: FarEnd::Phone, ..BROWSER },
    Setting { far_end: FarEnd::Phone, role: Role::Client, ..BROWSER },
    Setting { far_end: FarEnd::Phone, theirs: &RSA, ..BROWSER },
    Setting { far_end: FarEnd::Phone, theirs: &RSA, role: Role::Client },
];

const MS: Duration = Duration::from_millis(1);

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn credentials(name: &str) -> Credentials {
    Credentials { ufrag: name.repeat(4), password: name.repeat(24) }
}

fn remote(name: &str, identity: &Identity, role: Role) -> Remote {
    Remote {
        credentials: credentials(name),
        fingerprints: vec![identity.fingerprint().clone()],
        role,
        lite: false,
        far_end: FarEnd::Browser,
    }
}

/// The start of a virtual clock.
#[expect(clippy::disallowed_methods, reason = "a virtual clock needs some origin")]
fn origin() -> Instant {
    Instant::now()
}

/// What the link does with a datagram.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Deliver,
    Lose,
    Repeat,
    Delay,
}

/// A generator of pseudo-random numbers.
struct Random(u32);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9);
        let mixed = (self.0 ^ self.0 >> 16).wrapping_mul(0x85EB_CA6B);
        let mixed = (mixed ^ mixed >> 13).wrapping_mul(0xC2B2_AE35);
        mixed ^ mixed >> 16
    }
}

/// One side: a connection, its address, its events.
struct Side {
    connection: Connection,
    address: SocketAddr,
    /// The source that the other side sees, if a NAT changes it.
    outside: SocketAddr,
    events: Vec<Event>,
}

impl Side {
    fn keys(&self) -> Option<&Keys> {
        self.events.iter().rev().find_map(|event| match event {
            Event::Keys(keys) => Some(keys),
            _ => None,
        })
    }

    fn failure(&self) -> Option<&Failure> {
        self.events.iter().rev().find_map(|event| match event {
            Event::Failed(failure) => Some(failure),
            _ => None,
        })
    }
}

/// Decides about a datagram, with the sender and the content.
type Decision = Box<dyn FnMut(usize, &[u8]) -> Fate>;

struct Link {
    setting: Setting,
    now: Instant,
    sides: [Side; 2],
    /// The datagrams on the way: the time of arrival, the receiver, the source, the content.
    way: VecDeque<(Instant, usize, SocketAddr, Vec<u8>)>,
    fate: Decision,
    sent: [usize; 2],
}

impl Link {
    /// Two sides that know each other's description. The first has made the offer, and the second is the DTLS client.
    fn new() -> Link {
        Link::of(BROWSER)
    }

    fn of(setting: Setting) -> Link {
        let mut link = Link::unknown_of(setting);
        link.describe();
        link
    }

    /// Two sides without the other's description.
    fn unknown() -> Link {
        Link::unknown_of(BROWSER)
    }

    /// Two sides that know each other's description. The first only answers checks.
    fn lite() -> Link {
        let mut link = Link::unknown();
        let now = link.now;
        let local = [LocalAddress { protocol: Protocol::Udp, address: link.sides[0].address }];
        link.sides[0].connection = Connection::new(now, Arc::clone(&OURS), &credentials("a"), &local, true, true);
        link.sides[0].connection.set_remote(now, &remote("b", &THEIRS, Role::Server));
        let lite = Remote { lite: true, ..remote("a", &OURS, Role::Client) };
        link.sides[1].connection.set_remote(now, &lite);
        link.sides[1].connection.add_candidate(now, &Connection::local_candidates(&local)[0]);
        link
    }

    fn unknown_of(setting: Setting) -> Link {
        let now = origin();
        let side = |name: &str, identity: &Arc<Identity>, at: &str, controlling| {
            let address = address(at);
            let local = [LocalAddress { protocol: Protocol::Udp, address }];
            let connection = Connection::new(now, Arc::clone(identity), &credentials(name), &local, controlling, false);
            Side { connection, address, outside: address, events: Vec::new() }
        };
        let sides = [side("a", &OURS, "192.0.2.1:4000", true), side("b", setting.theirs, "192.0.2.2:5000", false)];
        Link { setting, now, sides, way: VecDeque::new(), fate: Box::new(|_, _| Fate::Deliver), sent: [0; 2] }
    }

    fn describe(&mut self) {
        let now = self.now;
        let Setting { far_end, theirs, role } = self.setting;
        let other = if role == Role::Server { Role::Client } else { Role::Server };
        self.sides[0].connection.set_remote(now, &Remote { far_end, ..remote("b", theirs, role) });
        self.sides[1].connection.set_remote(now, &Remote { far_end, ..remote("a", &OURS, other) });
        for (from, to) in [(0, 1), (1, 0)] {
            let local = LocalAddress { protocol: Protocol::Udp, address: self.sides[from].outside };
            for line in Connection::local_candidates(&[local]) {
                self.sides[to].connection.add_candidate(now, &line);
            }
        }
    }

    /// Lets `time` pass.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        for step in 0.. {
            assert!(step < 1_000, "the time does not advance");
            self.flush();
            let next = self
                .way
                .iter()
                .map(|(at, ..)| *at)
                .chain(self.sides.iter_mut().filter_map(|side| side.connection.poll_timeout()))
                .min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            for side in &mut self.sides {
                side.connection.handle_timeout(self.now);
            }
            self.flush();
            let now = self.now;
            while let Some(place) = self.way.iter().position(|(at, ..)| *at <= now) {
                let (_, to, from, octets) = self.way.remove(place).unwrap();
                self.receive(to, from, &octets);
            }
        }
        self.now = end;
    }

    fn receive(&mut self, to: usize, from: SocketAddr, octets: &[u8]) -> Datagram {
        let side = &mut self.sides[to];
        let route = Route { protocol: Protocol::Udp, local: side.address, remote: from };
        side.connection.handle_datagram(self.now, route, octets)
    }

    fn flush(&mut self) {
        for from in 0..2 {
            while let Some(transmit) = self.sides[from].connection.poll_transmit() {
                self.sent[from] += 1;
                let to = 1 - from;
                let reached = transmit.route.remote == self.sides[to].outside;
                let fate = (self.fate)(from, &transmit.octets);
                let arrival = match fate {
                    _ if !reached => continue,
                    Fate::Lose => continue,
                    Fate::Delay => self.now + 120 * MS,
                    Fate::Deliver | Fate::Repeat => self.now + 10 * MS,
                };
                let source = self.sides[from].outside;
                self.way.push_back((arrival, to, source, transmit.octets.clone()));
                if fate == Fate::Repeat {
                    self.way.push_back((arrival + 5 * MS, to, source, transmit.octets));
                }
            }
        }
        for side in &mut self.sides {
            while let Some(event) = side.connection.poll_event() {
                side.events.push(event);
            }
        }
    }

    fn assert_connected(&self) {
        let [a, b] = &self.sides;
        let (ours, theirs) = (a.keys().expect("keys"), b.keys().expect("keys"));
        assert_eq!((ours.suite, &ours.send, &ours.receive), (theirs.suite, &theirs.receive, &theirs.send));
        assert_ne!(ours.send, ours.receive);
        assert_eq!(a.connection.route().map(|route| route.remote), Some(b.outside));
        assert_eq!(b.connection.route().map(|route| route.remote), Some(a.outside));
        assert_eq!((a.failure(), b.failure()), (None, None));
    }
}

#[test]
fn two_connections_find_a_route_and_agree_on_keys() {
    for setting in SETTINGS {
        let mut link = Link::of(setting);
        link.run(1_000 * MS);
        link.assert_connected();
        let rsa = Arc::ptr_eq(setting.theirs, &RSA);
        let expected = if rsa { CertificateKind::Rsa } else { CertificateKind::Ecdsa };
        assert_eq!(link.sides[0].keys().map(|keys| keys.certificate), Some(expected));
        assert_eq!(link.sides[1].keys().map(|keys| keys.certificate), Some(CertificateKind::Ecdsa));
    }
    let mut link = Link::new();
    link.run(1_000 * MS);
    // A repeated description changes nothing.
    let sent = link.sent;
    link.sides[0].events.clear();
    let now = link.now;
    link.sides[0].connection.set_remote(now, &remote("b", &THEIRS, Role::Server));
    link.flush();
    assert_eq!((link.sent, &link.sides[0].events), (sent, &Vec::new()));
}

#[test]
fn a_connection_is_complete_despite_any_single_loss_repetition_or_delay() {
    let fates = [Fate::Lose, Fate::Repeat, Fate::Delay];
    for (setting, fate) in SETTINGS.into_iter().flat_map(|setting| fates.map(|fate| (setting, fate))) {
        for unlucky in 0..30 {
            let mut link = Link::of(setting);
            let mut number = 0;
            link.fate = Box::new(move |_, _| {
                number += 1;
                if number == unlucky { fate } else { Fate::Deliver }
            });
            link.run(4_000 * MS);
            link.assert_connected();
        }
    }
}

#[test]
fn a_connection_is_complete_when_a_third_of_the_datagrams_are_lost() {
    for seed in 1..=20_u32 {
        let mut link = Link::new();
        let mut random = seed.wrapping_mul(0x9E37_79B9);
        link.fate = Box::new(move |_, _| {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            if random % 3 == 0 { Fate::Lose } else { Fate::Deliver }
        });
        link.run(20_000 * MS);
        link.assert_connected();
    }
}

#[test]
fn a_connection_to_a_phone_is_complete_when_a_fifth_of_the_datagrams_are_lost() {
    let mut incomplete = Vec::new();
    for (setting, seed) in SETTINGS[1..].iter().flat_map(|setting| (1..=20).map(move |seed| (*setting, seed))) {
        let mut link = Link::of(setting);
        let mut random = Random(seed);
        link.fate = Box::new(move |_, _| if random.next().is_multiple_of(5) { Fate::Lose } else { Fate::Deliver });
        link.run(20_000 * MS);
        let [ours, theirs] = link.sides.each_ref().map(|side| side.keys().is_some());
        if !(ours && theirs) {
            incomplete.push((setting.role, seed, ours, theirs));
            continue;
        }
        link.assert_connected();
    }
    // The library repeats a flight at most seven times.
    assert!(incomplete.len() <= 1, "{incomplete:?}");
}

#[test]
fn a_far_end_behind_a_nat_is_found_by_its_checks() {
    let mut link = Link::unknown();
    link.sides[1].outside = address("198.51.100.9:61000");
    let now = link.now;
    link.sides[0].connection.set_remote(now, &remote("b", &THEIRS, Role::Server));
    link.sides[1].connection.set_remote(now, &remote("a", &OURS, Role::Client));
    // Only the far end has candidates of the other side: its own have a name that nobody resolves.
    link.sides[0].connection.add_candidate(now, "candidate:1 1 udp 2113937151 4f1a.local 5000 typ host");
    for line in
        Connection::local_candidates(&[LocalAddress { protocol: Protocol::Udp, address: link.sides[0].address }])
    {
        link.sides[1].connection.add_candidate(now, &line);
    }
    link.run(2_000 * MS);
    link.assert_connected();
    assert_eq!(link.sides[0].connection.counts().skipped_candidates, 1);
}

#[test]
fn checks_and_a_client_hello_that_come_before_the_description_are_not_lost() {
    let mut link = Link::unknown();
    let now = link.now;
    link.sides[1].connection.set_remote(now, &remote("a", &OURS, Role::Client));
    for line in
        Connection::local_candidates(&[LocalAddress { protocol: Protocol::Udp, address: link.sides[0].address }])
    {
        link.sides[1].connection.add_candidate(now, &line);
    }
    link.run(300 * MS);
    let now = link.now;
    link.sides[0].connection.set_remote(now, &remote("b", &THEIRS, Role::Server));
    link.run(500 * MS);
    link.assert_connected();
}

#[test]
fn a_certificate_with_another_fingerprint_brings_no_keys() {
    for setting in SETTINGS {
        let mut link = Link::unknown_of(setting);
        let now = link.now;
        let stranger = Identity::generate().unwrap();
        link.describe();
        let Setting { far_end, role, .. } = setting;
        // The second side does not have the certificate of this description.
        let local = [LocalAddress { protocol: Protocol::Udp, address: link.sides[0].address }];
        link.sides[0].connection = Connection::new(now, Arc::clone(&OURS), &credentials("a"), &local, true, false);
        link.sides[0].connection.set_remote(now, &Remote { far_end, ..remote("b", &stranger, role) });
        link.run(5_000 * MS);
        assert_eq!(link.sides[0].failure(), Some(&Failure::Fingerprint));
        assert_eq!(link.sides[0].keys(), None);
    }
}

#[test]
fn changed_records_of_a_phone_change_nothing_but_its_own_handshake() {
    let mut random = Random(7);
    let mut next = move || random.next();
    let mut complete = 0;
    for round in 0..600 {
        let setting = SETTINGS[1 + round % 4];
        let mut link = Link::of(setting);
        for _ in 0..60 {
            link.run(10 * MS);
            // Changes some octets of a datagram on the way, or inserts a changed copy before it.
            let Some(place) = link.way.iter().position(|(.., octets)| matches!(octets.first(), Some(20..=63))) else {
                continue;
            };
            let (at, to, source, mut octets) = link.way[place].clone();
            for _ in 0..=next() % 3 {
                let index = next() as usize % octets.len();
                octets[index] = next().to_be_bytes()[0];
            }
            match next() % 4 {
                0 => link.way[place].3 = octets,
                1 => link.way.insert(place, (at, to, source, octets)),
                _ => {}
            }
        }
        let [ours, theirs] = link.sides.each_ref().map(|side| side.keys());
        if let (Some(ours), Some(theirs)) = (ours, theirs) {
            assert_eq!((&ours.send, &ours.receive), (&theirs.receive, &theirs.send));
            complete += 1;
        }
    }
    assert!(complete > 10, "{complete}");
}

#[test]
fn datagrams_of_strangers_change_nothing_and_are_counted() {
    let mut link = Link::new();
    link.run(1_000 * MS);
    link.assert_connected();
    let before = link.sides[0].connection.route();
    let stranger = address("203.0.113.66:7000");
    // A STUN request with a wrong password, a STUN header without content, a ClientHello, a record of another kind, noise.
    let mut others = IceOfStranger::request();
    others.extend([
        vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42],
        vec![22, 254, 255, 0],
        vec![20; 60],
        vec![77; 10],
        vec![],
    ]);
    for octets in &others {
        assert_eq!(link.receive(0, stranger, octets), Datagram::Refused);
    }
    let counts = link.sides[0].connection.counts();
    assert_eq!((counts.refused_stun, counts.refused_dtls, counts.unknown), (2, 2, 2));
    link.sides[0].events.clear();
    link.run(20_000 * MS);
    assert_eq!(link.sides[0].connection.route(), before);
    assert_eq!(link.sides[0].events, []);
}

/// Another agent that does not know our password.
struct IceOfStranger;

impl IceOfStranger {
    fn request() -> Vec<Vec<u8>> {
        let now = origin();
        let local = [LocalAddress { protocol: Protocol::Udp, address: address("203.0.113.66:7000") }];
        let mut connection = Connection::new(now, Arc::clone(&THEIRS), &credentials("b"), &local, true, false);
        let mut forged = remote("a", &OURS, Role::Client);
        forged.credentials.password = "x".repeat(24);
        connection.set_remote(now, &forged);
        let ours = [LocalAddress { protocol: Protocol::Udp, address: address("192.0.2.1:4000") }];
        connection.add_candidate(now, &Connection::local_candidates(&ours)[0]);
        connection.handle_timeout(now + 50 * MS);
        vec![connection.poll_transmit().unwrap().octets]
    }
}

/// Chrome 144 stops its answers to our checks when several pairs are open, and goes on with its own checks.
#[test]
fn a_far_end_that_checks_but_answers_no_check_consents() {
    let mut link = Link::new();
    link.run(1_000 * MS);
    link.assert_connected();
    link.sides.iter_mut().for_each(|side| side.events.clear());
    // The message type of a success response (RFC 8489 §5).
    link.fate =
        Box::new(|from, octets| if from == 1 && octets.starts_with(&[1, 1]) { Fate::Lose } else { Fate::Deliver });
    let route = link.sides[0].connection.route();
    link.run(Duration::from_secs(120));
    assert!(link.sides[0].events.is_empty() && route.is_some(), "{:?}", link.sides[0].events);
    assert_eq!(link.sides[0].connection.route(), route);
}

#[test]
fn a_far_end_without_consent_is_interrupted_then_restored_or_ended() {
    for (silence, ends) in [(20, false), (40, true)] {
        let mut link = Link::new();
        link.run(1_000 * MS);
        link.assert_connected();
        link.sides.iter_mut().for_each(|side| side.events.clear());
        link.fate = Box::new(|_, _| Fate::Lose);
        link.run(Duration::from_secs(silence));
        assert_eq!(link.sides[0].events.first(), Some(&Event::Interrupted));
        link.fate = Box::new(|_, _| Fate::Deliver);
        link.run(Duration::from_secs(8));
        let expected = if ends { Event::Failed(Failure::ConsentExpired) } else { Event::Restored };
        assert_eq!(link.sides[0].events.get(1), Some(&expected), "{silence}");
    }
}

#[test]
fn a_connection_without_a_route_fails_after_30_s() {
    let mut link = Link::new();
    link.fate = Box::new(|_, _| Fate::Lose);
    link.run(Duration::from_secs(29));
    assert_eq!(link.sides[0].failure(), None);
    link.run(Duration::from_secs(2));
    assert_eq!(link.sides[0].failure(), Some(&Failure::NoRoute));
}

#[test]
fn packets_follow_a_far_end_whose_nat_gives_it_another_address() {
    for moved in [0, 1] {
        let mut link = Link::new();
        link.run(Duration::from_secs(20));
        link.assert_connected();
        let keys = link.sides[moved].keys().cloned();
        link.sides[moved].outside = address("198.51.100.77:33000");
        // The next check of the moved side comes after at most 3 s.
        link.run(Duration::from_secs(9));
        link.assert_connected();
        assert_eq!(link.sides[moved].keys().cloned(), keys);
        // And once more, back to the first address.
        link.sides[moved].outside = link.sides[moved].address;
        link.run(Duration::from_secs(9));
        link.assert_connected();
    }
}

#[test]
fn repeated_stun_messages_from_elsewhere_move_nothing_and_give_no_consent() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    for is_lite in [false, true] {
        let mut link = if is_lite { Link::lite() } else { Link::new() };
        let all = Arc::clone(&seen);
        link.fate = Box::new(move |from, octets| {
            if from == 1 && octets.first().is_some_and(|first| *first < 4) {
                all.lock().unwrap().push(octets.to_vec());
            }
            Fate::Deliver
        });
        link.run(Duration::from_secs(20));
        link.assert_connected();
        let route = link.sides[0].connection.route();
        link.sides[0].events.clear();
        // The far end falls silent, and a stranger sends again all that it has sent.
        link.fate = Box::new(|from, _| if from == 1 { Fate::Lose } else { Fate::Deliver });
        let stranger = address("203.0.113.66:6000");
        for _ in 0..20 {
            let all: Vec<Vec<u8>> = seen.lock().unwrap().clone();
            for octets in &all {
                link.receive(0, stranger, octets);
                link.receive(0, link.sides[1].outside, octets);
            }
            link.run(Duration::from_secs(2));
        }
        assert_eq!(link.sides[0].connection.route(), route);
        assert_eq!(link.sides[0].failure(), Some(&Failure::ConsentExpired), "lite: {is_lite}");
        seen.lock().unwrap().clear();
    }
}

#[test]
fn an_interruption_of_all_ways_leaves_the_route() {
    let mut link = Link::new();
    link.run(Duration::from_secs(20));
    let routes = link.sides.each_ref().map(|side| side.connection.route());
    link.fate = Box::new(|_, _| Fate::Lose);
    link.run(Duration::from_secs(12));
    link.fate = Box::new(|_, _| Fate::Deliver);
    link.run(Duration::from_secs(20));
    assert_eq!(link.sides.each_ref().map(|side| side.connection.route()), routes);
    link.assert_connected();
}

#[test]
fn an_ice_restart_moves_the_route_and_keeps_the_keys() {
    let mut link = Link::new();
    link.run(1_000 * MS);
    link.assert_connected();
    let keys = link.sides[0].keys().cloned();
    // The far end is on another network now.
    link.sides[1].outside = address("198.51.100.77:33000");
    link.run(500 * MS);
    let now = link.now;
    for (side, own, other, identity, role) in [(0, "c", "d", &THEIRS, Role::Server), (1, "d", "c", &OURS, Role::Client)]
    {
        let connection = &mut link.sides[side].connection;
        connection.restart(now, &credentials(own));
        connection.set_remote(now, &remote(other, identity, role));
    }
    let local = [LocalAddress { protocol: Protocol::Udp, address: link.sides[0].address }];
    link.sides[1].connection.add_candidate(now, &Connection::local_candidates(&local)[0]);
    link.run(2_000 * MS);
    link.assert_connected();
    assert_eq!(link.sides[0].keys().cloned(), keys);
    assert_eq!(link.sides[0].connection.route().map(|route| route.remote), Some(address("198.51.100.77:33000")));
}

#[test]
fn a_far_end_with_another_certificate_gets_new_keys_and_the_old_ones_serve_until_then() {
    let mut link = Link::new();
    link.run(1_000 * MS);
    let old = link.sides[0].keys().cloned();
    let now = link.now;
    let other = Arc::new(Identity::generate().unwrap());
    let at = link.sides[1].address;
    let local = [LocalAddress { protocol: Protocol::Udp, address: at }];
    let mut tab = Connection::new(now, Arc::clone(&other), &credentials("e"), &local, false, false);
    tab.set_remote(now, &remote("f", &OURS, Role::Client));
    let ours = [LocalAddress { protocol: Protocol::Udp, address: link.sides[0].address }];
    tab.add_candidate(now, &Connection::local_candidates(&ours)[0]);
    link.sides[1] = Side { connection: tab, address: at, outside: at, events: Vec::new() };
    link.sides[0].connection.restart(now, &credentials("f"));
    link.sides[0].connection.set_remote(now, &remote("e", &other, Role::Server));
    assert_eq!(link.sides[0].keys().cloned(), old);
    link.run(2_000 * MS);
    link.assert_connected();
    assert_ne!(link.sides[0].keys().cloned(), old);
}

#[test]
fn a_lite_side_answers_checks_and_connects() {
    let mut link = Link::lite();
    link.run(2_000 * MS);
    link.assert_connected();
    link.run(Duration::from_secs(60));
    assert_eq!(link.sides[0].failure(), None);
    // And packets follow the far end to another address.
    link.sides[1].outside = address("198.51.100.77:33000");
    link.run(Duration::from_secs(9));
    link.assert_connected();
}

#[test]
fn the_end_of_one_side_ends_the_other_after_2_s() {
    for setting in SETTINGS {
        let mut link = Link::of(setting);
        link.run(1_000 * MS);
        link.sides[1].connection.close();
        link.run(1_900 * MS);
        assert_eq!(link.sides[0].failure(), None);
        link.run(200 * MS);
        assert_eq!(link.sides[0].failure(), Some(&Failure::Closed));
    }
}

#[test]
fn candidates_are_limited_and_malformed_ones_are_skipped() {
    let mut link = Link::unknown();
    let now = link.now;
    let connection = &mut link.sides[0].connection;
    connection.set_remote(now, &remote("b", &THEIRS, Role::Server));
    for line in
        ["", "candidate:", "candidate:1 1 udp x 192.0.2.9 1 typ host", "candidate:1 1 udp 1 224.0.0.1 9 typ host"]
    {
        connection.add_candidate(now, line);
    }
    assert_eq!(connection.counts().skipped_candidates, 4);
    // A far end that begins streams says so, and its checks show where they come from.
    connection.add_candidate(now, "candidate:1 1 tcp 1518280447 192.0.2.9 9 typ host tcptype active");
    while let Some(transmit) = connection.poll_transmit() {
        assert_eq!(transmit.route.protocol, Protocol::Udp);
    }
    for port in 1_000..1_100 {
        connection.add_candidate(now, &format!("a=candidate:1 1 udp 2113937151 192.0.2.9 {port} typ host\r\n"));
    }
    assert_eq!(connection.counts().skipped_candidates, 4 + 100 - 27);
}

#[test]
fn a_fingerprint_is_read_and_written_in_the_form_of_the_signalling() {
    let text = OURS.fingerprint().to_string();
    assert_eq!(text.parse::<Fingerprint>().as_ref(), Ok(OURS.fingerprint()));
    assert_eq!(text.to_lowercase().parse::<Fingerprint>().as_ref(), Ok(OURS.fingerprint()));
    assert_eq!((text.len(), &text[..8]), (8 + 95, "sha-256 "));
    for wrong in
        ["", "sha-256", "sha-1 AA:BB", "sha-256 AA:BB", &text[..100], &format!("{text}:00"), &text.replace(':', "-")]
    {
        assert!(wrong.parse::<Fingerprint>().is_err(), "{wrong}");
    }
}
