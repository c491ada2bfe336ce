//! What holds where a configuration says nothing. `config/reference.toml` says the same; a test compares them.

use std::{path::Path, time::Duration};

use crate::audit::{Rules, To, WhenFull};

use super::{
    Access, BranchRules, CertificateName, ExpectedServer, GateRules, Limits, LoginMethod, Made, Network,
    Pool, PoolMode, Quota, Rate, RolesFrom, SuspendVeto, WakeOn,
};

/// `state_dir`
pub(crate) fn state_dir() -> &'static Path {
    Path::new("/var/lib/pgwake")
}

/// `audit`
pub(crate) const AUDIT: Rules = Rules {
    to: To::Nowhere,
    when_full: WhenFull::Drop,
};
/// `suspend_after`
pub(crate) const SUSPEND_AFTER: Duration = Duration::from_secs(5 * 60);
/// `suspend_idle_sessions`
pub(crate) const SUSPEND_IDLE_SESSIONS: bool = false;
/// `suspend_veto`, where roles are read from Postgres, so that there is a login to ask with. A suspend loses nothing of
/// what Postgres keeps over a restart, as prepared transactions and slots are; but it cuts off who is at work.
pub(crate) const SUSPEND_VETO: [SuspendVeto; 2] = [SuspendVeto::Clients, SuspendVeto::Maintenance];
/// `hold_timeout`
pub(crate) const HOLD_TIMEOUT: Duration = Duration::from_secs(30);
/// `start_timeout`
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(60);
/// `awake_min`
pub(super) const AWAKE_MIN: Duration = Duration::ZERO;
/// `stop_timeout`
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// `compute.status_timeout`: systemctl, docker and the like answer at once; one that hangs holds up its endpoint alone.
pub(crate) const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// `compute.status_every`
pub(crate) const STATUS_EVERY: Duration = Duration::from_secs(30);
/// `control_plane.timeout`
pub(crate) const CONTROL_TIMEOUT: Duration = Duration::from_secs(5);
/// `control_plane.fresh_for`
pub(crate) const CONTROL_FRESH_FOR: Duration = Duration::from_secs(30);
/// `control_plane.unknown_for`
pub(crate) const CONTROL_UNKNOWN_FOR: Duration = Duration::from_secs(10);
/// `control_plane.stale_max`: a control plane that is down for a night is no reason to keep everybody out.
pub(crate) const CONTROL_STALE_MAX: Duration = Duration::from_secs(24 * 3600);
/// `control_plane.endpoints_max`
pub(crate) const CONTROL_ENDPOINTS_MAX: usize = 1_000;
/// `control_plane.questions_at_once`
pub(crate) const CONTROL_QUESTIONS_AT_ONCE: usize = 32;
/// `login`
pub(crate) const LOGIN: LoginMethod = LoginMethod::Auto;
/// `tokens.role_claim`
pub(crate) const ROLE_CLAIM: &str = "sub";
/// `tokens.leeway`
pub(crate) const TOKEN_LEEWAY: Duration = Duration::from_secs(30);
/// `tokens.end_sessions`: pools of applications keep connections for longer than tokens last, and get new tokens for
/// new connections alone.
pub(crate) const TOKEN_END_SESSIONS: bool = false;
/// `client_certificates.name`, as Postgres' own `cert` has it
pub(crate) const CERTIFICATE_NAME: CertificateName = CertificateName::Cn;
/// `limits.clients_max`
const CLIENTS_MAX: usize = 10_000;
/// `roles_from`
pub(crate) const ROLES_FROM: RolesFrom = RolesFrom::Config;
/// `compute.create`
pub(crate) const MADE: Made = Made::OnFirstUse;
/// `compute.system_identifier`
pub(crate) const EXPECTED_SERVER: ExpectedServer = ExpectedServer::AsBefore;

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients_max: CLIENTS_MAX,
            login_timeout: Duration::from_secs(15),
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            // So many starts keep the disks of a large machine busy, and each still comes up.
            wakes_at_once_max: 32,
            awake_processes_max: None,
            // Long: it also ends a peer that is alive and does not read, such as a dump to a slow disk.
            tcp_user_timeout: Duration::from_secs(15 * 60),
            tcp_keepalive: Duration::from_secs(60),
            commands_at_once: 16,
            disk_free_min: 1 << 30,
            quota: Quota {
                clients_max: Some(CLIENTS_MAX),
                ..Quota::default()
            },
        }
    }
}

impl Default for GateRules {
    fn default() -> Self {
        let per_minute = |count| Rate {
            count,
            per: Duration::from_secs(60),
        };
        Self {
            unproved_max: 8_000,
            // A thousand clients of one application may come at once, from one network.
            unproved_per_network_max: 4_000,
            attempts: per_minute(12_000),
            attempts_per_endpoint: per_minute(6_000),
            failures_max: 20,
            lockout_min: Duration::from_secs(1),
            lockout_max: Duration::from_secs(15 * 60),
        }
    }
}

impl Default for Access {
    fn default() -> Self {
        Self {
            allow: Network::all().to_vec(),
            deny: Vec::new(),
        }
    }
}

impl Default for Pool {
    fn default() -> Self {
        let size = 20;
        Self {
            mode: PoolMode::Session,
            size,
            wait_timeout: Duration::from_secs(30),
            connects_at_once: 4,
            lifetime: Duration::from_secs(3600),
            idle_time: Duration::from_secs(10 * 60),
            pinned_max: pinned_max(size),
            startup_variants_max: 32,
            sequence_grace: Duration::from_secs(1),
            statements_max: 1_000,
            statement_bytes_max: 1024 * 1024,
            wake_on: WakeOn::Connect,
        }
    }
}

impl Default for BranchRules {
    fn default() -> Self {
        Self {
            on_connect: false,
            ttl: None,
            max: 100,
            tenant_max: 1_000,
            tenant_bytes_max: None,
        }
    }
}

/// `pool.pinned_max`: half of the sessions stay for those who pin none.
pub(crate) fn pinned_max(size: usize) -> usize {
    (size / 2).max(1)
}
