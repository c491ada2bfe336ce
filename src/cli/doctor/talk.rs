//! The conversation with the server: login, greeting, one query, and what it says meanwhile.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    conninfo::{Asked, Binding},
    report::{Report, Trouble},
};
use crate::auth::Credential;
use crate::pool::{Login, LoginError, Privacy};
use crate::tls::Stream;
use crate::wire::cursor::Cursor;
use crate::wire::message::{Message, take_message};
use crate::wire::reply::{AuthenticationRequest, LOGIN_MESSAGE_BYTES_MAX, authentication_request};
use crate::wire::{WireError, say};

/// What is asked once a session is there.
const QUERY: &str = "SELECT 1";
/// What stands around a session's id in pgwake's errors.
const SESSION: &str = "(pgwake session ";

/// A stream on which a startup packet may be sent.
pub(super) struct Link {
    pub(super) stream: Stream,
    /// For channel binding.
    pub(super) end_point: Option<Vec<u8>>,
    pub(super) privacy: Privacy,
}

/// A conversation.
pub(super) struct Talk<'a> {
    stream: Stream,
    read: BytesMut,
    asked: &'a Asked,
}

/// What can go wrong while one talks.
enum Ended {
    Wire(WireError),
    Said(ServerError),
    Trouble(Trouble),
}

impl From<WireError> for Ended {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

/// An ErrorResponse or a NoticeResponse.
#[derive(Debug, Default)]
struct ServerError {
    sqlstate: String,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl ServerError {
    fn read(body: &[u8]) -> Self {
        let mut error = Self::default();
        let mut cursor = Cursor::new(body);
        while let Ok(kind) = cursor.u8() {
            let Ok(value) = cursor.text() else { break };
            // Somebody else's words, on a terminal.
            let text: String = String::from_utf8_lossy(value)
                .chars()
                .filter(|c| !c.is_control())
                .collect();
            match kind {
                b'C' => error.sqlstate = text,
                b'M' => error.message = text,
                b'D' => error.detail = Some(text),
                b'H' => error.hint = Some(text),
                _ => (),
            }
        }
        error
    }

    /// The id by which the operator finds the session; `None` where Postgres itself says this.
    fn session(&self) -> Option<&str> {
        let (_, id) = self.detail.as_deref()?.rsplit_once(SESSION)?;
        id.strip_suffix(')')
    }
}

impl<'a> Talk<'a> {
    /// Sends the startup packet and proves who one is. The step `login` is told.
    pub(super) async fn log_in(
        link: Link,
        asked: &'a Asked,
        report: &mut Report<'_>,
    ) -> Result<Self, Trouble> {
        report.begin("login");
        let mut talk = Self {
            stream: link.stream,
            read: BytesMut::new(),
            asked,
        };
        let credential = asked.password.clone().map(Credential::Password);
        let end_point = link.end_point.filter(|_| asked.binding != Binding::Disable);
        let mut login = Login::new(
            &asked.user,
            credential.as_ref(),
            end_point.as_deref(),
            link.privacy,
        );
        match talk.prove(&mut login, end_point.as_deref(), report).await {
            Ok(method) => {
                report.right(format_args!("{} by {method}", asked.user));
                Ok(talk)
            }
            Err(ended) => Err(talk.trouble(ended)),
        }
    }

