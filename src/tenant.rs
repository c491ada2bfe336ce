//! Who owns which endpoint.
//!
//! It finds the endpoint behind the names that a client gives. It proves nobody and wakes nothing.

pub mod directory;
