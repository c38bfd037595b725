use super::*;
use crate::rtp::srtp::{LONGEST_TRAILER, Srtp as SrtpSession};
use crate::sdp::{Local, MediaPlan, Negotiation};

const KEY: &str = "PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR";
const OTHER: &str = "YUB5T2RfRmV1bHZ1bHZ1bHZ1bHZ1bHZ1bHZ1bHZ1";
const GCM_128: &str = "AAECAwQFBgcICQoLDA0OD6ChoqOkpaanqKmqqw==";

fn leg(srtp: Srtp, seed: u8) -> Negotiation {
    let mut negotiation = Negotiation::new(Local { address: "127.0.0.1".parse().unwrap(), port: 20_000, id: 7 });
    let mut random = [seed; RANDOM];
    random.iter_mut().zip(0u8..).for_each(|(octet, place)| *octet = octet.wrapping_add(place));
    negotiation.set_srtp(srtp, Some(&random));
    negotiation
}

fn body(media: &str) -> String {
    format!("v=0\r\no=- 1 1 IN IP4 127.0.0.2\r\ns=-\r\nc=IN IP4 127.0.0.2\r\nt=0 0\r\n{media}")
}

fn media(profile: &str, keys: &[&str]) -> String {
    let keys: String = keys.iter().map(|key| format!("a=crypto:{key}\r\n")).collect();
    body(&format!("m=audio 4000 {profile} 0\r\n{keys}"))
}

fn one() -> String {
    format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}")
}

fn answer(leg: &mut Negotiation, offer: &str) -> Result<String, String> {
    let answer = leg.answer(offer.as_bytes()).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(answer.to_vec()).unwrap())
}

fn offered(leg: &mut Negotiation) -> String {
    String::from_utf8(leg.offer().to_vec()).unwrap()
}

fn keyed(plan: Option<&MediaPlan>) -> Option<Keys> {
    match &plan?.transport.protection {
        Protection::Keyed(keys) => Some((**keys).clone()),
        Protection::Plain | Protection::Open | Protection::Dtls => None,
    }
}

fn crypto_lines(body: &str) -> Vec<&str> {
    body.lines().filter_map(|line| line.strip_prefix("a=crypto:")).collect()
}

#[test]
fn the_srtp_setting_and_the_offer_decide_the_protection() {
    let key = one();
    for (srtp, profile, keys, expected) in [
        (Srtp::Off, "RTP/AVP", vec![], Ok(false)),
        (Srtp::Off, "RTP/AVP", vec![&*key], Ok(false)),
        (Srtp::Off, "RTP/SAVP", vec![&*key], Err("is off here")),
        (Srtp::Optional, "RTP/AVP", vec![], Ok(false)),
        (Srtp::Optional, "RTP/AVP", vec![&*key], Ok(true)),
        (Srtp::Optional, "RTP/SAVP", vec![&*key], Ok(true)),
        (Srtp::Optional, "RTP/SAVPF", vec![&*key], Ok(true)),
        (Srtp::Optional, "RTP/SAVP", vec![], Err("no key with a supported suite")),
        (Srtp::Optional, "RTP/AVP", vec!["1 F8_128_HMAC_SHA1_80 inline:AAAA"], Ok(false)),
        (Srtp::Required, "RTP/AVP", vec![], Err("the offer has no key")),
        (Srtp::Required, "RTP/AVP", vec![&*key], Ok(true)),
        (Srtp::Required, "RTP/SAVP", vec![&*key], Ok(true)),
        (
            Srtp::Required,
            "RTP/SAVP",
            vec!["1 F8_128_HMAC_SHA1_80 inline:AAAA"],
            Err("no offered key has a supported suite"),
        ),
        (Srtp::Optional, "UDP/TLS/RTP/SAVPF", vec![&*key], Err("no usable a=ice-ufrag")),
    ] {
        let mut leg = leg(srtp, 1);
        let answered = answer(&mut leg, &media(profile, &keys));
        match (answered, expected) {
            (Ok(body), Ok(protected)) => {
                assert!(body.contains(&format!("m=audio 20000 {profile} 0\r\n")), "{body}");
                assert_eq!(crypto_lines(&body).len(), usize::from(protected), "{srtp:?} {profile} {keys:?}: {body}");
                assert_eq!(keyed(leg.plan()).is_some(), protected);
            }
            (Err(why), Err(words)) => assert!(why.contains(words), "{srtp:?} {profile}: {why}"),
            (got, _) => panic!("{srtp:?} {profile} {keys:?}: {got:?}"),
        }
    }
}

