//! Asks a server on a session of pgwake's own, statement after statement, for as long as the session is needed: a backup
//! lives in one. It never sees a client's parameters.

use bytes::{Bytes, BytesMut};

use super::{
    login::LoginError,
    own_login::OwnLogin,
    server_session::{Conversation, Identity, Way, connect},
};
use crate::compute::Address;
use crate::tls::SocketSettings;
use crate::wire::reply::data_row;
use crate::wire::say;
use crate::wire::{
    WireError,
    reply::{ErrorFields, error_fields},
};

/// Most bytes of an answer: what is asked is a row or two.
const ROWS_BYTES_MAX: usize = 256 * 1024;

/// What a role may have set for itself, and must not end a backup.
const OPTIONS: &str = "-c search_path=pg_catalog,pg_temp -c statement_timeout=0 -c lock_timeout=0 \
                       -c idle_in_transaction_session_timeout=0 -c client_min_messages=error";

/// Why there is no answer. For the operator only.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// No session.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// The server does not do it.
    #[error("{} ({})", .0.message, .0.sqlstate)]
    Refused(ErrorFields),
    /// The server left or broke the protocol.
    #[error("the server did not answer: {0}")]
    Wire(#[from] WireError),
    /// The role may not see what it was to look for.
    #[error("the role has not the rights of pg_read_all_stats, and cannot see who is there")]
    Hidden,
    /// More than anything that is asked for has.
    #[error("the server's answer is too long")]
    TooLong,
}

/// A row: texts, or NULL.
pub(crate) type Row = Vec<Option<String>>;

/// A session to ask on. Dropping it closes the connection, and what lives in the session ends with it.
pub(crate) struct Questions(Conversation);

impl Questions {
    /// Logs in as who reads roles does. Not cancel safe: dropping it closes the connection.
    ///
    /// # Errors
    /// [`AskError::Login`]
    pub(crate) async fn begin(
        address: &Address,
        login: &OwnLogin,
        sockets: &SocketSettings,
    ) -> Result<Self, AskError> {
        let OwnLogin { reading: who, .. } = login;
        let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let parameters = [
            ("user", &*who.role),
            ("database", &*who.database),
            ("application_name", "pgwake"),
            ("options", OPTIONS),
            ("client_encoding", "UTF8"),
        ]
        .map(|(name, value)| (text(name), text(value)));
        let credential = login.credential();
        let identity = Identity {
            role: &who.role,
            credential: credential.as_ref(),
            parameters: &parameters,
        };
        let session = connect(address, identity, Way::fresh(sockets)).await?;
        Ok(Self(Conversation {
            stream: session.stream,
            read: BytesMut::from(session.early),
        }))
    }

    /// The rows that a statement answers with. Not cancel safe: nothing may be asked after an answer that was not waited
    /// for.
    ///
    /// # Errors
    /// [`AskError`]
    pub(crate) async fn ask(&mut self, sql: &str) -> Result<Vec<Row>, AskError> {
        let mut query = BytesMut::new();
        say::query(sql, &mut query);
        self.0.send(&query).await?;
        let (mut rows, mut bytes, mut refusal) = (Vec::new(), 0, None);
        loop {
            let message = self.0.next().await?;
            match message.tag {
                b'D' => {
                    bytes += message.body.len();
                    if bytes > ROWS_BYTES_MAX {
                        return Err(AskError::TooLong);
                    }
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    let row = data_row(&message.body)?;
                    rows.push(row.into_iter().map(|value| value.map(text)).collect());
                }
                b'E' => refusal = Some(error_fields(&message.body)),
                b'Z' => break,
                _ => (),
            }
        }
        match refusal {
            Some(fields) => Err(AskError::Refused(fields)),
            None => Ok(rows),
        }
    }

    /// Says goodbye, so that the server's log has no complaint.
    pub(crate) async fn end(mut self) {
        let _ = self.0.send(say::TERMINATE).await;
    }
}
