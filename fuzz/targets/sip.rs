//! Any datagram: through the parser, then at a live endpoint.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tandem_sip::fuzz_message(data);
    let _ = tandem_sip::fuzz_endpoint(std::time::Instant::now(), data);
});
