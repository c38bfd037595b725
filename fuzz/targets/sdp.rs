//! Any body as an SDP offer and as an answer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| tandem_media::fuzz_sdp(data));
