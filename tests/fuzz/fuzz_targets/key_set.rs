//! See `pgwake::fuzzing::key_set`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pgwake::fuzzing::key_set(bytes));
