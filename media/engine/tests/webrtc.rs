//! A browser at leg A: ICE, DTLS and SRTP on one port. Leg B is a plain phone.

use std::sync::LazyLock;

use tandem_webrtc::{
    Connection, Credentials, Event as ConnectionEvent, Failure, FarEnd, Fingerprint, Identity, Keys as DtlsKeys,
    LocalAddress, Protocol, Remote, Role, Route, Suite as DtlsSuite,
};

use super::*;
use crate::network::Flow;
use crate::rtp::srtp::{Keys, LONGEST_TRAILER, Master, Srtp as Protector, Suite};

static CERTIFICATE: LazyLock<Arc<Identity>> = LazyLock::new(|| Arc::new(Identity::generate().unwrap()));

/// A browser: its connection, its SRTP context, its RTP.
struct Browser {
    connection: Connection,
    credentials: Credentials,
    address: SocketAddr,
    srtp: Option<Protector>,
    /// The decrypted RTP packets from the engine.
    heard: Vec<Sent>,
    reports: usize,
    failure: Option<Failure>,
}

impl Browser {
    fn new(pair: &MediaPair, name: &str, offers: bool) -> Browser {
        let credentials = Credentials { ufrag: name.repeat(4), password: name.repeat(24) };
        let address = pair.a.address;
        let local = [LocalAddress { protocol: Protocol::Udp, address }];
        let connection = Connection::new(pair.instant(), Arc::clone(&CERTIFICATE), &credentials, &local, offers, false);
        Browser { connection, credentials, address, srtp: None, heard: Vec::new(), reports: 0, failure: None }
    }

    /// The browser's description. Its candidates have names, as those of a page without a microphone.
    fn description(&self, setup: &str) -> String {
        let Credentials { ufrag, password } = &self.credentials;
        format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE audio\r\n\
             m=audio 9 UDP/TLS/RTP/SAVPF 0 101\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=mid:audio\r\n\
             a=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\na=fingerprint:{}\r\na=setup:{setup}\r\n\
             a=candidate:1 1 udp 2113937151 4f1a0b.local 50000 typ host\r\na=rtcp-mux\r\na=sendrecv\r\n\
             a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n",
            CERTIFICATE.fingerprint()
        )
    }

    /// Takes the engine's description.
    fn take(&mut self, now: Instant, description: &str, role: Role) {
        let value = |name: &str| {
            let line = description.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_else(|| panic!("no {name} in {description}")).to_owned()
        };
        let remote = Remote {
            credentials: Credentials { ufrag: value("a=ice-ufrag:"), password: value("a=ice-pwd:") },
            fingerprints: vec![value("a=fingerprint:").parse::<Fingerprint>().unwrap()],
            role,
            lite: false,
            far_end: FarEnd::Browser,
        };
        self.connection.set_remote(now, &remote);
        for line in description.lines().filter(|line| line.starts_with("a=candidate:")) {
            self.connection.add_candidate(now, line);
        }
    }

    /// Lets `milliseconds` pass for the engine and the browser.
    fn run(&mut self, pair: &mut MediaPair, milliseconds: u64) {
        for _ in 0..milliseconds {
            self.connection.handle_timeout(pair.instant());
            while let Some(transmit) = self.connection.poll_transmit() {
                pair.send_from(Side::A, Flow::Rtp, self.address, transmit.octets, NOW);
            }
            while let Some(event) = self.connection.poll_event() {
                match event {
                    ConnectionEvent::Keys(keys) => self.srtp = Protector::new(srtp_keys(&keys)),
                    ConnectionEvent::Failed(failure) => self.failure = Some(failure),
                    _ => {}
                }
            }
            pair.advance(1);
            for sent in pair.heard(Side::A) {
                self.receive(pair.instant(), sent);
            }
            assert!(pair.reports(Side::A).is_empty(), "RTCP must share the port");
        }
    }

    fn receive(&mut self, now: Instant, mut sent: Sent) {
        assert_eq!(sent.to, self.address);
        if !(128..=191).contains(&sent.packet[0]) {
            let local = self.address;
            let route = Route { protocol: Protocol::Udp, local, remote: "127.0.0.1:20000".parse().unwrap() };
            self.connection.handle_datagram(now, route, &sent.packet);
            return;
        }
        let srtp = self.srtp.as_mut().expect("media before the keys");
        if (200..=207).contains(&sent.packet[1]) {
            srtp.unprotect_rtcp(&mut sent.packet).unwrap();
            self.reports += 1;
            return;
        }
        let length = srtp.unprotect(&mut sent.packet).unwrap();
        sent.packet.truncate(length);
        self.heard.push(sent);
    }

    /// Sends 20 ms of audio.
    fn say(&mut self, pair: &mut MediaPair, octet: u8) {
        let mut packet = pair.a.next(0, &[octet; 160]);
        pair.a.timestamp = pair.a.timestamp.wrapping_add(160);
        let length = packet.len();
        packet.resize(length + LONGEST_TRAILER, 0);
        let length = self.srtp.as_mut().expect("keys").protect(&mut packet, length).unwrap();
        packet.truncate(length);
        pair.send_from(Side::A, Flow::Rtp, self.address, packet, NOW);
    }

    fn talk(&mut self, pair: &mut MediaPair, frames: usize) {
        for _ in 0..frames {
            self.say(pair, 0x10);
            pair.send_audio(Side::B, 0x20, NOW);
            self.run(pair, 20);
        }
    }
}

