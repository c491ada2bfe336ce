//! The login of pgwake's own to a server: as whom, and what is known of what that server has for it.
//!
//! It proves nothing itself. Who calls: `server`, to read roles and to ask what speaks against a suspend; `branches`.

use crate::auth::Credential;
use crate::config::RoleReading;
use crate::ids::ScramVerifier;

/// As whom, and against what.
#[derive(Debug)]
pub struct OwnLogin {
    /// As it is configured.
    pub reading: RoleReading,
    /// What the endpoint's own server has for that role; `None`: nobody knows.
    pub verifier: Option<ScramVerifier>,
}

impl OwnLogin {
    /// To a server that nothing is known of.
    pub fn new(reading: RoleReading) -> Self {
        let verifier = None;
        Self { reading, verifier }
    }

    /// What it logs in with; `None`: the server's own socket lets it in.
    pub(super) fn credential(&self) -> Option<Credential> {
        let password = self.reading.password.clone()?;
        Some(match self.verifier.clone() {
            Some(verifier) => Credential::Own { password, verifier },
            None => Credential::Password(password),
        })
    }
}
