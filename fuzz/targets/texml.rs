//! Any document with a template in it as a TeXML application's answer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| tandem_texml::fuzz_template(data));
