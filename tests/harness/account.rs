//! The user that Postgres runs as, because it refuses to run as root.

use std::{fs, path::Path};

/// A user of this machine that is not root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// User number.
    pub(crate) uid: u32,
    /// Group number.
    pub(crate) gid: u32,
}

impl Account {
    /// Whom to run Postgres as: `postgres`, else `nobody`; `None` where the tests do not run as root.
    pub(crate) fn for_postgres() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let users = fs::read_to_string("/etc/passwd").unwrap();
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| users.lines().find_map(|line| Self::parse(line, name)))
            .or_else(|| panic!("neither a user postgres nor nobody: Postgres cannot run here"))
    }

    fn parse(line: &str, name: &str) -> Option<Self> {
        let mut fields = line.split(':');
        let (found, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        (found == name).then(|| Self {
            uid: uid.parse().unwrap(),
            gid: gid.parse().unwrap(),
        })
    }

    /// Makes this user the owner of one file or directory.
    pub(crate) fn own(self, path: &Path) {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid)).unwrap();
    }
}
