//! A connection whose every wait ends with a word about it and not with a panic: who compares two of them wants to
//! say where they part. Writes in any pieces.

use std::{path::Path, time::Duration};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use super::said::{Said, encoded};
use crate::harness::{
    postgres::PASSWORD,
    raw::{Message, PROTOCOL_3_0, Raw, startup},
};

/// How long an answer may take that comes at once; a client may have to wait for a session meanwhile.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// Bytes of a large message that are written one by one.
const BYTEWISE_MAX: usize = 1200;

/// In what pieces bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// All that is said before an answer is read, in one write.
    Whole,
    /// Each message by itself.
    Messages,
    /// Each byte by itself.
    Bytes,
    /// All that one client says before another one does something, in one write.
    Together,
}

/// Who logs in where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) user: String,
    pub(crate) database: String,
    /// Further startup parameters.
    pub(crate) parameters: Vec<(String, String)>,
}

/// Why there is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// The other side has closed.
    Closed,
    /// It neither answers nor closes.
    Silent,
}

/// One connection.
pub(crate) struct Line {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
}

impl Who {
    pub(crate) fn new(user: &str, database: &str) -> Self {
        Self {
            user: user.to_owned(),
            database: database.to_owned(),
            parameters: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.parameters.push((name.to_owned(), value.to_owned()));
        self
    }

    fn startup(&self) -> Vec<u8> {
        let mut all = vec![("user", &*self.user), ("database", &*self.database)];
        all.extend(self.parameters.iter().map(|(name, value)| (&**name, &**value)));
        startup(PROTOCOL_3_0, &all)
    }
}

impl Line {
    /// Logs in by a Unix socket; gives what was said from AuthenticationOk on, up to ReadyForQuery or the end.
    pub(crate) async fn open(socket: &Path, who: &Who) -> (Self, Vec<Message>) {
        let mut raw = Raw::unix(socket).await;
        raw.prove(&who.startup(), PASSWORD).await;
        let mut line = Self::over(raw);
        let mut told = Vec::new();
        while let Ok(message) = line.message().await {
            let is_last = message.tag == b'Z';
            told.push(message);
            if is_last {
                break;
            }
        }
        (line, told)
    }

    /// One that has logged in already.
    pub(crate) fn over(raw: Raw) -> Self {
        let (reader, writer) = raw.split();
        Self {
            reader: Box::new(reader),
            writer: Box::new(writer),
        }
    }

    /// The next message.
    pub(crate) async fn message(&mut self) -> Result<Message, Silence> {
        read(&mut self.reader).await
    }

