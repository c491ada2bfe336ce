//! Where the Postgres programs of a version are.
//!
//! It looks at files only and runs nothing: a wrong version in `programs` or PATH is told by `postgres` itself.
//! Called by `process` before a start.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use super::ComputeError;

/// Where Debian and its relatives keep the programs of all versions.
const DEBIAN: &str = "/usr/lib/postgresql";

/// A folder with `postgres` and `initdb`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// The programs for a data directory of `version` (the text of its PG_VERSION), or for a new one.
    ///
    /// # Errors
    /// There are none; the error says what to install.
    pub(crate) fn find(configured: Option<&Path>, version: Option<&str>) -> Result<Self, ComputeError> {
        if let Some(folder) = configured {
            return Self::at(folder).ok_or_else(|| {
                ComputeError::new(format!(
                    "`programs` names {}, where no `postgres` is",
                    folder.display()
                ))
            });
        }
        let path = env::var_os("PATH").unwrap_or_default();
        Self::search(Path::new(DEBIAN), &path, version)
    }

    /// The folder itself.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The server.
    pub(crate) fn postgres(&self) -> PathBuf {
        self.folder.join("postgres")
    }

    /// What makes a data directory.
    pub(crate) fn initdb(&self) -> PathBuf {
        self.folder.join("initdb")
    }

    fn at(folder: &Path) -> Option<Self> {
        // PATH often has links; what else is needed lies beside the program itself.
        let postgres = fs::canonicalize(folder.join("postgres")).ok()?;
        let folder = postgres.is_file().then(|| postgres.parent())??.to_owned();
        Some(Self { folder })
    }

    fn search(debian: &Path, path: &OsStr, version: Option<&str>) -> Result<Self, ComputeError> {
        let installed = match version {
            Some(version) => Self::at(&debian.join(version).join("bin")),
            None => newest(debian),
        };
        installed
            .or_else(|| env::split_paths(path).find_map(|folder| Self::at(&folder)))
            .ok_or_else(|| match version {
                Some(version) => ComputeError::new(format!(
                    "the programs of Postgres {version} are neither in {}/{version}/bin nor in PATH: \
                     `apt-get install postgresql-{version}` installs them, or set `programs`",
                    debian.display()
                )),
                None => ComputeError::new(format!(
                    "Postgres' programs are neither in {}/*/bin nor in PATH: \
                     `apt-get install postgresql` installs them, or set `programs`",
                    debian.display()
                )),
            })
    }
}

fn newest(debian: &Path) -> Option<Programs> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(debian)
        .ok()?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))
        })
        .collect();
    versions.sort();
    versions
        .iter()
        .rev()
        .find_map(|(_, folder)| Programs::at(&folder.join("bin")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn install(folder: PathBuf) -> PathBuf {
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("postgres"), "").unwrap();
        fs::canonicalize(folder).unwrap()
    }

    #[test]
    fn the_data_directorys_version_decides_and_a_new_one_gets_the_newest() {
        let place = tempfile::tempdir().unwrap();
        let debian = place.path().join("postgresql");
        let nine = install(debian.join("9/bin"));
        let fifteen = install(debian.join("15/bin"));
        fs::create_dir_all(debian.join("17/bin")).unwrap();
        let in_path = install(place.path().join("bin"));
        let find = |version| {
            Programs::search(&debian, in_path.as_os_str(), version)
                .unwrap()
                .folder
        };
        assert_eq!(find(Some("9")), nine);
        assert_eq!(find(None), fifteen, "17 has no `postgres`");
        assert_eq!(find(Some("16")), in_path);
    }

    #[test]
    fn missing_programs_come_with_the_command_that_installs_them() {
        let empty = tempfile::tempdir().unwrap();
        let reason = |version| {
            let found = Programs::search(empty.path(), OsStr::new("/nonexistent"), version);
            found.unwrap_err().reason
        };
        assert!(reason(Some("15")).contains("`apt-get install postgresql-15`"));
        assert!(reason(None).contains("`apt-get install postgresql`"));
        let configured = Programs::find(Some(empty.path()), None).unwrap_err().reason;
        assert!(configured.contains("no `postgres`"), "{configured}");
    }
}
