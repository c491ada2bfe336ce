//! tokio-postgres over rustls, with channel binding.

use tokio_postgres::{Client, Config, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::certificates::Authority;

/// Connects over TLS, trusting `authority`. The connection's own task ends with the client.
pub(crate) async fn connect(config: &Config, authority: &Authority) -> Result<Client, Error> {
    let alpn: &[&str] = match config.get_ssl_negotiation() {
        tokio_postgres::config::SslNegotiation::Direct => &["postgresql"],
        _ => &[],
    };
    let tls = MakeRustlsConnect::new(authority.client_config(alpn));
    let (client, connection) = config.connect(tls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Connects in plaintext.
pub(crate) async fn connect_plain(config: &Config) -> Result<Client, Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
