//! See `pgwake::fuzzing::login_message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pgwake::fuzzing::login_message(bytes));
