use super::*;

fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Returns a master key of this suite. Each seed gives a different key.
fn master(suite: Suite, seed: u8) -> Master {
    let octets: Vec<u8> = (0..suite.master_length()).map(|place| seed.wrapping_mul(31) ^ place as u8).collect();
    Master::new(suite, &octets).unwrap()
}

fn keys(suite: Suite, send: u8, receive: u8) -> Keys {
    Keys { send: master(suite, send), receive: master(suite, receive), mki: 0 }
}

/// Two ends with matching keys.
fn pair(suite: Suite) -> (Srtp, Srtp) {
    (Srtp::new(keys(suite, 1, 2)).unwrap(), Srtp::new(keys(suite, 2, 1)).unwrap())
}

fn packet(ssrc: u32, sequence: u16) -> Vec<u8> {
    let [s0, s1] = sequence.to_be_bytes();
    let mut packet = vec![0x80, 0, s0, s1, 0, 0, 0, 160];
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0xAB; 160]);
    packet
}

fn report(ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, 6];
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0xCD; 20]);
    packet
}

fn protected(srtp: &mut Srtp, packet: &[u8]) -> Vec<u8> {
    let mut room = packet.to_vec();
    room.resize(packet.len() + LONGEST_TRAILER, 0);
    let length = srtp.protect(&mut room, packet.len()).unwrap();
    room.truncate(length);
    room
}

fn protected_rtcp(srtp: &mut Srtp, packet: &[u8]) -> Vec<u8> {
    let mut room = packet.to_vec();
    room.resize(packet.len() + LONGEST_TRAILER, 0);
    let length = srtp.protect_rtcp(&mut room, packet.len()).unwrap();
    room.truncate(length);
    room
}

fn opened(srtp: &mut Srtp, packet: &[u8]) -> Result<Vec<u8>, Refused> {
    let mut room = packet.to_vec();
    let length = srtp.unprotect(&mut room)?;
    room.truncate(length);
    Ok(room)
}

fn opened_rtcp(srtp: &mut Srtp, packet: &[u8]) -> Result<Vec<u8>, Refused> {
    let mut room = packet.to_vec();
    let length = srtp.unprotect_rtcp(&mut room)?;
    room.truncate(length);
    Ok(room)
}

/// Several implementations use these test vectors. The master key and salt come from RFC 3711 appendix B.3.
#[test]
fn known_packets_are_encrypted_octet_by_octet() {
    let counter = octets("E1F97A0D3E018BE0D64FA32C06DE4139 0EC675AD498AFEEBB6960B3AABE6");
    let gcm = octets("000102030405060708090a0b0c0d0e0f a0a1a2a3a4a5a6a7a8a9aaab");
    let plain = octets("800f1234 decafbad cafebabe abababab abababab abababab abababab");
    for (suite, key, expected) in [
        (
            Suite::Aes128Sha1_80,
            &counter,
            "800f1234 decafbad cafebabe 4e55dc4c e79978d8 8ca4d215 949d2402 b78d6acc 99ea179b 8dbb",
        ),
        (Suite::Aes128Sha1_32, &counter, "800f1234 decafbad cafebabe 4e55dc4c e79978d8 8ca4d215 949d2402 b78d6acc"),
        (
            Suite::Aes128Gcm,
            &gcm,
            "800f1234 decafbad cafebabe c5002ede 04cfdd2e b91159e0 880aa06e d2976826 f796b201 df3131a1 27e8a392",
        ),
    ] {
        let master = Master::new(suite, key).unwrap();
        let keys = Keys { send: master.clone(), receive: master, mki: 0 };
        let mut srtp = Srtp::new(keys).unwrap();
        assert_eq!(protected(&mut srtp, &plain), octets(expected), "{suite:?}");
        assert_eq!(opened(&mut srtp, &octets(expected)), Ok(plain.clone()), "{suite:?}");
    }
    let master = Master::new(Suite::Aes128Sha1_80, &counter).unwrap();
    let mut srtp = Srtp::new(Keys { send: master.clone(), receive: master, mki: 0 }).unwrap();
    let report = octets("81c8000b cafebabe abababab abababab abababab abababab");
    protected_rtcp(&mut srtp, &report);
    let second = "81c8000b cafebabe 7128035b e487b9bd bef89041 f977a5a8 80000001 993e08cd 54d6c123 0798";
    assert_eq!(protected_rtcp(&mut srtp, &report), octets(second));
    assert_eq!(opened_rtcp(&mut srtp, &octets(second)), Ok(report));
}

