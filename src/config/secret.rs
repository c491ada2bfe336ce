//! Secrets: a text, `{ file = "…" }` or `{ env = "…" }`, and files that must be private.
//!
//! The value of a secret is in no message. Whether a key or certificate is well formed is `tls`'s work. Who
//! calls: the tables of `file`; `check` for private keys.

use std::{
    env, fs,
    io::Read as _,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use rustix::process::geteuid;
use zeroize::Zeroizing;

use crate::ids::{Secret, Verifier};

use super::{
    problem::{Report, Spot, Wrong},
    read::{Read, Setting, table},
    tree::{Node, Value},
};

/// Most bytes of a secret in a file: far more than any password, far less than a mistake such as a device.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

table! {
    /// A secret that stands elsewhere.
    SecretTable {
        /// A file that only its owner can read.
        file: std::path::PathBuf,
        /// An environment variable.
        env: String,
    }
}

impl Read for Secret {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let example = "a text in quotes, { file = \"…\" } or { env = \"…\" }";
        match &node.value {
            Value::Text(text) => report.note(spot, not_empty(text)),
            Value::Table(entries) => {
                let table = SecretTable::read(node, spot, report)?;
                match (table.file, table.env) {
                    (Setting::Given(file), Setting::Absent) => {
                        report.note(&file.spot, secret_file(&file.value))
                    }
                    (Setting::Absent, Setting::Given(env)) => {
                        report.note(&env.spot, secret_variable(&env.value))
                    }
                    (Setting::Refused, _) | (_, Setting::Refused) => None,
                    // Then there are only unknown keys, which was told.
                    (Setting::Absent, Setting::Absent) if !entries.is_empty() => None,
                    _ => {
                        let message = "a secret has either `file` or `env`";
                        report.add(spot, Wrong::new(message, format!("write {example}")));
                        None
                    }
                }
            }
            other => {
                let message = format!("expected a secret, found {}", other.kind());
                report.add(spot, Wrong::new(message, format!("write {example}")));
                None
            }
        }
    }
}

impl Read for Verifier {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let secret = Secret::read(node, spot, report)?;
        let fix =
            "write the line that `pgwake hash-password` prints, or the server's own pg_authid.rolpassword";
        let parsed = Self::parse(secret.reveal()).map_err(|error| Wrong::new(error.to_string(), fix));
        report.note(spot, parsed)
    }
}

/// That a file is there and that nobody but its owner can read it, or, where that is root, a group of pgwake's: so
/// Kubernetes mounts secrets, and so Postgres takes its own key.
pub(crate) fn check_private(path: &Path) -> Result<(), Wrong> {
    let metadata = regular_file(path)?;
    let mode = metadata.permissions().mode();
    if is_private(mode, metadata.uid(), geteuid().as_raw()) {
        return Ok(());
    }
    Err(Wrong::new(
        format!(
            "{} is open to others than its owner (mode {:04o})",
            path.display(),
            mode & 0o7777
        ),
        format!("chmod 600 {}", path.display()),
    ))
}

fn is_private(mode: u32, owner: u32, ourselves: u32) -> bool {
    let open = if owner == 0 && ourselves != 0 {
        0o037
    } else {
        0o077
    };
    mode & open == 0
}

/// That a file is there and can be read.
pub(crate) fn check_readable(path: &Path) -> Result<(), Wrong> {
    regular_file(path)?;
    let opened = fs::File::open(path);
    opened.map(drop).map_err(|error| unreadable(path, &error))
}

fn regular_file(path: &Path) -> Result<fs::Metadata, Wrong> {
    let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if metadata.is_file() {
        return Ok(metadata);
    }
    let message = format!("{} is not a regular file", path.display());
    Err(Wrong::new(message, "name a file"))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Wrong {
    let message = format!("{} cannot be read: {error}", path.display());
    Wrong::new(message, "name a file that the user who runs pgwake can read")
}

fn secret_file(path: &Path) -> Result<Secret, Wrong> {
    check_private(path)?;
    let mut text = Zeroizing::new(String::new());
    let file = fs::File::open(path).map_err(|error| unreadable(path, &error))?;
    file.take(SECRET_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| unreadable(path, &error))?;
    if text.len() as u64 > SECRET_BYTES_MAX {
        let message = format!("{} is larger than 64 KiB", path.display());
        return Err(Wrong::new(message, "name a file that holds the secret alone"));
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    not_empty(line.strip_suffix('\r').unwrap_or(line))
}

fn secret_variable(name: &str) -> Result<Secret, Wrong> {
    match env::var(name) {
        Ok(text) => not_empty(&Zeroizing::new(text)),
        Err(env::VarError::NotPresent) => {
            let message = format!("the environment variable {name} is not set");
            Err(Wrong::new(message, format!("set {name} where pgwake is started")))
        }
        Err(env::VarError::NotUnicode(_)) => {
            let message = format!("the environment variable {name} is not UTF-8");
            Err(Wrong::new(message, "set it to a text"))
        }
    }
}

fn not_empty(text: &str) -> Result<Secret, Wrong> {
    match text {
        "" => Err(Wrong::new(
            "the secret is empty",
            "remove the key, or give it a value",
        )),
        text if text.contains('\0') => Err(Wrong::new("the secret contains a NUL", "remove it")),
        text => Ok(Secret::new(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str, mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn one_newline_at_the_end_of_a_secret_file_is_not_part_of_it() {
        for (text, secret) in [("a\n", "a"), ("a\r\n", "a"), ("a", "a"), ("a \n\n", "a \n")] {
            let (_folder, path) = written(text, 0o600);
            assert_eq!(secret_file(&path).unwrap().reveal(), secret);
        }
    }

    #[test]
    fn a_secret_file_that_others_can_read_is_refused_with_the_command_that_mends_it() {
        for mode in [0o644, 0o640, 0o604, 0o660] {
            let (_folder, path) = written("a", mode);
            let wrong = secret_file(&path).unwrap_err();
            assert_eq!(wrong.fix, format!("chmod 600 {}", path.display()), "{mode:o}");
        }
        let (_folder, path) = written("a", 0o400);
        assert!(secret_file(&path).is_ok());
    }

    #[test]
    fn a_group_may_read_what_belongs_to_root_alone() {
        for (mode, owner, ourselves, private) in [
            (0o440, 0, 65_532, true),
            (0o640, 0, 65_532, true),
            (0o660, 0, 65_532, false),
            (0o444, 0, 65_532, false),
            (0o440, 65_532, 65_532, false),
            (0o440, 0, 0, false),
            (0o400, 65_532, 65_532, true),
        ] {
            assert_eq!(
                is_private(mode, owner, ourselves),
                private,
                "{mode:o} {owner} {ourselves}"
            );
        }
    }

    #[test]
    fn a_secret_comes_from_the_environment() {
        let secret = secret_variable("CARGO_PKG_NAME").unwrap();
        assert_eq!(secret.reveal(), "pgwake");
        assert!(secret_variable("PGWAKE_NEVER_SET").is_err());
    }

    #[test]
    fn empty_large_and_binary_secrets_are_refused() {
        let large = "x".repeat(65 * 1024);
        for text in ["", "\n", "a\0b", &large] {
            let (_folder, path) = written(text, 0o600);
            let wrong = secret_file(&path).unwrap_err();
            assert!(!wrong.message.contains("a\0b"));
        }
    }
}
