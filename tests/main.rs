//! All integration tests, one binary: what each module proves stands at its head.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod architecture;
mod harness;
