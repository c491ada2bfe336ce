//! A gate in the way of something that Postgres runs, closed and opened by a test: so a start or a recovery takes
//! exactly as long as the test wants, without a clock.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::postgres::{Version, programs};

/// So many may wait at a closed gate.
const WAITING_MAX: usize = 100;

/// Open at first. Whoever comes to a closed one waits in it.
pub(crate) struct Gate {
    folder: PathBuf,
    /// Our end of the pipe that is waited at, while it is closed.
    closed: Option<File>,
}

impl Gate {
    /// One in a folder of its own below `parent`.
    pub(crate) fn new(parent: &Path) -> Self {
        let folder = parent.join("gate");
        fs::create_dir(&folder).unwrap();
        Self { folder, closed: None }
    }

    /// A folder of programs whose `postgres` starts only through the gate: for the compute's key `programs`.
    pub(crate) fn programs(&self) -> PathBuf {
        let script = format!(
            "#!/bin/sh\n{}\nexec '{}' \"$@\"\n",
            self.passing(),
            programs(Version::Debian).join("postgres").display()
        );
        let path = self.folder.join("postgres");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        self.folder.clone()
    }

    /// A shell's command that ends once the gate is open.
    pub(crate) fn passing(&self) -> String {
        let pipe = self.pipe();
        format!("if [ -p '{0}' ]; then read -r _ < '{0}'; fi", pipe.display())
    }

    /// Closes it: the next who comes waits.
    pub(crate) fn close(&mut self) {
        let pipe = self.pipe();
        mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
        fs::set_permissions(&pipe, Permissions::from_mode(0o644)).unwrap();
        // Both ends, so that neither side waits for the other in open(2).
        self.closed = Some(OpenOptions::new().read(true).write(true).open(&pipe).unwrap());
    }

    /// Opens it: who waits goes on.
    pub(crate) fn open(&mut self) {
        // Whoever has seen the pipe and not opened it yet finds none any more; whoever has opened it reads a line.
        self.closed
            .as_mut()
            .unwrap()
            .write_all(&[b'\n'; WAITING_MAX])
            .unwrap();
        fs::remove_file(self.pipe()).unwrap();
    }

    fn pipe(&self) -> PathBuf {
        self.folder.join("pipe")
    }
}
