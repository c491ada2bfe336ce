//! What a Postgres still has to say to what it was sent: so that a test knows when an answer is complete, also where
//! an error has it skip messages, where a COPY swallows Syncs, and where nothing is said before the next Flush.
//!
//! Only a real Postgres is read by it; what pgwake says is compared with that.
//! <https://www.postgresql.org/docs/current/protocol-flow.html>

use std::collections::VecDeque;

use super::{
    line::{Ear, Line, Silence, Way},
    said::{Kind, Said},
};
use crate::harness::raw::Message;

/// One exchange with a Postgres.
#[derive(Debug)]
pub(crate) struct Awaited {
    queue: VecDeque<Said>,
    mode: Mode,
    /// As the last ReadyForQuery said.
    status: u8,
    /// Something extended was sent after the last Sync.
    unsynced: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Normal,
    /// An extended message failed: everything is ignored up to Sync.
    Skipping,
    /// The server reads COPY data for a simple Query.
    CopyingSimple,
    /// The same for an Execute.
    CopyingExtended,
}

/// Which messages end an answer.
struct Answer {
    ends: &'static [u8],
    /// An error ends it, too, and has the server skip to Sync.
    skips: bool,
}

impl Default for Awaited {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            mode: Mode::Normal,
            status: b'I',
            unsynced: false,
        }
    }
}

impl Awaited {
    /// Whether the session must not be anybody else's now.
    pub(crate) fn holds(&self) -> bool {
        self.status != b'I' || self.mode != Mode::Normal || self.unsynced || !self.queue.is_empty()
    }

    /// `I`, `T` or `E`.
    pub(crate) fn status(&self) -> u8 {
        self.status
    }

    /// Says it and reads all that Postgres says before it is told more, or until it says nothing more.
    pub(crate) async fn ask(
        &mut self,
        line: &mut Line,
        said: &[Said],
    ) -> (Vec<Message>, Result<(), Silence>) {
        self.queue.extend(said.iter().cloned());
        line.say_while(said, Way::Whole, async |ear| self.listen(ear).await)
            .await
    }

    async fn listen(&mut self, ear: &mut Ear<'_>) -> (Vec<Message>, Result<(), Silence>) {
        let mut all = Vec::new();
        let end = self.read_all(ear, &mut all).await;
        (all, end)
    }

    async fn read_all(&mut self, ear: &mut Ear<'_>, all: &mut Vec<Message>) -> Result<(), Silence> {
        while !self.is_waiting() {
            let Some(said) = self.queue.pop_front() else {
                break;
            };
            if let Some(answer) = self.answer(&said)? {
                self.read(ear, &answer, all).await?;
            }
        }
        Ok(())
    }

    /// Whether the answer to what is next stays in the server's buffer until something pushes it out.
    fn is_waiting(&self) -> bool {
        let is_buffered = match (self.queue.front(), self.mode) {
            (Some(said), Mode::Normal) => said.is_extended(),
            (Some(said), Mode::CopyingExtended) => *said == Said::CopyDone,
            _ => false,
        };
        is_buffered && !self.queue.iter().any(Said::pushes)
    }

    /// Silent where Postgres would not answer as it should: no session lives through a Query in a COPY.
    fn answer(&mut self, said: &Said) -> Result<Option<Answer>, Silence> {
        let simple = |ends| Some(Answer { ends, skips: false });
        let extended = |ends| Some(Answer { ends, skips: true });
        Ok(match (self.mode, said) {
            (Mode::Skipping, Said::Sync) | (Mode::Normal, Said::Sync) => {
                (self.mode, self.unsynced) = (Mode::Normal, false);
                simple(b"Z")
            }
            (Mode::Skipping, _) => None,
            (Mode::CopyingSimple, Said::CopyDone | Said::CopyFail(_)) => simple(b"ZG"),
            (Mode::CopyingSimple, Said::Data { is_wrong: true, .. }) => simple(b"Z"),
            (Mode::CopyingExtended, Said::CopyDone | Said::CopyFail(_)) => extended(b"C"),
            (Mode::CopyingExtended, Said::Data { is_wrong: true, .. }) => extended(b"E"),
            (Mode::CopyingSimple | Mode::CopyingExtended, Said::Data { .. } | Said::Sync | Said::Flush) => {
                None
            }
            (Mode::CopyingSimple | Mode::CopyingExtended, _) => return Err(Silence::Silent),
            (Mode::Normal, Said::Query(_) | Said::Call { .. } | Said::CallTexts { .. }) => simple(b"ZG"),
            (Mode::Normal, Said::Flush | Said::Data { .. } | Said::CopyDone | Said::CopyFail(_)) => None,
            (Mode::Normal, said) => {
                self.unsynced = true;
                extended(match said {
                    Said::Parse { .. } => b"1",
                    Said::Bind { .. } => b"2",
                    Said::Close(..) => b"3",
                    Said::Describe(Kind::Statement | Kind::Portal, _) => b"Tn",
                    _ => b"CIsG",
                })
            }
        })
    }

    async fn read(
        &mut self,
        ear: &mut Ear<'_>,
        answer: &Answer,
        all: &mut Vec<Message>,
    ) -> Result<(), Silence> {
        loop {
            let message = ear.message().await?;
            let tag = message.tag;
            if tag == b'Z' {
                (self.mode, self.status) = (Mode::Normal, message.body[0]);
            }
            all.push(message);
            if tag == b'E' && answer.skips {
                self.mode = Mode::Skipping;
                return Ok(());
            }
            if !answer.ends.contains(&tag) {
                continue;
            }
            match (tag, answer.skips) {
                (b'G', true) => self.mode = Mode::CopyingExtended,
                (b'G', false) => self.mode = Mode::CopyingSimple,
                (b'C', _) => self.mode = Mode::Normal,
                _ => (),
            }
            return Ok(());
        }
    }
}
