//! Legs with SRTP. They are bridged with other legs, which use SRTP or plain RTP.

use super::*;
use crate::rtp::srtp::{Keys, LONGEST_TRAILER, Srtp as Protector};
use crate::sdp::{Protection, RANDOM, Srtp};

const EVENTS: &str = "a=rtpmap:101 telephone-event/8000\r\n";
pub(super) const KEY: &str = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR\r\n";
pub(super) const NEW_KEY: &str =
    "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:YUB5T2RfRmV1bHZ1bHZ1bHZ1bHZ1bHZ1bHZ1bHZ1\r\n";
pub(super) const GCM: &str = "a=crypto:1 AEAD_AES_128_GCM inline:AAECAwQFBgcICQoLDA0OD6ChoqOkpaanqKmqqw==\r\n";

/// The two legs, and the SRTP context of A's far end.
pub(super) struct Encrypted {
    pub(super) pair: MediaPair,
    pub(super) far_end: Protector,
}

impl Encrypted {
    pub(super) fn new(key: &str) -> Encrypted {
        let mut pair = MediaPair::new();
        pair.a.negotiation.set_srtp(Srtp::Required, Some(&[7; RANDOM]));
        let far_end = Protector::new(offer(&mut pair, key)).unwrap();
        pair.bridge();
        Encrypted { pair, far_end }
    }

    pub(super) fn rekey(&mut self, key: &str) {
        let keys = offer(&mut self.pair, key);
        self.far_end.rekey(keys);
    }

    /// Returns the next packet of A's far end, encrypted.
    pub(super) fn next(&mut self, payload_type: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = self.pair.a.next(payload_type, payload);
        self.pair.a.timestamp = self.pair.a.timestamp.wrapping_add(160);
        let length = packet.len();
        packet.resize(length + LONGEST_TRAILER, 0);
        let length = self.far_end.protect(&mut packet, length).unwrap();
        packet.truncate(length);
        packet
    }

    pub(super) fn talk(&mut self, frames: usize) {
        for _ in 0..frames {
            let packet = self.next(0, &[0x10; 160]);
            self.pair.send(Side::A, Flow::Rtp, packet, NOW);
            self.pair.send_audio(Side::B, 0x20, NOW);
            self.pair.advance(20);
        }
    }

    /// Returns the packets that were sent to A, decrypted.
    pub(super) fn heard_by_a(&mut self) -> Vec<Sent> {
        let sent = self.pair.heard(Side::A);
        sent.into_iter()
            .map(|mut sent| {
                let length = self.far_end.unprotect(&mut sent.packet).unwrap();
                sent.packet.truncate(length);
                sent
            })
            .collect()
    }
}

/// Makes A's far end offer `key`. Returns the keys from the view of the far end.
fn offer(pair: &mut MediaPair, key: &str) -> Keys {
    pair.offer(Side::A, &format!("m=audio 4000 RTP/SAVP 0 101\r\n{EVENTS}{key}"));
    let Protection::Keyed(keys) = &pair.a.negotiation.plan().unwrap().transport.protection else { panic!("no keys") };
    Keys { send: keys.receive.clone(), receive: keys.send.clone(), mki: 0 }
}

fn stats(pair: &mut MediaPair, side: Side) -> crate::Stats {
    pair.close(side);
    pair.advance(100);
    let events = pair.events(side);
    events
        .into_iter()
        .find_map(|(_, event)| if let Event::Closed { stats, .. } = event { Some(*stats) } else { None })
        .unwrap()
}

#[test]
fn a_plain_and_an_encrypted_leg_exchange_audio_across_sequence_wraps() {
    for key in [KEY, GCM] {
        let mut both = Encrypted::new(key);
        both.talk(60);
        let b = both.pair.heard(Side::B);
        assert_eq!(b.iter().filter(|sent| is_loud(sent)).count(), 60);
        assert_one_line(&b);
        let wire: Vec<Sent> = both.pair.heard(Side::A);
        assert!(wire.iter().all(|sent| sent.packet.len() > 172));
        for mut sent in wire.into_iter().skip(1) {
            let same = |octets: &[u8]| octets.windows(2).all(|two| two[0] == two[1]);
            assert!(!same(sent.payload()), "not encrypted");
            let length = both.far_end.unprotect(&mut sent.packet).unwrap();
            sent.packet.truncate(length);
            assert!(same(sent.payload()) && sent.payload().len() == 160);
        }
        // The far end's sequence numbers began at 65,500 and have wrapped.
        assert!(both.pair.a.sequence < 100);
    }
}

