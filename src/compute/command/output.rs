//! What a command says: the beginning of it, which may be an address, and the end of it, for the log.
//!
//! All of it is read for as long as the command runs, or it would stand still before a full pipe; little of it is
//! kept. What the command leaves running may hold the pipe open for ever, so its end is never waited for. Called by
//! `run`.

use std::{collections::VecDeque, convert::Infallible, future::pending, io, os::fd::OwnedFd, time::Duration};

use rustix::io::{Errno, read};
use tokio::{net::unix::pipe::Receiver, time::sleep};

use super::super::process::server_log::last_lines;

/// More than any address has.
const BEGINNING_BYTES_MAX: usize = 512;
/// Enough for an error with its context.
const END_BYTES_MAX: usize = 8 * 1024;
/// What is read at once.
const CHUNK_BYTES: usize = 8 * 1024;
/// Who says more is listened to slowly: by 8 MiB a second, which costs this thread next to nothing.
const PATIENT_BYTES: u64 = 1024 * 1024;
const SLOWLY: Duration = Duration::from_millis(1);
/// What may still be in a pipe when its writer has ended; others may go on writing.
const REST_BYTES_MAX: usize = 1024 * 1024;

/// One output of a command.
#[derive(Debug)]
pub(super) struct Output {
    /// `None` once everybody has closed it.
    pipe: Option<Receiver>,
    beginning: Vec<u8>,
    end: VecDeque<u8>,
    bytes: u64,
}

impl Output {
    /// The end of a pipe that is read.
    ///
    /// # Errors
    /// The runtime cannot watch it.
    pub(super) fn new(pipe: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            pipe: Some(Receiver::from_owned_fd(pipe)?),
            beginning: Vec::new(),
            end: VecDeque::new(),
            bytes: 0,
        })
    }

    /// Reads, for ever. Cancel safe.
    pub(super) async fn drain(&mut self) -> Infallible {
        let mut chunk = [0; CHUNK_BYTES];
        while let Some(pipe) = &self.pipe {
            let read = match pipe.readable().await {
                Ok(()) => pipe.try_read(&mut chunk),
                Err(error) => Err(error),
            };
            match read {
                Ok(0) => self.pipe = None,
                Ok(count) => self.take(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => self.pipe = None,
            }
            if self.bytes > PATIENT_BYTES {
                sleep(SLOWLY).await;
            }
        }
        pending().await
    }

    /// Takes what the command said last, and closes the pipe.
    pub(super) fn finish(&mut self) {
        let Some(pipe) = self.pipe.take() else { return };
        let mut chunk = [0; CHUNK_BYTES];
        let mut rest = 0;
        // Asked of the system itself: the runtime may not have heard of the last bytes yet.
        while rest < REST_BYTES_MAX {
            match read(&pipe, &mut chunk) {
                Ok(0) => return,
                Ok(count) => {
                    self.take(&chunk[..count]);
                    rest += count;
                }
                Err(Errno::INTR) => (),
                Err(_) => return,
            }
        }
    }

    fn take(&mut self, chunk: &[u8]) {
        self.bytes += chunk.len() as u64;
        let room = BEGINNING_BYTES_MAX.saturating_sub(self.beginning.len());
        self.beginning.extend(&chunk[..room.min(chunk.len())]);
        self.end.extend(chunk);
        let over = self.end.len().saturating_sub(END_BYTES_MAX);
        self.end.drain(..over);
    }

    /// The only line that was said; empty where nothing was. `None`: there are several, or it is too long, or no text.
    pub(super) fn line(&self) -> Option<&str> {
        if self.bytes > self.beginning.len() as u64 {
            return None;
        }
        let text = str::from_utf8(&self.beginning).ok()?.trim_end();
        (!text.contains(char::is_control)).then_some(text)
    }

    fn end(&self) -> String {
        let (first, second) = self.end.as_slices();
        String::from_utf8_lossy(&[first, second].concat()).into_owned()
    }
}

/// The last lines of both, errors last; `None` where there are none.
pub(super) fn tail(output: &Output, errors: &Output) -> Option<String> {
    last_lines(&format!("{}\n{}", output.end(), errors.end()))
}

#[cfg(test)]
mod tests {
    use std::io::{PipeWriter, Write, pipe};

    use super::*;

    fn opened() -> (Output, PipeWriter) {
        let (reader, writer) = pipe().unwrap();
        (Output::new(reader.into()).unwrap(), writer)
    }

    #[tokio::test]
    async fn a_line_is_one_line_of_text_and_not_too_long() {
        for (said, line) in [
            ("", Some("")),
            ("\n", Some("")),
            ("127.0.0.1:5433\n", Some("127.0.0.1:5433")),
            ("127.0.0.1:5433", Some("127.0.0.1:5433")),
            ("a\nb\n", None),
            ("a\r\n", Some("a")),
            ("\x1b[1ma\n", None),
        ] {
            let (mut output, mut writer) = opened();
            writer.write_all(said.as_bytes()).unwrap();
            output.finish();
            assert_eq!(output.line(), line, "{said:?}");
        }
        for said in [vec![b'a'; BEGINNING_BYTES_MAX + 1], vec![0xff; 10]] {
            let (mut output, mut writer) = opened();
            writer.write_all(&said).unwrap();
            output.finish();
            assert_eq!(output.line(), None);
        }
    }

    #[tokio::test]
    async fn nobody_waits_for_a_pipe_that_somebody_else_holds_open() {
        let (mut output, mut writer) = opened();
        let _held = writer.try_clone().unwrap();
        writer.write_all(b"said").unwrap();
        drop(writer);
        output.finish();
        assert_eq!(output.line(), Some("said"));
    }

    #[tokio::test]
    async fn megabytes_are_read_and_the_end_is_kept() {
        let (mut output, mut writer) = opened();
        let speaker = std::thread::spawn(move || {
            for number in 0..300_000 {
                writeln!(writer, "line {number}").unwrap();
            }
        });
        tokio::select! {
            never = output.drain() => match never {},
            () = async { while !speaker.is_finished() { sleep(SLOWLY).await } } => (),
        }
        speaker.join().unwrap();
        output.finish();
        assert_eq!(output.line(), None);
        let errors = opened().0;
        let tail = tail(&output, &errors).unwrap();
        assert_eq!(tail.lines().last(), Some("line 299999"));
        assert!(output.end.len() <= END_BYTES_MAX && output.beginning.len() <= BEGINNING_BYTES_MAX);
    }
}