#[test]
fn every_suite_decrypts_its_own_packets_and_refuses_changed_ones() {
    for suite in Suite::ALL {
        let (mut a, mut b) = pair(suite);
        for (sequence, length) in (100..).zip([0, 1, 4, 160, 640]) {
            let mut plain = packet(7, sequence);
            plain.resize(12 + length, 0x55);
            let closed = protected(&mut a, &plain);
            assert_eq!(closed.len(), plain.len() + suite.tag_length());
            assert_eq!(closed[..12], plain[..12]);
            for place in [1, 4, 8, 12.min(closed.len() - 1), closed.len() - 1] {
                let mut touched = closed.clone();
                touched[place] ^= 1;
                assert!(opened(&mut b, &touched).is_err(), "{suite:?} {length} {place}");
            }
            assert_eq!(opened(&mut b, &closed), Ok(plain), "{suite:?} {length}");
        }
        let report = report(7);
        let closed = protected_rtcp(&mut a, &report);
        assert_eq!(closed.len(), report.len() + 4 + suite.rtcp_tag_length());
        assert!(!closed.windows(8).any(|eight| eight == [0xCD; 8]));
        for place in 0..closed.len() {
            let mut touched = closed.clone();
            touched[place] ^= 0x40;
            assert!(opened_rtcp(&mut b, &touched).is_err(), "{suite:?} {place}");
        }
        assert_eq!(opened_rtcp(&mut b, &closed), Ok(report));
        assert_eq!(opened_rtcp(&mut b, &closed), Err(Refused::Replayed));
    }
}

#[test]
fn extensions_and_csrcs_are_authenticated_but_not_encrypted() {
    for suite in Suite::ALL {
        let (mut a, mut b) = pair(suite);
        let mut plain = vec![0x91, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 1, 2, 3, 4, 0xBE, 0xDE, 0, 1, 0xF0, 1, 2, 3];
        plain.extend([0xAB; 20]);
        let closed = protected(&mut a, &plain);
        assert_eq!(closed[..24], plain[..24]);
        assert!(!closed[24..].windows(8).any(|eight| eight == [0xAB; 8]));
        let mut touched = closed.clone();
        touched[22] ^= 1;
        assert_eq!(opened(&mut b, &touched), Err(Refused::Forged));
        assert_eq!(opened(&mut b, &closed), Ok(plain));
    }
}

#[test]
fn a_replayed_packet_is_refused_also_after_the_sequence_has_wrapped() {
    for suite in Suite::ALL {
        let (mut a, mut b) = pair(suite);
        let first: Vec<Vec<u8>> =
            (65_530..=65_535).chain(0..10).map(|sequence| protected(&mut a, &packet(7, sequence))).collect();
        for closed in &first {
            assert!(opened(&mut b, closed).is_ok());
            assert_eq!(opened(&mut b, closed), Err(Refused::Replayed));
        }
        for turn in (0..65_536).step_by(4_000) {
            let sequence = 10u16.wrapping_add(turn as u16);
            assert!(opened(&mut b, &protected(&mut a, &packet(7, sequence))).is_ok(), "{turn}");
        }
        // The packet's sequence number alone would be acceptable again, but its roll-over counter is different.
        assert!(opened(&mut b, &first[8]).is_err());
    }
}

#[test]
fn every_ssrc_has_its_own_roll_over_counter() {
    let (mut a, mut b) = pair(Suite::Aes128Sha1_80);
    let mut other = Srtp::new(keys(Suite::Aes128Sha1_80, 1, 2)).unwrap();
    for sequence in [65_534, 65_535, 0, 1] {
        assert!(opened(&mut b, &protected(&mut a, &packet(7, sequence))).is_ok());
    }
    for sequence in [40_000, 40_001] {
        assert!(opened(&mut b, &protected(&mut other, &packet(8, sequence))).is_ok());
    }
    assert!(opened(&mut b, &protected(&mut a, &packet(7, 2))).is_ok());
}

#[test]
fn at_most_16_authentic_ssrcs_are_remembered() {
    let (_, mut b) = pair(Suite::Aes128Sha1_80);
    for ssrc in 0..1_000 {
        assert_eq!(opened(&mut b, &[packet(ssrc, 1), vec![0; 10]].concat()), Err(Refused::Forged));
    }
    assert!(b.receiver.streams.is_empty());
    for ssrc in 0..100 {
        let mut a = Srtp::new(keys(Suite::Aes128Sha1_80, 1, 2)).unwrap();
        assert!(opened(&mut b, &protected(&mut a, &packet(ssrc, 1))).is_ok());
    }
    assert_eq!(b.receiver.streams.len(), STREAMS);
    assert!((84..100).all(|ssrc| b.receiver.streams.iter().any(|stream| stream.ssrc == ssrc)));
}

#[test]
fn an_index_is_used_once_only_for_sending() {
    let (mut a, _) = pair(Suite::Aes128Gcm);
    let plain = packet(7, 5);
    let mut room = [plain.clone(), vec![0; LONGEST_TRAILER]].concat();
    assert!(a.protect(&mut room.clone(), plain.len()).is_some());
    assert_eq!(a.protect(&mut room, plain.len()), None);
    let mut tight = packet(7, 6);
    let length = tight.len();
    assert_eq!(a.protect(&mut tight, length), None, "no room for the tag");
}

