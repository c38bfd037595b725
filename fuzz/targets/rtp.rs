//! Any datagrams on a media port.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| tandem_media::fuzz_rtp(data));
