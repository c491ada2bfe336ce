//! Log lines on their way out: gathered, and written by a thread of their own.
//!
//! A reader that stalls must not stall sessions, and a thread that is woken for each line costs more than the line. So
//! lines wait in one buffer, for [`GATHER_FOR`] after the first, and are written together. It knows nothing of what a line
//! says. Called by [`super::begin`].

use std::{
    io::{self, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

/// Bytes that wait; lines beyond are left out, and counted.
const BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long a line may wait for others.
const GATHER_FOR: Duration = Duration::from_millis(5);
/// A buffer that has become larger is given back once it is written.
const BYTES_KEPT: usize = 256 * 1024;
/// How long the end waits for a reader that does not take what is left.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// Where lines are put. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Lines(Arc<Queue>);

/// The thread that writes them. Dropping it writes what still waits.
pub(super) struct Writing {
    lines: Lines,
    /// Closed by the thread's end.
    ended: mpsc::Receiver<()>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// Something is waiting, or it is over.
    came: Condvar,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// Lines that did not fit, and were not told yet.
    dropped: u64,
    is_over: bool,
}

impl Lines {
    /// Begins to write to `out`. How many lines were left out is told to `tell_dropped`, on the writing thread.
    ///
    /// # Errors
    /// What the system says where a thread cannot be made.
    pub(super) fn write_to(
        &self,
        out: impl Write + Send + 'static,
        tell_dropped: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Writing> {
        let (lines, (end, ended)) = (self.clone(), mpsc::channel());
        thread::Builder::new().name("log".into()).spawn(move || {
            lines.0.write_all(out, tell_dropped);
            drop(end);
        })?;
        Ok(Writing {
            lines: self.clone(),
            ended,
        })
    }

    fn put(&self, line: &[u8]) {
        let mut waiting = self.0.lock();
        if waiting.bytes.len() + line.len() > BYTES_MAX {
            waiting.dropped += 1;
            return;
        }
        let is_first = waiting.bytes.is_empty();
        waiting.bytes.extend_from_slice(line);
        drop(waiting);
        if is_first {
            self.0.came.notify_one();
        }
    }
}

/// Each write is a line.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until it is over and nothing waits any more.
    fn write_all(&self, mut out: impl Write, tell_dropped: impl Fn(u64)) {
        let mut bytes = Vec::new();
        while let Some(dropped) = self.take(&mut bytes) {
            // Where nobody reads them there is nobody to tell of it either.
            let _ = out.write_all(&bytes).and_then(|()| out.flush());
            bytes.clear();
            bytes.shrink_to(BYTES_KEPT);
            if dropped > 0 {
                tell_dropped(dropped);
            }
        }
    }

    /// Waits for lines and puts them into `bytes`, which is empty; how many were left out beside them.
    fn take(&self, bytes: &mut Vec<u8>) -> Option<u64> {
        let is_idle = |waiting: &mut Waiting| waiting.bytes.is_empty() && !waiting.is_over;
        let waiting = self.came.wait_while(self.lock(), is_idle);
        let waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        let is_gathering = |waiting: &mut Waiting| !waiting.is_over;
        let gathered = self.came.wait_timeout_while(waiting, GATHER_FOR, is_gathering);
        let (mut waiting, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        if waiting.bytes.is_empty() {
            return None;
        }
        mem::swap(&mut waiting.bytes, bytes);
        Some(mem::take(&mut waiting.dropped))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.lines.0.lock().is_over = true;
        self.lines.0.came.notify_one();
        // An error is what is waited for, or that it takes too long.
        let _ = self.ended.recv_timeout(END_TIMEOUT);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Takes a write only when it is told to, and keeps what was written, write by write.
    struct Slow {
        go_on: mpsc::Receiver<()>,
        written: Arc<Mutex<Vec<String>>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // An error means that it need not wait any more.
            let _ = self.go_on.recv();
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            self.written.lock().unwrap().push(text);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Bench {
        lines: Lines,
        writing: Writing,
        go_on: mpsc::Sender<()>,
        written: Arc<Mutex<Vec<String>>>,
        dropped: Arc<AtomicU64>,
    }

    impl Bench {
        fn new() -> Self {
            let (lines, (go_on, told)) = (Lines::default(), mpsc::channel());
            let (written, dropped) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<AtomicU64>::default());
            let out = Slow {
                go_on: told,
                written: written.clone(),
            };
            let count = dropped.clone();
            let tell = move |lines| {
                count.fetch_add(lines, Ordering::Relaxed);
            };
            let writing = lines.write_to(out, tell).unwrap();
            Self {
                lines,
                writing,
                go_on,
                written,
                dropped,
            }
        }

        /// Until what was put so far is with the thread, which waits for its reader.
        fn is_stalled(&self) {
            while !self.lines.0.lock().bytes.is_empty() {
                thread::yield_now();
            }
        }

        /// Everything was written; write by write.
        fn end(self) -> Vec<String> {
            drop(self.go_on);
            drop(self.writing);
            Arc::into_inner(self.written).unwrap().into_inner().unwrap()
        }
    }

    #[test]
    fn lines_that_come_together_are_written_together_and_in_order() {
        let bench = Bench::new();
        bench.lines.put(b"first\n");
        bench.is_stalled();
        for line in 0..1000 {
            bench.lines.put(format!("{line}\n").as_bytes());
        }

        let written = bench.end();
        let all = (0..1000).map(|line| format!("{line}\n")).collect::<String>();
        assert_eq!(written, ["first\n".to_owned(), all]);
    }

    #[test]
    fn a_reader_that_stalls_holds_up_nobody_and_what_did_not_fit_is_told() {
        let bench = Bench::new();
        bench.lines.put(b"first\n");
        bench.is_stalled();
        let long = vec![b'x'; BYTES_MAX / 2];
        for _ in 0..5 {
            bench.lines.put(&long);
        }
        bench.lines.put(b"last\n");
        let dropped = bench.dropped.clone();

        let written = bench.end();
        assert_eq!(dropped.load(Ordering::Relaxed), 4);
        assert_eq!(written.len(), 2);
        assert_eq!(written[1].len(), BYTES_MAX);
    }

    #[test]
    fn the_end_does_not_wait_for_a_reader_without_end() {
        let bench = Bench::new();
        bench.lines.put(b"first\n");
        drop(bench.writing);
        bench.go_on.send(()).unwrap();
    }
}
