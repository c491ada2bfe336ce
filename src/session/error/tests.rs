//! Every error that a client may read is in the guide's table, word for word.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::*;
use crate::auth::AuthError;
use crate::branches::BranchError;
use crate::error::{documented, examples};
use crate::pool::LoginError;
use crate::tenant::{directory::ResolveError, gate::TurnedAway};
use crate::wake::WakeError;
use crate::wire::VIOLATIONS_OF_CLIENTS;

impl SessionError {
    pub(super) fn of_every_variant() -> Vec<Self> {
        let endpoint = EndpointName::parse("demo-main").unwrap();
        let limit = Duration::from_secs(60);
        let waited = limit;
        let said = || "the database system is starting up".to_owned();
        let lost = |loss| Self::ServerLost {
            reason: "the server closed the connection".to_owned(),
            loss,
        };
        examples! {
            Self::Wire(_) => WireError::examples().into_iter().map(Self::Wire),
            Self::PlaintextRefused => [Self::PlaintextRefused],
            Self::LoginTimeout(_) => [Self::LoginTimeout(limit)],
            Self::UnknownPooling(_) => [Self::UnknownPooling("statement".to_owned())],
            Self::ClientGone => [Self::ClientGone],
            Self::UnknownMessage(_) => [Self::UnknownMessage(0)],
            Self::BadLength => [Self::BadLength],
            Self::BadMessage => [Self::BadMessage],
            Self::ServerLost { loss: Loss::Unknown, .. } => [lost(Loss::Unknown)],
            Self::ServerLost { loss: Loss::RolledBack, .. } => [lost(Loss::RolledBack)],
            Self::StillStarting { .. } => [Self::StillStarting { endpoint: endpoint.clone(), waited, said: said() }],
            Self::IdleEnded { .. } => [Self::IdleEnded { endpoint: endpoint.clone() }],
            Self::Ignored { open: None, .. } => [Self::Ignored { endpoint: endpoint.clone(), by: IgnoredBy::Role, open: None }],
            Self::Ignored { open: Some(Loss::RolledBack), .. } => [Self::Ignored { endpoint: endpoint.clone(), by: IgnoredBy::Role, open: Some(Loss::RolledBack) }],
            Self::Ignored { open: Some(Loss::Unknown), .. } => [Self::Ignored { endpoint: endpoint.clone(), by: IgnoredBy::ApplicationName, open: Some(Loss::Unknown) }],
            Self::PoolTimeout { .. } => [Self::PoolTimeout { waited, size: 20 }],
            Self::CancelledWhileWaiting => [Self::CancelledWhileWaiting],
            Self::InFailedTransaction => [Self::InFailedTransaction],
            Self::IdleInTransaction => [Self::IdleInTransaction],
            Self::PasswordChanged => [Self::PasswordChanged],
            Self::PlanChanged => [Self::PlanChanged],
            Self::TokenExpired => [Self::TokenExpired],
            Self::TooOld { .. } => [Self::TooOld { limit }],
            Self::IdleTooLong { .. } => [Self::IdleTooLong { limit }],
            Self::IdleInTransactionTooLong { .. } => [Self::IdleInTransactionTooLong { limit }],
            Self::AddressBarred => [Self::AddressBarred],
            Self::EndpointRemoved(_) => [Self::EndpointRemoved(endpoint.clone())],
            Self::OtherServer(_) => [Self::OtherServer(endpoint.clone())],
            Self::ServerReplaced(_) => [Self::ServerReplaced(endpoint.clone())],
            Self::OverLimit(_) => OverLimit::examples().into_iter().map(Self::OverLimit),
            Self::TooManyPinned { .. } => [Self::TooManyPinned { max: 10 }],
            Self::ConsoleFull => [Self::ConsoleFull],
            Self::Terminated => [Self::Terminated],
            Self::ShuttingDown => [Self::ShuttingDown],
            Self::ShuttingDownBefore => [Self::ShuttingDownBefore],
        }
    }
}

#[test]
fn every_error_is_in_the_table_of_the_guide() {
    let told = [
        documented::told::<SessionError>(),
        documented::told::<WireError>(),
        documented::told::<AuthError>(),
        documented::told::<TurnedAway>(),
        documented::told::<ResolveError>(),
        documented::told::<OverLimit>(),
        documented::told::<LoginError>(),
        documented::told::<WakeError>(),
        documented::told::<BranchError>(),
    ];
    documented::compare("Errors that clients read", told.concat());
}

/// The program's own sources, tests left out.
fn sources() -> Vec<(PathBuf, String)> {
    fn collect(folder: &Path, files: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, files);
            } else if !path.ends_with("tests.rs") && !path.iter().any(|part| part == "tests") {
                files.push((path.clone(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut files = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    files
}

#[test]
fn no_kind_of_error_is_left_out_of_the_comparison() {
    let mut found = BTreeSet::new();
    for (path, text) in sources() {
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("impl ClientError for ") {
                found.insert(name.trim_end_matches(" {").to_owned());
            }
            // Only what has examples may be written to a client.
            let is_generic = line.starts_with("impl<") && line.contains("ClientError for");
            assert!(!is_generic, "{}: {line}", path.display());
        }
    }
    let compared = [
        "AuthError",
        "BranchError",
        "LoginError",
        // This one and `Undone` by a test of the console, which has a table of its own.
        "Misunderstood",
        "OverLimit",
        "ResolveError",
        "SessionError",
        "TurnedAway",
        "Undone",
        "WakeError",
        "WireError",
    ];
    assert_eq!(found.into_iter().collect::<Vec<_>>(), compared);
}

/// The texts of violations are no variants, so they are looked for where they are written.
#[test]
fn no_violation_is_left_out_of_the_comparison() {
    let mut of_clients = BTreeSet::new();
    for (path, text) in sources() {
        for written in text.split("WireError::Violation(").skip(1) {
            let Some(text) = written.trim_start().strip_prefix('"') else {
                // A pattern, `_` or a name.
                let name = written.split(')').next().unwrap_or_default();
                assert!(
                    name.trim().len() < 5,
                    "{}: a text that is not written here: {name}",
                    path.display()
                );
                continue;
            };
            let text = text.split('"').next().unwrap_or_default();
            if !text.starts_with("the server") && text != "an error without an SQLSTATE" {
                of_clients.insert(text.to_owned());
            }
        }
    }
    assert_eq!(of_clients, VIOLATIONS_OF_CLIENTS.map(str::to_owned).into());
}