    async fn prove(
        &mut self,
        login: &mut Login<'_>,
        end_point: Option<&[u8]>,
        report: &mut Report<'_>,
    ) -> Result<String, Ended> {
        let mut hello = BytesMut::new();
        say::startup(&self.parameters(), &mut hello);
        self.send(&hello).await?;
        let mut method = "no password: the server lets this role in".to_owned();
        loop {
            let message = self.next().await?;
            match message.tag {
                b'R' => {
                    let request = authentication_request(&message.body)?;
                    let asks = match &request {
                        AuthenticationRequest::CleartextPassword => Some("a password in clear"),
                        AuthenticationRequest::Md5Password(_) => Some("an MD5 password"),
                        AuthenticationRequest::Sasl(offered) => {
                            Some(match is_bound(offered) && end_point.is_some() {
                                true => "SCRAM-SHA-256-PLUS (bound to the certificate)",
                                false => "SCRAM-SHA-256",
                            })
                        }
                        _ => None,
                    };
                    if let Some(asks) = asks {
                        asks.clone_into(&mut method);
                        self.check_binding(asks)?;
                    }
                    let answer = login.answer(&message.body).await;
                    let answer = answer.map_err(|error| self.cannot_log_in(&error))?;
                    if login.is_done() {
                        self.check_binding(&method)?;
                        return Ok(method);
                    }
                    self.send(&answer).await?;
                }
                b'N' => report.heard(&format!("NOTICE: {}", ServerError::read(&message.body).message)),
                b'E' => return Err(Ended::Said(ServerError::read(&message.body))),
                b'v' => (),
                _ => return Err(WireError::Unexpected(message.tag).into()),
            }
        }
    }

    /// Waits until the server is ready for statements: where a compute sleeps, it is woken now. The step `wake` is
    /// told.
    pub(super) async fn greeted(&mut self, report: &mut Report<'_>) -> Result<(), Trouble> {
        report.begin("wake");
        match self.until_ready(report).await {
            Ok(version) => {
                let version = version.map_or(String::new(), |version| format!("Postgres {version} "));
                report.right(format_args!("{version}is ready for this session"));
                Ok(())
            }
            Err(ended) => Err(self.trouble(ended)),
        }
    }

    /// Asks one thing. The step `query` is told.
    pub(super) async fn query(&mut self, report: &mut Report<'_>) -> Result<(), Trouble> {
        report.begin("query");
        let mut query = BytesMut::new();
        say::query(QUERY, &mut query);
        let answered = async {
            self.send(&query).await?;
            self.until_ready(report).await
        };
        match answered.await {
            Ok(_) => {
                report.right(QUERY);
                let _ = self.stream.write_all(say::TERMINATE).await;
                let _ = self.stream.shutdown().await;
                Ok(())
            }
            Err(ended) => Err(self.trouble(ended)),
        }
    }

    /// Until ReadyForQuery; the server's version where it says it.
    async fn until_ready(&mut self, report: &mut Report<'_>) -> Result<Option<String>, Ended> {
        let mut version = None;
        loop {
            let message = self.next().await?;
            match message.tag {
                b'Z' => return Ok(version),
                b'E' => return Err(Ended::Said(ServerError::read(&message.body))),
                b'N' => report.heard(&format!("NOTICE: {}", ServerError::read(&message.body).message)),
                b'S' => {
                    let mut texts = message.body.split(|byte| *byte == 0);
                    if texts.next() == Some(b"server_version") {
                        version = texts
                            .next()
                            .map(|text| String::from_utf8_lossy(text).into_owned());
                    }
                }
                b'K' | b'T' | b'D' | b'C' => (),
                _ => return Err(WireError::Unexpected(message.tag).into()),
            }
        }
    }

    fn parameters(&self) -> Vec<(Bytes, Bytes)> {
        let Asked {
            user,
            dbname,
            application_name,
            options,
            ..
        } = self.asked;
        let mut parameters = vec![
            ("user", user.as_str()),
            ("database", dbname),
            ("application_name", application_name),
            ("client_encoding", "UTF8"),
        ];
        parameters.extend(options.as_deref().map(|options| ("options", options)));
        let text = |text: &str| Bytes::copy_from_slice(text.replace('\0', "").as_bytes());
        parameters
            .into_iter()
            .map(|(name, value)| (text(name), text(value)))
            .collect()
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }

