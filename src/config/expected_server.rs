//! `compute.system_identifier`: which server an endpoint's compute has to be.
//!
//! Plain data, and how it is written. What is found is compared by `auth`, where roles are read.

use super::{
    Compute, Endpoint, RolesFrom, ServerAddress, ServerTls,
    problem::{Report, Spot, Wrong},
    read::Read,
    tree::{Node, Value},
};
use crate::ids::SystemIdentifier;

/// Which server is taken for an endpoint's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpectedServer {
    /// The one that roles were first read from, where neither a socket's path nor a certificate's name says who it is.
    AsBefore,
    /// That of this number, however it is reached.
    Is(SystemIdentifier),
    /// Whoever answers.
    Any,
}

impl ExpectedServer {
    /// What it comes to for a server that is reached there.
    #[must_use]
    pub fn at(self, server: &ServerAddress, tls: &ServerTls) -> Self {
        let is_named =
            matches!(server, ServerAddress::Unix(_)) || matches!(tls, ServerTls::VerifyFull { .. });
        match self {
            Self::AsBefore if is_named => Self::Any,
            expected => expected,
        }
    }
}

impl Endpoint {
    /// Which server is taken for its own: a local one is known by its socket, and nobody reads who another is without a
    /// login of pgwake's own.
    pub(crate) fn expects(&self, server: &ServerAddress, tls: &ServerTls) -> ExpectedServer {
        match (&self.compute, &self.roles_from) {
            (Compute::Process(_), _) | (_, RolesFrom::Config) => ExpectedServer::Any,
            _ => self.expected_server.at(server, tls),
        }
    }
}

impl Read for ExpectedServer {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let fix = "write the number that `SELECT system_identifier FROM pg_control_system()` shows, without quotes, or \"any\"";
        let message = match &node.value {
            Value::Text(text) if **text == "any" => return Some(Self::Any),
            Value::Text(text) => format!("{:?} is neither a number nor \"any\"", **text),
            Value::Integer(text) => match text.parse() {
                Ok(number) => return Some(Self::Is(SystemIdentifier(number))),
                Err(_) => format!("{text} is not the number of a server"),
            },
            other => format!("expected an integer or \"any\", found {}", other.kind()),
        };
        report.add(spot, Wrong::new(message, fix));
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_and_a_checked_name_say_who_a_server_is_and_a_number_is_looked_at_all_the_same() {
        let socket = ServerAddress::Unix("/run/pg/.s.PGSQL.5432".into());
        let tcp = ServerAddress::Tcp {
            host: "db.example".into(),
            port: 5432,
        };
        let ca = || "ca.pem".into();
        let full = ServerTls::VerifyFull { ca: ca() };
        let chain = ServerTls::VerifyCa { ca: ca() };
        let before = ExpectedServer::AsBefore;
        assert_eq!(before.at(&socket, &ServerTls::Disable), ExpectedServer::Any);
        assert_eq!(before.at(&tcp, &full), ExpectedServer::Any);
        for unnamed in [&ServerTls::Disable, &ServerTls::Require, &chain] {
            assert_eq!(before.at(&tcp, unnamed), before);
        }
        let number = ExpectedServer::Is(SystemIdentifier(7));
        assert_eq!(number.at(&socket, &ServerTls::Disable), number);
        assert_eq!(number.at(&tcp, &full), number);
    }
}
