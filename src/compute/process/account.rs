//! The operating system's user that Postgres runs as, and where that user may go.
//!
//! Postgres refuses to run as root. The users are read from `/etc/passwd` alone: directories behind NSS are not
//! asked, because that needs C calls; the owner of an existing data directory needs no name. Called by `process`
//! before anything is made or started.

use std::{
    fmt, fs, io,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use rustix::{
    fs::{Access, access},
    process::{getegid, geteuid},
};

use super::{
    ComputeError,
    folder::{Folder, Owner},
};

/// A user and its first group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// `None` where `/etc/passwd` does not list the user.
    pub(crate) name: Option<String>,
}

/// Whether pgwake is root, and so must and can become somebody else.
pub(crate) fn we_are_root() -> bool {
    geteuid().is_root()
}

impl Account {
    /// The user that pgwake runs as.
    pub(crate) fn ourselves() -> Self {
        let uid = geteuid().as_raw();
        Self {
            uid,
            gid: getegid().as_raw(),
            name: Users::read().by_uid(uid).and_then(|account| account.name),
        }
    }

    /// Who runs the Postgres of `data_dir`: pgwake's own user, or for root the directory's owner, else `run_as`,
    /// else `postgres`, else `nobody`.
    ///
    /// # Errors
    /// `run_as` names nobody or root, no user is left to run as, or the directory belongs to somebody else or is
    /// reached through a link by now.
    pub(crate) fn for_data_dir(data_dir: &Path, run_as: Option<&str>) -> Result<Self, ComputeError> {
        let folder = Folder::open(data_dir)
            .map_err(|error| ComputeError::new(format!("cannot look at the data directory: {error}")))?;
        let owner = folder.map(|folder| (folder.meta().uid(), folder.meta().gid()));
        if we_are_root() {
            return Users::read().choose(owner, run_as);
        }
        let ourselves = Self::ourselves();
        match owner {
            Some((uid, _)) if uid != ourselves.uid => Err(ComputeError::new(format!(
                "the data directory {} belongs to user {}, but pgwake runs as {ourselves}: Postgres runs only as its owner",
                data_dir.display(),
                Users::read().name_of(uid),
            ))),
            _ => Ok(ourselves),
        }
    }

    /// Whom what pgwake makes has to be given to: nobody where pgwake runs as this user itself.
    pub(crate) fn heir(&self) -> Option<Owner> {
        we_are_root().then_some(Owner {
            uid: self.uid,
            gid: self.gid,
        })
    }

    /// Makes `command` run as this user, in a process group of its own so that Ctrl-C on the terminal reaches
    /// pgwake alone, and with an environment that holds nothing of pgwake's (secrets may come from there).
    pub(crate) fn dress(&self, command: &mut Command) {
        /// What the programs need of the environment: where libraries are, and the local time zone.
        const KEPT: [&str; 3] = ["PATH", "LD_LIBRARY_PATH", "TZ"];
        command.env_clear().process_group(0);
        command.envs(KEPT.iter().filter_map(|key| Some((key, std::env::var_os(key)?))));
        if we_are_root() {
            // The standard library drops root's supplementary groups with this.
            command.uid(self.uid).gid(self.gid);
        }
    }

    /// Checks that this user can enter `folder` and every folder above it, as far as they exist.
    ///
    /// # Errors
    /// Names the first folder that is closed and the fix.
    pub(crate) fn check_enterable(&self, folder: &Path) -> Result<(), ComputeError> {
        let mut ancestors: Vec<&Path> = folder.ancestors().collect();
        ancestors.reverse();
        for ancestor in ancestors {
            let meta = match fs::metadata(ancestor) {
                Ok(meta) => meta,
                // What is made later is made enterable.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(ComputeError::new(format!("{}: {error}", ancestor.display()))),
            };
            let open = if we_are_root() {
                self.may_enter(meta.uid(), meta.gid(), meta.permissions().mode())
            } else {
                access(ancestor, Access::EXEC_OK).is_ok()
            };
            if !open {
                return Err(ComputeError::new(format!(
                    "user {self}, who runs Postgres, cannot enter {shown} (mode {:04o}), which leads to {}: \
                     `chmod o+x {shown}` allows it, or choose another folder",
                    meta.permissions().mode() & 0o7777,
                    folder.display(),
                    shown = ancestor.display(),
                )));
            }
        }
        Ok(())
    }

