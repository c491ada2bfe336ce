//! Going to sleep: a compute is suspended when nobody needs it, and nobody who comes meanwhile loses by that.

mod idle;
mod ignored;
mod suspending;
mod vetoes;
