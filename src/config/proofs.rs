//! How clients prove who they are, as checked: roles, where their verifiers come from, tokens.
//!
//! Plain data. What a proof is worth is `auth`'s work. Who calls: `check` makes it, `auth` reads it.

use std::{path::PathBuf, time::Duration};

use crate::ids::{Secret, Verifier};

/// What a role's password is checked against, and how pgwake logs in for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// The text of that server's `pg_authid.rolpassword`, taken apart. `None`: it has no password for clients.
    pub verifier: Option<Verifier>,
    /// Used for the login to the server instead of the key that the client's proof reveals.
    pub server_password: Option<Secret>,
    /// What tokens call it; empty: by its name.
    pub subjects: Vec<String>,
    /// What certificates call it; empty: by its name.
    pub certificate_names: Vec<String>,
}

/// The tokens (JWT) that an endpoint lets in as passwords.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Where the keys are that they are signed with.
    pub keys: TokenKeys,
    /// `iss`
    pub issuer: String,
    /// One of them has to be in `aud`; at least one.
    pub audiences: Vec<String>,
    /// The claim that says which roles a token is for.
    pub role_claim: String,
    /// The claim that says which tenants; `None`: issuer and audience do.
    pub tenant_claim: Option<String>,
    /// How far clocks may differ.
    pub leeway: Duration,
    /// Whether a session ends with its token.
    pub end_sessions: bool,
}

/// Where a JWK set is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TokenKeys {
    /// In a file.
    File(PathBuf),
    /// Behind a URL, `https://…`.
    Url {
        /// The URL.
        url: String,
        /// PEM file with the trusted roots; `None`: the system's.
        ca: Option<PathBuf>,
    },
}

/// Where verifiers come from that the configuration does not list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RolesFrom {
    /// Only listed roles exist.
    Config,
    /// Read from `pg_authid` of the endpoint's own Postgres.
    Postgres(RoleReading),
}

/// How pgwake logs in to read `pg_authid`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleReading {
    /// A superuser; for a process compute the one that owns the cluster.
    pub role: String,
    /// `None`: the local socket lets the operating system's user in.
    pub password: Option<Secret>,
    /// The database to connect to.
    pub database: String,
}

impl super::Endpoint {
    /// As whom pgwake logs in to its server for its own sake: who reads roles, or the superuser of a data directory that
    /// pgwake has made, who is let in over its socket or has a known password.
    pub(crate) fn own_login(&self) -> RoleReading {
        const SUPERUSER: &str = "postgres";
        match &self.roles_from {
            RolesFrom::Postgres(reading) => reading.clone(),
            RolesFrom::Config => RoleReading {
                role: SUPERUSER.to_owned(),
                password: self
                    .roles
                    .get(SUPERUSER)
                    .and_then(|role| role.server_password.clone()),
                database: SUPERUSER.to_owned(),
            },
        }
    }
}

/// How clients of an endpoint log in. It depends on the endpoint, never on the role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginMethod {
    /// Password over TLS where a listed role has an MD5 verifier, or where every role that was read and may log in
    /// with a password has one; otherwise SCRAM.
    Auto,
    /// SCRAM-SHA-256 and SCRAM-SHA-256-PLUS only.
    Scram,
    /// Password over TLS only.
    Password,
    /// A token in the password's place, over TLS only.
    Token,
    /// Either, over TLS only.
    PasswordOrToken,
    /// A client certificate alone.
    Certificate,
}

impl LoginMethod {
    /// Whether tokens are taken.
    pub fn takes_tokens(self) -> bool {
        matches!(self, Self::Token | Self::PasswordOrToken)
    }

    /// Whether a role can log in without a verifier.
    pub fn needs_no_verifier(self) -> bool {
        self.takes_tokens() || self == Self::Certificate
    }
}

/// The certificates that clients of an endpoint have to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificates {
    /// PEM file with the authorities that sign them.
    pub ca: PathBuf,
    /// Which of its names says the role.
    pub name: CertificateName,
}

/// A name of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateName {
    /// The common name of its subject.
    Cn,
    /// A DNS name (SAN).
    Dns,
    /// A URI (SAN), such as a SPIFFE id.
    Uri,
    /// An address of mail (SAN).
    Email,
}

impl CertificateName {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Cn, Self::Dns, Self::Uri, Self::Email];

    /// The word for it in configurations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cn => "cn",
            Self::Dns => "dns",
            Self::Uri => "uri",
            Self::Email => "email",
        }
    }
}
