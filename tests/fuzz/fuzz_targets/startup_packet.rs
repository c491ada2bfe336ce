//! See `pgwake::fuzzing::startup_packet`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pgwake::fuzzing::startup_packet(bytes));
