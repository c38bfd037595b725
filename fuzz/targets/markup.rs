//! Any document as an application's answer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| tandem_markup::fuzz_markup(&tandem_twilio::twiml::TWIML, data));
