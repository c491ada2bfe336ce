//! The files of a configuration: the one that is named, and those that it includes.
//!
//! Reads them and joins them into one tree; knows of keys only `include`. Who calls: `config::load`.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use zeroize::Zeroizing;

use super::{
    problem::{Place, Report, Spot, Wrong},
    read::{List, Read},
    secret,
    tree::{self, Node, Table, Value},
};

/// Most bytes of one file: about 30,000 endpoints. More is a mistake (a device, a dump), not a configuration.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Secrets may stand in it.
type Text = Zeroizing<Vec<u8>>;

/// Everything that was read.
pub(crate) struct Sources {
    /// All files as one table.
    pub(crate) root: Node,
    /// The files in the order in which they were read.
    pub(crate) files: Vec<PathBuf>,
    /// Patterns of `include` that match no file.
    pub(crate) includes_unmatched: Vec<String>,
    /// Whether every file could be read and parsed: only then does it make sense to miss something.
    pub(crate) complete: bool,
}

impl Sources {
    /// Reads `path` and everything that it includes.
    pub(crate) fn read(path: &Path, report: &mut Report) -> Self {
        let file: Arc<Path> = path.into();
        let mut sources = Self {
            root: Node {
                place: Place {
                    file: Arc::clone(&file),
                    line: 0,
                },
                value: Value::Table(Table::new()),
            },
            files: vec![path.to_owned()],
            includes_unmatched: Vec::new(),
            complete: true,
        };
        let Some(mut table) = read_file(&file, read_text(&file), report) else {
            sources.complete = false;
            return sources;
        };
        for included in sources.included(&table, &Spot::of_file(&file), report) {
            sources.include(&included, &mut table, report);
        }
        sources.root.value = Value::Table(table);
        sources
    }

    fn include(&mut self, path: &Path, into: &mut Table, report: &mut Report) {
        let file: Arc<Path> = path.into();
        let Some(mut table) = read_file(&file, read_included(&file), report) else {
            self.complete = false;
            return;
        };
        let spot = Spot::of_file(&file);
        if let Some(nested) = table.remove("include") {
            let message = "an included file cannot include others";
            let fix = format!("name the files in `include` of {}", self.root.place);
            report.add(&spot.key("include", &nested.place), Wrong::new(message, fix));
        }
        tree::merge(into, table, &spot, report);
    }

    /// The files that `include` means, sorted within each pattern, each once.
    fn included(&mut self, table: &Table, root: &Spot, report: &mut Report) -> Vec<PathBuf> {
        let Some(node) = table.get("include") else {
            return Vec::new();
        };
        let spot = root.key("include", &node.place);
        let patterns = List::<String>::read(node, &spot, report);
        let folder = root.place.file.parent().unwrap_or(Path::new(""));
        let mut included: Vec<PathBuf> = Vec::new();
        for pattern in patterns.iter().flat_map(|patterns| &patterns.0) {
            let Some(paths) = report.note(&pattern.spot, expand(folder, &pattern.value)) else {
                continue;
            };
            if paths.is_empty() {
                self.includes_unmatched.push(pattern.value.clone());
            }
            for path in paths {
                if !self.files.contains(&path) {
                    self.files.push(path.clone());
                    included.push(path);
                }
            }
        }
        // The first file was parsed, so that anything reported by now is about what it includes.
        self.complete &= report.is_empty();
        included
    }
}

/// The files that a pattern matches, sorted. `*` and `?` stand for characters within one name.
fn expand(folder: &Path, pattern: &str) -> Result<Vec<PathBuf>, Wrong> {
    let mut found = vec![folder.to_owned()];
    for component in Path::new(pattern).components() {
        let name = component.as_os_str().to_str().unwrap_or_default();
        if name == "**" {
            let fix = "name each folder: [\"tenants.d/*.toml\", \"tenants.d/*/*.toml\"]";
            return Err(Wrong::new("`**` is not supported", fix));
        }
        let is_pattern = matches!(component, Component::Normal(_)) && name.contains(['*', '?']);
        found = match is_pattern {
            true => {
                let entries = found.iter().map(|folder| matching_entries(folder, name));
                entries.collect::<Result<Vec<_>, _>>()?.concat()
            }
            false => found.iter().map(|folder| folder.join(component)).collect(),
        };
    }
    // A folder that matches is no file of ours; but a name without `*` means this file and no other.
    match pattern.contains(['*', '?']) {
        true => found.retain(|path| is_meant(path)),
        false => found.iter().try_for_each(|path| secret::check_readable(path))?,
    }
    found.sort();
    Ok(found)
}

/// Whether what matches is to be read. A file that is there and cannot be looked at, or a link that leads nowhere, is missed
/// where it is read: without it its tenants would be gone.
fn is_meant(path: &Path) -> bool {
    match fs::metadata(path) {
        Ok(data) => data.is_file(),
        Err(error) => error.kind() != ErrorKind::NotFound || path.is_symlink(),
    }
}

