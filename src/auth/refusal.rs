//! Why nobody was let in: the true reason for the operator, Postgres' own words for the client.
//!
//! Whatever is wrong with endpoint, role or password reads the same to the client. Telling it is `wire`'s work.

use std::{borrow::Cow, io};

use tokio::task::JoinError;

use super::{certificate::CertificateError, scram::ScramError, token::TokenError};
use crate::error::{ClientError, Fault, SqlState};
use crate::wire::WireError;

/// Why a client was not let in that spoke the protocol well. For the log only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// No endpoint has the name that the client said.
    #[error("no such endpoint")]
    UnknownEndpoint,
    /// Nobody could tell whether any has.
    #[error("the control plane could not be asked for the endpoint, or its answer not be used")]
    UnaskedEndpoint,
    /// It is not configured, and no role was read from Postgres yet.
    #[error("the endpoint's roles have not been read from its Postgres yet")]
    UnreadRoles,
    /// Neither configured nor read from Postgres.
    #[error("no such role is known")]
    UnknownRole,
    /// `NOLOGIN`.
    #[error("the role may not log in")]
    MayNotLogIn,
    /// `rolpassword` is null.
    #[error("the role has no password")]
    NoPassword,
    /// `rolpassword` is nothing that can be checked; why not.
    #[error("the role's verifier cannot be checked: {0}")]
    UnusableVerifier(&'static str),
    /// An MD5 verifier where clients log in by SCRAM.
    #[error(
        "the role has an MD5 verifier, which cannot log in by SCRAM: set login = \"password\" for this endpoint, \
         or set the role's password anew with password_encryption = scram-sha-256"
    )]
    Md5Verifier,
    /// The password is another one.
    #[error("wrong password")]
    WrongPassword,
    /// `VALID UNTIL` has passed; the password was right.
    #[error("the role's password has expired")]
    Expired,
    /// The token that came as a password is not right.
    #[error("the token is refused: {0}")]
    Token(#[source] TokenError),
    /// The client's certificate is not right.
    #[error("{0}")]
    Certificate(#[source] CertificateError),
    /// Token or certificate was right, and pgwake has nothing to log in to the server with.
    #[error("the role has no server_password, and its server is not reached through a socket of its own")]
    NoServerLogin,
}

/// Why a client has not proved who it is. [`std::fmt::Display`] is for the operator's log: what a stranger said is
/// escaped in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthError {
    /// The client has left: there is nobody to tell.
    #[error("the client left before it had proved who it is: {0}")]
    Left(#[source] io::Error),
    /// The same, where it was asked for a password because its certificate is not right: those who count on certificates have
    /// none to send.
    #[error(
        "the client left where it was asked for a password, since it does not come in by a certificate: {0}"
    )]
    LeftRefused(#[source] Refusal),
    /// Endpoint, role or password is wrong: one text for all of them.
    #[error("password authentication failed for user {role:?}: {refusal}")]
    Refused {
        /// As the client said it; what is not UTF-8 is replaced.
        role: String,
        /// The true reason.
        refusal: Refusal,
    },
    /// The client sent what is no message.
    #[error(transparent)]
    Wire(WireError),
    /// The client sent another message than it was asked for.
    #[error("expected {expected} response, got message type {found}")]
    Unexpected {
        /// What it was asked for.
        expected: &'static str,
        /// The type of what came.
        found: u8,
    },
    /// What is no string is no password.
    #[error("invalid password packet size")]
    PasswordSize,
    /// The SCRAM exchange was not one.
    #[error(transparent)]
    Scram(#[from] ScramError),
    /// The endpoint takes passwords in clear, and the connection is not private.
    #[error("this endpoint takes passwords, and only over TLS")]
    PasswordNeedsTls,
    /// Too many passwords wait to be checked. One text for every name.
    #[error("too many logins wait for their passwords to be checked")]
    Busy,
    /// The password was not hashed, because pgwake is ending.
    #[error("the password could not be checked: {0}")]
    NotChecked(#[source] JoinError),
}

impl AuthError {
    /// Whether there is nobody to tell.
    pub(crate) fn has_left(&self) -> bool {
        matches!(self, Self::Left(_) | Self::LeftRefused(_))
    }

    /// The same, where it could not be asked whether there is such an endpoint.
    pub(crate) fn of_unasked_endpoint(self) -> Self {
        match self {
            Self::Refused {
                role,
                refusal: Refusal::UnknownEndpoint,
            } => Self::Refused {
                role,
                refusal: Refusal::UnaskedEndpoint,
            },
            other => other,
        }
    }

    /// Whether somebody has guessed: the password is wrong, or there is nothing that it could be right for. Not where there
    /// was nothing to check a token with: those who come with a right one would be locked out for their issuer's trouble.
    pub(crate) fn is_wrong_password(&self) -> bool {
        let unchecked = matches!(
            self,
            Self::Refused {
                refusal: Refusal::Token(TokenError::NoKeys),
                ..
            }
        );
        self.sqlstate() == SqlState::INVALID_PASSWORD && !unchecked
    }
}

impl ClientError for AuthError {
    fn sqlstate(&self) -> SqlState {
        match self {
            Self::Left(_) | Self::LeftRefused(_) => SqlState::SERVER_LOST,
            Self::Refused { .. } | Self::Scram(ScramError::WrongProof) => SqlState::INVALID_PASSWORD,
            Self::Scram(ScramError::BindingRemoved | ScramError::BindingOther) => {
                SqlState::INVALID_AUTHORIZATION
            }
            Self::Scram(ScramError::AuthorizationIdentity | ScramError::Extension) => SqlState::NOT_SUPPORTED,
            Self::Wire(error) => error.sqlstate(),
            Self::Unexpected { .. } | Self::PasswordSize | Self::Scram(_) => SqlState::PROTOCOL_VIOLATION,
            Self::PasswordNeedsTls => SqlState::REJECTED,
            Self::Busy => SqlState::LIMIT_EXCEEDED,
            Self::NotChecked(_) => SqlState::INTERNAL,
        }
    }

    fn message(&self) -> Cow<'static, str> {
        match self {
            Self::Left(_) | Self::LeftRefused(_) => "the connection was lost".into(),
            Self::Refused { role, .. } => {
                format!("password authentication failed for user \"{role}\"").into()
            }
            Self::Wire(error) => error.message(),
            Self::Unexpected { .. } | Self::PasswordSize => self.to_string().into(),
            Self::Scram(ScramError::WrongProof) => "password authentication failed".into(),
            Self::Scram(error) => error.to_string().into(),
            Self::PasswordNeedsTls => "this endpoint takes passwords, and only over TLS".into(),
            Self::Busy => "too many logins are being checked".into(),
            Self::NotChecked(_) => "the password could not be checked".into(),
        }
    }

    fn detail(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Refused {
                refusal: Refusal::Token(TokenError::Expired),
                ..
            } => Some("the token has expired".into()),
            Self::Scram(ScramError::Malformed(detail)) => Some((*detail).into()),
            Self::Scram(ScramError::Nonce) => Some("Nonce does not match.".into()),
            Self::Scram(ScramError::BindingRemoved) => Some(
                "The client supports SCRAM channel binding but thinks the server does not.  \
                 However, this server does support channel binding."
                    .into(),
            ),
            _ => None,
        }
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Busy => Some("try again in a moment".into()),
            Self::PasswordNeedsTls => Some("connect with sslmode=require or stronger".into()),
            _ => None,
        }
    }

    fn fault(&self) -> Fault {
        match self {
            Self::NotChecked(_) => Fault::Pgwake,
            _ => Fault::Client,
        }
    }

    #[cfg(test)]
    fn examples() -> Vec<Self> {
        use ScramError::{
            AuthorizationIdentity, BindingAttribute, BindingOther, BindingRemoved, BindingType, Extension,
            Malformed, Mechanism, Nonce, WrongProof,
        };
        let refused = |refusal| Self::Refused {
            role: "app".to_owned(),
            refusal,
        };
        crate::error::examples! {
            Self::Left(_) => [Self::Left(io::ErrorKind::UnexpectedEof.into())],
            Self::LeftRefused(_) => [Self::LeftRefused(Refusal::Certificate(CertificateError::Expired))],
            Self::Refused { .. } => [refused(Refusal::WrongPassword), refused(Refusal::Token(TokenError::Expired))],
            Self::Wire(_) => WireError::examples().into_iter().map(Self::Wire),
            Self::Unexpected { .. } => ["SASL", "password"].map(|expected| Self::Unexpected { expected, found: 88 }),
            Self::PasswordSize => [Self::PasswordSize],
            Self::Scram(Malformed(_)) => [Self::Scram(Malformed("Comma expected."))],
            Self::Scram(Mechanism) => [Self::Scram(Mechanism)],
            Self::Scram(BindingType) => [Self::Scram(BindingType)],
            Self::Scram(BindingRemoved) => [Self::Scram(BindingRemoved)],
            Self::Scram(BindingOther) => [Self::Scram(BindingOther)],
            Self::Scram(BindingAttribute) => [Self::Scram(BindingAttribute)],
            Self::Scram(AuthorizationIdentity) => [Self::Scram(AuthorizationIdentity)],
            Self::Scram(Extension) => [Self::Scram(Extension)],
            Self::Scram(Nonce) => [Self::Scram(Nonce)],
            Self::Scram(WrongProof) => [Self::Scram(WrongProof)],
            Self::PasswordNeedsTls => [Self::PasswordNeedsTls],
            Self::Busy => [Self::Busy],
            Self::NotChecked(_) => [Self::NotChecked(aborted())],
        }
    }
}

/// The end of a task that was not let run.
#[cfg(test)]
fn aborted() -> JoinError {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime
        .expect("a runtime without drivers needs nothing")
        .block_on(async {
            let task = tokio::spawn(std::future::pending::<()>());
            task.abort();
            task.await.expect_err("it cannot have ended")
        })
}