fn srtp_keys(keys: &DtlsKeys) -> Keys {
    let suite = match keys.suite {
        DtlsSuite::Aes128Sha1_80 => Suite::Aes128Sha1_80,
        DtlsSuite::Aes128Gcm => Suite::Aes128Gcm,
        DtlsSuite::Aes256Gcm => Suite::Aes256Gcm,
    };
    let master = |octets: &[u8]| Master::new(suite, octets).unwrap();
    Keys { send: master(&keys.send), receive: master(&keys.receive), mki: 0 }
}

fn apply_plan(pair: &mut MediaPair) {
    let (key, plan) = pair.plan(Side::A);
    pair.apply(key, plan);
}

fn text(octets: &[u8]) -> String {
    String::from_utf8(octets.to_vec()).unwrap()
}

/// A bridge between a browser that has called and a phone.
fn called() -> (MediaPair, Browser) {
    let mut pair = MediaPair::new();
    pair.renew_a();
    pair.bridge();
    let mut browser = Browser::new(&pair, "b", true);
    let answer = text(&pair.a.negotiation.answer(browser.description("actpass").as_bytes()).unwrap());
    assert!(answer.contains("m=audio 20000 UDP/TLS/RTP/SAVPF 0 101\r\n"), "{answer}");
    assert!(answer.contains("a=setup:passive\r\n") && answer.contains("a=mid:audio\r\n"), "{answer}");
    assert!(answer.contains("a=group:BUNDLE audio\r\n") && answer.contains("a=rtcp-mux\r\n"), "{answer}");
    apply_plan(&mut pair);
    browser.take(pair.instant(), &answer, Role::Client);
    browser.run(&mut pair, 400);
    assert!(browser.srtp.is_some());
    (pair, browser)
}

#[test]
fn a_browser_that_calls_and_a_phone_hear_each_other() {
    let (mut pair, mut browser) = called();
    pair.heard(Side::B);
    browser.heard.clear();
    browser.talk(&mut pair, 50);
    assert_eq!(pair.heard(Side::B).iter().filter(|sent| is_loud(sent)).count(), 50);
    assert_eq!(browser.heard.iter().filter(|sent| is_loud(sent)).count(), 50);
    assert_one_line(&browser.heard);
    browser.talk(&mut pair, 250);
    assert!(browser.reports > 0);
    assert!(pair.events(Side::A).iter().all(|(_, event)| !matches!(event, Event::TransportFailed { .. })));
}

#[test]
fn a_browser_that_is_called_answers_our_offer() {
    let mut pair = MediaPair::new();
    pair.renew_a();
    pair.bridge();
    pair.a.negotiation.set_codecs(&[crate::codec::Codec::Pcmu]);
    pair.a.negotiation.offer_ice();
    let offer = text(&pair.a.negotiation.offer());
    assert!(
        offer.contains("m=audio 20000 UDP/TLS/RTP/SAVPF 0 101\r\n") && offer.contains("a=setup:actpass\r\n"),
        "{offer}"
    );
    apply_plan(&mut pair);
    let mut browser = Browser::new(&pair, "b", false);
    // The browser's checks and its ClientHello arrive before its answer.
    browser.take(pair.instant(), &offer, Role::Client);
    browser.run(&mut pair, 200);
    pair.a.negotiation.accept(browser.description("active").as_bytes()).unwrap();
    apply_plan(&mut pair);
    browser.run(&mut pair, 400);
    pair.heard(Side::B);
    browser.talk(&mut pair, 50);
    assert_eq!(pair.heard(Side::B).iter().filter(|sent| is_loud(sent)).count(), 50);
    assert!(browser.heard.iter().filter(|sent| is_loud(sent)).count() >= 50);
}

