//! The thread that writes audit lines, and what it does while it cannot.
//!
//! A file that was moved away, or removed, is begun anew. A line that was written in part is finished before the next, and
//! one that somebody else has left so is ended.
//! Called by [`super::Audit`].

use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt},
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

/// A new file is for its owner, and for a group that may read it.
const MODE: u32 = 0o640;

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
    let mut options = OpenOptions::new();
    options
        .append(true)
        .mode(MODE)
        // A pipe that nobody reads would be waited for, without a word.
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    let opened = match options.clone().create_new(true).open(path) {
        // Whatever the umask is: the unit that comes with pgwake has 0077, and who collects logs reads by its group.
        Ok(file) => file.set_permissions(Permissions::from_mode(MODE)).map(|()| file),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.create(true).open(path),
        Err(error) => Err(error),
    };
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
    /// The file ends within a line of somebody else.
    is_torn: bool,
    /// A line that is not written whole.
    begun: Option<Begun>,
    is_failing: bool,
}

/// A line on its way.
#[derive(Default)]
struct Begun {
    line: Vec<u8>,
    /// So many of its bytes are in the file.
    written: usize,
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
            begun: None,
            is_failing: false,
        }
    }

    /// Until nobody is left who could add lines.
    pub(super) fn run(mut self, mut waiting: Receiver<Entry>) {
        while let Some(entry) = waiting.blocking_recv() {
            self.tell_dropped(&waiting);
            match entry {
                Entry::Line(line, told) => {
                    if !self.put(line, &waiting) {
                        self.dropped_total.fetch_add(1, Ordering::Relaxed);
                        self.leave_out(1);
                    }
                    // Who has told it may have left.
                    told.map(|told| told.send(()));
                }
                // Nobody may wait for it any more.
                Entry::Flush(done) => drop(done.send(())),
            }
        }
        self.tell_dropped(&waiting);
        self.finish(&waiting);
    }

    fn tell_dropped(&mut self, waiting: &Receiver<Entry>) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let line = Event::new("audit_lines_dropped").with("lines", dropped).line();
            if !self.put(line, waiting) {
                self.leave_out(dropped);
            }
        }
    }

    fn leave_out(&self, lines: u64) {
        self.dropped.fetch_add(lines, Ordering::Relaxed);
    }

    /// Writes a line. `false`: it is to be left out. One that is there in part is not: the rest follows.
    fn put(&mut self, line: Vec<u8>, waiting: &Receiver<Entry>) -> bool {
        if !self.finish(waiting) {
            return false;
        }
        self.begun = Some(Begun { line, written: 0 });
        if self.finish(waiting) {
            return true;
        }
        self.begun.take_if(|begun| begun.written == 0).is_none()
    }

    /// Writes what is left of the line on its way, as often as it takes. `false`: not now.
    fn finish(&mut self, waiting: &Receiver<Entry>) -> bool {
        let mut tries_left = LAST_TRIES;
        loop {
            match self.try_finish() {
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

    fn try_finish(&mut self) -> io::Result<()> {
        let Self { target, begun, .. } = self;
        let Some(begun) = begun else { return Ok(()) };
        if target.follow() {
            self.is_torn = target.is_torn();
            // All of it belongs into the new file.
            begun.written = 0;
        }
        if self.is_torn {
            target.write(b"\n")?;
            self.is_torn = false;
        }
        while begun.written < begun.line.len() {
            match target.write(&begun.line[begun.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => begun.written += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        self.begun = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{PipeReader, Read, pipe},
        os::fd::{AsRawFd, OwnedFd},
    };

    use tokio::sync::mpsc;

    use super::*;

    /// Room for one line, if it is short.
    const ROOM: usize = 4096;

    /// A file that takes a page and nothing more, until somebody reads it.
    fn full_soon() -> (Target, PipeReader) {
        let (reader, writer) = pipe().unwrap();
        rustix::pipe::fcntl_setpipe_size(&writer, ROOM).unwrap();
        fcntl_setfl(&writer, fcntl_getfl(&writer).unwrap() | OFlags::NONBLOCK).unwrap();
        let path = format!("/proc/self/fd/{}", writer.as_raw_fd());
        let target = Target::File {
            path: path.into(),
            file: File::from(OwnedFd::from(writer)),
            looked_at: Instant::now(),
        };
        (target, reader)
    }

    /// The rest of it was left out, so that what stood there was no line of JSON.
    #[test]
    fn a_line_that_a_full_disk_has_cut_is_finished_before_the_next() {
        let (target, mut reader) = full_soon();
        let (_lines, waiting) = mpsc::channel(1);
        let mut writer = Writer::new(target, WhenFull::Drop, Default::default());
        let line = |text: &str| Event::new("one").with("text", text).line();
        let (long, short) = (line(&"x".repeat(ROOM)), line("short"));
        assert!(writer.put(long.clone(), &waiting));
        assert!(!writer.put(short.clone(), &waiting), "there was no room for it");
        let mut read = vec![0; ROOM];
        reader.read_exact(&mut read).unwrap();
        assert!(writer.put(short.clone(), &waiting));
        drop(writer);
        reader.read_to_end(&mut read).unwrap();
        assert_eq!(read, [long, short].concat());
    }
}
