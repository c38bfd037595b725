//! Messages that both parsers read alike, and one example of each difference.

use super::super::fuzz_message;
use super::*;

const INVITE: &str = "INVITE sip:+15551230001@192.0.2.1:5060;user=phone SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9:6000;branch=z9hG4bK-1-0;rport\r\n\
    From: \"A. Caller\" <sip:+15557654321@192.0.2.9:6000>;tag=1-a\r\nTo: <sip:+15551230001@192.0.2.1:5060>\r\nCall-ID: 1-77@192.0.2.9\r\n\
    CSeq: 1 INVITE\r\nContact: <sip:+15557654321@192.0.2.9:6000>\r\nMax-Forwards: 70\r\nAllow: INVITE, ACK, BYE\r\nk: timer\r\n\
    Subject: Call, with a comma\r\nContent-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n";
const OK: &str = "SIP/2.0 200 OK, good\r\nVia: SIP/2.0/UDP h.example.COM;branch=z9hG4bK2;received=192.0.2.1\r\n\
    v: SIP/2.0/TCP other\r\nFrom: <sip:a@h;transport=tcp;lr>;tag=a\r\nTo: Bob B <sips:b@[2001:db8::1]>;tag=b\r\nCall-ID:1\r\n\
    CSeq: 2147483647 BYE\r\nContent-Length: 0\r\n\r\n";

/// A message with forms that the RFC allows but ordinary messages do not use.
const UNUSUAL: &str = "OPTIONS SIPS:u%73er;par:pw@[2001:DB8::1]:05061;%6Cr;x=%40 sip/2.0\r\nv : SIP / 2.0 / UDP Host.example.com:5060 ;branch = z9hG4bKx ; \
    received=[2001:db8::2];y=\"a\\\",b\", SIP/2.0/TCP other\r\nFROM: \"A \\\"B\\\"\" <sip:a@h> ;tag=\"q\\q\"\r\nt: tel:+1-(555).01;ext=1\r\n\
    I:\t a b\r\nCSeq: 0007 \t OPTIONS\r\nMax-Forwards: 0068\r\nContact: sip:a@h;q=0.5, <sip:b@h?Subject=x>\r\n\
    Subject:\r\n one\r\n\ttwo \r\nX-Odd: ;;,\x01\u{e9}\r\nl: 0\r\n\r\n";

#[test]
fn mutated_messages_are_read_as_the_oracle_reads_them() {
    use rand::{Rng, SeedableRng, rngs::StdRng};
    let good = [INVITE.as_bytes(), OK.as_bytes(), UNUSUAL.as_bytes()];
    for message in good {
        assert!(read(&Bytes::copy_from_slice(message)).is_ok(), "{}", lossy(message));
    }
    let mut rng = StdRng::from_seed([5; 32]);
    let mut accepted = 0;
    for round in 0..30_000 {
        let mut data = good[round % good.len()].to_vec();
        for _ in 0..=rng.next_u32() % 3 {
            let at = rng.next_u32() as usize % data.len();
            let byte = b"\r\n\0 \t\";,<>:=@%?/[]0aZ\\\xff()&"[rng.next_u32() as usize % 26];
            match rng.next_u32() % 4 {
                0 => data[at] = byte,
                1 => drop(data.remove(at)),
                2 => data.insert(at, byte),
                _ => {
                    let end = (at + rng.next_u32() as usize % 12).min(data.len());
                    let copy = data[at..end].to_vec();
                    data.splice(at..at, copy);
                }
            }
        }
        fuzz_message(&data);
        accepted += usize::from(read(&Bytes::from(data)).is_ok());
    }
    assert!(accepted > 6_000, "{accepted}");
}

#[test]
fn mutated_uris_are_read_and_compared_as_the_oracle_does() {
    use rand::{Rng, SeedableRng, rngs::StdRng};
    let good = [
        "sip:alice:secret@Example.com:5060;transport=tcp;lr?subject=a&to=b",
        "sips:%61lice@[2001:db8::1];Transport=TLS;x=%2f",
        "tel:+1-201-555-0123;phone-context=+1.2;ext=(12)",
        "tel:7042;phone-context=example.com",
        "sip:192.0.2.1;user=phone;gr=urn:x",
        "urn:service:sos",
    ];
    let mut rng = StdRng::from_seed([6; 32]);
    let (mut accepted, mut equivalent) = (0, 0);
    for round in 0..60_000 {
        let text = good[round % good.len()].as_bytes();
        let mut data = text.to_vec();
        for _ in 0..=rng.next_u32() % 3 {
            let at = rng.next_u32() as usize % data.len();
            let byte = b";,:=@%?/[]0aZ&+-.(#<4 \x7f"[rng.next_u32() as usize % 23];
            match rng.next_u32() % 4 {
                0 => data[at] = byte,
                1 => drop(data.remove(at)),
                2 => data.insert(at, byte),
                _ => data[at] ^= 0x20,
            }
        }
        compare_uri(&data);
        let (Some(one), Some(other)) = (Uri::parse(&data), Uri::parse(text)) else { continue };
        compare_equivalence(&one, &other);
        accepted += 1;
        equivalent += usize::from(one.is_equivalent(&other));
    }
    assert!(accepted > 20_000 && equivalent > 1_000, "{accepted} {equivalent}");
}

#[test]
fn compact_header_names_are_equal_to_those_of_the_oracle() {
    for letter in 0..=u8::MAX {
        let name = full_name(&[letter]);
        assert_eq!(crate::header::in_full(letter).map(str::as_bytes), name.as_deref(), "{letter}");
    }
}

#[test]
fn each_difference_has_an_example() {
    let examples = [
        OK.replace("OK, good", "OK,\r\n good"),
        INVITE.replace("INVITE sip:+", &format!("INVITE sip:{}", "1".repeat(9_000))),
        INVITE.replace(":6000;branch", " : 6000;branch"),
        INVITE.replace("/UDP", "/U@P"),
        INVITE.replace("Contact: <sip:+15557654321@192.0.2.9:6000>", "Contact: sip:a(@h, sip:b)@h"),
        INVITE.replace("INVITE sip:+", "INVITE sip:*21#"),
    ];
    assert_eq!(examples.len(), DIFFERENCES.len());
    for (example, (section, what, is_one)) in examples.iter().zip(DIFFERENCES) {
        let data = Bytes::copy_from_slice(example.as_bytes());
        let (ours, crates) = (read(&data), read_by_crate(&data));
        assert_ne!(ours.is_ok(), crates.is_some(), "{section}: {what}");
        assert!(is_one(&Case { data: &data, ours: &ours, crates: &crates }), "{section}: {what}");
    }
}
