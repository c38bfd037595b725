//! Mutated seeds through every parser that reads from the network: seconds of what `make fuzz` does for hours, with no other
//! tool. Each parser gets `FUZZ_SECONDS` (1 by default, 10 in CI) and the random numbers of `FUZZ_SEED` (0 by default), so that a
//! failure comes again. An input that makes a parser panic is kept in `fuzz/artifacts/PARSER/`.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test, and places that were just drawn from the length"
)]

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// Longest input, in octets; as `make fuzz` has it.
const LONGEST: usize = 8_192;
/// Most changes to a seed before a parser sees it.
const MOST_CHANGES: u32 = 8;
/// Octets that parsers treat in a way of their own: separators of SIP, SDP and XML, and the borders of integers.
const SPECIAL: &[u8] = b"\r\n\0\t ;,:=<>\"'&()[]{}@?/\\%-+*#0123456789\x7f\x80\xfe\xff";

#[test]
fn sip_messages_survive_mutation() {
    fuzz("sip", |data| {
        tandem_sip::fuzz_message(data);
        tandem_sip::fuzz_endpoint(now(), data);
    });
}

#[test]
fn messages_of_phones_survive_mutation() {
    fuzz("phones", |data| {
        tandem_sip::fuzz_phones(now(), data);
    });
}

#[test]
fn identity_headers_and_certificates_survive_mutation() {
    fuzz("identity", tandem_sip::stir::fuzz_identity);
}

#[test]
fn session_descriptions_survive_mutation() {
    fuzz("sdp", tandem_media::fuzz_sdp);
}

#[test]
fn rtp_and_rtcp_packets_survive_mutation() {
    fuzz("rtp", |data| {
        tandem_media::fuzz_rtp(now(), data);
    });
}

#[test]
fn payloads_of_codecs_survive_mutation() {
    fuzz("codec", |data| {
        tandem_media::fuzz_codec(data);
    });
}

#[test]
fn documents_survive_mutation() {
    fuzz("markup", |data| tandem_markup::fuzz_markup(&tandem_twilio::twiml::TWIML, data));
}

#[test]
fn templates_survive_mutation() {
    fuzz("texml", tandem_texml::fuzz_template);
}

#[test]
fn scripts_survive_mutation() {
    fuzz("swml", tandem_signalwire::swml::fuzz_script);
}

/// Gives `parse` the seeds of that folder as they are, and then changed at random until the time is over.
fn fuzz(parser: &str, parse: impl Fn(&[u8])) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let seeds = seeds(&root.join("seeds").join(parser));
    let try_one = |data: &[u8]| {
        if panic::catch_unwind(AssertUnwindSafe(|| parse(data))).is_err() {
            let kept = keep(&root.join("artifacts").join(parser), data);
            panic!("{parser} panicked; the input of {} octets is in {}", data.len(), kept.display());
        }
    };
    seeds.iter().for_each(|seed| try_one(seed));

    let mut rng = StdRng::seed_from_u64(setting("FUZZ_SEED", 0));
    let end = now() + Duration::from_secs(setting("FUZZ_SECONDS", 1));
    let mut tried = seeds.len();
    while now() < end {
        try_one(&mutated(&seeds, &mut rng));
        tried += 1;
    }
    println!("{parser}: {tried} inputs");
}

/// A seed with up to [`MOST_CHANGES`] changes, [`LONGEST`] octets at most.
fn mutated(seeds: &[Vec<u8>], rng: &mut StdRng) -> Vec<u8> {
    let mut data = seeds.choose(rng).cloned().unwrap_or_default();
    for _ in 0..rng.random_range(1..=MOST_CHANGES) {
        change(&mut data, seeds, rng);
    }
    data.truncate(LONGEST);
    data
}

/// One change: an octet flipped, replaced or inserted; a piece removed, repeated or moved; another seed's end put on; a number
/// made large.
fn change(data: &mut Vec<u8>, seeds: &[Vec<u8>], rng: &mut StdRng) {
    let at = rng.random_range(0..=data.len());
    let length = rng.random_range(0..=(data.len() - at).min(64));
    let piece = data[at..at + length].to_vec();
    match rng.random_range(0..9) {
        0 if at < data.len() => data[at] ^= 1 << rng.random_range(0..8),
        1 if at < data.len() => data[at] = rng.random(),
        2 => data.insert(at, SPECIAL.choose(rng).copied().unwrap_or_default()),
        3 => drop(data.drain(at..at + length)),
        4 => drop(data.splice(at..at, piece)),
        5 => {
            data.drain(at..at + length);
            let elsewhere = rng.random_range(0..=data.len());
            data.splice(elsewhere..elsewhere, piece);
        }
        6 => {
            let other = seeds.choose(rng).map_or(&[][..], Vec::as_slice);
            let from = rng.random_range(0..=other.len());
            data.truncate(at);
            data.extend_from_slice(&other[from..]);
        }
        7 => drop(data.splice(at..at, b"18446744073709551616".iter().copied())),
        _ => data.truncate(at),
    }
}

fn seeds(folder: &Path) -> Vec<Vec<u8>> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    files.sort();
    assert!(!files.is_empty(), "no seeds in {}", folder.display());
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Writes an input down, by its content.
fn keep(folder: &Path, data: &[u8]) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    let hash = data
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3));
    let path = folder.join(format!("crash-{hash:016x}"));
    fs::write(&path, data).unwrap();
    path
}

fn setting(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{variable} is no number: {value}")),
        Err(_) => default,
    }
}

#[expect(clippy::disallowed_methods, reason = "how long to go on is real time; the parsers' clocks only start here")]
fn now() -> Instant {
    Instant::now()
}
