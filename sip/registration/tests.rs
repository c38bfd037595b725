use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::digest::Credentials;
use crate::flow::Transport;
use crate::testing::instant;
use tandem_net::digest::parse_challenges;

const CHALLENGE: &str = "Digest realm=\"carrier\", nonce=\"1\", algorithm=SHA-256, qop=\"auth\"";

struct Bench {
    now: Instant,
    rng: StdRng,
    machine: Registration,
}

fn targets(count: u8) -> Vec<Target> {
    let target = |at: u8| Target { transport: Transport::Udp, address: ([192, 0, 2, at], 5060).into(), identity: None };
    (1..=count).map(target).collect()
}

impl Bench {
    /// Creates a registration with `count` addresses, which is about to try the first address.
    fn asking(count: u8) -> Self {
        let (now, mut rng) = (instant(), StdRng::from_seed([3; 32]));
        let register = Register {
            registrar: "sip:carrier.example".into(),
            address: "sip:tandem@carrier.example".into(),
            contact_user: "tandem".into(),
            expires: Duration::from_secs(600),
        };
        let session = digest::Session::new(Credentials { username: "tandem".into(), password: "secret".into() });
        let machine = Registration::new(now, register, Some(session), &mut rng);
        let mut bench = Self { now, rng, machine };
        assert!(bench.next() < Duration::from_secs(1));
        assert_eq!(bench.locate(count), Step::Send);
        bench
    }

    /// Advances the clock to the next timeout. Returns the time by which the clock was advanced.
    fn next(&mut self) -> Duration {
        let at = self.machine.next_timeout().expect("a timer runs");
        let wait = at - self.now;
        self.now = at;
        wait
    }

    fn locate(&mut self, count: u8) -> Step {
        assert!(self.machine.is_due(self.now));
        self.machine.handle_located(self.now, targets(count), &mut self.rng)
    }

    fn reply(&mut self, reply: Reply) -> Step {
        self.machine.handle_reply(self.now, reply, &mut self.rng)
    }

    fn status(&mut self, status: u16) -> Step {
        self.reply(Reply { status, ..Reply::default() })
    }

    fn challenge(&mut self) -> Step {
        self.reply(Reply { status: 401, challenges: parse_challenges(CHALLENGE, false), ..Reply::default() })
    }

    fn silence(&mut self) -> Step {
        self.machine.handle_silence(self.now, EndCause::Timeout, &mut self.rng)
    }

    fn at(&self) -> u8 {
        match self.machine.target().expect("a target").address.ip() {
            std::net::IpAddr::V4(ip) => ip.octets()[3],
            std::net::IpAddr::V6(_) => 0,
        }
    }
}

#[test]
fn a_registration_is_refreshed_before_it_expires() {
    let mut bench = Bench::asking(1);
    assert_eq!(bench.reply(Reply { status: 200, expires: Some(300), ..Reply::default() }), Step::Wait);
    assert_eq!(bench.machine.status(), Registered::Yes);
    let refresh = bench.next().as_secs();
    assert!((256..=270).contains(&refresh), "{refresh}");
    assert_eq!(bench.locate(1), Step::Send);
    assert_eq!(bench.machine.status(), Registered::Yes, "while it is refreshed");
}

#[test]
fn a_short_lifetime_is_refreshed_at_half() {
    let mut bench = Bench::asking(1);
    bench.reply(Reply { status: 200, expires: Some(40), ..Reply::default() });
    let refresh = bench.next().as_secs();
    assert!((18..=20).contains(&refresh), "{refresh}");
}

#[test]
fn a_challenge_is_answered_once_and_wrong_credentials_wait_long() {
    let mut bench = Bench::asking(2);
    assert_eq!(bench.challenge(), Step::Send);
    assert_eq!(bench.challenge(), Step::Wait, "the same realm refused the answer");
    assert_eq!(bench.machine.status(), Registered::Refused(401));
    assert!((15..=30).contains(&bench.next().as_secs()));
    bench.locate(2);
    bench.challenge();
    bench.challenge();
    assert!((30..=60).contains(&bench.next().as_secs()), "longer each time");
}

#[test]
fn a_423_repeats_the_register_once_with_min_expires() {
    let mut bench = Bench::asking(1);
    assert_eq!(bench.reply(Reply { status: 423, min_expires: Some(3_600), ..Reply::default() }), Step::Send);
    assert_eq!(bench.machine.expires(), 3_600);
    assert_eq!(bench.reply(Reply { status: 423, min_expires: Some(7_200), ..Reply::default() }), Step::Wait, "no loop");
    assert_eq!(bench.machine.status(), Registered::Refused(423));
}

#[test]
fn after_a_failed_registrar_the_next_is_tried_and_after_the_last_a_pause_follows() {
    let mut bench = Bench::asking(3);
    assert_eq!((bench.at(), bench.status(503)), (1, Step::Send));
    assert_eq!((bench.at(), bench.silence()), (2, Step::Send));
    assert_eq!((bench.at(), bench.silence()), (3, Step::Wait));
    assert_eq!(bench.machine.status(), Registered::Unanswered);
    let pause = bench.next().as_millis();
    assert!((2_500..=5_000).contains(&pause), "{pause}");
    bench.locate(1);
    bench.silence();
    let pause = bench.next().as_millis();
    assert!((5_000..=10_000).contains(&pause), "twice as long: {pause}");
}