#[test]
fn hold_changes_neither_the_connection_nor_the_keys_nor_the_role() {
    let (mut pair, mut browser) = called();
    browser.talk(&mut pair, 10);
    for direction in ["sendonly", "sendrecv"] {
        let offer = browser.description("actpass").replace("sendrecv", direction);
        let answer = text(&pair.a.negotiation.answer(offer.as_bytes()).unwrap());
        assert!(answer.contains("a=setup:passive\r\n"), "{answer}");
        apply_plan(&mut pair);
        browser.take(pair.instant(), &answer, Role::Client);
        browser.talk(&mut pair, 100);
    }
    browser.heard.clear();
    browser.talk(&mut pair, 50);
    assert_eq!(browser.heard.iter().filter(|sent| is_loud(sent)).count(), 50);
}

#[test]
fn a_browser_that_moves_restarts_ice_and_keeps_its_keys() {
    let (mut pair, mut browser) = called();
    browser.talk(&mut pair, 10);
    browser.address = "127.0.0.77:50123".parse().unwrap();
    browser.credentials = Credentials { ufrag: "cccc".into(), password: "c".repeat(24) };
    let now = pair.instant();
    let (credentials, connection) = (browser.credentials.clone(), &mut browser.connection);
    connection.restart(now, &credentials);
    let answer = text(&pair.a.negotiation.answer(browser.description("actpass").as_bytes()).unwrap());
    apply_plan(&mut pair);
    browser.take(pair.instant(), &answer, Role::Client);
    // The browser's socket has the new address, although its old candidate has the old one.
    for _ in 0..20 {
        browser.run_moved(&mut pair);
    }
    browser.heard.clear();
    pair.heard(Side::B);
    browser.talk(&mut pair, 50);
    assert_eq!(browser.heard.iter().filter(|sent| is_loud(sent)).count(), 50);
    assert_eq!(pair.heard(Side::B).iter().filter(|sent| is_loud(sent)).count(), 50);
}

impl Browser {
    /// Lets 20 ms pass. Packets to the old address are lost.
    fn run_moved(&mut self, pair: &mut MediaPair) {
        for _ in 0..20 {
            self.connection.handle_timeout(pair.instant());
            while let Some(transmit) = self.connection.poll_transmit() {
                pair.send_from(Side::A, Flow::Rtp, self.address, transmit.octets, NOW);
            }
            while self.connection.poll_event().is_some() {}
            pair.advance(1);
            for sent in pair.heard(Side::A).into_iter().filter(|sent| sent.to == self.address) {
                let local = pair.a.address;
                if !(128..=191).contains(&sent.packet[0]) {
                    let route = Route { protocol: Protocol::Udp, local, remote: "127.0.0.1:20000".parse().unwrap() };
                    self.connection.handle_datagram(pair.instant(), route, &sent.packet);
                }
            }
            pair.reports(Side::A);
        }
    }
}

#[test]
fn nothing_but_stun_and_dtls_is_sent_before_the_keys() {
    let mut pair = MediaPair::new();
    pair.renew_a();
    pair.bridge();
    let browser = Browser::new(&pair, "b", true);
    pair.a.negotiation.answer(browser.description("actpass").as_bytes()).unwrap();
    apply_plan(&mut pair);
    pair.heard(Side::A);
    pair.talk(50, 0x10, 0x20);
    // A stranger's plain RTP is refused, and nothing at all is sent to it.
    assert!(pair.heard(Side::A).is_empty() && pair.reports(Side::A).is_empty());
    assert!(!pair.events(Side::A).iter().any(|(_, event)| *event == Event::FirstPacket));
}

#[test]
fn a_browser_that_never_comes_is_reported() {
    let mut pair = MediaPair::new();
    let browser = Browser::new(&pair, "b", true);
    pair.a.negotiation.answer(browser.description("actpass").as_bytes()).unwrap();
    apply_plan(&mut pair);
    pair.pass(31_000 / 5, Duration::from_millis(5));
    let failed = Event::TransportFailed { reason: Failure::NoRoute };
    assert!(pair.events(Side::A).iter().any(|(_, event)| *event == failed));
}

#[test]
fn the_end_of_a_session_ends_the_browsers_connection() {
    let (mut pair, mut browser) = called();
    pair.close(Side::A);
    browser.run(&mut pair, 2_100);
    assert_eq!(browser.failure, Some(Failure::Closed));
}

#[test]
fn a_session_with_a_browser_continues_elsewhere_with_its_keys() {
    let (mut pair, mut browser) = called();
    browser.talk(&mut pair, 10);
    pair.resume_elsewhere(NOW, 128);
    browser.heard.clear();
    pair.heard(Side::B);
    browser.talk(&mut pair, 100);
    assert!(pair.heard(Side::B).iter().filter(|sent| is_loud(sent)).count() >= 95);
    assert!(browser.heard.iter().filter(|sent| is_loud(sent)).count() >= 95);
    assert_eq!(browser.failure, None);
}
