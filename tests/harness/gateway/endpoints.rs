//! A gateway's endpoints: local Postgres that sleep, each on a data directory of its own, and servers that are always there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::Setup;
use crate::harness::{
    account::Account,
    gate::Gate,
    postgres::{PASSWORD, Postgres, SUPERUSER, Version, copy_data_directory},
};

impl Setup {
    /// An endpoint with a local Postgres that sleeps: a copied data directory whose superuser may log in. `keys`
    /// are further lines of the endpoint's table.
    pub(crate) fn process(self, endpoint: &str, keys: &str) -> Self {
        let roles = format!("roles_from = {{ role = \"{SUPERUSER}\", password = \"{PASSWORD}\" }}");
        self.local(endpoint, "", &format!("{roles}\n{keys}"))
    }

    /// The same, with its superuser listed in the configuration: nothing wakes it but a client.
    pub(crate) fn listed(self, endpoint: &str, keys: &str) -> Self {
        self.local(endpoint, "", &format!("{}\n{keys}", listed_superuser()))
    }

    /// The same, whose Postgres is started with these settings, as TOML.
    pub(crate) fn with_settings(self, endpoint: &str, settings: &str, keys: &str) -> Self {
        let settings = format!("settings = {settings}, ");
        self.local(endpoint, &settings, &format!("{}\n{keys}", listed_superuser()))
    }

    /// The same, whose Postgres starts only through a gate.
    pub(crate) fn gated(self, endpoint: &str, gate: &Gate, keys: &str) -> Self {
        let programs = format!("programs = \"{}\", ", gate.programs().display());
        self.local(endpoint, &programs, &format!("{}\n{keys}", listed_superuser()))
    }

    /// The same as [`Self::listed`], whose data directory is in this folder, which the user of Postgres owns, with keys
    /// of the compute as well.
    pub(crate) fn listed_in(self, folder: &Path, endpoint: &str, [compute, keys]: [&str; 2]) -> Self {
        let data_dir = folder.join(endpoint);
        fill_data_dir(&data_dir);
        self.local_at(
            &data_dir,
            endpoint,
            compute,
            &format!("{}\n{keys}", listed_superuser()),
        )
    }

    fn local(self, endpoint: &str, compute: &str, keys: &str) -> Self {
        let data_dir = self.make_data_dir(endpoint);
        self.local_at(&data_dir, endpoint, compute, keys)
    }

    fn local_at(self, data_dir: &Path, endpoint: &str, compute: &str, keys: &str) -> Self {
        let toml = format!(
            "[tenants.{}.endpoints.{endpoint}]\n\
             compute = {{ {compute}kind = \"process\", data_dir = \"{}\" }}\n{keys}\n",
            self.tenant,
            data_dir.display()
        );
        self.tenants(&toml)
    }

    /// A data directory for an endpoint, owned by the user that Postgres runs as.
    pub(crate) fn make_data_dir(&self, endpoint: &str) -> PathBuf {
        let data_dir = self.data_dir(endpoint);
        fs::create_dir_all(data_dir.parent().unwrap()).unwrap();
        let account = Account::for_postgres();
        if let Some(account) = &account {
            account.own(data_dir.parent().unwrap());
        }
        fill_data_dir(&data_dir);
        data_dir
    }

    /// An endpoint in front of a Postgres that is always there.
    pub(crate) fn fixed(self, endpoint: &str, postgres: &Postgres, keys: &str) -> Self {
        self.fixed_at(endpoint, &postgres.socket(), keys)
    }

    /// The same where it is reached by this Unix socket.
    pub(crate) fn fixed_at(self, endpoint: &str, socket: &Path, keys: &str) -> Self {
        let toml = format!(
            "[tenants.{}.endpoints.{endpoint}]\n\
             roles_from = {{ role = \"{SUPERUSER}\", password = \"{PASSWORD}\" }}\n\
             compute = {{ kind = \"fixed\", address = \"{}\" }}\n{keys}\n",
            self.tenant,
            socket.display()
        );
        self.tenants(&toml)
    }
}

/// A data directory for a compute.
fn fill_data_dir(data_dir: &Path) {
    copy_data_directory(Version::Debian, data_dir);
    // Its workers come when they like, and keep a compute awake.
    let settings =
        "fsync = off\nfull_page_writes = off\nmax_wal_senders = 4\nwal_level = logical\nautovacuum = off\n";
    append(&data_dir.join("postgresql.conf"), settings);
}

/// The superuser among an endpoint's keys.
pub(super) fn listed_superuser() -> String {
    let verifier = postgres_protocol::password::scram_sha_256(PASSWORD.as_bytes());
    format!("roles.{SUPERUSER} = {{ verifier = \"{verifier}\", server_password = \"{PASSWORD}\" }}")
}

/// Adds lines to a file of settings.
pub(crate) fn append(path: &Path, text: &str) {
    let before = fs::read_to_string(path).unwrap();
    fs::write(path, format!("{before}\n{text}")).unwrap();
}
