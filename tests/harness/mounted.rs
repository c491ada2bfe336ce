//! File systems of a test's own: mounted for it, which only root may do.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use super::{account::Account, directories::Directory, processes};

/// One of them, as long as this lives.
pub(crate) struct Mounted(Directory);

impl Mounted {
    /// A small one in memory.
    pub(crate) fn tmpfs(size: &str) -> Option<Self> {
        Self::new("a small tmpfs", |_| {
            Ok(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]
                .map(str::to_owned)
                .to_vec())
        })
    }

    /// With the arguments of `mount` that `prepare` gives. The reason why there is none is written to standard error,
    /// past the test's own output: nobody is to believe that it was tried.
    pub(crate) fn new(
        kind: &str,
        prepare: impl FnOnce(&Path) -> Result<Vec<String>, String>,
    ) -> Option<Self> {
        let said = |why: &str| {
            let line = format!("\nNOT RUN: a test on {kind}: {why}\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
        };
        if !rustix::process::geteuid().is_root() {
            said("only root may mount one");
            return None;
        }
        let directory = Directory::new();
        let mounted = prepare(directory.path()).and_then(|mut arguments| {
            let place = directory.path().join("mounted");
            fs::create_dir(&place).unwrap();
            arguments.push(place.to_str().unwrap().to_owned());
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            run("mount", &arguments)
        });
        if let Err(why) = mounted {
            said(&why);
            return None;
        }
        let mounted = Self(directory);
        if let Some(account) = Account::for_postgres() {
            account.own(&mounted.path());
        }
        Some(mounted)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("mounted")
    }

    /// Mounts it anew with these options: what is on it stays.
    pub(crate) fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        run("mount", &["-o", &options, self.path().to_str().unwrap()]).unwrap();
    }

    /// How many bytes are free.
    pub(crate) fn free(&self) -> u64 {
        let figures = statvfs(self.path()).unwrap();
        figures.f_bavail * figures.f_frsize
    }

    /// Takes all of it but so many bytes.
    pub(crate) fn fill(&self, but_bytes: u64) -> Filler {
        let path = self.path().join("filler");
        let file = File::create(&path).unwrap();
        // A server may take some in the same moment.
        let taken = (0..100).any(|_| {
            let bytes = self.free().saturating_sub(but_bytes);
            bytes == 0 || fallocate(&file, FallocateFlags::empty(), 0, bytes).is_ok()
        });
        assert!(taken, "{} are free", self.free());
        Filler(path)
    }
}

/// A file that takes room until this is dropped.
pub(crate) struct Filler(PathBuf);

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // What a test that has failed leaves behind; others may just be ending in it.
        for entry in fs::read_dir(self.path()).into_iter().flatten().flatten() {
            processes::kill_all_in(&entry.path());
        }
        let _ = run("umount", &["-l", self.path().to_str().unwrap()]);
    }
}

/// Runs a program; what it said where it failed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let ran = Command::new(program).args(arguments).output();
    match ran {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Err(format!("{program}: {error}")),
    }
}