    fn may_enter(&self, owner: u32, group: u32, mode: u32) -> bool {
        let bit = if self.uid == owner {
            0o100
        } else if self.gid == group {
            0o010
        } else {
            0o001
        };
        mode & bit != 0
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.uid),
        }
    }
}

/// The text of `/etc/passwd` (<https://man7.org/linux/man-pages/man5/passwd.5.html>).
struct Users(String);

impl Users {
    fn read() -> Self {
        let bytes = fs::read("/etc/passwd").unwrap_or_default();
        Self(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn accounts(&self) -> impl Iterator<Item = Account> {
        self.0.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some(Account {
                uid,
                gid,
                name: Some(name),
            })
        })
    }

    fn by_name(&self, name: &str) -> Option<Account> {
        self.accounts()
            .find(|account| account.name.as_deref() == Some(name))
    }

    fn by_uid(&self, uid: u32) -> Option<Account> {
        self.accounts().find(|account| account.uid == uid)
    }

    fn name_of(&self, uid: u32) -> String {
        let unnamed = Account {
            uid,
            gid: uid,
            name: None,
        };
        self.by_uid(uid).unwrap_or(unnamed).to_string()
    }

    /// `owner`: user and group of the data directory, where it exists.
    fn choose(&self, owner: Option<(u32, u32)>, run_as: Option<&str>) -> Result<Account, ComputeError> {
        if let Some((uid, gid)) = owner.filter(|&(uid, _)| uid != 0) {
            let unnamed = Account { uid, gid, name: None };
            return Ok(self.by_uid(uid).unwrap_or(unnamed));
        }
        if let Some(name) = run_as {
            return match self.by_name(name) {
                Some(account) if account.uid != 0 => Ok(account),
                Some(_) => Err(ComputeError::new(format!(
                    "`run_as` names {name}, but Postgres refuses to run as root: name an ordinary user"
                ))),
                None => Err(ComputeError::new(format!(
                    "`run_as` names {name}, who is not in /etc/passwd"
                ))),
            };
        }
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| self.by_name(name).filter(|account| account.uid != 0))
            .ok_or_else(|| {
                ComputeError::new("Postgres refuses to run as root, and there is no user `postgres` or `nobody`: set `run_as`")
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nbroken\nnobody:x:65534:65533::/:/bin/false\n\
                          alice:x:1000:1001:Alice,,,:/home/alice:/bin/sh\n";

    fn chosen(passwd: &str, owner: Option<(u32, u32)>, run_as: Option<&str>) -> Result<String, String> {
        let account = Users(passwd.to_owned())
            .choose(owner, run_as)
            .map_err(|error| error.reason)?;
        Ok(format!("{account} {}:{}", account.uid, account.gid))
    }

    #[test]
    fn root_runs_postgres_as_the_owner_else_run_as_else_postgres_else_nobody() {
        let with_postgres = format!("{PASSWD}postgres:x:101:104::/:/bin/sh\n");
        assert_eq!(
            chosen(&with_postgres, Some((1000, 7)), Some("nobody")).unwrap(),
            "alice 1000:1001"
        );
        assert_eq!(
            chosen(&with_postgres, Some((2000, 7)), None).unwrap(),
            "2000 2000:7"
        );
        assert_eq!(
            chosen(&with_postgres, Some((0, 0)), Some("alice")).unwrap(),
            "alice 1000:1001"
        );
        assert_eq!(chosen(&with_postgres, None, None).unwrap(), "postgres 101:104");
        assert_eq!(chosen(PASSWD, None, None).unwrap(), "nobody 65534:65533");
        assert!(
            chosen(PASSWD, None, Some("bob"))
                .unwrap_err()
                .contains("not in /etc/passwd")
        );
        assert!(
            chosen(PASSWD, None, Some("root"))
                .unwrap_err()
                .contains("ordinary user")
        );
        assert!(chosen("", None, None).unwrap_err().contains("set `run_as`"));
    }

    #[test]
    fn only_the_first_matching_class_of_mode_bits_counts() {
        let alice = Account {
            uid: 1000,
            gid: 1001,
            name: None,
        };
        assert!(alice.may_enter(1000, 0, 0o700));
        assert!(!alice.may_enter(1000, 1001, 0o011));
        assert!(alice.may_enter(0, 1001, 0o710));
        assert!(!alice.may_enter(0, 1001, 0o701));
        assert!(alice.may_enter(0, 0, 0o701));
        assert!(!alice.may_enter(0, 0, 0o770));
    }
}
