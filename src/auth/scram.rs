//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, both ends, as state machines on bytes.
//!
//! No I/O, and nothing here knows roles or endpoints. On the side towards clients no password is ever hashed:
//! a verifier is enough (RFC 5802, RFC 7677,
//! <https://www.postgresql.org/docs/current/sasl-authentication.html>). Every step consumes its stage:
//!
//! ```text
//! towards clients   ScramServer ──client-first──▶ ProofAwaited ──client-final──▶ Proved
//! towards servers   ScramClient ──server-first──▶ SignatureAwaited ──server-final──▶ ()
//! ```
//!
//! Who calls: `auth` itself for clients; whoever logs in to a server for [`ScramClient`].

mod attributes;
mod client;
mod server;

pub use client::ScramClientError;
pub(crate) use client::{ScramClient, SignatureAwaited};
pub(crate) use server::ScramError;
pub(crate) use server::{Against, InitialResponse, Proved, ScramServer};

/// Without channel binding.
pub(crate) const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// With channel binding.
pub(crate) const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// The gs2 header of an exchange that is bound to the served certificate (RFC 5929, section 4).
const GS2_BOUND: &str = "p=tls-server-end-point,,";

/// Longest SCRAM message that is read, from either end. libpq's are under 200 bytes, and older Postgres allow
/// 1,024.
const MESSAGE_BYTES_MAX: usize = 4096;

/// Random bytes of a nonce, as many as libpq and Postgres take.
const NONCE_BYTES: usize = 18;
