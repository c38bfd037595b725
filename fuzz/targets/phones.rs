//! Any datagrams from phones that know a password.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = tandem_sip::fuzz_phones(std::time::Instant::now(), data);
});
