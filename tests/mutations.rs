//! Gives mutated seeds to every parser of network input. This is a short version of `make fuzz` that needs no other
//! tools. Each parser runs for `FUZZ_SECONDS` (1 by default, 10 in CI). The random numbers start from `FUZZ_SEED` (0 by
//! default), so that a failure can be reproduced. If an input makes a parser panic, the input is stored in
//! `fuzz/artifacts/PARSER/`.

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

/// Maximum size of an input in octets. `make fuzz` has the same maximum.
const LONGEST: usize = 8_192;
/// Maximum number of changes to a seed.
const MAX_CHANGES: u32 = 8;
/// Octets that have a special meaning for parsers: separators of SIP, SDP and XML, and limits of integers.
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

#[test]
fn frames_of_web_pages_survive_mutation() {
    fuzz("pages", |data| {
        tandem_twilio::browser::fuzz_frame(data);
        tandem_pages::verto::fuzz_request(data);
    });
}

/// Gives `parse` the unchanged seeds of the parser's folder, and then mutated seeds until the time limit.
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

/// Returns a seed with at most [`MAX_CHANGES`] changes. The result has at most [`LONGEST`] octets.
fn mutated(seeds: &[Vec<u8>], rng: &mut StdRng) -> Vec<u8> {
    let mut data = seeds.choose(rng).cloned().unwrap_or_default();
    for _ in 0..rng.random_range(1..=MAX_CHANGES) {
        change(&mut data, seeds, rng);
    }
    data.truncate(LONGEST);
    data
}

/// Makes one random change. Possible changes are: flip, replace or insert an octet; remove, repeat or move a part;
/// append the end of another seed; insert a large number; cut off the end.
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

/// Stores an input. The file name is computed from the content.
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
