//! What the tests stand on: real Postgres servers, real clients, certificates, a look at the process table.
//!
//! Nothing here knows pgwake; a test brings both together. Everything that is started ends with the value that
//! stands for it, and every wait has an end. What is missing fails and says `make setup`: nothing is skipped.
//! `proof` shows each part at work on Postgres itself, so that a red test elsewhere speaks of pgwake.

pub(crate) mod account;
pub(crate) mod address;
pub(crate) mod beside;
pub(crate) mod certificates;
pub(crate) mod chance;
pub(crate) mod child;
pub(crate) mod directories;
pub(crate) mod gate;
pub(crate) mod gateway;
pub(crate) mod http;
pub(crate) mod issuer;
pub(crate) mod logs;
pub(crate) mod mounted;
pub(crate) mod node;
pub(crate) mod postgres;
pub(crate) mod processes;
pub(crate) mod programs;
pub(crate) mod psql;
pub(crate) mod python;
pub(crate) mod raw;
pub(crate) mod tls_client;
pub(crate) mod wait;
pub(crate) mod web;

mod proof;
