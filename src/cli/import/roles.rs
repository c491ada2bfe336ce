//! Secrets become roles of the tenant, and those of PgBouncer's admins and watchers also roles of the console.

use super::{
    databases::TENANT,
    ini::{Ini, Pairs},
    page::{Page, key, text},
};
use crate::auth::{ITERATIONS_DEFAULT, verifier_for};
use crate::ids::{Secret, Verifier};

/// How a verifier begins.
const SCRAM: &str = "SCRAM-SHA-256$";

/// Whether clients can encrypt their connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encryption {
    Possible,
    None,
}

/// What an MD5 secret would do to the other roles: with it, all send their passwords, which needs TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Md5 {
    KeepsNobodyOut,
    KeepsOthersOut,
}

/// `[tenants.pgbouncer.roles]`; comments alone where nobody has a secret.
pub(super) fn roles(secrets: &Pairs, tls: Encryption) -> Page {
    let is_md5 = |secret: &str| matches!(Verifier::parse(secret), Ok(Verifier::Md5(_)));
    let all_md5 = secrets
        .iter()
        .all(|(_, secret)| secret.is_empty() || is_md5(secret));
    let md5 = match tls {
        Encryption::None if !all_md5 => Md5::KeepsOthersOut,
        Encryption::None | Encryption::Possible => Md5::KeepsNobodyOut,
    };
    let mut page = Page::default();
    for (name, secret) in secrets {
        if name.is_empty() || secret.is_empty() {
            page.comment(&format!("{} has no secret, and can log in nowhere.", key(name)));
            continue;
        }
        let header = format!("[tenants.{TENANT}.roles.{}]", key(name));
        match Verifier::parse(secret) {
            Ok(Verifier::Scram(_)) => {
                page.line(&header);
                page.line(&format!("verifier = {}", text(secret)));
            }
            Ok(Verifier::Md5(_)) => page.add(&match md5 {
                Md5::KeepsNobodyOut => with_md5(&header, secret),
                Md5::KeepsOthersOut => with_md5(&header, secret).commented_out(),
            }),
            Err(_) if secret.starts_with(SCRAM) => {
                page.comment(&format!(
                    "The secret of {} is no verifier that could be checked: list the role anew.",
                    key(name)
                ));
            }
            Err(_) => {
                let verifier = verifier_for(&Secret::new(secret.as_str()), ITERATIONS_DEFAULT).to_text();
                page.comment("A password in clear. Better: its server's own pg_authid.rolpassword as the verifier, and no password.");
                page.line(&header);
                page.line(&format!("verifier = {}", text(&verifier)));
                page.line(&format!("server_password = {}", text(secret)));
            }
        }
        page.gap();
    }
    page
}

/// A role with an MD5 secret.
fn with_md5(header: &str, secret: &str) -> Page {
    let mut page = Page::default();
    page.comment("An MD5 secret: while it is listed, all roles of these endpoints have to send their passwords over TLS, for which");
    page.comment("[tls] certificates are needed. Better: set the password anew with password_encryption = scram-sha-256, and copy");
    page.comment("pg_authid.rolpassword.");
    page.line(header);
    page.line(&format!("verifier = {}", text(secret)));
    page
}

/// `[admin.roles]`: who may come to the console.
pub(super) fn operators(ini: &Ini, secrets: &Pairs, page: &mut Page, notes: &mut Page) {
    let mut seen = Vec::new();
    for (setting, right) in [("admin_users", "operate"), ("stats_users", "read")] {
        let names = ini.setting(setting).unwrap_or_default();
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if seen.contains(&name) {
                continue;
            }
            seen.push(name);
            let secret = secrets
                .iter()
                .find(|(user, secret)| user == name && !secret.is_empty());
            let verifier = match secret.map(|(_, secret)| (secret, Verifier::parse(secret))) {
                Some((secret, Ok(Verifier::Scram(_)))) => secret.clone(),
                Some((secret, Err(_))) if !secret.starts_with(SCRAM) => {
                    verifier_for(&Secret::new(secret.as_str()), ITERATIONS_DEFAULT).to_text()
                }
                Some(_) | None => {
                    notes.told(setting, name, "operators log in by SCRAM: [admin.roles.NAME] verifier = what `pgwake hash-password` prints");
                    continue;
                }
            };
            page.comment("The console is the database `pgwake`.");
            page.line(&format!("[admin.roles.{}]", key(name)));
            page.line(&format!("verifier = {}", text(&verifier)));
            page.line(&format!("right = \"{right}\""));
            page.gap();
        }
    }
}
