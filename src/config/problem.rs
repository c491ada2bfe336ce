//! What is wrong in a configuration: where, what, and what to write instead.
//!
//! Problems are collected, never returned one at a time, so that one run of `pgwake check` shows them all. A
//! message may repeat what was written, but never the value of a secret. Who calls: every file of `config`.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, as it was named.
    pub file: Arc<Path>,
    /// Counted from 1; 0 where the file as a whole is meant.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file.display()),
            line => write!(f, "{}:{line}", self.file.display()),
        }
    }
}

/// Where a key stands and what it is called in full.
#[derive(Debug, Clone)]
pub(crate) struct Spot {
    /// The line.
    pub(crate) place: Place,
    /// The key's path, for example `tenants.demo.endpoints.demo-main.compute`; empty for a whole file.
    pub(crate) key: Arc<str>,
}

impl Spot {
    /// The whole of a file.
    pub(crate) fn of_file(file: &Arc<Path>) -> Self {
        Self::of_line(file, 0)
    }

    /// A line of a file that belongs to no key.
    pub(crate) fn of_line(file: &Arc<Path>, line: usize) -> Self {
        let place = Place {
            file: Arc::clone(file),
            line,
        };
        Self {
            place,
            key: "".into(),
        }
    }

    /// A key of the table that stands here.
    pub(crate) fn key(&self, name: &str, place: &Place) -> Self {
        Self {
            place: place.clone(),
            key: join_keys(&self.key, name).into(),
        }
    }

    /// An element of the list that stands here, counted from 0.
    pub(crate) fn element(&self, index: usize, place: &Place) -> Self {
        Self {
            place: place.clone(),
            key: format!("{}[{index}]", self.key).into(),
        }
    }

    /// A path as it is meant here: relative to the folder of the file that names it.
    pub(crate) fn resolve(&self, path: &Path) -> PathBuf {
        let folder = self.place.file.parent().unwrap_or(Path::new(""));
        let joined = folder.join(path);
        std::path::absolute(&joined).unwrap_or(joined)
    }
}

/// `parent.name`, with quotes around a name that TOML would not take bare.
pub(crate) fn join_keys(parent: &str, name: &str) -> String {
    let bare = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'<' | b'>'));
    match (parent, bare) {
        ("", true) => name.to_owned(),
        ("", false) => format!("{name:?}"),
        (parent, true) => format!("{parent}.{name}"),
        (parent, false) => format!("{parent}.{name:?}"),
    }
}

/// What is wrong with a value, before it is known where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// One sentence, lowercase.
    pub(crate) message: String,
    /// What to write or do instead.
    pub(crate) fix: String,
}

impl Wrong {
    /// A message and its fix.
    pub(crate) fn new(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            fix: fix.into(),
        }
    }
}

/// One mistake of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands.
    pub place: Place,
    /// The key's path; empty where the file as a whole or its syntax is meant.
    pub key: String,
    /// What is wrong: one sentence, lowercase.
    pub message: String,
    /// What to write or do instead.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}\n    fix: {}", self.message, self.fix)
    }
}

/// Every mistake that was found; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Those that only another part can see; `None`: there are none.
    pub(crate) fn of(found: Vec<Problem>) -> Option<Self> {
        (!found.is_empty()).then_some(Self(found))
    }

    /// One by one, in the order of files and lines.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.0 {
            writeln!(f, "{problem}\n")?;
        }
        match self.0.len() {
            1 => f.write_str("1 problem in the configuration"),
            count => write!(f, "{count} problems in the configuration"),
        }
    }
}

impl std::error::Error for Problems {}

/// Collects problems while a configuration is read and checked.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Problem>);

impl Report {
    /// Adds a problem; the same one twice (a tenant's mistake seen by each of its endpoints) counts once.
    pub(crate) fn add(&mut self, spot: &Spot, wrong: Wrong) {
        let problem = Problem {
            place: spot.place.clone(),
            key: spot.key.to_string(),
            message: wrong.message,
            fix: wrong.fix,
        };
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }

    /// Whether nothing was added yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value, or `None` and a problem.
    pub(crate) fn note<T>(&mut self, spot: &Spot, parsed: Result<T, Wrong>) -> Option<T> {
        parsed.map_err(|wrong| self.add(spot, wrong)).ok()
    }

    /// `Err` where anything was added, sorted by file and line with the problems of `first` in front.
    pub(crate) fn finish(mut self, first: &Path) -> Result<(), Problems> {
        if self.0.is_empty() {
            return Ok(());
        }
        self.0.sort_by(|a, b| {
            let order = |p: &Problem| (*p.place.file != *first, p.place.clone());
            order(a).cmp(&order(b))
        });
        Err(Problems(self.0))
    }
}
