//! The configuration as checked: plain data that the whole program reads.
//!
//! `config/sources.rs` reads the files as one tree, `config/file.rs` has the keys as written (none is accepted that
//! is not declared there), `config/check.rs` turns them into these types. Every problem on the way is collected.
//! Nothing here holds a handle, a static or a switch for tests. Who calls: `cli` and `server` load it, every other
//! module takes the part that it needs.

mod address;
mod admin;
mod branch;
mod built_in;
mod check;
mod compute;
mod control_plane;
mod duration;
mod endpoints;
mod expected_server;
mod file;
mod listen;
mod mode;
mod network;
mod origin;
mod pool;
mod problem;
mod proofs;
mod quota;
mod rate;
mod read;
mod secret;
mod size;
mod sources;
mod stand_in;
mod suspend;
mod tree;
mod value;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::audit;
use crate::ids::{EndpointName, TenantName};

pub use admin::{Admin, Operator, OperatorRight};
pub use branch::{BranchRules, Made};
pub use compute::{
    CommandCompute, CommandLine, Compute, FixedCompute, ProcessCompute, ServerAddress, ServerSetting,
    ServerTls, Variable,
};
pub use control_plane::{ControlPlane, ControlledCompute, Defaults};
pub use duration::{DurationError, DurationText, parse_duration};
pub use endpoints::Endpoints;
pub use expected_server::ExpectedServer;
pub use listen::{CertificateFiles, DefaultEndpoint, Listen, ListenAddress, ListenTls};
pub use network::{Access, Network};
pub use origin::{Level, Origin, Origins, OriginsByKey};
pub use pool::{Pool, PoolMode, WakeOn};
pub use problem::{Place, Problem, Problems};
pub use proofs::{
    CertificateName, ClientCertificates, LoginMethod, Role, RoleReading, RolesFrom, TokenKeys, Tokens,
};
pub use quota::{ByteRate, EndpointQuotas, Quota};
pub use rate::{Rate, RateText};
pub(crate) use read::nearest;
pub use size::SizeText;
pub use suspend::{IdleIgnore, IgnoredBy, SuspendVeto};

/// A configuration and where it comes from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What holds.
    pub config: Config,
    /// Where each part of it stands.
    pub origins: Origins,
}

/// Reads the configuration at `path` and everything that it includes.
///
/// # Errors
/// All [`Problems`] of all files at once.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let mut report = problem::Report::default();
    let sources = sources::Sources::read(path, &mut report);
    let spot = problem::Spot::of_file(&sources.root.place.file);
    let root = <file::Root as read::Read>::read(&sources.root, &spot, &mut report);
    let mut origins = Origins {
        files: sources.files,
        includes_unmatched: sources.includes_unmatched,
        ..Origins::default()
    };
    // Where a file is missing, whatever misses something else may miss what stands there.
    let checked = root
        .filter(|_| sources.complete)
        .map(|root| check::check(root, &spot, &mut origins, &mut report));
    report.finish(path)?;
    let config = checked.expect("nothing was reported, so every file was read");
    Ok(Loaded { config, origins })
}

/// Everything that one pgwake needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What must survive a restart: the mock secret, remembered roles, the lock.
    pub state_dir: PathBuf,
    /// Where computes put their Unix sockets; `None`: a short folder is chosen.
    pub socket_dir: Option<PathBuf>,
    /// Where clients come in; at least one.
    pub listen: Vec<Listen>,
    /// Domains whose first label is an endpoint, lowercase, without a leading dot.
    pub domains: Vec<String>,
    /// The endpoints of clients that name a database and nothing else, by its name.
    pub databases: BTreeMap<String, DefaultEndpoint>,
    /// Certificate chains and their keys; may be empty only where no listener speaks TLS.
    pub certificates: Vec<CertificateFiles>,
    /// Limits of the whole process.
    pub limits: Limits,
    /// What strangers may try.
    pub gate: GateRules,
    /// What is told of events, and where.
    pub audit: audit::Rules,
    /// Who may look at pgwake, and how.
    pub admin: Admin,
    /// How clients log in where nothing else is said: what an endpoint that does not exist pretends.
    pub login: LoginMethod,
    /// The tokens that are let in where nothing else is said, if that says enough.
    pub tokens: Option<Tokens>,
    /// Where endpoints are asked for that are not among these.
    pub control_plane: Option<Arc<ControlPlane>>,
    /// What holds for those where nothing else is said.
    pub defaults: Defaults,
    /// All endpoints of all tenants.
    pub endpoints: Endpoints,
}

