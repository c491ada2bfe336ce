//! See `pgwake::fuzzing::bodies`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pgwake::fuzzing::bodies(bytes));
