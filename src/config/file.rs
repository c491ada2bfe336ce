//! The configuration as written: every table and every key that exists.
//!
//! One declaration per table; a key that is not declared here is refused. Values are parsed one by one, what
//! they mean together is `check`'s work. Who calls: `config::load`.

mod admin;
mod branches;
mod command;
mod compute;
mod control_plane;
mod gate;
mod proofs;
mod quota;
mod roles_from;
mod settings;

use std::{path::PathBuf, time::Duration};

use crate::audit::WhenFull;
use crate::ids::{EndpointName, Secret, TenantName, Verifier};

use super::{
    DefaultEndpoint, ListenTls, LoginMethod, Made, Network, PoolMode, SuspendVeto, WakeOn,
    address::{DnsName, ListenTcp, ServerAt},
    duration::SuspendAfter,
    expected_server::ExpectedServer,
    mode::Mode,
    problem::{Report, Spot},
    read::{At, List, Named, Read, Setting, table},
    size::Size,
    tree::{Node, Value},
    value::{ApplicationName, AuditTo, Count, DatabaseName, RoleName, ServerTlsMode},
};

pub(crate) use admin::AdminTable;
pub(crate) use branches::BranchesTable;
pub(crate) use command::{CommandTable, CommandWords};
pub(crate) use compute::ComputeTable;
pub(crate) use control_plane::ControlPlaneTable;
pub(crate) use gate::{AccessTable, GateTable};
pub(crate) use proofs::{ClientCertificatesTable, TokensTable};
pub(crate) use quota::{QuotaTable, ScopedLimits};
pub(crate) use roles_from::RolesFromSource;
pub(crate) use settings::SettingsTable;

table! {
    /// A whole configuration.
    Root {
        /// What must survive a restart.
        state_dir: PathBuf,
        /// Where computes put their sockets.
        socket_dir: PathBuf,
        /// Further files; taken in before the rest is read.
        include: List<String>,
        /// `[listen]`
        listen: ListenTable,
        /// `[routing]`
        routing: Routing,
        /// `[tls]`
        tls: Tls,
        /// `[limits]`
        limits: LimitsTable,
        /// `[gate]`
        gate: GateTable,
        /// `[audit]`
        audit: AuditTable,
        /// `[admin]`
        admin: AdminTable,
        /// `[control_plane]`
        control_plane: ControlPlaneTable,
        /// `[defaults]`
        defaults: Inherited,
        /// `[tenants.<tenant>]`
        tenants: Named<TenantName, Tenant>,
    }
}

table! {
    /// `[listen]`
    ListenTable {
        /// Where clients come in.
        postgres: Listeners,
        /// Where operators come in.
        admin: ListenTcp,
    }
}

table! {
    /// An element of `listen.postgres` that says more than an address.
    Listener {
        /// TCP address and port.
        address: ListenTcp,
        /// Path of a Unix socket.
        unix: PathBuf,
        /// Whether TLS is asked of TCP clients.
        tls: ListenTls,
        /// The endpoint of clients that name none.
        default_endpoint: DefaultEndpoint,
        /// Who sends PROXY headers.
        proxies: List<Network>,
        /// Permissions of the Unix socket.
        mode: Mode,
    }
}

table! {
    /// `[routing]`
    Routing {
        /// Domains whose first label is an endpoint.
        domains: List<DnsName>,
        /// The endpoints of clients that name a database alone.
        databases: Named<DatabaseName, DefaultEndpoint>,
    }
}

table! {
    /// `[tls]`
    Tls {
        /// Chains and their keys.
        certificates: List<Certificate>,
    }
}

