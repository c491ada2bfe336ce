//! See `pgwake::fuzzing::frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pgwake::fuzzing::frames(bytes));