/// A folder's entries whose name matches; hidden ones only where the pattern says so. No folder, no entries.
fn matching_entries(folder: &Path, pattern: &str) -> Result<Vec<PathBuf>, Wrong> {
    let shown = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let entries = fs::read_dir(shown).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = match entries {
        Err(error) if error.kind() == ErrorKind::NotADirectory => Vec::new(),
        Err(error) if error.kind() == ErrorKind::NotFound && !shown.is_symlink() => Vec::new(),
        entries => entries.map_err(|error| {
            let message = format!("{} cannot be read: {error}", shown.display());
            Wrong::new(message, "name a folder that the user who runs pgwake can read")
        })?,
    };
    let matching = entries.iter().filter(|entry| {
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        (pattern.starts_with('.') || !name.starts_with(b".")) && matches(pattern.as_bytes(), name)
    });
    Ok(matching.map(|entry| folder.join(entry.file_name())).collect())
}

/// Whether a name matches; goes back to the last `*` only, so that the time is bounded by pattern × name.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(b) if *b == b'?' || *b == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else {
                    return false;
                };
                star = Some((star_at, taken + 1));
                p = star_at + 1;
                n = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

/// What was read of a file as a table.
fn read_file(file: &Arc<Path>, text: Result<Text, Wrong>, report: &mut Report) -> Option<Table> {
    let text = match text {
        Ok(text) => text,
        Err(wrong) => {
            report.add(&Spot::of_file(file), wrong);
            return None;
        }
    };
    match std::str::from_utf8(&text) {
        Ok(text) => tree::parse(file, text, report),
        Err(error) => {
            let line = 1 + text[..error.valid_up_to()]
                .iter()
                .filter(|b| **b == b'\n')
                .count();
            let wrong = Wrong::new("not UTF-8", "save the file as UTF-8");
            report.add(&Spot::of_line(file, line), wrong);
            None
        }
    }
}

/// One without anything in it is no file that says nothing: it is about to be written, or a full disk has lost it, and its
/// tenants would be gone.
fn read_included(file: &Path) -> Result<Text, Wrong> {
    let text = read_text(file)?;
    if text.is_empty() {
        let fix = "remove it, or write what belongs there; a comment will do";
        return Err(Wrong::new("is empty", fix));
    }
    Ok(text)
}

fn read_text(file: &Path) -> Result<Text, Wrong> {
    let unreadable = |error| {
        let fix = "name a file that the user who runs pgwake can read";
        Wrong::new(format!("cannot be read: {error}"), fix)
    };
    let metadata = fs::metadata(file).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(Wrong::new("is not a regular file", "name a TOML file"));
    }
    if metadata.len() > FILE_BYTES_MAX {
        let fix = "split it and name the parts in `include`";
        return Err(Wrong::new("is larger than 16 MiB", fix));
    }
    fs::read(file).map(Zeroizing::new).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn star_and_question_mark_stand_for_characters_of_a_name() {
        for (pattern, name, expected) in [
            ("*.toml", "a.toml", true),
            ("*.toml", "a.toml~", false),
            ("a*b*c", "aXbYbc", true),
            ("a*b*c", "aXbY", false),
            ("?.toml", "a.toml", true),
            ("?.toml", "ab.toml", false),
            ("*", "", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn patterns_match_within_folders_sorted_and_skip_what_is_hidden() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "d/b.toml",
            "d/a.toml",
            "d/.hidden.toml",
            "e/c.toml",
            "d/sub.toml/x",
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found = expand(folder.path(), "*/*.toml").unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|p| p.strip_prefix(folder.path()).unwrap())
            .collect();
        assert_eq!(names, ["d/a.toml", "d/b.toml", "e/c.toml"].map(Path::new));
        assert_eq!(expand(folder.path(), "nothing.d/*.toml"), Ok(Vec::new()));
        assert!(expand(folder.path(), "**/*.toml").is_err());
    }

    /// All of a tenant's endpoints were gone, and its sessions ended, with a disk that was not mounted, and while its file was
    /// being written.
    #[test]
    fn what_a_pattern_matches_and_cannot_be_read_or_is_empty_is_not_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let lost = folder.path().join("lost.toml");
        symlink("no-such-disk/lost.toml", &lost).unwrap();
        let mut report = Report::default();
        let main = folder.path().join("main");
        fs::write(&main, "include = [\"*.toml\"]").unwrap();

        let sources = Sources::read(&main, &mut report);

        assert!(sources.files.contains(&lost) && !sources.complete && !report.is_empty());
        fs::remove_file(&lost).unwrap();
        fs::write(&lost, "").unwrap();
        let mut report = Report::default();
        assert!(!Sources::read(&main, &mut report).complete && !report.is_empty());
        fs::write(&lost, "# nobody").unwrap();
        let mut report = Report::default();
        assert!(Sources::read(&main, &mut report).complete && report.is_empty());
        symlink("around", folder.path().join("around")).unwrap();
        let error = expand(folder.path(), "around/*.toml").unwrap_err();
        assert!(error.message.contains("around cannot be read"), "{error:?}");
        symlink("no-such-disk", folder.path().join("disk")).unwrap();
        expand(folder.path(), "disk/*.toml").unwrap_err();
    }
}
