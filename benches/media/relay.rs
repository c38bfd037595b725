//! Measures the engine's CPU time for a packet of a bridged call, without the kernel's time. The figure includes
//! receiving, relaying, the packet's share of the ticks, and writing if the call is recorded. Run: `cargo bench -p
//! tandem-media --bench relay`
#![allow(clippy::disallowed_methods, reason = "a virtual clock needs some origin")]

mod measure;

use std::hint::black_box;
use std::time::Instant;

use tandem_media::{Codec, RelayBench, WavCoding};

fn main() {
    let (pcmu, pcma, g722) = (Codec::Pcmu, Codec::Pcma, Codec::G722);
    let pcm = Some(WavCoding::Pcm);
    packets("relay, PCMU", 1, [pcmu, pcmu], None);
    packets("relay, PCMU and PCMA", 1, [pcmu, pcma], None);
    packets("relay, PCMU, recorded", 1, [pcmu, pcmu], pcm);
    packets("bridge of frames, G.722 and PCMU", 1, [g722, pcmu], None);
    packets("relay, PCMU, 200 calls", 200, [pcmu, pcmu], None);
    packets("relay, PCMU, 200 calls, recorded", 200, [pcmu, pcmu], pcm);
    packets("relay, PCMU, 200 calls, recorded in mu-law", 200, [pcmu, pcmu], Some(WavCoding::Mulaw));
}

fn packets(what: &str, calls: u32, codecs: [Codec; 2], recorded: Option<WavCoding>) {
    let mut relay_bench = RelayBench::new(Instant::now(), calls, codecs, recorded);
    measure::case(what, 2 * calls, || {
        black_box(relay_bench.frame());
    });
}
