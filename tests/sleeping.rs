//! Going to sleep: a compute is suspended when nobody needs it, and nobody who comes meanwhile loses by that.

mod idle;
mod suspending;
mod vetoes;
