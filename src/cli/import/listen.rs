//! `[listen]` and `[tls]`, of PgBouncer's addresses, its socket and its certificate.

use std::{fmt, net::IpAddr};

use super::{
    ini::Ini,
    page::{Page, text},
};

/// `[listen]` and `[tls]`.
pub(super) fn listen(ini: &Ini, default: Option<&str>, page: &mut Page, notes: &mut Page) {
    let mode = ini.setting("client_tls_sslmode").unwrap_or("disable");
    if mode.starts_with("verify") {
        let advice =
            "clients are not asked for certificates yet: client_certificates = { ca = \"…\" } does that";
        notes.told("client_tls_sslmode", mode, advice);
    }
    let default = default.map_or(String::new(), |endpoint| {
        format!(", default_endpoint = {}", text(endpoint))
    });
    let tls = match mode {
        "require" | "verify-ca" | "verify-full" => "",
        _ => ", tls = \"optional\"",
    };
    let port = ini.setting("listen_port").unwrap_or("6432");
    let mut listeners = addresses(ini, notes)
        .into_iter()
        .map(|ip| {
            format!(
                "{{ address = {}{tls}{default} }}",
                text(&SocketText(ip, port).to_string())
            )
        })
        .collect::<Vec<_>>();
    match ini.setting("unix_socket_dir") {
        Some(folder) if folder.starts_with('/') => {
            let path = text(&format!("{}/.s.PGSQL.{port}", folder.trim_end_matches('/')));
            listeners.push(format!("{{ unix = {path}{default} }}"));
        }
        said => {
            let advice = "a Unix socket, in /tmp where nothing is said: write { unix = \"/folder/.s.PGSQL.6432\" } under [listen]";
            notes.told("unix_socket_dir", said.unwrap_or_default(), advice);
        }
    }
    if listeners.is_empty() {
        page.comment("PgBouncer's file names no address that could be taken over.");
        listeners.push(format!(
            "{{ address = \"127.0.0.1:{port}\", tls = \"optional\"{default} }}"
        ));
    }
    page.line("[listen]");
    page.line("postgres = [");
    listeners
        .iter()
        .for_each(|listener| page.line(&format!("    {listener},")));
    page.line("]");
    page.comment("admin = \"127.0.0.1:9090\" opens a dashboard, metrics and an API.");
    page.gap();
    let files = ini
        .setting("client_tls_cert_file")
        .zip(ini.setting("client_tls_key_file"));
    if let Some((certificate, key)) = files {
        let (certificate, key) = (text(certificate), text(key));
        page.comment("The key's file may be readable by its owner alone.");
        page.line("[tls]");
        page.line(&format!(
            "certificates = [{{ certificate = {certificate}, key = {key} }}]"
        ));
        page.gap();
    }
}

/// An address with a port that has not been looked at.
struct SocketText<'p>(IpAddr, &'p str);

impl fmt::Display for SocketText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(ip) => write!(f, "{ip}:{}", self.1),
            IpAddr::V6(ip) => write!(f, "[{ip}]:{}", self.1),
        }
    }
}

/// `listen_addr`.
fn addresses(ini: &Ini, notes: &mut Page) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    let said = ini.setting("listen_addr").unwrap_or_default().split(',');
    for said in said.map(str::trim).filter(|said| !said.is_empty()) {
        let (address, is_whole) = match said {
            "*" => ("0.0.0.0", false),
            "localhost" => ("127.0.0.1", false),
            other => (other, true),
        };
        match address.parse() {
            Ok(ip) => addresses.push(ip),
            Err(_) => notes.told(
                "listen_addr",
                said,
                "pgwake listens on addresses: write those of this name",
            ),
        }
        if !is_whole {
            let advice = format!("taken as {address}; add the IPv6 address if clients use it");
            notes.told("listen_addr", said, &advice);
        }
    }
    addresses
}
