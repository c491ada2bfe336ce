//! Asks Postgres for its roles: a session of pgwake's own that reads `pg_authid` and never sees a client's
//! parameters (<https://www.postgresql.org/docs/current/catalog-pg-authid.html>).

use bytes::{Bytes, BytesMut};

use super::{
    login::LoginError,
    own_login::OwnLogin,
    server_session::{Conversation, Identity, ServerSession, Way, connect},
};
use crate::auth::{ROLES_MAX, ReadRole};
use crate::compute::Address;
use crate::ids::{Secret, SystemIdentifier};
use crate::tls::SocketSettings;
use crate::wire::reply::data_row;
use crate::wire::say;
use crate::wire::{
    WireError,
    reply::{ErrorFields, error_fields},
};

/// Which server it is. In the same breath, but a statement of its own: where the role may not ask, the roles are told
/// all the same (<https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-CONTROL-SYSTEM>).
const WHICH_SQL: &str = "; SELECT system_identifier FROM pg_catalog.pg_control_system()";

/// Every role with a password, and one more than may be: then the reading is refused. Passwords of more than 512
/// bytes are left out: a role can give itself one of that size before Postgres 18, whose limit this is. Times are
/// whole seconds since 1970; NULL: no end.
const SQL: &str = "SELECT rolname, rolpassword, rolcanlogin, \
    CASE WHEN isfinite(rolvaliduntil) THEN floor(extract(epoch FROM rolvaliduntil))::pg_catalog.int8 END \
    FROM pg_catalog.pg_authid WHERE rolpassword IS NOT NULL AND octet_length(rolpassword) <= 512 \
    ORDER BY rolname LIMIT 10001";

/// Most bytes of all rows together. The rows that were asked for have at most 600 bytes each, 6 MB in all; a server
/// that sends more is not doing what it was asked.
const ROWS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a server tells of itself.
#[derive(Debug)]
pub struct ServerTold {
    /// Its roles.
    pub roles: Vec<ReadRole>,
    /// Which one it is; `None`: the role may not ask that.
    pub server: Option<SystemIdentifier>,
}

/// Why roles could not be read. For the operator only.
#[derive(Debug, thiserror::Error)]
pub enum RolesError {
    /// No session.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// The server does not let this role read them.
    #[error("the server refused to tell its roles: {} {}", .0.sqlstate, .0.message)]
    Refused(ErrorFields),
    /// It wants a proof against another verifier than it told when its roles were last read.
    #[error(
        "the server asks for a proof against another verifier of the role that reads roles than before, and got none: it \
         may be another server. If that role's password was set anew, or the server was replaced, order forget-server"
    )]
    OtherVerifier,
    /// The server left or broke the protocol.
    #[error("the server did not tell its roles: {0}")]
    Wire(#[from] WireError),
    /// More than is kept in memory for it.
    #[error("the server's roles have more than {} MiB", ROWS_BYTES_MAX / 1024 / 1024)]
    TooLarge,
}

/// Reads the roles of the server at `address`. Not cancel safe: dropping it closes the connection.
///
/// # Errors
/// [`RolesError`]: the server could not be reached, does not let the login's role in, does not let it read, or sends
/// more than was asked for.
pub async fn read_roles(
    address: &Address,
    login: &OwnLogin,
    sockets: &SocketSettings,
) -> Result<ServerTold, RolesError> {
    let reading = &login.reading;
    let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let parameters = [
        (text("user"), text(&reading.role)),
        (text("database"), text(&reading.database)),
        (text("application_name"), text("pgwake")),
        (
            text("options"),
            text("-c search_path=pg_catalog,pg_temp -c default_transaction_read_only=on"),
        ),
        (text("client_encoding"), text("UTF8")),
    ];
    let credential = login.credential();
    let identity = Identity {
        role: &reading.role,
        credential: credential.as_ref(),
        parameters: &parameters,
    };
    // Behind everybody's back: nobody waits for it.
    match connect(address, identity, Way::fresh(sockets)).await {
        Ok(session) => ask(session).await,
        Err(error) if login.verifier.is_some() && error.is_mismatch() => Err(RolesError::OtherVerifier),
        Err(error) => Err(error.into()),
    }
}

async fn ask(session: ServerSession) -> Result<ServerTold, RolesError> {
    let mut conversation = Conversation {
        stream: session.stream,
        read: BytesMut::from(session.early),
    };
    let mut query = BytesMut::new();
    say::query(&[SQL, WHICH_SQL].concat(), &mut query);
    conversation.send(&query).await?;
    let (mut roles, mut server) = (Vec::new(), None);
    let mut rows_bytes = 0;
    let mut refusal = None;
    let mut answered = 0;
    loop {
        let message = conversation.next().await?;
        match message.tag {
            b'D' if answered > 0 => server = identifier(&message.body)?,
            b'D' if roles.len() <= ROLES_MAX => {
                rows_bytes += message.body.len();
                if rows_bytes > ROWS_BYTES_MAX {
                    return Err(RolesError::TooLarge);
                }
                roles.push(role(&message.body)?);
            }
            b'C' => answered += 1,
            // Behind the roles it is only the other question that is refused.
            b'E' if answered == 0 => refusal = Some(error_fields(&message.body)),
            b'Z' => break,
            _ => (),
        }
    }
    // Said so that the server's log has no complaint; the connection is closed in any case.
    let _ = conversation.send(say::TERMINATE).await;
    match refusal {
        Some(fields) => Err(RolesError::Refused(fields)),
        None => Ok(ServerTold { roles, server }),
    }
}