#[test]
fn prompts_digits_and_reports_are_encrypted() {
    let mut both = Encrypted::new(KEY);
    both.pair.command(Side::A, play(1, 10));
    both.pair.advance(220);
    let heard = both.heard_by_a();
    assert_eq!(heard.iter().filter(|sent| is_loud(sent)).count(), 10);
    both.pair.command(Side::A, Command::SendDigits { op: OpId(2), digits: "5".into(), duration_ms: 100 });
    both.pair.advance(300);
    assert!(both.heard_by_a().iter().any(|sent| sent.header().payload_type == 101 && sent.payload()[0] == 5));

    let digit_packets: Vec<Vec<u8>> = [80u16, 160, 240]
        .map(|duration| {
            let [high, low] = duration.to_be_bytes();
            both.next(101, &[7, 0x8A, high, low])
        })
        .into();
    both.pair.events(Side::A);
    for packet in digit_packets {
        both.pair.send(Side::A, Flow::Rtp, packet, NOW);
        both.pair.advance(20);
    }
    assert!(both.pair.events(Side::A).iter().any(|(_, event)| matches!(event, Event::Dtmf { digit: '7', .. })));

    both.talk(400);
    let reports = both.pair.reports(Side::A);
    assert!(!reports.is_empty());
    for mut sent in reports {
        let length = both.far_end.unprotect_rtcp(&mut sent.packet).unwrap();
        assert!(rtcp::read(&sent.packet[..length], 0, |_| {}));
    }
    let mut report = vec![0; rtcp::LONGEST + LONGEST_TRAILER];
    let mut place = [0; rtcp::LONGEST];
    let length = rtcp::write_report(0xAA, None, None, false, &mut place);
    report[..length].copy_from_slice(&place[..length]);
    let plain = report[..length].to_vec();
    let length = both.far_end.protect_rtcp(&mut report, length).unwrap();
    report.truncate(length);
    both.pair.send(Side::A, Flow::Rtcp, report, NOW);
    both.pair.send(Side::A, Flow::Rtcp, plain, NOW);
    both.pair.advance(20);
    let stats = stats(&mut both.pair, Side::A);
    assert_eq!((stats.dropped_srtp, stats.dropped_rtcp, stats.dropped_malformed), (1, 0, 0));
}

#[test]
fn packets_without_the_srtp_key_are_dropped_and_do_not_latch() {
    let mut both = Encrypted::new(KEY);
    let unknown = SocketAddr::from(([127, 0, 0, 9], 9_000));
    let plain = both.pair.a.next(0, &[0x10; 160]);
    for _ in 0..10 {
        both.pair.send_from(Side::A, Flow::Rtp, unknown, plain.clone(), NOW);
        both.pair.advance(20);
    }
    assert!(both.pair.heard(Side::B).iter().all(|sent| !is_loud(sent)));
    assert!(both.pair.heard(Side::A).iter().all(|sent| sent.to != unknown));
    both.talk(10);
    let replayed = both.next(0, &[0x10; 160]);
    for _ in 0..3 {
        both.pair.send(Side::A, Flow::Rtp, replayed.clone(), NOW);
    }
    both.pair.advance(20);
    assert_eq!(both.pair.heard(Side::B).iter().filter(|sent| is_loud(sent)).count(), 11);
    let stats = stats(&mut both.pair, Side::A);
    assert_eq!((stats.packets_in, stats.dropped_srtp), (11, 12));
}

#[test]
fn a_new_srtp_key_or_suite_causes_no_gap() {
    let mut both = Encrypted::new(KEY);
    both.talk(60);
    both.pair.heard(Side::B);
    // Packets that are on their way during the answer to the new offer still use the old key.
    let late: Vec<Vec<u8>> = (0..3).map(|_| both.next(0, &[0x10; 160])).collect();
    both.heard_by_a();
    both.rekey(NEW_KEY);
    for packet in late {
        both.pair.send(Side::A, Flow::Rtp, packet, NOW);
        both.pair.advance(20);
    }
    both.talk(20);
    assert_eq!(both.pair.heard(Side::B).iter().filter(|sent| is_loud(sent)).count(), 23);
    assert!(both.heard_by_a().len() >= 20);
    both.rekey(GCM);
    both.talk(20);
    assert_eq!(both.pair.heard(Side::B).iter().filter(|sent| is_loud(sent)).count(), 20);
    assert!(both.heard_by_a().len() >= 20);
}

#[test]
fn before_an_answer_to_offered_srtp_keys_no_packet_is_sent_or_accepted() {
    let mut pair = MediaPair::new();
    pair.bridge();
    let mut caller = crate::sdp::Negotiation::new(crate::sdp::Local { address: [127, 0, 0, 1].into(), port: 1, id: 1 });
    caller.set_srtp(Srtp::Optional, Some(&[7; RANDOM]));
    let _ = caller.offer();
    let (key, plan) = (pair.a.key, caller.plan().unwrap().clone());
    assert_eq!(plan.transport.protection, Protection::Open);
    pair.apply(key, plan);
    pair.heard(Side::B);
    pair.talk(5, 0x10, 0x20);
    assert!(pair.heard(Side::B).iter().all(|sent| !is_loud(sent)));
    assert!(pair.heard(Side::A).is_empty());
}
