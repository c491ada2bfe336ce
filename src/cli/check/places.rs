//! Where clients come in, which endpoint they mean, and where servers are, as `pgwake check` shows it.

use crate::config::{Config, Listen, ListenAddress, ListenTls, ServerAddress};

pub(super) fn listen(listen: &Listen) -> String {
    let address = match &listen.address {
        ListenAddress::Tcp(address) => format!("address = \"{address}\""),
        ListenAddress::Unix(path) => format!("unix = {:?}", path.display().to_string()),
    };
    let tls = match (&listen.address, listen.tls) {
        (ListenAddress::Unix(_), _) => "",
        (_, ListenTls::Required) => ", tls = \"required\"",
        (_, ListenTls::Optional) => ", tls = \"optional\"",
    };
    let default = listen.default_endpoint.as_ref();
    let default = default
        .map(|default| format!(", default_endpoint = \"{default}\""))
        .unwrap_or_default();
    let networks = listen.proxies.iter().map(|network| format!("\"{network}\""));
    let proxies = match networks.collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => none,
        networks => format!(", proxies = [{networks}]"),
    };
    let mode = listen.mode.map(|mode| format!(", mode = \"{mode:04o}\""));
    let mode = mode.unwrap_or_default();
    format!("{{ {address}{tls}{default}{proxies}{mode} }}")
}

pub(super) fn server(address: &ServerAddress) -> String {
    match address {
        ServerAddress::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
        ServerAddress::Tcp { host, port } => format!("{host}:{port}"),
        ServerAddress::Unix(path) => path.display().to_string(),
    }
}

pub(super) fn databases(config: &Config) -> String {
    let each = |(name, endpoint)| format!("{name:?} = \"{endpoint}\"");
    let all: Vec<String> = config.databases.iter().map(each).collect();
    format!("{{ {} }}", all.join(", ")).replace("{  }", "{}")
}
