//! How clients reach a gateway's endpoints: their connection strings, and connections that are ready to use.

use std::net::SocketAddr;

use tokio_postgres::{Client, Config, config::SslMode};

use super::{DOMAIN, Gateway};
use crate::harness::{
    postgres::{PASSWORD, SUPERUSER},
    raw::{PROTOCOL_3_0, Raw, startup},
    tls_client,
    wait::{PATIENCE, until},
};

impl Gateway {
    /// libpq's connection string of the superuser of an endpoint, TLS verified in full.
    pub(crate) fn connection_string(&self, endpoint: &str) -> String {
        let password = PASSWORD.replace('\'', "\\'");
        format!(
            "host={endpoint}.{DOMAIN} hostaddr=127.0.0.1 port={} user={SUPERUSER} password='{password}' \
             dbname=postgres sslmode=verify-full sslrootcert={}",
            self.address().port(),
            self.directory.path().join("ca.pem").display()
        )
    }

    /// The same for tokio-postgres.
    pub(crate) fn config(&self, endpoint: &str) -> Config {
        config_at(self.address(), endpoint)
    }

    /// A connection over TLS to this name, with nothing said yet.
    pub(crate) async fn raw(&self, server_name: &str) -> Raw {
        let config = self.authority.client_config(&[]);
        Raw::tcp(self.address())
            .await
            .request_tls(config, server_name)
            .await
    }

    /// [`Self::raw`] to an endpoint.
    pub(crate) async fn raw_to(&self, endpoint: &str) -> Raw {
        self.raw(&format!("{endpoint}.{DOMAIN}")).await
    }

    /// The superuser of an endpoint, who has had its AuthenticationOk.
    pub(crate) async fn raw_proved(&self, endpoint: &str) -> Raw {
        let mut client = self.raw_to(endpoint).await;
        prove(&mut client).await;
        client
    }

    /// The superuser of an endpoint, who may send statements.
    pub(crate) async fn raw_served(&self, endpoint: &str) -> Raw {
        let mut client = self.raw_proved(endpoint).await;
        client.until(b'Z').await;
        client
    }

    /// A session of the superuser of an endpoint.
    pub(crate) async fn connect(&self, endpoint: &str) -> Client {
        tls_client::connect(&self.config(endpoint), &self.authority)
            .await
            .unwrap()
    }

    /// The same as soon as there is one: a failure is remembered for seconds at most.
    pub(crate) async fn connect_again(&self, endpoint: &str) -> Client {
        let mut client = None;
        until("a login to succeed", async || {
            let config = self.config(endpoint);
            client = tls_client::connect(&config, &self.authority).await.ok();
            client.is_some()
        })
        .await;
        client.unwrap()
    }
}

/// How tokio-postgres reaches an endpoint's superuser at a gateway.
pub(crate) fn config_at(address: SocketAddr, endpoint: &str) -> Config {
    let mut config = Config::new();
    config
        .host(format!("{endpoint}.{DOMAIN}"))
        .hostaddr(address.ip())
        .port(address.port())
        .user(SUPERUSER)
        .password(PASSWORD)
        .dbname("postgres")
        .ssl_mode(SslMode::Require)
        .connect_timeout(PATIENCE);
    config
}

/// Logs the superuser in up to its AuthenticationOk.
pub(crate) async fn prove(client: &mut Raw) {
    let parameters = [("user", SUPERUSER), ("database", "postgres")];
    client.prove(&startup(PROTOCOL_3_0, &parameters), PASSWORD).await;
    client.message().await.authentication(0);
}
