//! Where endpoints are asked for that no file names, as written.

use std::{path::PathBuf, time::Duration};

use crate::config::{
    address::{WRONG_PORT, has_wrong_port},
    problem::{Report, Spot, Wrong},
    read::{Read, table},
    tree::Node,
    value::{Count, read_text},
};
use crate::ids::Secret;

table! {
    /// `[control_plane]`
    ControlPlaneTable {
        /// Where it is.
        url: ControlUrl,
        /// The roots that it is trusted by.
        ca: PathBuf,
        /// What it is shown.
        token: Secret,
        /// For one question.
        timeout: Duration,
        /// Until an answer is asked for again.
        fresh_for: Duration,
        /// Until a name that nobody has is asked for again.
        unknown_for: Duration,
        /// How old an answer may get while there is no other.
        stale_max: Duration,
        /// Most endpoints.
        endpoints_max: Count<1, 20_000>,
        /// Most questions at once.
        questions_at_once: Count<1, 1_000>,
        /// The roots that computes are trusted by.
        server_ca: PathBuf,
    }
}

/// `https://…`, or `http://…` where it leaves this machine nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ControlUrl(pub(crate) String);

impl Read for ControlUrl {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let example = "a URL such as \"https://control.example.com\"";
        let text = read_text(node, spot, example, report)?;
        report.note(spot, parse(text).map(Self))
    }
}

fn parse(text: &str) -> Result<String, Wrong> {
    let wrong = |why: &str| {
        let message = format!("{text:?} {why}");
        Wrong::new(message, "write a URL such as \"https://control.example.com\"")
    };
    let url: hyper::Uri = text.parse().map_err(|_| wrong("is not a URL"))?;
    let host = url.host().unwrap_or_default();
    let ip = host.trim_matches(['[', ']']).parse();
    let is_here = host == "localhost" || ip.is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    match url.scheme_str() {
        Some("https") => (),
        Some("http") if is_here => (),
        Some("http") => {
            return Err(wrong(
                "is not an https URL: the token would go over the network in clear",
            ));
        }
        _ => return Err(wrong("is not an https URL")),
    }
    if text.contains(['@', '#', '?']) {
        return Err(wrong("has a user, a query or a fragment"));
    }
    if host.is_empty() {
        return Err(wrong("names no host"));
    }
    if has_wrong_port(&url) {
        return Err(wrong(WRONG_PORT));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_leaves_this_machine_over_tls_alone() {
        for (text, url) in [
            ("https://control.example.com/", "https://control.example.com"),
            (
                "https://control.example.com/pg/",
                "https://control.example.com/pg",
            ),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::1]:8080", "http://[::1]:8080"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(url));
        }
        for text in [
            "http://control.example.com",
            "http://127.0.0.1.example.com",
            "ftp://localhost",
            "https://a@b",
            "https://a/?b",
            "https://a:65536",
            "localhost:80",
            "/a",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
