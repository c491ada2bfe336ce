//! Where a compute's server is, and how it is reached there: what is configured, completed by what a command printed.
//!
//! What was printed is in no error, because clients read those. Called by `command`.

use std::net::IpAddr;

use super::super::Address;
use crate::config::{CommandCompute, ServerAddress, ServerTls};

/// The address; `said` is the only line that the command printed.
///
/// # Errors
/// Why there is none.
pub(super) fn address_of(config: &CommandCompute, said: Option<&str>) -> Result<Address, &'static str> {
    let server = match &config.address {
        Some(address) => address.clone(),
        None => said
            .and_then(ServerAddress::parse_printed)
            .ok_or("its command printed no address: one line, host:port or the path of a socket")?,
    };
    let tls = match (&config.tls, &server) {
        (None | Some(ServerTls::Disable), ServerAddress::Unix(_)) => ServerTls::Disable,
        (Some(_), ServerAddress::Unix(_)) => {
            return Err("its command printed the path of a socket, and Postgres speaks no TLS there");
        }
        (Some(tls), ServerAddress::Tcp { .. }) => tls.clone(),
        (None, ServerAddress::Tcp { host, .. }) if is_loopback(host) => ServerTls::Disable,
        (None, ServerAddress::Tcp { .. }) => {
            return Err(
                "its command printed an address of another machine, and neither `tls` nor `ca` is configured",
            );
        }
    };
    Ok(Address {
        server,
        tls,
        server_uid: None,
    })
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::CommandLine;

    fn config(tls: Option<ServerTls>) -> CommandCompute {
        let line = CommandLine {
            program: "true".into(),
            arguments: Vec::new(),
        };
        CommandCompute {
            start: line.clone(),
            stop: None,
            status: line,
            environment: Vec::new(),
            address: None,
            tls,
            start_timeout: None,
            stop_timeout: None,
            status_timeout: Duration::from_secs(5),
            status_every: None,
        }
    }

    #[test]
    fn tls_that_is_configured_holds_for_printed_addresses() {
        let tls = |tls: Option<ServerTls>, said| address_of(&config(tls), Some(said)).map(|found| found.tls);
        let require = Some(ServerTls::Require);
        assert_eq!(tls(require.clone(), "192.0.2.1:5432"), Ok(ServerTls::Require));
        let refused = tls(require, "/run/x/.s.PGSQL.5432").unwrap_err();
        assert!(refused.contains("no TLS there"), "{refused}");
        let disable = Some(ServerTls::Disable);
        assert_eq!(tls(disable, "192.0.2.1:5432"), Ok(ServerTls::Disable));
        for said in [
            "/run/x/.s.PGSQL.5432",
            "localhost:5432",
            "[::1]:5432",
            "127.9.9.9:5432",
        ] {
            assert_eq!(tls(None, said), Ok(ServerTls::Disable), "{said}");
        }
        for said in ["192.0.2.1:5432", "localhost.example:5432", "no address", ""] {
            assert!(tls(None, said).is_err(), "{said}");
        }
    }
}
