//! What the engine spends on a packet of a bridged call, without the kernel: taken in, relayed, its share of the ticks,
//! and of what is written when recorded. `cargo bench -p tandem-media --bench relay`
#![allow(clippy::disallowed_methods, reason = "a virtual clock needs some origin")]

mod measure;

use std::hint::black_box;
use std::time::Instant;

use tandem_media::{Codec, Rehearsal};

fn main() {
    let (pcmu, pcma, g722) = (Codec::Pcmu, Codec::Pcma, Codec::G722);
    packets("relay, PCMU", 1, [pcmu, pcmu], false);
    packets("relay, PCMU and PCMA", 1, [pcmu, pcma], false);
    packets("relay, PCMU, recorded", 1, [pcmu, pcmu], true);
    packets("bridge of frames, G.722 and PCMU", 1, [g722, pcmu], false);
    packets("relay, PCMU, 200 calls", 200, [pcmu, pcmu], false);
    packets("relay, PCMU, 200 calls, recorded", 200, [pcmu, pcmu], true);
}

fn packets(what: &str, calls: u32, codecs: [Codec; 2], recorded: bool) {
    let mut rehearsal = Rehearsal::new(Instant::now(), calls, codecs, recorded);
    measure::case(what, 2 * calls, || {
        black_box(rehearsal.frame());
    });
}