impl Config {
    /// The endpoint of this name; what a server name means is `tenant`'s work.
    pub fn endpoint(&self, name: &str) -> Option<&Arc<Endpoint>> {
        self.endpoints.get(name)
    }
}

/// Limits of the whole process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most clients connected at once, authenticated or not; beyond, accept closes at once.
    pub clients_max: usize,
    /// From accept until the client has proved who it is.
    pub login_timeout: Duration,
    /// How long clients still come in after SIGTERM, for whoever sends them here to notice.
    pub drain_delay: Duration,
    /// How long transactions may go on after that.
    pub drain_timeout: Duration,
    /// One attempt to reach a server and log in to it.
    pub connect_timeout: Duration,
    /// Most computes that are started at once; the others wait for their turn.
    pub wakes_at_once_max: usize,
    /// Most local computes that run at once; `None`: any number. The others wait for one that nobody needs.
    pub awake_processes_max: Option<usize>,
    /// A TCP peer that takes nothing for this long counts as gone (TCP_USER_TIMEOUT), also one that does not read.
    pub tcp_user_timeout: Duration,
    /// An idle connection is probed after this (TCP keepalive).
    pub tcp_keepalive: Duration,
    /// Most commands that start or stop computes at once; as many again that look at them.
    pub commands_at_once: usize,
    /// What has to stay free on a disk that a branch is made on.
    pub disk_free_min: u64,
    /// What all clients together may have.
    pub quota: Quota,
}

/// What strangers may try, before they have proved who they are. A *network* is the first 24 bits of an IPv4 address, 64
/// of an IPv6 one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateRules {
    /// Most connections that have not logged in.
    pub unproved_max: usize,
    /// Most of them from one network.
    pub unproved_per_network_max: usize,
    /// Attempts of one network, without those that succeed.
    pub attempts: Rate,
    /// Attempts of one network at one endpoint's name.
    pub attempts_per_endpoint: Rate,
    /// So many failures of a role from one network are forgiven.
    pub failures_max: usize,
    /// How long the first lock-out of a role from there is; each further one is twice as long.
    pub lockout_min: Duration,
    /// How long the longest is.
    pub lockout_max: Duration,
}

/// A branch's address, its owner, its rules and its compute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The first label of the server name.
    pub name: EndpointName,
    /// Who owns it.
    pub tenant: TenantName,
    /// Further full host names, lowercase.
    pub hosts: Vec<String>,
    /// Roles with their verifiers: the endpoint's own over the tenant's.
    pub roles: BTreeMap<String, Role>,
    /// Where the verifiers that are not listed come from.
    pub roles_from: RolesFrom,
    /// Which server is taken for its own.
    pub expected_server: ExpectedServer,
    /// How clients prove who they are.
    pub login: LoginMethod,
    /// From where it may be reached.
    pub access: Access,
    /// The tokens that are let in, where `login` takes tokens.
    pub tokens: Option<Tokens>,
    /// The certificates that clients have to show, alone or beside another proof as `login` says.
    pub client_certificates: Option<ClientCertificates>,
    /// How long without an open turn until the compute is suspended; `None`: never.
    pub suspend_after: Option<Duration>,
    /// How long it stays awake after a wake.
    pub awake_min: Duration,
    /// Whether idle sessions are ended (57P05) so that the compute can be suspended.
    pub suspend_idle_sessions: bool,
    /// What its Postgres is asked for before; nothing: it is not asked.
    pub suspend_veto: BTreeSet<SuspendVeto>,
    /// Whose traffic neither keeps it awake nor wakes it.
    pub idle_ignore: IdleIgnore,
    /// How long a client is held while the compute wakes.
    pub hold_timeout: Duration,
    /// How long a start may take in all; it goes on after its clients have left.
    pub start_timeout: Duration,
    /// How long a clean stop may take before it is forced.
    pub stop_timeout: Duration,
    /// How server sessions are lent to its clients.
    pub pool: Pool,
    /// How much its clients may have.
    pub quotas: EndpointQuotas,
    /// Which branches of it there may be.
    pub branches: BranchRules,
    /// What runs the server.
    pub compute: Compute,
}
