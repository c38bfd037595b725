//! Any frame of a web page with the SDK of a provider.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    tandem_twilio::browser::fuzz_frame(data);
    tandem_pages::verto::fuzz_request(data);
});
