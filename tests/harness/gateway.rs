//! pgwake itself, in this process: a real server on ports that the system chose, with its own certificates,
//! state and data directories. It drains when the test says so and stops, computes included, with its value.

mod clients;
mod commands;
mod endpoints;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use pgwake::{
    config::load,
    ids::EndpointName,
    listener::BoundAddress,
    server::{Server, StartError},
};

pub(crate) use clients::{config_at, prove};
pub(crate) use commands::{clear, obstruct, story, times};
pub(crate) use endpoints::append;

use super::{certificates::Authority, directories::Directory, http::Http, logs, processes, wait::until};

/// The domain that endpoints are under.
pub(crate) const DOMAIN: &str = "db.localhost";

/// A gateway to be started.
pub(crate) struct Setup {
    directory: Home,
    pub(crate) authority: Authority,
    listen: String,
    domains: Vec<String>,
    certificates: Vec<(String, Vec<String>)>,
    limits: String,
    admin: Option<String>,
    tenants: String,
    /// Whose the next endpoints are.
    tenant: &'static str,
}

/// A gateway that serves.
pub(crate) struct Gateway {
    pub(crate) server: Server,
    pub(crate) authority: Authority,
    directory: Home,
}

impl Setup {
    /// One TCP listener that requires TLS, and no endpoint.
    pub(crate) fn new() -> Self {
        logs::begin();
        Self {
            directory: Home(Directory::new()),
            authority: Authority::new(),
            listen: r#""127.0.0.1:0""#.to_owned(),
            domains: vec![DOMAIN.to_owned()],
            certificates: Vec::new(),
            limits: String::new(),
            admin: None,
            tenants: String::new(),
            tenant: "acme",
        }
    }

    /// The gateway's own directory.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Who signs its certificates.
    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// `listen.postgres`, as TOML.
    pub(crate) fn listen(mut self, toml: &str) -> Self {
        toml.clone_into(&mut self.listen);
        self
    }

    /// A further domain that endpoints are under.
    pub(crate) fn domain(mut self, domain: &str) -> Self {
        self.domains.push(domain.to_owned());
        self
    }

    /// A certificate for these names, in place of the one for all names of [`DOMAIN`]; its files are `<file>.pem`
    /// and `<file>.key`.
    pub(crate) fn certificate(mut self, file: &str, names: &[&str]) -> Self {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        self.certificates.push((file.to_owned(), names));
        self
    }

    /// Who signs the certificates.
    pub(crate) fn signed_by(mut self, authority: Authority) -> Self {
        self.authority = authority;
        self
    }

    /// A line of `[limits]`.
    pub(crate) fn limit(mut self, toml: &str) -> Self {
        self.limits.push_str(toml);
        self.limits.push('\n');
        self
    }

    /// A port for operators, with these lines of `[admin]`.
    pub(crate) fn admin(mut self, toml: &str) -> Self {
        self.admin = Some(toml.to_owned());
        self
    }

    /// Tables of tenants, as TOML.
    pub(crate) fn tenants(mut self, toml: &str) -> Self {
        self.tenants.push_str(toml);
        self.tenants.push('\n');
        self
    }

    /// The endpoints that follow are this tenant's.
    pub(crate) fn of_tenant(mut self, tenant: &'static str) -> Self {
        self.tenant = tenant;
        self
    }

    /// Where an endpoint's data directory is.
    pub(crate) fn data_dir(&self, endpoint: &str) -> PathBuf {
        self.directory.path().join("computes").join(endpoint)
    }

    /// Writes the configuration; [`Self::start`] does it, too.
    pub(crate) fn write(&self) -> PathBuf {
        self.authority.write(self.path());
        let certificates = self.write_certificates();
        let Self {
            listen,
            domains,
            limits,
            admin,
            tenants,
            ..
        } = self;
        let listen_admin = admin.as_ref().map_or("", |_| "admin = \"127.0.0.1:0\"");
        let admin = admin.as_deref().unwrap_or_default();
        let text = format!(
            "state_dir = \"state\"\nsocket_dir = \"sockets\"\n\
             [listen]\npostgres = {listen}\n{listen_admin}\n\
             [routing]\ndomains = {domains:?}\n\
             [tls]\ncertificates = [{certificates}]\n\
             [limits]\n{limits}\n[admin]\n{admin}\n{tenants}",
        );
        let file = self.path().join("pgwake.toml");
        fs::write(&file, text).unwrap();
        file
    }

