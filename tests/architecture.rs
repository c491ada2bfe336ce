//! The rules of the house that the compiler does not hold: who may name whom, who may grant a wake, size and
//! opening of files.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Lowest first. Modules on one row may not name one another.
const LAYERS: &[&[&str]] = &[
    &["ids", "shutdown", "runtime"],
    &["error"],
    &["journal", "metrics", "audit", "telemetry", "supervisor", "storm"],
    &["config"],
    &["store", "wire"],
    &["tls", "succession"],
    &["control_plane"],
    &["compute", "tenant"],
    &["auth"],
    &["wake", "pool", "cancel"],
    &["branches"],
    &["session"],
    &["listener", "admin"],
    &["server"],
    &["cli"],
    &["fuzzing"],
];

/// The modules that may make a `WakeRight`: of a client that proved who it is, of an operator, and of pgwake's own
/// first reading of roles.
const WAKE_GRANTERS: &[&str] = &["auth", "admin", "server"];

/// Lines of a file without its tests.
const LINES_MAX: usize = 400;

/// A source file.
struct Source {
    /// Relative to the root of the crate.
    path: PathBuf,
    /// Its top module: `wake` of `src/wake.rs` and of `src/wake/state.rs`.
    module: String,
    text: String,
}

impl Source {
    /// All files below a folder of the crate; panics where there are none, since then nothing would be checked.
    fn all(folder: &str) -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut paths = Vec::new();
        collect(&root.join(folder), &mut paths);
        assert!(
            paths.len() > 5,
            "too few files in {folder}: nothing would be checked"
        );
        let read = |path: PathBuf| {
            let inside = path.strip_prefix(root.join(folder)).unwrap();
            let top = inside.iter().next().unwrap().to_str().unwrap();
            Self {
                module: top.trim_end_matches(".rs").to_owned(),
                text: fs::read_to_string(&path).unwrap(),
                path: path.strip_prefix(root).unwrap().to_owned(),
            }
        };
        paths.into_iter().map(read).collect()
    }

    /// Whether the whole file is a module's tests: its parent declares it for tests only, or it lies in
    /// `src/foo/tests/`.
    fn is_tests(&self) -> bool {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let parent = root
            .join(&self.path)
            .parent()
            .map(|folder| folder.with_extension("rs"));
        let parent = parent
            .and_then(|parent| fs::read_to_string(parent).ok())
            .unwrap_or_default();
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        let inside = self.path.iter().skip(1).any(|part| part == "tests");
        inside || parent.contains(&format!("#[cfg(test)]\nmod {stem};"))
    }

    /// The lines in front of the tests at the file's end; comments stay.
    fn without_tests(&self) -> impl Iterator<Item = &str> {
        let next = self.text.lines().skip(1).chain([""]);
        let begins_tests = |(line, next): &(&str, &str)| {
            *line == "#[cfg(test)]" && next.starts_with("mod ") && next.ends_with('{')
        };
        let lines = self.text.lines().zip(next);
        lines
            .take_while(move |pair| !begins_tests(pair))
            .map(|(line, _)| line)
    }

    /// Every `x` of `crate::x`, in tests too. Needs one `use crate::x::…` per module: of `use crate::{x, y}` it
    /// finds an empty name, which is in no layer.
    fn modules_named(&self) -> BTreeSet<String> {
        self.text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .flat_map(|line| line.split("crate::").skip(1))
            .map(|rest| {
                rest.chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect()
            })
            .collect()
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Fails with all findings at once.
fn assert_none(findings: Vec<String>) {
    assert!(findings.is_empty(), "{findings:#?}");
}

#[test]
fn imports_run_one_way() {
    let mut findings = Vec::new();
    for source in Source::all("src") {
        if matches!(source.module.as_str(), "main" | "lib") {
            continue;
        }
        let path = source.path.display();
        let Some(layer) = layer_of(&source.module) else {
            findings.push(format!("{path}: {} is not in LAYERS", source.module));
            continue;
        };
        for named in source.modules_named() {
            match layer_of(&named) {
                Some(other) if other < layer || named == source.module => (),
                Some(_) => findings.push(format!("{path} may not use crate::{named}")),
                None => findings.push(format!("{path}: crate::{named} is not in LAYERS")),
            }
        }
    }
    assert_none(findings);
}

#[test]
fn only_three_modules_grant_a_wake() {
    let mut findings = Vec::new();
    let mut granted = 0;
    for source in Source::all("src") {
        // `WakeRight::for_…` at its callers, `fn for_…` of `impl WakeRight` where it is made.
        let grants = source
            .without_tests()
            .any(|line| line.contains("WakeRight::for_") || line.contains("impl WakeRight"));
        if !grants || source.is_tests() {
            continue;
        }
        granted += 1;
        if !WAKE_GRANTERS.contains(&source.module.as_str()) {
            findings.push(format!("{} may not grant a wake", source.path.display()));
        }
    }
    assert!(granted > 0, "nobody grants a wake: was WakeRight renamed?");
    assert_none(findings);
}

#[test]
fn every_file_says_what_it_is_for() {
    let sources = Source::all("src").into_iter().chain(Source::all("tests"));
    let silent = sources.filter(|source| !source.text.starts_with("//!"));
    assert_none(
        silent
            .map(|source| format!("{} does not open with //!", source.path.display()))
            .collect(),
    );
}

#[test]
fn no_file_is_too_long() {
    let sources = Source::all("src").into_iter().chain(Source::all("tests"));
    let lines = |source: &Source| source.without_tests().count();
    // A module's own tests are as long as they need to be.
    let long = sources.filter(|source| !source.is_tests() && lines(source) > LINES_MAX);
    assert_none(
        long.map(|source| {
            format!(
                "{} has {} lines: which noun is missing?",
                source.path.display(),
                lines(&source)
            )
        })
        .collect(),
    );
}

#[test]
fn folders_are_opened_by_the_file_beside_them() {
    let sources = Source::all("src").into_iter().chain(Source::all("tests"));
    let found = sources.filter(|source| source.path.ends_with("mod.rs"));
    assert_none(found.map(|source| source.path.display().to_string()).collect());
}

#[test]
fn sources_are_read_as_meant() {
    let source = Source {
        path: "src/wake/state.rs".into(),
        module: "wake".to_owned(),
        text: "use crate::ids::A;\n// crate::pool\nuse crate::{x, y};\n#[cfg(test)]\nmod tests;\nfn f() {}\n\
               #[cfg(test)]\nmod tests {\n    use crate::tls::B;\n}\n"
            .to_owned(),
    };
    let named: Vec<_> = source.modules_named().into_iter().collect();
    assert_eq!(named, ["", "ids", "tls"]);
    assert_eq!(source.without_tests().last(), Some("fn f() {}"));
    assert!(!source.is_tests());
}