#[test]
fn the_first_usable_crypto_line_is_answered_with_its_tag_and_our_key() {
    let known = format!("7 aes_cm_128_hmac_sha1_32 INLINE:{KEY}|2^31|1:4");
    let second = one();
    let gcm = format!("9 AEAD_AES_128_GCM inline:{}", GCM_128.trim_end_matches('='));
    for (keys, answered, mki) in [
        (vec!["1 AES_192_CM_HMAC_SHA1_80 inline:AAAA", &known, &second], "7 AES_CM_128_HMAC_SHA1_32 inline:", 4),
        (vec![&*gcm, &second], "9 AEAD_AES_128_GCM inline:", 0),
        (vec!["1", "x", "1 AES_CM_128_HMAC_SHA1_80", &second], "1 AES_CM_128_HMAC_SHA1_80 inline:", 0),
    ] {
        let mut leg = leg(Srtp::Optional, 1);
        let body = answer(&mut leg, &media("RTP/SAVP", &keys)).unwrap();
        let [line] = crypto_lines(&body)[..] else { panic!("{body}") };
        assert!(line.starts_with(answered) && !line.contains(KEY), "{line}");
        let keys = keyed(leg.plan()).unwrap();
        assert_eq!((keys.send.suite(), keys.mki), (keys.receive.suite(), mki));
        assert_eq!(BASE64.decode(line.rsplit(':').next().unwrap()).unwrap(), keys.send.octets());
        // The leg refuses an RTP/SAVP offer without keys.
        assert_eq!(answer(&mut leg, &media("RTP/SAVP", &[])).err().map(|_| ()), Some(()));
    }
}

#[test]
fn a_crypto_line_with_an_unsupported_feature_is_ignored() {
    for (parameters, usable) in [
        ("", true),
        ("|2^20", true),
        ("|1048576", true),
        ("|2^20|1:4", true),
        ("|1:4", true),
        (" WSH=64", true),
        (" wsh=64 -UNKNOWN=1", true),
        (" UNENCRYPTED_SRTP", false),
        (" UNENCRYPTED_SRTCP", false),
        (" UNAUTHENTICATED_SRTP", false),
        (" KDR=1", false),
        (" FEC_ORDER=FEC_SRTP", false),
        (" é", false),
        (" WSHé", false),
        ("|1:0", false),
        ("|1:129", false),
        ("|x:4", false),
        ("|", false),
        ("|2^", false),
        ("|1:4|2:4", false),
        (&format!("|2^20|1:4;inline:{OTHER}|2^20|2:4"), false),
        ("AAAA", false),
    ] {
        let line = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}{parameters}");
        assert_eq!(Line::read(&line).is_some(), usable, "{line}");
    }
    for line in [
        "",
        "1",
        "99999999999 AES_CM_128_HMAC_SHA1_80 inline:",
        "1 AES_CM_128_HMAC_SHA1_80 uri:x",
        "1 AES_CM_128_HMAC_SHA1_80 inline:!!!!",
    ] {
        assert!(Line::read(line).is_none(), "{line}");
    }
}

