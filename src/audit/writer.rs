//! The thread that writes audit lines, and what it does while it cannot.
//!
//! A file that was moved away, or removed, is begun anew. A line that was written in part is ended before the next.
//! Called by [`super::Audit`].

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::park_timeout,
    time::{Duration, Instant},
};

use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::Errno,
};
use tokio::sync::mpsc::Receiver;

use super::{Entry, Event, WhenFull};

/// How often it is looked whether the file is still the one of its name.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How soon a write that failed is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(500);
/// How often it is tried again once nobody is left who could add lines.
const LAST_TRIES: u32 = 4;

/// What is written to.
pub(super) enum Target {
    Stdout,
    File {
        path: PathBuf,
        file: File,
        looked_at: Instant,
    },
}

impl Target {
    pub(super) fn file(path: &Path) -> io::Result<Self> {
        Ok(Self::File {
            path: path.to_owned(),
            file: open(path)?,
            looked_at: Instant::now(),
        })
    }

    fn name(&self) -> String {
        match self {
            Self::Stdout => "stdout".to_owned(),
            Self::File { path, .. } => path.display().to_string(),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout => {
                let written = io::stdout().write(bytes)?;
                io::stdout().flush()?;
                Ok(written)
            }
            Self::File { file, .. } => file.write(bytes),
        }
    }

    /// Whether a new file was begun, because the old one has another name, or none.
    fn follow(&mut self) -> bool {
        let Self::File {
            path,
            file,
            looked_at,
        } = self
        else {
            return false;
        };
        if looked_at.elapsed() < LOOK_AGAIN {
            return false;
        }
        *looked_at = Instant::now();
        let number = |meta: io::Result<std::fs::Metadata>| meta.map(|meta| (meta.dev(), meta.ino())).ok();
        if number(std::fs::metadata(&*path)) == number(file.metadata()) {
            return false;
        }
        match open(path) {
            Ok(new) => {
                *file = new;
                true
            }
            // What is open is still better than nothing.
            Err(_) => false,
        }
    }

    /// Whether its file ends within a line: whoever wrote there before was ended by a full disk, or by force.
    fn is_torn(&self) -> bool {
        let Self::File { path, file, .. } = self else {
            return false;
        };
        let meta = file.metadata().ok().filter(std::fs::Metadata::is_file);
        let Some(at) = meta.and_then(|meta| meta.len().checked_sub(1)) else {
            return false;
        };
        let mut last = [0];
        // What is open is only for writing.
        let read = File::open(path).and_then(|file| file.read_exact_at(&mut last, at));
        read.is_ok() && last != *b"\n"
    }
}

fn open(path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        // A pipe that nobody reads would be waited for, without a word.
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path);
    let file = opened.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::NXIO) => io::Error::new(error.kind(), "it is a pipe, and nobody reads it"),
        _ => error,
    })?;
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

/// Writes what comes.
pub(super) struct Writer {
    target: Target,
    when_full: WhenFull,
    /// Lines that were left out, and not told yet.
    dropped: Arc<AtomicU64>,
    /// All that were ever left out.
    dropped_total: Arc<AtomicU64>,
    /// A line was written in part.
    is_torn: bool,
    is_failing: bool,
}

impl Writer {
    /// `dropped`: lines that were left out and not told yet, and all that ever were.
    pub(super) fn new(
        target: Target,
        when_full: WhenFull,
        dropped: (Arc<AtomicU64>, Arc<AtomicU64>),
    ) -> Self {
        let (dropped, dropped_total) = dropped;
        let is_torn = target.is_torn();
        Self {
            target,
            when_full,
            dropped,
            dropped_total,
            is_torn,
            is_failing: false,
        }
    }

    /// Until nobody is left who could add lines.
    pub(super) fn run(mut self, mut waiting: Receiver<Entry>) {
        while let Some(entry) = waiting.blocking_recv() {
            self.tell_dropped(&waiting);
            match entry {
                Entry::Line(line) if !self.put(&line, &waiting) => {
                    self.dropped_total.fetch_add(1, Ordering::Relaxed);
                    self.leave_out(1);
                }
                Entry::Line(_) => (),
                // Nobody may wait for it any more.
                Entry::Flush(done) => drop(done.send(())),
            }
        }
        self.tell_dropped(&waiting);
    }

    fn tell_dropped(&mut self, waiting: &Receiver<Entry>) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let line = Event::new("audit_lines_dropped").with("lines", dropped).line();
            if !self.put(&line, waiting) {
                self.leave_out(dropped);
            }
        }
    }

    fn leave_out(&self, lines: u64) {
        self.dropped.fetch_add(lines, Ordering::Relaxed);
    }

    /// Writes a line, as often as it takes. `false`: it is to be left out.
    fn put(&mut self, line: &[u8], waiting: &Receiver<Entry>) -> bool {
        let mut tries_left = LAST_TRIES;
        loop {
            match self.try_put(line) {
                Ok(()) => {
                    if std::mem::take(&mut self.is_failing) {
                        tracing::info!("audit lines are written again");
                    }
                    return true;
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.is_failing, true) {
                        let to = self.target.name();
                        tracing::error!(to, %error, "audit lines cannot be written");
                    }
                }
            }
            let is_last = waiting.is_closed();
            tries_left -= u32::from(is_last);
            if tries_left == 0 || (self.when_full == WhenFull::Drop && !is_last) {
                return false;
            }
            park_timeout(TRY_AGAIN);
        }
    }

    fn try_put(&mut self, line: &[u8]) -> io::Result<()> {
        if self.target.follow() {
            self.is_torn = self.target.is_torn();
        }
        if self.is_torn {
            self.write_all(b"\n")?;
            self.is_torn = false;
        }
        self.write_all(line)
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.target.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    self.is_torn = !bytes.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
