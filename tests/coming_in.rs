//! Coming in: from a client's first byte to the endpoint that it means, and what is turned away on the way.

mod certificates;
mod encryption;
mod guessing;
mod limits;
mod names;
mod parameters;
mod pooling;
mod protocol;
mod slow;
mod sockets;
mod strangers;

use crate::harness::{
    gateway::{DOMAIN, Gateway},
    logs::{self, Line},
    postgres::{PASSWORD, SUPERUSER},
    raw,
    wait::until,
};

/// An endpoint with one listed role, `app`, whose password is [`PASSWORD`], and with nothing behind it: for
/// clients that do not get so far.
fn nowhere(endpoint: &str) -> String {
    let verifier = pgwake::auth::verifier_for(&pgwake::ids::Secret::new(PASSWORD), 4096);
    format!(
        "[tenants.acme.endpoints.{endpoint}]\n\
         roles.app.verifier = \"{}\"\n\
         compute = {{ kind = \"fixed\", address = \"127.0.0.1:1\" }}\n",
        verifier.to_text()
    )
}

/// libpq's connection string of the superuser for any host name; what is set in `more` wins.
fn libpq(gateway: &Gateway, host: &str, more: &str) -> String {
    format!(
        "host={host} hostaddr=127.0.0.1 port={} user={SUPERUSER} password='{}' dbname=postgres sslmode=verify-full \
         sslrootcert={} {more}",
        gateway.address().port(),
        PASSWORD.replace('\'', "\\'"),
        gateway.path().join("ca.pem").display()
    )
}

/// A startup packet of the superuser with further parameters.
fn startup(more: &[(&str, &str)]) -> Vec<u8> {
    let own = [("user", SUPERUSER), ("database", "postgres")];
    raw::startup(raw::PROTOCOL_3_0, &[&own, more].concat())
}

/// The host name of an endpoint.
fn host(endpoint: &str) -> String {
    format!("{endpoint}.{DOMAIN}")
}

/// Waits for the access line of the one session that called itself `application`.
async fn access_of(application: &str) -> Line {
    let lines = || {
        let mut lines = logs::with_text(application);
        lines.retain(|line| line.field("application") == application);
        lines
    };
    until(&format!("the access line of {application}"), async || {
        !lines().is_empty()
    })
    .await;
    lines().remove(0)
}