#[test]
fn two_negotiations_exchange_their_srtp_keys() {
    for (calling, called, secure) in [
        (Srtp::Off, Srtp::Off, Some(false)),
        (Srtp::Off, Srtp::Optional, Some(false)),
        (Srtp::Off, Srtp::Required, None),
        (Srtp::Optional, Srtp::Off, Some(false)),
        (Srtp::Optional, Srtp::Optional, Some(true)),
        (Srtp::Optional, Srtp::Required, Some(true)),
        (Srtp::Required, Srtp::Off, None),
        (Srtp::Required, Srtp::Optional, Some(true)),
        (Srtp::Required, Srtp::Required, Some(true)),
    ] {
        let (mut a, mut b) = (leg(calling, 1), leg(called, 2));
        let offer = offered(&mut a);
        assert_eq!(a.plan().unwrap().transport.protection == Protection::Open, calling != Srtp::Off);
        let answered = answer(&mut b, &offer);
        assert_eq!(answered.is_ok(), secure.is_some(), "{calling:?} {called:?}: {answered:?}");
        let Some(secure) = secure else { continue };
        a.accept(answered.unwrap().as_bytes()).unwrap();
        let (ours, theirs) = (keyed(a.plan()), keyed(b.plan()));
        assert_eq!(ours.is_some(), secure);
        if let (Some(ours), Some(theirs)) = (ours, theirs) {
            assert_eq!((&ours.send, &ours.receive), (&theirs.receive, &theirs.send));
            assert_ne!(ours.send, ours.receive);
        }
        // A later offer of either side keeps the keys.
        let before = (a.plan().cloned(), b.plan().cloned());
        let again = offered(&mut b);
        a.answer(again.as_bytes()).and_then(|answer| b.accept(&answer)).unwrap();
        assert_eq!((keyed(a.plan()), keyed(b.plan())), (keyed(before.0.as_ref()), keyed(before.1.as_ref())));
    }
}

#[test]
fn an_offer_has_three_suites_and_the_profile_of_the_setting() {
    for (srtp, profile, count) in
        [(Srtp::Off, "RTP/AVP", 0), (Srtp::Optional, "RTP/AVP", 3), (Srtp::Required, "RTP/SAVP", 3)]
    {
        let offer = offered(&mut leg(srtp, 1));
        assert!(offer.contains(&format!("m=audio 20000 {profile} 0 8 101\r\n")), "{offer}");
        let lines = crypto_lines(&offer);
        assert_eq!(lines.len(), count, "{offer}");
        let names: Vec<&str> = lines.iter().filter_map(|line| line.split(' ').nth(1)).collect();
        assert!(["AES_CM_128_HMAC_SHA1_80", "AEAD_AES_256_GCM", "AEAD_AES_128_GCM"].starts_with(&names));
        assert!(lines.iter().all(|line| Line::read(line).is_some()), "{offer}");
    }
}

#[test]
fn an_answer_must_match_one_of_our_srtp_keys() {
    let gcm = format!("3 AEAD_AES_128_GCM inline:{GCM_128}");
    let key = one();
    let stray = format!("5 AES_CM_128_HMAC_SHA1_80 inline:{KEY}");
    let never = format!("2 AES_CM_128_HMAC_SHA1_32 inline:{KEY}");
    for (srtp, profile, keys, expected) in [
        (Srtp::Off, "RTP/AVP", vec![], Ok(false)),
        (Srtp::Off, "RTP/SAVP", vec![&*key], Err("demands SRTP")),
        (Srtp::Optional, "RTP/AVP", vec![], Ok(false)),
        (Srtp::Optional, "RTP/AVP", vec![&*key], Ok(true)),
        (Srtp::Optional, "RTP/SAVP", vec![&*gcm], Ok(true)),
        (Srtp::Optional, "RTP/AVP", vec![&*stray], Err("does not match any offered key")),
        (Srtp::Optional, "RTP/SAVP", vec![], Err("demands SRTP")),
        (Srtp::Required, "RTP/SAVP", vec![&*key], Ok(true)),
        (Srtp::Required, "RTP/AVP", vec![&*key], Ok(true)),
        (Srtp::Required, "RTP/SAVP", vec![&*never], Err("does not match any offered key")),
        (Srtp::Required, "RTP/SAVP", vec![], Err("has no key")),
        (Srtp::Required, "RTP/AVP", vec![], Err("has no key")),
    ] {
        let mut leg = leg(srtp, 1);
        let _ = leg.offer();
        match (leg.accept(media(profile, &keys).as_bytes()), expected) {
            (Ok(()), Ok(protected)) => {
                assert_eq!(keyed(leg.plan()).is_some(), protected, "{srtp:?} {profile} {keys:?}");
            }
            (Err(why), Err(words)) => assert!(why.to_string().contains(words), "{srtp:?} {profile}: {why}"),
            (got, _) => panic!("{srtp:?} {profile} {keys:?}: {got:?}"),
        }
    }
}

