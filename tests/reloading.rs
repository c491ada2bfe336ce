//! The configuration changes while clients are served: all of it holds from one moment on, or nothing does.

mod broken;
mod endpoints;
mod leaving;
mod sessions;
mod settings;
mod signals;

use std::{fs, path::Path};

use crate::harness::{
    gateway::{Gateway, Setup},
    postgres::{PASSWORD, Postgres, SUPERUSER},
};

/// One TCP listener without TLS, for clients that come from several addresses.
const PLAIN: &str = r#"[{ address = "127.0.0.1:0", tls = "optional" }]"#;

/// An endpoint in front of a Postgres that is always there, of this tenant.
fn fixed(tenant: &str, endpoint: &str, postgres: &Postgres, keys: &str) -> String {
    format!(
        "[tenants.{tenant}.endpoints.{endpoint}]\n\
         roles_from = {{ role = \"{SUPERUSER}\", password = \"{PASSWORD}\" }}\n\
         compute = {{ kind = \"fixed\", address = \"{}\" }}\n{keys}\n",
        postgres.socket().display()
    )
}

/// Starts a gateway that knows its file; nothing notices changes but [`Gateway::server`]'s own `reload`.
async fn started(setup: Setup) -> Gateway {
    let file = setup.write();
    let gateway = setup.start().await;
    gateway.server.reloader().set_file(&file);
    gateway
}

fn text(gateway: &Gateway) -> String {
    fs::read_to_string(gateway.path().join("pgwake.toml")).unwrap()
}

/// Writes the file anew, as an editor does: another file takes its name.
fn rewrite(folder: &Path, text: &str) {
    let new = folder.join("pgwake.toml.new");
    fs::write(&new, text).unwrap();
    fs::rename(new, folder.join("pgwake.toml")).unwrap();
}
