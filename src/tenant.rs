//! Who owns which endpoint, and who may try to come in.
//!
//! `directory` finds the endpoint behind the names that a client gives, `gate` limits what strangers may try, `quota` how
//! much those may have who have logged in. Nobody is proved here and nothing is woken.

pub mod directory;
pub mod gate;
pub mod quota;