#[test]
fn a_new_offer_can_have_a_new_srtp_key_and_our_key_stays() {
    let mut leg = leg(Srtp::Required, 1);
    let first = answer(&mut leg, &media("RTP/SAVP", &[&one()])).unwrap();
    let before = keyed(leg.plan()).unwrap();
    let other = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{OTHER}");
    let second = answer(&mut leg, &media("RTP/SAVP", &[&other])).unwrap();
    let after = keyed(leg.plan()).unwrap();
    assert_eq!(crypto_lines(&first), crypto_lines(&second));
    assert!(before.send == after.send && before.receive != after.receive);
    // The leg refuses an offer without keys, and nothing changes.
    assert!(answer(&mut leg, &media("RTP/AVP", &[])).is_err());
    assert_eq!(keyed(leg.plan()), Some(after));
}

#[test]
fn of_two_m_lines_the_one_with_srtp_keys_is_selected() {
    let offer = body(&format!("m=audio 4000 RTP/AVP 0\r\nm=audio 4002 RTP/SAVP 8\r\na=crypto:{}\r\n", one()));
    let answered = answer(&mut leg(Srtp::Optional, 1), &offer).unwrap();
    let lines: Vec<&str> = answered.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(lines, ["m=audio 0 RTP/AVP 0", "m=audio 20000 RTP/SAVP 8"]);
    let answered = answer(&mut leg(Srtp::Off, 1), &offer).unwrap();
    let lines: Vec<&str> = answered.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(lines, ["m=audio 20000 RTP/AVP 0", "m=audio 0 RTP/SAVP 8"]);
}

#[test]
fn without_random_numbers_srtp_is_refused() {
    let bare = |srtp| {
        let mut leg = leg(Srtp::Off, 1);
        leg.set_srtp(srtp, None);
        leg
    };
    assert!(answer(&mut bare(Srtp::Required), &media("RTP/SAVP", &[&one()])).is_err());
    assert!(answer(&mut bare(Srtp::Optional), &media("RTP/SAVP", &[&one()])).is_err());
    assert!(answer(&mut bare(Srtp::Optional), &media("RTP/AVP", &[&one()])).is_ok());
    let mut leg = bare(Srtp::Required);
    assert_eq!(crypto_lines(&offered(&mut leg)).len(), 0);
    assert!(leg.accept(media("RTP/SAVP", &[&one()]).as_bytes()).is_err());
}

#[test]
fn optional_srtp_has_a_second_offer_with_savp_and_accepts_either_answer() {
    let mut caller = leg(Srtp::Optional, 1);
    let plain = offered(&mut caller);
    let secured = String::from_utf8(caller.offer_secured().unwrap().to_vec()).unwrap();
    assert!(plain.contains("RTP/AVP ") && secured.contains(" RTP/SAVP "), "{secured}");
    assert_eq!(crypto_lines(&plain), crypto_lines(&secured));
    for (offer, profile) in [(&secured, "RTP/SAVP"), (&plain, "RTP/AVP")] {
        let mut callee = leg(Srtp::Required, 2);
        let answer = answer(&mut callee, offer).unwrap();
        assert!(answer.contains(profile), "{answer}");
        caller.accept(answer.as_bytes()).unwrap();
        assert_eq!(keyed(caller.plan()).unwrap().send.octets(), keyed(callee.plan()).unwrap().receive.octets());
        assert!(offered(&mut caller).contains(profile), "what was agreed stays");
        assert!(caller.offer_secured().is_none(), "it is agreed");
    }
    for srtp in [Srtp::Off, Srtp::Required] {
        let mut caller = leg(srtp, 1);
        let _ = offered(&mut caller);
        assert!(caller.offer_secured().is_none());
    }
}

