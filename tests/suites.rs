//! Driver suites: programs in `tests/drivers` that do what a driver's users do, check every answer themselves and end
//! with 1 and a message where one is not as without pgwake.
//!
//! Here is where they run and how they are called. `short` runs a short form of all but sqlx with the other tests;
//! `make test-drivers` (`tests/matrix.rs`) runs all of them in full, at every place, and prints a table.

pub(crate) mod catalogue;
pub(crate) mod place;

mod rust;
mod short;