    async fn next(&mut self) -> Result<Message, WireError> {
        loop {
            if let Some(message) = take_message(&mut self.read, LOGIN_MESSAGE_BYTES_MAX)? {
                return Ok(message);
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(WireError::Gone(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// `channel_binding=require` is kept, whoever answers.
    fn check_binding(&self, asks: &str) -> Result<(), Ended> {
        if self.asked.binding != Binding::Require || asks.starts_with("SCRAM-SHA-256-PLUS") {
            return Ok(());
        }
        Err(Ended::Trouble(Trouble::new(
            format!("channel_binding=require, and the server asks for {asks}"),
            "it needs TLS, login by SCRAM, and a certificate with a hash (Ed25519 has none); else say channel_binding=prefer",
        )))
    }

    fn cannot_log_in(&self, error: &LoginError) -> Ended {
        let trouble = match error {
            LoginError::Method(_) if self.asked.password.is_none() => {
                let mut trouble = Trouble::new(
                    "the server asks for a password",
                    "add password=…, set PGPASSWORD, or write it in ~/.pgpass",
                );
                let shown = self.asked.shown.as_ref();
                if shown.is_some_and(|shown| shown.certificate.exists()) {
                    let other = "or, where a certificate is to let in alone: show one that does; the operator's access line says \
                                 what is wrong with what was shown";
                    trouble.advice.push(other.to_owned());
                }
                trouble
            }
            LoginError::Insecure(_) => Trouble::new(
                "the server asks for the password in clear, and nothing encrypts the connection",
                "connect with sslmode=require or stricter",
            ),
            LoginError::Scram(error) => Trouble::new(
                error.to_string(),
                "if the signature is wrong: this is not the server that it says it is, or somebody sits in between",
            ),
            other => Trouble::new(
                other.to_string(),
                "this server does not log clients in as Postgres does",
            ),
        };
        Ended::Trouble(trouble)
    }

    fn trouble(&self, ended: Ended) -> Trouble {
        match ended {
            Ended::Trouble(trouble) => trouble,
            Ended::Wire(WireError::Gone(error)) => Trouble::new(
                format!("the server closed the connection without a word ({error})"),
                "look at pgwake's log: clients_max or [gate] unproved_max may be reached, or the listener expects a \
                 PROXY header (`proxies`)",
            ),
            Ended::Wire(error) => Trouble::new(error.to_string(), "what answers here is no Postgres"),
            Ended::Said(error) => {
                let ServerError {
                    sqlstate,
                    message,
                    detail,
                    hint,
                } = &error;
                let said = [("DETAIL", detail), ("HINT", hint)];
                let said = said.into_iter().filter_map(|(kind, text)| {
                    // A DETAIL that is the session alone is told below.
                    let text = text.as_deref().filter(|text| !text.starts_with(SESSION));
                    Some(format!("{kind}: {}", text?))
                });
                Trouble {
                    what: format!("{sqlstate} {message}"),
                    said: said.collect(),
                    advice: self.advice(&error),
                }
            }
        }
    }

    /// What the code alone does not say.
    fn advice(&self, error: &ServerError) -> Vec<String> {
        let Asked { user, dbname, .. } = self.asked;
        let advice = match &*error.sqlstate {
            "28P01" if error.session().is_some() => format!(
                "look at the name of the endpoint, at the role \"{user}\" and at its password: pgwake answers a wrong \
                 password, a role or an endpoint that it does not know, and an address that may not come here all alike, so \
                 that strangers learn nothing; which one it is cannot be told from here"
            ),
            "28P01" | "28000" => {
                format!("the server itself does not let \"{user}\" in: look at its password and pg_hba.conf")
            }
            "3D000" => format!("the login is right; dbname={dbname} does not exist there"),
            "57P03" => {
                "if HINT says to try again: do, with a connect_timeout above the time it takes".to_owned()
            }
            _ if error.session().is_some() => {
                "do what HINT says; \"Errors that clients read\" in config/README.md says more of each error"
                    .to_owned()
            }
            _ => "Postgres itself says this, not pgwake: its log may say more".to_owned(),
        };
        let operator = error.session().map(|session| {
            format!("the operator finds the true reason under session {session}: /api/v1/refusals?session={session}, and the logs")
        });
        [advice].into_iter().chain(operator).collect()
    }
}

/// Whether SCRAM with channel binding is among what a server offers.
fn is_bound(offered: &[u8]) -> bool {
    offered
        .split(|byte| *byte == 0)
        .any(|name| name == b"SCRAM-SHA-256-PLUS")
}