#[test]
fn only_a_far_end_with_a_new_address_gets_a_new_srtp_key() {
    let mut leg = leg(Srtp::Required, 1);
    let from = |address: &str, key: &str| {
        let key = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key}");
        media("RTP/SAVP", &[&key]).replace("127.0.0.2", address)
    };
    let mut ours = |offer: &str| {
        let body = answer(&mut leg, offer).unwrap();
        let sends = keyed(leg.plan()).unwrap().send;
        assert!(body.contains(&BASE64.encode(sends.octets())), "the answer has the key that we use");
        sends
    };
    let first = ours(&from("127.0.0.2", KEY));
    assert!(ours(&from("127.0.0.2", KEY)) == first, "the same offer");
    assert!(ours(&from("127.0.0.2", OTHER)) == first, "a new key at the same place");
    assert!(ours(&from("0.0.0.0", OTHER)) == first, "hold");
    assert!(ours(&from("127.0.0.2", OTHER)) == first, "the end of the hold");
    let second = ours(&from("127.0.0.9", KEY));
    assert!(second != first);
    assert!(ours(&from("127.0.0.9", KEY)) == second, "the same offer again");
    let third = ours(&from("127.0.0.2", KEY));
    assert!(third != second && third != first, "no key returns");
}

#[test]
fn a_far_end_with_a_new_address_in_its_answer_gets_a_new_srtp_key_with_another_offer() {
    let from = |address: &str, key: &str| {
        let key = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key}");
        media("RTP/SAVP", &[&key]).replace("127.0.0.2", address)
    };
    let mut leg = leg(Srtp::Required, 1);
    let mut exchange = |answer: &str| {
        let body = offered(&mut leg);
        leg.accept(answer.as_bytes()).unwrap();
        let sends = keyed(leg.plan()).unwrap().send;
        assert!(body.contains(&BASE64.encode(sends.octets())), "the offer has the key that we use");
        (sends, leg.owes_new_keys())
    };
    let (first, owes) = exchange(&from("127.0.0.2", KEY));
    assert!(!owes);
    assert!(exchange(&from("127.0.0.2", OTHER)) == (first.clone(), false), "a new key at the same place");
    assert!(exchange(&from("0.0.0.0", OTHER)) == (first.clone(), false), "hold");
    assert!(exchange(&from("127.0.0.9", KEY)) == (first.clone(), true), "it has moved");
    let (second, owes) = exchange(&from("127.0.0.8", KEY));
    assert!(second != first && !owes, "the new key is for every place");
    assert!(exchange(&from("127.0.0.8", KEY)) == (second.clone(), false));
    assert!(exchange(&from("127.0.0.9", KEY)) == (second.clone(), true));
    // The far end may make the next offer.
    let answered = answer(&mut leg, &from("127.0.0.9", KEY)).unwrap();
    let third = keyed(leg.plan()).unwrap().send;
    assert!(third != second && answered.contains(&BASE64.encode(third.octets())) && !leg.owes_new_keys());
    // The answers of two phones to one offer, before any packet was sent with the key.
    let mut forked = self::leg(Srtp::Required, 2);
    offered(&mut forked);
    for address in ["127.0.0.2", "127.0.0.9"] {
        forked.accept(from(address, KEY).as_bytes()).unwrap();
        assert!(!forked.owes_new_keys(), "{address}");
    }
}

#[test]
fn after_a_change_of_address_a_receiver_with_rollover_counter_0_decrypts_our_packets() {
    let mut leg = leg(Srtp::Required, 1);
    answer(&mut leg, &media("RTP/SAVP", &[&one()])).unwrap();
    let mut sender = SrtpSession::new(keyed(leg.plan()).unwrap()).unwrap();
    let packet = |sequence: u16| {
        let mut packet = vec![0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
        packet[2..4].copy_from_slice(&sequence.to_be_bytes());
        packet.extend([0x55; 160]);
        packet.resize(172 + LONGEST_TRAILER, 0);
        packet
    };
    // Our sequence numbers have wrapped twice.
    for number in 0..150_000u32 {
        sender.protect(&mut packet(number as u16), 172).unwrap();
    }
    let other = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{OTHER}");
    answer(&mut leg, &media("RTP/SAVP", &[&other]).replace("127.0.0.2", "127.0.0.9")).unwrap();
    let keys = keyed(leg.plan()).unwrap();
    sender.rekey(keys.clone());
    let mut far_end = SrtpSession::new(Keys { send: keys.receive, receive: keys.send, mki: 0 }).unwrap();
    for number in 150_000..150_100u32 {
        let mut sent = packet(number as u16);
        let length = sender.protect(&mut sent, 172).unwrap();
        assert_eq!(far_end.unprotect(&mut sent[..length]), Ok(172));
    }
}