/// The row of [`WHICH_SQL`].
fn identifier(body: &[u8]) -> Result<Option<SystemIdentifier>, WireError> {
    let row = data_row(body)?;
    let number = row
        .first()
        .copied()
        .flatten()
        .and_then(|text| str::from_utf8(text).ok());
    Ok(number.and_then(|text| text.parse().ok()).map(SystemIdentifier))
}

/// One row.
fn role(body: &[u8]) -> Result<ReadRole, WireError> {
    let row = data_row(body)?;
    let [Some(name), verifier, can_login, valid_until] = row[..] else {
        return Err(WireError::Violation("the server's row is not what was asked for"));
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(ReadRole {
        name: text(name),
        verifier: verifier.map(|verifier| Secret::new(text(verifier))),
        can_login: can_login == Some(b"t"),
        valid_until: valid_until.and_then(|seconds| text(seconds).parse().ok()),
    })
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    use super::*;
    use crate::tls::Stream;

    /// A DataRow with a role that has this password.
    fn row(verifier: &[u8]) -> BytesMut {
        let mut body = BytesMut::new();
        body.put_i16(4);
        for column in [Some(&b"app"[..]), Some(verifier), Some(b"t"), None] {
            body.put_i32(column.map_or(-1, |column| i32::try_from(column.len()).unwrap()));
            body.put_slice(column.unwrap_or_default());
        }
        message(b'D', &body)
    }

    fn message(tag: u8, body: &[u8]) -> BytesMut {
        let mut message = BytesMut::new();
        message.put_u8(tag);
        message.put_i32(i32::try_from(body.len() + 4).unwrap());
        message.put_slice(body);
        message
    }

    /// What is made of a server's answer that has this row so many times.
    async fn read(row: &[u8], times: usize) -> Result<Vec<ReadRole>, RolesError> {
        told(row, times, &[]).await.map(|told| told.roles)
    }

    async fn told(row: &[u8], times: usize, behind: &[u8]) -> Result<ServerTold, RolesError> {
        let (stream, mut server) = UnixStream::pair().unwrap();
        let session = ServerSession {
            stream: Stream::Unix(stream),
            greeting: Bytes::new(),
            key: None,
            early: Bytes::new(),
        };
        let telling = async {
            for _ in 0..times {
                // It may have been given up.
                if server.write_all(row).await.is_err() {
                    return;
                }
            }
            let _ = server.write_all(behind).await;
            let _ = server.write_all(&message(b'Z', b"I")).await;
        };
        tokio::join!(ask(session), telling).0
    }

    #[tokio::test]
    async fn rows_are_read_as_roles() {
        let roles = read(&row(b"x"), 2).await.unwrap();
        assert_eq!(roles.len(), 2);
        assert_eq!((roles[0].name.as_str(), roles[0].can_login), ("app", true));
        assert_eq!(roles[0].valid_until, None);
    }

    #[tokio::test]
    async fn which_server_it_is_stands_behind_the_roles_and_may_be_refused() {
        let complete = message(b'C', b"SELECT 1\0");
        let number = |text: &[u8]| {
            let mut body = BytesMut::new();
            body.put_i16(1);
            body.put_i32(i32::try_from(text.len()).unwrap());
            body.put_slice(text);
            message(b'D', &body)
        };
        let behind = [&complete[..], &number(b"-7"), &complete].concat();
        let found = told(&row(b"x"), 1, &behind).await.unwrap();
        assert_eq!((found.roles.len(), found.server), (1, Some(SystemIdentifier(-7))));
        let refusal = message(b'E', b"SERROR\0C42501\0Mpermission denied\0\0");
        let behind = [&complete[..], &refusal].concat();
        let found = told(&row(b"x"), 1, &behind).await.unwrap();
        assert_eq!((found.roles.len(), found.server), (1, None));
        let found = told(&row(b"x"), 1, &refusal).await.unwrap_err();
        assert!(matches!(found, RolesError::Refused(_)), "{found}");
    }

    /// Ten thousand roles with a password as long as a message would have taken 600 MB.
    #[tokio::test]
    async fn a_server_that_sends_too_much_is_not_heard_out() {
        let found = read(&row(&[b'x'; 60_000]), 10_000).await;
        let error = found.unwrap_err();
        assert_eq!(error.to_string(), "the server's roles have more than 8 MiB");
    }

    #[tokio::test]
    async fn as_many_roles_as_may_be_fit_and_what_is_beyond_is_not_kept() {
        let roles = read(&row(&[b'x'; 512]), ROLES_MAX + 5).await.unwrap();
        assert_eq!(roles.len(), ROLES_MAX + 1);
    }
}
