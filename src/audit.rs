//! What happened to whom, one line of JSON for each event: for people who must be able to prove it later.
//!
//! Lines wait in a bounded queue for a thread of their own. When the disk is full, they are dropped and counted, or
//! whoever causes one waits, as configured. It knows nothing of sessions: [`Event`] is what it is given, and its
//! givers put in no secret and no text of a statement. Who calls: `server` begins it; `session`, `server` and `admin` tell.

mod writer;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use serde_json::{Map, Value};
use tokio::sync::{
    mpsc::{self, Sender, error::TrySendError},
    oneshot,
};
use tracing_subscriber::fmt::{
    format::Writer as TimeWriter,
    time::{FormatTime, SystemTime},
};

use writer::{Target, Writer};

/// Lines that wait for the disk: at a KB each, 8 MB.
const LINES_MAX: usize = 8 * 1024;

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// Nowhere.
    Nowhere,
    /// Standard output.
    Stdout,
    /// A file that may be moved away: a new one is begun then.
    File(PathBuf),
}

/// What is done when no more lines can be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Further ones are left out, and how many is written as soon as that is possible.
    Drop,
    /// Whoever causes one waits: nobody comes in without a line.
    Block,
}

/// Takes events. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Audit(Option<Arc<Queue>>);

#[derive(Debug)]
struct Queue {
    lines: Sender<Entry>,
    when_full: WhenFull,
    dropped: Arc<AtomicU64>,
    /// All of them since the beginning.
    dropped_total: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Entry {
    /// Whoever waits for it is answered when it is written.
    Line(Vec<u8>, Option<oneshot::Sender<()>>),
    /// Answered when all before it is written, or left out.
    Flush(oneshot::Sender<()>),
}

/// Where lines go, and what is done when they cannot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Where.
    pub to: To,
    /// What is done.
    pub when_full: WhenFull,
}

/// One event.
#[derive(Debug)]
pub struct Event(Map<String, Value>);

impl Event {
    /// Something of this kind has happened now.
    pub fn new(kind: &'static str) -> Self {
        let mut time = String::new();
        // A String takes everything.
        let _ = SystemTime.format_time(&mut TimeWriter::new(&mut time));
        let mut fields = Map::new();
        fields.insert("time".to_owned(), Value::from(time));
        fields.insert("event".to_owned(), Value::from(kind));
        Self(fields)
    }

    /// The same with a field; an empty text is left out.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        if value != "" {
            self.0.insert(name.to_owned(), value);
        }
        self
    }

    fn line(self) -> Vec<u8> {
        let mut line = Value::Object(self.0).to_string().into_bytes();
        line.push(b'\n');
        line
    }
}

impl Audit {
    /// Begins to write. The thread ends when the last clone is gone and all is written, or cannot be.
    ///
    /// # Errors
    /// The file cannot be opened, or there is no thread to be had.
    pub fn begin(rules: &Rules) -> io::Result<Self> {
        let when_full = rules.when_full;
        let target = match &rules.to {
            To::Nowhere => return Ok(Self(None)),
            To::Stdout => Target::Stdout,
            To::File(path) => Target::file(path).map_err(|error| named(path, &error))?,
        };
        let (lines, waiting) = mpsc::channel(LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let dropped_total = Arc::new(AtomicU64::new(0));
        let writer = Writer::new(target, when_full, (dropped.clone(), dropped_total.clone()));
        thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run(waiting))?;
        Ok(Self(Some(Arc::new(Queue {
            lines,
            when_full,
            dropped,
            dropped_total,
        }))))
    }

    /// How many lines were left out since the beginning.
    pub fn dropped(&self) -> u64 {
        self.0
            .as_ref()
            .map_or(0, |queue| queue.dropped_total.load(Ordering::Relaxed))
    }

    /// Whether anybody takes events: who makes many of them may ask first.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Takes an event; with [`WhenFull::Block`] it waits until the event is written: what waits in the queue would be lost
    /// with pgwake. Cancel safe: the event is left out, or written later.
    pub async fn tell(&self, event: Event) {
        let Some(queue) = &self.0 else { return };
        match queue.when_full {
            WhenFull::Block => {
                let (told, written) = oneshot::channel();
                let line = Entry::Line(event.line(), Some(told));
                // The writer goes without an answer only at the end of everything.
                if queue.lines.send(line).await.is_ok() {
                    let _ = written.await;
                }
            }
            WhenFull::Drop => {
                let sent = queue.lines.try_send(Entry::Line(event.line(), None));
                if let Err(TrySendError::Full(_)) = sent {
                    queue.dropped.fetch_add(1, Ordering::Relaxed);
                    queue.dropped_total.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// How many lines the writer has not dealt with, where a [`flush`](Self::flush) was given up: that stands in the queue for the
    /// line at hand.
    pub fn waiting(&self) -> usize {
        self.0
            .as_ref()
            .map_or(0, |queue| queue.lines.max_capacity() - queue.lines.capacity())
    }

    /// Waits until all that was told is written or left out; the caller bounds it. Cancel safe.
    pub async fn flush(&self) {
        let Some(queue) = &self.0 else { return };
        let (flushed, done) = oneshot::channel();
        if queue.lines.send(Entry::Flush(flushed)).await.is_ok() {
            // The writer does not go before it has answered.
            let _ = done.await;
        }
    }
}

/// Whoever reads of it has to know which file it is.
fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
