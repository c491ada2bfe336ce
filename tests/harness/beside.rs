//! A client of a compute that pgwake has woken, past pgwake: over the server's own socket.

use pgwake::{config::ServerAddress, ids::EndpointName};
use tokio_postgres::{Client, Config};

use super::{
    gateway::Gateway,
    postgres::{PASSWORD, SUPERUSER},
    tls_client::connect_plain,
};

/// The superuser, who calls himself so.
pub(crate) async fn beside(gateway: &Gateway, endpoint: &str, application: &str) -> Client {
    let wakes = &gateway.server.house().wakes;
    let (address, _) = wakes.awake(&EndpointName::parse_any(endpoint).unwrap()).unwrap();
    let ServerAddress::Unix(socket) = address.server else {
        panic!("a local Postgres has a socket");
    };
    let port = socket.extension().unwrap().to_str().unwrap().parse().unwrap();
    let mut config = Config::new();
    config
        .host_path(socket.parent().unwrap())
        .port(port)
        .user(SUPERUSER)
        .password(PASSWORD)
        .dbname("postgres")
        .application_name(application);
    connect_plain(&config).await.unwrap()
}
