//! A client of a compute that pgwake has woken, past pgwake: over the server's own socket.

use std::path::PathBuf;

use pgwake::{config::ServerAddress, ids::EndpointName};
use tokio_postgres::{Client, Config};

use super::{
    gateway::Gateway,
    postgres::{PASSWORD, SUPERUSER},
    tls_client::connect_plain,
};

/// The folder of the server's own socket, and its port.
pub(crate) fn socket(gateway: &Gateway, endpoint: &str) -> (PathBuf, u16) {
    let wakes = &gateway.server.house().wakes;
    let (address, _) = wakes.awake(&EndpointName::parse_any(endpoint).unwrap()).unwrap();
    let ServerAddress::Unix(socket) = address.server else {
        panic!("a local Postgres has a socket");
    };
    let port = socket.extension().unwrap().to_str().unwrap().parse().unwrap();
    (socket.parent().unwrap().to_owned(), port)
}

/// The superuser, who calls himself so.
pub(crate) async fn beside(gateway: &Gateway, endpoint: &str, application: &str) -> Client {
    let (folder, port) = socket(gateway, endpoint);
    let mut config = Config::new();
    config
        .host_path(folder)
        .port(port)
        .user(SUPERUSER)
        .password(PASSWORD)
        .dbname("postgres")
        .application_name(application);
    connect_plain(&config).await.unwrap()
}
