//! Exchanges written out message by message. What the server reads and what the client reads is the same however the
//! bytes come.

mod begin;
mod copies;
mod ends;
mod errors;
mod gates;
mod names;
mod pipelines;
mod plain;
mod seen;
mod shapes;
mod talk;
mod unnamed;