table! {
    /// An element of `tls.certificates`.
    Certificate {
        /// The chain.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    }
}

table! {
    /// `[limits]`
    LimitsTable + quota: QuotaTable {
        /// From accept until the client has proved who it is.
        login_timeout: Duration,
        /// For clients that still come after SIGTERM.
        drain_delay: Duration,
        /// For transactions after that.
        drain_timeout: Duration,
        /// For one attempt to reach a server.
        connect_timeout: Duration,
        /// Most computes started at once.
        wakes_at_once_max: Count<1, 10_000>,
        /// Most local computes that run at once.
        awake_processes_max: Count<1, 100_000>,
        /// What stays free on disks.
        disk_free_min: Size<0, { usize::MAX }>,
        /// TCP_USER_TIMEOUT.
        tcp_user_timeout: Duration,
        /// Until an idle connection is probed.
        tcp_keepalive: Duration,
        /// Most commands at once.
        commands_at_once: Count<1, 1_000>,
    }
}

table! {
    /// `[audit]`
    AuditTable {
        /// Where lines go.
        to: AuditTo,
        /// The file, where they go to one.
        file: PathBuf,
        /// What is done when no more can be written.
        when_full: WhenFull,
    }
}

table! {
    /// What an endpoint takes from its tenant, and a tenant from `[defaults]`.
    Inherited {
        /// Without an open turn until the compute is suspended.
        suspend_after: SuspendAfter,
        /// From a wake until it may be suspended.
        awake_min: Duration,
        /// Whether idle sessions are ended for that.
        suspend_idle_sessions: bool,
        /// What speaks against it.
        suspend_veto: List<SuspendVeto>,
        /// Whose traffic does not.
        idle_ignore: IdleIgnoreTable,
        /// How long a client is held.
        hold_timeout: Duration,
        /// How long a start may take.
        start_timeout: Duration,
        /// How long a clean stop may take.
        stop_timeout: Duration,
        /// How clients prove who they are.
        login: LoginMethod,
        /// From where clients may come.
        access: AccessTable,
        /// The tokens that are let in.
        tokens: TokensTable,
        /// The certificates that clients have to show.
        client_certificates: ClientCertificatesTable,
        /// Where further verifiers come from.
        roles_from: RolesFromSource,
        /// How server sessions are lent to clients.
        pool: PoolTable,
        /// How much clients may have.
        limits: ScopedLimits,
        /// Which branches there may be.
        branches: BranchesTable,
    }
}

table! {
    /// `idle_ignore = { … }`; inherited key by key.
    IdleIgnoreTable {
        /// Of these roles.
        roles: List<RoleName>,
        /// Of clients that come with these names.
        application_names: List<ApplicationName>,
    }
}

table! {
    /// `pool = { … }`; inherited key by key.
    PoolTable {
        /// When a server session is given back.
        mode: PoolMode,
        /// Most server sessions that are lent.
        size: Count<1, 10_000>,
        /// How long a client waits for one.
        wait_timeout: Duration,
        /// Most logins to the server at once.
        connects_at_once: Count<1, 1_000>,
        /// How old a server session gets.
        lifetime: Duration,
        /// How long one may rest.
        idle_time: Duration,
        /// Most server sessions that clients may pin.
        pinned_max: Count<0, 10_000>,
        /// Most different startup settings.
        startup_variants_max: Count<1, 10_000>,
        /// How long an INSERT keeps its session where sequences are asked for.
        sequence_grace: Duration,
        /// Most prepared statements of a client.
        statements_max: Count<1, 100_000>,
        /// Longest text of a statement that is remembered.
        statement_bytes_max: Size<1_024, 1_073_741_824>,
        /// What wakes a compute.
        wake_on: WakeOn,
    }
}

table! {
    /// `[tenants.<tenant>]`
    Tenant + inherited: Inherited {
        /// Roles of all its endpoints.
        roles: Named<RoleName, RoleTable>,
        /// Its endpoints.
        endpoints: Named<EndpointName, EndpointTable>,
    }
}

table! {
    /// `[tenants.<tenant>.roles.<role>]`
    RoleTable {
        /// What its password is checked against.
        verifier: Verifier,
        /// What pgwake logs in to the server with.
        server_password: Secret,
        /// What tokens call it.
        subjects: List<String>,
        /// What certificates call it.
        certificate_names: List<String>,
    }
}

table! {
    /// `[tenants.<tenant>.endpoints.<endpoint>]`
    EndpointTable + inherited: Inherited {
        /// Further full host names.
        hosts: List<DnsName>,
        /// Roles of this endpoint alone.
        roles: Named<RoleName, RoleTable>,
        /// What runs the server.
        compute: ComputeTable,
    }
}

table! {
    /// `compute = { kind = "process", … }`
    ProcessTable {
        /// The data directory.
        data_dir: PathBuf,
        /// When it is made.
        create: Made,
        /// Folder of `postgres` and `initdb`.
        programs: PathBuf,
        /// The operating system's user.
        run_as: String,
        /// Made on first use.
        database: DatabaseName,
        /// Owner of that database.
        owner: String,
        /// Run once by the superuser of a new data directory.
        bootstrap: PathBuf,
        /// What Postgres is started with.
        settings: SettingsTable,
    }
}

table! {
    /// `compute = { kind = "fixed", … }`
    FixedTable {
        /// Host and port, or a socket.
        address: ServerAt,
        /// How TLS is spoken to it.
        tls: ServerTlsMode,
        /// Trusted roots.
        ca: PathBuf,
        /// Which server it is.
        system_identifier: ExpectedServer,
    }
}

/// One listener or a list of them.
pub(crate) struct Listeners(pub(crate) Vec<At<ListenerEntry>>);

impl Read for Listeners {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        if let Value::List(_) = &node.value {
            return List::read(node, spot, report).map(|list| Self(list.0));
        }
        let value = ListenerEntry::read(node, spot, report)?;
        let spot = spot.clone();
        Some(Self(vec![At { value, spot }]))
    }

    fn keys(path: &str, keys: &mut Vec<String>) {
        Listener::keys(path, keys);
    }
}

/// An address alone, or a table.
pub(crate) struct ListenerEntry(pub(crate) Listener);

impl Read for ListenerEntry {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        if let Value::Table(_) = &node.value {
            return Listener::read(node, spot, report).map(Self);
        }
        let value = ListenTcp::read(node, spot, report)?;
        let spot = spot.clone();
        Some(Self(Listener {
            address: Setting::Given(At { value, spot }),
            unix: Setting::Absent,
            tls: Setting::Absent,
            default_endpoint: Setting::Absent,
            proxies: Setting::Absent,
            mode: Setting::Absent,
        }))
    }
}
