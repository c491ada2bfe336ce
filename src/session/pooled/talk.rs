//! pgwake's own words with a server session, between turns: a flight of messages and its answers.
//!
//! What is asked, and what the answers mean, is `bring`'s work. The session is a client's as far as its state goes,
//! so nothing here trusts it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

use crate::session::{relay::End, reported::Reported};
use crate::tls::Stream;
use crate::wire::WireError;
use crate::wire::message::{Message, take_message};
use crate::wire::reply::{ErrorFields, error_fields};

/// How long a server may take for an answer that needs no lock and no disk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest message of an answer.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// All rows of an answer together.
const ROWS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a server says beside its answers.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// ParameterStatus.
    pub(super) reported: Reported,
    /// Whole NotificationResponse messages: the client listens.
    pub(super) notifications: BytesMut,
    /// ReadyForQuery, counted from 0, that an error may come before.
    pub(super) may_fail: Vec<usize>,
    /// Those of them that one came before, with it.
    pub(super) failed: Vec<(usize, Bytes)>,
}

impl Heard {
    /// Whether an error came before this ReadyForQuery, where one may.
    fn has_failed(&self, ready: usize) -> bool {
        self.failed.iter().any(|(failed, _)| *failed == ready)
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum TalkError {
    /// The server refused it, and the rest of its flight.
    #[error("{} {}", fields.sqlstate, fields.message)]
    Refused {
        /// What pgwake looks at.
        fields: ErrorFields,
        /// The whole message.
        message: Bytes,
    },
    /// It left, or broke the protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// It answered with more than is read; all of it has come.
    #[error("the answer is too long")]
    TooLong,
    /// It said nothing for too long.
    #[error("no answer in time")]
    Timeout,
    /// Something else has ended the wait for an answer.
    #[error("the wait for an answer is over")]
    Over(Box<End>),
}

/// Sends a flight that is answered with so many ReadyForQuery; gives the bodies of all rows, unless `ended` comes first.
/// After an error the session is in a state that nobody knows. Not cancel safe: the session is given up with it.
pub(super) async fn talk(
    stream: &mut Stream,
    heard: &mut Heard,
    (flight, readies): (&[u8], usize),
    ended: impl Future<Output = TalkError>,
) -> Result<Vec<Bytes>, TalkError> {
    let answer = async {
        stream.write_all(flight).await.map_err(WireError::Gone)?;
        stream.flush().await.map_err(WireError::Gone)?;
        answers(stream, heard, readies).await
    };
    // The answer first: one that came in the same instant is not thrown away.
    tokio::select! { biased;
        answer = answer => answer,
        error = ended => Err(error),
    }
}

/// Ends the wait for an answer that needs no lock and no disk.
pub(super) async fn no_answer() -> TalkError {
    sleep(ANSWER_TIMEOUT).await;
    TalkError::Timeout
}

async fn answers(
    stream: &mut Stream,
    heard: &mut Heard,
    mut readies: usize,
) -> Result<Vec<Bytes>, TalkError> {
    let mut read = BytesMut::with_capacity(1024);
    let mut rows = Vec::new();
    let mut rows_bytes = 0;
    let mut refused = None;
    let mut heard_readies = 0;
    while readies > 0 {
        let message = next(stream, &mut read).await?;
        match message.tag {
            b'D' => {
                rows_bytes += message.body.len();
                if rows_bytes > ROWS_BYTES_MAX {
                    rows = Vec::new();
                } else {
                    rows.push(message.body);
                }
            }
            b'S' => heard.reported.note(&message.body),
            b'A' => message.put(&mut heard.notifications),
            b'E' if error_fields(&message.body).ends_session => return Err(refusal(&message)),
            b'E' if heard.may_fail.contains(&heard_readies) => {
                heard.failed.push((heard_readies, whole(&message)));
            }
            b'E' if refused.is_none() => refused = Some(message),
            b'Z' if matches!(message.body[..], [b'I' | b'T'])
                || refused.is_some()
                || heard.has_failed(heard_readies) =>
            {
                heard_readies += 1;
                readies -= 1;
            }
            b'Z' => return Err(WireError::Violation("the server is in a failed transaction").into()),
            _ => (),
        }
    }
    if !read.is_empty() {
        // Only what may come at any time; a part of a message would be lost with this buffer.
        notes(&mut read, heard)?;
    }
    match refused {
        Some(message) => Err(refusal(&message)),
        None if rows_bytes > ROWS_BYTES_MAX => Err(TalkError::TooLong),
        None => Ok(rows),
    }
}

impl TalkError {
    /// Whether another session may do better: the server ended or cancelled what was to be done, for reasons of its own
    /// or by a time limit that the session's last client had set.
    pub(super) fn is_of_session(&self) -> bool {
        match self {
            Self::Refused { fields, .. } => fields.sqlstate.starts_with("57"),
            Self::Wire(_) | Self::Timeout => true,
            Self::TooLong | Self::Over(_) => false,
        }
    }

    /// Whether the server has said no.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    /// Whether the session is as good as before, and only the question was not answered.
    pub(super) fn is_of_question(&self) -> bool {
        match self {
            Self::Refused { fields, .. } => !fields.ends_session,
            Self::TooLong => true,
            Self::Wire(_) | Self::Timeout | Self::Over(_) => false,
        }
    }
}

/// Sends a flight that ends whatever is open, and throws the answers away. Not cancel safe.
pub(super) async fn drain(
    stream: &mut Stream,
    heard: &mut Heard,
    flight: &[u8],
    mut readies: usize,
) -> Result<(), TalkError> {
    stream.write_all(flight).await.map_err(WireError::Gone)?;
    stream.flush().await.map_err(WireError::Gone)?;
    let mut read = BytesMut::with_capacity(1024);
    while readies > 0 {
        let message = next(stream, &mut read).await?;
        match message.tag {
            b'S' => heard.reported.note(&message.body),
            b'Z' => readies -= 1,
            _ => (),
        }
    }
    notes(&mut read, heard)
}

fn notes(read: &mut BytesMut, heard: &mut Heard) -> Result<(), TalkError> {
    while let Some(message) = take_message(read, MESSAGE_BYTES_MAX)? {
        match message.tag {
            b'S' => heard.reported.note(&message.body),
            b'A' => message.put(&mut heard.notifications),
            b'N' => (),
            _ => return Err(refusal(&message)),
        }
    }
    if read.is_empty() {
        return Ok(());
    }
    Err(WireError::Violation("the server says something that nobody asked for").into())
}

fn refusal(message: &Message) -> TalkError {
    TalkError::Refused {
        fields: error_fields(&message.body),
        message: whole(message),
    }
}

fn whole(message: &Message) -> Bytes {
    let mut whole = BytesMut::new();
    message.put(&mut whole);
    whole.freeze()
}

async fn next(stream: &mut Stream, read: &mut BytesMut) -> Result<Message, WireError> {
    loop {
        if let Some(message) = take_message(read, MESSAGE_BYTES_MAX)? {
            return Ok(message);
        }
        if stream.read_buf(read).await? == 0 {
            return Err(WireError::Gone(std::io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;

    const READY: &[u8] = b"Z\0\0\0\x05I";
    const ERROR: &[u8] = b"E\0\0\0\x17SERROR\0C42501\0Mno\0\0";
    const FATAL: &[u8] = b"E\0\0\0\x17SFATAL\0C57P01\0Mno\0\0";

    /// What a server that says this and leaves has answered to two questions.
    async fn answered(words: &[&[u8]]) -> Result<Vec<Bytes>, TalkError> {
        let (near, mut far) = UnixStream::pair().unwrap();
        far.write_all(&words.concat()).await.unwrap();
        // Not closed before all of it is read: a reset would take it away.
        far.shutdown().await.unwrap();
        let (mut stream, mut heard) = (Stream::Unix(near), Heard::default());
        talk(&mut stream, &mut heard, (b"", 2), no_answer()).await
    }

    #[tokio::test]
    async fn a_refused_question_leaves_the_session_as_good_as_before() {
        let refused = answered(&[ERROR, READY, READY]).await.unwrap_err();

        assert!(refused.is_of_question(), "{refused}");
        assert!(!refused.is_of_session(), "{refused}");
    }

    /// A session that was ended just then was taken for one that does not tell its state, and its client for one that
    /// keeps it; and a database for one that does not tell its functions, until it was woken again.
    #[tokio::test]
    async fn the_end_of_the_session_is_no_answer_wherever_it_comes() {
        for words in [
            [FATAL, b"", b""],
            [READY, FATAL, b""],
            [READY, READY, FATAL],
            [ERROR, READY, FATAL],
        ] {
            let ended = answered(&words).await.unwrap_err();

            assert!(
                ended.is_of_session() && !ended.is_of_question(),
                "{words:?}: {ended}"
            );
            assert!(ended.to_string().starts_with("57P01"), "its own words: {ended}");
        }
    }
}
