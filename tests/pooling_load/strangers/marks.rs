//! What a guest's session carries, and whether a row shows exactly that.

use super::GUESTS;

/// One row that shows all of it, and on which server session it was asked for: the same text for everybody.
pub(super) const LOOK: &str = "select (select who from mark), current_schema()::text, \
     current_setting('app.tenant_id', true), \
     (select application_name from pg_stat_activity where pid = pg_backend_pid())::text, current_user::text, \
     (select string_agg(tenant, ',' order by tenant) from public.shared), pg_backend_pid()::text";
/// How many of its columns show what is carried.
const COLUMNS: usize = 6;

/// How a guest comes to what it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Never.
    Bare,
    /// At startup.
    Born,
    /// By SET.
    Dressed,
}

impl Kind {
    /// Of the guest with this number.
    pub(super) fn of(number: u64) -> Self {
        // Few of the others: a session that had names is not lent to who had none, and who was born with something is
        // lent one that was opened so. Each of them costs a login.
        match number % 20 {
            0 => Self::Bare,
            10 => Self::Born,
            _ => Self::Dressed,
        }
    }
}

/// The `app.tenant_id` of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tenant {
    /// It never had any.
    Never,
    /// It had one, and reset it.
    Reset,
    Is(String),
}

/// What a session carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) schema: String,
    pub(super) tenant: Tenant,
    pub(super) application: String,
    /// The role that was SET.
    pub(super) role: Option<String>,
}

/// The name that all of a guest's values begin with: its role's.
pub(super) fn name(number: u64) -> String {
    format!("guest_{number:02}")
}

impl Marks {
    /// Those of a session of this guest that has just begun.
    pub(super) fn at_startup(number: u64) -> Self {
        let name = name(number);
        match Kind::of(number) {
            Kind::Born => Self {
                schema: format!("{name}_a"),
                tenant: Tenant::Is(format!("{name}.0")),
                application: format!("{name}.0"),
                role: None,
            },
            Kind::Bare | Kind::Dressed => Self {
                schema: "public".into(),
                tenant: Tenant::Never,
                application: String::new(),
                role: None,
            },
        }
    }

    /// Whether a row of [`LOOK`] shows these.
    pub(super) fn are_shown_by(&self, row: &[Option<String>]) -> bool {
        let tenant_is_right = match (&self.tenant, row[2].as_deref()) {
            (Tenant::Never, None) | (Tenant::Reset, None | Some("")) => true,
            (Tenant::Is(tenant), Some(shown)) => tenant == shown,
            _ => false,
        };
        let others = [
            Some(self.schema.clone()),
            Some(self.schema.clone()),
            row[2].clone(),
            Some(self.application.clone()),
            Some(self.role.clone().unwrap_or_else(|| "postgres".into())),
            self.tenants_seen(),
        ];
        tenant_is_right && row[..COLUMNS] == others
    }

    /// A role sees the rows of its tenant, a superuser all.
    fn tenants_seen(&self) -> Option<String> {
        if self.role.is_none() {
            return Some((0..GUESTS).map(name).collect::<Vec<_>>().join(","));
        }
        match &self.tenant {
            Tenant::Is(tenant) => tenant.split('.').next().map(ToOwned::to_owned),
            Tenant::Never | Tenant::Reset => None,
        }
    }
}
