//! Any octets as the value of an Identity header, and as the certificate behind one.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| tandem_sip::stir::fuzz_identity(data));