    /// Says it, while `listen` reads: either side may be full.
    pub(crate) async fn say_while<T>(
        &mut self,
        said: &[Said],
        way: Way,
        listen: impl AsyncFnOnce(&mut Ear<'_>) -> T,
    ) -> T {
        let mut ear = Ear(&mut self.reader);
        let writing = write(&mut self.writer, said, way);
        tokio::join!(writing, listen(&mut ear)).1
    }

    /// Says it and reads nothing.
    pub(crate) async fn say(&mut self, said: &[Said], way: Way) {
        write(&mut self.writer, said, way).await;
    }

    /// Says any bytes.
    pub(crate) async fn bytes(&mut self, bytes: &[u8]) {
        // The other side may be gone; then the next read tells.
        let _ = timeout(SILENCE_MAX, self.writer.write_all(bytes)).await;
        let _ = timeout(SILENCE_MAX, self.writer.flush()).await;
    }

    /// Up to and including the next message of this type.
    pub(crate) async fn until(&mut self, tag: u8) -> Result<Vec<Message>, Silence> {
        let mut all: Vec<Message> = Vec::new();
        while all.last().is_none_or(|last| last.tag != tag) {
            all.push(self.message().await?);
        }
        Ok(all)
    }

    /// Says it and reads up to ReadyForQuery.
    pub(crate) async fn ask(&mut self, said: &[Said], way: Way) -> Vec<Message> {
        let listen = async |ear: &mut Ear<'_>| ear.ready().await;
        self.say_while(said, way, listen).await
    }

    /// The same for a simple Query.
    pub(crate) async fn query(&mut self, sql: &str) -> Vec<Message> {
        self.ask(&[Said::query(sql)], Way::Whole).await
    }

    /// Reads up to ReadyForQuery.
    pub(crate) async fn ready(&mut self) -> Vec<Message> {
        Ear(&mut self.reader).ready().await
    }

    /// Whether nothing comes for this long; only for one to whom nothing should.
    pub(crate) async fn is_silent_for(&mut self, limit: Duration) -> bool {
        timeout(limit, self.reader.read_u8()).await.is_err()
    }

    /// Writes until nobody takes any more, and only then begins to read; gives how often ReadyForQuery came.
    pub(crate) async fn write_then_read(&mut self, bytes: BytesMut, requests: usize) -> usize {
        let mut rest = &bytes[..];
        while let Ok(written) = timeout(Duration::from_millis(500), self.writer.write(rest)).await {
            rest = &rest[written.unwrap()..];
            assert!(
                !rest.is_empty(),
                "all of it fits into buffers: this test proves nothing"
            );
        }
        let reading = async {
            let mut ready = 0;
            while ready < requests {
                match read(&mut self.reader).await {
                    Ok(message) => ready += usize::from(message.tag == b'Z'),
                    Err(silence) => panic!("{silence:?} behind {ready} answers"),
                }
            }
            ready
        };
        tokio::join!(self.writer.write_all(rest), reading).1
    }

    /// What else comes within a moment; for the report of a failure only.
    pub(crate) async fn rest(&mut self) -> Vec<Message> {
        let mut all = Vec::new();
        while let Ok(Some(message)) =
            timeout(Duration::from_millis(200), Message::read(&mut self.reader)).await
        {
            all.push(message);
        }
        all
    }

    /// Says Terminate and waits for the end.
    pub(crate) async fn leave(mut self) {
        self.bytes(b"X\0\0\0\x04").await;
        while self.message().await.is_ok() {}
    }
}

/// The half of a line that is read.
pub(crate) struct Ear<'a>(&'a mut Box<dyn AsyncRead + Send + Unpin>);

impl Ear<'_> {
    async fn ready(&mut self) -> Vec<Message> {
        let mut all: Vec<Message> = Vec::new();
        while all.last().is_none_or(|last| last.tag != b'Z') {
            match self.message().await {
                Ok(message) => all.push(message),
                Err(silence) => panic!("{silence:?} in place of ReadyForQuery, behind {all:?}"),
            }
        }
        all
    }

    pub(crate) async fn message(&mut self) -> Result<Message, Silence> {
        read(self.0).await
    }
}

async fn read(reader: &mut Box<dyn AsyncRead + Send + Unpin>) -> Result<Message, Silence> {
    match timeout(SILENCE_MAX, Message::read(reader)).await {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(Silence::Closed),
        Err(_) => Err(Silence::Silent),
    }
}

/// An end of the other side shows itself to whoever reads.
async fn write(writer: &mut Box<dyn AsyncWrite + Send + Unpin>, said: &[Said], way: Way) {
    let pieces = match way {
        Way::Whole | Way::Together => vec![encoded(said)],
        Way::Messages => said
            .iter()
            .map(|message| encoded(std::slice::from_ref(message)))
            .collect(),
        Way::Bytes => bytewise(&encoded(said)),
    };
    let writing = async {
        for piece in pieces {
            writer.write_all(&piece).await?;
            writer.flush().await?;
        }
        std::io::Result::Ok(())
    };
    let _ = timeout(SILENCE_MAX, writing).await;
}

/// Single bytes; the middle of what is long goes in pieces that fit no boundary.
fn bytewise(bytes: &[u8]) -> Vec<BytesMut> {
    let mut rest = BytesMut::from(bytes);
    let mut pieces = Vec::new();
    while rest.has_remaining() {
        let is_edge = pieces.len() < BYTEWISE_MAX || rest.len() < 64;
        let length = if is_edge { 1 } else { 1009.min(rest.len()) };
        pieces.push(rest.split_to(length));
    }
    pieces
}
