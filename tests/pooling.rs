//! Transaction pooling: many clients on few server sessions read what each of them would read alone.

mod act;
mod awaited;
mod beginning;
mod calling;
mod cancelling;
mod carrying;
mod databases;
mod hidden;
mod leaking;
mod leaving;
mod line;
mod literals;
mod oracle;
mod parked;
mod pinning;
mod pipelines;
mod play;
mod pooled;
mod releasing;
mod resetting;
mod said;
mod script;
mod sequences;
mod statements;
mod told;
mod waiting;
