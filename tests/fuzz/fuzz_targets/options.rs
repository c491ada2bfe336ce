//! See `pgwake::fuzzing::options`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pgwake::fuzzing::options(bytes));