#[test]
fn a_resumed_context_continues_after_the_skipped_packets() {
    for skipped in [0, 128, 40_000] {
        let (mut a, mut b) = pair(Suite::Aes128Sha1_80);
        let first = 30_000_u16;
        assert!(opened(&mut b, &protected(&mut a, &packet(7, first))).is_ok());
        let mut resumed = Srtp::resume(a.state(), skipped).unwrap();
        // These packets are sent after the snapshot.
        let last = first.wrapping_add(skipped);
        for number in (1..=skipped).step_by(1_000) {
            assert!(opened(&mut b, &protected(&mut a, &packet(7, first.wrapping_add(number)))).is_ok());
        }
        let mut used = [packet(7, last), vec![0; LONGEST_TRAILER]].concat();
        let length = used.len() - LONGEST_TRAILER;
        assert_eq!(resumed.protect(&mut used, length), None, "{skipped}");
        let plain = packet(7, last.wrapping_add(1));
        assert_eq!(opened(&mut b, &protected(&mut resumed, &plain)), Ok(plain), "{skipped}");
    }
}

#[test]
fn unchanged_srtp_keys_keep_their_indices_and_new_keys_overlap_with_the_old() {
    for suite in Suite::ALL {
        let (mut a, mut b) = pair(suite);
        for sequence in [65_535, 0] {
            assert!(opened(&mut b, &protected(&mut a, &packet(7, sequence))).is_ok());
        }
        // Both sides set the same keys again, so neither counter restarts.
        a.rekey(keys(suite, 1, 2));
        b.rekey(keys(suite, 2, 1));
        assert!(opened(&mut b, &protected(&mut a, &packet(7, 1))).is_ok());
        let late = protected(&mut a, &packet(7, 2));
        let lost = protected(&mut a, &packet(7, 3));
        a.rekey(keys(suite, 3, 2));
        b.rekey(keys(suite, 2, 3));
        // The roll-over counter has restarted with the new key.
        assert!(opened(&mut b, &protected(&mut a, &packet(7, 4))).is_ok());
        assert!(opened(&mut b, &late).is_ok());
        for sequence in 5..5 + OVERLAP as u16 {
            assert!(opened(&mut b, &protected(&mut a, &packet(7, sequence))).is_ok());
        }
        assert_eq!(opened(&mut b, &lost), Err(Refused::Forged));
        // The stream of b still has its old key and its old counter.
        assert!(opened(&mut a, &protected(&mut b, &packet(9, 1))).is_ok());
    }
}

#[test]
fn a_far_end_that_keeps_its_roll_over_counter_under_a_new_key_is_accepted() {
    for suite in Suite::ALL {
        let (mut a, mut b) = pair(suite);
        for sequence in [65_535, 0, 1] {
            assert!(opened(&mut b, &protected(&mut a, &packet(7, sequence))).is_ok());
        }
        let mut sender = Sender::new(&master(suite, 3)).unwrap();
        sender.window.note(a.sender.window.newest().unwrap());
        a.sender = sender;
        b.rekey(keys(suite, 2, 3));
        for sequence in 2..10 {
            let plain = packet(7, sequence);
            assert_eq!(opened(&mut b, &protected(&mut a, &plain)), Ok(plain), "{suite:?} {sequence}");
        }
    }
}

#[test]
fn a_master_key_identifier_is_skipped() {
    for suite in Suite::ALL {
        let mut a = Srtp::new(keys(suite, 1, 2)).unwrap();
        let mut b = Srtp::new(Keys { mki: 4, ..keys(suite, 2, 1) }).unwrap();
        let insert = |mut closed: Vec<u8>, tag: usize| {
            let place = if suite.is_aead() { closed.len() } else { closed.len() - tag };
            closed.splice(place..place, [0, 0, 0, 1]);
            closed
        };
        let plain = packet(7, 1);
        let closed = insert(protected(&mut a, &plain), suite.tag_length());
        assert_eq!(opened(&mut b, &closed), Ok(plain), "{suite:?}");
        let plain = report(7);
        let closed = insert(protected_rtcp(&mut a, &plain), suite.rtcp_tag_length());
        assert_eq!(opened_rtcp(&mut b, &closed), Ok(plain), "{suite:?}");
    }
}

#[test]
fn random_octets_are_refused_without_a_panic() {
    let mut state = 1u64;
    for suite in Suite::ALL {
        for mki in [0, 128] {
            let mut b = Srtp::new(Keys { mki, ..keys(suite, 2, 1) }).unwrap();
            b.rekey(Keys { mki, ..keys(suite, 2, 3) });
            for length in 0..200 {
                let mut noise: Vec<u8> = (0..length)
                    .map(|_| {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        (state >> 33) as u8
                    })
                    .collect();
                if let Some(first) = noise.first_mut() {
                    *first = 0x80 | (*first & 0x3F);
                }
                assert!(b.unprotect(&mut noise.clone()).is_err());
                assert!(b.unprotect_rtcp(&mut noise).is_err());
            }
        }
    }
}

#[test]
fn debug_output_contains_no_srtp_key() {
    let shown = format!("{:?} {:?}", keys(Suite::Aes256Gcm, 1, 2), Srtp::new(keys(Suite::Aes128Gcm, 1, 2)));
    assert!(shown.contains("AEAD_AES_256_GCM(..)") && !shown.contains("octets"), "{shown}");
}