#[test]
fn a_failed_registration_reports_its_cause_and_the_time_of_the_next_attempt() {
    let failure = |bench: &Bench| bench.machine.failure().unwrap().to_string();
    let mut bench = Bench::asking(2);
    bench.status(500);
    assert!(bench.machine.failure().is_none(), "the next address is asked at once");
    bench.silence();
    let again = bench.next().as_secs_f64().ceil();
    assert_eq!(
        failure(&bench),
        format!("udp:192.0.2.2:5060 did not answer (RFC 3261 Timer F); next attempt in {again} s")
    );
    bench.locate(1);
    bench.machine.handle_silence(
        bench.now,
        EndCause::Unconnected(std::io::ErrorKind::ConnectionRefused),
        &mut bench.rng,
    );
    assert!(
        failure(&bench).starts_with("udp:192.0.2.1:5060: connection refused; next attempt in "),
        "{}",
        failure(&bench)
    );
    bench.next();
    bench.locate(1);
    bench.reply(Reply { status: 408, retry_after: Some(120), ..Reply::default() });
    assert_eq!(failure(&bench), "udp:192.0.2.1:5060 answered 408; next attempt in 120 s", "theirs, not our timer");
    bench.next();
    bench.locate(0);
    assert!(
        failure(&bench).starts_with("the registrar's host name has no address; next attempt in "),
        "{}",
        failure(&bench)
    );
    assert_eq!(bench.machine.status(), Registered::Unanswered);
    bench.next();
    bench.locate(1);
    bench.status(200);
    assert!(bench.machine.failure().is_none());
}

#[test]
fn retry_after_of_a_registrar_delays_the_next_attempt() {
    let mut bench = Bench::asking(1);
    bench.reply(Reply { status: 503, retry_after: Some(120), ..Reply::default() });
    assert_eq!(bench.next().as_secs(), 120);
}

#[test]
fn a_refresh_goes_first_to_the_server_that_has_the_contact() {
    let mut bench = Bench::asking(3);
    bench.silence();
    bench.reply(Reply { status: 200, expires: Some(300), ..Reply::default() });
    bench.next();
    bench.locate(3);
    assert_eq!(bench.at(), 2);
}

#[test]
fn a_failed_refresh_keeps_the_registration_until_it_expires() {
    let mut bench = Bench::asking(1);
    bench.reply(Reply { status: 200, expires: Some(60), ..Reply::default() });
    let granted = bench.now + Duration::from_secs(60);
    bench.next();
    while bench.now < granted {
        assert_eq!(bench.machine.status(), Registered::Yes);
        if bench.machine.is_due(bench.now) {
            bench.machine.handle_located(bench.now, targets(1), &mut bench.rng);
            bench.silence();
        }
        bench.next();
    }
    bench.machine.is_due(bench.now);
    assert_ne!(bench.machine.status(), Registered::Yes);
}

#[test]
fn a_name_without_addresses_is_looked_up_again_later() {
    let (mut bench, before) = (Bench::asking(1), Step::Wait);
    bench.silence();
    bench.next();
    assert_eq!(bench.locate(0), before);
    assert!(bench.next() >= Duration::from_secs(2));
    assert_eq!(bench.locate(1), Step::Send);
}

#[test]
fn a_registration_is_withdrawn_with_credentials_if_challenged() {
    let mut bench = Bench::asking(1);
    bench.reply(Reply { status: 200, expires: Some(300), ..Reply::default() });
    assert_eq!(bench.machine.stop(), Step::Send);
    assert_eq!((bench.machine.expires(), bench.machine.is_withdrawing()), (0, true));
    assert_eq!(bench.challenge(), Step::Send);
    assert_eq!(bench.status(200), Step::Wait);
    assert!(!bench.machine.is_withdrawing() && bench.machine.next_timeout().is_none());
}

#[test]
fn an_inactive_registration_is_not_withdrawn() {
    let mut bench = Bench::asking(1);
    assert_eq!(bench.machine.stop(), Step::Wait);
    assert!(!bench.machine.is_withdrawing());
    assert_eq!(bench.status(200), Step::Wait, "too late");
}

#[test]
fn the_lifetime_of_a_registration_is_the_lifetime_of_its_own_contact() {
    let ours = |expires: &str| format!("<sip:t@h;line={:032x}>{expires}", 7);
    let granted = |lines: &[&str]| {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        granted(&lines, 7)
    };
    assert_eq!(granted(&["<sip:other@h>;expires=10", &ours(";expires=20")]), Some(20));
    let list = format!("\"a, b\" <sip:o@h>;expires=1, {}", ours(";q=1;Expires=30"));
    assert_eq!(granted(&[&list]), Some(30));
    assert_eq!(granted(&["<sip:rewritten@sbc>;expires=40"]), Some(40), "the only one");
    assert_eq!(granted(&["<sip:a@h>;expires=1", "<sip:b@h>;expires=2"]), None);
    assert_eq!(granted(&[&ours("")]), None);
    assert_eq!(leading_number(" 120 (busy);duration=9"), Some(120));
    assert_eq!(leading_number("99999999999"), Some(u32::MAX));
}
