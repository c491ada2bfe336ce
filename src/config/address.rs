//! Names of hosts, addresses to listen on and addresses of servers, as they are written.
//!
//! Nothing is looked up: a name that does not resolve today may tomorrow. Who calls: the tables of `file`.

use std::net::{IpAddr, SocketAddr};

use super::{
    ServerAddress,
    problem::{Report, Spot, Wrong},
    read::Read,
    tree::Node,
    value::read_text,
};

/// Longest path of a Unix socket: `sun_path` has 108 bytes, one of them ends it.
pub(crate) const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A host name as DNS has it: lowercase, no dot at the end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DnsName(pub(crate) String);

impl Read for DnsName {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let text = read_text(node, spot, "a host name in quotes", report)?;
        report.note(spot, parse_dns_name(text).map(Self))
    }
}

/// Checks a host name (RFC 1123, without the dot at the end) and lowers it.
fn parse_dns_name(text: &str) -> Result<String, Wrong> {
    let wrong = |why: &str, fix: &str| Wrong::new(format!("{text:?} is not a host name: {why}"), fix);
    if let Some(rest) = text.strip_prefix("*.") {
        return Err(wrong("no wildcard is needed here", &format!("write {rest:?}")));
    }
    if !text.is_ascii() {
        let fix = "write it as it stands in certificates (xn--…)";
        return Err(wrong("it is not ASCII", fix));
    }
    let trimmed = text.trim_matches('.');
    if trimmed != text {
        return Err(wrong(
            "it starts or ends with a dot",
            &format!("write {trimmed:?}"),
        ));
    }
    if text.parse::<IpAddr>().is_ok() || text.starts_with('[') {
        return Err(wrong(
            "it is an address",
            "write a name; clients never send an address as SNI",
        ));
    }
    let label_is_right = |label: &str| {
        let right = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(right)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.len() > 253 || !text.split('.').all(label_is_right) {
        let why = "it is not made of labels of 1 to 63 letters, digits and inner hyphens";
        return Err(wrong(why, "write a name such as \"db.example.com\""));
    }
    Ok(text.to_ascii_lowercase())
}

/// The address of something on the web, for TLS alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpsUrl(pub(crate) String);

impl Read for HttpsUrl {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let text = read_text(
            node,
            spot,
            "a URL such as \"https://id.example.com/keys\"",
            report,
        )?;
        let wrong = |why: &str| {
            let message = format!("{text:?} {why}");
            Wrong::new(message, "write a URL such as \"https://id.example.com/keys\"")
        };
        let parsed = match text.parse::<hyper::Uri>() {
            Err(error) => Err(wrong(&format!("is not a URL: {error}"))),
            Ok(url) if url.scheme_str() != Some("https") => Err(wrong("is not an https URL")),
            Ok(_) if text.contains(['@', '#']) => Err(wrong("has a user or a fragment")),
            Ok(url) if url.host().is_none_or(str::is_empty) => Err(wrong("names no host")),
            Ok(url) if has_wrong_port(&url) => Err(wrong(WRONG_PORT)),
            Ok(_) => Ok(Self(text.to_owned())),
        };
        report.note(spot, parsed)
    }
}

/// What is wrong with such a one.
pub(super) const WRONG_PORT: &str = "has a port that is none of 1 to 65535";

/// Whether a port is named that is none: the usual one would be taken in its place.
pub(super) fn has_wrong_port(url: &hyper::Uri) -> bool {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let port = authority.strip_prefix(url.host().unwrap_or_default());
    let named = port.and_then(|port| port.strip_prefix(':'));
    named.is_some_and(|port| !matches!(port.parse::<u16>(), Ok(1..)))
}

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListenTcp(pub(crate) SocketAddr);

impl Read for ListenTcp {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let text = read_text(
            node,
            spot,
            "an address and a port such as \"127.0.0.1:6432\"",
            report,
        )?;
        let parsed = text.parse().map(Self).map_err(|_| {
            let message = format!("{text:?} is not an address and a port");
            Wrong::new(message, listen_fix(text))
        });
        report.note(spot, parsed)
    }
}

fn listen_fix(text: &str) -> String {
    let port = |text: &str| text.parse::<u16>().ok();
    if text.starts_with('/') {
        return format!("write {{ unix = {text:?} }}");
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return format!("write \"{}\"", SocketAddr::new(ip, 6432));
    }
    match text.rsplit_once(':').map(|(host, after)| (host, port(after))) {
        Some(("" | "*", Some(port))) => format!("write \"0.0.0.0:{port}\" or \"[::]:{port}\""),
        Some(("localhost", Some(port))) => format!("write \"127.0.0.1:{port}\" or \"[::1]:{port}\""),
        _ => "write an address and a port such as \"127.0.0.1:6432\" or \"[::]:6432\"".to_owned(),
    }
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerAt(pub(crate) ServerAddress);

impl Read for ServerAt {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let text = read_text(node, spot, "\"host:port\" or the path of a socket", report)?;
        report.note(spot, parse_server(text, spot).map(Self))
    }
}

fn parse_server(text: &str, spot: &Spot) -> Result<ServerAddress, Wrong> {
    if text.starts_with('/') {
        let path = spot.resolve(text.as_ref());
        check_socket_path(&path)?;
        return Ok(ServerAddress::Unix(path));
    }
    parse_tcp(text)
}

impl ServerAddress {
    /// An address that a program has printed: nothing is looked up or completed, and a socket's path has to be whole.
    pub(crate) fn parse_printed(text: &str) -> Option<Self> {
        if !text.starts_with('/') {
            return parse_tcp(text).ok();
        }
        let right = text.len() <= SOCKET_PATH_BYTES_MAX && !text.contains(char::is_control);
        right.then(|| Self::Unix(text.into()))
    }
}

