//! The messages of authentication on a stream: one at a time, and not a byte further.
//!
//! It knows how a conversation goes, not who may pass. What pgwake says is encoded with pgwire; what a stranger
//! says is read confined to its message. Called by [`super::authenticate`].

use bytes::{Bytes, BytesMut};
use pgwire::messages::startup::Authentication;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use super::{
    refusal::AuthError,
    scram::{InitialResponse, Proved, ScramServer},
};
use crate::wire::WireError;
use crate::wire::message::read_message;
use crate::wire::say::authentication;

/// Longest authentication message, with its length and without its tag: Postgres' PG_MAX_AUTH_TOKEN_LENGTH.
const MESSAGE_BYTES_MAX: usize = 65_535;

/// Type of every message that a client sends here: PasswordMessage, SASLInitialResponse, SASLResponse.
const RESPONSE: u8 = b'p';

/// Goes through a SCRAM exchange up to the client's proof; what follows is [`welcome_by_scram`]. Not cancel safe: the
/// exchange cannot be taken up again.
pub(super) async fn scram<S>(stream: &mut S, server: ScramServer) -> Result<Proved, AuthError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    say(stream, &[Authentication::SASL(server.mechanisms())]).await?;
    let body = response(stream, "SASL").await?;
    let initial = InitialResponse::parse(&body)?;
    let asked;
    let client_first = match initial.client_first {
        Some(client_first) => client_first,
        None => {
            say(stream, &[Authentication::SASLContinue(Bytes::new())]).await?;
            asked = response(stream, "SASL").await?;
            &asked
        }
    };
    let (stage, challenge) = server.challenge(initial.mechanism, client_first)?;
    say(stream, &[Authentication::SASLContinue(challenge.into())]).await?;
    let client_final = response(stream, "SASL").await?;
    Ok(stage.check(&client_final)?)
}

/// What lets a client in behind its proof: our own.
pub(super) fn welcome_by_scram(server_final: Vec<u8>) -> Vec<u8> {
    encoded(&[Authentication::SASLFinal(server_final.into()), Authentication::Ok]).into()
}

/// Asks for the password in clear; the caller has made sure that nobody listens. Not cancel safe.
pub(super) async fn password<S>(stream: &mut S) -> Result<Zeroizing<Vec<u8>>, AuthError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    say(stream, &[Authentication::CleartextPassword]).await?;
    let mut body = response(stream, "password").await?;
    // One string and its NUL, nothing before or behind it.
    if body.iter().position(|byte| *byte == 0) != body.len().checked_sub(1) || body.is_empty() {
        return Err(AuthError::PasswordSize);
    }
    body.pop();
    Ok(body)
}

/// What lets a client in that expects no proof of ours.
pub(super) fn welcome() -> Vec<u8> {
    encoded(&[Authentication::Ok]).into()
}

/// Sends the messages in one write. Not cancel safe.
async fn say<S: AsyncWrite + Unpin>(stream: &mut S, messages: &[Authentication]) -> Result<(), AuthError> {
    stream
        .write_all(&encoded(messages))
        .await
        .map_err(AuthError::Left)?;
    stream.flush().await.map_err(AuthError::Left)
}

fn encoded(messages: &[Authentication]) -> BytesMut {
    let mut bytes = BytesMut::new();
    for message in messages {
        authentication(message, &mut bytes);
    }
    bytes
}

/// Reads exactly one message and returns its body. Not cancel safe.
async fn response<S>(stream: &mut S, expected: &'static str) -> Result<Zeroizing<Vec<u8>>, AuthError>
where
    S: AsyncRead + Unpin,
{
    let reading = read_message(stream, RESPONSE, MESSAGE_BYTES_MAX - 4);
    reading.await.map_err(|error| match error {
        WireError::Gone(error) => AuthError::Left(error),
        WireError::Unexpected(found) => AuthError::Unexpected { expected, found },
        other => AuthError::Wire(other),
    })
}
