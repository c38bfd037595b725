//! Any payloads of each codec, and what they decode to encoded again.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tandem_media::fuzz_codec(data);
});