fn parse_tcp(text: &str) -> Result<ServerAddress, Wrong> {
    let wrong = |fix: String| Wrong::new(format!("{text:?} is not a host and a port"), fix);
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Err(wrong(format!("write \"{}\"", SocketAddr::new(ip, 5432))));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(wrong(format!("write \"{text}:5432\"")));
    };
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    let Some(port @ 1..) = port.parse().ok().filter(|_| digits) else {
        return Err(wrong(format!("write \"{host}:5432\", with the server's port")));
    };
    let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match in_brackets.unwrap_or(host).parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) if in_brackets.is_none() => {
            return Err(wrong(format!("write \"[{host}]:{port}\"")));
        }
        Ok(ip) => ip.to_string(),
        Err(_) => parse_dns_name(host)?,
    };
    Ok(ServerAddress::Tcp { host, port })
}

/// That a socket's path fits into an address, and names the socket rather than its folder.
pub(crate) fn check_socket_path(path: &std::path::Path) -> Result<(), Wrong> {
    let bytes = path.as_os_str().len();
    if bytes > SOCKET_PATH_BYTES_MAX {
        let message =
            format!("the path of a socket has at most {SOCKET_PATH_BYTES_MAX} bytes, this one has {bytes}");
        return Err(Wrong::new(message, "choose a shorter folder"));
    }
    if path.is_dir() {
        let message = format!("{} is a folder", path.display());
        let socket = path.join(".s.PGSQL.5432");
        return Err(Wrong::new(
            message,
            format!("name the socket itself: {:?}", socket.display().to_string()),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn server(text: &str) -> Result<ServerAddress, Wrong> {
        parse_server(
            text,
            &Spot::of_file(&Arc::from(std::path::Path::new("/etc/pgwake.toml"))),
        )
    }

    #[test]
    fn host_names_are_lowered_and_checked() {
        assert_eq!(
            parse_dns_name("Pg.Acme.example"),
            Ok("pg.acme.example".to_owned())
        );
        assert_eq!(parse_dns_name("localhost"), Ok("localhost".to_owned()));
        for text in [
            "*.a.example",
            "a..b",
            ".a",
            "a.",
            "-a",
            "a_b",
            "127.0.0.1",
            "::1",
            "ä.example",
            "a b",
        ] {
            assert!(parse_dns_name(text).is_err(), "{text}");
        }
        assert!(parse_dns_name(&format!("{}.example", "a".repeat(64))).is_err());
    }

    #[test]
    fn servers_are_host_and_port_or_a_socket() {
        let tcp = |host: &str, port| {
            let host = host.to_owned();
            Ok(ServerAddress::Tcp { host, port })
        };
        assert_eq!(server("10.0.0.5:5432"), tcp("10.0.0.5", 5432));
        assert_eq!(server("DB.example:5433"), tcp("db.example", 5433));
        assert_eq!(server("[::1]:5432"), tcp("::1", 5432));
        assert_eq!(
            server("/run/pg/.s.PGSQL.5432"),
            Ok(ServerAddress::Unix("/run/pg/.s.PGSQL.5432".into()))
        );
        for (text, fix) in [
            ("db.example", "write \"db.example:5432\""),
            ("10.0.0.5", "write \"10.0.0.5:5432\""),
            ("::1", "write \"[::1]:5432\""),
            (
                "db.example:0",
                "write \"db.example:5432\", with the server's port",
            ),
        ] {
            assert_eq!(server(text).unwrap_err().fix, fix, "{text}");
        }
    }

    #[test]
    fn what_a_program_prints_is_an_address_or_nothing() {
        let tcp = |host: &str, port| {
            let host = host.to_owned();
            Some(ServerAddress::Tcp { host, port })
        };
        let printed = ServerAddress::parse_printed;
        assert_eq!(printed("127.0.0.1:5433"), tcp("127.0.0.1", 5433));
        assert_eq!(printed("[::1]:5432"), tcp("::1", 5432));
        assert_eq!(printed("db-7.internal:5432"), tcp("db-7.internal", 5432));
        assert_eq!(
            printed("/run/a/.s.PGSQL.5432"),
            Some(ServerAddress::Unix("/run/a/.s.PGSQL.5432".into()))
        );
        let long = format!("/{}", "a".repeat(107));
        for text in [
            "",
            "5432",
            "db-7",
            "127.0.0.1:0",
            "127.0.0.1:65536",
            "::1:5432",
            "a b:5432",
            "db:5432 ",
            "db:+5432",
            "run/.s.PGSQL.5432",
            "/run/a\nb",
            &long,
        ] {
            assert_eq!(printed(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_port_that_is_none_is_not_taken_for_the_usual_one() {
        let wrong = |text: &str| has_wrong_port(&text.parse().unwrap());
        for text in [
            "https://a/b:0",
            "https://a:1/",
            "https://[::1]/b",
            "https://[::1]:65535/b",
        ] {
            assert!(!wrong(text), "{text}");
        }
        for text in [
            "https://a:65536/b",
            "https://a:0",
            "https://a:/b",
            "https://[::1]:99999/b",
        ] {
            assert!(wrong(text), "{text}");
        }
    }

    #[test]
    fn what_is_not_an_address_to_listen_on_is_told_what_to_write() {
        for (text, fix) in [
            (":6432", "write \"0.0.0.0:6432\" or \"[::]:6432\""),
            ("localhost:6432", "write \"127.0.0.1:6432\" or \"[::1]:6432\""),
            ("127.0.0.1", "write \"127.0.0.1:6432\""),
            ("/run/x", "write { unix = \"/run/x\" }"),
        ] {
            assert_eq!(listen_fix(text), fix);
        }
    }
}
