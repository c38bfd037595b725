//! Any datagrams on the media ports of two bridged sessions.
#![no_main]

use std::time::Instant;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tandem_media::fuzz_rtp(Instant::now(), data);
});
