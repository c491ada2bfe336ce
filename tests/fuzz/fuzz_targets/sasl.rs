//! See `pgwake::fuzzing::sasl`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pgwake::fuzzing::sasl(bytes));
