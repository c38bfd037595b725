//! Any document as an application's answer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| tandem_control::markup::fuzz_markup(&tandem_control::dialect::twilio::twiml::TWIML, data));