    /// The entries of `tls.certificates`.
    fn write_certificates(&self) -> String {
        let all = [&format!("*.{DOMAIN}"), DOMAIN, "localhost", "127.0.0.1"];
        let default = [("server".to_owned(), all.map(ToOwned::to_owned).to_vec())];
        let certificates = if self.certificates.is_empty() {
            &default[..]
        } else {
            &self.certificates
        };
        let entry = |(file, names): &(String, Vec<String>)| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            self.authority.certify(&names).write(self.path(), file);
            format!("{{ certificate = \"{file}.pem\", key = \"{file}.key\" }},")
        };
        certificates.iter().map(entry).collect()
    }

    /// Starts it and waits until the roles of every endpoint have been learnt.
    pub(crate) async fn start(self) -> Gateway {
        let gateway = self.start_untaught().await.unwrap();
        gateway.learnt().await;
        gateway
    }

    /// Starts it.
    pub(crate) async fn start_untaught(self) -> Result<Gateway, StartError> {
        let config = load(&self.write())
            .unwrap_or_else(|problems| panic!("{problems}"))
            .config;
        let server = Server::start(config).await?;
        Ok(Gateway {
            server,
            authority: self.authority,
            directory: self.directory,
        })
    }
}

impl Gateway {
    /// Waits until the roles of every endpoint have been read once, and its first compute sleeps again or may.
    pub(crate) async fn learnt(&self) {
        let house = self.server.house();
        let unread = || {
            let mut endpoints = house.directory.endpoints();
            endpoints.any(|endpoint| {
                endpoint.roles_from != pgwake::config::RolesFrom::Config
                    && !house.roles.was_read(&endpoint.name)
            })
        };
        until("the roles of all endpoints", async || !unread()).await;
    }

    /// The gateway's own directory.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The first TCP address that it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        let tcp = |address: &BoundAddress| match address {
            BoundAddress::Tcp(address) => Some(*address),
            BoundAddress::Unix(_) => None,
        };
        self.server.addresses().iter().find_map(tcp).unwrap()
    }

    /// The port of operators, asked with this token.
    pub(crate) fn http(&self, token: impl Into<Option<&'static str>>) -> Http {
        let address = self
            .server
            .admin_address()
            .expect("there is a port for operators");
        Http::new(address, token.into())
    }

    /// Where an endpoint's data directory is; that of a branch is beside its parent's.
    pub(crate) fn data_dir(&self, endpoint: &str) -> PathBuf {
        let computes = self.directory.path().join("computes");
        match endpoint.split_once("--") {
            Some((parent, branch)) => computes.join(format!("{parent}.branches/{branch}")),
            None => computes.join(endpoint),
        }
    }

    /// How often a start of its compute was asked for.
    pub(crate) fn wakes(&self, endpoint: &str) -> u64 {
        self.server
            .house()
            .wakes
            .wakes_started(&EndpointName::parse_any(endpoint).unwrap())
    }

    /// Stops it, and starts another on the same files, state and data directories.
    pub(crate) async fn restart(self) -> Self {
        let Self {
            server,
            authority,
            directory,
        } = self;
        server.stop().await;
        drop(server);
        let config = load(&directory.path().join("pgwake.toml")).unwrap().config;
        Self {
            server: Server::start(config).await.unwrap(),
            authority,
            directory,
        }
    }

    /// Whether its compute takes logins.
    pub(crate) fn is_awake(&self, endpoint: &str) -> bool {
        let endpoint = EndpointName::parse_any(endpoint).unwrap();
        self.server.house().wakes.awake(&endpoint).is_some()
    }

    /// Waits until something of its compute runs: its server, or what stands at a gate in front of it.
    pub(crate) async fn stirring(&self, endpoint: &str) {
        let data_dir = self.data_dir(endpoint);
        until("the compute to be started", async || {
            !processes::in_directory(&data_dir).is_empty()
        })
        .await;
    }

    /// Waits until no process of its compute is left.
    pub(crate) async fn asleep(&self, endpoint: &str) {
        let data_dir = self.data_dir(endpoint);
        until("the compute to be suspended", async || {
            processes::in_directory(&data_dir).is_empty()
        })
        .await;
    }
}

/// The gateway's own directory.
struct Home(Directory);

impl Home {
    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // A test that did not drain leaves computes behind; those under this directory go with it.
        let below = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
        for compute in below(&self.path().join("computes")) {
            processes::kill_all_in(&compute.path());
            // The branches of one are in a folder beside it.
            if compute.path().extension().is_some_and(|end| end == "branches") {
                below(&compute.path()).for_each(|branch| processes::kill_all_in(&branch.path()));
            }
        }
    }
}
