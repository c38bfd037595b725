//! Any text as a SWML document whose script runs, and as an expression in one.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| tandem_signalwire::swml::fuzz_script(data));
